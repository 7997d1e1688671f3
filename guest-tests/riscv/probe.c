// oracle: file
// riscv_hwprobe and riscv_flush_icache, and what they refuse.
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>
struct pair { long key; unsigned long value; };
static long probe(struct pair *p, long count, long size, void *cpus, unsigned flags) {
    long r = syscall(258, p, count, size, cpus, flags);
    return r < 0 ? -errno : r;
}
typedef int (*function)(void);
int main(void) {
    struct pair p[] = {{3, 9}, {4, 9}, {5, 9}, {6, 9}, {8, 9}, {9, 9}, {10, 9}, {12, 9}, {999, 9}, {-5, 9}};
    printf("%ld\n", probe(p, sizeof p / sizeof *p, 0, NULL, 0));
    // The extensions of RV64GCV, Zba, Zbb, Zbs.
    p[1].value &= 0x3f;
    for (int n = 0; n < sizeof p / sizeof *p; n++) printf("%ld %lx\n", p[n].key, p[n].value);
    cpu_set_t set;
    CPU_ZERO(&set);
    printf("none %ld\n", probe(p, 1, sizeof set, &set, 0));
    printf("flags %ld\n", probe(p, 1, 0, NULL, 8));
    printf("no size %ld\n", probe(p, 1, 0, &set, 0));
    printf("no pairs %ld\n", probe((void *)8, 1, 0, NULL, 0));
    // Which CPUs have an extension: all or none.
    struct pair has = {4, 1 << 4}, lacks = {4, 1ul << 63};
    CPU_ZERO(&set);
    printf("which %ld %d\n", probe(&has, 1, sizeof set, &set, 1), CPU_ISSET(0, &set));
    printf("which %ld %d\n", probe(&lacks, 1, sizeof set, &set, 1), CPU_COUNT(&set));
    // Vectors are on, and cannot be turned off.
    printf("vectors %d", prctl(70));
    printf(" on %d off %d", prctl(69, 2), prctl(69, 1));
    printf(" invalid %d\n", prctl(69, 3));
    // Code that changes: by the call, by FENCE.I, and by the call without a range.
    unsigned *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int stale = 0;
    for (int n = 0; n < 900; n++) {
        code[0] = 0x513 | n << 20; // li a0, n
        code[1] = 0x8067;          // ret
        if (n % 3 == 0) syscall(259, code, code + 2, 0);
        else if (n % 3 == 1) asm volatile("fence.i" ::: "memory");
        else syscall(259, 0, 0, 1);
        stale += ((function)code)() != n;
    }
    printf("stale %d refused %ld\n", stale, syscall(259, code, code + 2, 2));
    return 0;
}
