//! `sandpool_process`. See [`family`](crate::process::family).

use sandpool_abi::process::MODULE;
use sandpool_abi::{Errno, WAIT_MAX};
use wasmtime::{Caller, Linker};

use super::{View, bytes, bytes_mut, fill, fill_words, handles, status, store, text, value, view, words};
use crate::ipc::Result;
use crate::ipc::process_table::{DAEMON, ProcessHandle};
use crate::process::Guest;
use crate::process::family::Forked;
use crate::sys::futex::Deadline;

fn process_handle(handle: i64) -> ProcessHandle {
    ProcessHandle(handle as u64)
}

pub(super) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.func_wrap(MODULE, "fork", |mut caller: Caller<'_, Guest>, name: i32, len: i32, flags: i32| {
        value(view(&mut caller).and_then(|view| {
            let name = text(view.memory, name, len)?;
            Ok(match view.guest.process.fork(name, flags as u32)? {
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
                let name = text(view.memory, name, name_len)?;
                let payload = bytes(view.memory, payload, payload_len)?;
                let handles = handles(view.memory, list, count)?;
                Ok(view.guest.process.spawn(name, flags as u32, payload, &handles)?.0 as i64)
            }))
        },
    )?;
    linker.func_wrap(MODULE, "entry", |mut caller: Caller<'_, Guest>, buffer: i32, capacity: i32| {
        value(view(&mut caller).and_then(|view| {
            let entry = view.guest.process.entry.as_ref().ok_or(Errno::Noent)?;
            fill(view.memory, buffer, capacity, &entry.payload)
        }))
    })?;
    linker.func_wrap(
        MODULE,
        "entry_handles",
        |mut caller: Caller<'_, Guest>, buffer: i32, capacity: i32| {
            value(view(&mut caller).and_then(|view| {
                let entry = view.guest.process.entry.as_ref().ok_or(Errno::Noent)?;
                fill_words(view.memory, buffer, capacity, entry.handles.iter().map(|handle| handle.0))
            }))
        },
    )?;
    linker.func_wrap(MODULE, "current", |caller: Caller<'_, Guest>| caller.data().process.handle.0 as i64)?;
    linker.func_wrap(MODULE, "parent", |caller: Caller<'_, Guest>| {
        caller.data().process.parent.map_or(0, |parent| parent.0 as i64)
    })?;
    linker.func_wrap(MODULE, "children", |mut caller: Caller<'_, Guest>, buffer: i32, capacity: i32| {
        value(view(&mut caller).and_then(|view| {
            let children = view.guest.process.children();
            fill_words(view.memory, buffer, capacity, children.iter().map(|child| child.0))
        }))
    })?;
    linker.func_wrap(MODULE, "join", |mut caller: Caller<'_, Guest>, process: i64, timeout: i64| {
        status(view(&mut caller).and_then(|view| {
            let deadline = Deadline::after_nanos(timeout as u64);
            let ended = view.guest.process.join(process_handle(process), deadline)?;
            if ended { Ok(()) } else { Err(Errno::Timedout) }
        }))
    })?;
    linker.func_wrap(
        MODULE,
        "wait",
        |mut caller: Caller<'_, Guest>, list: i32, count: i32, timeout: i64, ready: i32| {
            value(view(&mut caller).and_then(|view| wait(view, (list, count), timeout, ready)))
        },
    )?;
    linker.func_wrap(MODULE, "status", |mut caller: Caller<'_, Guest>, process: i64, out: i32| {
        status(view(&mut caller).and_then(|view| {
            let outcome = view.guest.process.exit_status(process_handle(process))?;
            store(view.memory, out, [outcome.kind, outcome.detail, outcome.exitcode() as u32, 0])
        }))
    })?;
    linker.func_wrap(MODULE, "signal", |mut caller: Caller<'_, Guest>, process: i64, signal: i32| {
        status(view(&mut caller).and_then(|view| view.guest.process.signal(process_handle(process), signal)))
    })?;
    linker.func_wrap(MODULE, "close", |mut caller: Caller<'_, Guest>, process: i64| {
        status(view(&mut caller).and_then(|view| view.guest.process.close(process_handle(process))))
    })?;
    linker.func_wrap(MODULE, "detach", |mut caller: Caller<'_, Guest>, process: i64| {
        status(view(&mut caller).and_then(|view| view.guest.process.detach(process_handle(process))))
    })?;
    linker.func_wrap(MODULE, "info", |mut caller: Caller<'_, Guest>, process: i64, out: i32| {
        status(view(&mut caller).and_then(|view| info(view, process_handle(process), out)))
    })?;
    linker.func_wrap(
        MODULE,
        "name",
        |mut caller: Caller<'_, Guest>, process: i64, buffer: i32, capacity: i32| {
            value(view(&mut caller).and_then(|view| {
                let (index, _) = view.guest.process.describe(process_handle(process))?;
                let name = view.guest.process.member.arena.process(index)?.name();
                fill(view.memory, buffer, capacity, &name)
            }))
        },
    )?;
    linker.func_wrap(MODULE, "cpu_count", || {
        std::thread::available_parallelism().map_or(1, |count| i32::try_from(count.get()).unwrap_or(i32::MAX))
    })?;
    Ok(())
}

fn wait(view: View<'_>, list: (i32, i32), timeout: i64, ready: i32) -> Result<i64> {
    let handles = words(view.memory, list.0, list.1, WAIT_MAX)?;
    let handles: Vec<_> = handles.into_iter().map(ProcessHandle).collect();
    if handles.is_empty() {
        return Ok(0);
    }
    bytes_mut(view.memory, ready, list.1)?;
    let ended = view.guest.process.wait(&handles, Deadline::after_nanos(timeout as u64))?;
    let out = bytes_mut(view.memory, ready, list.1)?;
    out.iter_mut().zip(&ended).for_each(|(to, ended)| *to = u8::from(*ended));
    Ok(ended.iter().filter(|ended| **ended).count() as i64)
}

fn info(view: View<'_>, handle: ProcessHandle, out: i32) -> Result<()> {
    let process = &view.guest.process;
    let arena = &process.member.arena;
    let (index, state) = process.describe(handle)?;
    let pid = |index| -> Result<u32> {
        use std::sync::atomic::Ordering::Acquire;
        let running = arena.process_id(index)?.load(Acquire);
        if running != 0 { Ok(running) } else { Ok(arena.process(index)?.ended_pid.load(Acquire)) }
    };
    let parent_pid = arena.process(index)?.parent().index().and_then(pid).unwrap_or(0);
    let flags = u32::from(state.flags & DAEMON);
    let fields = [
        handle.0 as u32,
        (handle.0 >> 32) as u32,
        pid(index)?,
        parent_pid,
        flags,
        u32::from(state.is_alive()),
    ];
    store(view.memory, out, fields)
}
