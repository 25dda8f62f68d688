//! One run of a module, as its owner holds it. (Signatures only so far: the body lands separately.)

use std::path::PathBuf;
use std::time::Duration;

use crate::{Module, Result};

pub use sandpool_abi::process::{Limit, Trap};

/// Must be the first call in `main` of every program that starts runs.
pub fn init() {}

/// A directory of the host that guests may use.
#[derive(Debug, Clone)]
pub struct DirGrant {
    /// the directory on the host
    pub host: PathBuf,
    /// its absolute name for guests
    pub guest: String,
    /// no writing
    pub read_only: bool,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// with an exit code
    Exited(u8),
    /// killed by a signal
    Signaled(i32),
    /// WebAssembly trapped
    Trapped(Trap),
    /// a limit was hit
    Limited(Limit),
}

impl ExitStatus {
    /// What `sandpool run` ends with: the code, 128 + signal, 134 after a trap.
    #[must_use]
    pub fn shell_code(self) -> u8 { 0 }
}

/// What is known of one process that has ended.
#[derive(Debug, Clone)]
pub struct ProcessReport {
    /// its name
    pub name: String,
    /// its process id
    pub pid: u32,
    /// how it ended
    pub status: ExitStatus,
    /// from start to end
    pub wall: Duration,
    /// time on a processor
    pub cpu: Duration,
    /// the most memory it had at once, in bytes
    pub peak_memory: u64,
}

/// What a run did.
#[derive(Debug, Clone)]
pub struct Summary {
    /// how the main guest ended
    pub status: ExitStatus,
    /// how many processes there were, the main one included
    pub processes: u64,
    /// from start to end
    pub wall: Duration,
    /// reports of the first processes to end, at most [`Summary::REPORTS_MAX`]
    pub reports: Vec<ProcessReport>,
    /// the most memory that one process had, in bytes
    pub peak_memory: u64,
}

impl Summary {
    /// The most reports that a summary carries.
    pub const REPORTS_MAX: usize = 64;
}

/// Settings of a [`Run`].
#[derive(Debug)]
pub struct RunBuilder;

impl RunBuilder {
    /// One argument for the guest.
    pub fn arg(&mut self, _arg: impl Into<String>) -> &mut Self { self }
    /// One variable of the guest's environment, which is empty otherwise.
    pub fn env(&mut self, _key: impl Into<String>, _value: impl Into<String>) -> &mut Self { self }
    /// Grants a directory.
    pub fn dir(&mut self, _grant: DirGrant) -> &mut Self { self }
    /// How many processes may be alive at once (default 1024).
    pub fn processes_max(&mut self, _n: u32) -> &mut Self { self }
    /// Size of the arena in bytes (default 1 GiB; only what is used takes memory).
    pub fn arena_size(&mut self, _bytes: u64) -> &mut Self { self }
    /// Starts the run.
    pub fn start(&mut self) -> Result<Run> { Ok(Run) }
}

/// A run: a main guest and all processes that come from it.
#[derive(Debug)]
pub struct Run;

impl Run {
    /// Settings for a run of a module.
    pub fn builder(_module: &Module) -> RunBuilder { RunBuilder }
    /// Something that can stop the run from another thread.
    pub fn stopper(&self) -> Stopper { Stopper }
    /// Waits for its end.
    pub fn wait(self) -> Result<Summary> { Err(crate::Error::NotInitialized) }
}

/// Stops a [`Run`] from another thread.
#[derive(Debug, Clone)]
pub struct Stopper;

impl Stopper {
    /// Sends every guest this signal, and SIGKILL to those that are left.
    pub fn stop(&self, _signal: i32) {}
}
