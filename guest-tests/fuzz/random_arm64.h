// What random_code.c needs to know of arm64.
enum { BREAKPOINT = 0xd4200000 }; // BRK
#define HANDLER on
void on(int signal, siginfo_t *info, void *context);
static const char *const others[OTHERS] = { "flags", "fpsr" };
static uint32_t start_fpcr;

// Registers for loads and stores, whose values are mostly addresses of data.
static const uint8_t bases[] = { 1, 2, 3, 9, 10, 19, 20, 31 };

static void begin_vectors(void) { }
static void begin_code(void) { }

static uint32_t word(int at)
{
    const uint32_t *row = rows[next() % (sizeof rows / sizeof *rows)];
    uint32_t word = row[1] | (uint32_t)next() & ~row[0];
    // Loads and stores.
    if ((word >> 25 & 5) == 4 && (row[0] >> 5 & 31) == 0 && next() % 8)
        word = word & ~(31 << 5) | bases[next() % 8] << 5;
    // Branches stay in the code.
    if (word >> 25 == 0x6b)
        word = word & ~(31 << 5) | (15 + next() % 3) << 5;
    int32_t offset = next() % length - at;
    if ((word & 0x7c000000) == 0x14000000)
        word = word & 0xfc000000 | offset & 0x3ffffff;
    else if ((word & 0xff000000) == 0x54000000 || (word & 0x7e000000) == 0x34000000)
        word = word & 0xff00001f | (offset & 0x7ffff) << 5;
    else if ((word & 0x7e000000) == 0x36000000)
        word = word & 0xfff8001f | (offset & 0x3fff) << 5;
    return word;
}

static void begin_registers(void)
{
    for (int n = 0; n < 31; n++)
        start.x[n] = value();
    for (int n = 0; n < 8; n++)
        start.x[bases[n]] = (uint64_t)data + 2048 + next() % 256 * 16;
    for (int n = 15; n < 18; n++)
        start.x[n] = (uint64_t)(code + next() % length);
    // Registers that hold offsets.
    for (int n = 4; n < 8; n++)
        start.x[n] = next() % 512;
    start.other[0] = next() & 0xf0000000;
    for (int n = 0; n < 32; n++)
        start.v[n] = vector();
    // FPCR is mostly 0, as in ordinary programs, else FZ or any rounding mode.
    start_fpcr = next() % 4 ? 0 : next() % 2 ? 1 << 24 : next() & 0x07c00000;
}

static uint64_t counter(const ucontext_t *u) { return u->uc_mcontext.pc; }

static void enter(ucontext_t *u)
{
    struct fpsimd_context *f = (struct fpsimd_context *)u->uc_mcontext.__reserved;
    memcpy(u->uc_mcontext.regs, start.x, sizeof u->uc_mcontext.regs);
    u->uc_mcontext.sp = start.x[31];
    u->uc_mcontext.pc = start.pc;
    u->uc_mcontext.pstate = start.other[0];
    f->fpcr = start_fpcr;
    f->fpsr = 0;
    memcpy(f->vregs, start.v, sizeof start.v);
}

static void leave(ucontext_t *u, int signal)
{
    struct fpsimd_context *f = (struct fpsimd_context *)u->uc_mcontext.__reserved;
    memcpy(now.x, u->uc_mcontext.regs, sizeof u->uc_mcontext.regs);
    now.x[31] = u->uc_mcontext.sp;
    // After a fault, flags that no instruction would have read may be lost.
    now.other[0] = signal == SIGTRAP ? u->uc_mcontext.pstate & 0xf0000000 : 0;
    // UFC is known to differ, and with FZ so are other flags.
    now.other[1] = start_fpcr & 1 << 24 ? 0 : f->fpsr & ~8;
    memcpy(now.v, f->vregs, sizeof now.v);
}
