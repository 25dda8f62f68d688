//! Compiles modules, in a process of its own: nobody trusts what it reads.
//!
//! ```text
//!  owner: Module::from_bytes                       compiler: a fresh exec of /proc/self/exe
//!    │  0: the module, a sealed memfd ──────────────▶ │  enters its jail, and only then reads:
//!    │  1: the output, a memfd of fixed size ───────▶ │  parse → check → validate → compile
//!    │  2: what it prints when it dies, the same ───▶ │
//!    │  its pidfd, and a clock                        │
//!    │ ◀────────────────────────────────────── ends ─ │
//!    ▼
//!  looks at how it ended, reads the output, and writes the cache's entry itself
//! ```
//!
//! The output is the length of a report (8 bytes, little-endian), the report in JSON, and the artifact. The owner waits
//! for the end of the process before it reads: there is no conversation that the compiler could draw out. It
//! believes nothing of it: lengths are bounded by those of the file, texts are made printable, and the artifact, which
//! it doesn't look into, goes into the cache under the owner's own hash of the module.
//!
//! The jail has the layers that a single process can put itself under, as that of guests has: Landlock, no capabilities, limits
//! of memory, processor time and files, and system calls, of which `policy/compiler.json` is the list: it can start no thread,
//! open no file, map nothing shared or executable, and signal nobody. Its threads run before the last layer closes.
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

use crate::engine::check::Refusal;
use crate::engine::inspect::TaskInfo;

/// The name by which a program is told to be a compiler (its `argv[0]`).
pub(crate) const ARGV0: &str = "sandpool-compiler";

/// The longest report. It has the documentation of all tasks in it.
const REPORT_MAX: u64 = 4 << 20;

/// Bytes of the report's length.
const HEAD: u64 = 8;

/// The size of an output with an artifact of this many bytes.
const fn output_size(artifact: u64) -> u64 {
    artifact.saturating_add(HEAD + REPORT_MAX)
}

/// How much the compilation of a module may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Bytes of the module.
    pub(crate) size: u64,
    /// Bytes of the artifact.
    pub(crate) artifact: u64,
    /// Bytes of memory that the compiler may have of its own.
    pub(crate) memory: u64,
    /// How long it may take.
    pub(crate) time: Duration,
    /// How much time of all processors together; whole seconds.
    pub(crate) cpu: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            size: crate::engine::inspect::MODULE_MAX,
            artifact: 1 << 30,
            memory: 4 << 30,
            time: Duration::from_secs(5 * 60),
            cpu: Duration::from_secs(10 * 60),
        }
    }
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
