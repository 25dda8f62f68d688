//! How a guest process ends, and what it says of it.

use sandpool_abi::process::{EXITED, LIMITED, Limit, TRAPPED, Trap};
use wasmtime_wasi::I32Exit;

use super::Guest;
use crate::engine::trap;
use crate::ipc::process_table::Outcome;
use crate::sys::process::exit_now;

/// The operating system's exit code of a process that trapped or hit a limit: 128 + SIGABRT, as wasmtime's own.
pub(crate) const TRAP_CODE: i32 = 134;

/// Ends the process after its `_start` has ended with `result`.
///
/// One that returned or called exit first does what Python's does: it ends its daemonic children and waits for the
/// others. One that trapped doesn't: it has crashed.
pub(crate) fn finish(guest: &mut Guest, name: &str, result: wasmtime::Result<()>) -> ! {
    let process = &guest.process;
    let (outcome, code) = match result {
        Ok(()) => exited(0),
        Err(error) => match error.downcast_ref::<I32Exit>() {
            Some(I32Exit(code)) => exited(*code),
            None => {
                process.stdio.report(&format!("error: process '{name}' trapped: {}\n", trap::report(&error)));
                let trap = trap::classify(&error).unwrap_or(Trap::Other);
                let outcome = if guest.memory_limit.was_hit {
                    Outcome { kind: LIMITED, detail: Limit::Memory as u32 }
                } else {
                    Outcome { kind: TRAPPED, detail: trap as u32 }
                };
                (outcome, TRAP_CODE)
            }
        },
    };
    process.stdio.flush();
    if outcome.kind == EXITED {
        process.end_children();
    }
    if let Ok(slot) = process.member.slot() {
        slot.claim(outcome);
    }
    exit_now(code)
}

fn exited(code: i32) -> (Outcome, i32) {
    let code = code & 0xff;
    (Outcome { kind: EXITED, detail: code as u32 }, code)
}
