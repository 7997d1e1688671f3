// Code is written, announced and called, and then replaced by a new mapping.
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
typedef int (*function)(void);
#ifdef __riscv
static unsigned code[2] = {0x00100513, 0x00008067}; // li a0, 1; ret
#define RETURN(n) (0x00000513 | (n) << 20)
#else
static unsigned code[2] = {0x52800020, 0xd65f03c0}; // mov w0, #1; ret
#define RETURN(n) (0x52800000 | (n) << 5)
#endif
int main(void) {
    unsigned *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int n = 0; n < 300; n++) {
        memcpy(p, code, 8);
        p[0] = RETURN(n);
        __builtin___clear_cache((char *)p, (char *)(p + 2));
        if (((function)p)() != n) printf("stale %d\n", n);
    }
    mmap(p, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    memcpy(p, code, 8);
    mprotect(p, 4096, PROT_READ | PROT_EXEC);
    printf("%d\n", ((function)p)());
    return 0;
}
