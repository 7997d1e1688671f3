// oracle: file
// A vfork child that sets FPCR.FZ (subnormal numbers count as zeros) does not change its parent's arithmetic.
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>
static volatile double small = 1e-310, half = 0.5;
__attribute__((noinline)) static double once(void) { double s = small, r; __asm__ volatile("fmul %d0, %d1, %d2" : "=w"(r) : "w"(s), "w"(half)); return r; }
__attribute__((noinline)) static int zeros(void) {
    int n = 0;
    for (int i = 0; i < 1000; i++) n += once() == 0;
    return n;
}
static int (*volatile count)(void) = zeros;
int main(void) {
    for (int n = 0; n < 20; n++) {
        int before = count(), status;
        pid_t child = vfork();
        if (child == 0) {
            __asm__ volatile("msr fpcr, %0" : : "r"(1L << 24));
            _exit(count() == 1000);
        }
        int after = count();
        waitpid(child, &status, 0);
        if (before || after || WEXITSTATUS(status) != 1)
            printf("%d: %d zeros before, %d after, child %d\n", n, before, after, WEXITSTATUS(status));
    }
    printf("done\n");
    return 0;
}
