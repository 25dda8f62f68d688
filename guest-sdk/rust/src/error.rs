//! The errors of everything except sending and receiving, which have errors of their own in `queue` and `pipe`.

use std::fmt;

use sandpool_abi::Errno;
use sandpool_abi::process::Limit;

use crate::limits::{self, Refusal};

/// The reason why an operation on a process, the creation of an object, or an access to shared memory failed.
///
/// If a limit causes the error, [`limit`](Self::limit) and the error's text name the limit and its value.
///
/// ```no_run
/// use sandpool_guest::{Error, Process};
///
/// match Process::fork(|| println!("hello")) {
///     Ok(process) => drop(process),
///     Err(error @ Error::TooManyProcesses) => eprintln!("later, then: the limit is {:?}", error.limit()),
///     Err(error) => eprintln!("error: {error}"),
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A daemonic process may not start processes, unless it is a worker of a pool.
    DaemonicParent,
    /// The run has reached its maximum number of processes. There is room again once a process has ended and was
    /// joined.
    TooManyProcesses,
    /// The run has reached its maximum number of queues and other objects.
    TooManyObjects,
    /// The arena has no room.
    ArenaFull,
    /// All processes of the run together have reached their maximum memory, or would exceed it with the process that was
    /// to be forked.
    TooMuchMemory,
    /// The operating system has no room for another process.
    System,
    /// The process was started by another process: only the creator may join the process, signal it, or ask about it.
    NotAChild,
    /// The process is alive, so it can't be closed.
    StillRunning,
    /// A process's name is longer than 127 bytes.
    NameTooLong,
    /// The arguments of a spawned process, or shared memory of the requested size, can never fit into the arena.
    TooLarge,
    /// A process can only be spawned by a program with `#[sandpool_guest::main]`: without it, the new process would
    /// run `main` instead of the function.
    NoEntryPoint,
    /// The arguments of a spawned process can't be encoded.
    Encode(EncodeError),
    /// The function and the arguments that a process was spawned with can't be decoded.
    Decode(DecodeError),
    /// The process that held the lock has ended without releasing it, so what the lock guards may be half changed. This
    /// is reported once: the lock is free again.
    OwnerDied,
    /// Shared memory of this name exists already: Python's `FileExistsError`.
    NameTaken,
    /// No shared memory has this name: Python's `FileNotFoundError`.
    NotFound,
    /// Shared memory has at least one byte.
    NoSize,
    /// An index or a range lies outside of the object: Python's `IndexError`.
    OutOfBounds,
    /// The memory was attached to be read only.
    ReadOnly,
    /// A number is outside of the permitted range; the text names the range: Python's `ValueError`.
    OutOfRange(&'static str),
    /// A text or bytes need more room than their place in the list has: Python's `ValueError`.
    NoRoom,
    /// This process has no memory into which the object could be mapped.
    OutOfMemory,
    /// A process can't be forked while the forking process holds an array as a slice: the copy would have the slice
    /// as well.
    ArrayBorrowed,
    /// Anything else that the host reported.
    Host(Errno),
}

impl From<Errno> for Error {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::Perm => Self::DaemonicParent,
            Errno::Procs => Self::TooManyProcesses,
            Errno::Nfile => Self::TooManyObjects,
            Errno::Nomem => Self::ArenaFull,
            Errno::Runmem => Self::TooMuchMemory,
            Errno::System => Self::System,
            Errno::Child => Self::NotAChild,
            Errno::Busy => Self::StillRunning,
            Errno::Nametoolong => Self::NameTooLong,
            Errno::Msgsize => Self::TooLarge,
            Errno::Ownerdead => Self::OwnerDied,
            Errno::Exist => Self::NameTaken,
            Errno::Noent => Self::NotFound,
            other => Self::Host(other),
        }
    }
}

impl Error {
    /// Returns the limit that caused the error, and its value.
    ///
    /// ```no_run
    /// use sandpool_guest::Process;
    /// use sandpool_guest::process::Limit;
    ///
    /// if let Err(error) = Process::fork(|| ())
    ///     && let Some(Limit::Processes(most)) = error.limit()
    /// {
    ///     eprintln!("more than {most} processes would be too many");
    /// }
    /// ```
    #[must_use]
    pub fn limit(&self) -> Option<Limit> {
        match self {
            Self::TooManyProcesses => limits::of(Limit::Processes),
            Self::TooManyObjects => limits::of(Limit::Objects),
            Self::ArenaFull | Self::TooLarge => limits::of(Limit::Arena),
            Self::TooMuchMemory => limits::of(Limit::RunMemory),
            _ => None,
        }
    }
}

impl From<EncodeError> for Error {
    fn from(error: EncodeError) -> Self {
        Self::Encode(error)
    }
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        Self::Decode(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DaemonicParent => f.write_str("daemonic processes are not allowed to have children"),
            Self::TooManyProcesses => Refusal("too many processes", self.limit()).fmt(f),
            Self::TooManyObjects => Refusal("too many objects", self.limit()).fmt(f),
            Self::ArenaFull => Refusal("the arena is full", self.limit()).fmt(f),
            Self::TooMuchMemory => Refusal("too much memory", self.limit()).fmt(f),
            Self::System => Errno::System.fmt(f),
            Self::NotAChild => f.write_str("not a child of this process"),
            Self::StillRunning => f.write_str("the process is still running: terminate or join it first"),
            Self::NameTooLong => write!(f, "the name is longer than {} bytes", sandpool_abi::NAME_MAX),
            Self::TooLarge => Refusal("it doesn't fit into the arena", self.limit()).fmt(f),
            Self::NoEntryPoint => f.write_str(
                "spawn needs #[sandpool_guest::main] on main; a task of an application's pool can only fork",
            ),
            Self::OwnerDied => Errno::Ownerdead.fmt(f),
            Self::NameTaken => Errno::Exist.fmt(f),
            Self::NotFound => f.write_str("no shared memory has this name"),
            Self::NoSize => f.write_str("shared memory has at least one byte"),
            Self::OutOfBounds => f.write_str("index out of range"),
            Self::OutOfRange(range) => f.write_str(range),
            Self::ReadOnly => f.write_str("the shared memory was attached to be read only"),
            Self::NoRoom => f.write_str("the item exceeds the available storage"),
            Self::OutOfMemory => f.write_str("not enough memory to map it"),
            Self::ArrayBorrowed => f.write_str("an array is borrowed: drop its guard before a fork"),
            Self::Encode(error) => error.fmt(f),
            Self::Decode(error) => error.fmt(f),
            Self::Host(errno) => errno.fmt(f),
        }
    }
}

// No `source`: the variants that wrap an error say the same as the wrapped one.
impl std::error::Error for Error {}

/// A value that can't be encoded, and why.
#[derive(Debug, Clone)]
pub struct EncodeError(String);

impl EncodeError {
    pub(crate) fn new(reason: impl fmt::Display) -> Self {
        Self(reason.to_string())
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the value can't be encoded: {}", self.0)
    }
}

impl EncodeError {
    /// Returns the reason, as a fragment of a sentence.
    pub(crate) fn into_reason(self) -> String {
        self.0
    }
}

impl std::error::Error for EncodeError {}

/// Bytes that aren't an encoded value of the type that was asked for, and why.
#[derive(Debug)]
pub struct DecodeError(String);

impl DecodeError {
    pub(crate) fn new(reason: impl fmt::Display) -> Self {
        Self(reason.to_string())
    }

    /// The error for a value that lacks at least this number of bytes.
    #[cold]
    pub(crate) fn missing(bytes: usize) -> Self {
        Self::new(format_args!("{bytes} bytes are missing"))
    }

    /// The error for bytes that don't belong to the value.
    #[cold]
    pub(crate) fn left(bytes: usize, all: usize) -> Self {
        Self::new(format_args!("{bytes} bytes of {all} are left"))
    }

    /// Returns the reason, as a fragment of a sentence.
    pub(crate) fn into_reason(self) -> String {
        self.0
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the item isn't of the type that was asked for: {}", self.0)
    }
}

impl std::error::Error for DecodeError {}
