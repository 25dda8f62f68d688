//! multiprocessing for sandboxed WebAssembly: the host.
//!
//! ```no_run
//! fn main() -> sandpool::Result<()> {
//!     sandpool::init();
//!     let module = sandpool::Module::from_file("guest.wasm")?;
//!     let run = sandpool::Run::builder(&module).dir("./data:/data:ro".parse()?).start()?;
//!     let summary = run.wait()?;
//!     println!("{} processes, {:?}", summary.processes, summary.wall);
//!     Ok(())
//! }
//! ```
//!
//! A guest is a WebAssembly program. Its main process starts others, each an operating-system process with a sandbox
//! of its own, and exchanges data with them through memory that the host shares between them. What guests call is in
//! the `sandpool-guest` crate; what both sides agree on in `sandpool-abi`.
//!
//! `host/docs/architecture.md` says how it works inside.

mod cache_dirs;
mod codec;
mod engine;
mod error;
mod guest_text;
mod imports;
mod ipc;
mod jail;
mod limits;
mod linux;
#[cfg(feature = "testing")]
mod native;
mod owner;
mod patient;
mod pool;
mod process;
mod run;
mod supervisor;
mod sys;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod testing;
pub mod units;
mod written;

pub use engine::{
    CompileLimit, ExportInfo, ImportInfo, Inspection, MemoryInfo, Module, ModuleBuilder, Provision, TaskInfo,
};
pub use error::{Error, ErrorKind, Result};
pub use guest_text::GuestText;
pub use jail::{Hold, JailReport, Jailed, Layer};
pub use limits::{CompileLimitKey, CompileLimits, DEFAULT_CONFIG, Key, LimitKey, Limits, Profile};
#[cfg(feature = "testing")]
#[doc(hidden)]
pub use native::{Native, init_with_native};
pub use owner::{init, set_executable};
pub use pool::{
    AsCompleted, Completed, Event, Failure, Feed, Format, Imap, Isolation, Output, Pool, PoolBuilder,
    PoolEnd, Results, Stats, StreamStopper, TaskError, TaskFuture, as_completed,
};
pub use run::{DirGrant, ExitStatus, Limit, ProcessReport, Refusal, Run, RunBuilder, Stopper, Summary, Trap};
pub use supervisor::control::OnDeadlock;

/// Parts of this library that the `sandpool` command uses as well: files that guests must not divert, standard streams, the
/// folders of the cache, a thread that hears signals. They may change with any version.
#[doc(hidden)]
pub mod command_support {
    pub use crate::cache_dirs::CacheDirs;
    pub use crate::linux::version as linux_version;
    pub use crate::patient::{Patient, write_all};
    pub use crate::sys::fd::{inherited, refuse_closed_streams};
    pub use crate::sys::process::wake_soon;
    pub use crate::written::{Directory, Unfinished, Writable};
}
