//! `sandpool_task`: tasks, and the workers of a pool.
//!
//! # A task
//!
//! A host runs the tasks that a module exports: a function `(format: i32, len: i32) -> i32` whose name is
//! [`EXPORT_PREFIX`] and the task's. The function gets its input, `len` bytes in that format, by `input`, hands its
//! output over by `output`, and returns [`DONE`], or says why there is no output: [`FAILED`] or [`REFUSED`] with a
//! message in UTF-8 for an output, or [`UNSUPPORTED`]. The function is called again and again in the same instance, in
//! which `_start` never runs; an export `_initialize` is called first, once. The custom section [`SECTION`] may
//! describe each task: by five texts, each of which ends with a zero byte: its name, the types of its input, its
//! output and its error, and its documentation. `examples/upper.wat` is a module with a task.
//!
//! # A worker
//!
//! A worker takes items from a queue that is [`CLAIMED`](crate::queue::CLAIMED), works on one after another, and puts
//! the result of each by `finish`. Items are numbered in the order in which they were put into that queue, from 0 on.
//! At each instant, also when the worker has been killed, `claims` says which items are not finished, and which one
//! is worked on.
//!
//! In the process of a task that a host has called, `begin`, `follow`, `finish` and `finish_parts` are `PERM`, and so
//! is a `get` of a queue that is [`CLAIMED`](crate::queue::CLAIMED): the claims of this process belong to the host.
//! Processes that it starts may be workers.

imports! { task_imports, "sandpool_task":
    /// Reports that the caller now works on this part of the first item that it has claimed. `INVAL` if it has
    /// claimed none. Never returns if the caller was to be killed for the part before.
    safe fn begin(part: u32) -> i32;
    /// Names the shared memory whose first 64 bits the caller changes when it goes on with another part of the item
    /// that it has begun, which costs less than a call: text that the caller writes to stderr from then on belongs
    /// to that part. `INVAL` if the memory has no page of its own.
    safe fn follow(shared: u64) -> i32;
    /// Puts the result of the first item that the caller has claimed into `queue`, as `put` does. In the same instant
    /// the caller gives up that claim. `INVAL` if it has claimed none, else as of `put`; then it keeps the claim.
    unsafe fn finish(
        queue: u64, item: *const u8, item_len: usize, handles: *const u64, handle_count: usize, timeout: u64
    ) -> i32;
    /// Like `finish`, for a result in several parts, as in `put_parts` of a queue.
    unsafe fn finish_parts(
        queue: u64, parts: *const sandpool_abi::queue::Part, part_count: usize, handles: *const u64,
        handle_count: usize, timeout: u64
    ) -> i32;
    /// Writes the [`Claims`](super::Claims) of a child, alive or not, to `claims`.
    unsafe fn claims(process: u64, claims: *mut sandpool_abi::task::Claims) -> i32;
    /// Kills a child by SIGKILL while it is at this [`work`](super::Claims::work). `AGAIN` if the child isn't, or
    /// not any more, at this work: nothing happens to it.
    safe fn kill(process: u64, work: u64) -> i32;
    /// Copies the input of the task that the host has called, at most `capacity` bytes, and returns its whole
    /// length. `NOENT` if no task is called.
    unsafe fn input(buffer: *mut u8, capacity: usize) -> i64;
    /// Takes the output of the task that the host has called; the last one counts. `NOENT` if no task is called.
    unsafe fn output(bytes: *const u8, len: usize) -> i32;
}

constants! {
    /// [`Claims::part`] of an item of which only the result isn't put yet.
    DELIVERED: u32 = u32::MAX;
    /// The beginning of the name of a task's export.
    EXPORT_PREFIX: text = "sandpool_task_";
    /// The custom section that describes tasks.
    SECTION: text = "sandpool-tasks";
    /// Format: values as serde and bincode 2 encode them, with numbers of fixed lengths
    /// (`config::standard().with_fixed_int_encoding()`).
    SERDE: u32 = 0;
    /// Format: JSON.
    JSON: u32 = 1;
    /// Format: text, such as a line without its end. A value that isn't text is written as in JSON, in one line.
    TEXT: u32 = 2;
    /// Format: bytes, unchanged.
    BYTES: u32 = 3;
    /// Result of a task: the task is done, and its output is the requested one.
    DONE: u32 = 0;
    /// Result of a task: the task failed, and its output says why.
    FAILED: u32 = 1;
    /// Result of a task: its input can't be decoded or its output can't be encoded, and its output says why.
    REFUSED: u32 = 2;
    /// Result of a task: the task doesn't know this format.
    UNSUPPORTED: u32 = 3;
}

layouts! {
    /// The items that a worker hasn't finished: the structure that `claims` writes. Little-endian.
    pub struct Claims: 40 {
        /// The number of the first item that isn't finished.
        pub first: u64,
        /// The number after that of the last unfinished item; equal to `first` if there is none.
        pub end: u64,
        /// The worker's current work, counted from the start of the process on; 0 if it works on nothing.
        pub work: u64,
        /// The time when the worker began that work, in nanoseconds of the monotonic clock.
        pub since: u64,
        /// The part of the first item that is worked on; [`DELIVERED`] when the worker is done with all parts, and only
        /// the result isn't put yet: then there is no work.
        pub part: u32,
        /// Always 0.
        pub reserved: u32,
    }
}
