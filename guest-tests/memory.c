// oracle: native
// mmap in its forms, mremap, brk, /proc/self/maps and auxv.
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>
int main(void) {
    char *p = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    strcpy(p, "x");
    printf("fixed %d\n", mmap(p + 4096, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == p + 4096);
    int failed = mmap(p, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == MAP_FAILED;
    printf("noreplace %d %d\n", failed, errno == EEXIST);
    char *q = mmap((void *)0x7f0000000000, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    printf("hint %d\n", q != MAP_FAILED);
    printf("too high %d\n", mmap((void *)0x7ffffffff000, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED);
    failed = mmap(NULL, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED;
    printf("zero %d %s\n", failed, strerror(errno));
    char *r = mremap(p, 4096, 8 * 4096, MREMAP_MAYMOVE);
    printf("mremap %s\n", r);
    void *b = sbrk(0);
    printf("brk %d\n", sbrk(100000) == b && sbrk(0) == (char *)b + 100000 && sbrk(-100000) != (void *)-1);
    memset(b, 1, 0);
    int stack = 0, heap = 0, exe = 0;
    char line[512], self[400];
    self[readlink("/proc/self/exe", self, 399)] = 0;
    malloc(100);
    FILE *f = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, f)) {
        unsigned long s, e;
        sscanf(line, "%lx-%lx", &s, &e);
        if (strstr(line, "[stack]") && (unsigned long)&stack >= s && (unsigned long)&stack < e) stack++;
        if (strstr(line, "[heap]")) heap++;
        if (strstr(line, self)) exe = 1;
    }
    printf("stack %d heap %d exe %d\n", stack, heap > 0, exe);
    unsigned long v[2];
    int fd = open("/proc/self/auxv", O_RDONLY), same = 0;
    while (read(fd, v, sizeof v) == sizeof v && v[0]) same += v[0] == AT_ENTRY && v[1] == getauxval(AT_ENTRY);
    printf("auxv %d page %ld secure %ld\n", same, getauxval(AT_PAGESZ), getauxval(AT_SECURE));
    printf("mlock outside %d\n", mlock((void *)0x7ffffffff000, 4096) < 0);
    return 0;
}
