// oracle: file
// The C library's functions on memory and strings, which run as code of the host once they are hot: all
// lengths, alignments and overlaps, ends of pages, pages that a handler maps, and signals in the middle of long
// ones. They are compared with loops over bytes.
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

enum { PAGE = 4096, PAGES = 4, SIZE = PAGE * PAGES };
// Through pointers that the compiler does not know.
static void *(*volatile copy)(void *, const void *, size_t) = memcpy;
static void *(*volatile move)(void *, const void *, size_t) = memmove;
static void *(*volatile set)(void *, int, size_t) = memset;
static int (*volatile compare)(const void *, const void *, size_t) = memcmp;
static void *(*volatile find)(const void *, int, size_t) = memchr;
static size_t (*volatile length)(const char *) = strlen;
static size_t (*volatile length_within)(const char *, size_t) = strnlen;
static char *(*volatile find_in)(const char *, int) = strchr;
static char *(*volatile find_or_end)(const char *, int) = strchrnul;
static int (*volatile order)(const char *, const char *) = strcmp;
static int (*volatile order_within)(const char *, const char *, size_t) = strncmp;

static uint64_t seed = 1;
static unsigned under(unsigned limit) {
    seed += 0x9e3779b97f4a7c15;
    uint64_t z = (seed ^ seed >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return (unsigned)(z ^ z >> 31) % limit;
}
static unsigned some_length(void) {
    unsigned kind = under(8);
    return kind < 5 ? under(70) : kind < 7 ? under(600) : under(2 * PAGE);
}

// Two areas, each between pages that nobody may touch, and what the first ones shall hold.
static volatile unsigned char *areas[2], *expected;
static unsigned char *mapped(void) {
    unsigned char *all = mmap(NULL, SIZE + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(all + PAGE, SIZE, PROT_READ | PROT_WRITE);
    return all + PAGE;
}

static int failures;
static void fail(const char *what, size_t n, long one, long other) {
    if (failures++ < 20) printf("%s of %zu: %ld, not %ld\n", what, n, one, other);
}

// Where something of n bytes lies: at the start or the end of an area, at a page's end, or anywhere.
static size_t place(size_t n) {
    switch (under(6)) {
    case 0: return 0;
    case 1: case 2: return SIZE - n;
    case 3: { size_t at = (1 + under(PAGES - 1)) * PAGE + under(80); return at < n ? 0 : at - n; }
    default: return under(SIZE - n + 1);
    }
}

static int sign(int n) { return n > 0 ? 1 : n < 0 ? -1 : 0; }

static void same(const char *what, size_t n, unsigned char *area) {
    for (size_t i = 0; i < SIZE; i++)
        if (area[i] != expected[i]) { fail(what, n, i, -1); memcpy((void *)expected, area, SIZE); return; }
}

static void stores(void) {
    unsigned char *a = (void *)areas[0], *b = (void *)areas[1];
    size_t n = some_length(), from = place(n), to = place(n), i;
    switch (under(4)) {
    case 0: case 1:
        if (copy(a + to, b + from, n) != a + to) fail("memcpy", n, 0, 0);
        for (i = 0; i < n; i++) expected[to + i] = b[from + i];
        return same("memcpy", n, a);
    case 2: {
        // Mostly near each other.
        if (under(4)) { to = from + under(200) - 100; if (to > SIZE - n) to = from; }
        static unsigned char before[SIZE];
        for (i = 0; i < n; i++) before[i] = a[from + i];
        if (move(a + to, a + from, n) != a + to) fail("memmove", n, 0, 0);
        for (i = 0; i < n; i++) expected[to + i] = before[i];
        return same("memmove", n, a);
    }
    default:
        if (set(a + to, from | 0x100, n) != a + to) fail("memset", n, 0, 0);
        for (i = 0; i < n; i++) expected[to + i] = from;
        return same("memset", n, a);
    }
}

static void searches(void) {
    unsigned char *a = (void *)areas[0];
    size_t n = some_length(), at = place(n + 1), i;
    // Few values, and none of them zero.
    int kinds = under(2) ? 250 : 2;
    for (i = 0; i < n; i++) a[at + i] = 1 + under(kinds);
    a[at + n] = 0;
    char *text = (char *)a + at;
    int byte = under(3) ? 1 + under(252) : 0;
    if (length(text) != n) fail("strlen", n, length(text), n);
    size_t bound = under(3) ? under(2 * n + 2) : SIZE_MAX - under(2);
    size_t within = bound < n ? bound : n;
    if (length_within(text, bound) != within) fail("strnlen", n, length_within(text, bound), within);
    for (i = 0; i < n && (unsigned char)text[i] != byte; i++);
    char *found = find_or_end(text, byte | 0x100);
    if (found != text + i) fail("strchrnul", n, found - text, i);
    char *hit = i < n || !byte ? text + i : NULL;
    if (find_in(text, byte) != hit) fail("strchr", n, find_in(text, byte) - text, i);
    // The zero is a byte as any other.
    if (bound > n + 1) bound = hit ? bound : n + 1;
    char *in = hit && i < bound ? hit : NULL;
    if (find(text, byte | 0x300, bound) != in) fail("memchr", n, (char *)find(text, byte, bound) - text, i);
    for (i = 0; i < n + 1; i++) expected[at + i] = a[at + i];
}

static void comparisons(void) {
    unsigned char *a = (void *)areas[0], *b = (void *)areas[1];
    size_t n = some_length(), one = place(n + 1), other = place(n + 1), i;
    for (i = 0; i < n; i++) a[one + i] = b[other + i] = 1 + under(255);
    a[one + n] = b[other + n] = 0;
    if (n && under(3)) {
        size_t at = under(n);
        if (under(2)) a[one + at] = under(256); else b[other + at] = under(256);
    }
    const unsigned char *x = a + one, *y = b + other;
    size_t bound = under(3) ? under(2 * n + 2) : n + 1;
    size_t whole = bound < n + 1 ? bound : n + 1;
    for (i = 0; i < whole && x[i] == y[i]; i++);
    int want = i == whole ? 0 : sign(x[i] - y[i]);
    if (sign(compare(x, y, whole)) != want) fail("memcmp", n, compare(x, y, whole), want);
    for (i = 0; i < n && x[i] == y[i] && x[i]; i++);
    want = sign(x[i] - y[i]);
    if (sign(order((void *)x, (void *)y)) != want) fail("strcmp", n, order((void *)x, (void *)y), want);
    if (i >= bound) want = 0;
    if (sign(order_within((void *)x, (void *)y, bound)) != want) fail("strncmp", n, bound, want);
    for (i = 0; i < n + 1; i++) expected[one + i] = a[one + i];
}

// Pages of the first area that a handler makes accessible.
static volatile int faults, wrong;
static void repair(int number, siginfo_t *info, void *context) {
    uintptr_t at = (uintptr_t)info->si_addr - (uintptr_t)areas[0];
    if (at >= SIZE) { wrong++; at = 0; }
    faults++;
    mprotect((void *)(areas[0] + at / PAGE * PAGE), PAGE, PROT_READ | PROT_WRITE);
}

static void repairs(void) {
    unsigned char *a = (void *)areas[0], *b = (void *)areas[1];
    for (int round = 0; round < 1800; round++) {
        int kind = round % 6, page = under(PAGES);
        size_t n = some_length() + 1, to = place(n), from = place(n), i;
        // Often across the border of the page that is missing, and from nearby.
        size_t border = (page + under(2)) * PAGE - under(n + 1);
        if (under(2) && border <= SIZE - n) to = border;
        size_t near = to + under(2 * n) - n;
        if (near > SIZE - n) near = to;
        static unsigned char before[SIZE + 1];
        for (i = 0; i < SIZE; i++) a[i] = b[i] = before[i] = 1 + under(250);
        if (kind == 4) a[to + n - 1] = before[to + n - 1] = 0;
        mprotect(a + page * PAGE, PAGE, under(3) ? PROT_NONE : PROT_READ);
        int result = 0;
        switch (kind) {
        case 0: copy(a + to, b + from, n); break;
        case 1: case 2: move(a + to, a + near, n); break;
        case 3: set(a + to, 7, n); break;
        case 4: result = length((char *)a + to); break;
        case 5: result = compare(a + to, b + to, n); break;
        }
        mprotect(a, SIZE, PROT_READ | PROT_WRITE);
        for (i = 0; i < n; i++) {
            unsigned char want = before[to + i];
            if (kind == 0) want = b[from + i];
            if (kind == 1 || kind == 2) want = before[near + i];
            if (kind == 3) want = 7;
            if (a[to + i] != want) { fail("after a fault", n, kind, i); break; }
        }
        if (kind == 4 && result != strlen((char *)before + to)) fail("strlen after a fault", n, result, 0);
        if (kind == 5 && result) fail("memcmp after a fault", n, result, 0);
    }
}

static volatile long ticks;
static void tick(int number) { ticks++; }

static void long_ones(void) {
    size_t n = 3 << 20;
    unsigned char *a = malloc(n + PAGE), *b = malloc(n + PAGE);
    struct itimerval often = { { 0, 200 }, { 0, 200 } }, never = { { 0, 0 }, { 0, 0 } };
    setitimer(ITIMER_REAL, &often, NULL);
    long before = ticks;
    for (int round = 0; round < 3 || ticks < before + 50 && round < 3000; round++) {
        size_t part = round % 2 ? n : 200 << 10;
        unsigned char value = 1 + round % 200;
        set(a, value, part);
        a[part / 2] = 0;
        copy(b, a, part);
        if (length((char *)b) != part / 2) fail("strlen under signals", part, round, 0);
        if (compare(a, b, part)) fail("memcmp under signals", part, round, 0);
        move(b + 1, b, part);
        if (find(b, 0, part) != b + part / 2 + 1) fail("memchr under signals", part, round, 0);
        move(b, b + 1, part);
        if (compare(a, b, part)) fail("memmove under signals", part, round, 0);
    }
    setitimer(ITIMER_REAL, &never, NULL);
    if (ticks == before) fail("signals", 0, 0, 1);
}

int main(int argc, char **argv) {
    int rounds = argc > 1 ? atoi(argv[1]) : 1500;
    if (argc > 2) seed = atoi(argv[2]);
    areas[0] = mapped();
    areas[1] = mapped();
    expected = malloc(SIZE);
    for (int i = 0; i < SIZE; i++) { areas[0][i] = expected[i] = under(256); areas[1][i] = under(256); }
    for (int round = 0; round < rounds; round++) {
        stores();
        searches();
        comparisons();
    }
    struct sigaction action;
    memset(&action, 0, sizeof action);
    action.sa_sigaction = repair;
    action.sa_flags = SA_SIGINFO;
    sigaction(SIGSEGV, &action, NULL);
    repairs();
    printf("faults %s, at wrong addresses %d\n", faults > 100 ? "enough" : "too few", wrong);
    action.sa_handler = tick;
    action.sa_flags = SA_RESTART;
    sigaction(SIGALRM, &action, NULL);
    long_ones();
    printf("failures %d\n", failures);
    return 0;
}
