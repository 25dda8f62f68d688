//! `sandpool_sync`. See [`sync`](crate::ipc::sync).

use sandpool_abi::Errno;
use sandpool_abi::sync::{ACTION, BOUNDED, NOTIFIED, OWNER_DIED, RECURSIVE, RETURNED};

use super::{Caller, apart, code, trying_apart, value, waiting_apart, with_memory};
use crate::ipc::Result;
use crate::ipc::arena::Participant;
use crate::ipc::kind::Listed;
use crate::ipc::object::{self, Handle, Object};
use crate::ipc::sync::barrier::{self, BarrierState};
use crate::ipc::sync::condition::{self, ConditionState};
use crate::ipc::sync::event::{self, EventState};
use crate::ipc::sync::lock::{self, LockState};
use crate::ipc::sync::semaphore::{self, SemaphoreState};
use crate::process::Process;
use crate::sys::futex::Deadline;

sandpool_abi::sync_imports!(provide);

/// The object of this handle, if it is of that kind.
fn object<S: Listed>(process: &Process, handle: i64) -> Result<Object<'_, S>> {
    object::resolve(process.participant(), Handle(handle as u64))
}

/// Makes an object that the guest holds, and returns its handle.
fn created(process: &mut Process, create: impl Fn(&Participant) -> Result<Handle>) -> Result<i64> {
    let handle = process.making(create)?;
    process.hold(handle);
    Ok(handle.0 as i64)
}

/// The flags, if all of them are `known`.
fn flags(flags: i32, known: u32) -> Result<u32> {
    if flags as u32 & !known == 0 { Ok(flags as u32) } else { Err(Errno::Inval) }
}

/// A count that isn't negative.
fn count(count: i64) -> Result<u64> {
    u64::try_from(count).map_err(|_| Errno::Inval)
}

#[inline]
fn lock_create(caller: &mut Caller<'_>, options: i32) -> i64 {
    value(apart(caller, |process| {
        let recursive = flags(options, RECURSIVE)? != 0;
        created(process, |participant| lock::create(participant, recursive))
    }))
}

#[inline]
fn lock_acquire(caller: &mut Caller<'_>, handle: i64, timeout: i64) -> i32 {
    code(trying_apart(caller, timeout, move |process, deadline| {
        lock::acquire(process.participant(), object::<LockState>(process, handle)?, deadline)
    }))
}

#[inline]
fn lock_release(caller: &mut Caller<'_>, handle: i64) -> i32 {
    code(apart(caller, |process| lock::release(process.participant(), object::<LockState>(process, handle)?)))
}

#[inline]
fn lock_held(caller: &mut Caller<'_>, handle: i64) -> i64 {
    value(apart(caller, |process| {
        Ok(lock::held(process.participant(), object::<LockState>(process, handle)?))
    }))
}

#[inline]
fn semaphore_create(caller: &mut Caller<'_>, units: i64, options: i32) -> i64 {
    value(apart(caller, |process| {
        let options = flags(options, BOUNDED | RETURNED)?;
        let (bounded, returned) = (options & BOUNDED != 0, options & RETURNED != 0);
        let units = count(units)?;
        created(process, |participant| semaphore::create(participant, units, bounded, returned))
    }))
}

#[inline]
fn semaphore_acquire(caller: &mut Caller<'_>, handle: i64, timeout: i64) -> i32 {
    code(trying_apart(caller, timeout, move |process, deadline| {
        semaphore::acquire(process.participant(), object::<SemaphoreState>(process, handle)?, deadline)
    }))
}

#[inline]
fn semaphore_release(caller: &mut Caller<'_>, handle: i64, units: i64) -> i32 {
    code(apart(caller, |process| {
        let semaphore = object::<SemaphoreState>(process, handle)?;
        semaphore::release(process.participant(), semaphore, count(units)?)
    }))
}

#[inline]
fn semaphore_value(caller: &mut Caller<'_>, handle: i64) -> i64 {
    value(apart(caller, |process| Ok(object::<SemaphoreState>(process, handle)?.state.value() as i64)))
}

#[inline]
fn semaphore_died(caller: &mut Caller<'_>, handle: i64) -> i64 {
    value(apart(caller, |process| Ok(object::<SemaphoreState>(process, handle)?.state.died() as i64)))
}

#[inline]
fn event_create(caller: &mut Caller<'_>) -> i64 {
    value(apart(caller, |process| created(process, event::create)))
}

#[inline]
fn event_set(caller: &mut Caller<'_>, handle: i64) -> i32 {
    code(apart(caller, |process| event::set(process.participant(), object::<EventState>(process, handle)?)))
}

#[inline]
fn event_clear(caller: &mut Caller<'_>, handle: i64) -> i32 {
    code(apart(caller, |process| {
        event::clear(object::<EventState>(process, handle)?);
        Ok(())
    }))
}

#[inline]
fn event_is_set(caller: &mut Caller<'_>, handle: i64) -> i64 {
    value(apart(caller, |process| Ok(i64::from(object::<EventState>(process, handle)?.state.is_set()))))
}

#[inline]
fn event_wait(caller: &mut Caller<'_>, handle: i64, timeout: i64) -> i32 {
    code(trying_apart(caller, timeout, move |process, deadline| {
        event::wait(process.participant(), object::<EventState>(process, handle)?, deadline)
    }))
}

#[inline]
fn condition_create(caller: &mut Caller<'_>) -> i64 {
    value(apart(caller, |process| created(process, condition::create)))
}

#[inline]
fn condition_wait(caller: &mut Caller<'_>, handle: i64, lock: i64, timeout: i64) -> i64 {
    value(wait_on_condition(caller, handle, lock, timeout))
}

#[inline]
fn condition_notify(caller: &mut Caller<'_>, handle: i64, lock: i64, most: i64) -> i64 {
    value(apart(caller, |process| {
        let condition = object::<ConditionState>(process, handle)?;
        let lock = object::<LockState>(process, lock)?;
        Ok(condition::notify(process.participant(), condition, lock, count(most)?)? as i64)
    }))
}

fn wait_on_condition(caller: &mut Caller<'_>, handle: i64, lock: i64, timeout: i64) -> Result<i64> {
    let deadline = Deadline::after_nanos(timeout as u64);
    let depth = apart(caller, |process| {
        process.stdio.flush();
        let condition = object::<ConditionState>(process, handle)?;
        condition::enter(process.participant(), condition, object::<LockState>(process, lock)?)
    })?;
    let notified = waiting_apart(caller, |process| {
        condition::wait(process.participant(), object::<ConditionState>(process, handle)?, deadline)
    })?;
    let acquired = waiting_apart(caller, |process| {
        lock::acquire_again(process.participant(), object::<LockState>(process, lock)?, depth)
    });
    let died = match acquired {
        Ok(()) => 0,
        Err(Errno::Ownerdead) => OWNER_DIED,
        Err(error) => return Err(error),
    };
    Ok(died | if notified { NOTIFIED } else { 0 })
}

#[inline]
fn barrier_create(caller: &mut Caller<'_>, parties: i64) -> i64 {
    value(apart(caller, |process| {
        let parties = count(parties)?;
        created(process, |participant| barrier::create(participant, parties))
    }))
}

#[inline]
fn barrier_wait(caller: &mut Caller<'_>, handle: i64, options: i32, timeout: i64) -> i64 {
    value(wait_at_barrier(caller, handle, options, timeout))
}

#[inline]
fn barrier_release(caller: &mut Caller<'_>, handle: i64) -> i32 {
    code(apart(caller, |process| {
        barrier::release(process.participant(), object::<BarrierState>(process, handle)?)
    }))
}

#[inline]
fn barrier_reset(caller: &mut Caller<'_>, handle: i64) -> i32 {
    code(apart(caller, |process| {
        barrier::reset(process.participant(), object::<BarrierState>(process, handle)?)
    }))
}

#[inline]
fn barrier_abort(caller: &mut Caller<'_>, handle: i64) -> i32 {
    code(apart(caller, |process| {
        barrier::abort(process.participant(), object::<BarrierState>(process, handle)?)
    }))
}

#[inline]
fn barrier_state(caller: &mut Caller<'_>, handle: i64, out: i32) -> i32 {
    code(with_memory(caller, |mut view| {
        let barrier = object::<BarrierState>(view.process, handle)?.state;
        let (parties, waiting) = (barrier.parties(), barrier.waiting());
        let broken = u32::from(barrier.is_broken());
        let halves = |word: u64| (word as u32, (word >> 32) as u32);
        let ((a, b), (c, d)) = (halves(parties), halves(waiting));
        view.memory.store(out, [a, b, c, d, broken, 0])
    }))
}

fn wait_at_barrier(caller: &mut Caller<'_>, handle: i64, options: i32, timeout: i64) -> Result<i64> {
    let deadline = Deadline::after_nanos(timeout as u64);
    let acts = flags(options, ACTION)? != 0;
    let arrival = waiting_apart(caller, |process| {
        process.stdio.flush();
        barrier::arrive(process.participant(), object::<BarrierState>(process, handle)?, acts, deadline)
    })?;
    waiting_apart(caller, |process| {
        barrier::wait(process.participant(), object::<BarrierState>(process, handle)?, arrival, deadline)
    })
}
