//! A pool, as an application holds it.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread::JoinHandle;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::dispatcher::{Shared, Task};
use super::event::{Event, Stats};
use super::format::Format;
use super::future::TaskFuture;
use super::imap::Imap;
use super::outcome::{Completed, Decode};
use super::sink::Sink;
use super::stream::{self, Feed, Results};
use crate::error::{Failure, PoolEnd, TaskError};
use crate::jail::JailReport;
use crate::nearest::nearest_name;
use crate::{Error, Module, Result, codec};

/// Workers that run the tasks of a module, each in a sandboxed process of its own.
///
/// ```no_run
/// fn main() -> sandpool::Result<()> {
///     sandpool::init();
///     let module = sandpool::Module::from_file("tasks.wasm")?;
///     let pool = sandpool::Pool::builder(&module).build()?;
///     let texts = ["one text", "another"];
///     let scores: Vec<u64> = pool.map("score", texts)?;
///     for (text, score) in texts.iter().zip(scores) {
///         println!("{score} {text}");
///     }
///     Ok(())
/// }
/// ```
///
/// A task is a function that the module exports: `#[sandpool_guest::task]` in Rust. Inputs and outputs are values of any
/// type that serde knows; those with several arguments take a tuple. The tasks of a [component](Module::is_component) are its
/// exported functions; values go to them and come back as JSON.
///
/// Many threads can use a pool at once. Dropping the pool terminates it: all workers are killed. To finish the remaining tasks
/// first, call [`close`](Self::close) and [`join`](Self::join).
pub struct Pool {
    pub(super) shared: Arc<Shared>,
    /// The names of the module's tasks.
    pub(super) tasks: Vec<String>,
    /// How the typed calls write inputs and read outputs.
    pub(super) coding: Coding,
    /// Why the pool runs no commands, if it doesn't.
    pub(super) no_commands: Option<&'static str>,
    pub(super) supervisor_pid: u32,
    pub(super) jail: JailReport,
    pub(super) threads: Vec<JoinHandle<()>>,
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pool")
            .field("supervisor_pid", &self.supervisor_pid)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl Pool {
    /// Runs a task and waits for its output.
    ///
    /// # Errors
    /// [`TaskError`], which says why there is no output.
    pub fn apply<I: Serialize + ?Sized, O: DeserializeOwned>(
        &self,
        task: &str,
        input: &I,
    ) -> Result<O, TaskError> {
        self.submit(task, input)?.result()
    }

    /// Submits a task and doesn't wait for it.
    ///
    /// # Errors
    /// [`Failure::NoTask`], [`Failure::Encode`], [`Failure::NotRunning`], [`Failure::PoolEnded`]. The future reports all other
    /// failures.
    #[doc(alias = "apply_async")]
    pub fn submit<I: Serialize + ?Sized, O: DeserializeOwned>(
        &self,
        task: &str,
        input: &I,
    ) -> Result<TaskFuture<O>, TaskError> {
        let task: Arc<str> = task.into();
        let input =
            self.coding.encode(input).map_err(|why| TaskError::untried(&task, Failure::Encode(why)))?;
        self.submit_as(task, self.coding.format(), &input, self.coding.decoder())
    }

    /// Submits a task whose input and output are written in this format.
    ///
    /// # Errors
    /// The same errors as for [`submit`](Self::submit).
    pub fn submit_record(
        &self,
        task: &str,
        format: Format,
        input: &[u8],
    ) -> Result<TaskFuture<Vec<u8>>, TaskError> {
        self.submit_as(task.into(), format, input, |completed, _| Ok(completed))
    }

    /// Refuses a task that the module doesn't have.
    pub(super) fn check(&self, task: &str) -> Result<(), Failure> {
        if self.tasks.iter().any(|known| known == task) {
            return Ok(());
        }
        let nearest = nearest_name(self.tasks.iter().map(String::as_str), task);
        Err(Failure::NoTask(nearest.map(str::to_owned)))
    }

    fn submit_as<T>(
        &self,
        task: Arc<str>,
        format: Format,
        input: &[u8],
        decode: Decode<T>,
    ) -> Result<TaskFuture<T>, TaskError> {
        self.check(&task).map_err(|cause| TaskError::untried(&task, cause))?;
        let (future, cell) = TaskFuture::new(task.clone(), decode);
        let submitted = self.shared.submit([Task::new(task.clone(), format as u32, input, Sink::Cell(cell))]);
        submitted.map_err(|cause| TaskError::untried(&task, cause))?;
        Ok(future)
    }

    /// Runs a task over many inputs, and waits for all outputs, which come in the order of the inputs.
    ///
    /// # Errors
    /// The first [`TaskError`] in that order. Tasks that were submitted by then go on, and their results are thrown away; to get
    /// all outputs and errors, iterate with [`imap`](Self::imap).
    #[doc(alias = "starmap")]
    pub fn map<I: Serialize, O: DeserializeOwned>(
        &self,
        task: &str,
        inputs: impl IntoIterator<Item = I>,
    ) -> Result<Vec<O>, TaskError> {
        self.imap(task, inputs).collect()
    }

    /// Runs a task over many inputs, and iterates over the outputs in the order of the inputs.
    ///
    /// ```no_run
    /// # fn example(pool: &sandpool::Pool) {
    /// for (n, factors) in pool.imap("factor", 1..1_000_000_u64).enumerate() {
    ///     let factors: Result<u64, _> = factors;
    ///     match factors {
    ///         Ok(factors) => println!("{n}: {factors}"),
    ///         Err(error) => eprintln!("{n}: {error}"),
    ///     }
    /// }
    /// # }
    /// ```
    ///
    /// The iterator takes inputs while its outputs are taken: at most [`Imap::window`] inputs are at work at once. If the iterator
    /// is dropped, inputs that no worker has begun aren't run.
    pub fn imap<I: Serialize, O: DeserializeOwned>(
        &self,
        task: &str,
        inputs: impl IntoIterator<Item = I>,
    ) -> Imap<'_, impl Iterator<Item = I>, O> {
        self.imap_as(task, inputs, true)
    }

    /// Runs a task over many inputs, and iterates over the outputs in the order in which they are done.
    pub fn imap_unordered<I: Serialize, O: DeserializeOwned>(
        &self,
        task: &str,
        inputs: impl IntoIterator<Item = I>,
    ) -> Imap<'_, impl Iterator<Item = I>, O> {
        self.imap_as(task, inputs, false)
    }

    fn imap_as<I: Serialize, O: DeserializeOwned, N: IntoIterator<Item = I>>(
        &self,
        task: &str,
        inputs: N,
        is_ordered: bool,
    ) -> Imap<'_, N::IntoIter, O> {
        let ends = stream::stream(&self.shared, task, self.coding.format() as u32, is_ordered);
        let refused = self.check(task).err().map(|cause| TaskError::untried(task, cause));
        Imap::new(
            &self.shared,
            ends,
            refused,
            inputs.into_iter(),
            (self.coding.encoder(), self.coding.decoder()),
        )
    }

    /// Opens a stream of inputs through a task: one thread feeds inputs into one end, and another takes results from the other.
    ///
    /// ```no_run
    /// # fn example(pool: &sandpool::Pool) {
    /// let (mut feed, results) = pool.stream("upper", sandpool::pool::Format::Text);
    /// std::thread::spawn(move || {
    ///     for line in std::io::stdin().lines().map_while(Result::ok) {
    ///         feed.put(line.as_bytes());
    ///         feed.flush();
    ///     }
    /// });
    /// for (number, outcome) in results {
    ///     println!("{number}: {outcome:?}");
    /// }
    /// # }
    /// ```
    ///
    /// Inputs are numbered from 0 on, and results come in the order of the inputs. Neither end waits longer than necessary: an
    /// input that comes late holds back no finished result, and the feed waits only when enough inputs are at work and nobody takes
    /// results.
    #[must_use]
    pub fn stream(&self, task: &str, format: Format) -> (Feed, Results) {
        stream::stream(&self.shared, task, format as u32, true)
    }

    /// Opens a stream as [`stream`](Self::stream) does, whose results come in the order in which they are done.
    #[must_use]
    pub fn stream_unordered(&self, task: &str, format: Format) -> (Feed, Results) {
        stream::stream(&self.shared, task, format as u32, false)
    }

    /// Changes the number of workers. Surplus workers end when they have finished their current work.
    ///
    /// # Panics
    /// If `processes` is 0.
    pub fn resize(&self, processes: usize) {
        assert!(processes > 0, "a pool has at least one worker");
        self.shared.resize(processes);
    }

    /// Number of workers that the pool is to have.
    #[doc(alias = "workers")]
    #[must_use]
    pub fn processes(&self) -> usize {
        self.shared.workers()
    }

    /// Figures of the pool's work so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.stats()
    }

    /// Returns a receiver of the pool's events from now on, until the pool has ended or the receiver is dropped.
    #[must_use]
    pub fn events(&self) -> Receiver<Event> {
        let (sender, events) = mpsc::channel();
        self.shared.listen(sender);
        events
    }

    /// The supervisor's process id. All workers are its children.
    #[must_use]
    pub fn supervisor_pid(&self) -> u32 {
        self.supervisor_pid
    }

    /// Reports which layers of the jail hold the workers, and how fully.
    #[must_use]
    pub fn jail(&self) -> &JailReport {
        &self.jail
    }

    /// Why the pool has ended, or `None` if it hasn't. A pool that has ended takes no more tasks.
    #[must_use]
    pub fn ended(&self) -> Option<PoolEnd> {
        self.shared.ended()
    }

    /// Stops taking tasks. Tasks that were submitted are still done.
    pub fn close(&self) {
        self.shared.close();
    }

    /// Kills all workers. Tasks that aren't done fail with [`PoolEnd::Terminated`].
    pub fn terminate(&self) {
        self.shared.terminate();
    }

    /// Waits until all tasks are done and all workers have ended, after [`close`](Self::close) or [`terminate`](Self::terminate).
    ///
    /// # Errors
    /// [`Error::Invalid`] if neither was called; [`Error::Pool`] if the pool ended before all tasks were done.
    pub fn join(&self) -> Result<()> {
        match self.shared.join() {
            Some(PoolEnd::Closed | PoolEnd::Terminated) => Ok(()),
            Some(end) => Err(Error::Pool(end)),
            None => Err(Error::Invalid {
                what: "the pool is still running".to_owned(),
                hint: Some("call close() or terminate() first".to_owned()),
            }),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.terminate();
        for thread in self.threads.drain(..) {
            // If the thread has panicked, there is nothing left for it to do.
            let _ = thread.join();
        }
    }
}

/// The encoding of values that the typed calls pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    /// For the tasks of modules.
    Serde,
    /// For functions of components, whose types aren't those of Rust.
    Json,
}

impl Coding {
    pub(super) fn from_module(module: &Module) -> Self {
        if module.is_component() { Self::Json } else { Self::Serde }
    }

    pub(super) fn format(self) -> Format {
        match self {
            Self::Serde => Format::Serde,
            Self::Json => Format::Json,
        }
    }

    pub(super) fn encode(self, input: &(impl Serialize + ?Sized)) -> Result<Vec<u8>, String> {
        match self {
            Self::Serde => codec::encode(input).map_err(|error| error.to_string()),
            Self::Json => serde_json::to_vec(input).map_err(|error| error.to_string()),
        }
    }

    fn encoder<I: Serialize>(self) -> fn(&I, &str) -> Result<Vec<u8>, TaskError> {
        fn with<I: Serialize>(coding: Coding, input: &I, task: &str) -> Result<Vec<u8>, TaskError> {
            coding.encode(input).map_err(|why| TaskError::untried(task, Failure::Encode(why)))
        }
        match self {
            Self::Serde => |input, task| with(Self::Serde, input, task),
            Self::Json => |input, task| with(Self::Json, input, task),
        }
    }

    fn decoder<T: DeserializeOwned>(self) -> Decode<T> {
        match self {
            Self::Serde => Completed::decode,
            Self::Json => Completed::decode_json,
        }
    }
}
