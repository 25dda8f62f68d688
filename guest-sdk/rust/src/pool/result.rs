//! A result that hasn't arrived yet.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use super::core::Core;
use super::error::{Cause, TaskError};
use super::job::Pending;
use crate::deadline::Deadline;

/// The future result of an [`apply_async`](crate::Pool::apply_async) or [`map_async`](crate::Pool::map_async).
///
/// ```no_run
/// use std::time::Duration;
///
/// use sandpool_guest::Pool;
///
/// let pool = Pool::new()?;
/// let result = pool.apply_async(|n: u64| (1..=n).sum::<u64>(), 1000)?;
/// while !result.wait_timeout(Duration::from_secs(1)) {
///     println!("not yet");
/// }
/// println!("{}", result.get()?);
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// The pool does its work when one of these methods is called, or one of the pool's own.
///
/// Dropping an `AsyncResult` doesn't cancel its task.
#[must_use = "`get` has the result"]
pub struct AsyncResult<T> {
    pub(super) core: Rc<Core<'static>>,
    pub(super) pending: Rc<dyn Pending<T>>,
}

impl<T> AsyncResult<T> {
    /// Waits for the result.
    ///
    /// # Errors
    /// [`TaskError`]; for a map, that of the first task that failed.
    pub fn get(self) -> Result<T, TaskError> {
        self.wait();
        match self.pending.take() {
            Some(result) => result,
            None => Err(TaskError::new(0, None, Cause::NotOwner)),
        }
    }

    /// Waits for the result for at most `timeout`.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # let pool = sandpool_guest::Pool::new()?;
    /// # let result = pool.apply_async(|n: u64| n, 1)?;
    /// match result.get_timeout(Duration::from_secs(1)) {
    ///     Ok(result) => println!("{}", result?),
    ///     Err(later) => println!("it still takes: {}", later.get()?),
    /// }
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// This `AsyncResult` again, if the time was over: Python's `TimeoutError`. The task goes on.
    pub fn get_timeout(self, timeout: Duration) -> Result<Result<T, TaskError>, Self> {
        if self.wait_timeout(timeout) { Ok(self.get()) } else { Err(self) }
    }

    /// Returns the result, if it has arrived.
    ///
    /// # Errors
    /// This `AsyncResult` again, if the result hasn't arrived.
    pub fn try_get(self) -> Result<Result<T, TaskError>, Self> {
        if self.ready() { Ok(self.get()) } else { Err(self) }
    }

    /// Waits until the result has arrived.
    pub fn wait(&self) {
        self.wait_until(Deadline::NEVER);
    }

    /// Waits until the result has arrived, for at most `timeout`. Returns whether it has.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.wait_until(Deadline::after(timeout))
    }

    fn wait_until(&self, deadline: Deadline) -> bool {
        // A copy of an `AsyncResult` in another process never gets anything.
        while !self.pending.is_done() && self.core.is_owner() {
            if !self.core.step(deadline) {
                break;
            }
        }
        self.pending.is_done()
    }

    /// Whether the result has arrived.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.wait_until(Deadline::NOW)
    }

    /// Whether all went well: no task failed, and no result is an `Err`. `None` while the result hasn't arrived:
    /// Python's `ValueError`.
    #[must_use]
    pub fn successful(&self) -> Option<bool> {
        self.ready().then(|| self.pending.is_ok())
    }

    /// Registers a callback that is called with the value when it arrives, or at once if it has arrived.
    ///
    /// ```no_run
    /// # let pool = sandpool_guest::Pool::new()?;
    /// let result = pool
    ///     .apply_async(|n: u64| n * n, 7)?
    ///     .callback(|square| println!("{square}"))
    ///     .error_callback(|error| println!("no square: {error}"));
    /// result.wait();
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    ///
    /// An `Err` counts as a value. See [`on_done`](Self::on_done) for where and when the callback is called.
    pub fn callback(self, callback: impl FnOnce(&T) + 'static) -> Self {
        self.on_done(|result| {
            if let Ok(value) = result {
                callback(value);
            }
        })
    }

    /// Registers a callback that is called with the error if the task fails: for a map, when all tasks are done, with the
    /// error of the first that failed. See [`on_done`](Self::on_done) for where and when the callback is called.
    pub fn error_callback(self, callback: impl FnOnce(&TaskError) + 'static) -> Self {
        self.on_done(|result| {
            if let Err(error) = result {
                callback(error);
            }
        })
    }

    /// Registers a callback that is called with the result, value or error, when it arrives, or at once if it has
    /// arrived.
    ///
    /// ```no_run
    /// # let pool = sandpool_guest::Pool::new()?;
    /// let result = pool.apply_async(|n: u64| n * n, 7)?.on_done(|result| match result {
    ///     Ok(square) => println!("{square}"),
    ///     Err(error) => println!("no square: {error}"),
    /// });
    /// result.wait();
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    ///
    /// The callback is called in this process, when the program waits for this or any other result of the pool, or
    /// gives the pool something to do; so the callback may use whatever the program uses, the pool too.
    ///
    /// The result still belongs to this `AsyncResult`: also in the callback itself, [`get`](Self::get) returns it, as
    /// a copy.
    ///
    /// If the callback panics, that ends this process with exit code 1, as a panic does anywhere else: on this target nothing
    /// can go on after a panic.
    pub fn on_done(self, callback: impl FnOnce(&Result<T, TaskError>) + 'static) -> Self {
        self.pending.on_done(Box::new(callback));
        self
    }
}

impl<T> fmt::Debug for AsyncResult<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncResult").field("is_done", &self.pending.is_done()).finish()
    }
}
