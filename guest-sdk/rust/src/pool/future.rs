//! The future result of one task.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use serde::de::DeserializeOwned;

use super::core::Core;
use super::error::{Cause, PoolError, TaskError};
use super::job::{Job, One, Pending};
use crate::deadline::Deadline;

/// The future result of a task that was submitted to an [`Executor`](super::futures::Executor).
///
/// The executor does its work when one of these methods is called. Dropping a future doesn't cancel its task.
#[must_use = "`result` has the result"]
pub struct Future<R> {
    pub(super) core: Rc<Core<'static>>,
    pub(super) one: Rc<One<R>>,
}

impl<R: DeserializeOwned + 'static> Future<R> {
    /// Cancels the task if no worker has begun it. Returns whether the task is cancelled.
    #[must_use = "it says whether that came in time"]
    pub fn cancel(&self) -> bool {
        if self.cancelled() {
            return true;
        }
        if self.done() || !self.core.cancel(self.one.number()) {
            return false;
        }
        Job::cancel(&*self.one);
        self.core.tell(self.one.clone());
        self.core.call_back();
        true
    }

    /// Whether the task was cancelled.
    #[must_use]
    pub fn cancelled(&self) -> bool {
        self.one.was_cancelled()
    }

    /// Whether a worker works on the task.
    #[must_use]
    pub fn running(&self) -> bool {
        !self.done() && self.one.number().is_some_and(|number| self.core.has_begun(number))
    }

    /// Whether the task is done, with whatever result, or cancelled.
    #[must_use]
    pub fn done(&self) -> bool {
        wait_for(self, Deadline::NOW)
    }

    /// Waits for the result.
    ///
    /// # Errors
    /// [`TaskError`]; with [`Cause::Cancelled`] if the task was cancelled.
    pub fn result(self) -> Result<R, TaskError> {
        wait_for(&self, Deadline::NEVER);
        self.one.take().unwrap_or_else(|| Err(TaskError::new(0, None, Cause::NotOwner)))
    }

    /// Waits for the result for at most `timeout`.
    ///
    /// # Errors
    /// This future again, if the time was over: Python's `TimeoutError`.
    pub fn result_timeout(self, timeout: Duration) -> Result<Result<R, TaskError>, Self> {
        if wait_for(&self, Deadline::after(timeout)) { Ok(self.result()) } else { Err(self) }
    }

    /// Returns the result, if it has arrived.
    ///
    /// # Errors
    /// This future again, if the result hasn't arrived.
    pub fn try_result(self) -> Result<Result<R, TaskError>, Self> {
        if self.done() { Ok(self.result()) } else { Err(self) }
    }

    /// Waits until the task is done, and returns why the task failed, if it has.
    #[must_use]
    pub fn exception(&self) -> Option<TaskError> {
        wait_for(self, Deadline::NEVER);
        self.failure()
    }

    /// Like [`exception`](Self::exception), but waits for at most `timeout`.
    ///
    /// # Errors
    /// [`PoolError::TimedOut`] when the time is over.
    pub fn exception_timeout(&self, timeout: Duration) -> Result<Option<TaskError>, PoolError> {
        if wait_for(self, Deadline::after(timeout)) { Ok(self.failure()) } else { Err(PoolError::TimedOut) }
    }

    /// Like [`exception`](Self::exception), but doesn't wait.
    ///
    /// # Errors
    /// [`PoolError::TimedOut`] if the task isn't done.
    pub fn try_exception(&self) -> Result<Option<TaskError>, PoolError> {
        if self.done() { Ok(self.failure()) } else { Err(PoolError::TimedOut) }
    }

    fn failure(&self) -> Option<TaskError> {
        self.one.peek(|result| result.as_ref().err().cloned()).flatten()
    }

    /// Registers a callback that is called with the result when it arrives, or at once if it has arrived. Several
    /// callbacks are called in their order. See [`AsyncResult::on_done`](crate::pool::AsyncResult::on_done) for where and
    /// when.
    pub fn add_done_callback(&self, callback: impl FnOnce(&Result<R, TaskError>) + 'static) {
        self.one.on_done(Box::new(callback));
    }
}

impl<R> fmt::Debug for Future<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Future").field("is_done", &self.one.is_done()).finish()
    }
}

/// Does the executor's work until the future is done, or the time is over. Returns whether the future is done.
fn wait_for<R>(future: &Future<R>, deadline: Deadline) -> bool {
    while !future.one.is_done() && future.core.is_owner() {
        if !future.core.step(deadline) {
            break;
        }
    }
    future.one.is_done()
}
