// oracle: native
// io_submit ends at the first entry that cannot be read, however long the list is said to be. What is above the
// stack, as the emulator, cannot be read.
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
static int submit(unsigned long context, long count, void *list)
{
    return syscall(SYS_io_submit, context, count, list) == -1 ? errno : 0;
}
int main(void)
{
    unsigned long context = 0;
    if (syscall(SYS_io_setup, 8, &context) != 0)
        return 1;
    char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(pages + 4096, 4096, PROT_NONE);
    printf("nothing to read: %d\n", submit(context, 0x7fffffff, pages + 4096) == EFAULT);
    // The first entry points to nothing.
    printf("nothing to do: %d\n", submit(context, 0x7fffffff, pages) == EFAULT);
    struct timespec before, after;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    for (int n = 0; n < 50; n++)
        submit(context, 0x7fffffff, n % 2 ? pages : pages + 4096);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    // Some hundred places at most, however far the stack is from the end.
    long above = 0;
    unsigned long end = sizeof end == 8 ? 1ul << 47 : 0, start = (unsigned long)&context;
    unsigned long step = (end - start) / 256 | 1ul << 29;
    for (unsigned long at = start; end != 0 && at < end - step; at += step) {
        unsigned long entry = (at + step) & -(1ul << 29);
        above += submit(context, 1, &entry) != EFAULT;
    }
    printf("above: %ld\n", above);
    printf("at once: %d\n", after.tv_sec - before.tv_sec < 2);
    return 0;
}
