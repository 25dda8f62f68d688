//! Ways to an object, and to an item, that the tests of models and deaths share.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use crate::ipc::arena::Member;
use crate::ipc::heap;
use crate::ipc::kind::Listed;
use crate::ipc::object::{self, Handle, Object};
use crate::ipc::process_table::Register;
use crate::ipc::queue::{Port, Taken};
use crate::ipc::waiting::Waiting;

pub(super) fn of<S: Listed>(member: &Member, handle: Handle) -> Object<'_, S> {
    object::resolve(member, handle).unwrap()
}

pub(super) fn port(member: &Member, handle: Handle) -> Port<'_> {
    let Object { index, state } = of(member, handle);
    Port { queue: state, object: index, waiting: Waiting::Any(0) }
}

pub(super) fn copy(member: &Member, taken: Taken, buffer: &mut [u8]) -> Option<usize> {
    match taken {
        Taken::Copied(len) => Some(len),
        Taken::Bytes(_) => None,
        Taken::Message(message) => {
            message.read(member, buffer).unwrap();
            message.arrive(member, &message.handles(member).unwrap()).unwrap();
            heap::free(member, member.slot().unwrap().register(Register::Incoming)).unwrap();
            Some(message.len as usize)
        }
    }
}
