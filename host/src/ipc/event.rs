//! Sleeping until something has changed.
//!
//! The word is a count of changes, shifted left by one, and below it a bit that says that somebody may be asleep.
//!
//! * **to wait**: set the bit and remember the word; look once more whether there is anything to wait for; sleep as
//!   long as the word is unchanged.
//! * **to notify**: change what is waited for; if the bit is set, count up and wake.
//! * **to clear the bit**: count up in the same step, and wake all. Every sleeper sleeps on a word that has the bit, so
//!   no sleeper is left asleep without the bit. A process that wakes all clears the bit; a process that wakes a single
//!   sleeper leaves the bit for the others, until a wake finds nobody.
//!
//! Either the notifier sees the bit, or the waiter sees the change: both sides have a sequentially consistent fence
//! between their store and their load (Dekker). For a notifier that releases a lock in between, the release is that
//! fence. A notifier may die before it wakes, or a sleeper after it was woken in place of another. The supervisor
//! repairs both with [`Event::wake_all`], which is correct at any time, because everyone who wakes looks again.
//!
//! A process that waits for several events [watches](Event::watch) each, and sleeps on the arena's common event. Every
//! wake of a watched event notifies the common one. The gateway watches in the same way, with an event of its own.

use sandpool_abi::Errno;

use super::Result;
use super::arena::{Arena, Participant};
pub(crate) use super::layout::Event;
use super::lock::Guard;
use super::waiting::Waiting;
use crate::sys::atomic::{AtomicU32, Ordering, fence};
use crate::sys::futex::{self, Deadline};

const WAITERS: u32 = 1;
const ONE: u32 = 2;

/// The marks of those who watch an event.
const BY_PROCESS: u32 = 1;
const BY_GATEWAY: u32 = 2;

/// Looks before a process sleeps. They take some ten microseconds: as long as to sleep and be woken.
const SPINS: u32 = if cfg!(test) { 2 } else { 100 };

/// The time was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimedOut;

impl Event {
    /// Waits until `ready`, or until it may have changed: the caller tries again either way.
    ///
    /// `AGAIN` or `TIMEDOUT`; `DEADLOCK` if the supervisor wants to hear what this process waits for.
    pub(crate) fn wait(
        &self,
        participant: &Participant,
        what: Waiting,
        deadline: Deadline,
        ready: impl Fn() -> bool,
    ) -> Result<()> {
        if deadline != Deadline::NOW {
            for looks in 0..SPINS {
                if ready() {
                    return Ok(());
                }
                // A change that comes is to be seen soon.
                futex::pause(looks.min(2));
            }
        }
        self.sleep(participant, what, deadline, ready)
    }

    /// Waits as [`wait`](Self::wait) does, without looking for a while first: for what takes longer than a while, such
    /// as the end of a process.
    pub(crate) fn sleep(
        &self,
        participant: &Participant,
        what: Waiting,
        deadline: Deadline,
        ready: impl Fn() -> bool,
    ) -> Result<()> {
        let note = (deadline == Deadline::NEVER).then(|| participant.note(what, &self.word)).transpose()?;
        let slept = sleep(&self.word, deadline, ready);
        if let Some(note) = note
            && note.is_raised()
        {
            note.keep();
            return Err(Errno::Deadlock);
        }
        slept.map_err(|_| if deadline == Deadline::NOW { Errno::Again } else { Errno::Timedout })
    }

    /// Waits until `ready`, or until it may have changed, for something that the supervisor does: such a wait is no
    /// deadlock.
    pub(crate) fn sleep_for_supervisor(&self, ready: impl Fn() -> bool) {
        // This deadline is never over.
        let _ = sleep(&self.word, Deadline::NEVER, ready);
    }

    /// Wakes all sleepers, if there are any. Call it after the change is published.
    #[inline]
    pub(crate) fn notify_all(&self, arena: &Arena) {
        if notify_all(&self.word) {
            self.tell_watchers(arena);
        }
    }

    /// Releases a lock, under which the change was published, and wakes one sleeper, if there is one.
    #[inline]
    pub(crate) fn unlock_and_notify_one(&self, guard: Guard<'_>, arena: &Arena) {
        guard.unlock();
        if wake_if_waited_for(&self.word, wake_one) {
            self.tell_watchers(arena);
        }
    }

    /// Releases a lock, under which the change was published, and wakes all sleepers.
    #[inline]
    pub(crate) fn unlock_and_notify_all(&self, guard: Guard<'_>, arena: &Arena) {
        guard.unlock();
        if wake_if_waited_for(&self.word, wake_all) {
            self.tell_watchers(arena);
        }
    }

    /// Wakes all sleepers, and the processes that are about to sleep, whether or not the word says that there are any.
    pub(crate) fn wake_all(&self, arena: &Arena) {
        wake_all(&self.word);
        self.tell_watchers(arena);
    }

    /// Makes the next wake of this event notify the arena's common event, once. The caller looks at what it waits for
    /// after this call.
    fn watch(&self) {
        self.mark(BY_PROCESS);
        fence(Ordering::SeqCst);
    }

    /// Makes the next wake of this event notify the gateway, once. The caller executes a fence, and looks at what it waits for
    /// after this call.
    pub(super) fn watch_from_gateway(&self) {
        let is_marked = self.watched.load(Ordering::SeqCst) & BY_GATEWAY != 0
            && self.word.load(Ordering::SeqCst) & WAITERS != 0;
        if !is_marked {
            self.mark(BY_GATEWAY);
        }
    }

    fn mark(&self, watcher: u32) {
        self.watched.fetch_or(watcher, Ordering::SeqCst);
        self.word.fetch_or(WAITERS, Ordering::SeqCst);
    }

    /// How often [`wake_all`] was called: the gateway's thread that waits for news compares the count.
    pub(super) fn changes(&self) -> u32 {
        self.word.load(Ordering::SeqCst) & !WAITERS
    }

    #[cold]
    fn tell_watchers(&self, arena: &Arena) {
        let watchers = self.watched.swap(0, Ordering::SeqCst);
        if watchers != 0
            && let Ok(header) = arena.header()
        {
            if watchers & BY_PROCESS != 0 {
                notify_all(&header.watched.word);
            }
            if watchers & BY_GATEWAY != 0 {
                // The gateway's thread compares the count, so this counts even if the thread isn't asleep now.
                wake_all(&header.outside.word);
            }
        }
    }
}

/// Waits until `look` finds something. One of these events has to tell of any change in what `look` finds.
///
/// `AGAIN` or `TIMEDOUT`; `DEADLOCK` if the supervisor wants to hear what this process waits for.
pub(crate) fn wait_for_any<'e, T>(
    participant: &Participant,
    events: impl Iterator<Item = &'e Event> + Clone,
    deadline: Deadline,
    look: impl Fn() -> Option<T>,
) -> Result<T> {
    let what = Waiting::Any(u32::try_from(events.clone().count()).unwrap_or(u32::MAX));
    loop {
        if let Some(found) = look() {
            return Ok(found);
        }
        // The process watches when it is about to sleep, not before. Otherwise a notification between the two takes the
        // marks away; if what it was for is gone again, the process sleeps without any mark.
        let watch_and_look = || {
            events.clone().for_each(Event::watch);
            look().is_some()
        };
        participant.arena.header()?.watched.sleep(participant, what, deadline, watch_and_look)?;
    }
}

pub(super) fn sleep(
    word: &AtomicU32,
    deadline: Deadline,
    ready: impl Fn() -> bool,
) -> std::result::Result<(), TimedOut> {
    if deadline == Deadline::NOW {
        return if ready() { Ok(()) } else { Err(TimedOut) };
    }
    let now = word.fetch_or(WAITERS, Ordering::SeqCst) | WAITERS;
    fence(Ordering::SeqCst);
    if ready() {
        return Ok(());
    }
    if deadline.is_over() {
        return Err(TimedOut);
    }
    futex::wait(word, now, deadline);
    Ok(())
}

#[inline]
pub(super) fn notify_all(word: &AtomicU32) -> bool {
    fence(Ordering::SeqCst);
    wake_if_waited_for(word, wake_all)
}

/// Wakes if the word says that there is a sleeper, and returns whether it did. The caller has executed a fence before.
#[inline]
fn wake_if_waited_for(word: &AtomicU32, wake: impl Fn(&AtomicU32)) -> bool {
    let waiters = word.load(Ordering::Relaxed) & WAITERS != 0;
    if waiters {
        wake(word);
    }
    waiters
}

#[cold]
fn wake_one(word: &AtomicU32) {
    let now = word.fetch_add(ONE, Ordering::SeqCst).wrapping_add(ONE);
    if futex::wake(word, 1) == 0 {
        // Nobody was asleep, so the bit is in the way. But a process may have gone to sleep since, on the word as it is
        // now: the process that clears the bit changes the word, and wakes those.
        let clear = now.wrapping_add(ONE) & !WAITERS;
        if word.compare_exchange(now, clear, Ordering::SeqCst, Ordering::Relaxed).is_ok() {
            futex::wake(word, i32::MAX);
        }
    }
}

#[cold]
pub(super) fn wake_all(word: &AtomicU32) {
    let mut now = word.load(Ordering::Relaxed);
    while let Err(other) =
        word.compare_exchange(now, now.wrapping_add(ONE) & !WAITERS, Ordering::SeqCst, Ordering::Relaxed)
    {
        now = other;
    }
    futex::wake(word, i32::MAX);
}
