//! One run of a module, as its owner holds it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use crate::config::{OnDeadlock, Role, RunConfig, Sandbox};
use crate::control::{self, Reply, Request};
use crate::jail::JailReport;
use crate::supervised::Supervisor;
use crate::{ExitStatus, GuestText, Module, Result, Signal};
use sandpool_abi::process::Limit;

/// Report of one process that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessReport {
    /// its name
    pub name: GuestText,
    /// its process id in the run's PID namespace, as guests know it; without such a namespace, its id in that of this process
    pub pid: u32,
    /// how it ended
    pub status: ExitStatus,
    /// from start to end
    pub wall: Duration,
    /// time on a processor
    pub cpu: Duration,
    /// the most memory that the process had at once, in bytes, including the memory that it shared with others
    pub peak_memory: u64,
    /// limits that refused the process a request, one entry each; the process may not have reported them
    pub refused: Vec<LimitRefusal>,
}

/// A limit that refused a process something: another process, a queue, memory, a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitRefusal {
    /// the limit, with its value
    pub limit: Limit,
    /// how often the limit refused something
    pub times: u32,
}

/// Summary of a run that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// how the main guest ended
    pub status: ExitStatus,
    /// how many processes there were, the main one included
    pub processes: u64,
    /// from start to end
    pub wall: Duration,
    /// reports of the first processes to end and of the main one, at most [`Summary::REPORTS_MAX`]
    pub reports: Vec<ProcessReport>,
    /// the most memory that one process had, in bytes
    pub peak_memory: u64,
}

impl Summary {
    /// The most reports that a summary carries.
    pub const REPORTS_MAX: usize = control::REPORTS_MAX;
}

/// Settings of a [`Run`].
///
/// ```no_run
/// # fn main() -> sandpool::Result<()> {
/// # let module = sandpool::Module::from_file("guest.wasm")?;
/// use sandpool::{Limits, Run, Sandbox};
///
/// let sandbox = Sandbox::new()
///     .env("LANG", "C")
///     .dir("./data:/data:ro".parse()?)
///     .limits(Limits::default().processes_max(64));
/// let run = Run::builder(&module).arg("guest").sandbox(sandbox).start()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "nothing runs until `start`"]
pub struct Builder<'a> {
    module: &'a Module,
    config: RunConfig,
}

impl Builder<'_> {
    /// Adds one argument. The first is the guest's name for itself.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.config.args.push(arg.into());
        self
    }

    /// Adds several arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.config.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets what the guests are given and held to. The default is [`Sandbox::default`].
    pub fn sandbox(mut self, sandbox: Sandbox) -> Self {
        self.config.sandbox = sandbox;
        self
    }

    /// Sets the answer to a deadlock: every process of the run waits, without a timeout, for something that only another of them
    /// could do. The default is to end the run, with [`ExitStatus::Deadlocked`].
    pub fn on_deadlock(mut self, choice: OnDeadlock) -> Self {
        self.config.on_deadlock = choice;
        self
    }

    /// Starts the run. The guest uses this process's standard streams.
    ///
    /// # Errors
    ///
    /// [`Error::NotInitialized`](crate::Error::NotInitialized), [`Error::NotAProgram`](crate::Error::NotAProgram),
    /// [`Error::Invalid`](crate::Error::Invalid), [`Error::Grant`](crate::Error::Grant), [`Error::Jail`](crate::Error::Jail),
    /// [`Error::Supervisor`](crate::Error::Supervisor), [`Error::Os`](crate::Error::Os).
    pub fn start(mut self) -> Result<Run> {
        self.module.require_program()?;
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        let stdio = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
        let (supervisor, _) = Supervisor::start(&mut self.config, self.module, stdio)?;
        Ok(Run { supervisor })
    }
}

/// A run of a module: the main guest and all processes that come from it. Dropping the run ends these processes.
///
/// ```no_run
/// # fn main() -> sandpool::Result<()> {
/// # let module = sandpool::Module::from_file("guest.wasm")?;
/// let run = sandpool::Run::builder(&module).start()?;
/// let stopper = run.stopper();
/// std::thread::spawn(move || {
///     std::thread::sleep(std::time::Duration::from_secs(5));
///     stopper.stop(sandpool::Signal::TERM);
/// });
/// println!("{}", run.wait()?.status);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Run {
    supervisor: Supervisor,
}

impl Run {
    /// Settings for a run of a module.
    pub fn builder(module: &Module) -> Builder<'_> {
        Builder { module, config: RunConfig::new(Role::Program) }
    }

    /// The supervisor's process id. All guest processes are its children.
    #[must_use]
    pub fn supervisor_pid(&self) -> u32 {
        self.supervisor.pid()
    }

    /// Reports which layers of the jail hold the guests of the run, and how fully.
    #[must_use]
    pub fn jail(&self) -> &JailReport {
        self.supervisor.jail()
    }

    /// Returns a handle that stops the run from another thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper { socket: self.supervisor.socket().clone() }
    }

    /// Waits until all processes of the run have ended.
    ///
    /// # Errors
    ///
    /// [`Error::SupervisorLost`](crate::Error::SupervisorLost) if the supervisor was killed or can't go on; all guests are then
    /// gone as well.
    pub fn wait(mut self) -> Result<Summary> {
        let ended = match control::receive_message(self.supervisor.socket().as_fd()) {
            Ok(Some(Reply::Ended(ended))) => ended,
            reply => return Err(self.supervisor.lost(reply.ok().flatten())),
        };
        let Some(status) = ended.main.status() else { return Err(self.supervisor.lost(None)) };
        self.supervisor.ended();
        let refusal = |(code, figure, times)| LimitRefusal { limit: Limit::from_parts(code, figure), times };
        let report = |report: control::Report| {
            Some(ProcessReport {
                name: report.name.into(),
                pid: report.pid,
                status: report.outcome.status()?,
                wall: report.wall,
                cpu: report.cpu,
                peak_memory: report.peak_memory,
                refused: report.refused.into_iter().map(refusal).collect(),
            })
        };
        Ok(Summary {
            status,
            processes: ended.processes,
            wall: ended.wall,
            peak_memory: ended.peak_memory,
            reports: ended.reports.into_iter().filter_map(report).collect(),
        })
    }
}

/// Stops a [`Run`] from another thread.
///
/// ```no_run
/// # fn stop(run: &sandpool::Run) {
/// run.stopper().stop(sandpool::Signal::TERM);
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Stopper {
    socket: Arc<OwnedFd>,
}

impl Stopper {
    /// Sends this signal to every guest, and SIGKILL to the guests that the signal doesn't end. The run then ends as usual, with
    /// the status of a main guest that the signal has killed. A run that has ended isn't changed.
    pub fn stop(&self, signal: Signal) {
        let _ = control::send_message(self.socket.as_fd(), &Request::Stop(signal.0));
    }
}
