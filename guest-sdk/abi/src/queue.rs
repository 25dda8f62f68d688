//! `sandpool_queue`: first in, first out, between any processes of a run.

imports! { queue_imports, "sandpool_queue":
    /// Makes a queue for at most `maxsize` items (0: as many as the arena holds) and returns its handle. Flags:
    /// [`JOINABLE`](super::JOINABLE) or [`CLAIMED`](super::CLAIMED).
    safe fn create(maxsize: u64, flags: u32) -> i64;
    /// Puts one item: `item_len` bytes and `handle_count` handles, which the item holds until it is taken.
    /// 0, `AGAIN` (full, with [`NO_WAIT`](crate::NO_WAIT)), `TIMEDOUT`, `CLOSED`, or `MSGSIZE` (can never fit).
    unsafe fn put(
        queue: u64, item: *const u8, item_len: usize, handles: *const u64, handle_count: usize, timeout: u64
    ) -> i32;
    /// Like `put`, for an item whose bytes lie in several places: `part_count` of [`Part`](super::Part), at most
    /// [`PARTS_MAX`](super::PARTS_MAX). For large items: in the arena such an item has pages of its own, however
    /// small it is.
    unsafe fn put_parts(
        queue: u64, parts: *const sandpool_abi::queue::Part, part_count: usize, handles: *const u64,
        handle_count: usize, timeout: u64
    ) -> i32;
    /// Takes the oldest item and writes an [`Item`](super::Item) to `result`. An item of at most `capacity` bytes
    /// with no handles is copied to `buffer`. Any other item is held for the caller, with `held` set in the
    /// result: `take` copies it. An item that is still held from an earlier call is dropped first. 0, `AGAIN`
    /// (empty, with [`NO_WAIT`](crate::NO_WAIT)), `TIMEDOUT`, or `CLOSED` (and drained).
    unsafe fn get(
        queue: u64, buffer: *mut u8, capacity: usize, timeout: u64, result: *mut sandpool_abi::queue::Item
    ) -> i32;
    /// Puts several items at once, as far as there is room: `count` items whose lengths are at `lens` (32 bits each)
    /// and whose bytes follow one another at `items` (`items_len` in all). Waits for room for the first only. Returns
    /// the number of items that were put; `AGAIN`, `TIMEDOUT` or `CLOSED` if none was. Items of more than
    /// [`BATCH_ITEM_MAX`](super::BATCH_ITEM_MAX) bytes are not for a batch: `MSGSIZE` if the first is one.
    unsafe fn put_many(
        queue: u64, items: *const u8, items_len: usize, lens: *const u32, count: usize, timeout: u64
    ) -> i64;
    /// Takes the oldest items at once, as many as there are, at most `count`: their bytes one after another to
    /// `buffer`, their lengths to `lens` (32 bits each). Waits for the first only. The call stops before an item
    /// that doesn't fit, carries handles or is larger than [`BATCH_ITEM_MAX`](super::BATCH_ITEM_MAX); if that
    /// item is the first, the call returns 0, and `get` takes the item. Errors as of `get`.
    unsafe fn get_many(queue: u64, buffer: *mut u8, capacity: usize, lens: *mut u32, count: usize, timeout: u64) -> i64;
    /// Copies the item that `get`, or `recv` of a pipe, holds for the caller: its bytes to `part_count` places, one
    /// after another, each a [`Part`](super::Part), and a [`Record`](crate::handle::Record) of each of its handles to
    /// `records`. Both must have exactly the room that `get` reported, or the result is `INVAL` and the item is still
    /// held: so a caller that has taken another item in between is told. The caller then holds those handles. `NOENT`
    /// if no item is held.
    unsafe fn take(
        parts: *const sandpool_abi::queue::Part, part_count: usize, records: *mut sandpool_abi::handle::Record,
        record_capacity: usize
    ) -> i32;
    /// Copies the first bytes of the item that is held for the caller, at most `capacity`, and returns its whole
    /// length. The item is still held: so the caller can see what the item is before deciding in which parts to take
    /// it. `NOENT` if no item is held.
    unsafe fn peek(buffer: *mut u8, capacity: usize) -> i64;
    /// Returns the number of items that wait.
    safe fn qsize(queue: u64) -> i64;
    /// Returns the `maxsize` that the queue was made with; 0 when it has none.
    safe fn maxsize(queue: u64) -> i64;
    /// Closes the queue for every process: a `put` fails from now on, a `get` once the queue is drained.
    safe fn close(queue: u64) -> i32;
    /// Reports that an item which was taken is done. `OVERFLOW` if all items that were put are done; `INVAL` if
    /// the queue isn't joinable.
    safe fn task_done(queue: u64) -> i32;
    /// Waits until each item that was put is done, or lost: taken by a process that died before it reported the
    /// item as done. Returns the number of items that were lost since the queue was made. `AGAIN`, `TIMEDOUT`;
    /// `INVAL` if the queue isn't joinable.
    safe fn join(queue: u64, timeout: u64) -> i64;
}

constants! {
    /// Flag of `create`: `task_done` and `join` work, for which each `get` is noted.
    JOINABLE: u32 = 1;
    /// Flag of `create`: a process that takes items claims them, until it puts their results by `finish` of
    /// [`sandpool_task`](crate::task); before that, a `get` is `BUSY`. So if the process dies, its creator learns
    /// what it was working on.
    CLAIMED: u32 = 2;
    /// The longest item that `put_many` and `get_many` move.
    BATCH_ITEM_MAX: usize = 8192;
    /// The maximum number of parts in which an item may be given or taken.
    PARTS_MAX: usize = 8;
}

layouts! {
    /// The place of bytes of an item, to be read or written. Little-endian.
    pub struct Part: 8 {
        /// The address of the bytes.
        pub at: u32,
        /// The number of bytes.
        pub len: u32,
    }

    /// The size of a taken item: the structure that `get` writes. Little-endian.
    pub struct Item: 16 {
        /// Bytes of the item.
        pub len: u64,
        /// The number of handles that come with the item.
        pub handle_count: u32,
        /// 1: the item is held, and `take` must follow.
        pub held: u32,
    }
}
