//! `sandpool_shared`. See [`shared`](crate::ipc::shared).

use sandpool_abi::Errno;
use sandpool_abi::shared::{MODULE, OWNED, READ_ONLY, SMALL};
use wasmtime::{Caller, Linker};

use super::{status, value, view};
use crate::ipc::Result;
use crate::ipc::object::{self, Handle, Object};
use crate::ipc::shared::{self, Atomic, SharedState};
use crate::process::{Guest, Process, mappings};

pub(super) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    add_objects(linker)?;
    add_mappings(linker)?;
    add_access(linker)
}

/// Shared memory as an object with a name.
fn add_objects(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "create",
        |mut caller: Caller<'_, Guest>, size: i64, flags: i32, name: i32, len: i32| {
            value(view(&mut caller).and_then(|view| {
                let size = u64::try_from(size).map_err(|_| Errno::Inval)?;
                if flags as u32 & !(SMALL | OWNED) != 0 {
                    return Err(Errno::Inval);
                }
                let name = view.memory.text(name, len)?;
                let small = flags as u32 & SMALL != 0;
                let create = if flags as u32 & OWNED == 0 { shared::create } else { shared::create_owned };
                let handle = view.process.making(|member| create(member, size, small, name))?;
                view.process.hold(handle);
                Ok(handle.0 as i64)
            }))
        },
    )?;
    linker.func_wrap(MODULE, "open", |mut caller: Caller<'_, Guest>, name: i32, len: i32| {
        value(view(&mut caller).and_then(|view| {
            let handle = shared::open(view.process.member(), view.memory.text(name, len)?)?;
            view.process.hold(handle);
            Ok(handle.0 as i64)
        }))
    })?;
    linker.func_wrap(MODULE, "unlink", |mut caller: Caller<'_, Guest>, name: i32, len: i32| {
        status(
            view(&mut caller)
                .and_then(|view| shared::unlink(view.process.member(), view.memory.text(name, len)?)),
        )
    })?;
    linker.func_wrap(MODULE, "size", |mut caller: Caller<'_, Guest>, handle: i64| {
        value(view(&mut caller).and_then(|view| Ok(object(view.process, handle)?.state.size() as i64)))
    })?;
    linker.func_wrap(
        MODULE,
        "name",
        |mut caller: Caller<'_, Guest>, handle: i64, buffer: i32, capacity: i32| {
            value(view(&mut caller).and_then(|mut view| {
                let name = object(view.process, handle)?.state.name();
                view.memory.fill(buffer, capacity, &name)
            }))
        },
    )?;
    linker.func_wrap(MODULE, "view", |mut caller: Caller<'_, Guest>, handle: i64| {
        value(view(&mut caller).and_then(|view| {
            let handle = view.process.making(|member| shared::view(member, Handle(handle as u64)))?;
            view.process.hold(handle);
            Ok(handle.0 as i64)
        }))
    })?;
    Ok(())
}

/// Shared memory in the memory of the guest.
fn add_mappings(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.func_wrap(MODULE, "map", |mut caller: Caller<'_, Guest>, handle: i64, flags: i32| {
        let mapped = if flags as u32 & !READ_ONLY == 0 {
            mappings::map(&mut caller, Handle(handle as u64), flags as u32 & READ_ONLY != 0)
        } else {
            Err(Errno::Inval)
        };
        value(mapped.map(|at| at as i64))
    })?;
    linker.func_wrap(MODULE, "unmap", |mut caller: Caller<'_, Guest>, at: i32| {
        status(mappings::unmap(&mut caller, at as u32 as usize))
    })?;
    Ok(())
}

/// Access to shared memory by calls: bytes, and atomic operations.
fn add_access(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "read",
        |mut caller: Caller<'_, Guest>, handle: i64, offset: i64, buffer: i32, len: i32| {
            status(view(&mut caller).and_then(|mut view| {
                let to = view.memory.bytes_mut(buffer, len)?;
                shared::read(view.process.member(), object(view.process, handle)?, offset as u64, to)
            }))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "write",
        |mut caller: Caller<'_, Guest>, handle: i64, offset: i64, buffer: i32, len: i32| {
            status(view(&mut caller).and_then(|view| {
                let from = view.memory.bytes(buffer, len)?;
                shared::write(view.process.member(), object(view.process, handle)?, offset as u64, from)
            }))
        },
    )?;
    linker.func_wrap(MODULE, "load", |caller: Caller<'_, Guest>, handle: i64, offset: i64, width: i32| {
        atomic(&caller, handle, offset, width, Atomic::Load)
    })?;
    linker.func_wrap(
        MODULE,
        "store",
        |caller: Caller<'_, Guest>, handle: i64, offset: i64, width: i32, value: i64| {
            atomic(&caller, handle, offset, width, Atomic::Store(value as u64))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "rmw",
        |caller: Caller<'_, Guest>, handle: i64, offset: i64, width: i32, operation: i32, operand: i64| {
            atomic(&caller, handle, offset, width, Atomic::Rmw(operation as u32, operand as u64))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "compare_exchange",
        |caller: Caller<'_, Guest>, handle: i64, offset: i64, width: i32, expected: i64, new: i64| {
            let exchange = Atomic::CompareExchange { expected: expected as u64, new: new as u64 };
            atomic(&caller, handle, offset, width, exchange)
        },
    )?;
    Ok(())
}

fn object(process: &Process, handle: i64) -> Result<Object<'_, SharedState>> {
    object::resolve(process.member(), Handle(handle as u64))
}

/// The result uses all 64 bits, so that an error can only be a trap.
fn atomic(
    caller: &Caller<'_, Guest>,
    handle: i64,
    offset: i64,
    width: i32,
    operation: Atomic,
) -> wasmtime::Result<i64> {
    let process = &caller.data().process;
    object(process, handle)
        .and_then(|shared| shared::atomic(process.member(), shared, offset as u64, width as u32, operation))
        .map(|old| old as i64)
        .map_err(|errno| wasmtime::Error::msg(format!("atomic access to shared memory: {errno}")))
}
