//! The contract between Sandpool's host and its guests: import modules, functions, error numbers, layouts.
//!
//! Host and SDKs are both built on this crate, so that they can't disagree. The author of an SDK for another language
//! needs nothing but this page.
//!
//! # A guest
//!
//! A guest is a WebAssembly *core* module for WASI preview 1 with a `_start` export and a memory exported as `memory`; a module that has
//! [tasks](task) needs no `_start`. A custom section named [`ABI_SECTION`] says which version of this contract the guest was built against: the
//! first four bytes of the section are [`ABI_VERSION`] in little-endian order. A module without that section is taken to be of the current
//! version.
//!
//! # Conventions
//!
//! * Pointers and lengths are `i32` offsets into the guest's memory, read as unsigned.
//! * A **handle** is an `i64` greater than zero: a table index and a generation. A handle names the same thing in
//!   each process of a run, but works only in the processes that were given the handle: by fork, by spawn, or in a
//!   message.
//! * A **timeout** is an `i64` of nanoseconds, read as unsigned: [`NO_WAIT`] doesn't block, [`FOREVER`] has no end.
//! * A function with an `i32` result returns 0 or an [`Errno`]. A function with an `i64` result returns a value of
//!   zero or more, or a negated [`Errno`].
//! * A bad pointer, length, handle or flag is an [`Errno`], never a crash of anything but the guest.
//!
//! # Functions
//!
//! The tables in [`process`], [`queue`], [`pipe`], [`sync`], [`shared`], [`task`] and [`handle`] give each function with
//! its signature; the order of their arguments is that of the signature's comment.

#![no_std]

#[cfg(feature = "nesting")]
pub mod nesting;

/// The version of this contract. A host runs guests of its own version only.
///
/// Raise it with each change that an already compiled guest would notice, and change [`FINGERPRINT`] with it.
pub const ABI_VERSION: u32 = 1;

/// The custom section that carries a guest's [`ABI_VERSION`].
pub const ABI_SECTION: &str = "sandpool-abi";

/// A timeout that doesn't wait.
pub const NO_WAIT: u64 = 0;

/// A timeout that never ends.
pub const FOREVER: u64 = u64::MAX;

/// The longest name of a process, in bytes of UTF-8.
pub const NAME_MAX: usize = 127;

/// The maximum number of handles that one message, or the arguments of one spawn, may carry.
pub const MESSAGE_HANDLES_MAX: usize = 1024;

/// The maximum number of handles that one call of `wait` may name.
pub const WAIT_MAX: usize = 4096;

/// Whether a character should be escaped where people read it, because it isn't only shown: the controls of ASCII and ISO
/// 6429 (C0, DEL, C1), ends of lines and paragraphs, marks that change the direction of text, and invisible characters.
#[must_use]
pub fn is_unfit(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// A type of a parameter or result of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValueType {
    /// wasm's `i32`
    I32,
    /// wasm's `i64`
    I64,
}

/// One import that the host provides.
#[derive(Debug, Clone, Copy)]
pub struct Import {
    /// The import module, such as `sandpool_queue`.
    pub module: &'static str,
    /// The function's name.
    pub name: &'static str,
    /// The parameters, in order.
    pub params: &'static [ValueType],
    /// The only result.
    pub result: ValueType,
}

use ValueType::{I32, I64};

macro_rules! imports {
    ($module:ident: $($(#[$doc:meta])* $name:ident($($param:ident: $ty:ident),*) -> $result:ident;)*) => {
        /// The functions of this import module.
        pub const IMPORTS: &[super::Import] = &[$(super::Import {
            module: MODULE,
            name: stringify!($name),
            params: &[$(super::$ty),*],
            result: super::$result,
        }),*];
        /// The functions, one documented name each.
        #[allow(dead_code, reason = "these items exist for their documentation")]
        pub mod functions {
            $($(#[$doc])*
            #[doc = concat!("\n\nSignature: `", stringify!($name), "(", $(stringify!($param), ": ", stringify!($ty), ", ",)* ") -> ", stringify!($result), "`")]
            #[allow(non_upper_case_globals, reason = "named as the import is")]
            pub const $name: &str = stringify!($name);)*
        }
    };
}

/// `sandpool_process`: starting, watching and ending processes.
pub mod process {
    use core::time::Duration;

    /// The import module's name.
    pub const MODULE: &str = "sandpool_process";

    /// The number of bytes that are kept of the end of a process's stderr.
    pub const STDERR_MAX: usize = 4096;

    /// Flag of `fork` and `spawn`: the new process is daemonic.
    pub const DAEMON: u32 = 1;
    /// Flag of `fork` and `spawn`: the new process is not daemonic.
    pub const NOT_DAEMON: u32 = 2;
    /// Flag of `fork` and `spawn`, beside one of those: the new process ends with its creator, however the creator ends,
    /// and so does everything that the new process starts itself. In return the new process may start processes, also if
    /// it is daemonic.
    pub const TIED: u32 = 4;

    imports! { sandpool_process:
        /// Forks the calling process: the child goes on in the same instance, with a copy-on-write copy of its
        /// memory. Returns 0 in the child and the child's handle in the parent. An empty name means the default,
        /// `Process-` and the child's identity. Flags: [`DAEMON`](super::DAEMON) or
        /// [`NOT_DAEMON`](super::NOT_DAEMON), which is the default, and [`TIED`](super::TIED). `PERM` if the caller is
        /// daemonic and not tied; `PROCS`, `RUNMEM` or `SYSTEM` if there can't be another process now. Flush buffered output
        /// first.
        fork(name: I32, name_len: I32, flags: I32) -> I64;
        /// Starts a process with fresh memory, whose `_start` is called. The new process finds `payload` by `entry`,
        /// and holds the given handles (`handles` points at `handle_count` 64-bit values). Returns the child's
        /// handle.
        spawn(name: I32, name_len: I32, flags: I32, payload: I32, payload_len: I32, handles: I32, handle_count: I32) -> I64;
        /// Copies the payload that this process was spawned with into `buffer` (at most `capacity` bytes) and returns
        /// its whole length. `NOENT` in the main process, and in a forked process.
        entry(buffer: I32, capacity: I32) -> I64;
        /// Writes a [`Record`](crate::handle::Record) of each handle that this process was spawned with, and returns how many
        /// there are.
        entry_handles(buffer: I32, capacity: I32) -> I64;
        /// Returns the caller's own handle.
        current() -> I64;
        /// Returns the parent's handle; 0 in the main process.
        parent() -> I64;
        /// Copies the handles of the caller's children that are alive, detached ones included, and returns how many
        /// there are.
        children(buffer: I32, capacity: I32) -> I64;
        /// Waits until the given child, or the caller's parent, has ended. 0, `TIMEDOUT` (also with
        /// [`NO_WAIT`](crate::NO_WAIT)), `CHILD`, or `BADF` for a detached child, whose handle is stale once the child
        /// has ended.
        join(process: I64, timeout: I64) -> I32;
        /// Writes how a child ended, a [`Status`](super::Status), to `status`. `AGAIN` while it is alive.
        status(process: I64, status: I32) -> I32;
        /// Sends a child SIGINT (2), SIGTERM (15) or SIGKILL (9). A child that has ended already is no error.
        signal(process: I64, signal: I32) -> I32;
        /// Gives a child's handle back, after which it names nothing. `BUSY` while the child is alive.
        close(process: I64) -> I32;
        /// Gives a child's handle back whether or not it is alive; the child goes on, and is still waited for when
        /// the caller ends, unless it is daemonic.
        detach(process: I64) -> I32;
        /// Writes an [`Info`](super::Info) about the caller, its parent (even when that is long gone) or a child to
        /// `info`.
        info(process: I64, info: I32) -> I32;
        /// Copies the name of the caller, its parent or a child, and returns its whole length.
        name(process: I64, buffer: I32, capacity: I32) -> I64;
        /// Returns the number of processors that the caller may use.
        cpu_count() -> I32;
        /// Returns the [`figure`](super::Limit::figure) of the limit with this [`code`](super::Limit::code), for the
        /// error that reports a refusal. `NOENT` if there is no such limit, or it isn't set.
        limit(code: I32) -> I64;
        /// Copies the end of the text that a child has written to its stderr, [`STDERR_MAX`](super::STDERR_MAX) bytes
        /// at most, and returns its whole length. The message of a trap or limit is part of it. For a child that has
        /// begun a [task](crate::task) only the text since then counts. The text is kept until the child's handle is
        /// given back; while the child writes, it may be garbled. `CHILD`.
        stderr(process: I64, buffer: I32, capacity: I32) -> I64;
        /// Makes the caller mute, or not (0). While the caller is mute, its calls of WASI that write, make, rename or remove
        /// something do nothing and succeed, and opening a file in a way that would make it isn't permitted. For a language
        /// that drops, in the parent, values that belong to a child that was just forked.
        mute(on: I32) -> I32;
    }

    /// An export of the type `() -> ()` that a module may have. It is called when the process has executed `unreachable`,
    /// by which languages abort, after the call in which `unreachable` was executed: memory is as it was then, nothing
    /// was unwound, and nothing will be. Only the language knows whether that was a panic; if so, the export ends the
    /// process by `proc_exit`, with the exit code of a panic. If the export returns, or executes `unreachable` itself,
    /// the process has trapped.
    pub const ABORTED_EXPORT: &str = "sandpool_aborted";

    /// How a process ended: the structure that `status` writes. 24 bytes, little-endian.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    #[repr(C)]
    pub struct Status {
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

    /// [`Status::kind`]: the process returned, or called exit.
    pub const EXITED: u32 = 1;
    /// [`Status::kind`]: a signal killed the process.
    pub const SIGNALED: u32 = 2;
    /// [`Status::kind`]: WebAssembly trapped.
    pub const TRAPPED: u32 = 3;
    /// [`Status::kind`]: the process hit a limit.
    pub const LIMITED: u32 = 4;
    /// [`Status::kind`]: the run was ended because every process waited for another. Only the host sees this status.
    pub const DEADLOCKED: u32 = 5;
    /// [`Status::kind`]: the process made a system call that its jail forbids, and was killed. Only native code can do
    /// that: WebAssembly makes no system calls.
    pub const FORBIDDEN: u32 = 6;
    /// [`Status::kind`]: the run was ended because there were processes that it doesn't know of;
    /// [`Status::figure`] is their number. Only the host sees this status.
    pub const STRAYS: u32 = 7;

    /// The kind of a trap: [`Status::detail`] of [`TRAPPED`].
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    #[repr(u32)]
    #[non_exhaustive]
    #[allow(missing_docs, reason = "named as the WebAssembly specification names them")]
    pub enum Trap {
        Unreachable = 1,
        StackOverflow = 2,
        MemoryOutOfBounds = 3,
        TableOutOfBounds = 4,
        IndirectCallToNull = 5,
        BadSignature = 6,
        IntegerOverflow = 7,
        IntegerDivisionByZero = 8,
        BadConversionToInteger = 9,
        Other = 10,
    }

    impl Trap {
        /// All traps.
        pub const ALL: [Self; 10] = [
            Self::Unreachable,
            Self::StackOverflow,
            Self::MemoryOutOfBounds,
            Self::TableOutOfBounds,
            Self::IndirectCallToNull,
            Self::BadSignature,
            Self::IntegerOverflow,
            Self::IntegerDivisionByZero,
            Self::BadConversionToInteger,
            Self::Other,
        ];

        /// The trap of this number, or [`Trap::Other`].
        #[must_use]
        pub fn from_code(code: u32) -> Self {
            Self::ALL.into_iter().find(|trap| *trap as u32 == code).unwrap_or(Self::Other)
        }

        /// What happened, as a fragment: `out of bounds memory access`.
        #[must_use]
        pub fn message(self) -> &'static str {
            match self {
                Self::Unreachable => "unreachable executed",
                Self::StackOverflow => "call stack exhausted",
                Self::MemoryOutOfBounds => "out of bounds memory access",
                Self::TableOutOfBounds => "out of bounds table access",
                Self::IndirectCallToNull => "call of an uninitialized table element",
                Self::BadSignature => "indirect call with the wrong type",
                Self::IntegerOverflow => "integer overflow",
                Self::IntegerDivisionByZero => "integer divide by zero",
                Self::BadConversionToInteger => "invalid conversion to integer",
                Self::Other => "other trap",
            }
        }
    }

    /// A limit and its value. Use beyond a limit ends the process, with the exit code of a trap, or is refused.
    ///
    /// ```
    /// use core::time::Duration;
    /// use sandpool_abi::process::Limit;
    ///
    /// assert_eq!(Limit::Memory(256 << 20).to_string(), "memory 256 MiB");
    /// assert_eq!(Limit::CpuTime(Duration::from_millis(1500)).to_string(), "cpu time 1500 ms");
    /// assert_eq!(Limit::Processes(64).name(), "processes-max");
    /// ```
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    #[non_exhaustive]
    pub enum Limit {
        /// Bytes of linear memory.
        Memory(u64),
        /// Bytes of the stack of WebAssembly.
        Stack(u64),
        /// Time on a processor.
        CpuTime(Duration),
        /// Time since the process has started.
        WallTime(Duration),
        /// Bytes written to stdout and stderr.
        Stdio(u64),
        /// Units of fuel.
        Fuel(u64),
        /// Time on a processor of all processes of the run.
        RunCpuTime(Duration),
        /// Time since the run has started.
        RunWallTime(Duration),
        /// Bytes written to stdout and stderr by all processes of the run.
        RunStdio(u64),
        /// Processes of the run at once.
        Processes(u64),
        /// Queues, pipes, locks and other objects of the run at once.
        Objects(u64),
        /// Bytes of the run's arena: the content of queues and pipes, and shared memory.
        Arena(u64),
        /// Items in a queue at once.
        QueueItems(u64),
        /// Files and directories that are open at once.
        OpenFiles(u64),
        /// Bytes of a file that is written.
        FileSize(u64),
        /// Bytes written to files.
        FileBytes(u64),
        /// Bytes written to files by all processes of the run.
        RunFileBytes(u64),
        /// Bytes of linear memory of all processes of the run together.
        RunMemory(u64),
        /// Bytes of the output of a task.
        Output(u64),
        /// A limit that this version doesn't know.
        Other,
    }

    impl Limit {
        /// The number of the limit: [`Status::detail`] of [`LIMITED`], and the argument of `limit`. The number never
        /// changes.
        #[must_use]
        pub const fn code(self) -> u32 {
            match self {
                Self::Other => 0,
                Self::Memory(_) => 1,
                Self::Stack(_) => 2,
                Self::CpuTime(_) => 3,
                Self::WallTime(_) => 4,
                Self::Stdio(_) => 5,
                Self::Fuel(_) => 6,
                Self::RunCpuTime(_) => 7,
                Self::RunWallTime(_) => 8,
                Self::RunStdio(_) => 9,
                Self::Processes(_) => 10,
                Self::Objects(_) => 11,
                Self::Arena(_) => 12,
                Self::QueueItems(_) => 13,
                Self::OpenFiles(_) => 14,
                Self::FileSize(_) => 15,
                Self::FileBytes(_) => 16,
                Self::RunFileBytes(_) => 17,
                Self::RunMemory(_) => 18,
                Self::Output(_) => 19,
            }
        }

        /// The value of the limit: a number, bytes, units, or microseconds.
        #[must_use]
        pub fn figure(self) -> u64 {
            match self {
                Self::Other => 0,
                Self::Memory(n)
                | Self::Stack(n)
                | Self::Stdio(n)
                | Self::Fuel(n)
                | Self::RunStdio(n)
                | Self::Processes(n)
                | Self::Objects(n)
                | Self::Arena(n)
                | Self::QueueItems(n)
                | Self::OpenFiles(n)
                | Self::FileSize(n)
                | Self::FileBytes(n)
                | Self::RunFileBytes(n)
                | Self::RunMemory(n)
                | Self::Output(n) => n,
                Self::CpuTime(time)
                | Self::WallTime(time)
                | Self::RunCpuTime(time)
                | Self::RunWallTime(time) => u64::try_from(time.as_micros()).unwrap_or(u64::MAX),
            }
        }

        /// The limit of this [`code`](Self::code) and [`figure`](Self::figure).
        #[must_use]
        pub const fn from_parts(code: u32, figure: u64) -> Self {
            match code {
                1 => Self::Memory(figure),
                2 => Self::Stack(figure),
                3 => Self::CpuTime(Duration::from_micros(figure)),
                4 => Self::WallTime(Duration::from_micros(figure)),
                5 => Self::Stdio(figure),
                6 => Self::Fuel(figure),
                7 => Self::RunCpuTime(Duration::from_micros(figure)),
                8 => Self::RunWallTime(Duration::from_micros(figure)),
                9 => Self::RunStdio(figure),
                10 => Self::Processes(figure),
                11 => Self::Objects(figure),
                12 => Self::Arena(figure),
                13 => Self::QueueItems(figure),
                14 => Self::OpenFiles(figure),
                15 => Self::FileSize(figure),
                16 => Self::FileBytes(figure),
                17 => Self::RunFileBytes(figure),
                18 => Self::RunMemory(figure),
                19 => Self::Output(figure),
                _ => Self::Other,
            }
        }

        /// The number of codes: all codes are below this.
        pub const CODES: u32 = 20;

        /// The name by which the limit is set: that of a flag, and of a key in a configuration file.
        #[must_use]
        pub fn name(self) -> &'static str {
            match self {
                Self::Memory(_) => "memory-max",
                Self::Stack(_) => "stack-max",
                Self::CpuTime(_) => "cpu-time",
                Self::WallTime(_) => "wall-time",
                Self::Stdio(_) => "stdio-max",
                Self::Fuel(_) => "fuel",
                Self::RunCpuTime(_) => "run-cpu-time",
                Self::RunWallTime(_) => "run-wall-time",
                Self::RunStdio(_) => "run-stdio-max",
                Self::Processes(_) => "processes-max",
                Self::Objects(_) => "objects-max",
                Self::Arena(_) => "arena-size",
                Self::QueueItems(_) => "queue-items-max",
                Self::OpenFiles(_) => "open-files-max",
                Self::FileSize(_) => "file-size-max",
                Self::FileBytes(_) => "file-bytes-max",
                Self::RunFileBytes(_) => "run-file-bytes-max",
                Self::RunMemory(_) => "run-memory-max",
                Self::Output(_) => "output-max",
                Self::Other => "unknown",
            }
        }

        /// Returns the [`code`](Self::code) of the limit of this name.
        #[must_use]
        pub fn code_of(name: &str) -> Option<u32> {
            (1..Self::CODES).find(|code| Self::from_parts(*code, 0).name() == name)
        }

        /// Returns the figure of the limit, for a person: `64`, `256 MiB`, `1500 ms`.
        ///
        /// ```
        /// assert_eq!(sandpool_abi::process::Limit::Arena(1 << 20).amount().to_string(), "1 MiB");
        /// ```
        #[must_use]
        pub fn amount(self) -> impl core::fmt::Display {
            Amount(self)
        }

        /// Whether the limit applies to all processes of a run together.
        #[must_use]
        pub fn is_of_the_run(self) -> bool {
            matches!(
                self,
                Self::RunCpuTime(_)
                    | Self::RunWallTime(_)
                    | Self::RunStdio(_)
                    | Self::Processes(_)
                    | Self::Objects(_)
                    | Self::Arena(_)
                    | Self::RunFileBytes(_)
                    | Self::RunMemory(_)
            )
        }

        /// Whether reaching the limit ends all processes of the run.
        #[must_use]
        pub fn ends_the_run(self) -> bool {
            matches!(self, Self::RunCpuTime(_) | Self::RunWallTime(_) | Self::RunStdio(_))
        }
    }

    impl core::fmt::Display for Limit {
        fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            let what = match self {
                Self::Memory(_) => "memory",
                Self::Stack(_) => "stack",
                Self::CpuTime(_) => "cpu time",
                Self::WallTime(_) => "wall time",
                Self::Stdio(_) => "stdout and stderr",
                Self::Fuel(_) => "fuel",
                Self::RunCpuTime(_) => "cpu time of the run",
                Self::RunWallTime(_) => "wall time of the run",
                Self::RunStdio(_) => "stdout and stderr of the run",
                Self::Processes(_) => "processes of the run",
                Self::Objects(_) => "objects of the run",
                Self::Arena(_) => "arena",
                Self::QueueItems(_) => "items of a queue",
                Self::OpenFiles(_) => "open files",
                Self::FileSize(_) => "size of a file",
                Self::FileBytes(_) => "bytes of files",
                Self::RunFileBytes(_) => "bytes of files of the run",
                Self::RunMemory(_) => "memory of the run",
                Self::Output(_) => "output",
                Self::Other => return f.write_str("unknown"),
            };
            write!(f, "{what} {}", Amount(*self))
        }
    }

    /// The figure of a limit.
    struct Amount(Limit);

    impl core::fmt::Display for Amount {
        fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            match self.0 {
                Limit::Memory(n)
                | Limit::Stack(n)
                | Limit::Stdio(n)
                | Limit::RunStdio(n)
                | Limit::Arena(n)
                | Limit::FileSize(n)
                | Limit::FileBytes(n)
                | Limit::RunFileBytes(n)
                | Limit::RunMemory(n)
                | Limit::Output(n) => write!(f, "{}", Bytes(n)),
                Limit::Fuel(n)
                | Limit::Processes(n)
                | Limit::Objects(n)
                | Limit::QueueItems(n)
                | Limit::OpenFiles(n) => write!(f, "{n}"),
                Limit::CpuTime(time)
                | Limit::WallTime(time)
                | Limit::RunCpuTime(time)
                | Limit::RunWallTime(time) => write!(f, "{}", Time(time)),
                Limit::Other => f.write_str("unknown"),
            }
        }
    }

    /// A size, exactly, in the largest unit of which it is a multiple.
    struct Bytes(u64);

    impl core::fmt::Display for Bytes {
        fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            match self.0.trailing_zeros() {
                30..64 => write!(f, "{} GiB", self.0 >> 30),
                20..30 => write!(f, "{} MiB", self.0 >> 20),
                10..20 => write!(f, "{} KiB", self.0 >> 10),
                _ => write!(f, "{} B", self.0),
            }
        }
    }

    /// A time in the largest of these units of which it is a multiple.
    struct Time(Duration);

    impl core::fmt::Display for Time {
        fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            match self.0.subsec_micros() {
                0 => write!(f, "{} s", self.0.as_secs()),
                micros if micros % 1000 == 0 => write!(f, "{} ms", self.0.as_millis()),
                _ => write!(f, "{} µs", self.0.as_micros()),
            }
        }
    }

    /// How a process ended, as a type.
    ///
    /// ```
    /// use sandpool_abi::process::{EXITED, ExitStatus, Limit, Signal, Trap};
    ///
    /// assert_eq!(ExitStatus::from_parts(EXITED, 3, 0), Some(ExitStatus::Exited(3)));
    /// assert_eq!(ExitStatus::Exited(3).to_string(), "exited: 3");
    /// assert_eq!(ExitStatus::Signaled(Signal::TERM).to_string(), "killed: SIGTERM");
    /// assert_eq!(ExitStatus::Trapped(Trap::Unreachable).to_string(), "trapped: unreachable executed");
    /// assert_eq!(ExitStatus::Limited(Limit::Memory(64 << 10)).to_string(), "limited: memory 64 KiB");
    /// assert_eq!(ExitStatus::Strays(2).to_string(), "ended: 2 processes that the run doesn't know of");
    /// ```
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum ExitStatus {
        /// The process returned, or called exit. A panic is exit code 1.
        Exited(u8),
        /// A signal killed the process.
        Signaled(Signal),
        /// The process did something that WebAssembly doesn't allow.
        Trapped(Trap),
        /// The process hit a limit that the host had set.
        Limited(Limit),
        /// The run was ended, because every process waited for another. Only the host sees this status.
        Deadlocked,
        /// The process made a system call that its jail forbids, and was killed with SIGSYS. WebAssembly makes no system
        /// calls: this is a bug of the host, or somebody's use of one.
        Forbidden,
        /// The run was ended, because this number of processes was found that the run doesn't know of. WebAssembly starts no
        /// processes: this is a bug of the host, or somebody's use of one. Only the host sees this status.
        Strays(u64),
    }

    impl ExitStatus {
        /// Converts [`Status::kind`], [`Status::detail`] and [`Status::figure`]; `None` if the kind is unknown.
        #[must_use]
        pub fn from_parts(kind: u32, detail: u32, figure: u64) -> Option<Self> {
            Some(match kind {
                EXITED => Self::Exited((detail & 0xff) as u8),
                SIGNALED => Self::Signaled(Signal((detail & 0x7f) as i32)),
                TRAPPED => Self::Trapped(Trap::from_code(detail)),
                LIMITED => Self::Limited(Limit::from_parts(detail, figure)),
                DEADLOCKED => Self::Deadlocked,
                FORBIDDEN => Self::Forbidden,
                STRAYS => Self::Strays(figure),
                _ => return None,
            })
        }

        /// Whether the process ended with exit code 0.
        #[must_use]
        pub fn success(self) -> bool {
            self == Self::Exited(0)
        }

        /// The exit code of a shell for this status, and of `sandpool run`: the exit code; 128 and the signal; 134
        /// after a trap or at a limit; 124 after a deadlock; 159, as for SIGSYS, after a forbidden system call, or
        /// with strays.
        ///
        /// ```
        /// use sandpool_abi::process::{ExitStatus, Signal};
        ///
        /// assert_eq!(ExitStatus::Signaled(Signal::KILL).shell_code(), 137);
        /// ```
        #[must_use]
        pub fn shell_code(self) -> u8 {
            match self {
                Self::Exited(code) => code,
                Self::Signaled(signal) => 128 | (signal.0 & 0x7f) as u8,
                Self::Trapped(_) | Self::Limited(_) => 134,
                Self::Deadlocked => 124,
                Self::Forbidden | Self::Strays(_) => 159,
            }
        }
    }

    impl core::fmt::Display for ExitStatus {
        fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            match self {
                Self::Exited(code) => write!(f, "exited: {code}"),
                Self::Signaled(signal) => write!(f, "killed: {signal}"),
                Self::Trapped(trap) => write!(f, "trapped: {}", trap.message()),
                Self::Limited(limit) => write!(f, "limited: {limit}"),
                Self::Deadlocked => f.write_str("ended: deadlock"),
                Self::Forbidden => f.write_str("killed: forbidden system call"),
                Self::Strays(1) => f.write_str("ended: a process that the run doesn't know of"),
                Self::Strays(count) => write!(f, "ended: {count} processes that the run doesn't know of"),
            }
        }
    }

    /// A signal, by its number. It is shown by its name if it has one.
    ///
    /// ```
    /// use sandpool_abi::process::Signal;
    ///
    /// assert_eq!(Signal::KILL, Signal(9));
    /// assert_eq!(Signal::KILL.to_string(), "SIGKILL");
    /// assert_eq!(Signal(40).to_string(), "signal 40");
    /// ```
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub struct Signal(pub i32);

    impl Signal {
        /// SIGHUP: the terminal is gone.
        pub const HUP: Self = Self(1);
        /// SIGINT: an interrupt, such as Ctrl-C.
        pub const INT: Self = Self(2);
        /// SIGQUIT: an interrupt, such as Ctrl-\.
        pub const QUIT: Self = Self(3);
        /// SIGKILL: ends a process in any case.
        pub const KILL: Self = Self(9);
        /// SIGTERM: asks a process to end.
        pub const TERM: Self = Self(15);

        /// Linux's names, from 1 on.
        const NAMES: [&str; 31] = [
            "SIGHUP",
            "SIGINT",
            "SIGQUIT",
            "SIGILL",
            "SIGTRAP",
            "SIGABRT",
            "SIGBUS",
            "SIGFPE",
            "SIGKILL",
            "SIGUSR1",
            "SIGSEGV",
            "SIGUSR2",
            "SIGPIPE",
            "SIGALRM",
            "SIGTERM",
            "SIGSTKFLT",
            "SIGCHLD",
            "SIGCONT",
            "SIGSTOP",
            "SIGTSTP",
            "SIGTTIN",
            "SIGTTOU",
            "SIGURG",
            "SIGXCPU",
            "SIGXFSZ",
            "SIGVTALRM",
            "SIGPROF",
            "SIGWINCH",
            "SIGIO",
            "SIGPWR",
            "SIGSYS",
        ];
    }

    impl core::fmt::Display for Signal {
        fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            let index = usize::try_from(self.0).ok().and_then(|number| number.checked_sub(1));
            match index.and_then(|index| Self::NAMES.get(index)) {
                Some(name) => f.write_str(name),
                None => write!(f, "signal {}", self.0),
            }
        }
    }

    /// Facts about a process: the structure that `info` writes. 24 bytes, little-endian.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    #[repr(C)]
    pub struct Info {
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

/// `sandpool_queue`: first in, first out, between any processes of a run.
pub mod queue {
    /// The import module's name.
    pub const MODULE: &str = "sandpool_queue";

    imports! { sandpool_queue:
        /// Makes a queue for at most `maxsize` items (0: as many as the arena holds) and returns its handle. Flags:
        /// [`JOINABLE`](super::JOINABLE) or [`CLAIMED`](super::CLAIMED).
        create(maxsize: I64, flags: I32) -> I64;
        /// Puts one item: `item_len` bytes and `handle_count` handles, which the item holds until it is taken.
        /// 0, `AGAIN` (full, with [`NO_WAIT`](crate::NO_WAIT)), `TIMEDOUT`, `CLOSED`, or `MSGSIZE` (can never fit).
        put(queue: I64, item: I32, item_len: I32, handles: I32, handle_count: I32, timeout: I64) -> I32;
        /// Like `put`, for an item whose bytes lie in several places: `part_count` of [`Part`](super::Part), at most
        /// [`PARTS_MAX`](super::PARTS_MAX). For large items: in the arena such an item has pages of its own, however
        /// small it is.
        put_parts(queue: I64, parts: I32, part_count: I32, handles: I32, handle_count: I32, timeout: I64) -> I32;
        /// Takes the oldest item and writes an [`Item`](super::Item) to `result`. An item of at most `capacity` bytes
        /// with no handles is copied to `buffer`. Any other item is held for the caller, with `held` set in the
        /// result: `take` copies it. An item that is still held from an earlier call is dropped first. 0, `AGAIN`
        /// (empty, with [`NO_WAIT`](crate::NO_WAIT)), `TIMEDOUT`, or `CLOSED` (and drained).
        get(queue: I64, buffer: I32, capacity: I32, timeout: I64, result: I32) -> I32;
        /// Puts several items at once, as far as there is room: `count` items whose lengths are at `lens` (32 bits each)
        /// and whose bytes follow one another at `items` (`items_len` in all). Waits for room for the first only. Returns
        /// the number of items that were put; `AGAIN`, `TIMEDOUT` or `CLOSED` if none was. Items of more than
        /// [`BATCH_ITEM_MAX`](super::BATCH_ITEM_MAX) bytes are not for a batch: `MSGSIZE` if the first is one.
        put_many(queue: I64, items: I32, items_len: I32, lens: I32, count: I32, timeout: I64) -> I64;
        /// Takes the oldest items at once, as many as there are, at most `count`: their bytes one after another to
        /// `buffer`, their lengths to `lens` (32 bits each). Waits for the first only. The call stops before an item
        /// that doesn't fit, carries handles or is larger than [`BATCH_ITEM_MAX`](super::BATCH_ITEM_MAX); if that
        /// item is the first, the call returns 0, and `get` takes the item. Errors as of `get`.
        get_many(queue: I64, buffer: I32, capacity: I32, lens: I32, count: I32, timeout: I64) -> I64;
        /// Copies the item that `get`, or `recv` of a pipe, holds for the caller: its bytes to `part_count` places, one after
        /// another, each a [`Part`](super::Part), and a [`Record`](crate::handle::Record) of each of its handles to
        /// `records`. Both must have exactly the room that `get` reported, or the result is `INVAL` and the item is still
        /// held: so a caller that has taken another item in between is told. The caller then holds those handles. `NOENT` if
        /// no item is held.
        take(parts: I32, part_count: I32, records: I32, record_capacity: I32) -> I32;
        /// Copies the first bytes of the item that is held for the caller, at most `capacity`, and returns its whole length.
        /// The item is still held: so the caller can see what the item is before deciding in which parts to take it. `NOENT`
        /// if no item is held.
        peek(buffer: I32, capacity: I32) -> I64;
        /// Returns the number of items that wait.
        qsize(queue: I64) -> I64;
        /// Returns the `maxsize` that the queue was made with; 0 when it has none.
        maxsize(queue: I64) -> I64;
        /// Closes the queue for every process: a `put` fails from now on, a `get` once the queue is drained.
        close(queue: I64) -> I32;
        /// Reports that an item which was taken is done. `OVERFLOW` if all items that were put are done; `INVAL` if
        /// the queue isn't joinable.
        task_done(queue: I64) -> I32;
        /// Waits until each item that was put is done, or lost: taken by a process that died before it reported the
        /// item as done. Returns the number of items that were lost since the queue was made. `AGAIN`, `TIMEDOUT`;
        /// `INVAL` if the queue isn't joinable.
        join(queue: I64, timeout: I64) -> I64;
    }

    /// Flag of `create`: `task_done` and `join` work, for which each `get` is noted.
    pub const JOINABLE: u32 = 1;
    /// Flag of `create`: a process that takes items claims them, until it puts their results by `finish` of
    /// [`sandpool_task`](crate::task); before that, a `get` is `BUSY`. So if the process dies, its creator learns what it
    /// was working on.
    pub const CLAIMED: u32 = 2;

    /// The longest item that `put_many` and `get_many` move.
    pub const BATCH_ITEM_MAX: usize = 8192;

    /// The maximum number of parts in which an item may be given or taken.
    pub const PARTS_MAX: usize = 8;

    /// The place of bytes of an item, to be read or written. 8 bytes, little-endian.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    #[repr(C)]
    pub struct Part {
        /// The address of the bytes.
        pub at: u32,
        /// The number of bytes.
        pub len: u32,
    }

    /// The size of a taken item: the structure that `get` writes. 16 bytes, little-endian.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    #[repr(C)]
    pub struct Item {
        /// Bytes of the item.
        pub len: u64,
        /// The number of handles that come with the item.
        pub handle_count: u32,
        /// 1: the item is held, and `take` must follow.
        pub held: u32,
    }
}

/// `sandpool_pipe`: two ends, and messages from each to the other.
pub mod pipe {
    /// The import module's name.
    pub const MODULE: &str = "sandpool_pipe";

    imports! { sandpool_pipe:
        /// Makes a pipe and writes the handles of its two ends, 64 bits each, to `ends`. A message that is sent at
        /// one end is received at the other. Without [`DUPLEX`](super::DUPLEX) in `flags`, the first end only
        /// receives and the second only sends. `capacity` is the number of bytes that may wait in each direction, 0
        /// for [`CAPACITY`](super::CAPACITY); a longer message is sent when no other waits.
        create(capacity: I64, flags: I32, ends: I32) -> I32;
        /// Sends a message: `len` bytes, which may be 0, and `handle_count` handles. 0, `AGAIN`, `TIMEDOUT`, `MSGSIZE`
        /// (can never fit), `PIPE` (nobody is left to receive it), or `PERM` (this end only receives).
        send(end: I64, message: I32, len: I32, handles: I32, handle_count: I32, timeout: I64) -> I32;
        /// Like `send`, for a message in several parts, as in `put_parts` of a queue.
        send_parts(end: I64, parts: I32, part_count: I32, handles: I32, handle_count: I32, timeout: I64) -> I32;
        /// Receives a message as `get` of a queue does, with an [`Item`](crate::queue::Item) for a result. 0, `AGAIN`,
        /// `TIMEDOUT`, `PERM` (this end only sends), or `CLOSED`: nobody is left to send anything. A process that
        /// waits here doesn't count as a sender, even if it holds the other end itself.
        recv(end: I64, buffer: I32, capacity: I32, timeout: I64, result: I32) -> I32;
        /// Returns the abilities of an end: [`READABLE`](super::READABLE), [`WRITABLE`](super::WRITABLE).
        flags(end: I64) -> I64;
        /// Returns the number of bytes that may wait in each direction.
        capacity(end: I64) -> I64;
    }

    /// Flag of `create`: both ends send and receive.
    pub const DUPLEX: u32 = 1;
    /// Result of `flags`: this end receives.
    pub const READABLE: u32 = 1;
    /// Result of `flags`: this end sends.
    pub const WRITABLE: u32 = 2;
    /// The default capacity of a pipe: that of Linux's pipes.
    pub const CAPACITY: u64 = 65_536;
}

/// `sandpool_sync`: locks, semaphores, events, conditions, barriers.
pub mod sync {
    /// The import module's name.
    pub const MODULE: &str = "sandpool_sync";

    imports! { sandpool_sync:
        /// Makes a lock. Flags: [`RECURSIVE`](super::RECURSIVE).
        lock_create(flags: I32) -> I64;
        /// Acquires a lock. 0; `AGAIN` or `TIMEDOUT`, without the lock; or `OWNERDEAD`, *with* the lock: the process
        /// that held it has ended and didn't release it, so the data that it guards may be half changed. A recursive
        /// lock that the caller holds is acquired once more; for any other lock that the caller holds, the caller
        /// waits.
        lock_acquire(lock: I64, timeout: I64) -> I32;
        /// Releases a lock, once. `OVERFLOW` if nobody holds the lock; `PERM` if it is recursive and another process
        /// holds it.
        lock_release(lock: I64) -> I32;
        /// Returns how often the caller holds the lock: above 0 if the caller holds it, 0 if nobody does,
        /// [`ELSEWHERE`](super::ELSEWHERE) if another process does.
        lock_held(lock: I64) -> I64;
        /// Makes a semaphore with `value` units, at most 2^62 (else `INVAL`). A process holds a unit from acquiring it
        /// until the process releases one. Flags: [`BOUNDED`](super::BOUNDED), [`RETURNED`](super::RETURNED).
        semaphore_create(value: I64, flags: I32) -> I64;
        /// Acquires one unit. 0, `AGAIN`, `TIMEDOUT`.
        semaphore_acquire(semaphore: I64, timeout: I64) -> I32;
        /// Releases `count` units, which other processes may have acquired. `OVERFLOW`, and nothing is released, if a
        /// bounded semaphore would have more units than it was made with, or any semaphore more than 2^62.
        semaphore_release(semaphore: I64, count: I64) -> I32;
        /// Returns the number of free units.
        semaphore_value(semaphore: I64) -> I64;
        /// Returns the number of units that processes held when they ended: those units are lost, or, with
        /// [`RETURNED`](super::RETURNED), were returned.
        semaphore_died(semaphore: I64) -> I64;
        /// Makes an event that isn't set.
        event_create() -> I64;
        /// Sets an event: all processes that wait for it go on, and no process waits until it is cleared.
        event_set(event: I64) -> I32;
        /// Clears an event.
        event_clear(event: I64) -> I32;
        /// Returns 1 if the event is set, else 0.
        event_is_set(event: I64) -> I64;
        /// Waits until the event is set, or was set since, even if it was cleared again at once. 0, `AGAIN`, `TIMEDOUT`.
        event_wait(event: I64, timeout: I64) -> I32;
        /// Makes a condition.
        condition_create() -> I64;
        /// Releases `lock` wholly, waits until notified, and acquires the lock as often as it was held, however long
        /// that takes. Returns [`NOTIFIED`](super::NOTIFIED), unless the time was over, and
        /// [`OWNER_DIED`](super::OWNER_DIED) if the lock was taken over from a process that has ended. `PERM` if the
        /// caller doesn't hold the lock.
        condition_wait(condition: I64, lock: I64, timeout: I64) -> I64;
        /// Wakes `count` processes, those that have waited longest, and returns the number of processes that were
        /// woken. `PERM` if the caller doesn't hold the lock.
        condition_notify(condition: I64, lock: I64, count: I64) -> I64;
        /// Makes a barrier for `parties` processes. `INVAL` if that is 0.
        barrier_create(parties: I64) -> I64;
        /// Waits until all parties wait, and returns the caller's index, from 0 in the order of arrival. `BROKEN` if the barrier is
        /// broken, or breaks meanwhile: by `barrier_abort`, `barrier_reset`, the end of a process that waits or acts, or because the time
        /// of one is over, even at once. With [`ACTION`](super::ACTION) in `flags`, the last process to arrive returns at once with
        /// [`ACT`](super::ACT) added to its index: it does its action, then calls `barrier_release`, upon which the others go on, or
        /// `barrier_abort`.
        barrier_wait(barrier: I64, flags: I32, timeout: I64) -> I64;
        /// Lets the others go on. `PERM` if the caller wasn't told to [`ACT`](super::ACT), `BROKEN`.
        barrier_release(barrier: I64) -> I32;
        /// Resets a barrier to its initial state; processes that wait get `BROKEN`.
        barrier_reset(barrier: I64) -> I32;
        /// Breaks a barrier until it is reset.
        barrier_abort(barrier: I64) -> I32;
        /// Writes a [`Barrier`](super::Barrier) to `state`.
        barrier_state(barrier: I64, state: I32) -> I32;
    }

    /// Flag of `lock_create`: the lock's owner may acquire it again, and only the owner may release it.
    pub const RECURSIVE: u32 = 1;
    /// Result of `lock_held`: another process holds the lock.
    pub const ELSEWHERE: i64 = 1 << 40;
    /// Flag of `semaphore_create`: the semaphore never has more units than it was made with.
    pub const BOUNDED: u32 = 1;
    /// Flag of `semaphore_create`: units that a process holds when it ends are returned.
    pub const RETURNED: u32 = 2;
    /// Result of `condition_wait`: another process has notified the caller.
    pub const NOTIFIED: i64 = 1;
    /// Result of `condition_wait`: the lock was acquired as with `OWNERDEAD` of `lock_acquire`.
    pub const OWNER_DIED: i64 = 2;
    /// Flag of `barrier_wait`: the last process to arrive acts before the others go on.
    pub const ACTION: u32 = 1;
    /// Added to the index of the process that is to act.
    pub const ACT: i64 = 1 << 40;

    /// The state of a barrier: the structure that `barrier_state` writes. 24 bytes, little-endian.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    #[repr(C)]
    pub struct Barrier {
        /// The number of processes that the barrier is for.
        pub parties: u64,
        /// The number of processes that wait.
        pub waiting: u64,
        /// 1 if the barrier is broken.
        pub broken: u32,
        /// Always 0.
        pub reserved: u32,
    }
}

/// `sandpool_shared`: memory that several processes see.
///
/// A piece of shared memory is *mapped* into the guest's own memory, where plain loads and stores reach it; that
/// takes whole pages of WebAssembly, 64 KiB each, of the guest's addresses. Or it is reached by `read`, `write` and
/// the atomic functions, which need no address. Offsets and sizes are in bytes.
pub mod shared {
    /// The import module's name.
    pub const MODULE: &str = "sandpool_shared";

    imports! { sandpool_shared:
        /// Makes shared memory of `size` zero bytes and returns its handle. With a name (1 to
        /// [`NAME_MAX`](crate::NAME_MAX) bytes of UTF-8), other processes of the run can `open` it, and it stays
        /// until it is unlinked. Flags: [`SMALL`](super::SMALL), [`OWNED`](super::OWNED). `INVAL` if the size is 0,
        /// or too large for the flag; `MSGSIZE` if the arena is smaller, `NOMEM` if it has no such room now, `EXIST`
        /// if the name is taken.
        create(size: I64, flags: I32, name: I32, name_len: I32) -> I64;
        /// Returns the handle of the shared memory with this name. `NOENT`. Where each task of a host has a process of its
        /// own, a task doesn't see names that other tasks have made.
        open(name: I32, name_len: I32) -> I64;
        /// Takes a name away. Processes that hold the named memory keep it. `NOENT`; `PERM` in such a task, if the name
        /// isn't the task's own.
        unlink(name: I32, name_len: I32) -> I32;
        /// Returns the size in bytes.
        size(shared: I64) -> I64;
        /// Copies the name of the memory, which stays after it was unlinked, and returns its whole length; 0 if the
        /// memory has no name.
        name(shared: I64, buffer: I32, capacity: I32) -> I64;
        /// Maps all of the memory into the caller's memory and returns the address. With [`READ_ONLY`](super::READ_ONLY), a store there traps; without
        /// it, the result is `PERM` for a view. `INVAL` if the memory is [`SMALL`](super::SMALL), `NOMEM` if the guest's memory can't grow that far.
        /// Mapped memory may not be passed to WASI, nor to other imports: `FAULT`.
        map(shared: I64, flags: I32) -> I64;
        /// Undoes a `map`. The addresses then read as zeroes, can't be written, and are for later calls of `map`.
        /// `INVAL` if nothing was mapped at that address. The mapping is undone as well when the caller releases its
        /// last use of the handle.
        unmap(address: I32) -> I32;
        /// Copies bytes out, from `offset`. `INVAL` if they don't lie inside.
        read(shared: I64, offset: I64, buffer: I32, len: I32) -> I32;
        /// Makes a view of shared memory that was made without [`SMALL`](super::SMALL): an object of its own, by whose handle
        /// the same bytes can be read and not changed. Give the view's handle to processes that may only read. A view of a
        /// view is a view of the same memory.
        view(shared: I64) -> I64;
        /// Copies bytes in. `INVAL` if they don't lie inside; `PERM` for a view.
        write(shared: I64, offset: I64, bytes: I32, len: I32) -> I32;
        /// Loads an integer of `width` bytes (1, 2, 4 or 8), zero-extended. This function and the next three are
        /// sequentially consistent, and trap if the handle or the width is bad, or the offset isn't inside or not a
        /// multiple of the width; the next three also trap for a view.
        load(shared: I64, offset: I64, width: I32) -> I64;
        /// Stores an integer. Always returns 0.
        store(shared: I64, offset: I64, width: I32, value: I64) -> I64;
        /// Changes an integer by one of the operations from [`ADD`](super::ADD) on, and returns its previous value.
        rmw(shared: I64, offset: I64, width: I32, operation: I32, operand: I64) -> I64;
        /// Replaces an integer that equals `expected` (of which only `width` bytes count), and returns its previous
        /// value.
        compare_exchange(shared: I64, offset: I64, width: I32, expected: I64, new: I64) -> I64;
    }

    /// Flag of `create`: at most [`SMALL_MAX`] bytes, which take no page of their own, but can't be mapped.
    pub const SMALL: u32 = 1;
    /// The largest size with [`SMALL`].
    pub const SMALL_MAX: u64 = 512;
    /// Flag of `create`: the memory is unlinked when the caller releases its last use of the handle, or ends, in
    /// whatever way.
    pub const OWNED: u32 = 2;
    /// Flag of `map`; and of a view's [`kind`](crate::handle::Record::kind).
    pub const READ_ONLY: u32 = 1;

    /// Operation of `rmw`: add, wrapping.
    pub const ADD: u32 = 0;
    /// Operation of `rmw`: subtract, wrapping.
    pub const SUB: u32 = 1;
    /// Operation of `rmw`: bitwise and.
    pub const AND: u32 = 2;
    /// Operation of `rmw`: bitwise or.
    pub const OR: u32 = 3;
    /// Operation of `rmw`: bitwise exclusive or.
    pub const XOR: u32 = 4;
    /// Operation of `rmw`: replace.
    pub const SWAP: u32 = 5;
}

/// `sandpool_task`: tasks, and the workers of a pool.
///
/// # A task
///
/// A host runs the tasks that a module exports: a function `(format: i32, len: i32) -> i32` whose name is
/// [`EXPORT_PREFIX`](task::EXPORT_PREFIX) and the task's. The function gets its input, `len` bytes in that format, by
/// `input`, hands its output over by `output`, and returns [`DONE`](task::DONE), or says why there is no output:
/// [`FAILED`](task::FAILED) or [`REFUSED`](task::REFUSED) with a message in UTF-8 for an output, or
/// [`UNSUPPORTED`](task::UNSUPPORTED). The function is called again and again in the same instance, in which `_start`
/// never runs; an export `_initialize` is called first, once. The custom section [`SECTION`](task::SECTION) may
/// describe each task: by five texts, each of which ends with a zero byte: its name, the types of its input, its output
/// and its error, and its documentation. `examples/upper.wat` is a module with a task.
///
/// # A worker
///
/// A worker takes items from a queue that is [`CLAIMED`](queue::CLAIMED), works on one after another, and puts the
/// result of each by `finish`. Items are numbered in the order in which they were put into that queue, from 0 on. At
/// each instant, also when the worker has been killed, `claims` says which items are not finished, and which one is
/// worked on.
///
/// In the process of a task that a host has called, `begin`, `follow`, `finish` and `finish_parts` are `PERM`, and so is a `get`
/// of a queue that is [`CLAIMED`](queue::CLAIMED): the claims of this process belong to the host. Processes that it starts may
/// be workers.
pub mod task {
    /// The import module's name.
    pub const MODULE: &str = "sandpool_task";

    imports! { sandpool_task:
        /// Reports that the caller now works on this part of the first item that it has claimed. `INVAL` if it has
        /// claimed none. Never returns if the caller was to be killed for the part before.
        begin(part: I32) -> I32;
        /// Names the shared memory whose first 64 bits the caller changes when it goes on with another part of the item
        /// that it has begun, which costs less than a call: text that the caller writes to stderr from then on belongs
        /// to that part. `INVAL` if the memory has no page of its own.
        follow(shared: I64) -> I32;
        /// Puts the result of the first item that the caller has claimed into `queue`, as `put` does. In the same instant
        /// the caller gives up that claim. `INVAL` if it has claimed none, else as of `put`; then it keeps the claim.
        finish(queue: I64, item: I32, item_len: I32, handles: I32, handle_count: I32, timeout: I64) -> I32;
        /// Like `finish`, for a result in several parts, as in `put_parts` of a queue.
        finish_parts(queue: I64, parts: I32, part_count: I32, handles: I32, handle_count: I32, timeout: I64) -> I32;
        /// Writes the [`Claims`](super::Claims) of a child, alive or not, to `claims`.
        claims(process: I64, claims: I32) -> I32;
        /// Kills a child by SIGKILL while it is at this [`work`](super::Claims::work). `AGAIN` if the child isn't, or
        /// not any more, at this work: nothing happens to it.
        kill(process: I64, work: I64) -> I32;
        /// Copies the input of the task that the host has called, at most `capacity` bytes, and returns its whole
        /// length. `NOENT` if no task is called.
        input(buffer: I32, capacity: I32) -> I64;
        /// Takes the output of the task that the host has called; the last one counts. `NOENT` if no task is called.
        output(bytes: I32, len: I32) -> I32;
    }

    /// The items that a worker hasn't finished: the structure that `claims` writes. 40 bytes, little-endian.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    #[repr(C)]
    pub struct Claims {
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

    /// [`Claims::part`] of an item of which only the result isn't put yet.
    pub const DELIVERED: u32 = u32::MAX;

    /// The beginning of the name of a task's export.
    pub const EXPORT_PREFIX: &str = "sandpool_task_";
    /// The custom section that describes tasks.
    pub const SECTION: &str = "sandpool-tasks";

    /// Format: values as serde and bincode 2 encode them, with numbers of fixed lengths
    /// (`config::standard().with_fixed_int_encoding()`).
    pub const SERDE: u32 = 0;
    /// Format: JSON.
    pub const JSON: u32 = 1;
    /// Format: text, such as a line without its end. A value that isn't text is written as in JSON, in one line.
    pub const TEXT: u32 = 2;
    /// Format: bytes, unchanged.
    pub const BYTES: u32 = 3;

    /// Result of a task: the task is done, and its output is the requested one.
    pub const DONE: u32 = 0;
    /// Result of a task: the task failed, and its output says why.
    pub const FAILED: u32 = 1;
    /// Result of a task: its input can't be decoded or its output can't be encoded, and its output says why.
    pub const REFUSED: u32 = 2;
    /// Result of a task: the task doesn't know this format.
    pub const UNSUPPORTED: u32 = 3;
}

/// `sandpool_handle`: the functions for all handles: their life, and waiting for several of them.
pub mod handle {
    /// The import module's name.
    pub const MODULE: &str = "sandpool_handle";

    imports! { sandpool_handle:
        /// Adds one use of a handle by the caller, to be released one more time.
        retain(object: I64) -> I32;
        /// Removes one use of a handle. With the last use of the last process, the object is freed.
        release(object: I64) -> I32;
        /// Records the caller's use of an object: a number of the caller's own, which isn't 0, and a handle that the
        /// caller holds of another object that belongs to it, or 0. A process that receives the object's handle finds both
        /// in its [`Record`](super::Record). Only once, and only while no other process holds the object: `PERM`.
        record(object: I64, tag: I32, partner: I64) -> I32;
        /// Waits until one of several things is ready: a process (a child, or the parent) has ended, an end of a pipe
        /// has something to receive or no process is left to send it, a queue has an item or is closed, an event is
        /// set. Writes one byte, 0 or 1, for each of the `count` handles (at most [`WAIT_MAX`](crate::WAIT_MAX)) to
        /// `ready`, and returns the number of ready things: 0 when the time is over. `INVAL` for a handle of any other
        /// kind, and for an end of a pipe that only sends.
        wait(handles: I32, count: I32, timeout: I64, ready: I32) -> I64;
    }

    /// The host's record of an object, which a receiver of its handle gets. No guest can change a record. 24 bytes, little-endian.
    ///
    /// The bytes of a message can claim that a handle in it is one of anything; the record says what the object is.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    #[repr(C)]
    pub struct Record {
        /// The handle.
        pub handle: u64,
        /// One of [`QUEUE`]…, and from bit 8 on the flags of its `create`, as far as they stay: `JOINABLE`, `CLAIMED`,
        /// `RECURSIVE`, `BOUNDED`, [`READ_ONLY`](crate::shared::READ_ONLY).
        pub kind: u32,
        /// The tag that `record` was given; 0 if `record` wasn't called.
        pub tag: u32,
        /// The partner that `record` was given; 0 if `record` wasn't called. For a view, the memory's handle.
        pub partner: u64,
    }

    impl Record {
        /// The [`kind`](Self::kind) of an object of this kind with these flags.
        #[must_use]
        pub const fn kind_of(kind: u32, flags: u32) -> u32 {
            kind | flags << 8
        }
    }

    /// [`Record::kind`]: a queue.
    pub const QUEUE: u32 = 1;
    /// [`Record::kind`]: an end of a pipe.
    pub const END: u32 = 2;
    /// [`Record::kind`]: a lock.
    pub const LOCK: u32 = 3;
    /// [`Record::kind`]: a semaphore.
    pub const SEMAPHORE: u32 = 4;
    /// [`Record::kind`]: an event.
    pub const EVENT: u32 = 5;
    /// [`Record::kind`]: a condition.
    pub const CONDITION: u32 = 6;
    /// [`Record::kind`]: a barrier.
    pub const BARRIER: u32 = 7;
    /// [`Record::kind`]: shared memory.
    pub const SHARED: u32 = 8;
}

/// The import modules.
const MODULES: &[&[Import]] = &[
    process::IMPORTS,
    queue::IMPORTS,
    pipe::IMPORTS,
    sync::IMPORTS,
    shared::IMPORTS,
    task::IMPORTS,
    handle::IMPORTS,
];

/// Returns every import that the host provides, beside WASI preview 1.
pub fn imports() -> impl Iterator<Item = &'static Import> {
    MODULES.iter().copied().flatten()
}

macro_rules! errno {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $message:literal;)*) => {
        /// The reason why a call failed. The numbers are Linux's where Linux has one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(i32)]
        pub enum Errno { $($(#[$doc])* $name = $value),* }

        impl Errno {
            /// All error numbers.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Returns the meaning of the error, as a fragment of a sentence.
            #[must_use]
            pub fn message(self) -> &'static str {
                match self { $(Self::$name => $message),* }
            }
        }
    };
}

errno! {
    /// What was asked for doesn't exist.
    Noent = 2, "no such thing";
    /// The arena holds something that it must not: a process of the run has damaged it.
    Io = 5, "the arena is damaged";
    /// A handle that names nothing, or nothing that this process was given.
    Badf = 9, "stale or foreign handle";
    /// Not the caller's child (nor, where that is allowed, its parent).
    Child = 10, "not a child of this process";
    /// It would have to wait.
    Again = 11, "would block";
    /// The arena has no room.
    Nomem = 12, "the arena is full";
    /// Not allowed: a daemonic process may not start children, a lock is another's, an end of a pipe doesn't do that.
    Perm = 1, "not permitted";
    /// A pointer or length outside of the guest's memory, or in a part of it that is mapped.
    Fault = 14, "bad address";
    /// The name is taken.
    Exist = 17, "the name is taken";
    /// The process is alive.
    Busy = 16, "still running";
    /// A bad flag, signal, or number.
    Inval = 22, "invalid argument";
    /// The object table is full.
    Nfile = 23, "too many objects";
    /// Nobody is left to receive what is sent.
    Pipe = 32, "nobody is left to receive it";
    /// A name is longer than [`NAME_MAX`].
    Nametoolong = 36, "name too long";
    /// A message can't fit into the arena, ever.
    Msgsize = 90, "message too long for the arena";
    /// More was released, or said to be done, than there was.
    Overflow = 75, "released too many times";
    /// The time is over.
    Timedout = 110, "timed out";
    /// The object was closed.
    Closed = 108, "closed";
    /// The caller has the lock now. Whoever held it has ended without releasing it.
    Ownerdead = 130, "the process that held the lock has ended";
    /// The run has as many processes as it may.
    Procs = 11001, "too many processes";
    /// The barrier is broken.
    Broken = 11002, "the barrier is broken";
    /// Every process of the run waits, and nobody is left to end it: only the host sees this one.
    Deadlock = 11003, "deadlock";
    /// A process that is forked would have more memory than is left to the run.
    Runmem = 11004, "too much memory for the run";
    /// The operating system has no process, or no memory for one.
    System = 11005, "the operating system has no room for another process";
}

impl Errno {
    /// Returns the error of this number.
    #[must_use]
    pub fn from_code(code: i32) -> Option<Self> {
        Self::ALL.iter().copied().find(|errno| *errno as i32 == code)
    }
}

impl core::fmt::Display for Errno {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.message())
    }
}

impl core::error::Error for Errno {}

#[allow(clippy::indexing_slicing, reason = "a constant expression: a bad index fails the build")]
const fn fnv(mut hash: u64, text: &str) -> u64 {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        hash = (hash ^ bytes[at] as u64).wrapping_mul(0x0000_0100_0000_01b3);
        at += 1;
    }
    hash
}

#[allow(clippy::indexing_slicing, reason = "a constant expression: a bad index fails the build")]
const fn fingerprint(mut hash: u64, imports: &[Import]) -> u64 {
    let mut at = 0;
    while at < imports.len() {
        let import = &imports[at];
        hash = fnv(fnv(hash, import.module), import.name);
        let mut param = 0;
        while param < import.params.len() {
            hash = fnv(hash, if matches!(import.params[param], I32) { "i" } else { "I" });
            param += 1;
        }
        hash = fnv(hash, if matches!(import.result, I32) { "i" } else { "I" });
        at += 1;
    }
    hash
}

/// A hash of all names and signatures, which changes when the contract does.
#[allow(clippy::indexing_slicing, reason = "a constant expression: a bad index fails the build")]
pub const FINGERPRINT: u64 = {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    let mut at = 0;
    while at < MODULES.len() {
        hash = fingerprint(hash, MODULES[at]);
        at += 1;
    }
    hash
};

const _: () = assert!(
    size_of::<process::Status>() == 24
        && size_of::<process::Info>() == 24
        && size_of::<queue::Item>() == 16
        && size_of::<sync::Barrier>() == 24
        && size_of::<handle::Record>() == 24
        && size_of::<task::Claims>() == 40,
    "a layout of the ABI has changed: compiled guests would read garbage, so raise ABI_VERSION first"
);
