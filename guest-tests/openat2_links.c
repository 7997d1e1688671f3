// oracle: native
// openat2(2) with RESOLVE_ flags follows, or refuses, the links of /proc that the emulator answers for.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
static void one(int directory, const char *path, uint64_t flags, uint64_t resolve) {
    uint64_t how[3] = {flags, 0, resolve};
    errno = 0;
    long fd = syscall(SYS_openat2, directory, path, how, sizeof how);
    printf("%s, flags %#lx, resolve %#lx: %s\n", path, (long)flags, (long)resolve, fd < 0 ? strerror(errno) : "opened");
    if (fd >= 0) close(fd);
}
int main(void) {
    const char *paths[] = {"/proc/self/exe", "/proc/self/maps", "/proc/thread-self/maps", "/proc/cpuinfo", "/proc/self/fd/0", "/proc/self/cwd/nothing", "/proc/self/nothing"};
    for (int n = 0; n < 7; n++)
        // No flag, NO_XDEV, NO_MAGICLINKS, NO_SYMLINKS, BENEATH, IN_ROOT.
        for (uint64_t resolve = 0; resolve < 0x20; resolve = resolve ? resolve * 2 : 1) one(AT_FDCWD, paths[n], O_RDONLY, resolve);
    one(AT_FDCWD, "/proc/self/exe", O_WRONLY, 2);
    int root = open("/", O_PATH | O_DIRECTORY);
    one(root, "/proc/self/exe", O_RDONLY, 0x10);
    one(root, "/proc/self/maps", O_RDONLY, 0x10);
    return 0;
}
