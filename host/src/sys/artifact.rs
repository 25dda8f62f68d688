//! Maps compiled code from a file into this process.
#![allow(unsafe_code, reason = "wasmtime runs the machine code in an artifact without looking at it")]

use std::fs::File;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::Arc;

use nix::sys::mman::{MapFlags, ProtFlags, mmap, mprotect};
use wasmtime::component::Component;
use wasmtime::{CustomCodeMemory, Engine, Module};

use super::mem::page_size;

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

/// Maps a compiled component, as [`map`] does a module. wasmtime maps components only from a path, and this process may have none, so
/// the file is mapped here, and wasmtime has its code made executable by [`code_memory`].
///
/// The mapping stays until the process ends.
pub(crate) fn map_component(engine: &Engine, artifact: File) -> wasmtime::Result<Component> {
    let len = usize::try_from(artifact.metadata()?.len())?;
    let length = NonZeroUsize::new(len).ok_or_else(|| wasmtime::Error::msg("the artifact is empty"))?;
    // SAFETY: a new mapping at an address of the kernel's choice touches no memory of anybody's. The file neither changes nor
    // shrinks, as `map` says, so that no access raises SIGBUS.
    let base = unsafe { mmap(None, length, ProtFlags::PROT_READ, MapFlags::MAP_PRIVATE, &artifact, 0)? };
    let memory = NonNull::slice_from_raw_parts(base.cast::<u8>(), len);
    // SAFETY: `deserialize_raw` wants what `deserialize_open_file` does, for an artifact of `Engine::precompile_component`, which
    // wasmtime tells from one of a module; see `map`. It also wants memory that lives as long as the component, and that nobody
    // writes to: the mapping is never removed, and is not writable.
    unsafe { Component::deserialize_raw(engine, memory) }
}

/// Makes the code of mapped components executable.
pub(crate) fn code_memory() -> Arc<dyn CustomCodeMemory> {
    Arc::new(MappedCode)
}

struct MappedCode;

impl MappedCode {
    fn protect(ptr: *const u8, len: usize, protection: ProtFlags) -> wasmtime::Result<()> {
        let start = NonNull::new(ptr.cast_mut().cast()).ok_or_else(|| wasmtime::Error::msg("no code"))?;
        // SAFETY: wasmtime passes the code section of an artifact that it was just given by `map_component`, aligned as
        // `required_alignment` says. No reference to memory outside of the artifact exists there, and the contents stay.
        unsafe { mprotect(start, len.next_multiple_of(page_size()), protection)? };
        Ok(())
    }
}

impl CustomCodeMemory for MappedCode {
    fn required_alignment(&self) -> usize {
        page_size()
    }

    fn publish_executable(&self, ptr: *const u8, len: usize) -> wasmtime::Result<()> {
        Self::protect(ptr, len, ProtFlags::PROT_READ | ProtFlags::PROT_EXEC)
    }

    fn unpublish_executable(&self, ptr: *const u8, len: usize) -> wasmtime::Result<()> {
        Self::protect(ptr, len, ProtFlags::PROT_READ)
    }
}
