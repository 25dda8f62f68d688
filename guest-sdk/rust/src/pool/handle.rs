//! A pool, as a program has it.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::core::{Core, Stats, Terms};
use super::error::PoolError;
use super::imap::IMap;
use super::options::Options;
use super::partial::{ByValue, Partial};
use super::result::AsyncResult;
use crate::deadline::Deadline;
use crate::raw;

/// A pool of processes, its workers, which stand ready to run functions.
///
/// ```no_run
/// use sandpool_guest::Pool;
/// use sandpool_guest::pool::PoolError;
///
/// fn square(n: u64) -> u64 {
///     n * n
/// }
///
/// #[sandpool_guest::main]
/// fn main() -> Result<(), PoolError> {
///     let pool = Pool::new()?;
///     assert_eq!(pool.apply(square, 7)?, 49);
///     assert_eq!(pool.map(square, 1..=4)?, [1, 4, 9, 16]);
///     for sum in pool.imap_unordered(|(a, b): (u64, u64)| a + b, [(1, 2), (3, 4)])? {
///         println!("{}", sum?);
///     }
///     Ok(())
/// }
/// ```
///
/// # Which functions
///
/// A pool runs functions, and closures that capture nothing: workers exist before the call, so a closure couldn't have
/// captured anything for them. [`partial`](Self::partial) fills in the values that a closure would capture. Several
/// arguments are passed as a tuple; arguments and result are encoded by serde. For a closure that borrows the caller's
/// values, [`scoped_map`](crate::scoped_map) forks workers for one call. [`partial_by_value`](Self::partial_by_value) sends
/// the bytes of a closure that is `Copy + 'static` to existing workers: that is unsafe, because nothing ensures that workers
/// have what the closure refers to.
///
/// A result may be a `Result`. An `Err` is then the task's return value, like any other value; it also counts as a
/// failure, for [`retries`](Options::retries), [`successful`](AsyncResult::successful) and [`Stats`].
///
/// # When a task fails
///
/// A task may panic, exit, trap, be killed, or take too long: exactly that task fails, with a [`TaskError`](super::TaskError) that tells
/// the cause. Its worker is replaced; other tasks don't notice, and the pool goes on. Tasks that a dead worker had
/// taken and not begun are given to other workers, and tasks that it had done before have their results, in the same
/// chunk as well: no task begins twice, unless there are retries.
///
/// # When the pool works
///
/// There is one thread. Workers work on their tasks whatever the program does; but the pool itself works only when the
/// program calls one of its methods, or one of its results' methods: taking results, calling callbacks, replacing
/// workers, looking at the clock for timeouts. A call that waits for a result does all that.
///
/// Dropping a pool terminates it, as at the end of Python's `with`. Workers are daemonic, and named `PoolWorker-1` and so
/// on. Only the process that made a pool may use it.
///
/// # Pools in pools
///
/// A task may start processes, make a pool of its own, and call [`scoped_map`](crate::scoped_map). A worker ends with the
/// process that made its pool, however that process ends; and with a worker, everything ends that its tasks have started.
pub struct Pool {
    pub(super) core: Rc<Core<'static>>,
    pub(super) terms: Terms,
}

impl Pool {
    /// Returns [`Options`], which give tasks to the pool with another chunk length, retries, or other settings.
    ///
    /// ```no_run
    /// # let pool = sandpool_guest::Pool::new()?;
    /// let lengths = pool.options().chunksize(100).map(|text: String| text.len(), vec!["a".to_owned(); 10_000])?;
    /// # Ok::<(), sandpool_guest::pool::PoolError>(())
    /// ```
    pub fn options(&self) -> Options<'_> {
        Options::new(&self.core, self.terms)
    }

    /// Fills in a state, for functions that take it before their arguments: Python's `functools.partial`. So a function
    /// gets the values that a closure would capture.
    ///
    /// ```no_run
    /// # let pool = sandpool_guest::Pool::new()?;
    /// fn scale(by: &f64, n: f64) -> f64 {
    ///     by * n
    /// }
    ///
    /// let tripled = pool.partial(&3.0);
    /// assert_eq!(tripled.map(scale, [1.0, 2.0])?, [3.0, 6.0]);
    /// assert_eq!(tripled.apply(|by, n| by + n, 1.0)?, 4.0);
    /// # Ok::<(), sandpool_guest::pool::PoolError>(())
    /// ```
    ///
    /// The state is encoded once, here; it travels with each chunk of tasks, which decodes it once. A large state is
    /// better in shared memory, or made by an [`initializer`](crate::pool::Builder::initializer): otherwise make chunks long, by
    /// [`chunksize`](Options::chunksize). Several values are passed as a tuple.
    ///
    /// A state that can't be encoded is an error of the call that follows, [`PoolError::Encode`]; a state that can't be
    /// decoded is an error of each task, [`Cause::Decode`](super::Cause::Decode).
    pub fn partial<S>(&self, state: &S) -> Options<'_, Partial<S>>
    where
        S: Serialize + DeserializeOwned,
    {
        self.options().partial(state)
    }

    /// Fills in a state that is copied byte by byte, without serde: a closure that captures something, as long as it
    /// is `Copy + 'static`, or any other such value.
    ///
    /// ```no_run
    /// # let pool = sandpool_guest::Pool::new()?;
    /// let by = 3;
    /// // SAFETY: the closure holds a number only, which refers to nothing.
    /// let scaled = unsafe { pool.partial_by_value(move |n: u64| n * by) };
    /// assert_eq!(scaled.map(|f, n| f(n), [1, 2])?, [3, 6]);
    /// # Ok::<(), sandpool_guest::pool::PoolError>(())
    /// ```
    ///
    /// Values that were leaked before the pool was made are in the memory of each forked worker, and are read there
    /// without a copy:
    ///
    /// ```no_run
    /// use sandpool_guest::Pool;
    ///
    /// # fn load() -> Vec<f64> { vec![0.5; 1 << 20] }
    /// let model: &'static [f64] = load().leak();
    /// let pool = Pool::new()?;
    /// // SAFETY: the model was there, and leaked, before the pool was made, whose workers are forked.
    /// let at = unsafe { pool.partial_by_value(model) };
    /// let weights = at.map(|model, index: usize| model[index], [3, 5])?;
    /// # Ok::<(), sandpool_guest::pool::PoolError>(())
    /// ```
    ///
    /// As with [`partial`](Self::partial), the state travels with each chunk of tasks.
    ///
    /// # Safety
    /// A worker gets a copy of the value's bytes, and nothing else. So the caller must ensure, for each worker that
    /// the pool has or will have:
    ///
    /// - Everything that the value refers to, directly or indirectly, is in the worker's memory from its start on, at the
    ///   same address, as valid there as it is here, for ever. With any start method, that holds for functions, literals,
    ///   and `static`s, as the program begins with them. With [`StartMethod::Fork`](crate::pool::StartMethod::Fork), it also holds for values that are only
    ///   reached through a `static`, such as the content of a `OnceLock`, and for anything else that is never freed, such
    ///   as by [`Box::leak`]: if it was made *before the pool was*. It doesn't hold for values that were made later, though
    ///   they are `'static`, too; nor, with [`StartMethod::Spawn`](crate::pool::StartMethod::Spawn), for anything else that the program has made.
    /// - The value stands for nothing that has happened only in this process, since the pool was made. A value, even one
    ///   of no size, may be a proof that something was done, on which unsafe code relies; in the worker, it wasn't done.
    ///
    /// Numbers, and closures that capture only numbers, refer to nothing, and stand for nothing.
    #[allow(unsafe_code, reason = "the caller has to see to what can't be checked")]
    pub unsafe fn partial_by_value<S: Copy + 'static>(&self, state: S) -> Options<'_, ByValue<S>> {
        // SAFETY: this function has the same contract.
        unsafe { self.options().partial_by_value(state) }
    }

    /// Runs a function in a worker, and waits for its result.
    ///
    /// # Errors
    /// [`PoolError::Task`] if the task fails; [`PoolError::Encode`]; the errors of a pool that isn't running.
    pub fn apply<A, R>(&self, function: fn(A) -> R, arguments: A) -> Result<R, PoolError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + 'static,
    {
        self.options().apply(function, arguments)
    }

    /// Like [`apply`](Self::apply), but waits for at most `timeout`. When the time is over, a task that has begun goes on,
    /// and one that hasn't is never run. To have the task killed, use [`task_timeout`](crate::pool::Builder::task_timeout); to wait
    /// again, use [`apply_async`](Self::apply_async).
    ///
    /// # Errors
    /// As [`apply`](Self::apply); [`PoolError::TimedOut`] when the time is over.
    pub fn apply_timeout<A, R>(
        &self,
        function: fn(A) -> R,
        arguments: A,
        timeout: Duration,
    ) -> Result<R, PoolError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + 'static,
    {
        self.options().apply_timeout(function, arguments, timeout)
    }

    /// Starts a function in a worker, and returns its result for later.
    ///
    /// ```no_run
    /// # let pool = sandpool_guest::Pool::new()?;
    /// let both = [pool.apply_async(|n: u64| n * n, 3)?, pool.apply_async(|n: u64| n * n, 4)?];
    /// for square in both {
    ///     println!("{}", square.get()?);
    /// }
    /// # Ok::<(), sandpool_guest::pool::PoolError>(())
    /// ```
    ///
    /// # Errors
    /// [`PoolError::Encode`]; the errors of a pool that isn't running.
    pub fn apply_async<A, R>(&self, function: fn(A) -> R, arguments: A) -> Result<AsyncResult<R>, PoolError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + 'static,
    {
        self.options().apply_async(function, arguments)
    }

    /// Runs a function for each of several arguments, and returns the results in their order.
    ///
    /// ```no_run
    /// # let pool = sandpool_guest::Pool::new()?;
    /// let products = pool.map(|(a, b): (u64, u64)| a * b, (0..10).zip(10..20))?;
    /// # Ok::<(), sandpool_guest::pool::PoolError>(())
    /// ```
    ///
    /// With tuples, this is also Python's `starmap`. The input is read as results arrive, a little ahead of them.
    ///
    /// All tasks are done, also if one fails; to get the results of the others, use [`imap`](Self::imap).
    ///
    /// # Errors
    /// [`PoolError::Task`], of the first task, in their order, that failed; the errors of a pool that isn't running.
    #[doc(alias = "starmap")]
    pub fn map<A, R>(
        &self,
        function: fn(A) -> R,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Vec<R>, PoolError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + 'static,
    {
        self.options().map(function, arguments)
    }

    /// Like [`map`](Self::map), but waits for at most `timeout` in all. When the time is over, tasks that haven't
    /// begun are never run.
    ///
    /// # Errors
    /// As [`map`](Self::map); [`PoolError::TimedOut`] when the time is over.
    pub fn map_timeout<A, R>(
        &self,
        function: fn(A) -> R,
        arguments: impl IntoIterator<Item = A>,
        timeout: Duration,
    ) -> Result<Vec<R>, PoolError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + 'static,
    {
        self.options().map_timeout(function, arguments, timeout)
    }

    /// Starts a function for each of several arguments in workers, and returns the results for later. The input is
    /// read at once.
    ///
    /// # Errors
    /// The errors of a pool that isn't running.
    #[doc(alias = "starmap_async")]
    pub fn map_async<A, R>(
        &self,
        function: fn(A) -> R,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<AsyncResult<Vec<R>>, PoolError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + 'static,
    {
        self.options().map_async(function, arguments)
    }

    /// Runs a function for each of several arguments; the results come one after another, in the order of the arguments.
    ///
    /// ```no_run
    /// # let pool = sandpool_guest::Pool::new()?;
    /// // An input without end.
    /// for square in pool.imap(|n: u64| n * n, 1..)? {
    ///     match square {
    ///         Ok(square) if square > 1000 => break,
    ///         Ok(square) => println!("{square}"),
    ///         Err(error) => eprintln!("{error}"),
    ///     }
    /// }
    /// # Ok::<(), sandpool_guest::pool::PoolError>(())
    /// ```
    ///
    /// The input is read as results are taken: only as far ahead as keeps the workers busy, or as
    /// [`window`](Options::window) says. When the iterator is dropped, tasks that haven't begun are never run.
    ///
    /// # Errors
    /// The errors of a pool that isn't running.
    pub fn imap<A, R, I>(
        &self,
        function: fn(A) -> R,
        arguments: I,
    ) -> Result<IMap<'_, I::IntoIter, A, R>, PoolError>
    where
        I: IntoIterator<Item = A>,
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + 'static,
    {
        self.options().imap(function, arguments)
    }

    /// Like [`imap`](Self::imap), but with the results in the order of their arrival.
    ///
    /// # Errors
    /// The errors of a pool that isn't running.
    #[doc(alias = "uimap")]
    pub fn imap_unordered<A, R, I>(
        &self,
        function: fn(A) -> R,
        arguments: I,
    ) -> Result<IMap<'_, I::IntoIter, A, R>, PoolError>
    where
        I: IntoIterator<Item = A>,
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + 'static,
    {
        self.options().imap_unordered(function, arguments)
    }

    /// Stops taking tasks. The pool still does the tasks that it was given, and then [`join`](Self::join) returns.
    pub fn close(&self) {
        if self.core.is_owner() {
            self.core.close();
        }
    }

    /// Ends all workers at once. Tasks that aren't done fail with [`PoolEnd::Terminated`](super::PoolEnd::Terminated).
    #[doc(alias = "terminate_workers")]
    #[doc(alias = "kill_workers")]
    pub fn terminate(&self) {
        if self.core.is_owner() {
            self.core.terminate();
        }
    }

    /// Waits until all tasks are done and the workers have ended.
    ///
    /// # Errors
    /// [`PoolError::StillRunning`] if the pool wasn't closed; [`PoolError::Ended`] if the pool has come to another
    /// end.
    pub fn join(&self) -> Result<(), PoolError> {
        self.core.join(Deadline::NEVER)
    }

    /// Like [`join`](Self::join), but waits for at most `timeout`. It may be called again.
    ///
    /// # Errors
    /// As [`join`](Self::join); [`PoolError::TimedOut`] when the time is over: running tasks go on.
    pub fn join_timeout(&self, timeout: Duration) -> Result<(), PoolError> {
        self.core.join(Deadline::after(timeout))
    }

    /// Like [`join`](Self::join), but doesn't wait.
    ///
    /// # Errors
    /// As [`join`](Self::join); [`PoolError::TimedOut`] if something is still to be done.
    pub fn try_join(&self) -> Result<(), PoolError> {
        self.core.join(Deadline::NOW)
    }

    /// Changes the number of workers. If there are fewer, surplus workers end one after another, each when it is done
    /// with its current work.
    ///
    /// # Errors
    /// [`PoolError::Zero`]; [`PoolError::Start`]; the errors of a pool that isn't running.
    #[doc(alias = "set_ncpus")]
    pub fn resize(&self, processes: usize) -> Result<(), PoolError> {
        self.core.resize(processes)
    }

    /// The number of workers that the pool is meant to have.
    #[must_use]
    #[doc(alias = "get_ncpus")]
    pub fn processes(&self) -> usize {
        self.core.processes()
    }

    /// Returns counts of what has happened in the pool so far.
    #[must_use]
    #[doc(alias = "get_stats")]
    pub fn stats(&self) -> Stats {
        self.core.stats()
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool").field("processes", &self.processes()).finish_non_exhaustive()
    }
}

/// Leaving scope terminates.
impl Drop for Pool {
    fn drop(&mut self) {
        // Results that still wait share the rest of the pool.
        raw::mute::aloud(|| self.terminate());
    }
}
