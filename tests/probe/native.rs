//! What native code does in the place of a guest's.
#![allow(unsafe_code, reason = "native code is what a guest has that has broken out of WebAssembly")]

use nix::libc;

/// Does what the arguments name, if the first one is `native`.
pub(crate) fn act(args: &[String]) -> Option<u8> {
    let [first, action, ..] = args else { return None };
    (first == "native").then(|| match action.as_str() {
        "nothing" => 0,
        "abort" => std::process::abort(),
        "clock_gettime" => clock_gettime(),
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
