// oracle on arm: native
// Faults become SIGSEGV and SIGBUS with address and code; a handler may repair the cause and return.
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
static sigjmp_buf back;
static char *page;
static void on(int s, siginfo_t *i, void *u) {
    printf("signal %d code %d offset %ld\n", s, i->si_code, (long)((char *)i->si_addr - page));
    if (i->si_code == SEGV_ACCERR && s == SIGSEGV && (char *)i->si_addr == page + 8) { mprotect(page, 4096, PROT_READ | PROT_WRITE); return; }
    siglongjmp(back, 1);
}
int main(void) {
    struct sigaction a;
    memset(&a, 0, sizeof a);
    a.sa_sigaction = on;
    a.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &a, NULL);
    sigaction(SIGBUS, &a, NULL);
    page = mmap(NULL, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    *(volatile long *)(page + 8) = 7;
    printf("repaired %ld\n", *(long *)(page + 8));
    munmap(page + 4096, 4096);
    if (!sigsetjmp(back, 1)) printf("%d\n", *(volatile int *)(page + 4096 + 16));
    if (!sigsetjmp(back, 1)) printf("%d\n", *(volatile int *)(page + 4096 - 2));
    int fd = memfd_create("x", 0);
    page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (!sigsetjmp(back, 1)) *(volatile int *)(page + 4) = 1;
    page = 0;
    if (!sigsetjmp(back, 1)) ((void (*)(void))0x10)();
    sigset_t m;
    sigprocmask(SIG_BLOCK, NULL, &m);
    printf("mask clean %d\n", !sigismember(&m, SIGSEGV));
    // With SIGSEGV blocked, a fault kills at once.
    sigemptyset(&m); sigaddset(&m, SIGSEGV);
    sigprocmask(SIG_BLOCK, &m, NULL);
    fflush(stdout);
    *(volatile int *)8 = 1;
    return 0;
}
