//! Shared memory in a guest's own memory: how it is mapped and unmapped. [`mapped_ranges`](super::mapped_ranges) has the record of it.
//!
//! A mapping takes whole pages of WebAssembly by which the host has grown the memory, so that no allocator of the guest
//! knows them. The pages of the arena then lie over those of the memory, where plain loads and stores reach them; a
//! forked process has them as well. Other processes write there at any time, so host code never looks at such a range
//! as bytes: imports and WASI refuse it.
//!
//! Ranges where nothing is mapped, now or any more, are zeroes that can't be written: otherwise they would be memory
//! that no limit counts.
#![expect(clippy::disallowed_methods, reason = "it replaces pages of a guest's memory, and looks at none")]

use sandpool_abi::Errno;
use wasmtime::{AsContext as _, AsContextMut as _, Caller};

use super::mapped_ranges::Mapped;
use super::{Guest, memory};
use crate::ipc::Result;
use crate::ipc::object::{self, Handle};
use crate::ipc::shared::{self, SharedState};
use crate::sys::mem::{self, HUGE_PAGE};
use crate::sys::process::{FAILED, exit_now};

/// A page of WebAssembly.
const WASM_PAGE: u64 = 64 << 10;

/// Maps all of the shared memory of a handle, and returns its address.
///
/// `BADF`; `INVAL` if the shared memory is small; `PERM` if it is a view and `read_only` is false; `NOMEM` if the
/// guest's memory can't grow that far.
pub(crate) fn map(caller: &mut Caller<'_, Guest>, handle: Handle, read_only: bool) -> Result<usize> {
    let memory = memory::exported(caller);
    let participant = caller.data().process.participant().clone();
    let object = object::resolve::<SharedState>(&participant, handle)?;
    if !read_only {
        object.state.check_writable()?;
    }
    let (page, len) = shared::pages(&participant, object)?;
    let reserved = usize::try_from(len.next_multiple_of(WASM_PAGE)).map_err(|_| Errno::Nomem)?;
    let len = usize::try_from(len).map_err(|_| Errno::Nomem)?;
    let at = reserve(caller, memory, reserved)?;
    let target = memory.data_mut(caller.as_context_mut()).get_mut(at..at + len).ok_or(Errno::Io);
    let mapped = target.and_then(|target| participant.arena.map_again(page, target, read_only));
    let mappings = &mut caller.data_mut().mappings;
    if let Err(error) = mapped {
        mappings.free.push((at, reserved));
        return Err(error);
    }
    mappings.mapped.push(Mapped { at, len, reserved, handle });
    Ok(at)
}

/// Addresses for a mapping: those of an earlier mapping, or new ones at the end of the memory.
fn reserve(caller: &mut Caller<'_, Guest>, memory: wasmtime::Memory, reserved: usize) -> Result<usize> {
    let free = &mut caller.data_mut().mappings.free;
    if let Some(found) = free.iter().position(|(_, len)| *len == reserved) {
        return Ok(free.swap_remove(found).0);
    }
    let end = memory.data_size(caller.as_context());
    // A mapping that may hold a huge page begins where a huge page does.
    let from = memory.data_ptr(caller.as_context()).addr().checked_add(end).ok_or(Errno::Nomem)?;
    let gap = from.next_multiple_of(if reserved < HUGE_PAGE { 1 } else { HUGE_PAGE }) - from;
    // The kernel usually begins the memory there too; otherwise no gap fits.
    let gap = if gap.is_multiple_of(WASM_PAGE as usize) { gap } else { 0 };
    let grown = gap + reserved;
    // These addresses hold no memory of the guest's own, so the guest's limit doesn't count them.
    caller.data_mut().growth.mapped += grown as u64;
    let is_grown = memory.grow(caller.as_context_mut(), grown as u64 / WASM_PAGE).is_ok();
    let added = memory.data_mut(caller.as_context_mut()).get_mut(end..).unwrap_or_default();
    if !is_grown || mem::make_read_only(added).is_err() {
        let growth = &mut caller.data_mut().growth;
        growth.mapped -= grown as u64;
        growth.refused = None;
        return Err(Errno::Nomem);
    }
    let mappings = &mut caller.data_mut().mappings;
    mappings.lowest = Some(mappings.lowest.map_or(end, |lowest| lowest.min(end)));
    if gap != 0 {
        mappings.free.push((end, gap));
    }
    Ok(end + gap)
}

/// Undoes the mapping that starts at this address.
///
/// `INVAL` if there is no such mapping.
pub(crate) fn unmap(caller: &mut Caller<'_, Guest>, at: usize) -> Result<()> {
    let mapped = &caller.data().mappings.mapped;
    let found = mapped.iter().position(|mapped| mapped.at == at).ok_or(Errno::Inval)?;
    let memory = memory::exported(caller);
    let Mapped { at, len, reserved, .. } = caller.data_mut().mappings.mapped.swap_remove(found);
    let target = memory.data_mut(caller.as_context_mut()).get_mut(at..at + len).ok_or(Errno::Io)?;
    if mem::unmap(target).is_err() {
        // Pages that are still mapped may soon be another's: the process must not go on with them.
        exit_now(FAILED);
    }
    caller.data_mut().mappings.free.push((at, reserved));
    Ok(())
}

/// Undoes all mappings of a handle.
pub(crate) fn unmap_all(caller: &mut Caller<'_, Guest>, handle: Handle) {
    while let Some(at) =
        caller.data().mappings.mapped.iter().find(|mapped| mapped.handle == handle).map(|mapped| mapped.at)
    {
        if unmap(caller, at).is_err() {
            break;
        }
    }
}
