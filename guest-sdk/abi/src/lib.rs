//! The contract between Sandpool's host and its guests: import modules, functions, error numbers, layouts.
//!
//! Host and SDKs are both built on this crate, so that they can't disagree. Whoever writes an SDK for another
//! language needs nothing but this page.
//!
//! # A guest
//!
//! A guest is a WebAssembly *core* module for WASI preview 1 with a `_start` export and a memory exported as
//! `memory`. It says which version of this contract it was built against in a custom section named
//! [`ABI_SECTION`], whose first four bytes are [`ABI_VERSION`] in little-endian order. A module without that
//! section is taken to be of the current version.
//!
//! # Conventions
//!
//! * Pointers and lengths are `i32` offsets into the guest's memory, read as unsigned.
//! * A **handle** is an `i64` greater than zero: a table index and a generation. It names the same thing in each
//!   process of a run, but works only in those processes that were given it: by fork, by spawn, or in a message.
//! * A **timeout** is an `i64` of nanoseconds, read as unsigned: [`NO_WAIT`] doesn't block, [`FOREVER`] has no end.
//! * A function with an `i32` result returns 0 or an [`Errno`]. One with an `i64` result returns a value of zero
//!   or more, or a negated [`Errno`].
//! * A bad pointer, length, handle or flag is an [`Errno`], never a crash of anything but the guest.
//!
//! # Functions
//!
//! The tables in [`process`], [`queue`] and [`handle`] give each function with its signature; the order of their
//! arguments is that of the signature's comment.

#![no_std]

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

/// The most handles that one message, or the arguments of one spawn, may carry.
pub const MESSAGE_HANDLES_MAX: usize = 1024;

/// The most handles that one call of `wait` may name.
pub const WAIT_MAX: usize = 4096;

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
    /// Its parameters, in order.
    pub params: &'static [ValueType],
    /// Its only result.
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
    /// The import module's name.
    pub const MODULE: &str = "sandpool_process";

    /// Flag of `fork` and `spawn`: the new process is daemonic.
    pub const DAEMON: u32 = 1;
    /// Flag of `fork` and `spawn`: the new process is not daemonic.
    pub const NOT_DAEMON: u32 = 2;

    imports! { sandpool_process:
        /// Forks the calling process: the child goes on in the same instance, with a copy-on-write copy of its
        /// memory. Returns 0 in the child and the child's handle in the parent. An empty name means the default,
        /// `Process-` and the child's identity. Flags: [`DAEMON`](super::DAEMON) or
        /// [`NOT_DAEMON`](super::NOT_DAEMON), which is the default. `PERM` if the caller is daemonic.
        /// Flush buffered output first.
        fork(name: I32, name_len: I32, flags: I32) -> I64;
        /// Starts a process with fresh memory, whose `_start` is called. It finds `payload` by `entry`, and holds
        /// the given handles (`handles` points at `handle_count` 64-bit values). Returns the child's handle.
        spawn(name: I32, name_len: I32, flags: I32, payload: I32, payload_len: I32, handles: I32, handle_count: I32) -> I64;
        /// Copies the payload that this process was spawned with into `buffer` (at most `capacity` bytes) and
        /// returns its whole length. `NOENT` in the main process, and in one that was forked.
        entry(buffer: I32, capacity: I32) -> I64;
        /// Copies the handles that this process was spawned with, 64 bits each, and returns how many there are.
        entry_handles(buffer: I32, capacity: I32) -> I64;
        /// The caller's own handle.
        current() -> I64;
        /// The parent's handle; 0 in the main process.
        parent() -> I64;
        /// Copies the handles of the caller's children that are alive, detached ones included, and returns how many
        /// there are.
        children(buffer: I32, capacity: I32) -> I64;
        /// Waits until the given child, or the caller's parent, has ended. 0, `TIMEDOUT` (also with
        /// [`NO_WAIT`](crate::NO_WAIT)), `CHILD`, or `BADF`, which is what the handle of a detached child becomes when
        /// it ends.
        join(process: I64, timeout: I64) -> I32;
        /// Waits until one of several processes (children or the parent) has ended. Writes one byte, 0 or 1, for
        /// each of the `count` handles to `ready`, and returns how many are ready: 0 when the time is over.
        wait(processes: I32, count: I32, timeout: I64, ready: I32) -> I64;
        /// Writes how a child ended, a [`Status`](super::Status), to `status`. `AGAIN` while it is alive.
        status(process: I64, status: I32) -> I32;
        /// Sends a child SIGTERM (15) or SIGKILL (9). A child that has ended already is no error.
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
        /// How many processors the caller may use.
        cpu_count() -> I32;
    }

    /// How a process ended: what `status` writes. 16 bytes, little-endian.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    #[repr(C)]
    pub struct Status {
        /// One of [`EXITED`], [`SIGNALED`], [`TRAPPED`], [`LIMITED`].
        pub kind: u32,
        /// The exit code, the signal, the [`Trap`] or the [`Limit`].
        pub detail: u32,
        /// Python's view: 0 to 255, or the negated signal; a trap counts as SIGABRT.
        pub exitcode: i32,
        /// Always 0.
        pub reserved: u32,
    }

    /// [`Status::kind`]: it returned, or called exit.
    pub const EXITED: u32 = 1;
    /// [`Status::kind`]: a signal killed it.
    pub const SIGNALED: u32 = 2;
    /// [`Status::kind`]: WebAssembly trapped.
    pub const TRAPPED: u32 = 3;
    /// [`Status::kind`]: it hit a limit.
    pub const LIMITED: u32 = 4;

    /// Which trap: [`Status::detail`] of [`TRAPPED`].
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    #[repr(u32)]
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

    /// Which limit: [`Status::detail`] of [`LIMITED`]. The exit code is that of a trap.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    #[repr(u32)]
    pub enum Limit {
        /// linear memory
        Memory = 1,
    }

    /// How a process ended, as a type.
    ///
    /// ```
    /// use sandpool_abi::process::{EXITED, ExitStatus, Trap};
    ///
    /// assert_eq!(ExitStatus::from_parts(EXITED, 3), Some(ExitStatus::Exited(3)));
    /// assert_eq!(ExitStatus::Exited(3).to_string(), "exited: 3");
    /// assert_eq!(ExitStatus::Signaled(15).to_string(), "killed: SIGTERM");
    /// assert_eq!(ExitStatus::Trapped(Trap::Unreachable).to_string(), "trapped: unreachable executed");
    /// ```
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    #[non_exhaustive]
    pub enum ExitStatus {
        /// It returned, or called exit. A panic is exit code 1.
        Exited(u8),
        /// A signal killed it.
        Signaled(i32),
        /// It did what WebAssembly doesn't allow.
        Trapped(Trap),
        /// It hit a limit that the host had set.
        Limited(Limit),
    }

    impl ExitStatus {
        /// What [`Status::kind`] and [`Status::detail`] say; `None` if that is no kind.
        #[must_use]
        pub fn from_parts(kind: u32, detail: u32) -> Option<Self> {
            Some(match kind {
                EXITED => Self::Exited((detail & 0xff) as u8),
                SIGNALED => Self::Signaled((detail & 0x7f) as i32),
                TRAPPED => Self::Trapped(Trap::from_code(detail)),
                LIMITED => Self::Limited(Limit::Memory),
                _ => return None,
            })
        }

        /// Whether it ended with exit code 0.
        #[must_use]
        pub fn success(self) -> bool {
            self == Self::Exited(0)
        }

        /// What a shell calls it, and `sandpool run` ends with: the exit code; 128 and the signal; 134 after a trap or
        /// at a limit.
        ///
        /// ```
        /// assert_eq!(sandpool_abi::process::ExitStatus::Signaled(9).shell_code(), 137);
        /// ```
        #[must_use]
        pub fn shell_code(self) -> u8 {
            match self {
                Self::Exited(code) => code,
                Self::Signaled(signal) => 128 | (signal & 0x7f) as u8,
                Self::Trapped(_) | Self::Limited(_) => 134,
            }
        }
    }

    impl core::fmt::Display for ExitStatus {
        fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            match self {
                Self::Exited(code) => write!(f, "exited: {code}"),
                Self::Signaled(signal) => write!(f, "killed: {}", Signal(*signal)),
                Self::Trapped(trap) => write!(f, "trapped: {}", trap.message()),
                Self::Limited(Limit::Memory) => f.write_str("at its limit: memory"),
            }
        }
    }

    /// A signal's number, shown by its name if it has one.
    ///
    /// ```
    /// use sandpool_abi::process::Signal;
    ///
    /// assert_eq!(Signal(9).to_string(), "SIGKILL");
    /// assert_eq!(Signal(40).to_string(), "signal 40");
    /// ```
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub struct Signal(pub i32);

    impl Signal {
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

    /// What `info` writes. 24 bytes, little-endian.
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
        /// 1 while it is alive.
        pub alive: u32,
    }
}

/// `sandpool_queue`: first in, first out, between any processes of a run.
pub mod queue {
    /// The import module's name.
    pub const MODULE: &str = "sandpool_queue";

    imports! { sandpool_queue:
        /// Makes a queue for at most `maxsize` items (0: as many as the arena holds) and returns its handle.
        create(maxsize: I64) -> I64;
        /// Puts one item: `item_len` bytes and `handle_count` handles, which the item holds until it is taken.
        /// 0, `AGAIN` (full, with [`NO_WAIT`](crate::NO_WAIT)), `TIMEDOUT`, `CLOSED`, or `MSGSIZE` (can never fit).
        put(queue: I64, item: I32, item_len: I32, handles: I32, handle_count: I32, timeout: I64) -> I32;
        /// Takes the oldest item and writes an [`Item`](super::Item) to `result`. An item of at most `capacity`
        /// bytes with no handles is copied to `buffer`. Any other is held for the caller, with
        /// `held` set in the result: `take` copies it.
        /// An item that is still held from a call before is dropped first.
        /// 0, `AGAIN` (empty, with [`NO_WAIT`](crate::NO_WAIT)), `TIMEDOUT`, or `CLOSED` (and drained).
        get(queue: I64, buffer: I32, capacity: I32, timeout: I64, result: I32) -> I32;
        /// Copies the item that `get` holds for the caller, bytes to `buffer` and handles to `handles`; each must
        /// have the room that `get` said, or it is `INVAL` and the item is still held. The caller then holds those
        /// handles. `NOENT` if no item is held.
        take(buffer: I32, capacity: I32, handles: I32, handle_capacity: I32) -> I32;
        /// How many items wait.
        qsize(queue: I64) -> I64;
        /// The `maxsize` it was made with; 0 when it has none.
        maxsize(queue: I64) -> I64;
        /// Closes the queue for everybody: a `put` fails from now on, a `get` once it is drained.
        close(queue: I64) -> I32;
    }

    /// What `get` writes. 16 bytes, little-endian.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    #[repr(C)]
    pub struct Item {
        /// Bytes of the item.
        pub len: u64,
        /// Handles that come with it.
        pub handle_count: u32,
        /// 1: the item is held, and `take` must follow.
        pub held: u32,
    }
}

/// `sandpool_handle`: the life of handles to objects of the arena.
pub mod handle {
    /// The import module's name.
    pub const MODULE: &str = "sandpool_handle";

    imports! { sandpool_handle:
        /// One more use of a handle by the caller, to be released one more time.
        retain(object: I64) -> I32;
        /// One use less. With the last one of the last process, the object is freed.
        release(object: I64) -> I32;
    }
}

/// Every import that the host provides, beside WASI preview 1.
pub fn imports() -> impl Iterator<Item = &'static Import> {
    process::IMPORTS.iter().chain(queue::IMPORTS).chain(handle::IMPORTS)
}

macro_rules! errno {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $message:literal;)*) => {
        /// Why a call failed. The numbers are Linux's where it has one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(i32)]
        pub enum Errno { $($(#[$doc])* $name = $value),* }

        impl Errno {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// What it means, as a fragment.
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
    /// Not allowed: a daemonic process may not start children.
    Perm = 1, "not permitted";
    /// A pointer or length outside of the guest's memory.
    Fault = 14, "bad address";
    /// The process is alive.
    Busy = 16, "still running";
    /// A bad flag, signal, or number.
    Inval = 22, "invalid argument";
    /// The object table is full.
    Nfile = 23, "too many objects";
    /// A name is longer than [`NAME_MAX`].
    Nametoolong = 36, "name too long";
    /// A message can't fit into the arena, ever.
    Msgsize = 90, "message too long for the arena";
    /// The time is over.
    Timedout = 110, "timed out";
    /// The object was closed.
    Closed = 108, "closed";
    /// The process table is full.
    Procs = 11001, "too many processes";
}

impl Errno {
    /// The error of this number.
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
pub const FINGERPRINT: u64 = fingerprint(
    fingerprint(fingerprint(0xcbf2_9ce4_8422_2325, process::IMPORTS), queue::IMPORTS),
    handle::IMPORTS,
);

const _: () = assert!(
    size_of::<process::Status>() == 16 && size_of::<process::Info>() == 24 && size_of::<queue::Item>() == 16,
    "a layout of the ABI has changed: compiled guests would read garbage, so raise ABI_VERSION first"
);
