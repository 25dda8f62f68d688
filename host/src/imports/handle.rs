//! `sandpool_handle`: counts a guest's uses of an object, and waits for several objects.

use sandpool_abi::{Errno, WAIT_MAX};

use super::{Caller, View, code, value, waiting, with_memory};
use crate::ipc::Result;
use crate::ipc::object::{self, Handle};
use crate::process::mappings;
use crate::sys::futex::Deadline;

sandpool_abi::handle_imports!(provide);

#[inline]
fn retain(caller: &mut Caller<'_>, object: i64) -> i32 {
    code(with_memory(caller, |view| {
        object::find(view.process.participant(), Handle(object as u64))?;
        view.process.hold(Handle(object as u64));
        Ok(())
    }))
}

#[inline]
fn release(caller: &mut Caller<'_>, object: i64) -> i32 {
    let handle = Handle(object as u64);
    if caller.data().process.uses(handle) == 1 {
        // The pages may be another's as soon as nobody holds the object.
        mappings::unmap_all(caller, handle);
    }
    code(caller.data_mut().process.release(handle))
}

fn record(caller: &mut Caller<'_>, object: i64, tag: i32, partner: i64) -> i32 {
    code(with_memory(caller, |view| {
        let partner = (partner != 0).then_some(Handle(partner as u64));
        object::record(view.process.participant(), Handle(object as u64), tag as u32, partner)
    }))
}

fn wait(caller: &mut Caller<'_>, list: i32, count: i32, timeout: i64, ready: i32) -> i64 {
    value(waiting(caller, |view| wait_for(view, (list, count), timeout, ready)))
}

fn wait_for(mut view: View<'_>, list: (i32, i32), timeout: i64, ready: i32) -> Result<i64> {
    let handles = view.memory.words(list.0, list.1, WAIT_MAX)?;
    view.memory.bytes_mut(ready, list.1)?;
    let found = view.process.wait(&handles, Deadline::after_nanos(timeout as u64));
    if found == Err(Errno::Deadlock) {
        view.process.note_waited(&handles);
    }
    let found = found?;
    let out = view.memory.bytes_mut(ready, list.1)?;
    out.iter_mut().zip(&found).for_each(|(to, ready)| *to = u8::from(*ready));
    Ok(found.iter().filter(|ready| **ready).count() as i64)
}
