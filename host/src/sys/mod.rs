//! The only unsafe code of the host: interfaces of the operating system and the hardware, made safe.
//!
//! This is the single folder to edit in a port. Each `unsafe` block lists the invariants it relies on.
#![allow(unsafe_code, reason = "this folder exists to hold it")]

pub(crate) mod artifact;
pub(crate) mod atomic;
pub(crate) mod capabilities;
pub(crate) mod clone;
pub(crate) mod fd;
pub(crate) mod futex;
pub(crate) mod landlock;
pub(crate) mod mem;
pub(crate) mod memory_file;
#[cfg(test)]
pub(crate) mod model;
pub(crate) mod namespace;
pub(crate) mod process;
