//! `sandpool_handle`: counts a guest's uses of an object, and waits for several objects.

use sandpool_abi::handle::MODULE;
use sandpool_abi::{Errno, WAIT_MAX};
use wasmtime::{Caller, Linker};

use super::{View, status, value, view, waiting};
use crate::ipc::Result;
use crate::ipc::object::{self, Handle};
use crate::process::{Guest, mappings};
use crate::sys::futex::Deadline;

pub(super) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.func_wrap(MODULE, "retain", |mut caller: Caller<'_, Guest>, object: i64| {
        status(view(&mut caller).and_then(|view| {
            object::find(view.process.member(), Handle(object as u64))?;
            view.process.hold(Handle(object as u64));
            Ok(())
        }))
    })?;
    linker.func_wrap(MODULE, "release", |mut caller: Caller<'_, Guest>, object: i64| {
        let handle = Handle(object as u64);
        if caller.data().process.uses(handle) == 1 {
            // The pages may be another's as soon as nobody holds the object.
            mappings::unmap_all(&mut caller, handle);
        }
        status(caller.data_mut().process.release(handle))
    })?;
    linker.func_wrap(
        MODULE,
        "record",
        |mut caller: Caller<'_, Guest>, object: i64, tag: i32, partner: i64| {
            status(view(&mut caller).and_then(|view| {
                let partner = (partner != 0).then_some(Handle(partner as u64));
                object::record(view.process.member(), Handle(object as u64), tag as u32, partner)
            }))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "wait",
        |mut caller: Caller<'_, Guest>, list: i32, count: i32, timeout: i64, ready: i32| {
            value(waiting(&mut caller, |view| wait(view, (list, count), timeout, ready)))
        },
    )?;
    Ok(())
}

fn wait(mut view: View<'_>, list: (i32, i32), timeout: i64, ready: i32) -> Result<i64> {
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
