// oracle: file
// A load or store whose base is SP needs SP to be a multiple of 16: else SIGBUS with BUS_ADRALN and SP as its
// address. An unaligned SP alone does no harm. Cold and hot code.
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

// A function of x0: SP = a frame + x0, then the code, whose access is at `name_at`. x10 is SP before the code,
// x1 is 4.
#define PROBE(name, code)                                                                                          \
    extern char name##_at[];                                                                                       \
    unsigned long name(unsigned long);                                                                             \
    asm(".global " #name ", " #name "_at\n" #name ": mov x9, sp\n sub x10, x9, #256\n add x10, x10, x0\n"           \
        " mov x1, #4\n mov x2, #0\n mov sp, x10\n" code "\n mov sp, x9\n mov x0, x2\n ret\n");
#define ACCESS(name, code) PROBE(name, #name "_at: " code)

ACCESS(load, "ldr x3, [sp, #8]")
ACCESS(load_byte, "ldrb w3, [sp, #3]")
ACCESS(load_unscaled, "ldur x3, [sp, #-3]")
ACCESS(load_register, "ldr x3, [sp, x1]")
ACCESS(load_user, "ldtr x3, [sp]")
ACCESS(load_pre, "ldr x3, [sp, #16]!")
ACCESS(load_post, "ldr x3, [sp], #16")
ACCESS(load_pair, "ldp x3, x4, [sp]")
ACCESS(load_pair_post, "ldp x3, x4, [sp], #32")
ACCESS(load_words, "ldpsw x3, x4, [sp]")
ACCESS(store, "str x1, [sp]")
ACCESS(store_pre, "str x1, [sp, #-16]!")
ACCESS(store_pair, "stp x3, x4, [sp, #16]")
ACCESS(store_pair_pre, "stp x3, x4, [sp, #-16]!")
ACCESS(store_zero, "str xzr, [sp]")
ACCESS(vector, "ldr q0, [sp]")
ACCESS(vector_byte, "ldr b0, [sp]")
ACCESS(vector_store, "stur d0, [sp, #1]")
ACCESS(vector_pair, "stp q0, q1, [sp, #-32]!")
ACCESS(structures, "ld1 {v0.16b, v1.16b}, [sp]")
ACCESS(structures_post, "st2 {v0.4s, v1.4s}, [sp], #32")
ACCESS(lane, "ld1 {v0.b}[3], [sp]")
ACCESS(replicated, "ld1r {v0.2d}, [sp]")
ACCESS(exclusive, "ldxr x3, [sp]")
ACCESS(exclusive_byte, "ldaxrb w3, [sp]")
ACCESS(exclusive_store, "stxr w3, x4, [sp]")
ACCESS(exclusive_pair, "ldxp x3, x4, [sp]")
ACCESS(acquire, "ldar x3, [sp]")
ACCESS(release, "stlrb w3, [sp]")
asm(".arch armv8.2-a+lse+rcpc");
ACCESS(acquire_weak, "ldapr x3, [sp]")
ACCESS(atomic_add, "ldadd x1, x3, [sp]")
ACCESS(atomic_maximum, "ldumaxb w1, w3, [sp]")
ACCESS(swap, "swpal x1, x3, [sp]")
ACCESS(compare_swap, "cas x1, x3, [sp]")
ACCESS(compare_swap_pair, "casp x4, x5, x6, x7, [sp]")
// Instructions that do not check SP.
ACCESS(prefetch, "prfm pldl1keep, [sp, #8]")
ACCESS(prefetch_unscaled, "prfum pstl1keep, [sp, #-3]")
ACCESS(prefetch_register, "prfm pldl1keep, [sp, x1]")
ACCESS(nothing, "mov x3, sp\n add x3, sp, #1\n ldr x3, [x9]")
ACCESS(system_call, "mov x8, #172\n svc #0\n cmp sp, x10\n cset x2, eq")
ACCESS(flags, "cmp x1, #4\n mov sp, x10\n cset x2, eq\n cmp x1, #5\n sub sp, sp, #0\n cinc x2, x2, lo")
// Instructions that move SP from an aligned address to another, and the access after them.
#define MOVE(name, code) PROBE(name, "and sp, x10, #~15\n" code "\n" #name "_at: ldr x3, [sp]")
MOVE(by_immediate, "sub sp, sp, #8")
MOVE(by_register, "sub sp, sp, x1")
MOVE(by_shifted, "mov x1, #1\n add sp, sp, x1, lsl #3")
MOVE(by_and, "orr x10, x10, #8\n and sp, x10, #~7")
MOVE(by_or, "orr sp, x10, #4")
MOVE(by_load, "ldr x3, [sp], #8")
MOVE(by_store, "str x3, [sp, #-8]!")
MOVE(by_pair, "ldp w3, w4, [sp], #8")
MOVE(by_structure, "ld1 {v0.8b}, [sp], #8")
MOVE(by_structure_register, "ld1 {v0.16b}, [sp], x1")
// In a loop that uses many registers: from its third round on SP is not aligned, and the fourth accesses.
PROBE(loop, "mov x3, #0\n and x10, x10, #~15\n 1: add x11, x11, x12\n add x13, x13, x14\n add x15, x15, x16\n"
            " eor x11, x11, x13\n eor x12, x12, x15\n add x14, x14, x11\n add x16, x16, x12\n cmp x3, #2\n"
            " csel x17, x1, xzr, ge\n lsl x17, x17, x0\n cmp x3, #2\n add x2, x2, x11\n sub sp, x10, x17\n"
            " add x3, x3, #1\n b.le 2f\nloop_at: ldr x5, [sp]\n 2: cmp x3, #4\n b.lt 1b")

static volatile unsigned long faults, address, pc, code, stack, fault_address, syndrome, moved;
static void on_bus(int s, siginfo_t *i, void *p) {
    ucontext_t *u = p;
    (void)s;
    faults++;
    address = (unsigned long)i->si_addr;
    code = i->si_code;
    pc = u->uc_mcontext.pc;
    stack = u->uc_mcontext.sp;
    fault_address = u->uc_mcontext.fault_address;
    // The record of the syndrome follows that of the vector registers.
    unsigned *record = (unsigned *)((char *)u->uc_mcontext.__reserved + 528);
    syndrome = record[0] == 0x45535201 ? *(unsigned long *)(record + 2) : 0;
    // The access is made once more.
    u->uc_mcontext.sp &= ~15ul;
}
static void on_usr1(int s, siginfo_t *i, void *p) {
    (void)s, (void)i;
    moved += ((ucontext_t *)p)->uc_mcontext.sp % 16 == 8 && (unsigned long)__builtin_frame_address(0) % 16 == 0;
}

// Number of calls that fault as they must or, without `must`, do not fault.
static int right(unsigned long (*probe)(unsigned long), char *at, unsigned long by, int must, int calls) {
    int good = 0;
    for (int n = 0; n < calls; n++) {
        faults = 0;
        probe(by);
        int as_told = faults == 1 && code == BUS_ADRALN && address == stack && stack % 16 != 0 &&
                      pc == (unsigned long)at && fault_address == 0 && syndrome == 0x9a000000;
        good += must ? as_told : faults == 0;
    }
    return good;
}
// First cold, then hot, both aligned and not.
static void check(const char *name, unsigned long (*probe)(unsigned long), char *at, int aligned, int unaligned) {
    printf("%s:", name);
    for (int round = 0; round < 2; round++)
        printf(" %d %d %d %d", right(probe, at, 8, unaligned, 1), right(probe, at, 0, aligned, 100),
               right(probe, at, 1, unaligned, 20), right(probe, at, 0, aligned, 3));
    printf("\n");
}
#define FAULTS(name) check(#name, name, name##_at, 0, 1);
#define PASSES(name) check(#name, name, name##_at, 0, 0);
#define ALWAYS(name) check(#name, name, name##_at, 1, 1);

PROBE(kill_self, "kill_self_at: mov x8, #131\n mov x5, x0\n mov x0, x11\n mov x1, x11\n mov x2, #10\n svc #0\n"
                 " mov x2, sp\n sub x2, x2, x10")

int main(void) {
    struct sigaction a;
    memset(&a, 0, sizeof a);
    a.sa_flags = SA_SIGINFO;
    a.sa_sigaction = on_bus;
    sigaction(SIGBUS, &a, NULL);
    a.sa_sigaction = on_usr1;
    sigaction(SIGUSR1, &a, NULL);
    FAULTS(load) FAULTS(load_byte) FAULTS(load_unscaled) FAULTS(load_register) FAULTS(load_user)
    FAULTS(load_pre) FAULTS(load_post) FAULTS(load_pair) FAULTS(load_pair_post) FAULTS(load_words)
    FAULTS(store) FAULTS(store_pre) FAULTS(store_pair) FAULTS(store_pair_pre) FAULTS(store_zero)
    FAULTS(vector) FAULTS(vector_byte) FAULTS(vector_store) FAULTS(vector_pair) FAULTS(structures)
    FAULTS(structures_post) FAULTS(lane) FAULTS(replicated) FAULTS(exclusive) FAULTS(exclusive_byte)
    FAULTS(exclusive_store) FAULTS(exclusive_pair) FAULTS(acquire) FAULTS(release) FAULTS(acquire_weak)
    FAULTS(atomic_add) FAULTS(atomic_maximum) FAULTS(swap) FAULTS(compare_swap) FAULTS(compare_swap_pair)
    PASSES(prefetch) PASSES(prefetch_unscaled) PASSES(prefetch_register) PASSES(nothing)
    PASSES(system_call) PASSES(flags)
    ALWAYS(by_immediate) ALWAYS(by_register) ALWAYS(by_shifted) ALWAYS(by_and) ALWAYS(by_or) ALWAYS(by_load)
    ALWAYS(by_store) ALWAYS(by_pair) ALWAYS(by_structure) ALWAYS(by_structure_register)
    for (int n = 0; n < 300; n++)
        if (flags(0) != 2 || flags(8) != 2 || flags(3) != 2 || system_call(8) != 1) {
            printf("flags or SP are lost in round %d\n", n);
            break;
        }
    // SP is a multiple of 16 if 4 is shifted by 2 or more.
    int good = 0;
    for (unsigned long n = 0; n < 400; n++)
        good += right(loop, loop_at, n % 8, n % 8 < 2, 1);
    printf("loop: %d\n", good);
    good = 0;
    for (int n = 0; n < 200; n++) {
        register long self asm("x11") = syscall(SYS_gettid);
        asm volatile("" : "+r"(self));
        good += kill_self(8) == 0;
    }
    printf("signals: %d, SP is kept: %d\n", (int)moved, good);
    return 0;
}
