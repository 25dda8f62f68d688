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
//! `host/docs/architecture.md` explains how Sandpool works inside.

mod cache_dirs;
mod child;
mod children;
mod codec;
mod config;
mod control;
mod engine;
mod error;
mod guest_text;
mod imports;
mod init;
mod ipc;
mod jail;
mod linux;
#[cfg(feature = "testing")]
mod native;
mod nearest;
mod patient;
mod pool;
mod process;
mod run;
mod supervised;
mod supervisor;
mod sys;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod testing;
pub mod units;
mod wire;
mod written;

pub use child::set_executable;
pub use config::{
    CompileLimitKey, CompileLimits, DEFAULT_CONFIG, DirGrant, Jailed, Key, Layer, LimitKey, Limits,
    OnDeadlock, Profile, Sandbox, UnknownImports,
};
pub use engine::{
    ExportInfo, ImportInfo, Inspection, MemoryInfo, Module, ModuleBuilder, Provision, TaskInfo,
};
pub use error::{CompileLimit, Error, ErrorKind, Failure, PoolEnd, Result, TaskError, Usage};
pub use guest_text::GuestText;
pub use init::init;
#[cfg(feature = "testing")]
#[doc(hidden)]
pub use init::init_with_native;
pub use jail::{JailReport, LayerStatus};
#[cfg(feature = "testing")]
#[doc(hidden)]
pub use native::Native;
pub use pool::{
    AsCompleted, CommandFeed, CommandOutput, CommandResults, Completed, Event, Feed, Format, Imap, Pool,
    PoolBuilder, Results, Stats, StreamStopper, TaskFuture, as_completed,
};
pub use run::{
    Captured, Keep, LimitRefusal, ProcessReport, Run, RunBuilder, RunFuture, RunOutput, Stdio, Stopper,
    Summary,
};
pub use sandpool_abi::process::{ExitStatus, Limit, Signal, Trap};
pub use wire::{Command, Isolation, Output};

/// Parts of this library that the `sandpool` command uses as well: files that guests must not divert, standard streams, the
/// folders of the cache, a thread that hears signals. They may change with any version.
#[doc(hidden)]
pub mod command_support {
    pub use crate::cache_dirs::CacheDirs;
    pub use crate::linux::version as linux_version;
    pub use crate::patient::{Patient, write_all};
    pub use crate::sys::fd::{closed_streams, inherited};
    pub use crate::sys::process::wake_soon;
    pub use crate::written::{Directory, Unfinished, Writable};
}
