//! `sandpool_sync`.

use sandpool_abi::sync::Barrier;

use super::{Errno, done, value};

sandpool_abi::sync_imports!(declare);

pub(crate) fn lock_create(flags: u32) -> Result<u64, Errno> {
    value(import::lock_create(flags))
}

/// `Errno::Ownerdead` is an error with which the lock is acquired.
#[inline]
pub(crate) fn lock_acquire(lock: u64, timeout: u64) -> Result<(), Errno> {
    done(import::lock_acquire(lock, timeout))
}

#[inline]
pub(crate) fn lock_release(lock: u64) -> Result<(), Errno> {
    done(import::lock_release(lock))
}

pub(crate) fn lock_held(lock: u64) -> Result<u64, Errno> {
    value(import::lock_held(lock))
}

pub(crate) fn semaphore_create(units: u64, flags: u32) -> Result<u64, Errno> {
    value(import::semaphore_create(units, flags))
}

pub(crate) fn semaphore_acquire(semaphore: u64, timeout: u64) -> Result<(), Errno> {
    done(import::semaphore_acquire(semaphore, timeout))
}

pub(crate) fn semaphore_release(semaphore: u64, count: u64) -> Result<(), Errno> {
    done(import::semaphore_release(semaphore, count))
}

pub(crate) fn semaphore_value(semaphore: u64) -> Result<u64, Errno> {
    value(import::semaphore_value(semaphore))
}

pub(crate) fn semaphore_died(semaphore: u64) -> Result<u64, Errno> {
    value(import::semaphore_died(semaphore))
}

pub(crate) fn event_create() -> Result<u64, Errno> {
    value(import::event_create())
}

pub(crate) fn event_set(event: u64) -> Result<(), Errno> {
    super::told(|| import::event_set(event))
}

pub(crate) fn event_clear(event: u64) -> Result<(), Errno> {
    super::told(|| import::event_clear(event))
}

pub(crate) fn event_is_set(event: u64) -> Result<bool, Errno> {
    Ok(value(import::event_is_set(event))? != 0)
}

pub(crate) fn event_wait(event: u64, timeout: u64) -> Result<(), Errno> {
    super::unless_mute(Errno::Perm)?;
    done(import::event_wait(event, timeout))
}

pub(crate) fn condition_create() -> Result<u64, Errno> {
    value(import::condition_create())
}

/// Returns what happened: `NOTIFIED` and `OWNER_DIED`, or neither.
pub(crate) fn condition_wait(condition: u64, lock: u64, timeout: u64) -> Result<u64, Errno> {
    super::unless_mute(Errno::Perm)?;
    value(import::condition_wait(condition, lock, timeout))
}

/// Returns the number of processes that were woken.
pub(crate) fn condition_notify(condition: u64, lock: u64, count: u64) -> Result<u64, Errno> {
    if super::mute::is_on() {
        return Ok(0);
    }
    value(import::condition_notify(condition, lock, count))
}

pub(crate) fn barrier_create(parties: u64) -> Result<u64, Errno> {
    value(import::barrier_create(parties))
}

/// Returns the caller's index, and `ACT`.
pub(crate) fn barrier_wait(barrier: u64, flags: u32, timeout: u64) -> Result<u64, Errno> {
    super::unless_mute(Errno::Perm)?;
    value(import::barrier_wait(barrier, flags, timeout))
}

pub(crate) fn barrier_release(barrier: u64) -> Result<(), Errno> {
    done(import::barrier_release(barrier))
}

pub(crate) fn barrier_reset(barrier: u64) -> Result<(), Errno> {
    super::told(|| import::barrier_reset(barrier))
}

pub(crate) fn barrier_abort(barrier: u64) -> Result<(), Errno> {
    super::told(|| import::barrier_abort(barrier))
}

pub(crate) fn barrier_state(barrier: u64) -> Result<Barrier, Errno> {
    let mut state = Barrier { parties: 0, waiting: 0, broken: 0, reserved: 0 };
    // SAFETY: the host writes one `Barrier` there: 24 bytes, little-endian as wasm is, of plain integers, for which
    // any bits are valid.
    done(unsafe { import::barrier_state(barrier, &raw mut state) })?;
    Ok(state)
}
