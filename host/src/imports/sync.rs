//! `sandpool_sync`. See [`sync`](crate::ipc::sync).

use sandpool_abi::Errno;
use sandpool_abi::sync::{ACTION, BOUNDED, MODULE, NOTIFIED, OWNER_DIED, RECURSIVE, RETURNED};
use wasmtime::{Caller, Linker};

use super::{apart, status, try_first, value, view, waiting_apart};
use crate::ipc::Result;
use crate::ipc::arena::Member;
use crate::ipc::kind::Listed;
use crate::ipc::object::{self, Handle, Object};
use crate::ipc::sync::barrier::{self, BarrierState};
use crate::ipc::sync::condition::{self, ConditionState};
use crate::ipc::sync::event::{self, EventState};
use crate::ipc::sync::lock::{self, LockState};
use crate::ipc::sync::semaphore::{self, SemaphoreState};
use crate::process::{Guest, Process};
use crate::sys::futex::Deadline;

pub(super) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    add_lock(linker)?;
    add_semaphore(linker)?;
    add_event(linker)?;
    add_condition(linker)?;
    add_barrier(linker)
}

/// The object of this handle, if it is of that kind.
fn object<S: Listed>(process: &Process, handle: i64) -> Result<Object<'_, S>> {
    object::resolve(process.member(), Handle(handle as u64))
}

/// Makes an object that the guest holds, and returns its handle.
fn created(process: &mut Process, create: impl Fn(&Member) -> Result<Handle>) -> Result<i64> {
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

fn add_lock(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.func_wrap(MODULE, "lock_create", |mut caller: Caller<'_, Guest>, options: i32| {
        value(apart(&mut caller, |process| {
            let recursive = flags(options, RECURSIVE)? != 0;
            created(process, |member| lock::create(member, recursive))
        }))
    })?;
    linker.func_wrap(
        MODULE,
        "lock_acquire",
        |mut caller: Caller<'_, Guest>, handle: i64, timeout: i64| {
            status(waiting_apart(&mut caller, |process| {
                let lock = object::<LockState>(process, handle)?;
                try_first(process, timeout, |deadline| lock::acquire(process.member(), lock, deadline))
            }))
        },
    )?;
    linker.func_wrap(MODULE, "lock_release", |mut caller: Caller<'_, Guest>, handle: i64| {
        status(apart(&mut caller, |process| {
            lock::release(process.member(), object::<LockState>(process, handle)?)
        }))
    })?;
    linker.func_wrap(MODULE, "lock_held", |mut caller: Caller<'_, Guest>, handle: i64| {
        value(apart(&mut caller, |process| {
            Ok(lock::held(process.member(), object::<LockState>(process, handle)?))
        }))
    })?;
    Ok(())
}

fn add_semaphore(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.func_wrap(
        MODULE,
        "semaphore_create",
        |mut caller: Caller<'_, Guest>, units: i64, options: i32| {
            value(apart(&mut caller, |process| {
                let options = flags(options, BOUNDED | RETURNED)?;
                let (bounded, returned) = (options & BOUNDED != 0, options & RETURNED != 0);
                let units = count(units)?;
                created(process, |member| semaphore::create(member, units, bounded, returned))
            }))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "semaphore_acquire",
        |mut caller: Caller<'_, Guest>, handle: i64, timeout: i64| {
            status(waiting_apart(&mut caller, |process| {
                let semaphore = object::<SemaphoreState>(process, handle)?;
                let acquire = |deadline| semaphore::acquire(process.member(), semaphore, deadline);
                try_first(process, timeout, acquire)
            }))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "semaphore_release",
        |mut caller: Caller<'_, Guest>, handle: i64, units: i64| {
            status(apart(&mut caller, |process| {
                let semaphore = object::<SemaphoreState>(process, handle)?;
                semaphore::release(process.member(), semaphore, count(units)?)
            }))
        },
    )?;
    linker.func_wrap(MODULE, "semaphore_value", |mut caller: Caller<'_, Guest>, handle: i64| {
        value(apart(&mut caller, |process| {
            Ok(object::<SemaphoreState>(process, handle)?.state.value() as i64)
        }))
    })?;
    linker.func_wrap(MODULE, "semaphore_died", |mut caller: Caller<'_, Guest>, handle: i64| {
        value(apart(
            &mut caller,
            |process| Ok(object::<SemaphoreState>(process, handle)?.state.died() as i64),
        ))
    })?;
    Ok(())
}

fn add_event(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.func_wrap(MODULE, "event_create", |mut caller: Caller<'_, Guest>| {
        value(apart(&mut caller, |process| created(process, event::create)))
    })?;
    linker.func_wrap(MODULE, "event_set", |mut caller: Caller<'_, Guest>, handle: i64| {
        status(apart(&mut caller, |process| {
            event::set(process.member(), object::<EventState>(process, handle)?)
        }))
    })?;
    linker.func_wrap(MODULE, "event_clear", |mut caller: Caller<'_, Guest>, handle: i64| {
        status(apart(&mut caller, |process| {
            event::clear(object::<EventState>(process, handle)?);
            Ok(())
        }))
    })?;
    linker.func_wrap(MODULE, "event_is_set", |mut caller: Caller<'_, Guest>, handle: i64| {
        value(apart(&mut caller, |process| {
            Ok(i64::from(object::<EventState>(process, handle)?.state.is_set()))
        }))
    })?;
    linker.func_wrap(MODULE, "event_wait", |mut caller: Caller<'_, Guest>, handle: i64, timeout: i64| {
        status(waiting_apart(&mut caller, |process| {
            let event = object::<EventState>(process, handle)?;
            try_first(process, timeout, |deadline| event::wait(process.member(), event, deadline))
        }))
    })?;
    Ok(())
}

fn add_condition(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.func_wrap(MODULE, "condition_create", |mut caller: Caller<'_, Guest>| {
        value(apart(&mut caller, |process| created(process, condition::create)))
    })?;
    linker.func_wrap(
        MODULE,
        "condition_wait",
        |mut caller: Caller<'_, Guest>, handle: i64, lock: i64, timeout: i64| {
            value(condition_wait(&mut caller, handle, lock, timeout))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "condition_notify",
        |mut caller: Caller<'_, Guest>, handle: i64, lock: i64, most: i64| {
            value(apart(&mut caller, |process| {
                let condition = object::<ConditionState>(process, handle)?;
                let lock = object::<LockState>(process, lock)?;
                Ok(condition::notify(process.member(), condition, lock, count(most)?)? as i64)
            }))
        },
    )?;
    Ok(())
}

fn condition_wait(caller: &mut Caller<'_, Guest>, handle: i64, lock: i64, timeout: i64) -> Result<i64> {
    let deadline = Deadline::after_nanos(timeout as u64);
    let depth = apart(caller, |process| {
        process.stdio.flush();
        let condition = object::<ConditionState>(process, handle)?;
        condition::enter(process.member(), condition, object::<LockState>(process, lock)?)
    })?;
    let notified = waiting_apart(caller, |process| {
        condition::wait(process.member(), object::<ConditionState>(process, handle)?, deadline)
    })?;
    let acquired = waiting_apart(caller, |process| {
        lock::acquire_again(process.member(), object::<LockState>(process, lock)?, depth)
    });
    let died = match acquired {
        Ok(()) => 0,
        Err(Errno::Ownerdead) => OWNER_DIED,
        Err(error) => return Err(error),
    };
    Ok(died | if notified { NOTIFIED } else { 0 })
}

fn add_barrier(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    linker.func_wrap(MODULE, "barrier_create", |mut caller: Caller<'_, Guest>, parties: i64| {
        value(apart(&mut caller, |process| {
            let parties = count(parties)?;
            created(process, |member| barrier::create(member, parties))
        }))
    })?;
    linker.func_wrap(
        MODULE,
        "barrier_wait",
        |mut caller: Caller<'_, Guest>, handle: i64, options: i32, timeout: i64| {
            value(barrier_wait(&mut caller, handle, options, timeout))
        },
    )?;
    linker.func_wrap(MODULE, "barrier_release", |mut caller: Caller<'_, Guest>, handle: i64| {
        status(apart(&mut caller, |process| {
            barrier::release(process.member(), object::<BarrierState>(process, handle)?)
        }))
    })?;
    linker.func_wrap(MODULE, "barrier_reset", |mut caller: Caller<'_, Guest>, handle: i64| {
        status(apart(&mut caller, |process| {
            barrier::reset(process.member(), object::<BarrierState>(process, handle)?)
        }))
    })?;
    linker.func_wrap(MODULE, "barrier_abort", |mut caller: Caller<'_, Guest>, handle: i64| {
        status(apart(&mut caller, |process| {
            barrier::abort(process.member(), object::<BarrierState>(process, handle)?)
        }))
    })?;
    linker.func_wrap(MODULE, "barrier_state", |mut caller: Caller<'_, Guest>, handle: i64, out: i32| {
        status(view(&mut caller).and_then(|mut view| {
            let barrier = object::<BarrierState>(view.process, handle)?.state;
            let (parties, waiting) = (barrier.parties(), barrier.waiting());
            let broken = u32::from(barrier.is_broken());
            let halves = |word: u64| (word as u32, (word >> 32) as u32);
            let ((a, b), (c, d)) = (halves(parties), halves(waiting));
            view.memory.store(out, [a, b, c, d, broken, 0])
        }))
    })?;
    Ok(())
}

fn barrier_wait(caller: &mut Caller<'_, Guest>, handle: i64, options: i32, timeout: i64) -> Result<i64> {
    let deadline = Deadline::after_nanos(timeout as u64);
    let acts = flags(options, ACTION)? != 0;
    let arrival = waiting_apart(caller, |process| {
        process.stdio.flush();
        barrier::arrive(process.member(), object::<BarrierState>(process, handle)?, acts, deadline)
    })?;
    waiting_apart(caller, |process| {
        barrier::wait(process.member(), object::<BarrierState>(process, handle)?, arrival, deadline)
    })
}
