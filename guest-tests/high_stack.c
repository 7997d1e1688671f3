// oracle: file
// A program that says that it was built with Go's race detector finds its stack at addresses with 48 bits, and
// may use them as all others: in system calls, in structures that these read, and in signal handlers.
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
__asm__(".pushsection .note.go.buildid, \"a\", %note\n.word 4, 4, 4\n.ascii \"Go\\0\\0test\"\n.popsection\n"
        ".pushsection .go.buildinfo, \"a\"\n.ascii \"\\nbuild\\t-race=true\\n\"\n.popsection\n");
static int failed;
#define OK(condition) ((condition) ? 0 : (failed = 1, printf("line %d: %m\n", __LINE__)))
static int is_high(void *p) { return (uintptr_t)p >> 47 == 1; }
static volatile int signals;
static void on_signal(int n, siginfo_t *i, void *context) { signals += is_high(&n) ? 1 : 100; }
static sigjmp_buf back;
static void on_fault(int n, siginfo_t *i, void *context) { siglongjmp(back, 1); }
static void *add(void *p) { return ++*(int *)p, p; }
static int is_in_maps(void *p) {
    unsigned long start, end;
    char line[512];
    int found = 0;
    FILE *maps = fopen("/proc/self/maps", "r");
    while (fgets(line, sizeof line, maps))
        found |= sscanf(line, "%lx-%lx", &start, &end) == 2 && start <= (uintptr_t)p && (uintptr_t)p < end && strstr(line, "[stack]");
    fclose(maps);
    return found;
}
int main(int c, char **v) {
    if (c > 1) return !is_high(&c) || strcmp(v[1], "again") || strcmp(getenv("VARIABLE"), "value");
    int number = 0, pipes[2], sockets[2], status = 1;
    OK(is_high(&number));
    char one[] = "one ", two[] = "two", buffer[9] = "";
    struct iovec out[2] = {{one, 4}, {two, 4}}, in[2] = {{buffer, 3}, {buffer + 3, 5}};
    OK(pipe(pipes) == 0);
    OK(writev(pipes[1], out, 2) == 8 && readv(pipes[0], in, 2) == 8 && !strcmp(buffer, "one two"));

    OK(socketpair(AF_UNIX, SOCK_DGRAM, 0, sockets) == 0);
    struct msghdr sent = {NULL, 0, out, 2}, got = {NULL, 0, in, 2};
    OK(sendmsg(sockets[0], &sent, 0) == 8 && recvmsg(sockets[1], &got, 0) == 8);
    struct mmsghdr more = {sent}, received[2] = {{got}, {got}};
    memset(buffer, 0, sizeof buffer);
    OK(sendmmsg(sockets[0], &more, 1, 0) == 1 && more.msg_len == 8);
    OK(recvmmsg(sockets[1], received, 2, MSG_DONTWAIT, NULL) == 1 && received[0].msg_len == 8);
    OK(!strcmp(buffer, "one two"));
    OK(process_vm_readv(getpid(), in, 1, out, 1, 0) == 3);

    struct timespec time = {0, 1000};
    sigset_t none;
    fd_set set;
    sigemptyset(&none);
    FD_ZERO(&set);
    FD_SET(pipes[1], &set);
    OK(pselect(pipes[1] + 1, NULL, &set, NULL, &time, &none) == 1);
    struct pollfd polled = {pipes[1], POLLOUT};
    OK(ppoll(&polled, 1, &time, &none) == 1);
    struct epoll_event event = {EPOLLOUT, {.fd = 77}};
    int epoll = epoll_create1(0);
    OK(epoll_ctl(epoll, EPOLL_CTL_ADD, pipes[1], &event) == 0);
    OK(epoll_pwait(epoll, &event, 1, 0, &none) == 1 && event.data.fd == 77);
    struct stat file;
    OK(stat(v[0], &file) == 0 && S_ISREG(file.st_mode));
    pthread_t thread;
    OK(pthread_create(&thread, NULL, add, &number) == 0 && pthread_join(thread, NULL) == 0 && number == 1);

    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
    OK(sigaction(SIGUSR1, &action, NULL) == 0 && raise(SIGUSR1) == 0 && signals == 1);
    stack_t other = {.ss_sp = alloca(65536), .ss_size = 65536}, now;
    OK(sigaltstack(&other, NULL) == 0 && sigaltstack(NULL, &now) == 0 && now.ss_sp == other.ss_sp);
    action.sa_flags |= SA_ONSTACK;
    OK(sigaction(SIGUSR1, &action, NULL) == 0 && raise(SIGUSR1) == 0 && signals == 2);
    action.sa_sigaction = on_fault;
    OK(sigaction(SIGSEGV, &action, NULL) == 0);
    if (!sigsetjmp(back, 1)) *(volatile char *)(1ul << 47 | 16) = 1, OK(0);
    volatile char deep[400000];
    for (int n = 0; n < sizeof deep; n += 1024) deep[sizeof deep - 1 - n] = n >> 10;
    OK(deep[sizeof deep - 1 - 1024] == 1);

    char again[] = "again", variable[] = "VARIABLE=value", *arguments[] = {v[0], again, NULL};
    char *environment[] = {variable, NULL};
    pid_t child;
    OK(posix_spawn(&child, "/proc/self/exe", NULL, NULL, arguments, environment) == 0);
    OK(waitpid(child, &status, 0) == child && status == 0);
    child = fork();
    if (!child) _exit(execve(v[0], arguments, environment));
    OK(waitpid(child, &status, 0) == child && status == 0);
    OK(is_in_maps(&number));
    puts(failed ? "failed" : "fine");
    return failed;
}
