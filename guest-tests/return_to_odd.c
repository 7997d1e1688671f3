// oracle: file
// A return to address 1 by a register other than X30 is a misaligned branch, in cold and in hot code.
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>
static sigjmp_buf back;
static volatile unsigned long address, pc;
static void on(int s, siginfo_t *i, void *p) {
    address = (unsigned long)i->si_addr;
    pc = ((ucontext_t *)p)->uc_mcontext.pc;
    siglongjmp(back, s);
}
int main(void) {
    struct sigaction a;
    memset(&a, 0, sizeof a);
    a.sa_sigaction = on;
    a.sa_flags = SA_SIGINFO;
    sigaction(SIGBUS, &a, NULL);
    volatile int right = 0;
    for (volatile int n = 0; n < 100; n++) {
        int s = sigsetjmp(back, 1);
        if (s == 0)
            asm volatile("mov x9, #1\n adr x30, 1f\n ret x9\n 1:" ::: "x9", "x30");
        right += s == SIGBUS && address == 1 && pc == 1;
    }
    printf("%d of 100\n", right);
    return 0;
}
