//! A guest's memory for the time of a call.

use sandpool_abi::queue::PARTS_MAX;
use sandpool_abi::{Errno, MESSAGE_HANDLES_MAX};

use crate::ipc::Result;
use crate::ipc::object::Handle;
use crate::process::mappings::Mappings;

/// The bytes of a guest's memory, less those that are mapped: other processes change these at any time, so that no
/// slice of them may be looked at.
pub(super) struct Memory<'a> {
    bytes: &'a mut [u8],
    mappings: &'a Mappings,
}

impl<'a> Memory<'a> {
    pub(super) fn new(bytes: &'a mut [u8], mappings: &'a Mappings) -> Self {
        Self { bytes, mappings }
    }

    /// The bytes that a pointer and a length name.
    #[inline]
    pub(super) fn bytes(&self, at: i32, len: i32) -> Result<&[u8]> {
        let (at, len) = self.checked(at, len)?;
        self.bytes.get(at..).and_then(|rest| rest.get(..len)).ok_or(Errno::Fault)
    }

    #[inline]
    pub(super) fn bytes_mut(&mut self, at: i32, len: i32) -> Result<&mut [u8]> {
        let (at, len) = self.checked(at, len)?;
        self.bytes.get_mut(at..).and_then(|rest| rest.get_mut(..len)).ok_or(Errno::Fault)
    }

    #[inline]
    fn checked(&self, at: i32, len: i32) -> Result<(usize, usize)> {
        let (at, len) = (at as u32 as usize, len as u32 as usize);
        if self.mappings.overlap(at, len) { Err(Errno::Fault) } else { Ok((at, len)) }
    }

    pub(super) fn text(&self, at: i32, len: i32) -> Result<&str> {
        std::str::from_utf8(self.bytes(at, len)?).map_err(|_| Errno::Inval)
    }

    /// `count` 64-bit values; at most `max`.
    pub(super) fn words(&self, at: i32, count: i32, max: usize) -> Result<Vec<u64>> {
        if count as u32 as usize > max {
            return Err(Errno::Inval);
        }
        let bytes = self.bytes(at, count.checked_mul(8).ok_or(Errno::Fault)?)?;
        Ok(bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect())
    }

    #[inline]
    pub(super) fn handles(&self, at: i32, count: i32) -> Result<Vec<Handle>> {
        // Most calls pass none.
        if count == 0 { Ok(Vec::new()) } else { self.some_handles(at, count) }
    }

    #[cold]
    fn some_handles(&self, at: i32, count: i32) -> Result<Vec<Handle>> {
        Ok(self.words(at, count, MESSAGE_HANDLES_MAX)?.into_iter().map(Handle).collect())
    }

    /// The parts that an item is given or taken in: addresses and lengths.
    pub(super) fn parts(&self, at: i32, count: i32) -> Result<Vec<(i32, i32)>> {
        let parts = self.words(at, count, PARTS_MAX)?;
        Ok(parts.into_iter().map(|part| (part as i32, (part >> 32) as i32)).collect())
    }

    /// The bytes of such parts.
    pub(super) fn gather(&self, at: i32, count: i32) -> Result<Vec<&[u8]>> {
        self.parts(at, count)?.into_iter().map(|(at, len)| self.bytes(at, len)).collect()
    }

    /// Has `len` bytes read into these parts, one after another, all of which must fit. `read` is told at which byte it is.
    pub(super) fn scatter(
        &mut self,
        parts: &[(i32, i32)],
        len: u64,
        read: impl Fn(u64, &mut [u8]) -> Result<()>,
    ) -> Result<()> {
        let mut at = 0;
        for part in parts {
            let out = self.bytes_mut(part.0, part.1)?;
            let some = usize::try_from(len - at).unwrap_or(usize::MAX).min(out.len());
            read(at, out.get_mut(..some).ok_or(Errno::Fault)?)?;
            at += some as u64;
        }
        if at == len { Ok(()) } else { Err(Errno::Inval) }
    }

    /// Copies as much of `from` as fits, and returns its whole length.
    pub(super) fn fill(&mut self, at: i32, capacity: i32, from: &[u8]) -> Result<i64> {
        let to = self.bytes_mut(at, capacity)?;
        to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        Ok(from.len() as i64)
    }

    /// The same for 64-bit values; `capacity` counts values.
    pub(super) fn fill_words(
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

    /// Writes a struct of little-endian 32-bit fields.
    pub(super) fn store<const N: usize>(&mut self, at: i32, fields: [u32; N]) -> Result<()> {
        let to = self.bytes_mut(at, (N * 4) as i32)?;
        to.as_chunks_mut::<4>().0.iter_mut().zip(fields).for_each(|(to, from)| *to = from.to_le_bytes());
        Ok(())
    }
}
