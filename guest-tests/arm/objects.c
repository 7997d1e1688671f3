// oracle: file
// Structures of System V objects, siginfo by a pidfd, options of sockets and their interfaces, SVC in IT blocks.
#define _GNU_SOURCE
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>
static void show(const char *what, long result) { printf("%s: %ld %s\n", what, result, result == -1 ? strerror(errno) : ""); }
// Calls that a signal of another test's storm interrupts are made again.
#define SHOW(call) do { long r; do errno = 0, r = (long)(call); while (r == -1 && errno == EINTR); show(#call, r); } while (0)
static volatile int count;
static void on_alarm(int signal) { count++; }
static void on_info(int signal, siginfo_t *info, void *unused) {
    printf("siginfo %d %d %x\n", info->si_code, info->si_pid == getpid(), info->si_value.sival_int);
}
// read(2) in an IT block whose second instruction sets the result aside.
__attribute__((target("thumb"), naked)) static int read_conditionally(int fd, void *buffer, int size) {
    __asm__("push {r7, lr}\n mov r7, #3\n mov r3, #77\n cmp r0, r0\n itte eq\n svceq 0\n moveq r3, #42\n movne r3, #13\n"
            "cmp r3, #42\n it ne\n movne r0, r3\n pop {r7, pc}");
}
// getpid(2) and a move in an IT block, if the argument is 5: the result is 9 then, else 1.
__attribute__((target("thumb"), naked)) static int call_conditionally(int argument) {
    __asm__("push {r7, lr}\n mov r7, #20\n mov r3, #1\n cmp r0, #5\n ittt eq\n moveq r3, #8\n svceq 0\n addeq r3, r3, #1\n"
            "mov r0, r3\n pop {r7, pc}");
}
int main(void) {
    // Semaphores.
    struct semid_ds sem;
    union { int val; struct semid_ds *buf; struct seminfo *info; unsigned short *array; } u = {.buf = &sem};
    int id = semget(IPC_PRIVATE, 4, 0640);
    memset(&sem, 0x55, sizeof sem);
    SHOW(semctl(id, 0, IPC_STAT, u));
    printf("sem %ld mode %o owner %d times %d %ld\n", (long)sem.sem_nsems, sem.sem_perm.mode, sem.sem_perm.uid == getuid(), sem.sem_ctime > 1600000000, (long)sem.sem_otime);
    sem.sem_perm.mode = 0600;
    SHOW(semctl(id, 0, IPC_SET, u));
    memset(&sem, 0, sizeof sem);
    SHOW(semctl(id, 0, IPC_STAT, u));
    printf("mode %o\n", sem.sem_perm.mode);
    unsigned short values[4] = {1, 2, 3, 4};
    u.array = values;
    SHOW(semctl(id, 0, SETALL, u));
    SHOW(semctl(id, 2, GETVAL));
    struct seminfo seminfo;
    u.info = &seminfo;
    SHOW(semctl(0, 0, IPC_INFO, u) >= 0);
    printf("seminfo %d\n", seminfo.semmsl > 0);
    SHOW(semctl(id, 0, IPC_RMID));
    SHOW(semctl(id, 0, IPC_STAT, (u.buf = &sem, u)));
    // Memory.
    struct { struct shmid_ds shm; unsigned after; } s;
    memset(&s, 0x55, sizeof s);
    id = shmget(IPC_PRIVATE, 12345, 0604);
    SHOW(shmctl(id, IPC_STAT, &s.shm));
    printf("shm %d mode %o creator %d users %d after %x\n", (int)s.shm.shm_segsz, s.shm.shm_perm.mode, s.shm.shm_cpid == getpid(), (int)s.shm.shm_nattch, s.after);
    s.shm.shm_perm.mode = 0600;
    SHOW(shmctl(id, IPC_SET, &s.shm));
    struct shminfo limits;
    SHOW(shmctl(0, IPC_INFO, (void *)&limits) >= 0);
    printf("shminfo %d %d\n", (int)limits.shmmax > 0, (int)limits.shmmin);
    struct shm_info used;
    SHOW(shmctl(0, SHM_INFO, (void *)&used) >= 0);
    printf("shm_info %d\n", used.used_ids >= 1);
    SHOW(shmctl(id, IPC_RMID, NULL));
    // Messages.
    struct { struct msqid_ds queue; unsigned after; } m;
    memset(&m, 0x55, sizeof m);
    id = msgget(IPC_PRIVATE, 0600);
    struct { long kind; char text[8]; } message = {3, "abc"};
    SHOW(msgsnd(id, &message, 4, 0));
    SHOW(msgctl(id, IPC_STAT, &m.queue));
    printf("queue %d %d sender %d time %d after %x\n", (int)m.queue.msg_qnum, (int)m.queue.__msg_cbytes, m.queue.msg_lspid == getpid(), m.queue.msg_stime > 1600000000, m.after);
    m.queue.msg_qbytes = 1000;
    SHOW(msgctl(id, IPC_SET, &m.queue));
    SHOW(msgctl(id, IPC_STAT, &m.queue));
    printf("room %d\n", (int)m.queue.msg_qbytes);
    struct msginfo info;
    SHOW(msgctl(0, IPC_INFO, (void *)&info) >= 0);
    SHOW(msgctl(id, IPC_RMID, NULL));
    // A signal by a pidfd.
    struct sigaction action = {.sa_sigaction = on_info, .sa_flags = SA_SIGINFO};
    sigaction(SIGUSR1, &action, NULL);
    int self = syscall(434, getpid(), 0);
    siginfo_t siginfo = {.si_signo = SIGUSR1, .si_code = SI_QUEUE};
    siginfo.si_pid = getpid(), siginfo.si_uid = getuid(), siginfo.si_value.sival_int = 0x1234567;
    SHOW(syscall(424, self, SIGUSR1, &siginfo, 0));
    SHOW(syscall(424, self, SIGUSR1, NULL, 0));
    SHOW(syscall(424, self, 0, NULL, 0));
    // Groups of receivers: the address is at offset 4.
    int socket4 = socket(AF_INET, SOCK_DGRAM, 0), one = 1;
    struct group_req group = {.gr_interface = if_nametoindex("lo")};
    struct sockaddr_in *address = (void *)&group.gr_group;
    address->sin_family = AF_INET, address->sin_addr.s_addr = htonl(0xe0000105);
    SHOW(setsockopt(socket4, IPPROTO_IP, MCAST_JOIN_GROUP, &group, sizeof group));
    SHOW(setsockopt(socket4, IPPROTO_IP, MCAST_JOIN_GROUP, &group, sizeof group));
    SHOW(setsockopt(socket4, IPPROTO_IP, MCAST_LEAVE_GROUP, &group, sizeof group));
    struct group_source_req source = {.gsr_interface = group.gr_interface};
    source.gsr_group = group.gr_group, source.gsr_source = group.gr_group;
    ((struct sockaddr_in *)&source.gsr_source)->sin_addr.s_addr = htonl(0x7f000001);
    SHOW(setsockopt(socket4, IPPROTO_IP, MCAST_JOIN_SOURCE_GROUP, &source, sizeof source));
    SHOW(setsockopt(socket4, IPPROTO_IP, MCAST_LEAVE_SOURCE_GROUP, &source, sizeof source));
    SHOW(setsockopt(socket4, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one));
    // Interfaces.
    struct { struct ifreq request; unsigned after; } i = {.after = 0xdeadbeef};
    strcpy(i.request.ifr_name, "lo");
    SHOW(ioctl(socket4, SIOCGIFFLAGS, &i.request));
    printf("flags %d after %x\n", !!(i.request.ifr_flags & IFF_LOOPBACK), i.after);
    SHOW(ioctl(socket4, SIOCGIFINDEX, &i.request));
    printf("index %d\n", i.request.ifr_ifindex == group.gr_interface);
    struct ifreq list[64];
    struct ifconf all = {.ifc_len = sizeof list, .ifc_req = list};
    SHOW(ioctl(socket4, SIOCGIFCONF, &all));
    int found = 0;
    for (int n = 0; n < all.ifc_len / sizeof *list; n++) found |= !strcmp(list[n].ifr_name, "lo") && ((struct sockaddr_in *)&list[n].ifr_addr)->sin_addr.s_addr == htonl(0x7f000001);
    printf("list %d\n", all.ifc_len % sizeof *list == 0 && (found || all.ifc_len == 0));
    // A time with padding.
    struct { long long seconds; int nanoseconds, padding; } wait = {0, 1000000, 99};
    struct epoll_event event;
    SHOW(syscall(441, epoll_create1(0), &event, 1, &wait, NULL, 8));
    // A call in an IT block that signals restart.
    int ends[2];
    char text[4] = "";
    pipe(ends);
    struct sigaction alarm = {.sa_handler = on_alarm, .sa_flags = SA_RESTART};
    sigaction(SIGALRM, &alarm, NULL);
    if (fork() == 0) { usleep(100000); write(ends[1], "abc", 3); _exit(0); }
    struct itimerval often = {{0, 2000}, {0, 2000}}, never = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &often, NULL);
    int result = read_conditionally(ends[0], text, 3);
    setitimer(ITIMER_REAL, &never, NULL);
    printf("read %d %s, interrupted %d\n", result, text, count > 5);
    // The same often enough that the code is translated.
    int sum = 0;
    for (int n = 0; n < 8000; n++) sum += call_conditionally(n % 8);
    printf("calls %d\n", sum);
    return 0;
}
