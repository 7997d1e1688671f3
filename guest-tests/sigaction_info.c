// oracle on riscv64: native
// A handler with SA_SIGINFO sees sender, code and value; the mask holds during it and is restored after it.
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
static volatile sig_atomic_t depth;
static void on(int s, siginfo_t *i, void *u) {
    sigset_t m;
    depth++;
    sigprocmask(SIG_BLOCK, NULL, &m);
    printf("signal %d code %d self %d value %d depth %d blocked usr1 %d usr2 %d\n", s, i->si_code, i->si_pid == getpid(),
           i->si_code == SI_QUEUE ? i->si_value.sival_int : 0, depth, sigismember(&m, SIGUSR1), sigismember(&m, SIGUSR2));
    if (s == SIGUSR1 && depth == 1) raise(SIGUSR2);
    depth--;
}
int main(void) {
    struct sigaction a, old;
    memset(&a, 0, sizeof a);
    a.sa_sigaction = on;
    a.sa_flags = SA_SIGINFO;
    sigaddset(&a.sa_mask, SIGUSR2);
    sigaction(SIGUSR1, &a, NULL);
    sigemptyset(&a.sa_mask);
    sigaction(SIGUSR2, &a, &old);
    printf("old %d\n", old.sa_handler == SIG_DFL);
    kill(getpid(), SIGUSR1);
    union sigval v = {.sival_int = 42};
    sigqueue(getpid(), SIGUSR2, v);
    sigset_t m, p;
    sigemptyset(&m); sigaddset(&m, SIGUSR1);
    sigprocmask(SIG_BLOCK, &m, NULL);
    raise(SIGUSR1);
    sigpending(&p);
    printf("pending %d\n", sigismember(&p, SIGUSR1));
    sigprocmask(SIG_UNBLOCK, &m, NULL);
    sigaction(SIGUSR1, NULL, &old);
    printf("flags %x mask usr2 %d\n", old.sa_flags & (SA_SIGINFO | SA_RESTART), sigismember(&old.sa_mask, SIGUSR2));
    printf("kill: %d stop: %d\n", sigaction(SIGKILL, &a, NULL), sigaction(SIGSTOP, &a, NULL));
    return 0;
}
