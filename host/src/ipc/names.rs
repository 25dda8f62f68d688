//! Objects that are found by a name.

use sandpool_abi::Errno;
use sha2::{Digest as _, Sha256};

use super::Result;
use super::arena::{Arena, Participant};
use super::kind::Listed;
use super::object_table::{LIVE, ObjectSlot, state};
use super::scope;
use crate::sys::atomic::{AtomicU64, Ordering};

/// Where to find the object with a name: names are in chains, and each chain begins at a word of the arena. Guests
/// don't know which names share a chain, so no guest can make a look-up long for all others, who wait for the table
/// meanwhile.
#[derive(Debug, Clone, Copy)]
pub(super) struct Named<'a> {
    pub(super) first: &'a AtomicU64,
    objects_max: u32,
}

/// An object that was found by its name.
pub(super) struct Found<'a, S> {
    /// The word that refers to the object.
    pub(super) referrer: &'a AtomicU64,
    pub(super) index: u32,
    pub(super) slot: &'a ObjectSlot,
    pub(super) state: &'a S,
}

impl<'a> Named<'a> {
    pub(super) fn new(arena: &'a Arena, name: &str) -> Result<Self> {
        let mut hash = Sha256::new();
        for word in &arena.header()?.objects.secret {
            hash.update(word.load(Ordering::Relaxed).to_le_bytes());
        }
        hash.update(name);
        let hash = hash.finalize().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let objects_max = arena.geometry.objects_max;
        Ok(Self { first: arena.named((hash % u64::from(objects_max)) as usize)?, objects_max })
    }

    /// The object for which `has_it` holds, for a caller that has locked the table.
    pub(super) fn find<S: Listed>(
        self,
        participant: &'a Participant,
        has_it: impl Fn(&S) -> bool,
    ) -> Result<Option<Found<'a, S>>> {
        let mut referrer = self.first;
        // A longer chain is damaged.
        for _ in 0..self.objects_max {
            let Some(index) = referrer.load(Ordering::Relaxed).checked_sub(1) else { return Ok(None) };
            let index = u32::try_from(index).map_err(|_| Errno::Io)?;
            let slot = participant.arena.object(index).map_err(|_| Errno::Io)?;
            let is_one = slot.is(LIVE) && slot.kind.load(Ordering::Relaxed) == S::KIND as u64;
            let is_seen = || scope::sees(participant, slot.scope.load(Ordering::Relaxed));
            if is_one {
                let state = state(&participant.arena, index)?;
                if has_it(state) && is_seen() {
                    return Ok(Some(Found { referrer, index, slot, state }));
                }
            }
            referrer = &slot.next_named;
        }
        Err(Errno::Io)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;

    use super::*;
    use crate::ipc::arena::{Geometry, Patience};
    use crate::ipc::shared::{self, SharedState};

    /// All others wait for the table meanwhile.
    #[test]
    fn a_missing_name_is_looked_for_among_few() {
        const OBJECTS: u32 = 4096;
        let geometry = Geometry { processes_max: 1, objects_max: OBJECTS, heap_pages: 512 };
        let (_, arena) = Arena::create(geometry).unwrap();
        let participant = Participant { arena: Arc::new(arena), index: 0, patience: Patience::Brief };
        for number in 0..OBJECTS {
            shared::create(&participant, 8, true, &format!("name {number}")).unwrap();
        }
        let longest = (0..OBJECTS).map(|number| {
            let looked_at = Cell::new(0);
            let named = Named::new(&participant.arena, &format!("missing {number}")).unwrap();
            let is_it = |_: &SharedState| {
                looked_at.set(looked_at.get() + 1);
                false
            };
            assert!(named.find(&participant, is_it).unwrap().is_none());
            looked_at.get()
        });
        // With as many names as places, all but one in a million lie in a place with fewer than ten.
        assert!(longest.max().unwrap() < 10);
    }
}
