// oracle: native
// If there are several errors, a call reports the one that the kernel finds first, even with pointers into
// the emulator.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>
#define SAY(call) do { errno = 0; long r = (long)(call); printf("%s = %ld %s\n", #call, r < 0 ? -1L : r, r < 0 ? strerror(errno) : ""); } while (0)
int main(void) {
    setbuf(stdout, NULL);
    // The end of the program's addresses: beyond it there is nothing, or the emulator.
    size_t huge = 1ul << 40;
    char *big = mmap(NULL, huge, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    char *top = (char *)0x7ffffffff000;
    munmap(big, huge);
    char *bads[] = {top - 4096, (char *)8, (char *)-4096};
    int zero = open("/dev/zero", O_RDWR), sv[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, sv);
    for (int n = 0; n < 3; n++) {
        char *bad = bads[n];
        struct iovec io = {bad, 100};
        struct msghdr h = {.msg_iov = &io, .msg_iovlen = 1};
        SAY(read(-1, bad, 100));
        SAY(write(100, bad, 100));
        SAY(pread(zero, bad, 100, -1));
        SAY(readv(-1, &io, 1));
        SAY(readv(-1, (struct iovec *)bad, 1));
        SAY(readv(zero, (struct iovec *)bad, 5000));
        SAY(readv(zero, &io, -1));
        SAY(recvmsg(-1, &h, 0));
        SAY(recvmsg(zero, &h, 0));
        SAY(recvmsg(-1, (struct msghdr *)bad, 0));
        SAY(sendmsg(zero, (struct msghdr *)bad, 0));
        SAY(getsockopt(-1, SOL_SOCKET, SO_TYPE, bad, (socklen_t *)bad));
        SAY(getsockopt(zero, SOL_SOCKET, SO_TYPE, bad, (socklen_t *)bad));
        SAY(bind(-1, (struct sockaddr *)bad, 16));
        SAY(bind(sv[0], (struct sockaddr *)bad, 1000));
        SAY(fstat(-1, (struct stat *)bad));
        SAY(stat("/none", (struct stat *)bad));
        SAY(syscall(SYS_statx, -1, bad, 0, 0, bad));
        SAY(syscall(SYS_openat, -1, bad, 0));
        SAY(syscall(SYS_readlinkat, -1, "x", bad, 0));
        SAY(syscall(SYS_readlinkat, -100, "/proc/self/exe", bad, -1));
        SAY(ioctl(-1, FIONREAD, bad));
        SAY(ioctl(zero, 0x12345, bad));
        SAY(epoll_ctl(-1, EPOLL_CTL_ADD, 0, (struct epoll_event *)bad));
        SAY(epoll_ctl(-1, EPOLL_CTL_DEL, 0, (struct epoll_event *)bad));
        SAY(epoll_wait(-1, (struct epoll_event *)bad, 0, 0));
        SAY(epoll_wait(zero, (struct epoll_event *)bad, 1, 0));

        SAY(syscall(SYS_ppoll, NULL, 0, NULL, bad, 3));
        SAY(syscall(SYS_rt_sigsuspend, bad, 7));
        SAY(syscall(SYS_rt_sigaction, 99, NULL, NULL, 7));
        SAY(syscall(SYS_rt_sigaction, 99, bad, NULL, 8));
        SAY(syscall(SYS_rt_sigprocmask, 99, NULL, NULL, 8));
        SAY(syscall(SYS_rt_sigtimedwait, bad, NULL, NULL, 7));
        SAY(syscall(SYS_openat2, -100, bad, bad, 8));
        SAY(syscall(SYS_openat2, -100, bad, bad, 5000));
        SAY(syscall(SYS_openat2, -100, bad, bad, 24));
        SAY(semctl(-1, 0, IPC_SET, bad));
        SAY(semctl(-1, 0, IPC_STAT, bad));
        SAY(syscall(SYS_execve, "/none", bad, bad));
        SAY(syscall(SYS_execve, bad, bad, bad));
        SAY(syscall(SYS_execveat, -1, bad, bad, bad, 1));
        SAY(mmap(bad, 0, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
        SAY(mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 100, 0));
        SAY(munmap(bad, 0));
        SAY(mprotect(bad, 0, PROT_READ));
        SAY(mprotect(bad, 0, PROT_GROWSDOWN | PROT_GROWSUP));
        SAY(mprotect(bad, 4096, PROT_GROWSDOWN | PROT_GROWSUP));
        SAY(mprotect(bad + 1, 4096, PROT_READ));
        SAY(mprotect(bad, 4096, 1 << 20));
        SAY(madvise(bad, 0, 0));
        SAY(madvise(bad, 4096, 9999));
        SAY(madvise(bad + 1, 4096, 0));
        SAY(mlock(bad, 0));
        SAY(msync(bad, 4096, 99));
        SAY(msync(bad + 1, 4096, MS_SYNC));
        SAY(mincore(bad, 4096, (unsigned char *)bad));
        SAY(mincore(bad + 1, 4096, (unsigned char *)bad));
        SAY(mremap(bad, 4096, 0, 0));
        SAY(mremap(bad + 1, 4096, 4096, 0));
        SAY(mremap(bad, 4096, 4096, 99));
        SAY(syscall(SYS_getdents64, -1, bad, 100));
        SAY(syscall(SYS_getdents64, zero, bad, 100));
        SAY(syscall(SYS_getcwd, bad, 1));
        SAY(syscall(SYS_getrandom, bad, 1, 99));
        SAY(syscall(SYS_clock_gettime, 99, bad));
        SAY(syscall(SYS_setrlimit, 99, bad));
        SAY(syscall(SYS_pipe2, bad, 99));
        SAY(syscall(SYS_fcntl, -1, F_GETLK, bad));
        SAY(syscall(SYS_waitid, 99, 0, bad, 0, 0));
        SAY(syscall(SYS_capget, bad, bad));
        SAY(syscall(SYS_sched_getaffinity, 0, 1, bad));
        SAY(syscall(SYS_process_vm_readv, -1, bad, 5000, bad, 1, 0));
        SAY(syscall(SYS_process_vm_readv, 0x7fffffff, &io, 1, &io, 1, 0));
    }
    return 0;
}
