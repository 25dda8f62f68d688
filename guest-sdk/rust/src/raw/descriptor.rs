//! `sandpool_descriptor`.

use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};

use super::{Errno, done, value};

sandpool_abi::descriptor_imports!(declare);

/// Makes a pipe of bytes, and returns the descriptors that read and write.
pub(crate) fn pipe(flags: u32) -> Result<[OwnedFd; 2], Errno> {
    let mut numbers = [0; 2];
    // SAFETY: the host writes two values of 32 bits there, which is what the array has room for; any bits are a
    // valid `u32`.
    done(unsafe { import::pipe(flags, numbers.as_mut_ptr()) })?;
    Ok(numbers.map(own))
}

/// Makes a copy of a descriptor.
pub(crate) fn duplicate(descriptor: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let copy = value(import::duplicate(descriptor.as_raw_fd() as u32, 0))?;
    Ok(own(u32::try_from(copy).map_err(|_| Errno::Io)?))
}

/// Takes over a descriptor that the host has just opened.
fn own(number: u32) -> OwnedFd {
    // SAFETY: nobody else has this descriptor, because nobody else knows its number.
    unsafe { OwnedFd::from_raw_fd(number as RawFd) }
}
