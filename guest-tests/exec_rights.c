// oracle: file
// Code runs only in executable memory. Elsewhere it causes SIGSEGV with SEGV_ACCERR and the address of the
// instruction.
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <unistd.h>
static sigjmp_buf back;
static volatile int sig, code;
static void *volatile at;
static void on(int s, siginfo_t *i, void *u) {
    sig = s, code = i->si_code, at = i->si_addr;
    siglongjmp(back, 1);
}
#ifdef __riscv
static const unsigned seven[] = {0x00700513, 0x00008067};  // li a0, 7; ret
static const unsigned eight = 0x00800513;
#else
static const unsigned seven[] = {0x528000e0, 0xd65f03c0};  // mov w0, #7; ret
static const unsigned eight = 0x52800100;
#endif
static void call(const char *name, void *p) {
    volatile int result = -1;
    sig = code = 0;
    if (!sigsetjmp(back, 1)) result = ((int (*)(void))p)();
    if (sig) printf("%s: signal %d, code %d, %s\n", name, sig, code, at == p ? "there" : "elsewhere");
    else printf("%s: %d\n", name, result);
}
static void put(void *p) {
    memcpy(p, seven, sizeof seven);
    __builtin___clear_cache(p, (char *)p + sizeof seven);
}
int main(void) {
    struct sigaction a = {.sa_sigaction = on, .sa_flags = SA_SIGINFO};
    sigaction(SIGSEGV, &a, NULL);
    sigaction(SIGILL, &a, NULL);
    sigaction(SIGBUS, &a, NULL);
    const int anonymous = MAP_PRIVATE | MAP_ANONYMOUS;
    char *p = mmap(NULL, 4 * 4096, PROT_READ | PROT_WRITE, anonymous, -1, 0);
    put(p);
    call("data", p);
    mprotect(p, 4096, PROT_READ | PROT_EXEC);
    for (int n = 0; n < 300; n++) ((int (*)(void))p)();
    call("allowed", p);
    // The code is translated by now; its block must be dropped.
    mprotect(p, 4096, PROT_READ);
    call("taken back", p);
    mprotect(p, 4096, PROT_EXEC);
    call("execute alone", p);
    int file = memfd_create("code", 0);
    if (write(file, seven, sizeof seven) != sizeof seven) return 1;
    call("execute alone, of a file", mmap(NULL, 4096, PROT_EXEC, MAP_PRIVATE, file, 0));
    mprotect(p, 4096, PROT_NONE);
    call("no right", p);
    mprotect(p, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
    call("all rights", p);
    mprotect(p, 4 * 4096, PROT_READ | PROT_WRITE);
    put(p + 4096);
    mprotect(p + 4096, 4096, PROT_READ | PROT_EXEC);
    call("before", p);
    call("in the middle", p + 4096);
    call("behind", p + 8192);
    char *moved = mremap(p + 4096, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, p + 3 * 4096);
    call("moved", moved);
    call("moved from", p + 4096);
    mmap(moved, 4096, PROT_READ | PROT_WRITE, anonymous | MAP_FIXED, -1, 0);
    put(moved);
    call("mapped over", moved);
    munmap(moved, 4096);
    call("unmapped", moved);
    int id = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0700);
    char *shared = shmat(id, NULL, 0), *executable = shmat(id, NULL, SHM_EXEC);
    put(shared);
    call("shared", shared);
    call("shared, executable", executable);
    shmctl(id, IPC_RMID, NULL);
    // Another segment at the same place, with other code.
    for (int n = 0; n < 300; n++) ((int (*)(void))executable)();
    id = shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0700);
    unsigned *other = shmat(id, NULL, 0);
    put(other);
    shmdt(executable);
    call("detached", executable);
    other[0] = eight;
    __builtin___clear_cache((char *)other, (char *)(other + 1));
    call("attached instead", shmat(id, executable, SHM_EXEC));
    shmctl(id, IPC_RMID, NULL);
    unsigned on_stack[2];
    put(on_stack);
    call("stack", on_stack);
    static unsigned in_data[2];
    put(in_data);
    call("bss", in_data);
    static unsigned initialised[] = {0x528000e0, 0xd65f03c0};
    call("data of the program", initialised);
    char *heap = sbrk(4096);
    put(heap);
    call("heap", heap);
    call("null", NULL);
    return 0;
}
