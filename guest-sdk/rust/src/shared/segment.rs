//! A piece of shared memory, mapped or not: the base of all types of this module.

use std::sync::{Arc, OnceLock};

use bytemuck::Pod;
use sandpool_abi::Errno;
use sandpool_abi::shared::READ_ONLY;

use crate::Error;
use crate::object::Object;
use crate::raw::shared::{self, Mapping};

/// A piece of shared memory.
pub(crate) struct Segment {
    object: Arc<Object>,
    size: usize,
    read_only: bool,
    /// Set once the mapping is needed.
    mapping: OnceLock<Arc<Mapping>>,
}

impl Segment {
    /// Makes a segment of zero bytes. An empty `name` means no name.
    pub(crate) fn create(size: usize, flags: u32, name: &str) -> Result<Self, Error> {
        let object = Object::adopt(shared::create(size as u64, flags, name)?);
        Ok(Self { object, size, read_only: false, mapping: OnceLock::new() })
    }

    /// The segment that an object names.
    pub(crate) fn adopt(object: Arc<Object>, read_only: bool) -> Result<Self, Error> {
        let size = usize::try_from(shared::size(object.handle())?).map_err(|_| Error::OutOfMemory)?;
        Ok(Self { object, size, read_only, mapping: OnceLock::new() })
    }

    pub(crate) fn handle(&self) -> u64 {
        self.object.handle()
    }

    pub(crate) fn object(&self) -> &Arc<Object> {
        &self.object
    }

    /// The size in bytes.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only
    }

    pub(crate) fn mapping(&self) -> Result<&Arc<Mapping>, Error> {
        if let Some(mapping) = self.mapping.get() {
            return Ok(mapping);
        }
        let flags = if self.read_only { READ_ONLY } else { 0 };
        let mapping = Mapping::new(self.object.clone(), self.size, flags).map_err(|errno| match errno {
            Errno::Nomem => Error::OutOfMemory,
            other => other.into(),
        })?;
        Ok(self.mapping.get_or_init(|| Arc::new(mapping)))
    }

    /// Loads one element.
    pub(crate) fn get<T: Pod>(&self, index: usize) -> Result<T, Error> {
        if is_one_access::<T>() {
            return self.mapping()?.get(index).ok_or(Error::OutOfBounds);
        }
        let mut value = T::zeroed();
        self.read(index, std::slice::from_mut(&mut value))?;
        Ok(value)
    }

    /// Stores one element.
    pub(crate) fn set<T: Pod>(&self, index: usize, value: T) -> Result<(), Error> {
        if self.read_only {
            return Err(Error::ReadOnly);
        }
        if is_one_access::<T>() {
            return self.mapping()?.set(index, value).ok_or(Error::OutOfBounds);
        }
        self.write(index, std::slice::from_ref(&value))
    }

    /// Copies elements out, from an index on.
    pub(crate) fn read<T: Pod>(&self, first: usize, elements: &mut [T]) -> Result<(), Error> {
        let offset = self.offset(first, elements)?;
        if elements.is_empty() {
            return Ok(());
        }
        Ok(shared::read(self.handle(), offset, bytemuck::cast_slice_mut(elements))?)
    }

    /// Copies elements in, from an index on.
    pub(crate) fn write<T: Pod>(&self, first: usize, elements: &[T]) -> Result<(), Error> {
        if self.read_only {
            return Err(Error::ReadOnly);
        }
        let offset = self.offset(first, elements)?;
        if elements.is_empty() {
            return Ok(());
        }
        Ok(shared::write(self.handle(), offset, bytemuck::cast_slice(elements))?)
    }

    fn offset<T>(&self, first: usize, elements: &[T]) -> Result<u64, Error> {
        let offset = first.checked_mul(size_of::<T>());
        let end = offset.and_then(|offset| offset.checked_add(size_of_val(elements)));
        match (offset, end) {
            (Some(offset), Some(end)) if end <= self.size => Ok(offset as u64),
            _ => Err(Error::OutOfBounds),
        }
    }
}

/// Whether WebAssembly loads or stores the type in one instruction, so that the access can't be half done.
fn is_one_access<T>() -> bool {
    matches!(size_of::<T>(), 1 | 2 | 4 | 8) && align_of::<T>() == size_of::<T>()
}
