// A byte, 16 or 32 bits are masked between a comparison and the instructions that use its flags, often enough
// that the code is translated.
#include <stdio.h>
static const unsigned long values[] = {0, 0xff, 0x1ff, 0xffff, 0x12345678, 0x123456789abcdef0, ~0ul, 1ul << 63};
#define MASK(and)                                                                                              \
    do {                                                                                                       \
        unsigned long masked, flags;                                                                           \
        __asm__ volatile("cmp %2, %3\n" and "\ncset %1, gt\ncinc %1, %1, cs\ncinc %1, %1, eq\ncinc %1, %1, vs" \
                         : "=&r"(masked), "=&r"(flags)                                                         \
                         : "r"(values[n & 7]), "r"(values[n >> 3 & 7])                                         \
                         : "cc");                                                                              \
        sum = sum * 31 + masked * 5 + flags;                                                                   \
        if (n >= 640 - 64) printf("%lx %lu\n", masked, flags);                                                 \
    } while (0)
int main(void) {
    unsigned long sum = 0;
    for (int n = 0; n < 640; n++) {
        MASK("and %w0, %w2, #0xff");
        MASK("and %0, %2, #0xff");
        MASK("and %w0, %w2, #0xffff");
        MASK("and %0, %2, #0xffff");
        MASK("and %0, %2, #0xffffffff");
        MASK("ubfx %0, %2, #4, #8");
        MASK("ubfx %0, %2, #4, #16");
    }
    printf("%lx\n", sum);
    return 0;
}
