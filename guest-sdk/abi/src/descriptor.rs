//! `sandpool_descriptor`: pipes of bytes, whose ends are descriptors of WASI, and copies of descriptors.
//!
//! A pipe of bytes is what POSIX calls a pipe: what is written at one end can be read at the other, and messages have no
//! bounds. Its ends are used by WASI's own functions: `fd_read`, `fd_write`, `poll_oneoff`, `fd_close`, `fd_renumber`,
//! `fd_fdstat_get`, `fd_fdstat_set_flags`, `fd_filestat_get`.

imports! { descriptor_imports, "sandpool_descriptor":
    /// Makes a pipe of bytes, as pipe2(2) does, and writes two descriptors, 32 bits each, to `descriptors`: one that
    /// reads, and one that writes. They have the lowest numbers that are free. Flags:
    /// [`NONBLOCKING`](super::NONBLOCKING). `MFILE` if the process has as many descriptors as it may, `NFILE` or
    /// `NOMEM` if the run has no room for another pipe, which takes two objects and 64 KiB of the arena.
    unsafe fn pipe(flags: u32, descriptors: *mut u32) -> i32;
    /// Makes a copy of a descriptor, as fcntl(2) does with `F_DUPFD`, and returns the copy's number: the lowest that is
    /// free, and not less than `least`. Original and copy share all but the number: the position in a file, the end of
    /// a pipe, the flags. `BADF` if the descriptor isn't open, `MFILE` if the process has as many as it may.
    safe fn duplicate(descriptor: u32, least: u32) -> i64;
    /// Makes a copy of a descriptor with the number `to`, as dup2(2) does, and returns that number. If `to` was open, it
    /// is closed before. `BADF`, `MFILE`; `INVAL` if `to` is 2^31 or more.
    safe fn duplicate_to(descriptor: u32, to: u32) -> i64;
    /// Returns the handle of the end of a pipe that a descriptor is for, and adds one use of it by the caller. The
    /// handle can be given to a spawned process, or sent in a message. The end is open as long as a process has a
    /// descriptor or a handle of it, or a message that wasn't received has. `BADF`; `INVAL` if the descriptor is
    /// for something else.
    safe fn handle(descriptor: u32) -> i64;
    /// Opens a descriptor for the end of a pipe of bytes that this handle names, and returns the lowest number that is
    /// free. The handle stays. `BADF`, `MFILE`.
    safe fn open(end: u64) -> i64;
}

constants! {
    /// Flag of `pipe`: reads and writes at both ends fail with `EAGAIN` where they would wait. It is what `O_NONBLOCK` is:
    /// each end has one such flag, which all copies and all processes share, and which `fd_fdstat_set_flags` changes.
    NONBLOCKING: u32 = 1;
    /// The longest write that happens as a whole, in bytes: the bytes of no other write come in between.
    ATOMIC_MAX: u64 = 4096;
}

layouts! {}
