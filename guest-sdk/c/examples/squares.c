// A parallel program in C: children take numbers from a queue, and put their squares into another.
//
//     sandpool run guest-sdk/c/examples/squares.c -- 4 1000    # four processes, the numbers up to 1000

#include "../sandpool.h"

SANDPOOL_GUEST

struct queues {
    uint64_t numbers;
    uint64_t squares;
};

static int square(void *argument) {
    const struct queues *queues = (const struct queues *)argument;
    char *item;
    size_t len;
    while (sandpool_get(queues->numbers, &item, &len) == 0) {
        uint64_t number;
        memcpy(&number, item, sizeof number);
        free(item);
        uint64_t result = number * number;
        if (sandpool_put(queues->squares, &result, sizeof result) != 0) {
            return 1;
        }
    }
    return 0;
}

static uint64_t checked(const char *what, int64_t result) {
    if (result < 0) {
        fprintf(stderr, "cannot %s: %s\n", what, sandpool_strerror(result));
        exit(1);
    }
    return (uint64_t)result;
}

int main(int argc, char **argv) {
    int processes = argc > 1 ? atoi(argv[1]) : 4;
    uint64_t count = argc > 2 ? (uint64_t)atoi(argv[2]) : 1000;
    struct queues queues = {checked("make a queue", sandpool_queue_create(0, 0)),
                            checked("make a queue", sandpool_queue_create(0, 0))};
    uint64_t children[64];
    int started = 0;
    while (started < processes && started < 64) {
        int64_t child = sandpool_fork(square, &queues);
        if (child < 0 && started > 0) {
            fprintf(stderr, "%d processes and no more: %s\n", started, sandpool_strerror(child));
            break;
        }
        children[started++] = checked("fork", child);
    }
    for (uint64_t number = 1; number <= count; number++) {
        checked("put", -sandpool_put(queues.numbers, &number, sizeof number));
    }
    sandpool_queue_close(queues.numbers);
    uint64_t sum = 0;
    for (uint64_t number = 1; number <= count; number++) {
        char *item;
        size_t len;
        checked("get", -sandpool_get(queues.squares, &item, &len));
        uint64_t result;
        memcpy(&result, item, sizeof result);
        free(item);
        sum += result;
    }
    for (int at = 0; at < started; at++) {
        struct sandpool_status status;
        checked("join", -sandpool_join(children[at], &status));
        if (status.kind != SANDPOOL_PROCESS_EXITED || status.detail != 0) {
            fprintf(stderr, "a child ended with %d\n", (int)status.exitcode);
            return 1;
        }
    }
    printf("%llu\n", (unsigned long long)sum);
    return 0;
}
