//! A guest's memory for the time of a call: the only way by which host code reads or writes it.
//!
//! Other processes change a [mapped](super::mappings) range at any time, and the range may be read-only. So imports get
//! a [`Memory`], which refuses these ranges. Functions of wasmtime-wasi, which take all of the memory, are [lent](lend)
//! it after a look at each range that they are going to use. `clippy.toml` disallows the methods of wasmtime that get
//! at the bytes; this module and `mappings` are the exceptions.
#![expect(clippy::disallowed_methods, reason = "this is the way by which others get to a guest's memory")]

use sandpool_abi::handle::Record;
use sandpool_abi::queue::PARTS_MAX;
use sandpool_abi::{Errno, MESSAGE_HANDLES_MAX};
use wasmtime::{Caller, Extern, WasmBacktrace};
use wiggle::GuestMemory;

use super::mapped_ranges::Mappings;
use super::{Guest, Process, exit};
use crate::engine::trap::MissingMemory;
use crate::ipc::Result;
use crate::ipc::object::Handle;

/// The memory that the guest exports.
#[inline]
pub(super) fn exported(caller: &mut Caller<'_, Guest>) -> wasmtime::Memory {
    match caller.data().memory {
        Some(memory) => memory,
        None => exported_early(caller),
    }
}

/// Looks the memory up. A module that has no memory for its imports ends here: no errno would say as plainly what is missing.
#[cold]
fn exported_early(caller: &mut Caller<'_, Guest>) -> wasmtime::Memory {
    if let Some(memory) = found_early(caller) {
        return memory;
    }
    let backtrace = WasmBacktrace::force_capture(&*caller);
    exit::crash(caller.data(), &wasmtime::Error::from(MissingMemory).context(backtrace))
}

/// Looks the memory up for a start function, which runs while the module is instantiated.
#[cold]
fn found_early(caller: &mut Caller<'_, Guest>) -> Option<wasmtime::Memory> {
    caller.get_export("memory").and_then(Extern::into_memory)
}

/// A guest's memory, and its process.
#[inline]
pub(crate) fn view<'a>(caller: &'a mut Caller<'_, Guest>) -> Result<(Memory<'a>, &'a mut Process)> {
    let (bytes, guest) = exported(caller).data_and_store_mut(caller);
    Ok((Memory { bytes, mappings: &guest.mappings }, &mut guest.process))
}

/// Bytes that a function reads or writes: their address, and their number.
pub(super) type Range = (i32, usize);

/// Bytes of a vector: a pointer and a length.
pub(super) const VECTOR: usize = 8;

/// Lends all of a guest's memory to a function of WASI that uses only these ranges of it, and those that the vectors in
/// `list` name. That function has to refuse ranges outside of the memory.
///
/// `FAULT` if anything is mapped in one of them. A function that uses nothing needs no memory.
pub(super) fn lend<'a>(
    caller: &'a mut Caller<'_, Guest>,
    ranges: &[Range],
    list: Option<Range>,
) -> Result<(GuestMemory<'a>, &'a mut Guest)> {
    let memory = if ranges.is_empty() && list.is_none() {
        caller.data().memory.or_else(|| found_early(caller))
    } else {
        Some(exported(caller))
    };
    let Some(memory) = memory else { return Ok((GuestMemory::Unshared(&mut []), caller.data_mut())) };
    let (bytes, guest) = memory.data_and_store_mut(caller);
    if !guest.mappings.is_empty() && use_mapped(bytes, &guest.mappings, ranges, list) {
        return Err(Errno::Fault);
    }
    Ok((GuestMemory::Unshared(bytes), guest))
}

fn use_mapped(memory: &[u8], mappings: &Mappings, ranges: &[Range], list: Option<Range>) -> bool {
    let overlap = |at: i32, len: usize| mappings.overlap(at as u32 as usize, len);
    // This comes before the list's content is believed: in a mapped range, the list could change.
    if ranges.iter().chain(&list).any(|(at, len)| overlap(*at, *len)) {
        return true;
    }
    let (start, len) = list.unwrap_or((0, 0));
    let vectors = memory.get(start as u32 as usize..).and_then(|rest| rest.get(..len)).unwrap_or_default();
    vectors.as_chunks::<VECTOR>().0.iter().any(|[a, b, c, d, e, f, g, h]| {
        overlap(i32::from_le_bytes([*a, *b, *c, *d]), u32::from_le_bytes([*e, *f, *g, *h]) as usize)
    })
}

/// The bytes of a guest's memory, except those that are mapped.
pub(crate) struct Memory<'a> {
    bytes: &'a mut [u8],
    mappings: &'a Mappings,
}

impl Memory<'_> {
    /// The bytes that a pointer and a length name.
    #[inline]
    pub(crate) fn bytes(&self, at: i32, len: i32) -> Result<&[u8]> {
        let (at, len) = self.checked(at, len)?;
        self.bytes.get(at..).and_then(|rest| rest.get(..len)).ok_or(Errno::Fault)
    }

    #[inline]
    pub(crate) fn bytes_mut(&mut self, at: i32, len: i32) -> Result<&mut [u8]> {
        let (at, len) = self.checked(at, len)?;
        self.bytes.get_mut(at..).and_then(|rest| rest.get_mut(..len)).ok_or(Errno::Fault)
    }

    #[inline]
    fn checked(&self, at: i32, len: i32) -> Result<(usize, usize)> {
        let (at, len) = (at as u32 as usize, len as u32 as usize);
        if self.mappings.overlap(at, len) { Err(Errno::Fault) } else { Ok((at, len)) }
    }

    pub(crate) fn text(&self, at: i32, len: i32) -> Result<&str> {
        std::str::from_utf8(self.bytes(at, len)?).map_err(|_| Errno::Inval)
    }

    /// `count` 64-bit values; at most `max`.
    pub(crate) fn words(&self, at: i32, count: i32, max: usize) -> Result<Vec<u64>> {
        if count as u32 as usize > max {
            return Err(Errno::Inval);
        }
        let bytes = self.bytes(at, count.checked_mul(8).ok_or(Errno::Fault)?)?;
        Ok(bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect())
    }

    #[inline]
    pub(crate) fn handles(&self, at: i32, count: i32) -> Result<Vec<Handle>> {
        // Most calls pass none.
        if count == 0 { Ok(Vec::new()) } else { self.some_handles(at, count) }
    }

    #[cold]
    fn some_handles(&self, at: i32, count: i32) -> Result<Vec<Handle>> {
        Ok(self.words(at, count, MESSAGE_HANDLES_MAX)?.into_iter().map(Handle).collect())
    }

    /// The parts of an item that is put or taken in parts: addresses and lengths.
    pub(crate) fn parts(&self, at: i32, count: i32) -> Result<Vec<(i32, i32)>> {
        let parts = self.words(at, count, PARTS_MAX)?;
        Ok(parts.into_iter().map(|part| (part as i32, (part >> 32) as i32)).collect())
    }

    /// The bytes of such parts.
    pub(crate) fn gather(&self, at: i32, count: i32) -> Result<Vec<&[u8]>> {
        self.parts(at, count)?.into_iter().map(|(at, len)| self.bytes(at, len)).collect()
    }

    /// Reads `len` bytes into these parts, one after another. The parts must have exactly that much room, so that the
    /// caller knows that all of them were written. `read` is given the number of the first byte for each part.
    pub(crate) fn scatter(
        &mut self,
        parts: &[(i32, i32)],
        len: u64,
        read: impl Fn(u64, &mut [u8]) -> Result<()>,
    ) -> Result<()> {
        if parts.iter().map(|part| u64::from(part.1 as u32)).sum::<u64>() != len {
            return Err(Errno::Inval);
        }
        let mut at = 0;
        for part in parts {
            let out = self.bytes_mut(part.0, part.1)?;
            read(at, out)?;
            at += out.len() as u64;
        }
        Ok(())
    }

    /// Copies as much of `from` as fits, and returns its whole length.
    pub(crate) fn fill(&mut self, at: i32, capacity: i32, from: &[u8]) -> Result<i64> {
        let to = self.bytes_mut(at, capacity)?;
        to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        Ok(from.len() as i64)
    }

    /// Copies as many 64-bit values as fit, and returns the number of all; `capacity` counts values.
    pub(crate) fn fill_words(
        &mut self,
        at: i32,
        capacity: i32,
        from: impl ExactSizeIterator<Item = u64>,
    ) -> Result<i64> {
        let count = from.len() as i64;
        let to = self.bytes_mut(at, capacity.checked_mul(8).ok_or(Errno::Fault)?)?;
        to.as_chunks_mut::<8>().0.iter_mut().zip(from).for_each(|(to, from)| *to = from.to_le_bytes());
        Ok(count)
    }

    /// Copies as many [records](Record) of objects as fit, and returns the number of all; `capacity` counts records.
    pub(crate) fn fill_records(&mut self, at: i32, capacity: i32, from: &[Record]) -> Result<i64> {
        let words = from.iter().flat_map(|record| {
            [record.handle, u64::from(record.kind) | u64::from(record.tag) << 32, record.partner]
        });
        let words: Vec<u64> = words.collect();
        self.fill_words(at, capacity.checked_mul(3).ok_or(Errno::Fault)?, words.into_iter())?;
        Ok(from.len() as i64)
    }

    /// Writes a struct of little-endian 32-bit fields.
    pub(crate) fn store<const N: usize>(&mut self, at: i32, fields: [u32; N]) -> Result<()> {
        let to = self.bytes_mut(at, (N * 4) as i32)?;
        to.as_chunks_mut::<4>().0.iter_mut().zip(fields).for_each(|(to, from)| *to = from.to_le_bytes());
        Ok(())
    }
}
