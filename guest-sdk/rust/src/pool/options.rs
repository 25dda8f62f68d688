//! How tasks are given to a pool.

use std::marker::PhantomData;
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::core::{Callee, Chunk, Core, Function, Part, Terms};
use super::error::PoolError;
use super::feed::{Feed, Shape, part, part_of};
use super::future::Future;
use super::imap::IMap;
use super::job::{All, Job, One, Pending};
use super::partial::{ByValue, Call, Partial, Plain};
use super::result::AsyncResult;
use crate::deadline::Deadline;
use crate::{EncodeError, flat, raw};
use sandpool_abi::NO_WAIT;

/// Options for tasks of a pool, and the methods that give tasks to the pool: see [`Pool::options`](crate::Pool::options).
/// Methods that give tasks work like the pool's methods of the same names, with these options.
///
/// `Options` take functions `fn(A) -> R`, or, after [`partial`](Self::partial) or
/// [`partial_by_value`](Self::partial_by_value), `fn(&S, A) -> R`.
#[must_use = "it does nothing until it is given a task"]
pub struct Options<'p, C = Plain> {
    core: &'p Rc<Core<'static>>,
    terms: Terms,
    chunksize: Option<usize>,
    window: Option<usize>,
    /// The state that all tasks have, if it could be encoded.
    state: Result<Option<Rc<Part>>, EncodeError>,
    call: PhantomData<C>,
}

impl<'p> Options<'p> {
    pub(super) fn new(core: &'p Rc<Core<'static>>, terms: Terms) -> Self {
        Self { core, terms, chunksize: None, window: None, state: Ok(None), call: PhantomData }
    }

    /// Fills in a state, for functions that take the state before their arguments: see [`Pool::partial`](crate::Pool::partial).
    pub fn partial<S>(self, state: &S) -> Options<'p, Partial<S>>
    where
        S: Serialize + DeserializeOwned,
    {
        self.with(part(state))
    }

    /// Fills in a state whose bytes are copied instead of encoded: see
    /// [`Pool::partial_by_value`](crate::Pool::partial_by_value).
    ///
    /// # Safety
    /// The contract of [`Pool::partial_by_value`](crate::Pool::partial_by_value).
    #[allow(unsafe_code, reason = "the caller has to see to what can't be checked")]
    pub unsafe fn partial_by_value<S: Copy + 'static>(self, state: S) -> Options<'p, ByValue<S>> {
        self.with(part_of(|bytes| {
            // SAFETY: this function has the same contract.
            unsafe { raw::value::append(bytes, &state) };
            Ok(Vec::new())
        }))
    }

    fn with<C>(self, state: Result<Part, EncodeError>) -> Options<'p, C> {
        let Self { core, terms, chunksize, window, .. } = self;
        let state = state.map(|state| Some(Rc::new(state)));
        Options { core, terms, chunksize, window, state, call: PhantomData }
    }
}

impl<'p, C: Call> Options<'p, C> {
    /// Sets the number of tasks of a map that a worker takes at a time.
    ///
    /// By default a chunk is the number of tasks that take about a millisecond, by the recent time of tasks of this
    /// function; one, as long as that time is unknown.
    ///
    /// If a worker ends in the middle of a chunk, earlier tasks of the chunk keep their results, and later tasks are
    /// given to other workers.
    pub fn chunksize(mut self, tasks: usize) -> Self {
        self.chunksize = Some(tasks);
        self
    }

    /// Sets the number of results of an imap that may be under way: the input is read no further beyond the results
    /// that were taken.
    ///
    /// By default the window is the number of tasks that the workers do in ten milliseconds, and at least two chunks
    /// for each worker.
    #[doc(alias = "buffersize")]
    pub fn window(mut self, tasks: usize) -> Self {
        self.window = Some(tasks);
        self
    }

    /// Sets how often a failed task is tried again.
    pub fn retries(mut self, retries: u32) -> Self {
        self.terms.retries = retries;
        self
    }

    /// Sets how long a task may take, before it is killed.
    pub fn task_timeout(mut self, timeout: Duration) -> Self {
        self.terms.timeout = Some(timeout);
        self
    }

    /// Runs a function in a worker with these options, and waits for its result, like [`Pool::apply`](crate::Pool::apply).
    ///
    /// # Errors
    /// The errors of [`Pool::apply`](crate::Pool::apply).
    pub fn apply<A, R>(&self, function: C::Function<A, R>, arguments: A) -> Result<R, PoolError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + 'static,
    {
        Ok(self.apply_async(function, arguments)?.get()?)
    }

    /// Runs a function in a worker with these options, and waits for its result for at most `timeout`, like
    /// [`Pool::apply_timeout`](crate::Pool::apply_timeout).
    ///
    /// # Errors
    /// The errors of [`Pool::apply_timeout`](crate::Pool::apply_timeout).
    pub fn apply_timeout<A, R>(
        &self,
        function: C::Function<A, R>,
        arguments: A,
        timeout: Duration,
    ) -> Result<R, PoolError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + 'static,
    {
        match self.submit(function, arguments)?.result_timeout(timeout) {
            Ok(result) => Ok(result?),
            Err(late) => {
                // A task that has begun goes on.
                let _ = late.cancel();
                Err(PoolError::TimedOut)
            }
        }
    }

    /// Starts a function in a worker with these options, and returns its result for later, like
    /// [`Pool::apply_async`](crate::Pool::apply_async).
    ///
    /// # Errors
    /// The errors of [`Pool::apply_async`](crate::Pool::apply_async).
    pub fn apply_async<A, R>(
        &self,
        function: C::Function<A, R>,
        arguments: A,
    ) -> Result<AsyncResult<R>, PoolError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + 'static,
    {
        let pending = self.one(function, arguments)?;
        Ok(AsyncResult { core: self.core.clone(), pending })
    }

    /// Starts a function in a worker with these options, and returns a [`Future`], like
    /// [`Executor::submit`](crate::pool::futures::Executor::submit).
    ///
    /// # Errors
    /// The errors of [`Executor::submit`](crate::pool::futures::Executor::submit).
    pub fn submit<A, R>(&self, function: C::Function<A, R>, arguments: A) -> Result<Future<R>, PoolError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + 'static,
    {
        let one = self.one(function, arguments)?;
        Ok(Future { core: self.core.clone(), one })
    }

    /// Gives the pool a single task.
    fn one<A, R>(&self, function: C::Function<A, R>, arguments: A) -> Result<Rc<One<R>>, PoolError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + 'static,
    {
        self.core.check_running()?;
        let one = Rc::new(One::new());
        let mut chunk = Chunk::new(one.clone(), self.callee::<A, R>(function)?, self.terms, 0);
        match flat::set_apart(arguments) {
            Ok(only) => chunk.set_only(only),
            Err(arguments) => {
                Part { bytes: chunk.bytes, handles: chunk.handles } =
                    part(&arguments).map_err(PoolError::Encode)?;
                chunk.parts = 1;
            }
        }
        self.core.submit(chunk);
        self.core.pump();
        Ok(one)
    }

    /// Runs a function for each of several arguments with these options, and returns the results in their order, like
    /// [`Pool::map`](crate::Pool::map).
    ///
    /// # Errors
    /// The errors of [`Pool::map`](crate::Pool::map); [`PoolError::Zero`].
    pub fn map<A, R>(
        &self,
        function: C::Function<A, R>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<Vec<R>, PoolError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + 'static,
    {
        let mut feed = Feed::new(arguments.into_iter(), self.shape::<A, R>(function)?);
        map(self.core, &mut feed, Deadline::NEVER)
    }

    /// Runs a function for each of several arguments with these options, for at most `timeout` in all, like
    /// [`Pool::map_timeout`](crate::Pool::map_timeout).
    ///
    /// # Errors
    /// The errors of [`Pool::map_timeout`](crate::Pool::map_timeout); [`PoolError::Zero`].
    pub fn map_timeout<A, R>(
        &self,
        function: C::Function<A, R>,
        arguments: impl IntoIterator<Item = A>,
        timeout: Duration,
    ) -> Result<Vec<R>, PoolError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + 'static,
    {
        let deadline = Deadline::after(timeout);
        let mut feed = Feed::new(arguments.into_iter(), self.shape::<A, R>(function)?);
        map(self.core, &mut feed, deadline)
    }

    /// Starts a function for each of several arguments with these options, and returns the results for later, like
    /// [`Pool::map_async`](crate::Pool::map_async).
    ///
    /// # Errors
    /// The errors of [`Pool::map_async`](crate::Pool::map_async); [`PoolError::Zero`].
    pub fn map_async<A, R>(
        &self,
        function: C::Function<A, R>,
        arguments: impl IntoIterator<Item = A>,
    ) -> Result<AsyncResult<Vec<R>>, PoolError>
    where
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + 'static,
    {
        let mut feed = Feed::new(arguments.into_iter(), self.shape::<A, R>(function)?);
        let all = Rc::new(All::new(false));
        let job: Rc<dyn Job> = all.clone();
        feed.feed_all(self.core, &job);
        all.set_count(feed.read());
        Ok(AsyncResult { core: self.core.clone(), pending: all })
    }

    /// Runs a function for each of several arguments with these options; the results come one after another, in the order of
    /// the arguments, as those of [`Pool::imap`](crate::Pool::imap).
    ///
    /// # Errors
    /// The errors of [`Pool::imap`](crate::Pool::imap); [`PoolError::Zero`].
    pub fn imap<A, R, I>(
        &self,
        function: C::Function<A, R>,
        arguments: I,
    ) -> Result<IMap<'p, I::IntoIter, A, R>, PoolError>
    where
        I: IntoIterator<Item = A>,
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + 'static,
    {
        Ok(IMap::new(self.core, arguments.into_iter(), self.shape::<A, R>(function)?, true))
    }

    /// Runs a function for each of several arguments with these options; the results come in the order of their arrival, as
    /// those of [`Pool::imap_unordered`](crate::Pool::imap_unordered).
    ///
    /// # Errors
    /// The errors of [`Pool::imap_unordered`](crate::Pool::imap_unordered); [`PoolError::Zero`].
    pub fn imap_unordered<A, R, I>(
        &self,
        function: C::Function<A, R>,
        arguments: I,
    ) -> Result<IMap<'p, I::IntoIter, A, R>, PoolError>
    where
        I: IntoIterator<Item = A>,
        A: Serialize + DeserializeOwned,
        R: Serialize + DeserializeOwned + 'static,
    {
        Ok(IMap::new(self.core, arguments.into_iter(), self.shape::<A, R>(function)?, false))
    }

    /// The shape of tasks, if the pool takes any.
    fn shape<A, R>(&self, function: C::Function<A, R>) -> Result<Shape, PoolError>
    where
        A: DeserializeOwned,
        R: Serialize,
    {
        self.core.check_running()?;
        for (number, what) in [(self.chunksize, "chunksize"), (self.window, "window")] {
            if number == Some(0) {
                return Err(PoolError::Zero(what));
            }
        }
        let Self { terms, chunksize, window, .. } = *self;
        Ok(Shape { callee: self.callee::<A, R>(function)?, terms, chunksize, window })
    }

    /// The function that is called for tasks.
    fn callee<A, R>(&self, function: C::Function<A, R>) -> Result<Callee, PoolError>
    where
        A: DeserializeOwned,
        R: Serialize,
    {
        // A module has so few functions that their numbers fit.
        let small = |number: u64| u32::try_from(number).unwrap_or(0);
        let function =
            Function { trampoline: small(C::trampoline::<A, R>()), function: small(C::number(function)) };
        Ok(Callee { function, state: self.state.clone().map_err(PoolError::Encode)? })
    }
}

impl<C> Clone for Options<'_, C> {
    fn clone(&self) -> Self {
        Self { state: self.state.clone(), ..*self }
    }
}

/// Gives out all tasks of an input, as results arrive, and waits for them. When the time is over, tasks that haven't
/// begun are never run.
pub(super) fn map<I, A, R>(
    core: &Core<'_>,
    feed: &mut Feed<I, A>,
    deadline: Deadline,
) -> Result<Vec<R>, PoolError>
where
    I: Iterator<Item = A>,
    A: Serialize,
    R: Serialize + DeserializeOwned + 'static,
{
    let all = Rc::new(All::new(deadline != Deadline::NEVER));
    let job: Rc<dyn Job> = all.clone();
    let mut in_time = true;
    loop {
        feed.feed(core, &job, all.arrived());
        if feed.is_over() {
            all.set_count(feed.read());
        }
        if let Some(result) = all.take() {
            return Ok(result?);
        }
        if !in_time {
            all.give_up();
            core.cancel_all(&job);
            return Err(PoolError::TimedOut);
        }
        in_time = core.step(deadline) || deadline.left() != NO_WAIT;
    }
}
