//! The failures of everything but messages, which have their own in `queue` and `pipe`.

use std::fmt;

use sandpool_abi::Errno;

use crate::{DecodeError, EncodeError};

/// Why something about a process, the making of an object, or an access to shared memory failed.
///
/// ```no_run
/// use sandpool_guest::{Error, Process};
///
/// match Process::fork(|| println!("hello")) {
///     Ok(process) => drop(process),
///     Err(Error::TooManyProcesses) => eprintln!("later, then"),
///     Err(error) => eprintln!("error: {error}"),
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// A daemonic process may not start processes.
    DaemonicParent,
    /// The process table is full. There is room again once a process has ended and was joined.
    TooManyProcesses,
    /// The table of queues and other objects is full.
    TooManyObjects,
    /// The arena has no room.
    ArenaFull,
    /// The process was started by somebody else: only the creator may join it, signal it, or ask about it.
    NotAChild,
    /// The process is alive, so it can't be closed.
    StillRunning,
    /// A process's name is longer than 127 bytes.
    NameTooLong,
    /// The arguments of a spawned process, or so much shared memory, don't fit into the arena, ever.
    TooLarge,
    /// A process can only be spawned by a program with `#[sandpool_guest::main]`: without it, the new process would
    /// run `main` instead of the function.
    NoEntryPoint,
    /// The arguments of a spawned process can't be encoded.
    Encode(EncodeError),
    /// What a process was spawned with can't be decoded.
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
    /// An index or a range that isn't inside: Python's `IndexError`.
    OutOfBounds,
    /// It was attached to be read only.
    ReadOnly,
    /// A text or bytes need more room than their place in a list has: Python's `ValueError`.
    NoRoom,
    /// This process has no memory to map it to.
    OutOfMemory,
    /// A process can't be forked while this one has an array as a slice: the copy would have it as well.
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
            Self::TooManyProcesses => f.write_str("too many processes"),
            Self::TooManyObjects => f.write_str("too many objects"),
            Self::ArenaFull => f.write_str("the arena is full"),
            Self::NotAChild => f.write_str("not a child of this process"),
            Self::StillRunning => f.write_str("the process is still running: terminate or join it first"),
            Self::NameTooLong => write!(f, "the name is longer than {} bytes", sandpool_abi::NAME_MAX),
            Self::TooLarge => f.write_str("it doesn't fit into the arena"),
            Self::NoEntryPoint => f.write_str(
                "spawn needs #[sandpool_guest::main] on main; a task of an application's pool can only fork",
            ),
            Self::OwnerDied => Errno::Ownerdead.fmt(f),
            Self::NameTaken => Errno::Exist.fmt(f),
            Self::NotFound => f.write_str("no shared memory has this name"),
            Self::NoSize => f.write_str("shared memory has at least one byte"),
            Self::OutOfBounds => f.write_str("index out of range"),
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
