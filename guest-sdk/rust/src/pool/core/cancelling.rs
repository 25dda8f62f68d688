//! Tasks that nobody wants any more.

use std::rc::Rc;

use super::{Chunk, Core};
use crate::pool::job::Job;
use crate::pool::marks::{MARKS, Marks};

/// Marks that no chunk has.
pub(super) struct FreeMarks {
    free: Vec<u32>,
    /// The lowest mark that was never used.
    next: u32,
}

impl FreeMarks {
    pub(super) fn new() -> Self {
        Self { free: Vec::new(), next: 1 }
    }

    /// Takes a mark, if one is free.
    pub(super) fn next(&mut self) -> Option<u32> {
        self.free.pop().or_else(|| {
            (self.next < MARKS).then(|| {
                self.next += 1;
                self.next - 1
            })
        })
    }

    /// Takes a chunk's mark back, because no worker has the chunk any more.
    #[inline(always)]
    pub(super) fn give(&mut self, marks: &Marks, chunk: &mut Chunk) {
        if chunk.mark != 0 {
            marks.clear(chunk.mark);
            self.free.push(chunk.mark);
            chunk.mark = 0;
        }
    }
}

impl Core<'_> {
    /// Cancels the task that was put with this number, or not yet. Returns whether the task hadn't begun.
    pub(in crate::pool) fn cancel(&self, number: Option<u64>) -> bool {
        let mut state = self.state.borrow_mut();
        let may = number.is_none_or(|number| {
            // A chunk that was given out again is in the backlog.
            state.scheduler.get_mut(number).is_none_or(|entry| {
                entry.work.is_cancelled = self.marks.take(entry.work.mark);
                entry.work.is_cancelled
            })
        });
        if may {
            state.stats.cancelled += 1;
        }
        may
    }

    /// Whether the task that was put with this number has begun.
    pub(in crate::pool) fn has_begun(&self, number: u64) -> bool {
        let state = self.state.borrow();
        let entry = state.scheduler.get(number);
        entry.is_some_and(|entry| !entry.work.is_cancelled && self.marks.is_taken(entry.work.mark))
    }

    /// Cancels all single tasks that haven't begun.
    pub(in crate::pool) fn cancel_waiting(&self) {
        let mut told = Vec::new();
        {
            let mut state = self.state.borrow_mut();
            let is_waiting = |chunk: &Chunk| chunk.job.is_single() && !chunk.is_dropped();
            let mut cancel = |chunk: &Chunk| {
                chunk.job.cancel();
                told.push(chunk.job.clone());
            };
            state.scheduler.cancel(|chunk| {
                let is_waiting = is_waiting(chunk);
                if is_waiting {
                    cancel(chunk);
                }
                is_waiting
            });
            for chunk in state.scheduler.put_mut().filter(|chunk| is_waiting(chunk)) {
                if self.marks.take(chunk.mark) {
                    chunk.is_cancelled = true;
                    cancel(chunk);
                }
            }
            state.stats.cancelled += told.len() as u64;
        }
        told.into_iter().for_each(|job| self.tell(job));
        self.call_back();
    }

    /// Cancels the tasks that haven't begun of a job that reports that it is cancelled.
    pub(in crate::pool) fn cancel_all(&self, job: &Rc<dyn Job>) {
        let mut state = self.state.borrow_mut();
        let mut cancelled = 0;
        state.scheduler.cancel(|chunk| {
            let is_it = Rc::ptr_eq(&chunk.job, job);
            cancelled += if is_it { u64::from(chunk.parts) } else { 0 };
            is_it
        });
        for chunk in state.scheduler.put_mut().filter(|chunk| Rc::ptr_eq(&chunk.job, job)) {
            if self.marks.take(chunk.mark) {
                chunk.is_cancelled = true;
                cancelled += u64::from(chunk.parts);
            }
        }
        state.stats.cancelled += cancelled;
    }
}
