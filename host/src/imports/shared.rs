//! `sandpool_shared`. See [`shared`](crate::ipc::shared).

use sandpool_abi::Errno;
use sandpool_abi::shared::{OWNED, READ_ONLY, SMALL};

use super::{Caller, code, value, with_memory};
use crate::ipc::Result;
use crate::ipc::object::{self, Handle, Object};
use crate::ipc::shared::{self, Atomic, SharedState};
use crate::process::{Process, mappings};

sandpool_abi::shared_imports!(provide);

fn create(caller: &mut Caller<'_>, size: i64, flags: i32, name: i32, len: i32) -> i64 {
    value(with_memory(caller, |view| {
        let size = u64::try_from(size).map_err(|_| Errno::Inval)?;
        if flags as u32 & !(SMALL | OWNED) != 0 {
            return Err(Errno::Inval);
        }
        let name = view.memory.text(name, len)?;
        let small = flags as u32 & SMALL != 0;
        let create = if flags as u32 & OWNED == 0 { shared::create } else { shared::create_owned };
        let handle = view.process.making(|participant| create(participant, size, small, name))?;
        view.process.hold(handle);
        Ok(handle.0 as i64)
    }))
}

fn open(caller: &mut Caller<'_>, name: i32, len: i32) -> i64 {
    value(with_memory(caller, |view| {
        let handle = shared::open(view.process.participant(), view.memory.text(name, len)?)?;
        view.process.hold(handle);
        Ok(handle.0 as i64)
    }))
}

fn unlink(caller: &mut Caller<'_>, name: i32, len: i32) -> i32 {
    code(with_memory(caller, |view| shared::unlink(view.process.participant(), view.memory.text(name, len)?)))
}

fn size(caller: &mut Caller<'_>, handle: i64) -> i64 {
    value(with_memory(caller, |view| Ok(object(view.process, handle)?.state.size() as i64)))
}

fn name(caller: &mut Caller<'_>, handle: i64, buffer: i32, capacity: i32) -> i64 {
    value(with_memory(caller, |mut view| {
        let name = object(view.process, handle)?.state.name();
        view.memory.fill(buffer, capacity, &name)
    }))
}

fn map(caller: &mut Caller<'_>, handle: i64, flags: i32) -> i64 {
    let mapped = if flags as u32 & !READ_ONLY == 0 {
        mappings::map(caller, Handle(handle as u64), flags as u32 & READ_ONLY != 0)
    } else {
        Err(Errno::Inval)
    };
    value(mapped.map(|at| at as i64))
}

fn unmap(caller: &mut Caller<'_>, at: i32) -> i32 {
    code(mappings::unmap(caller, at as u32 as usize))
}

fn view(caller: &mut Caller<'_>, handle: i64) -> i64 {
    value(with_memory(caller, |view| {
        let handle = view.process.making(|participant| shared::view(participant, Handle(handle as u64)))?;
        view.process.hold(handle);
        Ok(handle.0 as i64)
    }))
}

#[inline]
fn read(caller: &mut Caller<'_>, handle: i64, offset: i64, buffer: i32, len: i32) -> i32 {
    code(with_memory(caller, |mut view| {
        let to = view.memory.bytes_mut(buffer, len)?;
        shared::read(view.process.participant(), object(view.process, handle)?, offset as u64, to)
    }))
}

#[inline]
fn write(caller: &mut Caller<'_>, handle: i64, offset: i64, buffer: i32, len: i32) -> i32 {
    code(with_memory(caller, |view| {
        let from = view.memory.bytes(buffer, len)?;
        shared::write(view.process.participant(), object(view.process, handle)?, offset as u64, from)
    }))
}

#[inline]
fn load(caller: &mut Caller<'_>, handle: i64, offset: i64, width: i32) -> wasmtime::Result<i64> {
    atomic(caller, handle, offset, width, Atomic::Load)
}

#[inline]
fn store(caller: &mut Caller<'_>, handle: i64, offset: i64, width: i32, value: i64) -> wasmtime::Result<i64> {
    atomic(caller, handle, offset, width, Atomic::Store(value as u64))
}

#[inline]
fn rmw(
    caller: &mut Caller<'_>,
    handle: i64,
    offset: i64,
    width: i32,
    operation: i32,
    operand: i64,
) -> wasmtime::Result<i64> {
    atomic(caller, handle, offset, width, Atomic::Rmw(operation as u32, operand as u64))
}

#[inline]
fn compare_exchange(
    caller: &mut Caller<'_>,
    handle: i64,
    offset: i64,
    width: i32,
    expected: i64,
    new: i64,
) -> wasmtime::Result<i64> {
    let exchange = Atomic::CompareExchange { expected: expected as u64, new: new as u64 };
    atomic(caller, handle, offset, width, exchange)
}

fn object(process: &Process, handle: i64) -> Result<Object<'_, SharedState>> {
    object::resolve(process.participant(), Handle(handle as u64))
}

/// The result uses all 64 bits, so that an error can only be a trap.
fn atomic(
    caller: &Caller<'_>,
    handle: i64,
    offset: i64,
    width: i32,
    operation: Atomic,
) -> wasmtime::Result<i64> {
    let process = &caller.data().process;
    object(process, handle)
        .and_then(|shared| {
            shared::atomic(process.participant(), shared, offset as u64, width as u32, operation)
        })
        .map(|old| old as i64)
        .map_err(|errno| wasmtime::Error::msg(format!("atomic access to shared memory: {errno}")))
}
