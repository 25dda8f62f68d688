
// Functions above the imports, for programs that have a C library, and don't define SANDPOOL_NO_HELPERS.

#if !defined(SANDPOOL_NO_HELPERS) && __has_include(<stdlib.h>)

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

// States which version of the contract a guest was built for, so that a host of another version says so instead of
// running it. Once in a program, outside of functions.
#ifdef __wasm__
#define SANDPOOL_GUEST \
    __asm__(".section \".custom_section.sandpool-abi\",\"\",@\n.ascii \"\\@VERSION@\\0\\0\\0\"\n.text\n");
#else
#define SANDPOOL_GUEST
#endif

// The meaning of an error number, for people. The number may be negated.
static inline const char *sandpool_strerror(int64_t error) {
    switch (error < 0 ? -error : error) {
    case 0: return "success";
@ERRORS@    default: return "unknown error";
    }
}

// Processes.

// Makes a child that runs a function, whose result is the child's exit code. Returns the child's handle, or a negated
// error number.
static inline int64_t sandpool_fork(int (*run)(void *argument), void *argument) {
    // Output that is still in a buffer would be written by both.
    fflush(NULL);
    int64_t child = sandpool_process_fork("", 0, 0);
    if (child == 0) {
        exit(run(argument));
    }
    return child;
}

// Waits until a child has ended, says how, and gives its handle back. Returns 0 or an error number.
static inline int32_t sandpool_join(uint64_t child, struct sandpool_status *status) {
    fflush(NULL);
    int32_t error = sandpool_process_join(child, SANDPOOL_FOREVER);
    if (error == 0) {
        error = sandpool_process_status(child, status);
    }
    return error != 0 ? error : sandpool_process_close(child);
}

// Queues.

// Puts an item, and waits for room. Returns 0 or an error number.
static inline int32_t sandpool_put(uint64_t queue, const void *bytes, size_t len) {
    return sandpool_queue_put(queue, bytes, len, NULL, 0, SANDPOOL_FOREVER);
}

// Takes the oldest item, and waits for one. Writes its length to `len`, and its bytes, with a zero byte behind them, to
// memory that the caller frees, whose address it writes to `bytes`. Handles that come with the item are released. Returns
// 0 or an error number: SANDPOOL_ERRNO_CLOSED when the queue is closed and has no more items.
static inline int32_t sandpool_get(uint64_t queue, char **bytes, size_t *len) {
    struct sandpool_item item;
    char start[1];
    int32_t error = sandpool_queue_get(queue, start, 0, SANDPOOL_FOREVER, &item);
    if (error != 0) {
        return error;
    }
    *bytes = (char *)malloc((size_t)item.len + 1);
    struct sandpool_record *records =
        (struct sandpool_record *)malloc((item.handle_count + 1) * sizeof(struct sandpool_record));
    if (*bytes == NULL || records == NULL) {
        // The item is lost: the next get drops what is held.
        free(*bytes);
        free(records);
        return SANDPOOL_ERRNO_NOMEM;
    }
    if (item.held) {
        struct sandpool_part part = {(uint32_t)(uintptr_t)*bytes, (uint32_t)item.len};
        error = sandpool_queue_take(&part, 1, records, item.handle_count);
        for (uint32_t at = 0; error == 0 && at < item.handle_count; at++) {
            sandpool_handle_release(records[at].handle);
        }
    }
    free(records);
    (*bytes)[item.len] = 0;
    *len = (size_t)item.len;
    if (error != 0) {
        free(*bytes);
    }
    return error;
}

// Descriptors. These functions do what those of POSIX with such names do: they return -1 and set errno.

// Sets errno for an error number.
static inline int sandpool_set_errno(int64_t error) {
    switch (error < 0 ? -error : error) {
    case SANDPOOL_ERRNO_BADF: errno = EBADF; break;
    case SANDPOOL_ERRNO_FAULT: errno = EFAULT; break;
    case SANDPOOL_ERRNO_INVAL: errno = EINVAL; break;
    case SANDPOOL_ERRNO_MFILE: errno = EMFILE; break;
    case SANDPOOL_ERRNO_NFILE: errno = ENFILE; break;
    case SANDPOOL_ERRNO_MSGSIZE:
    case SANDPOOL_ERRNO_NOMEM: errno = ENOMEM; break;
    default: errno = EIO; break;
    }
    return -1;
}

// Makes a pipe: what is written to fds[1] can be read from fds[0], also by other processes. The only flag with a meaning is
// O_NONBLOCK. A process that is spawned has no copies of the descriptors, so O_CLOEXEC is true of all of them.
static inline int sandpool_pipe2(int fds[2], int flags) {
    int known = O_NONBLOCK;
#ifdef O_CLOEXEC
    known |= O_CLOEXEC;
#endif
    uint32_t descriptors[2];
    if ((flags & ~known) != 0) {
        return sandpool_set_errno(SANDPOOL_ERRNO_INVAL);
    }
    int32_t error = sandpool_descriptor_pipe(flags & O_NONBLOCK ? SANDPOOL_DESCRIPTOR_NONBLOCKING : 0, descriptors);
    if (error != 0) {
        return sandpool_set_errno(error);
    }
    fds[0] = (int)descriptors[0];
    fds[1] = (int)descriptors[1];
    return 0;
}

// Makes a copy of a descriptor, of whatever kind, with the lowest number that is free.
static inline int sandpool_dup(int fd) {
    int64_t copy = sandpool_descriptor_duplicate((uint32_t)fd, 0);
    return copy < 0 ? sandpool_set_errno(copy) : (int)copy;
}

// Makes a copy of a descriptor with this number, and closes the descriptor that had it. Flush streams of stdio before.
static inline int sandpool_dup2(int fd, int to) {
    int64_t copy = sandpool_descriptor_duplicate_to((uint32_t)fd, (uint32_t)to);
    if (copy == -SANDPOOL_ERRNO_INVAL) {
        copy = -SANDPOOL_ERRNO_BADF;
    }
    return copy < 0 ? sandpool_set_errno(copy) : (int)copy;
}

// Tasks.

// Begins a task, which a host calls by this name:
//
//     SANDPOOL_TASK(upper) {
//         char *text = sandpool_input(len);
//         ...
//         return sandpool_done(text, len);
//     }
//
// `format` is one of SANDPOOL_TASK_TEXT and its kin, and `len` the number of bytes of the input. The result is one of
// those that the functions below return. Stdin is empty; what is printed is thrown away, or goes where the host says; the
// end of stderr comes with a failure. `main` doesn't run before a task, and need not be there; constructors run.
#ifdef __wasm__
#define SANDPOOL_EXPORT(name) __attribute__((export_name(name)))
#else
#define SANDPOOL_EXPORT(name)
#endif
#define SANDPOOL_TASK(name) \
    SANDPOOL_EXPORT("sandpool_task_" #name) \
    int32_t sandpool_export_##name(__attribute__((unused)) uint32_t format, __attribute__((unused)) uint32_t len)

// The input of the task, with a zero byte behind it, in memory that the caller frees. NULL if there is no memory.
static inline char *sandpool_input(uint32_t len) {
    char *input = (char *)malloc((size_t)len + 1);
    if (input != NULL) {
        sandpool_task_input(input, len);
        input[len] = 0;
    }
    return input;
}

// The task is done, and this is its output.
static inline int32_t sandpool_done(const void *output, size_t len) {
    sandpool_task_output(output, len);
    return SANDPOOL_TASK_DONE;
}

// The task has failed, for this reason.
static inline int32_t sandpool_failed(const char *reason) {
    sandpool_task_output(reason, strlen(reason));
    return SANDPOOL_TASK_FAILED;
}

// The task doesn't take this input, for this reason.
static inline int32_t sandpool_refused(const char *reason) {
    sandpool_task_output(reason, strlen(reason));
    return SANDPOOL_TASK_REFUSED;
}

#endif
