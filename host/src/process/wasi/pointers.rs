//! Keeps WASI away from shared memory.
//!
//! wasmtime-wasi takes a guest's memory for its own as long as a call lasts: it looks at a string, finds it to be UTF-8,
//! and uses it as that. In a range that is [mapped](crate::process::mappings), another process could change it in
//! between. So the functions of WASI that take pointers are called through one that looks at these first, in modules
//! that can map anything: what lies in a mapped range is `EFAULT`.

use std::sync::Arc;

use sandpool_abi::shared;
use wasmtime::{AsContextMut as _, Caller, Func, ImportType, Linker, Module, Val};

use super::{ERRNO_FAULT, MODULE};
use crate::process::Guest;

/// What the host reads or writes at a pointer, which is the argument at this index.
#[derive(Debug, Clone, Copy)]
enum Pointer {
    /// No more than any struct or number of WASI has.
    Fixed(usize),
    /// As many bytes as the argument behind it says.
    Bytes(usize),
    /// As many vectors as the argument behind it says, and what these name.
    Vectors(usize),
    /// The arguments or the environment: longer than both are.
    Strings(usize),
}

use Pointer::{Bytes, Fixed, Strings, Vectors};

/// More bytes than any struct of WASI has.
const FIXED: usize = 64;
/// A vector: pointer and length.
const VECTOR: usize = 8;
/// The most that Linux takes for arguments and environment together.
const STRINGS: usize = 6 << 20;

/// The pointers of all functions that have any and are not our own.
const POINTERS: &[(&str, &[Pointer])] = &[
    ("args_get", &[Strings(0), Strings(1)]),
    ("args_sizes_get", &[Fixed(0), Fixed(1)]),
    ("environ_get", &[Strings(0), Strings(1)]),
    ("environ_sizes_get", &[Fixed(0), Fixed(1)]),
    ("clock_res_get", &[Fixed(1)]),
    ("clock_time_get", &[Fixed(2)]),
    ("fd_fdstat_get", &[Fixed(1)]),
    ("fd_filestat_get", &[Fixed(1)]),
    ("fd_pread", &[Vectors(1), Fixed(4)]),
    ("fd_prestat_get", &[Fixed(1)]),
    ("fd_prestat_dir_name", &[Bytes(1)]),
    ("fd_pwrite", &[Vectors(1), Fixed(4)]),
    ("fd_read", &[Vectors(1), Fixed(3)]),
    ("fd_readdir", &[Bytes(1), Fixed(4)]),
    ("fd_seek", &[Fixed(3)]),
    ("fd_tell", &[Fixed(1)]),
    ("fd_write", &[Vectors(1), Fixed(3)]),
    ("path_create_directory", &[Bytes(1)]),
    ("path_filestat_get", &[Bytes(2), Fixed(4)]),
    ("path_filestat_set_times", &[Bytes(2)]),
    ("path_link", &[Bytes(2), Bytes(5)]),
    ("path_open", &[Bytes(2), Fixed(8)]),
    ("path_readlink", &[Bytes(1), Bytes(3), Fixed(5)]),
    ("path_remove_directory", &[Bytes(1)]),
    ("path_rename", &[Bytes(1), Bytes(4)]),
    ("path_symlink", &[Bytes(0), Bytes(3)]),
    ("path_unlink_file", &[Bytes(1)]),
    ("random_get", &[Bytes(0)]),
    ("sock_accept", &[Fixed(2)]),
    ("sock_recv", &[Vectors(1), Fixed(4), Fixed(5)]),
    ("sock_send", &[Vectors(1), Fixed(4)]),
];

/// The functions behind these, once they were called.
#[derive(Debug, Default)]
pub(crate) struct Functions([Option<Func>; POINTERS.len()]);

/// Puts a look at the pointers before each function of WASI that takes any and that this module imports, if it can map
/// anything.
pub(crate) fn guard(linker: &mut Linker<Guest>, module: &Module) -> wasmtime::Result<()> {
    let can_map = |import: ImportType<'_>| import.module() == shared::MODULE && import.name() == "map";
    if !module.imports().any(can_map) {
        return Ok(());
    }
    let mut plain = Linker::new(linker.engine());
    super::add_to_linker(&mut plain)?;
    let plain = Arc::new(plain);
    linker.allow_shadowing(true);
    for import in module.imports().filter(|import| import.module() == MODULE) {
        let Some(index) = POINTERS.iter().position(|(name, _)| *name == import.name()) else { continue };
        // Its type was compared with the real one's when the module was checked.
        let Some(ty) = import.ty().func().cloned() else { continue };
        let plain = plain.clone();
        linker.func_new(MODULE, import.name(), ty, move |mut caller, arguments, results| {
            call(&mut caller, &plain, index, arguments, results)
        })?;
    }
    linker.allow_shadowing(false);
    Ok(())
}

fn call(
    caller: &mut Caller<'_, Guest>,
    plain: &Linker<Guest>,
    index: usize,
    arguments: &[Val],
    results: &mut [Val],
) -> wasmtime::Result<()> {
    let Some((name, pointers)) = POINTERS.get(index) else { return Ok(()) };
    if pointers.iter().any(|pointer| touches_mapped(caller, *pointer, arguments)) {
        results.iter_mut().for_each(|result| *result = Val::I32(ERRNO_FAULT));
        return Ok(());
    }
    let function = match caller.data().wasi_functions.0.get(index) {
        Some(Some(function)) => *function,
        _ => {
            let found = plain.get(caller.as_context_mut(), MODULE, name)?;
            let function = found.into_func().ok_or_else(|| wasmtime::Error::msg("WASI has changed"))?;
            if let Some(known) = caller.data_mut().wasi_functions.0.get_mut(index) {
                *known = Some(function);
            }
            function
        }
    };
    function.call(caller.as_context_mut(), arguments, results)
}

/// Whether the host would look at a mapped range.
fn touches_mapped(caller: &mut Caller<'_, Guest>, pointer: Pointer, arguments: &[Val]) -> bool {
    let argument = |at: usize| arguments.get(at).and_then(Val::i32).unwrap_or(0) as u32 as usize;
    let Some(memory) = caller.data().memory else { return false };
    let (memory, guest) = memory.data_and_store_mut(caller);
    let mapped = |at: usize, len: usize| guest.mappings.overlap(at, len);
    match pointer {
        Fixed(at) => mapped(argument(at), FIXED),
        Bytes(at) => mapped(argument(at), argument(at + 1)),
        Strings(at) => mapped(argument(at), STRINGS),
        Vectors(at) => {
            let (start, len) = (argument(at), argument(at + 1).saturating_mul(VECTOR));
            // What lies outside of the memory is for the function itself to refuse.
            let vectors = memory.get(start..).and_then(|rest| rest.get(..len)).unwrap_or_default();
            mapped(start, len)
                || vectors.as_chunks::<VECTOR>().0.iter().any(|[a, b, c, d, e, f, g, h]| {
                    let at = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
                    mapped(at, u32::from_le_bytes([*e, *f, *g, *h]) as usize)
                })
        }
    }
}
