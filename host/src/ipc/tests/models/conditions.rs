//! Conditions.

use std::sync::{Arc, Mutex};

use sandpool_abi::Errno;
use shuttle::rand::{Rng as _, thread_rng};

use super::{Model, NEVER, acquire, release};
use crate::ipc::arena::Participant;
use crate::ipc::object::Handle;
use crate::ipc::sync::{condition, lock};
use crate::ipc::tests::common::of;
use crate::sys::futex::Deadline;
use crate::sys::model;

models! {
    condition_loses_no_notification: a_condition(&[]);
    condition_with_the_death_of_one_who_waits: a_condition(&[0, 1]);
    condition_with_the_death_of_a_notifier: a_condition(&[2, 3]);
    condition_notifies_all: a_condition_for_all(&[]);
    condition_notifies_all_with_a_death: a_condition_for_all(&[0, 1, 2]);
    condition_with_a_timeout: a_condition_with_a_timeout(&[]);
}

/// Makes a condition and its lock.
fn condition_and_lock(model: &Model) -> (Handle, Handle) {
    let recursive = thread_rng().r#gen();
    let [condition, lock] = [condition::create(&model.maker()), lock::create(&model.maker(), recursive)];
    (model.share(condition.unwrap()), model.share(lock.unwrap()))
}

/// Waits in a condition, with its lock. Returns whether the process was notified.
fn wait(participant: &Participant, condition: Handle, handle: Handle, deadline: Deadline) -> bool {
    let (condition, lock) = (of(participant, condition), of(participant, handle));
    let depth = condition::enter(participant, condition, lock).unwrap();
    let notified = condition::wait(participant, condition, deadline).unwrap();
    assert!(matches!(lock::acquire_again(participant, lock, depth), Ok(()) | Err(Errno::Ownerdead)));
    notified
}

fn notify(participant: &Participant, condition: Handle, lock: Handle, count: u64) -> u64 {
    condition::notify(participant, of(participant, condition), of(participant, lock), count).unwrap()
}

/// Two processes need a token each, and two bring one and notify one process.
fn a_condition(victims: &[u32]) {
    let mut model = Model::new();
    let (condition, lock) = condition_and_lock(&model);
    let tokens = Arc::new(Mutex::new(0));
    for _ in 0..2 {
        let tokens = tokens.clone();
        model.process(move |participant| {
            acquire(participant, lock);
            while *tokens.lock().unwrap() == 0 {
                assert!(wait(participant, condition, lock, NEVER));
            }
            *tokens.lock().unwrap() -= 1;
            release(participant, lock);
        });
    }
    for _ in 0..2 {
        let tokens = tokens.clone();
        model.process(move |participant| {
            acquire(participant, lock);
            *tokens.lock().unwrap() += 1;
            notify(participant, condition, lock, 1);
            release(participant, lock);
        });
    }
    if victims.contains(&2) {
        // The process that died was to bring this. A process that was notified before finds a token or waits again.
        model.process_after(&[2, 3], move |participant| {
            acquire(participant, lock);
            *tokens.lock().unwrap() += 2;
            notify(participant, condition, lock, u64::MAX);
            release(participant, lock);
        });
    }
    model.run(victims);
}

/// Two processes wait for a word, one gives it, and one gives it again in case the first giver has died.
fn a_condition_for_all(victims: &[u32]) {
    let mut model = Model::new();
    let (condition, lock) = condition_and_lock(&model);
    let given = Arc::new(Mutex::new(false));
    for _ in 0..2 {
        let given = given.clone();
        model.process(move |participant| {
            acquire(participant, lock);
            while !*given.lock().unwrap() {
                assert!(wait(participant, condition, lock, NEVER));
            }
            release(participant, lock);
        });
    }
    let give = move |participant: &Participant| {
        acquire(participant, lock);
        *given.lock().unwrap() = true;
        notify(participant, condition, lock, u64::MAX);
        release(participant, lock);
    };
    model.process(give.clone());
    if victims.contains(&2) {
        model.process_after(&[2], give);
    }
    model.run(victims);
}

/// One of two waiting processes waits until its deadline only. The process that is notified first notifies the other,
/// which otherwise waits for ever: so no notification goes to a process whose time was over.
fn a_condition_with_a_timeout(victims: &[u32]) {
    let mut model = Model::new();
    let (condition, lock) = condition_and_lock(&model);
    let deadline = model.deadline;
    let notify_one = move |participant: &Participant| {
        loop {
            acquire(participant, lock);
            let notified = notify(participant, condition, lock, 1);
            release(participant, lock);
            if notified == 1 {
                return;
            }
            model::pause();
        }
    };
    model.process(move |participant| {
        acquire(participant, lock);
        let notified = wait(participant, condition, lock, deadline);
        release(participant, lock);
        if notified {
            notify_one(participant);
        }
    });
    model.process(move |participant| {
        acquire(participant, lock);
        // The other process has gone, or is notified in the end.
        assert!(wait(participant, condition, lock, NEVER));
        release(participant, lock);
    });
    model.process(notify_one);
    model.run(victims);
}
