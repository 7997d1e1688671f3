// A stack overflow is handled on the alternate stack; registers of the context can be changed.
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <sys/resource.h>
static char *stack;
static sigjmp_buf back;
static void on(int s, siginfo_t *i, void *u) {
    char here;
    stack_t now;
    sigaltstack(NULL, &now);
    printf("signal %d on alternate %d flags %d\n", s, &here >= stack && &here < stack + 65536, now.ss_flags);
    printf("change: %d\n", sigaltstack(&now, NULL));
    siglongjmp(back, 1);
}
static int deep(int n) { volatile char pad[1024]; pad[0] = n; return deep(n + 1) + pad[0]; }
int main(void) {
    struct rlimit r = {1 << 20, 1 << 20};
    stack = malloc(65536);
    stack_t ss = {.ss_sp = stack, .ss_size = 65536}, old;
    struct sigaction a;
    memset(&a, 0, sizeof a);
    a.sa_sigaction = on;
    a.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &a, NULL);
    sigaltstack(NULL, &old);
    printf("old flags %d\n", old.ss_flags);
    ss.ss_size = 100;
    printf("small %d\n", sigaltstack(&ss, NULL));
    ss.ss_size = 65536;
    printf("set %d\n", sigaltstack(&ss, NULL));
    for (int n = 0; n < 2; n++)
        if (!sigsetjmp(back, 1)) deep(0);
    sigaltstack(NULL, &old);
    printf("flags %d same %d\n", old.ss_flags, old.ss_sp == stack);
    return 0;
}
