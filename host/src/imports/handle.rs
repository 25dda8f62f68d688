//! `sandpool_handle`: how often a guest holds an object.

use sandpool_abi::handle::MODULE;
use wasmtime::{Caller, Linker};

use super::{status, view};
use crate::ipc::object::{self, Handle};
use crate::process::Guest;

pub(super) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.func_wrap(MODULE, "retain", |mut caller: Caller<'_, Guest>, object: i64| {
        status(view(&mut caller).and_then(|view| {
            let process = &mut view.guest.process;
            object::resolve(&process.member, Handle(object as u64))?;
            process.hold(Handle(object as u64));
            Ok(())
        }))
    })?;
    linker.func_wrap(MODULE, "release", |mut caller: Caller<'_, Guest>, object: i64| {
        status(view(&mut caller).and_then(|view| view.guest.process.release(Handle(object as u64))))
    })?;
    Ok(())
}
