//! Silence while a process drops its copies of values that it has moved into a new child, or sent to it. Destructors
//! run, and give back memory, files and handles; but only the child, with its own copies, tells others anything.

use std::io::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

static IS_ON: AtomicBool = AtomicBool::new(false);

#[inline]
pub(crate) fn is_on() -> bool {
    IS_ON.load(Ordering::Relaxed)
}

/// Drops a value silently.
pub(crate) fn drop<T>(value: T) {
    if std::mem::needs_drop::<T>() {
        set(true);
        std::mem::drop(value);
        // Bytes that are left in the buffer would be written later. The buffer was empty before, because everything is
        // flushed for a new process.
        let _ = std::io::stdout().flush();
        set(false);
    }
}

/// Does work that belongs to this process itself, also where it is part of a value that is dropped.
pub(crate) fn aloud<T>(work: impl FnOnce() -> T) -> T {
    let was_on = is_on();
    end();
    let done = work();
    if was_on {
        set(true);
    }
    done
}

/// Ends the silence after a destructor has panicked, because the panic must be reported.
pub(crate) fn end() {
    if is_on() {
        set(false);
    }
}

/// Sets the silence for files and standard streams, which the host handles.
fn set(is_on: bool) {
    IS_ON.store(is_on, Ordering::Relaxed);
    super::process::mute(is_on);
}
