// oracle: native
// Another process sees a program's arguments and environment in /proc/PID, as they change, and its file.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <sys/stat.h>
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
static void show_file(int pid) {
    char path[64], link[4096] = {0};
    struct stat a, b, l;
    sprintf(path, "/proc/%d/exe", pid);
    readlink(path, link, sizeof link - 1);
    int fd = open(path, O_RDONLY);
    printf("exe ends %s\n", strrchr(link, '/'));
    stat("/proc/self/exe", &b);
    printf("same %d ", stat(path, &a) == 0 && a.st_ino == b.st_ino && a.st_size == b.st_size);
    printf("%d ", fstat(fd, &a) == 0 && a.st_ino == b.st_ino);
    printf("link %d\n", lstat(path, &l) == 0 && S_ISLNK(l.st_mode));
    close(fd);
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
        if (p == 0) { show(parent, "cmdline"); show(parent, "environ"); show_file(parent); _exit(0); }
        waitpid(p, NULL, 0);
        strcpy(v[1], "changed");
    }
    return 0;
}
