// oracle: native
// Invalid operations cause no signals on arm64, whatever the program does with SIGFPE; a SIGFPE that is sent
// behaves like any other signal.
#define _GNU_SOURCE
#include <fenv.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
static volatile double zero, one = 1, quiet_nan;
static volatile int handled, code;
static volatile double in_handler;
static void on(int s, siginfo_t *i, void *u) {
    code = i->si_code;
    in_handler = zero / zero;
    handled++;
}
// Does `n` rounds of invalid operations and of operations on NaNs. Returns the number of right results.
__attribute__((noinline)) static long invalid(long n) {
    long nans = 0;
    for (long i = 0; i < n; i++) {
        double a = zero / zero, b = fma(quiet_nan, one, quiet_nan), c = sqrt(-one);
        nans += isnan(a) + isnan(b) + isnan(c) + (lrint(one * 7.4) == 7);
    }
    return nans;
}
static void say(const char *what) { printf("%s: handled %d, %ld\n", what, handled, invalid(200)); fflush(stdout); }
static void block(int how) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGFPE);
    sigprocmask(how, &set, NULL);
}
static int pending(void) {
    sigset_t set;
    sigpending(&set);
    return sigismember(&set, SIGFPE);
}
static void wait_for(const char *what, int timeout) {
    sigset_t set;
    siginfo_t info;
    struct timespec time = {timeout, 0};
    sigemptyset(&set);
    sigaddset(&set, SIGFPE);
    int got = sigtimedwait(&set, &info, &time);
    printf("%s: %d code %d\n", what, got, got > 0 ? info.si_code : 0);
}
static void child(const char *what, void (*run)(void)) {
    fflush(stdout);
    pid_t pid = fork();
    int status = 0;
    if (pid == 0) { run(); fflush(stdout); _exit(0); }
    waitpid(pid, &status, 0);
    printf("%s: %s %d\n", what, WIFSIGNALED(status) ? "signal" : "status", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}
static void dies(void) { signal(SIGFPE, SIG_DFL); say("default"); raise(SIGFPE); }
static void dies_later(void) {
    signal(SIGFPE, SIG_DFL);
    block(SIG_BLOCK);
    raise(SIGFPE);
    say("default, blocked");
    block(SIG_UNBLOCK);
}
static void executes(void) {
    block(SIG_BLOCK);
    signal(SIGFPE, SIG_IGN);
    execl("/proc/self/exe", "sigfpe", "inherited", (char *)NULL);
    perror("exec");
}
static void inherited(void) {
    sigset_t mask;
    struct sigaction a;
    sigprocmask(SIG_BLOCK, NULL, &mask);
    sigaction(SIGFPE, NULL, &a);
    printf("inherited: blocked %d ignored %d\n", sigismember(&mask, SIGFPE), a.sa_handler == SIG_IGN);
    say("inherited");
}
static void *thread(void *argument) {
    block(SIG_BLOCK);
    return (void *)invalid(1000);
}
int main(int argc, char **argv) {
    quiet_nan = NAN;
    if (argc > 1) { inherited(); return 0; }
    struct sigaction a;
    memset(&a, 0, sizeof a);
    a.sa_sigaction = on;
    a.sa_flags = SA_SIGINFO;
    say("no handler");
    sigaction(SIGFPE, &a, NULL);
    say("handler");
    raise(SIGFPE);
    printf("code %d, NaN %d\n", code, isnan(in_handler));
    say("raised");
    // A blocked signal waits until it is fetched or unblocked.
    block(SIG_BLOCK);
    say("blocked");
    printf("pending %d\n", pending());
    wait_for("none to fetch", 0);
    raise(SIGFPE);
    raise(SIGFPE);
    say("raised while blocked");
    printf("pending %d\n", pending());
    wait_for("fetched", 0);
    printf("pending %d\n", pending());
    raise(SIGFPE);
    block(SIG_UNBLOCK);
    say("unblocked");
    // Another process sends the signal to a waiting one.
    block(SIG_BLOCK);
    pid_t pid = fork();
    if (pid == 0) {
        usleep(100000);
        kill(getppid(), SIGFPE);
        _exit(0);
    }
    wait_for("from another", 20);
    waitpid(pid, NULL, 0);
    block(SIG_UNBLOCK);
    // An ignored signal, also one that was pending before.
    block(SIG_BLOCK);
    raise(SIGFPE);
    signal(SIGFPE, SIG_IGN);
    printf("ignored: pending %d\n", pending());
    block(SIG_UNBLOCK);
    raise(SIGFPE);
    kill(getpid(), SIGFPE);
    say("ignored");
    child("default", dies);
    child("default, later", dies_later);
    child("executed", executes);
    // Results stay right while signals arrive.
    sigaction(SIGFPE, &a, NULL);
    handled = 0;
    pid = fork();
    if (pid == 0) {
        for (int i = 0; i < 50; i++) { kill(getppid(), SIGFPE); usleep(1000); }
        _exit(0);
    }
    long wrong = 0;
    while (waitpid(pid, NULL, WNOHANG) == 0) wrong += invalid(100) != 400;
    printf("storm: handled %d, wrong %ld\n", handled > 0, wrong);
    pthread_t other;
    void *nans;
    pthread_create(&other, NULL, thread, NULL);
    pthread_join(other, &nans);
    printf("thread: %ld\n", (long)nans);
    // FE_INVALID shows which operations are invalid.
    feclearexcept(FE_ALL_EXCEPT);
    volatile double result = fma(quiet_nan, one, quiet_nan);
    result = fma(one, zero, quiet_nan);
    result = quiet_nan * one;
    printf("quiet: %d", fetestexcept(FE_INVALID) != 0);
    result = zero / zero;
    printf(", invalid: %d", fetestexcept(FE_INVALID) != 0);
    feclearexcept(FE_ALL_EXCEPT);
    printf(", cleared: %d\n", fetestexcept(FE_INVALID) != 0);
    (void)result;
    // NaNs are not slow: each takes far less time than a signal.
    clock_t start = clock();
    long sum = invalid(2000000);
    printf("%ld %s\n", sum, clock() - start < 8 * CLOCKS_PER_SEC ? "in time" : "too slow");
    return 0;
}
