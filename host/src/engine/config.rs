//! The one engine configuration. The process that compiles a module and the one that loads it must agree on it.

use std::io;

use wasmparser::WasmFeatures;
use wasmtime::{Collector, Config, Engine, InstanceAllocationStrategy, OptLevel};

use crate::config::{Flavor, MEMORY_GUARD, MEMORY_RESERVATION};
use crate::{Error, Result, sys};

/// The features that modules may use: those that wasmtime has on by default, without threads and without 64-bit memories and tables.
/// Guest processes have one thread each, and shared memory of their own; and pointers of the ABI have 32 bits.
pub(crate) const FEATURES: WasmFeatures =
    WasmFeatures::WASM3.difference(WasmFeatures::THREADS).difference(WasmFeatures::MEMORY64);

/// The features that a module uses if it needs a heap for collected objects. A thrown exception is such an object.
pub(crate) const COLLECTED: WasmFeatures =
    WasmFeatures::GC.union(WasmFeatures::GC_TYPES).union(WasmFeatures::EXCEPTIONS);

/// An engine that compiles modules.
pub(crate) fn engine(flavor: Flavor) -> Result<Engine> {
    engine_of(&configuration(flavor))
}

/// An engine that loads artifacts which any other engine of this flavor has compiled. Its instances have `stack` bytes of stack,
/// and memories that may grow to `memory_max`.
pub(crate) fn engine_to_run(
    flavor: Flavor,
    stack: u64,
    memory_max: u64,
    is_component: bool,
) -> Result<Engine> {
    let stack = usize::try_from(stack).unwrap_or(usize::MAX);
    let mut config = configuration(flavor);
    // Nothing here is async, but wasmtime compares the two sizes.
    config.max_wasm_stack(stack).async_stack_size(stack);
    if flavor.checks_bounds {
        config.memory_reservation_for_growth(memory_max.min(MEMORY_RESERVATION));
    }
    if is_component {
        // wasmtime maps the open file of a module, but not of a component.
        config.with_custom_code_memory(Some(sys::artifact::code_memory()));
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
        // A process has one instance. The pooling allocator would reset the instance's memory with madvise for nothing.
        .allocation_strategy(InstanceAllocationStrategy::OnDemand)
        .memory_reservation(if flavor.checks_bounds { 0 } else { MEMORY_RESERVATION })
        .memory_guard_size(MEMORY_GUARD)
        .guard_before_linear_memory(true)
        .memory_may_move(false)
        // Otherwise, initial data would be mapped from the artifact's file, which guest processes don't keep open; and memory that
        // is mapped from a file gets no huge pages.
        .memory_init_cow(false)
        // Otherwise, the first call of each function through a table would be a call of the host, in each process anew.
        .table_lazy_init(false)
        .wasm_memory64(false)
        // The heap of collected objects is one more memory: reserved, limited and charged as the module's own, and empty until the
        // first object. This collector needs nothing of code that makes no objects.
        .collector(Collector::Copying)
        .consume_fuel(flavor.counts_fuel)
        // Backtraces name functions. Byte offsets would need an address map, which makes artifacts larger.
        .generate_address_map(false);
    config
}
