//! Maps compiled code from a file into this process.
#![allow(unsafe_code, reason = "wasmtime runs the machine code in an artifact without looking at it")]

use std::fs::File;

use wasmtime::{Engine, Module};

/// Maps a compiled artifact.
///
/// The file must have come out of [`engine::cache`](crate::engine::cache) or [`engine::compiler`](crate::engine::compiler),
/// directly or as a descriptor from the process that owns this one.
pub(crate) fn map(engine: &Engine, artifact: File) -> wasmtime::Result<Module> {
    // SAFETY: `deserialize_open_file` wants, invariant by invariant:
    // * an artifact that `Engine::precompile_module` made, since its machine code is executed as it is. The cache
    //   only hands out files that it wrote itself, or that have a checksum over contents and key: regular, of our
    //   own user, closed to all others, in a folder of which the same holds. The supervisor gets such a descriptor
    //   over the control socket of the process that started it, which is trusted as the supervisor itself is. Without a
    //   cache that process has put the artifact into a memory file, as the compiler wrote it.
    // * the same wasmtime and settings: both are part of the cache key, and wasmtime compares them once more.
    // * a file that doesn't change or shrink while it is mapped: the cache publishes complete files by rename, and
    //   never writes to or truncates one afterwards; eviction only unlinks, which leaves the mapping alone. A memory
    //   file is sealed against all of that. The only one left who could change it is somebody with our own user id, who
    //   could as well attach a debugger.
    unsafe { Module::deserialize_open_file(engine, artifact) }
}
