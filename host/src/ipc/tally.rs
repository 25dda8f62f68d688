//! How much of an object each process holds: units of a semaphore, unfinished items of a queue.
//!
//! A few processes have an entry in the object itself. When those entries are taken, a run of heap pages follows, with
//! a word for each process that the arena allows. A lock of the object guards all of it. Every function here is called
//! in a critical section of that lock, and its changes become final with that section's commit.

use sandpool_abi::Errno;

use super::Result;
use super::arena::{PAGE, Participant};
use super::heap;
use super::lock::Guard;
use super::process_table::Register;
use super::states::ENTRIES;
pub(super) use super::states::Tally;
use crate::sys::atomic::{AtomicU64, Ordering};

/// The lower part of an entry.
const COUNT: u64 = (1 << 40) - 1;

impl Tally {
    /// Clears the counts, for a new object.
    pub(super) fn reset(&self) {
        for word in self.entries.iter().chain([&self.page]) {
            word.store(0, Ordering::Relaxed);
        }
    }

    /// The entry with this process's count, if it has one.
    fn find(&self, process: u32) -> Option<&AtomicU64> {
        // The entry that the process would have if no other process had one.
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
    fn paged<'a>(&self, participant: &'a Participant, process: u32) -> Result<Option<&'a AtomicU64>> {
        match self.page.load(Ordering::Relaxed) {
            0 => Ok(None),
            page if process < participant.arena.geometry.processes_max => {
                participant.arena.in_heap(page, u64::from(process) * 8).map(Some)
            }
            _ => Err(Errno::Io),
        }
    }

    /// Adds one to the caller's count.
    pub(super) fn add(&self, participant: &Participant, guard: &Guard<'_>) -> Result<()> {
        let process = participant.index;
        if let Some(entry) = self.find(process) {
            return guard.set(entry, entry.load(Ordering::Relaxed).wrapping_add(1));
        }
        if let Some(cell) = self.paged(participant, process)?
            && (cell.load(Ordering::Relaxed) != 0 || self.free(process).is_none())
        {
            return guard.set(cell, cell.load(Ordering::Relaxed).wrapping_add(1));
        }
        if let Some(entry) = self.free(process) {
            return guard.set(entry, (u64::from(process) + 1) << 40 | 1);
        }
        let register = participant.slot()?.register(Register::Segment);
        let bytes = (u64::from(participant.arena.geometry.processes_max) * 8).next_multiple_of(PAGE as u64);
        let page = heap::allocate(participant, bytes, register)?;
        participant.arena.clear(page, bytes)?;
        guard.set(&self.page, page)?;
        guard.set(register, 0)?;
        guard.set(participant.arena.in_heap(page, u64::from(process) * 8)?, 1)
    }

    /// Takes at most `count` from a process's count; returns how many it took.
    pub(super) fn take(
        &self,
        participant: &Participant,
        guard: &Guard<'_>,
        process: u32,
        count: u64,
    ) -> Result<u64> {
        if let Some(entry) = self.find(process) {
            let now = entry.load(Ordering::Relaxed);
            let taken = (now & COUNT).min(count);
            let left = now - taken;
            guard.set(entry, if left & COUNT == 0 { 0 } else { left })?;
            return Ok(taken);
        }
        let Some(cell) = self.paged(participant, process)? else { return Ok(0) };
        let now = cell.load(Ordering::Relaxed);
        let taken = now.min(count);
        guard.set(cell, now - taken)?;
        Ok(taken)
    }

    /// Takes one from some process that has any: from the caller if the caller has.
    pub(super) fn take_of_any(&self, participant: &Participant, guard: &Guard<'_>) -> Result<()> {
        if self.take(participant, guard, participant.index, 1)? == 1 {
            return Ok(());
        }
        let entries = self.entries.iter().map(|entry| entry.load(Ordering::Relaxed));
        let in_entry =
            entries.filter(|entry| entry & COUNT != 0).find_map(|entry| (entry >> 40).checked_sub(1));
        let some = match in_entry {
            Some(process) => u32::try_from(process).ok(),
            None if self.page.load(Ordering::Relaxed) == 0 => None,
            None => (0..participant.arena.geometry.processes_max)
                .find(|process| self.held_by(participant, *process) != 0),
        };
        if let Some(process) = some {
            self.take(participant, guard, process, 1)?;
        }
        Ok(())
    }

    /// How much a process holds.
    pub(crate) fn held_by(&self, participant: &Participant, process: u32) -> u64 {
        match self.find(process) {
            Some(entry) => entry.load(Ordering::Relaxed) & COUNT,
            None => {
                self.paged(participant, process).ok().flatten().map_or(0, |cell| cell.load(Ordering::Relaxed))
            }
        }
    }

    /// Puts the run of pages into the caller's register; the caller still has to free it. Returns whether there was
    /// one.
    pub(super) fn detach(&self, participant: &Participant, guard: &Guard<'_>) -> Result<bool> {
        let page = self.page.load(Ordering::Relaxed);
        if page != 0 {
            guard.set(participant.slot()?.register(Register::Segment), page)?;
            guard.set(&self.page, 0)?;
        }
        Ok(page != 0)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::ipc::arena::{Arena, Geometry, Patience};
    use crate::ipc::object;
    use crate::ipc::sync::semaphore::{self, SemaphoreState};

    const PROCESSES: u32 = 100;

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Add(u32),
        Take(u32, u64),
        /// Takes one of the process's, or one of another's.
        TakeOfAny(u32),
        /// The critical section is left with an error, or with its process.
        AddInVain(u32),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (0..PROCESSES).prop_map(Step::Add),
            3 => (0..PROCESSES, 0..4_u64).prop_map(|(process, count)| Step::Take(process, count)),
            1 => (0..PROCESSES).prop_map(|process| Step::Take(process, u64::MAX)),
            2 => (0..PROCESSES).prop_map(Step::TakeOfAny),
            1 => (0..PROCESSES).prop_map(Step::AddInVain),
        ];
        prop::collection::vec(step, 0..400)
    }

    /// A destruction that is done again after a death finds no page that is freed already.
    #[test]
    fn a_page_is_given_away_once() {
        let geometry = Geometry { processes_max: PROCESSES, objects_max: 4, heap_pages: 16 };
        let arena = Arc::new(Arena::create(geometry).unwrap().1);
        let participant = |index| Participant { arena: arena.clone(), index, patience: Patience::Brief };
        let maker = participant(0);
        let handle = semaphore::create(&maker, 1, false, false).unwrap();
        let semaphore = object::resolve::<SemaphoreState>(&maker, handle).unwrap().state;
        for process in 0..PROCESSES {
            let participant = participant(process);
            let guard = semaphore.lock.lock(&participant).unwrap();
            semaphore.held.add(&participant, &guard).unwrap();
            guard.commit();
        }
        let guard = semaphore.lock.lock(&maker).unwrap();
        let detach = || {
            let detached = semaphore.held.detach(&maker, &guard).unwrap();
            guard.commit();
            detached
        };
        assert!(detach());
        heap::free(&maker, maker.slot().unwrap().register(Register::Segment)).unwrap();
        assert_eq!(maker.arena.header().unwrap().heap.used_pages(), 0);
        assert!(!detach());
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

        /// Each process has the count that it has taken, and no page is needed as long as few processes have a count.
        #[test]
        fn each_process_has_a_count_of_its_own(steps in steps(), few in any::<bool>()) {
            let geometry = Geometry { processes_max: PROCESSES, objects_max: 4, heap_pages: 16 };
            let arena = Arc::new(Arena::create(geometry).unwrap().1);
            let participant = |index| Participant { arena: arena.clone(), index, patience: Patience::Brief };
            let maker = participant(0);
            // The heap has the bytes of objects that are gone.
            let register = maker.slot().unwrap().register(Register::Segment);
            let page = heap::allocate(&maker, 15 * PAGE as u64, register).unwrap();
            maker.arena.write(page, 0, &[0xff; 15 * PAGE]).unwrap();
            heap::free(&maker, register).unwrap();
            // The tally is part of an object of the arena, so that a journal can undo changes of it.
            let handle = semaphore::create(&maker, 1, false, false).unwrap();
            let semaphore = object::resolve::<SemaphoreState>(&maker, handle).unwrap().state;
            let (tally, used) = (&semaphore.held, || arena.header().unwrap().heap.used_pages());
            let mut counts = BTreeMap::<u32, u64>::new();
            for step in steps {
                let (Step::Add(process)
                | Step::Take(process, _)
                | Step::TakeOfAny(process)
                | Step::AddInVain(process)) = step;
                let participant = participant(process);
                let is_new = !counts.contains_key(&process);
                if few && is_new && counts.len() == ENTRIES {
                    continue;
                }
                let guard = semaphore.lock.lock(&participant).unwrap();
                match step {
                    Step::Add(_) => {
                        tally.add(&participant, &guard).unwrap();
                        *counts.entry(process).or_default() += 1;
                        guard.commit();
                    }
                    Step::Take(_, count) => {
                        let had = counts.remove(&process).unwrap_or(0);
                        let taken = tally.take(&participant, &guard, process, count).unwrap();
                        prop_assert_eq!(taken, had.min(count));
                        if had > taken {
                            counts.insert(process, had - taken);
                        }
                        guard.commit();
                    }
                    Step::TakeOfAny(_) => {
                        tally.take_of_any(&participant, &guard).unwrap();
                        guard.commit();
                        let from = match counts.contains_key(&process) {
                            true => Some(process),
                            false => {
                                let is_less = |of, had| tally.held_by(&participant, of) != had;
                                counts.iter().find(|(of, had)| is_less(**of, **had)).map(|(of, _)| *of)
                            }
                        };
                        prop_assert_eq!(from.is_none(), counts.is_empty());
                        if let Some(from) = from {
                            let left = counts.remove(&from).unwrap() - 1;
                            if left != 0 {
                                counts.insert(from, left);
                            }
                        }
                    }
                    Step::AddInVain(_) => tally.add(&participant, &guard).unwrap(),
                }
                drop(guard);
                // A page that was taken in vain is in the hands of the process that took it.
                let register = participant.slot().unwrap().register(Register::Segment);
                if register.load(Ordering::Relaxed) != 0 {
                    heap::free(&participant, register).unwrap();
                }
                prop_assert!(!few || used() == 0, "{} have some", counts.len());
                for process in 0..PROCESSES {
                    prop_assert_eq!(tally.held_by(&participant, process), counts.get(&process).copied().unwrap_or(0));
                }
            }
        }
    }
}
