//! `sandpool_queue`.

use bytemuck::Pod;
use sandpool_abi::handle::Record;
use sandpool_abi::queue::Item;

use super::{Errno, done, length, part, value, written};

sandpool_abi::queue_imports!(declare);

pub(crate) fn create(maxsize: u64, flags: u32) -> Result<u64, Errno> {
    value(import::create(maxsize, flags))
}

put!(put: import::put, import::put_parts);

pub(crate) fn get(queue: u64, buffer: &mut [u8], timeout: u64) -> Result<Item, Errno> {
    super::unless_mute(Errno::Closed)?;
    let mut item = Item { len: 0, handle_count: 0, held: 0 };
    // SAFETY: the host writes at most `buffer.len()` bytes at `buffer`, and one `Item` (16 bytes of plain
    // integers) at `item`; both are exclusively ours, so they don't overlap, and any bits are valid in them.
    done(unsafe { import::get(queue, buffer.as_mut_ptr(), buffer.len(), timeout, &raw mut item) })?;
    Ok(item)
}

/// Returns the number of items that were put. The sum of `lens` is the length of `items`.
pub(crate) fn put_many(queue: u64, items: &[u8], lens: &[u32], timeout: u64) -> Result<usize, Errno> {
    if super::mute::is_on() {
        return Ok(lens.len());
    }
    // SAFETY: the host reads the bytes of `items` and `lens.len()` 32-bit values, kept readable by their
    // references, and keeps copies.
    length(unsafe {
        import::put_many(queue, items.as_ptr(), items.len(), lens.as_ptr(), lens.len(), timeout)
    })
}

/// Returns the number of items that were taken.
pub(crate) fn get_many(
    queue: u64,
    buffer: &mut [u8],
    lens: &mut [u32],
    timeout: u64,
) -> Result<usize, Errno> {
    super::unless_mute(Errno::Closed)?;
    // SAFETY: the host writes at most `buffer.len()` bytes and `lens.len()` values of 32 bits there; both are
    // exclusively ours, so they don't overlap, and any bits are valid in them.
    length(unsafe {
        import::get_many(queue, buffer.as_mut_ptr(), buffer.len(), lens.as_mut_ptr(), lens.len(), timeout)
    })
}

pub(crate) fn take(buffer: &mut [u8], records: &mut [Record]) -> Result<(), Errno> {
    let parts = [part(buffer.as_mut_ptr(), buffer.len())];
    // SAFETY: the host reads the part, and writes at most `buffer.len()` bytes and `records.len()` records (24 bytes of
    // plain integers) there; both are exclusively ours, so they don't overlap, and any bits are valid in them.
    done(unsafe { import::take(parts.as_ptr(), parts.len(), records.as_mut_ptr(), records.len()) })
}

/// Takes the held item, which is `head` and a number of elements after it. `None` if there is no memory for the
/// elements.
pub(crate) fn take_vec<E: Pod>(
    head: &mut [u8],
    len: usize,
    records: &mut [Record],
) -> Option<Result<Vec<E>, Errno>> {
    let take = |to: *mut E| {
        let parts = [part(head.as_mut_ptr(), head.len()), part(to.cast(), len * size_of::<E>())];
        // SAFETY: the host reads the parts, and writes at most as many bytes as they say, and `records.len()` records
        // of plain integers. All are exclusively ours, so they don't overlap, and any bits are valid in them.
        done(unsafe { import::take(parts.as_ptr(), parts.len(), records.as_mut_ptr(), records.len()) })
    };
    // SAFETY: if there is no error, the host has written all of the item, which is as long as both parts: it has said
    // so itself.
    unsafe { written(len, take) }
}

/// Copies the first bytes of the held item, and returns its whole length.
pub(crate) fn peek(buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the host writes at most `buffer.len()` bytes there, which are exclusively ours; any bits are valid.
    length(unsafe { import::peek(buffer.as_mut_ptr(), buffer.len()) })
}

pub(crate) fn qsize(queue: u64) -> Result<usize, Errno> {
    length(import::qsize(queue))
}

pub(crate) fn maxsize(queue: u64) -> Result<usize, Errno> {
    length(import::maxsize(queue))
}

pub(crate) fn close(queue: u64) -> Result<(), Errno> {
    super::told(|| import::close(queue))
}

pub(crate) fn task_done(queue: u64) -> Result<(), Errno> {
    super::told(|| import::task_done(queue))
}

/// Returns the number of items that were lost since the queue was made.
pub(crate) fn join(queue: u64, timeout: u64) -> Result<usize, Errno> {
    super::unless_mute(Errno::Perm)?;
    length(import::join(queue, timeout))
}
