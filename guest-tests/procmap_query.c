// oracle: native
// PROCMAP_QUERY (Linux 6.11) on a program's own maps agrees with the file, and hides the emulator.
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
struct query { uint64_t size, flags, addr, start, end, rights, page, offset, inode; uint32_t major, minor, name_size, id_size; uint64_t name, id; };
#define QUERY _IOWR(0x66, 17, struct query)
static int variable = 1;
int main(void) {
    char line[512], name[256];
    int local = 0, fd = open("/proc/self/maps", O_RDONLY), wrong = 0, mappings = 0;
    void *places[] = {(void *)main, &variable, &local};
    for (int n = 0; n < 3; n++) {
        struct query q = {.size = sizeof q, .addr = (uintptr_t)places[n], .name = (uintptr_t)name, .name_size = sizeof name};
        strcpy(name, "none");
        int r = ioctl(fd, QUERY, &q);
        printf("%d %s: rights %d, covers %d, %s\n", r, r ? strerror(errno) : "", (int)q.rights, q.start <= q.addr && q.addr < q.end, n == 2 ? name : *name == '/' ? "a file" : name);
    }
    // Query all mappings, one after the other.
    FILE *f = fopen("/proc/self/maps", "r");
    uint64_t next = 0;
    while (fgets(line, sizeof line, f)) {
        unsigned long long start, end; // 64 bits for every CPU, as the fields of the query
        sscanf(line, "%llx-%llx", &start, &end);
        struct query q = {.size = sizeof q, .flags = 0x10, .addr = next};
        if (strstr(line, "vsyscall")) continue;
        if (ioctl(fd, QUERY, &q) || q.start != start || q.end != end) wrong++;
        next = end;
        mappings++;
    }
    printf("%d wrong of %s\n", wrong, mappings > 3 ? "several" : "few");
    int r;
    struct query q = {.size = sizeof q, .flags = 0x10, .addr = next};
    printf("behind the last: %d\n", ioctl(fd, QUERY, &q) == 0 && q.start < 0x7fffffffffff);
    q.addr = 8, q.flags = 0;
    r = ioctl(fd, QUERY, &q);
    printf("nothing: %d %s\n", r, strerror(errno));
    q.size = 8;
    r = ioctl(fd, QUERY, &q);
    printf("too small: %d %s\n", r, strerror(errno));
    r = ioctl(0, QUERY, &q);
    printf("no maps: %d %s\n", r, strerror(errno));
    return 0;
}
