//! The imports of guests: one file for each import module, with one function for each row of the table in `sandpool-abi`,
//! named as the row. The imports check the guest's arguments and turn errors into an errno.
//!
//! A guest's pointers are offsets into its [memory](crate::process::memory), which is borrowed for the time of a call.
//! No argument of a guest makes the host panic, read outside of that memory, or allocate more than the memory's length.

/// Makes `add_to_linker` of the rows that the table of imports passes on: for each row, the function of this name and with
/// these parameters, in the module where this is. So no row can be forgotten, be there twice, or have another name.
macro_rules! provide {
    ($module:tt: $(
        $(#[$doc:meta])*
        $safety:ident fn $name:ident($($param:ident: $ty:ty),*) -> $result:ty;
    )*) => {
        pub(super) fn add_to_linker(
            linker: &mut wasmtime::Linker<$crate::process::Guest>,
        ) -> wasmtime::Result<()> {
            $(linker.func_wrap(
                $module,
                stringify!($name),
                |mut caller: Caller<'_>, $($param: <$ty as sandpool_abi::Declared>::Received),*| {
                    // A parameter may have the same name.
                    self::$name(&mut caller, $($param),*)
                },
            )?;)*
            Ok(())
        }
    };
}

mod connection;
mod descriptor;
mod handle;
mod pipe;
pub(crate) mod process;
mod queue;
mod shared;
mod shelf;
mod sync;
mod task;

use sandpool_abi::Errno;
use wasmtime::{
    AsContext, AsContextMut, Engine, InstancePre, Linker, Module, StoreContextMut, WasmBacktrace,
};

use crate::ipc::Result;
use crate::process::memory::{self, Memory};
use crate::process::{Guest, Process, deadlock, wasi};
use crate::sys::futex::Deadline;

/// The guest that calls, as wasmtime has it.
type Caller<'a> = wasmtime::Caller<'a, Guest>;

/// A linker with everything that guests may import.
pub(crate) fn linker(engine: &Engine) -> wasmtime::Result<Linker<Guest>> {
    let mut linker = Linker::new(engine);
    wasi::add_to_linker(&mut linker)?;
    process::add_to_linker(&mut linker)?;
    queue::add_to_linker(&mut linker)?;
    pipe::add_to_linker(&mut linker)?;
    descriptor::add_to_linker(&mut linker)?;
    sync::add_to_linker(&mut linker)?;
    shared::add_to_linker(&mut linker)?;
    shelf::add_to_linker(&mut linker)?;
    task::add_to_linker(&mut linker)?;
    handle::add_to_linker(&mut linker)?;
    connection::add_to_linker(&mut linker)?;
    Ok(linker)
}

/// The module with its imports resolved. Calls of unknown functions trap if such functions are allowed.
pub(crate) fn resolve(
    engine: &Engine,
    module: &Module,
    allows_unknown: bool,
) -> wasmtime::Result<InstancePre<Guest>> {
    let mut linker = linker(engine)?;
    if module.imports().any(|import| import.module() == wasi::UNSTABLE) {
        wasi::add_unstable_to_linker(&mut linker)?;
    }
    if allows_unknown {
        linker.define_unknown_imports_as_traps(module)?;
    }
    linker.instantiate_pre(module)
}

/// A guest's memory, and its process.
struct View<'a> {
    memory: Memory<'a>,
    process: &'a mut Process,
}

/// Calls a function with the guest's memory and its process.
#[inline]
fn with_memory<T>(caller: &mut Caller<'_>, call: impl FnOnce(View<'_>) -> Result<T>) -> Result<T> {
    let (memory, process) = memory::view(caller)?;
    call(View { memory, process })
}

/// Calls a function that doesn't look at the guest's memory: to find the memory takes a third as long as to acquire a
/// lock.
#[inline]
fn apart<T>(
    caller: &mut impl AsContextMut<Data = Guest>,
    call: impl FnOnce(&mut Process) -> Result<T>,
) -> Result<T> {
    call(&mut caller.as_context_mut().data_mut().process)
}

/// Calls a function that may wait for ever. If all processes of the run wait, each reports where it is, and waits on if
/// it may.
fn waiting<T>(caller: &mut Caller<'_>, call: impl Fn(View<'_>) -> Result<T>) -> Result<T> {
    reporting(caller, |caller| with_memory(caller, &call))
}

/// Calls a function that doesn't look at the guest's memory without waiting; then, if it has to wait, as
/// [`waiting_apart`] with output written out. Waiting is a call of its own, so that an attempt that succeeds keeps
/// nothing on the stack for it: a locked instruction waits for each store before it.
#[inline]
fn trying_apart<T>(
    caller: &mut Caller<'_>,
    timeout: i64,
    call: impl Fn(&mut Process, Deadline) -> Result<T>,
) -> Result<T> {
    match apart(caller, |process| call(process, Deadline::NOW)) {
        // The store in a register: a `&mut Caller` would be written to the stack before the attempt.
        Err(Errno::Again) if timeout != 0 => wait_apart(caller.as_context_mut(), timeout, call),
        result => result,
    }
}

#[cold]
#[inline(never)]
fn wait_apart<T>(
    mut store: StoreContextMut<'_, Guest>,
    timeout: i64,
    call: impl Fn(&mut Process, Deadline) -> Result<T>,
) -> Result<T> {
    waiting_apart(&mut store, |process| {
        let deadline = flushed(process, timeout);
        call(process, deadline)
    })
}

/// Calls a function that may wait for ever and doesn't look at the guest's memory.
#[inline]
fn waiting_apart<T>(
    caller: &mut impl AsContextMut<Data = Guest>,
    call: impl Fn(&mut Process) -> Result<T>,
) -> Result<T> {
    reporting(caller, |caller| apart(caller, &call))
}

#[inline]
fn reporting<C: AsContextMut<Data = Guest>, T>(
    caller: &mut C,
    call: impl Fn(&mut C) -> Result<T>,
) -> Result<T> {
    loop {
        match call(caller) {
            Err(Errno::Deadlock) => report_deadlock(caller),
            result => return result,
        }
    }
}

#[cold]
fn report_deadlock(caller: &impl AsContext<Data = Guest>) {
    let backtrace = WasmBacktrace::force_capture(caller);
    deadlock::report(caller.as_context().data(), Some(&backtrace));
}

/// Tries a call without waiting; then writes out the output that is held back, and waits.
#[inline]
fn try_first<T>(process: &Process, timeout: i64, mut call: impl FnMut(Deadline) -> Result<T>) -> Result<T> {
    match call(Deadline::NOW) {
        Err(Errno::Again) if timeout != 0 => call(flushed(process, timeout)),
        result => result,
    }
}

#[cold]
fn flushed(process: &Process, timeout: i64) -> Deadline {
    process.stdio.flush();
    Deadline::after_nanos(timeout as u64)
}

/// An `i32` result: 0 or an errno.
fn code(result: Result<()>) -> i32 {
    result.map_or_else(|errno| errno as i32, |()| 0)
}

/// An `i64` result: a value or a negated errno.
fn value(result: Result<i64>) -> i64 {
    result.unwrap_or_else(|errno| -i64::from(errno as i32))
}

#[cfg(test)]
#[allow(clippy::expect_used, reason = "tests")]
mod tests {
    use std::fmt::Write as _;

    /// A module that imports what a row promises, by name and type, can be resolved.
    #[test]
    fn the_linker_provides_what_the_abi_promises() {
        let engine = wasmtime::Engine::default();
        let linker = super::linker(&engine).expect("a linker");
        let missing = sandpool_abi::imports().filter_map(|import| {
            let (module, name) = (import.module, import.name);
            let params = import.params.iter().fold(String::new(), |mut all, param| {
                write!(all, " {}", param.ty.value_type()).expect("a string");
                all
            });
            let result = import.result.value_type();
            let text =
                format!("(module (import \"{module}\" \"{name}\" (func (param{params}) (result {result}))))");
            let module = wasmtime::Module::new(&engine, text).expect("a valid module");
            linker.instantiate_pre(&module).err().map(|error| format!("{error:#}"))
        });
        let missing: Vec<_> = missing.collect();
        assert!(missing.is_empty(), "the host doesn't provide:\n{}", missing.join("\n"));
    }

    /// Compiled guests depend on every name and signature.
    #[test]
    fn the_contract_changes_with_its_version_only() {
        let known = (1, 0x4e5c_4820_47b6_4f39);
        assert_eq!(
            (sandpool_abi::ABI_VERSION, sandpool_abi::FINGERPRINT),
            known,
            "the contract has changed: raise ABI_VERSION, unless it was never released, and note both here"
        );
    }
}
