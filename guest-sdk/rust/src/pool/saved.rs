//! The results of the task that a worker is at, as far as it has them: in memory that outlives the worker.
//!
//! A task of several parts puts their results together, when the last is done. So that none is lost with the worker,
//! each part is copied here before the next begins. Only when the worker has ended does the pool's owner look.
//!
//! ```text
//! index of the first part 32   how many parts 32   part, padded to 64 bits …
//! ```

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::frame::{Part, split_part};
use crate::{Error, RawArray};

/// A page of wasm's: less can't be mapped.
const WORDS: usize = (64 << 10) / 8;
const WORD: usize = size_of::<u64>();

/// Shared memory of a worker and its pool's owner.
#[derive(Debug, Clone)]
pub(super) struct Saved(RawArray<u64>);

/// How far it is filled, as the worker knows it.
#[derive(Debug, Default)]
pub(super) struct Fill {
    /// The index of the first part.
    first: u32,
    /// How many there are.
    parts: u32,
    /// And their words.
    words: usize,
}

impl Saved {
    pub(super) fn new() -> Result<Self, Error> {
        RawArray::new(WORDS).map(Self)
    }

    /// Empties it: what is added next begins with the part of this index.
    pub(super) fn begin(&self, first: u32) -> Fill {
        // If it can't be mapped, nothing can be added either.
        let _ = self.0.set(0, u64::from(first));
        Fill { first, parts: 0, words: 1 }
    }

    /// Adds the part that stands at the end of a message. Whether there is room.
    #[inline]
    pub(super) fn add(&self, fill: &mut Fill, message: &mut Vec<u8>, from: usize) -> bool {
        let len = message.len();
        if (len - from).div_ceil(WORD) > WORDS - fill.words {
            return false;
        }
        message.extend_from_slice(&[0; WORD - 1]);
        for word in message.get(from..).unwrap_or_default().as_chunks::<WORD>().0 {
            let _ = self.0.set(fill.words, u64::from_le_bytes(*word));
            fill.words += 1;
        }
        message.truncate(len);
        fill.parts += 1;
        // From now on it is there. Until then the worker is at that part.
        self.0.set(0, u64::from(fill.parts) << 32 | u64::from(fill.first)).is_ok()
    }

    /// Passes on what a worker that has ended has left, each part with its index.
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

impl Serialize for Saved {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Saved {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        RawArray::deserialize(deserializer).map(Self)
    }
}
