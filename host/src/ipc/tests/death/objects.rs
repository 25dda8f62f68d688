//! Operations on objects of any kind.

use sandpool_abi::Errno;

use super::{at_each_instruction, nothing};
use crate::ipc::object;
use crate::ipc::sync::{event, lock};

tests! {
    say_what_an_object_is
}

fn say_what_an_object_is() {
    at_each_instruction(
        nothing,
        |_, victim, _| {
            let lock = lock::create(victim, true).unwrap();
            let partner = event::create(victim).unwrap();
            object::record(victim, lock, 7, Some(partner)).unwrap();
            let known = object::look_up(victim, lock).unwrap();
            assert_eq!((known.tag, known.partner), (7, partner.0));
            assert_eq!(object::record(victim, lock, 8, None), Err(Errno::Perm));
            object::release(victim, partner).unwrap();
        },
        |world| {
            let survivor = world.survivor();
            // Later objects have no record.
            for handle in [lock::create(&survivor, true).unwrap(), event::create(&survivor).unwrap()] {
                let known = object::look_up(&survivor, handle).unwrap();
                assert_eq!((known.tag, known.partner), (0, 0));
                object::release(&survivor, handle).unwrap();
            }
        },
    );
}
