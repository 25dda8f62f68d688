//! `sandpool_task`. See [`claims`](crate::ipc::claims) and [`pool_worker`](crate::process::pool_worker).

use sandpool_abi::Errno;
use sandpool_abi::process::Limit;
use sandpool_abi::task::MODULE;
use wasmtime::{Caller, Linker};

use super::queue::{add_put, noting_full, port};
use super::{View, apart, status, try_first, value, view};
use crate::ipc::Result;
use crate::ipc::arena::Member;
use crate::ipc::object::{self, Handle};
use crate::ipc::process_table::ProcessHandle;
use crate::ipc::waiting::Waiting;
use crate::ipc::{queue, shared};
use crate::process::{Guest, Process};

pub(super) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.func_wrap(MODULE, "begin", |mut caller: Caller<'_, Guest>, part: i32| {
        status(apart(&mut caller, |process| {
            let member = own_claims(process)?;
            let slot = member.slot()?;
            slot.tail.begin();
            slot.claims.begin(part as u32)
        }))
    })?;
    linker.func_wrap(MODULE, "follow", |mut caller: Caller<'_, Guest>, handle: i64| {
        status(apart(&mut caller, |process| {
            let member = own_claims(process)?;
            let shared = object::resolve(member, Handle(handle as u64))?;
            member.slot()?.tail.follow(shared::pages(member, shared)?.0);
            Ok(())
        }))
    })?;
    add_put(linker, MODULE, ["finish", "finish_parts"], finish)?;
    linker.func_wrap(MODULE, "claims", |mut caller: Caller<'_, Guest>, process: i64, out: i32| {
        status(view(&mut caller).and_then(|view| claims(view, process, out)))
    })?;
    linker.func_wrap(MODULE, "kill", |mut caller: Caller<'_, Guest>, process: i64, work: i64| {
        status(
            view(&mut caller)
                .and_then(|view| view.process.children.kill_at(ProcessHandle(process as u64), work as u64)),
        )
    })?;
    linker.func_wrap(MODULE, "input", |mut caller: Caller<'_, Guest>, buffer: i32, capacity: i32| {
        value(view(&mut caller).and_then(|mut view| {
            let task = view.process.task.as_ref().ok_or(Errno::Noent)?;
            view.memory.fill(buffer, capacity, &task.input)
        }))
    })?;
    linker.func_wrap(MODULE, "output", |mut caller: Caller<'_, Guest>, bytes: i32, len: i32| {
        status(view(&mut caller).and_then(|view| {
            let bytes = view.memory.bytes(bytes, len)?;
            let output = view.process.task.as_mut().ok_or(Errno::Noent)?.set_output(bytes);
            output.inspect_err(|_| view.process.refused(Limit::Output))
        }))
    })?;
    Ok(())
}

/// The caller, if its claims are its own affair: a worker of a guest's pool.
///
/// `PERM` in a worker of the host's.
fn own_claims(process: &Process) -> Result<&Member> {
    if process.is_host_worker { Err(Errno::Perm) } else { Ok(process.member()) }
}

fn finish(view: &View<'_>, queue: i64, parts: &[&[u8]], list: (i32, i32), timeout: i64) -> Result<()> {
    let member = own_claims(view.process)?;
    let port = port(view.process, queue, Waiting::Put)?;
    let handles = view.memory.handles(list.0, list.1)?;
    let put = try_first(view.process, timeout, |deadline| {
        queue::finish(member, port, parts, &handles, member.index, deadline)
    });
    noting_full(view.process, port, put)
}

fn claims(mut view: View<'_>, process: i64, out: i32) -> Result<()> {
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
