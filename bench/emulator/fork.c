// Processes: fork, and with a second argument fork and exec of ourselves.
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 1;
    if (rounds < 0)
        return 7;
    int sum = 0;
    for (int round = 0; round < rounds; round++) {
        int status;
        pid_t child = fork();
        if (child == 0) {
            if (argc > 2)
                execl(argv[0], argv[0], "-1", NULL);
            _exit(round % 5);
        }
        waitpid(child, &status, 0);
        sum += WEXITSTATUS(status);
    }
    printf("%d\n", sum);
    return 0;
}
