// memcpy, memset, memcmp, strlen, strchr and strcmp of the C library, short and long.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char a[8192], b[8192];

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 1;
    // Through pointers that the compiler does not know.
    void *(*volatile copy)(void *, const void *, size_t) = memcpy;
    void *(*volatile set)(void *, int, size_t) = memset;
    int (*volatile compare)(const void *, const void *, size_t) = memcmp;
    size_t (*volatile length)(const char *) = strlen;
    char *(*volatile find)(const char *, int) = strchr;
    int (*volatile order)(const char *, const char *) = strcmp;
    unsigned long sum = 0;
    for (int round = 0; round < rounds; round++)
        for (int size = 1; size < 8000; size += size / 3 + 1) {
            set(a, 'a' + round % 20, size);
            a[size] = 0;
            copy(b + size % 7, a, size + 1);
            sum += length(b + size % 7);
            sum += compare(a, b + size % 7, size) == 0;
            b[size % 7 + size / 2] = '#';
            sum += find(b + size % 7, '#') - b;
            sum += order(a, b + size % 7) > 0;
        }
    printf("%lu\n", sum);
    return 0;
}
