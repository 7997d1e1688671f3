// oracle: native
// Which handlers run when the mask changes, in which order, and with which masks in their frames: by
// sigprocmask, by the mask that a handler leaves in its frame, and by a fault while signals wait.
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
static char log_[1 << 16];
static volatile int length, opens, depth, after;
static char *page;
static int bits(const sigset_t *set) {
    const int of[] = {SIGUSR1, SIGUSR2, SIGRTMIN, SIGRTMIN + 1, SIGSEGV};
    int all = 0;
    for (int n = 0; n < 5; n++) all |= sigismember(set, of[n]) << n;
    return all;
}
static void on(int s, siginfo_t *i, void *p) {
    ucontext_t *u = p;
    sigset_t now;
    sigprocmask(SIG_SETMASK, NULL, &now);
    length += sprintf(log_ + length, "[%d v%d in %x now %x a%d", s >= SIGRTMIN ? s - SIGRTMIN + 100 : s,
                      s >= SIGRTMIN ? i->si_value.sival_int : 0, bits(&u->uc_sigmask), bits(&now), after);
    if (s == SIGSEGV) mprotect(page, 4096, PROT_READ | PROT_WRITE);
    if (opens > 0) {
        opens--;
        sigemptyset(&u->uc_sigmask);
    }
    if (depth > 0) {
        depth--;
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGRTMIN);
        sigaddset(&set, SIGUSR2);
        sigprocmask(SIG_UNBLOCK, &set, NULL);
    }
    length += sprintf(log_ + length, "]");
}
static void queue(int s, int value) { sigqueue(getpid(), s, (union sigval){.sival_int = value}); }
static unsigned next(unsigned *seed) { return *seed = *seed * 1103515245 + 12345, *seed >> 16; }
int main(void) {
    struct sigaction a;
    memset(&a, 0, sizeof a);
    a.sa_sigaction = on;
    page = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    const int of[] = {SIGUSR1, SIGUSR2, SIGRTMIN, SIGRTMIN + 1, SIGSEGV};
    sigset_t all;
    sigemptyset(&all);
    for (int n = 0; n < 4; n++) sigaddset(&all, of[n]);
    unsigned seed = 1;
    for (int round = 0; round < 400; round++) {
        for (int n = 0; n < 5; n++) {
            a.sa_flags = SA_SIGINFO | (next(&seed) % 4 == 0 ? SA_NODEFER : 0);
            sigemptyset(&a.sa_mask);
            for (int m = 0; m < 4; m++)
                if (next(&seed) % 3 == 0) sigaddset(&a.sa_mask, of[m]);
            sigaction(of[n], &a, NULL);
        }
        length = after = 0;
        sigprocmask(SIG_SETMASK, &all, NULL);
        for (int n = next(&seed) % 6; n > 0; n--) queue(of[next(&seed) % 4], n);
        opens = next(&seed) % 3;
        depth = next(&seed) % 3;
        sigset_t some;
        sigemptyset(&some);
        for (int m = 0; m < 4; m++)
            if (next(&seed) % 2 == 0) sigaddset(&some, of[m]);
        switch (next(&seed) % 4) {
        case 0: sigprocmask(SIG_UNBLOCK, &some, NULL); break;
        case 1: sigprocmask(SIG_SETMASK, &some, NULL); break;
        case 2:
            mprotect(page, 4096, PROT_NONE);
            page[5] = 1;
            break;
        case 3:
            queue(SIGUSR1, 1);
            sigfillset(&some);
            sigdelset(&some, SIGUSR1);
            sigsuspend(&some);
            break;
        }
        after = 1;
        sigset_t now, pending;
        sigprocmask(SIG_SETMASK, NULL, &now);
        sigpending(&pending);
        printf("%d: %s mask %x pending %x\n", round, log_, bits(&now), bits(&pending));
        opens = depth = 0;
        sigset_t none;
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        log_[0] = 0;
    }
    return 0;
}
