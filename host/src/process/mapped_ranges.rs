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

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 64 << 10;

    /// From the third page on: one that is mapped in part, one that is free, and one that is the guest's own.
    fn mappings() -> Mappings {
        Mappings {
            mapped: vec![Mapped { at: 2 * PAGE, len: 100, reserved: PAGE, handle: Handle(1) }],
            free: vec![(3 * PAGE, PAGE)],
            lowest: Some(2 * PAGE),
        }
    }

    #[test]
    fn mapped_and_free_ranges_are_nobodys_bytes() {
        let mappings = mappings();
        for (at, len) in [
            (2 * PAGE, 1),
            (2 * PAGE - 1, 2),
            (2 * PAGE + 200, 1),
            (3 * PAGE - 1, 1),
            (3 * PAGE, 1),
            (4 * PAGE - 1, 1),
            (4 * PAGE - 1, PAGE),
            (0, 5 * PAGE),
            (0, usize::MAX),
            (3 * PAGE, usize::MAX),
        ] {
            assert!(mappings.overlap(at, len), "{len} bytes at {at}");
        }
        assert!(!mappings.is_empty());
    }

    #[test]
    fn other_bytes_are_the_guests() {
        let mappings = mappings();
        for (at, len) in
            [(0, 2 * PAGE), (2 * PAGE - 1, 1), (4 * PAGE, PAGE), (4 * PAGE, usize::MAX), (9 * PAGE, 1)]
        {
            assert!(!mappings.overlap(at, len), "{len} bytes at {at}");
        }
        // No bytes are nobody's.
        for at in [0, 2 * PAGE, 2 * PAGE + 1, 3 * PAGE + 1, 4 * PAGE, usize::MAX] {
            assert!(!mappings.overlap(at, 0), "{at}");
        }
        let none = Mappings::default();
        assert!(none.is_empty() && !none.overlap(0, usize::MAX));
    }
}
