//! Memory shared between processes: a sealed memfd, and typed views of its bytes.
//!
//! The peers are not trusted: any byte may change at any time, to anything. So there is no `&[u8]` into a mapping.
//! Words are reached as atomics, in structs that hold nothing else ([`Shared`]), and bytes only by copying.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::sync::{Arc, LazyLock};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use super::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};
use super::memory_file;

/// A type that may lie in memory which other processes write at any time.
///
/// # Safety
///
/// Every byte of the type is part of an atomic integer, so that any bit pattern is valid and any access is atomic.
pub(crate) unsafe trait Shared {}

// SAFETY: an atomic integer, for which every bit pattern is valid.
unsafe impl Shared for AtomicU8 {}
// SAFETY: an atomic integer, for which every bit pattern is valid.
unsafe impl Shared for AtomicU16 {}
// SAFETY: an atomic integer, for which every bit pattern is valid.
unsafe impl Shared for AtomicU32 {}
// SAFETY: an atomic integer, for which every bit pattern is valid.
unsafe impl Shared for AtomicU64 {}
// SAFETY: an array has no bytes but those of its elements, which are `Shared`.
unsafe impl<T: Shared, const N: usize> Shared for [T; N] {}

/// Declares `#[repr(C)]` structs that are [`Shared`]: each field must be `Shared`, and padding is refused.
macro_rules! shared {
    ($($(#[$meta:meta])* $vis:vis struct $name:ident { $($(#[$field_meta:meta])* $field_vis:vis $field:ident: $ty:ty),* $(,)? })*) => {
        $($(#[$meta])* #[repr(C)] #[derive(Debug)] $vis struct $name { $($(#[$field_meta])* $field_vis $field: $ty),* }
        #[allow(unsafe_code, reason = "the macro checks what it promises")]
        // SAFETY: each field is `Shared` and the sizes add up, so there is no byte outside of an atomic.
        unsafe impl $crate::sys::mem::Shared for $name {}
        const _: () = {
            const fn is_shared<T: $crate::sys::mem::Shared>() {}
            $(is_shared::<$ty>();)*
            assert!(size_of::<$name>() == 0 $(+ size_of::<$ty>())*, "padding in a shared struct: add a field for it");
        };)*
    };
}
pub(crate) use shared;

/// Bytes of a huge page if other pages have 4 KiB; with other pages, this is only a size.
pub(crate) const HUGE_PAGE: usize = 2 << 20;

/// Bytes of the largest page that a kernel is built for.
const PAGE_MAX: usize = 64 << 10;

/// Bytes of a page of the kernel: 4, 16 or 64 KiB. Only whole pages are mapped, protected or given back.
pub(crate) fn page_size() -> usize {
    // If the size can't be had, the largest serves: whole pages of the largest size are whole pages of each.
    static BYTES: LazyLock<usize> = LazyLock::new(|| {
        let found = nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten();
        found.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(PAGE_MAX)
    });
    *BYTES
}

/// The part of these bytes that is whole pages of this size.
fn whole_pages(bytes: Range<usize>, page: usize) -> Range<usize> {
    let start = bytes.start.checked_next_multiple_of(page).unwrap_or(bytes.end).min(bytes.end);
    start..(bytes.end / page * page).max(start)
}

/// From this size on, pages are given back instead of being overwritten.
const CLEAR_BY_REMOVING: usize = 256 << 10;

/// A shared mapping of a whole memfd, which lives as long as this value and all [tables](Table) of it.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
    mapped: Arc<Mapped>,
}

/// The owner of a mapping, which ends the mapping when it is dropped.
#[derive(Debug)]
struct Mapped {
    base: NonNull<u8>,
    len: usize,
}

/// Items in a mapping, one after the other: one check has covered the places of all of them.
#[derive(Debug)]
pub(crate) struct Table<T> {
    first: NonNull<T>,
    len: usize,
    /// This keeps the mapping.
    _mapped: Arc<Mapped>,
}

// SAFETY: the value is an address and a length; all access to the bytes there is atomic or a raw copy, from any thread.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}
// SAFETY: as above; the last owner only unmaps the mapping.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}
// SAFETY: a table gives out references to memory that is shared with other processes anyway, and that consists of
// atomics.
unsafe impl<T: Shared> Send for Table<T> {}
// SAFETY: as above.
unsafe impl<T: Shared> Sync for Table<T> {}

impl<T: Shared> Table<T> {
    /// The item with this index, if the table is that long.
    #[inline]
    pub(crate) fn get(&self, index: usize) -> Option<&T> {
        // SAFETY: `len` items lie inside of the mapping, aligned, as `Mapping::table` has seen to; and it isn't unmapped
        // before this table goes, which the reference borrows. Every bit pattern is a valid `T`, whose bytes are all
        // atomics, so that writes by other processes are no data races.
        (index < self.len).then(|| unsafe { self.first.add(index).as_ref() })
    }
}

impl Mapping {
    /// Makes `len` zeroed bytes and seals their number, so that no process can shrink the memory under another.
    pub(crate) fn create(len: usize) -> io::Result<(OwnedFd, Self)> {
        let fd = OwnedFd::from(memory_file::sized("sandpool-arena", len as u64)?);
        let mapping = Self::from_fd(fd.as_fd(), len)?;
        Ok((fd, mapping))
    }

    /// Maps the first `len` bytes of a memfd that is sealed against shrinking.
    pub(crate) fn from_fd(fd: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        let seals = fcntl(fd, FcntlArg::F_GET_SEALS)?;
        let size = nix::sys::stat::fstat(fd)?.st_size;
        if seals & libc::F_SEAL_SHRINK == 0 || usize::try_from(size).unwrap_or(0) < len || len == 0 {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        let length = std::num::NonZeroUsize::new(len).ok_or(io::ErrorKind::InvalidInput)?;
        use nix::sys::mman::{MapFlags, ProtFlags, mmap};
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of anybody's. The file was
        // just seen to be at least this long, and the seal keeps it so: no access can raise SIGBUS.
        let base = unsafe { mmap(None, length, protection, MapFlags::MAP_SHARED, fd, 0)? };
        let base = base.cast();
        Ok(Self { base, len, mapped: Arc::new(Mapped { base, len }) })
    }

    /// The length of the mapping in bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The struct at this offset, if it lies inside and is aligned.
    #[inline]
    pub(crate) fn get<T: Shared>(&self, offset: usize) -> Option<&T> {
        let end = offset.checked_add(size_of::<T>())?;
        if end > self.len || !offset.is_multiple_of(align_of::<T>()) {
            return None;
        }
        // SAFETY: the bytes lie inside of the mapping, which outlives the reference; the base is page-aligned, so
        // the address is aligned as the offset is; every bit pattern is a valid `T`, whose bytes are all atomics,
        // so that writes by other processes are no data races.
        Some(unsafe { self.base.add(offset).cast::<T>().as_ref() })
    }

    /// `len` items from this offset on, if all lie inside and are aligned.
    pub(crate) fn table<T: Shared>(&self, offset: usize, len: usize) -> Option<Table<T>> {
        let end = len.checked_mul(size_of::<T>())?.checked_add(offset)?;
        let is_inside = end <= self.len && offset.is_multiple_of(align_of::<T>());
        // SAFETY: the address lies inside of the mapping, or just after it.
        let first = is_inside.then(|| unsafe { self.base.add(offset) })?.cast();
        Some(Table { first, len, _mapped: self.mapped.clone() })
    }

    /// The offset of an item in the mapping.
    #[inline]
    pub(crate) fn offset_of<T: Shared>(&self, item: &T) -> u64 {
        (std::ptr::from_ref(item).addr() - self.base.addr().get()) as u64
    }

    /// Copies bytes in. `None`, and nothing is copied, if the bytes don't fit there.
    #[inline]
    pub(crate) fn write(&self, offset: usize, bytes: &[u8]) -> Option<()> {
        #[cfg(test)]
        super::model::before_barrier();
        let end = offset.checked_add(bytes.len())?;
        if end > self.len {
            return None;
        }
        // SAFETY: the destination lies inside of the mapping. It can't overlap the source, since no `&[u8]` into a
        // mapping is ever made. Another process may write there as well: then the stored bytes are unspecified, and
        // nobody takes them for anything else.
        unsafe { self.base.add(offset).copy_from_nonoverlapping(NonNull::from(bytes).cast(), bytes.len()) };
        Some(())
    }

    /// Copies bytes out. `None`, and nothing is copied, if the bytes don't lie inside.
    #[inline]
    pub(crate) fn read(&self, offset: usize, bytes: &mut [u8]) -> Option<()> {
        #[cfg(test)]
        super::model::before_barrier();
        let end = offset.checked_add(bytes.len())?;
        if end > self.len {
            return None;
        }
        // SAFETY: as for `write`, with the direction turned round: bytes that change meanwhile are unspecified.
        unsafe {
            self.base.add(offset).copy_to_nonoverlapping(NonNull::from(&mut *bytes).cast(), bytes.len())
        };
        Some(())
    }

    /// Makes `len` bytes zero. The whole pages of a larger piece go back to the system. `None`, and nothing is done, if
    /// the bytes don't lie inside.
    pub(crate) fn clear(&self, offset: usize, len: usize) -> Option<()> {
        #[cfg(test)]
        super::model::before_barrier();
        let end = offset.checked_add(len)?;
        if end > self.len {
            return None;
        }
        let whole = whole_pages(offset..end, page_size());
        let fill = |bytes: Range<usize>| {
            // SAFETY: all or a part of the range, which lies inside of the mapping, as was just checked. No reference to
            // bytes of it exists.
            unsafe { self.base.add(bytes.start).write_bytes(0, bytes.len()) };
        };
        let remove = |pages: &Range<usize>| {
            // SAFETY: MADV_REMOVE makes whole pages of a shared mapping zero, for all who map them: a part of the range,
            // as above, and no more, which the kernel would take if it weren't whole pages. Others who look at them
            // see atomics or copied bytes.
            unsafe {
                libc::madvise(self.base.add(pages.start).as_ptr().cast(), pages.len(), libc::MADV_REMOVE)
            }
        };
        if len >= CLEAR_BY_REMOVING && !whole.is_empty() && remove(&whole) == 0 {
            fill(offset..whole.start);
            fill(whole.end..end);
        } else {
            fill(offset..end);
        }
        Some(())
    }

    /// Maps the bytes at `offset` a second time, over `target`, which then shares the bytes with all who have this
    /// mapping. If `read_only` is set, a store to `target` faults.
    ///
    /// # Errors
    ///
    /// `EINVAL`, and nothing is done, if either isn't whole pages of the kernel; `ENOMEM`.
    pub(crate) fn map_again(&self, offset: usize, target: &mut [u8], read_only: bool) -> io::Result<()> {
        let len = target.len();
        let inside = offset.checked_add(len).is_some_and(|end| end <= self.len);
        let start = target.as_mut_ptr();
        let page = page_size();
        if len == 0 || !inside || [offset, len, start.addr()].into_iter().any(|at| !at.is_multiple_of(page)) {
            return Err(io::Error::from_raw_os_error(libc::EINVAL));
        }
        // SAFETY: with an old size of 0, mremap leaves the old mapping, which is shared, and makes a second one of the
        // same pages (mremap(2)), of `len` bytes, that lie inside. MREMAP_FIXED puts it over `target`, whole pages
        // which the caller owns exclusively; it stays readable memory of the same length. Any bytes are valid there.
        let mapped = unsafe {
            let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED;
            libc::mremap(self.base.as_ptr().add(offset).cast(), 0, len, flags, start.cast::<libc::c_void>())
        };
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        if read_only && let Err(error) = make_read_only(target) {
            unmap(target)?;
            return Err(error);
        }
        Ok(())
    }

    /// Fills the range that `map_again` has mapped over `target` with memory, in huge pages, as far as the kernel gives
    /// any: that takes a huge page of the file at an address at which a huge page can begin. The contents stay.
    pub(crate) fn fill_with_huge_pages(&self, offset: usize, target: &mut [u8]) {
        let start = target.as_mut_ptr();
        if start.addr() % HUGE_PAGE != offset % HUGE_PAGE {
            return;
        }
        for at in whole_pages(offset..offset.saturating_add(target.len()), HUGE_PAGE).step_by(HUGE_PAGE) {
            // The kernel makes a huge page only of a range that has a page already. The compiler might leave a read out
            // whose result isn't used.
            let mut byte = [0];
            if self.read(at, std::hint::black_box(&mut byte)).is_none() {
                return;
            }
            // SAFETY: a huge page that lies inside of `target`, which changes neither contents nor protection (madvise(2)).
            // An older kernel than 6.1 doesn't know what this asks for, and does nothing.
            let made = unsafe {
                libc::madvise(start.wrapping_add(at - offset).cast(), HUGE_PAGE, libc::MADV_COLLAPSE)
            };
            // Another process may be working with one of the pages. After any other error, the other huge pages can't
            // be had either.
            if made != 0 && !matches!(Errno::last(), Errno::EAGAIN | Errno::EBUSY) {
                return;
            }
        }
    }

    /// Asks for huge pages from `offset` on: fewer faults in each process that touches the range.
    pub(crate) fn advise_huge_pages(&self, offset: usize) {
        if let Some(len) = self.len.checked_sub(offset) {
            advise_huge_pages(self.base.as_ptr().wrapping_add(offset), len);
        }
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: this is the mapping that `of` made, whole; references into it borrow what holds this, and have ended.
        let _ = unsafe { nix::sys::mman::munmap(self.base.cast(), self.len) };
    }
}

/// The first bytes of a struct as another struct, which must not be larger.
#[inline]
pub(crate) fn start_of<T: Shared, U: Shared>(whole: &T) -> &U {
    const {
        assert!(size_of::<U>() <= size_of::<T>() && align_of::<U>() <= align_of::<T>(), "there is no room");
    }
    // SAFETY: a `U` lies inside of the `T`, aligned, as was just checked, and lives as long; every bit pattern is a valid
    // `U`, whose bytes are all atomics, as those of the `T` are.
    unsafe { NonNull::from(whole).cast::<U>().as_ref() }
}

/// Replaces the range that [`Mapping::map_again`] has mapped over `target` by zeroes, which are
/// [read-only](make_read_only).
///
/// # Errors
///
/// `EINVAL` if `target` isn't whole pages; `ENOMEM`.
pub(crate) fn unmap(target: &mut [u8]) -> io::Result<()> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED | libc::MAP_NORESERVE;
    // SAFETY: the caller owns `target` exclusively; what replaces it is as long, readable and writable, and zero, which
    // is valid for bytes. The kernel refuses an address that isn't a page's.
    let mapped = unsafe { libc::mmap(target.as_mut_ptr().cast(), target.len(), protection, flags, -1, 0) };
    if mapped == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { make_read_only(target) }
}

/// Makes stores to this memory fault. If the memory is private and nobody has stored to it, it then takes no memory of
/// the machine, and nothing of what `RLIMIT_DATA` allows.
///
/// # Errors
///
/// `EINVAL` if `target` isn't whole pages; `ENOMEM`.
pub(crate) fn make_read_only(target: &mut [u8]) -> io::Result<()> {
    // SAFETY: the caller owns `target` exclusively. Rust code never stores to it: the imports refuse such addresses.
    let done = unsafe { libc::mprotect(target.as_mut_ptr().cast(), target.len(), libc::PROT_READ) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Asks the kernel to back this range with huge pages if it can. A range that is partly not mapped, or a kernel without
/// huge pages, is no error: this is advice.
pub(crate) fn advise_huge_pages(start: *const u8, len: usize) {
    // SAFETY: MADV_HUGEPAGE changes no contents and no protection of any address, mapped or not.
    unsafe { libc::madvise(start.cast_mut().cast(), len, libc::MADV_HUGEPAGE) };
}

/// Whether this process has `bytes` bytes of addresses left.
pub(crate) fn can_reserve(bytes: u64) -> bool {
    use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
    let Some(len) = usize::try_from(bytes).ok().and_then(std::num::NonZeroUsize::new) else {
        return bytes == 0;
    };
    let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
    // SAFETY: a new mapping at an address of the kernel's choice touches no memory of anybody's.
    let Ok(base) = (unsafe { mmap_anonymous(None, len, ProtFlags::PROT_NONE, flags) }) else { return false };
    // SAFETY: this is the mapping that was just made, whole, and nobody else knows of it.
    let _ = unsafe { munmap(base, len.get()) };
    true
}

/// Whether nothing is mapped in the way of the calling thread's stack, which grows down, until it has `bytes` bytes. For the main
/// thread of a program, whose stack the kernel lets grow.
pub(crate) fn has_room_for_stack(bytes: u64) -> bool {
    use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};
    /// Far more than a program's stack has at its start.
    const PRESENT: usize = 1 << 20;
    let here = (&raw const bytes).addr() & !(PRESENT - 1);
    let Some(start) = usize::try_from(bytes).ok().and_then(|bytes| here.checked_sub(bytes)) else {
        return false;
    };
    let start = std::num::NonZeroUsize::new(start & !(PRESENT - 1));
    let len =
        start.and_then(|start| std::num::NonZeroUsize::new((here - PRESENT).saturating_sub(start.get())));
    let (Some(start), Some(len)) = (start, len) else { return start.is_some() };
    let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE | MapFlags::MAP_FIXED_NOREPLACE;
    // SAFETY: the kernel makes this mapping only where nothing is mapped, so it touches no memory of anybody's.
    let Ok(base) = (unsafe { mmap_anonymous(Some(start), len, ProtFlags::PROT_NONE, flags) }) else {
        return false;
    };
    // SAFETY: this is the mapping that was just made, whole, and nobody else knows of it.
    let _ = unsafe { munmap(base, len.get()) };
    true
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use std::num::NonZeroUsize;
    use std::os::fd::AsRawFd as _;

    use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};

    use super::*;

    /// Zeroed private memory that begins with a huge page. The memory belongs to nobody afterwards, and to no
    /// allocator, because tests map into it.
    fn aligned(len: usize) -> &'static mut [u8] {
        let (all, read_write) = (len + HUGE_PAGE, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE);
        let all = NonZeroUsize::new(all).unwrap();
        // SAFETY: the range is a new one, zeroed, and never unmapped; one that lies inside is the only reference to it.
        unsafe {
            let start = mmap_anonymous(None, all, read_write, MapFlags::MAP_PRIVATE).unwrap().cast::<u8>();
            let offset = start.align_offset(HUGE_PAGE);
            std::slice::from_raw_parts_mut(start.add(offset).as_ptr(), len)
        }
    }

    #[test]
    fn what_is_mapped_has_all_of_its_memory_in_huge_pages_at_once() {
        let used = |fd: &OwnedFd| nix::sys::stat::fstat(fd).unwrap().st_blocks as usize * 512;
        let (fd, mapping) = Mapping::create(4 * HUGE_PAGE).unwrap();
        mapping.write(2 * HUGE_PAGE + 5, b"here").unwrap();
        let target = aligned(2 * HUGE_PAGE);
        mapping.map_again(HUGE_PAGE, target, false).unwrap();
        assert_eq!(used(&fd), page_size());
        mapping.fill_with_huge_pages(HUGE_PAGE, target);
        assert_eq!(target.get(HUGE_PAGE + 5..HUGE_PAGE + 9), Some(&b"here"[..]), "what stood there");

        // This finds out whether this kernel gives huge pages to a file that is mapped without us.
        let (other, _) = Mapping::create(HUGE_PAGE).unwrap();
        let place = aligned(HUGE_PAGE).as_mut_ptr();
        // SAFETY: the mapping lies over private memory that nobody else has, and one byte of it is stored to.
        let is_given = unsafe {
            let flags = libc::MAP_SHARED | libc::MAP_FIXED;
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let mapped = libc::mmap(place.cast(), HUGE_PAGE, protection, flags, other.as_raw_fd(), 0);
            assert_eq!(mapped, place.cast());
            place.write_volatile(1);
            libc::madvise(mapped, HUGE_PAGE, libc::MADV_COLLAPSE) == 0
        };
        // If the kernel gives none, the file has the page that was there, and the one that was read to ask.
        assert_eq!(used(&fd), if is_given { 2 * HUGE_PAGE } else { 2 * page_size() });
    }

    #[test]
    fn what_goes_back_to_the_system_is_whole_pages_of_its_size() {
        const KIB: usize = 1 << 10;
        let cases = [
            (0..64 * KIB, 4 * KIB, 0..64 * KIB),
            (4 * KIB..100 * KIB, 4 * KIB, 4 * KIB..100 * KIB),
            (4 * KIB..100 * KIB, 16 * KIB, 16 * KIB..96 * KIB),
            (4 * KIB..300 * KIB, 64 * KIB, 64 * KIB..256 * KIB),
            (64 * KIB..100 * KIB, 64 * KIB, 64 * KIB..64 * KIB),
            (4 * KIB..60 * KIB, 64 * KIB, 60 * KIB..60 * KIB),
            (1..usize::MAX, 64 * KIB, 64 * KIB..usize::MAX / (64 * KIB) * (64 * KIB)),
            (usize::MAX - 1..usize::MAX, 64 * KIB, usize::MAX..usize::MAX),
        ];
        for (bytes, page, whole) in cases {
            assert_eq!(whole_pages(bytes.clone(), page), whole, "{bytes:?} in pages of {page}");
        }
        assert!(page_size().is_power_of_two() && (4 * KIB..=PAGE_MAX).contains(&page_size()));
    }

    /// Bytes beside a cleared range stay.
    #[test]
    fn nothing_else_is_cleared() {
        let len = 4 * CLEAR_BY_REMOVING;
        let (_fd, mapping) = Mapping::create(len).unwrap();
        for range in [4096..len - 4096, PAGE_MAX..len - PAGE_MAX, 100..len - 100, 0..4096, 5000..5001] {
            let mut bytes = vec![1; len];
            mapping.write(0, &bytes).unwrap();
            mapping.clear(range.start, range.len()).unwrap();
            mapping.read(0, &mut bytes).unwrap();
            assert!(
                bytes.iter().enumerate().all(|(at, byte)| (*byte == 0) == range.contains(&at)),
                "{range:?}"
            );
        }
    }
}
