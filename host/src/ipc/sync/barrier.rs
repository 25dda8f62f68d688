//! `Barrier`.
//!
//! ```text
//!              last one arrives                    last one has left
//!  Filling ───────────────────────▶ Draining ─────────────────────────▶ Filling
//!     │  └────────▶ Acting ────────────▲  │
//!     │  (an action)   │                  │ reset, with some inside ──▶ Resetting ──▶ Filling
//!     └────────────────┴── abort, time over, a process that waits ends ──▶ Broken
//! ```
//!
//! Each process inside has noted so in the commit that counted it: in its place of the process table, or, if the
//! process is to act, in the barrier. So the supervisor counts out a process that ends inside. An action may use the
//! place of its process meanwhile: it may wait for a condition, or at another barrier. A process that comes while
//! others leave waits outside.

use sandpool_abi::Errno;
use sandpool_abi::sync::ACT;

use crate::ipc::Result;
use crate::ipc::arena::Participant;
use crate::ipc::event::Event;
use crate::ipc::kind::ObjectState;
use crate::ipc::lock::{Guard, Lock};
use crate::ipc::object::{self, Handle, Object};
use crate::ipc::process_table::{Place, Register};
pub(crate) use crate::ipc::states::BarrierState;
use crate::ipc::waiting::Waiting;
use crate::sys::atomic::Ordering;
use crate::sys::futex::Deadline;

const FILLING: u64 = 0;
const DRAINING: u64 = 1;
const RESETTING: u64 = 2;
const BROKEN: u64 = 3;
const ACTING: u64 = 4;

impl ObjectState for BarrierState {
    fn locks<'a>(&'a self, _: &'a Participant) -> Result<Vec<&'a Lock>> {
        Ok(vec![&self.lock])
    }

    fn events<'a>(&'a self, _: &'a Participant) -> Result<Vec<&'a Event>> {
        Ok(vec![&self.changed])
    }

    /// Counts the process out; if others waited for it, the barrier breaks.
    fn settle(&self, participant: &Participant, index: u32, process: u32) -> Result<()> {
        let _operation = participant.begin(index)?;
        let guard = self.lock.lock(participant)?;
        let is_waited_for = self.is(FILLING) || self.is(ACTING);
        if !count_out(participant, index, self, &guard, process)? {
            return Ok(());
        }
        if is_waited_for {
            guard.set(&self.state, BROKEN)?;
        }
        guard.commit();
        drop(guard);
        self.changed.notify_all(&participant.arena);
        Ok(())
    }

    fn at_barrier(&self) -> Option<(u64, u64)> {
        Some((self.waiting(), self.parties()))
    }
}

impl BarrierState {
    pub(crate) fn parties(&self) -> u64 {
        self.parties.load(Ordering::Relaxed)
    }

    /// The number of processes that wait.
    pub(crate) fn waiting(&self) -> u64 {
        if self.is(FILLING) || self.is(ACTING) { self.inside.load(Ordering::Acquire) } else { 0 }
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.is(BROKEN)
    }

    fn is(&self, state: u64) -> bool {
        self.state.load(Ordering::Acquire) == state
    }

    fn has_actor(&self, process: u32) -> bool {
        self.actor.load(Ordering::Acquire) == number(process)
    }
}

/// The number that stands for a process.
fn number(process: u32) -> u64 {
    u64::from(process) + 1
}

/// Makes a barrier.
///
/// `INVAL` for no party.
pub(crate) fn create(participant: &Participant, parties: u64) -> Result<Handle> {
    if parties == 0 {
        return Err(Errno::Inval);
    }
    object::create(participant, participant.slot()?.register(Register::Segment), |barrier: &BarrierState| {
        barrier.parties.store(parties, Ordering::Relaxed);
        barrier.inside.store(0, Ordering::Relaxed);
        barrier.state.store(FILLING, Ordering::Relaxed);
        barrier.actor.store(0, Ordering::Relaxed);
        Ok(())
    })
}

/// The index of the caller, between the steps of [`wait`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Arrival(u64);

/// Waits until the barrier takes processes in, and goes inside.
///
/// `BROKEN`, also when the time is over before that: then the barrier breaks.
pub(crate) fn arrive(
    participant: &Participant,
    object: Object<'_, BarrierState>,
    acts: bool,
    deadline: Deadline,
) -> Result<Arrival> {
    let barrier = object.state;
    let _operation = participant.begin(object.index)?;
    loop {
        let guard = barrier.lock.lock(participant)?;
        let inside = barrier.inside.load(Ordering::Relaxed);
        if barrier.is_broken() {
            return Err(Errno::Broken);
        }
        if barrier.is(FILLING) {
            let is_last = inside.saturating_add(1) >= barrier.parties();
            if is_last && acts {
                guard.set(&barrier.actor, number(participant.index))?;
            } else {
                guard.set(&participant.slot()?.place.object, Place::of(object.index))?;
            }
            guard.set(&barrier.inside, inside.wrapping_add(1))?;
            if is_last {
                guard.set(&barrier.state, if acts { ACTING } else { DRAINING })?;
            }
            guard.commit();
            drop(guard);
            if is_last && !acts {
                barrier.changed.notify_all(&participant.arena);
            }
            return Ok(Arrival(inside));
        }
        drop(guard);
        let ready = || barrier.is(FILLING) || barrier.is_broken();
        match barrier.changed.wait(participant, Waiting::Barrier(object.index), deadline, ready) {
            Err(Errno::Again | Errno::Timedout) => {
                abort(participant, object)?;
                return Err(Errno::Broken);
            }
            result => result?,
        }
    }
}

/// Waits inside until all have come, and leaves. Returns the index, with `ACT` if the caller is to act first: then the
/// caller is still inside.
///
/// `BROKEN`, also when the time is over: then the barrier breaks.
pub(crate) fn wait(
    participant: &Participant,
    object: Object<'_, BarrierState>,
    arrival: Arrival,
    deadline: Deadline,
) -> Result<i64> {
    let barrier = object.state;
    let _operation = participant.begin(object.index)?;
    let over = || !barrier.is(FILLING) && !barrier.is(ACTING);
    let acts = || barrier.has_actor(participant.index) && barrier.is(ACTING);
    // Each look checks both: a reset whose process died before its commit hides for a moment that the caller is to act.
    let ready = || over() || acts();
    loop {
        while !ready() {
            match barrier.changed.wait(participant, Waiting::Barrier(object.index), deadline, ready) {
                Err(Errno::Again | Errno::Timedout) => break_unless(participant, object, ready)?,
                result => result?,
            }
        }
        if acts() {
            return Ok(arrival.0 as i64 | ACT);
        }
        // Taking the lock undoes the changes of a process that died before its commit.
        let guard = barrier.lock.lock(participant)?;
        if over() {
            let left_in = leave(participant, object.index, barrier, guard, participant.index)?;
            return if left_in == DRAINING { Ok(arrival.0 as i64) } else { Err(Errno::Broken) };
        }
    }
}

/// Lets the others go on, after the caller has acted.
///
/// `PERM` if the caller wasn't to act; `BROKEN`.
pub(crate) fn release(participant: &Participant, object: Object<'_, BarrierState>) -> Result<()> {
    let barrier = object.state;
    let _operation = participant.begin(object.index)?;
    if !barrier.has_actor(participant.index) {
        return Err(Errno::Perm);
    }
    {
        let guard = barrier.lock.lock(participant)?;
        if barrier.is(ACTING) {
            guard.set(&barrier.state, DRAINING)?;
            guard.commit();
        }
    }
    barrier.changed.notify_all(&participant.arena);
    let guard = barrier.lock.lock(participant)?;
    let left_in = leave(participant, object.index, barrier, guard, participant.index)?;
    if left_in == DRAINING { Ok(()) } else { Err(Errno::Broken) }
}

/// Breaks the barrier.
pub(crate) fn abort(participant: &Participant, object: Object<'_, BarrierState>) -> Result<()> {
    let _operation = participant.begin(object.index)?;
    break_unless(participant, object, || false)?;
    // The process that acts is still inside.
    leave(participant, object.index, object.state, object.state.lock.lock(participant)?, participant.index)?;
    Ok(())
}

fn break_unless(
    participant: &Participant,
    object: Object<'_, BarrierState>,
    over: impl Fn() -> bool,
) -> Result<()> {
    let guard = object.state.lock.lock(participant)?;
    if !over() {
        guard.set(&object.state.state, BROKEN)?;
        guard.commit();
    }
    drop(guard);
    object.state.changed.notify_all(&participant.arena);
    Ok(())
}

/// Makes the barrier as new, once the processes inside have left.
pub(crate) fn reset(participant: &Participant, object: Object<'_, BarrierState>) -> Result<()> {
    let barrier = object.state;
    let _operation = participant.begin(object.index)?;
    let guard = barrier.lock.lock(participant)?;
    let next = if barrier.inside.load(Ordering::Relaxed) == 0 { FILLING } else { RESETTING };
    if !barrier.is(DRAINING) {
        guard.set(&barrier.state, next)?;
    }
    guard.commit();
    drop(guard);
    barrier.changed.notify_all(&participant.arena);
    Ok(())
}

/// Counts a process out, if the process is inside. Returns the state in which the process left.
fn leave(
    participant: &Participant,
    index: u32,
    barrier: &BarrierState,
    guard: Guard<'_>,
    process: u32,
) -> Result<u64> {
    let state = barrier.state.load(Ordering::Relaxed);
    if count_out(participant, index, barrier, &guard, process)? {
        guard.commit();
        drop(guard);
        barrier.changed.notify_all(&participant.arena);
    }
    Ok(state)
}

/// Counts a process out, without a commit; returns whether the process was inside.
fn count_out(
    participant: &Participant,
    index: u32,
    barrier: &BarrierState,
    guard: &Guard<'_>,
    process: u32,
) -> Result<bool> {
    let place = &participant.arena.process(process)?.place;
    if barrier.has_actor(process) {
        guard.set(&barrier.actor, 0)?;
    } else if place.is_in(index) {
        guard.set(&place.object, 0)?;
    } else {
        return Ok(false);
    }
    let inside = barrier.inside.load(Ordering::Relaxed).saturating_sub(1);
    guard.set(&barrier.inside, inside)?;
    if inside == 0 && (barrier.is(DRAINING) || barrier.is(RESETTING)) {
        guard.set(&barrier.state, FILLING)?;
    }
    Ok(true)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ipc::arena::{Arena, Geometry, Patience};
    use crate::ipc::sweep::{Sweep, sweep};

    /// A barrier for two, and three processes that have it.
    fn barrier() -> ([Participant; 3], Handle) {
        let geometry = Geometry { processes_max: 3, objects_max: 4, heap_pages: 16 };
        let arena = Arc::new(Arena::create(geometry).unwrap().1);
        let participants =
            [0, 1, 2].map(|index| Participant { arena: arena.clone(), index, patience: Patience::Brief });
        let handle = create(&participants[0], 2).unwrap();
        [1, 2].into_iter().for_each(|index| object::share(&participants[0], handle, index).unwrap());
        (participants, handle)
    }

    fn of(participant: &Participant, handle: Handle) -> Object<'_, BarrierState> {
        object::resolve(participant, handle).unwrap()
    }

    fn comes(participant: &Participant, handle: Handle, acts: bool) -> Arrival {
        arrive(participant, of(participant, handle), acts, Deadline::NOW).unwrap()
    }

    fn leaves(participant: &Participant, handle: Handle, arrival: Arrival) -> Result<i64> {
        wait(participant, of(participant, handle), arrival, Deadline::NOW)
    }

    /// Two come, and both go on.
    fn is_as_new(one: &Participant, other: &Participant, handle: Handle) {
        let arrivals = [one, other].map(|participant| (participant, comes(participant, handle, false)));
        for (number, (participant, arrival)) in arrivals.into_iter().enumerate() {
            assert_eq!(leaves(participant, handle, arrival), Ok(number as i64));
        }
    }

    #[test]
    fn only_the_one_that_is_to_act_lets_the_others_go_on() {
        let ([first, last, other], handle) = barrier();
        let [arrived, acts] = [&first, &last].map(|participant| comes(participant, handle, true));
        assert_eq!(leaves(&last, handle, acts), Ok(1 | ACT));
        for participant in [&first, &other] {
            assert_eq!(release(participant, of(participant, handle)), Err(Errno::Perm));
        }
        assert_eq!((of(&first, handle).state.waiting(), of(&first, handle).state.is_broken()), (2, false));
        release(&last, of(&last, handle)).unwrap();
        assert_eq!(release(&last, of(&last, handle)), Err(Errno::Perm), "once");
        assert_eq!(leaves(&first, handle, arrived), Ok(0));
        is_as_new(&last, &other, handle);
    }

    #[test]
    fn a_reset_breaks_it_for_those_who_wait_and_for_nobody_else() {
        let ([first, last, other], handle) = barrier();
        let arrived = comes(&first, handle, false);
        reset(&other, of(&other, handle)).unwrap();
        assert_eq!(leaves(&first, handle, arrived), Err(Errno::Broken));
        is_as_new(&first, &last, handle);
        // All have come, so these go on.
        let arrivals = [&first, &last].map(|participant| (participant, comes(participant, handle, false)));
        reset(&other, of(&other, handle)).unwrap();
        for (number, (participant, arrival)) in arrivals.into_iter().enumerate() {
            assert_eq!(leaves(participant, handle, arrival), Ok(number as i64));
        }
        is_as_new(&other, &first, handle);
    }

    #[test]
    fn after_an_action_that_failed_it_can_be_reset() {
        let ([first, last, other], handle) = barrier();
        let [arrived, acts] = [&first, &last].map(|participant| comes(participant, handle, true));
        assert_eq!(leaves(&last, handle, acts), Ok(1 | ACT));
        abort(&last, of(&last, handle)).unwrap();
        assert_eq!(leaves(&first, handle, arrived), Err(Errno::Broken));
        assert_eq!(arrive(&other, of(&other, handle), false, Deadline::NOW), Err(Errno::Broken));
        reset(&other, of(&other, handle)).unwrap();
        is_as_new(&first, &other, handle);
    }

    /// Nothing of an earlier use is counted when it dies.
    #[test]
    fn a_process_that_has_left_is_not_waited_for() {
        let ([first, last, other], handle) = barrier();
        let [arrived, acts] = [&first, &last].map(|participant| comes(participant, handle, true));
        assert_eq!(leaves(&last, handle, acts), Ok(1 | ACT));
        release(&last, of(&last, handle)).unwrap();
        leaves(&first, handle, arrived).unwrap();
        is_as_new(&first, &last, handle);
        let arrived = comes(&first, handle, false);
        let supervisor = Participant { index: 3, ..other.clone() };
        sweep(Sweep::from_dead(last.index, true), &supervisor).unwrap();
        assert_eq!(comes(&other, handle, false), Arrival(1));
        assert_eq!(leaves(&first, handle, arrived), Ok(0));
    }

    /// The process that came too late for this use was to be inside of the next one.
    #[test]
    fn a_barrier_that_takes_nobody_in_before_the_time_is_over_breaks() {
        let ([first, last, other], handle) = barrier();
        let arrivals = [&first, &last].map(|participant| (participant, comes(participant, handle, false)));
        assert_eq!(arrive(&other, of(&other, handle), false, Deadline::NOW), Err(Errno::Broken));
        assert!(of(&other, handle).state.is_broken());
        for (participant, arrival) in arrivals {
            assert_eq!(leaves(participant, handle, arrival), Err(Errno::Broken));
        }
        reset(&other, of(&other, handle)).unwrap();
        is_as_new(&first, &other, handle);
    }
}
