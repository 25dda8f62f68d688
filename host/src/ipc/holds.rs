//! The objects that a process may have something to do with, so that the sweep after its death needn't look at all
//! others.
//!
//! Beside each object stands a bit for each process that holds it: those bits are decisive. This module has the same
//! the other way round, a bit for each object beside each process, and only as a hint: an object that a process holds,
//! has just dropped, or is destroying is *noted* for the process. A note may be stale; a missing one is a leak. So in
//! every operation:
//!
//! * the note is made before the hold, and before a count is lowered that may be the last hold of an object;
//! * the note goes when the hold is gone, and the object is known to be used otherwise or to be destroyed.
//!
//! A process notes for itself. Its parent notes for it before it runs, and the supervisor reads the notes when the
//! process is dead.
//!
//! The first 64 objects have their bits in the slot of the process, which a process writes to anyway: most runs have no
//! others. The other bits lie in a row of words of the arena. Marks come first in the row, a bit for each word that was
//! ever written: a sweep reads only the marked words.

use super::Result;
use super::arena::{Arena, Participant, bit};
use super::layout::Holds;
use crate::sys::atomic::{AtomicU64, Ordering};

impl Holds {
    /// Clears the bits, for a slot that is used anew. The sweep has emptied the row.
    pub(super) fn reset(&self) {
        self.first.store(0, Ordering::Relaxed);
        self.more.store(0, Ordering::Relaxed);
    }
}

/// Where in a row the bits of an object are, and which word of marks covers them.
fn place(arena: &Arena, word: u32) -> (usize, usize) {
    let marks = (arena.geometry.objects_max as usize).div_ceil(64).div_ceil(64);
    (marks + word as usize, word as usize / 64)
}

/// Notes an object for a process.
#[inline]
pub(super) fn note(arena: &Arena, process: u32, object: u32) -> Result<()> {
    let holds = &arena.process(process)?.holds;
    let bit = 1 << (object % 64);
    if object < 64 {
        set(&holds.first, bit);
        return Ok(());
    }
    set(&holds.more, 1);
    let (word, mark) = place(arena, object / 64);
    set(arena.hold_word(process, mark)?, 1 << (object / 64 % 64));
    set(arena.hold_word(process, word)?, bit);
    Ok(())
}

/// Sets a bit unless it is set. Most are set: an object that was used before is used again.
#[inline]
fn set(word: &AtomicU64, bit: u64) {
    if word.load(Ordering::Relaxed) & bit == 0 {
        word.fetch_or(bit, Ordering::SeqCst);
    }
}

/// Removes the note of an object.
#[inline]
pub(super) fn forget(arena: &Arena, process: u32, object: u32) -> Result<()> {
    let word = if object < 64 {
        &arena.process(process)?.holds.first
    } else {
        arena.hold_word(process, place(arena, object / 64).0)?
    };
    word.fetch_and(!(1 << (object % 64)), Ordering::SeqCst);
    Ok(())
}

/// The first noted object of a process, from `from` on. Reads each word of the row at most once.
pub(super) fn next(arena: &Arena, process: u32, from: u32) -> Result<Option<u32>> {
    let holds = &arena.process(process)?.holds;
    if from < 64
        && let Some(bit) = first_bit(&holds.first, from)
    {
        return Ok(Some(bit).filter(|object| *object < arena.geometry.objects_max));
    }
    if holds.more.load(Ordering::Acquire) == 0 {
        return Ok(None);
    }
    let words = arena.geometry.objects_max.div_ceil(64);
    let mut word = (from / 64).max(1);
    while word < words {
        let (at, mark) = place(arena, word);
        match first_bit(arena.hold_word(process, mark)?, word % 64) {
            None => {
                word = (word / 64 + 1) * 64;
                continue;
            }
            Some(marked) if marked != word % 64 => {
                word = word / 64 * 64 + marked;
                continue;
            }
            Some(_) => {}
        }
        let start = if word == from / 64 { from % 64 } else { 0 };
        if let Some(bit) = first_bit(arena.hold_word(process, at)?, start) {
            return Ok(Some(word * 64 + bit).filter(|object| *object < arena.geometry.objects_max));
        }
        word += 1;
    }
    Ok(None)
}

/// The number of the first bit that is set, from `from` on, which is less than 64.
fn first_bit(word: &AtomicU64, from: u32) -> Option<u32> {
    let bits = word.load(Ordering::Acquire) >> from << from;
    (bits != 0).then(|| bits.trailing_zeros())
}

/// Clears the marks of a process's row: all objects that were noted for the process have been dealt with.
pub(super) fn clear(arena: &Arena, process: u32) -> Result<()> {
    let holds = &arena.process(process)?.holds;
    if holds.more.swap(0, Ordering::AcqRel) != 0 {
        let marks = arena.geometry.objects_max.div_ceil(64).div_ceil(64) as usize;
        for mark in 0..marks {
            arena.hold_word(process, mark)?.store(0, Ordering::Release);
        }
    }
    Ok(())
}

/// Removes a note of the caller's that the caller has looked at, unless the caller holds the object.
pub(super) fn forget_unless_held(participant: &Participant, object: u32) -> Result<()> {
    let (word, bit) = bit(participant.index);
    if participant.arena.ref_word(object, word)?.load(Ordering::Relaxed) & bit == 0 {
        forget(&participant.arena, participant.index, object)?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::ipc::arena::Geometry;

    const OBJECTS: u32 = 9000;

    fn noted(arena: &Arena, process: u32) -> Vec<u32> {
        let mut from = 0;
        std::iter::from_fn(|| {
            let found = next(arena, process, from).unwrap()?;
            from = found + 1;
            Some(found)
        })
        .collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        /// `next` finds the noted objects of a process in order, and no forgotten ones.
        #[test]
        fn what_is_noted_is_found(steps in prop::collection::vec((any::<bool>(), 0..2_u32, 0..OBJECTS), 0..300)) {
            let geometry = Geometry { processes_max: 2, objects_max: OBJECTS, heap_pages: 16 };
            let (_, arena) = Arena::create(geometry).unwrap();
            let mut sets = [BTreeSet::new(), BTreeSet::new()];
            for (is_noted, process, object) in steps {
                let set = sets.get_mut(process as usize).unwrap();
                if is_noted {
                    note(&arena, process, object).unwrap();
                    set.insert(object);
                } else {
                    forget(&arena, process, object).unwrap();
                    set.remove(&object);
                }
            }
            for (process, set) in (0..).zip(&sets) {
                prop_assert_eq!(noted(&arena, process), set.iter().copied().collect::<Vec<_>>());
                for object in set {
                    forget(&arena, process, *object).unwrap();
                }
                clear(&arena, process).unwrap();
                prop_assert_eq!(noted(&arena, process), Vec::<u32>::new());
                // A cleared word is found again when it is written to again.
                note(&arena, process, OBJECTS - 1).unwrap();
                prop_assert_eq!(noted(&arena, process), vec![OBJECTS - 1]);
            }
        }
    }
}
