//! Results of tasks, and where they go.

use std::time::Duration;

use sandpool_abi::process::{ExitStatus, Limit};
use sandpool_scheduler::Entry;

use super::{Core, Item, Task, tell};
use crate::error::PoolEnd;
use crate::error::{Failure, TaskError, Usage};
use crate::ipc::process_table;
use crate::pool::event::Event;
use crate::pool::outcome::Completed;
use crate::sys::futex::nanos_now;
use crate::wire::{RecordKind, ResultRecord};
use crate::{GuestText, codec};

/// Batches of results that are taken in one turn. After them, the thread looks at other news.
const BATCHES_MAX: usize = 16;

/// Records that may come without being the result of a task at work. A worker that is killed just then may leave one;
/// a pool with more of them is damaged.
pub(super) const NONSENSE_MAX: u64 = 1000;

impl Core {
    /// Takes the results that have come, up to the maximum of one turn; then more may remain.
    pub(super) fn take_results(&mut self) -> crate::ipc::Result<()> {
        for _ in 0..BATCHES_MAX {
            // The rest of the core is used while the results are looked at.
            let mut results = std::mem::take(&mut self.results);
            self.link.take_results(&mut results)?;
            let now = nanos_now();
            for record in results.iter() {
                let is_one = ResultRecord::decode(record).is_some_and(|record| self.take_result(record, now));
                self.nonsense += u64::from(!is_one);
            }
            self.has_more = !results.is_empty();
            self.results = results;
            if self.nonsense > NONSENSE_MAX {
                return Err(sandpool_abi::Errno::Io);
            }
            // Results that come meanwhile are taken as well, but workers must get tasks between the batches.
            self.refill();
            if !self.has_more || self.is_terminated() {
                return Ok(());
            }
            self.moved.0 = now;
        }
        Ok(())
    }

    /// Takes a record. Returns whether a worker had to put it: the record's claims are checked against this side's
    /// own state.
    pub(super) fn take_result(&mut self, record: ResultRecord<'_>, now: u64) -> bool {
        match record.kind {
            RecordKind::Ready => return self.worker_is_ready(record.number),
            RecordKind::NotReady => {
                if self.crew.starting(|worker| worker.handle.0 == record.number).is_none() {
                    return false;
                }
                self.end(PoolEnd::Initializer(GuestText::from_bytes(record.payload)));
                return true;
            }
            RecordKind::Retired => {
                let retire = self.scheduler.get(record.number).filter(|entry| entry.work.task().is_none());
                return retire.is_some() && self.scheduler.finished(record.number).is_some();
            }
            _ => {}
        }
        let task = self.scheduler.get(record.number).and_then(|entry| entry.work.task());
        let Some(put_at) = task.map(|task| task.put_at) else { return false };
        let Some(entry) = self.scheduler.finished(record.number) else { return false };
        // The task can't have run for longer than the time since it was put into the queue.
        let nanos = record.nanos.min(now.saturating_sub(put_at)).max(1);
        self.mean_nanos = self.mean_nanos.saturating_mul(7).saturating_add(nanos) / 8;
        let known = |figure: u64| (figure > 0).then_some(figure);
        let usage = Usage {
            wall: Duration::from_nanos(nanos),
            // The process can't have had all processors for longer than it ran.
            cpu: known(record.used.cpu.min(nanos)).map(Duration::from_nanos),
            peak_memory: known(record.used.memory),
        };
        let cause = match record.kind {
            RecordKind::Done => {
                let completed = Completed {
                    value: record.payload.to_vec(),
                    stdout: record.stdout.to_vec(),
                    stderr: record.stderr.to_vec(),
                    usage,
                    attempts: entry.attempts(),
                };
                self.finish(entry, completed);
                return true;
            }
            RecordKind::Refused => Failure::Refused(GuestText::from_bytes(record.payload)),
            RecordKind::Unsupported => Failure::Unsupported,
            RecordKind::NoTask => Failure::NoTask(None),
            RecordKind::TooLarge => Failure::OutputTooLarge(Limit::Output(self.rules.output_max)),
            RecordKind::Ended => {
                ended(record.payload).map_or(Failure::Failed(GuestText::default()), Failure::Ended)
            }
            _ => Failure::Failed(GuestText::from_bytes(record.payload)),
        };
        self.failed(entry, cause, record.stderr, usage);
        true
    }

    fn finish(&mut self, entry: Entry<Item>, completed: Completed<Vec<u8>>) {
        let Item::Task(task) = entry.work else { return };
        self.stats.succeeded += 1;
        self.stats.busy = self.stats.busy.saturating_add(completed.usage.wall);
        if !self.listeners.is_empty() {
            self.tell_started(&task);
            let Task { number, name, .. } = &task;
            self.tell(Event::Finished {
                number: *number,
                task: name.to_string(),
                wall: completed.usage.wall,
            });
        }
        self.done.push((task.sink, Ok(completed)));
    }

    /// Handles a failed attempt.
    pub(super) fn failed(&mut self, mut entry: Entry<Item>, mut cause: Failure, stderr: &[u8], usage: Usage) {
        let attempts = entry.attempts();
        let Item::Task(task) = &mut entry.work else { return };
        // The next attempt may fail in time.
        let was_late = std::mem::take(&mut task.is_late);
        if was_late
            && let Some(timeout) = self.rules.task_timeout
            && cause.is_of_the_process()
        {
            cause = Failure::TimedOut(timeout);
        }
        if !cause.is_of_the_process() {
            return self.fail(entry, cause, stderr, usage);
        }
        let (number, name) = (task.number, task.name.clone());
        match self.scheduler.retry(entry, self.rules.retries) {
            Ok(()) => {
                self.stats.retried += 1;
                let attempt = attempts + 1;
                self.tell(Event::Retried { number, task: name.to_string(), cause, attempt });
            }
            Err(entry) => self.fail(entry, cause, stderr, usage),
        }
    }

    pub(super) fn fail(&mut self, entry: Entry<Item>, cause: Failure, stderr: &[u8], usage: Usage) {
        let attempts = entry.attempts();
        let Item::Task(task) = entry.work else { return };
        self.stats.failed += 1;
        if !self.listeners.is_empty() {
            self.tell_started(&task);
            let Task { number, name, .. } = &task;
            self.tell(Event::Failed { number: *number, task: name.to_string(), cause: cause.clone() });
        }
        let task_name = task.name.to_string();
        let stderr = GuestText::from_bytes(stderr);
        self.done.push((
            task.sink,
            Err(TaskError { task: task_name, cause, stderr, attempts, usage: Box::new(usage) }),
        ));
    }

    fn tell_started(&mut self, task: &Task) {
        if !task.is_told {
            self.tell(Event::Started { number: task.number, task: task.name.to_string() });
        }
    }

    pub(super) fn tell(&mut self, event: Event) {
        tell(&mut self.listeners, event);
    }
}

/// How a process ended, according to a record.
fn ended(payload: &[u8]) -> Option<ExitStatus> {
    codec::decode::<process_table::Outcome>(payload).ok()?.status()
}
