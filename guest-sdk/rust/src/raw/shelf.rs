//! `sandpool_shelf`.

use sandpool_abi::queue::Item;
use sandpool_abi::shelf::{Change, EMPTY, WORDS};

use super::{Errno, done, part, value};

sandpool_abi::shelf_imports!(declare);

pub(crate) type Words = [u64; WORDS];

pub(crate) fn create() -> Result<u64, Errno> {
    value(import::create())
}

/// Reads a place and the words. `None` if the place is empty.
pub(crate) fn read(
    shelf: u64,
    place: u64,
    buffer: &mut [u8],
    words: &mut Words,
) -> Result<Option<Item>, Errno> {
    let mut item = Item { len: 0, handle_count: 0, held: 0 };
    // SAFETY: the host writes at most `buffer.len()` bytes at `buffer`, `WORDS` values of 64 bits at `words`, and one `Item`
    // (16 bytes of plain integers) at `item`; all are exclusively ours, so they don't overlap, and any bits are valid in
    // them.
    let read = unsafe {
        import::read(shelf, place, buffer.as_mut_ptr(), buffer.len(), words.as_mut_ptr(), &raw mut item)
    };
    match done(read) {
        Ok(()) => Ok(Some(item)),
        Err(Errno::Noent) => Ok(None),
        Err(other) => Err(other),
    }
}

/// The new content of a place; `None` if it is to be empty.
pub(crate) struct Content<'a> {
    pub(crate) place: u64,
    pub(crate) bytes: Option<&'a [u8]>,
    pub(crate) handles: u32,
}

/// Changes words and places in one step. `handles` are those of all changes.
pub(crate) fn change(
    shelf: u64,
    words: &Words,
    contents: &[Content<'_>],
    handles: &[u64],
) -> Result<(), Errno> {
    if super::mute::is_on() {
        return Ok(());
    }
    let changes: Vec<_> = contents
        .iter()
        .map(|content| {
            let (at, len) = content.bytes.map_or((0, EMPTY), |bytes| {
                let part = part(bytes.as_ptr(), bytes.len());
                (part.at, part.len)
            });
            Change { place: content.place, at, len, handle_count: content.handles, reserved: 0 }
        })
        .collect();
    // SAFETY: the host reads `WORDS` and `handles.len()` values of 64 bits, `changes.len()` changes (24 bytes of plain
    // integers), and the bytes that these name; all are kept readable by their references, and the host keeps copies.
    done(unsafe {
        import::change(
            shelf,
            words.as_ptr(),
            changes.as_ptr(),
            changes.len(),
            handles.as_ptr(),
            handles.len(),
        )
    })
}
