// oracle: native
// mlockall(2) counts the program's own memory against RLIMIT_MEMLOCK.
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>
#define SAY(call) do { errno = 0; int r = call; printf("%s = %d %s\n", #call, r, r ? strerror(errno) : ""); } while (0)
int main(int c, char **v) {
    struct rlimit stack = {1 << 20, 1 << 20}, lock = {8 << 20, 8 << 20}, small = {64 << 10, 64 << 10};
    if (c == 1) {
        // The stack's limit takes effect with the next execve.
        setrlimit(RLIMIT_STACK, &stack);
        setrlimit(RLIMIT_MEMLOCK, &lock);
        if (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534)) errno = 0;
        execl("/proc/self/exe", "again", "again", NULL);
        perror("execl");
        return 1;
    }
    SAY(mlockall(0));
    SAY(mlockall(8));
    SAY(mlockall(MCL_CURRENT));
    char *p = mmap(NULL, 16 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    SAY(munlockall());
    SAY(mlockall(MCL_FUTURE));
    SAY(mmap(NULL, 16 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
    SAY(munlockall());
    SAY(munmap(p, 16 << 20));
    setrlimit(RLIMIT_MEMLOCK, &small);
    SAY(mlockall(MCL_CURRENT));
    return 0;
}
