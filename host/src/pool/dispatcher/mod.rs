//! The decisions of a pool: which tasks go to the workers, what happens to the tasks, which workers are replaced.
//!
//! ```text
//!  submit ─▶ backlog ─▶ tasks' queue ─▶ a worker's claim ─▶ results' queue ─▶ sink
//!               ▲          ledger, by number                      │
//!               └── again: not begun when its worker died, or retried
//! ```
//!
//! Backlog and ledger, and which workers there are to be, are the [`Scheduler`]'s and the [`Crew`]'s, which pools of
//! guests have as well: see `sandpool_scheduler`. This module connects them with the arena, the supervisor and those
//! who wait: [`turns`] gives tasks and workers out, [`results`] takes results, [`workers`] handles deaths and
//! deadlines.
//!
//! One thread of the pool, [`run`], does everything that no caller does: it takes results, handles deaths and
//! deadlines, and starts workers. A thread that submits a task puts the task into the queue itself, so that no other
//! thread stands between the two. All of this happens under one lock, [`Core`]; results are passed on outside of the
//! lock.
//!
//! The queue holds only as many tasks as the workers do in a moment. So tasks can be cancelled while they wait, and
//! the arena doesn't fill up.

mod results;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
pub(super) mod tests;
mod turns;
mod workers;

use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, PoisonError, TryLockError};
use std::time::Duration;

use nix::sys::signal::Signal;
use sandpool_scheduler::{Crew, Phase, Scheduler, Work};

use super::event::{Event, Stats};
use super::link::{Link, Results, Waiter};
use super::outcome::Outcome;
use super::sink::{Sink, locked};
use crate::control::{self, Request};
use crate::error::Failure;
use crate::error::PoolEnd;
use crate::ipc::process_table::ProcessHandle;
use crate::sys::futex::nanos_now;
use crate::wire::TaskRecord;

/// Settings that the dispatcher keeps to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) task_timeout: Option<Duration>,
    pub(super) start_timeout: Option<Duration>,
    pub(super) retries: u32,
    /// Workers run a task before they are ready.
    pub(super) has_initializer: bool,
    /// The most bytes of tasks in the arena at once. The rest of the arena is for results, so that no worker waits
    /// for room which only workers could make.
    pub(super) bytes_max: u64,
    /// Bytes of the arena, which an input fits into or doesn't.
    pub(super) arena_size: u64,
    /// The most bytes of an output.
    pub(super) output_max: u64,
}

/// State that all users of a pool share.
pub(super) struct Shared {
    pub(super) core: Mutex<Core>,
    /// The pool was terminated. Setting this flag waits for nobody who works with the core.
    is_terminated: Arc<AtomicBool>,
    /// Notified when something has changed that somebody may wait for.
    changed: Condvar,
    waiter: Waiter,
    socket: Arc<OwnedFd>,
}

/// A task that isn't done.
#[derive(Debug, Clone)]
pub(super) struct Task {
    /// Number of the task among all that were submitted.
    number: u64,
    name: Arc<str>,
    /// The task as it lies in the queue.
    pub(super) record: Vec<u8>,
    sink: Sink,
    /// When the task was last put into the queue, in nanoseconds.
    put_at: u64,
    /// The task was killed because its time was over.
    is_late: bool,
    is_told: bool,
}

impl Task {
    pub(super) fn new(name: Arc<str>, format: u32, input: &[u8], sink: Sink) -> Self {
        let mut record = Vec::with_capacity(8 + name.len() + input.len());
        TaskRecord::Call { name: &name, format, input }.encode(&mut record);
        Self { number: 0, name, record, sink, put_at: 0, is_late: false, is_told: false }
    }
}

/// The content of an entry in the queue of tasks.
#[derive(Debug, Clone)]
enum Item {
    Task(Task),
    /// The worker that takes this entry ends.
    Retire,
}

impl Item {
    fn task(&self) -> Option<&Task> {
        match self {
            Self::Task(task) => Some(task),
            Self::Retire => None,
        }
    }
}

impl Work for Item {
    #[inline]
    fn tasks(&self) -> u32 {
        u32::from(self.task().is_some())
    }

    #[inline]
    fn bytes(&self) -> u64 {
        self.task().map_or(0, |task| task.record.len() as u64)
    }

    fn slice(&self, from: u32, to: u32) -> Self {
        if from < to { self.clone() } else { Self::Retire }
    }
}

#[derive(Debug)]
struct Worker {
    handle: ProcessHandle,
    name: String,
    pid: u32,
}

pub(super) struct Core {
    link: Link,
    rules: Rules,
    phase: Phase<PoolEnd>,
    is_terminated: Arc<AtomicBool>,
    /// The supervisor has ended, and all processes of the pool with it.
    is_over: bool,
    crew: Crew<Worker>,
    scheduler: Scheduler<Item>,
    /// Mean time of recent tasks, in nanoseconds.
    mean_nanos: u64,
    stats: Stats,
    listeners: Vec<Sender<Event>>,
    done: Vec<(Sink, Outcome)>,
    /// Something must be tried again soon.
    is_stuck: bool,
    /// Workers have left names that must still be removed.
    has_left: bool,
    /// More results may have come than were taken in this turn.
    has_more: bool,
    /// The results of the last batch, kept for their memory.
    results: Results,
    /// Records that weren't the result of a task at work.
    nonsense: u64,
    /// When something was last taken or room was freed, and how often room had been freed by then.
    moved: (u64, u64),
    /// Since when each look has found no room.
    starved: Option<u64>,
}

impl Shared {
    pub(super) fn new(
        link: Link,
        waiter: Waiter,
        socket: Arc<OwnedFd>,
        rules: Rules,
        workers: usize,
    ) -> Arc<Self> {
        let is_terminated = Arc::new(AtomicBool::new(false));
        let core = Core {
            link,
            rules,
            phase: Phase::Running,
            is_terminated: is_terminated.clone(),
            is_over: false,
            crew: Crew::new(workers),
            scheduler: Scheduler::new(),
            mean_nanos: 0,
            stats: Stats::default(),
            listeners: Vec::new(),
            done: Vec::new(),
            is_stuck: false,
            has_left: false,
            has_more: false,
            results: Results::default(),
            nonsense: 0,
            moved: (nanos_now(), 0),
            starved: None,
        };
        Arc::new(Self { core: Mutex::new(core), is_terminated, changed: Condvar::new(), waiter, socket })
    }

    /// Takes tasks over, or refuses all of them and returns the reason.
    pub(super) fn submit(&self, tasks: impl IntoIterator<Item = Task>) -> Result<(), Failure> {
        let mut core = locked(&self.core);
        core.look_whether_terminated();
        match &core.phase {
            Phase::Running => {}
            Phase::Closing | Phase::Closed | Phase::Ended(PoolEnd::Closed) => {
                return Err(Failure::NotRunning);
            }
            Phase::Ended(end) => return Err(Failure::PoolEnded(end.clone())),
        }
        for mut task in tasks {
            task.number = core.stats.submitted;
            core.stats.submitted += 1;
            core.scheduler.submit(Item::Task(task));
        }
        core.refill();
        let is_stuck = core.is_stuck;
        let done = std::mem::take(&mut core.done);
        drop(core);
        pass_on(done);
        if is_stuck {
            self.waiter.poke();
        }
        Ok(())
    }

    /// Changes the number of workers.
    pub(super) fn resize(&self, workers: usize) {
        locked(&self.core).crew.resize(workers);
        self.waiter.poke();
    }

    /// Why the pool has ended, if it has.
    pub(super) fn ended(&self) -> Option<PoolEnd> {
        let mut core = locked(&self.core);
        core.look_whether_terminated();
        let ended = core.phase.ended().cloned();
        let done = std::mem::take(&mut core.done);
        drop(core);
        pass_on(done);
        ended
    }

    pub(super) fn workers(&self) -> usize {
        locked(&self.core).crew.wanted()
    }

    /// Number of tasks in the queue that keeps the workers busy.
    pub(super) fn depth(&self) -> u64 {
        locked(&self.core).depth()
    }

    pub(super) fn stats(&self) -> Stats {
        let core = locked(&self.core);
        Stats {
            workers: core.crew.len(),
            pending: core.scheduler.under_way().tasks + core.scheduler.waiting() as u64,
            ..core.stats
        }
    }

    pub(super) fn listen(&self, sender: Sender<Event>) {
        locked(&self.core).listeners.push(sender);
    }

    /// Stops taking tasks, and ends the pool when all submitted tasks are done.
    pub(super) fn close(&self) {
        locked(&self.core).phase.close();
        self.waiter.poke();
    }

    /// Ends the pool now, even if tasks remain or another thread works with the core: the workers are killed at once,
    /// and unfinished tasks fail with the next turn at the latest.
    pub(super) fn terminate(&self) {
        self.is_terminated.store(true, Ordering::SeqCst);
        self.stop();
        let free = match self.core.try_lock() {
            Ok(core) => Some(core),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        if let Some(mut core) = free {
            core.look_whether_terminated();
            let done = std::mem::take(&mut core.done);
            drop(core);
            pass_on(done);
        }
        self.waiter.poke();
    }

    /// Makes the supervisor kill all workers and end.
    fn stop(&self) {
        let _ = control::send_message(self.socket.as_fd(), &Request::Stop(Signal::SIGKILL as i32));
    }

    /// Records that the supervisor has ended. `end` is the pool's reason unless an earlier reason is set.
    pub(super) fn supervisor_ended(&self, end: PoolEnd) {
        let mut core = locked(&self.core);
        core.end(end);
        core.is_over = true;
        let done = std::mem::take(&mut core.done);
        // Listeners learn by this that no more events come.
        core.listeners.clear();
        drop(core);
        pass_on(done);
        self.waiter.poke();
        self.changed.notify_all();
    }

    /// Waits until a worker is ready or the pool has ended. The error is the reason of the end.
    pub(super) fn wait_until_ready(&self) -> Result<(), PoolEnd> {
        let mut core = locked(&self.core);
        loop {
            if let Some(end) = core.phase.ended() {
                return Err(end.clone());
            }
            if core.crew.iter().any(|worker| worker.is_ready()) {
                return Ok(());
            }
            core = self.changed.wait(core).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until the whole pool has ended, and returns the reason. `None` if the pool still takes tasks.
    pub(super) fn join(&self) -> Option<PoolEnd> {
        let mut core = locked(&self.core);
        core.look_whether_terminated();
        if core.phase == Phase::Running {
            return None;
        }
        while !core.is_over {
            core.look_whether_terminated();
            core = self.changed.wait(core).unwrap_or_else(PoisonError::into_inner);
        }
        let end = core.phase.ended().cloned();
        Some(end.unwrap_or_else(|| PoolEnd::SupervisorLost("it has ended".to_owned())))
    }
}

fn pass_on(done: Vec<(Sink, Outcome)>) {
    for (sink, outcome) in done {
        sink.complete(outcome);
    }
}

/// The thread of a pool.
pub(super) fn run(shared: &Shared) {
    let mut is_stopped = false;
    loop {
        let mut core = locked(&shared.core);
        core.step();
        let has_ended = core.phase.has_ended();
        let is_over = core.is_over;
        let workers: Vec<_> = core.crew.iter().map(|worker| worker.of.handle).collect();
        let nanos = core.sleep_nanos();
        let has_more = core.has_more && !has_ended;
        let done = std::mem::take(&mut core.done);
        drop(core);
        if has_ended && !is_stopped {
            shared.stop();
            is_stopped = true;
        }
        pass_on(done);
        if is_over {
            return;
        }
        shared.changed.notify_all();
        if !has_more {
            shared.waiter.wait(&workers, nanos);
        }
    }
}

fn tell(listeners: &mut Vec<Sender<Event>>, event: Event) {
    listeners.retain(|listener| listener.send(event.clone()).is_ok());
}
