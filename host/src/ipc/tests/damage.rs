//! Any bytes in the arena: as a compromised process of the run could write them there.
//!
//! With any bytes there, each operation and the supervisor's sweep come to an end: with an error, or with a nonsensical
//! result, but not with a panic, and never outside of the arena.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

use std::sync::Arc;
#[cfg(test)]
use std::sync::mpsc::{self, RecvTimeoutError};
#[cfg(test)]
use std::time::Duration;

use sandpool_abi::pipe::DUPLEX;
use sandpool_abi::shared::ADD;

use crate::ipc::arena::{Arena, Geometry, PAGE, Participant, Patience};
use crate::ipc::byte_pipe;
use crate::ipc::kind::{self, Listed};
use crate::ipc::message::{self, Carry};
use crate::ipc::object::{self, Handle};
use crate::ipc::pipe;
use crate::ipc::process_table::{self as table, ProcessHandle, Register};
use crate::ipc::queue::{self, Account, Port, Taken};
use crate::ipc::shared::{self, Atomic};
use crate::ipc::standby;
use crate::ipc::sweep::Sweep;
use crate::ipc::sync::{barrier, condition, event, lock, semaphore};
use crate::ipc::waiting::Waiting;
use crate::sys::atomic::AtomicU64;
use crate::sys::futex::Deadline;

const PROCESSES: u32 = 4;
const OBJECTS: u32 = 24;
const HEAP_PAGES: u32 = 96;
/// More steps than a sweep can have, whatever it finds.
const STEPS_MAX: u64 = (OBJECTS as u64 + 1) * (2 * HEAP_PAGES as u64 + 2 * OBJECTS as u64) * 8;
/// Longer than any case takes.
#[cfg(test)]
const LONG: Duration = Duration::from_secs(60);

/// Choices: these bytes decide, and a generator when no bytes are left.
struct Random<'a> {
    bytes: &'a [u8],
    state: u64,
}

impl Random<'_> {
    fn next(&mut self) -> u64 {
        if let Some((chosen, rest)) = self.bytes.split_first_chunk::<4>() {
            self.bytes = rest;
            return u64::from(u32::from_le_bytes(*chosen)) << 16;
        }
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 16) % end
    }

    /// A value to overwrite a word with: mostly one that could be taken for something.
    fn word(&mut self) -> u64 {
        match self.below(12) {
            0 => 0,
            1 => u64::MAX,
            2 => self.next(),
            // Numbers of processes, objects, pages.
            3 | 4 => self.below(u64::from(HEAP_PAGES) + 4),
            // A run, free or in use.
            5 => 1 << 62 | self.below(u64::from(HEAP_PAGES) + 4),
            6 => 2 << 62 | self.below(u64::from(HEAP_PAGES) + 4),
            // A handle.
            7 => self.below(3) << 32 | self.below(u64::from(OBJECTS) + 2),
            // The head of a record.
            8 => self.below(10_000) << 8 | self.below(5),
            // A number that is almost too large.
            9 => u64::MAX - self.below(70_000),
            10 => (1 << 63) - self.below(3),
            _ => 1 << self.below(64),
        }
    }
}

/// An arena with something of each kind in it, in the middle of everything.
struct World {
    arena: Arc<Arena>,
    all: Vec<Handle>,
}

impl World {
    fn new() -> Self {
        let geometry = Geometry { processes_max: PROCESSES, objects_max: OBJECTS, heap_pages: HEAP_PAGES };
        let (_, arena) = Arena::create(geometry).unwrap();
        let mut world = Self { arena: Arc::new(arena), all: Vec::new() };
        let mut parent = None;
        for name in ["MainProcess", "a child", "another"] {
            let (index, handle) = table::reserve(&world.arena, parent, name.as_bytes(), 0).unwrap();
            parent.get_or_insert((index, handle));
        }
        let participant = world.participant(0);
        let [first, second] = [0, 3].map(|maxsize| {
            let account = if maxsize != 0 { Account::Joinable } else { Account::Nothing };
            queue::create(&participant, maxsize, account).unwrap()
        });
        let lonely = queue::create(&participant, 0, Account::Nothing).unwrap();
        let ends = pipe::create(&participant, 20_000, DUPLEX).unwrap();
        world.all.extend([first, second, ends[0], ends[1]]);
        world.all.extend([false, true].map(|recursive| lock::create(&participant, recursive).unwrap()));
        world.all.push(semaphore::create(&participant, 3, true, true).unwrap());
        world.all.push(event::create(&participant).unwrap());
        world.all.push(condition::create(&participant).unwrap());
        world.all.push(barrier::create(&participant, 2).unwrap());
        world.all.push(shared::create(&participant, 9000, false, "large").unwrap());
        world.all.push(shared::create(&participant, 90, true, "").unwrap());
        let viewed = shared::create(&participant, 100, false, "").unwrap();
        world.all.push(shared::view(&participant, viewed).unwrap());
        object::release(&participant, viewed).unwrap();
        let bytes = byte_pipe::create(&participant, true).unwrap();
        world.all.extend(bytes);
        for handle in &world.all {
            object::share(&participant, *handle, 1).unwrap();
        }
        let put = |queue, item: &[u8], handles: &[Handle]| {
            queue::put(&participant, port(&participant, queue).unwrap(), item, handles, Deadline::NOW)
                .unwrap();
        };
        for length in [10, 8000, 8000, 20_000] {
            put(first, &vec![1; length], &[]);
        }
        put(first, b"with handles", &[second, lonely]);
        put(second, b"short", &[]);
        let writer = object::resolve(&participant, bytes[1]).unwrap();
        byte_pipe::write(&participant, writer, &[&[4; 900]], 0, Deadline::NOW).unwrap();
        queue::get(&participant, port(&participant, second).unwrap(), || false, &mut [0; 9], Deadline::NOW)
            .unwrap();
        object::release(&participant, lonely).unwrap();
        let [_, _, end, _, plain, _, units, _, news, place, ..] = world.all[..] else { unreachable!() };
        pipe::send(
            &participant,
            object::resolve(&participant, end).unwrap(),
            &[&[2; 5000]],
            &[],
            Deadline::NOW,
        )
        .unwrap();
        lock::acquire(&participant, object::resolve(&participant, plain).unwrap(), Deadline::NOW).unwrap();
        semaphore::acquire(&participant, object::resolve(&participant, units).unwrap(), Deadline::NOW)
            .unwrap();
        let other = world.participant(1);
        barrier::arrive(&other, object::resolve(&other, place).unwrap(), false, Deadline::NOW).unwrap();
        condition::enter(
            &participant,
            object::resolve(&participant, news).unwrap(),
            object::resolve(&participant, plain).unwrap(),
        )
        .unwrap();
        // The process is about to send a message, and in the middle of an operation.
        let register = participant.slot().unwrap().register(Register::Outgoing);
        message::compose(&participant, &[b"outgoing"], &[first], Carry::Counted, register).unwrap();
        std::mem::forget(participant.begin(0).unwrap());
        world
    }

    fn participant(&self, index: u32) -> Participant {
        Participant { arena: self.arena.clone(), index, patience: Patience::Brief }
    }

    /// Where the parts are: headers, processes, objects, descriptors of pages, and the heap.
    fn parts(&self) -> Vec<(usize, usize)> {
        let at = |word: &AtomicU64| self.arena.offset_of(word) as usize;
        let of = |offset: u64| offset as usize;
        let heap = at(self.arena.in_heap(1, 0).unwrap());
        let pages = of(self.arena.offset_of(self.arena.page(0).unwrap()));
        let objects = of(self.arena.offset_of(self.arena.object(0).unwrap()));
        let states = at(self.arena.process_state(0).unwrap());
        vec![(0, states), (states, objects), (objects, pages), (pages, heap - PAGE), (heap, heap + 30 * PAGE)]
    }

    fn damage(&self, random: &mut Random<'_>) {
        let parts = self.parts();
        let (from, to) = parts[random.below(parts.len() as u64) as usize];
        let words = ((to - from) / 8) as u64;
        // Words here and there, or one piece, or nearly all.
        let (first, count, every) = match random.below(4) {
            0 => (random.below(words), 1 + random.below(40), 1),
            1 => (0, words, 2 + random.below(6)),
            _ => (0, words, 16 + random.below(words.max(32))),
        };
        for word in first..(first + count).min(words) {
            if random.below(every) == 0 {
                let bytes = random.word().to_le_bytes();
                self.arena.write_at(from + word as usize * 8, &bytes).unwrap();
            }
        }
    }
}

fn port(participant: &Participant, handle: Handle) -> crate::ipc::Result<Port<'_>> {
    let queue = object::resolve(participant, handle)?;
    Ok(Port { queue: queue.state, object: queue.index, waiting: Waiting::Get(queue.index) })
}

/// Does `operation` with the object of that handle if the object is of the kind, or seems to be.
fn with<S: Listed>(participant: &Participant, handle: Handle, operation: impl FnOnce(object::Object<'_, S>)) {
    if let Ok(object) = object::resolve(participant, handle) {
        operation(object);
    }
}

/// Does all that can be done with an object, or without one. The result doesn't matter.
fn operate(participant: &Participant, world: &World, random: &mut Random<'_>) {
    let handle = world.all[random.below(world.all.len() as u64) as usize];
    let other = world.all[random.below(world.all.len() as u64) as usize];
    let now = Deadline::NOW;
    let mut buffer = vec![0; 9000];
    let taken = |taken: crate::ipc::Result<Taken>| {
        if let Ok(Taken::Message(message)) = taken {
            let mut bytes = vec![0; message.len as usize];
            let _ = message.read(participant, &mut bytes);
            if let Ok(handles) = message.handles(participant) {
                let _ = message.arrive(participant, &handles);
            }
            let _ = message::discard(
                participant,
                participant.slot().unwrap().register(Register::Incoming),
                &mut Vec::new(),
            );
        }
    };
    if let Ok(port) = port(participant, handle) {
        let _ = (port.queue.size(), port.queue.bound());
        let _ = match random.below(8) {
            0 => queue::put(participant, port, &[3; 100], &[], now),
            1 => queue::put(participant, port, &[3; 100], &[other], now),
            2 => queue::put_many(participant, port, [&[4; 10][..], &[5; 8000]].into_iter(), now).map(drop),
            3 => queue::get_many(participant, port, &mut buffer, |_| true, now).map(drop),
            4 => queue::task_done(participant, port),
            5 => queue::join(participant, port, now).map(drop),
            6 => queue::close(participant, port),
            _ => {
                taken(queue::get(participant, port, || false, &mut buffer, now));
                Ok(())
            }
        };
    }
    with(participant, handle, |end| match random.below(2) {
        0 => drop(pipe::send(participant, end, &[&[6; 3000]], &[], now)),
        _ => taken(pipe::recv(participant, end, &mut buffer, now)),
    });
    with(participant, handle, |end| {
        let _ = match random.below(3) {
            0 => byte_pipe::write(participant, end, &[&[6; 3000], &[], &[7; 50]], random.below(2) * 40, now),
            1 => byte_pipe::write(participant, end, &[&[6; 30]], 0, now),
            _ => byte_pipe::read(participant, end, 5000, now, |count, bytes| {
                bytes.read(0, &mut vec![0; count as usize])
            }),
        };
        let _ =
            (byte_pipe::look(participant, end.state), end.state.number(handle), end.state.is_nonblocking());
        end.state.set_nonblocking(random.below(2) == 0);
    });
    with(participant, handle, |one| {
        let _ = (
            lock::acquire(participant, one, now),
            lock::held(participant, one),
            lock::release(participant, one),
        );
        with(participant, other, |condition| {
            let _ = condition::enter(participant, condition, one);
            let _ = condition::wait(participant, condition, now);
            let _ = lock::acquire(participant, one, now);
            let _ = condition::notify(participant, condition, one, u64::MAX);
        });
    });
    with(participant, handle, |one| {
        let _ = semaphore::acquire(participant, one, now);
        let _ = semaphore::release(participant, one, 1 + random.below(3));
        let _ = (one.state.value(), one.state.died(), one.state.held_by(participant, 1));
    });
    with(participant, handle, |one| {
        let _ = (event::set(participant, one), event::wait(participant, one, now));
        event::clear(one);
    });
    with(participant, handle, |one| {
        if let Ok(arrival) = barrier::arrive(participant, one, random.below(2) == 0, now) {
            let _ = barrier::wait(participant, one, arrival, now);
        }
        let _ = match random.below(3) {
            0 => barrier::release(participant, one),
            1 => barrier::reset(participant, one),
            _ => barrier::abort(participant, one),
        };
    });
    with(participant, handle, |one| {
        let offset = if random.below(2) == 0 { random.below(9000) } else { random.word() };
        let _ = shared::read(participant, one, offset, &mut [0; 100]);
        let _ = shared::write(participant, one, offset, &[7; 100]);
        let _ = shared::atomic(participant, one, offset, 1 << random.below(4), Atomic::Rmw(ADD, 1));
        let _ = (shared::pages(participant, one), one.state.name());
    });
    let (waitable, index) =
        (kind::waitable(participant, handle), random.below(u64::from(OBJECTS) + 1) as u32);
    let _ = waitable.map(|object| object.is_ready());
    let _ = (
        kind::shares(participant, index),
        kind::other_end(participant, index),
        kind::at_barrier(participant, index),
    );
    let _ = match random.below(13) {
        0 => queue::create(participant, 1, Account::Joinable).map(drop),
        1 => pipe::create(participant, 100, 0).map(drop),
        2 => shared::create(participant, 5000, false, "new").map(drop),
        3 => shared::open(participant, "large").map(drop),
        4 => shared::unlink(participant, "large"),
        5 => object::release(participant, handle),
        6 => object::share(participant, handle, 2),
        9 => shared::view(participant, handle).map(drop),
        10 => object::record(participant, handle, 1 + random.below(9) as u32, Some(handle)),
        11 => object::look_up(participant, handle).map(drop),
        12 => byte_pipe::create(participant, false).map(drop),
        7 => table::reserve(&participant.arena, Some((0, ProcessHandle::new(0, 0))), b"new", 0).map(drop),
        8 => table::free(&participant.arena, 2, |_| true).map(drop),
        _ => Ok(()),
    };
    if let Some(claim) = standby::claim(&participant.arena, index) {
        claim.go();
    }
    let _ = (standby::is_claimed(&participant.arena, index), standby::abandon(&participant.arena, index));
    for pid in standby::pids(&participant.arena) {
        let _ = standby::ended(&participant.arena, pid);
    }
    let _ = standby::vacate(&participant.arena);
    let _ = (table::take_requests(&participant.arena), table::children(&participant.arena, 0).count());
    if let Ok(slot) = participant.arena.process(index % PROCESSES) {
        let _ = (slot.name(), slot.claimed(), slot.exit(), slot.waits.what(), slot.parent());
        slot.waits.wake(participant);
    }
}

/// Damages an arena, uses it, and sweeps for all processes that used it.
pub(crate) fn case(bytes: &[u8], seed: u64) {
    let mut random = Random { bytes, state: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 };
    let world = World::new();
    let supervisor = world.participant(PROCESSES);
    for _ in 0..1 + random.below(3) {
        world.damage(&mut random);
        for _ in 0..random.below(30) {
            let participant = world.participant(random.below(2) as u32);
            operate(&participant, &world, &mut random);
        }
    }
    for dead in 0..PROCESSES {
        let killed = random.below(4) != 0;
        let mut sweep = Sweep::from_dead(dead, killed);
        let mut steps = 0;
        // The supervisor also tries a step again that was BUSY.
        while sweep.step(&supervisor).or_else(|_| sweep.step(&supervisor)) == Ok(false) {
            steps += 1;
            assert!(steps < STEPS_MAX, "a sweep has no end");
        }
    }
}

#[cfg(test)]
#[test]
fn any_bytes_in_the_arena_are_borne() {
    let cases = std::env::var("SANDPOOL_DAMAGE_CASES").map_or(3000, |cases| cases.parse().unwrap());
    let (done, wait) = mpsc::channel();
    let cases = std::thread::spawn(move || {
        for seed in 0..cases {
            done.send(seed).unwrap();
            case(&[], seed);
        }
    });
    // A case that never ends doesn't panic, so another thread has to notice it.
    let mut last = None;
    loop {
        match wait.recv_timeout(LONG) {
            Ok(seed) => last = Some(seed),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => panic!("the case of seed {last:?} doesn't end"),
        }
    }
    assert!(cases.join().is_ok(), "the case of seed {last:?} has panicked");
}
