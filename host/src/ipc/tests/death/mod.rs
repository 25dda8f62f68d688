//! Death at each instruction.
//!
//! A process is forked, stepped through an operation one instruction at a time, and killed: at the first instruction,
//! at the second, and so on to the last. Each time, the supervisor's sweep must leave an arena on which others go on
//! working: the operation has happened as a whole or not at all, and in the end the arena is empty.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

macro_rules! tests {
    ($($name:ident)*) => {
        mod killed_in {
            $(#[test]
            fn $name() {
                $crate::ipc::tests::death::alone(concat!(module_path!(), "::", stringify!($name)), super::$name);
            })*
        }
    };
}

mod barriers;
mod byte_pipes;
mod conditions;
mod events;
mod locks;
mod objects;
mod pipes;
mod processes;
mod queues;
mod semaphores;
mod shared_memory;
mod shelves;

use std::cell::{Cell, RefCell};
use std::process::Command;
use std::sync::Arc;

use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::ipc::arena::{Arena, Geometry, Participant, Patience};
use crate::ipc::object::{self, Handle, count_live};
use crate::ipc::queue::{self, Account};
use crate::ipc::sweep::{Sweep, sweep};
use crate::ipc::sync::barrier::Arrival;
use crate::ipc::sync::{condition, event, lock};
use crate::ipc::tests::common::{copy, port};
use crate::sys::atomic::AtomicU32;
use crate::sys::clone::{self, Fork, Parent};
use crate::sys::futex::Deadline;
use crate::sys::process::exit_now;
use crate::testing::deadline::output_within_deadline;

/// More processes than a tally has entries for.
const PROCESSES: u32 = 42;

/// The process that is killed.
const VICTIM: u32 = 0;

/// A process that lives.
const SURVIVOR: u32 = 1;

/// A process that comes after the death.
const OTHER: u32 = 2;

/// The largest item here. An item that carries a handle has a run of pages of its own, whatever its size; so no item
/// has to be so long that copying it takes thousands of instructions.
const LARGE: usize = 1300;

/// The most points at which an operation is killed: of a longer operation, only some points are tried, evenly spread.
const POINTS: usize = 500;

/// The most instructions that are stepped through for all points of an operation together.
const STEPS: usize = 500_000;

/// The operation in which the process dies, with as little else as possible. The buffer is as long as the largest item.
type Operation = fn(&World, &Participant, &mut [u8]);

struct World {
    arena: Arc<Arena>,
    /// Held by victim and survivor.
    queue: Handle,
    /// Held by both as well; messages carry this one.
    other: Handle,
    /// Other objects, which a test makes.
    made: RefCell<Vec<Handle>>,
    /// The survivor's arrival at a barrier.
    arrival: Cell<Option<Arrival>>,
}

impl World {
    fn new() -> Self {
        let geometry = Geometry { processes_max: PROCESSES, objects_max: 8, heap_pages: 256 };
        let (_, arena) = Arena::create(geometry).unwrap();
        let arena = Arc::new(arena);
        let survivor = participant(&arena, SURVIVOR);
        let [queue, other] = [0, 0].map(|maxsize| {
            let queue = queue::create(&survivor, maxsize, Account::Nothing).unwrap();
            object::share(&survivor, queue, VICTIM).unwrap();
            queue
        });
        Self { arena, queue, other, made: RefCell::default(), arrival: Cell::default() }
    }

    /// Makes the victim a holder of an object that the survivor has made, and makes the survivor give it back in the
    /// end.
    fn add(&self, handle: Handle) {
        object::share(&self.survivor(), handle, VICTIM).unwrap();
        self.made.borrow_mut().push(handle);
    }

    /// One of the objects that a test has made.
    fn made(&self, at: usize) -> Handle {
        self.made.borrow()[at]
    }

    fn survivor(&self) -> Participant {
        self.participant(SURVIVOR)
    }

    fn participant(&self, index: u32) -> Participant {
        participant(&self.arena, index)
    }
}

fn participant(arena: &Arc<Arena>, index: u32) -> Participant {
    // Nobody is to wait here: the process for which a lock would wait is dead.
    Participant { arena: arena.clone(), index, patience: Patience::Brief }
}

fn put(participant: &Participant, queue: Handle, number: u8, len: usize, handles: &[Handle]) {
    put_bytes(participant, queue, &vec![number; len], handles);
}

fn put_bytes(participant: &Participant, queue: Handle, item: &[u8], handles: &[Handle]) {
    queue::put(participant, port(participant, queue), item, handles, Deadline::NOW).unwrap();
}

/// Takes an item into the buffer.
fn get_bytes(participant: &Participant, queue: Handle, buffer: &mut [u8]) -> Option<usize> {
    copy(
        participant,
        queue::get(participant, port(participant, queue), || false, buffer, Deadline::NOW).ok()?,
        buffer,
    )
}

/// Takes an item and returns its number, or `None` if there is no item. The item must be whole.
fn get(participant: &Participant, queue: Handle) -> Option<u8> {
    let mut buffer = vec![0; LARGE];
    let len = get_bytes(participant, queue, &mut buffer)?;
    let item = buffer.get(..len).unwrap();
    let number = *item.first().unwrap();
    assert!(item.iter().all(|byte| *byte == number), "item {number} is not whole");
    Some(number)
}

/// Forks a process that does `operation`, and kills it after `instructions` instructions. Returns how many it executed,
/// if it came to its end before that.
fn kill_after(world: &World, operation: Operation, instructions: usize) -> Option<usize> {
    let victim = world.participant(VICTIM);
    let pid = AtomicU32::new(0);
    let mut buffer = vec![9; LARGE];
    let child = match clone::fork(Parent::Caller, &pid).unwrap() {
        Fork::Child => {
            ptrace::traceme().unwrap();
            raise(Signal::SIGSTOP).unwrap();
            operation(world, &victim, &mut buffer);
            // This marks that the instructions of the operation are over.
            raise(Signal::SIGSTOP).unwrap();
            exit_now(0);
        }
        Fork::Parent(child) => Pid::from_raw(child),
    };
    assert_eq!(waitpid(child, None).unwrap(), WaitStatus::Stopped(child, Signal::SIGSTOP));
    let mut made = 0;
    let ended = loop {
        if made == instructions {
            break None;
        }
        ptrace::step(child, None).unwrap();
        match waitpid(child, None).unwrap() {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => made += 1,
            WaitStatus::Stopped(_, Signal::SIGSTOP) => break Some(made),
            other => panic!("after {made} instructions: {other:?}"),
        }
    };
    let _ = ptrace::kill(child);
    while !matches!(waitpid(child, None).unwrap(), WaitStatus::Signaled(..)) {}
    ended
}

/// Kills a process at each instruction of `operation`, and checks the arena each time.
fn at_each_instruction(prepare: impl Fn(&World), operation: Operation, check: fn(&World)) {
    let world = World::new();
    prepare(&world);
    let total = kill_after(&world, operation, usize::MAX).unwrap();
    let points = POINTS.min(STEPS / total.max(1));
    let step = total.div_ceil(points).max(1);
    for instructions in (0..=total).step_by(step) {
        let world = World::new();
        prepare(&world);
        kill_after(&world, operation, instructions);
        let supervisor = world.participant(PROCESSES);
        sweep(Sweep::from_dead(VICTIM, true), &supervisor)
            .unwrap_or_else(|error| panic!("at {instructions}: {error}"));
        check(&world);
        is_usable_and_then_empty(&world, instructions);
    }
}

/// The survivor works on, and after it has given back what it holds, the arena is empty.
fn is_usable_and_then_empty(world: &World, instructions: usize) {
    let survivor = world.participant(SURVIVOR);
    if object::find(&survivor, world.queue).is_ok() {
        put(&survivor, world.queue, 200, 100, &[]);
        put(&survivor, world.queue, 201, LARGE, &[world.other]);
        let last: Vec<_> = std::iter::from_fn(|| get(&survivor, world.queue)).collect();
        assert!(last.ends_with(&[200, 201]), "at {instructions}: {last:?}");
        object::release(&survivor, world.queue).unwrap();
    }
    object::release(&survivor, world.other).unwrap();
    for handle in world.made.borrow().iter() {
        // A test may have given the object back itself.
        let _ = object::release(&survivor, *handle);
    }
    assert_eq!(count_live(&world.arena), Ok(0), "objects are left at {instructions}");
    assert_eq!(world.arena.header().unwrap().heap.used_pages(), 0, "memory is left at {instructions}");
}

/// Takes all items of the queue, in order.
fn drain(world: &World) -> Vec<u8> {
    let survivor = world.participant(SURVIVOR);
    std::iter::from_fn(|| get(&survivor, world.queue)).collect()
}

fn nothing(_: &World) {}

/// Makes two free slots: slots that are used anew come in another order than new ones, the second before the first.
fn free_slots(world: &World) {
    let survivor = world.survivor();
    let made = [0, 1].map(|_| event::create(&survivor).unwrap());
    made.into_iter().for_each(|event| object::release(&survivor, event).unwrap());
}

/// The victim is the last holder of both ends of the pipe that `make` makes: it has closed one, and closes the other.
fn close_both_ends(make: fn(&World)) {
    at_each_instruction(
        |world| {
            make(world);
            let survivor = world.survivor();
            [0, 1].into_iter().for_each(|end| object::release(&survivor, world.made(end)).unwrap());
            object::release(&world.participant(VICTIM), world.made(1)).unwrap();
        },
        |world, victim, _| object::release(victim, world.made(0)).unwrap(),
        |world| assert_eq!(count_live(&world.arena), Ok(2)),
    );
}

/// A condition and its lock.
fn a_condition(world: &World) {
    world.add(condition::create(&world.survivor()).unwrap());
    world.add(lock::create(&world.survivor(), true).unwrap());
}

/// The variable that is set where this test runs again, in a process with one thread, so that all locks are free in the
/// processes that it forks.
const ALONE: &str = "SANDPOOL_TEST_ALONE";

fn alone(name: &str, test: fn()) {
    if std::env::var_os(ALONE).is_some() {
        return test();
    }
    let name = name.split_once("::").unwrap().1;
    let output = output_within_deadline(
        Command::new(std::env::current_exe().unwrap())
            .args([name, "--exact", "--test-threads=1", "--nocapture"])
            .env(ALONE, "1"),
    );
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
