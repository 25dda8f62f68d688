//! A queue that tracks which items are done.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use sandpool_abi::queue::JOINABLE;
use sandpool_abi::{Errno, FOREVER, NO_WAIT};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::deadline::nanoseconds;
use crate::error::into_error;
use crate::object::{Object, Role};
use crate::queue::{GetError, Iter};
use crate::{Error, Queue, raw, wait};

/// A [`Queue`] that also knows which items are done, so that a process can wait until all are done.
///
/// ```no_run
/// use sandpool_guest::{JoinableQueue, Process};
///
/// let jobs = JoinableQueue::<u64>::new()?;
/// for _ in 0..4 {
///     Process::builder().daemon().fork(|| -> Result<(), sandpool_guest::Error> {
///         for job in &jobs {
///             println!("{}", job? * 2);
///             jobs.task_done()?;
///         }
///         Ok(())
///     })?;
/// }
/// for job in 1..=100 {
///     jobs.put(&job)?;
/// }
/// jobs.join()?;
/// println!("all are done");
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// A `JoinableQueue` has all methods of a [`Queue`], through [`Deref`]. For each item that a consumer takes, the
/// consumer calls [`task_done`](Self::task_done) once it is done with the item.
///
/// When a consumer dies, the items that it had taken and not yet called `task_done` for are lost. [`join`](Self::join)
/// doesn't wait for lost items: it reports them.
#[doc(alias = "multiprocessing.JoinableQueue")]
pub struct JoinableQueue<T>(Queue<T>);

impl<T> JoinableQueue<T> {
    /// Makes a queue for as many items as the arena holds.
    ///
    /// # Errors
    /// [`Error::TooManyObjects`], [`Error::ArenaFull`].
    pub fn new() -> Result<Self, Error> {
        Self::bounded(0)
    }

    /// Makes a queue for at most `maxsize` waiting items; 0 means no bound.
    ///
    /// # Errors
    /// [`Error::TooManyObjects`], [`Error::ArenaFull`].
    pub fn bounded(maxsize: usize) -> Result<Self, Error> {
        Queue::create(maxsize, JOINABLE).map(Self)
    }

    /// Reports that an item which was taken is done. Any process may report this.
    ///
    /// # Errors
    /// [`TaskDoneError::TooMany`] if each item that was put is done already.
    pub fn task_done(&self) -> Result<(), TaskDoneError> {
        raw::queue::task_done(self.0.handle()).map_err(|errno| match errno {
            Errno::Overflow => TaskDoneError::TooMany,
            other => TaskDoneError::Host(other),
        })
    }

    /// Waits until each item that was put is done, or was lost.
    ///
    /// # Errors
    /// [`JoinError::Lost`] if items were lost and all others are done.
    pub fn join(&self) -> Result<(), JoinError> {
        self.join_within(FOREVER)
    }

    /// Waits until each item that was put is done, or was lost, but not for longer than `timeout`.
    ///
    /// # Errors
    /// [`JoinError::TimedOut`] when the time is over; [`JoinError::Lost`] if items were lost and all others are done.
    pub fn join_timeout(&self, timeout: Duration) -> Result<(), JoinError> {
        self.join_within(nanoseconds(timeout))
    }

    /// Checks, without waiting, whether each item that was put is done, or was lost.
    ///
    /// # Errors
    /// [`JoinError::TimedOut`] if not; [`JoinError::Lost`] if items were lost and all others are done.
    pub fn try_join(&self) -> Result<(), JoinError> {
        self.join_within(NO_WAIT)
    }

    fn join_within(&self, timeout: u64) -> Result<(), JoinError> {
        match raw::queue::join(self.0.handle(), timeout) {
            Ok(0) => Ok(()),
            Ok(lost) => Err(JoinError::Lost(lost)),
            Err(Errno::Again | Errno::Timedout) => Err(JoinError::TimedOut),
            Err(other) => Err(JoinError::Host(other)),
        }
    }
}

impl<T> Deref for JoinableQueue<T> {
    type Target = Queue<T>;

    fn deref(&self) -> &Queue<T> {
        &self.0
    }
}

/// A clone is the same queue.
impl<T> Clone for JoinableQueue<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> fmt::Debug for JoinableQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinableQueue({:#x})", self.0.handle())
    }
}

/// Whether they are the same queue.
impl<T> PartialEq for JoinableQueue<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T> Eq for JoinableQueue<T> {}

/// Puts the queue into a message, or the arguments of a spawned process: any other serializer gets an error.
impl<T> Serialize for JoinableQueue<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// Takes the queue out of a message, or of the arguments of a spawned process: any other deserializer gets an error.
impl<'de, T> Deserialize<'de> for JoinableQueue<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(Queue::from_object(Object::deserialize(&Role::JOINABLE_QUEUE, deserializer)?)))
    }
}

impl<'a, T: DeserializeOwned> IntoIterator for &'a JoinableQueue<T> {
    type Item = Result<T, GetError>;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

/// Ready when the queue has an item, or is closed.
impl<T> wait::Waitable for JoinableQueue<T> {}

impl<T> wait::Handle for JoinableQueue<T> {
    fn handle(&self) -> u64 {
        self.0.handle()
    }
}

/// The reason why an item wasn't counted as done.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TaskDoneError {
    /// Each item that was put is done already: Python's `ValueError`.
    TooMany,
    /// Anything else that the host reported.
    Host(Errno),
}

impl fmt::Display for TaskDoneError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany => f.write_str("task_done() called too many times"),
            Self::Host(errno) => errno.fmt(f),
        }
    }
}

impl std::error::Error for TaskDoneError {}

into_error!(TaskDoneError, JoinError);

/// The reason why not all items are done.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum JoinError {
    /// The time is over.
    TimedOut,
    /// Nothing is left to wait for, but this number of items, since the queue was made, were taken by processes that
    /// died before they were done with them.
    Lost(usize),
    /// Anything else that the host reported.
    Host(Errno),
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("not all items are done with"),
            Self::Lost(1) => f.write_str("one item was lost with the process that had taken it"),
            Self::Lost(lost) => write!(f, "{lost} items were lost with the processes that had taken them"),
            Self::Host(errno) => errno.fmt(f),
        }
    }
}

impl std::error::Error for JoinError {}
