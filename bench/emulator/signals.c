// Signals delivered to the process itself, and faults.
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

static volatile unsigned long count;
static sigjmp_buf back;

static void on_user(int signal) { count++; }
static void on_fault(int signal) { siglongjmp(back, 1); }

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 1;
    signal(SIGUSR1, on_user);
    signal(SIGSEGV, on_fault);
    for (int round = 0; round < rounds; round++) {
        raise(SIGUSR1);
        if (round % 8 == 0) {
            if (sigsetjmp(back, 1))
                count += 2;
            else
                *(volatile char *)8 = 1;
        }
    }
    printf("%lu\n", count);
    return 0;
}
