//! `sandpool_process`. See [`children`](crate::children).

use std::sync::LazyLock;

use sandpool_abi::Errno;
use sandpool_abi::process::{DAEMON, MODULE};
use wasmtime::{Caller, Linker};

use super::{View, status, value, view, waiting};
use crate::ipc::Result;
use crate::ipc::object;
use crate::ipc::process_table::ProcessHandle;
use crate::process::Guest;
use crate::process::fork::Forked;
use crate::sys::futex::Deadline;

/// The number of processors that this process may use. To count the processors takes files, which guests don't have.
pub(crate) static PROCESSORS: LazyLock<i32> = LazyLock::new(|| {
    std::thread::available_parallelism().map_or(1, |count| i32::try_from(count.get()).unwrap_or(i32::MAX))
});

fn process_handle(handle: i64) -> ProcessHandle {
    ProcessHandle(handle as u64)
}

pub(super) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    add_starts(linker)?;
    add_facts(linker)?;
    add_ends(linker)
}

/// How processes start, and what a spawned one is given.
fn add_starts(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.func_wrap(MODULE, "fork", |mut caller: Caller<'_, Guest>, name: i32, len: i32, flags: i32| {
        value(view(&mut caller).and_then(|view| {
            let name = view.memory.text(name, len)?;
            let forked = view.process.fork(name, flags as u32);
            Ok(match view.process.noting(forked)? {
                Forked::Child => 0,
                Forked::Parent(child) => child.0 as i64,
            })
        }))
    })?;
    linker.func_wrap(
        MODULE,
        "spawn",
        |mut caller: Caller<'_, Guest>,
         name: i32,
         name_len: i32,
         flags: i32,
         payload: i32,
         payload_len: i32,
         list: i32,
         count: i32| {
            value(view(&mut caller).and_then(|view| {
                let name = view.memory.text(name, name_len)?;
                let payload = view.memory.bytes(payload, payload_len)?;
                let handles = view.memory.handles(list, count)?;
                let spawned = view.process.spawn(name, flags as u32, payload, &handles);
                Ok(view.process.noting(spawned)?.0 as i64)
            }))
        },
    )?;
    linker.func_wrap(MODULE, "entry", |mut caller: Caller<'_, Guest>, buffer: i32, capacity: i32| {
        value(view(&mut caller).and_then(|mut view| {
            let entry = view.process.entry.as_ref().ok_or(Errno::Noent)?;
            view.memory.fill(buffer, capacity, &entry.payload)
        }))
    })?;
    linker.func_wrap(
        MODULE,
        "entry_handles",
        |mut caller: Caller<'_, Guest>, buffer: i32, capacity: i32| {
            value(view(&mut caller).and_then(|mut view| {
                let entry = view.process.entry.as_ref().ok_or(Errno::Noent)?;
                let records = object::look_up_all(view.process.member(), &entry.handles)?;
                view.memory.fill_records(buffer, capacity, &records)
            }))
        },
    )?;
    Ok(())
}

/// What a process may know of itself and its relatives, and say of itself.
fn add_facts(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker
        .func_wrap(MODULE, "current", |caller: Caller<'_, Guest>| caller.data().process.handle().0 as i64)?;
    linker.func_wrap(MODULE, "parent", |caller: Caller<'_, Guest>| {
        caller.data().process.parent.map_or(0, |parent| parent.0 as i64)
    })?;
    linker.func_wrap(MODULE, "children", |mut caller: Caller<'_, Guest>, buffer: i32, capacity: i32| {
        value(view(&mut caller).and_then(|mut view| {
            let children = view.process.children.living_handles();
            view.memory.fill_words(buffer, capacity, children.iter().map(|child| child.0))
        }))
    })?;
    linker.func_wrap(MODULE, "info", |mut caller: Caller<'_, Guest>, process: i64, out: i32| {
        status(view(&mut caller).and_then(|view| info(view, process_handle(process), out)))
    })?;
    linker.func_wrap(
        MODULE,
        "name",
        |mut caller: Caller<'_, Guest>, process: i64, buffer: i32, capacity: i32| {
            value(view(&mut caller).and_then(|mut view| {
                let known = view.process.describe(process_handle(process))?;
                view.memory.fill(buffer, capacity, &known.name)
            }))
        },
    )?;
    linker.func_wrap(MODULE, "limit", |caller: Caller<'_, Guest>, code: i32| {
        let limit = caller.data().process.limit(code as u32).ok_or(Errno::Noent);
        value(limit.map(|limit| i64::try_from(limit.figure()).unwrap_or(i64::MAX)))
    })?;
    linker.func_wrap(MODULE, "cpu_count", || *PROCESSORS)?;
    linker.func_wrap(MODULE, "mute", |mut caller: Caller<'_, Guest>, on: i32| {
        caller.data_mut().process.is_mute = on != 0;
        0
    })?;
    Ok(())
}

/// How processes end, and how their parent learns of it.
fn add_ends(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.func_wrap(MODULE, "join", |mut caller: Caller<'_, Guest>, process: i64, timeout: i64| {
        status(waiting(&mut caller, |view| {
            let deadline = Deadline::after_nanos(timeout as u64);
            let ended = view.process.join(process_handle(process), deadline)?;
            if ended { Ok(()) } else { Err(Errno::Timedout) }
        }))
    })?;
    linker.func_wrap(MODULE, "status", |mut caller: Caller<'_, Guest>, process: i64, out: i32| {
        status(view(&mut caller).and_then(|mut view| {
            let outcome = view.process.children.exit_status(process_handle(process))?;
            let (low, high) = (outcome.figure as u32, (outcome.figure >> 32) as u32);
            view.memory.store(out, [outcome.kind, outcome.detail, outcome.exitcode() as u32, 0, low, high])
        }))
    })?;
    linker.func_wrap(
        MODULE,
        "stderr",
        |mut caller: Caller<'_, Guest>, process: i64, buffer: i32, capacity: i32| {
            value(view(&mut caller).and_then(|mut view| {
                let stderr = view.process.children.stderr(process_handle(process))?;
                view.memory.fill(buffer, capacity, &stderr)
            }))
        },
    )?;
    linker.func_wrap(MODULE, "signal", |mut caller: Caller<'_, Guest>, process: i64, signal: i32| {
        status(
            view(&mut caller).and_then(|view| view.process.children.signal(process_handle(process), signal)),
        )
    })?;
    linker.func_wrap(MODULE, "close", |mut caller: Caller<'_, Guest>, process: i64| {
        status(view(&mut caller).and_then(|view| view.process.children.close(process_handle(process))))
    })?;
    linker.func_wrap(MODULE, "detach", |mut caller: Caller<'_, Guest>, process: i64| {
        status(view(&mut caller).and_then(|view| view.process.children.detach(process_handle(process))))
    })?;
    Ok(())
}

fn info(mut view: View<'_>, handle: ProcessHandle, out: i32) -> Result<()> {
    let known = view.process.describe(handle)?;
    let flags = if known.is_daemon { DAEMON } else { 0 };
    let (low, high) = (handle.0 as u32, (handle.0 >> 32) as u32);
    view.memory.store(out, [low, high, known.pid, known.parent_pid, flags, u32::from(known.is_alive)])
}
