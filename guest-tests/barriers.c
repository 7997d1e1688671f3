// oracle: file
// Two threads store a word each and then look at the other's word, in every way in which compilers write the barrier
// in between: alone, in front of and behind an atomic operation, and around one that does not store. Not both may
// miss the other's store.
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>

enum { WAYS = 6, ROUNDS = 2048, TOGETHER = 32 };

static struct { _Alignas(64) atomic_uint word; } words[ROUNDS][2];
static struct { _Alignas(64) atomic_int round; } reached[2];
static unsigned seen[2][ROUNDS];
static int ways[2];

// Stores to `own`, and returns what `other` holds.
static unsigned store_and_look(int way, atomic_uint *own, atomic_uint *other)
{
    unsigned held = 0;
    switch (way) {
    case 0: // A barrier alone.
        atomic_store_explicit(own, 1, memory_order_relaxed);
        atomic_thread_fence(memory_order_seq_cst);
        return atomic_load_explicit(other, memory_order_relaxed);
    case 1: // In front of an addition.
        atomic_store_explicit(own, 1, memory_order_relaxed);
        return atomic_fetch_add(other, 2) & 1;
    case 2: // Behind an addition.
        atomic_fetch_add(own, 1);
        return atomic_load_explicit(other, memory_order_relaxed) & 1;
    case 3: // Behind an exchange.
        atomic_exchange(own, 1);
        return atomic_load_explicit(other, memory_order_relaxed) & 1;
    case 4: // Behind a comparison, whether it stores or not.
        atomic_compare_exchange_strong(own, &held, 1);
        if (held != 0)
            atomic_fetch_or(own, 1);
        return atomic_load_explicit(other, memory_order_relaxed) & 1;
    default: // In front of a comparison that does not store.
        atomic_store_explicit(own, 1, memory_order_relaxed);
        held = 100;
        atomic_compare_exchange_strong(other, &held, 101);
        return held & 1;
    }
}

// Makes its rounds at the same time as the other thread: they wait for each other now and then.
static void *run(void *argument)
{
    int self = argument != NULL;
    for (int round = 0; round < ROUNDS; round++) {
        if (round % TOGETHER == 0) {
            atomic_store(&reached[self].round, round + 1);
            for (int tries = 0; atomic_load(&reached[!self].round) <= round; tries++)
                if (tries % 1024 == 1023)
                    sched_yield();
        }
        seen[self][round] = store_and_look(ways[self], &words[round][self].word, &words[round][!self].word);
    }
    return NULL;
}

int main(void)
{
    for (ways[0] = 0; ways[0] < WAYS; ways[0]++)
        for (ways[1] = 0; ways[1] < WAYS; ways[1]++) {
            for (int round = 0; round < ROUNDS; round++)
                words[round][0].word = words[round][1].word = 0;
            reached[0].round = reached[1].round = 0;
            pthread_t other;
            pthread_create(&other, NULL, run, &other);
            run(NULL);
            pthread_join(other, NULL);
            int missed = 0;
            for (int round = 0; round < ROUNDS; round++)
                missed += !seen[0][round] && !seen[1][round];
            if (missed)
                printf("ways %d and %d: %d rounds in which both missed the other's store\n", ways[0], ways[1], missed);
        }
    puts("done");
    return 0;
}
