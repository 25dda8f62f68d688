//! A scope for shared memory.

use std::cell::RefCell;
use std::fmt;

use super::{ListItem, ShareableList, SharedMemory};
use crate::{Error, raw};

/// A manager, which makes shared memory with names, and takes all these names away at its end: Python's
/// `SharedMemoryManager`.
///
/// ```no_run
/// use sandpool_guest::{Process, SharedMemory, SharedMemoryManager};
///
/// let manager = SharedMemoryManager::new()?;
/// let memory = manager.shared_memory(1000)?;
/// let list = manager.shareable_list(["howdy", "partner"])?;
/// let process = Process::spawn(
///     |name: String| SharedMemory::attach(&name)?.write_from(0, b"hello"),
///     memory.name().to_owned(),
/// )?;
/// process.join()?;
/// // Now there are no such names any more, and the memory is free when nobody has it.
/// manager.shutdown()?;
/// assert!(SharedMemory::attach(memory.name()).is_err());
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// A manager's end is [`shutdown`](Self::shutdown), a drop, or the end of the process that made it, however that
/// comes: by a panic, by `exit`, by SIGKILL. Shared memory that was made without a manager keeps its name until
/// somebody [unlinks](SharedMemory::unlink) it.
///
/// Processes that have the memory then keep it. In Python a separate process does this work; here there is none, so nothing has
/// to be started or connected to. In a forked child, the copy of a manager makes nothing ([`Error::NotAChild`]), and dropping the
/// copy ends nothing.
pub struct SharedMemoryManager {
    owner: u64,
    made: RefCell<Vec<SharedMemory>>,
}

impl SharedMemoryManager {
    /// Makes a manager.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    #[doc(alias = "start")]
    pub fn new() -> Result<Self, Error> {
        Ok(Self { owner: raw::process::current()?, made: RefCell::default() })
    }

    /// Makes a block of `size` zero bytes with a new name.
    ///
    /// # Errors
    /// As [`SharedMemory::create`]; [`Error::NotAChild`] if another process has made the manager.
    #[doc(alias = "SharedMemory")]
    pub fn shared_memory(&self, size: usize) -> Result<SharedMemory, Error> {
        if !self.is_owner() {
            return Err(Error::NotAChild);
        }
        let memory = SharedMemory::create_owned(size)?;
        // The name lasts as long as this process has the memory.
        self.made.borrow_mut().push(memory.clone());
        Ok(memory)
    }

    /// Makes a list of these items with a new name.
    ///
    /// # Errors
    /// As [`ShareableList::new`]; [`Error::NotAChild`] if another process has made the manager.
    #[doc(alias = "ShareableList")]
    pub fn shareable_list(
        &self,
        items: impl IntoIterator<Item = impl Into<ListItem>>,
    ) -> Result<ShareableList, Error> {
        ShareableList::build(items, |size| self.shared_memory(size))
    }

    /// Takes away the names of everything that the manager has made, as dropping it does.
    ///
    /// # Errors
    /// Only when the arena is damaged; [`Error::NotAChild`] if another process has made the manager.
    pub fn shutdown(self) -> Result<(), Error> {
        if self.is_owner() { self.unlink_all() } else { Err(Error::NotAChild) }
    }

    fn is_owner(&self) -> bool {
        raw::process::current() == Ok(self.owner)
    }

    fn unlink_all(&self) -> Result<(), Error> {
        let mut unlinked = Ok(());
        for memory in self.made.take() {
            match memory.unlink() {
                // Somebody has unlinked it already.
                Ok(()) | Err(Error::NotFound) => {}
                failed => unlinked = failed,
            }
        }
        unlinked
    }
}

impl Drop for SharedMemoryManager {
    fn drop(&mut self) {
        if self.is_owner() {
            // A name whose removal fails here goes with the process.
            let _ = self.unlink_all();
        }
    }
}

impl fmt::Debug for SharedMemoryManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedMemoryManager").field("made", &self.made.borrow().len()).finish()
    }
}
