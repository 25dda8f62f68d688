//! The one engine configuration. The process that compiles a module and the one that loads it must agree on it.

use std::io;

use wasmparser::WasmFeatures;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, OptLevel};

use crate::config::{Flavor, MEMORY_GUARD, MEMORY_RESERVATION};
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

/// An engine that compiles modules.
pub(crate) fn engine(flavor: Flavor) -> Result<Engine> {
    engine_of(&configuration(flavor))
}

/// An engine that loads what any other of this flavor has compiled, whose instances have so many bytes of stack, and memories
/// that may grow to `memory_max`.
pub(crate) fn engine_to_run(flavor: Flavor, stack: u64, memory_max: u64) -> Result<Engine> {
    let stack = usize::try_from(stack).unwrap_or(usize::MAX);
    let mut config = configuration(flavor);
    // Nothing here is async, but the two are compared.
    config.max_wasm_stack(stack).async_stack_size(stack);
    if flavor.checks_bounds {
        config.memory_reservation_for_growth(memory_max.min(MEMORY_RESERVATION));
    }
    engine_of(&config)
}

fn engine_of(config: &Config) -> Result<Engine> {
    Engine::new(config).map_err(|error| Error::Os {
        what: "set up the WebAssembly engine",
        source: io::Error::other(format!("{error:#}")),
    })
}

fn configuration(flavor: Flavor) -> Config {
    let mut config = Config::new();
    config
        .cranelift_opt_level(OptLevel::Speed)
        .parallel_compilation(true)
        // A process has one instance. The pooling allocator would reset its memory with madvise, for nothing.
        .allocation_strategy(InstanceAllocationStrategy::OnDemand)
        .memory_reservation(if flavor.checks_bounds { 0 } else { MEMORY_RESERVATION })
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
        .consume_fuel(flavor.counts_fuel)
        // Backtraces name functions. Byte offsets would need an address map, which makes artifacts larger.
        .generate_address_map(false);
    config
}
