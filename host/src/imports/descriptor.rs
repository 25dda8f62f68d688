//! `sandpool_descriptor`. See [`descriptors`](crate::process::wasi::descriptors).

use sandpool_abi::Errno;
use sandpool_abi::descriptor::NONBLOCKING;

use super::{Caller, code, value, with_memory};
use crate::ipc::Result;
use crate::ipc::object::Handle;
use crate::process::wasi::descriptors;

sandpool_abi::descriptor_imports!(provide);

fn pipe(caller: &mut Caller<'_>, flags: i32, numbers: i32) -> i32 {
    code(make(caller, flags as u32, numbers))
}

fn make(caller: &mut Caller<'_>, flags: u32, numbers: i32) -> Result<()> {
    if flags & !NONBLOCKING != 0 {
        return Err(Errno::Inval);
    }
    with_memory(caller, |mut view| view.memory.bytes_mut(numbers, 8).map(drop))?;
    let made = descriptors::pipe(caller.data_mut(), flags & NONBLOCKING != 0)?;
    with_memory(caller, |mut view| view.memory.store(numbers, made))
}

fn duplicate(caller: &mut Caller<'_>, descriptor: i32, least: i32) -> i64 {
    number(descriptors::duplicate(caller.data_mut(), descriptor as u32, least as u32))
}

fn duplicate_to(caller: &mut Caller<'_>, descriptor: i32, to: i32) -> i64 {
    number(descriptors::duplicate_to(caller.data_mut(), descriptor as u32, to as u32))
}

fn handle(caller: &mut Caller<'_>, descriptor: i32) -> i64 {
    value(descriptors::handle(caller.data_mut(), descriptor as u32).map(|handle| handle.0 as i64))
}

fn open(caller: &mut Caller<'_>, end: i64) -> i64 {
    number(descriptors::open(caller.data_mut(), Handle(end as u64)))
}

/// The number of a descriptor, as an `i64` result.
fn number(result: Result<u32>) -> i64 {
    value(result.map(i64::from))
}
