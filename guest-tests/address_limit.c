// oracle: file
// A program gets 39-bit addresses, as on arm64 boards, until it asks for more memory than they can name.
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>
static sigjmp_buf back;
static volatile int code;
static void on(int s, siginfo_t *i, void *u) { code = i->si_code; siglongjmp(back, 1); }
static int bits(void *p) { return 64 - __builtin_clzl((uintptr_t)p); }
static void highest(void) {
    char line[512];
    unsigned long end = 0;
    FILE *f = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, f)) sscanf(line, "%*lx-%lx", &end);
    fclose(f);
    printf("highest mapping: %d bits\n", bits((void *)(end - 1)));
}
/* Takes all addresses but less than 2 GiB: what is left for 4 GiB lies elsewhere. */
static void fill(void) {
    for (int shift = 38; shift > 30; shift--)
        mmap(NULL, 1ul << shift, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}
static const size_t size = 1ul << 32;
static char *grow(void) {
    char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    fill();
    *p = 7;
    p = mremap(p, 4096, size, MREMAP_MAYMOVE);
    return p != MAP_FAILED && *p == 7 ? p : MAP_FAILED;
}
static char *attach(void) {
    const int id = shmget(IPC_PRIVATE, size, IPC_CREAT | SHM_NORESERVE | 0600);
    fill();
    char *p = shmat(id, NULL, 0);
    shmctl(id, IPC_RMID, NULL);
    return p;
}
static char *map(void) {
    fill();
    return mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
}
/* In a process of its own, since all later mappings find the addresses that a program once needed. */
static void when_full(const char *what, char *(*get)(void)) {
    fflush(stdout);
    if (!fork()) {
        signal(SIGSEGV, SIG_DFL);
        char *p = get();
        _exit(p != MAP_FAILED && bits(p) > 39);
    }
    int status;
    wait(&status);
    printf("%s: %d\n", what, WEXITSTATUS(status));
}
int main(void) {
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    int local;
    printf("stack: %d bits\n", bits(&local));
    highest();
    char *p = mmap(NULL, 4096, PROT_READ, flags, -1, 0), *above = (char *)(1ul << 39);
    printf("mmap: %d bits\n", bits(p));
    p = mmap(above + (1ul << 40), 4096, PROT_READ, flags, -1, 0);
    printf("a hint above: %d bits\n", bits(p));
    struct sigaction a = {.sa_sigaction = on, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &a, NULL);
    if (!sigsetjmp(back, 1)) *(volatile char *)above = 1;
    printf("a store above: code %d\n", code);
    errno = 0;
    printf("msync above: %d %s\n", msync(above, 4096, MS_ASYNC), strerror(errno));
    printf("munmap above: %d %s\n", munmap(above, 4096), strerror(errno));
    when_full("mmap when 39 bits are full", map);
    when_full("mremap", grow);
    when_full("shmat", attach);
    p = mmap(NULL, 1ul << 38, PROT_NONE, flags, -1, 0);
    printf("a quarter of a terabyte: %d\n", p != MAP_FAILED && bits(p) <= 39);
    p = mmap(NULL, 1ul << 40, PROT_NONE, flags, -1, 0);
    printf("a terabyte: %d\n", p != MAP_FAILED && bits(p) > 39);
    p = mmap(above, 4096, PROT_READ | PROT_WRITE, flags | MAP_FIXED_NOREPLACE, -1, 0);
    printf("fixed, above: %d\n", p == above && (*p = 1));
    p = mmap(NULL, 1ul << 50, PROT_NONE, flags, -1, 0);
    printf("too much: %d %s\n", p == MAP_FAILED, strerror(errno));
    return 0;
}
