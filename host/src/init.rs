//! The first call of a program that uses the library: it finds out as what the program was started.

use crate::engine::compiler;
#[cfg(feature = "testing")]
use crate::native::{self, Native};
use crate::{child, supervisor};

/// Must be the first call in `main` of every program that loads modules, or starts runs or pools.
///
/// ```no_run
/// fn main() -> sandpool::Result<()> {
///     sandpool::init();
///     let module = sandpool::Module::from_file("guest.wasm")?;
///     let summary = sandpool::Run::builder(&module).start()?.wait()?;
///     println!("{:?}", summary.status);
///     Ok(())
/// }
/// ```
///
/// Sandpool starts the program once more to be the supervisor of a run, or to compile a module. This call then doesn't
/// return. It has the role of `multiprocessing.freeze_support()`. Without it, or
/// [`set_executable`](crate::set_executable):
///
/// ```
/// let error = sandpool::Module::from_bytes("nothing", b"(module)").unwrap_err();
/// assert!(matches!(error, sandpool::Error::NotInitialized));
/// ```
pub fn init() {
    match std::env::args_os().next() {
        Some(name) if name == child::SUPERVISOR => supervisor::main(),
        Some(name) if name == child::COMPILER => compiler::child::main(),
        _ => child::note_init(),
    }
}

/// [`init`], in a program which is to be the supervisor of guests that may be native code, and the compiler of their modules.
#[cfg(feature = "testing")]
pub fn init_with_native(native: Native) {
    native::set(native);
    init();
}
