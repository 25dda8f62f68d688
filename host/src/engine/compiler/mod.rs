//! Compiles modules, in a process of its own: nobody trusts what it reads.
//!
//! ```text
//!  owner: Module::from_bytes                       compiler: a fresh exec of /proc/self/exe
//!    │  1: the output, a memfd of fixed size ───────▶ │
//!    │  2: what it prints when it dies, the same ───▶ │
//!    │  0: a socket: settings, the module ──────────▶ │
//!    │ ◀────────────────────────────────────── Moved ─│  into its namespaces: jail/namespaces.rs
//!    │ ◀───────────────────────── Started | Unjailed ─│  closes the socket, enters the rest of its jail, and only then
//!    │  its pidfd, and a clock                        │  reads the module: parse → check → validate → compile
//!    │ ◀────────────────────────────────────── ends ─ │
//!    ▼
//!  looks at how it ended, reads the output, and writes the cache's entry itself
//! ```
//!
//! What it says by the socket, how fully its jail holds, it says before it has seen a byte of the module: that is believed.
//! If the jail lacks what is required, it ends. The module is a sealed memfd.
//!
//! The output is the length of a report (8 bytes, little-endian), the report in JSON, and the artifact. The owner waits
//! for the end of the process before it reads: there is no conversation that the compiler could draw out. It
//! believes nothing of it: lengths are bounded by those of the file, texts are made printable, and the artifact, which
//! it doesn't look into, goes into the cache under the owner's own hash of the module.
//!
//! The jail has the layers that a run's has. Of system calls, `policy/compiler.json` is the list: it can start no thread,
//! open no file, map nothing shared or executable, and signal nobody. Its threads run before the last layer closes. As the
//! first process of its PID namespace it has handlers for the signals that its limits come as, of which it would not die.
//!
//! # What a compiler that was taken over gains
//!
//! It sees one module, which the attacker wrote, and can make of it, and of the list of its tasks, what it likes. So it can
//! have native code run where that module's guests run: in guest processes, inside of their jail, which is built for
//! that. It reaches no file, no other module's entry of the cache, and no other process. But a supervisor maps the
//! artifact, and wasmtime believes an artifact's tables and relocations ([`sys::artifact`](crate::sys::artifact)): one that
//! is made for it may corrupt the memory of the supervisor, which is outside of the guests' layers. So from a module to there,
//! an attacker needs two bugs that follow each other: one of the compiler, which is written in safe Rust but for few places,
//! that gives native code, and one that an artifact can use. The same artifact is in the cache for the next run.

pub(crate) mod child;
pub(crate) mod owner;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{CompileLimits, JailSettings};
use crate::engine::check::Refusal;
use crate::engine::inspect::TaskInfo;

/// The longest report. It has the documentation of all tasks in it.
const REPORT_MAX: u64 = 4 << 20;

/// Bytes of the report's length.
const HEAD: u64 = 8;

/// The size of an output with an artifact of this many bytes.
const fn output_size(artifact: u64) -> u64 {
    artifact.saturating_add(HEAD + REPORT_MAX)
}

/// What a compiler is told, with the module.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) limits: CompileLimits,
    pub(crate) jail: JailSettings,
    /// What the owner's engine calls compatible with itself.
    pub(crate) compatibility: String,
    /// Nothing is to be compiled: it is only asked what the jail would be.
    pub(crate) only_report: bool,
}

impl Settings {
    pub(crate) fn new(limits: CompileLimits, jail: JailSettings, compatibility: String) -> Self {
        Self { limits, jail, compatibility, only_report: false }
    }
}

/// Time of processors in whole seconds, as the kernel limits it.
fn seconds(cpu: Duration) -> u64 {
    cpu.as_secs().saturating_add(u64::from(cpu.subsec_nanos() > 0))
}

/// What there is to know of a module that was compiled.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Summary {
    /// Whether it is a program, beside the tasks that it has.
    pub(crate) is_program: bool,
    /// Whether it runs something when it is instantiated.
    pub(crate) has_start: bool,
    pub(crate) tasks: Vec<TaskInfo>,
}

/// How a compilation ended.
#[derive(Debug, Serialize, Deserialize)]
enum Report {
    Compiled {
        summary: Summary,
        /// Bytes of it.
        artifact: u64,
    },
    Refused(Refusal),
}
