//! Why a task has no result.

use std::time::Duration;

use crate::guest_text::Escaped;
use crate::{ExitStatus, GuestText, Limit, PoolEnd};

/// A task that has no result, and why.
///
/// ```no_run
/// # fn example(pool: &sandpool::Pool) {
/// use sandpool::Failure;
///
/// match pool.apply::<_, u64>("score", &"some text") {
///     Ok(score) => println!("{score}"),
///     Err(error) if matches!(error.cause, Failure::TimedOut(_)) => println!("too slow"),
///     Err(error) => println!("{error}\n{}", error.stderr),
/// }
/// # }
/// ```
#[derive(Debug, Clone, thiserror::Error)]
#[error("task {} failed: {cause}", Escaped(task))]
#[non_exhaustive]
pub struct TaskError {
    /// The task's name.
    pub task: String,
    /// Why.
    pub cause: Failure,
    /// The end of what it wrote to its stderr, or all of it with [`Output::Capture`](crate::Output::Capture).
    pub stderr: GuestText,
    /// How often it was tried.
    pub attempts: u32,
}

/// Why a task has no result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// It has returned an error: its message.
    #[error("{0}")]
    Failed(GuestText),
    /// Its input isn't what it takes, or its output can't be written in the format that was asked for.
    #[error("{0}")]
    Refused(GuestText),
    /// It doesn't know the format of the input.
    #[error("it does not know the format of its input")]
    Unsupported,
    /// The module has no task of this name; the nearest that there is.
    #[error("the module has no such task{}", nearest(.0.as_deref()))]
    NoTask(Option<String>),
    /// The process that ran it has ended: it has called exit, panicked (exit code 1), trapped, hit a limit, or was killed.
    #[error("its process ended: {0}")]
    Ended(ExitStatus),
    /// It ran for longer than it may, and was killed.
    #[error("it took longer than {0:?}")]
    TimedOut(Duration),
    /// Its input can't fit into the arena, ever.
    #[error("its input is too large: {0}")]
    InputTooLarge(Limit),
    /// Its output is larger than it may be: [`PoolBuilder::output_max`](crate::PoolBuilder::output_max).
    #[error("its output is too large: {0}")]
    OutputTooLarge(Limit),
    /// Its input can't be encoded: why.
    #[error("its input cannot be encoded: {}", Escaped(.0))]
    Encode(String),
    /// Its output isn't of the type that was asked for: why.
    #[error("its output is not of the type that was asked for: {0}")]
    Decode(GuestText),
    /// It was cancelled before it began.
    #[error("it was cancelled")]
    Cancelled,
    /// The pool was closed before.
    #[error("the pool is not running")]
    NotRunning,
    /// The pool has ended before it was done: why.
    #[error("the pool has ended: {0}")]
    PoolEnded(PoolEnd),
}

fn nearest(name: Option<&str>) -> String {
    name.map(|name| format!("; the nearest that there is: {}", Escaped(name))).unwrap_or_default()
}

impl Failure {
    /// Whether it may go well when it is tried again: the task has said nothing itself.
    pub(super) fn is_of_the_process(&self) -> bool {
        matches!(self, Self::Ended(_) | Self::TimedOut(_))
    }

    /// One word for it, for records and metrics.
    ///
    /// ```
    /// assert_eq!(sandpool::Failure::NoTask(None).kind(), "no-task");
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
