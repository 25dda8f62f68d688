//! All of wasmtime but running: what a module must be, how it is compiled, where the result is kept, and what a trap is called.
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
//! Compilation uses many threads, so it happens in no process that forks; and what is compiled is trusted by nobody, so it
//! happens not in the embedder's either. What crosses over to a supervisor is a file descriptor of the artifact,
//! which only ever comes out of [`cache`], which trusts no file that another user could have written.
//!
//! `inspect` also runs in the caller's process, for [`Inspection::of_file`]: it is safe Rust, looks at no code, takes no
//! more time and memory than the file's size bounds, and nothing of what it finds is run.

pub(crate) mod cache;
mod check;
pub(crate) mod compiler;
pub(crate) mod config;
mod inspect;
pub(crate) mod known;
mod module;
pub(crate) mod trap;

pub use inspect::{ExportInfo, ImportInfo, Inspection, MemoryInfo, Provision, TaskInfo};
pub(crate) use module::load;
pub use module::{Module, ModuleBuilder};
