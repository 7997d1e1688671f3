// pthread_kill reaches one thread, cancellation and setuid's broadcast work, a storm of signals loses nothing vital.
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <unistd.h>
static __thread volatile int mine;
static volatile int stop;
static sem_t started;
static void on(int s) { mine++; }
static void *spin(void *p) {
    sem_post(&started);
    unsigned long n = 0;
    while (!stop) n = n * 3 + 1;
    return (void *)(long)(mine > 0);
}
static void *sleeper(void *p) { sem_post(&started); for (;;) pause(); }
int main(void) {
    pthread_t a, b;
    void *r;
    sem_init(&started, 0, 0);
    signal(SIGUSR1, on);
    pthread_create(&a, NULL, spin, NULL);
    pthread_create(&b, NULL, sleeper, NULL);
    sem_wait(&started); sem_wait(&started);
    for (int n = 0; n < 2000; n++) { pthread_kill(a, SIGUSR1); if (n % 4 == 0) pthread_kill(b, SIGUSR1); }
    stop = 1;
    pthread_join(a, &r);
    printf("reached %ld, main %d\n", (long)r, mine);
    pthread_cancel(b);
    pthread_join(b, &r);
    printf("cancelled %d\n", r == PTHREAD_CANCELED);
    stop = 0;
    pthread_create(&a, NULL, spin, NULL);
    sem_wait(&started);
    printf("setgid %d\n", setgid(getgid()));
    stop = 1;
    pthread_join(a, NULL);
    return 0;
}
