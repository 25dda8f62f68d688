//! The items that a worker of a pool has taken and isn't finished with.
//!
//! A worker that takes items from a *claimed* queue notes their numbers in its slot, in the commit that takes them. The
//! worker gives a claim up in the commit that puts the item's result into another queue. So at each instant an item is
//! in the queue or claimed, or its result is put: if the worker is killed, nobody has to guess what was lost.
//!
//! ```text
//!  take:    queue's consumers' lock   first, end = the item's number, and one more       commit
//!  begin:   work = count << 1
//!  finish:  part = delivered, work = 0 — results' producers' lock — the record — first = first + 1   commit
//! ```
//!
//! # Killed for one task, and no other
//!
//! A worker that is to be killed because of what it works on may be at the next task when the signal arrives. So the
//! worker is *doomed* first: a bit of its `work` word is set by compare-and-swap while the word names the work that is
//! meant. The worker also changes the word by compare-and-swap, when the worker is done with the work. The first of the
//! two decides: if the doom was first, the worker waits for the signal, and the item stays claimed.

use sandpool_abi::Errno;
use sandpool_abi::task::{Claims, DELIVERED};

use super::Result;
use super::arena::Participant;
pub(crate) use super::layout::ClaimSlot;
use super::lock::Guard;
use crate::sys::atomic::Ordering;
use crate::sys::futex::nanos_now;
use crate::sys::process;

const DOOMED: u64 = 1;

impl ClaimSlot {
    /// Clears the claims, for a new process in the slot.
    pub(super) fn reset(&self) {
        for word in [&self.first, &self.end, &self.work, &self.begun, &self.part] {
            word.store(0, Ordering::Relaxed);
        }
    }

    /// Whether the worker has claimed something.
    pub(crate) fn has_some(&self) -> bool {
        self.first.load(Ordering::Relaxed) != self.end.load(Ordering::Relaxed)
    }

    /// Claims the item of this number, in the commit that takes it.
    pub(super) fn claim(&self, guard: &Guard<'_>, item: u64) -> Result<()> {
        if !self.has_some() {
            guard.set(&self.first, item)?;
        }
        guard.set(&self.end, item.wrapping_add(1))
    }

    /// Gives the first claim up, in the commit that puts its result.
    pub(super) fn give_up(&self, guard: &Guard<'_>) -> Result<()> {
        // The next item isn't begun.
        guard.set(&self.part, 0)?;
        guard.set(&self.first, self.first.load(Ordering::Relaxed).wrapping_add(1))
    }

    /// The claims, as other processes see them; the claims of a process that has ended no longer change.
    pub(crate) fn get(&self) -> Claims {
        Claims {
            first: self.first.load(Ordering::Acquire),
            end: self.end.load(Ordering::Acquire),
            work: self.work.load(Ordering::Acquire) >> 1,
            since: self.since.load(Ordering::Relaxed),
            part: self.part.load(Ordering::Relaxed) as u32,
            reserved: 0,
        }
    }

    /// Begins a part of the first item, in the worker. If the worker is doomed, it ends here.
    ///
    /// `INVAL` if the worker has claimed nothing.
    #[inline]
    pub(crate) fn begin(&self, part: u32) -> Result<()> {
        if !self.has_some() {
            return Err(Errno::Inval);
        }
        let now = self.work.load(Ordering::Relaxed);
        let begun = self.begun.load(Ordering::Relaxed).wrapping_add(1);
        self.begun.store(begun, Ordering::Relaxed);
        // A process that sees the new work must not take the old work's begin for the new one's.
        self.since.store(nanos_now(), Ordering::Relaxed);
        self.part.store(u64::from(part), Ordering::Relaxed);
        self.change(now, begun << 1);
        Ok(())
    }

    /// Ends the work that the worker has begun. If the worker is doomed, it ends here.
    #[inline]
    pub(crate) fn end(&self) {
        let work = self.work.load(Ordering::Relaxed);
        // `end` is called again if the result has to wait for room.
        if work != 0 {
            self.part.store(u64::from(DELIVERED), Ordering::Relaxed);
        }
        self.change(work, 0);
    }

    #[inline]
    fn change(&self, now: u64, next: u64) {
        let changed = now & DOOMED == 0
            && self.work.compare_exchange(now, next, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        if !changed {
            process::await_death();
        }
    }

    /// Dooms the worker if it is at this work: it is to be killed, and puts no result until then. Returns whether the
    /// worker is doomed.
    pub(crate) fn doom(&self, work: u64) -> bool {
        // A worker at no work would never begin anything again.
        if work == 0 {
            return false;
        }
        let (now, doomed) = (work << 1, work << 1 | DOOMED);
        let before = self.work.compare_exchange(now, doomed, Ordering::SeqCst, Ordering::Relaxed);
        before.is_ok() || before == Err(doomed)
    }

    /// Whether the worker is doomed.
    pub(crate) fn is_doomed(&self) -> bool {
        self.work.load(Ordering::SeqCst) & DOOMED != 0
    }

    /// Clears the work and the doom: the process that was at the work of this one is dead.
    pub(crate) fn clear_work(&self) {
        self.part.store(u64::from(DELIVERED), Ordering::Relaxed);
        self.work.store(0, Ordering::SeqCst);
    }
}

impl Participant {
    /// The items that this process has claimed.
    pub(crate) fn claims(&self) -> Result<&ClaimSlot> {
        Ok(&self.slot()?.claims)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use super::*;
    use crate::ipc::arena::{Arena, Geometry};

    #[test]
    fn who_is_at_this_work_is_doomed_and_nobody_else() {
        let (_, arena) =
            Arena::create(Geometry { processes_max: 1, objects_max: 4, heap_pages: 16 }).unwrap();
        let claims = &arena.process(0).unwrap().claims;
        claims.end.store(3, Ordering::Relaxed);
        // The worker is at nothing, so no number dooms it.
        for work in [0, 1, 2] {
            assert!(!claims.doom(work) && !claims.is_doomed(), "{work}");
        }
        claims.begin(0).unwrap();
        let work = claims.get().work;
        for other in [0, work - 1, work + 1] {
            assert!(!claims.doom(other) && !claims.is_doomed(), "{other} of {work}");
        }
        claims.end();
        assert!(!claims.doom(work), "it is done");
        claims.begin(0).unwrap();
        let next = claims.get().work;
        assert!(!claims.doom(work) && next != work);
        for _ in 0..2 {
            assert!(claims.doom(next) && claims.is_doomed());
        }
        claims.clear_work();
        assert!(!claims.is_doomed());
    }
}
