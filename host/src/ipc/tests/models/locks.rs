//! Locks, recursive or not.

use std::sync::{Arc, Mutex};

use sandpool_abi::Errno;

use super::{Model, NEVER, log};
use crate::ipc::sync::lock;
use crate::ipc::tests::common::of;
use crate::sys::model;

models! {
    lock_has_one_owner: a_lock(false, &[]);
    lock_with_a_death: a_lock(false, &[0, 1, 2]);
    recursive_lock_has_one_owner: a_lock(true, &[]);
    recursive_lock_with_a_death: a_lock(true, &[0, 1, 2]);
}

/// Three processes lock, one of them with a deadline. Only the next owner is told of a death with the lock.
fn a_lock(recursive: bool, victims: &[u32]) {
    let mut model = Model::new();
    let lock = model.share(lock::create(&model.maker(), recursive).unwrap());
    let (inside, told) = (Arc::new(Mutex::new(None)), log());
    let deadline = model.deadline;
    for _ in 0..4 {
        let (inside, told) = (inside.clone(), told.clone());
        let index = model.processes.len() as u32;
        // The last one comes when all others have gone.
        let after: &[u32] = if index == 3 { &[0, 1, 2] } else { &[] };
        model.process_after(after, move |participant| {
            let lock = of(participant, lock);
            for _ in 0..2 {
                match lock::acquire(participant, lock, if index == 2 { deadline } else { NEVER }) {
                    Ok(()) => assert_eq!(*inside.lock().unwrap(), None, "a second owner"),
                    Err(Errno::Ownerdead) => told.lock().unwrap().push(*inside.lock().unwrap()),
                    Err(error) => {
                        assert!(error == Errno::Timedout && index == 2);
                        continue;
                    }
                }
                *inside.lock().unwrap() = Some(index);
                model::point();
                if recursive {
                    lock::acquire(participant, lock, NEVER).unwrap();
                    assert_eq!(lock::held(participant, lock), 2);
                    lock::release(participant, lock).unwrap();
                }
                assert_eq!(lock::held(participant, lock), 1);
                *inside.lock().unwrap() = None;
                lock::release(participant, lock).unwrap();
            }
        });
    }
    let dead = model.run(victims);
    let told = told.lock().unwrap();
    assert!(told.len() <= usize::from(dead.is_some()));
    assert!(told.iter().flatten().all(|owner| Some(*owner) == dead));
    assert_eq!(*inside.lock().unwrap(), None, "nobody was told of a death with the lock");
}
