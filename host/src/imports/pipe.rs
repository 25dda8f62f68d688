//! `sandpool_pipe`. See [`pipe`](crate::ipc::pipe).

use sandpool_abi::Errno;
use sandpool_abi::pipe::{CAPACITY, DUPLEX, MODULE};
use wasmtime::{Caller, Linker};

use super::queue::{add_put, receive};
use super::{View, status, try_first, value, view, waiting};
use crate::ipc::Result;
use crate::ipc::object::{self, Handle, Object};
use crate::ipc::pipe::{self, EndState};
use crate::process::{Guest, Process};

pub(super) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "create",
        |mut caller: Caller<'_, Guest>, capacity: i64, flags: i32, ends: i32| {
            status(view(&mut caller).and_then(|view| create(view, capacity as u64, flags as u32, ends)))
        },
    )?;
    add_put(linker, MODULE, ["send", "send_parts"], send)?;
    linker.func_wrap(
        MODULE,
        "recv",
        |mut caller: Caller<'_, Guest>,
         handle: i64,
         buffer: i32,
         capacity: i32,
         timeout: i64,
         result: i32| {
            status(waiting(&mut caller, |view| {
                receive(view, (buffer, capacity), timeout, result, |process, out, deadline| {
                    pipe::recv(process.member(), end(process, handle)?, out, deadline)
                })
            }))
        },
    )?;
    linker.func_wrap(MODULE, "flags", |mut caller: Caller<'_, Guest>, handle: i64| {
        value(view(&mut caller).and_then(|view| Ok(i64::from(end(view.process, handle)?.state.rights()))))
    })?;
    linker.func_wrap(MODULE, "capacity", |mut caller: Caller<'_, Guest>, handle: i64| {
        value(view(&mut caller).and_then(|view| Ok(end(view.process, handle)?.state.capacity() as i64)))
    })?;
    Ok(())
}

fn end(process: &Process, handle: i64) -> Result<Object<'_, EndState>> {
    object::resolve(process.member(), Handle(handle as u64))
}

fn send(view: &View<'_>, handle: i64, parts: &[&[u8]], list: (i32, i32), timeout: i64) -> Result<()> {
    let end = end(view.process, handle)?;
    let handles = view.memory.handles(list.0, list.1)?;
    let sent = try_first(view.process, timeout, |deadline| {
        pipe::send(view.process.member(), end, parts, &handles, deadline)
    });
    view.process.noting(sent)
}

fn create(mut view: View<'_>, capacity: u64, flags: u32, ends: i32) -> Result<()> {
    if i64::try_from(capacity).is_err() || flags & !DUPLEX != 0 {
        return Err(Errno::Inval);
    }
    view.memory.bytes_mut(ends, 16)?;
    let capacity = if capacity == 0 { CAPACITY } else { capacity };
    let handles = view.process.making(|member| pipe::create(member, capacity, flags))?;
    handles.into_iter().for_each(|handle| view.process.hold(handle));
    view.memory.fill_words(ends, 2, handles.iter().map(|handle| handle.0)).map(|_| ())
}
