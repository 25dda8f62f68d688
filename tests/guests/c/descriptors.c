// Pipes as descriptors: one case for each name that is given as an argument. A case prints nothing but "ok", or why it
// isn't.

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "sandpool.h"

SANDPOOL_GUEST

#define CHECK(holds)                                                                    \
    do {                                                                                \
        if (!(holds)) {                                                                 \
            fprintf(stderr, "line %d: %s (%s)\n", __LINE__, #holds, strerror(errno));   \
            exit(1);                                                                    \
        }                                                                               \
    } while (0)

#define FAILS(call, error) CHECK((errno = 0, (call) == -1) && errno == (error))

enum { CAPACITY = 65536, ATOMIC = 4096 };

static char bytes[2 * CAPACITY];

static int64_t fork_child(void) {
    fflush(NULL);
    int64_t child = sandpool_process_fork("", 0, 0);
    CHECK(child >= 0);
    return child;
}

static int join(int64_t child) {
    struct sandpool_status status;
    CHECK(sandpool_join((uint64_t)child, &status) == 0);
    return status.exitcode;
}

static void make(int fds[2]) { CHECK(sandpool_pipe2(fds, 0) == 0); }

static void close_both(int fds[2]) { CHECK(close(fds[0]) == 0 && close(fds[1]) == 0); }

// Reads exactly this many bytes.
static void read_all(int fd, char *to, size_t len) {
    for (size_t done = 0; done < len;) {
        ssize_t now = read(fd, to + done, len - done);
        CHECK(now > 0);
        done += (size_t)now;
    }
}

static void basics(void) {
    int fds[2];
    make(fds);
    // The lowest numbers that are free.
    CHECK(fds[0] == 3 && fds[1] == 4);
    CHECK(write(fds[1], "abcdef", 6) == 6);
    CHECK(read(fds[0], bytes, 4) == 4 && memcmp(bytes, "abcd", 4) == 0);
    CHECK(write(fds[1], "gh", 2) == 2);
    CHECK(read(fds[0], bytes, sizeof bytes) == 4 && memcmp(bytes, "efgh", 4) == 0);
    // Several vectors are one write, and one read.
    struct iovec parts[3] = {{"one", 3}, {"", 0}, {"two", 3}};
    CHECK(writev(fds[1], parts, 3) == 6);
    char first[2], second[9];
    struct iovec rooms[2] = {{first, 2}, {second, 9}};
    CHECK(readv(fds[0], rooms, 2) == 6 && memcmp(first, "on", 2) == 0 && memcmp(second, "etwo", 4) == 0);
    // Nothing is read or written, and nobody waits.
    CHECK(read(fds[0], bytes, 0) == 0 && write(fds[1], bytes, 0) == 0);
    FAILS(write(fds[0], "x", 1), EBADF);
    FAILS(read(fds[1], bytes, 1), EBADF);
    struct stat stat, other;
    CHECK(fstat(fds[0], &stat) == 0 && S_ISFIFO(stat.st_mode) && stat.st_size == 0 && stat.st_nlink == 1);
    CHECK(fstat(fds[1], &other) == 0 && other.st_ino == stat.st_ino);
    CHECK(!isatty(fds[0]) && !isatty(fds[1]));
    CHECK((fcntl(fds[0], F_GETFL) & O_ACCMODE) == O_RDONLY && (fcntl(fds[1], F_GETFL) & O_ACCMODE) == O_WRONLY);
    FAILS(lseek(fds[0], 0, SEEK_CUR), ESPIPE);
    FAILS(pread(fds[0], bytes, 1, 0), ESPIPE);
    FAILS(pwrite(fds[1], bytes, 1, 0), ESPIPE);
    FAILS(ftruncate(fds[1], 0), EINVAL);
    FAILS(openat(fds[0], "x", O_RDONLY), ENOTDIR);
    // The end of the bytes, after those that are left.
    CHECK(write(fds[1], "end", 3) == 3 && close(fds[1]) == 0);
    CHECK(read(fds[0], bytes, 10) == 3 && read(fds[0], bytes, 10) == 0 && read(fds[0], bytes, 10) == 0);
    CHECK(close(fds[0]) == 0);
    FAILS(close(fds[0]), EBADF);
    FAILS(read(fds[0], bytes, 1), EBADF);
    // Nobody is left to read.
    make(fds);
    CHECK(fds[0] == 3 && fds[1] == 4 && write(fds[1], "x", 1) == 1 && close(fds[0]) == 0);
    FAILS(write(fds[1], "x", 1), EPIPE);
    CHECK(close(fds[1]) == 0);
    // A stream of stdio.
    make(fds);
    FILE *in = fdopen(fds[0], "r"), *out = fdopen(fds[1], "w");
    CHECK(in != NULL && out != NULL && fprintf(out, "%d\n%d\n", 7, 8) == 4 && fclose(out) == 0);
    int a, b;
    CHECK(fscanf(in, "%d %d", &a, &b) == 2 && a == 7 && b == 8 && fscanf(in, "%d", &a) == EOF && fclose(in) == 0);
}

static void forks(void) {
    int there[2], back[2];
    make(there);
    make(back);
    int64_t child = fork_child();
    if (child == 0) {
        CHECK(close(there[1]) == 0 && close(back[0]) == 0);
        // More than fits, of which a byte at a time is sent back changed.
        long sum = 0;
        ssize_t len;
        while ((len = read(there[0], bytes, 1000)) > 0) {
            for (ssize_t at = 0; at < len; at++) sum += (unsigned char)bytes[at];
        }
        CHECK(len == 0 && write(back[1], &sum, sizeof sum) == sizeof sum);
        exit(0);
    }
    CHECK(close(there[0]) == 0 && close(back[1]) == 0);
    long sum = 0;
    for (size_t at = 0; at < sizeof bytes; at++) sum += (unsigned char)(bytes[at] = (char)(at * 7));
    CHECK(write(there[1], bytes, sizeof bytes) == sizeof bytes && close(there[1]) == 0);
    long answer;
    CHECK(read(back[0], &answer, sizeof answer) == sizeof answer && answer == sum);
    // The child has ended, and with it the last end that writes.
    CHECK(read(back[0], &answer, 1) == 0 && join(child) == 0);
    // A reader that has ended, with bytes unread.
    make(there);
    child = fork_child();
    if (child == 0) {
        close(there[1]);
        exit(read(there[0], bytes, 1) == 1 ? 0 : 1);
    }
    CHECK(close(there[0]) == 0);
    ssize_t written;
    while ((written = write(there[1], bytes, 3000)) == 3000) {}
    CHECK(written == -1 && errno == EPIPE && join(child) == 0);
}

static void writers(void) {
    enum { WRITERS = 4, PIECES = 300, LEN = ATOMIC - 96 };
    int fds[2];
    make(fds);
    int64_t children[WRITERS];
    for (int writer = 0; writer < WRITERS; writer++) {
        children[writer] = fork_child();
        if (children[writer] == 0) {
            close(fds[0]);
            memset(bytes, 'a' + writer, LEN);
            // In two vectors: it is one write all the same.
            struct iovec parts[2] = {{bytes, 100}, {bytes + 100, LEN - 100}};
            for (int piece = 0; piece < PIECES; piece++) CHECK(writev(fds[1], parts, 2) == LEN);
            exit(0);
        }
    }
    close(fds[1]);
    int pieces[WRITERS] = {0};
    static char piece[LEN];
    for (int at = 0; at < WRITERS * PIECES; at++) {
        read_all(fds[0], piece, LEN);
        for (int byte = 1; byte < LEN; byte++) CHECK(piece[byte] == piece[0]);
        pieces[piece[0] - 'a']++;
    }
    CHECK(read(fds[0], piece, 1) == 0);
    for (int writer = 0; writer < WRITERS; writer++) CHECK(join(children[writer]) == 0 && pieces[writer] == PIECES);
}

static void nonblocking(void) {
    int fds[2];
    CHECK(sandpool_pipe2(fds, O_NONBLOCK) == 0);
    CHECK((fcntl(fds[0], F_GETFL) & O_NONBLOCK) != 0);
    FAILS(read(fds[0], bytes, 1), EAGAIN);
    // A write of more than is atomic writes as much as fits.
    CHECK(write(fds[1], bytes, sizeof bytes) == CAPACITY);
    FAILS(write(fds[1], bytes, 1), EAGAIN);
    CHECK(read(fds[0], bytes, 10) == 10);
    FAILS(write(fds[1], bytes, 11), EAGAIN);
    CHECK(write(fds[1], bytes, 5) == 5 && write(fds[1], bytes, ATOMIC + 1) == 5);
    FAILS(sandpool_pipe2(fds, 0x10000), EINVAL);
    // All processes share the flag, and each end has its own.
    int64_t child = fork_child();
    if (child == 0) {
        CHECK(fcntl(fds[0], F_SETFL, 0) == 0);
        exit(0);
    }
    CHECK(join(child) == 0 && (fcntl(fds[0], F_GETFL) & O_NONBLOCK) == 0 && (fcntl(fds[1], F_GETFL) & O_NONBLOCK) != 0);
    read_all(fds[0], bytes, CAPACITY);
    child = fork_child();
    if (child == 0) exit(write(fds[1], "late", 4) == 4 ? 0 : 1);
    CHECK(read(fds[0], bytes, 10) == 4 && join(child) == 0);
    FAILS(fcntl(fds[0], F_SETFL, O_SYNC), EINVAL);
}

static void polls(void) {
    int fds[2], other[2];
    make(fds);
    make(other);
    struct pollfd set[3] = {{fds[0], POLLIN, 0}, {fds[1], POLLOUT, 0}, {other[0], POLLIN, 0}};
    CHECK(poll(set, 3, 1000) == 1 && set[0].revents == 0 && set[1].revents == POLLOUT && set[2].revents == 0);
    CHECK(poll(set, 1, 0) == 0 && poll(set, 1, 30) == 0);
    // An end is never ready for what it doesn't do.
    struct pollfd wrong[2] = {{fds[0], POLLOUT, 0}, {fds[1], POLLIN, 0}};
    CHECK(poll(wrong, 2, 10) == 0);
    CHECK(write(other[1], "x", 1) == 1);
    CHECK(poll(set, 1, 0) == 0 && poll(set + 2, 1, -1) == 1 && set[2].revents == POLLIN);
    CHECK(read(other[0], bytes, 1) == 1);
    // Another process makes an end ready: with bytes, with room, and with its death.
    int64_t child = fork_child();
    if (child == 0) {
        CHECK(read(fds[0], bytes, 1) == 1 && write(other[1], "y", 1) == 1);
        exit(0);
    }
    CHECK(close(other[1]) == 0 && write(fds[1], "x", 1) == 1);
    CHECK(poll(set + 2, 1, -1) == 1 && read(other[0], bytes, 9) == 1 && bytes[0] == 'y');
    CHECK(poll(set + 2, 1, 60000) == 1 && (set[2].revents & POLLHUP) != 0 && read(other[0], bytes, 9) == 0);
    CHECK(join(child) == 0);
    CHECK(write(fds[1], bytes, CAPACITY - ATOMIC + 1) == CAPACITY - ATOMIC + 1 && poll(set + 1, 1, 0) == 0);
    child = fork_child();
    if (child == 0) exit(read(fds[0], bytes, 1) == 1 ? 0 : 1);
    CHECK(poll(set + 1, 1, -1) == 1 && set[1].revents == POLLOUT && join(child) == 0);
    CHECK(close(fds[0]) == 0 && poll(set + 1, 1, -1) == 1 && (set[1].revents & POLLHUP) != 0);
    // A number that isn't open, beside one that never gets ready.
    int last[2];
    make(last);
    struct pollfd bad[2] = {{last[0], POLLIN, 0}, {77, POLLIN, 0}};
    CHECK(poll(bad, 2, -1) == 1 && bad[1].revents == POLLNVAL);
}

// Waits for stdin and for a pipe, and says which of them it is.
static void polls_stdin(void) {
    int fds[2];
    make(fds);
    struct pollfd set[2] = {{0, POLLIN, 0}, {fds[0], POLLIN, 0}};
    CHECK(write(fds[1], "x", 1) == 1 && poll(set, 2, -1) >= 1 && (set[1].revents & POLLIN) != 0);
    CHECK(read(fds[0], bytes, 1) == 1);
    printf("waits\n");
    fflush(stdout);
    CHECK(poll(set, 2, -1) == 1 && set[0].revents != 0 && set[1].revents == 0);
    CHECK(read(0, bytes, 100) == 5 && memcmp(bytes, "line\n", 5) == 0);
}

static void numbers(void) {
    int fds[2], copy;
    make(fds);
    CHECK((copy = sandpool_dup(fds[0])) == fds[1] + 1 && sandpool_dup2(fds[1], 9) == 9 && sandpool_dup2(9, 9) == 9);
    CHECK(close(fds[0]) == 0 && close(fds[1]) == 0);
    // The copies keep the ends open.
    CHECK(write(9, "x", 1) == 1 && read(copy, bytes, 1) == 1);
    // A number that is free again is used first.
    CHECK(sandpool_dup(copy) == fds[0] && close(fds[0]) == 0 && close(9) == 0 && read(copy, bytes, 1) == 0 && close(copy) == 0);
    // Stdout goes elsewhere for a while.
    make(fds);
    int saved = sandpool_dup(1);
    CHECK(saved == fds[1] + 1 && sandpool_dup2(fds[1], 1) == 1);
    printf("into the pipe\n");
    CHECK(fflush(stdout) == 0 && sandpool_dup2(saved, 1) == 1 && close(saved) == 0);
    CHECK(read(fds[0], bytes, 100) == 14 && memcmp(bytes, "into the pipe\n", 14) == 0);
    printf("to stdout\n");
    CHECK(fflush(stdout) == 0);
    close_both(fds);
    // Files and pipes have one row of numbers, and each is what it was opened as.
    char path[] = "/dir/file";
    int file = open(path, O_CREAT | O_RDWR | O_TRUNC, 0600);
    CHECK(file >= 0 && write(file, "0123456789", 10) == 10);
    make(fds);
    CHECK(fds[0] != file && fds[1] != file);
    int files[10];
    for (int at = 0; at < 10; at++) {
        CHECK((files[at] = open(path, O_RDONLY)) >= 0 && files[at] != fds[0] && files[at] != fds[1]);
        CHECK(pread(files[at], bytes, 1, at) == 1 && bytes[0] == '0' + at);
        for (int before = 0; before < at; before++) CHECK(files[before] != files[at]);
        if (at % 3 == 1) {
            close_both(fds);
            make(fds);
        }
    }
    CHECK(write(fds[1], "p", 1) == 1 && read(fds[0], bytes, 1) == 1 && bytes[0] == 'p');
    // A copy of a file shares the position; the file is open until its last copy is closed.
    int again = sandpool_dup2(files[4], fds[0]);
    CHECK(again == fds[0] && lseek(files[4], 7, SEEK_SET) == 7 && close(files[4]) == 0);
    CHECK(read(again, bytes, 1) == 1 && bytes[0] == '7');
    FAILS(read(files[4], bytes, 1), EBADF);
    FAILS(write(fds[1], "p", 1), EPIPE);
    // A closed number whose file is still open by a copy is free for others.
    CHECK(sandpool_dup2(fds[1], files[4]) == files[4] && close(again) == 0);
    FAILS(write(files[4], "p", 1), EPIPE);
    struct stat stat;
    CHECK(fstat(file, &stat) == 0 && S_ISREG(stat.st_mode) && stat.st_size == 10);
    FAILS(sandpool_dup(99), EBADF);
    FAILS(sandpool_dup2(99, 5), EBADF);
    FAILS(sandpool_dup2(fds[1], -1), EBADF);
    CHECK(sandpool_dup2(fds[1], 0x7fffffff) == 0x7fffffff && close(0x7fffffff) == 0);
}

// Moves an end onto stdout by the function of WASI, and prints.
static void renumbers(void) {
    int fds[2];
    make(fds);
    int64_t child = fork_child();
    if (child == 0) {
        CHECK(close(fds[0]) == 0 && __wasi_fd_renumber(fds[1], 1) == 0);
        FAILS(write(fds[1], "x", 1), EBADF);
        printf("from the child");
        exit(0);
    }
    CHECK(close(fds[1]) == 0);
    read_all(fds[0], bytes, 14);
    CHECK(memcmp(bytes, "from the child", 14) == 0 && read(fds[0], bytes, 1) == 0 && join(child) == 0);
    CHECK(__wasi_fd_renumber(fds[0], fds[0]) == 0);
    CHECK(__wasi_fd_renumber(fds[0], 50) == __WASI_ERRNO_BADF && __wasi_fd_renumber(50, fds[0]) == __WASI_ERRNO_BADF);
    // Stdin and a pipe in the place of each other.
    int other[2];
    make(other);
    CHECK(__wasi_fd_renumber(other[0], 0) == 0 && write(other[1], "in", 2) == 2 && read(0, bytes, 9) == 2);
    CHECK(close(0) == 0);
    FAILS(write(other[1], "x", 1), EPIPE);
    CHECK(sandpool_dup(fds[0]) == 0);
}

static void kills(unsigned rounds) {
    for (unsigned round = 0; round < rounds; round++) {
        int there[2], back[2];
        make(there);
        make(back);
        int64_t child = fork_child();
        if (child == 0) {
            close(there[1]);
            close(back[0]);
            ssize_t len;
            // Echoes pieces of one letter, whole or not.
            while ((len = read(there[0], bytes, 700)) > 0) CHECK(write(back[1], bytes, (size_t)len) == len);
            exit(0);
        }
        CHECK(close(there[0]) == 0 && close(back[1]) == 0);
        CHECK(fcntl(there[1], F_SETFL, O_NONBLOCK) == 0 && fcntl(back[0], F_SETFL, O_NONBLOCK) == 0);
        // The child is killed while it reads, writes, or sleeps in either.
        long sent = 0, received = 0;
        unsigned long before = random() % 40000;
        int reads = round % 3 != 0;
        memset(bytes, 'x', 3000);
        for (unsigned long at = 0; at < before; at += 500) {
            ssize_t now = write(there[1], bytes, 1 + random() % 3000);
            CHECK(now > 0 || errno == EAGAIN);
            sent += now > 0 ? now : 0;
            now = reads ? read(back[0], bytes + 4000, 5000) : 0;
            CHECK(now >= 0 || errno == EAGAIN);
            received += now > 0 ? now : 0;
        }
        CHECK(sandpool_process_signal((uint64_t)child, 9) == 0 && join(child) == -9);
        CHECK(fcntl(there[1], F_SETFL, 0) == 0 && fcntl(back[0], F_SETFL, 0) == 0);
        // All that it had written is there, and then the end.
        ssize_t now;
        while ((now = read(back[0], bytes + 4000, 5000)) > 0) received += now;
        CHECK(now == 0 && received <= sent);
        FAILS(write(there[1], bytes, 10), EPIPE);
        CHECK(close(there[1]) == 0 && close(back[0]) == 0);
    }
}

// Several processes at either end are killed in turns; the others go on with the same pipe.
static void kills_among_others(unsigned rounds) {
    enum { WRITERS = 3, LEN = 1000 };
    int fds[2];
    make(fds);
    int64_t writers[WRITERS] = {0};
    static char piece[LEN];
    size_t have = 0;
    for (unsigned round = 0; round < rounds; round++) {
        int at = (int)(round % WRITERS);
        if (writers[at] != 0) {
            CHECK(sandpool_process_signal((uint64_t)writers[at], 9) == 0 && join(writers[at]) == -9);
        }
        writers[at] = fork_child();
        if (writers[at] == 0) {
            memset(bytes, 'a' + at, LEN);
            for (;;) CHECK(write(fds[1], bytes, LEN) == LEN);
        }
        for (int pieces = 0; pieces < 40; pieces++) {
            read_all(fds[0], piece + have, LEN - have);
            have = 0;
            for (int byte = 1; byte < LEN; byte++) CHECK(piece[byte] == piece[0]);
        }
    }
    for (int at = 0; at < WRITERS; at++) {
        CHECK(sandpool_process_signal((uint64_t)writers[at], 9) == 0 && join(writers[at]) == -9);
    }
    // The rest is whole, and nobody else writes.
    CHECK(close(fds[1]) == 0);
    ssize_t now;
    while ((now = read(fds[0], bytes, LEN)) > 0) {
        CHECK(now == LEN);
        for (int byte = 1; byte < LEN; byte++) CHECK(bytes[byte] == bytes[0]);
    }
    CHECK(now == 0);
}

static void reads_its_own(void) {
    int fds[2];
    make(fds);
    read(fds[0], bytes, 1);
}

static void polls_its_own(void) {
    int fds[2];
    make(fds);
    struct pollfd set = {fds[0], POLLIN, 0};
    poll(&set, 1, -1);
}

static void writes_its_own(void) {
    int fds[2];
    make(fds);
    // More than fits: the first part is written, and the rest has no reader but this process.
    write(fds[1], bytes, sizeof bytes);
}

static void exhausts(int expected) {
    int pipes = 0, fds[2], first[2];
    make(first);
    while (sandpool_pipe2(fds, 0) == 0) pipes++;
    CHECK(errno == expected && pipes > 0);
    // The pipes that there are work, and there is room again afterwards.
    CHECK(write(first[1], "x", 1) == 1 && read(first[0], bytes, 1) == 1);
    for (int again = 0; again < 3; again++) {
        CHECK(close(fds[0]) == 0 && close(fds[1]) == 0);
        CHECK(sandpool_pipe2(fds, 0) == 0 && sandpool_pipe2(fds, 0) == -1 && errno == expected);
    }
    if (expected == EMFILE) {
        FAILS(sandpool_dup(first[0]), EMFILE);
        FAILS(sandpool_dup2(first[0], 60), EMFILE);
        // A number that is in use can be replaced all the same.
        CHECK(sandpool_dup2(first[0], fds[0]) == fds[0] && sandpool_dup2(first[1], fds[1]) == fds[1]);
        CHECK(write(fds[1], "x", 1) == 1 && read(first[0], bytes, 1) == 1);
    }
    printf("%d\n", pipes);
}

static void passes(int argc, char **argv) {
    (void)argc;
    struct sandpool_record records[2];
    if (sandpool_process_entry_handles(records, 2) == 2) {
        // A spawned process has no descriptors but those that it opens for the handles that it was given.
        CHECK(fcntl(3, F_GETFL) == -1 && fcntl(4, F_GETFL) == -1 && errno == EBADF);
        CHECK((records[0].kind & 0xff) == SANDPOOL_HANDLE_BYTE_END && records[0].kind >> 8 == SANDPOOL_PIPE_READABLE);
        int64_t in = sandpool_descriptor_open(records[0].handle), out = sandpool_descriptor_open(records[1].handle);
        CHECK(in == 3 && out == 4);
        for (int at = 0; at < 2; at++) CHECK(sandpool_handle_release(records[at].handle) == 0);
        ssize_t len = read((int)in, bytes, 100);
        CHECK(len > 0 && write((int)out, bytes, (size_t)len) == len);
        exit(0);
    }
    (void)argv;
    int there[2], back[2];
    make(there);
    make(back);
    uint64_t handles[2] = {(uint64_t)sandpool_descriptor_handle((uint32_t)there[0]), (uint64_t)sandpool_descriptor_handle((uint32_t)back[1])};
    CHECK((int64_t)handles[0] > 0 && (int64_t)handles[1] > 0);
    CHECK(sandpool_descriptor_handle(1) == -SANDPOOL_ERRNO_INVAL && sandpool_descriptor_handle(44) == -SANDPOOL_ERRNO_BADF);
    int64_t child = sandpool_process_spawn("", 0, 0, "", 0, handles, 2);
    CHECK(child > 0);
    for (int at = 0; at < 2; at++) CHECK(sandpool_handle_release(handles[at]) == 0);
    CHECK(close(there[0]) == 0 && close(back[1]) == 0 && write(there[1], "hello", 5) == 5);
    CHECK(read(back[0], bytes, 100) == 5 && memcmp(bytes, "hello", 5) == 0 && read(back[0], bytes, 100) == 0);
    CHECK(join(child) == 0);
    // A handle of something else.
    int64_t lock = sandpool_sync_lock_create(0);
    CHECK(sandpool_descriptor_open((uint64_t)lock) == -SANDPOOL_ERRNO_BADF);
}

// A guest gets an errno for whatever it passes, and nothing is read or written.
static void wild(void) {
    int fds[2];
    make(fds);
    uint32_t size = (uint32_t)__builtin_wasm_memory_size(0) * 65536;
    __wasi_size_t count;
    CHECK(write(fds[1], "abcdef", 6) == 6);
    const uint32_t places[] = {size, size - 3, 0xfffffff0u, 0xffffffffu, 0x80000000u};
    for (size_t at = 0; at < sizeof places / sizeof *places; at++) {
        __wasi_iovec_t list[2] = {{(uint8_t *)bytes, 2}, {(uint8_t *)places[at], 100}};
        CHECK(__wasi_fd_read(fds[0], list, 2, &count) == __WASI_ERRNO_FAULT);
        CHECK(__wasi_fd_write(fds[1], (__wasi_ciovec_t *)list, 2, &count) == __WASI_ERRNO_FAULT);
        CHECK(__wasi_fd_read(fds[0], (__wasi_iovec_t *)places[at], 2, &count) == __WASI_ERRNO_FAULT);
        list[1].buf = (uint8_t *)bytes + 2;
        CHECK(__wasi_fd_read(fds[0], list, 2, (__wasi_size_t *)places[at]) == __WASI_ERRNO_FAULT);
        CHECK(__wasi_fd_write(fds[1], (__wasi_ciovec_t *)list, 2, (__wasi_size_t *)places[at]) == __WASI_ERRNO_FAULT);
        CHECK(__wasi_fd_fdstat_get(fds[0], (__wasi_fdstat_t *)places[at]) == __WASI_ERRNO_FAULT);
        CHECK(__wasi_fd_filestat_get(fds[0], (__wasi_filestat_t *)places[at]) == __WASI_ERRNO_FAULT);
        CHECK(sandpool_descriptor_pipe(0, (uint32_t *)places[at]) == SANDPOOL_ERRNO_FAULT);
        __wasi_subscription_t subscription = {.u = {.tag = 1, .u = {.fd_read = {(__wasi_fd_t)fds[0]}}}};
        CHECK(__wasi_poll_oneoff(&subscription, (__wasi_event_t *)places[at], 1, &count) == __WASI_ERRNO_FAULT);
        CHECK(__wasi_poll_oneoff((__wasi_subscription_t *)places[at], (__wasi_event_t *)bytes, 1, &count) == __WASI_ERRNO_FAULT);
    }
    __wasi_iovec_t none = {NULL, 0};
    CHECK(__wasi_fd_read(fds[0], &none, 0xffffffffu, &count) == __WASI_ERRNO_INVAL);
    CHECK(__wasi_fd_write(fds[1], (__wasi_ciovec_t *)&none, 0x80000000u, &count) == __WASI_ERRNO_INVAL);
    CHECK(sandpool_descriptor_pipe(2, (uint32_t *)bytes) == SANDPOOL_ERRNO_INVAL);
    // A huge write that is the same bytes again and again doesn't fit into a result.
    static __wasi_ciovec_t many[1024];
    for (int at = 0; at < 1024; at++) many[at] = (__wasi_ciovec_t){0, size};
    CHECK((uint64_t)size * 1024 <= 0xffffffffu || __wasi_fd_write(fds[1], many, 1024, &count) == __WASI_ERRNO_INVAL);
    // Rooms that overlap are written one after the other; six bytes are there, and no more.
    __wasi_iovec_t same[2] = {{(uint8_t *)bytes, 4}, {(uint8_t *)bytes, 4}};
    CHECK(__wasi_fd_read(fds[0], same, 2, &count) == 0 && count == 6 && memcmp(bytes, "efcd", 4) == 0);
    // Shared memory is no place for WASI to read or write.
    int64_t shared = sandpool_shared_create(65536, 0, NULL, 0);
    CHECK(shared > 0);
    int64_t address = sandpool_shared_map((uint64_t)shared, 0);
    CHECK(address > 0);
    char *mapped = (char *)(uintptr_t)address;
    FAILS(write(fds[1], mapped, 10), EFAULT);
    FAILS(write(fds[1], mapped - 10, 20), EFAULT);
    CHECK(write(fds[1], "abc", 3) == 3);
    FAILS(read(fds[0], mapped, 10), EFAULT);
    CHECK(sandpool_descriptor_pipe(0, (uint32_t *)mapped) == SANDPOOL_ERRNO_FAULT);
    CHECK(__wasi_fd_read(fds[0], (__wasi_iovec_t *)mapped, 1, &count) == __WASI_ERRNO_FAULT);
    CHECK(__wasi_fd_fdstat_get(fds[0], (__wasi_fdstat_t *)mapped) == __WASI_ERRNO_FAULT);
    CHECK(read(fds[0], bytes, 10) == 3);
    // A process that releases the handles of its own ends has descriptors of nothing.
    uint64_t reads = (uint64_t)sandpool_descriptor_handle((uint32_t)fds[0]);
    CHECK(sandpool_handle_release(reads) == 0 && sandpool_handle_release(reads) == 0);
    CHECK(sandpool_handle_release(reads) == SANDPOOL_ERRNO_BADF);
    FAILS(read(fds[0], bytes, 1), EBADF);
    FAILS(write(fds[1], "x", 1), EPIPE);
    struct pollfd gone = {fds[0], POLLIN, 0};
    CHECK(poll(&gone, 1, -1) == 1 && gone.revents == POLLNVAL);
    CHECK(close(fds[0]) == 0 && close(fds[1]) == 0);
    // Nothing is left of any of this.
    for (int at = 0; at < 2000; at++) {
        make(fds);
        CHECK(fds[0] == 3 && fds[1] == 4);
        close_both(fds);
    }
}

int main(int argc, char **argv) {
    const char *name = argc > 1 ? argv[1] : "";
    unsigned number = argc > 2 ? (unsigned)atoi(argv[2]) : 0;
    srandom(number);
    if (strcmp(name, "basics") == 0) basics();
    else if (strcmp(name, "forks") == 0) forks();
    else if (strcmp(name, "writers") == 0) writers();
    else if (strcmp(name, "nonblocking") == 0) nonblocking();
    else if (strcmp(name, "polls") == 0) polls();
    else if (strcmp(name, "polls_stdin") == 0) polls_stdin();
    else if (strcmp(name, "numbers") == 0) numbers();
    else if (strcmp(name, "renumbers") == 0) renumbers();
    else if (strcmp(name, "kills") == 0) kills(number);
    else if (strcmp(name, "kills_among_others") == 0) kills_among_others(number);
    else if (strcmp(name, "reads_its_own") == 0) reads_its_own();
    else if (strcmp(name, "polls_its_own") == 0) polls_its_own();
    else if (strcmp(name, "writes_its_own") == 0) writes_its_own();
    else if (strcmp(name, "too_many") == 0) exhausts(EMFILE);
    else if (strcmp(name, "no_objects") == 0) exhausts(ENFILE);
    else if (strcmp(name, "no_room") == 0) exhausts(ENOMEM);
    else if (strcmp(name, "passes") == 0) passes(argc, argv);
    else if (strcmp(name, "wild") == 0) wild();
    else return 2;
    printf("ok\n");
    return 0;
}
