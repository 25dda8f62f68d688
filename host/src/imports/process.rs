//! `sandpool_process`. See [`children`](crate::children).

use std::sync::LazyLock;

use sandpool_abi::Errno;
use sandpool_abi::process::DAEMON;

use super::{Caller, View, code, value, waiting, with_memory};
use crate::ipc::Result;
use crate::ipc::object;
use crate::ipc::process_table::ProcessHandle;
use crate::process::fork::Forked;
use crate::sys::futex::Deadline;

sandpool_abi::process_imports!(provide);

/// The number of processors that this process may use. To count the processors takes files, which guests don't have.
pub(crate) static PROCESSORS: LazyLock<i32> = LazyLock::new(|| {
    std::thread::available_parallelism().map_or(1, |count| i32::try_from(count.get()).unwrap_or(i32::MAX))
});

fn process_handle(handle: i64) -> ProcessHandle {
    ProcessHandle(handle as u64)
}

fn fork(caller: &mut Caller<'_>, name: i32, len: i32, flags: i32) -> i64 {
    value(with_memory(caller, |view| {
        let name = view.memory.text(name, len)?;
        let forked = view.process.fork(name, flags as u32);
        Ok(match view.process.noting(forked)? {
            Forked::Child => 0,
            Forked::Parent(child) => child.0 as i64,
        })
    }))
}

#[allow(clippy::too_many_arguments, reason = "as the table has them")]
fn spawn(
    caller: &mut Caller<'_>,
    name: i32,
    name_len: i32,
    flags: i32,
    payload: i32,
    payload_len: i32,
    list: i32,
    count: i32,
) -> i64 {
    value(with_memory(caller, |view| {
        let name = view.memory.text(name, name_len)?;
        let payload = view.memory.bytes(payload, payload_len)?;
        let handles = view.memory.handles(list, count)?;
        let spawned = view.process.spawn(name, flags as u32, payload, &handles);
        Ok(view.process.noting(spawned)?.0 as i64)
    }))
}

fn entry(caller: &mut Caller<'_>, buffer: i32, capacity: i32) -> i64 {
    value(with_memory(caller, |mut view| {
        let entry = view.process.entry.as_ref().ok_or(Errno::Noent)?;
        view.memory.fill(buffer, capacity, &entry.payload)
    }))
}

fn entry_handles(caller: &mut Caller<'_>, buffer: i32, capacity: i32) -> i64 {
    value(with_memory(caller, |mut view| {
        let entry = view.process.entry.as_ref().ok_or(Errno::Noent)?;
        let records = object::look_up_all(view.process.participant(), &entry.handles)?;
        view.memory.fill_records(buffer, capacity, &records)
    }))
}

#[inline]
fn current(caller: &mut Caller<'_>) -> i64 {
    caller.data().process.handle().0 as i64
}

#[inline]
fn parent(caller: &mut Caller<'_>) -> i64 {
    caller.data().process.parent.map_or(0, |parent| parent.0 as i64)
}

fn children(caller: &mut Caller<'_>, buffer: i32, capacity: i32) -> i64 {
    value(with_memory(caller, |mut view| {
        let children = view.process.children.living_handles();
        view.memory.fill_words(buffer, capacity, children.iter().map(|child| child.0))
    }))
}

fn join(caller: &mut Caller<'_>, process: i64, timeout: i64) -> i32 {
    code(waiting(caller, |view| {
        let deadline = Deadline::after_nanos(timeout as u64);
        let ended = view.process.join(process_handle(process), deadline)?;
        if ended { Ok(()) } else { Err(Errno::Timedout) }
    }))
}

fn status(caller: &mut Caller<'_>, process: i64, out: i32) -> i32 {
    code(with_memory(caller, |mut view| {
        let outcome = view.process.children.exit_status(process_handle(process))?;
        let (low, high) = (outcome.figure as u32, (outcome.figure >> 32) as u32);
        view.memory.store(out, [outcome.kind, outcome.detail, outcome.exitcode() as u32, 0, low, high])
    }))
}

fn signal(caller: &mut Caller<'_>, process: i64, signal: i32) -> i32 {
    code(with_memory(caller, |view| view.process.children.signal(process_handle(process), signal)))
}

fn close(caller: &mut Caller<'_>, process: i64) -> i32 {
    code(with_memory(caller, |view| view.process.children.close(process_handle(process))))
}

fn detach(caller: &mut Caller<'_>, process: i64) -> i32 {
    code(with_memory(caller, |view| view.process.children.detach(process_handle(process))))
}

fn info(caller: &mut Caller<'_>, process: i64, out: i32) -> i32 {
    code(with_memory(caller, |view| write_info(view, process_handle(process), out)))
}

fn name(caller: &mut Caller<'_>, process: i64, buffer: i32, capacity: i32) -> i64 {
    value(with_memory(caller, |mut view| {
        let known = view.process.describe(process_handle(process))?;
        view.memory.fill(buffer, capacity, &known.name)
    }))
}

fn mute(caller: &mut Caller<'_>, on: i32) -> i32 {
    caller.data_mut().process.is_mute = on != 0;
    0
}

fn cpu_count(_: &mut Caller<'_>) -> i32 {
    *PROCESSORS
}

fn limit(caller: &mut Caller<'_>, code: i32) -> i64 {
    let limit = caller.data().process.limit(code as u32).ok_or(Errno::Noent);
    value(limit.map(|limit| i64::try_from(limit.figure()).unwrap_or(i64::MAX)))
}

fn stderr(caller: &mut Caller<'_>, process: i64, buffer: i32, capacity: i32) -> i64 {
    value(with_memory(caller, |mut view| {
        let stderr = view.process.children.stderr(process_handle(process))?;
        view.memory.fill(buffer, capacity, &stderr)
    }))
}

fn write_info(mut view: View<'_>, handle: ProcessHandle, out: i32) -> Result<()> {
    let known = view.process.describe(handle)?;
    let flags = if known.is_daemon { DAEMON } else { 0 };
    let (low, high) = (handle.0 as u32, (handle.0 >> 32) as u32);
    view.memory.store(out, [low, high, known.pid, known.parent_pid, flags, u32::from(known.is_alive)])
}
