//! Whether a value is an `Err`, judged by its encoding: a result of any type may or may not be a `Result`.

use std::fmt;

use serde::ser::{Impossible, Serialize, Serializer};

/// Whether a value is a `Result`, and an `Err`. The content isn't inspected.
pub(super) fn is_err<T: Serialize>(value: &T) -> bool {
    value.serialize(Probe).is_ok()
}

/// A serializer that accepts an `Err`, and refuses everything else at once.
struct Probe;

/// The value is something else.
#[derive(Debug)]
struct Other;

impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an error")
    }
}

impl std::error::Error for Other {}

impl serde::ser::Error for Other {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

macro_rules! refuse {
    ($($method:ident($($argument:ident: $type:ty),*) -> $compound:ty;)*) => {$(
        #[inline]
        fn $method(self, $(_: $type),*) -> Result<$compound, Other> {
            Err(Other)
        }
    )*};
}

impl Serializer for Probe {
    type Ok = ();
    type Error = Other;
    type SerializeSeq = Impossible<(), Other>;
    type SerializeTuple = Impossible<(), Other>;
    type SerializeTupleStruct = Impossible<(), Other>;
    type SerializeTupleVariant = Impossible<(), Other>;
    type SerializeMap = Impossible<(), Other>;
    type SerializeStruct = Impossible<(), Other>;
    type SerializeStructVariant = Impossible<(), Other>;

    refuse! {
        serialize_bool(v: bool) -> ();
        serialize_i8(v: i8) -> ();
        serialize_i16(v: i16) -> ();
        serialize_i32(v: i32) -> ();
        serialize_i64(v: i64) -> ();
        serialize_i128(v: i128) -> ();
        serialize_u8(v: u8) -> ();
        serialize_u16(v: u16) -> ();
        serialize_u32(v: u32) -> ();
        serialize_u64(v: u64) -> ();
        serialize_u128(v: u128) -> ();
        serialize_f32(v: f32) -> ();
        serialize_f64(v: f64) -> ();
        serialize_char(v: char) -> ();
        serialize_str(v: &str) -> ();
        serialize_bytes(v: &[u8]) -> ();
        serialize_none() -> ();
        serialize_unit() -> ();
        serialize_unit_struct(name: &'static str) -> ();
        serialize_unit_variant(name: &'static str, index: u32, variant: &'static str) -> ();
        serialize_seq(len: Option<usize>) -> Impossible<(), Other>;
        serialize_tuple(len: usize) -> Impossible<(), Other>;
        serialize_tuple_struct(name: &'static str, len: usize) -> Impossible<(), Other>;
        serialize_tuple_variant(name: &'static str, index: u32, variant: &'static str, len: usize) -> Impossible<(), Other>;
        serialize_map(len: Option<usize>) -> Impossible<(), Other>;
        serialize_struct(name: &'static str, len: usize) -> Impossible<(), Other>;
        serialize_struct_variant(name: &'static str, index: u32, variant: &'static str, len: usize) -> Impossible<(), Other>;
    }

    #[inline]
    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<(), Other> {
        Err(Other)
    }

    #[inline]
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, _: &T) -> Result<(), Other> {
        Err(Other)
    }

    #[inline]
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        _: u32,
        variant: &'static str,
        _: &T,
    ) -> Result<(), Other> {
        if (name, variant) == ("Result", "Err") { Ok(()) } else { Err(Other) }
    }

    #[inline]
    fn collect_str<T: fmt::Display + ?Sized>(self, _: &T) -> Result<(), Other> {
        Err(Other)
    }
}

#[cfg(test)]
mod tests {
    use super::is_err;

    #[test]
    fn only_an_err_is_one() {
        assert!(is_err(&Err::<(), _>("why")));
        assert!(is_err(&Err::<u64, _>(vec![1, 2])));
        assert!(!is_err(&Ok::<_, ()>(1)));
        assert!(!is_err(&Some(Err::<(), _>("inside"))));
        assert!(!is_err(&(1, "text", [0.5])));
        assert!(!is_err(&"Err"));
    }
}
