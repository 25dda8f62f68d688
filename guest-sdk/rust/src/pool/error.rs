//! The errors of tasks and of pools.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sandpool_abi::process::ExitStatus;

use crate::error::into_error;
use crate::limits::{self, LimitRefusal};
use crate::process::Limit;
use crate::{EncodeError, Error};

/// The reason why a task has no result. No other task is affected.
///
/// ```no_run
/// use sandpool_guest::Pool;
/// use sandpool_guest::pool::Cause;
///
/// let pool = Pool::new()?;
/// let result = pool.apply_async(|n: u32| 10 / n, 0)?;
/// match result.get() {
///     Ok(quotient) => println!("{quotient}"),
///     Err(error) => match error.cause() {
///         Cause::Panicked(message) => println!("it panicked: {message}"),
///         Cause::Ended(status) => println!("its worker ended: {status}\n{}", error.stderr()),
///         _ => println!("{error}"),
///     },
/// }
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct TaskError(Box<Details>);

/// Boxed, so that a result without an error is small.
#[derive(Debug, Clone)]
struct Details {
    index: usize,
    worker: Option<(Arc<str>, u32)>,
    cause: Cause,
    stderr: String,
}

impl TaskError {
    pub(super) fn new(index: usize, worker: Option<(Arc<str>, u32)>, cause: Cause) -> Self {
        Self(Box::new(Details { index, worker, cause, stderr: String::new() }))
    }

    pub(super) fn with_stderr(mut self, stderr: String) -> Self {
        self.0.stderr = stderr;
        self
    }

    /// The cause of the failure.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.0.cause
    }

    /// The index of the task among those that were given at once, from 0 on.
    #[must_use]
    pub fn index(&self) -> usize {
        self.0.index
    }

    /// The name of the worker that had the task last; `None` if no worker had begun it.
    #[must_use]
    pub fn worker(&self) -> Option<&str> {
        self.0.worker.as_ref().map(|(name, _)| &**name)
    }

    /// The process id of that worker.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.0.worker.as_ref().map(|(_, pid)| *pid)
    }

    /// The last part of the text that the task has written to stderr, 4096 bytes at most, if the task's worker ended in
    /// it; with the message of the panic, trap or limit that ended the worker. The text is on the run's stderr as well,
    /// so `Display` leaves it out.
    #[must_use]
    pub fn stderr(&self) -> &str {
        &self.0.stderr
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task {}: {}", self.0.index, self.0.cause)?;
        match &self.0.worker {
            Some((name, pid)) => write!(f, " ({name}, pid {pid})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for TaskError {}

/// The cause of a task's failure.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The task panicked, with this message.
    Panicked(String),
    /// The task's worker ended in it: it called exit, trapped, hit a limit or was killed.
    Ended(ExitStatus),
    /// The task took longer than this, and was killed.
    TimedOut(Duration),
    /// The fate of the task, and of the tasks after it, isn't known: all tasks together [were to
    /// take](crate::pool::IMap::within) no longer than this.
    OutOfTime(Duration),
    /// The task's result, or its arguments, can't be encoded, for this reason.
    Encode(String),
    /// The task's arguments, or its result, can't be decoded, for this reason.
    Decode(String),
    /// The task's result, or its arguments, can never fit into the arena.
    TooLarge,
    /// The task was cancelled before it began.
    Cancelled,
    /// The pool was ended before the task was done.
    Pool(PoolEnd),
    /// This process isn't the one that made the pool.
    NotOwner,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Panicked(message) => write!(f, "panicked: {message}"),
            Self::Ended(status) => status.fmt(f),
            Self::TimedOut(timeout) => write!(f, "timed out after {timeout:?}"),
            Self::OutOfTime(total) => write!(f, "not done within {total:?}, which all tasks had"),
            Self::Encode(why) | Self::Decode(why) => f.write_str(why),
            Self::TooLarge => LimitRefusal("it doesn't fit into the arena", limits::of(Limit::Arena)).fmt(f),
            Self::Cancelled => f.write_str("cancelled"),
            Self::Pool(end) => end.fmt(f),
            Self::NotOwner => f.write_str(NOT_OWNER),
        }
    }
}

impl std::error::Error for Cause {}

const NOT_OWNER: &str = "only the process that made the pool may use it";

/// The reason why a pool does nothing any more.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum PoolEnd {
    /// The pool was terminated, or dropped.
    Terminated,
    /// The initializer of a worker failed, with this message.
    Initializer(String),
    /// The initializer of a worker ended the worker.
    InitializerEnded {
        /// How the worker ended.
        status: ExitStatus,
        /// The last part of the text that the worker has written to stderr, as [`TaskError::stderr`] reports it for a
        /// task.
        stderr: String,
    },
    /// No worker can be started, or begin, for this reason.
    ///
    /// As the [`Cause`] of a task: the program has waited for the task for a second, while no worker could be started. The
    /// pool hasn't come to its end then, and tries again with the next task.
    NoWorker(String),
    /// The host reported this error.
    Host(sandpool_abi::Errno),
}

impl fmt::Display for PoolEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Terminated => f.write_str("the pool was terminated"),
            Self::Initializer(message) => write!(f, "the initializer failed: {message}"),
            Self::InitializerEnded { status, .. } => write!(f, "the initializer failed: {status}"),
            Self::NoWorker(why) => write!(f, "no worker can be started: {why}"),
            Self::Host(errno) => write!(f, "the pool can't go on: {errno}"),
        }
    }
}

impl std::error::Error for PoolEnd {}

/// The reason why a pool wasn't made, or refuses a call.
///
/// ```no_run
/// use sandpool_guest::Pool;
/// use sandpool_guest::pool::PoolError;
///
/// assert!(matches!(Pool::builder().processes(0).build(), Err(PoolError::Zero("processes"))));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum PoolError {
    /// This number may not be 0.
    Zero(&'static str),
    /// The pool is closed, so that it takes no more tasks.
    NotRunning,
    /// The pool isn't closed, so that it can't be joined.
    StillRunning,
    /// The pool was ended.
    Ended(PoolEnd),
    /// This process isn't the one that made the pool.
    NotOwner,
    /// A worker, or another thing that the pool needs, can't be made.
    Start(Error),
    /// The arguments can't be encoded.
    Encode(EncodeError),
    /// There was no such call, or its result was taken.
    NoSuchResult,
    /// The time to wait was over: Python's `TimeoutError`. Nothing has failed.
    TimedOut,
    /// A task failed.
    Task(TaskError),
}

impl From<Error> for PoolError {
    fn from(error: Error) -> Self {
        Self::Start(error)
    }
}

impl From<TaskError> for PoolError {
    fn from(error: TaskError) -> Self {
        Self::Task(error)
    }
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero(what) => write!(f, "{what} is a number from 1 on"),
            Self::NotRunning => f.write_str("the pool is not running: it was closed"),
            Self::StillRunning => f.write_str("the pool is still running: close or terminate it first"),
            Self::Ended(end) => end.fmt(f),
            Self::NotOwner => f.write_str(NOT_OWNER),
            Self::Start(error) => error.fmt(f),
            Self::Encode(error) => error.fmt(f),
            Self::NoSuchResult => f.write_str("there is no such result, or it was taken"),
            Self::TimedOut => f.write_str("it isn't there in time"),
            Self::Task(error) => error.fmt(f),
        }
    }
}

// No `source`: the variants that wrap an error say the same as the wrapped one.
impl std::error::Error for PoolError {}

into_error!(TaskError, Cause, PoolEnd);

impl From<PoolError> for Error {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Start(error) => error,
            PoolError::Encode(error) => error.into(),
            PoolError::Task(error) => error.into(),
            other => Self::other(other),
        }
    }
}
