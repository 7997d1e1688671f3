// oracle: file
// Signals around calls whose structures the host's kernel converts: nothing is lost or done twice.
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <net/if.h>
#include <sys/socket.h>
#include <unistd.h>
static volatile int count;
static void on_alarm(int signal) { count++; }
// The bytes of all entries: a call that a signal finds after some of them gives these.
static int all_entries(int directory) {
    char entries[1024];
    int sum = 0, length;
    lseek(directory, 0, SEEK_SET);
    while ((length = syscall(SYS_getdents64, directory, entries, sizeof entries)) > 0) sum += length;
    return length < 0 ? -1 : sum;
}
int main(void) {
    struct sigaction action = {.sa_handler = on_alarm};
    struct itimerval often = {{0, 100}, {0, 100}}, never = {{0, 0}, {0, 0}};
    int wrong = 0, sock = socket(AF_INET, SOCK_DGRAM, 0), here = open("/proc/self/task", O_RDONLY | O_DIRECTORY);
    // ".", ".." and the only thread.
    int expected = all_entries(here);
    for (int restarts = 0; restarts < 2; restarts++) {
        action.sa_flags = restarts ? SA_RESTART : 0;
        sigaction(SIGALRM, &action, NULL);
        setitimer(ITIMER_REAL, &often, NULL);
        count = 0;
        for (int n = 0; n < 200000 && count < 500; n++) {
            struct ifreq request = {.ifr_name = "lo"};
            if (ioctl(sock, SIOCGIFFLAGS, &request) || !(request.ifr_flags & IFF_LOOPBACK)) wrong++;
            if (all_entries(here) != expected) wrong++;
        }
        setitimer(ITIMER_REAL, &never, NULL);
        printf("wrong %d, entries %d, interrupted %d\n", wrong, expected >= 72, count > 100);
    }
    return 0;
}
