//! Processes that stand by: forked before any process asks for one, so that a process that spawns needn't wait for a
//! fork.
//!
//! A process that stands by has no slot of the process table yet, but a place here, with its id and a word:
//!
//! ```text
//!         fork server      itself       who spawns               who spawns           itself
//!  EMPTY ────────────▶ BORN ────▶ READY ─────────▶ number of the ──────────▶ GO, and ───────▶ EMPTY
//!                                                  slot, plus 1              the same
//! ```
//!
//! * **fork server**: fills an empty place, unless a process stands by already. The kernel stores the id in the place
//!   before the process runs, as it does in a slot.
//! * **who spawns**: *claims* the process for a slot when the slot has all that the process is given, by a
//!   compare-and-swap; then makes the slot `Spawning`, and lets the process *go*, by another. If either fails, there is
//!   no such process, and the supervisor deals with the slot. So a slot that is `Spawning` was claimed for before, or
//!   nobody claims for it.
//! * **itself**: sleeps until it may go. The process writes its id into the slot, and only then empties its place.
//! * **it dies**: the supervisor empties the place. If the process hadn't made the slot its own, the slot gets another
//!   process.
//! * **who spawns dies**: a process that was claimed and not let go is ready again; a process that was let go is woken,
//!   if it wasn't.

use super::arena::Arena;
pub(crate) use super::layout::StandbyPlace as Place;
use super::process_table::{self as table, ProcessHandle, ProcessState};
use crate::sys::atomic::{AtomicU32, Ordering};
use crate::sys::futex::{self, Deadline};

const EMPTY: u32 = 0;
const GO: u32 = 1 << 31;
const READY: u32 = 1 << 30;
const BORN: u32 = 1 << 29;

/// A process that is claimed for a slot.
#[derive(Debug)]
pub(crate) struct Claim<'a> {
    place: &'a Place,
    claimed: u32,
}

fn places(arena: &Arena) -> &[Place] {
    arena.header().map_or(&[], |header| &header.standbys)
}

/// The word of a place once it is claimed for this slot.
fn claimed(slot: u32) -> u32 {
    slot + 1
}

/// The slot for which this word claims a process.
fn slot_of(word: u32) -> Option<u32> {
    (word & !GO).checked_sub(1).filter(|slot| *slot < BORN - 1)
}

/// An empty place, marked for a process to be born there, if no process stands by.
pub(crate) fn vacate(arena: &Arena) -> Option<&Place> {
    wanted(arena).inspect(|place| place.word.store(BORN, Ordering::Release))
}

/// An empty place, if no process stands by.
pub(crate) fn wanted(arena: &Arena) -> Option<&Place> {
    let word = |place: &Place| place.word.load(Ordering::Acquire);
    if places(arena).iter().any(|place| matches!(word(place), BORN | READY)) {
        return None;
    }
    let is_empty = |place: &&Place| word(place) == EMPTY && place.pid.load(Ordering::Acquire) == 0;
    places(arena).iter().find(is_empty)
}

impl Place {
    /// Where the kernel is to store the id of the process.
    pub(crate) fn pid(&self) -> &AtomicU32 {
        &self.pid
    }

    /// Empties the place: there will be no process here.
    pub(crate) fn clear(&self) {
        self.word.store(EMPTY, Ordering::Release);
        self.pid.store(0, Ordering::Release);
    }

    /// Waits, in the process that stands by, until it may go, and makes the slot that it was claimed for its own.
    /// `None` if the slot isn't for this process.
    pub(crate) fn stand_by(&self, arena: &Arena) -> Option<(u32, ProcessHandle)> {
        let pid = self.pid.load(Ordering::Relaxed);
        self.word.store(READY, Ordering::Release);
        let slot = loop {
            let word = self.word.load(Ordering::Acquire);
            if word & GO != 0 {
                break slot_of(word)?;
            }
            futex::wait(&self.word, word, Deadline::NEVER);
        };
        let state = table::state(arena, slot).ok().filter(|state| state.state == ProcessState::Spawning)?;
        arena.process_id(slot).ok()?.store(pid, Ordering::Release);
        self.clear();
        Some((slot, ProcessHandle::new(slot, state.generation)))
    }
}

/// Claims a process that stands by, if there is one, for a slot that isn't `Spawning` yet.
pub(crate) fn claim(arena: &Arena, slot: u32) -> Option<Claim<'_>> {
    let claimed = claimed(slot);
    let ready = |place: &&Place| {
        place.word.compare_exchange(READY, claimed, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    };
    places(arena).iter().find(ready).map(|place| Claim { place, claimed })
}

impl Claim<'_> {
    /// Lets the process go, now that the slot is `Spawning`.
    pub(crate) fn go(self) {
        let word = &self.place.word;
        let go = word.compare_exchange(self.claimed, GO | self.claimed, Ordering::AcqRel, Ordering::Relaxed);
        if go.is_ok() {
            futex::wake(word, 1);
        }
    }
}

/// Whether a process is claimed for this slot, and hasn't made the slot its own.
pub(crate) fn is_claimed(arena: &Arena, slot: u32) -> bool {
    places(arena).iter().any(|place| slot_of(place.word.load(Ordering::Acquire)) == Some(slot))
}

/// Gives back the claims for a slot whose spawner is dead: a process that was claimed for the slot is ready again,
/// unless it was let go. Returns whether one was let go.
pub(crate) fn abandon(arena: &Arena, slot: u32) -> bool {
    let claimed = claimed(slot);
    places(arena).iter().fold(false, |goes, place| {
        let given_back = place.word.compare_exchange(claimed, READY, Ordering::AcqRel, Ordering::Acquire);
        let is_going = given_back == Err(GO | claimed);
        if is_going {
            futex::wake(&place.word, 1);
        }
        goes || is_going
    })
}

/// Empties the place of a process that has ended, if it stood by. Returns the slot that the process was claimed for: if
/// that slot is `Spawning`, it is to get another process.
pub(crate) fn ended(arena: &Arena, pid: u32) -> Option<Option<u32>> {
    let place = places(arena).iter().find(|place| place.pid.load(Ordering::Acquire) == pid)?;
    // In one step, because the place may be claimed just now.
    let word = place.word.swap(EMPTY, Ordering::AcqRel);
    place.pid.store(0, Ordering::Release);
    Some(slot_of(word))
}

/// The number of processes that are being born: the kernel may list them, and hasn't stored their ids yet.
pub(crate) fn being_born(arena: &Arena) -> usize {
    let is_one =
        |place: &&Place| place.word.load(Ordering::Acquire) == BORN && place.pid.load(Ordering::Acquire) == 0;
    places(arena).iter().filter(is_one).count()
}

/// The ids of all processes that stand by.
pub(crate) fn pids(arena: &Arena) -> impl Iterator<Item = u32> {
    places(arena).iter().map(|place| place.pid.load(Ordering::Acquire)).filter(|pid| *pid != 0)
}
