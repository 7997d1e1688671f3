// oracle: file
// An undefined instruction is SIGILL at its address; the handler skips it by changing pc, and sets a register.
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>
extern char bad[];
static void on(int s, siginfo_t *i, void *p) {
    ucontext_t *u = p;
    printf("signal %d code %d at it %d pc %d x5 %llx\n", s, i->si_code, i->si_addr == bad,
           u->uc_mcontext.pc == (unsigned long)bad, u->uc_mcontext.regs[5]);
    unsigned *m = (unsigned *)u->uc_mcontext.__reserved;
    printf("record %x size %u\n", m[0], m[1]);
    u->uc_mcontext.pc += 4;
    u->uc_mcontext.regs[5] = 0x77;
    memset(&m[4], 0x11, 16);
}
int main(void) {
    struct sigaction a;
    memset(&a, 0, sizeof a);
    a.sa_sigaction = on;
    a.sa_flags = SA_SIGINFO;
    sigaction(SIGILL, &a, NULL);
    unsigned long x, d;
    asm volatile("mov x5, #0x1234\n fmov d0, xzr\n .global bad\nbad: .word 0\n mov %0, x5\n fmov %1, d0" : "=r"(x), "=r"(d)::"x5", "v0");
    printf("x5 %lx d0 %lx\n", x, d);
    struct sigaction t;
    memset(&t, 0, sizeof t);
    t.sa_sigaction = on;
    t.sa_flags = SA_SIGINFO;
    sigaction(SIGTRAP, &t, NULL);
    fflush(stdout);
    signal(SIGILL, SIG_DFL);
    asm volatile(".word 0");
    return 0;
}
