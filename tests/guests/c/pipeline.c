// A program as one writes it for POSIX: three processes in a row, whose standard streams are pipes. The names of POSIX are
// given to what `sandpool.h` has, and the rest is unchanged.
//
//     numbers | squares | sum

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "sandpool.h"

SANDPOOL_GUEST

#define pipe(fds) sandpool_pipe2(fds, 0)
#define dup2 sandpool_dup2
#define fork() sandpool_process_fork("", 0, 0)

static void check(int ok, const char *what) {
    if (!ok) {
        perror(what);
        exit(1);
    }
}

static int numbers(int count) {
    for (int number = 1; number <= count; number++) {
        printf("%d\n", number);
    }
    return 0;
}

static int squares(void) {
    long long number;
    while (scanf("%lld", &number) == 1) {
        printf("%lld\n", number * number);
    }
    return 0;
}

static int sum(void) {
    long long number, sum = 0;
    while (scanf("%lld", &number) == 1) {
        sum += number;
    }
    printf("%lld\n", sum);
    return 0;
}

int main(int argc, char **argv) {
    int count = argc > 1 ? atoi(argv[1]) : 10;
    int first[2], second[2];
    check(pipe(first) == 0 && pipe(second) == 0, "pipe");
    int64_t children[3];
    for (int child = 0; child < 3; child++) {
        children[child] = fork();
        check(children[child] >= 0, "fork");
        if (children[child] == 0) {
            if (child == 0) check(dup2(first[1], STDOUT_FILENO) == STDOUT_FILENO, "dup2");
            if (child == 1) check(dup2(first[0], STDIN_FILENO) == STDIN_FILENO, "dup2");
            if (child == 1) check(dup2(second[1], STDOUT_FILENO) == STDOUT_FILENO, "dup2");
            if (child == 2) check(dup2(second[0], STDIN_FILENO) == STDIN_FILENO, "dup2");
            for (int fd = 0; fd < 2; fd++) {
                check(close(first[fd]) == 0 && close(second[fd]) == 0, "close");
            }
            exit(child == 0 ? numbers(count) : child == 1 ? squares() : sum());
        }
    }
    for (int fd = 0; fd < 2; fd++) {
        check(close(first[fd]) == 0 && close(second[fd]) == 0, "close");
    }
    for (int child = 0; child < 3; child++) {
        struct sandpool_status status;
        check(sandpool_join((uint64_t)children[child], &status) == 0, "join");
        check(status.exitcode == 0, "child");
    }
    return 0;
}
