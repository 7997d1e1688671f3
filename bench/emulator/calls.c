// Calls and returns: a recursive function, and calls by pointers.
#include <stdio.h>
#include <stdlib.h>

__attribute__((noinline, noclone, optimize("no-optimize-sibling-calls,no-inline")))
static unsigned fibonacci(unsigned n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }

static unsigned half(unsigned n) { return n / 2; }
static unsigned thrice(unsigned n) { return 3 * n + 1; }

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 1;
    unsigned (*volatile step[2])(unsigned) = { half, thrice };
    unsigned long sum = 0;
    for (int round = 0; round < rounds; round++) {
        sum += fibonacci(20);
        for (unsigned n = 27 + round; n != 1; sum++)
            n = step[n & 1](n);
    }
    printf("%lu\n", sum);
    return 0;
}
