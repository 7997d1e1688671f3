// oracle: file
// Robust mutexes tell that their owner has died: a thread, or a process that exits, whichever thread ends it.
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
enum { COUNT = 3 };
static pthread_mutex_t *mutexes;
static void *lock_all(void *unused) {
    for (int n = 0; n < COUNT; n++) pthread_mutex_lock(mutexes + n);
    return NULL;
}
static void *lock_and_sleep(void *unused) {
    lock_all(NULL);
    *(volatile int *)(mutexes + COUNT) = 1;
    for (;;) pause();
}
static void *wait_for_it(void *unused) {
    return (void *)(long)pthread_mutex_lock(mutexes + 1);
}
static void report(const char *what) {
    printf("%s:", what);
    for (int n = 0; n < COUNT; n++) {
        int result = pthread_mutex_lock(mutexes + n);
        printf(" %s", result ? strerror(result) : "alive");
        if (result == EOWNERDEAD) pthread_mutex_consistent(mutexes + n);
        printf(" %d", pthread_mutex_unlock(mutexes + n));
    }
    puts("");
    fflush(stdout);
}
int main(void) {
    mutexes = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pthread_mutexattr_t a;
    pthread_mutexattr_init(&a);
    pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
    pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
    for (int n = 0; n < COUNT; n++) {
        if (n == 2) pthread_mutexattr_setprotocol(&a, PTHREAD_PRIO_INHERIT);
        pthread_mutex_init(mutexes + n, &a);
    }
    pthread_t t, waiter;
    pthread_create(&t, NULL, lock_all, NULL);
    pthread_join(t, NULL);
    report("thread");
    if (fork() == 0) { lock_all(NULL); _exit(0); }
    wait(NULL);
    report("process");
    // The waiter sleeps in the kernel when the owner exits.
    lock_all(NULL);
    for (int n = 0; n < COUNT; n++) pthread_mutex_unlock(mutexes + n);
    int ready[2];
    char byte;
    pipe(ready);
    int child = fork();
    if (child == 0) {
        lock_all(NULL);
        write(ready[1], "x", 1);
        usleep(100000);
        _exit(0);
    }
    read(ready[0], &byte, 1);
    void *result;
    pthread_create(&waiter, NULL, wait_for_it, NULL);
    pthread_join(waiter, &result);
    waitpid(child, NULL, 0);
    printf("waiter: %s\n", strerror((long)result));
    fflush(stdout);
    pthread_mutex_init(mutexes + 1, &a);
    report("others");
    if (fork() == 0) {
        volatile int *locked = (int *)(mutexes + COUNT);
        *locked = 0;
        pthread_create(&t, NULL, lock_and_sleep, NULL);
        while (!*locked) usleep(1000);
        _exit(0);
    }
    wait(NULL);
    report("another thread's exit");
    void *head = NULL, *own = NULL;
    unsigned length[2] = {0, 0xdeadbeef};
    printf("list %ld", syscall(SYS_get_robust_list, 0, &head, length));
    printf(" %d %u %x\n", head != NULL, length[0], length[1]);
    int *address[2] = {NULL, (int *)0xdeadbeef};
    printf("tid address %d", prctl(PR_GET_TID_ADDRESS, address));
    printf(" %d %p\n", address[0] && *address[0] == getpid(), address[1]);
    return 0;
}
