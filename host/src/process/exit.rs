//! The end of a guest process, and the process's report of it.

use std::sync::atomic::Ordering;

use sandpool_abi::process::{ABORTED_EXPORT, EXITED, Limit, TRAPPED, Trap};
use wasmtime::Store;

use super::program::Instance;
use super::stdio::OverLimit;
use super::{Guest, cpu_nanos};
use crate::engine::trap;
use crate::ipc::process_table::Outcome;
use crate::sys::process::exit_now;

/// The operating system's exit code of a process that trapped or hit a limit: 128 + SIGABRT, as wasmtime's own.
pub(crate) const TRAP_CODE: i32 = 134;

/// Ends a process whose guest has returned, or has called exit. First the process does what Python's does: it ends its
/// daemonic children and waits for the others; but before it waits, it gives back what it holds.
///
/// Called from within the guest's call of exit, whose frames are never returned to: nothing has to be unwound, and a
/// forked process that touches little of the memory that it shares with its parent starts and ends fast.
#[inline]
pub(crate) fn exit(guest: &Guest, code: i32) -> ! {
    let code = code & 0xff;
    guest.process.stdio.flush();
    guest.process.end_all_children(|| super::deadlock::report(guest, None));
    if guest.process.command.is_some() {
        super::task::finish_command(guest, code);
    }
    end(guest, Outcome::new(EXITED, code as u32), code)
}

/// Ends a worker, or a process that has done a task for one. No guest code runs, and the process doesn't wait: the
/// supervisor kills the children that are left.
pub(crate) fn exit_worker(guest: &Guest, code: i32) -> ! {
    guest.process.stdio.flush();
    end(guest, Outcome::new(EXITED, code as u32), code)
}

/// Ends a process that exceeds a limit before it has done anything.
pub(crate) fn refuse(guest: &Guest, limit: Limit) -> ! {
    let name = guest.process.name();
    guest.process.stdio.report(&format!("error: process '{name}' was limited: {limit}\n"));
    end(guest, Outcome::limited(limit), TRAP_CODE)
}

/// How often a guest may go on after a panic. A guest that panics again at once comes to its end soon.
const PANICS_MAX: u32 = 10_000;

/// Ends a process whose guest has trapped in a call. If the guest's language says that this was a panic, the process
/// ends as one that calls exit. A guest may also go on from there, and panic again.
pub(crate) fn trapped(store: &mut Store<Guest>, instance: &Instance, first: wasmtime::Error) -> ! {
    let mut later = None;
    for _ in 0..PANICS_MAX {
        let error = later.as_ref().unwrap_or(&first);
        if trap::classify(error) != Some(Trap::Unreachable) {
            crash(store.data(), error);
        }
        let aborted = instance
            .module()
            .and_then(|instance| instance.get_typed_func::<(), ()>(&mut *store, ABORTED_EXPORT).ok());
        let Some(aborted) = aborted else { crash(store.data(), error) };
        match aborted.call(&mut *store, ()) {
            Ok(()) => crash(store.data(), error),
            Err(next) => later = Some(next),
        }
    }
    crash(store.data(), &first)
}

/// Ends a process whose guest has trapped, and must not be called any more. The process has crashed, so it does nothing
/// for its children.
pub(crate) fn crash(guest: &Guest, error: &wasmtime::Error) -> ! {
    let name = guest.process.name();
    let (how, outcome) = match limit(guest, error) {
        Some(limit) => (format!("was limited: {limit}; "), Outcome::limited(limit)),
        None => {
            let trap = trap::classify(error).unwrap_or(Trap::Other);
            ("trapped: ".to_owned(), Outcome::new(TRAPPED, trap as u32))
        }
    };
    guest.process.stdio.report(&format!("error: process '{name}' {how}{}\n", trap::report(error)));
    end(guest, outcome, TRAP_CODE)
}

/// The limit that caused a trap, if one did.
fn limit(guest: &Guest, error: &wasmtime::Error) -> Option<Limit> {
    if let Some(OverLimit(limit)) = error.downcast_ref() {
        return Some(*limit);
    }
    if guest.growth.refused.is_some() {
        return guest.growth.refused;
    }
    if error.downcast_ref() == Some(&wasmtime::Trap::OutOfFuel) {
        return guest.process.limits.fuel.map(Limit::Fuel);
    }
    match trap::classify(error)? {
        Trap::StackOverflow => Some(Limit::Stack(guest.process.limits.stack_max)),
        _ => None,
    }
}

#[inline]
fn end(guest: &Guest, outcome: Outcome, code: i32) -> ! {
    if let Ok(slot) = guest.process.participant().slot() {
        if guest.process.is_host_worker {
            slot.cpu.store(cpu_nanos(), Ordering::Relaxed);
        }
        slot.claim(outcome);
        // At a limit of the run, the supervisor must be the first to know: the parent could end the run with an exit code of
        // its own.
        if !outcome.ends_the_run() {
            guest.process.leave();
        }
    }
    exit_now(code)
}
