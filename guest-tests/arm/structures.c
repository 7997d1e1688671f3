// oracle: file
// Structures of 32 bits: queues, timers, vectors of messages, times, sets, events, asynchronous transfers.
#define _GNU_SOURCE
#include <stdio.h>
#include <errno.h>
#include <string.h>
#include <mqueue.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <signal.h>
#include <unistd.h>
#include <pthread.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/statfs.h>
#include <sys/vfs.h>
#include <sys/sysinfo.h>
#include <sys/resource.h>
#include <sys/times.h>
#include <sys/timex.h>
#include <sys/wait.h>
#include <sys/timerfd.h>
#include <sys/signalfd.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/ioctl.h>
#include <net/if.h>
#include <sys/syscall.h>
#include <linux/aio_abi.h>
#include <sys/uio.h>
#include <sched.h>
static pthread_mutex_t m;
static void *lock(void *unused) { pthread_mutex_lock(&m); return NULL; }
static volatile int tick;
static void on(union sigval v) { tick = v.sival_int; }
int main(void) {
    struct mq_attr at = {.mq_maxmsg = 3, .mq_msgsize = 20};
    char own[32];
    sprintf(own, "/armq%d", getpid());
    mqd_t q = mq_open(own, O_CREAT|O_RDWR, 0600, &at);
    printf("mq %d\n", q>0);
    struct mq_attr g;
    mq_getattr(q, &g);
    printf("%ld %ld %ld\n", g.mq_maxmsg, g.mq_msgsize, g.mq_curmsgs);
    printf("%d\n", mq_send(q, "hey", 3, 5));
    char b[64];
    unsigned pr;
    printf("%d %u\n", (int)mq_receive(q, b, 64, &pr), pr);
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    ts.tv_nsec+=1000000;
    if(ts.tv_nsec>=1000000000){ts.tv_sec++;ts.tv_nsec-=1000000000;} errno = 0;
    printf("%d ", (int)mq_timedreceive(q, b, 64, &pr, &ts));
    puts(strerror(errno));
    mq_unlink(own);
    struct sigevent se = {.sigev_notify = SIGEV_THREAD, .sigev_value.sival_int = 42, .sigev_notify_function = on};
    timer_t t;
    struct itimerspec it = {{0, 0}, {0, 1000000}};
    printf("timer %d %d\n", timer_create(CLOCK_MONOTONIC, &se, &t), timer_settime(t, 0, &it, 0));
    for(int i = 0;i<200&&!tick;i++)usleep(10000);
    printf("tick %d\n", tick);
    pthread_mutexattr_t ma;
    pthread_mutexattr_init(&ma);
    pthread_mutexattr_setrobust(&ma, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&m, &ma);
    pthread_t p;
    pthread_create(&p, 0, lock, 0);
    pthread_join(p, 0);
    printf("robust %d\n", pthread_mutex_lock(&m)==EOWNERDEAD);
    int s[2];
    socketpair(AF_UNIX, SOCK_DGRAM, 0, s);
    struct iovec iv[3] = {{"a", 1}, {"bb", 2}, {"ccc", 3}};
    struct mmsghdr mm[3];
    memset(mm, 0, sizeof mm);
    for(int i = 0;i<3;i++){mm[i].msg_hdr.msg_iov = &iv[i];mm[i].msg_hdr.msg_iovlen = 1;} printf("sendmmsg %d", sendmmsg(s[0], mm, 3, 0));
    printf(" %d %d %d\n", mm[0].msg_len, mm[1].msg_len, mm[2].msg_len);
    char bb[3][8];
    struct iovec rv[3] = {{bb[0], 8}, {bb[1], 8}, {bb[2], 8}};
    for(int i = 0;i<3;i++){mm[i].msg_hdr.msg_iov = &rv[i];mm[i].msg_len = 0;} struct timespec to = {0, 50000000};
    printf("recvmmsg %d", recvmmsg(s[1], mm, 3, MSG_WAITFORONE, &to));
    printf(" %d %d %d\n", mm[0].msg_len, mm[1].msg_len, mm[2].msg_len);
    struct timeval tv = {1, 500000};
    setsockopt(s[1], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv);
    tv.tv_sec = 0;
    socklen_t l = sizeof tv;
    getsockopt(s[1], SOL_SOCKET, SO_RCVTIMEO, &tv, &l);
    printf("tmo %ld %ld %d\n", (long)tv.tv_sec, (long)tv.tv_usec, (int)l);
    int one = 1;
    setsockopt(s[1], SOL_SOCKET, SO_TIMESTAMP, &one, 4);
    send(s[0], "x", 1, 0);
    char cb[64];
    struct msghdr h = {.msg_iov = rv, .msg_iovlen = 1, .msg_control = cb, .msg_controllen = 64};
    recvmsg(s[1], &h, 0);
    struct cmsghdr*c = CMSG_FIRSTHDR(&h);
    printf("stamp %d\n", c?(int)c->cmsg_len:-1);
    struct statfs f;
    printf("statfs %d %d\n", statfs("/proc", &f), f.f_type==0x9fa0);
    struct sysinfo si;
    sysinfo(&si);
    printf("ram %d\n", (unsigned long long)si.totalram*si.mem_unit>1ull<<30);
    struct rusage ru;
    getrusage(RUSAGE_SELF, &ru);
    printf("ru %d\n", ru.ru_maxrss>100);
    struct tms tm;
    printf("times %d\n", times(&tm)!=-1);
    struct timex tx = {0};
    int r = adjtimex(&tx);
    printf("adj %d %d\n", r>=0, tx.tick>9000&&tx.tick<11000);
    int pid = fork();
    if(!pid)_exit(9);
    int st;
    struct rusage r4;
    printf("wait4 %d %d\n", wait4(pid, &st, 0, &r4)==pid, WEXITSTATUS(st));
    int tf = timerfd_create(CLOCK_MONOTONIC, 0);
    timerfd_settime(tf, 0, &it, 0);
    unsigned long long x;
    printf("tfd %d %llu\n", (int)read(tf, &x, 8), x);
    sigset_t ss;
    sigemptyset(&ss);
    sigaddset(&ss, SIGUSR2);
    sigprocmask(SIG_BLOCK, &ss, 0);
    int sf = signalfd(-1, &ss, 0);
    raise(SIGUSR2);
    struct signalfd_siginfo fi;
    printf("sfd %d %d\n", (int)read(sf, &fi, sizeof fi), fi.ssi_signo);
    raise(SIGUSR2);
    siginfo_t in;
    printf("swait %d %d\n", sigtimedwait(&ss, &in, &to)==SIGUSR2, in.si_pid==getpid());
    int e = epoll_create1(0);
    struct epoll_event ev = {EPOLLIN, {.u64 = 0x123456789abcull}};
    epoll_ctl(e, EPOLL_CTL_ADD, s[1], &ev);
    send(s[0], "y", 1, 0);
    struct epoll_event o[4];
    printf("ep %d %llx\n", epoll_wait(e, o, 4, 100), (long long)o[0].data.u64);
    struct pollfd pf = {s[1], POLLIN};
    printf("poll %d %d\n", poll(&pf, 1, 10), ppoll(&pf, 1, &to, &ss));
    fd_set fs;
    FD_ZERO(&fs);
    FD_SET(s[1], &fs);
    printf("psel %d\n", pselect(s[1]+1, &fs, 0, 0, &to, &ss));
    int av;
    printf("fionread %d\n", ioctl(s[1], FIONREAD, &av)==0?av:-1);
    aio_context_t cx = 0;
    printf("aio %ld", syscall(SYS_io_setup, 4, &cx));
    int fd = memfd_create("x", 0);
    write(fd, "root:x", 6);
    char ab[8];
    struct iocb cbk = {.aio_lio_opcode = IOCB_CMD_PREAD, .aio_fildes = fd, .aio_buf = (unsigned)ab, .aio_nbytes = 4};
    struct iocb*list[] = {&cbk};
    printf(" %ld", syscall(SYS_io_submit, cx, 1, list));
    struct io_event ie[2];
    struct timespec t1 = {1, 0};
    printf(" %ld %lld %.4s\n", syscall(SYS_io_getevents, cx, 1, 2, ie, 0), (long long)ie[0].res, ab);
    syscall(SYS_io_destroy, cx);
    struct timespec rr;
    printf("rr %d\n", sched_rr_get_interval(0, &rr));
    cpu_set_t cs;
    printf("aff %d\n", sched_getaffinity(0, sizeof cs, &cs));
    gid_t gr[64];
    printf("grp %d\n", getgroups(64, gr)>=0);
    struct timespec ct = {0, 2000000}, rem;
    printf("cns %d\n", clock_nanosleep(CLOCK_MONOTONIC, 0, &ct, &rem));
    struct timespec ut[2] = {{1000, 5}, {2000, 6}};
    int uf = memfd_create("y", 0);
    printf("uti %d\n", futimens(uf, ut));
    struct stat sb;
    fstat(uf, &sb);
    printf("%ld %ld\n", (long)sb.st_mtime, (long)sb.st_mtim.tv_nsec);
    return 0;
}
