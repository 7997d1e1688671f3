// oracle: native
// /proc/self/exe names the program's file after its code was mapped from a copy of the file.
#define _GNU_SOURCE
#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
static void show(const char *when, const char *path) {
    char exe[4096] = {0}, real[4096];
    readlink("/proc/self/exe", exe, sizeof exe - 1);
    printf("%s: %s\n", when, realpath(path, real) && !strcmp(exe, real) ? "the program" : exe);
    fflush(stdout);
}
int main(int c, char **v) {
    // The mapping that has the entry point, and a copy of the file.
    const ElfW(Phdr) *h = (void *)getauxval(AT_PHDR);
    unsigned long entry = getauxval(AT_ENTRY), page = 4096, bias = 0;
    for (unsigned long n = 0; n < getauxval(AT_PHNUM); n++)
        if (h[n].p_type == PT_PHDR) bias = (unsigned long)h - h[n].p_vaddr;
    while (h->p_type != PT_LOAD || entry - bias < h->p_vaddr || entry - bias >= h->p_vaddr + h->p_memsz) h++;
    char name[] = "/tmp/guestXXXXXX";
    int copy = mkstemp(name), own = open(v[0], O_RDONLY);
    struct stat st;
    fstat(own, &st);
    printf("copied %d\n", sendfile(copy, own, NULL, st.st_size) == st.st_size);
    fflush(stdout);
    unsigned long start = (bias + h->p_vaddr) & -page, end = (bias + h->p_vaddr + h->p_filesz + page - 1) & -page;
    if (fork() == 0) {
        void *got = mmap((void *)start, end - start, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_FIXED, copy,
                         h->p_offset & -page);
        printf("mapped %d\n", got == (void *)start);
        show("after the mapping was replaced", v[0]);
        _exit(0);
    }
    wait(NULL);
    show("before", v[0]);
    unlink(name);
    (void)c;
}
