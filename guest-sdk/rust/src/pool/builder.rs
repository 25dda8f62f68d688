//! Making a pool: its settings, and how its workers start.

use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::core::{Core, Plan, Terms};
use super::error::PoolError;
use super::handle::Pool;
use super::worker::{self, Links, Parcel};
use crate::process::Builder as ProcessBuilder;
use crate::start::Termination;
use crate::{Error, Process, cpu_count, raw};

/// How the processes of a pool start: see [`Process`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum StartMethod {
    /// Each process gets a copy of all memory, as it is when the worker is started.
    #[default]
    Fork,
    /// Each process gets fresh memory. This needs [`#[sandpool_guest::main]`](macro@crate::main).
    Spawn,
}

/// Starts a process whose first action is the initializer.
type Initializer = Box<dyn Fn(StartMethod, Links, &str) -> Result<Process, Error>>;

impl Pool {
    /// Makes a pool with a worker for each processor.
    ///
    /// # Errors
    /// [`PoolError::Start`].
    pub fn new() -> Result<Self, PoolError> {
        Self::builder().build()
    }

    /// Returns a [`Builder`], which makes a pool with another number of workers, an initializer, or other
    /// settings.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use sandpool_guest::Pool;
    ///
    /// let pool = Pool::builder().processes(4).maxtasksperchild(100).task_timeout(Duration::from_secs(5)).build()?;
    /// # Ok::<(), sandpool_guest::pool::PoolError>(())
    /// ```
    pub fn builder() -> Builder {
        Builder::new()
    }
}

/// A pool that is about to be made: see [`Pool::builder`].
#[must_use = "it makes nothing until `build`"]
pub struct Builder {
    processes: usize,
    tasks_max: Option<u64>,
    method: StartMethod,
    terms: Terms,
    initializer: Option<Initializer>,
}

impl Builder {
    /// The default settings.
    pub(super) fn new() -> Self {
        Self {
            processes: cpu_count(),
            tasks_max: None,
            method: StartMethod::Fork,
            terms: Terms::default(),
            initializer: None,
        }
    }

    /// Sets the number of workers, instead of one for each processor.
    pub fn processes(mut self, processes: usize) -> Self {
        self.processes = processes;
        self
    }

    /// Sets a function that each worker calls before its first task, with a clone of these arguments.
    ///
    /// ```no_run
    /// use std::cell::OnceCell;
    ///
    /// use sandpool_guest::Pool;
    ///
    /// thread_local! {
    ///     static WORDS: OnceCell<Vec<String>> = const { OnceCell::new() };
    /// }
    ///
    /// fn load(path: String) -> Result<(), std::io::Error> {
    ///     let text = std::fs::read_to_string(path)?;
    ///     WORDS.with(|words| words.set(text.lines().map(str::to_owned).collect()).expect("it is called once"));
    ///     Ok(())
    /// }
    ///
    /// let pool = Pool::builder().initializer(load, "/data/words".to_owned()).build()?;
    /// # Ok::<(), sandpool_guest::pool::PoolError>(())
    /// ```
    ///
    /// If the initializer fails (returns an error, panics, ends the process in any other way), the pool comes to its
    /// end: tasks fail with [`PoolEnd::Initializer`](super::PoolEnd::Initializer), and the pool takes no more.
    #[doc(alias = "initargs")]
    pub fn initializer<A, T>(mut self, function: fn(A) -> T, arguments: A) -> Self
    where
        A: Serialize + DeserializeOwned + Clone + 'static,
        T: Termination + 'static,
    {
        self.initializer =
            Some(Box::new(move |method, links, name| start(method, links, name, function, &arguments)));
        self
    }

    /// Sets the number of tasks after which a worker ends, and another takes its place. A chunk of a map is one task
    /// here.
    pub fn maxtasksperchild(mut self, tasks: u64) -> Self {
        self.tasks_max = Some(tasks);
        self
    }

    /// Sets how workers are started.
    pub fn start_method(mut self, method: StartMethod) -> Self {
        self.method = method;
        self
    }

    /// Sets how long a task may take. A task that takes longer is killed, and fails with [`Cause::TimedOut`](super::Cause::TimedOut).
    ///
    /// The pool looks at the clock when the program waits for the pool, or gives it something to do.
    pub fn task_timeout(mut self, timeout: Duration) -> Self {
        self.terms.timeout = Some(timeout);
        self
    }

    /// Sets how often a failed task is tried again. A task that can't be encoded or decoded isn't tried again.
    pub fn retries(mut self, retries: u32) -> Self {
        self.terms.retries = retries;
        self
    }

    /// Makes the pool, and starts its workers.
    ///
    /// # Errors
    /// [`PoolError::Zero`] for a number that is 0; [`PoolError::Start`] if a worker can't be started.
    pub fn build(self) -> Result<Pool, PoolError> {
        if self.tasks_max == Some(0) {
            return Err(PoolError::Zero("maxtasksperchild"));
        }
        let method = self.method;
        let has_initializer = self.initializer.is_some();
        let initializer = self
            .initializer
            .unwrap_or_else(|| Box::new(|method, links, name| start(method, links, name, |()| (), &())));
        let core = Core::new(Plan {
            processes: self.processes,
            tasks_max: self.tasks_max.unwrap_or(0),
            name: "PoolWorker".to_owned(),
            has_initializer,
            start: Box::new(move |links, name| initializer(method, links, name)),
        })?;
        Ok(Pool { core: Rc::new(core), terms: self.terms })
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("processes", &self.processes)
            .field("maxtasksperchild", &self.tasks_max)
            .field("start_method", &self.method)
            .finish_non_exhaustive()
    }
}

/// Starts a worker with this initializer.
fn start<A, T>(
    method: StartMethod,
    links: Links,
    name: &str,
    function: fn(A) -> T,
    arguments: &A,
) -> Result<Process, Error>
where
    A: Serialize + DeserializeOwned + Clone,
    T: Termination,
{
    let builder = ProcessBuilder::worker(name);
    match method {
        StartMethod::Fork => builder.fork(move || {
            let initialize = || function(arguments.clone()).failure();
            worker::run(&links, &initialize, &worker::call_by_number)
        }),
        StartMethod::Spawn => {
            let function = raw::function::number(function);
            builder.spawn(spawned::<A, T>, (links.pack(), function, arguments.clone()))
        }
    }
}

/// Runs a worker that was spawned.
fn spawned<A, T>((links, function, arguments): (Parcel, u64, A)) -> i32
where
    A: Clone,
    T: Termination,
{
    let initialize = || match raw::function::from_number::<A, T>(function) {
        Some(function) => function(arguments.clone()).failure(),
        None => Some("it doesn't name a function of this program".to_owned()),
    };
    worker::run(&Links::unpack(links), &initialize, &worker::call_by_number)
}
