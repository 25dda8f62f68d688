//! The contract between Sandpool's host and its guests: import modules, functions, error numbers, layouts.
//!
//! Host and SDKs are both built on this crate, so that they can't disagree. The author of an SDK for another language
//! needs nothing but this page; `guest-sdk/c/sandpool.h` has the same for C, and is made from this crate.
//!
//! # A guest
//!
//! A guest is a WebAssembly *core* module for WASI preview 1 with a `_start` export and a memory exported as
//! `memory`; a module that has [tasks](task) needs no `_start`. A custom section named [`ABI_SECTION`] says which
//! version of this contract the guest was built against: the first four bytes of the section are [`ABI_VERSION`] in
//! little-endian order. A module without that section is taken to be of the current version.
//!
//! # Conventions
//!
//! * Functions are declared as in Rust for wasm32: pointers, `usize`, `u32` and `i32` are wasm's `i32`, and `u64` and
//!   `i64` its `i64`.
//! * Pointers and lengths are offsets into the guest's memory, read as unsigned.
//! * A **handle** is an `i64` greater than zero: a table index and a generation. A handle names the same thing in
//!   each process of a run, but works only in the processes that were given the handle: by fork, by spawn, or in a
//!   message.
//! * A **timeout** is an `i64` of nanoseconds, read as unsigned: [`NO_WAIT`] doesn't block, [`FOREVER`] has no end.
//! * A function with an `i32` result returns 0 or an [`Errno`]. A function with an `i64` result returns a value of
//!   zero or more, or a negated [`Errno`].
//! * A bad pointer, length, handle or flag is an [`Errno`], never a crash of anything but the guest.
//!
//! # Functions
//!
//! The tables in [`process`], [`queue`], [`pipe`], [`sync`], [`shared`], [`shelf`], [`task`], [`handle`], [`descriptor`] and
//! [`connection`]
//! give each function with its declaration. They are data as well: [`MODULES`].

#![no_std]

// Rows name types by paths that are good in any crate.
extern crate self as sandpool_abi;

#[macro_use]
mod table;

pub mod connection;
pub mod descriptor;
mod errno;
pub mod handle;
#[cfg(feature = "nesting")]
pub mod nesting;
pub mod pipe;
pub mod process;
pub mod queue;
pub mod shared;
pub mod shelf;
pub mod sync;
pub mod task;

pub use errno::Errno;
pub use table::{
    Constant, Declared, Field, Import, Layout, Module, Pointed, Pointee, Type, Value, ValueType,
};

constants! {
    // Raise it with each change that an already compiled guest would notice, and change `FINGERPRINT` with it.
    /// The version of this contract. A host runs guests of its own version only.
    ABI_VERSION: u32 = 1;
    /// The custom section that carries a guest's [`ABI_VERSION`].
    ABI_SECTION: text = "sandpool-abi";
    /// A timeout that doesn't wait.
    NO_WAIT: u64 = 0;
    /// A timeout that never ends.
    FOREVER: u64 = u64::MAX;
    /// The longest name of a process, in bytes of UTF-8.
    NAME_MAX: usize = 127;
    /// The maximum number of handles that one message, or the arguments of one spawn, may carry.
    MESSAGE_HANDLES_MAX: usize = 1024;
    /// The maximum number of handles that one call of `wait` may name.
    WAIT_MAX: usize = 4096;
}

macro_rules! modules {
    ($($module:ident),*) => {
        &[$(Module {
            name: $module::MODULE,
            imports: $module::IMPORTS,
            constants: $module::CONSTANTS,
            layouts: $module::LAYOUTS,
        }),*]
    };
}

/// The import modules.
pub const MODULES: &[Module] =
    modules![process, queue, pipe, sync, shared, shelf, task, handle, descriptor, connection];

/// Returns every import that the host provides, beside WASI preview 1.
pub fn imports() -> impl Iterator<Item = &'static Import> {
    MODULES.iter().flat_map(|module| module.imports)
}

/// A hash of all names and signatures, which changes when the contract does.
pub const FINGERPRINT: u64 = table::fingerprint(MODULES);

/// Whether a character should be escaped where people read it, because it isn't only shown: the controls of ASCII and
/// ISO 6429 (C0, DEL, C1), ends of lines and paragraphs, marks that change the direction of text, and invisible
/// characters.
#[must_use]
pub fn is_unfit(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}'
            | '\u{34f}'
            | '\u{61c}'
            | '\u{115f}'..='\u{1160}'
            | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}'
            | '\u{3164}'
            | '\u{feff}'
            | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}
