//! The settings of a pool, and its start.

use std::fs::File;
use std::io;
use std::os::fd::AsFd as _;
use std::thread;
use std::time::Duration;

use serde::Serialize;

use super::command;
use super::dispatcher::{self, Rules, Shared};
use super::handle::{Coding, Pool};
use super::link::Link;
use crate::config::{Role, RunConfig, Sandbox};
use crate::control::{self, Reply};
use crate::error::PoolEnd;
use crate::supervised::Supervisor;
use crate::wire::{Isolation, Output, Setup};
use crate::{Error, ExitStatus, Module, Result};

/// The most bytes of a result by default.
const OUTPUT_MAX: u64 = 64 << 20;

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
pub struct Builder<'a> {
    module: &'a Module,
    config: RunConfig,
    workers: Option<usize>,
    setup: Setup,
    rules: Rules,
    /// Why the initializer's input can't be encoded, if it can't.
    refused: Option<String>,
}

impl Pool {
    /// Settings for a pool.
    pub fn builder(module: &Module) -> Builder<'_> {
        Builder::new(module)
    }
}

impl<'a> Builder<'a> {
    /// The default settings.
    fn new(module: &'a Module) -> Self {
        let is_program = module.tasks().is_empty() && module.is_program();
        Self {
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
        let coding = Coding::from_module(self.module);
        match coding.encode(input) {
            Ok(input) => {
                self.setup.initializer = Some((task.to_owned(), coding.format() as u32, input));
                self.rules.has_initializer = true;
                self.refused = None;
            }
            Err(why) => self.refused = Some(why),
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
        let workers = self.checked_workers()?;
        let (rules, setup) = self.shares(workers);
        self.config.forks_tasks = setup.isolation == Isolation::Task;
        let os = |what| move |source| Error::Os { what, source };
        let null = File::options().read(true).write(true).open("/dev/null");
        let null = null.map_err(os("open /dev/null"))?;
        let (stdout, stderr) = (io::stdout(), io::stderr());
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
        let shared = Shared::new(link, waiter, supervisor.socket().clone(), rules, workers);
        let tasks = self.module.tasks().iter().map(|task| task.name.raw().to_owned()).collect();
        let mut pool = Pool {
            shared: shared.clone(),
            tasks,
            coding: Coding::from_module(self.module),
            no_commands: command::refusal(self.module, setup.isolation),
            supervisor_pid: supervisor.pid(),
            jail: supervisor.jail().clone(),
            threads: Vec::new(),
        };
        let dispatched = shared.clone();
        for (name, work) in [
            (
                "sandpool-control",
                Box::new(move || shared.supervisor_ended(end_of(supervisor))) as Box<dyn FnOnce() + Send>,
            ),
            ("sandpool-pool", Box::new(move || dispatcher::run(&dispatched))),
        ] {
            let started = thread::Builder::new().name(name.to_owned()).spawn(work);
            pool.threads.push(started.map_err(os("start a thread"))?);
        }
        pool.shared.wait_until_ready().map_err(Error::Pool)?;
        Ok(pool)
    }

    /// Checks the settings, and returns how many workers there are to be.
    fn checked_workers(&self) -> Result<usize> {
        let limits = &self.config.sandbox.limits;
        // The owner takes one slot.
        let most = limits.processes_max.saturating_sub(1) as usize;
        let workers = self
            .workers
            .unwrap_or_else(|| thread::available_parallelism().map_or(1, usize::from).min(most.max(1)));
        let invalid = |what: String, hint: &str| Err(Error::Invalid { what, hint: Some(hint.to_owned()) });
        if workers == 0 || workers > most {
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
        Ok(workers)
    }

    /// Each worker's share of what the run may have.
    fn shares(&self, workers: usize) -> (Rules, Setup) {
        let limits = &self.config.sandbox.limits;
        let workers = workers as u64;
        let arena_size = limits.arena_size;
        let quarter = arena_size / 4;
        let output_max = self.setup.output_max.min(quarter);
        // The two queues are the owner's objects.
        let objects_max = u64::from(limits.objects_max.saturating_sub(2)) / workers;
        let beside = u64::from(limits.processes_max).saturating_sub(workers + 1);
        let processes_max = (beside / workers).max(1);
        (
            Rules { bytes_max: quarter, arena_size, output_max, ..self.rules },
            Setup { output_max, objects_max, processes_max, ..self.setup.clone() },
        )
    }
}

/// Waits for the end of a pool's supervisor. The first message is also the last, even if it
/// doesn't report the end.
fn end_of(mut supervisor: Supervisor) -> PoolEnd {
    match control::receive_message(supervisor.socket().as_fd()) {
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
    }
}
