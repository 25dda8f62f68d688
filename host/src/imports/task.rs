//! `sandpool_task`. See [`claims`](crate::ipc::claims) and [`pool_worker`](crate::process::pool_worker).

use sandpool_abi::Errno;
use sandpool_abi::process::Limit;

use super::queue::{noting_full, port, put_in_parts, put_whole};
use super::{Caller, View, apart, code, try_first, value, with_memory};
use crate::ipc::Result;
use crate::ipc::arena::Participant;
use crate::ipc::object::{self, Handle};
use crate::ipc::process_table::ProcessHandle;
use crate::ipc::waiting::Waiting;
use crate::ipc::{queue, shared};
use crate::process::Process;

sandpool_abi::task_imports!(provide);

#[inline]
fn begin(caller: &mut Caller<'_>, part: i32) -> i32 {
    code(apart(caller, |process| {
        let participant = own_claims(process)?;
        let slot = participant.slot()?;
        slot.tail.begin();
        slot.claims.begin(part as u32)
    }))
}

#[inline]
fn follow(caller: &mut Caller<'_>, handle: i64) -> i32 {
    code(apart(caller, |process| {
        let participant = own_claims(process)?;
        let shared = object::resolve(participant, Handle(handle as u64))?;
        participant.slot()?.tail.follow(shared::pages(participant, shared)?.0);
        Ok(())
    }))
}

fn finish(
    caller: &mut Caller<'_>,
    queue: i64,
    item: i32,
    item_len: i32,
    handles: i32,
    handle_count: i32,
    timeout: i64,
) -> i32 {
    put_whole(caller, (item, item_len), |view, parts| {
        put_result(view, queue, parts, (handles, handle_count), timeout)
    })
}

fn finish_parts(
    caller: &mut Caller<'_>,
    queue: i64,
    parts: i32,
    part_count: i32,
    handles: i32,
    handle_count: i32,
    timeout: i64,
) -> i32 {
    put_in_parts(caller, (parts, part_count), |view, parts| {
        put_result(view, queue, parts, (handles, handle_count), timeout)
    })
}

fn claims(caller: &mut Caller<'_>, process: i64, out: i32) -> i32 {
    code(with_memory(caller, |view| write_claims(view, process, out)))
}

fn kill(caller: &mut Caller<'_>, process: i64, work: i64) -> i32 {
    code(with_memory(caller, |view| {
        view.process.children.kill_at(ProcessHandle(process as u64), work as u64)
    }))
}

fn input(caller: &mut Caller<'_>, buffer: i32, capacity: i32) -> i64 {
    value(with_memory(caller, |mut view| {
        let task = view.process.task.as_ref().ok_or(Errno::Noent)?;
        view.memory.fill(buffer, capacity, &task.input)
    }))
}

fn output(caller: &mut Caller<'_>, bytes: i32, len: i32) -> i32 {
    code(with_memory(caller, |view| {
        let bytes = view.memory.bytes(bytes, len)?;
        let output = view.process.task.as_mut().ok_or(Errno::Noent)?.set_output(bytes);
        output.inspect_err(|_| view.process.refused(Limit::Output))
    }))
}

/// The caller, if its claims are its own affair: a worker of a guest's pool.
///
/// `PERM` in a worker of the host's.
fn own_claims(process: &Process) -> Result<&Participant> {
    if process.is_host_worker { Err(Errno::Perm) } else { Ok(process.participant()) }
}

fn put_result(view: &View<'_>, queue: i64, parts: &[&[u8]], list: (i32, i32), timeout: i64) -> Result<()> {
    let participant = own_claims(view.process)?;
    let port = port(view.process, queue, Waiting::Put)?;
    let handles = view.memory.handles(list.0, list.1)?;
    let put = try_first(view.process, timeout, |deadline| {
        queue::finish(participant, port, parts, &handles, participant.index, deadline)
    });
    noting_full(view.process, port, put)
}

fn write_claims(mut view: View<'_>, process: i64, out: i32) -> Result<()> {
    let claims = view.process.children.claims(ProcessHandle(process as u64))?;
    let [first, end, work, since] =
        [claims.first, claims.end, claims.work, claims.since].map(|word| [word as u32, (word >> 32) as u32]);
    let fields = [
        first[0],
        first[1],
        end[0],
        end[1],
        work[0],
        work[1],
        since[0],
        since[1],
        claims.part,
        claims.reserved,
    ];
    view.memory.store(out, fields)
}
