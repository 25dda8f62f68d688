//! Casts between types that are equal, where only the caller's type parameter knows it.

use std::any::TypeId;
use std::mem::{ManuallyDrop, transmute_copy};
use std::ptr::{copy_nonoverlapping, from_ref};

use bytemuck::Pod;

use super::written;
use crate::bytes::Bytes;

/// # Safety
/// A type without a lifetime; `typeid` takes types that differ only in lifetimes for the same.
pub(crate) unsafe trait Whole: 'static {}

macro_rules! whole {
    ($($type:ty),*) => {
        // SAFETY: the type has no lifetime.
        $(unsafe impl Whole for $type {})*
    };
}

whole!(Bytes, String, Vec<u8>, Vec<u16>, Vec<u32>, Vec<u64>);
whole!(Vec<i8>, Vec<i16>, Vec<i32>, Vec<i64>, Vec<f32>, Vec<f64>);

#[inline(always)]
pub(crate) fn is_same<T: ?Sized, U: Whole>() -> bool {
    typeid::of::<T>() == TypeId::of::<U>()
}

pub(crate) fn as_same<T: ?Sized, U: Whole>(value: &T) -> Option<&U> {
    // SAFETY: the types are the same: `typeid` tells types apart except for their lifetimes, and `U` has none. So this
    // is the original reference.
    is_same::<T, U>().then(|| unsafe { &*from_ref(value).cast::<U>() })
}

pub(crate) fn into_same<T, U: Whole>(value: U) -> Option<T> {
    is_same::<T, U>().then(|| {
        let value = ManuallyDrop::new(value);
        // SAFETY: the types are the same, as above, and `ManuallyDrop` has the layout of its content. The original is
        // neither used nor dropped after it was copied.
        unsafe { transmute_copy::<ManuallyDrop<U>, T>(&value) }
    })
}

/// The opposite of `into_same`; a value of another type is given back.
pub(crate) fn from_same<T, U: Whole>(value: T) -> Result<U, T> {
    if !is_same::<T, U>() {
        return Err(value);
    }
    let value = ManuallyDrop::new(value);
    // SAFETY: as in `into_same`.
    Ok(unsafe { transmute_copy::<ManuallyDrop<T>, U>(&value) })
}

/// Whether the type is one of the types that are a vector of bytes.
pub(crate) fn is_bytes<T: ?Sized>() -> bool {
    is_same::<T, Vec<u8>>() || is_same::<T, Bytes>()
}

/// Returns the bytes of a value of such a type.
pub(crate) fn as_bytes<T: ?Sized>(value: &T) -> Option<&[u8]> {
    let bytes = as_same::<T, Bytes>(value).map(|bytes| &**bytes);
    bytes.or_else(|| as_same::<T, Vec<u8>>(value)).map(Vec::as_slice)
}

/// Makes a value of such a type.
pub(crate) fn from_bytes<T>(bytes: Vec<u8>) -> Option<T> {
    if is_same::<T, Bytes>() { into_same(Bytes::from(bytes)) } else { into_same(bytes) }
}

/// Makes a vector of elements from their bytes; a remainder shorter than an element is ignored. `None` if there is no
/// memory for it.
pub(crate) fn vec_from_bytes<E: Pod>(bytes: &[u8]) -> Option<Vec<E>> {
    let len = bytes.len() / size_of::<E>();
    let copy = |to: *mut E| {
        // SAFETY: as many elements of this size are readable at `bytes`, and there is room for them at `to`, in a new
        // allocation; so they don't overlap. Any bits are an element.
        unsafe { copy_nonoverlapping(bytes.as_ptr(), to.cast(), len * size_of::<E>()) };
        Ok(())
    };
    // SAFETY: all elements were written.
    unsafe { written(len, copy) }?.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_of_bytes_and_nothing_else() {
        assert_eq!(as_bytes(&vec![1_u8, 2]), Some([1, 2].as_slice()));
        assert_eq!(as_bytes(&Bytes::from(vec![1, 2])), Some([1, 2].as_slice()));
        assert_eq!(from_bytes::<Vec<u8>>(vec![1, 2]), Some(vec![1, 2]));
        assert_eq!(from_bytes::<Bytes>(vec![1, 2]), Some(Bytes::from(vec![1, 2])));
        assert_eq!(as_bytes(&vec![1_i8, 2]), None);
        assert_eq!(as_bytes("text"), None);
        assert_eq!(from_bytes::<(&str, Vec<u8>)>(vec![1]), None);
    }
}
