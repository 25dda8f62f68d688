//! Results, and other messages of workers.

use std::rc::Rc;

use sandpool_abi::{Errno, NO_WAIT};
use sandpool_scheduler::Entry;

use super::chunk::is_wanted;
use super::{Chunk, Core, CoreState, Label, Stats};
use crate::handles::Handles;
use crate::logging::Level;
use crate::message::{self, Encoded, Failure};
use crate::pool::error::{Cause, PoolEnd, TaskError};
use crate::pool::frame::{
    BEFORE_ONLY, LEAVING, MORE, NO_NUMBER, NOT_READY, PANICKED, PartKind, READY, ResultHead, only_part,
    split_part,
};
use crate::pool::job::Job;
use crate::pool::marks::Marks;
use crate::{log, raw};

/// The number of results that are taken at a time.
const RESULTS: usize = 1024;
/// Room for the results.
const BUFFER: usize = 256 << 10;

/// The buffers for a batch of results.
pub(super) struct Inbox {
    bytes: Vec<u8>,
    lens: Vec<u32>,
}

impl CoreState {
    /// Takes a chunk that was put, because it is finished, or its worker has ended.
    #[inline(always)]
    fn finished(&mut self, marks: &Marks, number: u64, nanos: u32) -> Option<Entry<Chunk>> {
        let mut entry = self.scheduler.finished(number)?;
        self.free_marks.give(marks, &mut entry.work);
        if nanos != 0 {
            let known = self.nanos.entry(entry.work.callee.function).or_insert(nanos);
            // The average follows changes, and a single task doesn't mislead it.
            *known = (*known / 4 * 3).saturating_add(nanos / 4).max(1);
        }
        Some(entry)
    }
}

impl Core<'_> {
    /// Takes the results that there are. Returns whether there were any.
    pub(super) fn collect(&self) -> bool {
        let mut inbox =
            self.inbox.take().unwrap_or_else(|| Inbox { bytes: vec![0; BUFFER], lens: vec![0; RESULTS] });
        let collected = self.collect_into(&mut inbox);
        self.inbox.set(Some(inbox));
        if let Err(errno) = collected {
            self.end(PoolEnd::Host(errno));
        }
        self.call_back();
        collected == Ok(true)
    }

    fn collect_into(&self, inbox: &mut Inbox) -> Result<bool, Errno> {
        let results = self.results.handle();
        let got = match raw::queue::get_many(results, &mut inbox.bytes, &mut inbox.lens, NO_WAIT) {
            Err(Errno::Again | Errno::Closed) => return Ok(false),
            got => got?,
        };
        if got == 0 {
            return match self.collect_large() {
                Ok(()) => Ok(true),
                Err(Errno::Again) => Ok(false),
                Err(errno) => Err(errno),
            };
        }
        let mut bytes = &*inbox.bytes;
        for len in inbox.lens.get(..got).ok_or(Errno::Io)? {
            let (result, rest) = bytes.split_at_checked(*len as usize).ok_or(Errno::Io)?;
            bytes = rest;
            self.arrived(result, Handles::default());
        }
        Ok(true)
    }

    /// Takes results that aren't for a batch, because they are large, or have handles.
    fn collect_large(&self) -> Result<(), Errno> {
        let item = raw::queue::get(self.results.handle(), &mut [], NO_WAIT)?;
        let mut start = [0; BEFORE_ONLY];
        raw::queue::peek(&mut start)?;
        let (head, behind) = ResultHead::read(&start).ok_or(Errno::Io)?;
        if head.number != NO_NUMBER && head.parts == 1 && only_part(behind, item) == Some(PartKind::Value) {
            let value = Encoded::Held(item, BEFORE_ONLY);
            match self.accept(head) {
                Some((entry, _)) if entry.work.parts != 0 => {
                    self.count(|stats| stats.succeeded += 1);
                    entry.work.job.value(entry.work.first, value, false);
                    self.done(entry, 1);
                }
                _ => value.discard(),
            }
            return Ok(());
        }
        match message::take(item, &mut []) {
            Ok((bytes, handles)) => self.arrived(&bytes, handles),
            Err(Failure::Host(errno)) => return Err(errno),
            Err(Failure::OutOfMemory) => self.lost(head),
        }
        Ok(())
    }

    /// Handles a message whose results have no memory.
    #[cold]
    fn lost(&self, head: ResultHead) {
        let Some((entry, label)) = self.accept(head) else { return };
        let count = head.parts.min(entry.work.parts);
        for part in 0..count {
            let cause = Cause::Decode(Failure::OutOfMemory.to_string());
            self.fail(&entry, part, entry.work.error(part, cause, label.as_ref()));
        }
        self.done(entry, count);
    }

    pub(in crate::pool) fn call_back(&self) {
        loop {
            // Not in the condition of the loop, where the borrow would last.
            let job = self.told.borrow_mut().pop_front();
            match job {
                Some(job) => job.call_back(),
                None => return,
            }
        }
    }

    /// Has a job call back, when no result is under way.
    pub(in crate::pool) fn tell(&self, job: Rc<dyn Job>) {
        self.told.borrow_mut().push_back(job);
    }

    /// Handles a message from a worker.
    fn arrived(&self, message: &[u8], mut handles: Handles) {
        let Some((head, results)) = ResultHead::read(message) else { return };
        if head.number == NO_NUMBER {
            return self.heard(head, results);
        }
        let Some((entry, label)) = self.accept(head) else { return };
        let chunk = &entry.work;
        let count = head.parts.min(chunk.parts);
        // Most results are plain values, one after another.
        let (mut index, mut rest) = chunk.job.values(chunk.first, count, results);
        self.count(|stats| stats.succeeded += u64::from(index));
        while index < count
            && let Some((part, behind)) = split_part(rest)
        {
            let own = handles.split_first(part.handles);
            self.deliver(&entry, index, part.kind, part.bytes, own, label.as_ref());
            rest = behind;
            index += 1;
        }
        drop(handles);
        self.done(entry, index);
    }

    /// Returns the tasks whose results a message has, without those that nobody waits for, and the worker's label.
    #[inline(always)]
    fn accept(&self, head: ResultHead) -> Option<(Entry<Chunk>, Option<Label>)> {
        let (entry, label) = {
            let mut state = self.state.borrow_mut();
            let worker = state.crew.find(|worker| worker.number == head.worker);
            let label = worker.map(|worker| {
                if head.note & LEAVING != 0 {
                    worker.leaves();
                }
                worker.of.label.clone()
            });
            let entry = if head.note & MORE != 0 {
                state.scheduler.partly_finished(head.number, head.parts)
            } else {
                state.finished(&self.marks, head.number, head.nanos).map(Entry::rest)
            };
            (entry, label)
        };
        if head.note & LEAVING != 0 {
            // The next worker begins while that one ends.
            self.keep_going();
        }
        Some((entry.filter(is_wanted)?, label))
    }

    /// Notes that the first tasks of a chunk have been delivered; the others are given out again.
    #[inline(always)]
    fn done(&self, entry: Entry<Chunk>, tasks: u32) {
        if tasks < entry.work.parts {
            self.state.borrow_mut().scheduler.rest_not_begun(&entry, tasks);
        }
        self.tell(entry.work.job);
    }

    /// Delivers the result of one task of a chunk.
    pub(super) fn deliver(
        &self,
        entry: &Entry<Chunk>,
        part: u32,
        kind: PartKind,
        bytes: &[u8],
        handles: Handles,
        worker: Option<&Label>,
    ) {
        let text = || String::from_utf8_lossy(bytes).into_owned();
        let chunk = &entry.work;
        let cause = match kind {
            PartKind::Failure if self.retry(entry, part) => return,
            PartKind::Value | PartKind::Failure => {
                let failed = kind == PartKind::Failure;
                self.count(|stats| if failed { stats.failed += 1 } else { stats.succeeded += 1 });
                let value = Encoded::Here(bytes, handles);
                return chunk.job.value(chunk.first + part as usize, value, failed);
            }
            PartKind::Encode => Cause::Encode(text()),
            PartKind::Decode => Cause::Decode(text()),
            PartKind::TooLarge => Cause::TooLarge,
        };
        self.fail(entry, part, chunk.error(part, cause, worker));
    }

    /// Handles a failed task of a chunk: the task is tried again, or its job is told.
    pub(super) fn fail(&self, entry: &Entry<Chunk>, part: u32, error: TaskError) {
        let may_help = matches!(error.cause(), Cause::Panicked(_) | Cause::Ended(_) | Cause::TimedOut(_));
        if may_help && self.retry(entry, part) {
            return;
        }
        self.fail_for_good(&entry.work, error);
    }

    /// Tells the job of a failed task, which isn't tried again.
    pub(super) fn fail_for_good(&self, chunk: &Chunk, error: TaskError) {
        self.count(|stats| stats.failed += 1);
        chunk.job.error(error);
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Stats)) {
        change(&mut self.state.borrow_mut().stats);
    }

    /// Has a failed task of a chunk tried again, before others. Returns whether it may be.
    fn retry(&self, entry: &Entry<Chunk>, part: u32) -> bool {
        let chunk = &entry.work;
        if !entry.may_retry(chunk.terms.retries) {
            return false;
        }
        log!(Level::DEBUG, "trying task {} again", chunk.first + part as usize);
        self.count(|stats| stats.retried += 1);
        self.state.borrow_mut().scheduler.retry_part(entry, part, chunk.terms.retries)
    }

    /// Handles a message of a worker that isn't a result.
    fn heard(&self, head: ResultHead, text: &[u8]) {
        let is_it = |worker: &super::Worker| worker.number == head.worker;
        let mut state = self.state.borrow_mut();
        let text = || split_part(text).map(|(part, _)| String::from_utf8_lossy(part.bytes).into_owned());
        match head.note {
            READY => drop(state.crew.ready(is_it)),
            NOT_READY if self.plan.has_initializer && state.crew.starting(is_it).is_some() => {
                drop(state);
                self.end(PoolEnd::Initializer(text().unwrap_or_default()));
            }
            PANICKED => {
                if let Some(worker) = state.crew.find(is_it) {
                    worker.of.panic = Some(text().unwrap_or_default());
                }
            }
            _ => {}
        }
    }
}
