//! The first call of a program that uses the library. The call finds out whether the program was started as a supervisor, a
//! compiler or a gateway.

use crate::engine::compiler;
#[cfg(feature = "testing")]
use crate::native::{self, Native};
use crate::{child, gateway, supervisor};

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
/// Sandpool starts the program again as the supervisor of a run, as its gateway, or as the compiler of a module. In such a process, `init` doesn't
/// return. `init` has the role of `multiprocessing.freeze_support()`. A program that calls neither `init` nor
/// [`set_executable`](crate::set_executable) gets an error:
///
/// ```
/// let error = sandpool::Module::from_bytes("nothing", b"(module)").unwrap_err();
/// assert!(matches!(error, sandpool::Error::NotInitialized));
/// ```
pub fn init() {
    match std::env::args_os().next() {
        Some(name) if name == child::SUPERVISOR => supervisor::main(),
        Some(name) if name == child::COMPILER => compiler::child::main(),
        Some(name) if name == child::GATEWAY => gateway::main(),
        _ => child::note_init(),
    }
}

/// Variant of [`init`] for a program that is started as the supervisor of guests which may be native code, and as the compiler of
/// their modules.
#[cfg(feature = "testing")]
pub fn init_with_native(native: Native) {
    native::set(native);
    init();
}
