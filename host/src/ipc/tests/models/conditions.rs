//! Conditions.

use std::sync::{Arc, Mutex};

use sandpool_abi::Errno;
use shuttle::rand::{Rng as _, thread_rng};

use super::{Model, NEVER, acquire, release};
use crate::ipc::arena::Member;
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

/// A condition, and its lock.
fn condition_and_lock(model: &Model) -> (Handle, Handle) {
    let recursive = thread_rng().r#gen();
    let [condition, lock] = [condition::create(&model.maker()), lock::create(&model.maker(), recursive)];
    (model.share(condition.unwrap()), model.share(lock.unwrap()))
}

/// Waits in a condition, with its lock. Whether it was notified.
fn wait(member: &Member, condition: Handle, handle: Handle, deadline: Deadline) -> bool {
    let (condition, lock) = (of(member, condition), of(member, handle));
    let depth = condition::enter(member, condition, lock).unwrap();
    let notified = condition::wait(member, condition, deadline).unwrap();
    assert!(matches!(lock::acquire_again(member, lock, depth), Ok(()) | Err(Errno::Ownerdead)));
    notified
}

fn notify(member: &Member, condition: Handle, lock: Handle, count: u64) -> u64 {
    condition::notify(member, of(member, condition), of(member, lock), count).unwrap()
}

/// Two who need a token each, and two who bring one and notify one.
fn a_condition(victims: &[u32]) {
    let mut model = Model::new();
    let (condition, lock) = condition_and_lock(&model);
    let tokens = Arc::new(Mutex::new(0));
    for _ in 0..2 {
        let tokens = tokens.clone();
        model.process(move |member| {
            acquire(member, lock);
            while *tokens.lock().unwrap() == 0 {
                assert!(wait(member, condition, lock, NEVER));
            }
            *tokens.lock().unwrap() -= 1;
            release(member, lock);
        });
    }
    for _ in 0..2 {
        let tokens = tokens.clone();
        model.process(move |member| {
            acquire(member, lock);
            *tokens.lock().unwrap() += 1;
            notify(member, condition, lock, 1);
            release(member, lock);
        });
    }
    if victims.contains(&2) {
        // One who died was to bring this. Who was notified before finds it or waits again.
        model.process_after(&[2, 3], move |member| {
            acquire(member, lock);
            *tokens.lock().unwrap() += 2;
            notify(member, condition, lock, u64::MAX);
            release(member, lock);
        });
    }
    model.run(victims);
}

/// Two who wait for a word, one who gives it, and one who gives it again in case that one has died.
fn a_condition_for_all(victims: &[u32]) {
    let mut model = Model::new();
    let (condition, lock) = condition_and_lock(&model);
    let given = Arc::new(Mutex::new(false));
    for _ in 0..2 {
        let given = given.clone();
        model.process(move |member| {
            acquire(member, lock);
            while !*given.lock().unwrap() {
                assert!(wait(member, condition, lock, NEVER));
            }
            release(member, lock);
        });
    }
    let give = move |member: &Member| {
        acquire(member, lock);
        *given.lock().unwrap() = true;
        notify(member, condition, lock, u64::MAX);
        release(member, lock);
    };
    model.process(give.clone());
    if victims.contains(&2) {
        model.process_after(&[2], give);
    }
    model.run(victims);
}

/// One of two who wait does so for some time only. The one that is notified first notifies the other, who else waits for
/// ever: so no notification goes to one whose time was over.
fn a_condition_with_a_timeout(victims: &[u32]) {
    let mut model = Model::new();
    let (condition, lock) = condition_and_lock(&model);
    let deadline = model.deadline;
    let notify_one = move |member: &Member| {
        loop {
            acquire(member, lock);
            let notified = notify(member, condition, lock, 1);
            release(member, lock);
            if notified == 1 {
                return;
            }
            model::pause();
        }
    };
    model.process(move |member| {
        acquire(member, lock);
        let notified = wait(member, condition, lock, deadline);
        release(member, lock);
        if notified {
            notify_one(member);
        }
    });
    model.process(move |member| {
        acquire(member, lock);
        // The other has gone, or is notified in the end.
        assert!(wait(member, condition, lock, NEVER));
        release(member, lock);
    });
    model.process(notify_one);
    model.run(victims);
}
