//! Collections with more objects, and with more messages in one queue, than one step looks at.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::sync::Arc;

use sandpool_abi::Errno;
use sandpool_abi::shelf::WORDS;

use super::common::{copy, of, port};
use crate::ipc::arena::{Arena, Geometry, Participant, Patience};
use crate::ipc::collect::Collector;
use crate::ipc::collections;
use crate::ipc::kind;
use crate::ipc::object::{self, Handle};
use crate::ipc::pipe;
use crate::ipc::queue::{self, Account, QueueState};
use crate::ipc::shelf::{self, Change, ShelfState};
use crate::sys::atomic::Ordering;
use crate::sys::futex::Deadline;
use crate::testing::deadline::within_deadline;

/// More objects, and more messages in a queue, than a step of a collection looks at.
const MANY: usize = 600;

/// The first two that use a new arena; one more than its processes is the supervisor.
fn participants(processes_max: u32, objects_max: u32, heap_pages: u32) -> [Participant; 2] {
    let geometry = Geometry { processes_max, objects_max, heap_pages };
    let arena = Arc::new(Arena::create(geometry).unwrap().1);
    [0, 1].map(|index| Participant { arena: arena.clone(), index, patience: Patience::Brief })
}

struct World {
    maker: Participant,
    supervisor: Participant,
}

impl World {
    fn new() -> Self {
        let [maker, supervisor] = participants(1, 4000, 1 << 13);
        Self { maker, supervisor }
    }

    fn queue(&self) -> Handle {
        queue::create(&self.maker, 0, Account::Nothing).unwrap()
    }

    fn put(&self, queue: Handle, handle: Handle) {
        queue::put(&self.maker, port(&self.maker, queue), &[], &[handle], Deadline::NOW).unwrap();
    }

    fn release(&self, handles: &[Handle]) {
        handles.iter().for_each(|handle| object::release(&self.maker, *handle).unwrap());
    }

    /// Queues that lie in each other, each in the next, which only messages hold.
    fn circle(&self, len: usize) {
        let queues: Vec<_> = (0..len).map(|_| self.queue()).collect();
        queues.iter().zip(queues.iter().cycle().skip(1)).for_each(|(one, next)| self.put(*next, *one));
        self.release(&queues);
    }

    /// Fills a queue with many queues, each of which has another one, and which only messages hold.
    fn fill(&self, queue: Handle) {
        for _ in 0..MANY {
            let [child, grandchild] = [(); 2].map(|()| self.queue());
            self.put(child, grandchild);
            self.put(queue, child);
            self.release(&[child, grandchild]);
        }
    }

    /// Does a whole collection, and returns the number of objects that are left.
    fn collect(&self) -> usize {
        let mut collector = Collector::new(&self.supervisor.arena).unwrap();
        collections::want(&self.supervisor.arena).unwrap();
        collector.begin_if_wanted(&self.supervisor).unwrap();
        assert!(collector.is_at_it());
        while collector.is_at_it() {
            collector.step(&self.supervisor).unwrap();
        }
        object::count_live(&self.supervisor.arena).unwrap() as usize
    }

    fn is_empty(&self) -> bool {
        self.supervisor.arena.header().unwrap().heap.used_pages() == 0
    }
}

#[test]
fn what_lies_only_in_itself_goes_however_much_there_is() {
    let world = World::new();
    world.circle(MANY);
    let hub = world.queue();
    world.fill(hub);
    world.put(hub, hub);
    world.release(&[hub]);
    assert_eq!(world.collect(), 0);
    assert!(world.is_empty());
}

/// A queue that a process holds has another one in it, which has many: a collection follows each of them. It leaves
/// them, and takes a circle beside them.
#[test]
fn what_can_be_reached_stays_with_all_that_lies_in_it() {
    let world = World::new();
    let [held, hub] = [(); 2].map(|()| world.queue());
    world.fill(hub);
    world.put(held, hub);
    world.release(&[hub]);
    world.circle(2);
    assert_eq!(world.collect(), 2 + 2 * MANY);
    world.release(&[held]);
    assert!(world.is_empty());
}

/// A process takes a circle apart and puts it together again while a collection is between its two queues. The process
/// holds one of them when the collection ends.
#[test]
fn what_has_changed_between_two_looks_stays() {
    let world = World::new();
    let [first, second] = [world.queue(), {
        // The second one is looked at in a later step.
        let between: Vec<_> = (0..MANY).map(|_| world.queue()).collect();
        let second = world.queue();
        world.release(&between);
        second
    }];
    world.put(second, first);
    world.release(&[first]);
    let mut collector = Collector::new(&world.supervisor.arena).unwrap();
    collections::want(&world.supervisor.arena).unwrap();
    collector.begin_if_wanted(&world.supervisor).unwrap();
    // The first queue is only in a message.
    collector.step(&world.supervisor).unwrap();
    let taken =
        queue::get(&world.maker, port(&world.maker, second), || false, &mut [], Deadline::NOW).unwrap();
    copy(&world.maker, taken, &mut []).unwrap();
    world.put(first, second);
    world.release(&[second]);
    // The second queue is looked at, which is only in a message, too.
    (0..3).for_each(|_| collector.step(&world.supervisor).unwrap());
    // The second is reached through the first, which the process holds.
    let taken =
        queue::get(&world.maker, port(&world.maker, first), || false, &mut [], Deadline::NOW).unwrap();
    copy(&world.maker, taken, &mut []).unwrap();
    world.put(second, first);
    world.put(first, second);
    world.release(&[second]);
    while collector.is_at_it() {
        collector.step(&world.supervisor).unwrap();
    }
    assert!(object::find(&world.maker, first).is_ok());
    assert_eq!(object::count_live(&world.supervisor.arena), Ok(2));
}

/// The slot is another object's by now.
#[test]
fn a_stale_handle_names_nothing() {
    let world = World::new();
    let stale = world.queue();
    world.release(&[stale]);
    let now = world.queue();
    assert_eq!(stale.0 & u64::from(u32::MAX), now.0 & u64::from(u32::MAX), "it has the same slot");
    let found = object::find(&world.maker, stale).map(drop);
    let resolved = object::resolve::<QueueState>(&world.maker, stale).map(drop);
    let for_host = object::resolve_for_host::<QueueState>(&world.supervisor, stale).map(drop);
    assert_eq!([found, resolved, for_host], [Err(Errno::Badf); 3]);
    assert!(object::look_up(&world.maker, stale).is_err());
    assert_eq!(object::release(&world.maker, stale), Err(Errno::Badf));
    assert!(object::resolve_for_host::<QueueState>(&world.supervisor, now).is_ok());
}

/// Handles are numbers, which a process can guess: only those that it was given name anything.
#[test]
fn a_handle_that_a_process_was_not_given_names_nothing() {
    let [maker, other] = participants(2, 4, 16);
    let handle = queue::create(&maker, 0, Account::Nothing).unwrap();
    let of_other = || {
        let resolved = object::resolve::<QueueState>(&other, handle).map(drop);
        [object::find(&other, handle).map(drop), resolved]
    };
    assert_eq!(of_other(), [Err(Errno::Badf); 2]);
    assert_eq!(object::release(&other, handle), Err(Errno::Badf));
    object::share(&maker, handle, other.index).unwrap();
    assert_eq!(of_other(), [Ok(()); 2]);
    object::release(&other, handle).unwrap();
    assert_eq!(of_other(), [Err(Errno::Badf); 2]);
    assert!(object::find(&maker, handle).is_ok());
}

/// Two of three queues hold themselves. A process holds one of these, so only the other goes.
#[test]
fn a_queue_that_a_process_holds_stays_though_it_lies_in_itself() {
    let world = World::new();
    world.circle(1);
    let held = world.queue();
    world.put(held, held);
    assert_eq!(world.collect(), 1);
    assert!(object::find(&world.maker, held).is_ok());
    world.release(&[held]);
    assert_eq!(world.collect(), 0);
}

/// A message that is thrown away with its queue leaves another queue to lie in itself alone.
#[test]
fn an_object_that_a_discarded_message_held_is_looked_at() {
    let world = World::new();
    let [outer, inner] = [(); 2].map(|()| world.queue());
    world.put(inner, inner);
    world.put(outer, inner);
    world.release(&[inner]);
    assert_eq!(world.collect(), 2, "it can be reached");
    world.release(&[outer]);
    assert_eq!(world.collect(), 0);
}

/// The receiver itself holds the end that sends, and so does a message: a process could take the message and send. When
/// the message is thrown away, nobody else can, and the receiver sleeps by then.
#[test]
fn who_receives_is_told_of_the_last_end_that_was_in_a_message() {
    within_deadline(|| {
        let [maker, receiver] = participants(2, 8, 64);
        let queue = queue::create(&maker, 0, Account::Nothing).unwrap();
        let [reads, writes] = pipe::create(&maker, 100, 0).unwrap();
        queue::put(&maker, port(&maker, queue), &[], &[writes], Deadline::NOW).unwrap();
        for end in [reads, writes] {
            object::share(&maker, end, receiver.index).unwrap();
            object::release(&maker, end).unwrap();
        }
        std::thread::scope(|scope| {
            let received = scope
                .spawn(|| pipe::recv(&receiver, of(&receiver, reads), &mut [], Deadline::NEVER).map(drop));
            while receiver.slot().unwrap().waits.what().is_none() {
                std::thread::yield_now();
            }
            object::release(&maker, queue).unwrap();
            assert_eq!(received.join().unwrap(), Err(Errno::Closed));
        });
    });
}

/// The room may be there once objects that nobody can reach are gone.
#[test]
fn who_finds_no_room_for_an_item_wants_a_collection() {
    let [maker, _] = participants(1, 4, 32);
    let queue = queue::create(&maker, 0, Account::Nothing).unwrap();
    let put = || queue::put(&maker, port(&maker, queue), &[0; 5000], &[], Deadline::NOW);
    let is_wanted = || maker.arena.header().unwrap().collections.wanted.load(Ordering::Relaxed) != 0;
    while put().is_ok() {
        assert!(!is_wanted());
    }
    assert_eq!(put(), Err(Errno::Again));
    assert!(is_wanted());
}

/// The collection begins when the process wants it, and brings room when it ends.
#[test]
fn who_finds_no_room_waits_until_a_collection_is_done() {
    within_deadline(|| {
        let [maker, supervisor] = participants(1, 4, 64);
        let world = World { maker, supervisor };
        world.circle(4);
        let mut collector = Collector::new(&world.supervisor.arena).unwrap();
        let create = || queue::create(&world.maker, 0, Account::Nothing);
        assert_eq!(create(), Err(Errno::Nfile));
        std::thread::scope(|scope| {
            let made = scope.spawn(|| collections::retry(&world.maker, create));
            while !made.is_finished() {
                collector.begin_if_wanted(&world.supervisor).unwrap();
                assert!(matches!(collector.step(&world.supervisor), Ok(()) | Err(Errno::Busy)));
                std::thread::yield_now();
            }
            assert!(made.join().unwrap().is_ok());
        });
    });
}

/// A collection notices changes of a shelf as it does those of a queue.
#[test]
fn a_shelf_that_was_changed_has_another_version() {
    let [maker, _] = participants(1, 4, 64);
    let handle = shelf::create(&maker).unwrap();
    let index = of::<ShelfState>(&maker, handle).index;
    let mut versions = vec![kind::at(&maker, index).unwrap().version().unwrap()];
    for content in [Some((&b"one"[..], &[][..])), Some((b"two", &[])), None] {
        let change = Change { place: 0, content };
        shelf::change(&maker, of(&maker, handle), &[0; WORDS], &[change]).unwrap();
        let version = kind::at(&maker, index).unwrap().version().unwrap();
        assert!(!versions.contains(&version));
        versions.push(version);
    }
}
