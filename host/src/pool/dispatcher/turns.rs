//! A turn of the pool's thread: what is given out, how many workers there are, when the pool ends.

use std::sync::atomic::Ordering;

use sandpool_abi::process::Limit;
use sandpool_abi::task::DELIVERED;
use sandpool_scheduler::{Phase, Take, next_deadline};

use super::{Core, Item, Worker};
use crate::error::PoolEnd;
use crate::error::{Failure, Usage};
use crate::pool::link::Put;
use crate::sys::futex::nanos_now;
use crate::wire::TaskRecord;

/// The queue of tasks holds as many tasks as the workers do in this time.
pub(super) const DEPTH_NANOS: u64 = 2_000_000;
/// The least and the most tasks in the queue for each worker.
pub(super) const DEPTH_MIN: u64 = 2;
pub(super) const DEPTH_MAX: u64 = 4096;

/// How long the thread sleeps at most.
const IDLE_NANOS: u64 = 500_000_000;
/// How long the thread sleeps after a worker couldn't be started, or after the arena was busy or full.
const AGAIN_NANOS: u64 = 5_000_000;
/// How long the thread sleeps at least, whatever a worker says of its times.
const SLEEP_MIN_NANOS: u64 = 100_000;

/// How long nothing moves in a pool before the pool looks whether the arena has room; and how long the arena has no
/// room before the pool ends.
const STARVED_NANOS: u64 = 2_500_000_000;

impl Core {
    /// Does everything that can be done now.
    pub(super) fn step(&mut self) {
        self.look_whether_terminated();
        if self.is_over || self.phase.has_ended() {
            return;
        }
        self.is_stuck = false;
        if self.take_results().is_err() {
            return self.end(PoolEnd::Damaged);
        }
        self.look_after_workers();
        self.has_left = self.link.unlink_left();
        self.look_after_deadlines();
        self.look_after_room();
        self.look_after_starts();
        self.refill();
        self.start_workers();
        self.go_on_closing();
    }

    pub(super) fn sleep_nanos(&self) -> u64 {
        if self.phase.has_ended() {
            // The supervisor's end wakes this thread.
            return IDLE_NANOS;
        }
        let mut nanos = if self.is_stuck || self.has_left { AGAIN_NANOS } else { IDLE_NANOS };
        if let Some(timeout) = self.rules.task_timeout
            && self.scheduler.under_way().tasks > 0
        {
            let now = nanos_now();
            let claims = self.crew.iter().filter_map(|worker| self.link.claims(worker.of.handle));
            let at_work = claims.filter(|claims| claims.work != 0);
            let times = at_work.map(|claims| (timeout, now.saturating_sub(claims.since)));
            nanos = nanos.min(next_deadline(timeout, times)).max(SLEEP_MIN_NANOS);
        }
        if let Some(timeout) = self.rules.start_timeout
            && let Some(left) = self.crew.until_ready(nanos_now(), timeout)
        {
            nanos = nanos.min(left.max(SLEEP_MIN_NANOS));
        }
        nanos
    }

    /// Number of tasks that the queue is to hold.
    pub(super) fn depth(&self) -> u64 {
        let workers = self.crew.wanted().max(1) as u64;
        let each = DEPTH_NANOS.checked_div(self.mean_nanos).unwrap_or(DEPTH_MIN);
        workers * each.clamp(DEPTH_MIN, DEPTH_MAX)
    }

    /// Moves tasks from the backlog to the queue, where workers find them.
    pub(super) fn refill(&mut self) {
        if !self.phase.gives_out() {
            return;
        }
        let depth = self.depth();
        while self.scheduler.under_way().tasks < depth && self.scheduler.waiting() > 0 {
            let count = self.offer(depth);
            if count == 0 {
                return;
            }
            let next = self.scheduler.backlog().take(count).filter_map(|entry| entry.work.task());
            let records: Vec<_> = next.map(|task| task.record.as_slice()).collect();
            let put_at = nanos_now();
            let result = self.link.put(&records);
            let put = match result {
                Ok(Put::All(put) | Put::Some(put) | Put::TooLarge(put)) => put,
                Err(_) => 0,
            };
            self.scheduler.put(put, |_, item| {
                if let Item::Task(task) = item {
                    task.put_at = put_at;
                }
            });
            match result {
                Ok(Put::All(_)) => {}
                Ok(Put::Some(_)) => {
                    self.is_stuck = true;
                    return;
                }
                Ok(Put::TooLarge(_)) => {
                    if let Some(entry) = self.scheduler.too_large() {
                        self.fail(
                            entry,
                            Failure::InputTooLarge(Limit::Arena(self.rules.arena_size)),
                            &[],
                            Usage::default(),
                        );
                    }
                }
                Err(_) => return self.end(PoolEnd::Damaged),
            }
        }
    }

    /// Returns how many of the next tasks are for the queue now. Tasks that nobody waits for are among them no more.
    fn offer(&mut self, depth: u64) -> usize {
        let bytes_max = self.rules.bytes_max;
        let mut cancelled = Vec::new();
        let count = self.scheduler.offer(
            |entry| cancelled.push(entry),
            |_, item, ahead| {
                let Item::Task(task) = item else { return Take::Drop };
                // A single task may be as large as it likes.
                let has_room = ahead.bytes == 0 || ahead.bytes + task.record.len() as u64 <= bytes_max;
                if ahead.tasks >= depth || !has_room {
                    Take::Stop
                } else if task.sink.begin() {
                    Take::Next
                } else {
                    Take::Drop
                }
            },
        );
        for entry in cancelled {
            self.fail(entry, Failure::Cancelled, &[], Usage::default());
        }
        count
    }

    /// Ends the pool if no worker runs a task and the arena has no room for the next item: nothing can make room any
    /// more.
    pub(super) fn look_after_room(&mut self) {
        let frees = self.link.frees();
        let now = nanos_now();
        if frees != self.moved.1 || self.has_more {
            self.moved = (now, frees);
        }
        let is_waiting = self.is_unfinished();
        if !is_waiting || now.saturating_sub(self.moved.0) < STARVED_NANOS {
            self.starved = None;
            return;
        }
        let claims: Vec<_> = self.crew.iter().map(|worker| self.link.claims(worker.of.handle)).collect();
        let is_delivering = claims.iter().flatten().any(|claims| claims.part == DELIVERED);
        let is_at_work = claims.iter().any(|claims| claims.is_none_or(|claims| claims.work != 0));
        // One free page isn't room for every item: a task that can't be put shows this, and so does a worker that
        // can't deliver.
        let is_starved = !is_at_work
            && (is_delivering
                || self.scheduler.under_way().tasks == 0 && self.is_stuck
                || !self.link.has_room());
        if !is_starved {
            self.starved = None;
        } else if now.saturating_sub(*self.starved.get_or_insert(now)) >= STARVED_NANOS {
            self.end(PoolEnd::Limited(Limit::Arena(self.rules.arena_size)));
        }
    }

    /// Whether tasks remain to be done.
    fn is_unfinished(&self) -> bool {
        self.scheduler.under_way().tasks > 0 || self.scheduler.waiting() > 0
    }

    fn start_workers(&mut self) {
        if !self.phase.gives_out() {
            return;
        }
        while self.crew.missing() > 0 {
            match self.link.start_worker() {
                Ok(handle) => {
                    self.crew.add(Worker { handle, name: String::new(), pid: 0 }, nanos_now());
                }
                Err(errno) if self.crew.is_empty() && !self.is_stuck => {
                    return self.end(PoolEnd::Worker(errno.to_string().into()));
                }
                Err(_) => {
                    self.is_stuck = true;
                    return;
                }
            }
        }
        while self.crew.surplus() > 0 {
            let mut record = Vec::new();
            TaskRecord::Retire.encode(&mut record);
            match self.link.put(&[&record]) {
                Ok(Put::All(_)) => {
                    self.scheduler.put_at_once(Item::Retire);
                    self.crew.ask_one_to_leave();
                }
                _ => {
                    self.is_stuck = true;
                    return;
                }
            }
        }
    }

    fn go_on_closing(&mut self) {
        if self.phase == Phase::Closing && !self.is_unfinished() {
            match self.link.close_tasks() {
                Ok(()) => self.phase = Phase::Closed,
                Err(_) => self.is_stuck = true,
            }
        }
        if self.phase == Phase::Closed && self.crew.is_empty() {
            self.end(PoolEnd::Closed);
        }
    }

    pub(super) fn is_terminated(&self) -> bool {
        self.is_terminated.load(Ordering::SeqCst)
    }

    pub(super) fn look_whether_terminated(&mut self) {
        if self.is_terminated() {
            self.end(PoolEnd::Terminated);
        }
    }

    /// Ends the pool; all tasks that aren't done fail. Only the first reason counts.
    pub(super) fn end(&mut self, end: PoolEnd) {
        // Termination is then the reason, whatever else followed from it.
        let end = if self.is_terminated() { PoolEnd::Terminated } else { end };
        if !self.phase.end(end.clone()) {
            return;
        }
        for entry in self.scheduler.drain() {
            self.fail(entry, Failure::PoolEnded(end.clone()), &[], Usage::default());
        }
    }
}
