// Makes system calls with random numbers and arguments. Usage: random_calls SEED COUNT
//
// Pointers are good, bad, at the edges of mappings, and above the stack, where the emulator is. Calls that
// would surely end or stop the program are left out.
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

static uint64_t state;
static char *pages;

static uint64_t next(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * 0x2545f4914f6cdd1d;
}

#ifdef __arm__
enum { MMAP = SYS_mmap2 };
// User memory, outside our own program and pages.
static const uint64_t elsewhere = 0x20000000;

static long call(long number, const uint64_t *a)
{
    register long r7 __asm__("r7") = number;
    register uint32_t r0 __asm__("r0") = a[0], r1 __asm__("r1") = a[1], r2 __asm__("r2") = a[2];
    register uint32_t r3 __asm__("r3") = a[3], r4 __asm__("r4") = a[4], r5 __asm__("r5") = a[5];
    __asm__ volatile("svc 0" : "+r"(r0) : "r"(r7), "r"(r1), "r"(r2), "r"(r3), "r"(r4), "r"(r5) : "memory");
    return (int32_t)r0;
}

// An address above the stack, most likely no user memory.
static uint64_t above(void)
{
    uint32_t here = (uint32_t)&here & ~4095;
    return here + (next() % (-here >> 12) << 12) + next() % 8 * 8;
}
#else
enum { MMAP = SYS_mmap };
static const uint64_t elsewhere = 0x100000000;

#ifdef __riscv
#define NUMBER "a7"
#define ARGUMENT "a"
#define TRAP "ecall"
#else
#define NUMBER "x8"
#define ARGUMENT "x"
#define TRAP "svc 0"
#endif

static long call(long number, const uint64_t *a)
{
    register long n __asm__(NUMBER) = number;
    register uint64_t a0 __asm__(ARGUMENT "0") = a[0], a1 __asm__(ARGUMENT "1") = a[1];
    register uint64_t a2 __asm__(ARGUMENT "2") = a[2], a3 __asm__(ARGUMENT "3") = a[3];
    register uint64_t a4 __asm__(ARGUMENT "4") = a[4], a5 __asm__(ARGUMENT "5") = a[5];
    __asm__ volatile(TRAP : "+r"(a0) : "r"(n), "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a5) : "memory");
    return a0;
}

// An address above the stack, most likely one of the emulator.
static uint64_t above(void)
{
    uint64_t here = (uint64_t)&here;
    return (here & ~4095ull) + (next() % 41 << 30) + (next() % 4096 << 12) + next() % 8 * 8;
}
#endif

static const uint64_t edges[] = { 0, 1, 2, 3, 4, 8, 16, 64, 255, 4095, 4096, 4097, 65536, 1 << 20, 0x7fffffff,
    0x80000000, 0xffffffff, 1ull << 32, 1ull << 47, (1ull << 47) - 4096, 1ull << 48, 1ull << 55, 1ull << 63,
    0x7fffffffffffffff, -1ull, -2ull, -8ull, -100ull, -4096ull };

static uint64_t pointer(void);

static uint64_t argument(void)
{
    switch (next() % 10) {
    case 0: return edges[next() % (sizeof edges / sizeof *edges)];
    case 1: return next() % 8 + 3; // Descriptors.
    case 2: return next() % 64;
    case 3: return 1ull << next() % 64;
    case 4: return above();
    case 5: return next() >> next() % 64;
    default: return pointer();
    }
}

// A pointer to memory with words of every kind, or to the end of that memory.
static uint64_t pointer(void)
{
    uint64_t *words = (uint64_t *)pages;
    for (int n = 0; n < 8; n++)
        words[next() % 1024] =
            next() % 3 ? edges[next() % 20] : next() % 2 ? above() : (uintptr_t)pages + next() % 4096;
    switch (next() % 8) {
    case 0: return (uintptr_t)pages + 8192 - next() % 64;
    case 1: return (uintptr_t)pages + 8192;
    case 2: return (uintptr_t)argument;
    case 3:
        strcpy(pages, next() % 2 ? "/proc/self/maps" : next() % 2 ? "." : "/proc/self/exe");
        return (uintptr_t)pages;
    default: return (uintptr_t)pages + next() % 1000 * 8;
    }
}

static int is_left_out(long number)
{
    static const int list[] = {
        SYS_close, SYS_close_range, SYS_dup3, // standard error must stay
        SYS_exit, SYS_exit_group, SYS_rt_sigreturn,
        SYS_kill, SYS_tkill, SYS_tgkill, SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo, SYS_pidfd_send_signal,
        SYS_clone, SYS_clone3, // fuzzed with arguments of their own below
        SYS_reboot, SYS_rt_sigsuspend,
        SYS_munmap, SYS_mprotect, SYS_mremap, MMAP, // below
#ifdef __arm__
        SYS_dup2, SYS_fork, SYS_vfork, SYS_pause, SYS_sigreturn, SYS_sigsuspend,
#endif
    };
    for (unsigned n = 0; n < sizeof list / sizeof *list; n++)
        if (list[n] == number)
            return 1;
    return 0;
}

static void on_alarm(int signal) { }

// Changes arguments so that the alarm interrupts the call.
static void let_it_end(long number, uint64_t *a)
{
    switch (number) {
    case SYS_ppoll: a[3] = 0; break; // The mask of signals.
    case SYS_pselect6: a[5] = 0; break;
    case SYS_epoll_pwait: a[4] = 0; break;
#ifdef SYS_epoll_pwait2
    case SYS_epoll_pwait2: a[4] = 0; break;
#endif
    case SYS_ptrace: a[0] += a[0] == 0; // Nobody looks after us, so PTRACE_TRACEME would stop us at the next signal.
    }
}

static void memory_call(void)
{
    static const long numbers[] = { SYS_munmap, SYS_mprotect, SYS_mremap, MMAP, SYS_madvise, SYS_msync,
        SYS_mlock, 462, SYS_shmat, SYS_mincore, SYS_mbind };
    long number = numbers[next() % 11];
    uint64_t a[6];
    for (int n = 0; n < 6; n++)
        a[n] = next() % 3 ? next() % 64 : argument();
    // Addresses outside our own program and pages: unused ones, and the emulator's.
    a[0] = next() % 2 ? above() & ~4095ull
        : next() % 2  ? edges[next() % 29]
                      : elsewhere + (next() % 256 << 12);
    // A length of at most 64 KiB, or of far more than there is.
    a[1] = next() % 4 ? next() % 65536 : 1ull << (36 + next() % 28);
    if (number == MMAP && !(a[3] & 32))
        a[4] = -1;
    call(number, a);
}

static void process_call(void)
{
    // Without a new stack the child must have memory of its own.
    uint64_t a[6] = { 17, 0, argument(), argument(), argument(), 0 };
    a[0] |= next() % 2 ? 0x00100000 : 0;
    a[0] |= next() % 2 ? 0x01000000 : 0;
    a[0] |= next() % 4 ? 0 : 1ull << (11 + next() % 21);
    a[0] &= ~0x100ull;
    if (call(SYS_clone, a) == 0)
        _exit(0);
    // clone3: a struct clone_args without CLONE_VM, the rest at random.
    uint64_t *words = (uint64_t *)pages + 512;
    for (int n = 0; n < 11; n++)
        words[n] = next() % 2 ? 0 : argument();
    words[0] &= ~0x1ffull;
    words[4] = next() % 4 ? 17 : words[4];
    uint64_t b[6] = { (uintptr_t)words, next() % 2 ? 88 : next() % 128, 0, 0, 0, 0 };
    words[5] = words[6] = 0;
    if (call(SYS_clone3, b) == 0)
        _exit(0);
}

int main(int argc, char **argv)
{
    long count = atol(argv[2]);
    state = strtoull(argv[1], NULL, 0) * 0x9e3779b97f4a7c15 + 1;
    pages = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    munmap(pages + 8192, 4096);
    // In memory that no call can write.
    static const struct sigaction action = { .sa_handler = on_alarm };
    static const sigset_t none;
    static const struct itimerval often = { { 0, 5000 }, { 0, 5000 } };
    signal(SIGXFSZ, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    struct rlimit small = { 1 << 20, 1 << 20 };
    setrlimit(RLIMIT_FSIZE, &small);
    for (long n = 0; n < count; n++) {
        sigaction(SIGALRM, &action, NULL);
        sigprocmask(SIG_SETMASK, &none, NULL);
        setitimer(ITIMER_REAL, &often, NULL);
        if (next() % 8 == 0) {
            memory_call();
            continue;
        }
        if (next() % 32 == 0) {
            process_call();
            continue;
        }
        long number = next() % 8 ? next() % 463 : next() % 2 ? next() % 1024 : (long)next();
#ifdef __arm__
        if (next() % 64 == 0)
            number = 0xf0000 + next() % 8;
#endif
        uint64_t a[6];
        for (int i = 0; i < 6; i++)
            a[i] = argument();
        let_it_end(number, a);
        if (!is_left_out(number))
            call(number, a);
    }
    return 0;
}
