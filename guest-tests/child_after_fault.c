// oracle: file
// A child with the exit signal SIGSEGV ends, and its process id equals the address of the thread's last
// fault. This signal looks like a fault, and must be neither lost nor taken for one. A process namespace
// makes the ids small.
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
static sigjmp_buf back;
static volatile int faulting, ends, code, number;
static volatile unsigned long address;
static void on(int s, siginfo_t *i, void *p) {
    if (faulting) {
        address = (unsigned long)i->si_addr;
        siglongjmp(back, 1);
    }
    ends++;
    code = i->si_code;
    number = i->si_pid;
}
static void put(const char *path, const char *text) {
    int d = open(path, O_WRONLY);
    if (d >= 0) {
        if (write(d, text, strlen(text)) < 0) perror(path);
        close(d);
    }
}
static void first(void) {
    struct sigaction a;
    memset(&a, 0, sizeof a);
    a.sa_sigaction = on;
    a.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGSEGV, &a, NULL);
    int wrong = 0;
    for (int n = 2; n < 402; n++) {
        faulting = 1;
        address = 0;
        if (!sigsetjmp(back, 1)) *(volatile char *)(unsigned long)n;
        faulting = 0;
        int before = ends;
        pid_t p = syscall(SYS_clone, SIGSEGV, 0, 0, 0, 0);
        if (p == 0) {
            if (n & 1) usleep(300);
            _exit(0);
        }
        // The loop uses memory while the signal arrives, and is soon translated.
        for (long k = 0; ends == before && k < 2000000000; k++);
        if (p != n || address != n || ends != before + 1 || code != CLD_EXITED || number != n) {
            if (!wrong++)
                printf("child %d of %d: fault at %lu, %d ends, code %d of %d\n", p, n, address, ends - before, code, number);
        }
        if (waitpid(p, NULL, __WALL) != p) printf("no child to wait for\n");
    }
    printf("%d ends, %d wrong\n", ends, wrong);
    exit(0);
}
int main(void) {
    char map[64];
    snprintf(map, sizeof map, "0 %d 1", getuid());
    setvbuf(stdout, NULL, _IONBF, 0);
    if (unshare(CLONE_NEWUSER | CLONE_NEWPID) != 0) {
        perror("make namespaces of users and processes");
        return 1;
    }
    put("/proc/self/setgroups", "deny");
    put("/proc/self/uid_map", map);
    pid_t p = fork();
    if (p == 0) first();
    int status = 0;
    waitpid(p, &status, 0);
    return status;
}
