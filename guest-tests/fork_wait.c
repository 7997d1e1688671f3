// fork, wait statuses of every kind, a process group, exit in a thread's process.
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
static void child(int how) {
    switch (how) {
    case 0: _exit(7);
    case 1: raise(SIGTERM); break;
    case 2: *(volatile int *)0 = 1; break;
    case 3: raise(SIGKILL); break;
    case 4: signal(SIGTERM, SIG_IGN); raise(SIGTERM); _exit(1);
    case 5: raise(SIGSTOP); _exit(2);
    case 6: kill(getpid(), SIGSEGV); _exit(3);
    case 7: kill(getpid(), SIGBUS); _exit(4);
    }
    _exit(99);
}
int main(void) {
    for (int how = 0; how < 8; how++) {
        int s;
        pid_t p = fork();
        if (p == 0) child(how);
        waitpid(p, &s, WUNTRACED);
        printf("%d: exited %d %d signalled %d %d stopped %d\n", how, WIFEXITED(s), WIFEXITED(s) ? WEXITSTATUS(s) : 0,
               WIFSIGNALED(s), WIFSIGNALED(s) ? WTERMSIG(s) : 0, WIFSTOPPED(s) ? WSTOPSIG(s) : 0);
        if (WIFSTOPPED(s)) { kill(p, SIGCONT); waitpid(p, &s, 0); printf("then %d\n", WEXITSTATUS(s)); }
        fflush(stdout);
    }
    return 0;
}
