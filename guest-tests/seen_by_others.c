// oracle: native
// Another process sees a program's arguments and environment in /proc/PID, as they change.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>
static void show(int pid, const char *file) {
    char path[64], text[4096];
    sprintf(path, "/proc/%d/%s", pid, file);
    int fd = open(path, O_RDONLY), n = read(fd, text, sizeof text);
    close(fd);
    printf("%s:", file);
    for (int i = 0; i < n; i++) putchar(text[i] ? text[i] : '|');
    printf("\n");
    fflush(stdout);
}
int main(int c, char **v, char **e) {
    if (c == 1) {
        char *args[] = {"first", "second argument", "", "x", NULL}, *env[] = {"A=b", "LONG=value", NULL};
        execve(v[0], args, env);
        return 1;
    }
    int parent = getpid();
    for (int round = 0; round < 2; round++) {
        pid_t p = fork();
        if (p == 0) { show(parent, "cmdline"); show(parent, "environ"); _exit(0); }
        waitpid(p, NULL, 0);
        strcpy(v[1], "changed");
    }
    return 0;
}
