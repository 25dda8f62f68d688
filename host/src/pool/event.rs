//! Events of a pool, for logs, progress and metrics.

use std::time::Duration;

use crate::error::Failure;
use crate::{ExitStatus, GuestText};

/// An event in a pool.
///
/// ```no_run
/// # fn example(pool: &sandpool::Pool) {
/// let events = pool.events();
/// std::thread::spawn(move || {
///     for event in events {
///         eprintln!("{event:?}");
///     }
/// });
/// # }
/// ```
///
/// Tasks are numbered in the order in which they were submitted, from 0 on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A worker is initialised and takes tasks.
    WorkerStarted {
        /// its name, such as `PoolWorker-3`
        name: GuestText,
        /// its process id
        pid: u32,
    },
    /// A worker has ended.
    WorkerEnded {
        /// its name
        name: GuestText,
        /// its process id
        pid: u32,
        /// how the worker ended
        status: ExitStatus,
        /// the worker crashed or was killed: it wasn't meant to end
        is_lost: bool,
    },
    /// A worker runs a task. For a short task, this event may come only when the task is done.
    Started {
        /// the task's number
        number: u64,
        /// its name
        task: String,
    },
    /// A task has a result.
    Finished {
        /// the task's number
        number: u64,
        /// its name
        task: String,
        /// how long it ran
        wall: Duration,
    },
    /// A task has failed for good. [`Failure::TimedOut`], [`Failure::OutputTooLarge`] and [`ExitStatus::Limited`] mean that the
    /// task has reached a limit.
    Failed {
        /// the task's number
        number: u64,
        /// its name
        task: String,
        /// why
        cause: Failure,
    },
    /// A task has failed and is tried again.
    Retried {
        /// the task's number
        number: u64,
        /// its name
        task: String,
        /// why it has failed
        cause: Failure,
        /// which attempt is next; the second is 2
        attempt: u32,
    },
}

/// Figures of a pool: see [`Pool::stats`](crate::Pool::stats).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// workers that are alive
    pub workers: usize,
    /// tasks that were ever submitted
    pub submitted: u64,
    /// tasks that have a result
    pub succeeded: u64,
    /// tasks that have failed for good
    pub failed: u64,
    /// how often a task was tried again
    pub retried: u64,
    /// workers that were lost
    pub workers_lost: u64,
    /// tasks that wait for a worker, or that a worker runs
    pub pending: u64,
    /// how long all tasks together have run
    pub busy: Duration,
}
