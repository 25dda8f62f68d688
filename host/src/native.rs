//! Native code in place of a guest's code or of a compiler, in the same jail: for tests of the jail, which assume that somebody has
//! broken out of WebAssembly.

use std::sync::OnceLock;

use crate::sys::process::exit_now;

/// Native code that runs in place of a guest's if it returns an exit code for the run's arguments.
pub type Native = fn(&[String]) -> Option<u8>;

static NATIVE: OnceLock<Native> = OnceLock::new();

/// Sets the native code that guests become.
pub(crate) fn set(native: Native) {
    let _ = NATIVE.set(native);
}

/// Runs the native code in place of a guest, if the code accepts these arguments.
pub(crate) fn instead_of_guest(args: &[String]) {
    if let Some(code) = NATIVE.get().and_then(|native| native(args)) {
        exit_now(i32::from(code));
    }
}

/// Runs the native code in place of a compiler, whose module has the arguments in its lines.
pub(crate) fn instead_of_compiler(module: &[u8]) {
    if let Ok(text) = str::from_utf8(module) {
        instead_of_guest(&text.lines().map(str::to_owned).collect::<Vec<_>>());
    }
}
