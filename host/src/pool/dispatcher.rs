//! What a pool does: which tasks go to the workers, what becomes of them, who is replaced.
//!
//! ```text
//!  submit ─▶ backlog ─▶ tasks' queue ─▶ a worker's claim ─▶ results' queue ─▶ sink
//!               ▲        `pending`, by number                     │
//!               └── again: not begun when its worker died, or retried
//! ```
//!
//! One thread of the pool, [`run`], does everything that nobody calls for: it takes results, looks after deaths and
//! deadlines, starts workers. Whoever submits puts the task into the queue itself, so that no thread stands between
//! the two. All of it happens under one lock, [`Core`]; results are passed on outside of it.
//!
//! The queue holds no more than the workers do in a moment. So tasks can be cancelled as long as they wait, and the
//! arena doesn't fill up.

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, PoisonError, TryLockError};
use std::time::Duration;

use nix::sys::signal::Signal;
use sandpool_abi::process::{ExitStatus, Limit};
use sandpool_abi::task::DELIVERED;

use super::error::{Failure, TaskError};
use super::event::{Event, Stats};
use super::future::{Completed, Outcome, Sink, locked};
use super::link::{Ended, Link, Put, Waiter};
use crate::control::{self, Request};
use crate::ipc::process_table::{self, ProcessHandle, nanos_now};
use crate::wire::{Kind, ResultRecord, TaskRecord};
use crate::{GuestText, PoolEnd, codec};

/// The queue of tasks holds what the workers do in this time.
const DEPTH_NANOS: u64 = 2_000_000;
/// And so many tasks for each worker at the least and at the most.
const DEPTH_MIN: u64 = 2;
const DEPTH_MAX: u64 = 4096;

/// How long the thread sleeps at the most.
const IDLE_NANOS: u64 = 500_000_000;
/// After a worker couldn't be started, or an arena was busy or full.
const AGAIN_NANOS: u64 = 5_000_000;

/// So many batches of results are taken in one turn: after that, whoever else has something to say is listened to.
const BATCHES_MAX: usize = 16;

/// So many records may come that are no result of a task at work. A worker that is killed just then may leave one; a pool
/// in which there are more is damaged.
const NONSENSE_MAX: u64 = 1000;

/// How long nothing moves in a pool before it is looked whether there is room in the arena; and for how long there is none
/// before the pool ends.
const STARVED_NANOS: u64 = 2_500_000_000;

/// How long behind its time a task may go on that was to be killed. Then its worker is.
const OVERDUE_NANOS: u64 = 2_000_000_000;

/// So many workers in a row may be killed before they are ready; the next one ends the pool.
const UNREADY_MAX: u32 = 3;

/// Settings that the dispatcher keeps to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) task_timeout: Option<Duration>,
    pub(super) start_timeout: Option<Duration>,
    pub(super) retries: u32,
    /// Workers run a task before they are ready.
    pub(super) has_initializer: bool,
    /// Bytes of tasks that are in the arena at once: what they leave is for results, so that no worker waits for room
    /// which only workers could make.
    pub(super) bytes_max: u64,
    /// What an input fits into, or doesn't.
    pub(super) arena_size: u64,
    /// The most bytes of an output.
    pub(super) output_max: u64,
}

/// What all who use a pool share.
pub(super) struct Shared {
    pub(super) core: Mutex<Core>,
    /// It was terminated. Nobody waits for the core to say so.
    is_terminated: Arc<AtomicBool>,
    /// Something has changed that somebody may wait for.
    changed: Condvar,
    waiter: Waiter,
    socket: Arc<OwnedFd>,
}

/// A task that isn't done.
#[derive(Debug)]
pub(super) struct Task {
    /// Among all that were submitted.
    pub(super) number: u64,
    pub(super) name: Arc<str>,
    /// As it lies in the queue.
    pub(super) record: Vec<u8>,
    pub(super) sink: Sink,
    pub(super) attempts: u32,
    /// When it was put into the queue the last time, in nanoseconds.
    put_at: u64,
    /// It was killed because its time was over.
    is_late: bool,
    is_told: bool,
}

impl Pending {
    fn is_task(&self) -> bool {
        matches!(self, Self::Task(_))
    }

    fn is_retire(&self) -> bool {
        matches!(self, Self::Retire)
    }
}

impl Task {
    pub(super) fn new(name: Arc<str>, format: u32, input: &[u8], sink: Sink) -> Self {
        let mut record = Vec::with_capacity(8 + name.len() + input.len());
        TaskRecord::Call { name: &name, format, input }.encode(&mut record);
        Self { number: 0, name, record, sink, attempts: 0, put_at: 0, is_late: false, is_told: false }
    }
}

/// What lies in the queue of tasks, or is claimed by a worker.
#[derive(Debug)]
enum Pending {
    Task(Task),
    /// Whoever takes it ends.
    Retire,
    /// It is done.
    Done,
}

#[derive(Debug)]
struct Worker {
    handle: ProcessHandle,
    /// When it was asked for, in nanoseconds.
    since: u64,
    is_ready: bool,
    /// The task that it was seen at last, by its number, and when it was first.
    seen: Option<(u64, u64)>,
    name: String,
    pid: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Running,
    /// Nothing new is taken; what there is, is done.
    Closing,
    /// The queue of tasks is closed.
    Closed,
    Ended(PoolEnd),
}

pub(super) struct Core {
    link: Link,
    rules: Rules,
    state: State,
    is_terminated: Arc<AtomicBool>,
    /// The supervisor has ended, and all of the pool with it.
    is_over: bool,
    workers: Vec<Worker>,
    /// How many workers there are to be.
    wanted: usize,
    /// Workers that were asked to end.
    retiring: usize,
    /// Workers that were killed before they were ready, since the last one that was.
    killed_unready: u32,
    /// What waits for room in the queue.
    backlog: VecDeque<Task>,
    /// What is in the queue, or claimed.
    pending: VecDeque<Pending>,
    /// The number of the first of them in the queue.
    first: u64,
    /// How many of them are tasks, and of how many bytes.
    in_flight: u64,
    bytes_in_flight: u64,
    /// Of a task, in nanoseconds, of late.
    mean_nanos: u64,
    stats: Stats,
    listeners: Vec<Sender<Event>>,
    done: Vec<(Sink, Outcome)>,
    /// Something is to be tried again soon.
    is_stuck: bool,
    /// Workers have left names that are still to be taken away.
    has_left: bool,
    /// There may be more results than were taken in this turn.
    has_more: bool,
    /// Records that were no result of a task at work.
    nonsense: u64,
    /// When something was last taken, or room freed, and how often room had been freed then.
    moved: (u64, u64),
    /// Since when there was no room whenever this was looked at.
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
            state: State::Running,
            is_terminated: is_terminated.clone(),
            is_over: false,
            workers: Vec::new(),
            wanted: workers,
            retiring: 0,
            killed_unready: 0,
            backlog: VecDeque::new(),
            pending: VecDeque::new(),
            first: 0,
            in_flight: 0,
            bytes_in_flight: 0,
            mean_nanos: 0,
            stats: Stats::default(),
            listeners: Vec::new(),
            done: Vec::new(),
            is_stuck: false,
            has_left: false,
            has_more: false,
            nonsense: 0,
            moved: (nanos_now(), 0),
            starved: None,
        };
        Arc::new(Self { core: Mutex::new(core), is_terminated, changed: Condvar::new(), waiter, socket })
    }

    /// Takes tasks over. Those that it doesn't take come back with the reason.
    pub(super) fn submit(&self, tasks: impl IntoIterator<Item = Task>) -> Result<(), Failure> {
        let mut core = locked(&self.core);
        core.look_whether_terminated();
        match &core.state {
            State::Running => {}
            State::Closing | State::Closed | State::Ended(PoolEnd::Closed) => {
                return Err(Failure::NotRunning);
            }
            State::Ended(end) => return Err(Failure::PoolEnded(end.clone())),
        }
        for mut task in tasks {
            task.number = core.stats.submitted;
            core.stats.submitted += 1;
            core.backlog.push_back(task);
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

    /// The control socket of the supervisor.
    pub(super) fn socket(&self) -> &OwnedFd {
        &self.socket
    }

    /// Changes how many workers there are.
    pub(super) fn resize(&self, workers: usize) {
        locked(&self.core).wanted = workers;
        self.waiter.poke();
    }

    /// Why the pool has ended, if it has.
    pub(super) fn ended(&self) -> Option<PoolEnd> {
        let mut core = locked(&self.core);
        core.look_whether_terminated();
        let ended = match &core.state {
            State::Ended(end) => Some(end.clone()),
            State::Running | State::Closing | State::Closed => None,
        };
        let done = std::mem::take(&mut core.done);
        drop(core);
        pass_on(done);
        ended
    }

    pub(super) fn workers(&self) -> usize {
        locked(&self.core).wanted
    }

    /// How many tasks keep the workers busy.
    pub(super) fn depth(&self) -> u64 {
        locked(&self.core).depth()
    }

    pub(super) fn stats(&self) -> Stats {
        let core = locked(&self.core);
        Stats {
            workers: core.workers.len(),
            pending: core.in_flight + core.backlog.len() as u64,
            ..core.stats
        }
    }

    pub(super) fn listen(&self, sender: Sender<Event>) {
        locked(&self.core).listeners.push(sender);
    }

    /// Takes nothing more, and ends when all is done.
    pub(super) fn close(&self) {
        let mut core = locked(&self.core);
        if core.state == State::Running {
            core.state = State::Closing;
        }
        drop(core);
        self.waiter.poke();
    }

    /// Ends now, whatever there is still to do, and whoever works with the core: the workers are killed at once, and what
    /// isn't done fails with the next turn at the latest.
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

    /// Has the supervisor kill all workers, and end.
    fn stop(&self) {
        let _ = control::send_message(self.socket.as_fd(), &Request::Stop(Signal::SIGKILL as i32));
    }

    /// The supervisor has ended. Is it by itself, then for this reason.
    pub(super) fn supervisor_ended(&self, end: PoolEnd) {
        let mut core = locked(&self.core);
        core.end(end);
        core.is_over = true;
        let done = std::mem::take(&mut core.done);
        // Whoever listens learns that there is no more.
        core.listeners.clear();
        drop(core);
        pass_on(done);
        self.waiter.poke();
        self.changed.notify_all();
    }

    /// Waits until a worker is ready, or the pool has ended: then why.
    pub(super) fn wait_until_ready(&self) -> Result<(), PoolEnd> {
        let mut core = locked(&self.core);
        loop {
            if let State::Ended(end) = &core.state {
                return Err(end.clone());
            }
            if core.workers.iter().any(|worker| worker.is_ready) {
                return Ok(());
            }
            core = self.changed.wait(core).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until all of it has ended. `None` while it takes tasks.
    pub(super) fn join(&self) -> Option<PoolEnd> {
        let mut core = locked(&self.core);
        core.look_whether_terminated();
        if core.state == State::Running {
            return None;
        }
        while !core.is_over {
            core.look_whether_terminated();
            core = self.changed.wait(core).unwrap_or_else(PoisonError::into_inner);
        }
        match &core.state {
            State::Ended(end) => Some(end.clone()),
            _ => Some(PoolEnd::SupervisorLost("it has ended".to_owned())),
        }
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
        let has_ended = matches!(core.state, State::Ended(_));
        let is_over = core.is_over;
        let workers: Vec<_> = core.workers.iter().map(|worker| worker.handle).collect();
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

impl Core {
    /// Does all that there is to do now.
    fn step(&mut self) {
        self.look_whether_terminated();
        if self.is_over || matches!(self.state, State::Ended(_)) {
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

    fn sleep_nanos(&self) -> u64 {
        if matches!(self.state, State::Ended(_)) {
            // The supervisor's end pokes.
            return IDLE_NANOS;
        }
        let mut nanos = if self.is_stuck || self.has_left { AGAIN_NANOS } else { IDLE_NANOS };
        if let Some(timeout) = self.rules.task_timeout
            && self.in_flight > 0
        {
            let now = nanos_now();
            let timeout = nanos_of(timeout);
            nanos = nanos.min(timeout);
            for worker in &self.workers {
                if let Some(claims) = self.link.claims(worker.handle)
                    && claims.work != 0
                {
                    nanos = nanos.min(claims.since.saturating_add(timeout).saturating_sub(now));
                }
            }
            nanos = nanos.max(100_000);
        }
        if let Some(timeout) = self.rules.start_timeout {
            let now = nanos_now();
            for worker in self.workers.iter().filter(|worker| !worker.is_ready) {
                let left = worker.since.saturating_add(nanos_of(timeout)).saturating_sub(now);
                nanos = nanos.min(left.max(100_000));
            }
        }
        nanos
    }

    /// How many tasks the queue is to hold.
    fn depth(&self) -> u64 {
        let workers = self.wanted.max(1) as u64;
        let each = DEPTH_NANOS.checked_div(self.mean_nanos).unwrap_or(DEPTH_MIN);
        workers * each.clamp(DEPTH_MIN, DEPTH_MAX)
    }

    /// Moves tasks to where workers find them.
    fn refill(&mut self) {
        if !matches!(self.state, State::Running | State::Closing) {
            return;
        }
        let depth = self.depth();
        while self.in_flight < depth && !self.backlog.is_empty() {
            let mut tasks = Vec::new();
            let mut records = Vec::new();
            let mut bytes = self.bytes_in_flight;
            while self.in_flight + (tasks.len() as u64) < depth
                && let Some(mut task) = self.backlog.pop_front()
            {
                let len = task.record.len() as u64;
                // One alone may be as large as it likes.
                if bytes > 0 && bytes + len > self.rules.bytes_max {
                    self.backlog.push_front(task);
                    break;
                }
                if !task.sink.begin() {
                    self.fail(task, Failure::Cancelled, &[]);
                    continue;
                }
                bytes += len;
                records.push(std::mem::take(&mut task.record));
                tasks.push(task);
            }
            if records.is_empty() {
                return;
            }
            let put_at = nanos_now();
            let result = self.link.put(&records);
            let (put, is_full, is_too_large) = match result {
                Ok(Put::All(count)) => (count, false, false),
                Ok(Put::Some(count)) => (count, true, false),
                Ok(Put::TooLarge(count)) => (count, false, true),
                Err(_) => (0, false, false),
            };
            let mut rest = VecDeque::new();
            for (at, (mut task, record)) in tasks.into_iter().zip(records).enumerate() {
                task.record = record;
                if at < put {
                    task.attempts += 1;
                    task.put_at = put_at;
                    self.in_flight += 1;
                    self.bytes_in_flight += task.record.len() as u64;
                    self.pending.push_back(Pending::Task(task));
                } else if at == put && is_too_large {
                    self.fail(task, Failure::InputTooLarge(Limit::Arena(self.rules.arena_size)), &[]);
                } else {
                    rest.push_back(task);
                }
            }
            rest.append(&mut self.backlog);
            self.backlog = rest;
            if result.is_err() {
                return self.end(PoolEnd::Damaged);
            }
            if is_full {
                self.is_stuck = true;
                return;
            }
        }
    }

    /// Takes the results that there are, or as many as are to be taken in one turn: then there may be more.
    fn take_results(&mut self) -> crate::ipc::Result<()> {
        for _ in 0..BATCHES_MAX {
            // What is read is copied before the rest of the core is looked at.
            let mut records = Vec::new();
            let count = self.link.take_results(|record| records.push(record.to_vec()))?;
            let now = nanos_now();
            for record in &records {
                let is_one = ResultRecord::decode(record).is_some_and(|record| self.take_result(record, now));
                self.nonsense += u64::from(!is_one);
            }
            if self.nonsense > NONSENSE_MAX {
                return Err(sandpool_abi::Errno::Io);
            }
            // What comes while this goes on is taken as well, but workers have to be fed.
            self.refill();
            self.has_more = count != 0;
            if !self.has_more || self.is_terminated() {
                return Ok(());
            }
            self.moved.0 = now;
        }
        Ok(())
    }

    /// Takes a record. Whether it is one that a worker has to put: what it says is held against what this side knows.
    fn take_result(&mut self, record: ResultRecord<'_>, now: u64) -> bool {
        match record.kind {
            Kind::Ready => return self.worker_is_ready(record.number),
            Kind::NotReady => {
                if starting(&mut self.workers, record.number).is_none() {
                    return false;
                }
                self.end(PoolEnd::Initializer(GuestText::from_bytes(record.payload)));
                return true;
            }
            Kind::Retired => return self.take_pending(record.number, Pending::is_retire).is_some(),
            _ => {}
        }
        let Some(Pending::Task(task)) = self.take_pending(record.number, Pending::is_task) else {
            return false;
        };
        // It took no longer than since it was there to be taken.
        let nanos = record.nanos.min(now.saturating_sub(task.put_at)).max(1);
        self.mean_nanos = self.mean_nanos.saturating_mul(7).saturating_add(nanos) / 8;
        let cause = match record.kind {
            Kind::Done => {
                let completed = Completed {
                    value: record.payload.to_vec(),
                    stdout: record.stdout.to_vec(),
                    stderr: record.stderr.to_vec(),
                    wall: Duration::from_nanos(nanos),
                    attempts: task.attempts,
                };
                self.finish(task, completed);
                return true;
            }
            Kind::Refused => Failure::Refused(GuestText::from_bytes(record.payload)),
            Kind::Unsupported => Failure::Unsupported,
            Kind::NoTask => Failure::NoTask(None),
            Kind::TooLarge => Failure::OutputTooLarge(Limit::Output(self.rules.output_max)),
            Kind::Ended => {
                ended(record.payload).map_or(Failure::Failed(GuestText::default()), Failure::Ended)
            }
            _ => Failure::Failed(GuestText::from_bytes(record.payload)),
        };
        self.failed(task, cause, record.stderr);
        true
    }

    /// What has this number in the queue, and isn't done, if it is what is meant.
    fn take_pending(&mut self, number: u64, is_meant: impl Fn(&Pending) -> bool) -> Option<Pending> {
        let at = usize::try_from(number.checked_sub(self.first)?).ok()?;
        let pending = self.pending.get_mut(at).filter(|pending| is_meant(pending))?;
        let taken = std::mem::replace(pending, Pending::Done);
        while let Some(Pending::Done) = self.pending.front() {
            self.pending.pop_front();
            self.first += 1;
        }
        match taken {
            Pending::Done => None,
            Pending::Task(task) => {
                self.in_flight -= 1;
                self.bytes_in_flight -= task.record.len() as u64;
                Some(Pending::Task(task))
            }
            Pending::Retire => Some(taken),
        }
    }

    fn finish(&mut self, task: Task, completed: Completed<Vec<u8>>) {
        self.stats.finished += 1;
        self.stats.busy = self.stats.busy.saturating_add(completed.wall);
        if !self.listeners.is_empty() {
            self.tell_started(&task);
            let Task { number, name, .. } = &task;
            self.tell(Event::Finished { number: *number, task: name.to_string(), wall: completed.wall });
        }
        self.done.push((task.sink, Ok(completed)));
    }

    /// An attempt has failed.
    fn failed(&mut self, mut task: Task, mut cause: Failure, stderr: &[u8]) {
        if task.is_late
            && let Some(timeout) = self.rules.task_timeout
            && cause.is_of_the_process()
        {
            cause = Failure::TimedOut(timeout);
        }
        if task.attempts <= self.rules.retries && cause.is_of_the_process() {
            self.stats.retried += 1;
            let Task { number, attempts, .. } = task;
            let name = task.name.to_string();
            self.tell(Event::Retried { number, task: name, cause, attempt: attempts + 1 });
            task.is_late = false;
            self.backlog.push_front(task);
        } else {
            self.fail(task, cause, stderr);
        }
    }

    fn fail(&mut self, task: Task, cause: Failure, stderr: &[u8]) {
        self.stats.failed += 1;
        if !self.listeners.is_empty() {
            self.tell_started(&task);
            let Task { number, name, .. } = &task;
            self.tell(Event::Failed { number: *number, task: name.to_string(), cause: cause.clone() });
        }
        let error = TaskError {
            task: task.name.to_string(),
            cause,
            stderr: GuestText::from_bytes(stderr),
            attempts: task.attempts,
        };
        self.done.push((task.sink, Err(error)));
    }

    /// Whether it was one that wasn't.
    fn worker_is_ready(&mut self, number: u64) -> bool {
        let Some(worker) = starting(&mut self.workers, number) else { return false };
        worker.is_ready = true;
        self.killed_unready = 0;
        (worker.name, worker.pid) = self.link.describe(worker.handle);
        let (name, pid) = (worker.name.clone(), worker.pid);
        self.tell(Event::WorkerStarted { name: name.into(), pid });
        true
    }

    fn look_after_workers(&mut self) {
        let has_ended = |worker: &&Worker| self.link.has_ended(worker.handle);
        let ended: Vec<_> = self.workers.iter().filter(has_ended).map(|worker| worker.handle).collect();
        if ended.is_empty() {
            return;
        }
        // What they have put before is known first.
        if self.take_results().is_err() {
            return self.end(PoolEnd::Damaged);
        }
        // They may have been killed because of that.
        self.look_whether_terminated();
        if self.has_more || matches!(self.state, State::Ended(_)) {
            return;
        }
        let ended: Vec<_> = self.workers.extract_if(.., |worker| ended.contains(&worker.handle)).collect();
        for worker in ended {
            match self.link.bury(worker.handle) {
                Ok(ended) => self.worker_has_ended(worker, ended),
                // It never ran.
                Err(errno) if self.workers.is_empty() => {
                    return self.end(PoolEnd::Worker(errno.to_string().into()));
                }
                Err(_) => self.is_stuck = true,
            }
        }
    }

    fn worker_has_ended(&mut self, worker: Worker, ended: Ended) {
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
        if !worker.is_ready && is_killed && self.killed_unready < UNREADY_MAX {
            self.killed_unready += 1;
            self.stats.workers_lost += 1;
            return;
        }
        if !worker.is_ready {
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
        self.retiring = self.retiring.saturating_sub(usize::from(!is_lost));
        // A count of claims that no honest worker has is cut.
        let end = claims.end.min(self.first.saturating_add(self.pending.len() as u64));
        let mut not_begun = VecDeque::new();
        for number in claims.first.max(self.first)..end {
            match self.take_pending(number, |_| true) {
                Some(Pending::Task(task)) if number == claims.first && has_begun => {
                    self.failed(task, Failure::Ended(status), &stderr);
                }
                Some(Pending::Task(mut task)) => {
                    task.attempts = task.attempts.saturating_sub(1);
                    not_begun.push_back(task);
                }
                // Another is to be asked.
                Some(Pending::Retire) => self.retiring = self.retiring.saturating_sub(1),
                _ => {}
            }
        }
        not_begun.append(&mut self.backlog);
        self.backlog = not_begun;
    }

    fn look_after_deadlines(&mut self) {
        let timeout = self.rules.task_timeout.map(nanos_of);
        if timeout.is_none() && self.listeners.is_empty() {
            return;
        }
        let now = nanos_now();
        for at in 0..self.workers.len() {
            let Some(handle) = self.workers.get(at).map(|worker| worker.handle) else { break };
            let Some(claims) = self.link.claims(handle).filter(|claims| claims.work != 0) else { continue };
            let slot = claims.first.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
            let Some(Pending::Task(task)) = slot.and_then(|at| self.pending.get_mut(at)) else { continue };
            if !task.is_told {
                task.is_told = true;
                let event = Event::Started { number: task.number, task: task.name.to_string() };
                tell(&mut self.listeners, event);
            }
            let Some(timeout) = timeout else { continue };
            // When it has begun, the worker says; but not before the task was there, nor after it was seen at it.
            let Some(worker) = self.workers.get_mut(at) else { break };
            let seen = match worker.seen {
                Some((number, when)) if number == claims.first => when,
                _ => worker.seen.insert((claims.first, now)).1,
            };
            let time = now.saturating_sub(claims.since.max(task.put_at).min(seen));
            if time >= timeout {
                task.is_late |= self.link.kill(handle, claims.work);
                if time >= timeout.saturating_add(OVERDUE_NANOS) {
                    task.is_late = true;
                    self.link.kill_worker(handle);
                }
            }
        }
    }

    /// Nobody is at a task, and there is no room for what is to be put: nothing will ever make any.
    fn look_after_room(&mut self) {
        let frees = self.link.frees();
        let now = nanos_now();
        if frees != self.moved.1 || self.has_more {
            self.moved = (now, frees);
        }
        let is_waiting = self.in_flight > 0 || !self.backlog.is_empty();
        if !is_waiting || now.saturating_sub(self.moved.0) < STARVED_NANOS {
            self.starved = None;
            return;
        }
        let claims: Vec<_> = self.workers.iter().map(|worker| self.link.claims(worker.handle)).collect();
        let is_delivering = claims.iter().flatten().any(|claims| claims.part == DELIVERED);
        let is_at_work = claims.iter().any(|claims| claims.is_none_or(|claims| claims.work != 0));
        // Not everything has room where a page has: a task that can't be put says so, as one does that can't deliver.
        let is_starved =
            !is_at_work && (is_delivering || self.in_flight == 0 && self.is_stuck || !self.link.has_room());
        if !is_starved {
            self.starved = None;
        } else if now.saturating_sub(*self.starved.get_or_insert(now)) >= STARVED_NANOS {
            self.end(PoolEnd::Limited(Limit::Arena(self.rules.arena_size)));
        }
    }

    /// A worker that isn't ready in time ends the pool, as one does whose initializer fails.
    fn look_after_starts(&mut self) {
        let Some(timeout) = self.rules.start_timeout else { return };
        let now = nanos_now();
        let is_late =
            |worker: &Worker| !worker.is_ready && now.saturating_sub(worker.since) >= nanos_of(timeout);
        if self.workers.iter().any(is_late) {
            self.end_unready(format!("it took longer than {timeout:?}"));
        }
    }

    /// A worker can't become ready, and none could.
    fn end_unready(&mut self, why: String) {
        let end = if self.rules.has_initializer { PoolEnd::Initializer } else { PoolEnd::Worker };
        self.end(end(why.into()));
    }

    fn start_workers(&mut self) {
        if !matches!(self.state, State::Running | State::Closing) {
            return;
        }
        while self.workers.len() < self.wanted + self.retiring {
            match self.link.start_worker() {
                Ok(handle) => {
                    let (since, name) = (nanos_now(), String::new());
                    self.workers.push(Worker { handle, since, is_ready: false, seen: None, name, pid: 0 });
                }
                Err(errno) if self.workers.is_empty() && !self.is_stuck => {
                    return self.end(PoolEnd::Worker(errno.to_string().into()));
                }
                Err(_) => {
                    self.is_stuck = true;
                    return;
                }
            }
        }
        while self.workers.len() - self.retiring > self.wanted {
            let mut record = Vec::new();
            TaskRecord::Retire.encode(&mut record);
            match self.link.put(&[record]) {
                Ok(Put::All(_)) => {
                    self.pending.push_back(Pending::Retire);
                    self.retiring += 1;
                }
                _ => {
                    self.is_stuck = true;
                    return;
                }
            }
        }
    }

    fn go_on_closing(&mut self) {
        if self.state == State::Closing && self.in_flight == 0 && self.backlog.is_empty() {
            match self.link.close_tasks() {
                Ok(()) => self.state = State::Closed,
                Err(_) => self.is_stuck = true,
            }
        }
        if self.state == State::Closed && self.workers.is_empty() {
            self.end(PoolEnd::Closed);
        }
    }

    fn is_terminated(&self) -> bool {
        self.is_terminated.load(Ordering::SeqCst)
    }

    fn look_whether_terminated(&mut self) {
        if self.is_terminated() {
            self.end(PoolEnd::Terminated);
        }
    }

    /// The pool has ended; all that wasn't done has failed. Only the first reason counts.
    fn end(&mut self, end: PoolEnd) {
        if matches!(self.state, State::Ended(_)) {
            return;
        }
        // That is why, whatever has come of it.
        let end = if self.is_terminated() { PoolEnd::Terminated } else { end };
        self.state = State::Ended(end.clone());
        let pending = std::mem::take(&mut self.pending);
        self.in_flight = 0;
        self.bytes_in_flight = 0;
        let pending = pending.into_iter().filter_map(|pending| match pending {
            Pending::Task(task) => Some(task),
            Pending::Retire | Pending::Done => None,
        });
        for task in pending.chain(std::mem::take(&mut self.backlog)).collect::<Vec<_>>() {
            self.fail(task, Failure::PoolEnded(end.clone()), &[]);
        }
    }

    fn tell_started(&mut self, task: &Task) {
        if !task.is_told {
            self.tell(Event::Started { number: task.number, task: task.name.to_string() });
        }
    }

    fn tell(&mut self, event: Event) {
        tell(&mut self.listeners, event);
    }
}

/// The worker of this handle, if it isn't ready yet.
fn starting(workers: &mut [Worker], number: u64) -> Option<&mut Worker> {
    workers.iter_mut().find(|worker| worker.handle.0 == number && !worker.is_ready)
}

fn tell(listeners: &mut Vec<Sender<Event>>, event: Event) {
    listeners.retain(|listener| listener.send(event.clone()).is_ok());
}

fn nanos_of(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// How a process has ended, as a record says it.
fn ended(payload: &[u8]) -> Option<ExitStatus> {
    codec::decode::<process_table::Outcome>(payload).ok()?.status()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
pub(super) mod tests {
    use std::sync::mpsc;
    use std::thread;

    use nix::sys::eventfd::EventFd;

    use sandpool_abi::task::Claims;

    use super::*;
    use crate::ipc::arena::{Arena, Geometry};
    use crate::testing::deadline::within_deadline;
    use crate::wire::{Isolation, Output, Setup};

    const RULES: Rules = Rules {
        task_timeout: None,
        start_timeout: None,
        retries: 0,
        has_initializer: false,
        bytes_max: 1 << 20,
        arena_size: 1 << 20,
        output_max: 1 << 20,
    };

    /// A pool whose supervisor starts nobody, and the supervisor's end of the socket.
    fn pool() -> (Arc<Shared>, OwnedFd) {
        pool_with(RULES)
    }

    /// The same, and nothing that is submitted comes to a worker.
    pub(in crate::pool) fn pool_that_is_busy() -> (Arc<Shared>, OwnedFd) {
        let (shared, theirs) = pool();
        locked(&shared.core).in_flight = u64::from(u32::MAX);
        (shared, theirs)
    }

    fn pool_with(rules: Rules) -> (Arc<Shared>, OwnedFd) {
        let geometry = Geometry { processes_max: 8, objects_max: 8, heap_pages: 256 };
        let (memory, arena) = Arena::create(geometry).unwrap();
        process_table::reserve(&arena, None, b"owner", 0).unwrap();
        let setup = Setup {
            isolation: Isolation::Worker,
            output: Output::Discard,
            output_max: 0,
            objects_max: 0,
            processes_max: 0,
            max_tasks: 0,
            initializer: None,
        };
        let doorbell = OwnedFd::from(EventFd::new().unwrap());
        let (link, waiter) = Link::new(&memory, doorbell, geometry, &setup).unwrap();
        let (socket, theirs) = control::pair().unwrap();
        (Shared::new(link, waiter, Arc::new(socket), rules, 1), theirs)
    }

    fn task() -> Task {
        let (_, cell) = super::super::TaskFuture::<()>::new("task".into(), Completed::decode);
        Task::new("task".into(), 0, b"input", Sink::Cell(cell))
    }

    #[test]
    fn a_pool_is_terminated_while_somebody_works_with_its_core() {
        within_deadline(terminate_while_somebody_works);
    }

    fn terminate_while_somebody_works() {
        let (shared, theirs) = pool();
        shared.submit([task(), task()]).unwrap();
        let core = locked(&shared.core);
        let (sender, terminated) = mpsc::channel();
        let other = shared.clone();
        let terminating = thread::spawn(move || {
            other.terminate();
            sender.send(()).unwrap();
        });
        // For this it waits for nobody.
        terminated.recv_timeout(Duration::from_secs(60)).unwrap();
        let request: Option<Request> = control::receive_message(theirs.as_fd()).unwrap();
        assert!(matches!(request, Some(Request::Stop(signal)) if signal == Signal::SIGKILL as i32));
        drop(core);
        assert_eq!(shared.ended(), Some(PoolEnd::Terminated));
        assert_eq!(shared.stats().failed, 2);
        assert!(matches!(shared.submit([task()]), Err(Failure::PoolEnded(PoolEnd::Terminated))));
        terminating.join().unwrap();
    }

    /// What stands in the queue of results, and names no task at work.
    #[test]
    fn what_is_no_result_changes_nothing_and_ends_the_pool_if_it_goes_on() {
        let (shared, _theirs) = pool();
        shared.submit([task(), task()]).unwrap();
        let mut core = locked(&shared.core);
        let record = |number, kind| ResultRecord {
            number,
            kind,
            nanos: u64::MAX,
            stdout: &[],
            stderr: &[],
            payload: &[],
        };
        for kind in [Kind::Ready, Kind::NotReady, Kind::Retired] {
            assert!(!core.take_result(record(0, kind), nanos_now()), "{kind:?}");
        }
        for number in [2, u64::MAX] {
            assert!(!core.take_result(record(number, Kind::Done), nanos_now()));
        }
        assert_eq!((core.in_flight, core.stats.finished), (2, 0));
        // How long it took is what this side has seen.
        assert!(core.take_result(record(1, Kind::Done), nanos_now()));
        assert!(!core.take_result(record(1, Kind::Done), nanos_now()), "once");
        assert!(core.stats.busy < Duration::from_secs(60) && core.mean_nanos < 60_000_000_000);
        assert!(core.take_result(record(0, Kind::Failed), nanos_now()));
        assert_eq!((core.in_flight, core.stats.finished, core.stats.failed), (0, 1, 1));
        core.nonsense = NONSENSE_MAX + 1;
        core.step();
        assert_eq!(core.state, State::Ended(PoolEnd::Damaged));
    }

    const KILLED: ExitStatus = ExitStatus::Signaled(9);

    /// A worker that has claimed these tasks, and how it has ended. It had begun the first of them, or none.
    fn ended(claimed: std::ops::Range<u64>, has_begun: bool, status: ExitStatus) -> (Worker, Ended) {
        let worker = Worker {
            handle: ProcessHandle::new(1, 1),
            since: 0,
            is_ready: true,
            seen: None,
            name: "worker".to_owned(),
            pid: 1,
        };
        let (first, end, work) = (claimed.start, claimed.end, u64::from(has_begun));
        let claims = Claims { first, end, work, since: 0, part: 0, reserved: 0 };
        (worker, Ended { claims, status, stderr: b"its last words".to_vec() })
    }

    /// Events since the last time.
    fn told(events: &mpsc::Receiver<Event>) -> Vec<Event> {
        events.try_iter().collect()
    }

    /// Leftovers of an attempt must not be taken for the next one's.
    #[test]
    fn a_task_that_is_tried_again_is_as_new_but_for_its_attempts() {
        let timeout = Duration::from_secs(1);
        let (shared, _theirs) = pool_with(Rules { retries: 2, task_timeout: Some(timeout), ..RULES });
        let (sender, events) = mpsc::channel();
        shared.listen(sender);
        let (future, cell) = super::super::TaskFuture::<()>::new("task".into(), Completed::decode);
        shared.submit([Task::new("task".into(), 0, b"input", Sink::Cell(cell))]).unwrap();
        let mut core = locked(&shared.core);
        let is_late = |core: &mut Core, number: usize| match core.pending.get_mut(number) {
            Some(Pending::Task(task)) => {
                task.is_late = true;
                task.attempts
            }
            other => panic!("{other:?}"),
        };
        // The first takes too long.
        assert_eq!(is_late(&mut core, 0), 1);
        let (worker, how) = ended(0..1, true, KILLED);
        core.worker_has_ended(worker, how);
        assert_eq!(core.backlog.iter().map(|task| (task.attempts, task.is_late)).next(), Some((1, false)));
        let retried =
            |cause: Failure, attempt| Event::Retried { number: 0, task: "task".into(), cause, attempt };
        assert_eq!(told(&events).last(), Some(&retried(Failure::TimedOut(timeout), 2)));
        // The second crashes, and in no way by its time.
        core.refill();
        let (worker, how) = ended(1..2, true, ExitStatus::Exited(3));
        core.worker_has_ended(worker, how);
        assert_eq!(told(&events).last(), Some(&retried(Failure::Ended(ExitStatus::Exited(3)), 3)));
        // The third has claimed it, and begun nothing: that is no attempt.
        core.refill();
        let (worker, how) = ended(2..3, false, KILLED);
        core.worker_has_ended(worker, how);
        // And the next is the last.
        core.refill();
        let (worker, how) = ended(3..4, true, ExitStatus::Exited(4));
        core.worker_has_ended(worker, how);
        let Stats { retried, failed, workers_lost, .. } = core.stats;
        assert_eq!((retried, failed, workers_lost, core.in_flight), (2, 1, 4, 0));
        let done = std::mem::take(&mut core.done);
        drop(core);
        pass_on(done);
        let error = within_deadline(|| future.result()).unwrap_err();
        assert_eq!((error.cause, error.attempts), (Failure::Ended(ExitStatus::Exited(4)), 3));
        assert_eq!(error.stderr, GuestText::from_bytes(b"its last words"));
    }

    /// In the order in which they were submitted, and before what is still to be put.
    #[test]
    fn of_what_a_dead_worker_has_claimed_the_first_fails_if_it_had_begun() {
        within_deadline(bury_workers_with_claims);
    }

    fn bury_workers_with_claims() {
        for has_begun in [true, false] {
            let (shared, _theirs) = pool_with(Rules { bytes_max: u64::MAX, ..RULES });
            let mut core = locked(&shared.core);
            // So many that not all are put at once.
            core.mean_nanos = DEPTH_NANOS / 5;
            drop(core);
            shared.submit((0..8).map(|_| task())).unwrap();
            core = locked(&shared.core);
            assert_eq!((core.in_flight, core.backlog.len()), (5, 3));
            let (worker, how) = ended(0..3, has_begun, KILLED);
            core.worker_has_ended(worker, how);
            let waiting: Vec<_> = core.backlog.iter().map(|task| (task.number, task.attempts)).collect();
            let first = u64::from(has_begun);
            assert_eq!(waiting, (first..3).chain(5..8).map(|number| (number, 0)).collect::<Vec<_>>());
            assert_eq!((core.stats.failed, core.in_flight), (first, 2));
            // What it hasn't claimed is still there, and no other worker's.
            let (worker, how) = ended(0..3, true, KILLED);
            core.worker_has_ended(worker, how);
            assert_eq!((core.stats.failed, core.in_flight), (first, 2));
            // A count that no honest worker has.
            let (worker, how) = ended(4..u64::MAX, true, KILLED);
            core.worker_has_ended(worker, how);
            assert_eq!((core.stats.failed, core.in_flight), (first + 1, 1));
        }
    }

    /// One that has ended in the last that it was to put has begun, whatever it says that it works on.
    #[test]
    fn a_worker_that_has_ended_in_delivery_has_begun() {
        let (shared, _theirs) = pool();
        shared.submit([task()]).unwrap();
        let mut core = locked(&shared.core);
        let (worker, mut how) = ended(0..1, false, ExitStatus::Exited(0));
        how.claims.part = DELIVERED;
        core.worker_has_ended(worker, how);
        assert_eq!((core.stats.failed, core.stats.workers_lost, core.backlog.len()), (1, 1, 0));
    }

    /// Somebody may have killed it. Again and again is no chance.
    #[test]
    fn workers_that_are_killed_before_they_are_ready_end_the_pool_after_some() {
        let unready = |status| {
            let (mut worker, how) = ended(0..0, false, status);
            worker.is_ready = false;
            (worker, how)
        };
        let (shared, _theirs) = pool();
        let mut core = locked(&shared.core);
        for _ in 0..3 {
            for lost in 0..UNREADY_MAX {
                assert_eq!((core.killed_unready, &core.state), (lost, &State::Running));
                let (worker, how) = unready(KILLED);
                core.worker_has_ended(worker, how);
            }
            // One that is ready begins the count anew.
            let (worker, _) = unready(KILLED);
            let number = worker.handle.0;
            core.workers.push(worker);
            assert!(core.worker_is_ready(number) && !core.worker_is_ready(number));
        }
        for _ in 0..=UNREADY_MAX {
            assert_eq!(core.state, State::Running);
            let (worker, how) = unready(KILLED);
            core.worker_has_ended(worker, how);
        }
        let State::Ended(PoolEnd::Worker(why)) = &core.state else { panic!("{:?}", core.state) };
        assert!(
            why.raw().starts_with(&KILLED.to_string()) && why.raw().ends_with(": its last words"),
            "{why:?}"
        );
        // What isn't done from outside needs no second time.
        for status in [ExitStatus::Exited(1), ExitStatus::Exited(0), ExitStatus::Forbidden] {
            let (shared, _theirs) = pool_with(Rules { has_initializer: true, ..RULES });
            let mut core = locked(&shared.core);
            let (worker, how) = unready(status);
            core.worker_has_ended(worker, how);
            assert!(matches!(core.state, State::Ended(PoolEnd::Initializer(_))), "{:?}", core.state);
        }
    }

    #[test]
    fn tasks_wait_where_they_can_be_cancelled_while_workers_have_enough() {
        let (shared, _theirs) = pool();
        // As many as the workers do in a moment, within bounds.
        for (mean, depth) in [
            (0, DEPTH_MIN),
            (1, DEPTH_MAX),
            (DEPTH_NANOS / 10, 10),
            (u64::MAX, DEPTH_MIN),
            (DEPTH_NANOS, DEPTH_MIN),
        ] {
            locked(&shared.core).mean_nanos = mean;
            assert_eq!(shared.depth(), depth, "{mean}");
        }
        // Nor more bytes, but for one alone.
        let (shared, _theirs) = pool_with(Rules { bytes_max: 100, ..RULES });
        locked(&shared.core).mean_nanos = 1;
        let of = |len: usize| {
            let (_, cell) = super::super::TaskFuture::<()>::new("task".into(), Completed::decode);
            Task::new("task".into(), 0, &vec![0; len], Sink::Cell(cell))
        };
        shared.submit([of(1000), of(10), of(10), of(10), of(10), of(10)]).unwrap();
        let mut core = locked(&shared.core);
        assert_eq!((core.in_flight, core.backlog.len()), (1, 5));
        assert!(core.take_pending(0, Pending::is_task).is_some());
        assert_eq!((core.in_flight, core.bytes_in_flight), (0, 0));
        core.refill();
        let each = of(10).record.len() as u64;
        assert_eq!(core.in_flight, 100 / each);
        assert_eq!(core.bytes_in_flight, 100 / each * each);
    }

    /// Whichever process puts nonsense there, later results are looked at as well.
    #[test]
    fn too_much_nonsense_ends_the_pool_and_a_little_does_not() {
        let (shared, _theirs) = pool();
        let mut core = locked(&shared.core);
        for _ in 0..NONSENSE_MAX {
            core.link.put_result(b"nonsense").unwrap();
        }
        within_deadline(|| core.step());
        assert_eq!((&core.state, core.nonsense), (&State::Running, NONSENSE_MAX));
        core.link.put_result(b"").unwrap();
        within_deadline(|| core.step());
        assert_eq!(core.state, State::Ended(PoolEnd::Damaged));
    }

    #[test]
    fn what_was_cancelled_comes_to_no_worker() {
        let (shared, _theirs) = pool_that_is_busy();
        let (future, cell) = super::super::TaskFuture::<()>::new("task".into(), Completed::decode);
        shared.submit([Task::new("task".into(), 0, b"input", Sink::Cell(cell)), task()]).unwrap();
        assert!(future.cancel());
        let mut core = locked(&shared.core);
        core.in_flight = 0;
        core.refill();
        assert_eq!((core.in_flight, core.stats.failed, core.backlog.len()), (1, 1, 0));
    }

    #[test]
    fn a_worker_that_is_not_ready_in_time_ends_the_pool() {
        for (since, is_ready, ends) in [(0, false, true), (0, true, false), (nanos_now(), false, false)] {
            let timeout = Duration::from_secs(1000);
            let (shared, _theirs) = pool_with(Rules { start_timeout: Some(timeout), ..RULES });
            let mut core = locked(&shared.core);
            let (mut worker, _) = ended(0..0, false, KILLED);
            // As long as the machine runs, which is less than that long after it was started.
            worker.since = since;
            worker.is_ready = is_ready;
            core.rules.start_timeout = Some(if since == 0 { Duration::from_nanos(1) } else { timeout });
            core.workers.push(worker);
            core.look_after_starts();
            assert_eq!(matches!(core.state, State::Ended(PoolEnd::Worker(_))), ends);
        }
    }

    /// Whatever else comes of it when all workers are killed.
    #[test]
    fn a_pool_that_was_terminated_says_so() {
        let (shared, _theirs) = pool();
        shared.submit([task()]).unwrap();
        shared.is_terminated.store(true, Ordering::SeqCst);
        let mut core = locked(&shared.core);
        core.end(PoolEnd::Damaged);
        assert_eq!(core.state, State::Ended(PoolEnd::Terminated));
        // The first reason is the one.
        core.end(PoolEnd::Closed);
        assert_eq!((&core.state, core.stats.failed), (&State::Ended(PoolEnd::Terminated), 1));
    }

    #[test]
    fn what_was_submitted_before_a_pool_was_closed_is_done() {
        let (shared, _theirs) = pool_that_is_busy();
        shared.submit([task(), task()]).unwrap();
        shared.close();
        assert!(matches!(shared.submit([task()]), Err(Failure::NotRunning)));
        let mut core = locked(&shared.core);
        core.in_flight = 0;
        core.refill();
        assert_eq!((core.in_flight, core.backlog.len(), &core.state), (2, 0, &State::Closing));
    }
}
