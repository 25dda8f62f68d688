//! multiprocessing for sandboxed WebAssembly: the host.
//!
//! ```no_run
//! fn main() -> sandpool::Result<()> {
//!     sandpool::init();
//!     let module = sandpool::Module::from_file("guest.wasm")?;
//!     let sandbox = sandpool::Sandbox::new().dir("./data:/data:ro".parse()?);
//!     let run = sandpool::Run::builder(&module).sandbox(sandbox).start()?;
//!     let summary = run.wait()?;
//!     println!("{} processes, {:?}", summary.processes, summary.wall);
//!     Ok(())
//! }
//! ```
//!
//! A guest is a WebAssembly program. Its main process starts others, each an operating-system process with a sandbox of its own,
//! and exchanges data with them through memory that the host shares between them. The `sandpool-guest` crate has the functions that
//! guests call; the `sandpool-abi` crate has the contract between guests and host.
//!
//! The names that most programs use are here. The others are in modules: [`pool`] and [`run`] for what runs, [`module`] for what
//! a module is and has, [`limits`] and [`jail`] for what holds guests.
//!
//! `host/docs/architecture.md` explains how Sandpool works inside.

mod cache_dirs;
mod child;
mod children;
mod codec;
mod config;
mod control;
mod engine;
mod error;
mod gateway;
mod guest_text;
mod imports;
mod init;
mod ipc;
pub mod jail;
mod linux;
#[cfg(feature = "testing")]
mod native;
mod nearest;
mod patient;
pub mod pool;
mod process;
pub mod run;
mod supervised;
mod supervisor;
mod sys;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod testing;
mod units;
mod wire;
mod written;

pub use child::set_executable;
pub use config::{AddressGrant, DirGrant, Limits, Sandbox};
pub use engine::Module;
pub use error::{Error, ErrorKind, Result};
pub use guest_text::GuestText;
pub use init::init;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub use init::init_with_native;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub use native::Native;
pub use pool::handle::Pool;
pub use run::handle::Run;
pub use sandpool_abi::process::{ExitStatus, Signal, Trap};

/// Limits: of compilers, as values that a guest has reached, by their names for flags and the configuration file, and as a profile
/// of all. Those of a run are [`Limits`].
pub mod limits {
    pub use sandpool_abi::process::Limit;

    pub use crate::config::{CompileLimitKey, CompileLimits, DEFAULT_CONFIG, Key, LimitKey, Profile};
    pub use crate::error::CompileLimit;
}

/// Modules: the settings by which a [`Module`] is loaded, and what a module says about itself.
pub mod module {
    pub use crate::config::UnknownImports;
    pub use crate::engine::{
        Builder, ExportInfo, ImportInfo, Inspection, MemoryInfo, ModuleKind, Provision, TaskInfo,
    };
}

/// Parts of this library that the `sandpool` command uses as well: files that guests must not divert, standard streams, the
/// folders of the cache, a thread that hears signals, times and sizes as people write them. They may change with any version.
#[doc(hidden)]
pub mod command_support {
    pub use crate::cache_dirs::CacheDirs;
    pub use crate::linux::version as linux_version;
    pub use crate::patient::{Patient, write_all};
    pub use crate::sys::fd::{closed_streams, inherited};
    pub use crate::sys::process::wake_soon;
    pub use crate::units::{size as parse_size, time as parse_time};
    pub use crate::written::{Directory, Unfinished, Writable};
}
