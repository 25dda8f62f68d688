//! `sandpool_pipe`: two ends, and messages from each to the other.

imports! { pipe_imports, "sandpool_pipe":
    /// Makes a pipe and writes the handles of its two ends, 64 bits each, to `ends`. A message that is sent at
    /// one end is received at the other. Without [`DUPLEX`](super::DUPLEX) in `flags`, the first end only
    /// receives and the second only sends. `capacity` is the number of bytes that may wait in each direction, 0
    /// for [`CAPACITY`](super::CAPACITY); a longer message is sent when no other waits.
    unsafe fn create(capacity: u64, flags: u32, ends: *mut u64) -> i32;
    /// Sends a message: `len` bytes, which may be 0, and `handle_count` handles. 0, `AGAIN`, `TIMEDOUT`, `MSGSIZE`
    /// (can never fit), `PIPE` (nobody is left to receive it), `PERM` (this end only receives), or `INVAL` (handles, where
    /// the other end is outside of the run).
    unsafe fn send(
        end: u64, message: *const u8, len: usize, handles: *const u64, handle_count: usize, timeout: u64
    ) -> i32;
    /// Like `send`, for a message in several parts, as in `put_parts` of a queue.
    unsafe fn send_parts(
        end: u64, parts: *const sandpool_abi::queue::Part, part_count: usize, handles: *const u64,
        handle_count: usize, timeout: u64
    ) -> i32;
    /// Receives a message as `get` of a queue does, with an [`Item`](crate::queue::Item) for a result. 0, `AGAIN`,
    /// `TIMEDOUT`, `PERM` (this end only sends), `CLOSED` (nobody is left to send anything), or `CONNRESET` (the connection with
    /// the outside was cut, so that messages may be missing). A process that waits here doesn't count as a sender, even if it holds the other end itself.
    unsafe fn recv(
        end: u64, buffer: *mut u8, capacity: usize, timeout: u64, result: *mut sandpool_abi::queue::Item
    ) -> i32;
    /// Returns the abilities of an end, [`READABLE`](super::READABLE) and [`WRITABLE`](super::WRITABLE), and whether it is one of
    /// a connection with the outside, [`OUTSIDE`](super::OUTSIDE).
    safe fn flags(end: u64) -> i64;
    /// Returns the number of bytes that may wait in each direction.
    safe fn capacity(end: u64) -> i64;
}

constants! {
    /// Flag of `create`: both ends send and receive.
    DUPLEX: u32 = 1;
    /// Result of `flags`: this end receives.
    READABLE: u32 = 1;
    /// Result of `flags`: this end sends.
    WRITABLE: u32 = 2;
    /// Result of `flags`: the other end is outside of the run. Messages carry no handles there, and have a limit.
    OUTSIDE: u32 = 4;
    /// The default capacity of a pipe: that of Linux's pipes.
    CAPACITY: u64 = 65_536;
}

layouts! {}
