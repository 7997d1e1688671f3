// The program unmaps addresses that it has never mapped: no part of the emulator may be there.
#include <stdio.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>
int main(void) {
    extern char __executable_start[], end[];
    // The addresses below the program, and those from its heap up to the mappings.
    char *first = (char *)0x10000, *start = (char *)((long)__executable_start & ~4095l);
    char *above = (char *)((long)sbrk(0) + 4095 & ~4095l), *top = (char *)((long)&first - (1l << 36) & ~4095l);
    printf("%d\n", munmap(first, start - first));
    printf("%d\n", munmap(above, top - above));
    fflush(stdout);
    // The kernel writes to memory registered with it when a thread moves or is preempted.
    for (int n = 0; n < 2000; n++) sched_yield(), usleep(n % 50 == 0 ? 1 : 0);
    for (int n = 0; n < 50; n++) if (fork() == 0) _exit(0);
    printf("done\n");
    return 0;
}
