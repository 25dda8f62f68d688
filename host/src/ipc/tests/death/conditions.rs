//! Operations on conditions.

use sandpool_abi::Errno;

use super::{OTHER, a_condition, at_each_instruction, nothing};
use crate::ipc::object::{self, count_live};
use crate::ipc::sync::{condition, lock};
use crate::ipc::tests::common::of;
use crate::sys::futex::Deadline;

tests! {
    make_a_condition
    wait_in_a_condition
    notify_a_condition
    notify_all_in_a_condition
}

fn make_a_condition() {
    at_each_instruction(
        nothing,
        |_, victim, _| {
            condition::create(victim).unwrap();
        },
        |world| assert_eq!(count_live(&world.arena), Ok(2)),
    );
}

fn wait_in_a_condition() {
    at_each_instruction(
        a_condition,
        |world, victim, _| {
            let (condition, lock) = (of(victim, world.made(0)), of(victim, world.made(1)));
            lock::acquire(victim, lock, Deadline::NOW).unwrap();
            let depth = condition::enter(victim, condition, lock).unwrap();
            assert_eq!(condition::wait(victim, condition, Deadline::NOW), Ok(false));
            lock::acquire_again(victim, lock, depth).unwrap();
        },
        |world| {
            let survivor = world.survivor();
            let (condition, lock) = (of(&survivor, world.made(0)), of(&survivor, world.made(1)));
            let acquired = lock::acquire(&survivor, lock, Deadline::NOW);
            assert!(matches!(acquired, Ok(()) | Err(Errno::Ownerdead)));
            // The dead process doesn't wait.
            assert_eq!(condition::notify(&survivor, condition, lock, 1), Ok(0));
        },
    );
}

fn notify_a_condition() {
    at_each_instruction(
        |world| {
            a_condition(world);
            let survivor = world.survivor();
            let (condition, lock) = (of(&survivor, world.made(0)), of(&survivor, world.made(1)));
            lock::acquire(&survivor, lock, Deadline::NOW).unwrap();
            condition::enter(&survivor, condition, lock).unwrap();
        },
        |world, victim, _| {
            let (condition, lock) = (of(victim, world.made(0)), of(victim, world.made(1)));
            lock::acquire(victim, lock, Deadline::NOW).unwrap();
            assert_eq!(condition::notify(victim, condition, lock, 1), Ok(1));
            lock::release(victim, lock).unwrap();
        },
        |world| {
            let survivor = world.survivor();
            let condition = of(&survivor, world.made(0));
            let notified = condition::wait(&survivor, condition, Deadline::NOW).unwrap();
            assert!(!notified || condition::wait(&survivor, condition, Deadline::NOW) == Ok(true));
        },
    );
}

/// The first of the waiting processes are notified, as many as the victim came to.
fn notify_all_in_a_condition() {
    at_each_instruction(
        |world| {
            a_condition(world);
            let survivor = world.survivor();
            for at in [0, 1] {
                object::share(&survivor, world.made(at), OTHER).unwrap();
            }
            for participant in [survivor, world.participant(OTHER)] {
                let (condition, lock) = (of(&participant, world.made(0)), of(&participant, world.made(1)));
                lock::acquire(&participant, lock, Deadline::NOW).unwrap();
                condition::enter(&participant, condition, lock).unwrap();
            }
        },
        |world, victim, _| {
            let (condition, lock) = (of(victim, world.made(0)), of(victim, world.made(1)));
            lock::acquire(victim, lock, Deadline::NOW).unwrap();
            assert_eq!(condition::notify(victim, condition, lock, u64::MAX), Ok(2));
            lock::release(victim, lock).unwrap();
        },
        |world| {
            let (survivor, other) = (world.survivor(), world.participant(OTHER));
            let [first, second] = [&survivor, &other].map(|participant| {
                condition::wait(participant, of(participant, world.made(0)), Deadline::NOW).unwrap()
            });
            assert!(first || !second);
            for at in [0, 1] {
                object::release(&other, world.made(at)).unwrap();
            }
        },
    );
}
