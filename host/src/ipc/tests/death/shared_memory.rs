//! Operations on shared memory, its names and its views.

use sandpool_abi::Errno;

use super::{LARGE, at_each_instruction, nothing, put};
use crate::ipc::arena::Participant;
use crate::ipc::object::{self, Handle, count_live};
use crate::ipc::process_table::Register;
use crate::ipc::queue::{self, Taken};
use crate::ipc::tests::common::{of, port};
use crate::ipc::{heap, shared};
use crate::sys::futex::Deadline;

tests! {
    make_name_and_unlink_shared_memory
    make_and_release_owned_shared_memory
    open_and_release_shared_memory
    unlink_shared_memory_of_nobody
    view_shared_memory
    receive_a_view
}

fn make_name_and_unlink_shared_memory() {
    at_each_instruction(
        nothing,
        |_, victim, _| {
            shared::create(victim, 5000, false, "name").unwrap();
            shared::unlink(victim, "name").unwrap();
        },
        |world| {
            let survivor = world.survivor();
            // A name outlives the process that gave it.
            match shared::open(&survivor, "name") {
                Ok(handle) => {
                    assert_eq!(shared::create(&survivor, 1, true, "name"), Err(Errno::Exist));
                    shared::unlink(&survivor, "name").unwrap();
                    object::release(&survivor, handle).unwrap();
                }
                Err(error) => assert_eq!(error, Errno::Noent),
            }
            assert_eq!(shared::open(&survivor, "name"), Err(Errno::Noent));
        },
    );
}

/// An owned name goes with its maker, dead or alive.
fn make_and_release_owned_shared_memory() {
    at_each_instruction(
        nothing,
        |_, victim, _| {
            let made = shared::create_owned(victim, 5000, false, "name").unwrap();
            object::release(victim, made).unwrap();
        },
        |world| {
            let survivor = world.survivor();
            assert_eq!(shared::open(&survivor, "name"), Err(Errno::Noent));
            let again = shared::create(&survivor, 1, true, "name").unwrap();
            shared::unlink(&survivor, "name").unwrap();
            object::release(&survivor, again).unwrap();
        },
    );
}

fn open_and_release_shared_memory() {
    at_each_instruction(
        |world| {
            let survivor = world.survivor();
            let made = shared::create(&survivor, 5000, false, "name").unwrap();
            shared::write(&survivor, of(&survivor, made), 4999, &[7]).unwrap();
            // Only its name keeps the memory.
            object::release(&survivor, made).unwrap();
        },
        |_, victim, _| {
            let opened = shared::open(victim, "name").unwrap();
            object::release(victim, opened).unwrap();
        },
        |world| {
            let survivor = world.survivor();
            let opened = shared::open(&survivor, "name").unwrap();
            let mut last = [0];
            shared::read(&survivor, of(&survivor, opened), 4999, &mut last).unwrap();
            assert_eq!(last, [7]);
            shared::unlink(&survivor, "name").unwrap();
            object::release(&survivor, opened).unwrap();
        },
    );
}

/// Only its name keeps the memory, and the victim removes the name without having held the memory.
fn unlink_shared_memory_of_nobody() {
    at_each_instruction(
        |world| {
            let survivor = world.survivor();
            let made = shared::create(&survivor, 5000, false, "name").unwrap();
            object::release(&survivor, made).unwrap();
        },
        |_, victim, _| shared::unlink(victim, "name").unwrap(),
        |world| {
            let survivor = world.survivor();
            match shared::unlink(&survivor, "name") {
                Ok(()) => assert_eq!(count_live(&world.arena), Ok(2)),
                Err(error) => assert_eq!((error, count_live(&world.arena)), (Errno::Noent, Ok(2))),
            }
            assert_eq!(shared::open(&survivor, "name"), Err(Errno::Noent));
        },
    );
}

/// In the end, only a view keeps the memory that it is a view of.
fn view_shared_memory() {
    at_each_instruction(
        |world| {
            let survivor = world.survivor();
            let made = shared::create(&survivor, 5000, false, "name").unwrap();
            shared::write(&survivor, of(&survivor, made), 4999, &[7]).unwrap();
            object::release(&survivor, made).unwrap();
        },
        |_, victim, _| {
            let opened = shared::open(victim, "name").unwrap();
            let view = shared::view(victim, opened).unwrap();
            object::release(victim, opened).unwrap();
            shared::unlink(victim, "name").unwrap();
            assert_eq!(shared::write(victim, of(victim, view), 4999, &[8]), Err(Errno::Perm));
            object::release(victim, view).unwrap();
        },
        |world| {
            let survivor = world.survivor();
            let Ok(opened) = shared::open(&survivor, "name") else { return };
            let mut last = [0];
            shared::read(&survivor, of(&survivor, opened), 4999, &mut last).unwrap();
            assert_eq!(last, [7]);
            shared::unlink(&survivor, "name").unwrap();
            object::release(&survivor, opened).unwrap();
        },
    );
}

/// Takes a message, if there is one, whose only content is a view.
fn take_a_view(participant: &Participant, queue: Handle) -> Option<Handle> {
    let taken = queue::get(participant, port(participant, queue), || false, &mut [], Deadline::NOW);
    let Ok(Taken::Message(message)) = taken else { return None };
    let views = message.handles(participant).unwrap();
    message.arrive(participant, &views).unwrap();
    heap::free(participant, participant.slot().unwrap().register(Register::Incoming)).unwrap();
    views.first().copied()
}

/// A view comes in a message. Only the message keeps the view, as only the view keeps the memory.
fn receive_a_view() {
    at_each_instruction(
        |world| {
            let survivor = world.survivor();
            let made = shared::create(&survivor, 5000, false, "").unwrap();
            shared::write(&survivor, of(&survivor, made), 4999, &[7]).unwrap();
            let view = shared::view(&survivor, made).unwrap();
            put(&survivor, world.queue, 1, LARGE, &[view]);
            object::release(&survivor, made).unwrap();
            object::release(&survivor, view).unwrap();
        },
        |world, victim, _| {
            let view = take_a_view(victim, world.queue).unwrap();
            object::release(victim, view).unwrap();
        },
        |world| {
            let survivor = world.survivor();
            let Some(view) = take_a_view(&survivor, world.queue) else { return };
            let mut last = [0];
            shared::read(&survivor, of(&survivor, view), 4999, &mut last).unwrap();
            assert_eq!(last, [7]);
            object::release(&survivor, view).unwrap();
        },
    );
}
