//! The error of a program, which every other error of this crate converts into.

use std::fmt;

use sandpool_abi::Errno;
use sandpool_abi::process::Limit;

use crate::limits::{self, LimitRefusal};

/// The reason why an operation on a process, the creation of an object, or an access to shared memory failed. All other
/// errors of this crate convert into it, so that `?` works in a function that returns it.
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
///
/// `Debug` writes the text that `Display` writes: a program whose `main` returns the error prints that.
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
    /// The error of an operation that has an error of its own, such as [`PutError`](crate::queue::PutError), or of another
    /// crate. `?` makes it of each error of this crate, of [`std::io::Error`], and of the errors of numbers and UTF-8 in `std`;
    /// [`other`](Self::other) makes it of all others, and `downcast_ref` returns what it was.
    Other(Box<dyn std::error::Error + Send + Sync>),
}

/// Lets `?` turn the errors of operations into [`Error::Other`]. Their modules know [`Error`], which knows none of them.
macro_rules! into_error {
    ($($error:ty),+ $(,)?) => {
        $(impl From<$error> for $crate::Error {
            fn from(error: $error) -> Self {
                Self::other(error)
            }
        })+
    };
}
pub(crate) use into_error;

into_error!(
    std::io::Error,
    std::num::ParseFloatError,
    std::num::ParseIntError,
    std::num::TryFromIntError,
    std::str::Utf8Error,
    std::string::FromUtf8Error,
);

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
    /// Wraps an error of another crate, or a text, as [`std::io::Error::other`] does.
    ///
    /// ```no_run
    /// use sandpool_guest::{Error, Queue};
    /// use sandpool_guest::queue::PutError;
    ///
    /// fn puts(queue: &Queue<u32>, number: &str) -> Result<(), Error> {
    ///     if number.is_empty() {
    ///         return Err(Error::other("there is no number"));
    ///     }
    ///     queue.put(&number.parse()?)?;
    ///     Ok(())
    /// }
    ///
    /// let queue = Queue::new()?;
    /// queue.close();
    /// let Err(Error::Other(error)) = puts(&queue, "7") else { unreachable!() };
    /// assert!(matches!(error.downcast_ref(), Some(PutError::Closed)));
    /// # Ok::<(), Error>(())
    /// ```
    #[must_use]
    pub fn other(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Other(error.into())
    }

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
            Self::TooManyProcesses => LimitRefusal("too many processes", self.limit()).fmt(f),
            Self::TooManyObjects => LimitRefusal("too many objects", self.limit()).fmt(f),
            Self::ArenaFull => LimitRefusal("the arena is full", self.limit()).fmt(f),
            Self::TooMuchMemory => LimitRefusal("too much memory", self.limit()).fmt(f),
            Self::System => Errno::System.fmt(f),
            Self::NotAChild => f.write_str("not a child of this process"),
            Self::StillRunning => f.write_str("the process is still running: terminate or join it first"),
            Self::NameTooLong => write!(f, "the name is longer than {} bytes", sandpool_abi::NAME_MAX),
            Self::TooLarge => LimitRefusal("it doesn't fit into the arena", self.limit()).fmt(f),
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
            Self::Other(error) => error.fmt(f),
        }
    }
}

// A program prints the error of its `main` by `Debug`, and a person reads it.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

// No `source`: the variants that wrap an error say the same as the wrapped one.
impl std::error::Error for Error {}

/// A value that can't be encoded, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
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
#[derive(Debug, Clone, PartialEq, Eq)]
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;
    use crate::manager::{CallError, StartError};
    use crate::pool::{PoolError, TaskError};
    use crate::queue::{GetError, GetManyError, PutError};
    use crate::sync::{AcquireError, BarrierError};

    fn converted<T: std::error::Error + 'static>(error: impl Into<Error>) -> T {
        let Error::Other(error) = error.into() else { panic!("it is another variant") };
        *error.downcast().unwrap_or_else(|other| panic!("it has become {other:?}"))
    }

    #[test]
    fn a_person_reads_what_main_returns() {
        assert_eq!(format!("{:?}", Error::TooLarge), Error::TooLarge.to_string());
        assert_eq!(format!("{:?}", Error::from(PutError::Closed)), PutError::Closed.to_string());
    }

    #[test]
    fn an_operations_error_is_kept_whole() {
        assert!(matches!(converted(PutError::Full), PutError::Full));
        assert!(matches!(converted(GetManyError::<u8>::Nothing(GetError::Closed)), GetError::Closed));
        let items = vec![Ok(1), Err(GetError::OutOfMemory), Err(GetError::Empty)];
        assert!(matches!(converted(GetManyError::Items(items)), GetError::OutOfMemory));
        assert_eq!(
            converted::<BarrierError<String>>(BarrierError::Action("no".to_owned())).to_string(),
            "no"
        );
        let code = converted::<std::io::Error>(std::io::Error::from_raw_os_error(8)).raw_os_error();
        assert_eq!(code, Some(8));
    }

    #[test]
    fn an_error_of_a_number_or_a_text_is_kept_whole() {
        use std::num::{IntErrorKind, ParseFloatError, ParseIntError, TryFromIntError};

        fn number<N: TryFrom<u64, Error = TryFromIntError>>(text: &str) -> Result<N, Error> {
            Ok(text.parse::<u64>()?.try_into()?)
        }
        assert!(matches!(number::<u8>("255"), Ok(255)));
        let missing = converted::<ParseIntError>(number::<u8>("").unwrap_err());
        assert_eq!(*missing.kind(), IntErrorKind::Empty);
        converted::<TryFromIntError>(number::<u8>("256").unwrap_err());
        converted::<ParseFloatError>("one".parse::<f64>().unwrap_err());
        let bytes = b"a\xff".to_vec();
        let valid = std::str::from_utf8(&bytes).map_err(Error::from).unwrap_err();
        assert_eq!(converted::<std::str::Utf8Error>(valid).valid_up_to(), 1);
        let owned = converted::<std::string::FromUtf8Error>(String::from_utf8(bytes).unwrap_err());
        assert_eq!(owned.into_bytes(), b"a\xff");
    }

    #[test]
    fn a_guard_within_an_error_isnt_kept() {
        struct Guard<'a>(&'a std::cell::Cell<bool>);
        impl Drop for Guard<'_> {
            fn drop(&mut self) {
                self.0.set(true);
            }
        }
        let dropped = std::cell::Cell::new(false);
        let error = Error::from(AcquireError::OwnerDied(Guard(&dropped)));
        assert!(matches!(error, Error::OwnerDied) && dropped.get());
        let error = converted::<AcquireError>(AcquireError::<Guard<'_>>::TimedOut);
        assert!(matches!(error, AcquireError::TimedOut));
    }

    #[test]
    fn an_error_within_an_error_comes_out_once() {
        assert!(matches!(PoolError::Start(Error::NotFound).into(), Error::NotFound));
        assert!(matches!(CallError::Process(Error::NotFound).into(), Error::NotFound));
        assert!(matches!(StartError::Process(Error::NotFound).into(), Error::NotFound));
        assert!(matches!(converted(PoolError::NotRunning), PoolError::NotRunning));
    }

    #[test]
    fn each_error_crosses_threads() {
        fn crosses<T: Send + Sync + 'static>() {}
        crosses::<Error>();
        crosses::<TaskError>();
        crosses::<PoolError>();
    }
}
