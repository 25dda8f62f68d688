//! Why an item wasn't put or taken.

use std::fmt;

use sandpool_abi::Errno;
use sandpool_abi::process::Limit;

use crate::error::into_error;
use crate::limits::{self, LimitRefusal};
use crate::{DecodeError, EncodeError, Error};

/// The reason why an item wasn't put. The queue is unchanged.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PutError {
    /// There is no room: Python's `queue.Full`.
    Full,
    /// The queue is closed.
    Closed,
    /// The item can never fit into the arena.
    TooLarge,
    /// The item can't be encoded.
    Encode(EncodeError),
    /// Anything else that the host reported.
    Host(Errno),
}

impl PutError {
    pub(super) fn from_errno(errno: Errno) -> Self {
        match errno {
            Errno::Again | Errno::Timedout => Self::Full,
            Errno::Closed => Self::Closed,
            Errno::Msgsize => Self::TooLarge,
            other => Self::Host(other),
        }
    }

    /// Returns the limit that caused the error, and its value.
    #[must_use]
    pub fn limit(&self) -> Option<Limit> {
        match self {
            Self::TooLarge => limits::of(Limit::Arena),
            _ => None,
        }
    }
}

impl fmt::Display for PutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("the queue is full"),
            Self::Closed => f.write_str("the queue is closed"),
            Self::TooLarge => LimitRefusal("the item doesn't fit into the arena", self.limit()).fmt(f),
            Self::Encode(error) => error.fmt(f),
            Self::Host(errno) => errno.fmt(f),
        }
    }
}

// No `source`, here and below: the variants that wrap an error say the same as the wrapped one.
impl std::error::Error for PutError {}

/// The reason why not all of several items were put.
#[derive(Debug)]
#[non_exhaustive]
pub struct PutManyError {
    /// The number of items, from the first on, that were put nevertheless.
    pub put: usize,
    /// The reason why the next item wasn't put.
    pub error: PutError,
}

impl fmt::Display for PutManyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl std::error::Error for PutManyError {}

into_error!(PutError, PutManyError, GetError);

/// The first error.
impl<T> From<GetManyError<T>> for Error {
    fn from(error: GetManyError<T>) -> Self {
        match error {
            GetManyError::Nothing(error) => error.into(),
            GetManyError::Items(results) => match results.into_iter().find_map(Result::err) {
                Some(error) => error.into(),
                None => Self::Host(Errno::Inval),
            },
        }
    }
}

/// The reason why no item was returned.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum GetError {
    /// The queue has no item: Python's `queue.Empty`.
    Empty,
    /// The queue is closed, and all its items were taken.
    Closed,
    /// The item was taken, but isn't of the queue's type.
    Decode(DecodeError),
    /// The item was taken, but this process has no memory for it. The item is lost when the next item is taken.
    OutOfMemory,
    /// Anything else that the host reported.
    Host(Errno),
}

impl GetError {
    /// Whether the error means that an item was taken, and is lost.
    pub(super) fn is_of_an_item(&self) -> bool {
        matches!(self, Self::Decode(_) | Self::OutOfMemory)
    }

    pub(super) fn from_errno(errno: Errno) -> Self {
        match errno {
            Errno::Again | Errno::Timedout => Self::Empty,
            Errno::Closed => Self::Closed,
            other => Self::Host(other),
        }
    }
}

impl fmt::Display for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("the queue is empty"),
            Self::Closed => f.write_str("the queue is closed"),
            Self::Decode(error) => error.fmt(f),
            Self::OutOfMemory => f.write_str("not enough memory for the item"),
            Self::Host(errno) => errno.fmt(f),
        }
    }
}

impl std::error::Error for GetError {}

/// The reason why several items weren't returned as usual.
///
/// ```no_run
/// use sandpool_guest::JoinableQueue;
/// use sandpool_guest::queue::GetManyError;
///
/// let jobs = JoinableQueue::<String>::new()?;
/// match jobs.get_many(100) {
///     Ok(all) => {
///         for job in all {
///             println!("{job}");
///             jobs.task_done()?;
///         }
///     }
///     // Each that was taken, in order.
///     Err(GetManyError::Items(results)) => {
///         for result in results {
///             match result {
///                 Ok(job) => println!("{job}"),
///                 Err(error) => eprintln!("one is no text: {error}"),
///             }
///             jobs.task_done()?;
///         }
///     }
///     Err(nothing) => eprintln!("none: {nothing}"),
/// }
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
#[non_exhaustive]
pub enum GetManyError<T> {
    /// No item was taken, for this reason.
    Nothing(GetError),
    /// Items were taken, but some of them can't be decoded, or there is no memory for them: one result for each, in the
    /// order of the queue. None of the items is in the queue any more. At least one result is an error.
    Items(Vec<Result<T, GetError>>),
}

impl<T> GetManyError<T> {
    /// The first error.
    fn first(&self) -> Option<&GetError> {
        match self {
            Self::Nothing(error) => Some(error),
            Self::Items(results) => results.iter().find_map(|result| result.as_ref().err()),
        }
    }
}

impl<T> fmt::Debug for GetManyError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing(error) => f.debug_tuple("Nothing").field(error).finish(),
            Self::Items(results) => {
                let results = results.iter().map(|result| result.as_ref().map(|_| ".."));
                f.write_str("Items")?;
                f.debug_list().entries(results).finish()
            }
        }
    }
}

/// The first error.
impl<T> fmt::Display for GetManyError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first() {
            Some(error) => error.fmt(f),
            None => Ok(()),
        }
    }
}

impl<T> std::error::Error for GetManyError<T> {}
