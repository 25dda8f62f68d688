//! `Lock` and `RLock`.
//!
//! The word is that of a [journaled lock](crate::ipc::lock): owner, `WAITERS`, `DIED`. An owner that ends, or gives its
//! last handle back, leaves the lock to the next owner, which is told of that.

use sandpool_abi::Errno;
use sandpool_abi::sync::{ELSEWHERE, RECURSIVE};

use crate::ipc::Result;
use crate::ipc::arena::Participant;
use crate::ipc::kind::{ObjectState, Share};
use crate::ipc::lock::{self, TRIES};
use crate::ipc::object::{self, Handle, Object};
use crate::ipc::process_table::Register;
pub(crate) use crate::ipc::states::LockState;
use crate::ipc::waiting::{Note, Waiting};
use crate::sys::atomic::Ordering;
use crate::sys::futex::{self, Deadline};

impl ObjectState for LockState {
    fn flags(&self) -> u32 {
        if self.is_recursive() { RECURSIVE } else { 0 }
    }

    /// Wakes one waiting process, because the dead process may have been about to.
    fn recover(&self, _: &Participant) -> Result<()> {
        futex::wake(&self.word, 1);
        Ok(())
    }

    /// Leaves the lock to the next owner, if the process owns it.
    fn settle(&self, _: &Participant, _index: u32, process: u32) -> Result<()> {
        if self.owner() == Some(process) {
            lock::abandon(&self.word, process);
        }
        Ok(())
    }

    fn shares(&self, _: &Participant, _index: u32) -> Option<Vec<Share>> {
        Some(self.owner().map(|process| (process, None)).into_iter().collect())
    }
}

impl LockState {
    /// The number of the process that holds the lock.
    pub(crate) fn owner(&self) -> Option<u32> {
        lock::owner(&self.word)
    }

    pub(crate) fn is_recursive(&self) -> bool {
        self.recursive.load(Ordering::Relaxed) != 0
    }
}

/// Makes a lock that nobody holds.
pub(crate) fn create(participant: &Participant, recursive: bool) -> Result<Handle> {
    object::create(participant, participant.slot()?.register(Register::Segment), |lock: &LockState| {
        lock.word.store(0, Ordering::Relaxed);
        lock.recursive.store(u32::from(recursive), Ordering::Relaxed);
        lock.depth.store(0, Ordering::Relaxed);
        Ok(())
    })
}

/// Acquires a lock.
///
/// `AGAIN`, `TIMEDOUT`; `OWNERDEAD`, with the lock.
#[inline]
pub(crate) fn acquire(
    participant: &Participant,
    lock: Object<'_, LockState>,
    deadline: Deadline,
) -> Result<()> {
    let state = lock.state;
    if state.is_recursive() && state.owner() == Some(participant.index) {
        state.depth.store(state.depth.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        return Ok(());
    }
    let _operation = participant.begin(lock.index)?;
    let died = match lock::try_acquire_once(&state.word, participant.index, 0) {
        Some(died) => died,
        None if deadline == Deadline::NOW => return Err(Errno::Again),
        None => acquire_slowly(participant, lock, deadline)?,
    };
    state.depth.store(1, Ordering::Relaxed);
    if died { Err(Errno::Ownerdead) } else { Ok(()) }
}

#[cold]
fn acquire_slowly(
    participant: &Participant,
    lock: Object<'_, LockState>,
    deadline: Deadline,
) -> Result<bool> {
    let word = &lock.state.word;
    if let Some(died) = lock::try_acquire(word, participant.index, TRIES) {
        return Ok(died);
    }
    let is_endless = deadline == Deadline::NEVER;
    let note = is_endless.then(|| participant.note(Waiting::Lock(lock.index), word)).transpose()?;
    let acquired =
        lock::acquire(word, participant.index, deadline, || note.as_ref().is_some_and(Note::is_raised));
    if acquired == Err(Errno::Deadlock)
        && let Some(note) = note
    {
        note.keep();
    }
    acquired
}

/// Releases a lock once.
///
/// `OVERFLOW` if nobody holds the lock; `PERM` if the lock is recursive and another process holds it.
#[inline]
pub(crate) fn release(participant: &Participant, lock: Object<'_, LockState>) -> Result<()> {
    let state = lock.state;
    let owner = state.owner().ok_or(Errno::Overflow)?;
    if state.is_recursive() {
        if owner != participant.index {
            return Err(Errno::Perm);
        }
        let depth = state.depth.load(Ordering::Relaxed);
        if depth > 1 {
            state.depth.store(depth - 1, Ordering::Relaxed);
            return Ok(());
        }
    }
    let _operation = participant.begin(lock.index)?;
    if lock::release_any(&state.word) { Ok(()) } else { Err(Errno::Overflow) }
}

/// How often the caller holds the lock, or whether another process holds it.
pub(crate) fn held(participant: &Participant, lock: Object<'_, LockState>) -> i64 {
    match lock.state.owner() {
        None => 0,
        Some(owner) if owner == participant.index => i64::try_from(lock.state.depth.load(Ordering::Relaxed))
            .unwrap_or(ELSEWHERE - 1)
            .clamp(1, ELSEWHERE - 1),
        Some(_) => ELSEWHERE,
    }
}

/// Releases a lock that the caller holds, wholly, and returns how often the caller held it.
///
/// `PERM` if the caller doesn't hold the lock.
pub(super) fn release_wholly(participant: &Participant, lock: Object<'_, LockState>) -> Result<u64> {
    if lock.state.owner() != Some(participant.index) {
        return Err(Errno::Perm);
    }
    let depth = lock.state.depth.load(Ordering::Relaxed);
    let _operation = participant.begin(lock.index)?;
    lock::release_any(&lock.state.word);
    Ok(depth)
}

/// Acquires a lock `depth` times.
///
/// `OWNERDEAD`, with the lock.
pub(crate) fn acquire_again(
    participant: &Participant,
    lock: Object<'_, LockState>,
    depth: u64,
) -> Result<()> {
    let acquired = acquire(participant, lock, Deadline::NEVER);
    if matches!(acquired, Ok(()) | Err(Errno::Ownerdead)) {
        lock.state.depth.store(depth, Ordering::Relaxed);
    }
    acquired
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ipc::arena::{Arena, Geometry, Patience};
    use crate::ipc::sweep::{Sweep, sweep};

    /// The owner dies while another process waits for a condition with this lock.
    #[test]
    fn a_lock_is_held_as_often_as_before_a_wait_whoever_has_died() {
        let geometry = Geometry { processes_max: 2, objects_max: 4, heap_pages: 16 };
        let arena = Arc::new(Arena::create(geometry).unwrap().1);
        let participant = |index| Participant { arena: arena.clone(), index, patience: Patience::Brief };
        let [waiting, owner, supervisor] = [0, 1, 2].map(participant);
        let handle = create(&waiting, true).unwrap();
        object::share(&waiting, handle, owner.index).unwrap();
        let of = |participant| object::resolve::<LockState>(participant, handle).unwrap();
        for dies in [false, true] {
            (0..3).for_each(|_| acquire(&waiting, of(&waiting), Deadline::NOW).unwrap());
            assert_eq!(release_wholly(&waiting, of(&waiting)), Ok(3));
            acquire(&owner, of(&owner), Deadline::NOW).unwrap();
            if dies {
                sweep(Sweep::from_dead(owner.index, true), &supervisor).unwrap();
            } else {
                release(&owner, of(&owner)).unwrap();
            }
            let acquired = acquire_again(&waiting, of(&waiting), 3);
            assert_eq!(acquired, if dies { Err(Errno::Ownerdead) } else { Ok(()) });
            assert_eq!(held(&waiting, of(&waiting)), 3);
            (0..3).for_each(|_| release(&waiting, of(&waiting)).unwrap());
            assert_eq!(held(&waiting, of(&waiting)), 0);
        }
    }
}
