//! Barriers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use sandpool_abi::Errno;
use sandpool_abi::sync::ACT;
use shuttle::rand::{Rng as _, thread_rng};

use super::{Model, NEVER, choose, log};
use crate::ipc::arena::Participant;
use crate::ipc::object::Handle;
use crate::ipc::sync::barrier;
use crate::ipc::tests::common::of;
use crate::sys::futex::Deadline;
use crate::sys::model;

models! {
    barrier_lets_all_pass: a_barrier(&[]);
    barrier_with_a_death: a_barrier(&[0, 1, 2]);
    barrier_is_reset: a_barrier_that_is_reset(&[]);
    barrier_is_reset_with_a_death: a_barrier_that_is_reset(&[3]);
    barrier_with_a_timeout: a_barrier_with_a_timeout(&[]);
}

/// Passes a barrier, and tells `inside` when the process is surely inside. Returns the index.
fn pass(
    participant: &Participant,
    handle: Handle,
    acts: bool,
    deadline: Deadline,
    inside: impl Fn(bool),
) -> crate::ipc::Result<i64> {
    let barrier = of(participant, handle);
    let arrival = barrier::arrive(participant, barrier, acts, deadline)?;
    inside(true);
    let waited = barrier::wait(participant, barrier, arrival, deadline);
    inside(false);
    let index = waited?;
    if index & ACT != 0 {
        assert!(acts);
        barrier::release(participant, barrier)?;
    }
    Ok(index & !ACT)
}

/// Three processes meet twice. With a death, the others are told of it at the second meeting at the latest.
fn a_barrier(victims: &[u32]) {
    let mut model = Model::new();
    let barrier = model.share(barrier::create(&model.maker(), 3).unwrap());
    let passed = log();
    let inside = Arc::new(Mutex::new(BTreeMap::new()));
    for _ in 0..3 {
        let (passed, inside) = (passed.clone(), inside.clone());
        let acts = thread_rng().r#gen();
        model.process(move |participant| {
            for round in 0..2 {
                let passes = pass(participant, barrier, acts, NEVER, |is_inside| {
                    let mut inside = inside.lock().unwrap();
                    inside.remove(&participant.index);
                    inside.extend(is_inside.then_some((participant.index, round)));
                });
                match passes {
                    Ok(index) => passed.lock().unwrap().push((round, index)),
                    Err(error) => return assert_eq!(error, Errno::Broken),
                }
            }
        });
    }
    let victim = choose(victims);
    if let Some(victim) = victim {
        // If the victim died outside, nobody is told that it won't come.
        let (died, passed) = (log(), passed.clone());
        let found = died.clone();
        model.on_found = Some(Box::new(move |dead| found.lock().unwrap().push(dead)));
        model.process_after(&[victim], move |participant| {
            let barrier = of::<barrier::BarrierState>(participant, barrier);
            let rounds = |round| passed.lock().unwrap().iter().filter(|(one, _)| *one == round).count();
            // If the victim died inside, either that is known, or the others pass all the same.
            let waits = || {
                let round = inside.lock().unwrap().get(&victim).copied();
                round.is_some_and(|round| rounds(round) < 2)
            };
            while waits() && !barrier.state.is_broken() {
                model::pause();
            }
            // If the victim died outside, nobody is told that it won't come.
            if !died.lock().unwrap().is_empty() && !barrier.state.is_broken() {
                barrier::abort(participant, barrier).unwrap();
            }
        });
    }
    let dead = model.run_to_death_of(victim);
    let passed = passed.lock().unwrap();
    let once: BTreeSet<_> = passed.iter().collect();
    assert_eq!(once.len(), passed.len(), "two have the same index");
    match dead {
        None => assert_eq!(passed.len(), 6),
        Some(_) => assert!(passed.len() <= 6),
    }
}

/// Three processes meet, and try again if another resets the barrier.
fn a_barrier_that_is_reset(victims: &[u32]) {
    let mut model = Model::new();
    let barrier = model.share(barrier::create(&model.maker(), 3).unwrap());
    for _ in 0..3 {
        let acts = thread_rng().r#gen();
        model.process(
            move |participant| while pass(participant, barrier, acts, NEVER, |_| {}) == Err(Errno::Broken) {},
        );
    }
    model.process(move |participant| barrier::reset(participant, of(participant, barrier)).unwrap());
    model.run(victims);
}

/// One process waits for the others only until its deadline: then all are told, or all have met.
fn a_barrier_with_a_timeout(victims: &[u32]) {
    let mut model = Model::new();
    let barrier = model.share(barrier::create(&model.maker(), 3).unwrap());
    let deadline = model.deadline;
    let results = log();
    for index in 0..3 {
        let results = results.clone();
        model.process(move |participant| {
            let result = pass(participant, barrier, false, if index == 0 { deadline } else { NEVER }, |_| {});
            results.lock().unwrap().push(result);
        });
    }
    model.run(victims);
    let results = results.lock().unwrap();
    let broken = results.iter().filter(|result| **result == Err(Errno::Broken)).count();
    assert!(broken == 0 || broken == 3, "{results:?}");
}
