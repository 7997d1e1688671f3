// Divisions of all widths, which are functions of the compiler's library where the CPU has no instruction for them:
// 32-bit Arm's run as code of the host once they are hot.
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t seed = 1;
static uint64_t next(void) {
    seed += 0x9e3779b97f4a7c15;
    uint64_t z = (seed ^ seed >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}
// Numbers of all lengths, and those next to the ends of the ranges.
static uint64_t number(void) {
    static const uint64_t ends[] = {0, 1, 2, 0x7fffffff, 0x80000000, 0xffffffff, INT64_MAX, (uint64_t)INT64_MIN, -1};
    uint64_t n = next();
    if (n % 8 == 0) return ends[n / 8 % 9] + (n >> 32) % 3 - 1;
    return next() >> n % 64;
}

static int failures;
static void check(int holds, const char *what, uint64_t n, uint64_t by) {
    if (!holds && failures++ < 20) printf("%s of %llx by %llx\n", what, (unsigned long long)n, (unsigned long long)by);
}

static sigjmp_buf back;
static volatile int raised;
static void at_zero(int number) {
    raised = number;
    siglongjmp(back, 1);
}

int main(void) {
    uint64_t sum = 0;
    for (int round = 0; round < 100000; round++) {
        volatile uint64_t n = number(), by = number();
        uint32_t small = n, small_by = by;
        if (small_by != 0) {
            uint32_t q = small / small_by, r = small % small_by;
            check(r < small_by && q * small_by + r == small, "unsigned, 32 bits", small, small_by);
            sum = sum * 31 + q + r;
        }
        // The quotient of the least number and -1 has no place.
        if (small_by != 0 && !(small == 0x80000000 && small_by == UINT32_MAX)) {
            int32_t m = small, d = small_by, q = m / d, r = m % d;
            check((int64_t)q * d + r == m && (r == 0 || (r < 0) == (m < 0)), "signed, 32 bits", small, small_by);
            sum = sum * 31 + (uint32_t)q + (uint32_t)r;
        }
        if (by != 0) {
            uint64_t q = n / by, r = n % by;
            check(r < by && q * by + r == n, "unsigned, 64 bits", n, by);
            sum = sum * 31 + q + r;
        }
        if (by != 0 && !(n == (uint64_t)INT64_MIN && by == UINT64_MAX)) {
            int64_t m = n, d = by, q = m / d, r = m % d;
            check((uint64_t)q * by + (uint64_t)r == n && (r == 0 || (r < 0) == (m < 0)), "signed, 64 bits", n, by);
            sum = sum * 31 + (uint64_t)q + (uint64_t)r;
        }
    }
    printf("%016llx, %d failures\n", (unsigned long long)sum, failures);
#ifdef __arm__
    // The compiler's library raises SIGFPE.
    signal(SIGFPE, at_zero);
    volatile uint32_t zero = 0, one = 1;
    volatile uint64_t long_zero = 0;
    volatile uint64_t result = 0;
    if (!sigsetjmp(back, 1)) result = one / zero;
    printf("%s\n", strsignal(raised));
    raised = 0;
    if (!sigsetjmp(back, 1)) result = result / long_zero;
    printf("%s\n", strsignal(raised));
#endif
    return failures != 0;
}
