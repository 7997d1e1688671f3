// System calls: small reads and writes, stat, mmap, clock_gettime.
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 1;
    int zero = open("/dev/zero", O_RDONLY), null = open("/dev/null", O_WRONLY);
    char buffer[64];
    unsigned long sum = 0;
    for (int round = 0; round < rounds; round++) {
        struct stat status;
        struct timespec time;
        sum += getppid() != 0;
        sum += read(zero, buffer, sizeof buffer);
        sum += write(null, buffer, round % 64);
        sum += stat("/dev/null", &status) + S_ISCHR(status.st_mode);
        sum += clock_gettime(CLOCK_MONOTONIC, &time);
        if (round % 16 == 0) {
            char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            page[4096] = 1;
            sum += page[4096] + munmap(page, 8192);
        }
    }
    printf("%lu\n", sum);
    return 0;
}
