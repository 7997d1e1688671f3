// Runs random code many times, so that it is first interpreted and then translated: all runs must end in the
// same way, with the same registers and memory. Usage: random_code SEED COUNT; rows.h has the encodings, and
// random_arm64.h and random_riscv64.h what belongs to a CPU.
//
// Everything happens in signal handlers: each run begins by returning to chosen registers, and ends with a signal.
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>
#include "rows.h"

enum { RUNS = 14, WORDS = 40, DATA = 8192, LONGEST = 4, OTHERS = 4 };
// Far from everything else, so that addresses relative to the code lead nowhere.
static uint32_t *const code = (uint32_t *)0x1000000000;
static uint8_t *const data = (uint8_t *)0x1000100000;

// Registers a CPU does not have are zeros. x has the stack pointer of arm64 behind its 31 registers; f are
// numbers beside the vectors, and other is what the CPU's header names.
struct outcome {
    uint64_t x[32], f[32], other[OTHERS], pc, fault;
    __uint128_t v[32];
    uint32_t signal, alarms;
    uint8_t data[DATA];
};

static uint64_t state;
static struct outcome start, first, now;
static uint32_t length;
static uint64_t current_seed;
static long left, run, different, compared, endless;
static ucontext_t back;
static int inside;

static uint64_t next(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state * 0x2545f4914f6cdd1d;
}

static uint64_t value(void)
{
    static const uint64_t edges[] = { 0, 1, -1ull, 0x7fffffff, 0x80000000, 0xffffffff, 1ull << 63, ~(1ull << 63), 63, 64, 0xff, 0x8000 };
    switch (next() % 8) {
    case 0: return edges[next() % 12];
    case 1: return next() >> next() % 64;
    case 2: return next();
    case 3: return (uint64_t)(code + next() % length);
    case 4: return next() % 256;
    default: return (uint64_t)data + 1024 + (next() % (DATA - 2048) & (next() % 4 ? ~15ull : ~0ull));
    }
}

static double numbers[] = { 0.0, -0.0, 1.0, -1.5, 1e300, -1e-300, 5e-324, 1.0 / 0.0, 0.1, 3.0, 65536.0, 4294967296.5 };

static __uint128_t vector(void)
{
    uint64_t half[2];
    for (int n = 0; n < 2; n++)
        switch (next() % 4) {
        case 0: memcpy(&half[n], &numbers[next() % 12], 8); break;
        case 1: { float f[2] = { numbers[next() % 12], numbers[next() % 12] }; memcpy(&half[n], f, 8); break; }
        case 2: half[n] = next() >> next() % 64; break;
        default: half[n] = next();
        }
    return (__uint128_t)half[1] << 64 | half[0];
}

#ifdef __riscv
#include "random_riscv64.h"
#else
#include "random_arm64.h"
#endif

static void make_code(void)
{
    current_seed = state;
    begin_code();
    length = 3 + next() % (WORDS - 3);
    mprotect(code, 4096, PROT_READ | PROT_WRITE);
    for (int n = 0; n < length; n++)
        code[n] = word(n);
    code[length] = BREAKPOINT;
    mprotect(code, 4096, PROT_READ | PROT_EXEC);
    begin_registers();
    start.pc = (uint64_t)code;
    for (int n = 0; n < DATA; n += 8) {
        uint64_t v = next() % 4 ? next() : value();
        memcpy(start.data + n, &v, 8);
    }
    run = 0;
}

static void report(void)
{
    if (different++ > 3)
        return;
    printf("code of state %#lx, run %ld, signal %d at +%lx, differs:", current_seed, run, now.signal, now.pc - start.pc);
    for (int n = 0; n < 32; n++)
        if (now.x[n] != first.x[n]) printf(" x%d %lx was %lx;", n, now.x[n], first.x[n]);
    for (int n = 0; n < 32; n++)
        if (now.f[n] != first.f[n]) printf(" f%d %lx was %lx;", n, now.f[n], first.f[n]);
    for (int n = 0; n < OTHERS; n++)
        if (now.other[n] != first.other[n]) printf(" %s %lx was %lx;", others[n], now.other[n], first.other[n]);
    if (now.pc != first.pc) printf(" pc +%lx was +%lx;", now.pc - start.pc, first.pc - start.pc);
    if (now.fault != first.fault) printf(" fault %lx was %lx;", now.fault, first.fault);
    if (now.signal != first.signal) printf(" signal %d was %d;", now.signal, first.signal);
    for (int n = 0; n < 32; n++)
        if (now.v[n] != first.v[n])
            printf(" v%d %lx%016lx was %lx%016lx;", n, (uint64_t)(now.v[n] >> 64), (uint64_t)now.v[n], (uint64_t)(first.v[n] >> 64), (uint64_t)first.v[n]);
    for (int n = 0; n < DATA; n++)
        if (now.data[n] != first.data[n]) { printf(" data at %d;", n); break; }
    printf("\n ");
    for (int n = 0; n < length; n++)
        printf(" %08x", code[n]);
    printf("\n");
    fflush(stdout);
}

void on(int signal, siginfo_t *info, void *context)
{
    ucontext_t *u = context;
    if (!inside) {
        back = *u;
        inside = 1;
        make_code();
    } else if (signal == SIGALRM) {
        // An alarm in the middle of a run changes nothing; a run that never ends is given up.
        if (++now.alarms < LONGEST)
            return;
        endless++;
        if (--left <= 0)
            goto end;
        make_code();
    } else {
        leave(u, signal);
        now.pc = counter(u);
        now.signal = signal;
        now.fault = signal == SIGSEGV || signal == SIGBUS ? (uint64_t)info->si_addr : 0;
        memcpy(now.data, data, DATA);
        now.alarms = 0;
        // Code that ran into data is not compared: execute rights are not checked, and writes there are not
        // announced.
        if (now.pc - (uint64_t)data < DATA)
            run = RUNS;
        else if (run == 0)
            first = now;
        else if (memcmp(&now, &first, sizeof now) != 0) {
            report();
            run = RUNS;
        }
        compared++;
        if (++run >= RUNS) {
            if (--left <= 0)
                goto end;
            make_code();
        }
    }
    enter(u);
    memcpy(data, start.data, DATA);
    now.alarms = 0;
    return;
end:
    inside = 0;
    signal = SIGUSR1;
    memcpy(&u->uc_mcontext, &back.uc_mcontext, sizeof back.uc_mcontext);
}

int main(int argc, char **argv)
{
    state = strtoull(argv[1], NULL, 0);
    left = atol(argv[2]);
    mmap(code, 4096, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mmap(data, DATA, PROT_READ | PROT_WRITE, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    stack_t stack = { .ss_sp = malloc(65536), .ss_size = 65536 };
    sigaltstack(&stack, NULL);
    struct sigaction action = { .sa_sigaction = HANDLER, .sa_flags = SA_SIGINFO | SA_ONSTACK };
    sigfillset(&action.sa_mask);
    int signals[] = { SIGUSR1, SIGSEGV, SIGBUS, SIGILL, SIGTRAP, SIGALRM };
    for (int n = 0; n < 6; n++)
        sigaction(signals[n], &action, NULL);
    begin_vectors();
    struct itimerval often = { { 0, 3000 }, { 0, 3000 } }, never = { 0 };
    setitimer(ITIMER_REAL, &often, NULL);
    raise(SIGUSR1);
    setitimer(ITIMER_REAL, &never, NULL);
    printf("%ld runs compared, %ld endless, %ld different\n", compared, endless, different);
    return different != 0;
}
