// An interpreter of bytecode: indirect branches.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

enum { PUSH, LOAD, STORE, ADD, MULTIPLY, XOR, SHIFT, LESS, BRANCH, JUMP, HALT };

// n = 0; x = 1; while (n < limit) { x = (x * 5 + n) ^ x >> 3; n = n + 1; } x
static const uint8_t program[] = {
    PUSH, 0, STORE, 0, PUSH, 1, STORE, 1,
    LOAD, 0, LOAD, 2, LESS, BRANCH, 39,
    LOAD, 1, PUSH, 5, MULTIPLY, LOAD, 0, ADD, LOAD, 1, PUSH, 3, SHIFT, XOR, STORE, 1,
    LOAD, 0, PUSH, 1, ADD, STORE, 0, JUMP, 8 - 1,
    LOAD, 1, HALT,
};

static uint64_t run(uint64_t limit)
{
    static const void *const labels[] = { &&push, &&load, &&store, &&add, &&multiply, &&xor, &&shift, &&less, &&branch, &&jump, &&halt };
    uint64_t stack[16], variable[3] = { 0, 0, limit }, *top = stack;
    const uint8_t *at = program;
#define NEXT goto *labels[*at++]
    NEXT;
push: *top++ = *at++; NEXT;
load: *top++ = variable[*at++]; NEXT;
store: variable[*at++] = *--top; NEXT;
add: top--; top[-1] += *top; NEXT;
multiply: top--; top[-1] *= *top; NEXT;
xor: top--; top[-1] ^= *top; NEXT;
shift: top--; top[-1] >>= *top; NEXT;
less: top--; top[-1] = top[-1] < *top; NEXT;
branch: top--; at = *top ? at + 1 : program + *at + 1; NEXT;
jump: at = program + *at + 1; NEXT;
halt: return *--top;
}

int main(int argc, char **argv)
{
    printf("%llx\n", (unsigned long long)run(argc > 1 ? atoll(argv[1]) : 1000));
    return 0;
}
