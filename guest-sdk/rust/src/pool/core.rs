//! The common part of pools, executors and scoped maps: tasks go out, results come in, workers are replaced.
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
//! way. When a worker has ended, the task that it worked on fails. The finished tasks of the chunk before that task are
//! [saved]. All other tasks that the worker had claimed are given out again.
//!
//! [saved]: super::saved
//!
//! For that, a chunk's bytes are kept until its results have arrived.
//!
//! # Borrows
//!
//! The state is borrowed for a moment at a time, and never while code of the program runs: while results are decoded,
//! callbacks called and workers started, nothing is borrowed. So a callback may use the pool. A callback that panics ends
//! the process, as any panic: see *Decisions* in the host's `architecture.md`.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use sandpool_abi::queue::{BATCH_ITEM_MAX, CLAIMED};
use sandpool_abi::task::{Claims, DELIVERED};
use sandpool_abi::{Errno, NO_WAIT};

use super::error::{Cause, PoolEnd, PoolError, TaskError};
use super::frame::{
    BEFORE_ONLY, CANCELLED, HEAD, Kind, LEAVING, MORE, NO_NUMBER, NOT_READY, PANICKED, READY, ResultHead,
    TaskHead, begin_part, end_only_part, only_part, split_part,
};
use super::job::Job;
use super::marks::{MARKS, Marks};
use super::saved::Saved;
use super::worker::{Links, PoolQueue};
use crate::deadline::{Deadline, nanoseconds};
use crate::flat::{self, Elements};
use crate::handles::Handles;
use crate::logging::Level;
use crate::message::{self, Encoded, Failure};
use crate::object::Object;
use crate::{Error, ExitStatus, Limit, Process, limits, log, raw};

/// More workers than any run has.
const MAX_WORKERS: u64 = 1 << 20;
/// The number of bytes that may be in the queue of tasks; tasks beyond it stay with the owner. So the arena keeps
/// room for results, without which no tasks are taken.
const PUT_MAX: usize = 32 << 20;
/// Of large tasks, those beyond this number of bytes and two for each worker stay with the owner as well: bytes that were
/// put long ago are out of the processors' caches, and take longer to copy.
const AHEAD_BYTES: usize = 1 << 20;
/// A batch is full when it has more bytes than this.
const BATCH_BYTES: usize = 64 << 10;
/// The number of results that are taken at a time.
const RESULTS: usize = 1024;
/// Room for the results.
const BUFFER: usize = 256 << 10;
/// The number of collections after which the pool looks after the workers.
const ROUNDS: u32 = 32;
/// How long the pool looks for results before it waits for anything: being woken takes longer than this.
const LOOK_NANOS: u64 = 20_000;
/// How long the pool sleeps while tasks are so short that it would be woken for each.
const NAP: Duration = Duration::from_micros(200);

/// The delay before the pool tries again to start a worker where there is none, and the interval of further tries, while
/// somebody waits for results.
const AGAIN: Duration = Duration::from_millis(5);
const TRIES: u32 = 200;

/// The terms on which tasks are done.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Terms {
    /// How often a failed task is tried again.
    pub(super) retries: u32,
    /// How long a task may take.
    pub(super) timeout: Option<Duration>,
}

/// The function of a task, by its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Function {
    pub(super) trampoline: u32,
    pub(super) function: u32,
}

/// The function that is called for tasks.
#[derive(Clone)]
pub(super) struct Callee {
    pub(super) function: Function,
    /// The state that all tasks have.
    pub(super) state: Option<Rc<Part>>,
}

/// A part of a message, and its handles.
#[derive(Default)]
pub(super) struct Part {
    pub(super) bytes: Vec<u8>,
    pub(super) handles: Vec<Arc<Object>>,
}

/// A callee that no worker of a standing pool could call.
pub(super) const NOTHING: Callee = Callee { function: Function { trampoline: 0, function: 0 }, state: None };

/// Several tasks that are given out together.
pub(super) struct Chunk {
    pub(super) job: Rc<dyn Job>,
    pub(super) callee: Callee,
    pub(super) terms: Terms,
    /// The index of its first task.
    pub(super) first: usize,
    /// The number of tasks.
    pub(super) parts: u32,
    /// The arguments of the tasks, as parts of a message.
    pub(super) bytes: Vec<u8>,
    /// The bytes after those: the rest of the only task's arguments, if that is large.
    apart: Option<Rc<dyn Elements>>,
    pub(super) handles: Vec<Arc<Object>>,
    /// How often the chunk was tried before.
    pub(super) attempts: u32,
    /// The number of tasks that have a result.
    done: u32,
    mark: u32,
    is_cancelled: bool,
}

impl Chunk {
    pub(super) fn new(job: Rc<dyn Job>, callee: Callee, terms: Terms, first: usize) -> Self {
        Self {
            job,
            callee,
            terms,
            first,
            parts: 0,
            bytes: Vec::new(),
            apart: None,
            handles: Vec::new(),
            attempts: 0,
            done: 0,
            mark: 0,
            is_cancelled: false,
        }
    }

    /// Makes this a chunk of a single task, with these arguments.
    pub(super) fn set_only(&mut self, (head, elements): (flat::Head, Rc<dyn Elements>)) {
        let start = begin_part(&mut self.bytes);
        end_only_part(&mut self.bytes, start, head, &*elements);
        self.apart = Some(elements);
        self.parts = 1;
    }

    /// Returns a part of the chunk's tasks.
    fn slice(&self, from: u32, to: u32) -> Self {
        let mut slice =
            Self::new(self.job.clone(), self.callee.clone(), self.terms, self.first + from as usize);
        slice.attempts = self.attempts;
        if self.apart.is_some() && (from, to) == (0, 1) {
            (slice.bytes, slice.apart, slice.parts) = (self.bytes.clone(), self.apart.clone(), 1);
            return slice;
        }
        let (mut rest, mut handle) = (&*self.bytes, 0);
        for index in 0..if from < to { to } else { 0 } {
            let Some((part, behind)) = split_part(rest) else { break };
            if index >= from {
                let len = rest.len() - behind.len();
                slice.bytes.extend_from_slice(rest.get(..len).unwrap_or_default());
                let handles = self.handles.get(handle..handle + part.handles).unwrap_or_default();
                slice.handles.extend(handles.iter().cloned());
                slice.parts += 1;
            }
            rest = behind;
            handle += part.handles;
        }
        slice
    }

    /// Returns the tasks that have no result.
    fn rest(self) -> Self {
        if self.done == 0 { self } else { self.slice(self.done, self.parts) }
    }

    /// The number of bytes of the chunk's message.
    pub(super) fn len(&self) -> usize {
        let state = self.callee.state.as_ref().map_or(0, |state| state.bytes.len());
        HEAD + state + self.bytes.len() + self.apart.as_ref().map_or(0, |apart| apart.bytes().len())
    }

    /// The bytes of the chunk's message without the head: the state, the tasks, and the bytes set apart.
    fn behind_head(&self) -> [&[u8]; 3] {
        let state = self.callee.state.as_ref().map_or(&[][..], |state| &state.bytes);
        [state, &self.bytes, self.apart.as_ref().map_or(&[], |apart| apart.bytes())]
    }

    /// The handles of the chunk's message.
    pub(super) fn handles(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.callee.state.iter().flat_map(|state| &state.handles).chain(&self.handles)
    }

    /// The error for a failed task of the chunk.
    fn error(&self, part: u32, cause: Cause, worker: Option<&Label>) -> TaskError {
        TaskError::new(self.first + part as usize, worker.cloned(), cause)
    }

    fn is_dropped(&self) -> bool {
        self.is_cancelled || self.job.is_cancelled()
    }
}

/// Name and process id.
type Label = (Rc<str>, u32);

/// A process of the pool.
struct Worker {
    process: Process,
    number: u32,
    label: Label,
    /// The worker's initializer has succeeded, if there is one.
    is_ready: bool,
    /// The worker ends by itself.
    is_leaving: bool,
    /// The work that the worker was killed for, because it took longer than this.
    killed: Option<(u64, Duration)>,
    /// The message of a panic that ends the worker.
    panic: Option<String>,
    /// The memory in which the worker leaves its results.
    saved: Saved,
}

/// The number of workers in a row that may be killed before they are ready.
const UNREADY_MAX: u32 = 3;

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

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Running,
    Closed,
    Ended(PoolEnd),
}

/// Counts of what has happened in a pool so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The number of workers.
    pub workers: usize,
    /// Workers that were started.
    pub started: u64,
    /// Workers that ended unexpectedly.
    pub lost: u64,
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

/// The reason why there is no worker: none could be started.
struct Refusal {
    why: String,
    /// How often somebody who waits has tried again.
    tries: u32,
}

struct State {
    phase: Phase,
    tasks: PoolQueue,
    refused: Option<Refusal>,
    workers: Vec<Worker>,
    /// The number of workers that the pool is meant to have.
    wanted: usize,
    /// Chunks that were put and not finished, by their numbers, which begin with `first`.
    put: VecDeque<Option<Chunk>>,
    first: u64,
    /// The number of those chunks, and their bytes.
    unfinished: usize,
    put_bytes: usize,
    /// Chunks that are still to be put.
    backlog: VecDeque<Chunk>,
    /// The recent time of a task of each function.
    nanos: BTreeMap<Function, u32>,
    /// Marks that are free, and the lowest mark that was never used.
    free_marks: Vec<u32>,
    next_mark: u32,
    /// Bytes and lengths of a batch that is put.
    batch: Vec<u8>,
    lens: Vec<u32>,
    stats: Stats,
    /// The number of workers that ended before they were ready, since the last one that was ready.
    killed_unready: u32,
    /// The shortest time limit of any task.
    shortest: Option<Duration>,
}

/// The buffers for a batch of results.
struct Inbox {
    bytes: Vec<u8>,
    lens: Vec<u32>,
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
    state: RefCell<State>,
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
            state: RefCell::new(State {
                phase: Phase::Running,
                tasks: PoolQueue::new(CLAIMED)?,
                refused: None,
                workers: Vec::new(),
                wanted: plan.processes,
                put: VecDeque::new(),
                first: 0,
                unfinished: 0,
                put_bytes: 0,
                backlog: VecDeque::new(),
                nanos: BTreeMap::new(),
                free_marks: Vec::new(),
                next_mark: 1,
                batch: Vec::new(),
                lens: Vec::new(),
                stats: Stats::default(),
                killed_unready: 0,
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
            Phase::Closed => Err(PoolError::NotRunning),
            Phase::Ended(PoolEnd::Terminated) => Err(PoolError::NotRunning),
            Phase::Ended(end) => Err(PoolError::Ended(end.clone())),
        }
    }

    /// The number of workers that the pool is meant to have.
    pub(super) fn processes(&self) -> usize {
        self.state.borrow().wanted
    }

    pub(super) fn stats(&self) -> Stats {
        let state = self.state.borrow();
        Stats { workers: state.workers.len(), ..state.stats }
    }

    /// The recent time of a task of this function.
    pub(super) fn nanos(&self, function: Function) -> Option<u64> {
        self.state.borrow().nanos.get(&function).map(|nanos| u64::from(*nanos))
    }

    /// Whether no more can be put for now.
    pub(super) fn is_full(&self) -> bool {
        !self.state.borrow().backlog.is_empty()
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
            match &state.phase {
                Phase::Ended(end) => end.clone(),
                _ => return state.backlog.push_back(chunk),
            }
        };
        self.fail_all(&chunk, &end);
    }

    /// Puts chunks from the backlog, as far as there is room.
    pub(super) fn pump(&self) {
        self.pump_until(Deadline::NOW);
    }

    /// Like `pump`, but waits for room if nothing is under way: then nobody else makes room.
    fn pump_until(&self, deadline: Deadline) {
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
        let mut borrowed = self.state.borrow_mut();
        let state = &mut *borrowed;
        state.batch.clear();
        state.lens.clear();
        while let Some(front) = state.backlog.front()
            && front.is_dropped()
            && state.lens.is_empty()
        {
            state.backlog.pop_front();
        }
        for chunk in &mut state.backlog {
            if chunk.is_dropped() {
                break;
            }
            let len = chunk.len();
            let (bytes, count) = (state.put_bytes + state.batch.len(), state.unfinished + state.lens.len());
            let is_ahead = len > BATCH_BYTES && bytes > AHEAD_BYTES && count >= 2 * state.wanted;
            if is_ahead || bytes > PUT_MAX && count > 0 {
                break;
            }
            if chunk.job.is_cancellable() && chunk.mark == 0 && chunk.parts > 0 {
                let Some(mark) = state.free_marks.pop().or_else(|| {
                    (state.next_mark < MARKS).then(|| {
                        state.next_mark += 1;
                        state.next_mark - 1
                    })
                }) else {
                    break;
                };
                chunk.mark = mark;
            }
            let is_for_batch = len <= BATCH_ITEM_MAX && chunk.handles().next().is_none();
            if !is_for_batch && !state.lens.is_empty() {
                break;
            }
            let head = TaskHead {
                number: state.first + (state.put.len() + state.lens.len()) as u64,
                trampoline: chunk.callee.function.trampoline,
                function: chunk.callee.function.function,
                parts: chunk.parts,
                is_timed: chunk.terms.timeout.is_some(),
                mark: chunk.mark,
            };
            state.batch.extend_from_slice(&head.to_bytes());
            if len <= BATCH_ITEM_MAX {
                chunk.behind_head().into_iter().for_each(|bytes| state.batch.extend_from_slice(bytes));
            }
            state.lens.push(u32::try_from(len).map_err(|_| Errno::Msgsize)?);
            if !is_for_batch || state.batch.len() > BATCH_BYTES {
                break;
            }
        }
        let Some(front) = state.backlog.front().filter(|_| !state.lens.is_empty()) else { return Ok(false) };
        let is_large = front.len() > BATCH_ITEM_MAX;
        let timeout = if state.unfinished == 0 { deadline.left() } else { NO_WAIT };
        let put = if is_large || front.handles().next().is_some() {
            let handles: Vec<_> = front.handles().map(|object| object.handle()).collect();
            let [of_all, tasks, apart] = front.behind_head();
            // Only the head of a large chunk is in the batch.
            let parts: &[&[u8]] =
                if is_large { &[&state.batch, of_all, tasks, apart] } else { &[&state.batch] };
            raw::queue::put(state.tasks.handle(), parts, &handles, timeout).map(|()| 1)
        } else {
            raw::queue::put_many(state.tasks.handle(), &state.batch, &state.lens, timeout)
        };
        match put {
            Ok(count) => {
                for chunk in state.backlog.drain(..count) {
                    chunk.job.put(state.first + state.put.len() as u64);
                    state.unfinished += 1;
                    state.put_bytes += chunk.len();
                    state.put.push_back(Some(chunk));
                }
                Ok(true)
            }
            Err(Errno::Again | Errno::Timedout) => Ok(false),
            Err(Errno::Msgsize) => {
                let chunk = state.backlog.pop_front();
                drop(borrowed);
                chunk.into_iter().for_each(|chunk| self.too_large(&chunk));
                Ok(true)
            }
            Err(other) => Err(other),
        }
    }

    /// Handles a chunk that doesn't fit into the arena: its tasks are done one by one, or, if it is a single task,
    /// the task fails.
    fn too_large(&self, chunk: &Chunk) {
        if chunk.parts > 1 {
            (0..chunk.parts).rev().for_each(|part| self.again(chunk.slice(part, part + 1)));
        } else {
            self.fail(chunk, 0, chunk.error(0, Cause::TooLarge, None));
            self.tell(chunk.job.clone());
        }
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
        matches!(self.state.borrow().phase, Phase::Ended(_))
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
            let workers = state.workers.iter().map(|worker| worker.process.handle());
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
            let Some(chunk) = state.put.front().and_then(Option::as_ref) else { return false };
            let nanos = state.nanos.get(&chunk.callee.function).map_or(0, |nanos| u64::from(*nanos));
            nanos * u64::from(chunk.parts) * state.unfinished as u64 / state.workers.len().max(1) as u64
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

    /// Takes the results that there are. Returns whether there were any.
    fn collect(&self) -> bool {
        let mut inbox =
            self.inbox.take().unwrap_or_else(|| Inbox { bytes: vec![0; BUFFER], lens: vec![0; RESULTS] });
        let collected = self.collect_into(&mut inbox);
        self.inbox.set(Some(inbox));
        if let Err(errno) = collected {
            self.end(PoolEnd::Host(errno));
        }
        self.call_back();
        collected == Ok(true)
    }

    fn collect_into(&self, inbox: &mut Inbox) -> Result<bool, Errno> {
        let results = self.results.handle();
        let got = match raw::queue::get_many(results, &mut inbox.bytes, &mut inbox.lens, NO_WAIT) {
            Err(Errno::Again | Errno::Closed) => return Ok(false),
            got => got?,
        };
        if got == 0 {
            return match self.collect_large() {
                Ok(()) => Ok(true),
                Err(Errno::Again) => Ok(false),
                Err(errno) => Err(errno),
            };
        }
        let mut bytes = &*inbox.bytes;
        for len in inbox.lens.get(..got).ok_or(Errno::Io)? {
            let (result, rest) = bytes.split_at_checked(*len as usize).ok_or(Errno::Io)?;
            bytes = rest;
            self.arrived(result, Handles::default());
        }
        Ok(true)
    }

    /// Takes results that aren't for a batch, because they are large, or have handles.
    fn collect_large(&self) -> Result<(), Errno> {
        let item = raw::queue::get(self.results.handle(), &mut [], NO_WAIT)?;
        let mut start = [0; BEFORE_ONLY];
        raw::queue::peek(&mut start)?;
        let (head, behind) = ResultHead::read(&start).ok_or(Errno::Io)?;
        if head.number != NO_NUMBER && head.parts == 1 && only_part(behind, item) == Some(Kind::Value) {
            let value = Encoded::Held(item, BEFORE_ONLY);
            match self.accept(head) {
                Some((chunk, _)) if chunk.parts != 0 => {
                    self.count(|stats| stats.succeeded += 1);
                    chunk.job.value(chunk.first, value, false);
                    self.done(chunk, 1);
                }
                _ => value.discard(),
            }
            return Ok(());
        }
        match message::take(item, &mut []) {
            Ok((bytes, handles)) => self.arrived(&bytes, handles),
            Err(Failure::Host(errno)) => return Err(errno),
            Err(Failure::OutOfMemory) => self.lost(head),
        }
        Ok(())
    }

    /// Handles a message whose results have no memory.
    #[cold]
    fn lost(&self, head: ResultHead) {
        let Some((chunk, label)) = self.accept(head) else { return };
        let count = head.parts.min(chunk.parts);
        for part in 0..count {
            let cause = Cause::Decode(Failure::OutOfMemory.to_string());
            self.fail(&chunk, part, chunk.error(part, cause, label.as_ref()));
        }
        self.done(chunk, count);
    }

    pub(super) fn call_back(&self) {
        loop {
            // Not in the condition of the loop, where the borrow would last.
            let job = self.told.borrow_mut().pop_front();
            match job {
                Some(job) => job.call_back(),
                None => return,
            }
        }
    }

    /// Has a job call back, when no result is under way.
    pub(super) fn tell(&self, job: Rc<dyn Job>) {
        self.told.borrow_mut().push_back(job);
    }

    /// Handles a message from a worker.
    fn arrived(&self, message: &[u8], mut handles: Handles) {
        let Some((head, results)) = ResultHead::read(message) else { return };
        if head.number == NO_NUMBER {
            return self.heard(head, results);
        }
        let Some((chunk, label)) = self.accept(head) else { return };
        let count = head.parts.min(chunk.parts);
        // Most results are plain values, one after another.
        let (mut index, mut rest) = chunk.job.values(chunk.first, count, results);
        self.count(|stats| stats.succeeded += u64::from(index));
        while index < count
            && let Some((part, behind)) = split_part(rest)
        {
            let own = handles.split_first(part.handles);
            self.deliver(&chunk, index, part.kind, part.bytes, own, label.as_ref());
            rest = behind;
            index += 1;
        }
        drop(handles);
        self.done(chunk, index);
    }

    /// Returns the tasks whose results a message has, without those that nobody waits for, and the worker's label.
    #[inline(always)]
    fn accept(&self, head: ResultHead) -> Option<(Chunk, Option<Label>)> {
        let (chunk, label) = {
            let mut state = self.state.borrow_mut();
            let worker = state.workers.iter_mut().find(|worker| worker.number == head.worker);
            let label = worker.map(|worker| {
                worker.is_leaving |= head.note & LEAVING != 0;
                worker.label.clone()
            });
            let chunk = if head.note & MORE != 0 {
                partly_finished(&mut state, head.number, head.parts)
            } else {
                finished(&mut state, &self.marks, head.number, head.nanos).map(Chunk::rest)
            };
            (chunk, label)
        };
        if head.note & LEAVING != 0 {
            // The next worker begins while that one ends.
            self.keep_going();
        }
        let chunk = chunk.filter(|chunk| !chunk.is_dropped())?;
        if head.note & CANCELLED != 0 {
            // The mark belongs to another task: the task wasn't begun.
            self.again(chunk);
            return None;
        }
        Some((chunk, label))
    }

    /// Notes that the first tasks of a chunk have been delivered; the others are given out again.
    #[inline(always)]
    fn done(&self, chunk: Chunk, tasks: u32) {
        if tasks < chunk.parts {
            self.again(chunk.slice(tasks, chunk.parts));
        }
        self.tell(chunk.job);
    }

    /// Delivers the result of one task of a chunk.
    fn deliver(
        &self,
        chunk: &Chunk,
        part: u32,
        kind: Kind,
        bytes: &[u8],
        handles: Handles,
        worker: Option<&Label>,
    ) {
        let text = || String::from_utf8_lossy(bytes).into_owned();
        let cause = match kind {
            Kind::Failure if chunk.attempts < chunk.terms.retries => {
                return self.retry(chunk, part);
            }
            Kind::Value | Kind::Failure => {
                let failed = kind == Kind::Failure;
                self.count(|stats| if failed { stats.failed += 1 } else { stats.succeeded += 1 });
                let value = Encoded::Here(bytes, handles);
                return chunk.job.value(chunk.first + part as usize, value, failed);
            }
            Kind::Encode => Cause::Encode(text()),
            Kind::Decode => Cause::Decode(text()),
            Kind::TooLarge => Cause::TooLarge,
        };
        self.fail(chunk, part, chunk.error(part, cause, worker));
    }

    /// Handles a failed task of a chunk: the task is tried again, or its job is told.
    fn fail(&self, chunk: &Chunk, part: u32, error: TaskError) {
        let may_help = matches!(error.cause(), Cause::Panicked(_) | Cause::Ended(_) | Cause::TimedOut(_));
        if may_help && chunk.attempts < chunk.terms.retries {
            return self.retry(chunk, part);
        }
        self.count(|stats| stats.failed += 1);
        chunk.job.error(error);
    }

    fn count(&self, change: impl FnOnce(&mut Stats)) {
        change(&mut self.state.borrow_mut().stats);
    }

    fn retry(&self, chunk: &Chunk, part: u32) {
        log!(Level::DEBUG, "trying task {} again", chunk.first + part as usize);
        self.count(|stats| stats.retried += 1);
        let mut again = chunk.slice(part, part + 1);
        again.attempts += 1;
        self.again(again);
    }

    /// Gives a chunk out again, before others.
    fn again(&self, mut chunk: Chunk) {
        chunk.mark = 0;
        if chunk.parts != 0 {
            self.state.borrow_mut().backlog.push_front(chunk);
        }
    }

    /// Checks whether workers have ended, or take too long; replaces missing workers. Returns whether there was
    /// anything.
    fn look_after_workers(&self) -> bool {
        self.rounds.set(0);
        if self.is_ended() {
            return false;
        }
        let handles: Vec<_> =
            self.state.borrow().workers.iter().map(|worker| worker.process.handle()).collect();
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

    /// Whether a worker that wasn't ready may have ended by no fault of the program: somebody has killed it. Repeated
    /// deaths aren't chance.
    fn is_by_chance(&self, status: ExitStatus) -> bool {
        let mut state = self.state.borrow_mut();
        state.killed_unready += 1;
        matches!(status, ExitStatus::Signaled(_))
            && !self.plan.has_initializer
            && state.killed_unready <= UNREADY_MAX
    }

    /// Handles the end of a worker. Of the tasks that it had claimed, the one that it worked on has failed; all others
    /// are given out again.
    fn bury(&self, handle: u64) {
        let mut worker = {
            let mut state = self.state.borrow_mut();
            let Some(place) = state.workers.iter().position(|worker| worker.process.handle() == handle)
            else {
                return;
            };
            state.workers.remove(place)
        };
        // Before the join, which gives the process's place back.
        let (claims, status) = match (raw::task::claims(handle), worker.process.join()) {
            (Ok(claims), Ok(status)) => (claims, status),
            (Err(errno), _) | (_, Err(Error::Host(errno))) => return self.end(PoolEnd::Host(errno)),
            (_, Err(_)) => return self.end(PoolEnd::Host(Errno::Child)),
        };
        if !worker.is_ready && !self.is_by_chance(status) {
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
            self.count(|stats| stats.lost += 1);
        }
        // Backwards, because each goes before the others.
        for number in (claims.first..claims.end).rev() {
            let chunk = finished(&mut self.state.borrow_mut(), &self.marks, number, 0);
            let Some(chunk) = chunk.filter(|chunk| !chunk.is_dropped()) else { continue };
            // If the result isn't here, though the task was done, the process has ended in its last put.
            let has_begun = number == claims.first && (claims.work != 0 || claims.part == DELIVERED);
            if !has_begun {
                self.again(chunk);
                continue;
            }
            let part = self.deliver_saved(&chunk, &worker);
            let cause = match worker.killed {
                Some((work, timeout)) if work == claims.work => Cause::TimedOut(timeout),
                _ => worker.panic.take().map_or(Cause::Ended(status), Cause::Panicked),
            };
            self.again(chunk.slice(part + 1, chunk.parts));
            let error = chunk.error(part, cause, Some(&worker.label));
            self.fail(&chunk, part, error.with_stderr(worker.process.stderr()));
            self.tell(chunk.job);
        }
    }

    /// Delivers the finished results of a chunk from a worker that has ended, and returns the index of the task that
    /// the worker was at.
    fn deliver_saved(&self, chunk: &Chunk, worker: &Worker) -> u32 {
        let mut next = chunk.done;
        if chunk.parts > 1 {
            worker.saved.read(|index, part| {
                // Results that have arrived may be there once more.
                if index == next && index < chunk.parts - 1 {
                    self.deliver(
                        chunk,
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
        for worker in &mut state.workers {
            let Some((timeout, claims)) = at_work(worker, &state.put, state.first) else { continue };
            let is_late = now.saturating_sub(claims.since) >= nanoseconds(timeout);
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
    fn next_timeout(&self) -> Option<u64> {
        let state = self.state.borrow();
        // A task that begins meanwhile takes at least as long as that.
        let shortest = state.shortest.filter(|_| state.unfinished > 0).map(nanoseconds)?;
        let now = raw::clock::monotonic();
        let left = state.workers.iter().filter_map(|worker| {
            let (timeout, claims) = at_work(worker, &state.put, state.first)?;
            Some(nanoseconds(timeout).saturating_sub(now.saturating_sub(claims.since)))
        });
        Some(left.fold(shortest, u64::min).max(1))
    }

    /// Starts missing workers. The reason why the only worker can't be started now, a guard that this process has for a
    /// moment or a limit that others have reached, may pass: the refusal is kept, and each step tries again.
    fn keep_going(&self) {
        let started = self.start_missing();
        let mut state = self.state.borrow_mut();
        state.refused = match started {
            Err(error) if state.workers.is_empty() => {
                let tries = state.refused.as_ref().map_or(0, |refused| refused.tries);
                Some(Refusal { why: error.to_string(), tries })
            }
            _ => None,
        };
    }

    /// Notes that somebody waits for a worker that can't be started. Returns whether it was tried often enough.
    fn has_tried_enough(&self) -> bool {
        let mut state = self.state.borrow_mut();
        let Some(refused) = &mut state.refused else { return false };
        refused.tries = (refused.tries + 1).min(TRIES);
        refused.tries == TRIES
    }

    /// Fails all tasks when no worker can be started, because whoever waits for them may be the cause that no worker starts.
    /// The pool goes on with later tasks.
    fn give_up(&self) {
        // Finished results count.
        while self.collect() {}
        let why = self.state.borrow().refused.as_ref().map(|refused| refused.why.clone());
        let end = PoolEnd::NoWorker(why.unwrap_or_default());
        // The next worker would do the tasks in the old queue.
        let Ok(tasks) = PoolQueue::new(CLAIMED) else { return self.end(end) };
        let chunks = {
            let mut state = self.state.borrow_mut();
            let state = &mut *state;
            let numbers = state.first..state.first + state.put.len() as u64;
            let put: Vec<_> = numbers.filter_map(|number| finished(state, &self.marks, number, 0)).collect();
            // The numbers are those of the queue.
            (state.tasks, state.first) = (tasks, 0);
            put.into_iter().map(Chunk::rest).chain(state.backlog.drain(..)).collect::<Vec<_>>()
        };
        for chunk in chunks.iter().filter(|chunk| !chunk.is_dropped()) {
            self.fail_all(chunk, &end);
        }
        self.call_back();
    }

    fn start_missing(&self) -> Result<(), Error> {
        loop {
            let (number, name, tasks) = {
                let mut state = self.state.borrow_mut();
                let staying = state.workers.iter().filter(|worker| !worker.is_leaving).count();
                let has_work = state.unfinished + state.backlog.len() > 0;
                let is_over = match state.phase {
                    Phase::Running => false,
                    Phase::Closed => !has_work,
                    Phase::Ended(_) => true,
                };
                if is_over || staying >= state.wanted {
                    return Ok(());
                }
                state.stats.started += 1;
                let number = u32::try_from(state.stats.started).unwrap_or(u32::MAX);
                (number, format!("{}-{}", self.plan.name, state.stats.started), state.tasks.clone())
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
                    let label = (Rc::from(name), process.pid());
                    state.workers.push(Worker {
                        process,
                        number,
                        label,
                        is_ready: false,
                        is_leaving: false,
                        killed: None,
                        panic: None,
                        saved,
                    });
                }
                Err(error) => {
                    state.stats.started -= 1;
                    return Err(error);
                }
            }
        }
    }

    /// Takes no more tasks.
    pub(super) fn close(&self) {
        log!(Level::DEBUG, "closing pool");
        let mut state = self.state.borrow_mut();
        if state.phase == Phase::Running {
            state.phase = Phase::Closed;
        }
    }

    /// Waits until all tasks are done and all workers have ended.
    pub(super) fn join(&self, deadline: Deadline) -> Result<(), PoolError> {
        if !self.is_owner() {
            return Err(PoolError::NotOwner);
        }
        match &self.state.borrow().phase {
            Phase::Running => return Err(PoolError::StillRunning),
            Phase::Ended(PoolEnd::Terminated) => return Ok(()),
            Phase::Ended(end) => return Err(PoolError::Ended(end.clone())),
            Phase::Closed => {}
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
        let mut workers = std::mem::take(&mut self.state.borrow_mut().workers);
        while let Some(worker) = workers.last() {
            if worker.process.join_until(deadline)?.is_none() {
                self.state.borrow_mut().workers = workers;
                return Err(PoolError::TimedOut);
            }
            workers.pop();
        }
        self.state.borrow_mut().phase = Phase::Ended(PoolEnd::Terminated);
        Ok(())
    }

    /// Whether something is still to be done.
    pub(super) fn has_work(&self) -> bool {
        let state = self.state.borrow();
        state.unfinished + state.backlog.len() > 0
    }

    /// Kills all workers. Tasks that aren't done fail.
    pub(super) fn terminate(&self) {
        // Finished results count.
        while self.collect() {}
        self.end(PoolEnd::Terminated);
        self.call_back();
    }

    fn end(&self, why: PoolEnd) {
        let (workers, chunks) = {
            let mut state = self.state.borrow_mut();
            let state = &mut *state;
            if let Phase::Ended(_) = state.phase {
                return;
            }
            state.phase = Phase::Ended(why.clone());
            (std::mem::take(&mut state.workers), state.put.drain(..).flatten().collect::<Vec<_>>())
        };
        log!(Level::DEBUG, "terminating pool: {why}");
        // A worker that can't be killed or waited for doesn't exist any more.
        for worker in &workers {
            let _ = worker.process.kill();
        }
        for worker in &workers {
            let _ = worker.process.join();
        }
        let backlog = std::mem::take(&mut self.state.borrow_mut().backlog);
        self.state.borrow_mut().unfinished = 0;
        for chunk in chunks.into_iter().map(Chunk::rest).chain(backlog).filter(|chunk| !chunk.is_dropped()) {
            self.fail_all(&chunk, &why);
        }
    }

    /// Fails all tasks of a chunk, because they are never done.
    fn fail_all(&self, chunk: &Chunk, end: &PoolEnd) {
        for part in 0..chunk.parts {
            self.fail(chunk, part, chunk.error(part, Cause::Pool(end.clone()), None));
        }
        self.tell(chunk.job.clone());
    }

    /// Changes the number of workers that the pool is meant to have.
    pub(super) fn resize(&self, processes: usize) -> Result<(), PoolError> {
        check_count(processes)?;
        self.check_running()?;
        let before = std::mem::replace(&mut self.state.borrow_mut().wanted, processes);
        self.marks.set_workers(processes);
        if let Some(fewer) = before.checked_sub(processes)
            && fewer > 0
        {
            self.marks.have_leave(u32::try_from(fewer).unwrap_or(u32::MAX));
            // A worker that waits for a task gets one without work, and checks then.
            let nobody: Rc<dyn Job> = Rc::new(Nobody);
            for _ in 0..fewer {
                let nudge = Chunk::new(nobody.clone(), NOTHING, Terms::default(), 0);
                self.state.borrow_mut().backlog.push_back(nudge);
            }
            self.pump();
        }
        Ok(self.start_missing()?)
    }

    /// Cancels the task that was put with this number, or not yet. Returns whether the task hadn't begun.
    pub(super) fn cancel(&self, number: Option<u64>) -> bool {
        let mut state = self.state.borrow_mut();
        let may = number.is_none_or(|number| {
            let place = number.checked_sub(state.first).and_then(|place| usize::try_from(place).ok());
            let chunk = place.and_then(|place| state.put.get_mut(place)).and_then(Option::as_mut);
            // A chunk that was given out again is in the backlog.
            chunk.is_none_or(|chunk| {
                chunk.is_cancelled = self.marks.take(chunk.mark);
                chunk.is_cancelled
            })
        });
        if may {
            state.stats.cancelled += 1;
        }
        may
    }

    /// Whether the task that was put with this number has begun.
    pub(super) fn has_begun(&self, number: u64) -> bool {
        let state = self.state.borrow();
        let place = number.checked_sub(state.first).and_then(|place| usize::try_from(place).ok());
        let chunk = place.and_then(|place| state.put.get(place)).and_then(Option::as_ref);
        chunk.is_some_and(|chunk| !chunk.is_cancelled && self.marks.is_taken(chunk.mark))
    }

    /// Cancels all single tasks that haven't begun.
    pub(super) fn cancel_waiting(&self) {
        let mut told = Vec::new();
        {
            let mut state = self.state.borrow_mut();
            let state = &mut *state;
            state.backlog.retain(|chunk| {
                let is_waiting = chunk.job.is_single() && !chunk.is_dropped();
                if is_waiting {
                    chunk.job.cancel();
                    told.push(chunk.job.clone());
                }
                !is_waiting
            });
            for chunk in state.put.iter_mut().flatten().filter(|chunk| !chunk.is_dropped()) {
                if chunk.job.is_single() && self.marks.take(chunk.mark) {
                    chunk.is_cancelled = true;
                    chunk.job.cancel();
                    told.push(chunk.job.clone());
                }
            }
            state.stats.cancelled += told.len() as u64;
        }
        told.into_iter().for_each(|job| self.tell(job));
        self.call_back();
    }

    /// Cancels the tasks that haven't begun of a job that reports that it is cancelled.
    pub(super) fn cancel_all(&self, job: &Rc<dyn Job>) {
        let mut state = self.state.borrow_mut();
        let state = &mut *state;
        let mut cancelled = 0;
        state.backlog.retain(|chunk| {
            let is_it = Rc::ptr_eq(&chunk.job, job);
            cancelled += if is_it { u64::from(chunk.parts) } else { 0 };
            !is_it
        });
        for chunk in state.put.iter_mut().flatten().filter(|chunk| Rc::ptr_eq(&chunk.job, job)) {
            if self.marks.take(chunk.mark) {
                chunk.is_cancelled = true;
                cancelled += u64::from(chunk.parts);
            }
        }
        state.stats.cancelled += cancelled;
    }

    /// Handles a message of a worker that isn't a result.
    fn heard(&self, head: ResultHead, text: &[u8]) {
        let mut state = self.state.borrow_mut();
        let Some(worker) = state.workers.iter_mut().find(|worker| worker.number == head.worker) else {
            return;
        };
        match head.note {
            READY => {
                worker.is_ready = true;
                state.killed_unready = 0;
            }
            NOT_READY if self.plan.has_initializer && !worker.is_ready => {
                let text = split_part(text).map(|(part, _)| part.bytes).unwrap_or_default();
                let text = String::from_utf8_lossy(text).into_owned();
                drop(state);
                self.end(PoolEnd::Initializer(text));
            }
            PANICKED => {
                let text = split_part(text).map(|(part, _)| part.bytes).unwrap_or_default();
                worker.panic = Some(String::from_utf8_lossy(text).into_owned());
            }
            _ => {}
        }
    }
}

/// Takes a chunk that was put, because it is finished, or its worker has ended.
fn finished(state: &mut State, marks: &Marks, number: u64, nanos: u32) -> Option<Chunk> {
    let place = usize::try_from(number.checked_sub(state.first)?).ok()?;
    let chunk = state.put.get_mut(place)?.take()?;
    while let Some(None) = state.put.front() {
        state.put.pop_front();
        state.first += 1;
    }
    state.unfinished -= 1;
    state.put_bytes -= chunk.len();
    if chunk.mark != 0 {
        marks.clear(chunk.mark);
        state.free_marks.push(chunk.mark);
    }
    if nanos != 0 {
        let known = state.nanos.entry(chunk.callee.function).or_insert(nanos);
        // The average follows changes, and a single task doesn't mislead it.
        *known = (*known / 4 * 3).saturating_add(nanos / 4).max(1);
    }
    Some(chunk)
}

/// Takes the next tasks of a chunk whose other tasks aren't finished.
fn partly_finished(state: &mut State, number: u64, parts: u32) -> Option<Chunk> {
    let place = usize::try_from(number.checked_sub(state.first)?).ok()?;
    let chunk = state.put.get_mut(place)?.as_mut()?;
    let from = chunk.done;
    chunk.done = from.saturating_add(parts).min(chunk.parts);
    Some(chunk.slice(from, chunk.done))
}

/// The time limit of the task that a worker is at, if it has one, and the worker's claims.
fn at_work(worker: &Worker, put: &VecDeque<Option<Chunk>>, first: u64) -> Option<(Duration, Claims)> {
    if worker.killed.is_some() {
        return None;
    }
    let claims = raw::task::claims(worker.process.handle()).ok().filter(|claims| claims.work != 0)?;
    let place = usize::try_from(claims.first.checked_sub(first)?).ok()?;
    let chunk = put.get(place)?.as_ref()?;
    Some((chunk.terms.timeout?, claims))
}

/// A job that nobody waits for.
struct Nobody;

impl Job for Nobody {
    fn values<'m>(&self, _: usize, _: u32, message: &'m [u8]) -> (u32, &'m [u8]) {
        (0, message)
    }

    fn value(&self, _: usize, value: Encoded<'_>, _: bool) {
        value.discard();
    }

    fn error(&self, _: TaskError) {}
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
