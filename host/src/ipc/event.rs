//! Sleeping until something has changed.
//!
//! The word is a count of changes, shifted left by one, and below it a bit that says that somebody may be asleep.
//!
//! * **to wait**: set the bit and remember the word; look once more whether there is anything to wait for; sleep as
//!   long as the word is what it was.
//! * **to notify**: change what is waited for; if the bit is set, count up and wake.
//! * **to clear the bit**: count up in the same step, and wake all. Whoever sleeps sleeps on a word that has the bit,
//!   so none of them is left asleep without it. One who wakes all clears it; one who wakes a single sleeper leaves it
//!   for the others, until a wake finds nobody.
//!
//! Either the notifier sees the bit, or the waiter sees the change: both sides have a sequentially consistent fence
//! between their store and their load (Dekker). A notifier that dies before it wakes, or a sleeper that dies after
//! it was woken in place of another, is repaired by the supervisor with [`Event::wake_all`], which is correct at
//! any time, because everyone who wakes looks again.

use std::sync::atomic::{AtomicU32, Ordering, fence};

use crate::sys::futex::{Deadline, Word};
use crate::sys::mem::shared;

const WAITERS: u32 = 1;
const ONE: u32 = 2;

/// Looks before a process sleeps. Some ten microseconds: what it takes to sleep and be woken.
const SPINS: u32 = 300;

shared! {
    /// A futex that counts changes.
    pub(crate) struct Event {
        word: AtomicU32,
        reserved: AtomicU32,
    }
}

/// The time was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimedOut;

impl Event {
    /// Waits until `ready`, or until it may have changed: the caller tries again either way.
    pub(crate) fn wait(&self, deadline: Deadline, ready: impl Fn() -> bool) -> Result<(), TimedOut> {
        if deadline != Deadline::NOW {
            for _ in 0..SPINS {
                if ready() {
                    return Ok(());
                }
                self.word.pause();
            }
        }
        self.sleep(deadline, ready)
    }

    /// The same without looking for a while first: for what takes longer than a while, such as the end of a process.
    pub(crate) fn sleep(&self, deadline: Deadline, ready: impl Fn() -> bool) -> Result<(), TimedOut> {
        sleep(&self.word, deadline, ready)
    }

    /// Wakes one sleeper, if there is any. Call it after the change is published.
    #[inline]
    pub(crate) fn notify_one(&self) {
        notify_one(&self.word);
    }

    /// Wakes all sleepers.
    #[inline]
    pub(crate) fn notify_all(&self) {
        notify_all(&self.word);
    }

    /// Wakes all sleepers, and those who are about to sleep, whether or not the word says that there are any.
    pub(crate) fn wake_all(&self) {
        wake_all(&self.word);
    }
}

pub(super) fn sleep(word: &impl Word, deadline: Deadline, ready: impl Fn() -> bool) -> Result<(), TimedOut> {
    if deadline == Deadline::NOW {
        return if ready() { Ok(()) } else { Err(TimedOut) };
    }
    let now = word.fetch_or(WAITERS) | WAITERS;
    fence(Ordering::SeqCst);
    if ready() {
        return Ok(());
    }
    if deadline.is_over() {
        return Err(TimedOut);
    }
    word.wait(now, deadline);
    Ok(())
}

#[inline]
pub(super) fn notify_one(word: &impl Word) {
    fence(Ordering::SeqCst);
    if word.load() & WAITERS != 0 {
        wake_one(word);
    }
}

#[inline]
pub(super) fn notify_all(word: &impl Word) {
    fence(Ordering::SeqCst);
    if word.load() & WAITERS != 0 {
        wake_all(word);
    }
}

#[cold]
fn wake_one(word: &impl Word) {
    let now = word.fetch_add(ONE).wrapping_add(ONE);
    if word.wake(1) == 0 {
        // Nobody was asleep, so the bit is in the way. But somebody may have gone to sleep since, on the word as it is
        // now: whoever clears the bit changes the word, and wakes those.
        let clear = now.wrapping_add(ONE) & !WAITERS;
        if word.compare_exchange(now, clear).is_ok() {
            word.wake(i32::MAX);
        }
    }
}

#[cold]
pub(super) fn wake_all(word: &impl Word) {
    let mut now = word.load();
    while let Err(other) = word.compare_exchange(now, now.wrapping_add(ONE) & !WAITERS) {
        now = other;
    }
    word.wake(i32::MAX);
}
