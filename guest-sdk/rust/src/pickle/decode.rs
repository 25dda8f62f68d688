//! Values from the nodes of a pickle, within bounds: a node that lies in several places is decoded in each.

use std::cell::Cell;

use serde::de::value::{MapDeserializer, SeqDeserializer, StrDeserializer};
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, IntoDeserializer, Unexpected,
    VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::machine::{Id, Node, Pickle};
use super::{DEPTH_MAX, Failure};

/// A value is at most this number of times as large as its pickle.
const TIMES_MAX: usize = 16;

/// Each value may be this large.
const SIZE_ALWAYS: usize = 1 << 16;

/// The size of a value beside its text or bytes.
const EACH: usize = 8;

/// Decodes a pickle of this number of bytes.
pub(super) fn decode<T: DeserializeOwned>(pickle: &Pickle<'_>, bytes: usize) -> Result<T, Failure> {
    let room = Cell::new(bytes.saturating_mul(TIMES_MAX).saturating_add(SIZE_ALWAYS));
    T::deserialize(Decoder { pickle, id: pickle.root(), depth: 0, room: &room })
}

#[derive(Clone, Copy)]
struct Decoder<'p, 'a> {
    pickle: &'p Pickle<'a>,
    id: Id,
    depth: usize,
    /// The size that all values together may still have.
    room: &'p Cell<usize>,
}

impl<'p, 'a> Decoder<'p, 'a> {
    /// The node, once it has got its room.
    fn node(&self) -> Result<&'p Node<'a>, Failure> {
        let node = self.pickle.node(self.id)?;
        let size = match node {
            Node::Str(text) => text.len().saturating_add(EACH),
            Node::Bytes(bytes) => bytes.len().saturating_add(EACH),
            _ => EACH,
        };
        let left = self.room.get().checked_sub(size);
        self.room.set(left.ok_or_else(|| Failure::new("it refers to its own parts too often"))?);
        Ok(node)
    }

    /// The decoder of a part.
    fn part(self, id: Id) -> Result<Self, Failure> {
        match self.depth < DEPTH_MAX {
            true => Ok(Self { id, depth: self.depth + 1, ..self }),
            false => Err(Failure::new(format!("it is nested more than {DEPTH_MAX} deep"))),
        }
    }

    fn seq<'de, V: Visitor<'de>>(self, items: &[Id], visitor: V) -> Result<V::Value, Failure> {
        let of = self.part(self.id)?;
        let mut seq = SeqDeserializer::new(items.iter().map(|id| Self { id: *id, ..of }));
        let value = visitor.visit_seq(&mut seq)?;
        seq.end()?;
        Ok(value)
    }

    fn map<'de, V: Visitor<'de>>(self, items: &[Id], visitor: V) -> Result<V::Value, Failure> {
        let of = self.part(self.id)?;
        let (pairs, _) = items.as_chunks::<2>();
        let pairs = pairs.iter().map(|[key, value]| (Self { id: *key, ..of }, Self { id: *value, ..of }));
        let mut map = MapDeserializer::new(pairs);
        let value = visitor.visit_map(&mut map)?;
        map.end()?;
        Ok(value)
    }
}

impl<'de> Deserializer<'de> for Decoder<'_, '_> {
    type Error = Failure;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.node()? {
            Node::None => visitor.visit_unit(),
            Node::Bool(value) => visitor.visit_bool(*value),
            Node::Int(value) => match (i64::try_from(*value), u64::try_from(*value)) {
                (Ok(value), _) => visitor.visit_i64(value),
                (_, Ok(value)) => visitor.visit_u64(value),
                _ => visitor.visit_i128(*value),
            },
            Node::Float(value) => visitor.visit_f64(*value),
            Node::Str(text) => visitor.visit_str(text),
            Node::Bytes(bytes) => visitor.visit_bytes(bytes),
            Node::List(items) | Node::Tuple(items) | Node::Set(items) => self.seq(items, visitor),
            Node::Dict(items) => self.map(items, visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Failure> {
        match self.pickle.node(self.id)? {
            Node::None => self.deserialize_any(visitor),
            // A type may be one of its own options, or of its own fields, without end.
            _ => visitor.visit_some(self.part(self.id)?),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Failure> {
        visitor.visit_newtype_struct(self.part(self.id)?)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        match self.node()? {
            Node::Str(name) => visitor.visit_enum(StrDeserializer::new(name)),
            Node::Dict(items) => match items[..] {
                [name, value] => {
                    visitor.visit_enum(Variant { name: self.part(name)?, value: self.part(value)? })
                }
                _ => Err(Failure::new("a variant of an enum is a dictionary with one entry")),
            },
            _ => Err(Failure::new("a variant of an enum is a text, or a dictionary with one entry")),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

impl IntoDeserializer<'_, Failure> for Decoder<'_, '_> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

/// A variant with fields.
struct Variant<'p, 'a> {
    name: Decoder<'p, 'a>,
    value: Decoder<'p, 'a>,
}

impl<'de, 'p, 'a> EnumAccess<'de> for Variant<'p, 'a> {
    type Error = Failure;
    type Variant = Fields<'p, 'a>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), Failure> {
        Ok((seed.deserialize(self.name)?, Fields(self.value)))
    }
}

struct Fields<'p, 'a>(Decoder<'p, 'a>);

impl<'de> VariantAccess<'de> for Fields<'_, '_> {
    type Error = Failure;

    fn unit_variant(self) -> Result<(), Failure> {
        match self.0.node()? {
            Node::None => Ok(()),
            _ => Err(Failure::invalid_type(Unexpected::NewtypeVariant, &"a variant without fields")),
        }
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Failure> {
        seed.deserialize(self.0)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Failure> {
        self.0.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Failure> {
        self.0.deserialize_any(visitor)
    }
}
