// oracle: file
// Directories and large files, for programs that do not ask for large files.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
enum { FILES = 500 };
static void show(const char *what, long result) { printf("%s: %ld %s\n", what, result, result == -1 ? strerror(errno) : ""); }
#define SHOW(call) do { errno = 0; show(#call, call); } while (0)
// struct linux_dirent
struct entry { unsigned inode, position; unsigned short length; char name[]; };
int main(void) {
    char directory[] = "/tmp/guestXXXXXX", name[16];
    if (!mkdtemp(directory) || chdir(directory)) return 1;
    for (int n = 0; n < FILES; n++) {
        sprintf(name, "n%d", n);
        close(creat(name, 0600));
    }
    // By the C library.
    int count = 0, sum = 0;
    long place = 0;
    char then[16] = "";
    DIR *d = opendir(".");
    for (struct dirent *e; errno = 0, e = readdir(d);) {
        count++;
        if (e->d_name[0] == 'n') sum += atoi(e->d_name + 1);
        if (count == FILES / 2) place = telldir(d);
        if (count == FILES / 2 + 1) strcpy(then, e->d_name);
    }
    printf("readdir: %d entries, sum %d, error %d\n", count, sum, errno);
    seekdir(d, place);
    printf("seekdir: same %d\n", !strcmp(readdir(d)->d_name, then));
    rewinddir(d);
    for (count = 0; readdir(d); count++);
    printf("rewinddir: %d entries\n", count);
    closedir(d);
    // By the oldest call.
    static char buffer[4096];
    int fd = open(".", O_RDONLY | O_DIRECTORY), length, files = 0;
    unsigned middle = 0;
    count = sum = 0;
    while ((length = syscall(SYS_getdents, fd, buffer, sizeof buffer)) > 0) {
        for (int at = 0; at < length;) {
            struct entry *e = (void *)(buffer + at);
            count++;
            files += buffer[at + e->length - 1] == DT_REG;
            if (e->name[0] == 'n') sum += atoi(e->name + 1);
            if (count == FILES / 2) middle = e->position;
            if (count == FILES / 2 + 1) strcpy(then, e->name);
            at += e->length;
        }
    }
    printf("getdents: %d entries, %d files, sum %d, end %d\n", count, files, sum, length);
    SHOW(lseek(fd, middle, SEEK_SET) == middle);
    syscall(SYS_getdents, fd, buffer, sizeof buffer);
    printf("lseek: same %d\n", !strcmp(((struct entry *)buffer)->name, then));
    SHOW(syscall(SYS_getdents, fd, buffer, 8));
    close(fd);
    for (int n = 0; n < FILES; n++) {
        sprintf(name, "n%d", n);
        unlink(name);
    }
    // A file of 3 GiB.
    fd = open64("large", O_RDWR | O_CREAT, 0600);
    SHOW(ftruncate64(fd, 3ll << 30));
    SHOW(syscall(SYS_open, "large", O_RDONLY));
    SHOW(syscall(SYS_openat, AT_FDCWD, "large", O_RDWR));
    SHOW(syscall(SYS_open, "large", O_RDWR | O_TRUNC));
    SHOW(syscall(SYS_open, "large", O_PATH) >= 0);
    SHOW(open64("large", O_RDONLY) >= 0);
    struct stat status;
    struct stat64 status64;
    SHOW(stat("large", &status));
    SHOW(stat64("large", &status64));
    printf("size %llx\n", (long long)status64.st_size);
    SHOW(syscall(SYS_lseek, fd, -1, SEEK_END));
    SHOW(lseek64(fd, -1, SEEK_END) == (3ll << 30) - 1);
    unlink("large");
    SHOW(chdir("/"));
    SHOW(rmdir(directory));
    return 0;
}
