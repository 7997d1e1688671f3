// sigsuspend, ppoll and pselect replace the mask while they wait, and the handler finds the old one afterwards.
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <unistd.h>
static volatile int count;
static void on(int s) { count++; }
int main(void) {
    sigset_t block, none, now;
    struct sigaction a;
    memset(&a, 0, sizeof a);
    a.sa_handler = on;
    a.sa_flags = SA_RESTART;
    sigaction(SIGUSR1, &a, NULL);
    sigemptyset(&none); sigemptyset(&block); sigaddset(&block, SIGUSR1);
    sigprocmask(SIG_BLOCK, &block, NULL);
    for (int n = 0; n < 200; n++) {
        raise(SIGUSR1);
        if (sigsuspend(&none) != -1 || errno != EINTR || count != 4 * n + 1) printf("suspend %d %d\n", n, count);
        raise(SIGUSR1);
        if (ppoll(NULL, 0, NULL, &none) != -1 || errno != EINTR || count != 4 * n + 2) printf("ppoll %d %d\n", n, count);
        raise(SIGUSR1);
        if (pselect(0, NULL, NULL, NULL, NULL, &none) != -1 || errno != EINTR || count != 4 * n + 3) printf("pselect %d %d\n", n, count);
        raise(SIGUSR1);
        int e = epoll_create1(EPOLL_CLOEXEC);
        struct epoll_event ev;
        if (epoll_pwait(e, &ev, 1, -1, &none) != -1 || errno != EINTR || count != 4 * n + 4) printf("epoll %d %d\n", n, count);
        close(e);
    }
    sigprocmask(SIG_BLOCK, NULL, &now);
    printf("%d blocked %d\n", count, sigismember(&now, SIGUSR1));
    return 0;
}
