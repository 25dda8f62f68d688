//! Why a task has no result.

use std::time::Duration;

use sandpool_abi::process::{ExitStatus, Limit};

use super::pool_end::PoolEnd;
use crate::guest_text::{Escaped, GuestText};

/// A task that has no result, and why.
///
/// ```no_run
/// # fn example(pool: &sandpool::Pool) {
/// use sandpool::pool::Failure;
///
/// let score: Result<u64, _> = pool.apply("score", "some text");
/// match score {
///     Ok(score) => println!("{score}"),
///     Err(error) if matches!(error.cause, Failure::TimedOut(_)) => println!("too slow"),
///     Err(error) => println!("{error}\n{}", error.stderr),
/// }
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("task {} failed: {cause}", Escaped(task))]
#[non_exhaustive]
pub struct TaskError {
    /// The task's name.
    pub task: String,
    /// Why the task has no result.
    pub cause: Failure,
    /// The end of the task's stderr, or all of it with [`Output::Capture`](crate::pool::Output::Capture).
    pub stderr: GuestText,
    /// How often the task was tried.
    pub attempts: u32,
    /// Use of time and memory by the last attempt, as far as it is known.
    pub usage: Box<Usage>,
}

impl TaskError {
    /// The error of a task that wasn't tried.
    pub(crate) fn untried(task: &str, cause: Failure) -> Self {
        Self {
            task: task.to_owned(),
            cause,
            stderr: GuestText::default(),
            attempts: 0,
            usage: Box::default(),
        }
    }
}

/// Use of time and memory by a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Usage {
    /// How long the task ran, without the time that it waited for a worker.
    pub wall: Duration,
    /// Time on a processor, if the task had a process of its own: with [`Isolation::Task`](crate::pool::Isolation::Task).
    pub cpu: Option<Duration>,
    /// The most bytes that the linear memories and tables of this process had, if it is known; a process has at least what its
    /// module begins with.
    pub peak_memory: Option<u64>,
}

/// Why a task has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The task returned an error, with this message.
    #[error("{0}")]
    Failed(GuestText),
    /// The input doesn't have the type that the task takes, or the output can't be written in the requested format.
    #[error("{0}")]
    Refused(GuestText),
    /// The task doesn't know the format of its input.
    #[error("it does not know the format of its input")]
    Unsupported,
    /// The module has no task of this name. The nearest task name, if there is a near one.
    #[error("the module has no such task{}", nearest(.0.as_deref()))]
    NoTask(Option<String>),
    /// The process that ran the task has ended: it called exit, panicked (exit code 1), trapped, reached a limit or was killed.
    #[error("its process ended: {0}")]
    Ended(ExitStatus),
    /// The task ran for longer than it may, and was killed.
    #[error("it took longer than {0:?}")]
    TimedOut(Duration),
    /// The input can never fit into the arena.
    #[error("its input is too large: {0}")]
    InputTooLarge(Limit),
    /// The output is larger than allowed: [`output_max`](crate::pool::Builder::output_max).
    #[error("its output is too large: {0}")]
    OutputTooLarge(Limit),
    /// The input can't be encoded. The text says why.
    #[error("its input cannot be encoded: {}", Escaped(.0))]
    Encode(String),
    /// The output doesn't have the requested type. The text says why.
    #[error("its output is not of the type that was asked for: {0}")]
    Decode(GuestText),
    /// The task was cancelled before it began.
    #[error("it was cancelled")]
    Cancelled,
    /// The pool was closed before the task was submitted.
    #[error("the pool is not running")]
    NotRunning,
    /// The pool ended before the task was done, for this reason.
    #[error("the pool has ended: {0}")]
    PoolEnded(PoolEnd),
}

fn nearest(name: Option<&str>) -> String {
    name.map(|name| format!("; the nearest name is {}", Escaped(name))).unwrap_or_default()
}

impl Failure {
    /// Whether the task may succeed if it is tried again: its process failed, and the task returned no error itself.
    pub(crate) fn is_of_the_process(&self) -> bool {
        matches!(self, Self::Ended(_) | Self::TimedOut(_))
    }

    /// One word for the failure, for records and metrics.
    ///
    /// ```
    /// assert_eq!(sandpool::pool::Failure::NoTask(None).kind(), "no-task");
    /// ```
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Failed(_) => "error",
            Self::Refused(_) => "refused",
            Self::Unsupported => "unsupported",
            Self::NoTask(_) => "no-task",
            Self::Ended(ExitStatus::Exited(_)) => "exit",
            Self::Ended(ExitStatus::Signaled(_)) => "signal",
            Self::Ended(ExitStatus::Trapped(_)) => "trap",
            Self::Ended(ExitStatus::Forbidden | ExitStatus::Strays(_)) => "policy",
            Self::Ended(_) => "limit",
            Self::TimedOut(_) => "timeout",
            Self::InputTooLarge(_) => "input-too-large",
            Self::OutputTooLarge(_) => "output-too-large",
            Self::Encode(_) => "encode",
            Self::Decode(_) => "decode",
            Self::Cancelled => "cancelled",
            Self::NotRunning => "not-running",
            Self::PoolEnded(_) => "pool-ended",
        }
    }
}
