// Loops for compilers that make vectors of them, and for guests whose vectors are an extension: the name of a loop, and
// how often it runs. Floats are small integers, so every order of sums is exact. strlen and memcpy are written with
// vectors that ask for as many elements as there are, as C libraries do (RISC-V); on the host they are the C library's.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef __riscv_vector
#include <riscv_vector.h>
#endif

enum { N = 4096, SIDE = 64 };

static float fa[N], fb[N], fc[N];
static double da[N], db[N];
static uint32_t ua[N], ub[N];
static uint8_t ba[16 * N], bb[16 * N];

static void __attribute__((noinline)) saxpy(float *restrict y, const float *restrict x, float factor)
{
    for (int i = 0; i < N; i++)
        y[i] += factor * x[i];
}

static float __attribute__((noinline)) dot(const float *x, const float *y)
{
    float sum = 0;
    for (int i = 0; i < N; i++)
        sum += x[i] * y[i];
    return sum;
}

static void __attribute__((noinline)) daxpy(double *restrict y, const double *restrict x, double factor, double scale)
{
    for (int i = 0; i < N; i++)
        y[i] = (y[i] + factor * x[i]) * scale;
}

static void __attribute__((noinline)) multiply(float *restrict c, const float *restrict a, const float *restrict b)
{
    for (int row = 0; row < SIDE; row++)
        for (int k = 0; k < SIDE; k++)
            for (int column = 0; column < SIDE; column++)
                c[row * SIDE + column] += a[row * SIDE + k] * b[k * SIDE + column];
}

static float __attribute__((noinline)) maximum(const float *x)
{
    float most = x[0];
    for (int i = 1; i < N; i++)
        most = x[i] > most ? x[i] : most;
    return most;
}

static void __attribute__((noinline)) mix(uint32_t *restrict a, const uint32_t *restrict b)
{
    for (int i = 0; i < N; i++) {
        uint32_t x = a[i] * 2654435761u + b[i];
        a[i] = (x << 13 | x >> 19) ^ (x >> 7);
    }
}

static void __attribute__((noinline)) exclusive_or(uint8_t *restrict a, const uint8_t *restrict b)
{
    for (int i = 0; i < N; i++)
        a[i] ^= b[i];
}

static void __attribute__((noinline)) clamp(uint8_t *restrict a, const uint8_t *restrict b)
{
    for (int i = 0; i < N; i++) {
        int sum = a[i] + b[i];
        a[i] = sum > 255 ? 255 : sum;
    }
}

static uint32_t __attribute__((noinline)) differences(const uint8_t *a, const uint8_t *b)
{
    uint32_t sum = 0;
    for (int i = 0; i < N; i++)
        sum += a[i] > b[i] ? a[i] - b[i] : b[i] - a[i];
    return sum;
}

static void __attribute__((noinline)) condition(uint32_t *restrict a, const uint32_t *restrict b)
{
    for (int i = 0; i < N; i++)
        if (b[i] & 1)
            a[i] += b[i] >> 3;
}

static uint32_t __attribute__((noinline)) count(const uint8_t *a, uint8_t wanted)
{
    uint32_t found = 0;
    for (int i = 0; i < N; i++)
        found += a[i] == wanted;
    return found;
}

static size_t __attribute__((noinline)) length(const char *text)
{
#ifdef __riscv_vector
    const uint8_t *at = (const uint8_t *)text;
    for (;;) {
        size_t vl;
        vuint8m8_t bytes = __riscv_vle8ff_v_u8m8(at, &vl, __riscv_vsetvlmax_e8m8());
        long zero = __riscv_vfirst_m_b1(__riscv_vmseq_vx_u8m8_b1(bytes, 0, vl), vl);
        if (zero >= 0)
            return at + zero - (const uint8_t *)text;
        at += vl;
    }
#else
    return strlen(text);
#endif
}

static void __attribute__((noinline)) copy(uint8_t *to, const uint8_t *from, size_t size)
{
#ifdef __riscv_vector
    while (size) {
        size_t vl = __riscv_vsetvl_e8m8(size);
        __riscv_vse8_v_u8m8(to, __riscv_vle8_v_u8m8(from, vl), vl);
        to += vl;
        from += vl;
        size -= vl;
    }
#else
    memcpy(to, from, size);
#endif
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    int rounds = argc > 2 ? atoi(argv[2]) : 1;
    uint64_t sum = 0;
    for (int i = 0; i < N; i++) {
        fa[i] = i % 17, fb[i] = i % 11 - 5, da[i] = i % 13, db[i] = i % 7 - 3;
        ua[i] = i * 40503u, ub[i] = i * 2654435761u ^ i >> 3;
    }
    for (int i = 0; i < 16 * N; i++)
        ba[i] = i * 97 >> 3, bb[i] = i * 31 >> 2 | 1;
    for (int round = 0; round < rounds; round++) {
        if (!strcmp(name, "saxpy")) saxpy(fa, fb, round % 2 ? 3 : -3);
        else if (!strcmp(name, "dot")) sum += (int64_t)dot(fa, fb);
        else if (!strcmp(name, "daxpy")) daxpy(da, db, round % 2 ? 2 : -1, round % 2 ? 0.5 : 2);
        else if (!strcmp(name, "matrices")) memset(fc, 0, sizeof fc), multiply(fc, fa, fb), sum += (int64_t)fc[round % N];
        else if (!strcmp(name, "maximum")) fa[round % N] = round % 100, sum += (int64_t)maximum(fa);
        else if (!strcmp(name, "mix")) mix(ua, ub);
        else if (!strcmp(name, "xor")) exclusive_or(ba, bb + round % 64);
        else if (!strcmp(name, "clamp")) clamp(ba, bb + round % 64);
        else if (!strcmp(name, "differences")) sum += differences(ba, bb + round % 64);
        else if (!strcmp(name, "condition")) condition(ua, ub);
        else if (!strcmp(name, "count")) sum += count(ba, round & 255);
        else if (!strcmp(name, "strlen")) for (int i = 0; i < 100; i++) bb[i + 28] = 0, sum += length((char *)bb + i), bb[i + 28] = 1;
        else if (!strcmp(name, "memcpy")) for (int i = 0; i < 100; i++) copy(ba + i, bb + round % 64, (i + round) % 32);
        else if (!strcmp(name, "copy")) copy(ba, bb, sizeof bb), bb[round % N]++;
        else return 1;
    }
    for (int i = 0; i < N; i++)
        sum = sum * 31 + (int64_t)(fa[i] + fc[i] + 8 * da[i]) + ua[i] + ba[i];
    printf("%016llx\n", (unsigned long long)sum);
    return 0;
}
