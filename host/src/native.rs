//! Native code in the place of a guest's or of a compiler, in the jail all the same: for tests of the jail, which assume that
//! somebody has broken out of WebAssembly.

use std::sync::OnceLock;

use crate::sys::process::exit_now;

/// Native code that runs in place of a guest's, if it makes an exit code of the run's arguments.
pub type Native = fn(&[String]) -> Option<u8>;

static NATIVE: OnceLock<Native> = OnceLock::new();

/// Has guests be this native code.
pub(crate) fn set(native: Native) {
    let _ = NATIVE.set(native);
}

/// Becomes the native code in place of a guest, if there is some for these arguments.
pub(crate) fn instead_of_guest(args: &[String]) {
    if let Some(code) = NATIVE.get().and_then(|native| native(args)) {
        exit_now(i32::from(code));
    }
}

/// The same in place of a compiler, whose module has the arguments in its lines.
pub(crate) fn instead_of_compiler(module: &[u8]) {
    if let Ok(text) = str::from_utf8(module) {
        instead_of_guest(&text.lines().map(str::to_owned).collect::<Vec<_>>());
    }
}
