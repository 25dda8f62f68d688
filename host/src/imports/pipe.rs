//! `sandpool_pipe`. See [`pipe`](crate::ipc::pipe).

use sandpool_abi::Errno;
use sandpool_abi::pipe::{CAPACITY, DUPLEX};
use sandpool_abi::process::Limit;

use super::queue::{put_in_parts, put_whole, receive};
use super::{Caller, View, code, try_first, value, waiting, with_memory};
use crate::ipc::Result;
use crate::ipc::kind::ObjectState as _;
use crate::ipc::object::{self, Handle, Object};
use crate::ipc::pipe::{self, EndState};
use crate::process::Process;
use crate::sys::futex::Deadline;

sandpool_abi::pipe_imports!(provide);

fn create(caller: &mut Caller<'_>, capacity: i64, flags: i32, ends: i32) -> i32 {
    code(with_memory(caller, |view| make(view, capacity as u64, flags as u32, ends)))
}

fn send(
    caller: &mut Caller<'_>,
    end: i64,
    message: i32,
    len: i32,
    handles: i32,
    handle_count: i32,
    timeout: i64,
) -> i32 {
    put_whole(caller, (message, len), |view, parts| {
        send_message(view, end, parts, (handles, handle_count), timeout)
    })
}

fn send_parts(
    caller: &mut Caller<'_>,
    end: i64,
    parts: i32,
    part_count: i32,
    handles: i32,
    handle_count: i32,
    timeout: i64,
) -> i32 {
    put_in_parts(caller, (parts, part_count), |view, parts| {
        send_message(view, end, parts, (handles, handle_count), timeout)
    })
}

fn recv(caller: &mut Caller<'_>, handle: i64, buffer: i32, capacity: i32, timeout: i64, result: i32) -> i32 {
    code(waiting(caller, |view| {
        receive(view, (buffer, capacity), timeout, result, |process, out, deadline| {
            let end = end(process, handle)?;
            pipe::recv(process.participant(), end, out, waiting_at(end, deadline))
        })
    }))
}

fn flags(caller: &mut Caller<'_>, handle: i64) -> i64 {
    value(with_memory(caller, |view| Ok(i64::from(end(view.process, handle)?.state.rights()))))
}

fn capacity(caller: &mut Caller<'_>, handle: i64) -> i64 {
    value(with_memory(caller, |view| Ok(end(view.process, handle)?.state.capacity() as i64)))
}

fn end(process: &Process, handle: i64) -> Result<Object<'_, EndState>> {
    object::resolve(process.participant(), Handle(handle as u64))
}

fn send_message(view: &View<'_>, handle: i64, parts: &[&[u8]], list: (i32, i32), timeout: i64) -> Result<()> {
    let end = end(view.process, handle)?;
    let handles = view.memory.handles(list.0, list.1)?;
    if end.state.is_of_outside() {
        check_for_outside(view.process, parts, &handles)?;
    }
    let sent = try_first(view.process, timeout, |deadline| {
        pipe::send(view.process.participant(), end, parts, &handles, waiting_at(end, deadline))
    });
    view.process.noting(sent)
}

/// Refuses a message that can't leave the run: one with handles, or one that is too long.
fn check_for_outside(process: &Process, parts: &[&[u8]], handles: &[Handle]) -> Result<()> {
    if !handles.is_empty() {
        return Err(Errno::Inval);
    }
    let len: u64 = parts.iter().map(|part| part.len() as u64).sum();
    if len > process.limits.connection_message_max {
        process.refused(Limit::ConnectionMessage);
        return Err(Errno::Msgsize);
    }
    Ok(())
}

/// The deadline of a wait at this end: somebody outside of the run may end a wait there, so that it is no part of a deadlock.
fn waiting_at(end: Object<'_, EndState>, deadline: Deadline) -> Deadline {
    if deadline == Deadline::NEVER && end.state.is_of_outside() { Deadline::never_noted() } else { deadline }
}

fn make(mut view: View<'_>, capacity: u64, flags: u32, ends: i32) -> Result<()> {
    if i64::try_from(capacity).is_err() || flags & !DUPLEX != 0 {
        return Err(Errno::Inval);
    }
    view.memory.bytes_mut(ends, 16)?;
    let capacity = if capacity == 0 { CAPACITY } else { capacity };
    let handles = view.process.making(|participant| pipe::create(participant, capacity, flags))?;
    handles.into_iter().for_each(|handle| view.process.hold(handle));
    view.memory.fill_words(ends, 2, handles.iter().map(|handle| handle.0)).map(|_| ())
}
