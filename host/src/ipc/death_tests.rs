//! Death at each instruction.
//!
//! A process is forked, stepped through an operation one instruction at a time, and killed: at the first
//! instruction, at the second, and so on to the last. Each time, the supervisor's sweep must leave an arena on which
//! others go on working: the operation has happened as a whole or not at all, and in the end nothing is left.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::arena::{Arena, Geometry, Member, Patience};
use super::object::{self, Handle, count_live};
use super::process_table::Register;
use super::queue::{self, Taken};
use super::{heap, sweep};
use crate::sys::clone::{self, Fork, Parent};
use crate::sys::futex::Deadline;
use crate::sys::process::exit_now;

const PROCESSES: u32 = 4;
/// The process that is killed.
const VICTIM: u32 = 0;
/// One that lives.
const SURVIVOR: u32 = 1;

/// The largest item here. One that carries a handle has a run of pages of its own, whatever its size; so nothing is as
/// long as to be copied for thousands of instructions.
const LARGE: usize = 1300;

/// Points at which an operation is killed, at the most: longer ones are sampled, more densely in no part.
const POINTS: usize = 500;

/// What is done to death: as little else as possible. The buffer is as long as the largest item.
type Operation = fn(&World, &Member, &mut [u8]);

struct World {
    arena: Arc<Arena>,
    /// Held by both.
    queue: Handle,
    /// Held by both as well; messages carry it.
    other: Handle,
}

impl World {
    fn new() -> Self {
        let geometry = Geometry { processes_max: PROCESSES, objects_max: 8, heap_pages: 256 };
        let (_, arena) = Arena::create(geometry).unwrap();
        let arena = Arc::new(arena);
        let survivor = member(&arena, SURVIVOR);
        let [queue, other] = [0, 0].map(|maxsize| {
            let queue = queue::create(&survivor, maxsize).unwrap();
            object::share(&survivor, queue, VICTIM).unwrap();
            queue
        });
        Self { arena, queue, other }
    }

    fn member(&self, index: u32) -> Member {
        member(&self.arena, index)
    }
}

fn member(arena: &Arc<Arena>, index: u32) -> Member {
    // Nobody is to wait here: what a lock would wait for is dead.
    Member { arena: arena.clone(), index, patience: Patience::Brief }
}

fn put(member: &Member, queue: Handle, number: u8, len: usize, handles: &[Handle]) {
    put_bytes(member, queue, &vec![number; len], handles);
}

fn put_bytes(member: &Member, queue: Handle, item: &[u8], handles: &[Handle]) {
    queue::put(member, object::resolve(member, queue).unwrap(), item, handles, Deadline::NOW).unwrap();
}

/// Takes an item into the buffer.
fn get_bytes(member: &Member, queue: Handle, buffer: &mut [u8]) -> Option<usize> {
    match queue::get(member, object::resolve(member, queue).ok()?, buffer, Deadline::NOW).ok()? {
        Taken::Copied(len) => Some(len),
        Taken::Bytes(_) => None,
        Taken::Message(message) => {
            message.read(member, buffer).unwrap();
            message.arrive(member, &message.handles(member).unwrap()).unwrap();
            heap::free(member, member.slot().unwrap().register(Register::Incoming)).unwrap();
            Some(message.len as usize)
        }
    }
}

/// Takes an item and returns its number; nothing if there is none. It must be whole.
fn get(member: &Member, queue: Handle) -> Option<u8> {
    let mut buffer = vec![0; LARGE];
    let len = get_bytes(member, queue, &mut buffer)?;
    let item = buffer.get(..len).unwrap();
    let number = *item.first().unwrap();
    assert!(item.iter().all(|byte| *byte == number), "item {number} is not whole");
    Some(number)
}

/// Forks a process that does `operation`, and kills it after so many instructions. Returns how many it made, if it
/// came to its end before that.
fn kill_after(world: &World, operation: Operation, instructions: usize) -> Option<usize> {
    let victim = world.member(VICTIM);
    let pid = AtomicU32::new(0);
    let mut buffer = vec![9; LARGE];
    let child = match clone::fork(Parent::Caller, &pid).unwrap() {
        Fork::Child => {
            ptrace::traceme().unwrap();
            raise(Signal::SIGSTOP).unwrap();
            operation(world, &victim, &mut buffer);
            // A mark that the instructions of the operation are over.
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

/// Kills a process at each instruction of `operation` and checks each time what is left.
fn at_each_instruction(prepare: fn(&World), operation: Operation, check: fn(&World)) {
    let world = World::new();
    prepare(&world);
    let total = kill_after(&world, operation, usize::MAX).unwrap();
    let step = total.div_ceil(POINTS).max(1);
    for instructions in (0..=total).step_by(step) {
        let world = World::new();
        prepare(&world);
        kill_after(&world, operation, instructions);
        let supervisor = world.member(PROCESSES);
        sweep::sweep(&supervisor, VICTIM, true).unwrap_or_else(|error| panic!("at {instructions}: {error}"));
        check(&world);
        is_usable_and_then_empty(&world, instructions);
    }
}

/// The survivor works on, and when it has given back what it holds, there is nothing in the arena.
fn is_usable_and_then_empty(world: &World, instructions: usize) {
    let survivor = world.member(SURVIVOR);
    if object::resolve(&survivor, world.queue).is_ok() {
        put(&survivor, world.queue, 200, 100, &[]);
        put(&survivor, world.queue, 201, LARGE, &[world.other]);
        let last: Vec<_> = std::iter::from_fn(|| get(&survivor, world.queue)).collect();
        assert!(last.ends_with(&[200, 201]), "at {instructions}: {last:?}");
        object::release(&survivor, world.queue).unwrap();
    }
    object::release(&survivor, world.other).unwrap();
    assert_eq!(count_live(&world.arena), Ok(0), "objects are left at {instructions}");
    assert_eq!(world.arena.header().unwrap().heap.used_pages(), 0, "memory is left at {instructions}");
}

/// What is in the queue, in order.
fn drain(world: &World) -> Vec<u8> {
    let survivor = world.member(SURVIVOR);
    std::iter::from_fn(|| get(&survivor, world.queue)).collect()
}

fn nothing(_: &World) {}

fn fill_segment(world: &World) {
    // The first segment has room for one record less than this.
    for number in 1..=3 {
        put(&world.member(SURVIVOR), world.queue, number, 1300, &[]);
    }
}

fn put_small() {
    at_each_instruction(
        |world| put(&world.member(SURVIVOR), world.queue, 1, 16, &[]),
        |world, victim, buffer| put_bytes(victim, world.queue, &buffer[..16], &[]),
        |world| assert!(matches!(*drain(world), [1] | [1, 9])),
    );
}

fn put_into_a_new_segment() {
    at_each_instruction(
        fill_segment,
        |world, victim, buffer| put_bytes(victim, world.queue, &buffer[..1300], &[]),
        |world| assert!(matches!(*drain(world), [1, 2, 3] | [1, 2, 3, 9])),
    );
}

fn put_with_a_handle() {
    at_each_instruction(
        nothing,
        |world, victim, buffer| put_bytes(victim, world.queue, buffer, &[world.other]),
        |world| assert!(matches!(*drain(world), [] | [9])),
    );
}

fn get_small() {
    at_each_instruction(
        |world| {
            put(&world.member(SURVIVOR), world.queue, 1, 16, &[]);
            put(&world.member(SURVIVOR), world.queue, 2, 16, &[]);
        },
        |world, victim, buffer| assert!(get_bytes(victim, world.queue, buffer).is_some()),
        |world| assert!(matches!(*drain(world), [1, 2] | [2])),
    );
}

fn get_from_the_next_segment() {
    at_each_instruction(
        |world| {
            fill_segment(world);
            put(&world.member(SURVIVOR), world.queue, 4, 1300, &[]);
            for number in 1..=3 {
                assert_eq!(get(&world.member(SURVIVOR), world.queue), Some(number));
            }
        },
        |world, victim, buffer| assert!(get_bytes(victim, world.queue, buffer).is_some()),
        |world| assert!(matches!(*drain(world), [4] | [])),
    );
}

fn get_with_a_handle() {
    at_each_instruction(
        |world| put(&world.member(SURVIVOR), world.queue, 1, LARGE, &[world.other]),
        |world, victim, buffer| assert!(get_bytes(victim, world.queue, buffer).is_some()),
        |world| assert!(matches!(*drain(world), [1] | [])),
    );
}

fn create_a_queue() {
    at_each_instruction(
        nothing,
        |_, victim, _| {
            queue::create(victim, 3).unwrap();
        },
        |world| assert_eq!(count_live(&world.arena), Ok(2)),
    );
}

fn release_a_queue_with_items() {
    at_each_instruction(
        |world| {
            let survivor = world.member(SURVIVOR);
            put(&survivor, world.queue, 1, 16, &[]);
            put(&survivor, world.queue, 2, LARGE, &[world.other]);
            object::release(&survivor, world.queue).unwrap();
        },
        |world, victim, _| object::release(victim, world.queue).unwrap(),
        |world| assert_eq!(count_live(&world.arena), Ok(1)),
    );
}

fn close_a_queue() {
    at_each_instruction(
        |world| {
            put(&world.member(SURVIVOR), world.queue, 1, 16, &[]);
        },
        |world, victim, _| queue::close(victim, object::resolve(victim, world.other).unwrap()).unwrap(),
        |world| assert!(matches!(*drain(world), [1])),
    );
}

/// Where this test runs again, in a process that has one thread, so that what it forks has all its locks free.
const ALONE: &str = "SANDPOOL_TEST_ALONE";

macro_rules! tests {
    ($($name:ident)*) => {
        mod killed_in {
            $(#[test]
            fn $name() {
                super::alone(concat!(module_path!(), "::", stringify!($name)), super::$name);
            })*
        }
    };
}

tests! {
    put_small put_into_a_new_segment put_with_a_handle get_small get_from_the_next_segment
    get_with_a_handle create_a_queue release_a_queue_with_items close_a_queue
}

fn alone(name: &str, test: fn()) {
    if std::env::var_os(ALONE).is_some() {
        return test();
    }
    let name = name.split_once("::").unwrap().1;
    let output = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--test-threads=1", "--nocapture"])
        .env(ALONE, "1")
        .output()
        .unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}
