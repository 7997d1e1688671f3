// A timer's signals at all moments of computing, allocating, reading and writing change no result.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>
static volatile int count;
static void on(int s) { char pad[3000]; memset(pad, s, sizeof pad); count += pad[17] == s; }
int main(void) {
    struct sigaction a;
    memset(&a, 0, sizeof a);
    a.sa_handler = on;
    a.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &a, NULL);
    struct itimerval t = {{0, 300}, {0, 300}};
    setitimer(ITIMER_REAL, &t, NULL);
    int p[2];
    pipe(p);
    unsigned long hash = 1;
    double sum = 0;
    for (int n = 0; n < 20000; n++) {
        char *m = malloc(n % 500 + 8), c;
        memset(m, n, n % 500 + 8);
        hash = hash * 31 + m[n % 8];
        sum += n / 3.0;
        free(m);
        if (n % 4 == 0) { if (write(p[1], &hash, 1) != 1 || read(p[0], &c, 1) != 1 || c != (char)hash) printf("lost %d\n", n); }
    }
    t.it_value.tv_usec = 0;
    setitimer(ITIMER_REAL, &t, NULL);
    printf("%lx %.3f signals %d\n", hash, sum, count > 5);
    return 0;
}
