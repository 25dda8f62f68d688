//! The imports as they are, and one safe function for each: the only unsafe code of this crate.
//!
//! One file has one import module. Its declarations come from the table in `sandpool-abi`, so that they can't differ
//! from what the host provides; the wrappers are written by hand. A wrapper adds nothing but types. Its pointers come
//! from references, so the host reads and writes only memory that the call borrows, for as long as the call lasts:
//! the host keeps no address beyond it.

#![allow(unsafe_code, reason = "imports take addresses; everything else in the crate goes through here")]

/// Declares the rows that the table of imports passes on, in a module `import`; off wasm, functions of the same names
/// that report that the import is missing. So the crate compiles, and can be documented and linted, for the development
/// machine.
macro_rules! declare {
    ($module:tt: $(
        $(#[$doc:meta])*
        $safety:ident fn $name:ident($($arg:ident: $type:ty),*) -> $result:ty;
    )*) => {
        #[cfg(target_arch = "wasm32")]
        #[allow(dead_code, reason = "some imports are for other languages")]
        mod import {
            #[link(wasm_import_module = $module)]
            unsafe extern "C" {
                $(pub(super) $safety fn $name($($arg: $type),*) -> $result;)*
            }
        }
        #[cfg(not(target_arch = "wasm32"))]
        #[allow(dead_code, reason = "some imports are for other languages")]
        mod import {
            $(stub!($safety $module $name($($type),*) -> $result);)*
        }
    };
}

#[cfg(not(target_arch = "wasm32"))]
macro_rules! stub {
    (safe $module:tt $name:ident($($type:ty),*) -> $result:ty) => {
        pub(super) fn $name($(_: $type),*) -> $result {
            panic!("{}.{} only works inside sandpool: build for wasm32-wasip1 and start it with `sandpool run`", $module, stringify!($name))
        }
    };
    (unsafe $module:tt $name:ident($($type:ty),*) -> $result:ty) => {
        pub(super) unsafe fn $name($(_: $type),*) -> $result {
            panic!("{}.{} only works inside sandpool: build for wasm32-wasip1 and start it with `sandpool run`", $module, stringify!($name))
        }
    };
}

/// Makes the function for two imports: one takes an item as a whole, the other in parts, if its bytes lie in several
/// places.
macro_rules! put {
    ($name:ident: $whole:path, $in_parts:path) => {
        pub(crate) fn $name(
            to: u64,
            item: &[&[u8]],
            handles: &[u64],
            timeout: u64,
        ) -> Result<(), sandpool_abi::Errno> {
            let (list, count) = (handles.as_ptr(), handles.len());
            crate::raw::told(|| match item {
                // SAFETY: the host reads the bytes of the item and `count` 64-bit values, kept readable by their
                // references, and keeps copies.
                [item] => unsafe { $whole(to, item.as_ptr(), item.len(), list, count, timeout) },
                item => {
                    let parts: Vec<_> =
                        item.iter().map(|bytes| crate::raw::part(bytes.as_ptr(), bytes.len())).collect();
                    // SAFETY: as above; and before, the parts, which are kept as long.
                    unsafe { $in_parts(to, parts.as_ptr(), parts.len(), list, count, timeout) }
                }
            })
        }
    };
}

/// Makes the export that the host calls after an abort, which calls this function.
macro_rules! export_aborted {
    ($aborted:path) => {
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code, reason = "the name is the contract's, and no other export has it")]
        #[unsafe(no_mangle)]
        extern "C" fn sandpool_aborted() {
            $aborted();
        }
    };
}
pub(crate) use export_aborted;

pub(crate) mod cast;
pub(crate) mod clock;
pub(crate) mod connection;
#[allow(dead_code, reason = "the SDK gives no handles of descriptors away, and replaces none")]
pub(crate) mod descriptor;
pub(crate) mod function;
pub(crate) mod handle;
pub(crate) mod mute;
pub(crate) mod pipe;
pub(crate) mod process;
pub(crate) mod queue;
pub(crate) mod random;
pub(crate) mod shared;
pub(crate) mod shelf;
pub(crate) mod sync;
pub(crate) mod task;
pub(crate) mod value;

use bytemuck::Pod;
use sandpool_abi::Errno;
use sandpool_abi::queue::Part;

/// Converts an error number. A number that this version of the contract doesn't have can only come from a damaged
/// arena.
#[cold]
fn errno(code: i32) -> Errno {
    Errno::from_code(code).unwrap_or(Errno::Io)
}

#[inline]
fn done(code: i32) -> Result<(), Errno> {
    if code == 0 { Ok(()) } else { Err(errno(code)) }
}

/// Makes a call that tells other processes something: the call isn't made while this process is [mute].
#[inline]
fn told(call: impl FnOnce() -> i32) -> Result<(), Errno> {
    if mute::is_on() { Ok(()) } else { done(call()) }
}

/// Checks before a call that waits for other processes, which may never have been told of the reason: while this
/// process is [mute], the result is `errno`.
#[inline]
fn unless_mute(errno: Errno) -> Result<(), Errno> {
    if mute::is_on() { Err(errno) } else { Ok(()) }
}

fn value(result: i64) -> Result<u64, Errno> {
    u64::try_from(result).map_err(|_| errno(i32::try_from(result.saturating_neg()).unwrap_or(i32::MAX)))
}

fn length(result: i64) -> Result<usize, Errno> {
    usize::try_from(value(result)?).map_err(|_| Errno::Io)
}

/// Tells the host where bytes are, or are to be written.
fn part(at: *const u8, len: usize) -> Part {
    // The host finds the bytes by their address: for the compiler, the host may use whatever has been exposed.
    Part { at: at.expose_provenance() as u32, len: len as u32 }
}

/// Makes a vector of this length that is written without being cleared before. Returns `None` if there is no memory
/// for it.
///
/// # Safety
/// `write` gets the address of this number of elements, and if it returns no error, it has had all of them written.
unsafe fn written<E: Pod>(
    len: usize,
    write: impl FnOnce(*mut E) -> Result<(), Errno>,
) -> Option<Result<Vec<E>, Errno>> {
    let mut elements = Vec::new();
    elements.try_reserve_exact(len).ok()?;
    Some(write(elements.as_mut_ptr()).map(|()| {
        // SAFETY: there is room for them, and all were written, by this function's contract. Any bits are an element.
        unsafe { elements.set_len(len) };
        elements
    }))
}
