//! The one engine configuration. The process that compiles a module and the one that loads it must agree on it.

use std::io;

use wasmparser::WasmFeatures;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, OptLevel};

use crate::{Error, Result};

/// The features that modules may use: WebAssembly 3.0 less garbage collection, exceptions, threads (none is compiled into our
/// wasmtime) and 64-bit memories (pointers of the ABI have 32 bits). Of garbage collection wasmtime would still take the
/// declared subtypes of functions, and then abort where it has to look at one (RUSTSEC-2026-0570, up to 48.0.8).
pub(crate) const FEATURES: WasmFeatures = WasmFeatures::WASM3
    .difference(WasmFeatures::GC)
    .difference(WasmFeatures::GC_TYPES)
    .difference(WasmFeatures::THREADS)
    .difference(WasmFeatures::EXCEPTIONS)
    .difference(WasmFeatures::MEMORY64);

/// Linear memory grows in place: what is advised for its range, and what is mapped into it, stays.
const MEMORY_RESERVATION: u64 = 4 << 30;

/// Before it, and behind it, nothing can be reached.
const MEMORY_GUARD: u64 = 32 << 20;

/// The address space that a memory takes, however small it is.
pub(crate) const MEMORY_SPACE: u64 = MEMORY_RESERVATION + 2 * MEMORY_GUARD;

/// An engine that compiles modules. What is compiled to count fuel isn't compatible with what isn't, and somewhat slower.
pub(crate) fn engine(counts_fuel: bool) -> Result<Engine> {
    engine_of(&configuration(counts_fuel))
}

/// An engine that loads what any other of this module has compiled, whose instances have so many bytes of stack.
pub(crate) fn engine_with_stack(counts_fuel: bool, bytes: u64) -> Result<Engine> {
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    let mut config = configuration(counts_fuel);
    // Nothing here is async, but the two are compared.
    config.max_wasm_stack(bytes).async_stack_size(bytes);
    engine_of(&config)
}

fn engine_of(config: &Config) -> Result<Engine> {
    Engine::new(config).map_err(|error| Error::Os {
        what: "set up the WebAssembly engine",
        source: io::Error::other(format!("{error:#}")),
    })
}

fn configuration(counts_fuel: bool) -> Config {
    let mut config = Config::new();
    config
        .cranelift_opt_level(OptLevel::Speed)
        .parallel_compilation(true)
        // A process has one instance. The pooling allocator would reset its memory with madvise, for nothing.
        .allocation_strategy(InstanceAllocationStrategy::OnDemand)
        .memory_reservation(MEMORY_RESERVATION)
        .memory_guard_size(MEMORY_GUARD)
        .guard_before_linear_memory(true)
        .memory_may_move(false)
        // Initial data would be mapped from the artifact's file, which guest processes don't keep open; and what is
        // mapped from a file gets no huge pages.
        .memory_init_cow(false)
        // Else the first call of each function by way of a table would be one of the host's, in each process anew.
        .table_lazy_init(false)
        .wasm_memory64(false)
        .wasm_gc(false)
        .consume_fuel(counts_fuel)
        // Backtraces name functions. Byte offsets would need an address map, which makes artifacts larger.
        .generate_address_map(false);
    config
}
