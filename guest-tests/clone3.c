// oracle: native
// clone3(2): features that clone lacks, and refused arguments.
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#ifndef CLONE_CLEAR_SIGHAND
#define CLONE_CLEAR_SIGHAND 0x100000000ull
#endif
#ifndef CLONE_INTO_CGROUP
#define CLONE_INTO_CGROUP 0x200000000ull
#endif
struct args { uint64_t flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup, more[2]; };
static void handler(int s) {}
static void say(const char *name, struct args a, size_t size) {
    fflush(stdout);
    long pid = syscall(SYS_clone3, &a, size);
    int status = 0;
    if (pid == 0) {
        struct sigaction user, ignored;
        sigaction(SIGUSR1, NULL, &user);
        sigaction(SIGUSR2, NULL, &ignored);
        _exit((user.sa_handler == SIG_DFL) | (ignored.sa_handler == SIG_IGN) << 1 | 4);
    }
    if (pid > 0) waitpid(pid, &status, 0);
    if (pid > 0) printf("%s: child ended with %d\n", name, WEXITSTATUS(status));
    else printf("%s: %s\n", name, strerror(errno));
}
int main(void) {
    signal(SIGUSR1, handler);
    signal(SIGUSR2, SIG_IGN);
    int pidfd = -1, parent = 0;
    struct args plain = {.exit_signal = SIGCHLD};
    say("plain", plain, 88);
    say("64 bytes", plain, 64);
    say("63 bytes", plain, 63);
    say("zeroes behind", plain, 104);
    say("a page and more", plain, 5000);
    struct args a = plain;
    a.more[1] = 1;
    say("something behind", a, 104);
    a = plain;
    a.flags = CLONE_PIDFD | CLONE_PARENT_SETTID;
    a.pidfd = (uintptr_t)&pidfd;
    a.parent_tid = (uintptr_t)&parent;
    say("pidfd and parent's word", a, 88);
    printf("%d %d\n", pidfd > 2, parent > 0);
    a = plain;
    a.flags = CLONE_CLEAR_SIGHAND;
    say("handlers cleared", a, 88);
    a.flags = CLONE_CLEAR_SIGHAND | CLONE_SIGHAND | CLONE_VM;
    say("cleared and shared", a, 88);
    a = plain;
    char *stack = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    a = plain;
    a.flags = CLONE_INTO_CGROUP;
    a.cgroup = 1000;
    say("no cgroup", a, 88);
    a.cgroup = 1ull << 40;
    say("no descriptor", a, 88);
    a = plain;
    a.exit_signal = 65;
    say("no signal", a, 88);
    a = plain;
    a.flags = 1ull << 60;
    say("unknown flag", a, 88);
    a.flags = SIGCHLD;
    say("signal in the flags", a, 88);
    a.flags = 0x400000;
    say("CLONE_DETACHED", a, 88);
    a = plain;
    a.stack = (uintptr_t)stack;
    say("stack without size", a, 88);
    a = plain;
    a.set_tid_size = 1;
    say("ids without address", a, 88);
    a.set_tid_size = 33;
    say("too many ids", a, 88);
    a = plain;
    a.flags = CLONE_PARENT;
    say("a sibling with a signal", a, 88);
    errno = 0;
    long r = syscall(SYS_clone3, (void *)8, 88);
    printf("no arguments: %ld %s\n", r, strerror(errno));
    return 0;
}
