//! A lock that survives its owner, and the journal that makes what it guards survive too.
//!
//! # The lock word
//!
//! ```text
//!  31       30    23..0
//!  WAITERS  DIED  owner: number of its process + 1, or 0
//! ```
//!
//! * **acquire**: replace a word without owner by one's own number. If `DIED` was set, the last owner died in its
//!   critical section: roll the journal back first. One who has slept keeps `WAITERS` set, as there may be others.
//! * **release**: replace the word by 0; if `WAITERS` was set, wake one sleeper.
//! * **owner dies**: the supervisor, who knows, replaces the owner by `DIED` and wakes one sleeper ([`abandon`]).
//!   It wakes one as well if the dead process was only acquiring or releasing: it may have been the one that was
//!   woken, or the one that was about to wake. A sleeper that is woken for nothing looks at the word and sleeps
//!   again, with `WAITERS` set.
//! * **give up** when the time is over: wake one sleeper, who may have been passed over for this one.
//!
//! # The journal
//!
//! [`Guard::set`] notes the old value of a word before it overwrites it; [`Guard::commit`] empties the journal with
//! one store. So whatever instruction the owner dies at, either all its stores are there or its successor finds the
//! journal and undoes them, newest first. Undoing twice is the same as once, so a successor may die as well.
//!
//! That needs the *program order* of these stores, nothing more: a process that is killed has executed all
//! instructions before some point and none after it, and its stores are visible to those who learn of its death.
//! Hence compiler fences, and none for the processor.
//!
//! [`abandon`]: Lock::abandon

use sandpool_abi::Errno;

use super::Result;
use super::arena::{Arena, Member, Patience};
use crate::sys::atomic::{AtomicU32, AtomicU64, Ordering, compiler_fence, fence_behind_rmw};
use crate::sys::futex::{self, Deadline};
use crate::sys::mem::shared;

const WAITERS: u32 = 1 << 31;
const DIED: u32 = 1 << 30;
const OWNER: u32 = (1 << 24) - 1;

/// Tries before a process sleeps: a few microseconds, longer than a critical section lasts.
pub(super) const TRIES: u32 = if cfg!(test) { 2 } else { 16 };
/// Tries before the supervisor gives up for now.
const BRIEF_SPINS: u32 = if cfg!(test) { 2 } else { 400 };

/// What the owner of a pool waits for a lock: many turns of a scheduler.
const MOMENT_NANOS: u64 = 50_000_000;

/// More words than any critical section overwrites.
const JOURNAL: usize = 24;

shared! {
    /// A lock, and the journal of its owner.
    pub(crate) struct Lock {
        word: AtomicU32,
        journal_len: AtomicU32,
        journal: [Entry; JOURNAL],
    }

    struct Entry {
        /// offset in the arena
        at: AtomicU64,
        old: AtomicU64,
    }
}

impl Lock {
    /// Waits for the lock and holds it until the guard goes. What isn't committed by then is undone.
    ///
    /// `BUSY` if the member has little [`Patience`] and somebody holds it.
    #[inline]
    pub(crate) fn lock<'a>(&'a self, member: &'a Member) -> Result<Guard<'a>> {
        // A guard is put together where it is used: one that is returned takes longer than the lock.
        let recovered = !try_acquire_free(&self.word, member.index) && self.lock_slowly(member)?;
        Ok(Guard { lock: self, arena: &member.arena, recovered })
    }

    /// The same, when it isn't free. Whether its last owner died; then what that did is undone.
    #[cold]
    fn lock_slowly(&self, member: &Member) -> Result<bool> {
        let recovered = match member.patience {
            Patience::Forever => acquire(&self.word, member.index, Deadline::NEVER, || false)?,
            Patience::Brief => try_acquire(&self.word, member.index, BRIEF_SPINS).ok_or(Errno::Busy)?,
            Patience::Moment => {
                let deadline = Deadline::after_nanos(MOMENT_NANOS);
                acquire(&self.word, member.index, deadline, || false).map_err(|_| Errno::Busy)?
            }
        };
        if recovered {
            let guard = Guard { lock: self, arena: &member.arena, recovered };
            guard.roll_back()?;
            // It stays locked.
            std::mem::forget(guard);
        }
        Ok(recovered)
    }

    /// Called by the supervisor for a process that is dead: if that owns the lock, the lock is free and the next
    /// owner will roll back. Somebody is woken in any case.
    pub(crate) fn abandon(&self, dead: u32) {
        abandon(&self.word, dead);
    }
}

/// Takes the lock if nobody owns it, waits for it, or has died with it.
#[inline]
fn try_acquire_free(word: &AtomicU32, process: u32) -> bool {
    word.compare_exchange(0, process + 1, Ordering::SeqCst, Ordering::Relaxed).is_ok()
}

/// Takes the lock if it is free within so many looks. Returns whether its last owner died.
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

/// Takes the lock if it is free at a look, and sets these bits with it. Returns whether its last owner died.
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
/// `TIMEDOUT`; `DEADLOCK` if it has slept and `interrupted` then says so.
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
                // The wake that was meant for this one may be another's only one.
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

/// Releases the lock, whoever owns it. Whether anybody did.
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
    /// Whether an owner died, and its stores were undone, just before. What was derived from them is to be renewed.
    pub(crate) recovered: bool,
}

impl Guard<'_> {
    /// Releases the lock. What was stored before is seen, by all, before what is loaded behind this.
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

    /// Makes all that was set final, in one store.
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
            // An error left the critical section early. If even the journal is damaged, there is nothing to save.
            let _ = self.roll_back();
        }
        release(&self.lock.word);
    }
}
