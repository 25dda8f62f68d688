//! Memory that several processes see: values, arrays, blocks of bytes, lists.
//!
//! # What may race
//!
//! Another process may store at any time. So a reference into shared memory exists only where nobody else can use the referenced memory: in an [`ArrayGuard`],
//! which exists while the array's own lock is held. That lock can't be acquired in any other way, so nobody can release it meanwhile: the host has recorded
//! that array and lock belong together and are those of an array, and a process that receives one of them can't take it for anything else.
//! In one process, the list of borrowed arrays (`borrowed`) ensures that there is one guard for an array and no other access
//! beside it. A fork, which would copy the guard, is refused while there is a guard.
//!
//! Everything else copies: single elements by one volatile load or store, ranges by the host. Functions that are
//! `unsafe` leave all this to their caller.

pub(crate) mod array;
mod atomic;
mod borrowed;
pub(crate) mod list;
pub(crate) mod manager;
pub(crate) mod memory;
pub(crate) mod raw_array;
mod segment;
pub(crate) mod value;

use sandpool_abi::Errno;

use crate::Error;
/// The lock of values and arrays: all that these files need of a lock.
use crate::RLock;
use crate::sync::{AcquireError, RLockGuard};

pub use array::ArrayGuard;
pub use atomic::{Atomic, Integer};
pub(crate) use borrowed::is_borrowed;
pub use bytemuck::{self, Pod, Zeroable};
pub(crate) use list::ShareableList;
pub use list::{ListItem, ListIter};
pub(crate) use memory::SharedMemory;
pub(crate) use raw_array::RawArray;

/// Returns why a lock wasn't acquired, without the guard that may come with the error: the guard is released.
fn without_guard<G>(error: AcquireError<G>) -> Error {
    match error {
        AcquireError::OwnerDied(_) => Error::OwnerDied,
        AcquireError::Host(errno) => Error::Host(errno),
        _ => Error::Host(Errno::Again),
    }
}
