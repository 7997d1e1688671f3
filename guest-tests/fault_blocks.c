// oracle: file
// A signal that arrives while an instruction faults is not delivered in the fault's handler, which blocks it.
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <ucontext.h>
#ifdef __riscv
#define PC(u) (u)->uc_mcontext.__gregs[REG_PC]
#define FAULTS asm volatile(".option push\n .option norvc\n .rept 60\n mul t1, t2, t1\n .endr\n li t3, 0\n sd t1, 0(t3)\n .word 0\n .option pop" ::: "t1", "t3", "memory")
#else
#define PC(u) (u)->uc_mcontext.pc
#define FAULTS asm volatile(".rept 60\n mul x1, x2, x1\n .endr\n mov x3, #0\n str x1, [x3]\n .word 0" ::: "x1", "x3", "memory")
#endif
static volatile int inside, violations, alarms;
static void on_fault(int s, siginfo_t *i, void *p) {
    inside = 1;
    for (volatile int n = 0; n < 100; n++);
    inside = 0;
    PC((ucontext_t *)p) += 4;
}
static void on_alarm(int s, siginfo_t *i, void *p) {
    alarms++;
    violations += inside || sigismember(&((ucontext_t *)p)->uc_sigmask, SIGALRM);
}
int main(void) {
    struct sigaction a;
    memset(&a, 0, sizeof a);
    sigfillset(&a.sa_mask);
    a.sa_sigaction = on_fault;
    a.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &a, NULL);
    sigaction(SIGILL, &a, NULL);
    a.sa_sigaction = on_alarm;
    sigemptyset(&a.sa_mask);
    sigaction(SIGALRM, &a, NULL);
    struct itimerval often = {{0, 100}, {0, 100}}, never = {0};
    setitimer(ITIMER_REAL, &often, NULL);
    // The block does some work before its fault, so that the alarm can arrive before the fault.
    for (int n = 0; n < 30000; n++)
        FAULTS;
    setitimer(ITIMER_REAL, &never, NULL);
    printf("violations %d alarms %d\n", violations, alarms > 3);
    return 0;
}
