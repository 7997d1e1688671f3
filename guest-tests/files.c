// oracle: native
// Flags and layouts that differ between arm64 and x86-64: open, stat, fcntl, epoll, pipe, getdents, statx.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
int main(void) {
    int n;
    char dir[] = "/tmp/guestXXXXXX";
    mkdtemp(dir);
    chdir(dir);
    int fd = open("file", O_CREAT | O_RDWR | O_TRUNC, 0640);
    write(fd, "hello world", 11);
    fchmod(fd, 0604);
    struct stat s, t;
    fstat(fd, &s);
    stat("file", &t);
    printf("mode %o size %ld nlink %ld blksize %d same %d regular %d\n", s.st_mode & 0777, (long)s.st_size, (long)s.st_nlink,
           (int)s.st_blksize, s.st_ino == t.st_ino && s.st_dev == t.st_dev && s.st_mtim.tv_nsec == t.st_mtim.tv_nsec, S_ISREG(s.st_mode));
    symlink("file", "link");
    lstat("link", &t);
    printf("link %d size %ld\n", S_ISLNK(t.st_mode), (long)t.st_size);
    n = open("link", O_RDONLY | O_NOFOLLOW);
    printf("nofollow %d %s\n", n, strerror(errno));
    n = open("file", O_RDONLY | O_DIRECTORY);
    printf("directory %d %s\n", n, strerror(errno));
    int d = open(".", O_RDONLY | O_DIRECTORY);
    printf("directory %d\n", d >= 0);
    n = fcntl(d, F_GETFL);
    printf("flags %d %d %d %d\n", (n & O_DIRECTORY) != 0, (n & O_NOFOLLOW) != 0, (n & O_DIRECT) != 0, n & O_ACCMODE);
    n = open(".", O_TMPFILE | O_RDWR, 0600);
    printf("tmpfile %d\n", n >= 0 || errno == EOPNOTSUPP);
    struct statx x;
    n = statx(AT_FDCWD, "file", 0, STATX_BASIC_STATS, &x);
    printf("statx %d %o\n", n, x.stx_mode & 0777);
    int p[2];
    pipe2(p, O_NONBLOCK | O_CLOEXEC);
    printf("pipe %d %d\n", (int)read(p[0], dir + 20, 0), fcntl(p[0], F_GETFL) & O_NONBLOCK ? 1 : 0);
    int e = epoll_create1(0), v = eventfd(3, 0), w = eventfd(0, 0);
    struct epoll_event ev[4] = {{.events = EPOLLIN, .data.u64 = 0x1122334455667788}};
    epoll_ctl(e, EPOLL_CTL_ADD, v, &ev[0]);
    ev[0].data.u64 = 0x99; ev[0].events = EPOLLOUT;
    epoll_ctl(e, EPOLL_CTL_ADD, w, &ev[0]);
    memset(ev, 0, sizeof ev);
    n = epoll_wait(e, ev, 4, 100);
    unsigned long long all = 0;
    for (int i = 0; i < n; i++) all += ev[i].data.u64 + ev[i].events;
    printf("epoll %d %llx\n", n, all);
    printf("del %d\n", epoll_ctl(e, EPOLL_CTL_DEL, v, NULL));
    struct pollfd pf[2] = {{p[0], POLLIN, 0}, {v, POLLIN, 0}};
    n = poll(pf, 2, 0);
    printf("poll %d %x\n", n, pf[1].revents);
    fd_set r;
    FD_ZERO(&r); FD_SET(v, &r); FD_SET(p[0], &r);
    struct timeval tv = {0, 0};
    n = select(1000, &r, NULL, NULL, &tv);
    printf("select %d %d\n", n, FD_ISSET(v, &r) != 0);
    struct iovec io[2] = {{"ab", 2}, {"cd", 2}};
    printf("writev %d\n", (int)writev(fd, io, 2));
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    printf("lock %d\n", fcntl(fd, F_SETLK, &l));
    lseek(fd, 0, SEEK_SET);
    n = (int)read(fd, (void *)1, 1);
    printf("bad %d %s\n", n, strerror(errno));
    DIR *dd = opendir(".");
    int count = 0;
    while (readdir(dd)) count++;
    printf("entries %d\n", count);
    printf("close_range %d\n", close_range(3, ~0U, 0));
    printf("open again %d\n", open(".", O_RDONLY));
    unlink("file"); unlink("link"); rmdir(dir);
    return 0;
}
