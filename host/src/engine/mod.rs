//! All use of wasmtime but running: checks of a module, its compilation, the cache of the results, and names of traps.
//!
//! ```text
//!   file.wasm / file.wat
//!        │ module: is it in the cache? if not:
//!        ▼
//!   compiler: a process of its own, in a jail
//!        │ inspect: parse once, list imports and exports        (no code is looked at)
//!        │ check:   refuse what can't run, in plain words
//!        │ config:  one engine configuration; compile
//!        ▼
//!   cache: ~/.cache/sandpool/modules/<hash>.cwasm
//!        │ an open, verified, read-only file
//!        ▼
//!   supervisor: load, then fork
//! ```
//!
//! Compilation uses many threads, so no process that forks does it; and nobody trusts the module, so the embedder's process doesn't
//! compile it either. A supervisor gets a file descriptor of the artifact, which always comes out of [`cache`]; the cache trusts no
//! file that another user could have written.
//!
//! `inspect` also runs in the caller's process, for [`Inspection::from_file`]: it is safe Rust, looks at no code, takes time and
//! memory bounded by the file's size, and runs nothing that it finds.

pub(crate) mod cache;
mod check;
pub(crate) mod compiler;
pub(crate) mod component;
pub(crate) mod config;
mod inspect;
mod inspection;
pub(crate) mod known;
mod module;
mod ownership;
pub(crate) mod trap;
mod verified;

pub(crate) use check::MEMORIES_MAX;
pub use inspection::{ExportInfo, ImportInfo, Inspection, MemoryInfo, ModuleKind, Provision, TaskInfo};
pub use module::{Builder, Module};
pub(crate) use module::{load, load_component};
