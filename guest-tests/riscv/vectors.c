// oracle: file
// Vectors are announced, and run: a strip-mined sum, and a signal whose handler uses them, too.
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>
#define V ".option push\n .option arch, +v\n "
#define END "\n .option pop"
static long sum(const int *p, long n) {
    long total = 0;
    while (n > 0) {
        long count, part;
        asm volatile(V "vsetvli %0, %2, e32, m4, ta, ma\n vle32.v v8, (%3)\n vmv.s.x v4, zero\n vredsum.vs v4, v8, v4\n vmv.x.s %1, v4" END
                     : "=&r"(count), "=&r"(part) : "r"(n), "r"(p) : "memory");
        total += part, p += count, n -= count;
    }
    return total;
}
static void on(int s, siginfo_t *i, void *p) {
    unsigned *record = (unsigned *)&((ucontext_t *)p)->uc_mcontext.__fpregs + 129;
    unsigned long *state = (unsigned long *)(record + 3);
    printf("record %x size %u vstart %lu vl %lu vtype %lx vlenb %lu\n", record[1], record[2], state[0], state[1], state[2], state[4]);
    printf("v3 %lx\n", ((unsigned long *)state[5])[6]);
    asm volatile(V "vsetivli zero, 16, e8, m1, ta, ma\n vmv.v.i v3, 1\n vmv.v.i v0, 2" END);
    // The second doubleword of v3 comes back changed.
    ((unsigned long *)state[5])[7] = 0x77;
}
int main(void) {
    static int numbers[1000];
    for (int n = 0; n < 1000; n++) numbers[n] = n * 3 - 700;
    long total = 0;
    for (int n = 0; n < 100; n++) total += sum(numbers, 1000 - n);
    printf("sum %ld announced %d\n", total, (int)(getauxval(AT_HWCAP) >> ('V' - 'A') & 1));
    struct sigaction a;
    memset(&a, 0, sizeof a);
    a.sa_sigaction = on;
    a.sa_flags = SA_SIGINFO;
    sigaction(SIGUSR1, &a, NULL);
    unsigned long low, high, vl, pid = getpid();
    asm volatile(V "vsetivli zero, 2, e64, m1, ta, ma\n vmv.v.x v3, %4\n mv a0, %3\n li a1, 10\n li a7, 129\n ecall\n"
                 "csrr %2, vl\n vmv.x.s %0, v3\n vslidedown.vi v3, v3, 1\n vmv.x.s %1, v3" END
                 : "=&r"(low), "=&r"(high), "=&r"(vl) : "r"(pid), "r"(0x123456789abcdefl) : "a0", "a1", "a7", "memory");
    printf("after %lx %lx vl %lu\n", low, high, vl);
    // A child has its parent's vectors.
    asm volatile(V "vsetivli zero, 1, e64, m1, ta, ma\n vmv.v.i v5, 9" END);
    fflush(stdout);
    if (!fork()) {
        asm volatile(V "vmv.x.s %0, v5" END : "=r"(low));
        printf("child %lu\n", low);
        fflush(stdout);
        _exit(0);
    }
    wait(NULL);
    return 0;
}
