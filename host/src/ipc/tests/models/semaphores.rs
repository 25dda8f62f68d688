//! Semaphores.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use shuttle::rand::{Rng as _, thread_rng};

use super::{Model, NEVER, log};
use crate::ipc::sync::{event, semaphore};
use crate::ipc::tests::common::of;
use crate::sys::model;

models! {
    semaphore_has_so_many_units: a_semaphore(&[]);
    semaphore_with_a_death: a_semaphore(&[0, 1, 2]);
    semaphore_is_given_several_units: several_units();
}

/// Three processes want one of two units each, or the only one, twice.
fn a_semaphore(victims: &[u32]) {
    let mut model = Model::new();
    let units = thread_rng().gen_range(1..=2);
    let returned = units == 1 || thread_rng().r#gen();
    let semaphore = model.share(semaphore::create(&model.maker(), units, true, returned).unwrap());
    let inside = Arc::new(Mutex::new(BTreeSet::new()));
    let with_the_dead = log();
    let (there, gone) = (inside.clone(), with_the_dead.clone());
    model.on_found =
        Some(Box::new(move |dead| gone.lock().unwrap().push(there.lock().unwrap().remove(&dead))));
    for _ in 0..3 {
        let inside = inside.clone();
        model.process(move |participant| {
            let semaphore = of(participant, semaphore);
            for _ in 0..2 {
                semaphore::acquire(participant, semaphore, NEVER).unwrap();
                inside.lock().unwrap().insert(participant.index);
                assert!(inside.lock().unwrap().len() as u64 <= units, "more inside than units");
                model::point();
                inside.lock().unwrap().remove(&participant.index);
                semaphore::release(participant, semaphore, 1).unwrap();
            }
        });
    }
    model.process_after(&[0, 1, 2], move |participant| {
        let semaphore = of::<semaphore::SemaphoreState>(participant, semaphore);
        let (value, died) = (semaphore.state.value(), semaphore.state.died());
        assert_eq!(value, if returned { units } else { units - died });
        let gone = with_the_dead.lock().unwrap();
        // The dead process may have had a unit that it didn't come to use, or to give back.
        assert!(died >= u64::from(gone.contains(&true)) && died <= gone.len() as u64);
    });
    model.run(victims);
}

/// Two processes want a unit each, and a third gives both at once. None of the two ends before the other has one: what a process
/// has when it ends wakes all.
fn several_units() {
    let mut model = Model::new();
    let semaphore = model.share(semaphore::create(&model.maker(), 0, false, false).unwrap());
    let both = model.share(event::create(&model.maker()).unwrap());
    let have_one = log();
    for _ in 0..2 {
        let have_one = have_one.clone();
        model.process(move |participant| {
            semaphore::acquire(participant, of(participant, semaphore), NEVER).unwrap();
            have_one.lock().unwrap().push(participant.index);
            if have_one.lock().unwrap().len() == 2 {
                event::set(participant, of(participant, both)).unwrap();
            }
            event::wait(participant, of(participant, both), NEVER).unwrap();
        });
    }
    model.process(move |participant| {
        semaphore::release(participant, of(participant, semaphore), 2).unwrap();
    });
    model.run(&[]);
}
