//! Which ranges of a guest's memory are [mapped](super::mappings), so that nobody takes them for bytes.

use crate::ipc::object::Handle;

/// The mappings in a guest's memory.
#[derive(Debug, Default)]
pub(crate) struct Mappings {
    pub(super) mapped: Vec<Mapped>,
    /// Ranges for later mappings: start, and length in bytes. The ranges are zeroes, and can't be written.
    pub(super) free: Vec<(usize, usize)>,
    /// The start of the first range in `mapped` or `free`.
    pub(super) lowest: Option<usize>,
}

/// One mapping.
#[derive(Debug)]
pub(super) struct Mapped {
    pub(super) at: usize,
    /// The bytes that are mapped.
    pub(super) len: usize,
    /// The bytes of the guest's addresses that the mapping takes.
    pub(super) reserved: usize,
    pub(super) handle: Handle,
}

impl Mappings {
    /// Whether nothing has ever been mapped.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.lowest.is_none()
    }

    /// Whether any of these bytes is mapped, or reserved for a mapping.
    #[inline]
    pub(crate) fn overlap(&self, at: usize, len: usize) -> bool {
        let end = at.saturating_add(len);
        let mut ranges =
            self.mapped.iter().map(|mapped| (mapped.at, mapped.reserved)).chain(self.free.iter().copied());
        self.lowest.is_some_and(|lowest| end > lowest)
            && len != 0
            && ranges.any(|(start, len)| at < start + len && start < end)
    }
}
