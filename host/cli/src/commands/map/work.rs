//! The work on records: a task gets each, or a program is run for each.

use std::sync::mpsc::RecvTimeoutError;
use std::time::Duration;

use sandpool::pool::{
    CommandFeed, CommandOutput, CommandResults, Completed, Failure, Feed, Results, StreamStopper, TaskError,
    Usage,
};
use sandpool::{ExitStatus, GuestText, Pool};

use super::records::{Framing, Group};
use super::template::Template;

/// The work on records.
#[derive(Debug, Clone)]
pub(super) enum Work {
    /// The task of this name.
    Task(String),
    /// A run of the program.
    Program(Template),
}

impl Work {
    /// Opens a stream of records through a pool.
    pub(super) fn open(
        self,
        pool: &Pool,
        framing: Framing,
        is_ordered: bool,
    ) -> sandpool::Result<(Feeder, Outcomes)> {
        match self {
            Self::Task(name) => {
                let open = if is_ordered { Pool::stream } else { Pool::stream_unordered };
                let (feed, results) = open(pool, &name, framing.format());
                Ok((Feeder::Task(feed), Outcomes::Task(results)))
            }
            Self::Program(template) => {
                let open = if is_ordered { Pool::stream_commands } else { Pool::stream_commands_unordered };
                let (feed, results) = open(pool)?;
                Ok((Feeder::Program(feed, template), Outcomes::Program(results)))
            }
        }
    }

    /// A description of the work on these records, for people.
    pub(super) fn shown(&self, number: u64, group: &Group) -> String {
        match self {
            Self::Task(name) => {
                let bytes: usize = group.records().iter().map(Vec::len).sum();
                format!("{name} < record {number} ({bytes} bytes)")
            }
            Self::Program(template) => template.shown(number, group.records()),
        }
    }
}

/// The end that takes records.
pub(super) enum Feeder {
    Task(Feed),
    Program(CommandFeed, Template),
}

impl Feeder {
    /// Adds the group of this number. Returns `false` if no more are wanted.
    pub(super) fn put(&mut self, number: u64, group: &Group) -> bool {
        match self {
            Self::Task(feed) => feed.put(group.records().first().map_or(&[], Vec::as_slice)),
            Self::Program(feed, template) => feed.put(&template.command(number, group.records())),
        }
    }

    /// Submits what is held back.
    pub(super) fn flush(&mut self) {
        match self {
            Self::Task(feed) => feed.flush(),
            Self::Program(feed, _) => feed.flush(),
        }
    }
}

/// The end that gives outcomes.
pub(super) enum Outcomes {
    Task(Results),
    Program(CommandResults),
}

/// A result of a record.
pub(super) struct Done {
    pub(super) value: Vec<u8>,
    pub(super) attempts: u32,
    pub(super) usage: Usage,
    /// the exit code of a program
    pub(super) exit: Option<u8>,
}

/// A record without a result.
pub(super) struct Failed {
    pub(super) cause: Failure,
    pub(super) attempts: u32,
    pub(super) stderr: GuestText,
    pub(super) usage: Usage,
    /// the exit code of a program
    pub(super) exit: Option<u8>,
}

impl From<TaskError> for Failed {
    fn from(TaskError { cause, attempts, stderr, usage, .. }: TaskError) -> Self {
        Self { cause, attempts, stderr, usage: *usage, exit: None }
    }
}

impl Outcomes {
    /// The next outcome, with its number among all that were put. Waits no longer than `timeout`.
    pub(super) fn next_timeout(
        &mut self,
        timeout: Duration,
    ) -> Result<(u64, Result<Done, Failed>), RecvTimeoutError> {
        match self {
            Self::Task(results) => {
                let (number, outcome) = results.next_timeout(timeout)?;
                let done =
                    |Completed { value, attempts, usage, .. }| Done { value, attempts, usage, exit: None };
                Ok((number, outcome.map(done).map_err(Failed::from)))
            }
            Self::Program(results) => {
                let (number, outcome) = results.next_timeout(timeout)?;
                Ok((number, outcome.map_err(Failed::from).and_then(of_program)))
            }
        }
    }

    /// Returns a handle that stops the stream from any thread.
    pub(super) fn stopper(&self) -> StreamStopper {
        match self {
            Self::Task(results) => results.stopper(),
            Self::Program(results) => results.stopper(),
        }
    }

    /// Whether the stream was stopped.
    pub(super) fn is_stopped(&self) -> bool {
        match self {
            Self::Task(results) => results.is_stopped(),
            Self::Program(results) => results.is_stopped(),
        }
    }
}

/// A program that exits with another code than 0 has failed.
fn of_program(completed: Completed<CommandOutput>) -> Result<Done, Failed> {
    let Completed { value: output, attempts, usage, .. } = completed;
    let exit = match output.status {
        ExitStatus::Exited(code) => Some(code),
        _ => None,
    };
    if output.status.success() {
        return Ok(Done { value: output.stdout, attempts, usage, exit });
    }
    Err(Failed { cause: Failure::Ended(output.status), attempts, stderr: output.stderr, usage, exit })
}
