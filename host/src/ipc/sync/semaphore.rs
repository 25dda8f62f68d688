//! `Semaphore` and `BoundedSemaphore`.
//!
//! Beside the units that are free it counts, in the same commit, how many each process holds. So when one ends, the
//! semaphore knows what went with it, and has it returned if that was asked for.

use sandpool_abi::Errno;

use crate::ipc::Result;
use crate::ipc::arena::Member;
use crate::ipc::event::Event;
use crate::ipc::heap;
use crate::ipc::kind::Kind;
use crate::ipc::lock::Lock;
use crate::ipc::object::{self, Handle, Object};
use crate::ipc::process_table::Register;
use crate::ipc::tally::Tally;
use crate::ipc::waiting::Waiting;
use crate::sys::atomic::{AtomicU64, Ordering};
use crate::sys::futex::Deadline;
use crate::sys::mem::shared;

/// More units than anything counts.
const VALUE_MAX: u64 = 1 << 62;

shared! {
    /// What a semaphore keeps.
    pub(crate) struct SemaphoreState {
        pub(crate) lock: Lock,
        /// units that are free
        value: AtomicU64,
        /// the most there may be
        bound: AtomicU64,
        /// 1 if it was made with that
        bounded: AtomicU64,
        /// 1 if units of processes that end are returned
        returned: AtomicU64,
        /// units that processes held when they ended
        died: AtomicU64,
        pub(crate) freed: Event,
        held: Tally,
    }
}

impl object::State for SemaphoreState {
    const KIND: Kind = Kind::Semaphore;
}

impl SemaphoreState {
    /// Units that are free.
    pub(crate) fn value(&self) -> u64 {
        self.value.load(Ordering::Acquire)
    }

    /// Units that processes held when they ended.
    pub(crate) fn died(&self) -> u64 {
        self.died.load(Ordering::Acquire)
    }

    pub(crate) fn is_bounded(&self) -> bool {
        self.bounded.load(Ordering::Relaxed) != 0
    }

    /// How many units a process holds.
    pub(crate) fn held_by(&self, member: &Member, process: u32) -> u64 {
        self.held.held_by(member, process)
    }
}

/// Makes a semaphore with `value` units.
///
/// `INVAL` if it is too large.
pub(crate) fn create(member: &Member, value: u64, bounded: bool, returned: bool) -> Result<Handle> {
    if value > VALUE_MAX {
        return Err(Errno::Inval);
    }
    object::create(member, member.slot()?.register(Register::Segment), |semaphore: &SemaphoreState| {
        semaphore.value.store(value, Ordering::Relaxed);
        semaphore.bound.store(if bounded { value } else { VALUE_MAX }, Ordering::Relaxed);
        semaphore.bounded.store(u64::from(bounded), Ordering::Relaxed);
        semaphore.returned.store(u64::from(returned), Ordering::Relaxed);
        semaphore.died.store(0, Ordering::Relaxed);
        semaphore.held.reset();
        Ok(())
    })
}

/// Acquires one unit.
///
/// `AGAIN`, `TIMEDOUT`.
pub(crate) fn acquire(member: &Member, object: Object<'_, SemaphoreState>, deadline: Deadline) -> Result<()> {
    let semaphore = object.state;
    let _operation = member.begin(object.index)?;
    loop {
        if semaphore.value() != 0 {
            let guard = semaphore.lock.lock(member)?;
            let value = semaphore.value();
            if value != 0 {
                semaphore.held.add(member, &guard)?;
                guard.set(&semaphore.value, value - 1)?;
                guard.commit();
                return Ok(());
            }
        }
        let ready = || semaphore.value() != 0;
        semaphore.freed.wait(member, Waiting::Semaphore(object.index), deadline, ready)?;
    }
}

/// Releases units, whoever acquired them.
///
/// `OVERFLOW`, and nothing is released, if there would be too many.
pub(crate) fn release(member: &Member, object: Object<'_, SemaphoreState>, count: u64) -> Result<()> {
    let semaphore = object.state;
    let _operation = member.begin(object.index)?;
    let guard = semaphore.lock.lock(member)?;
    let value = semaphore.value().saturating_add(count);
    if value > semaphore.bound.load(Ordering::Relaxed) {
        return Err(Errno::Overflow);
    }
    semaphore.held.take(member, &guard, member.index, count)?;
    guard.set(&semaphore.value, value)?;
    guard.commit();
    match count {
        1 => semaphore.freed.unlock_and_notify_one(guard, &member.arena),
        _ => semaphore.freed.unlock_and_notify_all(guard, &member.arena),
    }
    Ok(())
}

/// A process holds nothing of it any more.
pub(crate) fn settle(member: &Member, index: u32, semaphore: &SemaphoreState, process: u32) -> Result<()> {
    let _operation = member.begin(index)?;
    let guard = semaphore.lock.lock(member)?;
    let held = semaphore.held.take(member, &guard, process, u64::MAX)?;
    if held == 0 {
        return Ok(());
    }
    guard.set(&semaphore.died, semaphore.died().wrapping_add(held))?;
    if semaphore.returned.load(Ordering::Relaxed) != 0 {
        let value = semaphore.value().saturating_add(held).min(semaphore.bound.load(Ordering::Relaxed));
        guard.set(&semaphore.value, value)?;
    }
    guard.commit();
    drop(guard);
    semaphore.freed.notify_all(&member.arena);
    Ok(())
}

/// Gives the memory back. Can be begun again where it was left.
pub(crate) fn destroy(member: &Member, semaphore: &SemaphoreState) -> Result<()> {
    let guard = semaphore.lock.lock(member)?;
    let detached = semaphore.held.detach(member, &guard)?;
    guard.commit();
    drop(guard);
    if detached {
        heap::free(member, member.slot()?.register(Register::Segment))?;
    }
    Ok(())
}
