//! Queues: items, batches, and tasks that are claimed.

use std::collections::BTreeSet;

use sandpool_abi::Errno;
use shuttle::rand::{Rng as _, thread_rng};

use super::{LONG, Model, NEVER, SHORT, choose, get, item, log, read};
use crate::ipc::object;
use crate::ipc::queue::{self, Account};
use crate::ipc::tests::common::port;
use crate::sys::futex::Deadline;
use crate::sys::model;

models! {
    queue_delivers: a_queue(SHORT, &[]);
    queue_with_a_death: a_queue(SHORT, &[0, 1, 2, 3]);
    queue_in_a_full_arena: a_queue(LONG, &[]);
    queue_in_a_full_arena_with_a_death: a_queue(LONG, &[0, 1, 2, 3]);
    queue_is_closed_in_a_full_arena: a_close_in_a_full_arena(&[]);
    queue_is_closed_in_a_full_arena_with_a_death: a_close_in_a_full_arena(&[1, 2]);
    queue_is_closed_while_it_is_full: a_close_of_a_full_queue(&[]);
    queue_is_closed_while_it_is_full_with_a_death: a_close_of_a_full_queue(&[1, 2]);
    batches_are_delivered: batches(&[]);
    batches_with_a_death: batches(&[0, 1, 2, 3]);
    tasks_are_done_once: tasks(&[]);
    tasks_with_a_death: tasks(&[1, 2]);
    no_other_task_is_doomed: a_doom();
    joinable_queue_settles: a_joinable_queue(&[]);
    joinable_queue_with_a_death: a_joinable_queue(&[0, 1, 2]);
}

/// Two workers do tasks. Each task is done, claimed by a worker that died, or left: exactly one of these, and once.
fn tasks(victims: &'static [u32]) {
    let mut model = Model::new();
    let queues = [Account::Claimed, Account::Nothing]
        .map(|account| model.share(queue::create(&model.maker(), 0, account).unwrap()));
    let [tasks, results] = queues;
    model.process(move |participant| {
        for number in 0..3 {
            queue::put(participant, port(participant, tasks), &item(0, number, SHORT), &[], NEVER).unwrap();
        }
        queue::close(participant, port(participant, tasks)).unwrap();
    });
    for _ in 0..2 {
        model.process(move |participant| {
            while let Ok((_, number)) = get(participant, tasks) {
                let claims = participant.claims().unwrap();
                assert_eq!(claims.get().first, u64::from(number));
                claims.begin(0).unwrap();
                let results = port(participant, results);
                queue::finish(
                    participant,
                    results,
                    &[&item(0, number, SHORT)],
                    &[],
                    participant.index,
                    NEVER,
                )
                .unwrap();
                assert!(!claims.has_some());
            }
        });
    }
    let victim = choose(victims);
    model.process_after(&[0, 1, 2], move |participant| {
        queue::close(participant, port(participant, results)).unwrap();
        let mut seen: Vec<_> = std::iter::from_fn(|| Some(get(participant, results).ok()?.1)).collect();
        if let Some(victim) = victim {
            let claims = participant.arena.process(victim).unwrap().claims.get();
            seen.extend((claims.first..claims.end).map(|number| number as u8));
        }
        // The last process takes the rest.
        while let Ok((_, number)) = get(participant, tasks) {
            seen.push(number);
            queue::finish(
                participant,
                port(participant, tasks),
                &[&[]],
                &[],
                participant.index,
                Deadline::NOW,
            )
            .unwrap_err();
            participant.claims().unwrap().reset();
        }
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2]);
    });
    model.run_to_death_of(victim);
}

/// A worker does one task after the other. Its owner has the worker killed for the task that it seems to be at, as a
/// pool does with a task that takes too long. That task has no result, and all others are done or left.
fn a_doom() {
    const TASKS: u8 = 4;
    const VICTIM: u32 = 1;
    let mut model = Model::new();
    model.is_mortal = false;
    let queues = [Account::Claimed, Account::Nothing]
        .map(|account| model.share(queue::create(&model.maker(), 0, account).unwrap()));
    let [tasks, results] = queues;
    let (at_work, doomed) = (log(), log());
    let (worker, noted) = (at_work.clone(), doomed.clone());
    let owner = model.process(move |participant| {
        for number in 0..TASKS {
            queue::put(participant, port(participant, tasks), &item(0, number, SHORT), &[], NEVER).unwrap();
        }
        queue::close(participant, port(participant, tasks)).unwrap();
        let claims = &participant.arena.process(VICTIM).unwrap().claims;
        for _ in 0..thread_rng().gen_range(0..64) {
            let (before, seen) = (claims.get(), claims.get());
            // The owner dooms a task that was seen to be at work for too long: by now, the task may no longer be at
            // work.
            (0..thread_rng().gen_range(0..8)).for_each(|_| model::point());
            if seen.work != 0 && before == seen && claims.doom(seen.work) {
                noted.lock().unwrap().push(seen.first);
                worker.lock().unwrap().iter().for_each(|worker| model::kill(*worker));
                return;
            }
            model::point();
        }
    });
    model.process(move |participant| {
        at_work.lock().unwrap().push(model::current());
        let take = |buffer: &mut [u8]| {
            let mut count = 0;
            let note = |_| {
                count += 1;
                count < 2
            };
            queue::get_many(participant, port(participant, tasks), buffer, note, NEVER)
        };
        let mut buffer = [0; 2 * SHORT];
        while let Ok(taken) = take(&mut buffer) {
            for task in buffer.chunks(SHORT).take(taken as usize) {
                participant.claims().unwrap().begin(0).unwrap();
                queue::finish(
                    participant,
                    port(participant, results),
                    &[task],
                    &[],
                    participant.index,
                    NEVER,
                )
                .unwrap();
            }
        }
    });
    let found = doomed.clone();
    model.process_after(&[owner, VICTIM], move |participant| {
        queue::close(participant, port(participant, results)).unwrap();
        let done: Vec<_> = std::iter::from_fn(|| Some(get(participant, results).ok()?.1)).collect();
        let claims = participant.arena.process(VICTIM).unwrap().claims.get();
        assert!((0..claims.first).eq(done.iter().map(|number| u64::from(*number))), "{done:?}, {claims:?}");
        match found.lock().unwrap()[..] {
            [doomed] => {
                assert_eq!((doomed, claims.work != 0), (claims.first, true), "another was hit: {claims:?}");
            }
            _ => assert_eq!(done.len(), usize::from(TASKS)),
        }
        while let Ok(left) = get(participant, tasks) {
            assert!(u64::from(left.1) >= claims.end);
            participant.claims().unwrap().reset();
        }
    });
    let died = model.run_to_death_of(Some(VICTIM));
    assert_eq!(died.is_some(), !doomed.lock().unwrap().is_empty());
}

/// Two producers and two consumers, with room for one item, in the queue or in the arena: each item comes once, and the
/// items of one producer come in order.
fn a_queue(len: usize, victims: &[u32]) {
    const ITEMS: u8 = 2;
    let (mut model, bound) = if len == LONG { (Model::with_heap(6), 0) } else { (Model::new(), 1) };
    let queue = model.share(queue::create(&model.maker(), bound, Account::Nothing).unwrap());
    let other = model.share(queue::create(&model.maker(), 0, Account::Nothing).unwrap());
    let (put, got) = (log(), log());
    for _ in 0..2 {
        let put = put.clone();
        model.process(move |participant| {
            for number in 1..=ITEMS {
                // One item lies in the segment, and one is a message.
                let handles = if number % 2 == 0 { &[other][..] } else { &[] };
                let item = item(participant.index, number, len);
                queue::put(participant, port(participant, queue), &item, handles, NEVER).unwrap();
                put.lock().unwrap().push((participant.index, number));
            }
        });
    }
    for _ in 0..2 {
        let got = got.clone();
        model.process(move |participant| {
            loop {
                match get(participant, queue) {
                    Ok(item) => got.lock().unwrap().push((participant.index, item)),
                    Err(error) => return assert_eq!(error, Errno::Closed),
                }
            }
        });
    }
    model.process_after(&[0, 1], move |participant| {
        queue::close(participant, port(participant, queue)).unwrap()
    });
    let dead = model.run(victims);
    let (put, got) = (put.lock().unwrap(), got.lock().unwrap());
    let once: BTreeSet<_> = got.iter().map(|(_, item)| *item).collect();
    assert_eq!(once.len(), got.len(), "an item came twice");
    for consumer in 2..4 {
        for producer in 0..2 {
            let items = got.iter().filter(|(by, item)| *by == consumer && item.0 == producer);
            assert!(items.is_sorted_by_key(|(_, item)| item.1), "out of order: {got:?}");
        }
    }
    let lost = put.iter().filter(|item| !once.contains(*item)).count();
    // A dead consumer may have had one item in its hands.
    assert!(lost <= usize::from(dead.is_some_and(|dead| dead >= 2)), "put {put:?}, got {got:?}");
    // A dead producer may have put one item before it could say so.
    let more = once.iter().filter(|item| !put.contains(item)).count();
    assert!(more <= usize::from(dead.is_some_and(|dead| dead < 2)));
    for producer in (0..2).filter(|producer| Some(*producer) != dead) {
        assert_eq!(put.iter().filter(|item| item.0 == producer).count(), usize::from(ITEMS));
    }
}

/// The arena is full for good, and a process closes the queue: processes that wait for room to put into the queue go
/// on, and put nothing.
fn a_close_in_a_full_arena(victims: &[u32]) {
    let mut model = Model::with_heap(6);
    let maker = model.maker();
    let queue = model.share(queue::create(&maker, 0, Account::Nothing).unwrap());
    let other = queue::create(&maker, 0, Account::Nothing).unwrap();
    for index in [1, 2] {
        object::share(&maker, other, index).unwrap();
    }
    while let Ok(()) = queue::put(&maker, port(&maker, other), &[0; SHORT], &[queue], Deadline::NOW) {}
    // The arena stays full until this process ends, whose slot is the maker's.
    model.process_after(&[1, 2, 3], |_| {});
    for _ in 0..2 {
        model.process(move |participant| {
            // This item has pages of its own.
            let put = queue::put(participant, port(participant, queue), &[1; SHORT], &[other], NEVER);
            assert_eq!(put, Err(Errno::Closed));
        });
    }
    model.process(move |participant| queue::close(participant, port(participant, queue)).unwrap());
    model.run(victims);
}

/// A process closes a queue that is full, while the arena isn't: processes that wait for room go on, and put nothing.
fn a_close_of_a_full_queue(victims: &[u32]) {
    let mut model = Model::new();
    let maker = model.maker();
    let queue = model.share(queue::create(&maker, 1, Account::Nothing).unwrap());
    queue::put(&maker, port(&maker, queue), &item(0, 0, SHORT), &[], Deadline::NOW).unwrap();
    model.process_after(&[1, 2, 3], move |participant| {
        assert_eq!(get(participant, queue), Ok((0, 0)));
        assert_eq!(get(participant, queue), Err(Errno::Closed));
    });
    for _ in 0..2 {
        model.process(move |participant| {
            let put = queue::put(participant, port(participant, queue), &[1; SHORT], &[], NEVER);
            assert_eq!(put, Err(Errno::Closed));
        });
    }
    model.process(move |participant| queue::close(participant, port(participant, queue)).unwrap());
    model.run(victims);
}

/// Two processes put four items each as batches, with room for two, and two take as many as they get. Only the
/// beginning of a batch is there if its producer has died.
fn batches(victims: &[u32]) {
    const ITEMS: u8 = 4;
    const MOST: usize = 3;
    let mut model = Model::new();
    let queue = model.share(queue::create(&model.maker(), 2, Account::Nothing).unwrap());
    let (put, got) = (log(), log());
    for producer in 0..2 {
        let put = put.clone();
        model.process(move |participant| {
            let items: Vec<_> = (1..=ITEMS).map(|number| item(producer, number, SHORT)).collect();
            let mut rest = &items[..];
            while !rest.is_empty() {
                let batch = rest.iter().map(Vec::as_slice);
                let count =
                    queue::put_many(participant, port(participant, queue), batch, NEVER).unwrap() as usize;
                put.lock().unwrap().extend(rest[..count].iter().map(|item| read(item)));
                rest = &rest[count..];
            }
        });
    }
    for _ in 0..2 {
        let got = got.clone();
        model.process(move |participant| {
            loop {
                let mut buffer = [0; MOST * SHORT];
                let most = thread_rng().gen_range(1..=MOST);
                let mut lens = Vec::new();
                let note = |len| {
                    lens.push(len);
                    lens.len() < most
                };
                let taken = queue::get_many(participant, port(participant, queue), &mut buffer, note, NEVER);
                match taken {
                    Ok(count) => assert!(count != 0 && count as usize == lens.len() && lens.len() <= most),
                    Err(error) => return assert_eq!(error, Errno::Closed),
                }
                assert!(lens.iter().all(|len| *len == SHORT));
                let items = buffer.chunks(SHORT).take(lens.len()).map(|item| (participant.index, read(item)));
                got.lock().unwrap().extend(items);
            }
        });
    }
    model.process_after(&[0, 1], move |participant| {
        queue::close(participant, port(participant, queue)).unwrap()
    });
    let dead = model.run(victims);
    let (put, got) = (put.lock().unwrap(), got.lock().unwrap());
    let once: BTreeSet<_> = got.iter().map(|(_, item)| *item).collect();
    assert_eq!(once.len(), got.len(), "an item came twice");
    for consumer in 2..4 {
        for producer in 0..2 {
            let items = got.iter().filter(|(by, item)| *by == consumer && item.0 == producer);
            assert!(items.is_sorted_by_key(|(_, item)| item.1), "out of order: {got:?}");
        }
    }
    let lost = put.iter().filter(|item| !once.contains(*item)).count();
    if dead.is_some_and(|dead| dead >= 2) {
        assert!(lost <= MOST, "put {put:?}, got {got:?}");
        return;
    }
    assert_eq!(lost, 0, "put {put:?}, got {got:?}");
    for producer in 0..2 {
        let items: Vec<_> = once.iter().filter(|item| item.0 == producer).map(|item| item.1).collect();
        assert!((1..=ITEMS).take(items.len()).eq(items.iter().copied()), "not a beginning: {items:?}");
        assert!(Some(producer) == dead || items.len() == usize::from(ITEMS));
    }
}

/// One producer puts tasks, two processes do them, and one waits for all.
fn a_joinable_queue(victims: &[u32]) {
    let mut model = Model::new();
    let queue = model.share(queue::create(&model.maker(), 0, Account::Joinable).unwrap());
    let (done, lost) = (log(), log());
    model.process(move |participant| {
        for number in 1..=3 {
            queue::put(participant, port(participant, queue), &item(0, number, SHORT), &[], NEVER).unwrap();
        }
    });
    for _ in 0..2 {
        let done = done.clone();
        model.process(move |participant| {
            while let Ok((_, number)) = get(participant, queue) {
                queue::task_done(participant, port(participant, queue)).unwrap();
                done.lock().unwrap().push(number);
            }
        });
    }
    let joined = lost.clone();
    model.process_after(&[0], move |participant| {
        queue::close(participant, port(participant, queue)).unwrap();
        joined.lock().unwrap().push(queue::join(participant, port(participant, queue), NEVER).unwrap());
    });
    let dead = model.run(victims);
    let (done, lost) = (done.lock().unwrap().len() as u64, lost.lock().unwrap()[0]);
    match dead {
        None => assert_eq!((done, lost), (3, 0)),
        Some(0) => assert_eq!(lost, 0),
        // The victim may have had one item, or have been done with one before it could say so.
        Some(_) => assert!((2..=3).contains(&(done + lost)), "done {done}, lost {lost}"),
    }
}
