//! Limits for decoding untrusted bytes: how deep values may be nested, and how many may take no bytes.
//!
//! A type that contains itself, such as a tree, is decoded by recursive calls, as deep as the bytes say: they could exhaust
//! the stack of the decoding thread, which is the end of an application. And a value that takes no bytes, such as `()`,
//! occurs as often as the length of its sequence says: a few bytes could keep a thread busy for years.
//!
//! `Nested` wraps each of serde's halves of the decoding, the format's and the type's, and hands itself on from one to the
//! next. It allocates nothing. It supports the calls of formats that don't describe themselves.

use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};

/// The maximum nesting of values: structs, enums, options, sequences, maps. Decoding this depth takes less than 2 MiB of
/// stack, which threads have by default, even when nothing is optimized.
pub const DEPTH_MAX: u32 = 256;
/// The maximum number of elements of sequences and entries of maps that take no bytes, in all.
pub const EMPTY_MAX: u32 = 1 << 20;

/// Decodes a `T` from a number of bytes, within the limits.
///
/// ```
/// use sandpool_abi::nesting::Bounded;
///
/// let configuration = bincode::config::standard().with_fixed_int_encoding();
/// // A length, and nothing.
/// let bytes = u64::MAX.to_le_bytes();
/// let nothing = Bounded::<Vec<()>>::new(&bytes);
/// assert!(bincode::serde::seed_decode_from_slice(nothing, &bytes, configuration).is_err());
/// ```
#[derive(Debug)]
pub struct Bounded<T> {
    len: usize,
    value: PhantomData<fn() -> T>,
}

impl<T> Bounded<T> {
    /// Decodes from these bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self { len: bytes.len(), value: PhantomData }
    }
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Bounded<T> {
    type Value = T;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<T, D::Error> {
        let so_far = SoFar { len: self.len, empty: Cell::new(0), took: Cell::new(false) };
        T::deserialize(Nested { inner, so_far: &so_far, depth: 0, is_counted: false })
    }
}

/// The state that all parts of one decoding share.
struct SoFar {
    /// The number of bytes of the input.
    len: usize,
    /// The number of elements that took no bytes.
    empty: Cell<u32>,
    /// Whether the current element has taken any bytes.
    took: Cell<bool>,
}

/// A part of the decoding, within the limits.
struct Nested<'a, T> {
    inner: T,
    so_far: &'a SoFar,
    depth: u32,
    /// Whether the input, not the type, says how many elements there are.
    is_counted: bool,
}

impl<'a, T> Nested<'a, T> {
    /// The same place for another part.
    #[inline]
    fn with<U>(&self, inner: U) -> Nested<'a, U> {
        Nested { inner, so_far: self.so_far, depth: self.depth, is_counted: self.is_counted }
    }

    /// Creates a part that is one level deeper.
    #[inline]
    fn within<U, E: Error>(&self, inner: U, is_counted: bool) -> Result<Nested<'a, U>, E> {
        if self.depth == DEPTH_MAX {
            return Err(too_deep());
        }
        Ok(Nested { inner, so_far: self.so_far, depth: self.depth + 1, is_counted })
    }

    /// Marks the beginning of an element.
    #[inline]
    fn begin(&self) {
        if self.is_counted {
            self.so_far.took.set(false);
        }
    }

    /// Marks the end of an element.
    #[inline]
    fn end<E: Error>(&self) -> Result<(), E> {
        if self.is_counted && !self.so_far.took.get() {
            let empty = &self.so_far.empty;
            if empty.get() == EMPTY_MAX {
                return Err(too_many());
            }
            empty.set(empty.get() + 1);
        }
        Ok(())
    }

    /// The number of elements for which it is worth to make room: each element that needs bytes takes at least one.
    #[inline]
    fn room(&self, hint: Option<usize>) -> Option<usize> {
        hint.map(|hint| hint.min(self.so_far.len))
    }
}

// A function of its own, so that its callers are inlined: values with neither depth nor elements are then decoded as
// without the limits.

#[cold]
fn too_deep<E: Error>() -> E {
    E::custom(format_args!("its values lie within each other more than {DEPTH_MAX} deep"))
}

#[cold]
fn too_many<E: Error>() -> E {
    E::custom(format_args!("more than {EMPTY_MAX} of its elements take no bytes"))
}

/// Decodes values that take bytes, and contain no others.
macro_rules! plain {
    ($($name:ident)*) => {$(
        #[inline]
        fn $name<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.so_far.took.set(true);
            self.inner.$name(visitor)
        }
    )*};
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Nested<'_, D> {
    type Error = D::Error;

    plain! {
        deserialize_any deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128 deserialize_f32 deserialize_f64
        deserialize_char deserialize_str deserialize_bytes deserialize_identifier deserialize_ignored_any
    }

    // For these types a format allocates the length that the bytes say, before it checks that the input has as many
    // bytes. Borrowed data exists already, and a visitor copies it.
    #[inline]
    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.deserialize_str(visitor)
    }

    #[inline]
    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.deserialize_bytes(visitor)
    }

    #[inline]
    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.so_far.took.set(true);
        let visitor = self.within(visitor, false)?;
        self.inner.deserialize_option(visitor)
    }

    #[inline]
    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_unit(visitor)
    }

    #[inline]
    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_unit_struct(name, visitor)
    }

    #[inline]
    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = self.within(visitor, false)?;
        self.inner.deserialize_newtype_struct(name, visitor)
    }

    #[inline]
    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let visitor = self.within(visitor, true)?;
        let value = self.inner.deserialize_seq(visitor)?;
        // The length takes bytes, also if the last element took none.
        self.so_far.took.set(true);
        Ok(value)
    }

    #[inline]
    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, D::Error> {
        let visitor = self.within(visitor, false)?;
        self.inner.deserialize_tuple(len, visitor)
    }

    #[inline]
    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = self.within(visitor, false)?;
        self.inner.deserialize_tuple_struct(name, len, visitor)
    }

    #[inline]
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let visitor = self.within(visitor, true)?;
        let value = self.inner.deserialize_map(visitor)?;
        self.so_far.took.set(true);
        Ok(value)
    }

    #[inline]
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = self.within(visitor, false)?;
        self.inner.deserialize_struct(name, fields, visitor)
    }

    #[inline]
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.so_far.took.set(true);
        let visitor = self.within(visitor, false)?;
        self.inner.deserialize_enum(name, variants, visitor)
    }

    fn is_human_readable(&self) -> bool {
        self.inner.is_human_readable()
    }
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Nested<'_, V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.expecting(f)
    }

    #[inline]
    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    #[inline]
    fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<V::Value, D::Error> {
        let value = self.with(value);
        self.inner.visit_some(value)
    }

    #[inline]
    fn visit_newtype_struct<D: Deserializer<'de>>(self, value: D) -> Result<V::Value, D::Error> {
        let value = self.with(value);
        self.inner.visit_newtype_struct(value)
    }

    #[inline]
    fn visit_seq<A: SeqAccess<'de>>(self, elements: A) -> Result<V::Value, A::Error> {
        let elements = self.with(elements);
        self.inner.visit_seq(elements)
    }

    #[inline]
    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<V::Value, A::Error> {
        let entries = self.with(entries);
        self.inner.visit_map(entries)
    }

    #[inline]
    fn visit_enum<A: EnumAccess<'de>>(self, choice: A) -> Result<V::Value, A::Error> {
        let choice = self.with(choice);
        self.inner.visit_enum(choice)
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Nested<'_, S> {
    type Value = S::Value;

    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<S::Value, D::Error> {
        let value = self.with(value);
        self.inner.deserialize(value)
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Nested<'_, A> {
    type Error = A::Error;

    #[inline]
    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let seed = self.with(seed);
        self.begin();
        let element = self.inner.next_element_seed(seed)?;
        if element.is_some() {
            self.end()?;
        }
        Ok(element)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.room(self.inner.size_hint())
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Nested<'_, A> {
    type Error = A::Error;

    #[inline]
    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let seed = self.with(seed);
        self.begin();
        self.inner.next_key_seed(seed)
    }

    #[inline]
    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let seed = self.with(seed);
        let value = self.inner.next_value_seed(seed)?;
        self.end()?;
        Ok(value)
    }

    #[inline]
    fn size_hint(&self) -> Option<usize> {
        self.room(self.inner.size_hint())
    }
}

impl<'a, 'de, A: EnumAccess<'de>> EnumAccess<'de> for Nested<'a, A> {
    type Error = A::Error;
    type Variant = Nested<'a, A::Variant>;

    #[inline]
    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), A::Error> {
        let Self { inner, so_far, depth, is_counted } = self;
        let (which, inner) = inner.variant_seed(seed)?;
        Ok((which, Nested { inner, so_far, depth, is_counted }))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Nested<'_, A> {
    type Error = A::Error;

    #[inline]
    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    #[inline]
    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        let seed = self.with(seed);
        self.inner.newtype_variant_seed(seed)
    }

    #[inline]
    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        let visitor = self.with(visitor);
        self.inner.tuple_variant(len, visitor)
    }

    #[inline]
    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let visitor = self.with(visitor);
        self.inner.struct_variant(fields, visitor)
    }
}
