//! A lock that survives its owner, and the journal by which the words that the lock guards survive as well.
//!
//! # The lock word
//!
//! ```text
//!  31       30    23..0
//!  WAITERS  DIED  owner: number of its process + 1, or 0
//! ```
//!
//! * **acquire**: replace a word without owner by the acquirer's own number. If `DIED` was set, the last owner died in
//!   its critical section: roll the journal back first. An acquirer that has slept keeps `WAITERS` set, as there may be
//!   others.
//! * **release**: replace the word by 0; if `WAITERS` was set, wake one sleeper.
//! * **owner dies**: the supervisor, which knows of the death, replaces the owner by `DIED` and wakes one sleeper
//!   ([`abandon`]). The supervisor also wakes one sleeper if the dead process was only acquiring or releasing: the dead
//!   process may have been the one that was woken, or the one that was about to wake. A sleeper that is woken for
//!   nothing looks at the word and sleeps again, with `WAITERS` set.
//! * **give up** when the time is over: wake one sleeper, who may have been passed over for the process that gives up.
//!
//! # The journal
//!
//! [`Guard::set`] notes the old value of a word before it overwrites it; [`Guard::commit`] empties the journal with one
//! store. So at whatever instruction the owner dies, either all its stores are there or its successor finds the journal
//! and undoes them, newest first. Undoing twice has the same effect as once, so a successor may die as well.
//!
//! The journal needs the *program order* of these stores, nothing more: a process that is killed has executed all
//! instructions before some point and none after it, and its stores are visible to those who learn of its death. Hence
//! compiler fences, and none for the processor.
//!
//! [`abandon`]: Lock::abandon

use sandpool_abi::Errno;

use super::Result;
use super::arena::{Arena, Participant, Patience};
use super::layout::JOURNAL;
pub(crate) use super::layout::Lock;
use crate::sys::atomic::{AtomicU32, AtomicU64, Ordering, compiler_fence, fence_behind_rmw};
use crate::sys::futex::{self, Deadline};

const WAITERS: u32 = 1 << 31;
const DIED: u32 = 1 << 30;
const OWNER: u32 = (1 << 24) - 1;

/// Tries before a process sleeps: a few microseconds, longer than a critical section lasts.
pub(super) const TRIES: u32 = if cfg!(test) { 2 } else { 16 };
/// Tries before the supervisor gives up for now.
const BRIEF_SPINS: u32 = if cfg!(test) { 2 } else { 400 };

/// How long the owner of a pool waits for a lock: many turns of a scheduler.
const MOMENT_NANOS: u64 = 50_000_000;

impl Lock {
    /// Waits for the lock, and holds it until the guard goes. Changes that aren't committed by then are undone.
    ///
    /// `BUSY` if the participant has little [`Patience`] and another process holds the lock.
    #[inline]
    pub(crate) fn lock<'a>(&'a self, participant: &'a Participant) -> Result<Guard<'a>> {
        // The guard is put together here, where it is used: to return a guard from another function takes longer than
        // the lock.
        let recovered = !try_acquire_free(&self.word, participant.index) && self.lock_slowly(participant)?;
        Ok(Guard { lock: self, arena: &participant.arena, recovered })
    }

    /// Takes a lock that isn't free. Returns whether its last owner died; then that owner's changes are undone.
    #[cold]
    fn lock_slowly(&self, participant: &Participant) -> Result<bool> {
        let recovered = match participant.patience {
            Patience::Forever => acquire(&self.word, participant.index, Deadline::NEVER, || false)?,
            Patience::Brief => try_acquire(&self.word, participant.index, BRIEF_SPINS).ok_or(Errno::Busy)?,
            Patience::Moment => {
                let deadline = Deadline::after_nanos(MOMENT_NANOS);
                acquire(&self.word, participant.index, deadline, || false).map_err(|_| Errno::Busy)?
            }
        };
        if recovered {
            let guard = Guard { lock: self, arena: &participant.arena, recovered };
            guard.roll_back()?;
            // The lock stays locked.
            std::mem::forget(guard);
        }
        Ok(recovered)
    }

    /// Frees the lock of a dead process, for the supervisor: if the dead process owns the lock, the lock is free and
    /// the next owner will roll back. One sleeper is woken in any case.
    pub(crate) fn abandon(&self, dead: u32) {
        abandon(&self.word, dead);
    }
}

/// Takes the lock, unless a process owns it, waits for it, or has died with it.
#[inline]
fn try_acquire_free(word: &AtomicU32, process: u32) -> bool {
    word.compare_exchange(0, process + 1, Ordering::SeqCst, Ordering::Relaxed).is_ok()
}

/// Takes the lock if it is free within `spins` looks. Returns whether its last owner died.
pub(super) fn try_acquire(word: &AtomicU32, process: u32, spins: u32) -> Option<bool> {
    try_acquire_with(word, process, spins, 0)
}

fn try_acquire_with(word: &AtomicU32, process: u32, spins: u32, waiters: u32) -> Option<bool> {
    for looks in 0..spins {
        let died = try_acquire_once(word, process, waiters);
        if died.is_some() {
            return died;
        }
        futex::pause(looks);
    }
    None
}

/// Takes the lock if it is free at one look, and sets the bits of `waiters` with it. Returns whether its last owner
/// died.
#[inline]
pub(super) fn try_acquire_once(word: &AtomicU32, process: u32, waiters: u32) -> Option<bool> {
    let now = word.load(Ordering::Relaxed);
    let mine = (process + 1) | (now & WAITERS) | waiters;
    let is_mine =
        now & OWNER == 0 && word.compare_exchange(now, mine, Ordering::SeqCst, Ordering::Relaxed).is_ok();
    is_mine.then_some(now & DIED != 0)
}

/// Waits for the lock and takes it for a process. Returns whether its last owner died.
///
/// `TIMEDOUT`; `DEADLOCK` if the process has slept and `interrupted` then says so.
pub(super) fn acquire(
    word: &AtomicU32,
    process: u32,
    deadline: Deadline,
    interrupted: impl Fn() -> bool,
) -> Result<bool> {
    let mut waiters = 0;
    loop {
        if let Some(died) = try_acquire_with(word, process, TRIES, waiters) {
            return Ok(died);
        }
        if deadline.is_over() {
            if waiters != 0 {
                // The wake that was meant for this process may be the only one for another.
                futex::wake(word, 1);
            }
            return Err(Errno::Timedout);
        }
        let now = word.load(Ordering::Relaxed);
        let waited = now | WAITERS;
        if now & OWNER == 0
            || (now != waited
                && word.compare_exchange(now, waited, Ordering::SeqCst, Ordering::Relaxed).is_err())
        {
            continue;
        }
        waiters = WAITERS;
        futex::wait(word, waited, deadline);
        if interrupted() {
            return Err(Errno::Deadlock);
        }
    }
}

/// The number of the process that owns the lock.
pub(super) fn owner(word: &AtomicU32) -> Option<u32> {
    (word.load(Ordering::Relaxed) & OWNER).checked_sub(1)
}

/// Releases the lock, whoever owns it. Returns whether any process owned it.
#[inline]
pub(super) fn release_any(word: &AtomicU32) -> bool {
    let mut now = word.load(Ordering::Relaxed);
    while now & OWNER != 0 {
        match word.compare_exchange(now, 0, Ordering::SeqCst, Ordering::Relaxed) {
            Ok(_) => {
                if now & WAITERS != 0 {
                    futex::wake(word, 1);
                }
                return true;
            }
            Err(other) => now = other,
        }
    }
    false
}

#[inline]
pub(super) fn release(word: &AtomicU32) {
    if word.swap(0, Ordering::SeqCst) & WAITERS != 0 {
        futex::wake(word, 1);
    }
}

pub(super) fn abandon(word: &AtomicU32, dead: u32) {
    let mut now = word.load(Ordering::Relaxed);
    while now & OWNER == dead + 1 {
        match word.compare_exchange(now, DIED | (now & WAITERS), Ordering::SeqCst, Ordering::Relaxed) {
            Ok(_) => break,
            Err(other) => now = other,
        }
    }
    futex::wake(word, 1);
}

/// Holds a [`Lock`].
#[derive(Debug)]
pub(crate) struct Guard<'a> {
    lock: &'a Lock,
    arena: &'a Arena,
    /// Whether an owner died, and its stores were undone, just before. Values that were derived from those stores are
    /// to be renewed.
    pub(crate) recovered: bool,
}

impl Guard<'_> {
    /// Releases the lock. All processes see the stores before this call before the caller loads anything after it.
    #[inline]
    pub(crate) fn unlock(self) {
        drop(self);
        fence_behind_rmw();
    }

    /// Overwrites a word that this lock guards; undone unless [`commit`](Self::commit) follows.
    #[inline]
    pub(crate) fn set(&self, cell: &AtomicU64, value: u64) -> Result<()> {
        let len = self.lock.journal_len.load(Ordering::Relaxed);
        let entry = self.lock.journal.get(len as usize).ok_or(Errno::Io)?;
        entry.at.store(self.arena.offset_of(cell), Ordering::Relaxed);
        entry.old.store(cell.load(Ordering::Relaxed), Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        self.lock.journal_len.store(len + 1, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        cell.store(value, Ordering::Relaxed);
        Ok(())
    }

    /// Makes all changes of this guard final, in one store.
    #[inline]
    pub(crate) fn commit(&self) {
        compiler_fence(Ordering::SeqCst);
        self.lock.journal_len.store(0, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
    }

    fn roll_back(&self) -> Result<()> {
        let len = (self.lock.journal_len.load(Ordering::Relaxed) as usize).min(JOURNAL);
        for entry in self.lock.journal.iter().take(len).rev() {
            let at = usize::try_from(entry.at.load(Ordering::Relaxed)).map_err(|_| Errno::Io)?;
            self.arena.at::<AtomicU64>(at)?.store(entry.old.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.commit();
        Ok(())
    }
}

impl Drop for Guard<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.lock.journal_len.load(Ordering::Relaxed) != 0 {
            // An error ended the critical section early. If even the journal is damaged, there is nothing to save.
            let _ = self.roll_back();
        }
        release(&self.lock.word);
    }
}
