//! Workers: which are ready, which have ended, whose time is over.

use sandpool_abi::process::ExitStatus;
use sandpool_abi::task::DELIVERED;
use sandpool_scheduler::{Claims, Lateness, lateness};

use super::{Core, Item, Worker, tell};
use crate::error::PoolEnd;
use crate::error::{Failure, Usage};
use crate::pool::event::Event;
use crate::pool::link::Ended;
use crate::sys::futex::nanos_now;

impl Core {
    /// Marks a worker as ready. Returns whether the number is that of a worker that wasn't ready.
    pub(super) fn worker_is_ready(&mut self, number: u64) -> bool {
        let Some(worker) = self.crew.ready(|worker| worker.handle.0 == number) else { return false };
        let (name, pid) = self.link.describe(worker.of.handle);
        (worker.of.name, worker.of.pid) = (name.clone(), pid);
        self.tell(Event::WorkerStarted { name: name.into(), pid });
        true
    }

    pub(super) fn look_after_workers(&mut self) {
        let handles = self.crew.iter().map(|worker| worker.of.handle);
        let ended: Vec<_> = handles.filter(|handle| self.link.has_ended(*handle)).collect();
        if ended.is_empty() {
            return;
        }
        // Results that these workers have put before are taken first.
        if self.take_results().is_err() {
            return self.end(PoolEnd::Damaged);
        }
        // The workers may have been killed because the pool was terminated.
        self.look_whether_terminated();
        if self.has_more || self.phase.has_ended() {
            return;
        }
        let removed = |handle| self.crew.remove(|worker| worker.handle == handle);
        let ended: Vec<_> = ended.into_iter().filter_map(removed).collect();
        for worker in ended {
            match self.link.bury(worker.of.handle) {
                Ok(ended) => {
                    let is_ready = worker.is_ready();
                    self.worker_has_ended(worker.of, is_ready, ended);
                }
                // The worker never ran.
                Err(errno) if self.crew.is_empty() => {
                    return self.end(PoolEnd::Worker(errno.to_string().into()));
                }
                Err(_) => self.is_stuck = true,
            }
        }
    }

    pub(super) fn worker_has_ended(&mut self, worker: Worker, is_ready: bool, ended: Ended) {
        let Ended { claims, status, stderr } = ended;
        if let ExitStatus::Limited(limit) = status
            && limit.ends_the_run()
        {
            return self.end(PoolEnd::Limited(limit));
        }
        if let ExitStatus::Strays(count) = status {
            return self.end(PoolEnd::Strays(count));
        }
        let is_killed = matches!(status, ExitStatus::Signaled(_));
        if !is_ready && is_killed && self.crew.died_by_chance() {
            self.stats.workers_lost += 1;
            return;
        }
        if !is_ready {
            let mut why = status.to_string();
            if let Some(line) = String::from_utf8_lossy(&stderr).lines().next_back() {
                why = format!("{why}: {line}");
            }
            return self.end_unready(why);
        }
        let has_begun = claims.work != 0 || claims.part == DELIVERED;
        let is_lost = !status.success() || has_begun;
        self.stats.workers_lost += u64::from(is_lost);
        let Worker { name, pid, .. } = worker;
        self.tell(Event::WorkerEnded { name: name.into(), pid, status, is_lost });
        if !is_lost {
            self.crew.no_more_asked();
        }
        let claims = Claims { first: claims.first, end: claims.end, has_begun };
        if let Some(entry) = self.scheduler.take_begun(&claims) {
            match entry.work {
                Item::Task(_) => self.failed(entry, Failure::Ended(status), &stderr, Usage::default()),
                Item::Retire => self.crew.no_more_asked(),
            }
        }
        let crew = &mut self.crew;
        self.scheduler.give_back(&claims, |entry| {
            // Another worker must be asked to end.
            if let Item::Retire = entry.work {
                crew.no_more_asked();
            }
            Some(entry)
        });
    }

    /// Kills tasks, and workers, whose time is over; reports tasks that have begun.
    pub(super) fn look_after_deadlines(&mut self) {
        let timeout = self.rules.task_timeout;
        if timeout.is_none() && self.listeners.is_empty() {
            return;
        }
        let now = nanos_now();
        for worker in self.crew.iter_mut() {
            let handle = worker.of.handle;
            let Some(claims) = self.link.claims(handle).filter(|claims| claims.work != 0) else { continue };
            let entry = self.scheduler.get_mut(claims.first);
            let Some(Item::Task(task)) = entry.map(|entry| &mut entry.work) else { continue };
            if !task.is_told {
                task.is_told = true;
                let event = Event::Started { number: task.number, task: task.name.to_string() };
                tell(&mut self.listeners, event);
            }
            let Some(timeout) = timeout else { continue };
            let lateness = lateness(worker.time_at(claims.first, claims.since, task.put_at, now), timeout);
            if lateness >= Lateness::Late {
                task.is_late |= self.link.kill(handle, claims.work);
            }
            if lateness == Lateness::Overdue {
                task.is_late = true;
                self.link.kill_worker(handle);
            }
        }
    }

    /// Ends the pool if a worker isn't ready in time, as a failing initializer does.
    pub(super) fn look_after_starts(&mut self) {
        if let Some(timeout) = self.rules.start_timeout
            && self.crew.until_ready(nanos_now(), timeout) == Some(0)
        {
            self.end_unready(format!("it took longer than {timeout:?}"));
        }
    }

    /// Ends the pool because a worker can't become ready, and no other worker could.
    fn end_unready(&mut self, why: String) {
        let end = if self.rules.has_initializer { PoolEnd::Initializer } else { PoolEnd::Worker };
        self.end(end(why.into()));
    }
}
