// oracle: file
// What only 32-bit Arm has: user helpers, cacheflush, set_tls, register pairs, structures and numbers of 32 bits.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>
static void show(const char *what, long result) { printf("%s: %ld %s\n", what, result, result == -1 ? strerror(errno) : ""); }
// Calls that a signal of another test's storm interrupts are made again.
#define SHOW(call) do { long r; do errno = 0, r = (long)(call); while (r == -1 && errno == EINTR); show(#call, r); } while (0)
static volatile int seen;
static double in_handler;
__attribute__((target("arm"))) static void on_arm(int s) { seen = s; in_handler = 0; for (int n = 1; n < 9; n++) in_handler += 1.0 / n; }
__attribute__((target("thumb"))) static void on_thumb(int s, siginfo_t *i, void *u) {
    ucontext_t *c = u;
    seen = s + i->si_value.sival_int;
    printf("pc %d sp %d cpsr %lx magic %lx\n", c->uc_mcontext.arm_pc != 0, c->uc_mcontext.arm_sp > 0x1000, c->uc_mcontext.arm_cpsr & 0x1f, c->uc_regspace[0]);
}
int main(void) {
    struct utsname name;
    uname(&name);
    printf("%s %s hwcap %lx\n", name.machine, (char *)getauxval(AT_PLATFORM), getauxval(AT_HWCAP));
    // User helpers.
    int word = 5;
    long long wide = 0x100000002, old = 0x100000002, new = 0x300000004, other = 7;
    printf("helpers %d\n", *(int *)0xffff0ffc);
    printf("cmpxchg %d", ((int (*)(int, int, int *))0xffff0fc0)(5, 6, &word) == 0);
    printf(" %d %d\n", ((int (*)(int, int, int *))0xffff0fc0)(5, 7, &word) == 0, word);
    printf("cmpxchg64 %d", ((int (*)(long long *, long long *, long long *))0xffff0f60)(&old, &new, &wide) == 0);
    printf(" %d %llx\n", ((int (*)(long long *, long long *, long long *))0xffff0f60)(&other, &new, &wide) == 0, wide);
    ((void (*)(void))0xffff0fa0)();
    printf("tls %d\n", ((void *(*)(void))0xffff0fe0)() == __builtin_thread_pointer());
    // Code that is written and changed: mov r0, #N; bx lr.
    unsigned *code = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    for (int n = 1; n < 4; n++) {
        code[0] = 0xe3a00000 | n;
        code[1] = 0xe12fff1e;
        SHOW(syscall(0xf0002, code, code + 2, 0));
        printf("code %d\n", ((int (*)(void))code)());
    }
    // Handlers of both sets, by an old frame and one with siginfo; vectors survive.
    signal(SIGUSR1, on_arm);
    double sum = 0;
    for (int n = 1; n < 9; n++) { sum += 1.0 / n; if (n == 4) raise(SIGUSR1); }
    printf("signal %d %.6f %.6f\n", seen, sum, in_handler);
    struct sigaction a = {.sa_sigaction = on_thumb, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR1, &a, NULL);
    union sigval value = {.sival_int = 1000};
    sigqueue(getpid(), SIGUSR1, value);
    printf("signal %d\n", seen);
    struct { void *handler; unsigned mask, flags; void *restorer; } before;
    SHOW(syscall(67, SIGUSR1, NULL, &before));
    printf("old sigaction %d\n", before.handler == (void *)on_thumb);
    // Register pairs, offsets.
    int fd = memfd_create("x", 0);
    char text[8] = "";
    SHOW(syscall(194, fd, 0, 0, 3));
    SHOW(pwrite64(fd, "abcd", 4, 0x200000010));
    SHOW(pread64(fd, text, 4, 0x200000010));
    struct iovec piece = {text + 4, 3};
    SHOW(preadv64(fd, &piece, 1, 0x200000011));
    printf("%s\n", text);
    SHOW(syscall(19, fd, -1, SEEK_END));
    long long at = 0;
    SHOW(syscall(140, fd, 1, 2, &at, SEEK_SET));
    printf("at %llx\n", at);
    SHOW(posix_fallocate64(fd, 0x100000000, 4096));
    SHOW(posix_fadvise64(fd, 0, 0x100000000, POSIX_FADV_NORMAL));
    SHOW(sync_file_range(fd, 0, 0x100000000, 0));
    struct stat64 status;
    SHOW(fstat64(fd, &status));
    printf("size %llx\n", (long long)status.st_size);
    char path[32];
    sprintf(path, "/proc/self/fd/%d", fd);
    SHOW(syscall(322, AT_FDCWD, path, O_RDONLY, 0));
    close(syscall(322, AT_FDCWD, path, O_RDONLY | 0400000, 0));
    // Locks of 32 and of 64 bits.
    struct { short type, whence; int start, length, process; } lock = {F_WRLCK, 0, 1, 2, 0};
    SHOW(syscall(55, fd, 6, &lock));
    struct flock64 lock64 = {F_WRLCK, 0, 0x100000000, 2, 0};
    SHOW(syscall(221, fd, 13, &lock64));
    // Times, limits, ids.
    struct { int seconds, microseconds; } time;
    SHOW(syscall(78, &time, NULL));
    printf("time %d\n", time.seconds > 1600000000);
    struct { int seconds, nanoseconds; } wait = {0, 1000000};
    SHOW(syscall(162, &wait, NULL));
    struct { long long seconds; int nanoseconds, padding; } wait64 = {0, 1000000, 99};
    SHOW(syscall(407, CLOCK_MONOTONIC, 0, &wait64, NULL));
    unsigned limits[2], both[2] = {-1, -1};
    SHOW(syscall(75, RLIMIT_CORE, both));
    SHOW(syscall(191, RLIMIT_CORE, limits));
    printf("limit %x %x\n", limits[0], limits[1]);
    SHOW(syscall(24) == getuid());
    // Sets of descriptors: the word after the set stays.
    unsigned sets[2] = {1 << 1, 0xdeadbeef};
    struct timeval none = {0, 0};
    SHOW(syscall(142, 2, NULL, sets, NULL, NULL));
    printf("set %x %x\n", sets[0], sets[1]);
    // Control data.
    int pair[2];
    socketpair(AF_UNIX, SOCK_DGRAM, 0, pair);
    struct timeval limit = {1, 500000};
    SHOW(setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit));
    int yes = 1;
    setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &yes, sizeof yes);
    char control[256];
    struct msghdr message = {.msg_iov = &piece, .msg_iovlen = 1, .msg_control = control, .msg_controllen = CMSG_SPACE(8)};
    struct cmsghdr *head = CMSG_FIRSTHDR(&message);
    head->cmsg_level = SOL_SOCKET, head->cmsg_type = SCM_RIGHTS, head->cmsg_len = CMSG_LEN(8);
    memcpy(CMSG_DATA(head), (int[2]){0, 1}, 8);
    SHOW(sendmsg(pair[0], &message, 0));
    SHOW(sendmsg(pair[0], &message, 0));
    message.msg_controllen = sizeof control;
    SHOW(recvmsg(pair[1], &message, 0));
    for (head = CMSG_FIRSTHDR(&message); head; head = CMSG_NXTHDR(&message, head)) printf("control %d %d\n", head->cmsg_type, (int)head->cmsg_len);
    // Room for the credentials and one of the two descriptors.
    message.msg_controllen = CMSG_SPACE(12) + CMSG_LEN(4);
    SHOW(recvmsg(pair[1], &message, 0));
    printf("flags %x\n", message.msg_flags & MSG_CTRUNC);
    for (head = CMSG_FIRSTHDR(&message); head; head = CMSG_NXTHDR(&message, head)) printf("control %d %d\n", head->cmsg_type, (int)head->cmsg_len);
    // Addresses have 32 bits, and the kernel's are above.
    SHOW((long)mmap((void *)0xd0000000, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
    SHOW(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) < (void *)0xc0000000);
    SHOW(syscall(407, CLOCK_MONOTONIC, 0, 8, NULL));
    SHOW(syscall(9000));
    return 0;
}
