// oracle: native
// A vfork child's writes are seen by the parent, and posix_spawn reports that a program is missing.
#define _GNU_SOURCE
#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
extern char **environ;
int main(void) {
    volatile int seen = 0;
    int s;
    pid_t p = vfork();
    if (p == 0) { seen = 1; _exit(5); }
    waitpid(p, &s, 0);
    printf("seen %d status %d\n", seen, WEXITSTATUS(s));
    char *const args[] = {"missing", NULL};
    printf("spawn %s\n", strerror(posix_spawn(&p, "/does/not/exist", NULL, NULL, args, environ)));
    printf("spawn %s\n", strerror(posix_spawn(&p, "/etc/passwd", NULL, NULL, args, environ)));
    printf("spawn %s\n", strerror(posix_spawn(&p, "/", NULL, NULL, args, environ)));
    return 0;
}
