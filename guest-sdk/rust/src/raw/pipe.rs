//! `sandpool_pipe`.

use sandpool_abi::queue::Item;

use super::{Errno, done, value};

sandpool_abi::pipe_imports!(declare);

/// Returns both ends.
pub(crate) fn create(capacity: u64, flags: u32) -> Result<[u64; 2], Errno> {
    let mut ends = [0; 2];
    // SAFETY: the host writes two values of 64 bits there, which is what the array has room for; any bits are a
    // valid `u64`.
    done(unsafe { import::create(capacity, flags, ends.as_mut_ptr()) })?;
    Ok(ends)
}

put!(send: import::send, import::send_parts);

pub(crate) fn recv(end: u64, buffer: &mut [u8], timeout: u64) -> Result<Item, Errno> {
    super::unless_mute(Errno::Closed)?;
    let mut item = Item { len: 0, handle_count: 0, held: 0 };
    // SAFETY: the host writes at most `buffer.len()` bytes at `buffer`, and one `Item` (16 bytes of plain
    // integers) at `item`; both are exclusively ours, so they don't overlap, and any bits are valid in them.
    done(unsafe { import::recv(end, buffer.as_mut_ptr(), buffer.len(), timeout, &raw mut item) })?;
    Ok(item)
}

pub(crate) fn flags(end: u64) -> Result<u32, Errno> {
    u32::try_from(value(import::flags(end))?).map_err(|_| Errno::Io)
}

pub(crate) fn capacity(end: u64) -> Result<u64, Errno> {
    value(import::capacity(end))
}
