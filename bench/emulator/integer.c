// Integer work of every kind: a linked list sorted and searched, a matrix of integers, a state machine over text, a checksum.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

struct node { struct node *next; int16_t key; int16_t value; };

static struct node nodes[400];

static uint16_t checksum(uint16_t sum, uint16_t value)
{
    for (int bit = 0; bit < 16; bit++) {
        int out = (sum ^ value) & 1;
        sum >>= 1;
        value >>= 1;
        if (out)
            sum ^= 0xa001;
    }
    return sum;
}

static struct node *merge(struct node *a, struct node *b, int by_value)
{
    struct node head, *tail = &head;
    while (a && b) {
        int first = by_value ? a->value <= b->value : a->key <= b->key;
        struct node **from = first ? &a : &b;
        tail->next = *from;
        tail = *from;
        *from = (*from)->next;
    }
    tail->next = a ? a : b;
    return head.next;
}

static struct node *sort(struct node *list, int by_value)
{
    if (!list || !list->next)
        return list;
    struct node *slow = list, *fast = list->next;
    while (fast && fast->next) {
        slow = slow->next;
        fast = fast->next->next;
    }
    struct node *second = slow->next;
    slow->next = NULL;
    return merge(sort(list, by_value), sort(second, by_value), by_value);
}

static uint16_t lists(uint16_t sum, unsigned seed)
{
    for (int n = 0; n < 400; n++) {
        seed = seed * 1103515245 + 12345;
        nodes[n].key = seed >> 16 & 0x7fff;
        nodes[n].value = seed >> 8 & 0xff;
        nodes[n].next = n < 399 ? &nodes[n + 1] : NULL;
    }
    struct node *list = sort(nodes, 0);
    for (int wanted = 0; wanted < 64; wanted++)
        for (struct node *at = list; at; at = at->next)
            if (at->value == wanted) {
                sum = checksum(sum, at->key);
                break;
            }
    list = sort(list, 1);
    for (struct node *at = list; at; at = at->next)
        sum += at->key ^ at->value;
    return sum;
}

enum { SIZE = 24 };

static uint16_t matrices(uint16_t sum, int seed)
{
    static int16_t a[SIZE][SIZE], b[SIZE][SIZE];
    int32_t total = 0;
    for (int row = 0; row < SIZE; row++)
        for (int column = 0; column < SIZE; column++) {
            a[row][column] = (seed * (row + 1) + column * 7) & 0x3ff;
            b[row][column] = (seed + row * 13 - column) & 0x1ff;
        }
    for (int row = 0; row < SIZE; row++)
        for (int column = 0; column < SIZE; column++) {
            int32_t product = 0;
            for (int k = 0; k < SIZE; k++)
                product += (a[row][k] >> 2 & 0xff) * b[k][column];
            total += product > 100000 ? product / 10 : product;
        }
    return checksum(sum, total ^ total >> 16);
}

static uint16_t states(uint16_t sum, unsigned seed)
{
    static const char *words[] = { "5012", "-874", "+0.122", "1.5e10", "T0.3e-1F", "-.123", "abc", "1e", "110.700" };
    int count[6] = { 0 };
    for (int n = 0; n < 60; n++) {
        seed = seed * 69069 + 1;
        int state = 0;
        for (const char *at = words[(seed >> 20) % 9]; *at && state < 5; at++) {
            switch (state) {
            case 0: state = *at == '+' || *at == '-' ? 1 : *at == '.' ? 3 : *at >= '0' && *at <= '9' ? 2 : 5; break;
            case 1: state = *at == '.' ? 3 : *at >= '0' && *at <= '9' ? 2 : 5; break;
            case 2: state = *at == '.' ? 3 : *at == 'e' ? 4 : *at >= '0' && *at <= '9' ? 2 : 5; break;
            case 3: state = *at == 'e' ? 4 : *at >= '0' && *at <= '9' ? 3 : 5; break;
            case 4: state = *at == '-' || *at >= '0' && *at <= '9' ? 4 : 5; break;
            }
        }
        count[state]++;
    }
    for (int n = 0; n < 6; n++)
        sum = checksum(sum, count[n]);
    return sum;
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 1;
    uint16_t sum = 0;
    for (int round = 0; round < rounds; round++) {
        sum = lists(sum, round + 1);
        sum = matrices(sum, round);
        for (int n = 0; n < 8; n++)
            sum = states(sum, round * 8 + n);
    }
    printf("%04x\n", sum);
    return 0;
}
