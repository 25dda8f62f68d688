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
