//! The reasons why something wasn't acquired, or not released.

use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use sandpool_abi::{Errno, FOREVER, NO_WAIT};

use crate::Error;
use crate::deadline::nanoseconds;
use crate::error::into_error;

/// How long a caller is ready to wait.
#[derive(Clone, Copy)]
pub(super) enum Patience {
    Endless,
    Limited(Duration),
    None,
}

impl Patience {
    #[inline]
    pub(super) fn timeout(self) -> u64 {
        match self {
            Self::Endless => FOREVER,
            Self::Limited(duration) => nanoseconds(duration),
            Self::None => NO_WAIT,
        }
    }
}

/// The reason why something wasn't acquired; or that it was, but from a process that has ended.
///
/// ```no_run
/// use sandpool_guest::Lock;
/// use sandpool_guest::sync::AcquireError;
///
/// let lock = Lock::new()?;
/// match lock.try_acquire() {
///     Ok(_guard) => println!("acquired"),
///     Err(AcquireError::WouldBlock) => println!("somebody else has it"),
///     Err(AcquireError::OwnerDied(_guard)) => println!("acquired, but what it guards may be half changed"),
///     Err(other) => return Err(other.into()),
/// }
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// `G` is the guard that comes with [`OwnerDied`](Self::OwnerDied). An operation that can't fail like that has no
/// guard here.
#[derive(Debug)]
#[non_exhaustive]
pub enum AcquireError<G = Infallible> {
    /// The call would have to wait: Python's `False` from `acquire(block=False)`.
    WouldBlock,
    /// The time is over: Python's `False` from `acquire(timeout=…)`.
    TimedOut,
    /// The lock **is** acquired, and this is the guard. The process that held the lock has ended and didn't release
    /// it, so the data that it guards may be half changed. This is reported once: the next process that acquires the
    /// lock isn't told.
    OwnerDied(G),
    /// Anything else that the host reported.
    Host(Errno),
}

impl<G> AcquireError<G> {
    /// Returns the guard of [`OwnerDied`](Self::OwnerDied), for callers that accept half changed data; any other
    /// error stays an error.
    ///
    /// ```no_run
    /// use sandpool_guest::Lock;
    /// use sandpool_guest::sync::AcquireError;
    ///
    /// let lock = Lock::new()?;
    /// // All that it guards are whole lines, so nothing is ever half changed.
    /// let guard = lock.acquire().or_else(AcquireError::into_inner)?;
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// The error itself, if no guard comes with it.
    pub fn into_inner(self) -> Result<G, Self> {
        match self {
            Self::OwnerDied(guard) => Ok(guard),
            other => Err(other),
        }
    }

    pub(super) fn new(errno: Errno, patience: Patience) -> Self {
        match (errno, patience) {
            (Errno::Again | Errno::Timedout, Patience::None) => Self::WouldBlock,
            // A timeout of zero is over at once.
            (Errno::Again | Errno::Timedout, _) => Self::TimedOut,
            (other, _) => Self::Host(other),
        }
    }

    pub(super) fn map<H>(self, wrap: impl FnOnce(G) -> H) -> AcquireError<H> {
        match self {
            Self::WouldBlock => AcquireError::WouldBlock,
            Self::TimedOut => AcquireError::TimedOut,
            Self::OwnerDied(guard) => AcquireError::OwnerDied(wrap(guard)),
            Self::Host(errno) => AcquireError::Host(errno),
        }
    }
}

impl<G> fmt::Display for AcquireError<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WouldBlock => f.write_str("it would have to wait"),
            Self::TimedOut => f.write_str("it wasn't free in time"),
            Self::OwnerDied(_) => Errno::Ownerdead.fmt(f),
            Self::Host(errno) => errno.fmt(f),
        }
    }
}

// No `source`, here and below: the variants that wrap an error say the same as the wrapped one.
impl<G: fmt::Debug> std::error::Error for AcquireError<G> {}

/// A guard of what a dead process held is dropped: what it guards is free again.
impl<G> From<AcquireError<G>> for Error {
    fn from(error: AcquireError<G>) -> Self {
        match error {
            AcquireError::OwnerDied(_) => Self::OwnerDied,
            AcquireError::WouldBlock => Self::other(AcquireError::<Infallible>::WouldBlock),
            AcquireError::TimedOut => Self::other(AcquireError::<Infallible>::TimedOut),
            AcquireError::Host(errno) => Self::Host(errno),
        }
    }
}

into_error!(ReleaseError);

/// The reason why something wasn't released.
///
/// ```no_run
/// use sandpool_guest::{BoundedSemaphore, Lock};
/// use sandpool_guest::sync::ReleaseError;
///
/// assert_eq!(Lock::new()?.release(), Err(ReleaseError::TooManyTimes));
/// assert_eq!(BoundedSemaphore::new(3)?.release(), Err(ReleaseError::TooManyTimes));
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReleaseError {
    /// Nobody holds the lock, or the semaphore would have more units than permitted: Python's `ValueError`.
    TooManyTimes,
    /// Another process holds the lock, or has acquired the lock or unit that the guard stands for: Python's
    /// `AssertionError`.
    NotOwner,
    /// Anything else that the host reported.
    Host(Errno),
}

impl From<Errno> for ReleaseError {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::Overflow => Self::TooManyTimes,
            Errno::Perm => Self::NotOwner,
            other => Self::Host(other),
        }
    }
}

impl fmt::Display for ReleaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyTimes => f.write_str("released too many times"),
            Self::NotOwner => f.write_str("it is another process's to release"),
            Self::Host(errno) => errno.fmt(f),
        }
    }
}

impl std::error::Error for ReleaseError {}
