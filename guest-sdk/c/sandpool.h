// The contract between Sandpool's host and its guests, for C.
//
// Made from the table of the crate sandpool-abi: change the table, not this file. The texts are those of
// the crate: there, `JOINABLE` of the module `queue` is SANDPOOL_QUEUE_JOINABLE here, and the function `put` is
// sandpool_queue_put.
//
// A guest is a module for wasm32 with an export `memory` and, unless it has tasks only, an export `_start`. Compile it
// by clang with `--target=wasm32-wasi`, or, without a C library, with `--target=wasm32 -nostdlib`.
//
// A handle is a number greater than zero, and names the same thing in each process of a run. A timeout is in
// nanoseconds. A function with a result of 32 bits returns 0 or an error number, SANDPOOL_ERRNO_...; a function with a
// result of 64 bits returns a value of zero or more, or a negated error number.

#ifndef SANDPOOL_H
#define SANDPOOL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
#define SANDPOOL_ASSERT(condition, message) static_assert(condition, message)
extern "C" {
#else
#define SANDPOOL_ASSERT(condition, message) _Static_assert(condition, message)
#endif

#ifdef __wasm__
#define SANDPOOL_IMPORT(module, name) __attribute__((import_module(module), import_name(name)))
#else
#define SANDPOOL_IMPORT(module, name)
#endif

// The version of this contract. A host runs guests of its own version only.
#define SANDPOOL_ABI_VERSION UINT32_C(1)
// The custom section that carries a guest's `ABI_VERSION`.
#define SANDPOOL_ABI_SECTION "sandpool-abi"
// A timeout that doesn't wait.
#define SANDPOOL_NO_WAIT UINT64_C(0)
// A timeout that never ends.
#define SANDPOOL_FOREVER UINT64_C(18446744073709551615)
// The longest name of a process, in bytes of UTF-8.
#define SANDPOOL_NAME_MAX 127
// The maximum number of handles that one message, or the arguments of one spawn, may carry.
#define SANDPOOL_MESSAGE_HANDLES_MAX 1024
// The maximum number of handles that one call of `wait` may name.
#define SANDPOOL_WAIT_MAX 4096

// The reason why a call failed. The numbers are Linux's where Linux has one.

#define SANDPOOL_ERRNO_PERM 1 // not permitted
#define SANDPOOL_ERRNO_NOENT 2 // no such thing
#define SANDPOOL_ERRNO_IO 5 // the arena is damaged
#define SANDPOOL_ERRNO_BADF 9 // stale or foreign handle
#define SANDPOOL_ERRNO_CHILD 10 // not a child of this process
#define SANDPOOL_ERRNO_AGAIN 11 // would block
#define SANDPOOL_ERRNO_NOMEM 12 // the arena is full
#define SANDPOOL_ERRNO_FAULT 14 // bad address
#define SANDPOOL_ERRNO_BUSY 16 // still running
#define SANDPOOL_ERRNO_EXIST 17 // the name is taken
#define SANDPOOL_ERRNO_INVAL 22 // invalid argument
#define SANDPOOL_ERRNO_NFILE 23 // too many objects
#define SANDPOOL_ERRNO_MFILE 24 // too many open descriptors
#define SANDPOOL_ERRNO_PIPE 32 // nobody is left to receive it
#define SANDPOOL_ERRNO_NAMETOOLONG 36 // name too long
#define SANDPOOL_ERRNO_OVERFLOW 75 // released too many times
#define SANDPOOL_ERRNO_MSGSIZE 90 // message too long for the arena
#define SANDPOOL_ERRNO_CONNRESET 104 // the connection was cut
#define SANDPOOL_ERRNO_CLOSED 108 // closed
#define SANDPOOL_ERRNO_TIMEDOUT 110 // timed out
#define SANDPOOL_ERRNO_OWNERDEAD 130 // the process that held the lock has ended
#define SANDPOOL_ERRNO_PROCS 11001 // too many processes
#define SANDPOOL_ERRNO_BROKEN 11002 // the barrier is broken
#define SANDPOOL_ERRNO_DEADLOCK 11003 // deadlock
#define SANDPOOL_ERRNO_RUNMEM 11004 // too much memory for the run
#define SANDPOOL_ERRNO_SYSTEM 11005 // the operating system has no room for another process

// The kind of a trap: `detail` of a status whose `kind` is SANDPOOL_PROCESS_TRAPPED.

#define SANDPOOL_TRAP_UNREACHABLE 1 // unreachable executed
#define SANDPOOL_TRAP_STACK_OVERFLOW 2 // call stack exhausted
#define SANDPOOL_TRAP_MEMORY_OUT_OF_BOUNDS 3 // out of bounds memory access
#define SANDPOOL_TRAP_TABLE_OUT_OF_BOUNDS 4 // out of bounds table access
#define SANDPOOL_TRAP_INDIRECT_CALL_TO_NULL 5 // call of an uninitialized table element
#define SANDPOOL_TRAP_BAD_SIGNATURE 6 // indirect call with the wrong type
#define SANDPOOL_TRAP_INTEGER_OVERFLOW 7 // integer overflow
#define SANDPOOL_TRAP_INTEGER_DIVISION_BY_ZERO 8 // integer divide by zero
#define SANDPOOL_TRAP_BAD_CONVERSION_TO_INTEGER 9 // invalid conversion to integer
#define SANDPOOL_TRAP_OTHER 10 // other trap
#define SANDPOOL_TRAP_UNCAUGHT_EXCEPTION 11 // uncaught exception
#define SANDPOOL_TRAP_NULL_REFERENCE 12 // access through a null reference
#define SANDPOOL_TRAP_ARRAY_OUT_OF_BOUNDS 13 // out of bounds array access
#define SANDPOOL_TRAP_CAST_FAILURE 14 // cast of a reference to a type that it does not have
#define SANDPOOL_TRAP_UNKNOWN_IMPORT 15 // call of an import that Sandpool does not provide
#define SANDPOOL_TRAP_MISSING_MEMORY 16 // call of an import that needs a memory, and the module exports none as `memory`

// The number of a limit: `detail` of a status whose `kind` is SANDPOOL_PROCESS_LIMITED, and the argument of
// sandpool_process_limit.

#define SANDPOOL_LIMIT_MEMORY_MAX 1
#define SANDPOOL_LIMIT_STACK_MAX 2
#define SANDPOOL_LIMIT_CPU_TIME 3
#define SANDPOOL_LIMIT_WALL_TIME 4
#define SANDPOOL_LIMIT_STDIO_MAX 5
#define SANDPOOL_LIMIT_FUEL 6
#define SANDPOOL_LIMIT_RUN_CPU_TIME 7
#define SANDPOOL_LIMIT_RUN_WALL_TIME 8
#define SANDPOOL_LIMIT_RUN_STDIO_MAX 9
#define SANDPOOL_LIMIT_PROCESSES_MAX 10
#define SANDPOOL_LIMIT_OBJECTS_MAX 11
#define SANDPOOL_LIMIT_ARENA_SIZE 12
#define SANDPOOL_LIMIT_QUEUE_ITEMS_MAX 13
#define SANDPOOL_LIMIT_OPEN_FILES_MAX 14
#define SANDPOOL_LIMIT_FILE_SIZE_MAX 15
#define SANDPOOL_LIMIT_FILE_BYTES_MAX 16
#define SANDPOOL_LIMIT_RUN_FILE_BYTES_MAX 17
#define SANDPOOL_LIMIT_RUN_MEMORY_MAX 18
#define SANDPOOL_LIMIT_OUTPUT_MAX 19
#define SANDPOOL_LIMIT_CONNECTIONS_MAX 20
#define SANDPOOL_LIMIT_CONNECTION_MESSAGE_MAX 21

// Constants of sandpool_process.

// The number of bytes that are kept of the end of a process's stderr.
#define SANDPOOL_PROCESS_STDERR_MAX 4096
// Flag of `fork` and `spawn`: the new process is daemonic.
#define SANDPOOL_PROCESS_DAEMON UINT32_C(1)
// Flag of `fork` and `spawn`: the new process is not daemonic.
#define SANDPOOL_PROCESS_NOT_DAEMON UINT32_C(2)
// Flag of `fork` and `spawn`, beside one of those: the new process ends with its creator, however the creator
// ends, and so does everything that the new process starts itself. In return the new process may start
// processes, also if it is daemonic.
#define SANDPOOL_PROCESS_TIED UINT32_C(4)
// An export of the type `() -> ()` that a module may have. It is called when the process has executed
// `unreachable`, by which languages abort, after the call in which `unreachable` was executed: memory is as it
// was then, nothing was unwound, and nothing will be. Only the language knows whether that was a panic; if so,
// the export ends the process by `proc_exit`, with the exit code of a panic. If the export returns, or executes
// `unreachable` itself, the process has trapped.
#define SANDPOOL_PROCESS_ABORTED_EXPORT "sandpool_aborted"
// `Status::kind`: the process returned, or called exit.
#define SANDPOOL_PROCESS_EXITED UINT32_C(1)
// `Status::kind`: a signal killed the process.
#define SANDPOOL_PROCESS_SIGNALED UINT32_C(2)
// `Status::kind`: WebAssembly trapped.
#define SANDPOOL_PROCESS_TRAPPED UINT32_C(3)
// `Status::kind`: the process hit a limit.
#define SANDPOOL_PROCESS_LIMITED UINT32_C(4)
// `Status::kind`: the run was ended because every process waited for another. Only the host sees this status.
#define SANDPOOL_PROCESS_DEADLOCKED UINT32_C(5)
// `Status::kind`: the process made a system call that its jail forbids, and was killed. Only native code can do
// that: WebAssembly makes no system calls.
#define SANDPOOL_PROCESS_FORBIDDEN UINT32_C(6)
// `Status::kind`: the run was ended because there were processes that it doesn't know of;
// `Status::figure` is their number. Only the host sees this status.
#define SANDPOOL_PROCESS_STRAYS UINT32_C(7)

// Constants of sandpool_queue.

// Flag of `create`: `task_done` and `join` work, for which each `get` is noted.
#define SANDPOOL_QUEUE_JOINABLE UINT32_C(1)
// Flag of `create`: a process that takes items claims them, until it puts their results by `finish` of
// `sandpool_task`; before that, a `get` is `BUSY`. So if the process dies, its creator learns
// what it was working on.
#define SANDPOOL_QUEUE_CLAIMED UINT32_C(2)
// The longest item that `put_many` and `get_many` move.
#define SANDPOOL_QUEUE_BATCH_ITEM_MAX 8192
// The maximum number of parts in which an item may be given or taken.
#define SANDPOOL_QUEUE_PARTS_MAX 8

// Constants of sandpool_pipe.

// Flag of `create`: both ends send and receive.
#define SANDPOOL_PIPE_DUPLEX UINT32_C(1)
// Result of `flags`: this end receives.
#define SANDPOOL_PIPE_READABLE UINT32_C(1)
// Result of `flags`: this end sends.
#define SANDPOOL_PIPE_WRITABLE UINT32_C(2)
// Result of `flags`: the other end is outside of the run. Messages carry no handles there, and have a limit.
#define SANDPOOL_PIPE_OUTSIDE UINT32_C(4)
// The default capacity of a pipe: that of Linux's pipes.
#define SANDPOOL_PIPE_CAPACITY UINT64_C(65536)

// Constants of sandpool_sync.

// Flag of `lock_create`: the lock's owner may acquire it again, and only the owner may release it.
#define SANDPOOL_SYNC_RECURSIVE UINT32_C(1)
// Result of `lock_held`: another process holds the lock.
#define SANDPOOL_SYNC_ELSEWHERE INT64_C(1099511627776)
// Flag of `semaphore_create`: the semaphore never has more units than it was made with.
#define SANDPOOL_SYNC_BOUNDED UINT32_C(1)
// Flag of `semaphore_create`: units that a process holds when it ends are returned.
#define SANDPOOL_SYNC_RETURNED UINT32_C(2)
// Result of `condition_wait`: another process has notified the caller.
#define SANDPOOL_SYNC_NOTIFIED INT64_C(1)
// Result of `condition_wait`: the lock was acquired as with `OWNERDEAD` of `lock_acquire`.
#define SANDPOOL_SYNC_OWNER_DIED INT64_C(2)
// Flag of `barrier_wait`: the last process to arrive acts before the others go on.
#define SANDPOOL_SYNC_ACTION UINT32_C(1)
// Added to the index of the process that is to act.
#define SANDPOOL_SYNC_ACT INT64_C(1099511627776)

// Constants of sandpool_shared.

// Flag of `create`: at most `SMALL_MAX` bytes, which take no page of their own, but can't be mapped.
#define SANDPOOL_SHARED_SMALL UINT32_C(1)
// The largest size with `SMALL`.
#define SANDPOOL_SHARED_SMALL_MAX UINT64_C(512)
// Flag of `create`: the memory is unlinked when the caller releases its last use of the handle, or ends, in
// whatever way.
#define SANDPOOL_SHARED_OWNED UINT32_C(2)
// Flag of `map`; and of a view's `kind`.
#define SANDPOOL_SHARED_READ_ONLY UINT32_C(1)
// Operation of `rmw`: add, wrapping.
#define SANDPOOL_SHARED_ADD UINT32_C(0)
// Operation of `rmw`: subtract, wrapping.
#define SANDPOOL_SHARED_SUB UINT32_C(1)
// Operation of `rmw`: bitwise and.
#define SANDPOOL_SHARED_AND UINT32_C(2)
// Operation of `rmw`: bitwise or.
#define SANDPOOL_SHARED_OR UINT32_C(3)
// Operation of `rmw`: bitwise exclusive or.
#define SANDPOOL_SHARED_XOR UINT32_C(4)
// Operation of `rmw`: replace.
#define SANDPOOL_SHARED_SWAP UINT32_C(5)

// Constants of sandpool_shelf.

// The number of words of a shelf, of 64 bits each.
#define SANDPOOL_SHELF_WORDS 6
// The number of places that a shelf can have.
#define SANDPOOL_SHELF_PLACES_MAX UINT64_C(1048576)
// The maximum number of places that one call changes.
#define SANDPOOL_SHELF_CHANGES_MAX 262144
// In `Change::len`: the place is to be empty.
#define SANDPOOL_SHELF_EMPTY UINT32_C(4294967295)

// Constants of sandpool_task.

// `Claims::part` of an item of which only the result isn't put yet.
#define SANDPOOL_TASK_DELIVERED UINT32_C(4294967295)
// The beginning of the name of a task's export.
#define SANDPOOL_TASK_EXPORT_PREFIX "sandpool_task_"
// The custom section that describes tasks.
#define SANDPOOL_TASK_SECTION "sandpool-tasks"
// Format: values as serde and bincode 2 encode them, with numbers of fixed lengths
// (`config::standard().with_fixed_int_encoding()`).
#define SANDPOOL_TASK_SERDE UINT32_C(0)
// Format: JSON.
#define SANDPOOL_TASK_JSON UINT32_C(1)
// Format: text, such as a line without its end. A value that isn't text is written as in JSON, in one line.
#define SANDPOOL_TASK_TEXT UINT32_C(2)
// Format: bytes, unchanged.
#define SANDPOOL_TASK_BYTES UINT32_C(3)
// Result of a task: the task is done, and its output is the requested one.
#define SANDPOOL_TASK_DONE UINT32_C(0)
// Result of a task: the task failed, and its output says why.
#define SANDPOOL_TASK_FAILED UINT32_C(1)
// Result of a task: its input can't be decoded or its output can't be encoded, and its output says why.
#define SANDPOOL_TASK_REFUSED UINT32_C(2)
// Result of a task: the task doesn't know this format.
#define SANDPOOL_TASK_UNSUPPORTED UINT32_C(3)

// Constants of sandpool_handle.

// `Record::kind`: a queue.
#define SANDPOOL_HANDLE_QUEUE UINT32_C(1)
// `Record::kind`: an end of a pipe.
#define SANDPOOL_HANDLE_END UINT32_C(2)
// `Record::kind`: a lock.
#define SANDPOOL_HANDLE_LOCK UINT32_C(3)
// `Record::kind`: a semaphore.
#define SANDPOOL_HANDLE_SEMAPHORE UINT32_C(4)
// `Record::kind`: an event.
#define SANDPOOL_HANDLE_EVENT UINT32_C(5)
// `Record::kind`: a condition.
#define SANDPOOL_HANDLE_CONDITION UINT32_C(6)
// `Record::kind`: a barrier.
#define SANDPOOL_HANDLE_BARRIER UINT32_C(7)
// `Record::kind`: shared memory.
#define SANDPOOL_HANDLE_SHARED UINT32_C(8)
// `Record::kind`: an end of a pipe of bytes.
#define SANDPOOL_HANDLE_BYTE_END UINT32_C(9)
// `Record::kind`: a shelf.
#define SANDPOOL_HANDLE_SHELF UINT32_C(10)

// Constants of sandpool_descriptor.

// Flag of `pipe`: reads and writes at both ends fail with `EAGAIN` where they would wait. It is what `O_NONBLOCK` is:
// each end has one such flag, which all copies and all processes share, and which `fd_fdstat_set_flags` changes.
#define SANDPOOL_DESCRIPTOR_NONBLOCKING UINT32_C(1)
// The longest write that happens as a whole, in bytes: the bytes of no other write come in between.
#define SANDPOOL_DESCRIPTOR_ATOMIC_MAX UINT64_C(4096)

// Constants of sandpool_connection.

// The maximum number of bytes of an address.
#define SANDPOOL_CONNECTION_ADDRESS_MAX 512
// `Answer::code`: it was done.
#define SANDPOOL_CONNECTION_DONE UINT32_C(0)
// `Answer::code`: the address wasn't granted. The text is the grant that it takes.
#define SANDPOOL_CONNECTION_NOT_GRANTED UINT32_C(1)
// `Answer::code`: the text isn't an address.
#define SANDPOOL_CONNECTION_NO_ADDRESS UINT32_C(2)
// `Answer::code`: the run has as many listeners and connections as it may.
#define SANDPOOL_CONNECTION_TOO_MANY UINT32_C(3)
// `Answer::code`: the operating system has refused it, with the error number in `Answer::errno`.
#define SANDPOOL_CONNECTION_FAILED UINT32_C(4)

// How a process ended: the structure that `status` writes. Little-endian.
struct sandpool_status {
    // One of `EXITED`, `SIGNALED`, `TRAPPED`, `LIMITED`, `FORBIDDEN`.
    uint32_t kind;
    // The exit code, the signal, the `Trap` or the `Limit::code`.
    uint32_t detail;
    // The exit code that Python reports: 0 to 255, or the negated signal; a trap counts as SIGABRT.
    int32_t exitcode;
    // Always 0.
    uint32_t reserved;
    // The `Limit::figure`, else 0.
    uint64_t figure;
};
SANDPOOL_ASSERT(sizeof(struct sandpool_status) == 24, "a layout of the contract");

// Facts about a process: the structure that `info` writes. Little-endian.
struct sandpool_info {
    // The process's handle.
    uint64_t handle;
    // The operating system's process id.
    uint32_t pid;
    // The parent's process id, 0 for the main process.
    uint32_t parent_pid;
    // `DAEMON` or 0.
    uint32_t flags;
    // 1 while the process is alive.
    uint32_t alive;
};
SANDPOOL_ASSERT(sizeof(struct sandpool_info) == 24, "a layout of the contract");

// The place of bytes of an item, to be read or written. Little-endian.
struct sandpool_part {
    // The address of the bytes.
    uint32_t at;
    // The number of bytes.
    uint32_t len;
};
SANDPOOL_ASSERT(sizeof(struct sandpool_part) == 8, "a layout of the contract");

// The size of a taken item: the structure that `get` writes. Little-endian.
struct sandpool_item {
    // Bytes of the item.
    uint64_t len;
    // The number of handles that come with the item.
    uint32_t handle_count;
    // 1: the item is held, and `take` must follow.
    uint32_t held;
};
SANDPOOL_ASSERT(sizeof(struct sandpool_item) == 16, "a layout of the contract");

// The state of a barrier: the structure that `barrier_state` writes. Little-endian.
struct sandpool_barrier {
    // The number of processes that the barrier is for.
    uint64_t parties;
    // The number of processes that wait.
    uint64_t waiting;
    // 1 if the barrier is broken.
    uint32_t broken;
    // Always 0.
    uint32_t reserved;
};
SANDPOOL_ASSERT(sizeof(struct sandpool_barrier) == 24, "a layout of the contract");

// The new content of a place. Little-endian.
struct sandpool_change {
    // The number of the place.
    uint64_t place;
    // The address of the bytes.
    uint32_t at;
    // The number of bytes, or `EMPTY`.
    uint32_t len;
    // The number of handles.
    uint32_t handle_count;
    // 0.
    uint32_t reserved;
};
SANDPOOL_ASSERT(sizeof(struct sandpool_change) == 24, "a layout of the contract");

// The items that a worker hasn't finished: the structure that `claims` writes. Little-endian.
struct sandpool_claims {
    // The number of the first item that isn't finished.
    uint64_t first;
    // The number after that of the last unfinished item; equal to `first` if there is none.
    uint64_t end;
    // The worker's current work, counted from the start of the process on; 0 if it works on nothing.
    uint64_t work;
    // The time when the worker began that work, in nanoseconds of the monotonic clock.
    uint64_t since;
    // The part of the first item that is worked on; `DELIVERED` when the worker is done with all parts, and only
    // the result isn't put yet: then there is no work.
    uint32_t part;
    // Always 0.
    uint32_t reserved;
};
SANDPOOL_ASSERT(sizeof(struct sandpool_claims) == 40, "a layout of the contract");

// The host's record of an object, which a receiver of its handle gets. No guest can change a record.
// Little-endian.
//
// The bytes of a message can claim that a handle in it is one of anything; the record says what the object is.
struct sandpool_record {
    // The handle.
    uint64_t handle;
    // One of `QUEUE`…, and from bit 8 on the flags of its `create`, as far as they stay: `JOINABLE`, `CLAIMED`,
    // `RECURSIVE`, `BOUNDED`, `READ_ONLY`; of an end of a pipe of bytes,
    // `READABLE` or `WRITABLE`.
    uint32_t kind;
    // The tag that `record` was given; 0 if `record` wasn't called.
    uint32_t tag;
    // The partner that `record` was given; 0 if `record` wasn't called. For a view, the memory's handle.
    uint64_t partner;
};
SANDPOOL_ASSERT(sizeof(struct sandpool_record) == 24, "a layout of the contract");

// The beginning of an answer. Little-endian.
struct sandpool_answer {
    // `DONE`, or another of these numbers.
    uint32_t code;
    // The error number of Linux, or 0.
    uint32_t errno;
};
SANDPOOL_ASSERT(sizeof(struct sandpool_answer) == 8, "a layout of the contract");

// Functions of sandpool_process.

// Forks the calling process: the child goes on in the same instance, with a copy-on-write copy of its memory.
// Returns 0 in the child and the child's handle in the parent. An empty name means the default, `Process-` and
// the child's identity. Flags: `DAEMON` or `NOT_DAEMON`, which is the
// default, and `TIED`. `PERM` if the caller is daemonic and not tied; `PROCS`, `RUNMEM` or
// `SYSTEM` if there can't be another process now. Flush buffered output first.
int64_t sandpool_process_fork(
    const void *name,
    size_t name_len,
    uint32_t flags)
    SANDPOOL_IMPORT("sandpool_process", "fork");

// Starts a process with fresh memory, whose `_start` is called. The new process finds `payload` by `entry`,
// and holds the given handles (`handles` points at `handle_count` 64-bit values). Returns the child's
// handle.
int64_t sandpool_process_spawn(
    const void *name,
    size_t name_len,
    uint32_t flags,
    const void *payload,
    size_t payload_len,
    const uint64_t *handles,
    size_t handle_count)
    SANDPOOL_IMPORT("sandpool_process", "spawn");

// Copies the payload that this process was spawned with into `buffer` (at most `capacity` bytes) and returns
// its whole length. `NOENT` in the main process, and in a forked process.
int64_t sandpool_process_entry(
    void *buffer,
    size_t capacity)
    SANDPOOL_IMPORT("sandpool_process", "entry");

// Writes a `Record` of each handle that this process was spawned with, and returns how
// many there are.
int64_t sandpool_process_entry_handles(
    struct sandpool_record *buffer,
    size_t capacity)
    SANDPOOL_IMPORT("sandpool_process", "entry_handles");

// Returns the caller's own handle.
int64_t sandpool_process_current(void)
    SANDPOOL_IMPORT("sandpool_process", "current");

// Returns the parent's handle; 0 in the main process.
int64_t sandpool_process_parent(void)
    SANDPOOL_IMPORT("sandpool_process", "parent");

// Copies the handles of the caller's children that are alive, detached ones included, and returns how many
// there are.
int64_t sandpool_process_children(
    uint64_t *buffer,
    size_t capacity)
    SANDPOOL_IMPORT("sandpool_process", "children");

// Waits until the given child, or the caller's parent, has ended. 0, `TIMEDOUT` (also with
// `NO_WAIT`), `CHILD`, or `BADF` for a detached child, whose handle is stale once the child
// has ended.
int32_t sandpool_process_join(
    uint64_t process,
    uint64_t timeout)
    SANDPOOL_IMPORT("sandpool_process", "join");

// Writes how a child ended, a `Status`, to `status`. `AGAIN` while it is alive.
int32_t sandpool_process_status(
    uint64_t process,
    struct sandpool_status *status)
    SANDPOOL_IMPORT("sandpool_process", "status");

// Sends a child SIGINT (2), SIGTERM (15) or SIGKILL (9). A child that has ended already is no error.
int32_t sandpool_process_signal(
    uint64_t process,
    uint32_t signal)
    SANDPOOL_IMPORT("sandpool_process", "signal");

// Gives a child's handle back, after which it names nothing. `BUSY` while the child is alive.
int32_t sandpool_process_close(uint64_t process)
    SANDPOOL_IMPORT("sandpool_process", "close");

// Gives a child's handle back whether or not it is alive; the child goes on, and is still waited for when
// the caller ends, unless it is daemonic.
int32_t sandpool_process_detach(uint64_t process)
    SANDPOOL_IMPORT("sandpool_process", "detach");

// Writes an `Info` about the caller, its parent (even when that is long gone) or a child to
// `info`.
int32_t sandpool_process_info(
    uint64_t process,
    struct sandpool_info *info)
    SANDPOOL_IMPORT("sandpool_process", "info");

// Copies the name of the caller, its parent or a child, and returns its whole length.
int64_t sandpool_process_name(
    uint64_t process,
    void *buffer,
    size_t capacity)
    SANDPOOL_IMPORT("sandpool_process", "name");

// Returns the number of processors that the caller may use.
int32_t sandpool_process_cpu_count(void)
    SANDPOOL_IMPORT("sandpool_process", "cpu_count");

// Returns the `figure` of the limit with this `code`, for the
// error that reports a refusal. `NOENT` if there is no such limit, or it isn't set.
int64_t sandpool_process_limit(uint32_t code)
    SANDPOOL_IMPORT("sandpool_process", "limit");

// Copies the end of the text that a child has written to its stderr, `STDERR_MAX` bytes
// at most, and returns its whole length. The message of a trap or limit is part of it. For a child that has
// begun a task only the text since then counts. The text is kept until the child's handle is
// given back; while the child writes, it may be garbled. `CHILD`.
int64_t sandpool_process_stderr(
    uint64_t process,
    void *buffer,
    size_t capacity)
    SANDPOOL_IMPORT("sandpool_process", "stderr");

// Makes the caller mute, or not (0). While the caller is mute, its calls of WASI that write, make, rename or
// remove something do nothing and succeed, and opening a file in a way that would make it isn't permitted. For a
// language that drops, in the parent, values that belong to a child that was just forked.
int32_t sandpool_process_mute(uint32_t on)
    SANDPOOL_IMPORT("sandpool_process", "mute");

// Functions of sandpool_queue.

// Makes a queue for at most `maxsize` items (0: as many as the arena holds) and returns its handle. Flags:
// `JOINABLE` or `CLAIMED`.
int64_t sandpool_queue_create(
    uint64_t maxsize,
    uint32_t flags)
    SANDPOOL_IMPORT("sandpool_queue", "create");

// Puts one item: `item_len` bytes and `handle_count` handles, which the item holds until it is taken.
// 0, `AGAIN` (full, with `NO_WAIT`), `TIMEDOUT`, `CLOSED`, or `MSGSIZE` (can never fit).
int32_t sandpool_queue_put(
    uint64_t queue,
    const void *item,
    size_t item_len,
    const uint64_t *handles,
    size_t handle_count,
    uint64_t timeout)
    SANDPOOL_IMPORT("sandpool_queue", "put");

// Like `put`, for an item whose bytes lie in several places: `part_count` of `Part`, at most
// `PARTS_MAX`. For large items: in the arena such an item has pages of its own, however
// small it is.
int32_t sandpool_queue_put_parts(
    uint64_t queue,
    const struct sandpool_part *parts,
    size_t part_count,
    const uint64_t *handles,
    size_t handle_count,
    uint64_t timeout)
    SANDPOOL_IMPORT("sandpool_queue", "put_parts");

// Takes the oldest item and writes an `Item` to `result`. An item of at most `capacity` bytes
// with no handles is copied to `buffer`. Any other item is held for the caller, with `held` set in the
// result: `take` copies it. An item that is still held from an earlier call is dropped first. 0, `AGAIN`
// (empty, with `NO_WAIT`), `TIMEDOUT`, or `CLOSED` (and drained).
int32_t sandpool_queue_get(
    uint64_t queue,
    void *buffer,
    size_t capacity,
    uint64_t timeout,
    struct sandpool_item *result)
    SANDPOOL_IMPORT("sandpool_queue", "get");

// Puts several items at once, as far as there is room: `count` items whose lengths are at `lens` (32 bits each)
// and whose bytes follow one another at `items` (`items_len` in all). Waits for room for the first only. Returns
// the number of items that were put; `AGAIN`, `TIMEDOUT` or `CLOSED` if none was. Items of more than
// `BATCH_ITEM_MAX` bytes are not for a batch: `MSGSIZE` if the first is one.
int64_t sandpool_queue_put_many(
    uint64_t queue,
    const void *items,
    size_t items_len,
    const uint32_t *lens,
    size_t count,
    uint64_t timeout)
    SANDPOOL_IMPORT("sandpool_queue", "put_many");

// Takes the oldest items at once, as many as there are, at most `count`: their bytes one after another to
// `buffer`, their lengths to `lens` (32 bits each). Waits for the first only. The call stops before an item
// that doesn't fit, carries handles or is larger than `BATCH_ITEM_MAX`; if that
// item is the first, the call returns 0, and `get` takes the item. Errors as of `get`.
int64_t sandpool_queue_get_many(
    uint64_t queue,
    void *buffer,
    size_t capacity,
    uint32_t *lens,
    size_t count,
    uint64_t timeout)
    SANDPOOL_IMPORT("sandpool_queue", "get_many");

// Copies the item that `get`, or `recv` of a pipe, holds for the caller: its bytes to `part_count` places, one
// after another, each a `Part`, and a `Record` of each of its handles to
// `records`. Both must have exactly the room that `get` reported, or the result is `INVAL` and the item is still
// held: so a caller that has taken another item in between is told. The caller then holds those handles. `NOENT`
// if no item is held.
int32_t sandpool_queue_take(
    const struct sandpool_part *parts,
    size_t part_count,
    struct sandpool_record *records,
    size_t record_capacity)
    SANDPOOL_IMPORT("sandpool_queue", "take");

// Copies the first bytes of the item that is held for the caller, at most `capacity`, and returns its whole
// length. The item is still held: so the caller can see what the item is before deciding in which parts to take
// it. `NOENT` if no item is held.
int64_t sandpool_queue_peek(
    void *buffer,
    size_t capacity)
    SANDPOOL_IMPORT("sandpool_queue", "peek");

// Returns the number of items that wait.
int64_t sandpool_queue_qsize(uint64_t queue)
    SANDPOOL_IMPORT("sandpool_queue", "qsize");

// Returns the `maxsize` that the queue was made with; 0 when it has none.
int64_t sandpool_queue_maxsize(uint64_t queue)
    SANDPOOL_IMPORT("sandpool_queue", "maxsize");

// Closes the queue for every process: a `put` fails from now on, a `get` once the queue is drained.
int32_t sandpool_queue_close(uint64_t queue)
    SANDPOOL_IMPORT("sandpool_queue", "close");

// Reports that an item which was taken is done. `OVERFLOW` if all items that were put are done; `INVAL` if
// the queue isn't joinable.
int32_t sandpool_queue_task_done(uint64_t queue)
    SANDPOOL_IMPORT("sandpool_queue", "task_done");

// Waits until each item that was put is done, or lost: taken by a process that died before it reported the
// item as done. Returns the number of items that were lost since the queue was made. `AGAIN`, `TIMEDOUT`;
// `INVAL` if the queue isn't joinable.
int64_t sandpool_queue_join(
    uint64_t queue,
    uint64_t timeout)
    SANDPOOL_IMPORT("sandpool_queue", "join");

// Functions of sandpool_pipe.

// Makes a pipe and writes the handles of its two ends, 64 bits each, to `ends`. A message that is sent at
// one end is received at the other. Without `DUPLEX` in `flags`, the first end only
// receives and the second only sends. `capacity` is the number of bytes that may wait in each direction, 0
// for `CAPACITY`; a longer message is sent when no other waits.
int32_t sandpool_pipe_create(
    uint64_t capacity,
    uint32_t flags,
    uint64_t *ends)
    SANDPOOL_IMPORT("sandpool_pipe", "create");

// Sends a message: `len` bytes, which may be 0, and `handle_count` handles. 0, `AGAIN`, `TIMEDOUT`, `MSGSIZE`
// (can never fit), `PIPE` (nobody is left to receive it), `PERM` (this end only receives), or `INVAL` (handles, where
// the other end is outside of the run).
int32_t sandpool_pipe_send(
    uint64_t end,
    const void *message,
    size_t len,
    const uint64_t *handles,
    size_t handle_count,
    uint64_t timeout)
    SANDPOOL_IMPORT("sandpool_pipe", "send");

// Like `send`, for a message in several parts, as in `put_parts` of a queue.
int32_t sandpool_pipe_send_parts(
    uint64_t end,
    const struct sandpool_part *parts,
    size_t part_count,
    const uint64_t *handles,
    size_t handle_count,
    uint64_t timeout)
    SANDPOOL_IMPORT("sandpool_pipe", "send_parts");

// Receives a message as `get` of a queue does, with an `Item` for a result. 0, `AGAIN`,
// `TIMEDOUT`, `PERM` (this end only sends), `CLOSED` (nobody is left to send anything), or `CONNRESET` (the connection with
// the outside was cut, so that messages may be missing). A process that waits here doesn't count as a sender, even if it holds the other end itself.
int32_t sandpool_pipe_recv(
    uint64_t end,
    void *buffer,
    size_t capacity,
    uint64_t timeout,
    struct sandpool_item *result)
    SANDPOOL_IMPORT("sandpool_pipe", "recv");

// Returns the abilities of an end, `READABLE` and `WRITABLE`, and whether it is one of
// a connection with the outside, `OUTSIDE`.
int64_t sandpool_pipe_flags(uint64_t end)
    SANDPOOL_IMPORT("sandpool_pipe", "flags");

// Returns the number of bytes that may wait in each direction.
int64_t sandpool_pipe_capacity(uint64_t end)
    SANDPOOL_IMPORT("sandpool_pipe", "capacity");

// Functions of sandpool_sync.

// Makes a lock. Flags: `RECURSIVE`.
int64_t sandpool_sync_lock_create(uint32_t flags)
    SANDPOOL_IMPORT("sandpool_sync", "lock_create");

// Acquires a lock. 0; `AGAIN` or `TIMEDOUT`, without the lock; or `OWNERDEAD`, *with* the lock: the process
// that held it has ended and didn't release it, so the data that it guards may be half changed. A recursive
// lock that the caller holds is acquired once more; for any other lock that the caller holds, the caller
// waits.
int32_t sandpool_sync_lock_acquire(
    uint64_t lock,
    uint64_t timeout)
    SANDPOOL_IMPORT("sandpool_sync", "lock_acquire");

// Releases a lock, once. `OVERFLOW` if nobody holds the lock; `PERM` if it is recursive and another process
// holds it.
int32_t sandpool_sync_lock_release(uint64_t lock)
    SANDPOOL_IMPORT("sandpool_sync", "lock_release");

// Returns how often the caller holds the lock: above 0 if the caller holds it, 0 if nobody does,
// `ELSEWHERE` if another process does.
int64_t sandpool_sync_lock_held(uint64_t lock)
    SANDPOOL_IMPORT("sandpool_sync", "lock_held");

// Makes a semaphore with `value` units, at most 2^62 (else `INVAL`). A process holds a unit from acquiring it
// until the process releases one. Flags: `BOUNDED`, `RETURNED`.
int64_t sandpool_sync_semaphore_create(
    uint64_t value,
    uint32_t flags)
    SANDPOOL_IMPORT("sandpool_sync", "semaphore_create");

// Acquires one unit. 0, `AGAIN`, `TIMEDOUT`.
int32_t sandpool_sync_semaphore_acquire(
    uint64_t semaphore,
    uint64_t timeout)
    SANDPOOL_IMPORT("sandpool_sync", "semaphore_acquire");

// Releases `count` units, which other processes may have acquired. `OVERFLOW`, and nothing is released, if a
// bounded semaphore would have more units than it was made with, or any semaphore more than 2^62.
int32_t sandpool_sync_semaphore_release(
    uint64_t semaphore,
    uint64_t count)
    SANDPOOL_IMPORT("sandpool_sync", "semaphore_release");

// Returns the number of free units.
int64_t sandpool_sync_semaphore_value(uint64_t semaphore)
    SANDPOOL_IMPORT("sandpool_sync", "semaphore_value");

// Returns the number of units that processes held when they ended: those units are lost, or, with
// `RETURNED`, were returned.
int64_t sandpool_sync_semaphore_died(uint64_t semaphore)
    SANDPOOL_IMPORT("sandpool_sync", "semaphore_died");

// Makes an event that isn't set.
int64_t sandpool_sync_event_create(void)
    SANDPOOL_IMPORT("sandpool_sync", "event_create");

// Sets an event: all processes that wait for it go on, and no process waits until it is cleared.
int32_t sandpool_sync_event_set(uint64_t event)
    SANDPOOL_IMPORT("sandpool_sync", "event_set");

// Clears an event.
int32_t sandpool_sync_event_clear(uint64_t event)
    SANDPOOL_IMPORT("sandpool_sync", "event_clear");

// Returns 1 if the event is set, else 0.
int64_t sandpool_sync_event_is_set(uint64_t event)
    SANDPOOL_IMPORT("sandpool_sync", "event_is_set");

// Waits until the event is set, or was set since, even if it was cleared again at once. 0, `AGAIN`, `TIMEDOUT`.
int32_t sandpool_sync_event_wait(
    uint64_t event,
    uint64_t timeout)
    SANDPOOL_IMPORT("sandpool_sync", "event_wait");

// Makes a condition.
int64_t sandpool_sync_condition_create(void)
    SANDPOOL_IMPORT("sandpool_sync", "condition_create");

// Releases `lock` wholly, waits until notified, and acquires the lock as often as it was held, however long
// that takes. Returns `NOTIFIED`, unless the time was over, and
// `OWNER_DIED` if the lock was taken over from a process that has ended. `PERM` if the
// caller doesn't hold the lock.
int64_t sandpool_sync_condition_wait(
    uint64_t condition,
    uint64_t lock,
    uint64_t timeout)
    SANDPOOL_IMPORT("sandpool_sync", "condition_wait");

// Wakes `count` processes, those that have waited longest, and returns the number of processes that were
// woken. `PERM` if the caller doesn't hold the lock.
int64_t sandpool_sync_condition_notify(
    uint64_t condition,
    uint64_t lock,
    uint64_t count)
    SANDPOOL_IMPORT("sandpool_sync", "condition_notify");

// Makes a barrier for `parties` processes. `INVAL` if that is 0.
int64_t sandpool_sync_barrier_create(uint64_t parties)
    SANDPOOL_IMPORT("sandpool_sync", "barrier_create");

// Waits until all parties wait, and returns the caller's index, from 0 in the order of arrival. `BROKEN` if the
// barrier is broken, or breaks meanwhile: by `barrier_abort`, `barrier_reset`, the end of a process that waits
// or acts, or because the time of one is over, even at once. With `ACTION` in `flags`, the last
// process to arrive returns at once with `ACT` added to its index: it does its action, then calls
// `barrier_release`, upon which the others go on, or `barrier_abort`.
int64_t sandpool_sync_barrier_wait(
    uint64_t barrier,
    uint32_t flags,
    uint64_t timeout)
    SANDPOOL_IMPORT("sandpool_sync", "barrier_wait");

// Lets the others go on. `PERM` if the caller wasn't told to `ACT`, `BROKEN`.
int32_t sandpool_sync_barrier_release(uint64_t barrier)
    SANDPOOL_IMPORT("sandpool_sync", "barrier_release");

// Resets a barrier to its initial state; processes that wait get `BROKEN`.
int32_t sandpool_sync_barrier_reset(uint64_t barrier)
    SANDPOOL_IMPORT("sandpool_sync", "barrier_reset");

// Breaks a barrier until it is reset.
int32_t sandpool_sync_barrier_abort(uint64_t barrier)
    SANDPOOL_IMPORT("sandpool_sync", "barrier_abort");

// Writes a `Barrier` to `state`.
int32_t sandpool_sync_barrier_state(
    uint64_t barrier,
    struct sandpool_barrier *state)
    SANDPOOL_IMPORT("sandpool_sync", "barrier_state");

// Functions of sandpool_shared.

// Makes shared memory of `size` zero bytes and returns its handle. With a name (1 to
// `NAME_MAX` bytes of UTF-8), other processes of the run can `open` it, and it stays
// until it is unlinked. Flags: `SMALL`, `OWNED`. `INVAL` if the size is 0,
// or too large for the flag; `MSGSIZE` if the arena is smaller, `NOMEM` if it has no such room now, `EXIST`
// if the name is taken.
int64_t sandpool_shared_create(
    uint64_t size,
    uint32_t flags,
    const void *name,
    size_t name_len)
    SANDPOOL_IMPORT("sandpool_shared", "create");

// Returns the handle of the shared memory with this name. `NOENT`. Where each task of a host has a process of its
// own, a task doesn't see names that other tasks have made.
int64_t sandpool_shared_open(
    const void *name,
    size_t name_len)
    SANDPOOL_IMPORT("sandpool_shared", "open");

// Takes a name away. Processes that hold the named memory keep it. `NOENT`; `PERM` in such a task, if the name
// isn't the task's own.
int32_t sandpool_shared_unlink(
    const void *name,
    size_t name_len)
    SANDPOOL_IMPORT("sandpool_shared", "unlink");

// Returns the size in bytes.
int64_t sandpool_shared_size(uint64_t shared)
    SANDPOOL_IMPORT("sandpool_shared", "size");

// Copies the name of the memory, which stays after it was unlinked, and returns its whole length; 0 if the
// memory has no name.
int64_t sandpool_shared_name(
    uint64_t shared,
    void *buffer,
    size_t capacity)
    SANDPOOL_IMPORT("sandpool_shared", "name");

// Maps all of the memory into the caller's memory and returns the address. With `READ_ONLY`,
// a store there traps; without it, the result is `PERM` for a view. `INVAL` if the memory is
// `SMALL`, `NOMEM` if the guest's memory can't grow that far. Mapped memory may not be passed to
// WASI, nor to other imports: `FAULT`.
int64_t sandpool_shared_map(
    uint64_t shared,
    uint32_t flags)
    SANDPOOL_IMPORT("sandpool_shared", "map");

// Undoes a `map`. The addresses then read as zeroes, can't be written, and are for later calls of `map`.
// `INVAL` if nothing was mapped at that address. The mapping is undone as well when the caller releases its
// last use of the handle.
int32_t sandpool_shared_unmap(size_t address)
    SANDPOOL_IMPORT("sandpool_shared", "unmap");

// Copies bytes out, from `offset`. `INVAL` if they don't lie inside.
int32_t sandpool_shared_read(
    uint64_t shared,
    uint64_t offset,
    void *buffer,
    size_t len)
    SANDPOOL_IMPORT("sandpool_shared", "read");

// Makes a view of shared memory that was made without `SMALL`: an object of its own, by whose
// handle the same bytes can be read and not changed. Give the view's handle to processes that may only read. A
// view of a view is a view of the same memory.
int64_t sandpool_shared_view(uint64_t shared)
    SANDPOOL_IMPORT("sandpool_shared", "view");

// Copies bytes in. `INVAL` if they don't lie inside; `PERM` for a view.
int32_t sandpool_shared_write(
    uint64_t shared,
    uint64_t offset,
    const void *bytes,
    size_t len)
    SANDPOOL_IMPORT("sandpool_shared", "write");

// Loads an integer of `width` bytes (1, 2, 4 or 8), zero-extended. This function and the next three are
// sequentially consistent, and trap if the handle or the width is bad, or the offset isn't inside or not a
// multiple of the width; the next three also trap for a view.
int64_t sandpool_shared_load(
    uint64_t shared,
    uint64_t offset,
    uint32_t width)
    SANDPOOL_IMPORT("sandpool_shared", "load");

// Stores an integer. Always returns 0.
int64_t sandpool_shared_store(
    uint64_t shared,
    uint64_t offset,
    uint32_t width,
    uint64_t value)
    SANDPOOL_IMPORT("sandpool_shared", "store");

// Changes an integer by one of the operations from `ADD` on, and returns its previous value.
int64_t sandpool_shared_rmw(
    uint64_t shared,
    uint64_t offset,
    uint32_t width,
    uint32_t operation,
    uint64_t operand)
    SANDPOOL_IMPORT("sandpool_shared", "rmw");

// Replaces an integer that equals `expected` (of which only `width` bytes count) by `desired`, and returns its
// previous value.
int64_t sandpool_shared_compare_exchange(
    uint64_t shared,
    uint64_t offset,
    uint32_t width,
    uint64_t expected,
    uint64_t desired)
    SANDPOOL_IMPORT("sandpool_shared", "compare_exchange");

// Functions of sandpool_shelf.

// Makes a shelf whose places are all empty and whose words are 0, and returns its handle.
int64_t sandpool_shelf_create(void)
    SANDPOOL_IMPORT("sandpool_shelf", "create");

// Reads the message of a place, which stays there, and the `WORDS` words of the shelf, in one step. A
// message of at most `capacity` bytes with no handles is copied to `buffer`; any other is held for the caller, as by
// `get` of a queue, and `take` copies it and gives the caller its handles. Writes an
// `Item` to `result`. 0; `NOENT` if the place is empty (the words are written all the same);
// `NOMEM` if the arena has no room to hold a message with handles.
int32_t sandpool_shelf_read(
    uint64_t shelf,
    uint64_t place,
    void *buffer,
    size_t capacity,
    uint64_t *words,
    struct sandpool_item *result)
    SANDPOOL_IMPORT("sandpool_shelf", "read");

// Sets the words of the shelf and changes the given places, in one step: `change_count` of
// `Change`, at most `CHANGES_MAX`, no two of which are of the same place. The
// handles of all of them follow one another at `handles`. An item that is held for the caller is dropped first. 0, or
// `NOMEM`, `MSGSIZE`; `INVAL` for a place of `PLACES_MAX` or more, or if the handles aren't as many
// as the changes say. Then nothing has changed.
int32_t sandpool_shelf_change(
    uint64_t shelf,
    const uint64_t *words,
    const struct sandpool_change *changes,
    size_t change_count,
    const uint64_t *handles,
    size_t handle_count)
    SANDPOOL_IMPORT("sandpool_shelf", "change");

// Functions of sandpool_task.

// Reports that the caller now works on this part of the first item that it has claimed. `INVAL` if it has
// claimed none. Never returns if the caller was to be killed for the part before.
int32_t sandpool_task_begin(uint32_t part)
    SANDPOOL_IMPORT("sandpool_task", "begin");

// Names the shared memory whose first 64 bits the caller changes when it goes on with another part of the item
// that it has begun, which costs less than a call: text that the caller writes to stderr from then on belongs
// to that part. `INVAL` if the memory has no page of its own.
int32_t sandpool_task_follow(uint64_t shared)
    SANDPOOL_IMPORT("sandpool_task", "follow");

// Puts the result of the first item that the caller has claimed into `queue`, as `put` does. In the same instant
// the caller gives up that claim. `INVAL` if it has claimed none, else as of `put`; then it keeps the claim.
int32_t sandpool_task_finish(
    uint64_t queue,
    const void *item,
    size_t item_len,
    const uint64_t *handles,
    size_t handle_count,
    uint64_t timeout)
    SANDPOOL_IMPORT("sandpool_task", "finish");

// Like `finish`, for a result in several parts, as in `put_parts` of a queue.
int32_t sandpool_task_finish_parts(
    uint64_t queue,
    const struct sandpool_part *parts,
    size_t part_count,
    const uint64_t *handles,
    size_t handle_count,
    uint64_t timeout)
    SANDPOOL_IMPORT("sandpool_task", "finish_parts");

// Writes the `Claims` of a child, alive or not, to `claims`.
int32_t sandpool_task_claims(
    uint64_t process,
    struct sandpool_claims *claims)
    SANDPOOL_IMPORT("sandpool_task", "claims");

// Kills a child by SIGKILL while it is at this `work`. `AGAIN` if the child isn't, or
// not any more, at this work: nothing happens to it.
int32_t sandpool_task_kill(
    uint64_t process,
    uint64_t work)
    SANDPOOL_IMPORT("sandpool_task", "kill");

// Copies the input of the task that the host has called, at most `capacity` bytes, and returns its whole
// length. `NOENT` if no task is called.
int64_t sandpool_task_input(
    void *buffer,
    size_t capacity)
    SANDPOOL_IMPORT("sandpool_task", "input");

// Takes the output of the task that the host has called; the last one counts. `NOENT` if no task is called.
int32_t sandpool_task_output(
    const void *bytes,
    size_t len)
    SANDPOOL_IMPORT("sandpool_task", "output");

// Functions of sandpool_handle.

// Adds one use of a handle by the caller, to be released one more time.
int32_t sandpool_handle_retain(uint64_t object)
    SANDPOOL_IMPORT("sandpool_handle", "retain");

// Removes one use of a handle. With the last use of the last process, the object is freed.
int32_t sandpool_handle_release(uint64_t object)
    SANDPOOL_IMPORT("sandpool_handle", "release");

// Records the caller's use of an object: a number of the caller's own, which isn't 0, and a handle that the
// caller holds of another object that belongs to it, or 0. A process that receives the object's handle finds both
// in its `Record`. Only once, and only while no other process holds the object: `PERM`.
int32_t sandpool_handle_record(
    uint64_t object,
    uint32_t tag,
    uint64_t partner)
    SANDPOOL_IMPORT("sandpool_handle", "record");

// Waits until one of several things is ready: a process (a child, or the parent) has ended, an end of a pipe
// has something to receive or no process is left to send it, a queue has an item or is closed, an event is
// set. Writes one byte, 0 or 1, for each of the `count` handles (at most `WAIT_MAX`) to
// `ready`, and returns the number of ready things: 0 when the time is over. `INVAL` for a handle of any other
// kind, and for an end of a pipe that only sends.
int64_t sandpool_handle_wait(
    const uint64_t *handles,
    size_t count,
    uint64_t timeout,
    void *ready)
    SANDPOOL_IMPORT("sandpool_handle", "wait");

// Functions of sandpool_descriptor.

// Makes a pipe of bytes, as pipe2(2) does, and writes two descriptors, 32 bits each, to `descriptors`: one that
// reads, and one that writes. They have the lowest numbers that are free. Flags:
// `NONBLOCKING`. `MFILE` if the process has as many descriptors as it may, `NFILE` or
// `NOMEM` if the run has no room for another pipe, which takes two objects and 64 KiB of the arena.
int32_t sandpool_descriptor_pipe(
    uint32_t flags,
    uint32_t *descriptors)
    SANDPOOL_IMPORT("sandpool_descriptor", "pipe");

// Makes a copy of a descriptor, as fcntl(2) does with `F_DUPFD`, and returns the copy's number: the lowest that is
// free, and not less than `least`. Original and copy share all but the number: the position in a file, the end of
// a pipe, the flags. `BADF` if the descriptor isn't open, `MFILE` if the process has as many as it may.
int64_t sandpool_descriptor_duplicate(
    uint32_t descriptor,
    uint32_t least)
    SANDPOOL_IMPORT("sandpool_descriptor", "duplicate");

// Makes a copy of a descriptor with the number `to`, as dup2(2) does, and returns that number. If `to` was open, it
// is closed before. `BADF`, `MFILE`; `INVAL` if `to` is 2^31 or more.
int64_t sandpool_descriptor_duplicate_to(
    uint32_t descriptor,
    uint32_t to)
    SANDPOOL_IMPORT("sandpool_descriptor", "duplicate_to");

// Returns the handle of the end of a pipe that a descriptor is for, and adds one use of it by the caller. The
// handle can be given to a spawned process, or sent in a message. The end is open as long as a process has a
// descriptor or a handle of it, or a message that wasn't received has. `BADF`; `INVAL` if the descriptor is
// for something else.
int64_t sandpool_descriptor_handle(uint32_t descriptor)
    SANDPOOL_IMPORT("sandpool_descriptor", "handle");

// Opens a descriptor for the end of a pipe of bytes that this handle names, and returns the lowest number that is
// free. The handle stays. `BADF`, `MFILE`.
int64_t sandpool_descriptor_open(uint64_t end)
    SANDPOOL_IMPORT("sandpool_descriptor", "open");

// Functions of sandpool_connection.

// Asks for a listener at an address of `len` bytes, and writes its end, 64 bits, to `end`. At most `backlog` connections
// wait to be received; those beyond wait in the kernel, as long as it lets them. 0; `PERM` if no address was granted to the
// run; `NAMETOOLONG` for more than `ADDRESS_MAX` bytes; `INVAL` if the address isn't UTF-8; `CLOSED` if
// the host's part of connections has failed; `TIMEDOUT` if too many requests wait; `NFILE`, `NOMEM`.
int32_t sandpool_connection_listen(
    const void *address,
    size_t len,
    uint32_t backlog,
    uint64_t *end)
    SANDPOOL_IMPORT("sandpool_connection", "listen");

// Asks for a connection to an address of `len` bytes, and writes its end, 64 bits, to `end`. If there is no connection
// after `timeout`, or half a minute, the answer is `FAILED`. Errors are those of `listen`.
int32_t sandpool_connection_connect(
    const void *address,
    size_t len,
    uint64_t timeout,
    uint64_t *end)
    SANDPOOL_IMPORT("sandpool_connection", "connect");

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
    __asm__(".section \".custom_section.sandpool-abi\",\"\",@\n.ascii \"\\1\\0\\0\\0\"\n.text\n");
#else
#define SANDPOOL_GUEST
#endif

// The meaning of an error number, for people. The number may be negated.
static inline const char *sandpool_strerror(int64_t error) {
    switch (error < 0 ? -error : error) {
    case 0: return "success";
    case 1: return "not permitted";
    case 2: return "no such thing";
    case 5: return "the arena is damaged";
    case 9: return "stale or foreign handle";
    case 10: return "not a child of this process";
    case 11: return "would block";
    case 12: return "the arena is full";
    case 14: return "bad address";
    case 16: return "still running";
    case 17: return "the name is taken";
    case 22: return "invalid argument";
    case 23: return "too many objects";
    case 24: return "too many open descriptors";
    case 32: return "nobody is left to receive it";
    case 36: return "name too long";
    case 75: return "released too many times";
    case 90: return "message too long for the arena";
    case 104: return "the connection was cut";
    case 108: return "closed";
    case 110: return "timed out";
    case 130: return "the process that held the lock has ended";
    case 11001: return "too many processes";
    case 11002: return "the barrier is broken";
    case 11003: return "deadlock";
    case 11004: return "too much memory for the run";
    case 11005: return "the operating system has no room for another process";
    default: return "unknown error";
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

#ifdef __cplusplus
}
#endif

#endif
