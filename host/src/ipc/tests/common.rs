//! Ways to an object, and to an item, that the tests of models and deaths share.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use crate::ipc::arena::Participant;
use crate::ipc::heap;
use crate::ipc::kind::Listed;
use crate::ipc::object::{self, Handle, Object};
use crate::ipc::process_table::Register;
use crate::ipc::queue::{Port, Taken};
use crate::ipc::waiting::Waiting;

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
