// oracle: file
// clone(2) ignores the arguments that no flag asks for: raw calls leave old register values in them.
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <errno.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
static long raw(unsigned long flags, unsigned long stack, unsigned long parent, unsigned long tls, unsigned long child) {
    register long x8 __asm__("x8") = SYS_clone, x0 __asm__("x0") = flags, x1 __asm__("x1") = stack;
    register long x2 __asm__("x2") = parent, x3 __asm__("x3") = tls, x4 __asm__("x4") = child;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
    return x0;
}
static void one(const char *name, unsigned long flags, unsigned long parent, unsigned long tls, unsigned long child) {
    fflush(stdout);
    long pid = raw(flags | SIGCHLD, 0, parent, tls, child);
    int status = 0;
    if (pid == 0) _exit(3);
    if (pid > 0) waitpid(pid, &status, 0);
    printf("%s: %s %d\n", name, pid > 0 ? "ok" : strerror(-pid), WEXITSTATUS(status));
}
int main(void) {
    int word = 0;
    unsigned long above = 0x7ffffffff000, text = 0x4853006575727400;
    one("text everywhere", 0, text, text, text);
    one("high addresses", 0, above, above, above);
    one("parent's word", CLONE_PARENT_SETTID, (unsigned long)&word, text, above);
    printf("%s\n", word > 0 ? "written" : "not written");
    // A result that cannot be written is no error either (put_user's result is ignored), except for a pidfd.
    one("parent's word unwritable", CLONE_PARENT_SETTID, above, 0, 0);
    one("child's word unwritable", CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID, 0, 0, above);
    one("pidfd unwritable", CLONE_PIDFD, above, 0, 0);
    one("pidfd and parent's word", CLONE_PIDFD | CLONE_PARENT_SETTID, (unsigned long)&word, 0, 0);
    one("a bit above 32", 1ul << 33, 0, 0, 0);
    return 0;
}
