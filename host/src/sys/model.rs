//! Many processes in one thread, in an order that shuttle chooses: the ground on which the [models](crate::ipc) of the
//! arena run. This module exists in test builds only.
//!
//! The code of the arena is the same as in production. But each access to an [atomic](super::atomic) of the arena, each
//! copy of bytes and each system call is a point at which another process may go on, and at which a process may die.
//!
//! * **Stores** go through a buffer of the process, in order, and leave it at any time, as on a processor with total
//!   store order, such as x86. A barrier empties the buffer: a fence, a read-modify-write, a system call.
//! * **The futex** is a list of sleepers with their addresses, oldest first.
//! * **Death** means that a process doesn't go on. Others see the stores that it has made; nothing is unwound before
//!   the model is over.
//! * **Time** passes when [`tick`] says so.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a panic is how a model fails"
)]

use std::cell::{Cell as Flag, RefCell};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use shuttle::current::me;
use shuttle::rand::{Rng as _, thread_rng};
use shuttle::sync::atomic::AtomicBool;
use shuttle::thread::{self, Thread};

thread_local! {
    /// All tasks of a model run in one thread.
    static MODEL: RefCell<Option<Model>> = const { RefCell::new(None) };
    /// Whether the processes of the model run.
    static RUNNING: Flag<bool> = const { Flag::new(false) };
}

struct Model {
    /// A load of this atomic is a point for shuttle.
    point: Arc<AtomicBool>,
    /// One access in `stretch` is a point: few processes change places often, or many seldom.
    stretch: u32,
    /// The processes by the number of their task in shuttle.
    processes: Vec<Process>,
    /// Oldest first.
    asleep: Vec<Sleeper>,
    clock: Duration,
    /// Called when a process has died.
    on_death: Arc<dyn Fn()>,
    /// The dead processes may unwind and end.
    is_over: bool,
}

#[derive(Default)]
struct Process {
    /// Stores that others don't see yet, oldest first.
    stores: VecDeque<(Target, u64)>,
    /// The process dies after this number of points.
    dies_in: Option<u32>,
    dead: Option<Thread>,
}

struct Sleeper {
    address: usize,
    thread: Thread,
    until: Option<Duration>,
}

/// An integer of the arena.
#[derive(Clone, Copy)]
pub(super) enum Cell<'a> {
    U32(&'a AtomicU32),
    U64(&'a AtomicU64),
}

#[derive(Clone, Copy, PartialEq)]
enum Target {
    U32(*const AtomicU32),
    U64(*const AtomicU64),
}

impl From<Cell<'_>> for Target {
    fn from(cell: Cell<'_>) -> Self {
        match cell {
            Cell::U32(cell) => Self::U32(cell),
            Cell::U64(cell) => Self::U64(cell),
        }
    }
}

impl Target {
    fn set(self, value: u64) {
        // SAFETY: the integers lie in the arena, which lives as long as the process whose store this is: it empties its
        // buffer before it ends, or dies and isn't unwound while there is something in it.
        unsafe {
            match self {
                Self::U32(cell) => (*cell).store(value as u32, Ordering::SeqCst),
                Self::U64(cell) => (*cell).store(value, Ordering::SeqCst),
            }
        }
    }
}

impl Model {
    fn process(&mut self) -> &mut Process {
        let task = usize::from(me());
        if self.processes.len() <= task {
            self.processes.resize_with(task + 1, Process::default);
        }
        &mut self.processes[task]
    }
}

fn with<T>(look: impl FnOnce(&mut Model) -> T) -> T {
    MODEL.with_borrow_mut(|model| look(model.as_mut().expect("a model runs")))
}

/// Begins a model. The model is in setup until [`run`]: nothing in it happens at the same time as anything else.
pub(crate) fn begin() {
    let model = Model {
        point: Arc::new(AtomicBool::new(false)),
        stretch: 1 << thread_rng().gen_range(0..6),
        processes: Vec::new(),
        asleep: Vec::new(),
        clock: Duration::from_secs(1),
        on_death: Arc::new(|| {}),
        is_over: false,
    };
    MODEL.set(Some(model));
}

/// Does `work`, which starts the processes and awaits the end of all that don't die. Then the dead processes may end,
/// and the function that `work` has returned awaits them.
pub(crate) fn run<F: FnOnce()>(on_death: impl Fn() + 'static, work: impl FnOnce() -> F) {
    with(|model| model.on_death = Arc::new(on_death));
    RUNNING.set(true);
    let await_dead = work();
    RUNNING.set(false);
    let dead: Vec<_> = with(|model| {
        model.is_over = true;
        model.processes.iter().filter_map(|process| process.dead.clone()).collect()
    });
    dead.iter().for_each(Thread::unpark);
    await_dead();
    MODEL.set(None);
}

/// Does the work of a process. A mortal process may die at any point. Returns whether the process came to its end.
pub(crate) fn process(mortal: bool, work: impl FnOnce()) -> bool {
    if mortal {
        // Early points are chosen often, late ones often enough.
        let most = 32 << thread_rng().gen_range(0..6);
        with(|model| model.process().dies_in = Some(thread_rng().gen_range(0..most)));
    }
    let done = catch_unwind(AssertUnwindSafe(|| {
        work();
        before_barrier();
    }));
    with(|model| model.process().dies_in = None);
    match done {
        Ok(()) => true,
        Err(cause) if cause.is::<Death>() => false,
        Err(cause) => resume_unwind(cause),
    }
}

/// The panic payload that unwinds a dead process when the model is over.
struct Death;

fn die() -> ! {
    empty_buffer();
    let on_death = with(|model| {
        model.process().dies_in = None;
        model.process().dead = Some(thread::current());
        model.on_death.clone()
    });
    on_death();
    while with(|model| !model.is_over) {
        thread::park();
    }
    resume_unwind(Box::new(Death))
}

/// The number of the process, for [`kill`].
pub(crate) fn current() -> usize {
    usize::from(me())
}

/// Sends SIGKILL to a process that doesn't sleep: the process dies at one of its next points, unless it ends before.
pub(crate) fn kill(process: usize) {
    with(|model| model.processes[process].dies_in = Some(thread_rng().gen_range(0..8)));
}

/// Waits, in a process that was sent SIGKILL, until it dies of that; the process does nothing any more.
pub(super) fn await_death() -> ! {
    while with(|model| model.process().dies_in.is_none()) {
        switch();
    }
    die()
}

/// Removes dead processes from the sleepers.
pub(crate) fn bury() {
    with(|model| {
        let dead: Vec<_> =
            model.processes.iter().filter_map(|process| Some(process.dead.as_ref()?.id())).collect();
        model.asleep.retain(|sleeper| !dead.contains(&sleeper.thread.id()));
    });
}

/// The number of sleepers.
pub(crate) fn asleep() -> usize {
    with(|model| model.asleep.len())
}

/// Moves the clock on by a second: deadlines within it are over.
pub(crate) fn tick() {
    let clock = with(|model| {
        model.clock += Duration::from_secs(1);
        model.clock
    });
    wake_those(usize::MAX, |sleeper| sleeper.until.is_some_and(|until| until <= clock));
}

/// Whether this thread runs a process of a model. A process that unwinds no longer counts.
#[inline]
pub(super) fn is_running() -> bool {
    RUNNING.get() && !std::thread::panicking()
}

/// The time of the model's clock.
pub(super) fn clock() -> Option<Duration> {
    MODEL.with_borrow(|model| model.as_ref().map(|model| model.clock))
}

/// A point at which others may go on, and this process may die.
#[inline]
pub(crate) fn point() {
    if is_running() {
        pass();
    }
}

#[cold]
fn pass() {
    let dies = with(|model| {
        let process = model.process();
        match &mut process.dies_in {
            Some(0) => true,
            Some(points) => {
                *points -= 1;
                false
            }
            None => false,
        }
    });
    if dies {
        die();
    }
    let stretch = with(|model| model.stretch);
    if thread_rng().gen_ratio(1, stretch) {
        switch();
    }
    while with(|model| !model.process().stores.is_empty()) && thread_rng().gen_ratio(1, 3) {
        empty_by_one();
        if thread_rng().gen_ratio(1, stretch) {
            switch();
        }
    }
}

fn switch() {
    let point = with(|model| model.point.clone());
    point.load(Ordering::SeqCst);
}

/// Lets others go on, in a loop that looks again.
pub(crate) fn pause() {
    if is_running() {
        pass();
        switch();
    }
}

fn empty_by_one() {
    if let Some((target, value)) = with(|model| model.process().stores.pop_front()) {
        target.set(value);
    }
}

fn empty_buffer() {
    while with(|model| !model.process().stores.is_empty()) {
        empty_by_one();
    }
}

/// The process's own store to this cell, if others don't see it yet.
#[inline]
pub(super) fn before_load(cell: Cell<'_>) -> Option<u64> {
    if !is_running() {
        return None;
    }
    pass();
    let target = Target::from(cell);
    with(|model| model.process().stores.iter().rfind(|(at, _)| *at == target).map(|(_, value)| *value))
}

/// Takes a store into the buffer; returns whether the model runs, and has taken it.
#[inline]
pub(super) fn takes_store(cell: Cell<'_>, value: u64, order: Ordering) -> bool {
    if !is_running() {
        return false;
    }
    pass();
    with(|model| model.process().stores.push_back((cell.into(), value)));
    if order == Ordering::SeqCst {
        empty_buffer();
    }
    true
}

/// Makes the process's stores seen before anything that follows.
#[inline]
pub(super) fn before_barrier() {
    if is_running() {
        pass();
        empty_buffer();
    }
}

/// The futex: sleeps while the word is as expected.
pub(super) fn wait(word: *const u32, expected: u32, until: Option<Duration>) {
    before_barrier();
    die_now_and_then();
    let me = thread::current();
    // SAFETY: the caller's word is a live, aligned u32, which is only ever accessed as an atomic.
    let value = unsafe { AtomicU32::from_ptr(word.cast_mut()) };
    let sleeps = with(|model| {
        let sleeps =
            value.load(Ordering::SeqCst) == expected && until.is_none_or(|until| until > model.clock);
        if sleeps {
            model.asleep.push(Sleeper { address: word.addr(), thread: me.clone(), until });
        }
        sleeps
    });
    if !sleeps {
        return;
    }
    die_now_and_then();
    while with(|model| model.asleep.iter().any(|sleeper| sleeper.thread.id() == me.id())) {
        thread::park();
    }
    die_now_and_then();
}

/// Few instructions are here, and the most can go wrong here.
fn die_now_and_then() {
    if with(|model| model.process().dies_in.is_some()) && thread_rng().gen_ratio(1, 8) {
        die();
    }
}

/// The futex: wakes the oldest sleepers. Returns the number of woken sleepers.
pub(super) fn wake(word: *const u32, count: i32) -> u32 {
    before_barrier();
    wake_those(count as usize, |sleeper| sleeper.address == word.addr()) as u32
}

fn wake_those(most: usize, are: impl Fn(&Sleeper) -> bool) -> usize {
    let woken: Vec<_> = with(|model| {
        let mut left = most;
        let wakes = |sleeper: &mut Sleeper| {
            left != 0 && are(sleeper) && {
                left -= 1;
                true
            }
        };
        model.asleep.extract_if(.., wakes).collect()
    });
    woken.iter().for_each(|sleeper| sleeper.thread.unpark());
    woken.len()
}
