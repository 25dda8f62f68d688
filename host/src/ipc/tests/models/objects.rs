//! Objects that only messages hold, and objects that go from one process to the next.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use shuttle::thread;

use super::{Model, NEVER, PROCESSES, SHORT, get, item, take_handles};
use crate::ipc::arena::Participant;
use crate::ipc::collect::{is_still, unheld};
use crate::ipc::object::{self, Handle};
use crate::ipc::queue::{self, Account};
use crate::ipc::tests::common::port;

models! {
    circles_go: circles(&[]);
    circles_go_with_a_death: circles(&[0, 1, 2]);
    object_goes_from_one_to_the_next: an_object_on_its_way(&[]);
    object_goes_from_one_to_the_next_with_a_death: an_object_on_its_way(&[0, 1, 2, 4, 5]);
    something_is_taken_during_a_second_look: a_second_look();
}

/// Two queues lie in each other, and go from one process to the next in a third queue. A process that takes one can
/// take the other out of it, and all are gone in the end, while the supervisor looks for objects that nobody can reach.
fn circles(victims: &[u32]) {
    let mut model = Model::new();
    model.collects = true;
    let meet = model.share(queue::create(&model.maker(), 0, Account::Nothing).unwrap());
    let put = |participant: &Participant, queue, handle| {
        queue::put(participant, port(participant, queue), &[], &[handle], NEVER).unwrap();
    };
    let hand_on = move |participant: &Participant, one: Handle, other: Handle| {
        put(participant, one, other);
        put(participant, other, one);
        object::release(participant, other).unwrap();
        put(participant, meet, one);
        object::release(participant, one).unwrap();
    };
    let deadline = model.deadline;
    model.process(move |participant| {
        let [one, other] = [(); 2].map(|()| queue::create(participant, 0, Account::Nothing).unwrap());
        hand_on(participant, one, other);
    });
    for _ in 0..2 {
        model.process(move |participant| {
            // Perhaps no process is left that puts one.
            let Ok(one) = take_handles(participant, meet, deadline) else { return };
            let other = take_handles(participant, one[0], NEVER).unwrap();
            assert_eq!(take_handles(participant, other[0], NEVER).unwrap(), one, "the circle is broken");
            hand_on(participant, other[0], one[0]);
        });
    }
    model.run(victims);
}

/// Each process gives a queue to the next and gives it up, as with a fork, while processes that have given it up look
/// whether anybody has it. The queue exists as long as some process has it, and no longer.
fn an_object_on_its_way(victims: &[u32]) {
    // The queue goes from word to word of its holders, and back.
    const WAY: [u32; 5] = [0, 4, 1, 5, 2];
    let mut model = Model::wide();
    let queue = queue::create(&model.maker(), 0, Account::Nothing).unwrap();
    let stride = model.stride;
    let has_it = Arc::new(Mutex::new(BTreeSet::from([0])));
    // The processes that won't give the queue to anybody any more.
    let over = Arc::new(Mutex::new(BTreeSet::new()));
    let dead = over.clone();
    model.on_found = Some(Box::new(move |process| {
        dead.lock().unwrap().insert(process);
    }));
    for number in 0..PROCESSES {
        let Some(at) = WAY.iter().position(|process| *process == number) else {
            model.process(|_| {});
            continue;
        };
        let previous = at.checked_sub(1).map(|at| WAY[at]);
        let next = WAY.get(at + 1).copied();
        let (has_it, over) = (has_it.clone(), over.clone());
        model.process(move |participant| {
            // The process hasn't begun here yet, and doesn't die.
            while !has_it.lock().unwrap().contains(&number) {
                if previous.is_some_and(|previous| over.lock().unwrap().contains(&previous)) {
                    over.lock().unwrap().insert(number);
                    return;
                }
                thread::yield_now();
            }
            queue::put(participant, port(participant, queue), &[1], &[], NEVER).unwrap();
            if let Some(next) = next {
                object::share(participant, queue, next * stride).unwrap();
                has_it.lock().unwrap().insert(next);
            }
            object::release(participant, queue).unwrap();
        });
    }
    model.run(victims);
}

/// A queue lies in a message, as before, but meanwhile a process has had it, and takes something from it before it drops
/// the queue. The supervisor doesn't take the queue for unchanged, whenever it looks.
fn a_second_look() {
    let mut model = Model::new();
    let maker = model.maker();
    let meet = model.share(queue::create(&maker, 0, Account::Nothing).unwrap());
    let queue = queue::create(&maker, 0, Account::Nothing).unwrap();
    queue::put(&maker, port(&maker, queue), &item(0, 0, SHORT), &[], NEVER).unwrap();
    queue::put(&maker, port(&maker, meet), &[], &[queue], NEVER).unwrap();
    object::release(&maker, queue).unwrap();
    let index = queue.index().unwrap();
    let found = unheld(&maker, index).unwrap().unwrap();
    let is_back = Arc::new(AtomicBool::new(false));
    let was_back = is_back.clone();
    model.process(move |participant| {
        assert_eq!(take_handles(participant, meet, NEVER).unwrap(), [queue]);
        queue::put(participant, port(participant, meet), &[], &[queue], NEVER).unwrap();
        is_back.store(true, Ordering::SeqCst);
        assert_eq!(get(participant, queue), Ok((0, 0)));
        object::release(participant, queue).unwrap();
    });
    model.process(move |participant| {
        loop {
            // From here on the queue is held until the item is taken.
            let was_back = was_back.load(Ordering::SeqCst);
            let is_unchanged = is_still(participant, index, &found).unwrap();
            assert!(!(was_back && is_unchanged), "a queue with less in it passed for unchanged");
            if was_back {
                break;
            }
            thread::yield_now();
        }
    });
    model.run(&[]);
}
