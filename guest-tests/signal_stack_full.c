// A signal without room for its frame on the stack is a SIGSEGV, whose handler has a stack of its own.
// oracle: native
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static sigjmp_buf back;
static volatile int user;

static void on_user(int signal) { user++; }

static void on_fault(int signal, siginfo_t *info, void *context)
{
    printf("signal %d code %d address %p user %d\n", signal, info->si_code, info->si_addr, user);
    siglongjmp(back, 1);
}

// Calls kill with the stack pointer at `top`.
static void kill_on(char *top)
{
    long number = SIGUSR1, self = getpid();
#ifdef __aarch64__
    __asm__ volatile("mov x9, sp\n mov sp, %0\n mov x0, %1\n mov x1, %2\n mov x8, 129\n svc 0\n mov sp, x9"
                     : : "r"(top), "r"(self), "r"(number) : "x0", "x1", "x8", "x9", "memory");
#elif defined __riscv
    __asm__ volatile("mv t1, sp\n mv sp, %0\n mv a0, %1\n mv a1, %2\n li a7, 129\n ecall\n mv sp, t1"
                     : : "r"(top), "r"(self), "r"(number) : "a0", "a1", "a7", "t1", "memory");
#else
    __asm__ volatile("mov %%rsp, %%r12\n mov %0, %%rsp\n syscall\n mov %%r12, %%rsp"
                     : : "r"(top), "D"(self), "S"(number), "a"(62L) : "r12", "rcx", "r11", "memory");
#endif
}

int main(void)
{
    static char other[65536];
    stack_t stack = { .ss_sp = other, .ss_size = sizeof other };
    struct sigaction action;
    char *pages = mmap(NULL, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    mprotect(pages, 4096, PROT_NONE);
    setvbuf(stdout, NULL, _IONBF, 0);
    sigaltstack(&stack, NULL);
    memset(&action, 0, sizeof action);
    action.sa_handler = on_user;
    sigaction(SIGUSR1, &action, NULL);
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, NULL);
    for (int n = 0; n < 3; n++)
        if (!sigsetjmp(back, 1))
            kill_on(pages + 4096 + 256);
    if (!sigsetjmp(back, 1))
        kill_on(pages + (1 << 16));
    printf("user %d\n", user);
    return 0;
}
