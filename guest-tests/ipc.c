// SysV IPC, sockets with passed descriptors and credentials, timers, signalfd, sigwait, inotify.
#define _GNU_SOURCE
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
int main(void) {
    int s = semget(IPC_PRIVATE, 3, 0600);
    struct semid_ds ds;
    union { int val; struct semid_ds *buf; } u = {.buf = &ds};
    memset(&ds, 0, sizeof ds);
    semctl(s, 0, IPC_STAT, u);
    printf("sem %ld mode %o ctime %d otime %ld\n", (long)ds.sem_nsems, ds.sem_perm.mode & 0777, ds.sem_ctime > 1000000, (long)ds.sem_otime);
    struct sembuf op = {0, 1, 0};
    printf("semop %d %d\n", semop(s, &op, 1), semctl(s, 0, GETVAL, 0));
    semctl(s, 0, IPC_RMID, u);
    int m = shmget(IPC_PRIVATE, 5000, 0600);
    char *p = shmat(m, NULL, 0);
    struct shmid_ds sd;
    strcpy(p, "shared");
    shmctl(m, IPC_STAT, &sd);
    printf("shm %s %ld %ld\n", p, (long)sd.shm_segsz, (long)sd.shm_nattch);
    shmdt(p);
    shmctl(m, IPC_RMID, NULL);
    int q = msgget(IPC_PRIVATE, 0600);
    struct { long t; char x[8]; } msg = {5, "abc"};
    msgsnd(q, &msg, 4, 0);
    struct msqid_ds md;
    msgctl(q, IPC_STAT, &md);
    memset(&msg, 0, sizeof msg);
    printf("msg %ld %d %s\n", (long)md.msg_qnum, (int)msgrcv(q, &msg, 8, 5, 0), msg.x);
    msgctl(q, IPC_RMID, NULL);
    int sv[2], fds[2];
    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv);
    pipe(fds);
    char control[CMSG_SPACE(sizeof(int))], data = 'd';
    struct iovec io = {&data, 1};
    struct msghdr h = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&h);
    c->cmsg_level = SOL_SOCKET; c->cmsg_type = SCM_RIGHTS; c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &fds[1], sizeof(int));
    printf("sendmsg %d\n", (int)sendmsg(sv[0], &h, 0));
    memset(control, 0, sizeof control);
    printf("recvmsg %d\n", (int)recvmsg(sv[1], &h, 0));
    int got;
    memcpy(&got, CMSG_DATA(CMSG_FIRSTHDR(&h)), sizeof got);
    write(got, "z", 1);
    read(fds[0], &data, 1);
    printf("passed %c\n", data);
    sigset_t set;
    sigemptyset(&set); sigaddset(&set, SIGUSR1); sigaddset(&set, SIGCHLD); sigaddset(&set, SIGRTMIN + 1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    int f = signalfd(-1, &set, 0);
    raise(SIGUSR1);
    struct signalfd_siginfo si;
    read(f, &si, sizeof si);
    printf("signalfd %d\n", si.ssi_signo);
    siginfo_t info;
    if (fork() == 0) _exit(3);
    printf("sigwait %d status %d\n", sigwaitinfo(&set, &info), info.si_status);
    wait(NULL);
    timer_t t;
    struct sigevent ev = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN + 1, .sigev_value.sival_int = 77};
    timer_create(CLOCK_MONOTONIC, &ev, &t);
    struct itimerspec it = {{0, 0}, {0, 1000000}};
    timer_settime(t, 0, &it, NULL);
    printf("timer %d value %d code %d\n", sigwaitinfo(&set, &info) == SIGRTMIN + 1, info.si_value.sival_int, info.si_code);
    int tf = timerfd_create(CLOCK_MONOTONIC, 0);
    timerfd_settime(tf, 0, &it, NULL);
    unsigned long long n;
    read(tf, &n, 8);
    printf("timerfd %llu\n", n);
    char dir[] = "/tmp/guestXXXXXX", name[64], buf[256];
    mkdtemp(dir);
    int in = inotify_init1(0);
    inotify_add_watch(in, dir, IN_CREATE);
    snprintf(name, 64, "%s/new", dir);
    fclose(fopen(name, "w"));
    read(in, buf, sizeof buf);
    printf("inotify %s\n", ((struct inotify_event *)buf)->name);
    unlink(name); rmdir(dir);
    struct utsname un;
    uname(&un);
    printf("machine %s\n", un.machine);
    return 0;
}
