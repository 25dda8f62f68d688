//! `sandpool_handle`: the functions for all handles: their life, and waiting for several of them.

imports! { handle_imports, "sandpool_handle":
    /// Adds one use of a handle by the caller, to be released one more time.
    safe fn retain(object: u64) -> i32;
    /// Removes one use of a handle. With the last use of the last process, the object is freed.
    safe fn release(object: u64) -> i32;
    /// Records the caller's use of an object: a number of the caller's own, which isn't 0, and a handle that the
    /// caller holds of another object that belongs to it, or 0. A process that receives the object's handle finds both
    /// in its [`Record`](super::Record). Only once, and only while no other process holds the object: `PERM`.
    safe fn record(object: u64, tag: u32, partner: u64) -> i32;
    /// Waits until one of several things is ready: a process (a child, or the parent) has ended, an end of a pipe
    /// has something to receive or no process is left to send it, a queue has an item or is closed, an event is
    /// set. Writes one byte, 0 or 1, for each of the `count` handles (at most [`WAIT_MAX`](crate::WAIT_MAX)) to
    /// `ready`, and returns the number of ready things: 0 when the time is over. `INVAL` for a handle of any other
    /// kind, and for an end of a pipe that only sends.
    unsafe fn wait(handles: *const u64, count: usize, timeout: u64, ready: *mut u8) -> i64;
}

constants! {
    /// [`Record::kind`]: a queue.
    QUEUE: u32 = 1;
    /// [`Record::kind`]: an end of a pipe.
    END: u32 = 2;
    /// [`Record::kind`]: a lock.
    LOCK: u32 = 3;
    /// [`Record::kind`]: a semaphore.
    SEMAPHORE: u32 = 4;
    /// [`Record::kind`]: an event.
    EVENT: u32 = 5;
    /// [`Record::kind`]: a condition.
    CONDITION: u32 = 6;
    /// [`Record::kind`]: a barrier.
    BARRIER: u32 = 7;
    /// [`Record::kind`]: shared memory.
    SHARED: u32 = 8;
    /// [`Record::kind`]: an end of a pipe of [bytes](crate::descriptor).
    BYTE_END: u32 = 9;
    /// [`Record::kind`]: a shelf.
    SHELF: u32 = 10;
}

layouts! {
    /// The host's record of an object, which a receiver of its handle gets. No guest can change a record.
    /// Little-endian.
    ///
    /// The bytes of a message can claim that a handle in it is one of anything; the record says what the object is.
    pub struct Record: 24 {
        /// The handle.
        pub handle: u64,
        /// One of [`QUEUE`]…, and from bit 8 on the flags of its `create`, as far as they stay: `JOINABLE`, `CLAIMED`,
        /// `RECURSIVE`, `BOUNDED`, [`READ_ONLY`](crate::shared::READ_ONLY); of an end of a pipe of bytes,
        /// [`READABLE`](crate::pipe::READABLE) or [`WRITABLE`](crate::pipe::WRITABLE).
        pub kind: u32,
        /// The tag that `record` was given; 0 if `record` wasn't called.
        pub tag: u32,
        /// The partner that `record` was given; 0 if `record` wasn't called. For a view, the memory's handle.
        pub partner: u64,
    }
}

impl Record {
    /// The [`kind`](Self::kind) of an object of this kind with these flags.
    #[must_use]
    pub const fn kind_of(kind: u32, flags: u32) -> u32 {
        kind | flags << 8
    }
}
