//! Operations on semaphores.

use sandpool_abi::Errno;

use super::{SURVIVOR, VICTIM, at_each_instruction, nothing};
use crate::ipc::object::{self, count_live};
use crate::ipc::sync::semaphore;
use crate::ipc::tests::common::of;
use crate::sys::futex::Deadline;

tests! {
    make_a_semaphore
    acquire_and_release_a_semaphore
    acquire_where_many_have
}

fn make_a_semaphore() {
    at_each_instruction(
        nothing,
        |_, victim, _| {
            semaphore::create(victim, 2, true, true).unwrap();
        },
        |world| assert_eq!(count_live(&world.arena), Ok(2)),
    );
}

fn acquire_and_release_a_semaphore() {
    at_each_instruction(
        |world| world.add(semaphore::create(&world.survivor(), 2, true, true).unwrap()),
        |world, victim, _| {
            let semaphore = of(victim, world.made(0));
            semaphore::acquire(victim, semaphore, Deadline::NOW).unwrap();
            semaphore::acquire(victim, semaphore, Deadline::NOW).unwrap();
            semaphore::release(victim, semaphore, 1).unwrap();
        },
        |world| {
            let survivor = world.survivor();
            let semaphore = of::<semaphore::SemaphoreState>(&survivor, world.made(0));
            assert_eq!(semaphore.state.value(), 2);
            assert!(semaphore.state.died() <= 2);
            assert_eq!(semaphore::release(&survivor, semaphore, 1), Err(Errno::Overflow));
        },
    );
}

/// All entries of the tally belong to other processes, so the victim takes a page.
fn acquire_where_many_have() {
    at_each_instruction(
        |world| {
            world.add(semaphore::create(&world.survivor(), 100, true, true).unwrap());
            for process in 0..world.arena.geometry.processes_max {
                if process != VICTIM {
                    object::share(&world.survivor(), world.made(0), process).unwrap();
                    let participant = world.participant(process);
                    semaphore::acquire(&participant, of(&participant, world.made(0)), Deadline::NOW).unwrap();
                }
            }
        },
        |world, victim, _| {
            let semaphore = of(victim, world.made(0));
            semaphore::acquire(victim, semaphore, Deadline::NOW).unwrap();
            semaphore::acquire(victim, semaphore, Deadline::NOW).unwrap();
        },
        |world| {
            let others = world.arena.geometry.processes_max - 1;
            let survivor = world.survivor();
            let semaphore = of::<semaphore::SemaphoreState>(&survivor, world.made(0));
            assert_eq!(semaphore.state.value(), 100 - u64::from(others));
            for process in (0..=others).filter(|process| ![VICTIM, SURVIVOR].contains(process)) {
                object::release(&world.participant(process), world.made(0)).unwrap();
            }
            assert_eq!(semaphore.state.value(), 99);
        },
    );
}
