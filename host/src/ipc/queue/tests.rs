//! Tests of queues.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a panic is how a test fails")]

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::ipc::arena::{Arena, Geometry, Patience};
use crate::ipc::sweep::{Sweep, sweep};
use crate::sys::futex::Deadline;
use crate::testing::deadline::within_deadline;

const PROCESSES: u32 = 3;

fn port(participant: &Participant, handle: Handle) -> Port<'_> {
    let object::Object { index, state } = object::resolve(participant, handle).unwrap();
    Port { queue: state, object: index, waiting: Waiting::TasksDone(index) }
}

fn put_one(participant: &Participant, handle: Handle) {
    put(participant, port(participant, handle), b"item", &[], Deadline::NOW).unwrap();
}

fn get_one(participant: &Participant, handle: Handle) -> Result<Taken> {
    get(participant, port(participant, handle), || false, &mut [0; 8], Deadline::NOW)
}

/// A joinable queue with this number of items, and a process that has put them, one that has the queue as well, and the supervisor.
fn joinable(items: u32) -> ([Participant; 3], Handle) {
    let geometry = Geometry { processes_max: PROCESSES, objects_max: 4, heap_pages: 16 };
    let arena = Arc::new(Arena::create(geometry).unwrap().1);
    let participant = |index| Participant { arena: arena.clone(), index, patience: Patience::Brief };
    let [other, holder, supervisor] = [0, 1, PROCESSES].map(participant);
    let handle = create(&other, 0, Account::Joinable).unwrap();
    object::share(&other, handle, holder.index).unwrap();
    (0..items).for_each(|_| put_one(&other, handle));
    ([other, holder, supervisor], handle)
}

/// One process takes `taken` of three items, another says that `done` of them are done with, and the first dies.
fn after_the_death(taken: u64, done: u64, check: impl Fn(&Participant, Handle)) {
    let ([other, holder, supervisor], handle) = joinable(3);
    (0..taken).for_each(|_| drop(get_one(&holder, handle).unwrap()));
    (0..done).for_each(|_| task_done(&other, port(&other, handle)).unwrap());
    sweep(Sweep::from_dead(holder.index, true), &supervisor).unwrap();
    check(&other, handle);
}

#[test]
fn items_that_another_is_done_with_are_not_lost_as_well() {
    for (taken, done) in [(1, 0), (3, 0), (1, 1), (2, 1), (2, 2), (3, 1), (3, 2), (3, 3)] {
        after_the_death(taken, done, |other, handle| {
            let of = || port(other, handle);
            // The other items are still to be taken, and to be done.
            let settled = taken.max(done);
            for _ in taken..3 {
                get_one(other, handle).unwrap();
            }
            for _ in settled..3 {
                assert_eq!(join(other, of(), Deadline::NOW), Err(Errno::Again), "{taken} and {done}");
                task_done(other, of()).unwrap();
            }
            assert_eq!(join(other, of(), Deadline::NOW), Ok(settled - done), "{taken} and {done}");
            assert_eq!(task_done(other, of()), Err(Errno::Overflow));
            // An item that is put from now on is to be done: no more items were counted than there had been.
            put_one(other, handle);
            assert_eq!(join(other, of(), Deadline::NOW), Err(Errno::Again), "{taken} and {done}");
            get_one(other, handle).unwrap();
            task_done(other, of()).unwrap();
            assert_eq!(join(other, of(), Deadline::NOW), Ok(settled - done));
        });
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Put,
    Get(u32),
    Done(u32),
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    /// Each item is settled once, whichever process says so of whichever item, before or after it was taken, and
    /// before or after others were put: the items open in the end are those that were put, less those that were
    /// taken or done with.
    #[test]
    fn each_item_is_settled_once(steps in prop::collection::vec(
        prop_oneof![Just(Step::Put), (0..50_u32).prop_map(Step::Get), (0..50_u32).prop_map(Step::Done)], 0..200,
    )) {
        let geometry = Geometry { processes_max: 50, objects_max: 4, heap_pages: 16 };
        let arena = Arc::new(Arena::create(geometry).unwrap().1);
        let participant = |index| Participant { arena: arena.clone(), index, patience: Patience::Brief };
        let [maker, supervisor] = [0, 50].map(participant);
        let handle = create(&maker, 0, Account::Joinable).unwrap();
        (1..50).for_each(|index| object::share(&maker, handle, index).unwrap());
        let [mut put, mut taken, mut done] = [0_u64; 3];
        for step in steps {
            match step {
                Step::Put => {
                    put_one(&maker, handle);
                    put += 1;
                }
                Step::Get(index) => {
                    let got = get_one(&participant(index), handle).is_ok();
                    prop_assert_eq!(got, taken < put);
                    taken += u64::from(got);
                }
                Step::Done(index) => {
                    let other = participant(index);
                    let is_done = task_done(&other, port(&other, handle)).is_ok();
                    prop_assert_eq!(is_done, done < put);
                    done += u64::from(is_done);
                }
            }
        }
        // The maker goes on; the items that it has taken are its own to finish.
        let left = object::resolve::<QueueState>(&maker, handle).unwrap().state.taken.held_by(&maker, 0);
        (1..50).for_each(|index| sweep(Sweep::from_dead(index, true), &supervisor).unwrap());
        let mut open = 0;
        while task_done(&maker, port(&maker, handle)).is_ok() {
            open += 1;
        }
        prop_assert_eq!(open, put - taken.max(done) + left);
    }
}

fn participant() -> Participant {
    let geometry = Geometry { processes_max: PROCESSES, objects_max: 8, heap_pages: 64 };
    Participant { arena: Arc::new(Arena::create(geometry).unwrap().1), index: 0, patience: Patience::Brief }
}

#[test]
fn a_closed_queue_takes_nothing_and_gives_what_it_has() {
    let participant = participant();
    let [handle, other] = [0, 0].map(|bound| create(&participant, bound, Account::Nothing).unwrap());
    let of = || port(&participant, handle);
    (0..2).for_each(|_| put_one(&participant, handle));
    put(&participant, of(), b"large", &[other], Deadline::NOW).unwrap();
    close(&participant, of()).unwrap();
    for deadline in [Deadline::NOW, Deadline::NEVER] {
        let small = put(&participant, of(), b"item", &[], deadline);
        let with_a_handle = put(&participant, of(), b"item", &[other], deadline);
        let large = put(&participant, of(), &[0; 2 * INLINE_MAX], &[], deadline);
        let several = put_many(&participant, of(), [&b"item"[..]; 2].into_iter(), deadline).map(drop);
        assert_eq!([small, with_a_handle, large, several], [Err(Errno::Closed); 4]);
    }
    assert!(of().queue.has_news() && of().queue.size() == 3);
    for _ in 0..2 {
        assert!(matches!(get_one(&participant, handle), Ok(Taken::Copied(4))));
    }
    assert!(matches!(get_one(&participant, handle), Ok(Taken::Message(message)) if message.len == 5));
    for _ in 0..2 {
        assert!(matches!(get_one(&participant, handle), Err(Errno::Closed)));
    }
}

#[test]
fn a_queue_holds_as_many_items_as_its_bound_and_no_more() {
    for bound in [1, 2, 7] {
        let participant = participant();
        let handle = create(&participant, bound, Account::Nothing).unwrap();
        let put_now = || put(&participant, port(&participant, handle), b"item", &[], Deadline::NOW);
        for _ in 0..3 {
            for _ in 0..bound {
                put_now().unwrap();
            }
            assert_eq!(put_now(), Err(Errno::Again), "{bound}");
            let several = [&b"item"[..]; 3].into_iter();
            let several = put_many(&participant, port(&participant, handle), several, Deadline::NOW);
            assert_eq!(several, Err(Errno::Again), "{bound}");
            get_one(&participant, handle).unwrap();
            put_now().unwrap();
            assert_eq!(put_now(), Err(Errno::Again), "{bound}");
            (0..bound).for_each(|_| drop(get_one(&participant, handle).unwrap()));
            assert!(matches!(get_one(&participant, handle), Err(Errno::Again)));
        }
    }
}

/// A worker takes what it can at once, and then nothing until it is finished with that.
#[test]
fn who_has_claims_takes_nothing_more() {
    let participant = participant();
    let [claimed, results] =
        [Account::Claimed, Account::Nothing].map(|account| create(&participant, 0, account).unwrap());
    (0..3).for_each(|_| put_one(&participant, claimed));
    put_one(&participant, results);
    let get_several =
        |handle| get_many(&participant, port(&participant, handle), &mut [0; 8], |_| true, Deadline::NOW);
    let finish_one = || {
        let port = port(&participant, results);
        finish(&participant, port, &[b"done"], &[], participant.index, Deadline::NOW)
    };
    assert_eq!(finish_one(), Err(Errno::Inval), "it has claimed nothing");
    get_one(&participant, claimed).unwrap();
    for _ in 0..2 {
        assert!(matches!(get_one(&participant, claimed), Err(Errno::Busy)));
        assert_eq!(get_several(claimed), Err(Errno::Busy));
    }
    // Others can have the items that nobody has claimed.
    get_one(&participant, results).unwrap();
    participant.claims().unwrap().begin(0).unwrap();
    finish_one().unwrap();
    assert_eq!(finish_one(), Err(Errno::Inval), "it is finished with that");
    assert_eq!(get_several(claimed), Ok(2));
    assert_eq!(get_several(claimed), Err(Errno::Busy));
}

#[test]
fn what_finds_no_room_leaves_none_behind() {
    let participant = participant();
    let used = || participant.arena.header().unwrap().heap.used_pages();
    let [full, other] = [1, 0].map(|bound| create(&participant, bound, Account::Nothing).unwrap());
    put_one(&participant, full);
    let before = used();
    for _ in 0..3 {
        let large = put(&participant, port(&participant, full), &[0; 2 * INLINE_MAX], &[], Deadline::NOW);
        let with_a_handle = put(&participant, port(&participant, full), b"item", &[other], Deadline::NOW);
        assert_eq!([large, with_a_handle], [Err(Errno::Again); 2]);
        assert_eq!(used(), before);
    }
    let mut made = Vec::new();
    while let Ok(handle) = create(&participant, 0, Account::Nothing) {
        made.push(handle);
    }
    let before = used();
    for _ in 0..3 {
        assert_eq!(create(&participant, 0, Account::Nothing), Err(Errno::Nfile));
        assert!(crate::ipc::pipe::create(&participant, 100, 0).is_err());
        assert_eq!(used(), before);
    }
    for handle in made.into_iter().chain([full, other]) {
        object::release(&participant, handle).unwrap();
    }
    assert_eq!(used(), 0);
    assert_eq!(object::count_live(&participant.arena), Ok(0));
}

#[test]
fn a_pipe_holds_as_many_bytes_as_its_bound_and_one_message_however_long() {
    let participant = participant();
    let [receiver, sender] = crate::ipc::pipe::create(&participant, 100, 0).unwrap();
    let send = |len: usize| {
        let sender = object::resolve(&participant, sender).unwrap();
        crate::ipc::pipe::send(&participant, sender, &[&vec![0; len]], &[], Deadline::NOW)
    };
    let recv = || {
        let receiver = object::resolve(&participant, receiver).unwrap();
        crate::ipc::pipe::recv(&participant, receiver, &mut [0; 5000], Deadline::NOW).map(|taken| match taken
        {
            Taken::Copied(len) => len,
            other => panic!("{other:?}"),
        })
    };
    send(60).unwrap();
    assert_eq!(send(41), Err(Errno::Again));
    send(40).unwrap();
    assert_eq!(send(1), Err(Errno::Again));
    assert_eq!(recv(), Ok(60));
    send(60).unwrap();
    assert_eq!((recv(), recv()), (Ok(40), Ok(60)));
    send(4000).unwrap();
    assert_eq!(send(1), Err(Errno::Again));
    assert_eq!(recv(), Ok(4000));
    send(1).unwrap();
}

/// A count that a hostile process has written is believed as far as there are such items.
#[test]
fn no_more_items_are_lost_than_are_open() {
    let ([other, holder, supervisor], handle) = joinable(3);
    get_one(&holder, handle).unwrap();
    let entries = &port(&other, handle).queue.taken.entries;
    let own = entries.iter().find(|entry| entry.load(Ordering::Relaxed) != 0).unwrap();
    own.fetch_or(1000, Ordering::Relaxed);
    sweep(Sweep::from_dead(holder.index, true), &supervisor).unwrap();
    assert_eq!(join(&other, port(&other, handle), Deadline::NOW), Ok(3));
    put_one(&other, handle);
    assert_eq!(join(&other, port(&other, handle), Deadline::NOW), Err(Errno::Again));
}

#[test]
fn a_record_is_no_longer_than_any_can_be() {
    for len in [INLINE_MAX as u64 + 1, PAGE as u64, u64::MAX >> 8] {
        let participant = participant();
        let handle = create(&participant, 0, Account::Nothing).unwrap();
        put_one(&participant, handle);
        let segment = port(&participant, handle).queue.head.segment.load(Ordering::Relaxed);
        let record: &AtomicU64 = participant.arena.in_heap(segment, SEGMENT_HEAD).unwrap();
        record.store(len << 8 | INLINE, Ordering::Relaxed);
        assert_eq!(get_one(&participant, handle).err(), Some(Errno::Io), "{len}");
    }
}

/// Writes a word into the first segment of a queue, as another process of the run could.
fn damage(participant: &Participant, handle: Handle, at: u64, word: u64) {
    let segment = port(participant, handle).queue.head.segment.load(Ordering::Relaxed);
    let damaged: &AtomicU64 = participant.arena.in_heap(segment, at).unwrap();
    damaged.store(word, Ordering::Relaxed);
}

#[test]
fn an_item_longer_than_a_segment_has_is_damage() {
    for len in [INLINE_MAX as u64 + 1, SEGMENT_MAX + 8, u64::MAX >> 8] {
        let participant = participant();
        let handle = create(&participant, 0, Account::Nothing).unwrap();
        put_one(&participant, handle);
        damage(&participant, handle, SEGMENT_HEAD, len << 8 | INLINE);
        assert_eq!(get_one(&participant, handle).err(), Some(Errno::Io), "{len}");
    }
}

/// A look through the contents comes to an end that the host determines, wherever the segments lead.
#[test]
fn segments_in_a_circle_are_damage() {
    let participant = participant();
    let handle = create(&participant, 0, Account::Nothing).unwrap();
    let queue = port(&participant, handle).queue;
    let first = queue.head.segment.load(Ordering::Relaxed);
    while queue.tail.segment.load(Ordering::Relaxed) == first {
        put_one(&participant, handle);
    }
    let look = || {
        let mut position = None;
        for _ in 0..participant.arena.geometry.heap_pages + 2 {
            position = queue.handles_from(&participant, position, |_| {})?;
            if position.is_none() {
                return Ok(());
            }
        }
        panic!("it goes on for ever");
    };
    assert_eq!(look(), Ok(()));
    damage(&participant, handle, 0, first);
    assert_eq!(look(), Err(Errno::Io));
}

/// Each consumer that sleeps is woken when there is an item for it.
#[test]
fn many_items_that_are_put_at_once_wake_all_who_wait() {
    within_deadline(|| {
        let geometry = Geometry { processes_max: PROCESSES, objects_max: 4, heap_pages: 16 };
        let arena = Arc::new(Arena::create(geometry).unwrap().1);
        let participant = |index| Participant { arena: arena.clone(), index, patience: Patience::Brief };
        let maker = participant(0);
        let handle = create(&maker, 0, Account::Nothing).unwrap();
        std::thread::scope(|scope| {
            for index in [1, 2] {
                object::share(&maker, handle, index).unwrap();
                let consumer = participant(index);
                scope.spawn(move || {
                    let port = port(&consumer, handle);
                    get(&consumer, port, || false, &mut [0; 8], Deadline::NEVER).unwrap();
                });
            }
            // A wait is noted before the consumer sleeps, and looks once more then.
            let waits = |index| participant(index).slot().unwrap().waits.what().is_some();
            while !(waits(1) && waits(2)) {
                std::thread::yield_now();
            }
            let items = [b"item".as_slice(); 2];
            assert_eq!(put_many(&maker, port(&maker, handle), items.into_iter(), Deadline::NOW), Ok(2));
        });
    });
}

/// A consumer dies after it has said that an item is done with, and before others can see that.
#[test]
fn an_item_that_was_done_with_at_a_death_is_not_waited_for() {
    let ([other, holder, supervisor], handle) = joinable(1);
    get_one(&holder, handle).unwrap();
    let Port { queue, object, .. } = port(&holder, handle);
    let operation = holder.begin(object).unwrap();
    let guard = queue.lock_head(&holder).unwrap();
    queue.taken.take_of_any(&holder, &guard).unwrap();
    guard.set(&queue.done, 1).unwrap();
    guard.commit();
    std::mem::forget((guard, operation));
    assert_eq!(join(&other, port(&other, handle), Deadline::NOW), Err(Errno::Again));
    sweep(Sweep::from_dead(holder.index, true), &supervisor).unwrap();
    assert_eq!(join(&other, port(&other, handle), Deadline::NOW), Ok(0));
}

/// More processes have items than a queue has entries for, so that their accounts lie in a page.
#[test]
fn the_page_of_accounts_goes_with_the_queue() {
    const MANY: u32 = 50;
    let geometry = Geometry { processes_max: MANY, objects_max: 4, heap_pages: 16 };
    let arena = Arc::new(Arena::create(geometry).unwrap().1);
    let all: Vec<_> = (0..MANY)
        .map(|index| Participant { arena: arena.clone(), index, patience: Patience::Brief })
        .collect();
    let handle = create(&all[0], 0, Account::Joinable).unwrap();
    (1..MANY).for_each(|index| object::share(&all[0], handle, index).unwrap());
    for participant in &all {
        put_one(participant, handle);
        get_one(participant, handle).unwrap();
    }
    let used = || arena.header().unwrap().heap.used_pages();
    assert!(port(&all[0], handle).queue.taken.page.load(Ordering::Relaxed) != 0 && used() > 1);
    all.iter().for_each(|participant| object::release(participant, handle).unwrap());
    assert_eq!((object::count_live(&arena), used()), (Ok(0), 0));
}
