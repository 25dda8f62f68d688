//! Information of a pool's owner for its workers beside the tasks: marks in memory that all of them see.
//!
//! A task that can be cancelled has a mark. The process that sets the mark first has the task: the worker that is about
//! to begin it, or the owner that cancels it.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::object::{Role, Use};
use crate::{Error, RawArray};

/// The maximum number of tasks that can have a mark at a time.
pub(super) const MARKS: u32 = 1 << 19;

/// The word with the number of workers that are to leave.
const LEAVING: usize = 0;
/// The word with the number of workers that the pool is meant to have.
const WORKERS: usize = 1;
/// The number of words before the marks.
const FIRST: usize = LINE;
const WORDS: u32 = MARKS / u32::BITS;
/// The number of words in a line of the processor's cache: a process that writes to one line doesn't slow down
/// others.
const LINE: usize = 16;

/// Shared memory: the number of workers that are to leave, the number of workers; and the marks, a bit each.
#[derive(Debug, Clone)]
pub(super) struct Marks(RawArray<u32>);

impl Marks {
    pub(super) fn new() -> Result<Self, Error> {
        RawArray::create(FIRST + WORDS as usize, Use::Saved).map(Self)
    }

    fn word(&self, index: usize) -> Option<crate::shared::Atomic<'_, u32>> {
        self.0.atomic(index).ok()
    }

    /// The place of a mark: neighbours lie far apart, because different processes set them at the same time.
    fn place(mark: u32) -> (usize, u32) {
        let word = (mark % WORDS).wrapping_mul(17) % WORDS;
        (FIRST + word as usize, 1 << (mark / WORDS % u32::BITS))
    }

    /// Sets a mark. Returns whether it wasn't set before.
    pub(super) fn take(&self, mark: u32) -> bool {
        let (word, bit) = Self::place(mark);
        self.word(word).is_none_or(|word| word.fetch_or(bit) & bit == 0)
    }

    /// Whether a mark is set.
    pub(super) fn is_taken(&self, mark: u32) -> bool {
        let (word, bit) = Self::place(mark);
        self.word(word).is_some_and(|word| word.load() & bit != 0)
    }

    /// Makes a mark free for another task.
    pub(super) fn clear(&self, mark: u32) {
        let (word, bit) = Self::place(mark);
        self.word(word).map(|word| word.fetch_and(!bit));
    }

    /// Tells this number of workers to leave before their next task.
    pub(super) fn have_leave(&self, workers: u32) {
        self.word(LEAVING).map(|leaving| leaving.fetch_add(workers));
    }

    /// Whether this worker is one of those who are to leave.
    pub(super) fn may_leave(&self) -> bool {
        let Some(leaving) = self.word(LEAVING) else { return true };
        let mut count = leaving.load();
        while count != 0 {
            match leaving.compare_exchange(count, count - 1) {
                Ok(_) => return true,
                Err(other) => count = other,
            }
        }
        false
    }

    /// Sets the number of workers that the pool is meant to have.
    pub(super) fn set_workers(&self, workers: usize) {
        if let Some(word) = self.word(WORKERS) {
            word.store(u32::try_from(workers).unwrap_or(u32::MAX));
        }
    }

    /// The number of workers that the pool is meant to have; at least one.
    pub(super) fn workers(&self) -> usize {
        self.word(WORKERS).map_or(1, |word| word.load() as usize).max(1)
    }
}

impl Serialize for Marks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Marks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        RawArray::deserialize_as(Role::SAVED, deserializer).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mark_has_a_place_of_its_own() {
        let places: std::collections::HashSet<_> = (0..MARKS).map(Marks::place).collect();
        assert_eq!(places.len(), MARKS as usize);
        assert!(places.iter().all(|(word, _)| (FIRST..FIRST + WORDS as usize).contains(word)));
    }
}
