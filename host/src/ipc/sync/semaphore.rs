//! `Semaphore` and `BoundedSemaphore`.
//!
//! A semaphore counts its free units and, in the same commit, how many units each process holds. So when a process
//! ends, the semaphore knows the units that went with it, and returns them if that was asked for.

use sandpool_abi::Errno;
use sandpool_abi::sync::BOUNDED;

use crate::ipc::Result;
use crate::ipc::arena::Participant;
use crate::ipc::event::Event;
use crate::ipc::heap;
use crate::ipc::kind::{self, ObjectState, Share};
use crate::ipc::lock::Lock;
use crate::ipc::object::{self, Handle, Object};
use crate::ipc::process_table::Register;
pub(crate) use crate::ipc::states::SemaphoreState;
use crate::ipc::waiting::Waiting;
use crate::sys::atomic::Ordering;
use crate::sys::futex::Deadline;

/// More units than any program counts.
const VALUE_MAX: u64 = 1 << 62;

impl ObjectState for SemaphoreState {
    fn flags(&self) -> u32 {
        if self.bounded.load(Ordering::Relaxed) != 0 { BOUNDED } else { 0 }
    }

    fn locks<'a>(&'a self, _: &'a Participant) -> Result<Vec<&'a Lock>> {
        Ok(vec![&self.lock])
    }

    fn events<'a>(&'a self, _: &'a Participant) -> Result<Vec<&'a Event>> {
        Ok(vec![&self.freed])
    }

    /// Counts the units that the process holds as died, and returns them if that was asked for.
    fn settle(&self, participant: &Participant, index: u32, process: u32) -> Result<()> {
        let _operation = participant.begin(index)?;
        let guard = self.lock.lock(participant)?;
        let held = self.held.take(participant, &guard, process, u64::MAX)?;
        if held == 0 {
            return Ok(());
        }
        guard.set(&self.died, self.died().wrapping_add(held))?;
        if self.returned.load(Ordering::Relaxed) != 0 {
            let value = self.value().saturating_add(held).min(self.bound.load(Ordering::Relaxed));
            guard.set(&self.value, value)?;
        }
        guard.commit();
        drop(guard);
        self.freed.notify_all(&participant.arena);
        Ok(())
    }

    /// Gives the memory of the tally back, in one step.
    fn destroy_some(&self, participant: &Participant, _unused: &mut Vec<u32>) -> Result<bool> {
        let guard = self.lock.lock(participant)?;
        let detached = self.held.detach(participant, &guard)?;
        guard.commit();
        drop(guard);
        if detached {
            heap::free(participant, participant.slot()?.register(Register::Segment))?;
        }
        Ok(true)
    }

    fn shares(&self, participant: &Participant, index: u32) -> Option<Vec<Share>> {
        kind::shares_of_holders(participant, index, |process| self.held_by(participant, process))
    }
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

    /// How many units a process holds.
    pub(crate) fn held_by(&self, participant: &Participant, process: u32) -> u64 {
        self.held.held_by(participant, process)
    }
}

/// Makes a semaphore with `value` units.
///
/// `INVAL` if `value` is too large.
pub(crate) fn create(participant: &Participant, value: u64, bounded: bool, returned: bool) -> Result<Handle> {
    if value > VALUE_MAX {
        return Err(Errno::Inval);
    }
    object::create(
        participant,
        participant.slot()?.register(Register::Segment),
        |semaphore: &SemaphoreState| {
            semaphore.value.store(value, Ordering::Relaxed);
            semaphore.bound.store(if bounded { value } else { VALUE_MAX }, Ordering::Relaxed);
            semaphore.bounded.store(u64::from(bounded), Ordering::Relaxed);
            semaphore.returned.store(u64::from(returned), Ordering::Relaxed);
            semaphore.died.store(0, Ordering::Relaxed);
            semaphore.held.reset();
            Ok(())
        },
    )
}

/// Acquires one unit.
///
/// `AGAIN`, `TIMEDOUT`.
pub(crate) fn acquire(
    participant: &Participant,
    object: Object<'_, SemaphoreState>,
    deadline: Deadline,
) -> Result<()> {
    let semaphore = object.state;
    let _operation = participant.begin(object.index)?;
    loop {
        if semaphore.value() != 0 {
            let guard = semaphore.lock.lock(participant)?;
            let value = semaphore.value();
            if value != 0 {
                semaphore.held.add(participant, &guard)?;
                guard.set(&semaphore.value, value - 1)?;
                guard.commit();
                return Ok(());
            }
        }
        let ready = || semaphore.value() != 0;
        semaphore.freed.wait(participant, Waiting::Semaphore(object.index), deadline, ready)?;
    }
}

/// Releases units, whichever process acquired them.
///
/// `OVERFLOW`, and nothing is released, if there would be too many units.
pub(crate) fn release(
    participant: &Participant,
    object: Object<'_, SemaphoreState>,
    count: u64,
) -> Result<()> {
    let semaphore = object.state;
    let _operation = participant.begin(object.index)?;
    let guard = semaphore.lock.lock(participant)?;
    let value = semaphore.value().saturating_add(count);
    if value > semaphore.bound.load(Ordering::Relaxed) {
        return Err(Errno::Overflow);
    }
    semaphore.held.take(participant, &guard, participant.index, count)?;
    guard.set(&semaphore.value, value)?;
    guard.commit();
    match count {
        1 => semaphore.freed.unlock_and_notify_one(guard, &participant.arena),
        _ => semaphore.freed.unlock_and_notify_all(guard, &participant.arena),
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ipc::arena::{Arena, Geometry, Patience};
    use crate::ipc::sweep::{Sweep, sweep};

    const PROCESSES: u32 = 3;

    /// The units, free and lost, of a semaphore of two after one process has acquired both, another has released some
    /// of them, and the first has died. The process that has released them can't release one too many then either.
    fn after_the_death(bounded: bool, returned: bool, released: u64) -> (u64, u64) {
        let geometry = Geometry { processes_max: PROCESSES, objects_max: 4, heap_pages: 16 };
        let arena = Arc::new(Arena::create(geometry).unwrap().1);
        let participant = |index| Participant { arena: arena.clone(), index, patience: Patience::Brief };
        let [other, holder, supervisor] = [0, 1, PROCESSES].map(participant);
        let handle = create(&other, 2, bounded, returned).unwrap();
        object::share(&other, handle, holder.index).unwrap();
        for _ in 0..2 {
            acquire(&holder, object::resolve(&holder, handle).unwrap(), Deadline::NOW).unwrap();
        }
        let semaphore = object::resolve::<SemaphoreState>(&other, handle).unwrap();
        assert_eq!(acquire(&other, semaphore, Deadline::NOW), Err(Errno::Again));
        if released != 0 {
            release(&other, semaphore, released).unwrap();
        }
        sweep(Sweep::from_dead(holder.index, true), &supervisor).unwrap();
        let state = semaphore.state;
        assert_eq!(state.held_by(&other, holder.index), 0);
        let (value, died) = (state.value(), state.died());
        if bounded {
            assert_eq!(release(&other, semaphore, 3 - value.min(2)), Err(Errno::Overflow));
        }
        (value, died)
    }

    #[test]
    fn units_that_another_has_released_are_not_had_twice() {
        for (released, value) in [(0, 2), (1, 2), (2, 2)] {
            assert_eq!(after_the_death(true, true, released), (value, 2), "{released} released");
        }
        // If units of dead processes aren't returned, the free units are those that were released.
        for released in 0..=2 {
            assert_eq!(after_the_death(true, false, released), (released, 2), "{released} released");
        }
    }

    #[test]
    fn a_semaphore_without_a_bound_has_what_was_released_and_what_is_returned() {
        for released in [0, 1, 5] {
            assert_eq!(after_the_death(false, true, released), (2 + released, 2));
            assert_eq!(after_the_death(false, false, released), (released, 2));
        }
    }

    /// A process has given back units before it dies.
    #[test]
    fn what_a_process_has_released_is_not_lost_with_it() {
        for released in 0..=3 {
            let geometry = Geometry { processes_max: PROCESSES, objects_max: 4, heap_pages: 16 };
            let arena = Arc::new(Arena::create(geometry).unwrap().1);
            let participant = |index| Participant { arena: arena.clone(), index, patience: Patience::Brief };
            let [other, holder, supervisor] = [0, 1, PROCESSES].map(participant);
            let handle = create(&other, 3, true, false).unwrap();
            object::share(&other, handle, holder.index).unwrap();
            let of = || object::resolve::<SemaphoreState>(&holder, handle).unwrap();
            (0..3).for_each(|_| acquire(&holder, of(), Deadline::NOW).unwrap());
            if released != 0 {
                release(&holder, of(), released).unwrap();
            }
            sweep(Sweep::from_dead(holder.index, true), &supervisor).unwrap();
            let state = object::resolve::<SemaphoreState>(&other, handle).unwrap().state;
            assert_eq!((state.value(), state.died()), (released, 3 - released));
        }
    }

    #[test]
    fn no_semaphore_has_more_than_can_be_counted() {
        let geometry = Geometry { processes_max: 1, objects_max: 4, heap_pages: 16 };
        let participant = Participant {
            arena: Arc::new(Arena::create(geometry).unwrap().1),
            index: 0,
            patience: Patience::Brief,
        };
        assert_eq!(create(&participant, VALUE_MAX + 1, false, false), Err(Errno::Inval));
        let handle = create(&participant, VALUE_MAX - 1, false, false).unwrap();
        let semaphore = object::resolve::<SemaphoreState>(&participant, handle).unwrap();
        for count in [2, 1 << 63, u64::MAX] {
            assert_eq!(release(&participant, semaphore, count), Err(Errno::Overflow), "{count}");
        }
        release(&participant, semaphore, 1).unwrap();
        assert_eq!(semaphore.state.value(), VALUE_MAX);
    }

    /// More processes hold units than a semaphore has entries for, so that their counts lie in a page.
    #[test]
    fn the_page_of_counts_goes_with_the_semaphore() {
        const MANY: u32 = 50;
        let geometry = Geometry { processes_max: MANY, objects_max: 4, heap_pages: 16 };
        let arena = Arc::new(Arena::create(geometry).unwrap().1);
        let participant = |index| Participant { arena: arena.clone(), index, patience: Patience::Brief };
        let maker = participant(0);
        let handle = create(&maker, u64::from(MANY), false, false).unwrap();
        (1..MANY).for_each(|index| object::share(&maker, handle, index).unwrap());
        for participant in (0..MANY).map(participant) {
            acquire(&participant, object::resolve(&participant, handle).unwrap(), Deadline::NOW).unwrap();
        }
        let used = || arena.header().unwrap().heap.used_pages();
        assert_ne!(used(), 0);
        (0..MANY).map(participant).for_each(|participant| object::release(&participant, handle).unwrap());
        assert_eq!((object::count_live(&arena), used()), (Ok(0), 0));
    }
}
