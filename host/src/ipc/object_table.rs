//! The table of the objects in the arena: which there are, and who holds each of them. [`object`](super::object) makes and ends
//! them.
//!
//! A handle is the number of a slot and its generation, which changes when the slot is used anew, so that a stale
//! handle names nothing. A handle works only in those processes whose bit is set beside the slot. A bit is set
//!
//! * for the process that made the object,
//! * for a child, by its parent and before the child runs: fork gives it all that the parent holds, spawn the listed
//!   objects,
//! * for the process that takes a message that carries the handle.
//!
//! A message on its way counts as a holder as well (`in_transit`), and so does a name of the object.

use std::io;

use sandpool_abi::Errno;

use super::Result;
use super::arena::{Arena, Participant, bit};
use super::holds;
pub(crate) use super::layout::{ObjectSlot, ObjectTable};
use super::lock::Lock;
use crate::sys::atomic::Ordering;
use crate::sys::mem::{self, Shared};
use crate::sys::process::fill_with_random;

pub(super) const LIVE: u64 = 1;
pub(super) const DYING: u64 = 2;
pub(super) const GONE: u64 = 3;

pub(super) const GENERATION_MASK: u64 = (1 << 30) - 1;

/// More shares than happen while a process looks for the holders of an object.
const LOOKS_MAX: u32 = 100;

/// A name for an object: slot and generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Handle(pub(crate) u64);

impl Handle {
    pub(super) fn new(index: u32, generation: u64) -> Self {
        Self((generation & GENERATION_MASK) << 32 | u64::from(index + 1))
    }

    pub(super) fn index(self) -> Result<u32> {
        u32::try_from(self.0 & u64::from(u32::MAX))
            .ok()
            .and_then(|index| index.checked_sub(1))
            .ok_or(Errno::Badf)
    }

    pub(super) fn generation(self) -> u64 {
        self.0 >> 32
    }
}

/// The generation in a state word.
#[inline]
pub(super) fn generation(state: u64) -> u64 {
    state >> 32 & GENERATION_MASK
}

impl ObjectSlot {
    pub(super) fn is(&self, wanted: u64) -> bool {
        self.state.load(Ordering::Acquire) & 0xff == wanted
    }
}

/// Looks a handle up.
///
/// `BADF` if the handle is stale, forged, or was never given to this process.
#[inline]
pub(crate) fn find(participant: &Participant, handle: Handle) -> Result<(u32, &ObjectSlot)> {
    let index = handle.index()?;
    let slot = participant.arena.object(index)?;
    let state = slot.state.load(Ordering::Acquire);
    let (word, bit) = bit(participant.index);
    if state & 0xff != LIVE
        || generation(state) != handle.generation()
        || participant.arena.ref_word(index, word)?.load(Ordering::Relaxed) & bit == 0
    {
        return Err(Errno::Badf);
    }
    Ok((index, slot))
}

/// The state of an object, taken for this kind. Any bytes are valid, so a wrong kind gives a wrong answer at worst.
#[inline]
pub(super) fn state<S: Shared>(arena: &Arena, index: u32) -> Result<&S> {
    Ok(mem::start_of(arena.object_body(index)?))
}

/// An object that another one refers to, in whatever state the object is, and its number. `None` if the object's slot
/// was used anew.
pub(super) fn referred(participant: &Participant, handle: Handle) -> Result<Option<(u32, &ObjectSlot)>> {
    let Ok(index) = handle.index() else { return Ok(None) };
    let slot = participant.arena.object(index)?;
    let now = slot.state.load(Ordering::Acquire);
    Ok((now & 0xff != 0 && generation(now) == handle.generation()).then_some((index, slot)))
}

/// Sets the bit of a process beside an object.
pub(super) fn hold(arena: &Arena, index: u32, process: u32) -> Result<()> {
    let (word, bit) = bit(process);
    holds::note(arena, process, index)?;
    arena.ref_word(index, word)?.fetch_or(bit, Ordering::SeqCst);
    Ok(())
}

/// The processes that hold an object.
pub(crate) fn holders(arena: &Arena, index: u32) -> impl Iterator<Item = u32> {
    (0..arena.geometry.processes_max).filter(move |process| {
        let (word, bit) = bit(*process);
        arena.ref_word(index, word).is_ok_and(|cell| cell.load(Ordering::Relaxed) & bit != 0)
    })
}

/// Whether another process, or a message on its way, holds an object.
pub(super) fn is_held_by_others(participant: &Participant, index: u32) -> Result<bool> {
    if is_seen_with_others(participant, index)? {
        return Ok(true);
    }
    // Between the looks the hold may have gone from a process to a message, or back; under this lock it can't.
    let _guard = participant.arena.header()?.objects.lock.lock(participant)?;
    is_seen_with_others(participant, index)
}

pub(super) fn is_seen_with_others(participant: &Participant, index: u32) -> Result<bool> {
    // Messages first: under the lock, no message can become a holder after that.
    Ok(participant.arena.object(index)?.in_transit.load(Ordering::SeqCst) != 0
        || is_held_but_for(&participant.arena, index, bit(participant.index))?)
}

/// Whether any process holds an object.
pub(super) fn is_held(arena: &Arena, index: u32) -> Result<bool> {
    is_held_but_for(arena, index, (0, 0))
}

/// Whether any process but the one with this bit holds an object. While the words are looked at one after another, a
/// hold may go from a process whose word is yet to be looked at to one whose word was: the count of shares tells.
fn is_held_but_for(arena: &Arena, index: u32, (own_word, own_bit): (usize, u64)) -> Result<bool> {
    let shares = &arena.object(index)?.shares;
    let mut before = shares.load(Ordering::SeqCst);
    for _ in 0..LOOKS_MAX {
        for word in 0..arena.ref_words() {
            let own = if word == own_word { own_bit } else { 0 };
            if arena.ref_word(index, word)?.load(Ordering::SeqCst) & !own != 0 {
                return Ok(true);
            }
        }
        let now = shares.load(Ordering::SeqCst);
        if now == before {
            return Ok(false);
        }
        before = now;
    }
    // Some process shares the object all the time.
    Ok(true)
}

/// The number of live objects. The number is exact only while nobody works on the arena.
#[cfg(any(test, feature = "testing"))]
pub(crate) fn count_live(arena: &Arena) -> Result<u32> {
    let mut live = 0;
    for index in 0..arena.header()?.objects.high_water(arena) {
        live += u32::from(!arena.object(index)?.is(0));
    }
    Ok(live)
}

impl ObjectTable {
    pub(crate) fn lock_word(&self) -> &Lock {
        &self.lock
    }

    /// Chooses a secret, for an arena that nobody shares yet.
    pub(super) fn choose_secret(&self) -> io::Result<()> {
        // Models are replayed, so they need the same secret each time.
        if cfg!(test) {
            return Ok(());
        }
        for word in &self.secret {
            let mut bytes = [0; 8];
            fill_with_random(&mut bytes)?;
            word.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
        }
        Ok(())
    }

    /// The number of slots that were ever used.
    pub(crate) fn high_water(&self, arena: &Arena) -> u32 {
        let limit = arena.geometry.objects_max;
        u32::try_from(self.high_water.load(Ordering::Acquire)).unwrap_or(limit).min(limit)
    }
}
