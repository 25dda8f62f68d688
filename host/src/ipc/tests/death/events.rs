//! Operations on events.

use sandpool_abi::Errno;

use super::{at_each_instruction, nothing};
use crate::ipc::object::count_live;
use crate::ipc::sync::event;
use crate::ipc::tests::common::of;
use crate::sys::futex::Deadline;

tests! {
    make_an_event
    set_an_event
}

fn make_an_event() {
    at_each_instruction(
        nothing,
        |_, victim, _| {
            event::create(victim).unwrap();
        },
        |world| assert_eq!(count_live(&world.arena), Ok(2)),
    );
}

fn set_an_event() {
    at_each_instruction(
        |world| world.add(event::create(&world.survivor()).unwrap()),
        |world, victim, _| event::set(victim, of(victim, world.made(0))).unwrap(),
        |world| {
            let survivor = world.survivor();
            let event = of(&survivor, world.made(0));
            assert!(matches!(event::wait(&survivor, event, Deadline::NOW), Ok(()) | Err(Errno::Again)));
            event::set(&survivor, event).unwrap();
            assert_eq!(event::wait(&survivor, event, Deadline::NOW), Ok(()));
        },
    );
}
