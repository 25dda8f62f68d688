//! Values that are a text, or bytes, as a whole: all bytes of an input or output belong to the value, without any
//! syntax.

use std::fmt::{self, Display};

use serde::de::value::StrDeserializer;
use serde::de::{DeserializeOwned, IntoDeserializer as _, Unexpected, Visitor};
use serde::ser::Impossible;
use serde::{Deserializer, Serialize, Serializer, de, forward_to_deserialize_any, ser};

/// The reason why a value isn't of such a type, or can't be.
#[derive(Debug, PartialEq)]
pub(super) enum Unfit {
    /// The type of the value is of another kind.
    Type,
    /// The value is of that kind, but this is wrong.
    Because(String),
}

impl Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Type => f.write_str("it is neither bytes nor text"),
            Self::Because(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Unfit {}

impl de::Error for Unfit {
    fn custom<T: Display>(why: T) -> Self {
        Self::Because(why.to_string())
    }

    // Doesn't format a text, because this happens to each number in a line.
    fn invalid_type(_: Unexpected<'_>, _: &dyn de::Expected) -> Self {
        Self::Type
    }
}

impl ser::Error for Unfit {
    fn custom<T: Display>(why: T) -> Self {
        Self::Because(why.to_string())
    }
}

/// Decodes the value from these bytes.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Unfit> {
    T::deserialize(Whole(bytes))
}

/// Appends the bytes of a value. After an error, none.
pub(super) fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), Unfit> {
    value.serialize(Sink(out))
}

struct Whole<'a>(&'a [u8]);

impl<'a> Whole<'a> {
    fn text(&self) -> Result<&'a str, Unfit> {
        std::str::from_utf8(self.0).map_err(|_| Unfit::Because("it is not UTF-8".to_owned()))
    }
}

impl<'de> Deserializer<'de> for Whole<'de> {
    type Error = Unfit;

    /// Passes a string. A type of another kind refuses the string by `invalid_type`; a type that is made from
    /// strings, such as an address, takes it.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        visitor.visit_str(self.text()?)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        visitor.visit_bytes(self.0)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        visitor.visit_bytes(self.0)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Unfit> {
        if self.0.is_empty() { visitor.visit_unit() } else { Err(Unfit::Type) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Unfit> {
        visitor.visit_newtype_struct(self)
    }

    /// A variant without fields, by its name.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Unfit> {
        // Bytes that begin like this aren't a name, but a variant with fields in JSON.
        if matches!(self.0.first(), Some(b'{' | b'"')) {
            return Err(Unfit::Type);
        }
        let text: StrDeserializer<'_, Unfit> = self.text()?.into_deserializer();
        text.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string option unit_struct seq tuple tuple_struct
        map struct identifier ignored_any
    }
}

struct Sink<'a>(&'a mut Vec<u8>);

impl Sink<'_> {
    fn write(self, bytes: &[u8]) -> Result<(), Unfit> {
        let no_memory = |_| Unfit::Because("not enough memory for its bytes".to_owned());
        self.0.try_reserve(bytes.len()).map_err(no_memory)?;
        self.0.extend_from_slice(bytes);
        Ok(())
    }
}

macro_rules! refuse {
    ($($method:ident($($argument:ty),*) $(-> $result:ty)?;)*) => {
        $(fn $method(self, $(_: $argument),*) -> Result<refuse!(@result $($result)?), Unfit> {
            Err(Unfit::Type)
        })*
    };
    (@result) => { () };
    (@result $result:ty) => { $result };
}

impl Serializer for Sink<'_> {
    type Ok = ();
    type Error = Unfit;
    type SerializeSeq = Impossible<(), Unfit>;
    type SerializeTuple = Impossible<(), Unfit>;
    type SerializeTupleStruct = Impossible<(), Unfit>;
    type SerializeTupleVariant = Impossible<(), Unfit>;
    type SerializeMap = Impossible<(), Unfit>;
    type SerializeStruct = Impossible<(), Unfit>;
    type SerializeStructVariant = Impossible<(), Unfit>;

    fn serialize_str(self, text: &str) -> Result<(), Unfit> {
        self.write(text.as_bytes())
    }

    fn serialize_bytes(self, bytes: &[u8]) -> Result<(), Unfit> {
        self.write(bytes)
    }

    fn serialize_char(self, c: char) -> Result<(), Unfit> {
        self.write(c.encode_utf8(&mut [0; 4]).as_bytes())
    }

    fn serialize_unit(self) -> Result<(), Unfit> {
        Ok(())
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Unfit> {
        self.write(variant.as_bytes())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Unfit> {
        value.serialize(self)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<(), Unfit> {
        Err(Unfit::Type)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Unfit> {
        Err(Unfit::Type)
    }

    refuse! {
        serialize_bool(bool);
        serialize_i8(i8);
        serialize_i16(i16);
        serialize_i32(i32);
        serialize_i64(i64);
        serialize_i128(i128);
        serialize_u8(u8);
        serialize_u16(u16);
        serialize_u32(u32);
        serialize_u64(u64);
        serialize_u128(u128);
        serialize_f32(f32);
        serialize_f64(f64);
        serialize_none();
        serialize_unit_struct(&'static str);
        serialize_seq(Option<usize>) -> Impossible<(), Unfit>;
        serialize_tuple(usize) -> Impossible<(), Unfit>;
        serialize_tuple_struct(&'static str, usize) -> Impossible<(), Unfit>;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Impossible<(), Unfit>;
        serialize_map(Option<usize>) -> Impossible<(), Unfit>;
        serialize_struct(&'static str, usize) -> Impossible<(), Unfit>;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Impossible<(), Unfit>;
    }
}
