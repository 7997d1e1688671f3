// What random_code.c needs to know of riscv64.
enum { BREAKPOINT = 0x00100073 }; // EBREAK
#define HANDLER entry
static const char *const others[OTHERS] = { "fcsr", "vl", "vtype", "vstart" };
static uint64_t start_vcsr;
// Half of the pieces have no vectors, which have most of the encodings.
static int has_vectors;
// The thread pointer, which the code changes like any register.
uint64_t thread;

// Where signals arrive: gives gp, tp and the rounding mode the values that C code expects.
void entry(int signal, siginfo_t *info, void *context);
__asm__(".text\n .global entry\n entry:\n .option push\n .option norelax\n la gp, __global_pointer$\n"
        " lla t0, thread\n ld tp, (t0)\n csrw fcsr, zero\n .option pop\n tail on");

void on(int signal, siginfo_t *info, void *context);

// Registers for loads and stores, whose values are mostly addresses of data; those that 16 bits can name first.
static const uint8_t bases[] = { 8, 9, 10, 11, 2, 20, 21, 22 };

static void begin_vectors(void)
{
    __asm__ volatile("mv %0, tp" : "=r"(thread));
    // Frames have vectors once the program has used them.
    __asm__ volatile(".option push\n .option arch, +v\n vsetivli zero, 1, e8, m1, ta, ma\n .option pop");
}

static void begin_code(void) { has_vectors = next() % 2; }

static int is_vector(uint32_t word)
{
    uint32_t opcode = word & 127, width = word >> 12 & 7;
    return opcode == 0x57 || opcode == 0x77 || (opcode == 0x07 || opcode == 0x27) && (width == 0 || width > 4);
}

// An instruction of 16 bits, mostly no branch, whose target would be anywhere.
static uint32_t half(void)
{
    for (;;) {
        uint32_t half = next() & 0xffff;
        int is_branch = (half & 3) == 1 && (half >> 13 == 5 || half >> 13 > 5);
        if ((half & 3) != 3 && (!is_branch || next() % 8 == 0))
            return half;
    }
}

static uint32_t word(int at)
{
    if (next() % 4 == 0)
        return half() | half() << 16;
    const uint32_t *row;
    do
        row = rows[next() % (sizeof rows / sizeof *rows)];
    while (!has_vectors && is_vector(row[1]));
    uint32_t word = row[1] | (uint32_t)next() & ~row[0], opcode = word & 127;
    // Loads, stores, atomic instructions and those of cache blocks.
    if ((opcode == 0x03 || opcode == 0x07 || opcode == 0x23 || opcode == 0x27 || opcode == 0x2f || opcode == 0x0f) && next() % 8)
        word = word & ~(31 << 15) | bases[next() % 8] << 15;
    // Branches stay in the code.
    uint32_t offset = ((int)(next() % length) - at) * 4;
    if (opcode == 0x63)
        word = word & 0x01fff07f | (offset >> 12 & 1) << 31 | (offset >> 5 & 63) << 25 | (offset >> 1 & 15) << 8 | (offset >> 11 & 1) << 7;
    else if (opcode == 0x6f)
        word = word & 0xfff | (offset >> 20 & 1) << 31 | (offset >> 1 & 1023) << 21 | (offset >> 11 & 1) << 20 | (offset >> 12 & 255) << 12;
    else if (opcode == 0x67)
        word = word & 0x7fff | (15 + next() % 3) << 15 | next() % 2 << 22;
    // Registers of control that programs have, but not the clocks.
    static const uint16_t controls[] = { 0x001, 0x002, 0x003, 0x008, 0x009, 0x00a, 0x00f, 0xc20, 0xc21, 0xc22, 0x7c0 };
    if (opcode == 0x73 && word >> 12 & 3)
        word = word & 0xfffff | controls[next() % 11] << 20;
    return word;
}

// A configuration of vectors: all sizes of elements and groups that exist.
static uint64_t configuration(void)
{
    int size = next() % 4, group = (int)(next() % 7) - 3;
    if (group < size - 3)
        group = size - 3;
    return (next() & 0xc0) | size << 3 | group & 7;
}

static void begin_registers(void)
{
    for (int n = 1; n < 32; n++)
        start.x[n] = value();
    for (int n = 0; n < 8; n++)
        start.x[bases[n]] = (uint64_t)data + 2048 + next() % 256 * 16;
    for (int n = 15; n < 18; n++)
        start.x[n] = (uint64_t)(code + next() % length);
    // Registers that hold offsets and lengths.
    for (int n = 12; n < 15; n++)
        start.x[n] = next() % (next() % 2 ? 512 : 20);
    for (int n = 0; n < 32; n++) {
        start.v[n] = vector();
        start.f[n] = vector();
        if (next() % 2)
            start.f[n] |= 0xffffffff00000000;
    }
    // The rounding mode is mostly to nearest.
    start.other[0] = (next() % 4 ? 0 : next() % 32) | (next() % 4 ? 0 : next() % 8 << 5);
    start.other[2] = configuration();
    int size = start.other[2] >> 3 & 7, group = start.other[2] & 7;
    uint64_t most = group < 4 ? 16u >> size << group : 16u >> size >> (8 - group);
    start.other[1] = next() % 4 ? most : next() % (most + 1);
    start.other[3] = next() % 8 ? 0 : next() % (most + 1);
    start_vcsr = next() % 8;
}

static uint64_t counter(const ucontext_t *u) { return u->uc_mcontext.__gregs[REG_PC]; }

// The record of vectors behind the floating-point registers: vstart, vl, vtype, vcsr, vlenb, and where the
// registers are (Linux, arch/riscv/include/uapi/asm/ptrace.h).
static uint64_t *vectors(ucontext_t *u) { return (uint64_t *)((uint32_t *)&u->uc_mcontext.__fpregs + 132); }

static void enter(ucontext_t *u)
{
    memcpy(u->uc_mcontext.__gregs, start.x, sizeof start.x);
    u->uc_mcontext.__gregs[REG_PC] = start.pc;
    memcpy(u->uc_mcontext.__fpregs.__d.__f, start.f, sizeof start.f);
    u->uc_mcontext.__fpregs.__d.__fcsr = start.other[0];
    uint64_t *record = vectors(u);
    record[0] = start.other[3], record[1] = start.other[1], record[2] = start.other[2], record[3] = start_vcsr;
    memcpy((void *)record[5], start.v, sizeof start.v);
}

static void leave(ucontext_t *u, int signal)
{
    memcpy(now.x + 1, u->uc_mcontext.__gregs + 1, sizeof now.x - 8);
    memcpy(now.f, u->uc_mcontext.__fpregs.__d.__f, sizeof now.f);
    const uint64_t *record = vectors(u);
    now.other[0] = u->uc_mcontext.__fpregs.__d.__fcsr;
    now.other[3] = record[0], now.other[1] = record[1], now.other[2] = record[2];
    memcpy(now.v, (void *)record[5], sizeof now.v);
}
