//! `sandpool_connection`.

use super::{Errno, done};

sandpool_abi::connection_imports!(declare);

/// Returns the end at which the answer comes, and then connections.
pub(crate) fn listen(address: &str, backlog: u32) -> Result<u64, Errno> {
    super::unless_mute(Errno::Closed)?;
    let mut end = 0;
    // SAFETY: the host reads the bytes of `address`, kept readable by its reference, and writes 64 bits to `end`, which is
    // exclusively ours; any bits are a valid `u64`.
    done(unsafe { import::listen(address.as_ptr(), address.len(), backlog, &raw mut end) })?;
    Ok(end)
}

/// Returns the end at which the answer comes, and then messages.
pub(crate) fn connect(address: &str, timeout: u64) -> Result<u64, Errno> {
    super::unless_mute(Errno::Closed)?;
    let mut end = 0;
    // SAFETY: as above.
    done(unsafe { import::connect(address.as_ptr(), address.len(), timeout, &raw mut end) })?;
    Ok(end)
}
