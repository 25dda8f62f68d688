//! Death at each instruction.
//!
//! A process is forked, stepped through an operation one instruction at a time, and killed: at the first
//! instruction, at the second, and so on to the last. Each time, the supervisor's sweep must leave an arena on which
//! others go on working: the operation has happened as a whole or not at all, and in the end nothing is left.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

use std::cell::{Cell, RefCell};
use std::process::Command;
use std::sync::Arc;

use nix::sys::ptrace;
use nix::sys::signal::{Signal, raise};
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use sandpool_abi::Errno;
use sandpool_abi::pipe::DUPLEX;
use sandpool_abi::task::{Claims, DELIVERED};

use super::arena::{Arena, Geometry, Member, Patience};
use super::kind::Listed;
use super::message::{self, Carry, Message};
use super::object::{self, Handle, Object, count_live};
use super::pipe::{self, EndState};
use super::process_table::Register;
use super::queue::{self, Account, Port, Taken};
use super::sweep::{Sweep, sweep};
use super::sync::barrier::{self, Arrival, BarrierState};
use super::sync::{condition, event, lock, semaphore};
use super::waiting::Waiting;
use super::{budget, heap, shared};
use crate::sys::atomic::{AtomicU32, AtomicU64, Ordering};
use crate::sys::clone::{self, Fork, Parent};
use crate::sys::futex::Deadline;
use crate::sys::process::exit_now;
use crate::testing::output_within_deadline;

/// More than a tally has entries for.
const PROCESSES: u32 = 42;
/// The process that is killed.
const VICTIM: u32 = 0;
/// One that lives.
const SURVIVOR: u32 = 1;
/// One that comes behind the death.
const OTHER: u32 = 2;

/// The largest item here. One that carries a handle has a run of pages of its own, whatever its size; so nothing is as
/// long as to be copied for thousands of instructions.
const LARGE: usize = 1300;

/// Points at which an operation is killed, at the most: longer ones are sampled, more densely in no part.
const POINTS: usize = 500;

/// Instructions that are stepped through, at the most, for all points of an operation together.
const STEPS: usize = 500_000;

/// What is done to death: as little else as possible. The buffer is as long as the largest item.
type Operation = fn(&World, &Member, &mut [u8]);

struct World {
    arena: Arc<Arena>,
    /// Held by both.
    queue: Handle,
    /// Held by both as well; messages carry it.
    other: Handle,
    /// What a test has made beside them.
    made: RefCell<Vec<Handle>>,
    /// How the survivor came to a barrier.
    arrival: Cell<Option<Arrival>>,
}

impl World {
    fn new() -> Self {
        let geometry = Geometry { processes_max: PROCESSES, objects_max: 8, heap_pages: 256 };
        let (_, arena) = Arena::create(geometry).unwrap();
        let arena = Arc::new(arena);
        let survivor = member(&arena, SURVIVOR);
        let [queue, other] = [0, 0].map(|maxsize| {
            let queue = queue::create(&survivor, maxsize, Account::Nothing).unwrap();
            object::share(&survivor, queue, VICTIM).unwrap();
            queue
        });
        Self { arena, queue, other, made: RefCell::default(), arrival: Cell::default() }
    }

    /// Lets the victim hold what the survivor has made, and the survivor give it back in the end.
    fn add(&self, handle: Handle) {
        object::share(&self.survivor(), handle, VICTIM).unwrap();
        self.made.borrow_mut().push(handle);
    }

    /// What a test has made.
    fn made(&self, at: usize) -> Handle {
        self.made.borrow()[at]
    }

    fn survivor(&self) -> Member {
        self.member(SURVIVOR)
    }

    fn member(&self, index: u32) -> Member {
        member(&self.arena, index)
    }
}

fn member(arena: &Arc<Arena>, index: u32) -> Member {
    // Nobody is to wait here: what a lock would wait for is dead.
    Member { arena: arena.clone(), index, patience: Patience::Brief }
}

pub(super) fn of<S: Listed>(member: &Member, handle: Handle) -> Object<'_, S> {
    object::resolve(member, handle).unwrap()
}

pub(super) fn port(member: &Member, handle: Handle) -> Port<'_> {
    let Object { index, state } = of(member, handle);
    Port { queue: state, object: index, waiting: Waiting::Any(0) }
}

fn put(member: &Member, queue: Handle, number: u8, len: usize, handles: &[Handle]) {
    put_bytes(member, queue, &vec![number; len], handles);
}

fn put_bytes(member: &Member, queue: Handle, item: &[u8], handles: &[Handle]) {
    queue::put(member, port(member, queue), item, handles, Deadline::NOW).unwrap();
}

/// Takes an item into the buffer.
fn get_bytes(member: &Member, queue: Handle, buffer: &mut [u8]) -> Option<usize> {
    copy(member, queue::get(member, port(member, queue), || false, buffer, Deadline::NOW).ok()?, buffer)
}

pub(super) fn copy(member: &Member, taken: Taken, buffer: &mut [u8]) -> Option<usize> {
    match taken {
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
    let points = POINTS.min(STEPS / total.max(1));
    let step = total.div_ceil(points).max(1);
    for instructions in (0..=total).step_by(step) {
        let world = World::new();
        prepare(&world);
        kill_after(&world, operation, instructions);
        let supervisor = world.member(PROCESSES);
        sweep(Sweep::behind(VICTIM, true), &supervisor)
            .unwrap_or_else(|error| panic!("at {instructions}: {error}"));
        check(&world);
        is_usable_and_then_empty(&world, instructions);
    }
}

/// The survivor works on, and when it has given back what it holds, there is nothing in the arena.
fn is_usable_and_then_empty(world: &World, instructions: usize) {
    let survivor = world.member(SURVIVOR);
    if object::find(&survivor, world.queue).is_ok() {
        put(&survivor, world.queue, 200, 100, &[]);
        put(&survivor, world.queue, 201, LARGE, &[world.other]);
        let last: Vec<_> = std::iter::from_fn(|| get(&survivor, world.queue)).collect();
        assert!(last.ends_with(&[200, 201]), "at {instructions}: {last:?}");
        object::release(&survivor, world.queue).unwrap();
    }
    object::release(&survivor, world.other).unwrap();
    for handle in world.made.borrow().iter() {
        // A test may have given it back itself.
        let _ = object::release(&survivor, *handle);
    }
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
            queue::create(victim, 3, Account::Nothing).unwrap();
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
        |world, victim, _| queue::close(victim, port(victim, world.other)).unwrap(),
        |world| assert!(matches!(*drain(world), [1])),
    );
}

/// A joinable queue with two items, the first of which is taken by the victim and is done with.
fn joinable(world: &World) {
    let survivor = world.survivor();
    world.add(queue::create(&survivor, 0, Account::Joinable).unwrap());
    put(&survivor, world.made(0), 1, 16, &[]);
    put(&survivor, world.made(0), 2, 16, &[]);
}

fn get_from_a_joinable_queue() {
    at_each_instruction(
        joinable,
        |world, victim, buffer| assert!(get_bytes(victim, world.made(0), buffer).is_some()),
        |world| {
            let survivor = world.survivor();
            let queue = port(&survivor, world.made(0));
            let mut taken = 0;
            while get(&survivor, world.made(0)).is_some() {
                queue::task_done(&survivor, queue).unwrap();
                taken += 1;
            }
            // What the victim has taken is lost, and nobody waits for it.
            assert_eq!(queue::join(&survivor, queue, Deadline::NOW), Ok(2 - taken));
            assert_eq!(queue::task_done(&survivor, queue), Err(Errno::Overflow));
        },
    );
}

fn say_that_a_task_is_done() {
    at_each_instruction(
        |world| {
            joinable(world);
            assert!(get_bytes(&world.member(VICTIM), world.made(0), &mut [0; LARGE]).is_some());
        },
        |world, victim, _| queue::task_done(victim, port(victim, world.made(0))).unwrap(),
        |world| {
            let survivor = world.survivor();
            let queue = port(&survivor, world.made(0));
            assert_eq!(get(&survivor, world.made(0)), Some(2));
            assert_eq!(queue::join(&survivor, queue, Deadline::NOW), Err(Errno::Again));
            queue::task_done(&survivor, queue).unwrap();
            assert!(matches!(queue::join(&survivor, queue, Deadline::NOW), Ok(0 | 1)));
        },
    );
}

fn finish_a_claimed_item() {
    at_each_instruction(
        |world| {
            tasks(world);
            let victim = world.member(VICTIM);
            assert!(get_bytes(&victim, world.made(0), &mut [0; LARGE]).is_some());
            victim.claims().unwrap().begin(0).unwrap();
        },
        |world, victim, buffer| {
            let results = port(victim, world.queue);
            queue::finish(victim, results, &[&buffer[..16]], &[], victim.index, Deadline::NOW).unwrap();
        },
        |world| {
            let claims = claims(world);
            // It is worked on, or only its result is missing, or that is there: it can't be taken for one that wasn't begun.
            match (&*drain(world), claims.first, claims.end) {
                ([], 0, 1) => assert!(claims.work != 0 || claims.part == DELIVERED, "{claims:?}"),
                ([9], 1, 1) => assert_eq!((claims.work, claims.part), (0, 0)),
                other => panic!("{other:?}"),
            }
        },
    );
}

fn put_many_at_once() {
    at_each_instruction(
        nothing,
        |world, victim, buffer| {
            let items = buffer[..400].chunks(100);
            assert_eq!(queue::put_many(victim, port(victim, world.queue), items, Deadline::NOW), Ok(4));
        },
        // A batch is no transaction: as many as came to be put.
        |world| assert!(drain(world).len() <= 4),
    );
}

fn get_many_at_once() {
    at_each_instruction(
        |world| (1..=4).for_each(|number| put(&world.survivor(), world.queue, number, 100, &[])),
        |world, victim, buffer| {
            let got = queue::get_many(victim, port(victim, world.queue), buffer, |_| true, Deadline::NOW);
            assert_eq!(got, Ok(4));
        },
        |world| assert!([1, 2, 3, 4].ends_with(&drain(world))),
    );
}

/// A queue of four tasks.
fn tasks(world: &World) {
    let survivor = world.survivor();
    world.add(queue::create(&survivor, 0, Account::Claimed).unwrap());
    (0..4).for_each(|number| put(&survivor, world.made(0), number, 100, &[]));
}

/// What the victim has claimed.
fn claims(world: &World) -> Claims {
    world.arena.process(VICTIM).unwrap().claims.get()
}

fn claim_tasks() {
    at_each_instruction(
        tasks,
        |world, victim, buffer| {
            let mut count = 0;
            let note = |_| {
                count += 1;
                count < 3
            };
            let got = queue::get_many(victim, port(victim, world.made(0)), buffer, note, Deadline::NOW);
            assert_eq!(got, Ok(3));
        },
        |world| {
            // Each is claimed, or still there; and both are in order.
            let survivor = world.survivor();
            let claims_of_victim = claims(world);
            let (claims, results) = (survivor.claims().unwrap(), port(&survivor, world.queue));
            let mut rest = claims_of_victim.end;
            while get(&survivor, world.made(0)).is_some() {
                assert_eq!(claims.get().first, rest);
                claims.begin(0).unwrap();
                queue::finish(&survivor, results, &[&[rest as u8]], &[], SURVIVOR, Deadline::NOW).unwrap();
                rest += 1;
            }
            assert_eq!((claims_of_victim.first, claims_of_victim.work, rest), (0, 0, 4));
            drain(world);
        },
    );
}

/// A pipe; the survivor keeps the second end only.
fn a_pipe(world: &World) {
    let survivor = world.survivor();
    for end in pipe::create(&survivor, 4096, DUPLEX).unwrap() {
        world.add(end);
    }
}

fn recv(member: &Member, end: Handle) -> super::Result<u8> {
    let mut buffer = [0; LARGE];
    let taken = pipe::recv(member, of(member, end), &mut buffer, Deadline::after_nanos(1))?;
    let len = copy(member, taken, &mut buffer).unwrap();
    assert!(buffer[..len].iter().all(|byte| *byte == buffer[0]), "a message is not whole");
    Ok(buffer[0])
}

fn send_over_a_pipe() {
    at_each_instruction(
        |world| {
            a_pipe(world);
            object::release(&world.survivor(), world.made(0)).unwrap();
        },
        |world, victim, buffer| {
            pipe::send(victim, of(victim, world.made(0)), &[&buffer[..100]], &[], Deadline::NOW).unwrap();
        },
        |world| {
            let survivor = world.survivor();
            // Whole, or not at all; and then the end, because the sender is gone.
            let first = recv(&survivor, world.made(1));
            assert!(matches!(first, Ok(9) | Err(Errno::Closed)), "{first:?}");
            assert_eq!(recv(&survivor, world.made(1)), Err(Errno::Closed));
            let end = of(&survivor, world.made(1));
            assert_eq!(pipe::send(&survivor, end, &[&[1]], &[], Deadline::NOW), Err(Errno::Pipe));
        },
    );
}

fn receive_from_a_pipe() {
    at_each_instruction(
        |world| {
            a_pipe(world);
            let survivor = world.survivor();
            for byte in [1, 2] {
                pipe::send(&survivor, of(&survivor, world.made(1)), &[&[byte; 50]], &[], Deadline::NOW)
                    .unwrap();
            }
        },
        |world, victim, buffer| {
            let taken = pipe::recv(victim, of(victim, world.made(0)), buffer, Deadline::NOW).unwrap();
            assert!(copy(victim, taken, buffer).is_some());
        },
        |world| {
            let survivor = world.survivor();
            assert!(matches!(recv(&survivor, world.made(0)), Ok(1 | 2)));
        },
    );
}

fn close_an_end_of_a_pipe() {
    at_each_instruction(
        |world| {
            a_pipe(world);
            let survivor = world.survivor();
            let end: Object<'_, EndState> = of(&survivor, world.made(0));
            pipe::send(&survivor, end, &[&[7; 50]], &[world.other], Deadline::NOW).unwrap();
            let end: Object<'_, EndState> = of(&survivor, world.made(1));
            pipe::send(&survivor, end, &[&[8; 50]], &[world.other], Deadline::NOW).unwrap();
            object::release(&survivor, world.made(0)).unwrap();
        },
        |world, victim, _| object::release(victim, world.made(0)).unwrap(),
        |world| {
            let survivor = world.survivor();
            assert_eq!(recv(&survivor, world.made(1)), Ok(7));
            assert_eq!(recv(&survivor, world.made(1)), Err(Errno::Closed));
        },
    );
}

fn close_both_ends_of_a_pipe() {
    at_each_instruction(
        |world| {
            a_pipe(world);
            let survivor = world.survivor();
            [0, 1].into_iter().for_each(|end| object::release(&survivor, world.made(end)).unwrap());
            object::release(&world.member(VICTIM), world.made(1)).unwrap();
        },
        |world, victim, _| object::release(victim, world.made(0)).unwrap(),
        |world| assert_eq!(count_live(&world.arena), Ok(2)),
    );
}

/// Slots that are used anew come in another order than new ones: of two, the second first.
fn free_slots(world: &World) {
    let survivor = world.survivor();
    let made = [0, 1].map(|_| event::create(&survivor).unwrap());
    made.into_iter().for_each(|event| object::release(&survivor, event).unwrap());
}

fn make_a_pipe() {
    at_each_instruction(
        nothing,
        |_, victim, _| {
            pipe::create(victim, 100, 0).unwrap();
        },
        |world| assert_eq!(count_live(&world.arena), Ok(2)),
    );
}

fn make_a_pipe_in_free_slots() {
    at_each_instruction(
        free_slots,
        |_, victim, _| {
            pipe::create(victim, 100, 0).unwrap();
        },
        |world| assert_eq!(count_live(&world.arena), Ok(2)),
    );
}

fn make_a_lock() {
    at_each_instruction(
        nothing,
        |_, victim, _| {
            lock::create(victim, true).unwrap();
        },
        |world| assert_eq!(count_live(&world.arena), Ok(2)),
    );
}

fn acquire_and_release_a_lock() {
    at_each_instruction(
        |world| world.add(lock::create(&world.survivor(), false).unwrap()),
        |world, victim, _| {
            let lock = of(victim, world.made(0));
            lock::acquire(victim, lock, Deadline::NOW).unwrap();
            lock::release(victim, lock).unwrap();
        },
        lock_is_free,
    );
}

fn acquire_a_recursive_lock() {
    at_each_instruction(
        |world| world.add(lock::create(&world.survivor(), true).unwrap()),
        |world, victim, _| {
            let lock = of(victim, world.made(0));
            lock::acquire(victim, lock, Deadline::NOW).unwrap();
            lock::acquire(victim, lock, Deadline::NOW).unwrap();
            lock::release(victim, lock).unwrap();
        },
        lock_is_free,
    );
}

/// Its next owner may be told of a death, once.
fn lock_is_free(world: &World) {
    let survivor = world.survivor();
    let lock = of(&survivor, world.made(0));
    assert!(matches!(lock::acquire(&survivor, lock, Deadline::NOW), Ok(()) | Err(Errno::Ownerdead)));
    assert_eq!(lock::held(&survivor, lock), 1);
    lock::release(&survivor, lock).unwrap();
    assert_eq!(lock::acquire(&survivor, lock, Deadline::NOW), Ok(()));
    lock::release(&survivor, lock).unwrap();
    assert_eq!(lock::release(&survivor, lock), Err(Errno::Overflow));
}

fn make_a_semaphore() {
    at_each_instruction(
        nothing,
        |_, victim, _| {
            semaphore::create(victim, 2, true, true).unwrap();
        },
        |world| assert_eq!(count_live(&world.arena), Ok(2)),
    );
}

fn acquire_and_release_a_semaphore() {
    at_each_instruction(
        |world| world.add(semaphore::create(&world.survivor(), 2, true, true).unwrap()),
        |world, victim, _| {
            let semaphore = of(victim, world.made(0));
            semaphore::acquire(victim, semaphore, Deadline::NOW).unwrap();
            semaphore::acquire(victim, semaphore, Deadline::NOW).unwrap();
            semaphore::release(victim, semaphore, 1).unwrap();
        },
        |world| {
            let survivor = world.survivor();
            let semaphore = of::<semaphore::SemaphoreState>(&survivor, world.made(0));
            assert_eq!(semaphore.state.value(), 2);
            assert!(semaphore.state.died() <= 2);
            assert_eq!(semaphore::release(&survivor, semaphore, 1), Err(Errno::Overflow));
        },
    );
}

/// So many processes hold units that there is no entry for the victim: it takes a page.
fn acquire_where_many_have() {
    at_each_instruction(
        |world| {
            world.add(semaphore::create(&world.survivor(), 100, true, true).unwrap());
            for process in 0..world.arena.geometry.processes_max {
                if process != VICTIM {
                    object::share(&world.survivor(), world.made(0), process).unwrap();
                    let member = world.member(process);
                    semaphore::acquire(&member, of(&member, world.made(0)), Deadline::NOW).unwrap();
                }
            }
        },
        |world, victim, _| {
            let semaphore = of(victim, world.made(0));
            semaphore::acquire(victim, semaphore, Deadline::NOW).unwrap();
            semaphore::acquire(victim, semaphore, Deadline::NOW).unwrap();
        },
        |world| {
            let others = world.arena.geometry.processes_max - 1;
            let survivor = world.survivor();
            let semaphore = of::<semaphore::SemaphoreState>(&survivor, world.made(0));
            assert_eq!(semaphore.state.value(), 100 - u64::from(others));
            for process in (0..=others).filter(|process| ![VICTIM, SURVIVOR].contains(process)) {
                object::release(&world.member(process), world.made(0)).unwrap();
            }
            assert_eq!(semaphore.state.value(), 99);
        },
    );
}

fn make_an_event() {
    at_each_instruction(
        nothing,
        |_, victim, _| {
            event::create(victim).unwrap();
        },
        |world| assert_eq!(count_live(&world.arena), Ok(2)),
    );
}

fn set_an_event() {
    at_each_instruction(
        |world| world.add(event::create(&world.survivor()).unwrap()),
        |world, victim, _| event::set(victim, of(victim, world.made(0))).unwrap(),
        |world| {
            let survivor = world.survivor();
            let event = of(&survivor, world.made(0));
            assert!(matches!(event::wait(&survivor, event, Deadline::NOW), Ok(()) | Err(Errno::Again)));
            event::set(&survivor, event).unwrap();
            assert_eq!(event::wait(&survivor, event, Deadline::NOW), Ok(()));
        },
    );
}

/// A condition and its lock.
fn a_condition(world: &World) {
    world.add(condition::create(&world.survivor()).unwrap());
    world.add(lock::create(&world.survivor(), true).unwrap());
}

fn make_a_condition() {
    at_each_instruction(
        nothing,
        |_, victim, _| {
            condition::create(victim).unwrap();
        },
        |world| assert_eq!(count_live(&world.arena), Ok(2)),
    );
}

fn wait_in_a_condition() {
    at_each_instruction(
        a_condition,
        |world, victim, _| {
            let (condition, lock) = (of(victim, world.made(0)), of(victim, world.made(1)));
            lock::acquire(victim, lock, Deadline::NOW).unwrap();
            let depth = condition::enter(victim, condition, lock).unwrap();
            assert_eq!(condition::wait(victim, condition, Deadline::NOW), Ok(false));
            lock::acquire_again(victim, lock, depth).unwrap();
        },
        |world| {
            let survivor = world.survivor();
            let (condition, lock) = (of(&survivor, world.made(0)), of(&survivor, world.made(1)));
            let acquired = lock::acquire(&survivor, lock, Deadline::NOW);
            assert!(matches!(acquired, Ok(()) | Err(Errno::Ownerdead)));
            // The dead doesn't wait.
            assert_eq!(condition::notify(&survivor, condition, lock, 1), Ok(0));
        },
    );
}

fn notify_a_condition() {
    at_each_instruction(
        |world| {
            a_condition(world);
            let survivor = world.survivor();
            let (condition, lock) = (of(&survivor, world.made(0)), of(&survivor, world.made(1)));
            lock::acquire(&survivor, lock, Deadline::NOW).unwrap();
            condition::enter(&survivor, condition, lock).unwrap();
        },
        |world, victim, _| {
            let (condition, lock) = (of(victim, world.made(0)), of(victim, world.made(1)));
            lock::acquire(victim, lock, Deadline::NOW).unwrap();
            assert_eq!(condition::notify(victim, condition, lock, 1), Ok(1));
            lock::release(victim, lock).unwrap();
        },
        |world| {
            let survivor = world.survivor();
            let condition = of(&survivor, world.made(0));
            let notified = condition::wait(&survivor, condition, Deadline::NOW).unwrap();
            assert!(!notified || condition::wait(&survivor, condition, Deadline::NOW) == Ok(true));
        },
    );
}

/// Of those who wait, the first that came are notified, as many as the victim came to.
fn notify_all_in_a_condition() {
    at_each_instruction(
        |world| {
            a_condition(world);
            let survivor = world.survivor();
            for at in [0, 1] {
                object::share(&survivor, world.made(at), OTHER).unwrap();
            }
            for member in [survivor, world.member(OTHER)] {
                let (condition, lock) = (of(&member, world.made(0)), of(&member, world.made(1)));
                lock::acquire(&member, lock, Deadline::NOW).unwrap();
                condition::enter(&member, condition, lock).unwrap();
            }
        },
        |world, victim, _| {
            let (condition, lock) = (of(victim, world.made(0)), of(victim, world.made(1)));
            lock::acquire(victim, lock, Deadline::NOW).unwrap();
            assert_eq!(condition::notify(victim, condition, lock, u64::MAX), Ok(2));
            lock::release(victim, lock).unwrap();
        },
        |world| {
            let (survivor, other) = (world.survivor(), world.member(OTHER));
            let [first, second] = [&survivor, &other]
                .map(|member| condition::wait(member, of(member, world.made(0)), Deadline::NOW).unwrap());
            assert!(first || !second);
            for at in [0, 1] {
                object::release(&other, world.made(at)).unwrap();
            }
        },
    );
}

fn make_a_barrier() {
    at_each_instruction(
        nothing,
        |_, victim, _| {
            barrier::create(victim, 2).unwrap();
        },
        |world| assert_eq!(count_live(&world.arena), Ok(2)),
    );
}

/// A barrier for two, one of whom is inside.
fn a_barrier(world: &World) {
    let survivor = world.survivor();
    world.add(barrier::create(&survivor, 2).unwrap());
    world.arrival.set(Some(arrive(&survivor, world.made(0))));
}

fn arrive(member: &Member, barrier: Handle) -> Arrival {
    barrier::arrive(member, of(member, barrier), false, Deadline::NOW).unwrap()
}

fn leave(member: &Member, barrier: Handle, arrival: Arrival) -> super::Result<i64> {
    barrier::wait(member, of(member, barrier), arrival, Deadline::NOW)
}

/// The one who is inside goes on: with another one, if it still waits for one. Whether it has passed.
fn barrier_was_passed(world: &World) -> bool {
    let (survivor, barrier) = (world.survivor(), world.made(0));
    let waits = of::<BarrierState>(&survivor, barrier).state.waiting() == 1;
    let other = waits.then(|| {
        object::share(&survivor, barrier, OTHER).unwrap();
        let other = world.member(OTHER);
        let arrival = arrive(&other, barrier);
        (other, arrival)
    });
    let passed = leave(&survivor, barrier, world.arrival.take().unwrap());
    if let Some((other, arrival)) = other {
        assert_eq!(leave(&other, barrier, arrival), Ok(1));
    }
    assert!(matches!(passed, Ok(0) | Err(Errno::Broken)), "{passed:?}");
    passed.is_ok()
}

/// Two can pass it, again and again.
fn barrier_is_as_new(world: &World) {
    let (survivor, other, barrier) = (world.survivor(), world.member(OTHER), world.made(0));
    object::share(&survivor, barrier, OTHER).unwrap();
    for _ in 0..2 {
        let arrivals = [&survivor, &other].map(|member| arrive(member, barrier));
        assert_eq!(leave(&survivor, barrier, arrivals[0]), Ok(0));
        assert_eq!(leave(&other, barrier, arrivals[1]), Ok(1));
    }
    object::release(&other, barrier).unwrap();
}

/// It is broken if that is so, and as new when it is reset.
fn barrier_is_broken(world: &World, is_broken: bool) {
    let survivor = world.survivor();
    let barrier = of::<BarrierState>(&survivor, world.made(0));
    assert_eq!(barrier.state.is_broken(), is_broken);
    if is_broken {
        barrier::reset(&survivor, barrier).unwrap();
    }
    barrier_is_as_new(world);
}

fn pass_a_barrier() {
    at_each_instruction(
        a_barrier,
        |world, victim, _| {
            let barrier = of(victim, world.made(0));
            let arrival = barrier::arrive(victim, barrier, true, Deadline::NOW).unwrap();
            barrier::wait(victim, barrier, arrival, Deadline::NOW).unwrap();
            barrier::release(victim, barrier).unwrap();
        },
        |world| barrier_is_broken(world, !barrier_was_passed(world)),
    );
}

fn reset_a_barrier() {
    at_each_instruction(
        a_barrier,
        |world, victim, _| barrier::reset(victim, of(victim, world.made(0))).unwrap(),
        |world| {
            barrier_was_passed(world);
            barrier_is_broken(world, false);
        },
    );
}

fn reset_a_broken_barrier() {
    at_each_instruction(
        |world| {
            a_barrier(world);
            let survivor = world.survivor();
            barrier::abort(&survivor, of(&survivor, world.made(0))).unwrap();
        },
        |world, victim, _| barrier::reset(victim, of(victim, world.made(0))).unwrap(),
        |world| {
            let survivor = world.survivor();
            let is_broken = of::<BarrierState>(&survivor, world.made(0)).state.is_broken();
            barrier_is_broken(world, is_broken);
        },
    );
}

fn abort_a_barrier() {
    at_each_instruction(
        a_barrier,
        |world, victim, _| {
            let barrier = of(victim, world.made(0));
            // It is to act, and won't.
            barrier::arrive(victim, barrier, true, Deadline::NOW).unwrap();
            barrier::abort(victim, barrier).unwrap();
        },
        |world| barrier_is_broken(world, !barrier_was_passed(world)),
    );
}

/// An action that waits for a condition meanwhile.
fn act_at_a_barrier() {
    at_each_instruction(
        |world| {
            a_barrier(world);
            a_condition(world);
        },
        |world, victim, _| {
            let (condition, lock) = (of(victim, world.made(1)), of(victim, world.made(2)));
            let barrier = of(victim, world.made(0));
            let arrival = barrier::arrive(victim, barrier, true, Deadline::NOW).unwrap();
            barrier::wait(victim, barrier, arrival, Deadline::NOW).unwrap();
            lock::acquire(victim, lock, Deadline::NOW).unwrap();
            let depth = condition::enter(victim, condition, lock).unwrap();
            assert_eq!(condition::wait(victim, condition, Deadline::NOW), Ok(false));
            lock::acquire_again(victim, lock, depth).unwrap();
            barrier::release(victim, barrier).unwrap();
        },
        |world| {
            barrier_is_broken(world, !barrier_was_passed(world));
            let survivor = world.survivor();
            let (condition, lock) = (of(&survivor, world.made(1)), of(&survivor, world.made(2)));
            let acquired = lock::acquire(&survivor, lock, Deadline::NOW);
            assert!(matches!(acquired, Ok(()) | Err(Errno::Ownerdead)));
            assert_eq!(condition::notify(&survivor, condition, lock, 1), Ok(0));
        },
    );
}

fn make_name_and_unlink_shared_memory() {
    at_each_instruction(
        nothing,
        |_, victim, _| {
            shared::create(victim, 5000, false, "name").unwrap();
            shared::unlink(victim, "name").unwrap();
        },
        |world| {
            let survivor = world.survivor();
            // A name outlives who gave it.
            match shared::open(&survivor, "name") {
                Ok(handle) => {
                    assert_eq!(shared::create(&survivor, 1, true, "name"), Err(Errno::Exist));
                    shared::unlink(&survivor, "name").unwrap();
                    object::release(&survivor, handle).unwrap();
                }
                Err(error) => assert_eq!(error, Errno::Noent),
            }
            assert_eq!(shared::open(&survivor, "name"), Err(Errno::Noent));
        },
    );
}

/// Its name goes with its maker, dead or alive.
fn make_and_release_owned_shared_memory() {
    at_each_instruction(
        nothing,
        |_, victim, _| {
            let made = shared::create_owned(victim, 5000, false, "name").unwrap();
            object::release(victim, made).unwrap();
        },
        |world| {
            let survivor = world.survivor();
            assert_eq!(shared::open(&survivor, "name"), Err(Errno::Noent));
            let again = shared::create(&survivor, 1, true, "name").unwrap();
            shared::unlink(&survivor, "name").unwrap();
            object::release(&survivor, again).unwrap();
        },
    );
}

fn open_and_release_shared_memory() {
    at_each_instruction(
        |world| {
            let survivor = world.survivor();
            let made = shared::create(&survivor, 5000, false, "name").unwrap();
            shared::write(&survivor, of(&survivor, made), 4999, &[7]).unwrap();
            // Only its name keeps it.
            object::release(&survivor, made).unwrap();
        },
        |_, victim, _| {
            let opened = shared::open(victim, "name").unwrap();
            object::release(victim, opened).unwrap();
        },
        |world| {
            let survivor = world.survivor();
            let opened = shared::open(&survivor, "name").unwrap();
            let mut last = [0];
            shared::read(&survivor, of(&survivor, opened), 4999, &mut last).unwrap();
            assert_eq!(last, [7]);
            shared::unlink(&survivor, "name").unwrap();
            object::release(&survivor, opened).unwrap();
        },
    );
}

/// Its name is all that keeps it, and the victim takes that away without having held it.
fn unlink_shared_memory_of_nobody() {
    at_each_instruction(
        |world| {
            let survivor = world.survivor();
            let made = shared::create(&survivor, 5000, false, "name").unwrap();
            object::release(&survivor, made).unwrap();
        },
        |_, victim, _| shared::unlink(victim, "name").unwrap(),
        |world| {
            let survivor = world.survivor();
            match shared::unlink(&survivor, "name") {
                Ok(()) => assert_eq!(count_live(&world.arena), Ok(2)),
                Err(error) => assert_eq!((error, count_live(&world.arena)), (Errno::Noent, Ok(2))),
            }
            assert_eq!(shared::open(&survivor, "name"), Err(Errno::Noent));
        },
    );
}

/// At last, a view is all that keeps what it is of.
fn view_shared_memory() {
    at_each_instruction(
        |world| {
            let survivor = world.survivor();
            let made = shared::create(&survivor, 5000, false, "name").unwrap();
            shared::write(&survivor, of(&survivor, made), 4999, &[7]).unwrap();
            object::release(&survivor, made).unwrap();
        },
        |_, victim, _| {
            let opened = shared::open(victim, "name").unwrap();
            let view = shared::view(victim, opened).unwrap();
            object::release(victim, opened).unwrap();
            shared::unlink(victim, "name").unwrap();
            assert_eq!(shared::write(victim, of(victim, view), 4999, &[8]), Err(Errno::Perm));
            object::release(victim, view).unwrap();
        },
        |world| {
            let survivor = world.survivor();
            let Ok(opened) = shared::open(&survivor, "name") else { return };
            let mut last = [0];
            shared::read(&survivor, of(&survivor, opened), 4999, &mut last).unwrap();
            assert_eq!(last, [7]);
            shared::unlink(&survivor, "name").unwrap();
            object::release(&survivor, opened).unwrap();
        },
    );
}

/// Takes a view that is all that a message has, if there is one.
fn take_a_view(member: &Member, queue: Handle) -> Option<Handle> {
    let taken = queue::get(member, port(member, queue), || false, &mut [], Deadline::NOW);
    let Ok(Taken::Message(message)) = taken else { return None };
    let views = message.handles(member).unwrap();
    message.arrive(member, &views).unwrap();
    heap::free(member, member.slot().unwrap().register(Register::Incoming)).unwrap();
    views.first().copied()
}

/// It comes in a message, which is all that keeps it, as it is all that keeps the memory.
fn receive_a_view() {
    at_each_instruction(
        |world| {
            let survivor = world.survivor();
            let made = shared::create(&survivor, 5000, false, "").unwrap();
            shared::write(&survivor, of(&survivor, made), 4999, &[7]).unwrap();
            let view = shared::view(&survivor, made).unwrap();
            put(&survivor, world.queue, 1, LARGE, &[view]);
            object::release(&survivor, made).unwrap();
            object::release(&survivor, view).unwrap();
        },
        |world, victim, _| {
            let view = take_a_view(victim, world.queue).unwrap();
            object::release(victim, view).unwrap();
        },
        |world| {
            let survivor = world.survivor();
            let Some(view) = take_a_view(&survivor, world.queue) else { return };
            let mut last = [0];
            shared::read(&survivor, of(&survivor, view), 4999, &mut last).unwrap();
            assert_eq!(last, [7]);
            object::release(&survivor, view).unwrap();
        },
    );
}

fn say_what_an_object_is() {
    at_each_instruction(
        nothing,
        |_, victim, _| {
            let lock = lock::create(victim, true).unwrap();
            let partner = event::create(victim).unwrap();
            object::record(victim, lock, 7, Some(partner)).unwrap();
            let known = object::look_up(victim, lock).unwrap();
            assert_eq!((known.tag, known.partner), (7, partner.0));
            assert_eq!(object::record(victim, lock, 8, None), Err(Errno::Perm));
            object::release(victim, partner).unwrap();
        },
        |world| {
            let survivor = world.survivor();
            // What comes behind it has none of that.
            for handle in [lock::create(&survivor, true).unwrap(), event::create(&survivor).unwrap()] {
                let known = object::look_up(&survivor, handle).unwrap();
                assert_eq!((known.tag, known.partner), (0, 0));
                object::release(&survivor, handle).unwrap();
            }
        },
    );
}

/// As `spawn` does it: the child is given all of it, or ends without having run.
fn hand_arguments_to_a_child() {
    fn register(world: &World, process: u32) -> &AtomicU64 {
        world.arena.process(process).unwrap().register(Register::Outgoing)
    }
    at_each_instruction(
        |world| {
            let victim = world.member(VICTIM);
            object::share(&victim, world.other, OTHER).unwrap();
            let own = register(world, VICTIM);
            message::compose(&victim, &[&[9; 100]], &[world.other], Carry::Uncounted, own).unwrap();
        },
        |world, victim, _| {
            heap::hand_over(victim, register(world, VICTIM), register(world, OTHER)).unwrap();
        },
        |world| {
            let child = world.member(OTHER);
            let page = register(world, OTHER).load(Ordering::Relaxed);
            if page != 0 {
                let message = Message::at(&child, page).unwrap();
                let mut bytes = [0; 100];
                message.read(&child, &mut bytes).unwrap();
                assert_eq!((message.handles(&child), bytes), (Ok(vec![world.other]), [9; 100]));
                assert!(object::find(&child, world.other).is_ok());
            }
            sweep(Sweep::behind(OTHER, false), &world.member(PROCESSES)).unwrap();
        },
    );
}

/// What all have is what each has. How much that is.
fn memory_is_all_shares(world: &World) -> u64 {
    let share = |index| world.arena.process(index).unwrap().memory();
    assert_eq!(share(VICTIM), 0, "its share is nobody's");
    let used = world.arena.header().unwrap().memory.used();
    assert_eq!(used, (0..PROCESSES).map(share).sum::<u64>());
    used
}

fn some_memory(world: &World) {
    budget::take(&world.survivor(), SURVIVOR, 10, 1000).unwrap();
}

fn take_memory() {
    at_each_instruction(
        some_memory,
        |_, victim, _| budget::take(victim, VICTIM, 100, 1000).unwrap(),
        |world| {
            assert_eq!(memory_is_all_shares(world), 10);
            assert_eq!(budget::take(&world.survivor(), SURVIVOR, 991, 1000), Err(Errno::Runmem));
            budget::take(&world.survivor(), SURVIVOR, 990, 1000).unwrap();
        },
    );
}

/// As a fork does it: the child may be there by then, or not.
fn take_memory_for_a_child() {
    at_each_instruction(
        some_memory,
        |_, victim, _| budget::take(victim, OTHER, 100, 1000).unwrap(),
        |world| {
            assert!([10, 110].contains(&memory_is_all_shares(world)));
            budget::give_back(&world.member(PROCESSES), OTHER).unwrap();
            assert_eq!(memory_is_all_shares(world), 10);
        },
    );
}

fn give_memory_back() {
    at_each_instruction(
        |world| {
            some_memory(world);
            budget::take(&world.member(VICTIM), VICTIM, 100, 1000).unwrap();
        },
        |_, victim, _| budget::give_back(victim, VICTIM).unwrap(),
        |world| assert_eq!(memory_is_all_shares(world), 10),
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
    get_from_a_joinable_queue say_that_a_task_is_done put_many_at_once get_many_at_once
    claim_tasks finish_a_claimed_item
    make_a_pipe make_a_pipe_in_free_slots send_over_a_pipe receive_from_a_pipe close_an_end_of_a_pipe close_both_ends_of_a_pipe
    make_a_lock acquire_and_release_a_lock acquire_a_recursive_lock
    make_a_semaphore acquire_and_release_a_semaphore acquire_where_many_have make_an_event set_an_event
    make_a_condition wait_in_a_condition notify_a_condition notify_all_in_a_condition
    make_a_barrier pass_a_barrier act_at_a_barrier reset_a_barrier reset_a_broken_barrier abort_a_barrier
    make_name_and_unlink_shared_memory make_and_release_owned_shared_memory open_and_release_shared_memory
    unlink_shared_memory_of_nobody
    view_shared_memory receive_a_view say_what_an_object_is
    hand_arguments_to_a_child
    take_memory take_memory_for_a_child give_memory_back
}

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
