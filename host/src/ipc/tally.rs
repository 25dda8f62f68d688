//! How much of an object each process holds: units of a semaphore, items of a queue that aren't done with.
//!
//! A few processes have an entry in the object itself. When those are taken, a run of heap pages follows, with a word
//! for each process that there can be. All of it is guarded by a lock of the object, in whose critical section every
//! function here is called; what it changes becomes final with that section's commit.

use sandpool_abi::Errno;

use super::Result;
use super::arena::{Member, PAGE};
use super::heap;
use super::lock::Guard;
use super::process_table::Register;
use crate::sys::atomic::{AtomicU64, Ordering};
use crate::sys::mem::shared;

const ENTRIES: usize = 39;
/// The lower part of an entry.
const COUNT: u64 = (1 << 40) - 1;

shared! {
    /// A count for each process.
    pub(crate) struct Tally {
        /// count: bits 0 to 39, number of the process plus 1: bits 40 to 63; 0 if it is free
        entries: [AtomicU64; ENTRIES],
        /// first page of the counts of all who have no entry
        page: AtomicU64,
    }
}

impl Tally {
    /// For a new object.
    pub(super) fn reset(&self) {
        for word in self.entries.iter().chain([&self.page]) {
            word.store(0, Ordering::Relaxed);
        }
    }

    /// Where this process's count stands, if it has any.
    fn find(&self, process: u32) -> Option<&AtomicU64> {
        // Where it would be if nobody else were there.
        let start = process as usize % ENTRIES;
        let (before, from) = self.entries.split_at_checked(start)?;
        let is_its = |entry: &&AtomicU64| entry.load(Ordering::Relaxed) >> 40 == u64::from(process) + 1;
        from.iter().chain(before).find(is_its)
    }

    fn free(&self, process: u32) -> Option<&AtomicU64> {
        let (before, from) = self.entries.split_at_checked(process as usize % ENTRIES)?;
        from.iter().chain(before).find(|entry| entry.load(Ordering::Relaxed) == 0)
    }

    /// The count of a process in the run of pages, if there is one.
    fn paged<'a>(&self, member: &'a Member, process: u32) -> Result<Option<&'a AtomicU64>> {
        match self.page.load(Ordering::Relaxed) {
            0 => Ok(None),
            page if process < member.arena.geometry.processes_max => {
                member.arena.in_heap(page, u64::from(process) * 8).map(Some)
            }
            _ => Err(Errno::Io),
        }
    }

    /// One more for the caller.
    pub(super) fn add(&self, member: &Member, guard: &Guard<'_>) -> Result<()> {
        let process = member.index;
        if let Some(entry) = self.find(process) {
            return guard.set(entry, entry.load(Ordering::Relaxed).wrapping_add(1));
        }
        if let Some(cell) = self.paged(member, process)?
            && (cell.load(Ordering::Relaxed) != 0 || self.free(process).is_none())
        {
            return guard.set(cell, cell.load(Ordering::Relaxed).wrapping_add(1));
        }
        if let Some(entry) = self.free(process) {
            return guard.set(entry, (u64::from(process) + 1) << 40 | 1);
        }
        let register = member.slot()?.register(Register::Segment);
        let bytes = (u64::from(member.arena.geometry.processes_max) * 8).next_multiple_of(PAGE as u64);
        let page = heap::allocate(member, bytes, register)?;
        member.arena.clear(page, bytes)?;
        guard.set(&self.page, page)?;
        guard.set(register, 0)?;
        guard.set(member.arena.in_heap(page, u64::from(process) * 8)?, 1)
    }

    /// At most `count` less for a process; how many it were.
    pub(super) fn take(&self, member: &Member, guard: &Guard<'_>, process: u32, count: u64) -> Result<u64> {
        if let Some(entry) = self.find(process) {
            let now = entry.load(Ordering::Relaxed);
            let taken = (now & COUNT).min(count);
            let left = now - taken;
            guard.set(entry, if left & COUNT == 0 { 0 } else { left })?;
            return Ok(taken);
        }
        let Some(cell) = self.paged(member, process)? else { return Ok(0) };
        let now = cell.load(Ordering::Relaxed);
        let taken = now.min(count);
        guard.set(cell, now - taken)?;
        Ok(taken)
    }

    /// How much a process holds.
    pub(crate) fn held_by(&self, member: &Member, process: u32) -> u64 {
        match self.find(process) {
            Some(entry) => entry.load(Ordering::Relaxed) & COUNT,
            None => self.paged(member, process).ok().flatten().map_or(0, |cell| cell.load(Ordering::Relaxed)),
        }
    }

    /// Puts the run of pages into the caller's register, from which it is still to be freed. Whether there was one.
    pub(super) fn detach(&self, member: &Member, guard: &Guard<'_>) -> Result<bool> {
        let page = self.page.load(Ordering::Relaxed);
        if page != 0 {
            guard.set(member.slot()?.register(Register::Segment), page)?;
            guard.set(&self.page, 0)?;
        }
        Ok(page != 0)
    }
}
