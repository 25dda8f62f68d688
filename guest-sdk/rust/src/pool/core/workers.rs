//! Workers: starting them, burying them, and killing those whose task takes too long.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use sandpool_abi::task::{self, DELIVERED};
use sandpool_abi::{Errno, NO_WAIT};
use sandpool_scheduler::{Claims, Entry, Lateness, Phase, Scheduler, lateness, next_deadline};

use super::chunk::{Nobody, is_wanted};
use super::{Chunk, Core, CoreState, Label, NOTHING, Terms, check_count};
use crate::handles::Handles;
use crate::logging::Level;
use crate::pool::error::{Cause, PoolEnd, PoolError};
use crate::pool::job::Job;
use crate::pool::saved::Saved;
use crate::pool::worker::Links;
use crate::{Error, ExitStatus, Process, log, raw};

/// Tries of somebody who waits for a worker that can't be started.
const TRIES: u32 = 200;

/// A process of the pool.
pub(super) struct Worker {
    pub(super) process: Process,
    pub(super) number: u32,
    pub(super) label: Label,
    /// The work that the worker was killed for, because it took longer than this.
    killed: Option<(u64, Duration)>,
    /// The message of a panic that ends the worker.
    pub(super) panic: Option<String>,
    /// The memory in which the worker leaves its results.
    saved: Saved,
}

/// The reason why there is no worker: none could be started.
pub(super) struct StartRefusal {
    pub(super) why: String,
    /// How often somebody who waits has tried again.
    tries: u32,
}

impl Core<'_> {
    /// Checks whether workers have ended, or take too long; replaces missing workers. Returns whether there was
    /// anything.
    pub(super) fn look_after_workers(&self) -> bool {
        self.rounds.set(0);
        if self.is_ended() {
            return false;
        }
        let handles: Vec<_> =
            self.state.borrow().crew.iter().map(|worker| worker.of.process.handle()).collect();
        let mut ready = vec![0; handles.len()];
        if let Err(errno) = raw::handle::wait(&handles, NO_WAIT, &mut ready) {
            self.end(PoolEnd::Host(errno));
            return true;
        }
        let ended = handles.iter().zip(ready).filter(|(_, ready)| *ready != 0).map(|(handle, _)| *handle);
        let mut any = false;
        for handle in ended {
            // Finished results are collected before the worker is buried, and none of them is given out again.
            while self.collect() {}
            self.bury(handle);
            any = true;
        }
        self.kill_late();
        self.keep_going();
        self.call_back();
        any
    }

    /// Whether a worker that wasn't ready may have ended by no fault of the program: somebody has killed it.
    fn is_by_chance(&self, status: ExitStatus) -> bool {
        matches!(status, ExitStatus::Signaled(_))
            && !self.plan.has_initializer
            && self.state.borrow_mut().crew.died_by_chance()
    }

    /// Handles the end of a worker. Of the tasks that it had claimed, the one that it worked on has failed; all others
    /// are given out again.
    fn bury(&self, handle: u64) {
        let removed = self.state.borrow_mut().crew.remove(|worker| worker.process.handle() == handle);
        let Some(worker) = removed else { return };
        let (is_ready, mut worker) = (worker.is_ready(), worker.of);
        // Before the join, which gives the process's place back.
        let (claims, status) = match (raw::task::claims(handle), worker.process.join()) {
            (Ok(claims), Ok(status)) => (claims, status),
            (Err(errno), _) | (_, Err(Error::Host(errno))) => return self.end(PoolEnd::Host(errno)),
            (_, Err(_)) => return self.end(PoolEnd::Host(Errno::Child)),
        };
        if !is_ready && !self.is_by_chance(status) {
            return self.end(if self.plan.has_initializer {
                PoolEnd::InitializerEnded { status, stderr: worker.process.stderr() }
            } else {
                PoolEnd::NoWorker(format!("one has ended before its first task: {status}"))
            });
        }
        let (name, pid) = &worker.label;
        log!(Level::DEBUG, "cleaning up worker {name} (pid {pid})");
        if !status.success() || claims.work != 0 {
            log!(Level::SUBWARNING, "worker {name} (pid {pid}) was lost: {status}");
            self.count(|stats| stats.workers_lost += 1);
        }
        let Some(entry) = self.take_claimed(&claims) else { return };
        let chunk = &entry.work;
        let part = self.deliver_saved(&entry, &worker);
        let cause = match worker.killed {
            Some((work, timeout)) if work == claims.work => Cause::TimedOut(timeout),
            _ => worker.panic.take().map_or(Cause::Ended(status), Cause::Panicked),
        };
        self.state.borrow_mut().scheduler.rest_not_begun(&entry, part + 1);
        let error = chunk.error(part, cause, Some(&worker.label));
        self.fail(&entry, part, error.with_stderr(worker.process.stderr()));
        self.tell(entry.work.job);
    }

    /// Gives out again what a worker that has ended had claimed and not begun. Returns the chunk that it was at, if
    /// anybody waits for that.
    fn take_claimed(&self, claims: &task::Claims) -> Option<Entry<Chunk>> {
        // If the result isn't here, though the task was done, the process has ended in its last put.
        let has_begun = claims.work != 0 || claims.part == DELIVERED;
        let claims = Claims { first: claims.first, end: claims.end, has_begun };
        // Dropped after the borrow has ended: what hangs on a chunk may be the program's.
        let mut dropped = Vec::new();
        let begun = {
            let mut state = self.state.borrow_mut();
            let CoreState { scheduler, free_marks, .. } = &mut *state;
            scheduler.give_back(&claims, |mut entry| {
                free_marks.give(&self.marks, &mut entry.work);
                if is_wanted(&entry) && entry.done() < entry.work.parts {
                    return Some(entry);
                }
                dropped.push(entry);
                None
            });
            let mut begun = scheduler.take_begun(&claims);
            if let Some(entry) = &mut begun {
                free_marks.give(&self.marks, &mut entry.work);
            }
            begun
        };
        begun.filter(is_wanted)
    }

    /// Delivers the finished results of a chunk from a worker that has ended, and returns the index of the task that
    /// the worker was at.
    fn deliver_saved(&self, entry: &Entry<Chunk>, worker: &Worker) -> u32 {
        let chunk = &entry.work;
        let mut next = entry.done();
        if chunk.parts > 1 {
            worker.saved.read(|index, part| {
                // Results that have arrived may be there once more.
                if index == next && index < chunk.parts - 1 {
                    self.deliver(
                        entry,
                        index,
                        part.kind,
                        part.bytes,
                        Handles::default(),
                        Some(&worker.label),
                    );
                    next += 1;
                }
            });
        }
        next.min(chunk.parts.saturating_sub(1))
    }

    /// Kills workers that are at a task for longer than it may take.
    fn kill_late(&self) {
        let mut borrowed = self.state.borrow_mut();
        let state = &mut *borrowed;
        if state.shortest.is_none() {
            return;
        }
        let mut killed = Vec::new();
        let now = raw::clock::monotonic();
        for worker in state.crew.iter_mut().map(|worker| &mut worker.of) {
            let Some((timeout, claims)) = at_work(worker, &state.scheduler) else { continue };
            let is_late = lateness(now.saturating_sub(claims.since), timeout) >= Lateness::Late;
            // A worker that isn't at that task any more was in time.
            if is_late && raw::task::kill(worker.process.handle(), claims.work) == Ok(()) {
                worker.killed = Some((claims.work, timeout));
                killed.push((worker.label.0.clone(), timeout));
            }
        }
        drop(borrowed);
        for (name, timeout) in killed {
            log!(Level::SUBWARNING, "killed worker {name}: its task takes longer than {timeout:?}");
        }
    }

    /// The time until some task may take too long.
    pub(super) fn next_timeout(&self) -> Option<u64> {
        let state = self.state.borrow();
        // A task that begins meanwhile takes at least as long as that.
        let shortest = state.shortest.filter(|_| state.scheduler.under_way().entries > 0)?;
        let now = raw::clock::monotonic();
        let times = state.crew.iter().filter_map(|worker| {
            let (timeout, claims) = at_work(&worker.of, &state.scheduler)?;
            Some((timeout, now.saturating_sub(claims.since)))
        });
        Some(next_deadline(shortest, times).max(1))
    }

    /// Starts missing workers. The reason why the only worker can't be started now, a guard that this process has for a
    /// moment or a limit that others have reached, may pass: the refusal is kept, and each step tries again.
    pub(super) fn keep_going(&self) {
        let started = self.start_missing();
        let mut state = self.state.borrow_mut();
        state.refused = match started {
            Err(error) if state.crew.is_empty() => {
                let tries = state.refused.as_ref().map_or(0, |refused| refused.tries);
                Some(StartRefusal { why: error.to_string(), tries })
            }
            _ => None,
        };
    }

    /// Notes that somebody waits for a worker that can't be started. Returns whether it was tried often enough.
    pub(super) fn has_tried_enough(&self) -> bool {
        let mut state = self.state.borrow_mut();
        let Some(refused) = &mut state.refused else { return false };
        refused.tries = (refused.tries + 1).min(TRIES);
        refused.tries == TRIES
    }

    pub(super) fn start_missing(&self) -> Result<(), Error> {
        loop {
            let (number, name, tasks) = {
                let mut state = self.state.borrow_mut();
                let is_over = match state.phase {
                    Phase::Running => false,
                    Phase::Closing => state.scheduler.unfinished() == 0,
                    Phase::Closed | Phase::Ended(_) => true,
                };
                if is_over || state.crew.missing() == 0 {
                    return Ok(());
                }
                state.stats.workers_started += 1;
                let number = u32::try_from(state.stats.workers_started).unwrap_or(u32::MAX);
                (number, format!("{}-{}", self.plan.name, state.stats.workers_started), state.tasks.clone())
            };
            let started = Saved::new().and_then(|saved| {
                let links = Links {
                    tasks: tasks.clone(),
                    results: self.results.clone(),
                    marks: self.marks.clone(),
                    worker: number,
                    saved: saved.clone(),
                    tasks_max: self.plan.tasks_max,
                };
                Ok(((self.plan.start)(links, &name)?, saved))
            });
            if let Ok((process, _)) = &started {
                log!(Level::DEBUG, "added worker {name} (pid {})", process.pid());
            }
            let mut state = self.state.borrow_mut();
            match started {
                Ok((process, saved)) => {
                    let label = (Arc::from(name), process.pid());
                    let worker = Worker { process, number, label, killed: None, panic: None, saved };
                    // No worker has a time in which it must be ready.
                    state.crew.add(worker, 0);
                }
                Err(error) => {
                    state.stats.workers_started -= 1;
                    return Err(error);
                }
            }
        }
    }

    /// Changes the number of workers that the pool is meant to have.
    pub(in crate::pool) fn resize(&self, processes: usize) -> Result<(), PoolError> {
        check_count(processes)?;
        self.check_running()?;
        let before = self.state.borrow_mut().crew.resize(processes);
        self.marks.set_workers(processes);
        if let Some(fewer) = before.checked_sub(processes)
            && fewer > 0
        {
            self.marks.have_leave(u32::try_from(fewer).unwrap_or(u32::MAX));
            // A worker that waits for a task gets one without work, and checks then.
            let nobody: Rc<dyn Job> = Rc::new(Nobody);
            for _ in 0..fewer {
                let nudge = Chunk::new(nobody.clone(), NOTHING, Terms::default(), 0);
                self.state.borrow_mut().scheduler.submit(nudge);
            }
            self.pump();
        }
        Ok(self.start_missing()?)
    }
}

/// The time limit of the task that a worker is at, if it has one, and the worker's claims.
fn at_work(worker: &Worker, scheduler: &Scheduler<Chunk>) -> Option<(Duration, task::Claims)> {
    if worker.killed.is_some() {
        return None;
    }
    let claims = raw::task::claims(worker.process.handle()).ok().filter(|claims| claims.work != 0)?;
    Some((scheduler.get(claims.first)?.work.terms.timeout?, claims))
}
