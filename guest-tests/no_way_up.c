// oracle: file
// The emulator lies above all memory of the program: system calls with buffers there fail with EFAULT, and
// accesses are SIGSEGV.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <linux/aio_abi.h>
#include <linux/futex.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>
static sigjmp_buf back;
static void on(int s) { siglongjmp(back, 1); }
#define NO(error, call) do { errno = 0; long r = (long)(call); if (r != -1 || errno != error) printf("%s = %ld %s at page %ld\n", #call, r, strerror(errno), n); } while (0)
#define TRY(call) do { errno = 0; long r = (long)(call); if (r != -1 || errno != EFAULT) printf("%s = %ld %s at page %ld\n", #call, r, strerror(errno), n); } while (0)
int main(void) {
    // A mapping that needs more than 39 bits is put below the emulator.
    size_t huge = 1ul << 40;
    char *big = mmap(NULL, huge, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0), *highest = big + huge;
    // Large mappings are aligned; single pages fill the gap above, from the top.
    for (int n = 0; n < 2000; n++) {
        char *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (page + 4096 > highest) highest = page + 4096;
    }
    unsigned long end = (unsigned long)highest;
    signal(SIGSEGV, on);
    int fd = open("/dev/zero", O_RDONLY), sv[2];
    socketpair(AF_UNIX, SOCK_STREAM, 0, sv);
    write(sv[0], "0123456789", 10);
    int pipes[2], word = 0, mine = 7, memory = open("/proc/self/mem", O_RDWR), out = open("/tmp", O_TMPFILE | O_RDWR, 0600);
    pipe(pipes);
    write(pipes[1], "abc", 3);
    write(out, "abcdefgh", 8);
    aio_context_t ring = 0;
    syscall(SYS_io_setup, 4, &ring);
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
        struct iovec from = {"abc", 3};
        TRY(process_vm_writev(getpid(), &from, 1, &io, 1, 0));
        TRY(process_vm_writev(gettid(), &from, 1, &io, 1, 0));
        TRY(vmsplice(pipes[0], &io, 1, 0));
        struct iocb block = {.aio_lio_opcode = IOCB_CMD_PREAD, .aio_fildes = out, .aio_buf = (long)p, .aio_nbytes = 8}, *blocks = &block;
        TRY(syscall(SYS_io_submit, ring, 1, &blocks));
        block.aio_lio_opcode = IOCB_CMD_PREADV;
        block.aio_buf = (long)&io;
        block.aio_nbytes = 1;
        TRY(syscall(SYS_io_submit, ring, 1, &blocks));
        blocks = (struct iocb *)p;
        TRY(syscall(SYS_io_submit, ring, 1, &blocks));
        struct ifconf list = {.ifc_len = 4096, .ifc_buf = p};
        TRY(ioctl(sv[1], SIOCGIFCONF, &list));
        TRY(syscall(SYS_futex, &word, FUTEX_WAKE_OP, 1, 1L, p, 0));
        if (syscall(SYS_futex, &word, FUTEX_WAKE, 1, p, p, 0) != 0) printf("a wake %ld\n", n);
        NO(ENOMEM, syscall(462, p, 4096L, 0L));
        NO(EIO, pwrite(memory, "abcdefgh", 8, (long)p));
        lseek(memory, (long)p, SEEK_SET);
        NO(EIO, write(memory, "abcdefgh", 8));
        NO(EIO, writev(memory, &from, 1));
        loff_t at = (long)p, begin = 0;
        NO(EIO, splice(pipes[0], NULL, memory, &at, 3, 0));
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
    // A program can write its own memory through /proc/self/mem.
    r = pwrite(memory, "\5\0\0", 4, (long)&mine);
    printf("by its file %ld %d\n", r, mine);
    // Writes what the memory already holds; some pages of guest memory may follow the stack.
    static char same[1 << 20];
    pread(memory, same, sizeof same, (long)end - 8);
    r = pwrite(memory, same, sizeof same, (long)end - 8);
    printf("crossing by its file %d\n", r >= 8 && r < sizeof same || r == -1 && errno == EIO);
    printf("done\n");
    return 0;
}
