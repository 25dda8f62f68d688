//! `sandpool_handle`, and one use of a handle that gives itself back.

use std::sync::Arc;

use super::{Errno, done, length};

sandpool_abi::handle_imports!(declare);

/// Adds one use.
pub(crate) fn retain(object: u64) -> Result<(), Errno> {
    done(import::retain(object))
}

/// Gives one use back. If that fails, the handle names nothing any more, so nothing is left to give back.
pub(crate) fn release(object: u64) {
    let _ = import::release(object);
}

/// Records the use of a new object, and the object that belongs to it; 0 if none does.
pub(crate) fn record(object: u64, tag: u32, partner: u64) -> Result<(), Errno> {
    done(import::record(object, tag, partner))
}

/// Returns the number of ready handles. `ready` has one byte for each handle.
pub(crate) fn wait(handles: &[u64], timeout: u64, ready: &mut [u8]) -> Result<usize, Errno> {
    super::unless_mute(Errno::Perm)?;
    if ready.len() < handles.len() {
        return Err(Errno::Inval);
    }
    // SAFETY: the host reads `handles.len()` values at `handles` and writes as many bytes at `ready`, which
    // is at least that long; both are kept valid by their references and don't overlap, as one is exclusive.
    length(unsafe { import::wait(handles.as_ptr(), handles.len(), timeout, ready.as_mut_ptr()) })
}

/// One use of a handle, which all clones in a process share. The use is released with the last clone.
#[derive(Debug)]
pub(crate) struct Object(u64);

impl Object {
    /// Takes over one use of the handle.
    pub(crate) fn adopt(handle: u64) -> Arc<Self> {
        Arc::new(Self(handle))
    }

    #[inline]
    pub(crate) fn handle(&self) -> u64 {
        self.0
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        release(self.0);
    }
}
