//! Pools: an application has many inputs, and workers run a task over them, in parallel and in sandboxes.
//!
//! ```text
//!  Pool ── crate::wire: tasks, results ── link: the arena ──── worker: process/pool_worker.rs
//!   │                                │
//!   │  dispatcher: what goes where, deaths, deadlines; one thread, one lock
//!   ├─ future, stream, imap: where results go
//!   └─ command: tasks that are a run of the module's program
//! ```
//!
//! [`dispatcher`] explains what a pool does; [`link`] explains how a task reaches a worker.

mod command;
mod dispatcher;
mod event;
mod future;
mod imap;
mod link;
mod stream;

use std::fmt;
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use self::command::{CommandFeed, CommandOutput, CommandResults};
use self::dispatcher::{Rules, Shared, Task};
pub use self::event::{Event, Stats};
pub use self::future::{AsCompleted, Completed, TaskFuture, as_completed};
use self::future::{Decode, Sink};
pub use self::imap::Imap;
use self::link::Link;
pub use self::stream::{Feed, Results, StreamStopper};
use crate::config::{Role, RunConfig, Sandbox};
use crate::control::{self, Reply};
use crate::error::{Failure, TaskError};
use crate::nearest::nearest_name;
use crate::supervised::Supervisor;
use crate::wire::{Isolation, Output, Setup};
use crate::{Error, ExitStatus, JailReport, Module, PoolEnd, Result, codec};

/// The most bytes of a result by default.
const OUTPUT_MAX: u64 = 64 << 20;

/// Format of the input and the output of a task. A task of the Rust SDK knows all formats.
///
/// ```no_run
/// # fn example(pool: &sandpool::Pool) -> sandpool::Result<()> {
/// let output = pool.submit_record("upper", sandpool::Format::Text, b"some text")?.result()?;
/// assert_eq!(output, b"SOME TEXT");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
#[non_exhaustive]
pub enum Format {
    /// Values as serde and bincode 2 encode them. The typed calls use this format.
    Serde = sandpool_abi::task::SERDE,
    /// JSON.
    Json = sandpool_abi::task::JSON,
    /// Text, such as a line without its end. A value that isn't text is written as JSON, in one line.
    Text = sandpool_abi::task::TEXT,
    /// Bytes, unchanged.
    Bytes = sandpool_abi::task::BYTES,
}

/// Settings of a [`Pool`].
///
/// ```no_run
/// # fn main() -> sandpool::Result<()> {
/// use std::time::Duration;
/// use sandpool::{Limits, Module, Pool, Sandbox};
///
/// let sandbox =
///     Sandbox::new().dir("./data:/data:ro".parse()?).limits(Limits::default().memory_max(256 << 20));
/// let module = Module::from_file("tasks.wasm")?;
/// let pool = Pool::builder(&module)
///     .sandbox(sandbox)
///     .processes(4)
///     .task_timeout(Duration::from_secs(5))
///     .retries(1)
///     .initializer("load", &"/data/model")
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "no worker is started until `build`"]
pub struct PoolBuilder<'a> {
    module: &'a Module,
    config: RunConfig,
    workers: Option<usize>,
    setup: Setup,
    rules: Rules,
    /// Why the initializer's input can't be encoded, if it can't.
    refused: Option<String>,
}

impl PoolBuilder<'_> {
    /// Sets the number of workers. The default is one for each processor that this process may use, but no more than the limit of
    /// [processes](crate::Limits::processes_max) allows.
    #[doc(alias = "workers")]
    #[doc(alias = "max_workers")]
    pub fn processes(mut self, processes: usize) -> Self {
        self.workers = Some(processes);
        self
    }

    /// Sets whether tasks run in the worker or each in a process of its own. The default is [`Isolation::Worker`], and
    /// [`Isolation::Task`] for a module that is a program and has no tasks: see [`Pool::run`].
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.setup.isolation = isolation;
        self
    }

    /// Sets a task that each worker runs before any other. If this task fails, the pool ends with its error. Its output is
    /// discarded.
    pub fn initializer(mut self, task: &str, input: &(impl Serialize + ?Sized)) -> Self {
        match codec::encode(input) {
            Ok(input) => {
                self.setup.initializer = Some((task.to_owned(), Format::Serde as u32, input));
                self.rules.has_initializer = true;
                self.refused = None;
            }
            Err(error) => self.refused = Some(error.to_string()),
        }
        self
    }

    /// Replaces a worker after it has run this number of tasks. The default is never.
    #[doc(alias = "max_tasks_per_child")]
    pub fn maxtasksperchild(mut self, tasks: u64) -> Self {
        self.setup.max_tasks = tasks;
        self
    }

    /// Sets how long a task may run. A task that runs for longer is killed, and no other task is. The default is no limit.
    pub fn task_timeout(mut self, timeout: Duration) -> Self {
        self.rules.task_timeout = Some(timeout);
        self
    }

    /// Sets how long a worker may take to become ready for tasks, which includes the module's own start and the initializer. If a
    /// worker takes longer, the pool ends. The default is no limit.
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.rules.start_timeout = Some(timeout);
        self
    }

    /// Sets how often a task is tried again if its process crashed, was killed or took too long. A task that returned an error
    /// itself isn't tried again. The default is 0.
    pub fn retries(mut self, retries: u32) -> Self {
        self.rules.retries = retries;
        self
    }

    /// Sets the most bytes that the output of a task may have, and the most that are kept of each of its streams; at most a quarter
    /// of the arena. The default is 64 MiB.
    pub fn output_max(mut self, bytes: u64) -> Self {
        self.setup.output_max = bytes;
        self
    }

    /// Sets what happens to text that tasks print. The default is [`Output::Discard`].
    pub fn output(mut self, output: Output) -> Self {
        self.setup.output = output;
        self
    }

    /// Sets what the workers, and all processes that tasks start, are given and held to. The default is [`Sandbox::default`].
    pub fn sandbox(mut self, sandbox: Sandbox) -> Self {
        self.config.sandbox = sandbox;
        self
    }

    /// Tells native code that runs in place of tasks what to do: for tests of the jail.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    pub fn native(mut self, arg: impl Into<String>) -> Self {
        self.config.args.push(arg.into());
        self
    }

    /// Starts the pool and waits until one worker is ready.
    ///
    /// # Errors
    ///
    /// [`Error::Pool`] if the initializer fails or takes too long, or no worker can be started; [`Error::UnknownTask`] if the
    /// module has no task of the initializer's name; [`Error::NotInitialized`], [`Error::Invalid`], [`Error::Grant`],
    /// [`Error::Jail`], [`Error::Supervisor`], [`Error::Os`].
    pub fn build(mut self) -> Result<Pool> {
        let workers = match self.workers {
            Some(workers) => workers,
            None => {
                let most = self.config.sandbox.limits.processes_max.saturating_sub(1).max(1) as usize;
                thread::available_parallelism().map_or(1, usize::from).min(most)
            }
        };
        let invalid = |what: String, hint: &str| Err(Error::Invalid { what, hint: Some(hint.to_owned()) });
        // The owner takes one slot.
        if workers == 0 || workers >= self.config.sandbox.limits.processes_max as usize {
            let most = self.config.sandbox.limits.processes_max.saturating_sub(1);
            return invalid(
                format!("a pool cannot have {workers} workers"),
                &format!("between 1 and {most}, which is one less than the processes that there may be"),
            );
        }
        if let Some(why) = &self.refused {
            return invalid(format!("the initializer's input cannot be encoded: {why}"), "send plain data");
        }
        if [self.rules.task_timeout, self.rules.start_timeout].contains(&Some(Duration::ZERO)) {
            return invalid("a task cannot take no time".to_owned(), "leave the timeout out");
        }
        let limits = &self.config.sandbox.limits;
        let of_a_process = [
            ("cpu-time", limits.cpu_time.is_some()),
            ("wall-time", limits.wall_time.is_some()),
            ("stdio-max", limits.stdio_max.is_some()),
        ];
        if self.setup.isolation == Isolation::Worker
            && let Some((name, _)) = of_a_process.into_iter().find(|(_, is_set)| *is_set)
        {
            return invalid(
                format!(
                    "{name} would hit whichever task a worker is at when all of its tasks have reached it"
                ),
                "give each task a process, by isolation task; or limit its time by a task timeout",
            );
        }
        if let Some((task, ..)) = &self.setup.initializer {
            self.module.task(task)?;
        }
        let arena_size = self.config.sandbox.limits.arena_size;
        let quarter = arena_size / 4;
        let output_max = self.setup.output_max.min(quarter);
        let rules = Rules { bytes_max: quarter, arena_size, output_max, ..self.rules };
        // The two queues are the owner's objects.
        let objects_max = u64::from(limits.objects_max.saturating_sub(2)) / workers as u64;
        let beside = u64::from(limits.processes_max).saturating_sub(workers as u64 + 1);
        let processes_max = (beside / workers as u64).max(1);
        let setup = Setup { output_max, objects_max, processes_max, ..self.setup.clone() };
        self.config.forks_tasks = setup.isolation == Isolation::Task;
        let os = |what| move |source| Error::Os { what, source };
        let null = std::fs::File::options().read(true).write(true).open("/dev/null");
        let null = null.map_err(os("open /dev/null"))?;
        let (stdout, stderr) = (std::io::stdout(), std::io::stderr());
        // A worker has no descriptor of a stream that it must not write to. So even a worker that has broken out of WebAssembly
        // can't write there.
        let stdio = match setup.output {
            Output::Inherit => [null.as_fd(), stdout.as_fd(), stderr.as_fd()],
            Output::Discard | Output::Capture => [null.as_fd(); 3],
        };
        let (mut supervisor, descriptors) = Supervisor::start(&mut self.config, self.module, stdio)?;
        let Ok([memory, doorbell]) = <[_; 2]>::try_from(descriptors) else {
            return Err(supervisor.lost(None));
        };
        let (link, waiter) =
            Link::new(&memory, doorbell, self.config.geometry(), &setup).map_err(os("map the arena"))?;
        let socket = supervisor.socket().clone();
        let shared = Shared::new(link, waiter, socket, rules, workers);
        let supervisor_pid = supervisor.pid();
        let jail = supervisor.jail().clone();
        let controlled = shared.clone();
        let control = move || {
            // Whatever this message says, no other comes after it.
            let end = match control::receive_message(controlled.socket().as_fd()) {
                Ok(Some(Reply::Ended(ended))) => {
                    supervisor.ended();
                    match ended.main.status() {
                        Some(ExitStatus::Limited(limit)) => PoolEnd::Limited(limit),
                        Some(ExitStatus::Strays(count)) => PoolEnd::Strays(count),
                        Some(status) => PoolEnd::SupervisorLost(format!("it has ended the run: {status}")),
                        None => PoolEnd::SupervisorLost("it has ended the run".to_owned()),
                    }
                }
                reply => PoolEnd::SupervisorLost(supervisor.why_lost(reply.ok().flatten())),
            };
            controlled.supervisor_ended(end);
        };
        let dispatched = shared.clone();
        let tasks = self.module.tasks().iter().map(|task| task.name.raw().to_owned()).collect();
        let no_commands = command::refusal(self.module, setup.isolation);
        let mut pool = Pool { shared, tasks, no_commands, supervisor_pid, jail, threads: Vec::new() };
        for (name, work) in [
            ("sandpool-control", Box::new(control) as Box<dyn FnOnce() + Send>),
            ("sandpool-pool", Box::new(move || dispatcher::run(&dispatched))),
        ] {
            let started = thread::Builder::new().name(name.to_owned()).spawn(work);
            pool.threads.push(started.map_err(os("start a thread"))?);
        }
        pool.shared.wait_until_ready().map_err(Error::Pool)?;
        Ok(pool)
    }
}

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
/// type that serde knows; those with several arguments take a tuple.
///
/// Many threads can use a pool at once. Dropping the pool terminates it: all workers are killed. To finish the remaining tasks
/// first, call [`close`](Self::close) and [`join`](Self::join).
pub struct Pool {
    shared: Arc<Shared>,
    /// The names of the module's tasks.
    tasks: Vec<String>,
    /// Why the pool runs no commands, if it doesn't.
    no_commands: Option<&'static str>,
    supervisor_pid: u32,
    jail: JailReport,
    threads: Vec<JoinHandle<()>>,
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
    /// Settings for a pool.
    pub fn builder(module: &Module) -> PoolBuilder<'_> {
        let is_program = module.tasks().is_empty() && module.is_program();
        PoolBuilder {
            module,
            config: RunConfig::new(Role::Pool),
            workers: None,
            setup: Setup {
                isolation: if is_program { Isolation::Task } else { Isolation::Worker },
                output: Output::Discard,
                output_max: OUTPUT_MAX,
                objects_max: 0,
                processes_max: 0,
                max_tasks: 0,
                initializer: None,
            },
            rules: Rules {
                task_timeout: None,
                start_timeout: None,
                retries: 0,
                has_initializer: false,
                bytes_max: 0,
                arena_size: 0,
                output_max: 0,
            },
            refused: None,
        }
    }

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
        let input = encode(&task, input)?;
        self.submit_as(task, Format::Serde, &input, Completed::decode)
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
    fn check(&self, task: &str) -> Result<(), Failure> {
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
        self.check(&task).map_err(|cause| refusal(&task, cause))?;
        let (future, cell) = TaskFuture::new(task.clone(), decode);
        let submitted = self.shared.submit([Task::new(task.clone(), format as u32, input, Sink::Cell(cell))]);
        submitted.map_err(|cause| refusal(&task, cause))?;
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
        let ends = stream::stream(&self.shared, task, Format::Serde as u32, is_ordered);
        let refused = self.check(task).err().map(|cause| refusal(task, cause));
        Imap::new(
            self,
            ends,
            refused,
            inputs.into_iter(),
            (|input, task| encode(task, input), Completed::decode),
        )
    }

    /// Opens a stream of inputs through a task: one thread feeds inputs into one end, and another takes results from the other.
    ///
    /// ```no_run
    /// # fn example(pool: &sandpool::Pool) {
    /// let (mut feed, results) = pool.stream("upper", sandpool::Format::Text);
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

fn encode(task: &str, input: &(impl Serialize + ?Sized)) -> Result<Vec<u8>, TaskError> {
    codec::encode(input).map_err(|error| refusal(task, Failure::Encode(error.to_string())))
}

/// The error of a task that wasn't submitted.
fn refusal(task: &str, cause: Failure) -> TaskError {
    TaskError::untried(task, cause)
}
