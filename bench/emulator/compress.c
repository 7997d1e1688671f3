// Compression by references to earlier text (LZ77), and back.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SIZE = 1 << 18, HASHES = 1 << 14 };

static uint8_t text[SIZE], packed[2 * SIZE], unpacked[SIZE];
static int32_t last[HASHES], previous[SIZE];

static unsigned hash(const uint8_t *at) { return (at[0] | at[1] << 8 | at[2] << 16) * 2654435761u >> 18; }

static int compress(void)
{
    int out = 0, at = 0;
    memset(last, 0xff, sizeof last);
    while (at < SIZE) {
        int best = 0, from = 0;
        if (at + 3 < SIZE) {
            int tries = 16;
            for (int candidate = last[hash(text + at)]; candidate >= 0 && tries-- && at - candidate < 32768;
                 candidate = previous[candidate]) {
                int length = 0;
                while (length < 255 && at + length < SIZE && text[candidate + length] == text[at + length])
                    length++;
                if (length > best)
                    best = length, from = candidate;
            }
        }
        int step = 1;
        if (best >= 4) {
            packed[out++] = 0;
            packed[out++] = best;
            packed[out++] = (at - from) & 0xff;
            packed[out++] = (at - from) >> 8;
            step = best;
        } else {
            packed[out++] = text[at] ? text[at] : 1;
        }
        for (; step > 0; step--, at++)
            if (at + 3 < SIZE) {
                previous[at] = last[hash(text + at)];
                last[hash(text + at)] = at;
            }
    }
    return out;
}

static void expand(int length)
{
    int out = 0;
    for (int at = 0; at < length;) {
        if (packed[at]) {
            unpacked[out++] = packed[at++];
            continue;
        }
        int back = packed[at + 2] | packed[at + 3] << 8;
        for (int n = packed[at + 1]; n > 0; n--, out++)
            unpacked[out] = unpacked[out - back];
        at += 4;
    }
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 1;
    unsigned seed = 1, sum = 0;
    for (int round = 0; round < rounds; round++) {
        for (int n = 0; n < SIZE; n++) {
            seed = seed * 1103515245 + 12345;
            // Words that come back.
            text[n] = n > 2000 && (seed >> 16) % 8 ? text[n - 1000 - (round + n / 64) % 900] : 'a' + (seed >> 20) % 26;
        }
        int length = compress();
        expand(length);
        if (memcmp(text, unpacked, SIZE)) {
            printf("not what was packed\n");
            return 1;
        }
        sum = sum * 31 + length;
    }
    printf("%u\n", sum);
    return 0;
}
