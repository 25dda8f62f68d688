//! Operations on locks.

use sandpool_abi::Errno;

use super::{World, at_each_instruction, nothing};
use crate::ipc::object::count_live;
use crate::ipc::sync::lock;
use crate::ipc::tests::common::of;
use crate::sys::futex::Deadline;

tests! {
    make_a_lock
    acquire_and_release_a_lock
    acquire_a_recursive_lock
}

fn make_a_lock() {
    at_each_instruction(
        nothing,
        |_, victim, _| {
            lock::create(victim, true).unwrap();
        },
        |world| assert_eq!(count_live(&world.arena), Ok(2)),
    );
}

fn acquire_and_release_a_lock() {
    at_each_instruction(
        |world| world.add(lock::create(&world.survivor(), false).unwrap()),
        |world, victim, _| {
            let lock = of(victim, world.made(0));
            lock::acquire(victim, lock, Deadline::NOW).unwrap();
            lock::release(victim, lock).unwrap();
        },
        lock_is_free,
    );
}

fn acquire_a_recursive_lock() {
    at_each_instruction(
        |world| world.add(lock::create(&world.survivor(), true).unwrap()),
        |world, victim, _| {
            let lock = of(victim, world.made(0));
            lock::acquire(victim, lock, Deadline::NOW).unwrap();
            lock::acquire(victim, lock, Deadline::NOW).unwrap();
            lock::release(victim, lock).unwrap();
        },
        lock_is_free,
    );
}

/// The lock is free: its next owner may be told of a death, once.
fn lock_is_free(world: &World) {
    let survivor = world.survivor();
    let lock = of(&survivor, world.made(0));
    assert!(matches!(lock::acquire(&survivor, lock, Deadline::NOW), Ok(()) | Err(Errno::Ownerdead)));
    assert_eq!(lock::held(&survivor, lock), 1);
    lock::release(&survivor, lock).unwrap();
    assert_eq!(lock::acquire(&survivor, lock, Deadline::NOW), Ok(()));
    lock::release(&survivor, lock).unwrap();
    assert_eq!(lock::release(&survivor, lock), Err(Errno::Overflow));
}
