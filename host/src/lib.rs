//! multiprocessing for sandboxed WebAssembly: the host.

mod engine;
mod error;
mod run;
mod sys;
pub mod toolchain;

pub use engine::{ExportInfo, ImportInfo, Inspection, MemoryInfo, Module, Provision};
pub use error::{Error, ExitCode, Result};
pub use run::{DirGrant, ExitStatus, Limit, ProcessReport, Run, RunBuilder, Stopper, Summary, Trap, init};
