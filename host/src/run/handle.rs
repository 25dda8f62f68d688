//! One run of a module, as its owner holds it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::{ChildStderr, ChildStdin, ChildStdout};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::output::{KEEP_MAX, Keep, Keeper, RunOutput, read_both};
use super::stdio::{Opened, Owners, Stdio, pass_on};
use super::summary::Summary;
use crate::config::{OnDeadlock, Role, RunConfig, Sandbox};
use crate::control::{self, Reply, Request};
use crate::jail::JailReport;
use crate::supervised::Supervisor;
use crate::{Error, ExitStatus, Module, Result, Signal};
use sandpool_abi::process::Limit;

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
///
/// [`start`](Self::start) starts the run, and [`status`](Self::status) and [`output`](Self::output) also wait for its end, as the
/// methods of [`std::process::Command`] do.
#[derive(Debug, Clone)]
#[must_use = "nothing runs until `start`, `status` or `output`"]
pub struct Builder<'a> {
    module: &'a Module,
    config: RunConfig,
    stdin: Option<Stdio>,
    stdout: Option<Stdio>,
    stderr: Option<Stdio>,
    keep_max: u64,
    keep: Keep,
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

    /// Sets the stdin of the main guest; processes that it starts have an empty one, as in Python. The default is
    /// [`Stdio::inherit`], and [`Stdio::null`] for [`output`](Self::output).
    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.stdin = Some(stdin.into());
        self
    }

    /// Sets the stdout of all guests of the run. The default is [`Stdio::inherit`], and [`Stdio::piped`] for
    /// [`output`](Self::output).
    pub fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.stdout = Some(stdout.into());
        self
    }

    /// Sets the stderr of all guests of the run, as [`stdout`](Self::stdout). Messages of Sandpool about a guest's end go there too.
    pub fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.stderr = Some(stderr.into());
        self
    }

    /// Sets the most bytes that [`output`](Self::output) and [`Run::wait_with_output`] keep of each stream: a setting of the owner,
    /// beside the limits of guests. The default is 16 MiB.
    pub fn keep_max(mut self, bytes: u64) -> Self {
        self.keep_max = bytes;
        self
    }

    /// Sets which bytes are kept of a longer stream. The default is [`Keep::End`], which ends the run.
    pub fn keep(mut self, keep: Keep) -> Self {
        self.keep = keep;
        self
    }

    /// Starts the run.
    ///
    /// # Errors
    ///
    /// [`Error::NotInitialized`](crate::Error::NotInitialized), [`Error::NotAProgram`](crate::Error::NotAProgram),
    /// [`Error::Invalid`](crate::Error::Invalid), [`Error::Grant`](crate::Error::Grant), [`Error::Jail`](crate::Error::Jail),
    /// [`Error::Supervisor`](crate::Error::Supervisor), [`Error::Os`](crate::Error::Os).
    #[doc(alias = "spawn")]
    pub fn start(mut self) -> Result<Run> {
        self.module.require_program()?;
        let inherited = Stdio::inherit();
        let stdin = self.stdin.as_ref().unwrap_or(&inherited).open_input()?;
        let stdout = self.stdout.as_ref().unwrap_or(&inherited).open_output(io::stdout())?;
        let stderr = self.stderr.as_ref().unwrap_or(&inherited).open_output(io::stderr())?;
        let guests = [&stdin.guests, &stdout.guests, &stderr.guests].map(AsFd::as_fd);
        let (supervisor, _) = Supervisor::start(&mut self.config, self.module, guests)?;
        let mut run = Run {
            stdin: None,
            stdout: None,
            stderr: None,
            supervisor,
            callbacks: Vec::new(),
            summary: None,
            keep_max: self.keep_max,
            keep: self.keep,
        };
        run.stdin = run.own(stdin)?.map(Into::into);
        run.stdout = run.own(stdout)?.map(Into::into);
        run.stderr = run.own(stderr)?.map(Into::into);
        Ok(run)
    }

    /// Starts the run and waits for its end, as [`Run::wait`].
    ///
    /// # Errors
    ///
    /// The errors of [`start`](Self::start) and of [`Run::wait`].
    pub fn status(self) -> Result<Summary> {
        self.start()?.wait()
    }

    /// Starts the run, waits for its end and collects what it writes. Streams that were set to something else than a pipe aren't
    /// collected.
    ///
    /// ```no_run
    /// # fn main() -> sandpool::Result<()> {
    /// # let module = sandpool::Module::from_file("upper.wasm")?;
    /// use sandpool::Run;
    /// use sandpool::run::Stdio;
    ///
    /// let output = Run::builder(&module).arg("upper").stdin(Stdio::bytes("some text")).output()?;
    /// assert!(output.summary.status.success(), "{}: {}", output.summary.status, output.stderr);
    /// assert_eq!(output.stdout.bytes, b"SOME TEXT");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The errors of [`start`](Self::start) and of [`Run::wait_with_output`].
    pub fn output(mut self) -> Result<RunOutput> {
        self.stdin.get_or_insert_with(Stdio::null);
        self.stdout.get_or_insert_with(Stdio::piped);
        self.stderr.get_or_insert_with(Stdio::piped);
        self.start()?.wait_with_output()
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
///
/// A run can be awaited: `run.await` gives what [`wait`](Self::wait) returns. See [`RunFuture`](super::RunFuture).
#[derive(Debug)]
#[non_exhaustive]
pub struct Run {
    /// The end to write to, if stdin is [`Stdio::piped`]. The main guest gets what is written, and the end of its input when this is
    /// dropped.
    pub stdin: Option<ChildStdin>,
    /// The end to read from, if stdout is [`Stdio::piped`]. Guests that write wait until somebody reads. The end comes when the run
    /// has ended.
    pub stdout: Option<ChildStdout>,
    /// The end to read from, if stderr is [`Stdio::piped`].
    pub stderr: Option<ChildStderr>,
    supervisor: Supervisor,
    /// Threads that pass output to callbacks.
    callbacks: Vec<JoinHandle<()>>,
    /// The summary, once the run has ended and somebody has looked.
    summary: Option<Summary>,
    keep_max: u64,
    keep: Keep,
}

impl Run {
    /// Settings for a run of a module.
    pub fn builder(module: &Module) -> Builder<'_> {
        Builder {
            module,
            config: RunConfig::new(Role::Program),
            stdin: None,
            stdout: None,
            stderr: None,
            keep_max: KEEP_MAX,
            keep: Keep::default(),
        }
    }

    /// Takes the owner's end of a stream. The guests' end is closed here, or the stream would have no end.
    fn own(&mut self, Opened { guests, owners }: Opened) -> Result<Option<OwnedFd>> {
        drop(guests);
        match owners {
            None => Ok(None),
            Some(Owners::Pipe(pipe)) => Ok(Some(pipe)),
            Some(Owners::Callback(pipe, function)) => {
                let thread = thread::Builder::new().name("sandpool-output".to_owned());
                let started = thread.spawn(move || pass_on(pipe, &function));
                self.callbacks.push(started.map_err(|source| Error::Os { what: "start a thread", source })?);
                Ok(None)
            }
        }
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

    /// Waits until all processes of the run have ended. Closes [`stdin`](Self::stdin) first. Output to pipes that are still in the
    /// run is read and thrown away, so that no guest waits for a reader.
    ///
    /// # Errors
    ///
    /// [`Error::SupervisorLost`](crate::Error::SupervisorLost) if the supervisor was killed or can't go on; all guests are then
    /// gone as well.
    pub fn wait(mut self) -> Result<Summary> {
        self.read_pipes(|_, _, _| ())?;
        self.end()
    }

    /// Waits until all processes of the run have ended, and collects what they write to the pipes that are still in the run, within
    /// [`Builder::keep_max`]. Closes [`stdin`](Self::stdin) first.
    ///
    /// # Errors
    ///
    /// The errors of [`wait`](Self::wait).
    pub fn wait_with_output(mut self) -> Result<RunOutput> {
        let mut keepers = [0, 1].map(|_| Keeper::new(self.keep_max, self.keep));
        let mut is_over = false;
        let keep = self.keep;
        self.read_pipes(|run, stream, bytes| {
            let is_whole = keepers.get_mut(stream).is_none_or(|keeper| keeper.take(bytes));
            if keep == Keep::End && !is_whole && !is_over {
                is_over = true;
                run.stop(Signal::KILL);
            }
        })?;
        let limit = Limit::Output(self.keep_max);
        let mut summary = self.end()?;
        if is_over {
            summary.status = ExitStatus::Limited(limit);
        }
        let [stdout, stderr] = keepers.map(Keeper::end);
        Ok(RunOutput { summary, stdout, stderr })
    }

    /// Returns the summary if all processes of the run have ended, and `None` if they haven't. Doesn't wait.
    ///
    /// # Errors
    ///
    /// The errors of [`wait`](Self::wait).
    pub fn try_wait(&mut self) -> Result<Option<Summary>> {
        let socket = self.supervisor.socket().clone();
        let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
        if self.summary.is_none()
            && matches!(poll(&mut fds, PollTimeout::ZERO), Ok(0) | Err(nix::Error::EINTR))
        {
            return Ok(None);
        }
        self.end().map(Some)
    }

    /// Reads the pipes that are still in the run to their ends.
    fn read_pipes(&mut self, mut each: impl FnMut(&Stopper, usize, &[u8])) -> Result<()> {
        drop(self.stdin.take());
        let stopper = self.stopper();
        let files = |fd: OwnedFd| File::from(fd);
        let stdout = self.stdout.take().map(|pipe| files(pipe.into()));
        let stderr = self.stderr.take().map(|pipe| files(pipe.into()));
        read_both(stdout, stderr, |stream, bytes| each(&stopper, stream, bytes))
            .map_err(|source| Error::Os { what: "read the output of a run", source })
    }

    /// Waits for the report of the end, and for the callbacks.
    fn end(&mut self) -> Result<Summary> {
        if let Some(summary) = &self.summary {
            return Ok(summary.clone());
        }
        let ended = match control::receive_message(self.supervisor.socket().as_fd()) {
            Ok(Some(Reply::Ended(ended))) => ended,
            reply => return Err(self.supervisor.lost(reply.ok().flatten())),
        };
        let Some(summary) = Summary::from_report(ended) else { return Err(self.supervisor.lost(None)) };
        self.supervisor.ended();
        for callback in self.callbacks.drain(..) {
            if let Err(panic) = callback.join() {
                std::panic::resume_unwind(panic);
            }
        }
        self.summary = Some(summary.clone());
        Ok(summary)
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
