//! `sandpool_shared`, and shared memory at addresses of this process.

use std::marker::PhantomData;
use std::ptr::with_exposed_provenance_mut;
use std::slice;
use std::sync::Arc;

use bytemuck::Pod;

use super::handle::Object;
use super::{Errno, done, length, value};

sandpool_abi::shared_imports!(declare);

pub(crate) fn create(size: u64, flags: u32, name: &str) -> Result<u64, Errno> {
    // SAFETY: the host reads `name.len()` bytes at `name`, which the reference keeps readable.
    value(unsafe { import::create(size, flags, name.as_ptr(), name.len()) })
}

pub(crate) fn open(name: &str) -> Result<u64, Errno> {
    // SAFETY: as in `create`.
    value(unsafe { import::open(name.as_ptr(), name.len()) })
}

/// Returns a handle by which the memory can only be read.
pub(crate) fn view(shared: u64) -> Result<u64, Errno> {
    value(import::view(shared))
}

pub(crate) fn unlink(name: &str) -> Result<(), Errno> {
    // SAFETY: as in `create`.
    super::told(|| unsafe { import::unlink(name.as_ptr(), name.len()) })
}

pub(crate) fn size(shared: u64) -> Result<u64, Errno> {
    value(import::size(shared))
}

/// Returns the name; empty if the memory has none.
pub(crate) fn name(shared: u64) -> Result<String, Errno> {
    let mut buffer = [0; sandpool_abi::NAME_MAX];
    // SAFETY: the host writes at most `buffer.len()` bytes at `buffer`, which is exclusively ours; any byte is a
    // valid `u8`.
    let len = length(unsafe { import::name(shared, buffer.as_mut_ptr(), buffer.len()) })?;
    let name = buffer.get(..len).ok_or(Errno::Io)?;
    Ok(String::from_utf8_lossy(name).into_owned())
}

/// The host makes this copy, so no other process's store can fall into a load of this one's.
pub(crate) fn read(shared: u64, offset: u64, buffer: &mut [u8]) -> Result<(), Errno> {
    // SAFETY: the host writes at most `buffer.len()` bytes at `buffer`, which is exclusively ours; any byte is a
    // valid `u8`.
    done(unsafe { import::read(shared, offset, buffer.as_mut_ptr(), buffer.len()) })
}

pub(crate) fn write(shared: u64, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
    // SAFETY: the host reads the bytes of `bytes`, kept readable by the reference. It refuses to if this process
    // has mapped them, so what it writes to isn't among them.
    super::told(|| unsafe { import::write(shared, offset, bytes.as_ptr(), bytes.len()) })
}

/// Traps if the offset or the width is bad, like the next three functions.
pub(crate) fn load(shared: u64, offset: u64, width: u32) -> u64 {
    import::load(shared, offset, width).cast_unsigned()
}

pub(crate) fn store(shared: u64, offset: u64, width: u32, value: u64) {
    if !super::mute::is_on() {
        import::store(shared, offset, width, value);
    }
}

/// Returns the previous value.
pub(crate) fn rmw(shared: u64, offset: u64, width: u32, operation: u32, operand: u64) -> u64 {
    if super::mute::is_on() {
        return load(shared, offset, width);
    }
    import::rmw(shared, offset, width, operation, operand).cast_unsigned()
}

/// Returns the previous value.
pub(crate) fn compare_exchange(shared: u64, offset: u64, width: u32, expected: u64, new: u64) -> u64 {
    if super::mute::is_on() {
        return load(shared, offset, width);
    }
    import::compare_exchange(shared, offset, width, expected, new).cast_unsigned()
}

/// Shared memory at addresses of this process, or of one that was forked from it: a fork has what its creator has
/// mapped.
///
/// The memory belongs to none of Rust's allocations: like the memory of a device, others change it. So the safe
/// accessors are volatile, one load or store each.
pub(crate) struct Mapping {
    address: usize,
    len: usize,
    /// Without a use of the handle, the host would unmap it.
    object: Arc<Object>,
}

impl Mapping {
    /// Maps all `len` bytes of the object.
    pub(crate) fn new(object: Arc<Object>, len: usize, flags: u32) -> Result<Self, Errno> {
        let address = length(import::map(object.handle(), flags))?;
        // The code below relies on all three. Wasm's pages of 64 KiB are aligned for any type.
        let fits = address.checked_add(len).is_some() && isize::try_from(len).is_ok();
        if address == 0 || address % 65_536 != 0 || !fits {
            return Err(Errno::Io);
        }
        Ok(Self { address, len, object })
    }

    pub(crate) fn handle(&self) -> u64 {
        self.object.handle()
    }

    /// Returns the address of an element.
    #[inline]
    fn element<T: Pod>(&self, index: usize) -> Option<*mut T> {
        const { assert!(size_of::<T>() > 0, "elements have a size") }
        const { assert!(align_of::<T>() <= 65_536, "no page of wasm is aligned so") }
        let end = index.checked_add(1)?.checked_mul(size_of::<T>())?;
        (end <= self.len).then(|| with_exposed_provenance_mut::<T>(self.address).wrapping_add(index))
    }

    /// One load, if an element is 1, 2, 4 or 8 bytes of plain integer or float.
    #[inline]
    pub(crate) fn get<T: Pod>(&self, index: usize) -> Option<T> {
        let element = self.element::<T>(index)?;
        // SAFETY: it is inside of what is mapped for as long as `self` lives, and aligned, as `new` and `element`
        // have checked; any bytes are a valid `T`, which is `Pod`. Other processes may store at the same time, which a
        // volatile load is for. In this process, nobody has a `&mut` there: see `slice_mut`.
        Some(unsafe { element.read_volatile() })
    }

    /// One store, likewise. Returns `None` if the element is outside.
    #[inline]
    pub(crate) fn set<T: Pod>(&self, index: usize, value: T) -> Option<()> {
        let element = self.element::<T>(index)?;
        // SAFETY: as in `get`; nor does anybody have a `&` there. If it was mapped to be read only then this traps.
        unsafe { element.write_volatile(value) };
        Some(())
    }

    /// One store for each 8 bytes, starting at the 8 bytes of this index; missing bytes of the last 8 are 0. Returns
    /// the number of stores. `None`, and no store, if they aren't all inside.
    #[inline(always)]
    pub(crate) fn set_words(&self, index: usize, bytes: &[u8]) -> Option<usize> {
        let (words, rest) = bytes.as_chunks::<8>();
        let count = words.len() + usize::from(!rest.is_empty());
        let last = index.checked_add(count)?.checked_sub(1)?;
        self.element::<u64>(last)?;
        let first = self.element::<u64>(index)?;
        let write = |at, word| {
            // SAFETY: as in `set`, for an element from `first` to `last`, which are inside.
            unsafe { first.wrapping_add(at).write_volatile(u64::from_le_bytes(word)) };
        };
        match words {
            // A number and the bytes before it: not worth a loop.
            [one, two] => {
                write(0, *one);
                write(1, *two);
            }
            _ => words.iter().enumerate().for_each(|(at, word)| write(at, *word)),
        }
        if !rest.is_empty() {
            let mut word = [0; 8];
            word.iter_mut().zip(rest).for_each(|(to, byte)| *to = *byte);
            write(words.len(), word);
        }
        Some(count)
    }

    /// The first `len` elements.
    ///
    /// # Safety
    /// While the slice lives, nobody stores to them: not in this process, nor in any other.
    pub(crate) unsafe fn slice<T: Pod>(&self, len: usize) -> Option<&[T]> {
        let first = self.all::<T>(len)?;
        // SAFETY: `len` elements are inside of what is mapped for as long as `self` lives, and aligned; any bytes are a
        // valid `T`, and by this function's contract none changes.
        Some(unsafe { slice::from_raw_parts(first, len) })
    }

    /// The first `len` elements.
    ///
    /// # Safety
    /// While the slice lives, nobody loads or stores them in another way: not in this process, nor in any other.
    #[allow(clippy::mut_from_ref, reason = "the memory isn't that of `self`, and the caller has it alone")]
    pub(crate) unsafe fn slice_mut<T: Pod>(&self, len: usize) -> Option<&mut [T]> {
        let first = self.all::<T>(len)?;
        // SAFETY: as in `slice`; by this function's contract the slice is the only way to them.
        Some(unsafe { slice::from_raw_parts_mut(first, len) })
    }

    fn all<T: Pod>(&self, len: usize) -> Option<*mut T> {
        match len.checked_sub(1) {
            Some(last) => self.element::<T>(last).map(|element| element.wrapping_sub(last)),
            None => Some(with_exposed_provenance_mut(self.address)),
        }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: no reference into it is left, as each borrows the mapping (or, from a public function that is unsafe,
        // the object that owns it). If that fails then nothing was mapped there.
        let _ = unsafe { import::unmap(self.address) };
    }
}

/// A slice of a mapping that nobody else uses.
pub(crate) struct Exclusive<T> {
    mapping: Arc<Mapping>,
    len: usize,
    elements: PhantomData<T>,
}

impl<T: Pod> Exclusive<T> {
    /// # Safety
    /// While it lives, nobody loads or stores the first `len` elements in another way: not in this process, nor in
    /// any other, nor in a copy of this process.
    pub(crate) unsafe fn new(mapping: Arc<Mapping>, len: usize) -> Result<Self, Errno> {
        mapping.all::<T>(len).ok_or(Errno::Io)?;
        Ok(Self { mapping, len, elements: PhantomData })
    }

    pub(crate) fn handle(&self) -> u64 {
        self.mapping.handle()
    }

    pub(crate) fn as_slice(&self) -> &[T] {
        // SAFETY: by the contract of `new`, only through `self` are they stored to, which this borrows.
        unsafe { self.mapping.slice(self.len) }.unwrap_or_default()
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: by the contract of `new`, only through `self` are they used, which this borrows exclusively.
        unsafe { self.mapping.slice_mut(self.len) }.unwrap_or_default()
    }
}
