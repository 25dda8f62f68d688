//! Keeps WASI away from shared memory.
//!
//! wasmtime-wasi takes a guest's memory for its own as long as a call lasts: it looks at a string, finds it to be UTF-8,
//! and uses it as that. In a range that is [mapped](crate::process::mappings), another process could change it in
//! between. So in a module that can map anything, the functions of WASI that take pointers are called through one that
//! looks at these first: what lies in a mapped range is `EFAULT`.
//!
//! By the same way come those of our own that [count](super::files) what is done to files, in whatever module.

use sandpool_abi::shared;
use wasmtime::{AsContextMut as _, Caller, ImportType, Linker, Module};
use wasmtime_wasi::p1::wasi_snapshot_preview1::{self as preview1, WasiSnapshotPreview1 as _};
use wiggle::GuestMemory;

use super::{ERRNO_FAULT, MODULE, files};
use crate::process::Guest;
use crate::process::mappings::Mappings;

/// Bytes that the host reads or writes: from where, and how many.
type Range = (i32, usize);

/// A number or struct of so many bytes.
fn fixed<const SIZE: usize>(at: i32) -> Range {
    (at, SIZE)
}

/// As many bytes as the guest says.
fn bytes(at: i32, len: i32) -> Range {
    (at, len as u32 as usize)
}

/// So many vectors, each a pointer and a length.
fn vectors(at: i32, count: i32) -> Range {
    (at, (count as u32 as usize).saturating_mul(VECTOR))
}

/// So many pointers.
fn pointers(at: i32, count: u32) -> Range {
    (at, (count as usize).saturating_mul(POINTER))
}

const POINTER: usize = 4;

const VECTOR: usize = 8;

/// Whether the host would look at a mapped range: at one of these, or at one that a vector in `list` names.
fn touch_mapped(memory: &[u8], mappings: &Mappings, ranges: &[Range], list: Option<Range>) -> bool {
    let overlap = |at: i32, len: usize| mappings.overlap(at as u32 as usize, len);
    // What lies outside of the memory is for the function itself to refuse.
    let (start, len) = list.unwrap_or((0, 0));
    let vectors = memory.get(start as u32 as usize..).and_then(|rest| rest.get(..len)).unwrap_or_default();
    ranges.iter().chain(&list).any(|(at, len)| overlap(*at, *len))
        || vectors.as_chunks::<VECTOR>().0.iter().any(|[a, b, c, d, e, f, g, h]| {
            overlap(i32::from_le_bytes([*a, *b, *c, *d]), u32::from_le_bytes([*e, *f, *g, *h]) as usize)
        })
}

/// Defines functions of WASI anew: with the ranges that they look at, and the list of vectors if they take one; or with
/// where they put pointers and strings, and who says how many.
macro_rules! functions {
    ($linker:ident: $($kind:ident $name:ident($($arg:ident: $ty:ty),*) [$($range:expr),*]
        $(strings $at:ident $text:ident $sizes:ident)? $(list $list:expr)?;)*) => {
        $($linker.func_wrap(
            MODULE,
            stringify!($name),
            |mut caller: Caller<'_, Guest>, $($arg: $ty),*| -> wasmtime::Result<i32> {
                let Some(memory) = caller.data().memory else { return Ok(ERRNO_FAULT) };
                let fuel = caller.as_context_mut().hostcall_fuel();
                let (memory, guest) = memory.data_and_store_mut(&mut caller);
                let list: Option<Range> = None $(.or(Some($list)))?;
                if touch_mapped(memory, &guest.mappings, &[$($range),*], list) {
                    return Ok(ERRNO_FAULT);
                }
                $(
                    let sizes = guest.wasi.$sizes(&mut GuestMemory::Unshared(&mut *memory));
                    let (count, len) = sizes.unwrap_or_default();
                    let strings = [pointers($at, count), ($text, len as usize)];
                    if touch_mapped(memory, &guest.mappings, &strings, None) {
                        return Ok(ERRNO_FAULT);
                    }
                )?
                let mut memory = GuestMemory::Unshared(memory);
                // What the host may allocate for the guest in this call.
                guest.wasi.set_hostcall_fuel(fuel);
                functions!(@$kind guest memory $name($($arg),*))
            },
        )?;)*
    };
    (@now $guest:ident $memory:ident $name:ident($($arg:ident),*)) => {
        preview1::$name(&mut $guest.wasi, &mut $memory, $($arg),*)
    };
    // The runtime that is current has no driver: what it is given never waits for one.
    (@later $guest:ident $memory:ident $name:ident($($arg:ident),*)) => {
        tokio::runtime::Handle::current().block_on(preview1::$name(&mut $guest.wasi, &mut $memory, $($arg),*))
    };
    (@limited $guest:ident $memory:ident $name:ident($($arg:ident),*)) => {
        tokio::runtime::Handle::current().block_on(files::$name($guest, &mut $memory, $($arg),*))
    };
}

/// Puts our own functions in the place of the library's: those that have [limits](super::files), and, if the module can map
/// anything, a look at the pointers before each that takes any.
pub(crate) fn guard(linker: &mut Linker<Guest>, module: &Module) -> wasmtime::Result<()> {
    linker.allow_shadowing(true);
    functions! { linker:
        limited fd_filestat_set_size(fd: i32, size: i64) [];
        limited fd_pwrite(fd: i32, list: i32, count: i32, offset: i64, out: i32) [fixed::<4>(out)] list vectors(list, count);
        limited fd_readdir(fd: i32, buffer: i32, len: i32, cookie: i64, out: i32) [bytes(buffer, len), fixed::<4>(out)];
        limited fd_write(fd: i32, list: i32, count: i32, out: i32) [fixed::<4>(out)] list vectors(list, count);
        limited path_open(
            fd: i32, lookup: i32, path: i32, len: i32, flags: i32, rights: i64, inheriting: i64, fd_flags: i32, out: i32
        ) [bytes(path, len), fixed::<4>(out)];
    }
    let can_map = |import: ImportType<'_>| import.module() == shared::MODULE && import.name() == "map";
    if module.imports().any(can_map) {
        guard_all(linker)?;
    }
    linker.allow_shadowing(false);
    Ok(())
}

/// A look at the pointers before each other function that takes any.
fn guard_all(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    functions! { linker:
        now args_get(at: i32, text: i32) [] strings at text args_sizes_get;
        now args_sizes_get(count: i32, size: i32) [fixed::<4>(count), fixed::<4>(size)];
        now environ_get(at: i32, text: i32) [] strings at text environ_sizes_get;
        now environ_sizes_get(count: i32, size: i32) [fixed::<4>(count), fixed::<4>(size)];
        now clock_res_get(clock: i32, out: i32) [fixed::<8>(out)];
        now clock_time_get(clock: i32, precision: i64, out: i32) [fixed::<8>(out)];
        later fd_fdstat_get(fd: i32, out: i32) [fixed::<24>(out)];
        later fd_filestat_get(fd: i32, out: i32) [fixed::<64>(out)];
        later fd_pread(fd: i32, list: i32, count: i32, offset: i64, out: i32) [fixed::<4>(out)] list vectors(list, count);
        now fd_prestat_get(fd: i32, out: i32) [fixed::<8>(out)];
        now fd_prestat_dir_name(fd: i32, path: i32, len: i32) [bytes(path, len)];
        later fd_read(fd: i32, list: i32, count: i32, out: i32) [fixed::<4>(out)] list vectors(list, count);
        later fd_seek(fd: i32, offset: i64, whence: i32, out: i32) [fixed::<8>(out)];
        now fd_tell(fd: i32, out: i32) [fixed::<8>(out)];
        later path_create_directory(fd: i32, path: i32, len: i32) [bytes(path, len)];
        later path_filestat_get(fd: i32, flags: i32, path: i32, len: i32, out: i32) [bytes(path, len), fixed::<64>(out)];
        later path_filestat_set_times(
            fd: i32, flags: i32, path: i32, len: i32, accessed: i64, modified: i64, which: i32
        ) [bytes(path, len)];
        later path_link(
            fd: i32, flags: i32, path: i32, len: i32, new_fd: i32, new_path: i32, new_len: i32
        ) [bytes(path, len), bytes(new_path, new_len)];
        later path_readlink(fd: i32, path: i32, len: i32, buffer: i32, capacity: i32, out: i32)
            [bytes(path, len), bytes(buffer, capacity), fixed::<4>(out)];
        later path_remove_directory(fd: i32, path: i32, len: i32) [bytes(path, len)];
        later path_rename(fd: i32, path: i32, len: i32, new_fd: i32, new_path: i32, new_len: i32)
            [bytes(path, len), bytes(new_path, new_len)];
        later path_symlink(path: i32, len: i32, fd: i32, new_path: i32, new_len: i32)
            [bytes(path, len), bytes(new_path, new_len)];
        later path_unlink_file(fd: i32, path: i32, len: i32) [bytes(path, len)];
        now random_get(buffer: i32, len: i32) [bytes(buffer, len)];
        now sock_accept(fd: i32, flags: i32, out: i32) [fixed::<4>(out)];
        now sock_recv(fd: i32, list: i32, count: i32, flags: i32, out: i32, out_flags: i32)
            [fixed::<4>(out), fixed::<2>(out_flags)] list vectors(list, count);
        now sock_send(fd: i32, list: i32, count: i32, flags: i32, out: i32) [fixed::<4>(out)] list vectors(list, count);
    }
    Ok(())
}
