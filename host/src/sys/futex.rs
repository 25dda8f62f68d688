//! Sleeping on a word of shared memory: futex(2), between processes.

use std::time::Duration;

use nix::libc;
use nix::time::{ClockId, clock_gettime};

use super::atomic::AtomicU32;

/// A point of the monotonic clock, or never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deadline(Option<Duration>);

impl Deadline {
    /// Never.
    pub(crate) const NEVER: Self = Self(None);

    /// A deadline that nobody lives to see. A process that waits with a deadline is never part of a deadlock, because the
    /// wait isn't noted.
    pub(crate) fn never_noted() -> Self {
        Self::after_nanos(u64::MAX >> 1)
    }

    /// A deadline that has come already.
    pub(crate) const NOW: Self = Self(Some(Duration::ZERO));

    /// The deadline `nanos` nanoseconds from now; 0 is now, and `u64::MAX` is never.
    pub(crate) fn after_nanos(nanos: u64) -> Self {
        match nanos {
            0 => Self::NOW,
            u64::MAX => Self::NEVER,
            nanos => Self(Some(monotonic().saturating_add(Duration::from_nanos(nanos)))),
        }
    }

    /// This point of the monotonic clock.
    pub(crate) fn at(point: Duration) -> Self {
        Self(Some(point))
    }

    /// Whether the deadline has come.
    pub(crate) fn is_over(self) -> bool {
        self.0.is_some_and(|at| monotonic() >= at)
    }
}

/// Nanoseconds of the monotonic clock.
pub(crate) fn nanos_now() -> u64 {
    u64::try_from(monotonic().as_nanos()).unwrap_or(u64::MAX)
}

/// The monotonic clock, which all processes share.
pub(crate) fn monotonic() -> Duration {
    #[cfg(test)]
    if let Some(clock) = super::model::clock() {
        return clock;
    }
    clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default()
}

/// The most pauses between two looks, as a power of 2.
const PAUSES_LOG_MAX: u32 = 6;

/// Sleeps until woken, unless the word is no longer `expected`. This function also returns for no reason: callers loop.
pub(crate) fn wait(word: &AtomicU32, expected: u32, deadline: Deadline) {
    #[cfg(test)]
    if super::model::is_running() {
        return super::model::wait(word.as_ptr(), expected, deadline.0);
    }
    let limit = deadline.0.map(|at| libc::timespec {
        tv_sec: i64::try_from(at.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(at.subsec_nanos()),
    });
    let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: the word is a live, aligned u32; the kernel only reads it. `limit` is null or points at a timespec
    // that outlives the call. FUTEX_WAIT_BITSET takes an absolute time of CLOCK_MONOTONIC; without
    // FUTEX_PRIVATE the word is known by its page, as it must be between processes.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT_BITSET,
            expected,
            limit,
            std::ptr::null::<u32>(),
            libc::FUTEX_BITSET_MATCH_ANY,
        );
    }
}

/// Wakes at most `count` sleepers, and returns the number that it woke.
pub(crate) fn wake(word: &AtomicU32, count: i32) -> u32 {
    #[cfg(test)]
    if super::model::is_running() {
        return super::model::wake(word.as_ptr(), count);
    }
    // SAFETY: the word is a live, aligned u32; FUTEX_WAKE doesn't even read it.
    let woken = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, count) };
    u32::try_from(woken).unwrap_or(0)
}

/// Lets some time pass in a loop that has looked at a word `looks` times: more each time, up to about a microsecond.
#[inline]
pub(crate) fn pause(looks: u32) {
    #[cfg(test)]
    super::model::pause();
    // A look takes the cache line of the word from the process that works on it.
    for _ in 0..1_u32 << looks.min(PAUSES_LOG_MAX) {
        std::hint::spin_loop();
    }
}

/// Looks again and again for at most `limit`, and lets other processes run in between.
pub(crate) fn spin(limit: Duration, ready: impl Fn() -> bool) {
    let end = monotonic() + limit;
    while !ready() && monotonic() < end {
        std::thread::yield_now();
    }
}
