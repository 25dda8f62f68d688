//! The decisions of a pool: which tasks go to the workers, what happens to the tasks, which workers are replaced.
//!
//! ```text
//!  submit ─▶ backlog ─▶ tasks' queue ─▶ a worker's claim ─▶ results' queue ─▶ sink
//!               ▲        `pending`, by number                     │
//!               └── again: not begun when its worker died, or retried
//! ```
//!
//! One thread of the pool, [`run`], does everything that no caller does: it takes results, handles deaths and deadlines, and starts
//! workers. A thread that submits a task puts the task into the queue itself, so that no other thread stands between the two. All
//! of this happens under one lock, [`Core`]; results are passed on outside of the lock.
//!
//! The queue holds only as many tasks as the workers do in a moment. So tasks can be cancelled while they wait, and the arena
//! doesn't fill up.

use std::collections::VecDeque;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, PoisonError, TryLockError};
use std::time::Duration;

use nix::sys::signal::Signal;
use sandpool_abi::process::{ExitStatus, Limit};
use sandpool_abi::task::DELIVERED;

use super::event::{Event, Stats};
use super::future::{Completed, Outcome, Sink, locked};
use super::link::{Ended, Link, Put, Waiter};
use crate::control::{self, Request};
use crate::error::{Failure, TaskError};
use crate::ipc::process_table::{self, ProcessHandle, nanos_now};
use crate::wire::{RecordKind as Kind, ResultRecord, TaskRecord};
use crate::{GuestText, PoolEnd, codec};

/// The queue of tasks holds as many tasks as the workers do in this time.
const DEPTH_NANOS: u64 = 2_000_000;
/// The least and the most tasks in the queue for each worker.
const DEPTH_MIN: u64 = 2;
const DEPTH_MAX: u64 = 4096;

/// How long the thread sleeps at most.
const IDLE_NANOS: u64 = 500_000_000;
/// How long the thread sleeps after a worker couldn't be started, or after the arena was busy or full.
const AGAIN_NANOS: u64 = 5_000_000;

/// Batches of results that are taken in one turn. After them, the thread looks at other news.
const BATCHES_MAX: usize = 16;

/// Records that may come without being the result of a task at work. A worker that is killed just then may leave one; a pool with
/// more of them is damaged.
const NONSENSE_MAX: u64 = 1000;

/// How long nothing moves in a pool before the pool looks whether the arena has room; and how long the arena has no room before the
/// pool ends.
const STARVED_NANOS: u64 = 2_500_000_000;

/// How long a task that was to be killed may go on after its time. Then its worker is killed.
const OVERDUE_NANOS: u64 = 2_000_000_000;

/// Workers in a row that may be killed before they are ready. The next one ends the pool.
const UNREADY_MAX: u32 = 3;

/// Settings that the dispatcher keeps to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) task_timeout: Option<Duration>,
    pub(super) start_timeout: Option<Duration>,
    pub(super) retries: u32,
    /// Workers run a task before they are ready.
    pub(super) has_initializer: bool,
    /// The most bytes of tasks in the arena at once. The rest of the arena is for results, so that no worker waits for room which
    /// only workers could make.
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
#[derive(Debug)]
pub(super) struct Task {
    /// Number of the task among all that were submitted.
    pub(super) number: u64,
    pub(super) name: Arc<str>,
    /// The task as it lies in the queue.
    pub(super) record: Vec<u8>,
    pub(super) sink: Sink,
    pub(super) attempts: u32,
    /// When the task was last put into the queue, in nanoseconds.
    put_at: u64,
    /// The task was killed because its time was over.
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

/// An entry that lies in the queue of tasks, or that a worker has claimed.
#[derive(Debug)]
enum Pending {
    Task(Task),
    /// The worker that takes this entry ends.
    Retire,
    /// The entry is done.
    Done,
}

#[derive(Debug)]
struct Worker {
    handle: ProcessHandle,
    /// When the worker was asked for, in nanoseconds.
    since: u64,
    is_ready: bool,
    /// The number of the task at which the worker was last seen, and when the worker was first seen at it.
    seen: Option<(u64, u64)>,
    name: String,
    pid: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Running,
    /// No new tasks are taken; tasks that were submitted are still done.
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
    /// The supervisor has ended, and all processes of the pool with it.
    is_over: bool,
    workers: Vec<Worker>,
    /// Number of workers that the pool is to have.
    wanted: usize,
    /// Workers that were asked to end.
    retiring: usize,
    /// Workers that were killed before they were ready, since a worker last became ready.
    killed_unready: u32,
    /// Tasks that wait for room in the queue.
    backlog: VecDeque<Task>,
    /// Entries that are in the queue or claimed.
    pending: VecDeque<Pending>,
    /// The number that the first entry of `pending` has in the queue.
    first: u64,
    /// Number of tasks among the entries of `pending`; and their bytes.
    in_flight: u64,
    bytes_in_flight: u64,
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

    /// Takes tasks over, or refuses all of them and returns the reason.
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

    /// Changes the number of workers.
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

    /// Number of tasks in the queue that keeps the workers busy.
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

    /// Stops taking tasks, and ends the pool when all submitted tasks are done.
    pub(super) fn close(&self) {
        let mut core = locked(&self.core);
        if core.state == State::Running {
            core.state = State::Closing;
        }
        drop(core);
        self.waiter.poke();
    }

    /// Ends the pool now, even if tasks remain or another thread works with the core: the workers are killed at once, and
    /// unfinished tasks fail with the next turn at the latest.
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
            if let State::Ended(end) = &core.state {
                return Err(end.clone());
            }
            if core.workers.iter().any(|worker| worker.is_ready) {
                return Ok(());
            }
            core = self.changed.wait(core).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until the whole pool has ended, and returns the reason. `None` if the pool still takes tasks.
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
    /// Does everything that can be done now.
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
            // The supervisor's end wakes this thread.
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

    /// Number of tasks that the queue is to hold.
    fn depth(&self) -> u64 {
        let workers = self.wanted.max(1) as u64;
        let each = DEPTH_NANOS.checked_div(self.mean_nanos).unwrap_or(DEPTH_MIN);
        workers * each.clamp(DEPTH_MIN, DEPTH_MAX)
    }

    /// Moves tasks from the backlog to the queue, where workers find them.
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
                // A single task may be as large as it likes.
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

    /// Takes the results that have come, up to the maximum of one turn; then more may remain.
    fn take_results(&mut self) -> crate::ipc::Result<()> {
        for _ in 0..BATCHES_MAX {
            // Records are copied before the rest of the core is used.
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
            // Results that come meanwhile are taken as well, but workers must get tasks between the batches.
            self.refill();
            self.has_more = count != 0;
            if !self.has_more || self.is_terminated() {
                return Ok(());
            }
            self.moved.0 = now;
        }
        Ok(())
    }

    /// Takes a record. Returns whether a worker had to put it: the record's claims are checked against this side's own state.
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
        // The task can't have run for longer than the time since it was put into the queue.
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

    /// Takes the entry with this number in the queue, if the entry isn't done and `is_meant` accepts it.
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

    /// Handles a failed attempt.
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

    /// Marks a worker as ready. Returns whether the number is that of a worker that wasn't ready.
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
        // Results that these workers have put before are taken first.
        if self.take_results().is_err() {
            return self.end(PoolEnd::Damaged);
        }
        // The workers may have been killed because the pool was terminated.
        self.look_whether_terminated();
        if self.has_more || matches!(self.state, State::Ended(_)) {
            return;
        }
        let ended: Vec<_> = self.workers.extract_if(.., |worker| ended.contains(&worker.handle)).collect();
        for worker in ended {
            match self.link.bury(worker.handle) {
                Ok(ended) => self.worker_has_ended(worker, ended),
                // The worker never ran.
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
        // Cuts a count of claims that no honest worker has.
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
                // Another worker must be asked to end.
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
            // The worker says when it began the task. That time counts only between the task's `put_at` and the time at which the
            // worker was first seen at the task.
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

    /// Ends the pool if no worker runs a task and the arena has no room for the next item: nothing can make room any more.
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
        // One free page isn't room for every item: a task that can't be put shows this, and so does a worker that can't deliver.
        let is_starved =
            !is_at_work && (is_delivering || self.in_flight == 0 && self.is_stuck || !self.link.has_room());
        if !is_starved {
            self.starved = None;
        } else if now.saturating_sub(*self.starved.get_or_insert(now)) >= STARVED_NANOS {
            self.end(PoolEnd::Limited(Limit::Arena(self.rules.arena_size)));
        }
    }

    /// Ends the pool if a worker isn't ready in time, as a failing initializer does.
    fn look_after_starts(&mut self) {
        let Some(timeout) = self.rules.start_timeout else { return };
        let now = nanos_now();
        let is_late =
            |worker: &Worker| !worker.is_ready && now.saturating_sub(worker.since) >= nanos_of(timeout);
        if self.workers.iter().any(is_late) {
            self.end_unready(format!("it took longer than {timeout:?}"));
        }
    }

    /// Ends the pool because a worker can't become ready, and no other worker could.
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

    /// Ends the pool; all tasks that aren't done fail. Only the first reason counts.
    fn end(&mut self, end: PoolEnd) {
        if matches!(self.state, State::Ended(_)) {
            return;
        }
        // Termination is then the reason, whatever else followed from it.
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

/// The worker with this handle, if it isn't ready yet.
fn starting(workers: &mut [Worker], number: u64) -> Option<&mut Worker> {
    workers.iter_mut().find(|worker| worker.handle.0 == number && !worker.is_ready)
}

fn tell(listeners: &mut Vec<Sender<Event>>, event: Event) {
    listeners.retain(|listener| listener.send(event.clone()).is_ok());
}

fn nanos_of(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// How a process ended, according to a record.
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

    /// A pool whose supervisor starts no process, and the supervisor's end of the socket.
    fn pool() -> (Arc<Shared>, OwnedFd) {
        pool_with(RULES)
    }

    /// The same pool, whose submitted tasks reach no worker.
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
        // Termination waits for nobody.
        terminated.recv_timeout(Duration::from_secs(60)).unwrap();
        let request: Option<Request> = control::receive_message(theirs.as_fd()).unwrap();
        assert!(matches!(request, Some(Request::Stop(signal)) if signal == Signal::SIGKILL as i32));
        drop(core);
        assert_eq!(shared.ended(), Some(PoolEnd::Terminated));
        assert_eq!(shared.stats().failed, 2);
        assert!(matches!(shared.submit([task()]), Err(Failure::PoolEnded(PoolEnd::Terminated))));
        terminating.join().unwrap();
    }

    /// Records in the queue of results that name no task at work.
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
        // The task's time is at most the time that this side has seen.
        assert!(core.take_result(record(1, Kind::Done), nanos_now()));
        assert!(!core.take_result(record(1, Kind::Done), nanos_now()), "once");
        assert!(core.stats.busy < Duration::from_secs(60) && core.mean_nanos < 60_000_000_000);
        assert!(core.take_result(record(0, Kind::Failed), nanos_now()));
        assert_eq!((core.in_flight, core.stats.finished, core.stats.failed), (0, 1, 1));
        core.nonsense = NONSENSE_MAX + 1;
        core.step();
        assert_eq!(core.state, State::Ended(PoolEnd::Damaged));
    }

    const KILLED: ExitStatus = ExitStatus::Signaled(crate::Signal::KILL);

    /// A worker that has claimed these tasks, and how it ended. The worker had begun the first of them, or none.
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
        // The first attempt takes too long.
        assert_eq!(is_late(&mut core, 0), 1);
        let (worker, how) = ended(0..1, true, KILLED);
        core.worker_has_ended(worker, how);
        assert_eq!(core.backlog.iter().map(|task| (task.attempts, task.is_late)).next(), Some((1, false)));
        let retried =
            |cause: Failure, attempt| Event::Retried { number: 0, task: "task".into(), cause, attempt };
        assert_eq!(told(&events).last(), Some(&retried(Failure::TimedOut(timeout), 2)));
        // The second attempt crashes, and not because of its time.
        core.refill();
        let (worker, how) = ended(1..2, true, ExitStatus::Exited(3));
        core.worker_has_ended(worker, how);
        assert_eq!(told(&events).last(), Some(&retried(Failure::Ended(ExitStatus::Exited(3)), 3)));
        // The third worker has claimed the task and begun nothing: this is no attempt.
        core.refill();
        let (worker, how) = ended(2..3, false, KILLED);
        core.worker_has_ended(worker, how);
        // The next attempt is the last.
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
            // More tasks than are put at once.
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
            // Tasks that the worker hasn't claimed are still in the queue, and no other worker has them.
            let (worker, how) = ended(0..3, true, KILLED);
            core.worker_has_ended(worker, how);
            assert_eq!((core.stats.failed, core.in_flight), (first, 2));
            // A count of claims that no honest worker has.
            let (worker, how) = ended(4..u64::MAX, true, KILLED);
            core.worker_has_ended(worker, how);
            assert_eq!((core.stats.failed, core.in_flight), (first + 1, 1));
        }
    }

    /// A worker that ended while it delivered a result has begun the task, whatever it says that it works on.
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

    /// Somebody may have killed one worker. Repeated kills are no coincidence.
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
            // A worker that becomes ready resets the count.
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
        // An end that doesn't come from outside isn't tried a second time.
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
        // The depth is what the workers do in a moment, within bounds.
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
        // The bytes are bounded as well, except for a single task.
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

    /// Whichever process puts nonsense into the queue, later results are still read.
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
            // A worker with `since` 0 was asked for when the machine started.
            worker.since = since;
            worker.is_ready = is_ready;
            core.rules.start_timeout = Some(if since == 0 { Duration::from_nanos(1) } else { timeout });
            core.workers.push(worker);
            core.look_after_starts();
            assert_eq!(matches!(core.state, State::Ended(PoolEnd::Worker(_))), ends);
        }
    }

    /// The reason is termination, whatever else follows from killing all workers.
    #[test]
    fn a_pool_that_was_terminated_says_so() {
        let (shared, _theirs) = pool();
        shared.submit([task()]).unwrap();
        shared.is_terminated.store(true, Ordering::SeqCst);
        let mut core = locked(&shared.core);
        core.end(PoolEnd::Damaged);
        assert_eq!(core.state, State::Ended(PoolEnd::Terminated));
        // The first reason is kept.
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
