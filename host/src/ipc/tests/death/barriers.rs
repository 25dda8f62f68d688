//! Operations on barriers.

use sandpool_abi::Errno;

use super::{OTHER, World, a_condition, at_each_instruction, nothing};
use crate::ipc::arena::Participant;
use crate::ipc::object::{self, Handle, count_live};
use crate::ipc::sync::barrier::{self, Arrival, BarrierState};
use crate::ipc::sync::{condition, lock};
use crate::ipc::tests::common::of;
use crate::sys::futex::Deadline;

tests! {
    make_a_barrier
    pass_a_barrier
    act_at_a_barrier
    reset_a_barrier
    reset_a_broken_barrier
    abort_a_barrier
}

fn make_a_barrier() {
    at_each_instruction(
        nothing,
        |_, victim, _| {
            barrier::create(victim, 2).unwrap();
        },
        |world| assert_eq!(count_live(&world.arena), Ok(2)),
    );
}

/// A barrier for two, with one process inside.
fn a_barrier(world: &World) {
    let survivor = world.survivor();
    world.add(barrier::create(&survivor, 2).unwrap());
    world.arrival.set(Some(arrive(&survivor, world.made(0))));
}

fn arrive(participant: &Participant, barrier: Handle) -> Arrival {
    barrier::arrive(participant, of(participant, barrier), false, Deadline::NOW).unwrap()
}

fn leave(participant: &Participant, barrier: Handle, arrival: Arrival) -> crate::ipc::Result<i64> {
    barrier::wait(participant, of(participant, barrier), arrival, Deadline::NOW)
}

/// Lets the process that is inside go on: with another one, if it still waits for one. Returns whether it has passed.
fn barrier_was_passed(world: &World) -> bool {
    let (survivor, barrier) = (world.survivor(), world.made(0));
    let waits = of::<BarrierState>(&survivor, barrier).state.waiting() == 1;
    let other = waits.then(|| {
        object::share(&survivor, barrier, OTHER).unwrap();
        let other = world.participant(OTHER);
        let arrival = arrive(&other, barrier);
        (other, arrival)
    });
    let passed = leave(&survivor, barrier, world.arrival.take().unwrap());
    if let Some((other, arrival)) = other {
        assert_eq!(leave(&other, barrier, arrival), Ok(1));
    }
    assert!(matches!(passed, Ok(0) | Err(Errno::Broken)), "{passed:?}");
    passed.is_ok()
}

/// Two processes can pass the barrier, again and again.
fn barrier_is_as_new(world: &World) {
    let (survivor, other, barrier) = (world.survivor(), world.participant(OTHER), world.made(0));
    object::share(&survivor, barrier, OTHER).unwrap();
    for _ in 0..2 {
        let arrivals = [&survivor, &other].map(|participant| arrive(participant, barrier));
        assert_eq!(leave(&survivor, barrier, arrivals[0]), Ok(0));
        assert_eq!(leave(&other, barrier, arrivals[1]), Ok(1));
    }
    object::release(&other, barrier).unwrap();
}

/// The barrier is broken if `is_broken` says so, and as new when it is reset.
fn barrier_is_broken(world: &World, is_broken: bool) {
    let survivor = world.survivor();
    let barrier = of::<BarrierState>(&survivor, world.made(0));
    assert_eq!(barrier.state.is_broken(), is_broken);
    if is_broken {
        barrier::reset(&survivor, barrier).unwrap();
    }
    barrier_is_as_new(world);
}

fn pass_a_barrier() {
    at_each_instruction(
        a_barrier,
        |world, victim, _| {
            let barrier = of(victim, world.made(0));
            let arrival = barrier::arrive(victim, barrier, true, Deadline::NOW).unwrap();
            barrier::wait(victim, barrier, arrival, Deadline::NOW).unwrap();
            barrier::release(victim, barrier).unwrap();
        },
        |world| barrier_is_broken(world, !barrier_was_passed(world)),
    );
}

fn reset_a_barrier() {
    at_each_instruction(
        a_barrier,
        |world, victim, _| barrier::reset(victim, of(victim, world.made(0))).unwrap(),
        |world| {
            barrier_was_passed(world);
            barrier_is_broken(world, false);
        },
    );
}

fn reset_a_broken_barrier() {
    at_each_instruction(
        |world| {
            a_barrier(world);
            let survivor = world.survivor();
            barrier::abort(&survivor, of(&survivor, world.made(0))).unwrap();
        },
        |world, victim, _| barrier::reset(victim, of(victim, world.made(0))).unwrap(),
        |world| {
            let survivor = world.survivor();
            let is_broken = of::<BarrierState>(&survivor, world.made(0)).state.is_broken();
            barrier_is_broken(world, is_broken);
        },
    );
}

fn abort_a_barrier() {
    at_each_instruction(
        a_barrier,
        |world, victim, _| {
            let barrier = of(victim, world.made(0));
            // The victim is to act, and won't.
            barrier::arrive(victim, barrier, true, Deadline::NOW).unwrap();
            barrier::abort(victim, barrier).unwrap();
        },
        |world| barrier_is_broken(world, !barrier_was_passed(world)),
    );
}

/// An action waits for a condition meanwhile.
fn act_at_a_barrier() {
    at_each_instruction(
        |world| {
            a_barrier(world);
            a_condition(world);
        },
        |world, victim, _| {
            let (condition, lock) = (of(victim, world.made(1)), of(victim, world.made(2)));
            let barrier = of(victim, world.made(0));
            let arrival = barrier::arrive(victim, barrier, true, Deadline::NOW).unwrap();
            barrier::wait(victim, barrier, arrival, Deadline::NOW).unwrap();
            lock::acquire(victim, lock, Deadline::NOW).unwrap();
            let depth = condition::enter(victim, condition, lock).unwrap();
            assert_eq!(condition::wait(victim, condition, Deadline::NOW), Ok(false));
            lock::acquire_again(victim, lock, depth).unwrap();
            barrier::release(victim, barrier).unwrap();
        },
        |world| {
            barrier_is_broken(world, !barrier_was_passed(world));
            let survivor = world.survivor();
            let (condition, lock) = (of(&survivor, world.made(1)), of(&survivor, world.made(2)));
            let acquired = lock::acquire(&survivor, lock, Deadline::NOW);
            assert!(matches!(acquired, Ok(()) | Err(Errno::Ownerdead)));
            assert_eq!(condition::notify(&survivor, condition, lock, 1), Ok(0));
        },
    );
}
