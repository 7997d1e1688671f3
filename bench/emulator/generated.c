// Code that the program makes itself and calls, again and again: as a just-in-time compiler does.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

// A function that returns n + its argument.
static size_t emit(uint8_t *at, uint16_t n)
{
#ifdef __aarch64__
    uint32_t code[] = { 0x52800001 | n << 5 /* mov w1, #n */, 0x0b010000 /* add w0, w0, w1 */, 0xd65f03c0 /* ret */ };
#elif defined __arm__
    uint32_t code[] = { 0xe3001000 | n >> 12 << 16 | (n & 0xfff) /* movw r1, #n */, 0xe0800001 /* add r0, r0, r1 */, 0xe12fff1e /* bx lr */ };
#elif defined __riscv
    uint32_t code[] = { 0x000005b7 | (n + 0x800u & 0xfffff000) /* lui a1, high */, 0x0005859b | (n & 0xfffu) << 20 /* addiw a1, a1, low */,
                        0x00b5053b /* addw a0, a0, a1 */, 0x00008067 /* ret */ };
#else
    uint8_t code[] = { 0x8d, 0x87, n & 0xff, n >> 8, 0, 0 /* lea eax, [rdi + n] */, 0xc3 };
#endif
    memcpy(at, code, sizeof code);
    return sizeof code;
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 1;
    uint8_t *memory = mmap(NULL, 65536, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned sum = 0;
    for (int round = 0; round < rounds; round++) {
        uint8_t *at = memory + round % 512 * 128;
        size_t length = emit(at, round & 0x7fff);
        __builtin___clear_cache((char *)at, (char *)at + length);
        unsigned (*function)(unsigned) = (void *)at;
        for (int n = 0; n < 50; n++)
            sum = function(sum);
    }
    printf("%u\n", sum);
    return 0;
}
