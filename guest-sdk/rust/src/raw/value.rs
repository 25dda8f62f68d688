//! Values as their bytes, for another process of the same program.

use std::ptr::{copy_nonoverlapping, from_ref};

/// Appends the bytes of a value.
///
/// Bytes between the fields may be uninitialized. They may be copied on, and given to the host; nothing here looks
/// at them.
///
/// # Safety
/// A process that [`read`]s the bytes may have such a value: the value is as good there as it is here.
pub(crate) unsafe fn append<S: Copy + 'static>(bytes: &mut Vec<u8>, value: &S) {
    let (len, size) = (bytes.len(), size_of::<S>());
    bytes.reserve(size);
    // SAFETY: `value` is readable for its size, and after `reserve` the vector writable for as many bytes behind its
    // first `len`; they don't overlap, as the vector is exclusively ours. The copy is untyped, so bytes between fields
    // may be uninitialized and stay so, and pointers stay pointers. All bytes up to the new length were written by it,
    // within the capacity; what isn't initialized of them is only copied in the same way, into a message
    // (`extend_from_slice`), and that is read by the host, to which any bits are bytes.
    unsafe {
        copy_nonoverlapping(from_ref(value).cast(), bytes.as_mut_ptr().add(len), size);
        bytes.set_len(len + size);
    }
}

/// Returns the value, if the number of bytes is its size.
pub(crate) fn read<S: Copy + 'static>(bytes: &[u8]) -> Option<S> {
    // SAFETY: as many bytes are readable, aligned or not, and all were written by the host. A function that is generic
    // in `S` calls this, whose number was put beside what `append` for the same `S` had written, by a process of the
    // same program. So they are a valid `S` there, and by the contract of `append` here as well. Pointers among them
    // come from the host: as from any foreign code.
    (bytes.len() == size_of::<S>()).then(|| unsafe { bytes.as_ptr().cast::<S>().read_unaligned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_they_were_written() {
        let value = (1_u8, u128::MAX - 7);
        let mut bytes = vec![0];
        // SAFETY: the value refers to nothing.
        unsafe { append(&mut bytes, &value) };
        assert_eq!(bytes.get(1..).and_then(read), Some(value));
        assert_eq!(read::<()>(&[]), Some(()));
        // One too many, and one too few.
        assert_eq!(read::<(u8, u128)>(&bytes), None);
        assert_eq!(bytes.get(2..).and_then(read::<(u8, u128)>), None);
        assert_eq!(read::<()>(&[0]), None);
    }
}
