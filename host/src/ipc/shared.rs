//! Shared memory: a run of pages that guests map, or a few bytes in the object itself.
//!
//! A name is a holder, as a process is. Names are compared under the lock of the object table, so no name can be given
//! twice.
//!
//! A *view* is shared memory whose pages belong to another shared memory; the view holds that memory as a message on
//! its way does. Nothing is written through the handle of a view: a process that was given that handle, and not the
//! memory's own, can only read.

use sandpool_abi::shared::{ADD, AND, OR, READ_ONLY, SMALL_MAX, SUB, SWAP, XOR};
use sandpool_abi::{Errno, NAME_MAX};

use super::Result;
use super::arena::{PAGE, Participant};
use super::kind::ObjectState;
use super::object::{self, Handle, Named, Object};
use super::process_table::{NameBuffer, Register};
pub(crate) use super::states::SharedState;
use super::{heap, holds, transit};
use crate::sys::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

/// The bytes that one step gives back to the system: that takes a few milliseconds.
const CLEARED_AT_ONCE: u64 = 16 << 20;

impl ObjectState for SharedState {
    fn flags(&self) -> u32 {
        if self.viewed().is_some() { READ_ONLY } else { 0 }
    }

    fn viewed(&self) -> Option<Handle> {
        Some(Handle(self.base.load(Ordering::Relaxed))).filter(|base| base.0 != 0)
    }

    /// Removes the name, if the name goes with the process's hold.
    fn settle(&self, participant: &Participant, index: u32, process: u32) -> Result<()> {
        if self.owner.load(Ordering::Relaxed) == u64::from(process) + 1 && take_name(participant, self)? {
            // The process still holds the object, so the caller must not destroy it.
            holds::forget_unless_held(participant, index)?;
        }
        Ok(())
    }

    /// Gives a part of the pages back. `size` counts the bytes still to be given back, since nobody holds the object
    /// any more. The pages of a view belong to another object, which may be unused then.
    fn destroy_some(&self, participant: &Participant, unused: &mut Vec<u32>) -> Result<bool> {
        if let Some(base) = self.viewed() {
            if self.holds_base.load(Ordering::Relaxed) != 0 {
                transit::discard(participant, &[base], &self.holds_base, unused)?;
            }
            return Ok(true);
        }
        let page = self.page.load(Ordering::Relaxed);
        if page == 0 {
            return Ok(true);
        }
        let run = heap::run_pages(&participant.arena, page)? * PAGE as u64;
        let left = participant.arena.mappable(self.size()).unwrap_or(run).min(run);
        // The pages also go to the system: nobody knows when the heap will need that many again.
        let rest = left.saturating_sub(CLEARED_AT_ONCE);
        participant.arena.clear(page + rest / PAGE as u64, left - rest)?;
        self.size.store(rest, Ordering::Relaxed);
        if rest != 0 {
            return Ok(false);
        }
        let register = participant.slot()?.register(Register::Segment);
        heap::hand_over(participant, &self.page, register)?;
        heap::free(participant, register)?;
        Ok(true)
    }
}

impl SharedState {
    pub(crate) fn size(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    /// `PERM` if this is a view.
    #[inline]
    pub(crate) fn check_writable(&self) -> Result<()> {
        if self.base.load(Ordering::Relaxed) == 0 { Ok(()) } else { Err(Errno::Perm) }
    }

    pub(crate) fn name(&self) -> NameBuffer {
        self.name.get()
    }

    fn is_named(&self, name: &str) -> bool {
        self.named.load(Ordering::Relaxed) != 0 && *self.name.get() == *name.as_bytes()
    }
}

/// Makes shared memory of `size` zero bytes, with a name unless `name` is empty. `small` memory takes no page.
///
/// `INVAL`, `NAMETOOLONG`, `EXIST`, `NFILE`; `NOMEM` or `MSGSIZE` as the heap's.
pub(crate) fn create(participant: &Participant, size: u64, small: bool, name: &str) -> Result<Handle> {
    create_for(participant, size, small, name, 0)
}

/// Makes shared memory with a name that is removed when the caller gives the memory up, or ends.
pub(crate) fn create_owned(participant: &Participant, size: u64, small: bool, name: &str) -> Result<Handle> {
    create_for(participant, size, small, name, u64::from(participant.index) + 1)
}

fn create_for(participant: &Participant, size: u64, small: bool, name: &str, owner: u64) -> Result<Handle> {
    if name.len() > NAME_MAX {
        return Err(Errno::Nametoolong);
    }
    if size == 0 || (small && size > SMALL_MAX) {
        return Err(Errno::Inval);
    }
    let register = participant.slot()?.register(Register::Segment);
    let page = if small {
        0
    } else {
        let bytes = participant.arena.mappable(size)?;
        let page = heap::allocate_mappable(participant, bytes, register)?;
        participant.arena.clear(page, bytes)?;
        page
    };
    let init = |shared: &SharedState| {
        shared.size.store(size, Ordering::Relaxed);
        shared.page.store(page, Ordering::Relaxed);
        shared.named.store(u64::from(!name.is_empty()), Ordering::Relaxed);
        shared.base.store(0, Ordering::Relaxed);
        shared.holds_base.store(0, Ordering::Relaxed);
        shared.owner.store(owner, Ordering::Relaxed);
        shared.name.set(name.as_bytes());
        shared.small.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        Ok(())
    };
    let made = if name.is_empty() {
        object::create(participant, register, init)
    } else {
        let named = Named::new(&participant.arena, name)?;
        object::create_named(participant, register, named, |other: &SharedState| other.is_named(name), init)
    };
    if made.is_err() && page != 0 {
        heap::free(participant, register)?;
    }
    made
}

/// Makes a view of shared memory that the caller holds; a view of a view is one of the same memory. The caller holds
/// the new view.
///
/// `INVAL` if the memory has no pages.
pub(crate) fn view(participant: &Participant, of: Handle) -> Result<Handle> {
    let shared = object::resolve::<SharedState>(participant, of)?.state;
    let base = shared.viewed().unwrap_or(of);
    let (size, page) = (shared.size(), shared.page.load(Ordering::Relaxed));
    if page == 0 {
        return Err(Errno::Inval);
    }
    let register = participant.slot()?.register(Register::Segment);
    let view = object::create(participant, register, |view: &SharedState| {
        view.size.store(size, Ordering::Relaxed);
        view.page.store(page, Ordering::Relaxed);
        view.named.store(0, Ordering::Relaxed);
        view.base.store(base.0, Ordering::Relaxed);
        view.holds_base.store(0, Ordering::Relaxed);
        view.owner.store(0, Ordering::Relaxed);
        view.name.set(&shared.name());
        Ok(())
    })?;
    // Until here the caller holds the memory of the view, or another view that holds it.
    let state = object::resolve::<SharedState>(participant, view)?.state;
    let held = transit::keep(participant, &[base], &state.holds_base);
    if held.is_err() {
        object::release(participant, view)?;
    }
    held.map(|()| view)
}

/// Makes the caller a holder of the shared memory with this name.
///
/// `NOENT` if there is none.
pub(crate) fn open(participant: &Participant, name: &str) -> Result<Handle> {
    let named = Named::new(&participant.arena, name)?;
    object::open_named(participant, named, |shared: &SharedState| shared.is_named(name))
}

/// Removes a name.
///
/// `NOENT` if there is no such name.
pub(crate) fn unlink(participant: &Participant, name: &str) -> Result<()> {
    let named = Named::new(&participant.arena, name)?;
    object::unname(participant, named, |shared: &SharedState| shared.is_named(name), |shared| &shared.named)
}

/// Removes all names that are left of these [scopes](super::scope).
pub(crate) fn unlink_left(participant: &Participant, is_left: impl Fn(u64) -> bool) -> Result<()> {
    for index in 0..participant.arena.header()?.objects.high_water(&participant.arena) {
        if let Some(left) = object::in_scope::<SharedState>(participant, index, &is_left)?
            && take_name(participant, left)?
        {
            object::destroy_if_unused(participant, index)?;
        }
    }
    Ok(())
}

/// Removes the name of this object. Returns whether the object had a name.
fn take_name(participant: &Participant, shared: &SharedState) -> Result<bool> {
    if shared.named.load(Ordering::Relaxed) == 0 {
        return Ok(false);
    }
    let name = shared.name();
    let named = Named::new(&participant.arena, str::from_utf8(&name).map_err(|_| Errno::Io)?)?;
    let is_this = |other: &SharedState| std::ptr::eq(other, shared);
    match object::take_name(participant, named, is_this, |shared: &SharedState| &shared.named) {
        // Another process has been faster.
        Err(Errno::Noent) => Ok(false),
        taken => taken.map(|_| true),
    }
}

/// The first page of shared memory, and the bytes that are mapped with it: all of them lie in its run.
///
/// `INVAL` if the memory has no page.
pub(crate) fn pages(participant: &Participant, shared: Object<'_, SharedState>) -> Result<(u64, u64)> {
    let page = shared.state.page.load(Ordering::Relaxed);
    if page == 0 {
        return Err(Errno::Inval);
    }
    let room = heap::run_pages(&participant.arena, page)? * PAGE as u64;
    let mapped = participant.arena.mappable(shared.state.size()).map_err(|_| Errno::Io)?;
    if mapped > room { Err(Errno::Io) } else { Ok((page, mapped)) }
}

/// The offset in the arena of `len` bytes.
///
/// `INVAL` if the bytes don't lie inside.
fn locate(
    participant: &Participant,
    shared: Object<'_, SharedState>,
    offset: u64,
    len: u64,
) -> Result<usize> {
    if offset.checked_add(len).is_none_or(|end| end > shared.state.size()) {
        return Err(Errno::Inval);
    }
    let start = match shared.state.page.load(Ordering::Relaxed) {
        0 if shared.state.size() <= SMALL_MAX => participant.arena.offset_of(&shared.state.small) as usize,
        0 => return Err(Errno::Io),
        page => {
            let first: &AtomicU64 = participant.arena.in_heap(page, 0)?;
            participant.arena.offset_of(first) as usize
        }
    };
    start.checked_add(offset as usize).ok_or(Errno::Io)
}

/// Copies bytes out.
pub(crate) fn read(
    participant: &Participant,
    shared: Object<'_, SharedState>,
    offset: u64,
    to: &mut [u8],
) -> Result<()> {
    let at = locate(participant, shared, offset, to.len() as u64)?;
    participant.arena.read_at(at, to)
}

/// Copies bytes in.
///
/// `PERM` through a view.
pub(crate) fn write(
    participant: &Participant,
    shared: Object<'_, SharedState>,
    offset: u64,
    from: &[u8],
) -> Result<()> {
    shared.state.check_writable()?;
    let at = locate(participant, shared, offset, from.len() as u64)?;
    participant.arena.write_at(at, from)
}

/// An operation on an integer, in one step.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Atomic {
    Load,
    Store(u64),
    /// One of `ADD`…, and the operand.
    Rmw(u32, u64),
    CompareExchange {
        expected: u64,
        new: u64,
    },
}

/// Does the operation, and returns the former integer, zero-extended.
///
/// `INVAL` for a bad width, operation or offset; `PERM` if the operation could change something through a view.
#[inline]
pub(crate) fn atomic(
    participant: &Participant,
    shared: Object<'_, SharedState>,
    offset: u64,
    width: u32,
    atomic: Atomic,
) -> Result<u64> {
    if !matches!(atomic, Atomic::Load) {
        shared.state.check_writable()?;
    }
    let at = locate(participant, shared, offset, u64::from(width))?;
    macro_rules! with {
        ($atomic:ty, $integer:ty) => {{
            if !at.is_multiple_of(size_of::<$integer>()) {
                return Err(Errno::Inval);
            }
            let cell: &$atomic = participant.arena.at(at)?;
            let order = Ordering::SeqCst;
            let old = match atomic {
                Atomic::Load => cell.load(order),
                Atomic::Store(value) => {
                    cell.store(value as $integer, order);
                    0
                }
                Atomic::Rmw(ADD, operand) => cell.fetch_add(operand as $integer, order),
                Atomic::Rmw(SUB, operand) => cell.fetch_sub(operand as $integer, order),
                Atomic::Rmw(AND, operand) => cell.fetch_and(operand as $integer, order),
                Atomic::Rmw(OR, operand) => cell.fetch_or(operand as $integer, order),
                Atomic::Rmw(XOR, operand) => cell.fetch_xor(operand as $integer, order),
                Atomic::Rmw(SWAP, operand) => cell.swap(operand as $integer, order),
                Atomic::Rmw(..) => return Err(Errno::Inval),
                Atomic::CompareExchange { expected, new } => cell
                    .compare_exchange(expected as $integer, new as $integer, order, order)
                    .unwrap_or_else(|old| old),
            };
            Ok(u64::from(old))
        }};
    }
    match width {
        1 => with!(AtomicU8, u8),
        2 => with!(AtomicU16, u16),
        4 => with!(AtomicU32, u32),
        8 => with!(AtomicU64, u64),
        _ => Err(Errno::Inval),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ipc::arena::{Arena, Geometry, Patience};

    /// Mapped shared memory is whole pages of the kernel, begins with one, and shares none of them.
    #[test]
    fn shared_memory_has_pages_of_the_kernels_to_itself() {
        for kernel in [4_usize << 10, 16 << 10, 64 << 10] {
            let geometry = Geometry { processes_max: 1, objects_max: 16, heap_pages: 512 };
            let (_, arena) = Arena::create_for(geometry, kernel).unwrap();
            let participant = Participant { arena: Arc::new(arena), index: 0, patience: Patience::Brief };
            let register = participant.slot().unwrap().register(Register::Outgoing);
            let mut taken = Vec::new();
            for size in [1, 4095, 4096, 4097, 70_000, 1 << 18] {
                // Another run lies between any two.
                let other = heap::allocate(&participant, 1, register).unwrap();
                let handle = create(&participant, size, false, "").unwrap();
                let (page, mapped) =
                    pages(&participant, object::resolve(&participant, handle).unwrap()).unwrap();
                assert_eq!(mapped, size.next_multiple_of(kernel as u64));
                let first: &AtomicU64 = participant.arena.in_heap(page, 0).unwrap();
                let at = participant.arena.offset_of(first);
                assert!(at.is_multiple_of(kernel as u64), "{size} bytes at {at}");
                let offset = |page: u64| {
                    participant.arena.offset_of::<AtomicU64>(participant.arena.in_heap(page, 0).unwrap())
                };
                taken.push((offset(other), PAGE as u64));
                taken.push((at, mapped));
            }
            taken.sort_unstable();
            assert!(taken.is_sorted_by(|(at, len), (next, _)| at + len <= *next), "{taken:?}");
        }
    }

    #[test]
    fn nothing_is_read_or_written_beyond_the_last_byte() {
        let geometry = Geometry { processes_max: 1, objects_max: 16, heap_pages: 512 };
        let (_, arena) = Arena::create(geometry).unwrap();
        let participant = Participant { arena: Arc::new(arena), index: 0, patience: Patience::Brief };
        for (size, small) in [(1, true), (SMALL_MAX, true), (8, false), (4096, false), (5000, false)] {
            let handle = create(&participant, size, small, "").unwrap();
            let of = || object::resolve::<SharedState>(&participant, handle).unwrap();
            for (offset, len) in [(0, size), (size - 1, 1), (size, 0)] {
                let mut bytes = vec![0; len as usize];
                assert_eq!(
                    read(&participant, of(), offset, &mut bytes),
                    Ok(()),
                    "{len} at {offset} of {size}"
                );
                assert_eq!(write(&participant, of(), offset, &bytes), Ok(()));
            }
            for (offset, len) in
                [(0, size + 1), (1, size), (size, 1), (size + 1, 0), (u64::MAX, 1), (u64::MAX, 2)]
            {
                let mut bytes = vec![0; len as usize];
                assert_eq!(
                    read(&participant, of(), offset, &mut bytes),
                    Err(Errno::Inval),
                    "{len} at {offset} of {size}"
                );
                assert_eq!(write(&participant, of(), offset, &bytes), Err(Errno::Inval));
            }
            for width in [1, 2, 4, 8] {
                let last = size.checked_sub(width).map(|last| last / width * width);
                if let Some(last) = last {
                    assert_eq!(atomic(&participant, of(), last, width as u32, Atomic::Load), Ok(0));
                }
                let next = last.map_or(0, |last| last + width);
                let beyond = atomic(&participant, of(), next, width as u32, Atomic::Load);
                assert_eq!(beyond, Err(Errno::Inval), "{width} at {next} of {size}");
            }
            assert_eq!(atomic(&participant, of(), 0, 3, Atomic::Load), Err(Errno::Inval));
        }
        for (size, small) in [(0, true), (0, false), (SMALL_MAX + 1, true)] {
            assert_eq!(create(&participant, size, small, ""), Err(Errno::Inval), "{size}");
        }
        assert_eq!(create(&participant, 1, true, &"x".repeat(NAME_MAX + 1)), Err(Errno::Nametoolong));
    }
}
