// A loop of nothing but returns is interrupted.
#include <signal.h>
#include <stdio.h>
#include <unistd.h>
static void on(int s) {
    write(1, "interrupted\n", 12);
    _exit(3);
}
int main(void) {
    signal(SIGALRM, on);
    ualarm(200000, 0);
    asm volatile("adr x9, 1f\n 1: add x10, x10, #1\n ret x9" ::: "x9", "x10");
    return 0;
}
