// oracle: native
// A user namespace of its own, as unshare -U makes it, with a map of one user.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
static int put(const char *path, const char *text) {
    int fd = open(path, O_WRONLY);
    int result = write(fd, text, strlen(text)) == strlen(text);
    close(fd);
    return result;
}
int main(void) {
    char map[64], read_back[64] = "";
    int user = geteuid(), group = getegid(), inside, outside, length;
    printf("unshare %d\n", unshare(CLONE_NEWUSER));
    printf("nobody %d %d\n", (int)geteuid(), (int)getegid());
    sprintf(map, "0 %d 1\n", user);
    printf("map %d", put("/proc/self/uid_map", map));
    printf(" %d", put("/proc/self/setgroups", "deny"));
    sprintf(map, "0 %d 1\n", group);
    printf(" %d\n", put("/proc/self/gid_map", map));
    printf("root %d %d\n", (int)geteuid(), (int)getegid());
    read(open("/proc/self/uid_map", O_RDONLY), read_back, 63);
    printf("fields %d", sscanf(read_back, "%d %d %d", &inside, &outside, &length));
    printf(" %d %d\n", inside, length);
    printf("host name %d\n", unshare(CLONE_NEWUTS) || sethostname("inside", 6));
    gethostname(map, sizeof map);
    printf("%s\n", map);
    printf("again %d\n", setuid(0));
    printf("other %d", setuid(1));
    printf(" %s\n", strerror(errno));
    return 0;
}
