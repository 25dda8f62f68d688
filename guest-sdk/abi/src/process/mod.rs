//! `sandpool_process`: starting, watching and ending processes.

mod limit;
mod status;
mod trap;

pub use limit::Limit;
pub use status::{ExitStatus, Signal};
pub use trap::Trap;

imports! { process_imports, "sandpool_process":
    /// Forks the calling process: the child goes on in the same instance, with a copy-on-write copy of its memory.
    /// Returns 0 in the child and the child's handle in the parent. An empty name means the default, `Process-` and
    /// the child's identity. Flags: [`DAEMON`](super::DAEMON) or [`NOT_DAEMON`](super::NOT_DAEMON), which is the
    /// default, and [`TIED`](super::TIED). `PERM` if the caller is daemonic and not tied; `PROCS`, `RUNMEM` or
    /// `SYSTEM` if there can't be another process now. Flush buffered output first.
    unsafe fn fork(name: *const u8, name_len: usize, flags: u32) -> i64;
    /// Starts a process with fresh memory, whose `_start` is called. The new process finds `payload` by `entry`,
    /// and holds the given handles (`handles` points at `handle_count` 64-bit values). Returns the child's
    /// handle.
    unsafe fn spawn(
        name: *const u8, name_len: usize, flags: u32, payload: *const u8, payload_len: usize, handles: *const u64,
        handle_count: usize
    ) -> i64;
    /// Copies the payload that this process was spawned with into `buffer` (at most `capacity` bytes) and returns
    /// its whole length. `NOENT` in the main process, and in a forked process.
    unsafe fn entry(buffer: *mut u8, capacity: usize) -> i64;
    /// Writes a [`Record`](crate::handle::Record) of each handle that this process was spawned with, and returns how
    /// many there are.
    unsafe fn entry_handles(buffer: *mut sandpool_abi::handle::Record, capacity: usize) -> i64;
    /// Returns the caller's own handle.
    safe fn current() -> i64;
    /// Returns the parent's handle; 0 in the main process.
    safe fn parent() -> i64;
    /// Copies the handles of the caller's children that are alive, detached ones included, and returns how many
    /// there are.
    unsafe fn children(buffer: *mut u64, capacity: usize) -> i64;
    /// Waits until the given child, or the caller's parent, has ended. 0, `TIMEDOUT` (also with
    /// [`NO_WAIT`](crate::NO_WAIT)), `CHILD`, or `BADF` for a detached child, whose handle is stale once the child
    /// has ended.
    safe fn join(process: u64, timeout: u64) -> i32;
    /// Writes how a child ended, a [`Status`](super::Status), to `status`. `AGAIN` while it is alive.
    unsafe fn status(process: u64, status: *mut sandpool_abi::process::Status) -> i32;
    /// Sends a child SIGINT (2), SIGTERM (15) or SIGKILL (9). A child that has ended already is no error.
    safe fn signal(process: u64, signal: u32) -> i32;
    /// Gives a child's handle back, after which it names nothing. `BUSY` while the child is alive.
    safe fn close(process: u64) -> i32;
    /// Gives a child's handle back whether or not it is alive; the child goes on, and is still waited for when
    /// the caller ends, unless it is daemonic.
    safe fn detach(process: u64) -> i32;
    /// Writes an [`Info`](super::Info) about the caller, its parent (even when that is long gone) or a child to
    /// `info`.
    unsafe fn info(process: u64, info: *mut sandpool_abi::process::Info) -> i32;
    /// Copies the name of the caller, its parent or a child, and returns its whole length.
    unsafe fn name(process: u64, buffer: *mut u8, capacity: usize) -> i64;
    /// Returns the number of processors that the caller may use.
    safe fn cpu_count() -> i32;
    /// Returns the [`figure`](super::Limit::figure) of the limit with this [`code`](super::Limit::code), for the
    /// error that reports a refusal. `NOENT` if there is no such limit, or it isn't set.
    safe fn limit(code: u32) -> i64;
    /// Copies the end of the text that a child has written to its stderr, [`STDERR_MAX`](super::STDERR_MAX) bytes
    /// at most, and returns its whole length. The message of a trap or limit is part of it. For a child that has
    /// begun a [task](crate::task) only the text since then counts. The text is kept until the child's handle is
    /// given back; while the child writes, it may be garbled. `CHILD`.
    unsafe fn stderr(process: u64, buffer: *mut u8, capacity: usize) -> i64;
    /// Makes the caller mute, or not (0). While the caller is mute, its calls of WASI that write, make, rename or
    /// remove something do nothing and succeed, and opening a file in a way that would make it isn't permitted. For a
    /// language that drops, in the parent, values that belong to a child that was just forked.
    safe fn mute(on: u32) -> i32;
}

constants! {
    /// The number of bytes that are kept of the end of a process's stderr.
    STDERR_MAX: usize = 4096;
    /// Flag of `fork` and `spawn`: the new process is daemonic.
    DAEMON: u32 = 1;
    /// Flag of `fork` and `spawn`: the new process is not daemonic.
    NOT_DAEMON: u32 = 2;
    /// Flag of `fork` and `spawn`, beside one of those: the new process ends with its creator, however the creator
    /// ends, and so does everything that the new process starts itself. In return the new process may start
    /// processes, also if it is daemonic.
    TIED: u32 = 4;
    /// An export of the type `() -> ()` that a module may have. It is called when the process has executed
    /// `unreachable`, by which languages abort, after the call in which `unreachable` was executed: memory is as it
    /// was then, nothing was unwound, and nothing will be. Only the language knows whether that was a panic; if so,
    /// the export ends the process by `proc_exit`, with the exit code of a panic. If the export returns, or executes
    /// `unreachable` itself, the process has trapped.
    ABORTED_EXPORT: text = "sandpool_aborted";
    /// [`Status::kind`]: the process returned, or called exit.
    EXITED: u32 = 1;
    /// [`Status::kind`]: a signal killed the process.
    SIGNALED: u32 = 2;
    /// [`Status::kind`]: WebAssembly trapped.
    TRAPPED: u32 = 3;
    /// [`Status::kind`]: the process hit a limit.
    LIMITED: u32 = 4;
    /// [`Status::kind`]: the run was ended because every process waited for another. Only the host sees this status.
    DEADLOCKED: u32 = 5;
    /// [`Status::kind`]: the process made a system call that its jail forbids, and was killed. Only native code can do
    /// that: WebAssembly makes no system calls.
    FORBIDDEN: u32 = 6;
    /// [`Status::kind`]: the run was ended because there were processes that it doesn't know of;
    /// [`Status::figure`] is their number. Only the host sees this status.
    STRAYS: u32 = 7;
}

layouts! {
    /// How a process ended: the structure that `status` writes. Little-endian.
    pub struct Status: 24 {
        /// One of [`EXITED`], [`SIGNALED`], [`TRAPPED`], [`LIMITED`], [`FORBIDDEN`].
        pub kind: u32,
        /// The exit code, the signal, the [`Trap`] or the [`Limit::code`].
        pub detail: u32,
        /// The exit code that Python reports: 0 to 255, or the negated signal; a trap counts as SIGABRT.
        pub exitcode: i32,
        /// Always 0.
        pub reserved: u32,
        /// The [`Limit::figure`], else 0.
        pub figure: u64,
    }

    /// Facts about a process: the structure that `info` writes. Little-endian.
    pub struct Info: 24 {
        /// The process's handle.
        pub handle: u64,
        /// The operating system's process id.
        pub pid: u32,
        /// The parent's process id, 0 for the main process.
        pub parent_pid: u32,
        /// [`DAEMON`] or 0.
        pub flags: u32,
        /// 1 while the process is alive.
        pub alive: u32,
    }
}
