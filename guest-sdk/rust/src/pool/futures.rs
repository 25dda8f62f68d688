//! Python's `concurrent.futures`: an [`Executor`], and its [`Future`]s.
//!
//! ```no_run
//! use sandpool_guest::pool::futures::{Executor, as_completed};
//!
//! fn digits(n: u32) -> usize {
//!     n.to_string().len()
//! }
//!
//! #[sandpool_guest::main]
//! fn main() -> Result<(), sandpool_guest::Error> {
//!     let executor = Executor::new()?;
//!     let futures = [5, 50, 500].map(|n| executor.submit(digits, n)).into_iter().collect::<Result<Vec<_>, _>>()?;
//!     for future in as_completed(futures, None) {
//!         println!("{}", future?.result()?);
//!     }
//!     executor.shutdown()?;
//!     Ok(())
//! }
//! ```
//!
//! An executor uses the machinery of a [`Pool`]: the pool's rules for functions, failures, and when things
//! happen hold here as well. A worker that dies breaks only the future whose task it had.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::builder::Builder;
use super::error::PoolError;
pub use super::future::Future;
use super::handle::Pool;
use super::imap::IMap;
use super::job::Pending;
use super::options::Options;
use super::partial::{ByValue, Partial};
use crate::Error;
use crate::deadline::Deadline;

/// An executor: processes that run the functions that are submitted to them. Python's `ProcessPoolExecutor`.
///
/// An executor ends like a [`Pool`]: dropping it ends the tasks that run. [`shutdown`](Self::shutdown) waits, as
/// Python's `with` does.
#[derive(Debug)]
#[doc(alias = "ProcessPoolExecutor")]
pub struct Executor {
    pool: Pool,
}

/// Makes an executor with the workers of this pool.
impl From<Pool> for Executor {
    fn from(pool: Pool) -> Self {
        Self { pool }
    }
}

impl Executor {
    /// Makes an executor with a worker for each processor.
    ///
    /// # Errors
    /// [`PoolError::Start`].
    pub fn new() -> Result<Self, PoolError> {
        Self::build(Pool::builder())
    }

    /// Makes an executor whose workers are started as the builder says.
    ///
    /// ```no_run
    /// use sandpool_guest::Pool;
    /// use sandpool_guest::pool::futures::Executor;
    ///
    /// let executor = Executor::build(Pool::builder().processes(4).retries(2))?;
    /// # Ok::<(), sandpool_guest::pool::PoolError>(())
    /// ```
    ///
    /// # Errors
    /// The errors of [`Builder::build`].
    pub fn build(builder: Builder) -> Result<Self, PoolError> {
        builder.build().map(Self::from)
    }

    /// Submits a function, which a worker runs, and returns its future.
    ///
    /// # Errors
    /// [`PoolError::Encode`]; [`PoolError::NotRunning`] after a shutdown: Python's `RuntimeError`.
    pub fn submit<A, R>(&self, function: fn(A) -> R, arguments: A) -> Result<Future<R>, PoolError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + 'static,
    {
        self.pool.options().submit(function, arguments)
    }

    /// Runs a function for each of several arguments; the results come in the order of the arguments. Same as
    /// [`Pool::imap`].
    ///
    /// # Errors
    /// [`PoolError::NotRunning`] after a shutdown.
    pub fn map<A, R, I>(
        &self,
        function: fn(A) -> R,
        arguments: I,
    ) -> Result<IMap<'_, I::IntoIter, A, R>, PoolError>
    where
        I: IntoIterator<Item = A>,
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + 'static,
    {
        self.pool.imap(function, arguments)
    }

    /// Like [`map`](Self::map), but all tasks together may take at most `timeout` from this call on: see
    /// [`IMap::within`].
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// # let executor = sandpool_guest::pool::futures::Executor::new()?;
    /// for square in executor.map_timeout(|n: u64| n * n, 0..1000, Duration::from_secs(5))? {
    ///     println!("{}", square?);
    /// }
    /// # Ok::<(), sandpool_guest::pool::PoolError>(())
    /// ```
    ///
    /// # Errors
    /// [`PoolError::NotRunning`] after a shutdown.
    pub fn map_timeout<A, R, I>(
        &self,
        function: fn(A) -> R,
        arguments: I,
        timeout: Duration,
    ) -> Result<IMap<'_, I::IntoIter, A, R>, PoolError>
    where
        I: IntoIterator<Item = A>,
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + 'static,
    {
        Ok(self.map(function, arguments)?.within(timeout))
    }

    /// Fills in a state, for functions that take it before their arguments: see [`Pool::partial`].
    ///
    /// ```no_run
    /// # let executor = sandpool_guest::pool::futures::Executor::new()?;
    /// let scaled = executor.partial(&3.0).submit(|scale, n| scale * n, 2.0)?;
    /// assert_eq!(scaled.result()?, 6.0);
    /// # Ok::<(), sandpool_guest::pool::PoolError>(())
    /// ```
    pub fn partial<S>(&self, state: &S) -> Options<'_, Partial<S>>
    where
        S: Serialize + DeserializeOwned,
    {
        self.pool.partial(state)
    }

    /// Fills in a state that is copied byte by byte, such as a closure: see [`Pool::partial_by_value`].
    ///
    /// # Safety
    /// The contract of [`Pool::partial_by_value`].
    #[allow(unsafe_code, reason = "the caller has to see to what can't be checked")]
    pub unsafe fn partial_by_value<S: Copy + 'static>(&self, state: S) -> Options<'_, ByValue<S>> {
        // SAFETY: this function has the same contract.
        unsafe { self.pool.partial_by_value(state) }
    }

    /// Stops taking tasks, and waits until all tasks are done and the workers have ended.
    ///
    /// | Python | here |
    /// | --- | --- |
    /// | `shutdown()` | `executor.shutdown()?` |
    /// | `shutdown(wait=False)` | `executor.close()` |
    /// | `shutdown(wait=False, cancel_futures=True)` | `executor.cancel_futures()` |
    /// | `shutdown(cancel_futures=True)` | `executor.cancel_futures()`, then `executor.shutdown()?` |
    ///
    /// # Errors
    /// [`PoolError::Ended`] if the executor has come to another end.
    pub fn shutdown(&self) -> Result<(), PoolError> {
        self.close();
        self.pool.join()
    }

    /// Like [`shutdown`](Self::shutdown), but waits for at most `timeout`. It may be called again.
    ///
    /// # Errors
    /// As [`shutdown`](Self::shutdown); [`PoolError::TimedOut`] when the time is over: running tasks go on.
    pub fn shutdown_timeout(&self, timeout: Duration) -> Result<(), PoolError> {
        self.close();
        self.pool.join_timeout(timeout)
    }

    /// Stops taking tasks, and doesn't wait. Tasks that were submitted are still done, as far as the program waits for their
    /// futures.
    #[doc(alias = "wait=False")]
    pub fn close(&self) {
        self.pool.close();
    }

    /// Stops taking tasks, cancels those that haven't begun, and doesn't wait for the others.
    #[doc(alias = "cancel_futures=True")]
    pub fn cancel_futures(&self) {
        self.close();
        if self.pool.core.is_owner() {
            self.pool.core.cancel_waiting();
        }
    }

    /// Returns the executor's pool: for its statistics, to resize it, and all else.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.pool
    }
}

/// The event that [`wait`] waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[doc(alias = "return_when")]
#[non_exhaustive]
pub enum ReturnWhen {
    /// Until one future is done.
    FirstCompleted,
    /// Until one future has failed (with a [`TaskError`](super::TaskError), or a result that is an `Err`), or all are done.
    FirstException,
    /// Until all futures are done.
    #[default]
    AllCompleted,
}

/// Waits for several futures, of one or several executors, and returns the futures that are done and those that are
/// not.
///
/// ```no_run
/// use sandpool_guest::pool::futures::{Executor, ReturnWhen, wait};
///
/// let executor = Executor::new()?;
/// let futures = (0..10).map(|n: u64| executor.submit(|n| n * n, n)).collect::<Result<Vec<_>, _>>()?;
/// let (done, not_done) = wait(futures, None, ReturnWhen::FirstCompleted);
/// println!("{} are done, {} are not", done.len(), not_done.len());
/// # Ok::<(), sandpool_guest::pool::PoolError>(())
/// ```
///
/// Without a timeout, the wait has no end.
pub fn wait<R>(
    futures: impl IntoIterator<Item = Future<R>>,
    timeout: Option<Duration>,
    return_when: ReturnWhen,
) -> (Vec<Future<R>>, Vec<Future<R>>)
where
    R: DeserializeOwned + 'static,
{
    let deadline = timeout.map_or(Deadline::NEVER, Deadline::after);
    let futures: Vec<_> = futures.into_iter().collect();
    let failed = |future: &Future<R>| future.one.is_done() && !future.one.is_ok();
    let is_enough = || match return_when {
        ReturnWhen::FirstCompleted => futures.is_empty() || futures.iter().any(|future| future.one.is_done()),
        ReturnWhen::FirstException if futures.iter().any(failed) => true,
        _ => futures.iter().all(|future| future.one.is_done()),
    };
    while !is_enough() && step(&futures, deadline) {}
    futures.into_iter().partition(|future| future.one.is_done())
}

/// Waits until something has happened in one of the executors that these futures belong to; returns false when the
/// time is over.
fn step<R>(futures: &[Future<R>], deadline: Deadline) -> bool {
    let mut open = futures.iter().filter(|future| !future.one.is_done() && future.core.is_owner());
    let Some(first) = open.next() else { return false };
    let others: Vec<_> = open.filter(|future| !Rc::ptr_eq(&future.core, &first.core)).collect();
    if others.is_empty() {
        return first.core.step(deadline);
    }
    // Each executor gets its turn; one without news for now lets the others look.
    let mut any = first.core.step(Deadline::NOW);
    for future in others {
        any |= future.core.step(Deadline::NOW);
    }
    if !any {
        any = first.core.step(deadline.at_most(TURN)) || deadline.left() != sandpool_abi::NO_WAIT;
    }
    any
}

/// The time of one turn, when waiting for one of several executors.
const TURN: Duration = Duration::from_millis(1);

/// Returns futures in the order in which they are done, first those that are done already.
///
/// The time begins with this call. When it is over, the next item is an error, and the last: it holds the futures that
/// aren't done.
pub fn as_completed<R>(
    futures: impl IntoIterator<Item = Future<R>>,
    timeout: Option<Duration>,
) -> AsCompleted<R>
where
    R: DeserializeOwned + 'static,
{
    let deadline = timeout.map_or(Deadline::NEVER, Deadline::after);
    AsCompleted { open: futures.into_iter().collect(), next: 0, deadline }
}

/// An iterator over futures, in the order in which they are done: the result of [`as_completed`].
#[derive(Debug)]
pub struct AsCompleted<R> {
    open: Vec<Future<R>>,
    /// The futures before this index weren't done when they were last checked.
    next: usize,
    deadline: Deadline,
}

/// The time was over: Python's `TimeoutError`. The error holds the futures that weren't done.
pub struct TimedOut<R>(pub Vec<Future<R>>);

impl<R> fmt::Debug for TimedOut<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TimedOut").field(&self.0).finish()
    }
}

impl<R> fmt::Display for TimedOut<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} futures are unfinished", self.0.len())
    }
}

impl<R> std::error::Error for TimedOut<R> {}

/// [`PoolError::TimedOut`]. The futures are dropped, which doesn't cancel them.
impl<R> From<TimedOut<R>> for Error {
    fn from(_: TimedOut<R>) -> Self {
        PoolError::TimedOut.into()
    }
}

impl<R: DeserializeOwned + 'static> Iterator for AsCompleted<R> {
    type Item = Result<Future<R>, TimedOut<R>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.open.is_empty() {
            return None;
        }
        loop {
            while let Some(future) = self.open.get(self.next) {
                if future.one.is_done() {
                    // The last future takes its place, and is checked next.
                    return Some(Ok(self.open.swap_remove(self.next)));
                }
                self.next += 1;
            }
            let went_on = step(&self.open, self.deadline);
            self.next = 0;
            if !went_on && !self.open.iter().any(|future| future.one.is_done()) {
                return Some(Err(TimedOut(std::mem::take(&mut self.open))));
            }
        }
    }
}
