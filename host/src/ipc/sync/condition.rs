//! `Condition`.
//!
//! Waiting processes form a list through the process table, in order of arrival. A notification takes the first ones
//! off the list; each process sleeps on its own event until it is off. A process whose time is over, or that ends, is
//! taken off as well, so that no notification goes to it.

use sandpool_abi::Errno;

use super::lock::{self, LockState};
use crate::ipc::Result;
use crate::ipc::arena::Member;
use crate::ipc::kind::ObjectState;
use crate::ipc::lock::{Guard, Lock};
use crate::ipc::object::{self, Handle, Object};
use crate::ipc::process_table::{Place, Register};
use crate::ipc::waiting::Waiting;
use crate::sys::atomic::{AtomicU64, Ordering};
use crate::sys::futex::Deadline;
use crate::sys::mem::shared;

shared! {
    /// The state of a condition.
    pub(crate) struct ConditionState {
        lock: Lock,
        /// number of the process that has waited longest, plus 1
        first: AtomicU64,
        /// number of the process that came last, plus 1
        last: AtomicU64,
    }
}

impl ObjectState for ConditionState {
    fn locks<'a>(&'a self, _: &'a Member) -> Result<Vec<&'a Lock>> {
        Ok(vec![&self.lock])
    }

    /// Wakes every process that may have been notified by one that died before it could wake them.
    fn recover(&self, member: &Member) -> Result<()> {
        drop(self.lock.lock(member)?);
        for process in 0..member.arena.geometry.processes_max {
            // The dead process may have cleared the bit that tells whether somebody sleeps.
            member.arena.process(process)?.event.wake_all(&member.arena);
        }
        Ok(())
    }

    fn settle(&self, member: &Member, index: u32, process: u32) -> Result<()> {
        leave(member, index, self, process).map(|_| ())
    }
}

/// Makes a condition.
pub(crate) fn create(member: &Member) -> Result<Handle> {
    object::create(member, member.slot()?.register(Register::Segment), |condition: &ConditionState| {
        condition.first.store(0, Ordering::Relaxed);
        condition.last.store(0, Ordering::Relaxed);
        Ok(())
    })
}

/// The place of the process with this number plus 1.
fn place(member: &Member, process: u64) -> Result<&Place> {
    let process = process.checked_sub(1).and_then(|process| u32::try_from(process).ok()).ok_or(Errno::Io)?;
    if process >= member.arena.geometry.processes_max {
        return Err(Errno::Io);
    }
    Ok(&member.arena.process(process)?.place)
}

/// Puts the caller on the list of waiting processes, and releases the lock wholly. Returns how often the caller held
/// the lock.
///
/// `PERM` if the caller doesn't hold the lock.
pub(crate) fn enter(
    member: &Member,
    condition: Object<'_, ConditionState>,
    lock: Object<'_, LockState>,
) -> Result<u64> {
    if lock.state.owner() != Some(member.index) {
        return Err(Errno::Perm);
    }
    {
        let _operation = member.begin(condition.index)?;
        let state = condition.state;
        let guard = state.lock.lock(member)?;
        let me = u64::from(member.index) + 1;
        let last = state.last.load(Ordering::Relaxed);
        let own = place(member, me)?;
        guard.set(&own.object, Place::of(condition.index))?;
        guard.set(&own.next, 0)?;
        guard.set(&own.prev, last)?;
        guard.set(if last == 0 { &state.first } else { &place(member, last)?.next }, me)?;
        guard.set(&state.last, me)?;
        guard.commit();
    }
    lock::release_wholly(member, lock)
}

/// Waits until notified, or until the time is over. Returns whether the caller was notified.
pub(crate) fn wait(
    member: &Member,
    condition: Object<'_, ConditionState>,
    deadline: Deadline,
) -> Result<bool> {
    let slot = member.slot()?;
    let notified = || !slot.place.is_in(condition.index);
    loop {
        while !notified() {
            match slot.event.wait(member, Waiting::Condition(condition.index), deadline, notified) {
                Err(Errno::Again | Errno::Timedout) => {
                    return Ok(!leave(member, condition.index, condition.state, member.index)?);
                }
                result => result?,
            }
        }
        // A notifier that died before its commit has notified nobody: taking the lock undoes its changes.
        let _operation = member.begin(condition.index)?;
        let _guard = condition.state.lock.lock(member)?;
        if notified() {
            return Ok(true);
        }
    }
}

/// Notifies the processes that have waited longest, and returns how many.
///
/// `PERM` if the caller doesn't hold the lock.
pub(crate) fn notify(
    member: &Member,
    condition: Object<'_, ConditionState>,
    lock: Object<'_, LockState>,
    count: u64,
) -> Result<u64> {
    if lock.state.owner() != Some(member.index) {
        return Err(Errno::Perm);
    }
    let _operation = member.begin(condition.index)?;
    let mut notified = 0;
    // No more processes can wait: a list without an end is damaged.
    let count = count.min(u64::from(member.arena.geometry.processes_max));
    while notified < count {
        let first = condition.state.first.load(Ordering::Acquire);
        if first == 0 {
            break;
        }
        let guard = condition.state.lock.lock(member)?;
        let first = condition.state.first.load(Ordering::Relaxed);
        if first == 0 {
            break;
        }
        unlink(member, condition.state, &guard, first)?;
        guard.commit();
        drop(guard);
        member.arena.process(first as u32 - 1)?.event.notify_all(&member.arena);
        notified += 1;
    }
    Ok(notified)
}

fn unlink(member: &Member, state: &ConditionState, guard: &Guard<'_>, process: u64) -> Result<()> {
    let own = place(member, process)?;
    let (next, prev) = (own.next.load(Ordering::Relaxed), own.prev.load(Ordering::Relaxed));
    guard.set(if prev == 0 { &state.first } else { &place(member, prev)?.next }, next)?;
    guard.set(if next == 0 { &state.last } else { &place(member, next)?.prev }, prev)?;
    guard.set(&own.object, 0)
}

/// Takes a process off the list. Returns whether the process was on it.
fn leave(member: &Member, index: u32, state: &ConditionState, process: u32) -> Result<bool> {
    let _operation = member.begin(index)?;
    let guard = state.lock.lock(member)?;
    let process = u64::from(process) + 1;
    if !place(member, process)?.is_in(index) {
        return Ok(false);
    }
    unlink(member, state, &guard, process)?;
    guard.commit();
    Ok(true)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ipc::arena::{Arena, Geometry, Patience};
    use crate::testing::deadline::within_deadline;

    /// Another process may have written anything: a list that never ends, for example.
    #[test]
    fn nobody_notifies_for_ever() {
        let geometry = Geometry { processes_max: 3, objects_max: 4, heap_pages: 16 };
        let arena = Arc::new(Arena::create(geometry).unwrap().1);
        let [waits, notifies] =
            [0, 1].map(|index| Member { arena: arena.clone(), index, patience: Patience::Brief });
        let condition = create(&waits).unwrap();
        let held = lock::create(&waits, false).unwrap();
        for handle in [condition, held] {
            object::share(&waits, handle, notifies.index).unwrap();
        }
        let locked =
            |member: &Member| lock::acquire(member, object::resolve(member, held).unwrap(), Deadline::NOW);
        locked(&waits).unwrap();
        enter(&waits, object::resolve(&waits, condition).unwrap(), object::resolve(&waits, held).unwrap())
            .unwrap();
        let place = &waits.slot().unwrap().place;
        place.next.store(u64::from(waits.index) + 1, Ordering::SeqCst);
        place.prev.store(u64::from(waits.index) + 1, Ordering::SeqCst);
        locked(&notifies).unwrap();
        let notified = within_deadline(|| {
            let condition = object::resolve(&notifies, condition).unwrap();
            notify(&notifies, condition, object::resolve(&notifies, held).unwrap(), u64::MAX)
        });
        assert!(notified.is_err() || notified.is_ok_and(|count| count <= 3), "{notified:?}");
    }
}
