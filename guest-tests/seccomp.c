// oracle: native
// Filters of system calls (seccomp(2)): each action, chains, threads, and execve.
#define _GNU_SOURCE
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#ifdef __aarch64__
#define ARCH AUDIT_ARCH_AARCH64
#elif defined __riscv
#define ARCH AUDIT_ARCH_RISCV64
#elif defined __arm__
#define ARCH AUDIT_ARCH_ARM
#else
#define ARCH AUDIT_ARCH_X86_64
#endif
#define NR offsetof(struct seccomp_data, nr)
#define ARG(n) offsetof(struct seccomp_data, args[n])
#define LOAD(at) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, at)
#define UNLESS(value, skip) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, skip)
#define RET(value) BPF_STMT(BPF_RET | BPF_K, value)
static long install(struct sock_filter *f, size_t n, unsigned flags) {
    struct sock_fprog program = {n, f};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program);
}
// Installs a filter that takes this action on this call.
static long on(int call, unsigned action) {
    struct sock_filter f[] = {
        LOAD(offsetof(struct seccomp_data, arch)), UNLESS(ARCH, 3), LOAD(NR), UNLESS(call, 1), RET(action), RET(SECCOMP_RET_ALLOW)};
    return install(f, 6, 0);
}
static void say(const char *what, long r) {
    printf("%s: %ld %s\n", what, r, r < 0 ? strerror(errno) : "");
    fflush(stdout);
}
// Runs code in a child, and prints how it ends.
#define CHILD(name, ...) do { \
        fflush(stdout); \
        pid_t pid = fork(); \
        if (pid == 0) { setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0}); __VA_ARGS__; _exit(42); } \
        int status; \
        waitpid(pid, &status, 0); \
        printf("%s: %s %d\n", name, WIFSIGNALED(status) ? "signal" : "code", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status)); \
        fflush(stdout); \
    } while (0)
static void handler(int s, siginfo_t *i, void *u) {
    printf("signal %d, code %d, errno %d, call %s, arch %s\n", s, i->si_code, i->si_errno, i->si_syscall == SYS_getppid ? "getppid" : "another", i->si_arch == ARCH ? "ours" : "another");
}
static pthread_barrier_t barrier;
static void *thread(void *p) {
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    say("getpgid in the thread", getpgid(-5));
    return NULL;
}
static void *killed(void *p) {
    syscall(SYS_getppid);
    return (void *)1;
}
int main(int c, char **v) {
    setbuf(stdout, NULL);
    if (c > 1) {
        say("getsid after execve", getsid(0));
        say("mode after execve", prctl(PR_GET_SECCOMP));
        return 7;
    }
    say("mode", prctl(PR_GET_SECCOMP));
    unsigned actions[] = {SECCOMP_RET_KILL_PROCESS, SECCOMP_RET_KILL_THREAD, SECCOMP_RET_TRAP, SECCOMP_RET_ERRNO, SECCOMP_RET_TRACE, SECCOMP_RET_LOG, SECCOMP_RET_ALLOW, 0x12340000};
    for (int n = 0; n < 8; n++) say("available", syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &actions[n]));
    say("unknown operation", syscall(SYS_seccomp, 99, 0, NULL));
    if (geteuid() == 0) printf("without no_new_privs: root\n");
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    struct sock_filter endless[] = {LOAD(NR)}, outside[] = {LOAD(64), RET(0)}, far[] = {BPF_JUMP(BPF_JMP | BPF_JA, 5, 0, 0), RET(0)};
    say("no return", install(endless, 1, 0));
    say("load outside", install(outside, 2, 0));
    say("jump outside", install(far, 2, 0));
    say("no instructions", install(far, 0, 0));
    say("no address", syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, (void *)8));
    say("unknown flag", install(outside, 2, 1 << 10));
    CHILD("errno", { say("install", on(SYS_getppid, SECCOMP_RET_ERRNO | 77)); errno = 0; say("getppid", syscall(SYS_getppid)); printf("%d\n", errno); say("mode", prctl(PR_GET_SECCOMP)); });
    CHILD("errno 0", { on(SYS_getppid, SECCOMP_RET_ERRNO); say("getppid", syscall(SYS_getppid)); });
    CHILD("errno above 4095", { on(SYS_getppid, SECCOMP_RET_ERRNO | 0xffff); say("getppid", syscall(SYS_getppid)); printf("%d\n", errno); });
    CHILD("trace", { on(SYS_getppid, SECCOMP_RET_TRACE); say("getppid", syscall(SYS_getppid)); });
    CHILD("log", { on(SYS_getppid, SECCOMP_RET_LOG); say("getppid", syscall(SYS_getppid) > 0); });
    CHILD("kill process", { on(SYS_getppid, SECCOMP_RET_KILL_PROCESS); syscall(SYS_getppid); });
    CHILD("kill thread", { on(SYS_getppid, SECCOMP_RET_KILL_THREAD); syscall(SYS_getppid); });
    CHILD("unknown action", { on(SYS_getppid, 0x12340000); syscall(SYS_getppid); });
    CHILD("kill one of two", { on(SYS_getppid, SECCOMP_RET_KILL_THREAD); pthread_t t; pthread_create(&t, NULL, killed, NULL); usleep(100000); say("the other lives", 0); });
    CHILD("trap", {
        struct sigaction a = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
        sigaction(SIGSYS, &a, NULL);
        on(SYS_getppid, SECCOMP_RET_TRAP | 5);
        syscall(SYS_getppid);
    });
    CHILD("trap ignored", { signal(SIGSYS, SIG_IGN); on(SYS_getppid, SECCOMP_RET_TRAP); syscall(SYS_getppid); });
    CHILD("the strictest wins", {
        on(SYS_getppid, SECCOMP_RET_ERRNO | 1);
        on(SYS_getppid, SECCOMP_RET_ERRNO | 2);
        on(SYS_getppid, SECCOMP_RET_ALLOW);
        errno = 0; syscall(SYS_getppid); printf("%d\n", errno);
        on(SYS_getppid, SECCOMP_RET_KILL_PROCESS);
        syscall(SYS_getppid);
    });
    CHILD("arguments", {
        struct sock_filter f[] = {
            LOAD(NR), UNLESS(SYS_dup3, 6), LOAD(ARG(1) + 4), UNLESS(0, 4), LOAD(ARG(1)),
            BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 100, 0, 2), BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xff), BPF_STMT(BPF_ALU | BPF_OR | BPF_K, SECCOMP_RET_ERRNO),
            BPF_STMT(BPF_MISC | BPF_TAX, 0), LOAD(NR), UNLESS(SYS_dup3, 2), BPF_STMT(BPF_MISC | BPF_TXA, 0), BPF_STMT(BPF_RET | BPF_A, 0), RET(SECCOMP_RET_ALLOW)};
        f[5].jf = 7;
        f[3].jf = 9;
        f[1].jf = 11;
        say("install", install(f, 14, 0));
        errno = 0; say("dup3 to 50", dup3(1, 50, 0));
        errno = 0; dup3(1, 111, 0); printf("%d\n", errno);
    });
    CHILD("threads", {
        pthread_t t;
        pthread_barrier_init(&barrier, NULL, 2);
        pthread_create(&t, NULL, thread, NULL);
        pthread_barrier_wait(&barrier);
        struct sock_filter f[] = {LOAD(NR), UNLESS(SYS_getpgid, 1), RET(SECCOMP_RET_ERRNO | 33), RET(SECCOMP_RET_ALLOW)};
        say("tsync", install(f, 4, SECCOMP_FILTER_FLAG_TSYNC));
        pthread_barrier_wait(&barrier);
        pthread_join(t, NULL);
        pthread_barrier_init(&barrier, NULL, 2);
        pthread_create(&t, NULL, thread, NULL);
        pthread_barrier_wait(&barrier);
        on(SYS_getppid, SECCOMP_RET_ERRNO | 1);
        say("own only", install(f, 4, 0));
        pthread_barrier_wait(&barrier);
        pthread_join(t, NULL);
    });
    CHILD("execve", {
        on(SYS_getsid, SECCOMP_RET_ERRNO | 44);
        on(SYS_getppid, SECCOMP_RET_ERRNO | 1);
        execl("/proc/self/exe", "self", "again", NULL);
    });
    CHILD("strict", { say("set", prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT)); write(1, "still here\n", 11); syscall(SYS_exit, 5); });
    CHILD("strict, another call", { prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT); syscall(SYS_getppid); });
    CHILD("strict after a filter", { on(SYS_getppid, SECCOMP_RET_ERRNO | 1); say("set", syscall(SYS_seccomp, SECCOMP_SET_MODE_STRICT, 0, NULL)); });
    return 0;
}
