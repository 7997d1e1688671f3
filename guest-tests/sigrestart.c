// A read that a signal interrupts fails with EINTR, or is restarted with SA_RESTART. nanosleep is never
// restarted.
// oracle: native, since QEMU 7.2 may wait for ever on a busy machine.
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
static volatile sig_atomic_t count;
static int fds[2];
static void on(int s) { if (++count == 2) write(fds[1], "x", 1); }
int main(void) {
    struct sigaction a;
    memset(&a, 0, sizeof a);
    a.sa_handler = on;
    sigaction(SIGALRM, &a, NULL);
    pipe(fds);
    char c = 0;
    struct itimerval t = {{0, 0}, {0, 20000}};
    setitimer(ITIMER_REAL, &t, NULL);
    errno = 0;
    int r = read(fds[0], &c, 1);
    printf("read %d errno %d count %d\n", r, errno, count);
    a.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &a, NULL);
    setitimer(ITIMER_REAL, &t, NULL);
    errno = 0;
    r = read(fds[0], &c, 1);
    printf("read %d %c errno %d count %d\n", r, c, errno, count);
    setitimer(ITIMER_REAL, &t, NULL);
    struct timespec s = {5, 0}, left = {9, 9};
    errno = 0;
    r = nanosleep(&s, &left);
    printf("sleep %d errno %d left %ld count %d\n", r, errno, (long)left.tv_sec, count);
    signal(SIGALRM, SIG_IGN);
    setitimer(ITIMER_REAL, &t, NULL);
    s.tv_sec = 0; s.tv_nsec = 60000000;
    printf("ignored: %d\n", nanosleep(&s, NULL));
    return 0;
}
