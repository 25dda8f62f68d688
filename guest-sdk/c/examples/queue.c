// A guest without a C library: a child puts a number into a queue, and its parent ends with that number as exit code.
//
//     clang --target=wasm32 -nostdlib -O2 -o queue.wasm queue.c && sandpool run queue.wasm; echo $?   # prints 42

#include "../sandpool.h"

_Noreturn void proc_exit(int32_t code)
#ifdef __wasm__
    __attribute__((import_module("wasi_snapshot_preview1"), import_name("proc_exit")))
#endif
    ;

// Ends this process unless a call has succeeded, and returns its result.
static int64_t checked(int64_t result) {
    if (result < 0) {
        proc_exit(1);
    }
    return result;
}

void _start(void) {
    uint64_t queue = (uint64_t)checked(sandpool_queue_create(0, 0));
    int64_t child = checked(sandpool_process_fork(NULL, 0, 0));
    if (child == 0) {
        uint8_t number = 42;
        proc_exit(sandpool_queue_put(queue, &number, sizeof number, NULL, 0, SANDPOOL_FOREVER));
    }

    uint8_t number = 0;
    struct sandpool_item item;
    checked(-sandpool_queue_get(queue, &number, sizeof number, SANDPOOL_FOREVER, &item));
    checked(-sandpool_process_join((uint64_t)child, SANDPOOL_FOREVER));
    proc_exit(number);
}
