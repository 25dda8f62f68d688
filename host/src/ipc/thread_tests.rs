//! Threads in the place of processes, so that Miri can look at what the arena does: `make miri`. It sees bytes that are
//! copied while another stores there, and lets each load return what a processor with weak orders may, which the
//! [models](super::models) don't.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use sandpool_abi::Errno;
use sandpool_abi::shared::ADD;

use super::arena::{Arena, Geometry, Member, Patience};
use super::death_tests::{copy, of, port};
use super::object::{self, Handle, count_live};
use super::pipe::{self, EndState};
use super::queue::{self, Account};
use super::shared::{self, Atomic};
use super::sync::{barrier, condition, event, lock, semaphore};
use crate::sys::futex::Deadline;

const NEVER: Deadline = Deadline::NEVER;

/// What each does. Miri takes a thousand times as long as the processor.
const ROUNDS: u8 = if cfg!(miri) { 8 } else { 200 };

/// Items in a segment, and with pages of their own.
const LENS: [usize; 2] = [24, 9000];

const PROCESSES: u32 = 4;

struct World {
    arena: Arc<Arena>,
}

impl World {
    fn new() -> Self {
        let geometry = Geometry { processes_max: PROCESSES, objects_max: 4, heap_pages: 24 };
        Self { arena: Arc::new(Arena::create(geometry).unwrap().1) }
    }

    fn member(&self, index: u32) -> Member {
        Member { arena: self.arena.clone(), index, patience: Patience::Forever }
    }

    /// Makes an object that all hold.
    fn make(&self, create: impl FnOnce(&Member) -> super::Result<Handle>) -> Handle {
        let maker = self.member(0);
        let handle = create(&maker).unwrap();
        (1..PROCESSES).for_each(|process| object::share(&maker, handle, process).unwrap());
        handle
    }

    /// Has each process do this, and gives the objects back. In the end nothing is left.
    fn run<T: Send>(self, objects: &[Handle], work: impl Fn(&Member) -> T + Sync) -> Vec<T> {
        let (world, work) = (&self, &work);
        let done = thread::scope(|scope| {
            let threads: Vec<_> = (0..PROCESSES)
                .map(|index| {
                    scope.spawn(move || {
                        let member = world.member(index);
                        let done = work(&member);
                        objects.iter().for_each(|handle| object::release(&member, *handle).unwrap());
                        done
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(count_live(&self.arena), Ok(0), "objects are left");
        assert_eq!(self.arena.header().unwrap().heap.used_pages(), 0, "memory is left");
        done
    }
}

/// Producer and number of an item, which must be whole.
fn read(item: &[u8]) -> (u8, u8) {
    assert!(item[2..].iter().all(|byte| *byte == item[1]), "an item is not whole");
    (item[0], item[1])
}

fn item(producer: u32, number: u8, len: usize) -> Vec<u8> {
    let mut item = vec![number; len];
    item[0] = producer as u8;
    item
}

/// What all have got: each item of each producer once, and to each who got them in order.
fn expect_each_once(got: &[Vec<(u8, u8)>], producers: u8) {
    let mut count = BTreeMap::new();
    for items in got {
        let mut last = BTreeMap::new();
        for (producer, number) in items {
            assert!(last.insert(producer, number) < Some(number), "out of order");
            *count.entry((*producer, *number)).or_insert(0) += 1;
        }
    }
    let all = (0..producers).flat_map(|producer| (1..=ROUNDS).map(move |number| ((producer, number), 1)));
    assert!(count.into_iter().eq(all), "some are missing, or came twice");
}

/// Bytes that somebody has got, in a buffer of this length.
fn taken(member: &Member, taken: queue::Taken, mut buffer: Vec<u8>) -> (u8, u8) {
    let len = copy(member, taken, &mut buffer).unwrap();
    read(&buffer[..len])
}

#[test]
fn items_come_once_whole_and_in_order() {
    for (len, bound) in LENS.into_iter().flat_map(|len| [(len, 0), (len, 2)]) {
        let world = World::new();
        let queue = world.make(|maker| queue::create(maker, bound, Account::Nothing));
        // Two put, and the last of them says that there is no more.
        let putting = AtomicU32::new(2);
        let got = world.run(&[queue], |member| {
            if member.index < 2 {
                for number in 1..=ROUNDS {
                    let item = item(member.index, number, len);
                    queue::put(member, port(member, queue), &item, &[], NEVER).unwrap();
                }
                if putting.fetch_sub(1, Ordering::SeqCst) == 1 {
                    queue::close(member, port(member, queue)).unwrap();
                }
                return Vec::new();
            }
            let mut got = Vec::new();
            loop {
                let mut buffer = vec![0; len];
                match queue::get(member, port(member, queue), || false, &mut buffer, NEVER) {
                    Ok(item) => got.push(taken(member, item, buffer)),
                    Err(error) => {
                        assert_eq!(error, Errno::Closed);
                        return got;
                    }
                }
            }
        });
        expect_each_once(&got, 2);
    }
}

#[test]
fn messages_come_once_whole_and_in_order() {
    for len in LENS {
        let world = World::new();
        let maker = world.member(0);
        let [reads, writes] = pipe::create(&maker, 20_000, 0).unwrap();
        (2..PROCESSES).for_each(|reader| object::share(&maker, reads, reader).unwrap());
        object::share(&maker, writes, 1).unwrap();
        object::release(&maker, reads).unwrap();
        let got = world.run(&[], |member| {
            let mut got = Vec::new();
            if member.index < 2 {
                for number in 1..=ROUNDS {
                    let item = item(member.index, number, len);
                    pipe::send(member, of(member, writes), &item, &[], NEVER).unwrap();
                }
                object::release(member, writes).unwrap();
                return got;
            }
            loop {
                let mut buffer = vec![0; len];
                match pipe::recv(member, of::<EndState>(member, reads), &mut buffer, NEVER) {
                    Ok(message) => got.push(taken(member, message, buffer)),
                    Err(error) => {
                        assert_eq!(error, Errno::Closed);
                        object::release(member, reads).unwrap();
                        return got;
                    }
                }
            }
        });
        expect_each_once(&got, 2);
    }
}

/// Counts twice in bytes that are copied, which tells if somebody else is there, and is a race if what guards them
/// doesn't order that.
fn count_twice(member: &Member, counts: Handle) {
    let counts = of(member, counts);
    let mut bytes = [0; 16];
    shared::read(member, counts, 0, &mut bytes).unwrap();
    let (one, other) = bytes.split_at(8);
    assert_eq!(one, other, "somebody else is in between");
    let next = (u64::from_le_bytes(one.try_into().unwrap()) + 1).to_le_bytes();
    shared::write(member, counts, 0, &next).unwrap();
    shared::write(member, counts, 8, &next).unwrap();
}

/// What guards bytes: as many are counted as there were rounds.
fn guards(
    objects: impl FnOnce(&World) -> Vec<Handle>,
    enter: impl Fn(&Member, &[Handle], u8) + Sync,
    leave: impl Fn(&Member, &[Handle]) + Sync,
) {
    let world = World::new();
    let guards = objects(&world);
    let counts = world.make(|maker| shared::create(maker, 5000, false, ""));
    let all: Vec<_> = guards.iter().copied().chain([counts]).collect();
    let counted = world.run(&all, |member| {
        for round in 0..ROUNDS {
            enter(member, &guards, round);
            count_twice(member, counts);
            leave(member, &guards);
        }
        enter(member, &guards, ROUNDS);
        let mut bytes = [0; 8];
        shared::read(member, of(member, counts), 0, &mut bytes).unwrap();
        leave(member, &guards);
        u64::from_le_bytes(bytes)
    });
    assert_eq!(counted.into_iter().max(), Some(u64::from(PROCESSES) * u64::from(ROUNDS)));
}

#[test]
fn a_lock_guards() {
    for recursive in [false, true] {
        guards(
            |world| vec![world.make(|maker| lock::create(maker, recursive))],
            |member, guards, _| lock::acquire(member, of(member, guards[0]), NEVER).unwrap(),
            |member, guards| lock::release(member, of(member, guards[0])).unwrap(),
        );
    }
}

#[test]
fn a_semaphore_guards() {
    guards(
        |world| vec![world.make(|maker| semaphore::create(maker, 1, true, false))],
        |member, guards, _| semaphore::acquire(member, of(member, guards[0]), NEVER).unwrap(),
        |member, guards| semaphore::release(member, of(member, guards[0]), 1).unwrap(),
    );
}

/// Each waits for its turn.
#[test]
fn a_condition_guards() {
    let turn = AtomicU32::new(0);
    guards(
        |world| vec![world.make(condition::create), world.make(|maker| lock::create(maker, false))],
        |member, guards, _| {
            let (condition, lock) = (of(member, guards[0]), of(member, guards[1]));
            lock::acquire(member, lock, NEVER).unwrap();
            while turn.load(Ordering::Relaxed) != member.index {
                let depth = condition::enter(member, condition, lock).unwrap();
                assert!(condition::wait(member, condition, NEVER).unwrap());
                lock::acquire_again(member, lock, depth).unwrap();
            }
        },
        |member, guards| {
            let (condition, lock) = (of(member, guards[0]), of(member, guards[1]));
            turn.store((member.index + 1) % PROCESSES, Ordering::Relaxed);
            condition::notify(member, condition, lock, u64::MAX).unwrap();
            lock::release(member, lock).unwrap();
        },
    );
}

/// Between two meetings, only one of them is there.
#[test]
fn a_barrier_orders() {
    let world = World::new();
    let barrier = world.make(|maker| barrier::create(maker, u64::from(PROCESSES)));
    let bytes = world.make(|maker| shared::create(maker, 5000, false, ""));
    world.run(&[barrier, bytes], |member| {
        let meet = || {
            let barrier = of(member, barrier);
            let arrival = barrier::arrive(member, barrier, false, NEVER).unwrap();
            barrier::wait(member, barrier, arrival, NEVER).unwrap();
        };
        let bytes = of(member, bytes);
        for round in 1..=ROUNDS {
            shared::write(member, bytes, u64::from(member.index) * 100, &[round; 100]).unwrap();
            meet();
            let mut all = [0; 100 * PROCESSES as usize];
            shared::read(member, bytes, 0, &mut all).unwrap();
            assert_eq!(all, [round; 100 * PROCESSES as usize]);
            meet();
        }
    });
}

#[test]
fn what_was_stored_before_an_event_is_seen_behind_it() {
    for _ in 0..ROUNDS {
        let world = World::new();
        let event = world.make(event::create);
        let bytes = world.make(|maker| shared::create(maker, 5000, false, ""));
        world.run(&[event, bytes], |member| {
            let (event, bytes) = (of(member, event), of(member, bytes));
            if member.index == 0 {
                shared::write(member, bytes, 0, &[7; 5000]).unwrap();
                return event::set(member, event).unwrap();
            }
            event::wait(member, event, NEVER).unwrap();
            let mut found = [0; 5000];
            shared::read(member, bytes, 0, &mut found).unwrap();
            assert_eq!(found, [7; 5000]);
        });
    }
}

/// The last to add to an integer sees what all have stored before.
#[test]
fn an_atomic_operation_orders() {
    for _ in 0..ROUNDS {
        let world = World::new();
        let count = world.make(|maker| shared::create(maker, 8, true, ""));
        let bytes = world.make(|maker| shared::create(maker, 5000, false, ""));
        let last = world.run(&[count, bytes], |member| {
            let (count, bytes) = (of(member, count), of(member, bytes));
            shared::write(member, bytes, u64::from(member.index) * 100, &[7; 100]).unwrap();
            if shared::atomic(member, count, 0, 8, Atomic::Rmw(ADD, 1)) != Ok(u64::from(PROCESSES) - 1) {
                return false;
            }
            let mut all = [0; 100 * PROCESSES as usize];
            shared::read(member, bytes, 0, &mut all).unwrap();
            all == [7; 100 * PROCESSES as usize]
        });
        assert_eq!(last.into_iter().filter(|is_last| *is_last).count(), 1);
    }
}
