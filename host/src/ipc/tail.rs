//! The end of what each process has written to its stderr: a ring in the arena, so that it outlives the process.
//!
//! One process writes the ring at a time; others read it when that process has ended, or says that it is about to.
//! Damage to the ring makes its text nonsense, no more.
//!
//! The ring of a worker has the text that the worker has written for its task. If the host isn't told of each task, a
//! word in shared memory changes with the task: text that was written when the word was another is not part of the
//! task's text.

use sandpool_abi::process::STDERR_MAX;

use super::Result;
use super::arena::Arena;
use super::layout::TailSlot;
use crate::sys::atomic::{AtomicU64, Ordering};

impl TailSlot {
    /// Clears the record, for a new process in the slot.
    pub(super) fn reset(&self) {
        for word in [&self.written, &self.begun, &self.page, &self.word] {
            word.store(0, Ordering::Relaxed);
        }
    }

    /// Makes the ring follow the first word of this page, which changes with the task.
    pub(crate) fn follow(&self, page: u64) {
        self.page.store(page, Ordering::Relaxed);
    }

    /// The word as it is now.
    fn now(&self, arena: &Arena) -> Result<u64> {
        match self.page.load(Ordering::Relaxed) {
            0 => Ok(0),
            page => Ok(arena.in_heap::<AtomicU64>(page, 0)?.load(Ordering::Relaxed)),
        }
    }

    /// Begins the next task: text that is written from now on belongs to it.
    #[inline]
    pub(crate) fn begin(&self) {
        let written = self.written.load(Ordering::Relaxed);
        if self.begun.load(Ordering::Relaxed) != written {
            self.begun.store(written, Ordering::Relaxed);
        }
    }
}

/// Appends to the text that the process in this slot has written before.
pub(crate) fn append(arena: &Arena, index: u32, bytes: &[u8]) -> Result<()> {
    let tail = &arena.process(index)?.tail;
    let ring = arena.tail(index)?;
    let word = tail.now(arena)?;
    if tail.word.load(Ordering::Relaxed) != word {
        tail.begin();
        tail.word.store(word, Ordering::Relaxed);
    }
    let after = tail.written.load(Ordering::Relaxed).wrapping_add(bytes.len() as u64);
    let bytes = bytes.get(bytes.len().saturating_sub(STDERR_MAX)..).unwrap_or_default();
    let at = after.wrapping_sub(bytes.len() as u64) as usize % STDERR_MAX;
    let (first, second) = bytes.split_at(bytes.len().min(STDERR_MAX - at));
    arena.write_at(ring + at, first)?;
    arena.write_at(ring, second)?;
    tail.written.store(after, Ordering::Release);
    Ok(())
}

/// The end of the text that the process has written since its task began.
pub(crate) fn read(arena: &Arena, index: u32) -> Result<Vec<u8>> {
    let tail = &arena.process(index)?.tail;
    let ring = arena.tail(index)?;
    let written = tail.written.load(Ordering::Acquire);
    if tail.word.load(Ordering::Relaxed) != tail.now(arena)? {
        return Ok(Vec::new());
    }
    let len = written.wrapping_sub(tail.begun.load(Ordering::Relaxed)).min(STDERR_MAX as u64);
    let at = written.wrapping_sub(len) as usize % STDERR_MAX;
    let mut bytes = vec![0; len as usize];
    let (first, second) = bytes.split_at_mut((len as usize).min(STDERR_MAX - at));
    arena.read_at(ring + at, first)?;
    arena.read_at(ring, second)?;
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::ipc::arena::Geometry;

    #[test]
    fn the_end_is_kept_whatever_is_written() {
        let geometry = Geometry { processes_max: 2, objects_max: 4, heap_pages: 16 };
        let (_, arena) = Arena::create(geometry).unwrap();
        assert_eq!(read(&arena, 1).unwrap(), b"");
        let mut all = Vec::new();
        for len in [1, 0, 5, STDERR_MAX - 1, 7, STDERR_MAX, STDERR_MAX * 3 + 11, 100] {
            let bytes: Vec<u8> = (0..len).map(|at| (at * 31 + len) as u8).collect();
            append(&arena, 1, &bytes).unwrap();
            all.extend(bytes);
            assert_eq!(read(&arena, 1).unwrap(), all.split_off(all.len().saturating_sub(STDERR_MAX)));
            all = read(&arena, 1).unwrap();
        }
        arena.process(1).unwrap().tail.begin();
        assert_eq!(read(&arena, 1).unwrap(), b"");
        append(&arena, 1, b"new").unwrap();
        assert_eq!(read(&arena, 1).unwrap(), b"new");
        let task: &AtomicU64 = arena.in_heap(3, 0).unwrap();
        arena.process(1).unwrap().tail.follow(3);
        assert_eq!(read(&arena, 1).unwrap(), b"new");
        task.store(1, Ordering::Relaxed);
        assert_eq!(read(&arena, 1).unwrap(), b"");
        append(&arena, 1, b"next ").unwrap();
        append(&arena, 1, b"task").unwrap();
        assert_eq!(read(&arena, 1).unwrap(), b"next task");
        // The neighbour's ring is another one, and the supervisor has none.
        assert_eq!(read(&arena, 0).unwrap(), b"");
        assert!(append(&arena, 2, b"nobody").is_err());
    }
}
