// SHA-256 (FIPS 180-4) in plain C.
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint32_t k[64];

// The first 32 bits of the fractional parts of roots of primes: a double holds them with 15 bits to spare.
static uint32_t root(int prime, int cube)
{
    return (uint32_t)(uint64_t)((cube ? cbrt(prime) : sqrt(prime)) * 4294967296.0);
}

static uint32_t rotate(uint32_t value, int by) { return value >> by | value << (32 - by); }

static void block(uint32_t *h, const uint8_t *bytes)
{
    uint32_t w[64], s[8];
    for (int n = 0; n < 16; n++)
        w[n] = (uint32_t)bytes[4 * n] << 24 | bytes[4 * n + 1] << 16 | bytes[4 * n + 2] << 8 | bytes[4 * n + 3];
    for (int n = 16; n < 64; n++)
        w[n] = w[n - 16] + w[n - 7] + (rotate(w[n - 15], 7) ^ rotate(w[n - 15], 18) ^ w[n - 15] >> 3)
            + (rotate(w[n - 2], 17) ^ rotate(w[n - 2], 19) ^ w[n - 2] >> 10);
    memcpy(s, h, sizeof s);
    // The eight words change their places instead of being moved.
#define S(n) s[(n - round) & 7]
#define ROUND(n)                                                                                                       \
    {                                                                                                                  \
        enum { round = n };                                                                                            \
        uint32_t one = S(7) + (rotate(S(4), 6) ^ rotate(S(4), 11) ^ rotate(S(4), 25)) + ((S(4) & S(5)) ^ (~S(4) & S(6))) \
            + k[at + round] + w[at + round];                                                                           \
        uint32_t two = (rotate(S(0), 2) ^ rotate(S(0), 13) ^ rotate(S(0), 22))                                         \
            + ((S(0) & S(1)) ^ (S(0) & S(2)) ^ (S(1) & S(2)));                                                         \
        S(3) += one;                                                                                                   \
        S(7) = one + two;                                                                                              \
    }
    for (int at = 0; at < 64; at += 8) {
        ROUND(0) ROUND(1) ROUND(2) ROUND(3) ROUND(4) ROUND(5) ROUND(6) ROUND(7)
    }
    for (int n = 0; n < 8; n++)
        h[n] += s[n];
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 1;
    uint32_t h[8];
    int primes = 0;
    for (int candidate = 2; primes < 64; candidate++) {
        int prime = 1;
        for (int d = 2; d * d <= candidate; d++)
            prime &= candidate % d != 0;
        if (!prime)
            continue;
        if (primes < 8)
            h[primes] = root(candidate, 0);
        k[primes++] = root(candidate, 1);
    }
    static uint8_t data[16384];
    for (unsigned n = 0; n < sizeof data; n++)
        data[n] = n * 7 + (n >> 8);
    for (int round = 0; round < rounds; round++)
        for (unsigned at = 0; at < sizeof data; at += 64)
            block(h, data + at);
    for (int n = 0; n < 8; n++)
        printf("%08x", h[n]);
    printf("\n");
    return 0;
}
