// oracle: file
// /proc/cpuinfo is the guest's, and agrees with HWCAP, uname and AT_PLATFORM.
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/utsname.h>
#include <unistd.h>
static const char *names[] = {"swp", "half", "thumb", "26bit", "fastmult", "fpa", "vfp", "edsp", "java", "iwmmxt", "crunch", "thumbee", "neon",
                              "vfpv3", "vfpv3d16", "tls", "vfpv4", "idiva", "idivt", "vfpd32", "lpae", "evtstrm"};
int main(void) {
    char line[1024], features[1024] = "", machine[16] = "";
    int processors = 0, architecture = 0, foreign = 0, model = 0;
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (fgets(line, sizeof line, file)) {
        processors += !strncmp(line, "processor", 9);
        foreign += !!strstr(line, "vendor_id") + !!strstr(line, "GenuineIntel") + !!strstr(line, "AuthenticAMD");
        model += !strncmp(line, "model name\t: ARMv", 17);
        sscanf(line, "CPU architecture: %d", &architecture);
        if (!strncmp(line, "Features\t:", 10)) sprintf(features, " %.*s ", (int)strcspn(line + 10, "\n"), line + 10);
    }
    unsigned long told = 0, hwcap = getauxval(AT_HWCAP);
    for (int n = 0; n < sizeof names / sizeof *names; n++) {
        char word[16];
        sprintf(word, " %s ", names[n]);
        if (strstr(features, word)) told |= 1ul << n;
    }
    struct utsname system;
    uname(&system);
    printf("processors %d models %d foreign %d\n", processors == sysconf(_SC_NPROCESSORS_ONLN) || processors > 0, model == processors, foreign);
    printf("features %d\n", told == hwcap);
    printf("uname %d\n", !strncmp(system.machine, "armv", 4) && system.machine[4] - '0' == architecture);
    printf("platform %d\n", ((char *)getauxval(AT_PLATFORM))[1] - '0' == architecture);
    return 0;
}
