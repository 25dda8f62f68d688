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

use std::hint;
use std::sync::atomic::{AtomicU32, Ordering, fence};

use crate::sys::futex::{self, Deadline};
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
                hint::spin_loop();
            }
        }
        self.sleep(deadline, ready)
    }

    /// The same without looking for a while first: for what takes longer than a while, such as the end of a process.
    pub(crate) fn sleep(&self, deadline: Deadline, ready: impl Fn() -> bool) -> Result<(), TimedOut> {
        if deadline == Deadline::NOW {
            return if ready() { Ok(()) } else { Err(TimedOut) };
        }
        let word = self.word.fetch_or(WAITERS, Ordering::SeqCst) | WAITERS;
        fence(Ordering::SeqCst);
        if ready() {
            return Ok(());
        }
        if deadline.is_over() {
            return Err(TimedOut);
        }
        futex::wait(&self.word, word, deadline);
        Ok(())
    }

    /// Wakes one sleeper, if there is any. Call it after the change is published.
    #[inline]
    pub(crate) fn notify_one(&self) {
        fence(Ordering::SeqCst);
        if self.word.load(Ordering::Relaxed) & WAITERS != 0 {
            self.wake_one();
        }
    }

    /// Wakes all sleepers.
    #[inline]
    pub(crate) fn notify_all(&self) {
        fence(Ordering::SeqCst);
        if self.word.load(Ordering::Relaxed) & WAITERS != 0 {
            self.wake_all();
        }
    }

    #[cold]
    fn wake_one(&self) {
        let now = self.word.fetch_add(ONE, Ordering::SeqCst).wrapping_add(ONE);
        if matches!(futex::wake(&self.word, 1), Ok(0)) {
            // Nobody was asleep, so the bit is in the way. But somebody may have gone to sleep since, on the word as it
            // is now: whoever clears the bit changes the word, and wakes those.
            let clear = now.wrapping_add(ONE) & !WAITERS;
            if self.word.compare_exchange(now, clear, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
                let _ = futex::wake(&self.word, i32::MAX);
            }
        }
    }

    /// Wakes all sleepers, and those who are about to sleep, whether or not the word says that there are any.
    #[cold]
    pub(crate) fn wake_all(&self) {
        let mut now = self.word.load(Ordering::Relaxed);
        loop {
            let clear = now.wrapping_add(ONE) & !WAITERS;
            match self.word.compare_exchange(now, clear, Ordering::SeqCst, Ordering::Relaxed) {
                Ok(_) => break,
                Err(other) => now = other,
            }
        }
        let _ = futex::wake(&self.word, i32::MAX);
    }
}
