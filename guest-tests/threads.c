// Threads share memory, have their own thread pointer, and are joined; a mutex and a condition hold.
#include <pthread.h>
#include <stdio.h>
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t go = PTHREAD_COND_INITIALIZER;
static int ready, total;
static __thread long own;
static void *work(void *p) {
    pthread_mutex_lock(&lock);
    while (!ready) pthread_cond_wait(&go, &lock);
    pthread_mutex_unlock(&lock);
    for (int n = 0; n < 2000; n++) {
        own += (long)p;
        pthread_mutex_lock(&lock);
        total++;
        pthread_mutex_unlock(&lock);
    }
    return (void *)own;
}
int main(void) {
    pthread_t t[8];
    long sum = 0;
    for (int round = 0; round < 10; round++) {
        ready = 0;
        for (long n = 0; n < 8; n++) pthread_create(&t[n], NULL, work, (void *)n);
        pthread_mutex_lock(&lock);
        ready = 1;
        pthread_cond_broadcast(&go);
        pthread_mutex_unlock(&lock);
        for (int n = 0; n < 8; n++) { void *r; pthread_join(t[n], &r); sum += (long)r; }
    }
    printf("%d %ld %ld\n", total, sum, own);
    return 0;
}
