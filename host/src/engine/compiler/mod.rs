//! Compiles modules, in a process of its own, because nobody trusts the modules that it reads.
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
//! The compiler reports by the socket how fully its jail holds before it has seen a byte of the module; so the owner believes this
//! report. If the jail lacks required layers, the compiler ends. The module is a sealed memfd.
//!
//! The output is the length of a report (8 bytes, little-endian), the report in JSON, and the artifact. The owner waits for the end
//! of the process before it reads: there is no conversation that the compiler could draw out. The owner believes nothing of the
//! output: lengths are bounded by those of the file, and texts are made printable. The owner doesn't look into the artifact, which
//! goes into the cache under the owner's own hash of the module.
//!
//! The jail has the layers that a run's has. `policy/compiler.json` is the list of allowed system calls: the compiler can start no
//! thread, open no file, map nothing shared or executable, and signal nobody. Its threads run before the last layer closes. As the
//! first process of its PID namespace, the compiler would not die of the signals by which its limits come, so it has handlers for
//! them.
//!
//! # What a compiler that was taken over gains
//!
//! The compiler sees one module, which the attacker wrote. A compiler that was taken over can produce any artifact and any list of
//! tasks for this module. So it can run native code where that module's guests run: in guest processes, inside of their jail, which
//! is built for that. It reaches no file, no other module's entry of the cache, and no other process. But a supervisor maps the
//! artifact, and wasmtime believes an artifact's tables and relocations ([`sys::artifact`](crate::sys::artifact)): an artifact made
//! for that purpose may corrupt the memory of the supervisor, which is outside of the guests' layers. So to get from a module to
//! the supervisor, an attacker needs two bugs in sequence: one that gives native code in the compiler, which is written in safe
//! Rust except for few places, and one that an artifact can use. The same artifact is in the cache for the next run.

pub(crate) mod child;
pub(crate) mod owner;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::{CompileLimits, JailSettings, UnknownImports};
use crate::engine::check::{ModuleRefusal, Summary};

/// The longest report. A report has the documentation of all tasks.
const REPORT_MAX: u64 = 4 << 20;

/// Bytes of the report's length.
const HEAD: u64 = 8;

/// The size of an output with an artifact of this many bytes.
const fn output_size(artifact: u64) -> u64 {
    artifact.saturating_add(HEAD + REPORT_MAX)
}

/// Settings that a compiler gets with the module.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) limits: CompileLimits,
    pub(crate) jail: JailSettings,
    /// The compatibility string of the owner's engine.
    pub(crate) compatibility: String,
    /// The answer to imports that nobody provides.
    pub(crate) unknown_imports: UnknownImports,
    /// No module is to be compiled: the request only asks which layers of the jail would hold.
    pub(crate) only_report: bool,
}

impl Settings {
    pub(crate) fn new(limits: CompileLimits, jail: JailSettings, compatibility: String) -> Self {
        Self { limits, jail, compatibility, unknown_imports: UnknownImports::Refuse, only_report: false }
    }
}

/// Processor time in whole seconds, as the kernel limits it.
fn seconds(cpu: Duration) -> u64 {
    cpu.as_secs().saturating_add(u64::from(cpu.subsec_nanos() > 0))
}

/// How a compilation ended.
#[derive(Debug, Serialize, Deserialize)]
enum Report {
    Compiled {
        summary: Summary,
        /// Bytes of the artifact.
        artifact: u64,
    },
    Refused(ModuleRefusal),
}
