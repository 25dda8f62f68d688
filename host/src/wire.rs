//! The records between the owner of a pool and its workers: how a worker is set up, tasks, and results. And the requests of guests
//! to the gateway.
//!
//! A worker is spawned with a [`Setup`] and two handles: the queue of tasks and the queue of results. Only the owner holds the
//! queues, so that no import of a guest finds them; a worker's own code gets them by
//! [`resolve_for_host`](crate::ipc::object::resolve_for_host). Both sides check the records that they read, because others can
//! write to that memory.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt as _;

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// The slot of a pool's owner: the first that the supervisor reserves. The children of this slot are the workers, and no other
/// process is a worker.
pub(crate) const OWNER: u32 = 0;

/// A request of a guest to the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Asked {
    Listen {
        address: String,
        /// connections that may wait for the guest
        backlog: u32,
    },
    Connect {
        address: String,
        /// nanoseconds
        timeout: u64,
    },
}

/// Destination of the text that a task prints.
///
/// The end of a task's stderr comes with its failure in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Output {
    /// The text is thrown away.
    #[default]
    Discard,
    /// The text comes with the result.
    Capture,
    /// The text goes to the standard streams of the application.
    Inherit,
}

/// The sandbox that a task runs in.
///
/// ```
/// use sandpool::pool::Isolation;
///
/// let isolation: Isolation = "task".parse()?;
/// assert_eq!(isolation, Isolation::Task);
/// assert_eq!(Isolation::Task.to_string(), "task");
/// # Ok::<(), sandpool::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Isolation {
    /// A worker runs many tasks, one after the other, in one sandbox. Data that one task leaves in the memory is there for the next
    /// task.
    #[default]
    Worker,
    /// Each task has a fresh sandbox and a process of its own, forked from a worker that is initialised and has run no task.
    Task,
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Worker => "worker",
            Self::Task => "task",
        })
    }
}

impl std::str::FromStr for Isolation {
    type Err = Error;

    /// Reads `worker` or `task`.
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "worker" => Ok(Self::Worker),
            "task" => Ok(Self::Task),
            _ => Err(Error::Invalid {
                what: format!("`{text}` is no isolation"),
                hint: Some("write worker or task".to_owned()),
            }),
        }
    }
}

/// One run of a program by a pool: its arguments, variables and stdin.
///
/// ```no_run
/// # fn example(pool: &sandpool::Pool) -> sandpool::Result<()> {
/// use sandpool::pool::Command;
///
/// let output = pool.run(&Command::new("upper").arg("--trim").stdin("some text"))?;
/// assert!(output.status.success(), "{}", output.stderr);
/// assert_eq!(output.stdout, b"SOME TEXT");
/// # Ok(())
/// # }
/// ```
///
/// The program gets the variables of the [`Sandbox`](crate::Sandbox) as well.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[must_use = "nothing runs until a pool has the command"]
pub struct Command {
    pub(crate) args: Vec<Vec<u8>>,
    pub(crate) env: Vec<(Vec<u8>, Vec<u8>)>,
    pub(crate) stdin: Vec<u8>,
}

/// The bytes of a text of the operating system.
fn bytes_of(text: impl AsRef<OsStr>) -> Vec<u8> {
    text.as_ref().as_bytes().to_vec()
}

impl Command {
    /// A command without arguments and with an empty stdin. `name` is the guest's name for itself, its first argument.
    pub fn new(name: impl AsRef<OsStr>) -> Self {
        Self { args: vec![bytes_of(name)], ..Self::default() }
    }

    /// Adds one argument.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(bytes_of(arg));
        self
    }

    /// Adds several arguments.
    pub fn args(mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.args.extend(args.into_iter().map(bytes_of));
        self
    }

    /// Sets a variable, in place of one of the same name.
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((bytes_of(key), bytes_of(value)));
        self
    }

    /// Sets the bytes of stdin.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Why no program can be given this, if so.
    pub(crate) fn problem(&self) -> Option<String> {
        let texts = self.env.iter().flat_map(|(key, value)| [key, value]).chain(&self.args);
        if texts.into_iter().any(|text| text.contains(&0)) {
            return Some("an argument or variable holds a NUL byte".to_owned());
        }
        let wrong = self.env.iter().find(|(key, _)| key.is_empty() || key.contains(&b'='));
        wrong.map(|(key, _)| format!("`{}` is not a variable's name", String::from_utf8_lossy(key)))
    }
}

/// Settings of a worker.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Setup {
    pub(crate) isolation: Isolation,
    pub(crate) output: Output,
    /// The most bytes of a result, and the most that are captured of each stream.
    pub(crate) output_max: u64,
    /// The most objects of the worker and its tasks.
    pub(crate) objects_max: u64,
    /// The most processes of the worker's tasks, beside the worker itself.
    pub(crate) processes_max: u64,
    /// Tasks after which the worker ends; 0 for never.
    pub(crate) max_tasks: u64,
    /// The task that the worker calls first: name, format, input.
    pub(crate) initializer: Option<(String, u32, Vec<u8>)>,
}

/// A task, as it lies in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskRecord<'a> {
    Call {
        name: &'a str,
        format: u32,
        input: &'a [u8],
    },
    /// The worker that takes this record ends.
    Retire,
}

const RETIRE: u32 = u32::MAX;

/// In place of a format: the task is a run of the module's `_start`, and the input an encoded [`Command`].
pub(crate) const COMMAND: u32 = u32::MAX;

impl<'a> TaskRecord<'a> {
    pub(crate) fn encode(self, to: &mut Vec<u8>) {
        to.clear();
        match self {
            Self::Call { name, format, input } => {
                to.extend_from_slice(&format.to_le_bytes());
                to.extend_from_slice(&(name.len() as u32).to_le_bytes());
                to.extend_from_slice(name.as_bytes());
                to.extend_from_slice(input);
            }
            Self::Retire => to.extend_from_slice(&[0, RETIRE].map(u32::to_le_bytes).concat()),
        }
    }

    /// Decodes a task; `None` if the bytes aren't one.
    pub(crate) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (format, rest) = bytes.split_first_chunk::<4>()?;
        let (len, rest) = rest.split_first_chunk::<4>()?;
        let len = u32::from_le_bytes(*len);
        if len == RETIRE {
            return Some(Self::Retire);
        }
        let (name, input) = rest.split_at_checked(len as usize)?;
        let name = std::str::from_utf8(name).ok()?;
        Some(Self::Call { name, format: u32::from_le_bytes(*format), input })
    }
}

/// The kind of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum RecordKind {
    /// the task's output
    Done = sandpool_abi::task::DONE,
    /// the task's own error, or a code that the ABI does not have
    Failed = sandpool_abi::task::FAILED,
    /// why the task doesn't take that input, or gives no output
    Refused = sandpool_abi::task::REFUSED,
    /// the task doesn't know the format
    Unsupported = sandpool_abi::task::UNSUPPORTED,
    /// the module has no such task
    NoTask,
    /// the output is too long
    TooLarge,
    /// the process that ran the task has ended: kind and detail as in the ABI, 32 bits each
    Ended,
    /// a worker is ready; the number is its handle
    Ready,
    /// the initializer has failed, and why; the number is the worker's handle
    NotReady,
    /// a worker ends because it was asked to
    Retired,
}

impl RecordKind {
    const ALL: [Self; 10] = [
        Self::Done,
        Self::Failed,
        Self::Refused,
        Self::Unsupported,
        Self::NoTask,
        Self::TooLarge,
        Self::Ended,
        Self::Ready,
        Self::NotReady,
        Self::Retired,
    ];
}

/// Use by a process: processor time in nanoseconds, and bytes of linear memories and tables. A process has used some of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Used {
    pub(crate) cpu: u64,
    pub(crate) memory: u64,
}

/// A result, as it lies in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ResultRecord<'a> {
    /// The number of the task's item.
    pub(crate) number: u64,
    pub(crate) kind: RecordKind,
    /// How long the task took, in nanoseconds.
    pub(crate) nanos: u64,
    /// Use of time and memory by the task, if it had a process of its own; else nothing.
    pub(crate) used: Used,
    pub(crate) stdout: &'a [u8],
    pub(crate) stderr: &'a [u8],
    pub(crate) payload: &'a [u8],
}

impl<'a> ResultRecord<'a> {
    pub(crate) fn encode(self, to: &mut Vec<u8>) {
        to.clear();
        to.extend_from_slice(&self.number.to_le_bytes());
        to.extend_from_slice(&self.nanos.to_le_bytes());
        to.extend_from_slice(&self.used.cpu.to_le_bytes());
        to.extend_from_slice(&self.used.memory.to_le_bytes());
        to.extend_from_slice(&(self.kind as u32).to_le_bytes());
        to.extend_from_slice(&(self.stdout.len() as u32).to_le_bytes());
        to.extend_from_slice(&(self.stderr.len() as u32).to_le_bytes());
        for part in [self.stdout, self.stderr, self.payload] {
            to.extend_from_slice(part);
        }
    }

    /// Decodes a result; `None` if the bytes aren't one.
    pub(crate) fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (number, rest) = bytes.split_first_chunk::<8>()?;
        let (nanos, rest) = rest.split_first_chunk::<8>()?;
        let (cpu, rest) = rest.split_first_chunk::<8>()?;
        let (memory, rest) = rest.split_first_chunk::<8>()?;
        let (kind, rest) = rest.split_first_chunk::<4>()?;
        let (stdout_len, rest) = rest.split_first_chunk::<4>()?;
        let (stderr_len, rest) = rest.split_first_chunk::<4>()?;
        let kind = u32::from_le_bytes(*kind);
        let (stdout, rest) = rest.split_at_checked(u32::from_le_bytes(*stdout_len) as usize)?;
        let (stderr, payload) = rest.split_at_checked(u32::from_le_bytes(*stderr_len) as usize)?;
        Some(Self {
            number: u64::from_le_bytes(*number),
            kind: RecordKind::ALL.into_iter().find(|known| *known as u32 == kind)?,
            nanos: u64::from_le_bytes(*nanos),
            used: Used { cpu: u64::from_le_bytes(*cpu), memory: u64::from_le_bytes(*memory) },
            stdout,
            stderr,
            payload,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn records_come_back_as_they_were() {
        let mut bytes = Vec::new();
        let call = TaskRecord::Call { name: "score", format: 3, input: b"input" };
        for record in [call, TaskRecord::Retire] {
            record.encode(&mut bytes);
            assert_eq!(TaskRecord::decode(&bytes), Some(record));
        }
        for kind in RecordKind::ALL {
            let record = ResultRecord {
                number: 7,
                kind,
                nanos: 1 << 40,
                used: Used { cpu: 1 << 41, memory: 1 << 42 },
                stdout: b"out",
                stderr: b"error",
                payload: b"payload",
            };
            record.encode(&mut bytes);
            assert_eq!(ResultRecord::decode(&bytes), Some(record));
        }
    }

    #[test]
    fn what_is_cut_or_damaged_is_no_record() {
        let mut bytes = Vec::new();
        TaskRecord::Call { name: "score", format: 3, input: b"" }.encode(&mut bytes);
        for len in 0..bytes.len() {
            assert_eq!(TaskRecord::decode(&bytes[..len]), None);
        }
        let record = ResultRecord {
            number: 7,
            kind: RecordKind::Done,
            nanos: 0,
            used: Used::default(),
            stdout: b"1",
            stderr: b"2",
            payload: b"",
        };
        record.encode(&mut bytes);
        for len in 0..bytes.len() {
            assert_eq!(ResultRecord::decode(&bytes[..len]), None);
        }
        bytes[32] = 200;
        assert_eq!(ResultRecord::decode(&bytes), None);
    }
}
