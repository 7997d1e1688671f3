// Threads that take turns at a lock, add to one number, and wait for each other.
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned long locked;
static atomic_ulong added;
static int rounds = 1;

static void *work(void *argument)
{
    for (int round = 0; round < rounds; round++) {
        pthread_mutex_lock(&lock);
        locked++;
        pthread_mutex_unlock(&lock);
        for (int n = 0; n < 20; n++)
            atomic_fetch_add(&added, n);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    pthread_t thread[4];
    if (argc > 1)
        rounds = atoi(argv[1]);
    for (int n = 0; n < 4; n++)
        pthread_create(&thread[n], NULL, work, NULL);
    for (int n = 0; n < 4; n++)
        pthread_join(thread[n], NULL);
    printf("%lu %lu\n", locked, (unsigned long)added);
    return 0;
}
