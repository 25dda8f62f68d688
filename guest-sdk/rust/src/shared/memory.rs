//! Bytes with a name.

use std::cell::Cell;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use sandpool_abi::Errno;
use sandpool_abi::shared::OWNED;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::segment::Segment;
use super::{Atomic, Integer};
use crate::object::{Object, Role};
use crate::{Error, raw};

/// A block of bytes that any process of the run can attach to by its name.
///
/// ```no_run
/// use sandpool_guest::{Process, SharedMemory};
///
/// let memory = SharedMemory::create(1000)?;
/// let process = Process::spawn(
///     |name: String| SharedMemory::attach(&name)?.write_from(0, b"hello"),
///     memory.name().to_owned(),
/// )?;
/// process.join()?;
/// let mut bytes = [0; 5];
/// memory.read_into(0, &mut bytes)?;
/// assert_eq!(&bytes, b"hello");
/// memory.unlink()?;
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// Once made, a block stays until it is [unlinked](Self::unlink) *and* no process has it any more, or the run ends;
/// the end of a process never takes a block away from another. The block has exactly the size that was asked for.
///
/// There is no lock. Bytes are copied in and out; [`atomic`](Self::atomic) gives operations on integers that happen at one
/// instant, and [`as_slice`](Self::as_slice) and [`as_mut_slice`](Self::as_mut_slice) give the bytes in place, if you
/// ensure that nobody else changes them meanwhile. For elements of another type than `u8`, see
/// [`RawArray`](crate::RawArray) and [`Array`](crate::Array), which need no name.
///
/// A forked process has all blocks of its creator. A block is also data, for spawned processes, queues and pipes: the
/// receiver has the block without attaching. A clone is the same attachment.
#[derive(Clone)]
pub struct SharedMemory {
    segment: Arc<Segment>,
    /// The identity of the block, also where this is a view of it.
    block: u64,
    name: Arc<str>,
}

impl SharedMemory {
    /// Makes a block of `size` zero bytes with a new name, `psm_` and eight digits.
    ///
    /// # Errors
    /// [`Error::NoSize`] if the size is 0; [`Error::TooLarge`], [`Error::ArenaFull`], [`Error::TooManyObjects`].
    pub fn create(size: usize) -> Result<Self, Error> {
        Self::create_with(size, 0)
    }

    /// Makes a block like `create`, with a name that goes when this process ends, or has no use of the block left.
    pub(super) fn create_owned(size: usize) -> Result<Self, Error> {
        Self::create_with(size, OWNED)
    }

    fn create_with(size: usize, flags: u32) -> Result<Self, Error> {
        loop {
            match Self::create_as(&new_name()?, size, flags) {
                Err(Error::NameTaken) => {}
                created => return created,
            }
        }
    }

    /// Makes a block of `size` zero bytes with this name.
    ///
    /// ```no_run
    /// use sandpool_guest::{Error, SharedMemory};
    ///
    /// let memory = SharedMemory::create_named("table", 4096)?;
    /// assert!(matches!(SharedMemory::create_named("table", 4096), Err(Error::NameTaken)));
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`create`](Self::create); [`Error::NameTaken`]; [`Error::NameTooLong`] for more than 127 bytes.
    /// An empty name is an error, too.
    #[doc(alias = "create=True")]
    pub fn create_named(name: &str, size: usize) -> Result<Self, Error> {
        Self::create_as(name, size, 0)
    }

    fn create_as(name: &str, size: usize, flags: u32) -> Result<Self, Error> {
        // The host takes an empty name as memory without a name.
        if name.is_empty() {
            return Err(Error::Host(Errno::Inval));
        }
        if size == 0 {
            return Err(Error::NoSize);
        }
        let segment = Segment::create(size, flags, name)?;
        Ok(Self { block: segment.handle(), segment: Arc::new(segment), name: name.into() })
    }

    /// Attaches to the block of this name.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn attach(name: &str) -> Result<Self, Error> {
        Self::open(name, false)
    }

    /// Attaches to the block of this name, without the permission to change it.
    ///
    /// Writing then fails with [`Error::ReadOnly`]. The host refuses the write: no process can write by this attachment,
    /// nor by a copy that others receive in messages and as arguments. Give a process that may only read this attachment,
    /// and not the name, because the name lets a process attach to the block with all rights.
    ///
    /// # Errors
    /// [`Error::NotFound`].
    pub fn attach_read_only(name: &str) -> Result<Self, Error> {
        Self::open(name, true)
    }

    fn open(name: &str, read_only: bool) -> Result<Self, Error> {
        if name.is_empty() {
            return Err(Error::NotFound);
        }
        let object = Object::adopt(raw::shared::open(name)?);
        let block = object.handle();
        let object = if read_only { Object::adopt(raw::shared::view(block)?) } else { object };
        Ok(Self { segment: Arc::new(Segment::adopt(object, read_only)?), block, name: name.into() })
    }

    /// The name of the block, also after it was unlinked.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The size of the block in bytes: exactly the requested size.
    #[must_use]
    pub fn size(&self) -> usize {
        self.segment.size()
    }

    /// Whether this attachment lacks the permission to change the block.
    #[must_use]
    pub fn is_read_only(&self) -> bool {
        self.segment.is_read_only()
    }

    /// Gives up the attachment, as dropping it does. The block stays for others, and its name, too.
    pub fn close(self) {}

    /// Takes the block's name away. Processes that have the block keep it, and its memory is free when all of them
    /// have dropped it.
    ///
    /// # Errors
    /// [`Error::NotFound`] if that was done already.
    pub fn unlink(&self) -> Result<(), Error> {
        Ok(raw::shared::unlink(&self.name)?)
    }

    /// Returns one byte.
    ///
    /// The first access maps the block into this process's memory: whole pages of 64 KiB. From then on the call is a
    /// load.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`]; [`Error::OutOfMemory`] if there are no addresses left to map the block to.
    #[doc(alias = "buf")]
    pub fn get(&self, index: usize) -> Result<u8, Error> {
        self.segment.get(index)
    }

    /// Changes one byte.
    ///
    /// # Errors
    /// As [`get`](Self::get); [`Error::ReadOnly`].
    pub fn set(&self, index: usize, byte: u8) -> Result<(), Error> {
        self.segment.set(index, byte)
    }

    /// Copies bytes of the block into `bytes`, from `offset` on.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`], and nothing is copied.
    pub fn read_into(&self, offset: usize, bytes: &mut [u8]) -> Result<(), Error> {
        self.segment.read(offset, bytes)
    }

    /// Copies `bytes` into the block, from `offset` on.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`], [`Error::ReadOnly`]; nothing is copied. Source bytes in shared memory are an error, too.
    pub fn write_from(&self, offset: usize, bytes: &[u8]) -> Result<(), Error> {
        self.segment.write(offset, bytes)
    }

    /// Returns the integer at an offset, for atomic operations.
    ///
    /// ```no_run
    /// # let memory = sandpool_guest::SharedMemory::create(64)?;
    /// let ticket = memory.atomic::<u64>(8)?.fetch_add(1);
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::OutOfBounds`], also if the offset isn't a multiple of the integer's size; [`Error::ReadOnly`].
    pub fn atomic<T: Integer>(&self, offset: usize) -> Result<Atomic<'_, T>, Error> {
        if self.is_read_only() {
            return Err(Error::ReadOnly);
        }
        Atomic::new(&self.segment, offset)
    }

    /// Returns all bytes, in place.
    ///
    /// # Safety
    /// As long as the slice lives, nobody changes the bytes: not another process, not this process by any other way to
    /// the same block, and not a process that is forked meanwhile.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if there are no addresses left to map the block to.
    #[allow(unsafe_code, reason = "the caller has to see to what can't be checked")]
    pub unsafe fn as_slice(&self) -> Result<&[u8], Error> {
        // SAFETY: that is this function's own contract.
        unsafe { self.segment.mapping()?.slice(self.size()) }.ok_or(Error::OutOfBounds)
    }

    /// Returns all bytes, in place, to be changed. If the block was attached to be read only, a store traps.
    ///
    /// # Safety
    /// As long as the slice lives, nobody reads or changes the bytes in any other way: not another process, not this
    /// process by a clone or by another way to the same block, and not a process that is forked meanwhile.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`] if there are no addresses left to map the block to.
    #[allow(unsafe_code, reason = "the caller has to see to what can't be checked")]
    pub unsafe fn as_mut_slice(&mut self) -> Result<&mut [u8], Error> {
        // SAFETY: that is this function's own contract.
        unsafe { self.segment.mapping()?.slice_mut(self.size()) }.ok_or(Error::OutOfBounds)
    }
}

/// A name that is probably new.
fn new_name() -> Result<String, Error> {
    thread_local! {
        static COUNT: Cell<u64> = const { Cell::new(0) };
    }
    let count = COUNT.get();
    COUNT.set(count.wrapping_add(1));
    // A forked child has its creator's count and keys, but not its handle.
    let hash = RandomState::new().hash_one((raw::process::current()?, count));
    Ok(format!("psm_{:08x}", hash >> 32))
}

impl fmt::Debug for SharedMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedMemory({:?}, size {})", self.name, self.size())
    }
}

/// Whether they are the same block.
impl PartialEq for SharedMemory {
    fn eq(&self, other: &Self) -> bool {
        self.block == other.block
    }
}

impl Eq for SharedMemory {}

/// Puts the memory into a message, or the arguments of a spawned process: any other serializer gets an error.
impl Serialize for SharedMemory {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.segment.object().serialize(Role::MEMORY.what, serializer)
    }
}

/// Takes the memory out of a message, or of the arguments of a spawned process: any other deserializer gets an error.
impl<'de> Deserialize<'de> for SharedMemory {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let claimed = Object::claim::<D::Error>(u32::deserialize(deserializer)?, &Role::MEMORY)?;
        let handle = claimed.object.handle();
        // Only a view has a partner.
        let read_only = claimed.partner != 0;
        let segment = Segment::adopt(claimed.object, read_only).map_err(D::Error::custom)?;
        let name = raw::shared::name(handle).map_err(D::Error::custom)?;
        let block = if read_only { claimed.partner } else { handle };
        Ok(Self { segment: Arc::new(segment), block, name: name.into() })
    }
}
