//! Writes pickles, in protocol 4 and without a memo: a value that is there twice is written twice.

use serde::Serialize;
use serde::ser::{
    Error as _, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
    SerializeTupleStruct, SerializeTupleVariant, Serializer,
};

use super::Failure;

pub(super) fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, Failure> {
    let mut writer = Writer(Vec::new());
    // PROTO 4
    writer.put(&[0x80, 4])?;
    value.serialize(&mut writer)?;
    // STOP
    writer.put(b".")?;
    Ok(writer.0)
}

struct Writer(Vec<u8>);

impl Writer {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.0.try_reserve(bytes.len()).map_err(|_| Failure::no_memory())?;
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    /// An instruction with a number.
    fn put_with(&mut self, opcode: u8, argument: &[u8]) -> Result<(), Failure> {
        self.put(&[opcode])?;
        self.put(argument)
    }

    /// Text or bytes. The opcodes are those for a length of one byte, of four, and of eight.
    fn put_text(&mut self, opcodes: [u8; 3], text: &[u8]) -> Result<(), Failure> {
        let [short, long, longest] = opcodes;
        match (u8::try_from(text.len()), u32::try_from(text.len())) {
            (Ok(len), _) => self.put_with(short, &[len])?,
            (_, Ok(len)) => self.put_with(long, &len.to_le_bytes())?,
            _ => self.put_with(longest, &(text.len() as u64).to_le_bytes())?,
        }
        self.put(text)
    }

    /// An integer, whose bytes these are with the least first, and of which the sign is known.
    fn put_long(&mut self, bytes: &[u8], is_negative: bool) -> Result<(), Failure> {
        let sign = if is_negative { 0xff } else { 0 };
        let used = bytes.iter().rposition(|byte| *byte != sign).map_or(0, |last| last + 1);
        let digits = bytes.get(..used).unwrap_or(bytes);
        let lacks_sign = digits.last().is_none_or(|last| (last & 0x80 != 0) != is_negative);
        let len = digits.len() + usize::from(lacks_sign);
        self.put_with(0x8a, &[u8::try_from(len).map_err(Failure::custom)?])?;
        self.put(digits)?;
        if lacks_sign { self.put(&[sign]) } else { Ok(()) }
    }

    /// A dictionary with one entry, whose value `end` ends.
    fn begin_variant(&mut self, name: &str) -> Result<(), Failure> {
        self.put(b"}")?;
        self.serialize_str(name)
    }
}

/// A collection, and the instructions that end it.
struct Parts<'a> {
    writer: &'a mut Writer,
    end: &'static [u8],
}

impl Parts<'_> {
    fn part<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failure> {
        value.serialize(&mut *self.writer)
    }

    fn finish(self) -> Result<(), Failure> {
        self.writer.put(self.end)
    }
}

impl<'a> Serializer for &'a mut Writer {
    type Ok = ();
    type Error = Failure;
    type SerializeSeq = Parts<'a>;
    type SerializeTuple = Parts<'a>;
    type SerializeTupleStruct = Parts<'a>;
    type SerializeTupleVariant = Parts<'a>;
    type SerializeMap = Parts<'a>;
    type SerializeStruct = Parts<'a>;
    type SerializeStructVariant = Parts<'a>;

    fn serialize_bool(self, value: bool) -> Result<(), Failure> {
        self.put(&[if value { 0x88 } else { 0x89 }])
    }

    fn serialize_i8(self, value: i8) -> Result<(), Failure> {
        self.serialize_i64(value.into())
    }

    fn serialize_i16(self, value: i16) -> Result<(), Failure> {
        self.serialize_i64(value.into())
    }

    fn serialize_i32(self, value: i32) -> Result<(), Failure> {
        self.serialize_i64(value.into())
    }

    fn serialize_i64(self, value: i64) -> Result<(), Failure> {
        match (u8::try_from(value), i32::try_from(value)) {
            (Ok(value), _) => self.put_with(b'K', &[value]),
            (_, Ok(value)) => self.put_with(b'J', &value.to_le_bytes()),
            _ => self.put_long(&value.to_le_bytes(), value < 0),
        }
    }

    fn serialize_i128(self, value: i128) -> Result<(), Failure> {
        self.put_long(&value.to_le_bytes(), value < 0)
    }

    fn serialize_u8(self, value: u8) -> Result<(), Failure> {
        self.put_with(b'K', &[value])
    }

    fn serialize_u16(self, value: u16) -> Result<(), Failure> {
        self.serialize_i64(value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<(), Failure> {
        self.serialize_i64(value.into())
    }

    fn serialize_u64(self, value: u64) -> Result<(), Failure> {
        match i64::try_from(value) {
            Ok(value) => self.serialize_i64(value),
            Err(_) => self.put_long(&value.to_le_bytes(), false),
        }
    }

    fn serialize_u128(self, value: u128) -> Result<(), Failure> {
        self.put_long(&value.to_le_bytes(), false)
    }

    fn serialize_f32(self, value: f32) -> Result<(), Failure> {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<(), Failure> {
        self.put_with(b'G', &value.to_be_bytes())
    }

    fn serialize_char(self, value: char) -> Result<(), Failure> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), Failure> {
        self.put_text([0x8c, b'X', 0x8d], value.as_bytes())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Failure> {
        self.put_text([b'C', b'B', 0x8e], value)
    }

    fn serialize_none(self) -> Result<(), Failure> {
        self.put(b"N")
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Failure> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Failure> {
        self.put(b"N")
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Failure> {
        self.put(b"N")
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, name: &'static str) -> Result<(), Failure> {
        self.serialize_str(name)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Failure> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        value: &T,
    ) -> Result<(), Failure> {
        self.begin_variant(name)?;
        value.serialize(&mut *self)?;
        self.put(b"s")
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Parts<'a>, Failure> {
        self.put(b"](")?;
        Ok(Parts { writer: self, end: b"e" })
    }

    fn serialize_tuple(self, _: usize) -> Result<Parts<'a>, Failure> {
        self.put(b"(")?;
        Ok(Parts { writer: self, end: b"t" })
    }

    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<Parts<'a>, Failure> {
        self.serialize_tuple(len)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Parts<'a>, Failure> {
        self.begin_variant(name)?;
        self.put(b"(")?;
        Ok(Parts { writer: self, end: b"ts" })
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Parts<'a>, Failure> {
        self.put(b"}(")?;
        Ok(Parts { writer: self, end: b"u" })
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Parts<'a>, Failure> {
        self.serialize_map(None)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        _: usize,
    ) -> Result<Parts<'a>, Failure> {
        self.begin_variant(name)?;
        self.put(b"}(")?;
        Ok(Parts { writer: self, end: b"us" })
    }
}

/// Parts of a collection, one after the other.
macro_rules! serialize_parts {
    ($($part_of:ident: $method:ident),+ $(,)?) => {
        $(impl $part_of for Parts<'_> {
            type Ok = ();
            type Error = Failure;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failure> {
                self.part(value)
            }

            fn end(self) -> Result<(), Failure> {
                self.finish()
            }
        })+
    };
}

serialize_parts!(
    SerializeSeq: serialize_element,
    SerializeTuple: serialize_element,
    SerializeTupleStruct: serialize_field,
    SerializeTupleVariant: serialize_field,
);

/// Fields with their names.
macro_rules! serialize_fields {
    ($($fields_of:ident),+) => {
        $(impl $fields_of for Parts<'_> {
            type Ok = ();
            type Error = Failure;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Failure> {
                self.writer.serialize_str(name)?;
                self.part(value)
            }

            fn end(self) -> Result<(), Failure> {
                self.finish()
            }
        })+
    };
}

serialize_fields!(SerializeStruct, SerializeStructVariant);

impl SerializeMap for Parts<'_> {
    type Ok = ();
    type Error = Failure;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Failure> {
        self.part(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Failure> {
        self.part(value)
    }

    fn end(self) -> Result<(), Failure> {
        self.finish()
    }
}
