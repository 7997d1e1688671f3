// Prints which files of the kernel and the host a command can reach, one line each, for reach.rs. Nothing is
// changed: files are only opened, and chmod sets the mode that they already have.
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

static int digits(const char *s) { return *s && s[strspn(s, "0123456789")] == 0; }

static void mounts(void) {
    char line[4096];
    FILE *f = fopen("/proc/self/mountinfo", "r");
    if (!f) { printf("no /proc\n"); return; }
    while (fgets(line, sizeof line, f)) {
        char root[1024], point[1024], options[1024], type[256];
        char *dash = strstr(line, " - ");
        if (!dash || sscanf(line, "%*s %*s %*s %1023s %1023s %1023s", root, point, options) != 3) continue;
        sscanf(dash + 3, "%255s", type);
        printf("mount %s %s %s\n", type, point, strncmp(options, "ro", 2) == 0 ? "ro" : "rw");
    }
    fclose(f);
}

static const char *kind(mode_t mode) {
    return S_ISREG(mode) ? "file" : S_ISDIR(mode) ? "directory" : S_ISFIFO(mode) ? "pipe" : S_ISSOCK(mode) ? "socket"
         : S_ISCHR(mode) ? "character" : S_ISBLK(mode) ? "block" : "other";
}

// Prints how the owner of an open file's inode can change it.
static void change(const char *what, int fd, struct stat *st) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    if (S_ISFIFO(st->st_mode) || S_ISSOCK(st->st_mode)) return;
    if (chmod(path, st->st_mode & 07777) == 0) printf("%s can get another mode\n", what);
    if (S_ISREG(st->st_mode)) {
        int w = open(path, O_WRONLY | O_APPEND | O_NONBLOCK);
        if (w >= 0) { printf("%s can be written\n", what); close(w); }
    }
}

static void descriptors(const char *process, const char *whose) {
    char directory[64], what[160];
    snprintf(directory, sizeof directory, "/proc/%s/fd", process);
    DIR *d = opendir(directory);
    struct dirent *e;
    while (d && (e = readdir(d))) {
        if (!digits(e->d_name) || (strcmp(process, "self") == 0 && atoi(e->d_name) == dirfd(d))) continue;
        char path[400];
        struct stat st;
        snprintf(path, sizeof path, "%s/%s", directory, e->d_name);
        if (stat(path, &st)) continue;
        if (S_ISCHR(st.st_mode))
            snprintf(what, sizeof what, "%s descriptor %s %s %u:%u", whose, e->d_name, kind(st.st_mode), major(st.st_rdev), minor(st.st_rdev));
        else
            snprintf(what, sizeof what, "%s descriptor %s %s", whose, e->d_name, kind(st.st_mode));
        printf("%s\n", what);
        int fd = open(path, O_PATH);
        if (fd >= 0) { change(what, fd, &st); close(fd); }
    }
    if (d) closedir(d);
    char exe[64];
    struct stat st;
    snprintf(exe, sizeof exe, "/proc/%s/exe", process);
    int fd = open(exe, O_PATH);
    snprintf(what, sizeof what, "%s executable", whose);
    if (fd >= 0 && fstat(fd, &st) == 0) { printf("%s\n", what); change(what, fd, &st); }
    if (fd >= 0) close(fd);
}

static void walk(const char *kind_of, char *path, size_t length, int depth) {
    DIR *d = depth > 24 ? NULL : opendir(path);
    struct dirent *e;
    while (d && (e = readdir(d))) {
        if (e->d_name[0] == '.' && (!e->d_name[1] || e->d_name[1] == '.')) continue;
        // Other processes are skipped; our own files are in /proc/self.
        if (depth == 0 && strcmp(kind_of, "proc") == 0 && digits(e->d_name)) continue;
        size_t added = strlen(e->d_name) + 1;
        if (length + added >= 4000) continue;
        sprintf(path + length, "/%s", e->d_name);
        struct stat st;
        if (lstat(path, &st) == 0) {
            if (depth == 0 && strcmp(kind_of, "dev") != 0) printf("%s %s\n", kind_of, path);
            if (S_ISDIR(st.st_mode)) walk(kind_of, path, length + added, depth + 1);
            else if (strcmp(kind_of, "dev") == 0) {
                printf("dev %s %s %u:%u\n", path, kind(st.st_mode), major(st.st_rdev), minor(st.st_rdev));
                int fd = S_ISLNK(st.st_mode) ? -1 : open(path, O_PATH | O_NOFOLLOW);
                if (fd >= 0) { change(path, fd, &st); close(fd); }
            } else if (S_ISREG(st.st_mode) && st.st_mode & 0222) {
                // User 0 can open files that nobody can write; only a file with a write bit has a way to
                // accept writes.
                int fd = open(path, O_WRONLY | O_NONBLOCK);
                if (fd >= 0) { printf("writable %s\n", path); close(fd); }
            }
        }
        path[length] = 0;
    }
    if (d) closedir(d);
}

int main(int count, char **args) {
    if (count > 2 && strcmp(args[1], "of") == 0) { descriptors(args[2], "emulator's"); return 0; }
    char path[4096];
    mounts();
    descriptors("self", "own");
    // A program for this machine's CPU inspects the process of the emulator that started it.
    if (count > 1) {
        char parent[16];
        snprintf(parent, sizeof parent, "%d", getpid());
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) { execl(args[1], args[1], "of", parent, NULL); _exit(127); }
        int status;
        waitpid(child, &status, 0);
        if (status) printf("%s ended with %d\n", args[1], status);
    }
    walk("dev", strcpy(path, "/dev"), 4, 0);
    walk("proc", strcpy(path, "/proc"), 5, 0);
    strcpy(path, "/proc/self");
    walk("own", path, 10, 1);
    walk("sys", strcpy(path, "/sys"), 4, 0);
    printf("end\n");
    return 0;
}
