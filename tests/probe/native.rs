//! Attempts of native code in the place of a guest's.
#![allow(unsafe_code, reason = "native code is what a guest has that has broken out of WebAssembly")]

use nix::libc;

/// Does what the arguments name, if the first one is `native`.
pub(crate) fn act(args: &[String]) -> Option<u8> {
    let [first, action, ..] = args else { return None };
    (first == "native").then(|| match action.as_str() {
        "nothing" => 0,
        "abort" => std::process::abort(),
        "clock_gettime" => clock_gettime(),
        "fault" => fault(),
        "futex_wait" => futex_wait(),
        "hide" => hide(),
        _ => 2,
    })
}

/// The kernel's own clock, past the vDSO.
fn clock_gettime() -> u8 {
    // SAFETY: a timespec is integers only, for which zero is valid.
    let mut now: libc::timespec = unsafe { std::mem::zeroed() };
    // SAFETY: the pointer is to a live timespec.
    u8::from(unsafe { libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_MONOTONIC, &raw mut now) } != 0)
}

/// As the C library waits for a lock that another thread has; but there is nothing to wait for.
fn futex_wait() -> u8 {
    let word = 0_u32;
    let op = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the word is alive, and isn't what is waited for, so that the call comes back at once.
    let done =
        unsafe { libc::syscall(libc::SYS_futex, &raw const word, op, 1, std::ptr::null::<libc::timespec>()) };
    u8::from(done == 0)
}

/// A write to memory that may only be read, as host code does that fills memory.
fn fault() -> u8 {
    static READ_ONLY: u8 = 0;
    // SAFETY: the program's own constants can't be written to: this ends the process.
    unsafe { std::ptr::write_volatile((&raw const READ_ONLY).cast_mut(), 1) };
    0
}

/// Ends, and leaves a process behind that the table doesn't tell of.
fn hide() -> u8 {
    // SAFETY: as a fork, but for the parent: memory is copied, and the stack is the same in the copy.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::CLONE_PARENT, 0, 0, 0, 0) };
    if pid == 0 {
        loop {
            std::thread::sleep(std::time::Duration::from_secs(1000));
        }
    }
    u8::from(pid < 0)
}
