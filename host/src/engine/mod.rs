//! Everything on wasmtime's compiling side: what a module must be, how it is compiled, where the result is kept.
//!
//! ```text
//!   file.wasm / file.wat
//!        │ inspect: parse once, list imports and exports        (no code is looked at)
//!        │ module:  refuse what can't run, in plain words
//!        ▼
//!   config: one engine configuration ── compile ──► cache: ~/.cache/sandpool/modules/<hash>.cwasm
//!                                                            │ an open, verified, read-only file
//!                                                            ▼
//!                                            supervisor: load, then fork
//! ```
//!
//! Compilation uses many threads, so it happens in the embedder's process and never in one that forks. What
//! crosses over is a file descriptor of the compiled artifact. Compiled code is trusted code: it only ever comes
//! out of [`cache`], which trusts no file that another user could have written.

pub(crate) mod cache;
pub(crate) mod config;
mod inspect;
mod known;
mod module;
pub(crate) mod trap;

pub use inspect::{ExportInfo, ImportInfo, Inspection, MemoryInfo, Provision, TaskInfo};
pub(crate) use known::nearest_name;
pub use module::Module;
pub(crate) use module::load;
