//! The memory of all processes of a run together, and the share of each: for the limit that no process dodges by
//! forking.
//!
//! A share stands in the slot of its process, and the sum beside the lock; both change in one commit. So the sum is
//! always the sum of the shares, whichever process dies at whatever instruction. The share goes with its slot: when the
//! process says that it has ended, or else when it is swept up. A run without that limit has no shares.

use sandpool_abi::Errno;

use super::Result;
use super::arena::Participant;
use super::layout::Budget;
#[cfg(test)]
use super::lock::Lock;
use crate::sys::atomic::Ordering;

impl Budget {
    /// Frees the lock of a process that is dead.
    pub(super) fn abandon(&self, dead: u32) {
        self.lock.abandon(dead);
    }

    /// Undoes a change that a dead process had begun.
    pub(super) fn recover(&self, supervisor: &Participant) -> Result<()> {
        self.lock.lock(supervisor).map(drop)
    }

    /// The lock, for tests of what happens while another process holds it.
    #[cfg(test)]
    pub(super) fn lock_word(&self) -> &Lock {
        &self.lock
    }

    /// Bytes of all processes together.
    #[cfg(test)]
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

/// Adds `bytes` to the share of a slot, if all processes together then have no more than `max`.
///
/// `RUNMEM`
pub(crate) fn take(participant: &Participant, index: u32, bytes: u64, max: u64) -> Result<()> {
    let budget = &participant.arena.header()?.memory;
    let share = &participant.arena.process(index)?.memory;
    let guard = budget.lock.lock(participant)?;
    let used = budget.used.load(Ordering::Relaxed).checked_add(bytes).filter(|used| *used <= max);
    guard.set(&budget.used, used.ok_or(Errno::Runmem)?)?;
    guard.set(share, share.load(Ordering::Relaxed).saturating_add(bytes))?;
    guard.commit();
    Ok(())
}

/// Gives the whole share of a slot back.
pub(crate) fn give_back(participant: &Participant, index: u32) -> Result<()> {
    let share = &participant.arena.process(index)?.memory;
    if share.load(Ordering::Relaxed) == 0 {
        return Ok(());
    }
    let budget = &participant.arena.header()?.memory;
    let guard = budget.lock.lock(participant)?;
    let used = budget.used.load(Ordering::Relaxed);
    guard.set(&budget.used, used.saturating_sub(share.load(Ordering::Relaxed)))?;
    guard.set(share, 0)?;
    guard.commit();
    Ok(())
}
