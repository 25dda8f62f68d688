//! Commands: tasks that are a run of the module's program, from `_start` to its exit.

use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use super::dispatcher::Task;
use super::future::TaskFuture;
use super::handle::Pool;
use super::imap::Imap;
use super::outcome::{Completed, Outcome};
use super::sink::Sink;
use super::stream::{self, Feed, Results, StreamStopper};
use crate::error::{Failure, TaskError};
use crate::wire::{COMMAND, Command, Isolation};
use crate::{ExitStatus, GuestText, Module, codec};

/// The name of a command in errors and events.
const START: &str = "_start";

/// The output of a program, and its exit code; see [`Pool::run`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommandOutput {
    /// how the program ended: [`ExitStatus::Exited`], since all other ends are a [`TaskError`]
    pub status: ExitStatus,
    /// what the program wrote to stdout
    pub stdout: Vec<u8>,
    /// the end of what the program wrote to stderr, or all with [`Output::Capture`](super::Output::Capture)
    pub stderr: GuestText,
}

/// Why a pool with this module and isolation runs no commands, if it doesn't.
pub(super) fn refusal(module: &Module, isolation: Isolation) -> Option<&'static str> {
    match isolation {
        _ if !module.is_program() => {
            Some("the module exports no _start (a component: no wasi:cli/run), and so is no program")
        }
        Isolation::Worker => Some("a command needs a process of its own: build the pool with isolation task"),
        Isolation::Task => None,
    }
}

fn encode(command: &Command, task: &str) -> Result<Vec<u8>, TaskError> {
    let encoded = match command.problem() {
        Some(problem) => Err(problem),
        None => codec::encode(command).map_err(|error| error.to_string()),
    };
    encoded.map_err(|why| TaskError::untried(task, Failure::Encode(why)))
}

fn decode(completed: Completed<Vec<u8>>, task: &str) -> Result<Completed<CommandOutput>, TaskError> {
    let Completed { value, stdout, stderr, usage, attempts } = completed;
    let text = GuestText::from_bytes(&stderr);
    let Some((code, output)) = value.split_first() else {
        let cause = Failure::Decode("it has no exit code".into());
        return Err(TaskError {
            task: task.to_owned(),
            cause,
            stderr: text,
            attempts,
            usage: Box::new(usage),
        });
    };
    let status = ExitStatus::Exited(*code);
    let value = CommandOutput { status, stdout: output.to_vec(), stderr: text };
    Ok(Completed { value, stdout, stderr, usage, attempts })
}

impl Pool {
    /// Runs the module's program once, in a process of its own, and waits for its end.
    ///
    /// ```no_run
    /// fn main() -> sandpool::Result<()> {
    ///     sandpool::init();
    ///     // Any program: of C, Go, Rust or another language that compiles to WASI.
    ///     let module = sandpool::Module::from_file("upper.wasm")?;
    ///     let pool = sandpool::Pool::builder(&module).build()?;
    ///     let output = pool.run(&sandpool::pool::Command::new("upper").stdin("some text"))?;
    ///     assert_eq!(output.stdout, b"SOME TEXT");
    ///     Ok(())
    /// }
    /// ```
    ///
    /// The process is forked from one in which the module is instantiated already, so that a start takes a fraction of a
    /// millisecond. An exit code other than 0 is no error here. All else that ends a process is one: a trap, a signal, a limit, the
    /// pool's timeout; retries are for these. Stdout is kept up to [`Builder::output_max`](super::Builder::output_max); a
    /// program that writes more is ended.
    ///
    /// Processes that the program starts end with it at the latest. Their stdout is thrown away.
    ///
    /// # Errors
    /// [`TaskError`], which says why there is no output. [`Failure::Refused`] if the module is no program, or the pool's isolation
    /// isn't [`Isolation::Task`]; [`Failure::Encode`] if no program can have these arguments or variables.
    pub fn run(&self, command: &Command) -> Result<CommandOutput, TaskError> {
        self.submit_command(command)?.result()
    }

    /// Submits a run of the module's program, as [`run`](Self::run), and doesn't wait for it.
    ///
    /// # Errors
    /// Those of [`run`](Self::run) that are known at once: [`Failure::Refused`], [`Failure::Encode`], [`Failure::NotRunning`],
    /// [`Failure::PoolEnded`]. The future reports all other failures.
    pub fn submit_command(&self, command: &Command) -> Result<TaskFuture<CommandOutput>, TaskError> {
        self.check_commands()?;
        let input = encode(command, START)?;
        let (future, cell) = TaskFuture::new(START.into(), decode);
        let submitted = self.shared.submit([Task::new(START.into(), COMMAND, &input, Sink::Cell(cell))]);
        submitted.map_err(|cause| TaskError::untried(START, cause))?;
        Ok(future)
    }

    /// Runs the module's program once for each command, and iterates over the outputs in the order of the commands. As
    /// [`imap`](Self::imap), this takes commands while outputs are taken.
    ///
    /// ```no_run
    /// # fn example(pool: &sandpool::Pool) {
    /// use sandpool::pool::Command;
    ///
    /// let commands = ["a.png", "b.png"].map(|file| Command::new("resize").args(["--width", "80", file]));
    /// for output in pool.imap_commands(commands) {
    ///     match output {
    ///         Ok(output) => println!("{}: {} bytes", output.status, output.stdout.len()),
    ///         Err(error) => eprintln!("{error}"),
    ///     }
    /// }
    /// # }
    /// ```
    pub fn imap_commands(
        &self,
        commands: impl IntoIterator<Item = Command>,
    ) -> Imap<'_, impl Iterator<Item = Command>, CommandOutput> {
        self.imap_commands_as(commands, true)
    }

    /// Runs the module's program once for each command, and iterates over the outputs in the order in which they are done.
    pub fn imap_commands_unordered(
        &self,
        commands: impl IntoIterator<Item = Command>,
    ) -> Imap<'_, impl Iterator<Item = Command>, CommandOutput> {
        self.imap_commands_as(commands, false)
    }

    fn imap_commands_as<N: IntoIterator<Item = Command>>(
        &self,
        commands: N,
        is_ordered: bool,
    ) -> Imap<'_, N::IntoIter, CommandOutput> {
        let ends = stream::stream(&self.shared, START, COMMAND, is_ordered);
        Imap::new(&self.shared, ends, self.check_commands().err(), commands.into_iter(), (encode, decode))
    }

    /// Opens a stream of commands, as [`stream`](Self::stream) opens one of inputs: one thread feeds commands into one end, and
    /// another takes outputs from the other, in the order of the commands.
    ///
    /// # Errors
    /// [`Failure::Refused`], as for [`run`](Self::run).
    pub fn stream_commands(&self) -> Result<(CommandFeed, CommandResults), TaskError> {
        self.stream_commands_as(true)
    }

    /// Opens a stream as [`stream_commands`](Self::stream_commands) does, whose outputs come in the order in which they are done.
    ///
    /// # Errors
    /// [`Failure::Refused`], as for [`run`](Self::run).
    pub fn stream_commands_unordered(&self) -> Result<(CommandFeed, CommandResults), TaskError> {
        self.stream_commands_as(false)
    }

    fn stream_commands_as(&self, is_ordered: bool) -> Result<(CommandFeed, CommandResults), TaskError> {
        self.check_commands()?;
        let (feed, results) = stream::stream(&self.shared, START, COMMAND, is_ordered);
        Ok((CommandFeed(feed), CommandResults(results)))
    }

    fn check_commands(&self) -> Result<(), TaskError> {
        let refused = |why: &str| TaskError::untried(START, Failure::Refused(why.into()));
        self.no_commands.map_or(Ok(()), |why| Err(refused(why)))
    }
}

/// The end of a stream that takes commands; see [`Pool::stream_commands`]. Dropping it says that no more commands come.
#[derive(Debug)]
pub struct CommandFeed(Feed);

impl CommandFeed {
    /// Adds a command, as [`Feed::put`] adds an input. Returns `false` if no more commands are wanted. A command that no program can
    /// be given fails with [`Failure::Encode`].
    pub fn put(&mut self, command: &Command) -> bool {
        match encode(command, START) {
            Ok(input) => self.0.put(&input),
            Err(error) => {
                self.0.flush();
                self.0.refuse(error);
                self.0.is_wanted()
            }
        }
    }

    /// Submits commands that are held back.
    pub fn flush(&mut self) {
        self.0.flush();
    }
}

/// The end of a stream that gives outputs; see [`Pool::stream_commands`]. Dropping it stops the stream.
#[derive(Debug)]
pub struct CommandResults(Results);

/// The output of a command, with the number of the command.
type Numbered = (u64, Result<Completed<CommandOutput>, TaskError>);

impl CommandResults {
    /// Returns the next output, with the number of its command. Waits no longer than `timeout`.
    ///
    /// # Errors
    /// [`Timeout`](RecvTimeoutError::Timeout) if no output has come by then, [`Disconnected`](RecvTimeoutError::Disconnected) after
    /// the last.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Numbered, RecvTimeoutError> {
        self.0.next_timeout(timeout).map(numbered)
    }

    /// Returns a handle that stops the stream from any thread.
    #[must_use]
    pub fn stopper(&self) -> StreamStopper {
        self.0.stopper()
    }

    /// Whether the stream was stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.is_stopped()
    }
}

fn numbered((number, outcome): (u64, Outcome)) -> Numbered {
    (number, outcome.and_then(|completed| decode(completed, START)))
}

impl Iterator for CommandResults {
    type Item = Numbered;

    fn next(&mut self) -> Option<Numbered> {
        self.0.next().map(numbered)
    }
}
