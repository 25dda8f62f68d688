//! One run of a module, as its owner holds it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use crate::config::{DirGrant, Layer, Limits, OnDeadlock, Role, RunConfig};
use crate::control::{self, Reply, Request};
use crate::owner::Supervisor;
use crate::{ExitStatus, GuestText, JailReport, Limit, Module, Result};

/// What is known of one process that has ended.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ProcessReport {
    /// its name
    pub name: GuestText,
    /// its process id in the run's PID namespace, as guests know it; if there is none, in that of this process
    pub pid: u32,
    /// how it ended
    pub status: ExitStatus,
    /// from start to end
    pub wall: Duration,
    /// time on a processor
    pub cpu: Duration,
    /// the most memory that it had at once, in bytes, what it shared with others included
    pub peak_memory: u64,
    /// what limits have refused it, each of them once; what one has done about it, it may have told nobody
    pub refused: Vec<Refusal>,
}

/// A limit has refused a process something: another process, a queue, memory, a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refusal {
    /// which, and where it lies
    pub limit: Limit,
    /// how often
    pub times: u32,
}

/// What a run did.
#[derive(Debug, Clone)]
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
/// let run = sandpool::Run::builder(&module)
///     .arg("guest")
///     .env("LANG", "C")
///     .dir("./data:/data:ro".parse()?)
///     .processes_max(64)
///     .start()?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct RunBuilder<'a> {
    module: &'a Module,
    config: RunConfig,
}

impl RunBuilder<'_> {
    /// Adds one argument. The first is the guest's name for itself.
    pub fn arg(&mut self, arg: impl Into<String>) -> &mut Self {
        self.config.args.push(arg.into());
        self
    }

    /// Adds one variable to the guest's environment, which is empty otherwise.
    pub fn env(&mut self, key: impl Into<String>, value: impl Into<String>) -> &mut Self {
        self.config.env.push((key.into(), value.into()));
        self
    }

    /// Grants a directory. Guests see no other.
    pub fn dir(&mut self, grant: DirGrant) -> &mut Self {
        self.config.dirs.push(grant.into());
        self
    }

    /// What its processes may use. It stands for all limits that were set before.
    ///
    /// ```no_run
    /// # fn main() -> sandpool::Result<()> {
    /// # let module = sandpool::Module::from_file("guest.wasm")?;
    /// let limits = sandpool::Limits::from_file("sandpool.toml")?.open_files_max(16);
    /// sandpool::Run::builder(&module).limits(limits);
    /// # Ok(())
    /// # }
    /// ```
    pub fn limits(&mut self, limits: Limits) -> &mut Self {
        self.config.limits = limits;
        self
    }

    /// [`Limits::processes_max`]: how many processes may be alive, or ended and not yet joined, at once. The default is
    /// 1024.
    pub fn processes_max(&mut self, processes: u32) -> &mut Self {
        self.config.limits.processes_max = processes;
        self
    }

    /// [`Limits::arena_size`]: the room for what is in queues and pipes, and for shared memory, in bytes. The default is
    /// 1 GiB.
    pub fn arena_size(&mut self, bytes: u64) -> &mut Self {
        self.config.limits.arena_size = bytes;
        self
    }

    /// [`Limits::memory_max`]: the most linear memory that a guest process may have, in bytes. The default is what 32 bits
    /// address, 4 GiB.
    pub fn memory_max(&mut self, bytes: u64) -> &mut Self {
        self.config.limits.memory_max = bytes;
        self
    }

    /// What becomes of the run if every process of it waits, without a timeout, for something that only another of them
    /// could do. The default is to end it, with [`ExitStatus::Deadlocked`].
    pub fn on_deadlock(&mut self, choice: OnDeadlock) -> &mut Self {
        self.config.on_deadlock = choice;
        self
    }

    /// Refuses to start unless each of these layers of the jail holds [fully](crate::Hold::Full): with [`Error::Jail`](crate::Error::Jail).
    /// [`Layer::ALL`] is all that there are. The default is to start with what the machine has.
    pub fn require_jail(&mut self, layers: impl IntoIterator<Item = Layer>) -> &mut Self {
        self.config.jail.require.extend(layers);
        self
    }

    /// Switches a layer of the jail off, for debugging: debuggers and profilers need what some forbid.
    pub fn without_layer(&mut self, layer: Layer) -> &mut Self {
        self.config.jail.without.push(layer);
        self
    }

    /// Leaves a rule of the policy for system calls out: for the test that each is needed.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    pub fn without_call(&mut self, rule: impl Into<String>) -> &mut Self {
        self.config.jail.without_calls.push(rule.into());
        self
    }

    /// Has the supervisor not count its children: for the test that the kernel bounds them as well.
    #[cfg(feature = "testing")]
    #[doc(hidden)]
    pub fn without_census(&mut self) -> &mut Self {
        self.config.jail.without_census = true;
        self
    }

    /// Starts the run. The guest has this process's standard streams.
    ///
    /// # Errors
    ///
    /// [`Error::NotInitialized`](crate::Error::NotInitialized), [`Error::NotAProgram`](crate::Error::NotAProgram),
    /// [`Error::Invalid`](crate::Error::Invalid), [`Error::Grant`](crate::Error::Grant), [`Error::Jail`](crate::Error::Jail),
    /// [`Error::Supervisor`](crate::Error::Supervisor), [`Error::Os`](crate::Error::Os).
    pub fn start(&mut self) -> Result<Run> {
        self.module.require_program()?;
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        let stdio = [stdin.as_fd(), stdout.as_fd(), stderr.as_fd()];
        let (supervisor, _) = Supervisor::start(&mut self.config, self.module, stdio)?;
        Ok(Run { supervisor })
    }
}

/// A run: a main guest and all processes that come from it. Dropped, it ends them.
///
/// ```no_run
/// # fn main() -> sandpool::Result<()> {
/// # let module = sandpool::Module::from_file("guest.wasm")?;
/// let run = sandpool::Run::builder(&module).start()?;
/// let stopper = run.stopper();
/// std::thread::spawn(move || {
///     std::thread::sleep(std::time::Duration::from_secs(5));
///     stopper.stop(15);
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
    #[must_use]
    pub fn builder(module: &Module) -> RunBuilder<'_> {
        RunBuilder { module, config: RunConfig::new(Role::Program) }
    }

    /// The supervisor's process id. All guest processes are its children.
    #[must_use]
    pub fn supervisor_pid(&self) -> u32 {
        self.supervisor.pid()
    }

    /// Which layers of the jail hold its guests, and how fully.
    #[must_use]
    pub fn jail(&self) -> &JailReport {
        self.supervisor.jail()
    }

    /// Something that can stop the run from another thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper { socket: self.supervisor.socket().clone() }
    }

    /// Waits until all processes have ended.
    ///
    /// # Errors
    ///
    /// [`Error::SupervisorLost`](crate::Error::SupervisorLost) if the supervisor was killed, or can't go on; all guests are then gone as well.
    pub fn wait(mut self) -> Result<Summary> {
        let ended = match control::receive_message(self.supervisor.socket().as_fd()) {
            Ok(Some(Reply::Ended(ended))) => ended,
            reply => return Err(self.supervisor.lost(reply.ok().flatten())),
        };
        let Some(status) = ended.main.status() else { return Err(self.supervisor.lost(None)) };
        self.supervisor.ended();
        let refusal = |(code, figure, times)| Refusal { limit: Limit::from_parts(code, figure), times };
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
/// run.stopper().stop(15);
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Stopper {
    socket: Arc<OwnedFd>,
}

impl Stopper {
    /// Sends every guest this signal, and SIGKILL to those that it doesn't end. The run then ends as usual, its
    /// status that of a main guest killed by the signal. A run that has ended is left alone.
    pub fn stop(&self, signal: i32) {
        let _ = control::send_message(self.socket.as_fd(), &Request::Stop(signal));
    }
}
