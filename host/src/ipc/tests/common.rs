//! Participants, and ways to an object and to an item, which several tests of the arena share.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::sync::Arc;

use crate::ipc::arena::{Arena, Geometry, Participant, Patience};
use crate::ipc::heap;
use crate::ipc::kind::Listed;
use crate::ipc::object::{self, Handle, Object};
use crate::ipc::process_table::Register;
use crate::ipc::queue::{Port, Taken};
use crate::ipc::waiting::Waiting;

/// The first of two participants of a new arena that has room for this number of objects.
pub(in crate::ipc) fn participant(objects_max: u32) -> Participant {
    let geometry = Geometry { processes_max: 2, objects_max, heap_pages: 64 };
    Participant { arena: Arc::new(Arena::create(geometry).unwrap().1), index: 0, patience: Patience::Brief }
}

pub(super) fn of<S: Listed>(participant: &Participant, handle: Handle) -> Object<'_, S> {
    object::resolve(participant, handle).unwrap()
}

pub(super) fn port(participant: &Participant, handle: Handle) -> Port<'_> {
    let Object { index, state } = of(participant, handle);
    Port { queue: state, object: index, waiting: Waiting::Any(0) }
}

pub(super) fn copy(participant: &Participant, taken: Taken, buffer: &mut [u8]) -> Option<usize> {
    match taken {
        Taken::Copied(len) => Some(len),
        Taken::Bytes(_) => None,
        Taken::Message(message) => {
            message.read(participant, buffer).unwrap();
            message.arrive(participant, &message.handles(participant).unwrap()).unwrap();
            heap::free(participant, participant.slot().unwrap().register(Register::Incoming)).unwrap();
            Some(message.len as usize)
        }
    }
}
