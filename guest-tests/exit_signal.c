// oracle: native
// A child whose exit signal is SIGBUS or SIGSEGV: the signal's code looks like that of a fault.
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
static volatile int signals, code, status, same;
static volatile pid_t child;
static void on(int s, siginfo_t *i, void *p) {
    signals++;
    code = i->si_code;
    status = i->si_status;
    same = i->si_pid == child || child == 0;
}
int main(void) {
    struct sigaction a;
    memset(&a, 0, sizeof a);
    a.sa_sigaction = on;
    a.sa_flags = SA_SIGINFO;
    sigaction(SIGBUS, &a, NULL);
    sigaction(SIGSEGV, &a, NULL);
    for (int n = 0; n < 40; n++) {
        child = 0;
        pid_t p = syscall(SYS_clone, n & 1 ? SIGBUS : SIGSEGV, 0, 0, 0, 0);
        if (p == 0) { if (n & 2) usleep(500); _exit(n); }
        child = p;
        // The loop uses memory while the signal arrives.
        while (signals <= n) for (volatile int k = 0; k < 1000; k++);
        if (code != CLD_EXITED || status != n || !same) printf("%d: code %d status %d pid %d\n", n, code, status, same);
        if (waitpid(p, NULL, __WALL) != p) printf("wait\n");
    }
    printf("%d signals\n", signals);
    return 0;
}
