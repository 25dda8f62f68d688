// The cost of the work of `sandpool bench` on the machine itself: bare system calls and instructions, without a sandbox.
//
// `floor KEY [--quick]` prints one figure in the key's unit, after a warm-up that doesn't count.

#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB (1L << 20)

static int quick;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec + time.tv_nsec / 1e9;
}

static long scaled(long count) {
    return quick ? count / 10 : count;
}

// Memory that was written to; shared with children, or copied for them.
static void *memory(size_t size, int sharing) {
    void *found = mmap(NULL, size, PROT_READ | PROT_WRITE, sharing | MAP_ANONYMOUS, -1, 0);
    if (found == MAP_FAILED)
        fail("mmap");
    if (size >= 2 * MIB)
        madvise(found, size, MADV_HUGEPAGE);
    memset(found, 1, size);
    return found;
}

static pid_t start(void) {
    pid_t child = fork();
    if (child < 0)
        fail("fork");
    return child;
}

static void join(pid_t child) {
    int status;
    if (waitpid(child, &status, 0) != child || status != 0)
        fail("waitpid");
}

static double fork_wait_us(size_t touched, long count) {
    memory(touched, MAP_PRIVATE);
    double begin = 0;
    for (long i = -count / 10; i < count; i++) {
        if (i == 0)
            begin = now();
        pid_t child = start();
        if (child == 0)
            _exit(0);
        join(child);
    }
    return (now() - begin) / count * 1e6;
}

// A megabyte into a buffer that both see, and out of it.
static double two_copies_GBps(long count) {
    char *from = memory(MIB, MAP_PRIVATE), *between = memory(16 * MIB, MAP_SHARED), *to = memory(MIB, MAP_PRIVATE);
    double begin = 0;
    for (long i = -count / 10; i < count; i++) {
        if (i == 0)
            begin = now();
        char *slot = between + (unsigned long)i % 16 * MIB;
        from[0] = from[MIB - 1] = (char)i;
        memcpy(slot, from, MIB);
        memcpy(to, slot, MIB);
        if (to[0] != (char)i || to[MIB - 1] != (char)i)
            exit(1);
    }
    return MIB * (double)count / (now() - begin) / 1e9;
}

// Two processes that spin on a word: nobody sleeps, so it is what the cache lines take, if there are two processors.
static double spinning_rtt_us(long count) {
    atomic_long *word = memory(4096, MAP_SHARED);
    atomic_store(word, 0);
    pid_t child = start();
    if (child == 0) {
        for (long i = 0; i < 2 * count; i++) {
            while (atomic_load_explicit(word, memory_order_acquire) != 2 * i + 1)
                ;
            atomic_store_explicit(word, 2 * i + 2, memory_order_release);
        }
        _exit(0);
    }
    double begin = 0;
    for (long i = 0; i < 2 * count; i++) {
        if (i == count)
            begin = now();
        atomic_store_explicit(word, 2 * i + 1, memory_order_release);
        while (atomic_load_explicit(word, memory_order_acquire) != 2 * i + 2)
            ;
    }
    double elapsed = now() - begin;
    join(child);
    return elapsed / count * 1e6;
}

// A mutex that survives its owner's death, as Sandpool's locks do, and what it guards.
struct guarded {
    pthread_mutex_t mutex;
    pthread_barrier_t barrier;
    volatile long value;
    double begin[2], end[2];
};

static struct guarded *guarded(unsigned parties) {
    struct guarded *guarded = memory(sizeof *guarded, MAP_SHARED);
    pthread_mutexattr_t mutex;
    pthread_mutexattr_init(&mutex);
    pthread_mutexattr_setpshared(&mutex, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&mutex, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(&guarded->mutex, &mutex);
    pthread_barrierattr_t barrier;
    pthread_barrierattr_init(&barrier);
    pthread_barrierattr_setpshared(&barrier, PTHREAD_PROCESS_SHARED);
    pthread_barrier_init(&guarded->barrier, &barrier, parties);
    guarded->value = 0;
    return guarded;
}

static void lock_many(struct guarded *guarded, long count, int increment) {
    for (long i = 0; i < count; i++) {
        pthread_mutex_lock(&guarded->mutex);
        if (increment)
            guarded->value += 1;
        pthread_mutex_unlock(&guarded->mutex);
    }
}

static double lock_ns(long count) {
    struct guarded *one = guarded(1);
    lock_many(one, count / 10, 0);
    double begin = now();
    lock_many(one, count, 0);
    return (now() - begin) / count * 1e9;
}

// For each of all operations of two processes that begin together, and look at the clock themselves.
static double contended_ns(long count, int increment) {
    struct guarded *both = guarded(2);
    pid_t children[2];
    for (int i = 0; i < 2; i++) {
        children[i] = start();
        if (children[i] == 0) {
            lock_many(both, count / 10, increment);
            pthread_barrier_wait(&both->barrier);
            both->begin[i] = now();
            lock_many(both, count, increment);
            both->end[i] = now();
            _exit(0);
        }
    }
    join(children[0]);
    join(children[1]);
    double begin = both->begin[0] < both->begin[1] ? both->begin[0] : both->begin[1];
    double end = both->end[0] > both->end[1] ? both->end[0] : both->end[1];
    return (end - begin) / (2 * count) * 1e9;
}

static double fork_wait_1MiB_us(void) { return fork_wait_us(MIB, scaled(2000)); }
static double fork_wait_64MiB_us(void) { return fork_wait_us(64 * MIB, scaled(2000)); }
static double copies(void) { return two_copies_GBps(scaled(2000)); }
static double spinning(void) { return spinning_rtt_us(scaled(200000)); }
static double lock(void) { return lock_ns(scaled(2000000)); }
static double contended(void) { return contended_ns(scaled(1000000), 0); }
static double increments(void) { return contended_ns(scaled(1000000), 1); }

static const struct {
    const char *key;
    double (*work)(void);
} WORK[] = {
    {"process_start_join_us", fork_wait_1MiB_us},
    {"process_start_join_64MiB_us", fork_wait_64MiB_us},
    {"process_spawn_join_us", fork_wait_1MiB_us},
    {"host_pool_fresh_us_per_task", fork_wait_1MiB_us},
    {"pool_apply_rtt_us", spinning},
    {"queue_1MiB_GBps", copies},
    {"pipe_rtt_us", spinning},
    {"lock_uncontended_ns", lock},
    {"lock_contended2_ns", contended},
    {"value_inc_contended2_ns", increments},
};

int main(int argc, char **argv) {
    if (argc < 2)
        return 2;
    quick = argc > 2 && strcmp(argv[2], "--quick") == 0;
    int is_list = strcmp(argv[1], "--list") == 0;
    for (size_t i = 0; i < sizeof WORK / sizeof *WORK; i++) {
        if (is_list)
            printf("%s\n", WORK[i].key);
        else if (strcmp(WORK[i].key, argv[1]) == 0)
            return printf("%.9g\n", WORK[i].work()) < 0;
    }
    return is_list ? 0 : 2;
}
