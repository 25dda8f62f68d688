//! Bounds for decoding bytes of a stranger: how deep values may lie within each other, and how many may take no bytes.
//!
//! A type that contains itself, such as a tree, is decoded by calls within calls, as deep as the bytes say: they could
//! exhaust the stack of the thread that decodes, which is the end of an application. And a value that takes no bytes, such as
//! `()`, is there as often as the length of its sequence says: a few bytes could keep a thread busy for years.
//!
//! [`Nested`] stands around each of serde's halves of the decoding, the format's and the type's, and hands itself on from one
//! to the next. It allocates nothing. It knows what formats call that don't describe themselves.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess,
    Visitor,
};

/// How many values may lie within each other: structs, enums, options, sequences, maps. What is decoded with less than 2 MiB
/// of stack, which threads have by default, when nothing is optimized.
const DEPTH_MAX: u32 = 256;
/// How many elements of sequences and entries of maps may take no bytes, in all.
const EMPTY_MAX: u32 = 1 << 20;

/// Decodes a `T` from so many bytes, within the bounds.
pub(crate) struct Bounded<T> {
    len: usize,
    value: PhantomData<fn() -> T>,
}

impl<T> Bounded<T> {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self { len: bytes.len(), value: PhantomData }
    }
}

impl<'de, T: Deserialize<'de>> DeserializeSeed<'de> for Bounded<T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, inner: D) -> Result<T, D::Error> {
        let so_far = SoFar { len: self.len, empty: Cell::new(0), took: Cell::new(false) };
        T::deserialize(Nested { inner, so_far: &so_far, depth: 0, is_counted: false })
    }
}

/// What all parts of one decoding share.
struct SoFar {
    /// Bytes of the input.
    len: usize,
    /// Elements that took none of them.
    empty: Cell<u32>,
    /// Whether the current element has taken any.
    took: Cell<bool>,
}

/// A part of the decoding, within the bounds.
struct Nested<'a, T> {
    inner: T,
    so_far: &'a SoFar,
    depth: u32,
    /// How many elements there are is said by the input, and not by the type.
    is_counted: bool,
}

impl<'a, T> Nested<'a, T> {
    /// The same place for another part.
    fn with<U>(&self, inner: U) -> Nested<'a, U> {
        Nested { inner, so_far: self.so_far, depth: self.depth, is_counted: self.is_counted }
    }

    /// One deeper.
    fn within<U, E: Error>(&self, inner: U, is_counted: bool) -> Result<Nested<'a, U>, E> {
        if self.depth == DEPTH_MAX {
            return Err(E::custom(format_args!(
                "its values lie within each other more than {DEPTH_MAX} deep"
            )));
        }
        Ok(Nested { inner, so_far: self.so_far, depth: self.depth + 1, is_counted })
    }

    /// An element begins.
    fn begin(&self) {
        if self.is_counted {
            self.so_far.took.set(false);
        }
    }

    /// It has been decoded.
    fn end<E: Error>(&self) -> Result<(), E> {
        if self.is_counted && !self.so_far.took.get() {
            let empty = &self.so_far.empty;
            if empty.get() == EMPTY_MAX {
                return Err(E::custom(format_args!("more than {EMPTY_MAX} of its elements take no bytes")));
            }
            empty.set(empty.get() + 1);
        }
        Ok(())
    }

    /// For how many elements it is worth to make room: each that needs any takes a byte.
    fn room(&self, hint: Option<usize>) -> Option<usize> {
        hint.map(|hint| hint.min(self.so_far.len))
    }
}

/// What takes bytes, and has nothing within.
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
        deserialize_char deserialize_str deserialize_string deserialize_bytes deserialize_byte_buf deserialize_identifier
        deserialize_ignored_any
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.so_far.took.set(true);
        let visitor = self.within(visitor, false)?;
        self.inner.deserialize_option(visitor)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.inner.deserialize_unit(visitor)
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.inner.deserialize_unit_struct(name, visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = self.within(visitor, false)?;
        self.inner.deserialize_newtype_struct(name, visitor)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let visitor = self.within(visitor, true)?;
        let value = self.inner.deserialize_seq(visitor)?;
        // Its length, also if its last element took nothing.
        self.so_far.took.set(true);
        Ok(value)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, D::Error> {
        let visitor = self.within(visitor, false)?;
        self.inner.deserialize_tuple(len, visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = self.within(visitor, false)?;
        self.inner.deserialize_tuple_struct(name, len, visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        let visitor = self.within(visitor, true)?;
        let value = self.inner.deserialize_map(visitor)?;
        self.so_far.took.set(true);
        Ok(value)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        let visitor = self.within(visitor, false)?;
        self.inner.deserialize_struct(name, fields, visitor)
    }

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

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.inner.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<V::Value, D::Error> {
        let value = self.with(value);
        self.inner.visit_some(value)
    }

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

    fn size_hint(&self) -> Option<usize> {
        self.room(self.inner.size_hint())
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Nested<'_, A> {
    type Error = A::Error;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, A::Error> {
        let seed = self.with(seed);
        self.begin();
        self.inner.next_key_seed(seed)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, A::Error> {
        let seed = self.with(seed);
        let value = self.inner.next_value_seed(seed)?;
        self.end()?;
        Ok(value)
    }

    fn size_hint(&self) -> Option<usize> {
        self.room(self.inner.size_hint())
    }
}

impl<'a, 'de, A: EnumAccess<'de>> EnumAccess<'de> for Nested<'a, A> {
    type Error = A::Error;
    type Variant = Nested<'a, A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), A::Error> {
        let Self { inner, so_far, depth, is_counted } = self;
        let (which, inner) = inner.variant_seed(seed)?;
        Ok((which, Nested { inner, so_far, depth, is_counted }))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Nested<'_, A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        self.inner.unit_variant()
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        let seed = self.with(seed);
        self.inner.newtype_variant_seed(seed)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        let visitor = self.with(visitor);
        self.inner.tuple_variant(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        let visitor = self.with(visitor);
        self.inner.struct_variant(fields, visitor)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeMap;

    use serde::de::{DeserializeOwned, Visitor};
    use serde::{Deserialize, Serialize};

    use super::{DEPTH_MAX, EMPTY_MAX};
    use crate::codec::{decode_all, encode};
    use crate::testing::within_deadline;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Node {
        children: Vec<Node>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Link(Option<Box<Link>>);

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Term {
        Nothing,
        Not(Box<Term>),
        And(Box<Term>, Box<Term>),
        Named { name: String, term: Box<Term> },
        All(BTreeMap<String, Term>),
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Empty {
        nothing: (),
        no_more: [(); 4],
    }

    #[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
    enum Choice {
        Only,
    }

    fn refusal<T: DeserializeOwned>(bytes: &[u8]) -> String {
        decode_all::<T>(bytes).err().unwrap().to_string()
    }

    /// A length, as it is encoded.
    fn length(of: u64) -> Vec<u8> {
        encode(&of).unwrap()
    }

    /// As deep as the bytes say, on a stack that has less room than a thread's.
    #[test]
    fn what_is_too_deep_is_refused() {
        let deep = || {
            let nodes = length(1).repeat(1 << 18);
            // Each is the second of the choices.
            let terms = encode(&1_u32).unwrap().repeat(1 << 18);
            for refusal in [
                refusal::<Node>(&nodes),
                refusal::<Vec<Node>>(&nodes),
                refusal::<Term>(&terms),
                refusal::<(u8, Option<Term>)>(&[&[1, 1], &*terms].concat()),
                refusal::<Link>(&[1; 1 << 20]),
            ] {
                assert_eq!(refusal, format!("its values lie within each other more than {DEPTH_MAX} deep"));
            }
        };
        std::thread::Builder::new().stack_size(512 << 10).spawn(deep).unwrap().join().unwrap();
    }

    #[test]
    fn what_is_not_too_deep_is_what_it_was() {
        let mut node = Node { children: Vec::new() };
        // A struct and a sequence each.
        for _ in 1..DEPTH_MAX / 2 {
            node = Node { children: vec![node, Node { children: Vec::new() }] };
        }
        let bytes = encode(&node).unwrap();
        assert_eq!(decode_all::<Node>(&bytes).unwrap(), node);
        assert!(decode_all::<Vec<Node>>(&[length(1), bytes].concat()).is_err());
        let term = Term::And(
            Box::new(Term::Not(Box::new(Term::Nothing))),
            Box::new(Term::Named {
                name: "n".to_owned(),
                term: Box::new(Term::All(BTreeMap::from([("a".to_owned(), Term::Nothing)]))),
            }),
        );
        let all = (
            (true, -1_i8, -2_i16, -3_i32, -4_i64, -5_i128),
            (1_u8, 2_u16, 3_u32, 4_u64, 5_u128, 1.5_f32, 2.5_f64),
            ('x', "text".to_owned(), Some(()), None::<u8>, [7_u8; 3], Link(None)),
            term,
        );
        assert_eq!(decode_all(&encode(&all).unwrap()).ok(), Some(all));
    }

    #[test]
    fn more_elements_without_bytes_than_there_may_be_are_refused() {
        let bytes = length(u64::MAX);
        let expected = format!("more than {EMPTY_MAX} of its elements take no bytes");
        // As many as they say would take years.
        let refusals = within_deadline(|| {
            [
                refusal::<Vec<()>>(&bytes),
                refusal::<Vec<Empty>>(&bytes),
                refusal::<BTreeMap<(), Empty>>(&bytes),
                // Each by itself has few.
                refusal::<Vec<Vec<()>>>(&encode(&vec![vec![(); 3]; 1 << 20]).unwrap()),
            ]
        });
        assert!(refusals.iter().all(|refusal| *refusal == expected), "{refusals:?}");
        let some = (vec![(); EMPTY_MAX as usize - 3], vec![Empty { nothing: (), no_more: [(); 4] }; 3]);
        assert_eq!(decode_all(&encode(&some).unwrap()).ok(), Some(some));
        // These take some, whatever the last thing in them takes.
        let full = (vec![(1_u8, ()); 2 << 20], vec![Some(()); 2 << 20], vec![Vec::<()>::new(); 2 << 20]);
        assert_eq!(decode_all(&encode(&full).unwrap()).ok(), Some(full));
        let choices = vec![Choice::Only; EMPTY_MAX as usize + 1];
        assert_eq!(decode_all(&encode(&choices).unwrap()).ok(), Some(choices));
    }

    /// For how many elements a visitor would make room.
    struct Hint(Option<usize>);

    impl<'de> Deserialize<'de> for Hint {
        fn deserialize<D: super::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Look;
            impl<'de> Visitor<'de> for Look {
                type Value = Hint;

                fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                    f.write_str("a sequence")
                }

                fn visit_seq<A: super::SeqAccess<'de>>(self, elements: A) -> Result<Hint, A::Error> {
                    Ok(Hint(elements.size_hint()))
                }
            }
            deserializer.deserialize_seq(Look)
        }
    }

    #[test]
    fn room_is_made_for_no_more_elements_than_there_are_bytes() {
        let bytes = length(1 << 60);
        assert_eq!(decode_all::<Hint>(&bytes).unwrap().0, Some(bytes.len()));
        let bytes = length(3);
        assert_eq!(decode_all::<Hint>(&bytes).unwrap().0, Some(bytes.len().min(3)));
    }
}
