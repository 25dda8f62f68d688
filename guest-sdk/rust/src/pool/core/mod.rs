//! The common part of pools, executors and scoped maps: tasks go out, results come in, workers are replaced.
//!
//! Which chunk goes out next, what becomes of it, and which workers are missing is decided by `sandpool_scheduler`,
//! which has no state but its own, and which pools of applications have as well. The modules here carry this out.
//!
//! # Who does what
//!
//! There is one thread. The owner of a pool does all its work when the program calls it, for the pool or for one of
//! its results; workers work on meanwhile, with the tasks in the queue.
//!
//! ```text
//!  submit ─▸ backlog ─▸ pump ─▸ tasks (queue, claimed) ─▸ worker
//!                                                          │
//!  job ◂─ collect ◂─ results (queue) ◂────── finish ───────┘
//!   ▴
//!   └ bury: a worker has ended; what it had claimed fails, or goes to the backlog again
//! ```
//!
//! # What is lost with a worker
//!
//! Tasks are numbered in the order in which they are put, and the host notes which tasks a worker has claimed and not
//! finished, and which one it works on. So a chunk of tasks is in the queue, or claimed, or its results are on their
//! way. When a worker has ended, the task that it worked on fails. The finished tasks of the chunk before that task
//! are [saved]. All other tasks that the worker had claimed are given out again.
//!
//! [saved]: super::saved
//!
//! For that, a chunk's bytes are kept until its results have arrived.
//!
//! # Borrows
//!
//! The state is borrowed for a moment at a time, and never while code of the program runs: while results are decoded,
//! callbacks called and workers started, nothing is borrowed. So a callback may use the pool. A callback that panics
//! ends the process, as any panic: see *Decisions* in the host's `architecture.md`.

mod cancelling;
mod chunk;
mod ending;
mod giving;
mod results;
mod workers;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use sandpool_abi::NO_WAIT;
use sandpool_abi::queue::CLAIMED;
use sandpool_scheduler::{Crew, Phase, Scheduler};

use self::cancelling::FreeMarks;
pub(super) use self::chunk::{Callee, Chunk, Function, NOTHING, Part, Terms};
use self::giving::Batch;
use self::results::Inbox;
use self::workers::{StartRefusal, Worker};
use super::error::{PoolEnd, PoolError};
use super::job::Job;
use super::marks::Marks;
use super::worker::{Links, PoolQueue};
use crate::deadline::{Deadline, nanoseconds};
use crate::process::Limit;
use crate::{Error, Process, limits, raw};

/// More workers than any run has.
const MAX_WORKERS: u64 = 1 << 20;
/// The number of collections after which the pool looks after the workers.
const ROUNDS: u32 = 32;
/// How long the pool looks for results before it waits for anything: being woken takes longer than this.
const LOOK_NANOS: u64 = 20_000;
/// How long the pool sleeps while tasks are so short that it would be woken for each.
const NAP: Duration = Duration::from_micros(200);

/// The delay before the pool tries again to start a worker where there is none, and the interval of further tries,
/// while somebody waits for results.
const AGAIN: Duration = Duration::from_millis(5);

/// Name and process id.
type Label = (Arc<str>, u32);

/// Starts a worker of this name.
pub(super) type Start<'s> = dyn Fn(Links, &str) -> Result<Process, Error> + 's;

/// The settings of a new pool.
pub(super) struct Plan<'s> {
    pub(super) processes: usize,
    pub(super) tasks_max: u64,
    pub(super) name: String,
    /// The program has an initializer that makes workers ready.
    pub(super) has_initializer: bool,
    pub(super) start: Box<Start<'s>>,
}

/// Counts of what has happened in a pool so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The number of workers.
    pub workers: usize,
    /// Workers that were started.
    pub workers_started: u64,
    /// Workers that ended unexpectedly.
    pub workers_lost: u64,
    /// Tasks that were given to the pool.
    pub submitted: u64,
    /// Tasks that have a result, which isn't an `Err`.
    pub succeeded: u64,
    /// Tasks that failed, or whose result is an `Err`.
    pub failed: u64,
    /// Tasks that were cancelled.
    pub cancelled: u64,
    /// Times that a task was tried again after it had failed.
    pub retried: u64,
}

struct CoreState {
    phase: Phase<PoolEnd>,
    tasks: PoolQueue,
    refused: Option<StartRefusal>,
    crew: Crew<Worker>,
    scheduler: Scheduler<Chunk>,
    /// The recent time of a task of each function.
    nanos: BTreeMap<Function, u32>,
    free_marks: FreeMarks,
    /// Room for a batch that is put.
    batch: Batch,
    stats: Stats,
    /// The shortest time limit of any task.
    shortest: Option<Duration>,
}

/// Refuses a number of workers that can't exist.
fn check_count(processes: usize) -> Result<(), PoolError> {
    let most = match limits::of(Limit::Processes) {
        Some(Limit::Processes(most)) => most,
        _ => MAX_WORKERS,
    };
    match processes as u64 {
        0 => Err(PoolError::Zero("processes")),
        processes if processes > most.min(MAX_WORKERS) => Err(Error::TooManyProcesses.into()),
        _ => Ok(()),
    }
}

/// A pool.
pub(super) struct Core<'s> {
    owner: u64,
    results: PoolQueue,
    marks: Marks,
    plan: Plan<'s>,
    state: RefCell<CoreState>,
    inbox: Cell<Option<Inbox>>,
    /// Jobs whose callbacks are to be called.
    told: RefCell<VecDeque<Rc<dyn Job>>>,
    rounds: Cell<u32>,
}

impl<'s> Core<'s> {
    /// Makes a pool, and starts its workers.
    pub(super) fn new(plan: Plan<'s>) -> Result<Self, PoolError> {
        check_count(plan.processes)?;
        let core = Self {
            owner: raw::process::current().map_err(Error::from)?,
            results: PoolQueue::new(0)?,
            marks: Marks::new()?,
            state: RefCell::new(CoreState {
                phase: Phase::Running,
                tasks: PoolQueue::new(CLAIMED)?,
                refused: None,
                crew: Crew::new(plan.processes),
                scheduler: Scheduler::new(),
                nanos: BTreeMap::new(),
                free_marks: FreeMarks::new(),
                batch: Batch::default(),
                stats: Stats::default(),
                shortest: None,
            }),
            plan,
            inbox: Cell::new(None),
            told: RefCell::new(VecDeque::new()),
            rounds: Cell::new(0),
        };
        core.marks.set_workers(core.plan.processes);
        // If one worker can't be started, the others are ended when `core` is dropped.
        core.start_missing()?;
        Ok(core)
    }

    /// Whether this process made the pool. While a value that was moved into a child is dropped here, the
    /// answer is no, as in the child.
    pub(super) fn is_owner(&self) -> bool {
        raw::process::current() == Ok(self.owner) && !raw::mute::is_on()
    }

    /// Fails unless the pool takes tasks.
    pub(super) fn check_running(&self) -> Result<(), PoolError> {
        if !self.is_owner() {
            return Err(PoolError::NotOwner);
        }
        match &self.state.borrow().phase {
            Phase::Running => Ok(()),
            Phase::Closing | Phase::Closed => Err(PoolError::NotRunning),
            Phase::Ended(PoolEnd::Terminated) => Err(PoolError::NotRunning),
            Phase::Ended(end) => Err(PoolError::Ended(end.clone())),
        }
    }

    /// The number of workers that the pool is meant to have.
    pub(super) fn processes(&self) -> usize {
        self.state.borrow().crew.wanted()
    }

    pub(super) fn stats(&self) -> Stats {
        let state = self.state.borrow();
        Stats { workers: state.crew.len(), ..state.stats }
    }

    /// The recent time of a task of this function.
    pub(super) fn nanos(&self, function: Function) -> Option<u64> {
        self.state.borrow().nanos.get(&function).map(|nanos| u64::from(*nanos))
    }

    /// Whether no more can be put for now.
    pub(super) fn is_full(&self) -> bool {
        self.state.borrow().scheduler.waiting() > 0
    }

    /// Takes a chunk, which the next `pump` puts.
    pub(super) fn submit(&self, chunk: Chunk) {
        if chunk.parts == 0 {
            return;
        }
        let end = {
            let mut state = self.state.borrow_mut();
            state.stats.submitted += u64::from(chunk.parts);
            if let Some(timeout) = chunk.terms.timeout {
                state.shortest = Some(state.shortest.map_or(timeout, |shortest| shortest.min(timeout)));
            }
            match state.phase.ended() {
                Some(end) => end.clone(),
                None => return state.scheduler.submit(chunk),
            }
        };
        self.fail_all(&chunk, &end);
    }

    /// Waits until something has happened, or the time is over: then returns false. Does everything that there is to
    /// do.
    pub(super) fn step(&self, deadline: Deadline) -> bool {
        self.pump_until(deadline);
        if self.collect() {
            self.rounds.set(self.rounds.get() + 1);
            if self.rounds.get() >= ROUNDS {
                self.look_after_workers();
            }
            return !deadline.has_passed();
        }
        if self.look_after_workers() {
            return !deadline.has_passed();
        }
        if deadline.left() == NO_WAIT || self.is_ended() {
            return false;
        }
        self.wait(deadline);
        (self.collect() || self.look_after_workers() || deadline.left() != NO_WAIT) && !deadline.has_passed()
    }

    fn is_ended(&self) -> bool {
        self.state.borrow().phase.has_ended()
    }

    /// Waits for results, or the end of a worker, or the end of a task's time.
    fn wait(&self, deadline: Deadline) {
        let mut left = deadline.left();
        if let Some(timeout) = self.next_timeout() {
            left = left.min(timeout);
        }
        if self.state.borrow().refused.is_some() {
            if self.has_tried_enough() {
                return self.give_up();
            }
            left = left.min(nanoseconds(AGAIN));
        } else if self.nap(left) || self.look() {
            return;
        }
        let handles: Vec<_> = {
            let state = self.state.borrow();
            let workers = state.crew.iter().map(|worker| worker.of.process.handle());
            std::iter::once(self.results.handle()).chain(workers).collect()
        };
        let mut ready = vec![0; handles.len()];
        if let Err(errno) = raw::handle::wait(&handles, left, &mut ready) {
            self.end(PoolEnd::Host(errno));
        }
    }

    /// Sleeps, if results would come one by one, and wake this process for each. Returns whether it has slept.
    fn nap(&self, left: u64) -> bool {
        let work = {
            let state = self.state.borrow();
            let Some(oldest) = state.scheduler.oldest() else { return false };
            let chunk = &oldest.work;
            let nanos = state.nanos.get(&chunk.callee.function).map_or(0, |nanos| u64::from(*nanos));
            let entries = state.scheduler.under_way().entries as u64;
            nanos * u64::from(chunk.parts) * entries / state.crew.len().max(1) as u64
        };
        let is_long = work > 4 * nanoseconds(NAP) && left > nanoseconds(NAP);
        if is_long {
            std::thread::sleep(NAP);
        }
        is_long
    }

    /// Looks for results for a while. Returns whether there are any.
    fn look(&self) -> bool {
        let end = raw::clock::monotonic() + LOOK_NANOS;
        while raw::clock::monotonic() < end {
            if raw::queue::qsize(self.results.handle()) != Ok(0) {
                return true;
            }
        }
        false
    }

    /// Whether something is still to be done.
    pub(super) fn has_work(&self) -> bool {
        self.state.borrow().scheduler.unfinished() > 0
    }
}
