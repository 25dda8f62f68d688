//! A map whose closure may borrow anything: its workers are forked for the call.

use std::ops::Range;
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::core::{Core, NOTHING, Plan, Terms};
use super::error::{PoolError, TaskError};
use super::feed::{Feed, Shape};
use super::frame::PartKind;
use super::job::{Job, Stream};
use super::options::map;
use super::worker::{self, Turn};
use crate::cpu_count;
use crate::deadline::Deadline;
use crate::process::Builder;
use sandpool_abi::NO_WAIT;

/// Runs a closure for each of several arguments in processes that are forked for the call, and returns the results in
/// the order of the arguments.
///
/// ```no_run
/// use std::collections::HashMap;
///
/// use sandpool_guest::scoped_map;
///
/// let dictionary: HashMap<&str, u32> = [("the", 1), ("and", 2)].into();
/// let pages = ["the fox and the hare", "and so on"];
/// // Neither the dictionary nor the pages are encoded, cloned or sent anywhere.
/// let sums = scoped_map(&pages, |page| {
///     page.split(' ').filter_map(|word| dictionary.get(word)).sum::<u32>()
/// })?;
/// assert_eq!(sums, [4, 2]);
/// # Ok::<(), sandpool_guest::pool::PoolError>(())
/// ```
///
/// Each worker has a copy-on-write copy of everything, so the closure may capture and borrow anything, and so may the
/// arguments: no serde, no `Send`, no `'static`. Only the results are encoded. The closure changes only the worker's
/// copy.
///
/// When to use which: a [`Pool`](crate::Pool) has its processes ready, and a task costs less than a microsecond there;
/// `scoped_map` forks a process for each processor in each call, which takes some tenths of a millisecond each. For work of
/// ten milliseconds and more, that doesn't count.
///
/// Tasks fail one by one, as in a pool. [`Scoped`] has more options. The closure may itself call `scoped_map`, or make a
/// pool: everything that a worker starts ends with it.
///
/// # Errors
/// [`PoolError::Task`], of the first task, in their order, that failed; [`PoolError::Start`].
pub fn scoped_map<A, R>(
    arguments: impl IntoIterator<Item = A>,
    closure: impl Fn(A) -> R,
) -> Result<Vec<R>, PoolError>
where
    A: Clone,
    R: Serialize + DeserializeOwned + 'static,
{
    Scoped::new().map(arguments, closure)
}

/// The options of a [`scoped_map`].
///
/// ```no_run
/// use sandpool_guest::pool::Scoped;
///
/// let names = vec!["a".to_owned(), "b".to_owned()];
/// let lengths = Scoped::new().processes(2).chunksize(1).map(&names, |name| name.len())?;
/// # Ok::<(), sandpool_guest::pool::PoolError>(())
/// ```
#[derive(Debug, Clone)]
#[must_use = "it does nothing until `map`"]
pub struct Scoped {
    processes: usize,
    chunksize: Option<usize>,
    terms: Terms,
}

impl Default for Scoped {
    fn default() -> Self {
        Self::new()
    }
}

impl Scoped {
    /// Makes options with a worker for each processor.
    pub fn new() -> Self {
        Self { processes: cpu_count(), chunksize: None, terms: Terms::default() }
    }

    /// Sets the number of workers that are forked; never more than there are arguments.
    pub fn processes(mut self, processes: usize) -> Self {
        self.processes = processes;
        self
    }

    /// Sets the chunk length, like [`Options::chunksize`](crate::pool::Options::chunksize).
    pub fn chunksize(mut self, tasks: usize) -> Self {
        self.chunksize = Some(tasks);
        self
    }

    /// Sets the number of retries, like [`Options::retries`](crate::pool::Options::retries).
    pub fn retries(mut self, retries: u32) -> Self {
        self.terms.retries = retries;
        self
    }

    /// Sets the time that a task may take, like [`Options::task_timeout`](crate::pool::Options::task_timeout).
    pub fn task_timeout(mut self, timeout: Duration) -> Self {
        self.terms.timeout = Some(timeout);
        self
    }

    /// Runs a closure for each of several arguments in forked workers, with these options, like [`scoped_map`].
    ///
    /// # Errors
    /// The errors of [`scoped_map`]; [`PoolError::Zero`].
    pub fn map<A, R>(
        &self,
        arguments: impl IntoIterator<Item = A>,
        closure: impl Fn(A) -> R,
    ) -> Result<Vec<R>, PoolError>
    where
        A: Clone,
        R: Serialize + DeserializeOwned + 'static,
    {
        self.map_until(arguments, closure, Deadline::NEVER)
    }

    /// Like [`map`](Self::map), but waits for at most `timeout` in all: then the workers are killed.
    ///
    /// # Errors
    /// As [`map`](Self::map); [`PoolError::TimedOut`] when the time is over.
    pub fn map_timeout<A, R>(
        &self,
        arguments: impl IntoIterator<Item = A>,
        closure: impl Fn(A) -> R,
        timeout: Duration,
    ) -> Result<Vec<R>, PoolError>
    where
        A: Clone,
        R: Serialize + DeserializeOwned + 'static,
    {
        self.map_until(arguments, closure, Deadline::after(timeout))
    }

    fn map_until<A, R>(
        &self,
        arguments: impl IntoIterator<Item = A>,
        closure: impl Fn(A) -> R,
        deadline: Deadline,
    ) -> Result<Vec<R>, PoolError>
    where
        A: Clone,
        R: Serialize + DeserializeOwned + 'static,
    {
        let arguments: Vec<A> = arguments.into_iter().collect();
        let Some((core, mut feed)) = self.begin(&arguments, &closure)? else { return Ok(Vec::new()) };
        map(&core, &mut feed, deadline)
    }

    /// Like [`map`](Self::map), but returns each task's own result or error.
    ///
    /// ```no_run
    /// use sandpool_guest::pool::Scoped;
    ///
    /// let texts = ["1", "2", "x"];
    /// for (text, number) in texts.iter().zip(Scoped::new().outcomes(&texts, |text| text.parse::<u32>().unwrap())?) {
    ///     match number {
    ///         Ok(number) => println!("{number}"),
    ///         Err(error) => println!("{text}: {error}"),
    ///     }
    /// }
    /// # Ok::<(), sandpool_guest::pool::PoolError>(())
    /// ```
    ///
    /// # Errors
    /// [`PoolError::Start`], [`PoolError::Zero`].
    pub fn outcomes<A, R>(
        &self,
        arguments: impl IntoIterator<Item = A>,
        closure: impl Fn(A) -> R,
    ) -> Result<Vec<Result<R, TaskError>>, PoolError>
    where
        A: Clone,
        R: Serialize + DeserializeOwned + 'static,
    {
        self.outcomes_until(arguments, closure, Deadline::NEVER)
    }

    /// Like [`outcomes`](Self::outcomes), but waits for at most `timeout` in all: then the workers are killed.
    ///
    /// # Errors
    /// As [`outcomes`](Self::outcomes); [`PoolError::TimedOut`] when the time is over.
    pub fn outcomes_timeout<A, R>(
        &self,
        arguments: impl IntoIterator<Item = A>,
        closure: impl Fn(A) -> R,
        timeout: Duration,
    ) -> Result<Vec<Result<R, TaskError>>, PoolError>
    where
        A: Clone,
        R: Serialize + DeserializeOwned + 'static,
    {
        self.outcomes_until(arguments, closure, Deadline::after(timeout))
    }

    fn outcomes_until<A, R>(
        &self,
        arguments: impl IntoIterator<Item = A>,
        closure: impl Fn(A) -> R,
        deadline: Deadline,
    ) -> Result<Vec<Result<R, TaskError>>, PoolError>
    where
        A: Clone,
        R: Serialize + DeserializeOwned + 'static,
    {
        let arguments: Vec<A> = arguments.into_iter().collect();
        let mut outcomes = Vec::with_capacity(arguments.len());
        let Some((core, mut feed)) = self.begin(&arguments, &closure)? else { return Ok(outcomes) };
        let stream = Rc::new(Stream::new(true));
        let job: Rc<dyn Job> = stream.clone();
        let mut in_time = true;
        while outcomes.len() < arguments.len() {
            feed.feed(&core, &job, stream.taken());
            match stream.next() {
                Some(outcome) => outcomes.push(outcome),
                None if !in_time => return Err(PoolError::TimedOut),
                None => in_time = core.step(deadline) || deadline.left() != NO_WAIT,
            }
        }
        Ok(outcomes)
    }

    /// Forks the workers. Returns `None` if there is nothing to do.
    fn begin<'s, A, R>(
        &self,
        arguments: &'s [A],
        closure: &'s impl Fn(A) -> R,
    ) -> Result<Option<(Core<'s>, Indices)>, PoolError>
    where
        A: Clone,
        R: Serialize,
    {
        if self.chunksize == Some(0) {
            return Err(PoolError::Zero("chunksize"));
        }
        if arguments.is_empty() {
            return Ok(None);
        }
        let core = Core::new(Plan {
            processes: self.processes.min(arguments.len()),
            tasks_max: 0,
            name: "ScopedWorker".to_owned(),
            has_initializer: false,
            start: Box::new(move |links, name| {
                Builder::worker(name).fork(move || {
                    worker::run(&links, &|| None, &|turn: &mut Turn<'_>| each(turn, arguments, closure))
                })
            }),
        })?;
        let shape = Shape { callee: NOTHING, terms: self.terms, chunksize: self.chunksize, window: None };
        Ok(Some((core, Feed::new(0..arguments.len(), shape))))
    }
}

/// The tasks that are given out: the arguments by their indices.
type Indices = Feed<Range<usize>, usize>;

/// The work of a worker: only indices come, because the worker has everything else.
fn each<A: Clone, R: Serialize>(turn: &mut Turn<'_>, arguments: &[A], closure: &impl Fn(A) -> R) {
    while let Some(index) = turn.next::<usize>() {
        match index.map(|index| arguments.get(index)) {
            Ok(Some(arguments)) => turn.reply(closure(arguments.clone())),
            Ok(None) => turn.refuse(PartKind::Decode, &"there are no such arguments"),
            Err(error) => turn.refuse(PartKind::Decode, &error),
        }
    }
}
