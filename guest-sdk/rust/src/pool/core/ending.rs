//! How a pool ends, and how it gives up.

use sandpool_abi::queue::CLAIMED;
use sandpool_scheduler::Phase;

use super::chunk::is_wanted;
use super::{Chunk, Core, CoreState};
use crate::deadline::Deadline;
use crate::logging::Level;
use crate::pool::error::{Cause, PoolEnd, PoolError};
use crate::pool::worker::PoolQueue;
use crate::{log, raw};

impl Core<'_> {
    /// Takes no more tasks.
    pub(in crate::pool) fn close(&self) {
        log!(Level::DEBUG, "closing pool");
        self.state.borrow_mut().phase.close();
    }

    /// Waits until all tasks are done and all workers have ended.
    pub(in crate::pool) fn join(&self, deadline: Deadline) -> Result<(), PoolError> {
        if !self.is_owner() {
            return Err(PoolError::NotOwner);
        }
        match &self.state.borrow().phase {
            Phase::Running => return Err(PoolError::StillRunning),
            Phase::Ended(PoolEnd::Terminated) => return Ok(()),
            Phase::Ended(end) => return Err(PoolError::Ended(end.clone())),
            Phase::Closing | Phase::Closed => {}
        }
        log!(Level::DEBUG, "joining pool");
        while self.has_work() {
            if !self.step(deadline) && self.has_work() {
                return Err(PoolError::TimedOut);
            }
        }
        if let Phase::Ended(end) = &self.state.borrow().phase {
            return Err(PoolError::Ended(end.clone()));
        }
        self.state.borrow().tasks.close()?;
        let mut workers = self.state.borrow_mut().crew.take_all();
        while let Some(worker) = workers.last() {
            if worker.of.process.join_until(deadline)?.is_none() {
                self.state.borrow_mut().crew.take_back(workers);
                return Err(PoolError::TimedOut);
            }
            workers.pop();
        }
        self.state.borrow_mut().phase = Phase::Ended(PoolEnd::Terminated);
        Ok(())
    }

    /// Kills all workers. Tasks that aren't done fail.
    pub(in crate::pool) fn terminate(&self) {
        // Finished results count.
        while self.collect() {}
        self.end(PoolEnd::Terminated);
        self.call_back();
    }

    /// Fails all tasks when no worker can be started, because whoever waits for them may be the cause that no worker
    /// starts. The pool goes on with later tasks.
    pub(super) fn give_up(&self) {
        // Finished results count.
        while self.collect() {}
        let why = self.state.borrow().refused.as_ref().map(|refused| refused.why.clone());
        let end = PoolEnd::NoWorker(why.unwrap_or_default());
        // The next worker would do the tasks in the old queue.
        let Ok(tasks) = PoolQueue::new(CLAIMED) else { return self.end(end) };
        let left = {
            let mut state = self.state.borrow_mut();
            let CoreState { scheduler, free_marks, .. } = &mut *state;
            scheduler.put_mut().for_each(|chunk| free_marks.give(&self.marks, chunk));
            // The numbers are those of the queue.
            let left = scheduler.start_over();
            state.tasks = tasks;
            left
        };
        for entry in left.iter().filter(|entry| is_wanted(entry)) {
            self.fail_all(&entry.work, &end);
        }
        self.call_back();
    }

    pub(super) fn end(&self, why: PoolEnd) {
        let (workers, left) = {
            let mut state = self.state.borrow_mut();
            if !state.phase.end(why.clone()) {
                return;
            }
            (state.crew.take_all(), state.scheduler.drain())
        };
        log!(Level::DEBUG, "terminating pool: {why}");
        // A worker that can't be killed or waited for doesn't exist any more.
        for worker in &workers {
            let _ = worker.of.process.kill();
        }
        for worker in &workers {
            let _ = worker.of.process.join();
        }
        for entry in left.iter().filter(|entry| is_wanted(entry)) {
            self.fail_all(&entry.work, &why);
        }
    }

    /// Fails all tasks of a chunk, because they are never done.
    pub(super) fn fail_all(&self, chunk: &Chunk, end: &PoolEnd) {
        for part in 0..chunk.parts {
            self.fail_for_good(chunk, chunk.error(part, Cause::Pool(end.clone()), None));
        }
        self.tell(chunk.job.clone());
    }
}

/// Leaving scope terminates, as `with` does.
impl Drop for Core<'_> {
    fn drop(&mut self) {
        raw::mute::aloud(|| {
            if self.is_owner() {
                self.end(PoolEnd::Terminated);
            }
        });
    }
}
