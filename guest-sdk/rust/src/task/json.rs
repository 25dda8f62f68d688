//! JSON in which numbers keep their value.
//!
//! `serde_json` reads an integer beyond 64 bits as a float that is near it, unless its type is known to be longer, and writes
//! `null` for a float that isn't a number. Neither is reported, and the program that gets the result has another number. Here
//! both are errors.
//!
//! ```text
//!  bytes ── any long integer? ──no──▶ serde_json ──▶ value ──▶ serde_json ── any null? ──no──▶ bytes
//!                  │                                                             │
//!                  yes ▶ the same, watched: what has become of it                yes ▶ is it one of a float?
//! ```
//!
//! The feature `arbitrary_precision` of `serde_json` would keep integers, but in all of a guest's crates, and with it neither
//! flattened fields nor untagged enums have numbers.

mod finite;
mod watched;

use std::cell::Cell;
use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::ser::Formatter;

/// Integers of fewer digits are exact as floats, too.
const DIGITS: usize = 16;

/// Decodes the value of a text.
pub(super) fn decode<T: DeserializeOwned>(text: &[u8]) -> Result<T, String> {
    let long = long_integers(text);
    if long.is_empty() {
        return serde_json::from_slice(text).map_err(|error| error.to_string());
    }
    let mut deserializer = serde_json::Deserializer::from_slice(text);
    let value = T::deserialize(watched::Watched::new(&mut deserializer, &long));
    let value = value.and_then(|value| deserializer.end().map(|()| value));
    value.map_err(|error| error.to_string())
}

/// Appends the text of a value, which has no line breaks.
pub(super) fn encode<T: Serialize + ?Sized>(value: &T, out: &mut Vec<u8>) -> Result<(), String> {
    let has_null = Cell::new(false);
    let mut serializer = serde_json::Serializer::with_formatter(out, Compact { has_null: &has_null });
    value.serialize(&mut serializer).map_err(|error| error.to_string())?;
    if has_null.get() {
        finite::check(value).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// The library's default format, which also notes whether there was a null.
struct Compact<'a> {
    has_null: &'a Cell<bool>,
}

impl Formatter for Compact<'_> {
    fn write_null<W: io::Write + ?Sized>(&mut self, writer: &mut W) -> io::Result<()> {
        self.has_null.set(true);
        writer.write_all(b"null")
    }
}

/// The integers that are beyond 64 bits, with the floats that they would be read as; and whether there are any long integers at
/// all.
#[derive(Debug, Default, PartialEq)]
struct Long<'t> {
    beyond: Vec<(f64, &'t str)>,
    are_there: bool,
}

impl Long<'_> {
    fn is_empty(&self) -> bool {
        !self.are_there
    }
}

/// Finds the long integers, outside of strings. In a text that isn't JSON it may find anything: reading that text is
/// an error in any case.
fn long_integers(text: &[u8]) -> Long<'_> {
    // A run of this many digits has one in each of these places.
    let mut long = Long::default();
    if !text.iter().skip(DIGITS - 1).step_by(DIGITS).any(u8::is_ascii_digit) {
        return long;
    }
    let mut rest = text;
    while let Some((byte, after)) = rest.split_first() {
        rest = match byte {
            b'"' => after_string(after),
            b'-' | b'0'..=b'9' => {
                let is_part =
                    |byte: &u8| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-');
                let len = 1 + after.iter().take_while(|byte| is_part(byte)).count();
                let (number, after) = rest.split_at_checked(len).unwrap_or((rest, &[]));
                long.add(number);
                after
            }
            _ => after,
        };
    }
    long
}

/// The rest after a string whose beginning was passed already.
fn after_string(mut rest: &[u8]) -> &[u8] {
    while let Some((byte, after)) = rest.split_first() {
        rest = match byte {
            b'"' => return after,
            b'\\' => after.get(1..).unwrap_or_default(),
            _ => after,
        };
    }
    rest
}

impl<'t> Long<'t> {
    fn add(&mut self, number: &'t [u8]) {
        let digits = number.strip_prefix(b"-").unwrap_or(number);
        if digits.len() < DIGITS || !digits.iter().all(u8::is_ascii_digit) {
            return;
        }
        self.are_there = true;
        let Ok(text) = str::from_utf8(number) else { return };
        if text.parse::<u64>().is_err()
            && text.parse::<i64>().is_err()
            && let Ok(float) = text.parse()
        {
            self.beyond.push((float, text));
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::collections::BTreeMap;

    use serde::Deserialize;
    use serde_json::Value;
    use serde_json::value::RawValue;

    use super::*;

    /// Reads a text as this type and writes it again.
    fn again<T: DeserializeOwned + Serialize>(text: &str) -> Result<String, String> {
        let mut out = Vec::new();
        encode(&decode::<T>(text.as_bytes())?, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[track_caller]
    fn stays<T: DeserializeOwned + Serialize>(text: &str) {
        assert_eq!(again::<T>(text).as_deref(), Ok(text));
    }

    #[track_caller]
    fn is_refused<T: DeserializeOwned + Serialize>(text: &str) {
        let refused = again::<T>(text).unwrap_err();
        assert!(refused.contains("cannot be kept exactly"), "{text}: {refused}");
    }

    #[derive(Debug, Serialize, Deserialize)]
    #[serde(untagged)]
    enum Any {
        Whole(u64),
        Float(f64),
        Text(String),
    }

    #[derive(Debug, Serialize, Deserialize)]
    enum Tagged {
        One(Value),
        Two(Value, f64),
        Named { value: Option<Value> },
    }

    #[derive(Debug, Serialize, Deserialize)]
    struct Flat {
        id: u64,
        #[serde(flatten)]
        rest: BTreeMap<String, Value>,
    }

    #[test]
    fn integers_stay_or_are_refused() {
        for text in ["18446744073709551615", "-9223372036854775808", "0", "9007199254740993", "-7"] {
            stays::<Value>(text);
            stays::<Any>(&format!("\"{text}\""));
        }
        stays::<u64>("18446744073709551615");
        stays::<u128>("340282366920938463463374607431768211455");
        stays::<i128>("-170141183460469231731687303715884105728");
        stays::<Box<RawValue>>("340282366920938463463374607431768211456e7");
        for text in ["18446744073709551616", "-9223372036854775809", "123456789012345678901234567890"] {
            is_refused::<Value>(text);
            is_refused::<f64>(text);
            is_refused::<Any>(text);
            for (before, after) in
                [("[1,", "]"), ("{\"a\":{\"b\":[", "]}}"), ("[\"\\\"\",[null,", ",1.5]]"), (" ", " ")]
            {
                is_refused::<Value>(&format!("{before}{text}{after}"));
            }
            is_refused::<Tagged>(&format!("{{\"One\":{text}}}"));
            is_refused::<Tagged>(&format!("{{\"Two\":[1,{text}]}}"));
            is_refused::<Tagged>(&format!("{{\"Named\":{{\"value\":{text}}}}}"));
            is_refused::<Flat>(&format!("{{\"id\":1,\"x\":{text}}}"));
            is_refused::<Option<(u8, Value)>>(&format!("[1,{text}]"));
            // Nothing reads it as a number.
            stays::<Value>(&format!("[\"{text}\"]"));
            stays::<Box<RawValue>>(text);
        }
    }

    #[test]
    fn integers_that_a_float_does_not_have_are_refused() {
        for text in ["9007199254740993", "-9007199254740993", "18446744073709551615"] {
            is_refused::<f64>(text);
            is_refused::<Vec<f64>>(&format!("[1.5,{text}]"));
        }
        assert_eq!(again::<f64>("9007199254740992").unwrap(), "9007199254740992.0");
        assert_eq!(again::<f64>("-1000000000000000000").unwrap(), "-1e+18");
    }

    /// Among long integers as elsewhere.
    #[test]
    fn all_else_is_read_as_ever() {
        let long = "9007199254740993";
        for text in [
            "[{\"a\":[],\"b\":{\"c\":null}},true,false,\"é\\n\",-1,0.5,9007199254740993,1e+300]",
            "{\"9007199254740993\":9007199254740993}",
        ] {
            stays::<Value>(text);
        }
        stays::<Flat>(&format!("{{\"id\":{long},\"a\":1.5,\"b\":[{long}]}}"));
        stays::<Tagged>(&format!("{{\"Two\":[{long},0.25]}}"));
        stays::<Tagged>(&format!("{{\"Named\":{{\"value\":{long}}}}}"));
        stays::<(u8, Option<u64>, (), char, String, Vec<i64>)>(&format!(
            "[1,{long},null,\"x\",\"y\",[-{long}]]"
        ));
        stays::<BTreeMap<u64, u64>>(&format!("{{\"{long}\":{long}}}"));
        for text in ["9007199254740993 x", "[9007199254740993", "\"9007199254740993", "9007199254740993."] {
            assert!(decode::<Value>(text.as_bytes()).is_err(), "{text}");
        }
        let refused = decode::<u8>(b"9007199254740993").unwrap_err();
        assert!(refused.contains("expected u8"), "{refused}");
    }

    #[test]
    fn floats_stay_to_the_last_bit() {
        let mut seed = 1_u64;
        for _ in 0..20_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let float = f64::from_bits(seed ^ seed >> 29);
            if float.is_finite() {
                let mut out = Vec::new();
                encode(&float, &mut out).unwrap();
                assert_eq!(decode::<f64>(&out).unwrap().to_bits(), float.to_bits(), "{float:e}");
            }
        }
        for text in
            ["0.1", "-0.0", "5e-324", "1.7976931348623157e+308", "2.2250738585072014e-308", "100000.0"]
        {
            stays::<f64>(text);
            stays::<Value>(text);
        }
        assert!(decode::<f64>(b"1e400").is_err());
    }

    #[test]
    fn what_is_no_number_is_refused() {
        #[derive(Serialize)]
        enum Shape {
            Unit,
            New(f32),
            Tuple(u8, f64),
            Struct { x: Option<f64> },
        }
        #[derive(Serialize)]
        struct New(f64);

        for float in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let values: [&dyn erased::Value; 9] = [
                &float,
                &(float as f32),
                &vec![1.0, float],
                &(1, "x", Some(float)),
                &BTreeMap::from([("a", float)]),
                &New(float),
                &Shape::New(float as f32),
                &Shape::Tuple(1, float),
                &Shape::Struct { x: Some(float) },
            ];
            for value in values {
                let why = value.encoded().unwrap_err();
                assert!(why.contains("JSON has no number"), "{why}");
            }
        }
        let fine: [(&dyn erased::Value, &str); 5] = [
            (&None::<f64>, "null"),
            (&(), "null"),
            (&vec![Some(0.5), None], "[0.5,null]"),
            (&(Shape::Unit, None::<u8>), "[\"Unit\",null]"),
            (&BTreeMap::from([(1, None::<f32>)]), "{\"1\":null}"),
        ];
        for (value, text) in fine {
            assert_eq!(value.encoded().unwrap(), text);
        }
    }

    /// Values of several types in one list.
    mod erased {
        pub(super) trait Value {
            fn encoded(&self) -> Result<String, String>;
        }

        impl<T: serde::Serialize> Value for T {
            fn encoded(&self) -> Result<String, String> {
                let mut out = Vec::new();
                super::encode(self, &mut out)?;
                Ok(String::from_utf8(out).unwrap())
            }
        }
    }
}
