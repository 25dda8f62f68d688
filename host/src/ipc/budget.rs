//! The memory of all processes of a run together, and each one's share: for the limit that nobody dodges by forking.
//!
//! A share stands in the slot of its process, and the sum beside the lock; both change in one commit. So whoever dies, at
//! whatever instruction, the sum is that of the shares, and the share goes with its slot: when the process says that it
//! has ended, or else when it is swept up behind. A run without that limit has no shares.

use sandpool_abi::Errno;

use super::Result;
use super::arena::Member;
use super::lock::Lock;
use crate::sys::atomic::{AtomicU64, Ordering};
use crate::sys::mem::shared;

shared! {
    /// What all have together.
    pub(crate) struct Budget {
        lock: Lock,
        used: AtomicU64,
    }
}

impl Budget {
    /// Frees the lock of a process that is dead.
    pub(super) fn abandon(&self, dead: u32) {
        self.lock.abandon(dead);
    }

    /// Undoes what a process had begun that is dead.
    pub(super) fn recover(&self, supervisor: &Member) -> Result<()> {
        self.lock.lock(supervisor).map(drop)
    }

    /// Its lock, for tests of what happens while somebody holds it.
    #[cfg(test)]
    pub(super) fn lock_word(&self) -> &Lock {
        &self.lock
    }

    /// Bytes that all have together.
    #[cfg(test)]
    pub(super) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }
}

/// Adds so many bytes to the share of a slot, if all together then have no more than `max`.
///
/// `RUNMEM`
pub(crate) fn take(member: &Member, index: u32, bytes: u64, max: u64) -> Result<()> {
    let budget = &member.arena.header()?.memory;
    let share = &member.arena.process(index)?.memory;
    let guard = budget.lock.lock(member)?;
    let used = budget.used.load(Ordering::Relaxed).checked_add(bytes).filter(|used| *used <= max);
    guard.set(&budget.used, used.ok_or(Errno::Runmem)?)?;
    guard.set(share, share.load(Ordering::Relaxed).saturating_add(bytes))?;
    guard.commit();
    Ok(())
}

/// Gives the share of a slot back, all of it.
pub(crate) fn give_back(member: &Member, index: u32) -> Result<()> {
    let share = &member.arena.process(index)?.memory;
    if share.load(Ordering::Relaxed) == 0 {
        return Ok(());
    }
    let budget = &member.arena.header()?.memory;
    let guard = budget.lock.lock(member)?;
    let used = budget.used.load(Ordering::Relaxed);
    guard.set(&budget.used, used.saturating_sub(share.load(Ordering::Relaxed)))?;
    guard.set(share, 0)?;
    guard.commit();
    Ok(())
}
