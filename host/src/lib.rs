//! multiprocessing for sandboxed WebAssembly: the host.

pub mod doctor;
mod engine;
mod error;
mod run;
pub mod toolchain;

pub use engine::Module;
pub use error::{Error, ExitCode, Result};
pub use run::{DirGrant, ExitStatus, Limit, ProcessReport, Run, RunBuilder, Stopper, Summary, Trap, init};
