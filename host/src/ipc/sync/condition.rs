//! `Condition`.
//!
//! Waiting processes form a list through the process table, in order of arrival. A notification takes the first ones
//! off the list; each process sleeps on its own event until it is off. A process whose time is over, or that ends, is
//! taken off as well, so that no notification goes to it.

use sandpool_abi::Errno;

use super::lock::{self, LockState};
use crate::ipc::Result;
use crate::ipc::arena::Participant;
use crate::ipc::kind::ObjectState;
use crate::ipc::lock::{Guard, Lock};
use crate::ipc::object::{self, Handle, Object};
use crate::ipc::process_table::{Place, Register};
pub(crate) use crate::ipc::states::ConditionState;
use crate::ipc::waiting::Waiting;
use crate::sys::atomic::Ordering;
use crate::sys::futex::Deadline;

impl ObjectState for ConditionState {
    fn locks<'a>(&'a self, _: &'a Participant) -> Result<Vec<&'a Lock>> {
        Ok(vec![&self.lock])
    }

    /// Wakes every process that may have been notified by one that died before it could wake them.
    fn recover(&self, participant: &Participant) -> Result<()> {
        drop(self.lock.lock(participant)?);
        for process in 0..participant.arena.geometry.processes_max {
            // The dead process may have cleared the bit that tells whether somebody sleeps.
            participant.arena.process(process)?.event.wake_all(&participant.arena);
        }
        Ok(())
    }

    fn settle(&self, participant: &Participant, index: u32, process: u32) -> Result<()> {
        leave(participant, index, self, process).map(|_| ())
    }
}

/// Makes a condition.
pub(crate) fn create(participant: &Participant) -> Result<Handle> {
    object::create(
        participant,
        participant.slot()?.register(Register::Segment),
        |condition: &ConditionState| {
            condition.first.store(0, Ordering::Relaxed);
            condition.last.store(0, Ordering::Relaxed);
            Ok(())
        },
    )
}

/// The place of the process with this number plus 1.
fn place(participant: &Participant, process: u64) -> Result<&Place> {
    let process = process.checked_sub(1).and_then(|process| u32::try_from(process).ok()).ok_or(Errno::Io)?;
    if process >= participant.arena.geometry.processes_max {
        return Err(Errno::Io);
    }
    Ok(&participant.arena.process(process)?.place)
}

/// Puts the caller on the list of waiting processes, and releases the lock wholly. Returns how often the caller held
/// the lock.
///
/// `PERM` if the caller doesn't hold the lock.
pub(crate) fn enter(
    participant: &Participant,
    condition: Object<'_, ConditionState>,
    lock: Object<'_, LockState>,
) -> Result<u64> {
    if lock.state.owner() != Some(participant.index) {
        return Err(Errno::Perm);
    }
    {
        let _operation = participant.begin(condition.index)?;
        let state = condition.state;
        let guard = state.lock.lock(participant)?;
        let me = u64::from(participant.index) + 1;
        let last = state.last.load(Ordering::Relaxed);
        let own = place(participant, me)?;
        guard.set(&own.object, Place::of(condition.index))?;
        guard.set(&own.next, 0)?;
        guard.set(&own.prev, last)?;
        guard.set(if last == 0 { &state.first } else { &place(participant, last)?.next }, me)?;
        guard.set(&state.last, me)?;
        guard.commit();
    }
    lock::release_wholly(participant, lock)
}

/// Waits until notified, or until the time is over. Returns whether the caller was notified.
pub(crate) fn wait(
    participant: &Participant,
    condition: Object<'_, ConditionState>,
    deadline: Deadline,
) -> Result<bool> {
    let slot = participant.slot()?;
    let notified = || !slot.place.is_in(condition.index);
    loop {
        while !notified() {
            match slot.event.wait(participant, Waiting::Condition(condition.index), deadline, notified) {
                Err(Errno::Again | Errno::Timedout) => {
                    return Ok(!leave(participant, condition.index, condition.state, participant.index)?);
                }
                result => result?,
            }
        }
        // A notifier that died before its commit has notified nobody: taking the lock undoes its changes.
        let _operation = participant.begin(condition.index)?;
        let _guard = condition.state.lock.lock(participant)?;
        if notified() {
            return Ok(true);
        }
    }
}

/// Notifies the processes that have waited longest, and returns how many.
///
/// `PERM` if the caller doesn't hold the lock.
pub(crate) fn notify(
    participant: &Participant,
    condition: Object<'_, ConditionState>,
    lock: Object<'_, LockState>,
    count: u64,
) -> Result<u64> {
    if lock.state.owner() != Some(participant.index) {
        return Err(Errno::Perm);
    }
    let _operation = participant.begin(condition.index)?;
    let mut notified = 0;
    // No more processes can wait: a list without an end is damaged.
    let count = count.min(u64::from(participant.arena.geometry.processes_max));
    while notified < count {
        let first = condition.state.first.load(Ordering::Acquire);
        if first == 0 {
            break;
        }
        let guard = condition.state.lock.lock(participant)?;
        let first = condition.state.first.load(Ordering::Relaxed);
        if first == 0 {
            break;
        }
        unlink(participant, condition.state, &guard, first)?;
        guard.commit();
        drop(guard);
        participant.arena.process(first as u32 - 1)?.event.notify_all(&participant.arena);
        notified += 1;
    }
    Ok(notified)
}

fn unlink(participant: &Participant, state: &ConditionState, guard: &Guard<'_>, process: u64) -> Result<()> {
    let own = place(participant, process)?;
    let (next, prev) = (own.next.load(Ordering::Relaxed), own.prev.load(Ordering::Relaxed));
    guard.set(if prev == 0 { &state.first } else { &place(participant, prev)?.next }, next)?;
    guard.set(if next == 0 { &state.last } else { &place(participant, next)?.prev }, prev)?;
    guard.set(&own.object, 0)
}

/// Takes a process off the list. Returns whether the process was on it.
fn leave(participant: &Participant, index: u32, state: &ConditionState, process: u32) -> Result<bool> {
    let _operation = participant.begin(index)?;
    let guard = state.lock.lock(participant)?;
    let process = u64::from(process) + 1;
    if !place(participant, process)?.is_in(index) {
        return Ok(false);
    }
    unlink(participant, state, &guard, process)?;
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
            [0, 1].map(|index| Participant { arena: arena.clone(), index, patience: Patience::Brief });
        let condition = create(&waits).unwrap();
        let held = lock::create(&waits, false).unwrap();
        for handle in [condition, held] {
            object::share(&waits, handle, notifies.index).unwrap();
        }
        let locked = |participant: &Participant| {
            lock::acquire(participant, object::resolve(participant, held).unwrap(), Deadline::NOW)
        };
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
