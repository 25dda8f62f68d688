//! The finished results of a worker's current task: in memory that outlives the worker.
//!
//! A worker puts the results of a task of several parts together, when the last part is done. So that no result is
//! lost with the worker, each part is copied here before the next begins. The pool's owner looks only when the worker
//! has ended.
//!
//! ```text
//! index of the first part 32   how many parts 32   part, padded to 64 bits …
//! ```

use std::sync::Arc;

use sandpool_abi::Errno;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::frame::{Part, split_part};
use crate::object::{Role, Use};
use crate::raw::shared::Mapping;
use crate::{Error, RawArray, raw};

/// The number of words in a page of wasm's: less can't be mapped.
const WORDS: usize = (64 << 10) / 8;
const WORD: usize = size_of::<u64>();

/// Shared memory of a worker and its pool's owner.
#[derive(Debug, Clone)]
pub(super) struct Saved(RawArray<u64>);

/// How far the memory is filled, as the worker knows it.
#[derive(Default)]
pub(super) struct Fill {
    /// `None` if the memory can't be mapped: then there is no room.
    memory: Option<Arc<Mapping>>,
    /// The index of the first part.
    first: u32,
    /// The number of parts.
    parts: u32,
    /// The number of words of the parts.
    words: usize,
}

impl Saved {
    pub(super) fn new() -> Result<Self, Error> {
        RawArray::create(WORDS, Use::Saved).map(Self)
    }

    /// Names this memory to the host, which learns from it which part this worker is at.
    pub(super) fn follow(&self) -> Result<(), Errno> {
        // If the memory can't be mapped, nothing is saved: each part is put by itself.
        self.0.mapping().map_or(Ok(()), |memory| raw::task::follow(memory.handle()))
    }

    /// Empties the memory: the next part that is added has this index.
    pub(super) fn begin(&self, first: u32) -> Fill {
        let memory = self.0.mapping().ok().cloned();
        let fill = Fill { memory, first, parts: 0, words: 1 };
        fill.publish();
        fill
    }

    /// Passes on the parts that a worker that has ended has left, each with its index.
    pub(super) fn read(&self, mut each: impl FnMut(u32, Part<'_>)) {
        let mut words = vec![0; WORDS];
        if self.0.copy_to(0, &mut words).is_err() {
            return;
        }
        let Some((head, words)) = words.split_first() else { return };
        let bytes: &[u8] = bytemuck::cast_slice(words);
        let (first, parts) = (*head as u32, (*head >> 32) as u32);
        let mut at = 0;
        for index in first..first.saturating_add(parts) {
            let Some((part, rest)) = bytes.get(at..).and_then(split_part) else { return };
            each(index, part);
            at = (bytes.len() - rest.len()).next_multiple_of(WORD);
        }
    }
}

impl Fill {
    /// Makes the added parts visible.
    #[inline(always)]
    fn publish(&self) {
        let head = u64::from(self.parts) << 32 | u64::from(self.first);
        self.memory.as_ref().and_then(|memory| memory.set(0, head));
    }

    /// Adds a part of a message. Returns whether there is room.
    #[inline(always)]
    pub(super) fn add(&mut self, part: &[u8]) -> bool {
        let Some(words) = self.memory.as_ref().and_then(|memory| memory.set_words(self.words, part)) else {
            return false;
        };
        self.words += words;
        self.parts += 1;
        // From now on the part counts, and the worker is at the next part.
        self.publish();
        true
    }
}

impl Serialize for Saved {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Saved {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        RawArray::deserialize_as(Role::SAVED, deserializer).map(Self)
    }
}
