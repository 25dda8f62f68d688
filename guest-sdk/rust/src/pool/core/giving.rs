//! Giving out: chunks go from the backlog into the queue of tasks.

use sandpool_abi::queue::BATCH_ITEM_MAX;
use sandpool_abi::{Errno, NO_WAIT};
use sandpool_scheduler::{Counts, Take};

use super::cancelling::FreeMarks;
use super::{Chunk, Core, CoreState};
use crate::deadline::Deadline;
use crate::pool::error::{Cause, PoolEnd};
use crate::pool::frame::TaskHead;
use crate::raw;

/// The number of bytes that may be in the queue of tasks; tasks beyond it stay with the owner. So the arena keeps
/// room for results, without which no tasks are taken.
const PUT_MAX: u64 = 32 << 20;
/// Of large tasks, those beyond this number of bytes and two for each worker stay with the owner as well: bytes that
/// were put long ago are out of the processors' caches, and take longer to copy.
const AHEAD_BYTES: u64 = 1 << 20;
/// A batch is full when it has more bytes than this.
const BATCH_BYTES: usize = 64 << 10;

/// Messages that are put together.
#[derive(Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    lens: Vec<u32>,
}

impl Batch {
    /// Adds a chunk, if it goes out with those that the batch has.
    #[inline(always)]
    fn take(
        &mut self,
        number: u64,
        chunk: &mut Chunk,
        ahead: Counts,
        workers: usize,
        free_marks: &mut FreeMarks,
    ) -> Take {
        if chunk.is_dropped() {
            return Take::Drop;
        }
        let len = chunk.len();
        let is_ahead = len > BATCH_BYTES && ahead.bytes > AHEAD_BYTES && ahead.entries >= 2 * workers;
        if is_ahead || ahead.bytes > PUT_MAX && ahead.entries > 0 {
            return Take::Stop;
        }
        let is_for_batch = len <= BATCH_ITEM_MAX && chunk.handles().next().is_none();
        if !is_for_batch && !self.lens.is_empty() {
            return Take::Stop;
        }
        if chunk.job.is_cancellable() && chunk.parts > 0 {
            let Some(mark) = free_marks.next() else { return Take::Stop };
            chunk.mark = mark;
        }
        let head = TaskHead {
            number,
            trampoline: chunk.callee.function.trampoline,
            function: chunk.callee.function.function,
            parts: chunk.parts,
            is_timed: chunk.terms.timeout.is_some(),
            mark: chunk.mark,
        };
        self.bytes.extend_from_slice(&head.to_bytes());
        if len <= BATCH_ITEM_MAX {
            chunk.behind_head().into_iter().for_each(|bytes| self.bytes.extend_from_slice(bytes));
        }
        // No message is longer than an address.
        self.lens.push(u32::try_from(len).unwrap_or(u32::MAX));
        if !is_for_batch || self.bytes.len() > BATCH_BYTES { Take::Last } else { Take::Next }
    }

    /// Puts the batch, whose first chunk is this. Returns how many chunks were put.
    fn put(&self, tasks: u64, first: &Chunk, timeout: u64) -> Result<usize, Errno> {
        let is_large = first.len() > BATCH_ITEM_MAX;
        if !is_large && first.handles().next().is_none() {
            return raw::queue::put_many(tasks, &self.bytes, &self.lens, timeout);
        }
        let handles: Vec<_> = first.handles().map(|object| object.handle()).collect();
        let [of_all, parts, apart] = first.behind_head();
        // Only the head of a large chunk is in the batch.
        let whole: &[&[u8]] = if is_large { &[&self.bytes, of_all, parts, apart] } else { &[&self.bytes] };
        raw::queue::put(tasks, whole, &handles, timeout).map(|()| 1)
    }
}

impl Core<'_> {
    /// Puts chunks from the backlog, as far as there is room.
    pub(in crate::pool) fn pump(&self) {
        self.pump_until(Deadline::NOW);
    }

    /// Like `pump`, but waits for room if nothing is under way: then nobody else makes room.
    pub(super) fn pump_until(&self, deadline: Deadline) {
        loop {
            match self.put_some(deadline) {
                Ok(true) => {}
                Ok(false) => break,
                Err(errno) => {
                    self.end(PoolEnd::Host(errno));
                    break;
                }
            }
        }
        self.call_back();
    }

    /// Puts a batch, or one chunk that isn't for a batch; returns whether there may be more to put.
    fn put_some(&self, deadline: Deadline) -> Result<bool, Errno> {
        // Dropped after the borrow has ended: what hangs on a chunk may be the program's.
        let mut dropped = Vec::new();
        let mut borrowed = self.state.borrow_mut();
        let CoreState { scheduler, batch, free_marks, crew, tasks, .. } = &mut *borrowed;
        batch.bytes.clear();
        batch.lens.clear();
        let workers = crew.wanted();
        let count = scheduler.offer(
            |entry| dropped.push(entry),
            |number, chunk, ahead| batch.take(number, chunk, ahead, workers, free_marks),
        );
        let Some(first) = scheduler.backlog().next().filter(|_| count > 0) else { return Ok(false) };
        let timeout = if scheduler.under_way().entries == 0 { deadline.left() } else { NO_WAIT };
        let put = batch.put(tasks.handle(), &first.work, timeout);
        let fit = put.unwrap_or(0).min(count);
        scheduler.put(fit, |number, chunk| chunk.job.put(number));
        // A chunk that wasn't put may leave the backlog in several ways, and none of them gives its mark back.
        for chunk in scheduler.backlog_mut().take(count - fit) {
            free_marks.give(&self.marks, chunk);
        }
        match put {
            Ok(_) => Ok(true),
            Err(Errno::Again | Errno::Timedout) => Ok(false),
            Err(Errno::Msgsize) => {
                // The tasks of a chunk that doesn't fit into the arena are done one by one.
                let single = scheduler.too_large();
                drop(borrowed);
                if let Some(entry) = single {
                    let chunk = entry.work;
                    self.fail_for_good(&chunk, chunk.error(0, Cause::TooLarge, None));
                    self.tell(chunk.job);
                }
                Ok(true)
            }
            Err(other) => Err(other),
        }
    }
}
