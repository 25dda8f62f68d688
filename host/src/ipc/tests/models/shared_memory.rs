//! Shared memory: names, views, and integers in it.

use std::sync::{Arc, Mutex};

use sandpool_abi::Errno;
use sandpool_abi::shared::ADD;
use shuttle::rand::{Rng as _, thread_rng};

use super::{Model, NEVER, choose, take_handles};
use crate::ipc::arena::Participant;
use crate::ipc::object;
use crate::ipc::queue::{self, Account};
use crate::ipc::shared::{self, Atomic};
use crate::ipc::tests::common::{of, port};

models! {
    name_is_given_once: a_name(&[]);
    name_is_given_once_with_a_death: a_name(&[0, 1, 2, 3]);
    views_keep_shared_memory: a_view(&[]);
    views_keep_shared_memory_with_a_death: a_view(&[0, 1, 2]);
    integer_in_shared_memory_counts: an_integer(&[]);
    integer_in_shared_memory_counts_with_a_death: an_integer(&[0, 1, 2]);
}

/// Two processes give memory the same name, one removes the name, and one opens the memory with that name. Each finds
/// all of one memory or none, and the name is gone once it has been removed as often as it was given.
fn a_name(victims: &[u32]) {
    const NAME: &str = "name";
    /// Bytes with a page of their own.
    const LEN: u64 = 5000;
    let mut model = Model::new();
    // How often the name was given, less how often it was removed.
    let balance = Arc::new(Mutex::new(0));
    for number in 1..=2 {
        let balance = balance.clone();
        model.process(move |participant| match shared::create(participant, LEN, false, NAME) {
            Ok(handle) => {
                *balance.lock().unwrap() += 1;
                shared::write(participant, of(participant, handle), LEN - 8, &[number; 8]).unwrap();
                object::release(participant, handle).unwrap();
            }
            Err(error) => assert_eq!(error, Errno::Exist),
        });
    }
    let taken = balance.clone();
    model.process(move |participant| match shared::unlink(participant, NAME) {
        Ok(()) => *taken.lock().unwrap() -= 1,
        Err(error) => assert_eq!(error, Errno::Noent),
    });
    model.process(|participant| match shared::open(participant, NAME) {
        Ok(handle) => {
            let mut end = [9; 8];
            shared::read(participant, of(participant, handle), LEN - 8, &mut end).unwrap();
            assert!(end.iter().all(|byte| *byte <= 2), "{end:?} is nobody's");
            object::release(participant, handle).unwrap();
        }
        Err(error) => assert_eq!(error, Errno::Noent),
    });
    let victim = choose(victims);
    model.process_after(&[0, 1, 2, 3], move |participant| {
        let left = i32::from(shared::unlink(participant, NAME).is_ok());
        assert_eq!(shared::unlink(participant, NAME), Err(Errno::Noent));
        // A dead process may have done one of these before it could say so.
        let balance = *balance.lock().unwrap();
        assert!(left == balance || victim.is_some() && (left - balance).abs() == 1, "{left}, {balance}");
    });
    model.run_to_death_of(victim);
}

/// One process makes a view of memory, hands the view on, and gives the memory up; one of two others takes the view,
/// makes another of it, and reads. The memory exists as long as a process, or a message, has any of them.
fn a_view(victims: &[u32]) {
    const LEN: u64 = 5000;
    let mut model = Model::new();
    let maker = model.maker();
    let queue = model.share(queue::create(&maker, 0, Account::Nothing).unwrap());
    let memory = shared::create(&maker, LEN, false, "").unwrap();
    shared::write(&maker, of(&maker, memory), LEN - 8, &[7; 8]).unwrap();
    let deadline = model.deadline;
    model.process(move |participant| {
        let view = shared::view(participant, memory).unwrap();
        queue::put(participant, port(participant, queue), &[], &[view], NEVER).unwrap();
        object::release(participant, view).unwrap();
        object::release(participant, memory).unwrap();
    });
    for _ in 0..2 {
        model.process(move |participant| {
            // Perhaps no process is left that puts one.
            let Ok(views) = take_handles(participant, queue, deadline) else { return };
            let again = shared::view(participant, views[0]).unwrap();
            object::release(participant, views[0]).unwrap();
            let mut end = [0; 8];
            shared::read(participant, of(participant, again), LEN - 8, &mut end).unwrap();
            assert_eq!(end, [7; 8]);
            object::release(participant, again).unwrap();
        });
    }
    model.run(victims);
}

/// Three processes add to an integer, in a page or in the object itself.
fn an_integer(victims: &[u32]) {
    const TIMES: u64 = 3;
    let mut model = Model::new();
    let small = thread_rng().r#gen();
    let size = if small { 16 } else { 5000 };
    let handle = model.share(shared::create(&model.maker(), size, small, "").unwrap());
    let atomic = move |participant: &Participant, what| {
        shared::atomic(participant, of(participant, handle), 8, 8, what).unwrap()
    };
    for number in 0..3 {
        model.process(move |participant| {
            for _ in 0..TIMES {
                if number != 0 {
                    atomic(participant, Atomic::Rmw(ADD, 1));
                    continue;
                }
                let mut expected = atomic(participant, Atomic::Load);
                loop {
                    let found = atomic(participant, Atomic::CompareExchange { expected, new: expected + 1 });
                    if found == expected {
                        break;
                    }
                    expected = found;
                }
            }
        });
    }
    let victim = choose(victims);
    model.process_after(&[0, 1, 2], move |participant| {
        let least = if victim.is_some() { 2 } else { 3 } * TIMES;
        let found = atomic(participant, Atomic::Load);
        assert!((least..=3 * TIMES).contains(&found), "{found}");
    });
    model.run_to_death_of(victim);
}
