// oracle: file
// Above the stack lies the emulator: system calls with buffers there fail with EFAULT, accesses are SIGSEGV.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
static sigjmp_buf back;
static void on(int s) { siglongjmp(back, 1); }
#define TRY(call) do { errno = 0; long r = (long)(call); if (r != -1 || errno != EFAULT) printf("%s = %ld %s at page %ld\n", #call, r, strerror(errno), n); } while (0)
int main(void) {
    unsigned long end = 0;
    char line[512];
    FILE *f = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, f)) if (strstr(line, "[stack]")) sscanf(line, "%*lx-%lx", &end);
    fclose(f);
    signal(SIGSEGV, on);
    int fd = open("/dev/zero", O_RDONLY), sv[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, sv);
    write(sv[0], "0123456789", 10);
    for (long n = 61; n < 3000; n += 61) {
        char *p = (char *)end + 4096 * n;
        struct iovec io = {p, 4096};
        struct msghdr h = {.msg_iov = &io, .msg_iovlen = 1};
        struct timespec t;
        TRY(read(fd, p, 4096));
        TRY(pread(fd, p, 4096, 0));
        TRY(readv(fd, &io, 1));
        TRY(recvmsg(sv[1], &h, 0));
        TRY(recv(sv[1], p, 10, 0));
        TRY(fstat(fd, (struct stat *)p));
        TRY(uname((struct utsname *)p));
        TRY(pipe((int *)p));
        TRY(ioctl(sv[1], FIONREAD, p));
        TRY(sigprocmask(SIG_BLOCK, NULL, (sigset_t *)p));
        TRY(open(p, O_RDONLY));
        if (mprotect(p, 4096, PROT_READ) != -1) printf("mprotect %ld\n", n);
        if (munmap(p, 4096) != -1) printf("munmap %ld\n", n);
        if (mmap(p, 4096, PROT_READ, MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED) printf("mmap %ld\n", n);
        if (madvise(p, 4096, MADV_DONTNEED) != -1) printf("madvise %ld\n", n);
        if (!sigsetjmp(back, 1)) { *(volatile char *)p = 1; printf("written %ld\n", n); }
    }
    // A buffer that crosses the border.
    errno = 0;
    long r = read(fd, (char *)end - 8, 1 << 20);
    printf("crossing %d\n", r == 8 || r == -1 && errno == EFAULT);
    printf("done\n");
    return 0;
}
