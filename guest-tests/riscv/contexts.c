// oracle: file
// An undefined instruction is SIGILL at its address; the handler finds the registers in the frame, skips the
// instruction by changing pc, and changes registers.
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <ucontext.h>
extern char bad[];
static void on(int s, siginfo_t *i, void *p) {
    ucontext_t *u = p;
    unsigned long *f = (unsigned long *)&u->uc_mcontext.__fpregs;
    unsigned *fcsr = (unsigned *)&f[32];
    printf("signal %d code %d at it %d pc %d t0 %lx ft0 %lx flags %x\n", s, i->si_code, i->si_addr == bad,
           u->uc_mcontext.__gregs[REG_PC] == (unsigned long)bad, u->uc_mcontext.__gregs[5], f[0], *fcsr);
    unsigned *record = (unsigned *)&u->uc_mcontext.__fpregs + 129;
    printf("reserved %x record %x size %u\n", record[0], record[1], record[2]);
    u->uc_mcontext.__gregs[REG_PC] += 4;
    u->uc_mcontext.__gregs[5] = 0x77;
    f[0] = 0x1111222233334444;
    *fcsr = 0x64;
}
int main(void) {
    struct sigaction a;
    memset(&a, 0, sizeof a);
    a.sa_sigaction = on;
    a.sa_flags = SA_SIGINFO;
    sigaction(SIGILL, &a, NULL);
    unsigned long x, d, fcsr;
    asm volatile("li t0, 0x1234\n fmv.d.x ft0, t0\n csrwi fcsr, 0x13\n .global bad\nbad: .word 0\n mv %0, t0\n fmv.x.d %1, ft0\n csrr %2, fcsr\n csrwi fcsr, 0"
                 : "=r"(x), "=r"(d), "=r"(fcsr)::"t0", "ft0");
    printf("t0 %lx ft0 %lx fcsr %lx\n", x, d, fcsr);
    // EBREAK does not move pc.
    extern char point[];
    sigaction(SIGTRAP, &a, NULL);
    asm volatile("li t0, 5\n .global point\n .option push\n .option norvc\npoint: ebreak\n .option pop\n mv %0, t0" : "=r"(x)::"t0", "ft0");
    printf("t0 %lx\n", x);
    // AT_HWCAP has I, M, A, F, D, C; there is no AT_PLATFORM.
    printf("hwcap %lx platform %lx frame %d\n", getauxval(AT_HWCAP), getauxval(AT_PLATFORM), getauxval(51) == 1664);
    return 0;
}
