// oracle: file
// The tagged address ABI: a thread that has asked for it may pass pointers with a top byte to system calls,
// even in structures in memory.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#define SET 55
#define GET 56
static void *tag(void *p) { return (void *)((uintptr_t)p | 0x2aul << 56); }
static void say(const char *what, long r) { printf("%s: %ld %s\n", what, r, r < 0 ? strerror(errno) : ""); }
static void *thread(void *p) {
    say("in a thread", prctl(GET, 0, 0, 0, 0));
    return NULL;
}
int main(int c, char **v) {
    if (c > 1) {
        say("after execve", prctl(GET, 0, 0, 0, 0));
        printf("%s %s\n", v[1], getenv("VARIABLE"));
        return 0;
    }
    setbuf(stdout, NULL);
    char *text = strdup("tagged\n"), buffer[16] = "";
    say("before", write(1, tag(text), 7));
    say("unknown bits", prctl(SET, 2, 0, 0, 0));
    say("more arguments", prctl(SET, 1, 1, 0, 0));
    say("set", prctl(SET, 1, 0, 0, 0));
    say("get", prctl(GET, 0, 0, 0, 0));
    say("write", write(1, tag(text), 7));
    int pipes[2], sv[2];
    say("pipe", pipe(tag(pipes)));
    struct iovec io[2] = {{tag(text), 3}, {tag(text + 3), 4}}, in[2] = {{tag(buffer), 5}, {buffer + 5, 5}};
    say("writev", writev(pipes[1], tag(io), 2));
    say("readv", readv(pipes[0], in, 2));
    say(buffer, 0);
    socketpair(AF_UNIX, SOCK_STREAM, 0, sv);
    char control[64], from[64];
    struct msghdr out = {.msg_iov = tag(io), .msg_iovlen = 2};
    say("sendmsg", sendmsg(sv[0], tag(&out), 0));
    memset(buffer, 0, sizeof buffer);
    struct msghdr h = {.msg_iov = tag(in), .msg_iovlen = 2, .msg_control = tag(control), .msg_controllen = sizeof control, .msg_name = tag(from), .msg_namelen = sizeof from};
    say("recvmsg", recvmsg(sv[1], tag(&h), 0));
    printf("%s%d %d\n", buffer, (int)h.msg_namelen, (int)h.msg_controllen);
    socketpair(AF_UNIX, SOCK_DGRAM, 0, sv);
    struct mmsghdr sent[2] = {{out}, {out}};
    say("sendmmsg", sendmmsg(sv[0], tag(sent), 2, 0));
    printf("%u %u\n", sent[0].msg_len, sent[1].msg_len);
    memset(buffer, 0, sizeof buffer);
    struct mmsghdr got[3] = {{h}, {h}, {h}};
    say("recvmmsg", recvmmsg(sv[1], tag(got), 3, MSG_DONTWAIT, NULL));
    printf("%s%u %u %u\n", buffer, got[0].msg_len, got[1].msg_len, got[2].msg_len);
    struct stat st;
    say("stat", stat(tag("/dev/null"), tag(&st)));
    say("open", open(tag("/dev/null"), O_RDONLY) > 2);
    char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    say("mprotect", mprotect(tag(page), 4096, PROT_READ));
    say("madvise", madvise(tag(page), 4096, MADV_DONTNEED));
    say("munmap", munmap(tag(page), 8192));
    pthread_t t;
    pthread_create(&t, NULL, thread, NULL);
    pthread_join(t, NULL);
    if (!fork()) {
        say("in a child", prctl(GET, 0, 0, 0, 0));
        char *arguments[] = {tag("self"), tag("again"), NULL}, *environment[] = {tag("VARIABLE=value"), NULL};
        execve(tag("/proc/self/exe"), tag(arguments), tag(environment));
    }
    wait(NULL);
    say("unset", prctl(SET, 0, 0, 0, 0));
    say("after", write(1, tag(text), 7));
    return 0;
}
