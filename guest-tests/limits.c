// oracle: native
// Limits read back as they were set, in this process and in a child, and by prlimit(2).
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
static const struct { const char *name; int number; rlim_t value; } list[] = {
    {"CPU", RLIMIT_CPU, 1000}, {"FSIZE", RLIMIT_FSIZE, 1 << 20}, {"DATA", RLIMIT_DATA, 1 << 30}, {"STACK", RLIMIT_STACK, 4 << 20},
    {"CORE", RLIMIT_CORE, 0}, {"NOFILE", RLIMIT_NOFILE, 100}, {"AS", RLIMIT_AS, 1 << 30}, {"LOCKS", RLIMIT_LOCKS, 50},
    {"NICE", RLIMIT_NICE, 0}, {"RTTIME", RLIMIT_RTTIME, 1000000},
};
static void show(const char *who) {
    for (int n = 0; n < sizeof list / sizeof *list; n++) {
        struct rlimit limit, again;
        int result = getrlimit(list[n].number, &limit);
        prlimit(0, list[n].number, NULL, &again);
        printf("%s %s: %d %d %d %d\n", who, list[n].name, result, limit.rlim_cur == list[n].value, limit.rlim_max >= limit.rlim_cur,
               again.rlim_cur == limit.rlim_cur && again.rlim_max == limit.rlim_max);
    }
    fflush(stdout);
}
int main(void) {
    for (int n = 0; n < sizeof list / sizeof *list; n++) {
        struct rlimit limit;
        getrlimit(list[n].number, &limit);
        limit.rlim_cur = list[n].value;
        printf("set %s: %d\n", list[n].name, setrlimit(list[n].number, &limit));
    }
    show("parent");
    if (fork() == 0) { show("child"); _exit(0); }
    wait(NULL);
    // Infinity stays infinity; more than allowed is refused.
    struct rlimit limit = {0, RLIM_INFINITY};
    getrlimit(RLIMIT_FSIZE, &limit);
    limit.rlim_cur = limit.rlim_max;
    printf("most %d", setrlimit(RLIMIT_FSIZE, &limit));
    struct rlimit now;
    getrlimit(RLIMIT_FSIZE, &now);
    printf(" %d\n", now.rlim_cur == limit.rlim_cur && (now.rlim_cur == RLIM_INFINITY) == (limit.rlim_max == RLIM_INFINITY));
    limit.rlim_cur = 10, limit.rlim_max = 5;
    printf("wrong %d", setrlimit(RLIMIT_NOFILE, &limit));
    printf(" %s\n", strerror(errno));
    return 0;
}
