//! A task that a process does for an application's pool: its input and output, and how its result is put. A
//! [worker](super::pool_worker) takes tasks; a command, which is a program's run, has its result put at its [`exit`](super::exit).

use sandpool_abi::Errno;

use super::{Guest, Process, cpu_nanos};
use crate::ipc::Result;
use crate::ipc::arena::Participant;
use crate::ipc::object::{self, Handle};
use crate::ipc::queue::{self, Port, QueueState};
use crate::ipc::waiting::Waiting;
use crate::sys::futex::{Deadline, nanos_now};
use crate::wire::{RecordKind, ResultRecord, Used};

/// The task that the worker calls.
#[derive(Debug, Default)]
pub(crate) struct Task {
    pub(crate) input: Vec<u8>,
    pub(crate) output: Vec<u8>,
    /// The most bytes of output.
    pub(super) output_max: u64,
    /// Whether the last output was larger.
    pub(super) is_too_large: bool,
    /// Whether any output was larger; the last output may be only a message about that.
    pub(super) was_too_large: bool,
}

impl Task {
    /// Sets the output; the last one counts.
    #[inline]
    pub(crate) fn set_output(&mut self, bytes: &[u8]) -> Result<()> {
        self.output.clear();
        self.is_too_large = bytes.len() as u64 > self.output_max;
        self.was_too_large |= self.is_too_large;
        if self.is_too_large {
            return Err(Errno::Msgsize);
        }
        self.output.extend_from_slice(bytes);
        Ok(())
    }
}

/// The data that a process which runs a command needs for its result.
pub(crate) struct RunningCommand {
    pub(super) queues: Queues,
    pub(super) begun: Begun,
}

/// A task that has begun.
#[derive(Clone, Copy)]
pub(super) struct Begun {
    /// Its number in the queue.
    pub(super) number: u64,
    pub(super) since: u64,
    /// The process whose first claim this is: this process, or its parent.
    pub(super) claimant: u32,
}

/// The queues for tasks and results.
#[derive(Debug, Clone, Copy)]
pub(super) struct Queues {
    pub(super) tasks: Handle,
    pub(super) results: Handle,
}

pub(super) fn port(
    participant: &Participant,
    queue: Handle,
    waiting: fn(u32) -> Waiting,
) -> Result<Port<'_>> {
    let object = object::resolve_for_host::<QueueState>(participant, queue)?;
    Ok(Port { queue: object.state, object: object.index, waiting: waiting(object.index) })
}

/// Puts the result of the command that the process runs, if it runs one: it exits with this code.
pub(super) fn finish_command(guest: &Guest, code: i32) {
    let process = &guest.process;
    let Some(command) = &process.command else { return };
    let (stdout, stderr) = process.stdio.end_task(true);
    let mut payload = Vec::with_capacity(1 + stdout.len());
    payload.push(code as u8);
    payload.extend_from_slice(&stdout);
    let result = (RecordKind::Done, payload.as_slice(), (Vec::new(), stderr));
    // Without a result, the worker says how this process has ended.
    let _ = put_result(process, command.queues, (command.begun, used(guest)), result, &mut Vec::new());
}

/// Use of time and memory by this process until now.
pub(super) fn used(guest: &Guest) -> Used {
    Used { cpu: cpu_nanos(), memory: guest.growth.used }
}

/// The kind of a result, its payload, and the texts for stdout and stderr.
pub(super) type Parts<'a> = (RecordKind, &'a [u8], (Vec<u8>, Vec<u8>));

pub(super) fn put_result(
    process: &Process,
    queues: Queues,
    (begun, used): (Begun, Used),
    (kind, payload, (stdout, stderr)): Parts<'_>,
    buffer: &mut Vec<u8>,
) -> Result<()> {
    let Begun { number, since, claimant } = begun;
    let participant = process.participant();
    let nanos = nanos_now().saturating_sub(since);
    let record = ResultRecord { number, kind, nanos, used, stdout: &stdout, stderr: &stderr, payload };
    record.encode(buffer);
    let port = port(participant, queues.results, Waiting::Put)?;
    match queue::finish(participant, port, &[buffer], &[], claimant, Deadline::NEVER) {
        // The record will never fit, but this one will.
        Err(Errno::Msgsize) => {
            let record =
                ResultRecord { kind: RecordKind::TooLarge, stdout: &[], stderr: &[], payload: &[], ..record };
            record.encode(buffer);
            queue::finish(participant, port, &[buffer], &[], claimant, Deadline::NEVER)
        }
        finished => finished,
    }
}
