//! The end of what a process has written to its stderr: a ring in the arena, so that it outlives the process.
//!
//! One process writes it at a time; others read it when that has ended. What somebody damages is nonsense, no more.

use super::Result;
use super::arena::Member;
use super::object::{self, Handle};
use super::shared::{self, Atomic, SharedState};

/// Bytes of the end that are kept.
pub(crate) const TAIL_MAX: usize = 4096 - 16;

/// Offset of the count of bytes that were ever written.
const WRITTEN: u64 = 0;
/// Offset of what that was when the task began.
const BEGUN: u64 = 8;
const RING: u64 = 16;

/// Makes an empty one.
pub(crate) fn create(member: &Member) -> Result<Handle> {
    shared::create(member, RING + TAIL_MAX as u64, false, "")
}

fn word(member: &Member, tail: Handle, offset: u64, atomic: Atomic) -> Result<u64> {
    shared::atomic(member, object::resolve::<SharedState>(member, tail)?, offset, 8, atomic)
}

/// What is written from now on is of the next task.
pub(crate) fn begin(member: &Member, tail: Handle) -> Result<()> {
    let written = word(member, tail, WRITTEN, Atomic::Load)?;
    if word(member, tail, BEGUN, Atomic::Load)? != written {
        word(member, tail, BEGUN, Atomic::Store(written))?;
    }
    Ok(())
}

/// Writes behind what was written before.
pub(crate) fn append(member: &Member, tail: Handle, bytes: &[u8]) -> Result<()> {
    let shared = object::resolve::<SharedState>(member, tail)?;
    let written = word(member, tail, WRITTEN, Atomic::Load)?;
    let after = written.wrapping_add(bytes.len() as u64);
    let bytes = bytes.get(bytes.len().saturating_sub(TAIL_MAX)..).unwrap_or_default();
    let at = after.wrapping_sub(bytes.len() as u64) % TAIL_MAX as u64;
    let (first, second) = bytes.split_at(bytes.len().min(TAIL_MAX - at as usize));
    shared::write(member, shared, RING + at, first)?;
    shared::write(member, shared, RING, second)?;
    word(member, tail, WRITTEN, Atomic::Store(after))?;
    Ok(())
}

/// The end of what was written since the task began.
pub(crate) fn read(member: &Member, tail: Handle) -> Result<Vec<u8>> {
    let shared = object::resolve::<SharedState>(member, tail)?;
    let written = word(member, tail, WRITTEN, Atomic::Load)?;
    let begun = word(member, tail, BEGUN, Atomic::Load)?;
    let len = written.wrapping_sub(begun).min(TAIL_MAX as u64);
    let at = written.wrapping_sub(len) % TAIL_MAX as u64;
    let mut bytes = vec![0; len as usize];
    let (first, second) = bytes.split_at_mut((len as usize).min(TAIL_MAX - at as usize));
    shared::read(member, shared, RING + at, first)?;
    shared::read(member, shared, RING, second)?;
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ipc::arena::{Arena, Geometry, Patience};

    #[test]
    fn the_end_is_kept_whatever_is_written() {
        let geometry = Geometry { processes_max: 2, objects_max: 4, heap_pages: 16 };
        let (_, arena) = Arena::create(geometry).unwrap();
        let member = Member { arena: Arc::new(arena), index: 0, patience: Patience::Forever };
        let tail = create(&member).unwrap();
        assert_eq!(read(&member, tail).unwrap(), b"");
        let mut all = Vec::new();
        for len in [1, 0, 5, TAIL_MAX - 1, 7, TAIL_MAX, TAIL_MAX * 3 + 11, 100] {
            let bytes: Vec<u8> = (0..len).map(|at| (at * 31 + len) as u8).collect();
            append(&member, tail, &bytes).unwrap();
            all.extend(bytes);
            assert_eq!(read(&member, tail).unwrap(), all.split_off(all.len().saturating_sub(TAIL_MAX)));
            all = read(&member, tail).unwrap();
        }
        begin(&member, tail).unwrap();
        assert_eq!(read(&member, tail).unwrap(), b"");
        append(&member, tail, b"new").unwrap();
        assert_eq!(read(&member, tail).unwrap(), b"new");
    }
}
