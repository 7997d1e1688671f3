// oracle: native
// execve of the program itself, by path, by /proc/self/exe and by descriptor; arguments, environment,
// close-on-exec, errors.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
static void show(int c, char **v) {
    char exe[4096] = {0}, comm[32] = {0};
    readlink("/proc/self/exe", exe, 4095);
    int fd = open("/proc/self/comm", O_RDONLY);
    read(fd, comm, 31);
    close(fd);
    printf("argc %d argv0 %s argv1 %s X %s exe ends %s comm %s", c, strrchr(v[0], '/') ? strrchr(v[0], '/') : v[0], c > 1 ? v[1] : "-", getenv("X"), strrchr(exe, '/'), strncmp(comm, "guest", 5) ? comm : "guest\n");
    DIR *d = opendir("/proc/self/fd");
    int listed = 0;
    while (readdir(d)) listed++;
    closedir(d);
    printf("listed %d ", listed);
    struct stat st;
    for (int n = 3; n < 1024; n++) if (fstat(n, &st) >= 0) printf("stat %d ", n);
    printf("open: ");
    for (int n = 3; n < 1024; n++) if (fcntl(n, F_GETFD) >= 0) printf("%d ", n);
    printf("\n");
    fflush(stdout);
}
static void child(int how, char *path) {
    char *args[] = {"new name", "one", NULL}, *env[] = {"X=y", NULL}, *none[] = {NULL};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    switch (how) {
    case 0: execve(path, args, env); break;
    case 1: execve("/proc/self/exe", args, env); break;
    case 2: syscall(SYS_execveat, fd, "", args, env, AT_EMPTY_PATH); break;
    case 3: dup2(fd, 9); execve(path, args, env); break;
    case 4: execve("/tmp", args, env); break;
    case 5: execve("/does/not/exist", args, env); break;
    case 6: execve("/etc/passwd", args, env); break;
    case 7: execve((char *)8, args, env); break;
    case 8: execve(path, (char **)8, env); break;
    case 9: { char t[] = "/tmp/guestXXXXXX"; int f = mkstemp(t); write(f, "nonsense", 8); fchmod(f, 0755); close(f);
              execve(t, args, env); int e = errno; unlink(t); errno = e; break; }
    case 10: { char t[] = "/tmp/guestXXXXXX"; int f = mkstemp(t); dprintf(f, "#! %s  arg two \n", path); fchmod(f, 0755); close(f);
              args[0] = "script"; setenv("X", "z", 1); setenv("UNLINK", t, 1); execv(t, args); break; }
    }
    printf("%s\n", strerror(errno));
    fflush(stdout);
    _exit(0);
}
int main(int c, char **v) {
    close_range(3, ~0U, 0);
    if (getenv("X")) { show(c - (getenv("UNLINK") != 0), v); if (getenv("UNLINK")) unlink(getenv("UNLINK")); return 0; }
    printf("execfn %d\n", strcmp((char *)getauxval(AT_EXECFN), v[0]) == 0);
    for (int how = 0; how < 11; how++) {
        printf("%d: ", how);
        fflush(stdout);
        pid_t p = fork();
        if (p == 0) child(how, v[0]);
        waitpid(p, NULL, 0);
    }
    return 0;
}
