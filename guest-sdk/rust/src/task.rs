//! Tasks: functions that the host calls, by exports of the guest. The code that [`macro@crate::task`] generates calls
//! this module.

mod json;
mod whole;

use std::cell::Cell;
use std::fmt::Display;
use std::io::{self, Write as _};

use sandpool_abi::Errno;
use sandpool_abi::process::Limit;
use sandpool_abi::task::{BYTES, DONE, FAILED, JSON, REFUSED, SERDE, TEXT, UNSUPPORTED};
use serde::Serialize;
use serde::de::DeserializeOwned;

use self::whole::Unfit;
use crate::error::DecodeError;
use crate::limits::{self, LimitRefusal};
use crate::{codec, message, raw, start};

/// The reason why a task failed, in the task's own words.
#[derive(Debug)]
pub struct Failure(String);

/// The value that a task has returned, `Result` or not.
#[derive(Debug)]
pub struct Returned<T>(pub T);

impl<T, E> Returned<Result<T, E>> {
    /// The output, or the failure.
    pub fn outcome(self) -> Result<T, Failure>
    where
        T: Serialize,
        E: Display,
    {
        // Error types with a chain of causes show the chain in the alternate form.
        self.0.map_err(|error| Failure(format!("{error:#}")))
    }
}

/// A returned value that isn't a `Result`. Rust takes this method only where [`Returned`] has no method of its own.
pub trait Plain {
    /// The output.
    type Output;

    /// The output, which always exists.
    fn outcome(self) -> Result<Self::Output, Failure>
    where
        Self::Output: Serialize;
}

impl<T> Plain for Returned<T> {
    type Output = T;

    fn outcome(self) -> Result<T, Failure>
    where
        T: Serialize,
    {
        Ok(self.0)
    }
}

/// The description of a task, as the bytes of a section.
///
/// # Panics
/// Panics if the text isn't of this length.
#[must_use]
pub const fn description<const LEN: usize>(text: &str) -> [u8; LEN] {
    match text.as_bytes().first_chunk() {
        Some(bytes) => *bytes,
        None => panic!("a description of another length"),
    }
}

/// Calls a task with the input that the host has for it, and hands over the output or the failure.
pub fn run<I, T>(format: u32, len: u32, task: impl FnOnce(I) -> Result<T, Failure>) -> u32
where
    I: DeserializeOwned,
    T: Serialize,
{
    start::prepare();
    let Some(format) = Format::new(format) else { return UNSUPPORTED };
    let result = match input(format, len).map(task) {
        Ok(Ok(value)) => output(format, &value),
        Ok(Err(Failure(why))) => say(FAILED, &why),
        Err(why) => say(REFUSED, &format!("the input can't be decoded: {why}")),
    };
    // The printed text belongs to this task. A closed stream is not an error of the task.
    let _ = io::stdout().flush();
    result
}

/// The format of inputs and outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Serde,
    Json,
    Text,
    Bytes,
}

impl Format {
    fn new(number: u32) -> Option<Self> {
        match number {
            SERDE => Some(Self::Serde),
            JSON => Some(Self::Json),
            TEXT => Some(Self::Text),
            BYTES => Some(Self::Bytes),
            _ => None,
        }
    }
}

/// Hands over why there is no output. If that fails, the result says enough.
fn say(result: u32, why: &str) -> u32 {
    let _ = raw::task::output(why.as_bytes());
    result
}

/// Bytes of an input that lies on the stack.
const SMALL: usize = 1024;

/// Gets the input, and decodes it.
fn input<I: DeserializeOwned>(format: Format, len: u32) -> Result<I, String> {
    let len = usize::try_from(len).map_err(|_| no_memory())?;
    let in_vec =
        || raw::task::input_vec(len).ok_or_else(no_memory)?.map_err(|errno| errno.message().to_owned());
    if raw::cast::is_bytes::<I>() && matches!(format, Format::Text | Format::Bytes) {
        return raw::cast::from_bytes(in_vec()?).ok_or_else(|| "it is no vector of bytes".to_owned());
    }
    let in_buffer = |buffer: &mut [u8]| {
        receive(buffer)?;
        decode(format, buffer)
    };
    // A process that does only one task would fill the large buffer with zeros for the task.
    if let Some(buffer) = [0; SMALL].get_mut(..len) {
        return in_buffer(buffer);
    }
    message::with_buffer(|buffer| match buffer.get_mut(..len) {
        Some(buffer) => in_buffer(buffer),
        None => decode(format, &in_vec()?),
    })
}

fn receive(buffer: &mut [u8]) -> Result<(), String> {
    match raw::task::input(buffer) {
        Ok(len) if len == buffer.len() => Ok(()),
        Ok(len) => Err(format!("it has {len} bytes, not {}", buffer.len())),
        Err(errno) => Err(errno.message().to_owned()),
    }
}

fn no_memory() -> String {
    "not enough memory for its bytes".to_owned()
}

fn decode<I: DeserializeOwned>(format: Format, bytes: &[u8]) -> Result<I, String> {
    match format {
        Format::Serde => codec::decode_plain(bytes).map_err(DecodeError::into_reason),
        Format::Json => json::decode(bytes),
        Format::Text => match whole::decode(bytes) {
            // A type that can't be read from text may be written as JSON.
            Err(Unfit::Type) => json::decode(bytes),
            decoded => decoded.map_err(|unfit| unfit.to_string()),
        },
        Format::Bytes => whole::decode(bytes).map_err(|unfit| match unfit {
            Unfit::Type => "the task takes neither bytes nor text: give it JSON".to_owned(),
            other => other.to_string(),
        }),
    }
}

thread_local! {
    /// The buffer is taken out while it is in use: a `Serialize` may do anything.
    static OUTPUT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Encodes the output, and hands it over.
fn output<T: Serialize>(format: Format, value: &T) -> u32 {
    let mut buffer = OUTPUT.take();
    buffer.clear();
    let encoded = match (format, raw::cast::as_bytes(value)) {
        // Without a copy.
        (Format::Text | Format::Bytes, Some(bytes)) => Ok(bytes),
        _ => encode(format, value, &mut buffer).map(|()| buffer.as_slice()),
    };
    let result = match encoded.map(raw::task::output) {
        Ok(Ok(())) => DONE,
        Ok(Err(Errno::Msgsize)) => {
            say(REFUSED, &LimitRefusal("the output is too large", limits::of(Limit::Output)).to_string())
        }
        Ok(Err(errno)) => say(REFUSED, &format!("the output can't be handed over: {errno}")),
        Err(why) => say(REFUSED, &format!("the output can't be encoded: {why}")),
    };
    if buffer.capacity() <= codec::KEEP {
        OUTPUT.set(buffer);
    }
    result
}

fn encode<T: Serialize>(format: Format, value: &T, out: &mut Vec<u8>) -> Result<(), String> {
    match format {
        Format::Serde => match codec::append(out, value) {
            Ok(handles) if handles.is_empty() => Ok(()),
            Ok(_) => Err("a queue, or whatever else belongs to a run, can't leave it".to_owned()),
            Err(error) => Err(error.into_reason()),
        },
        Format::Json => json::encode(value, out),
        Format::Text => match whole::encode(value, out) {
            // A value that isn't text is written as JSON, which has no line breaks.
            Err(Unfit::Type) => json::encode(value, out),
            encoded => encoded.map_err(|unfit| unfit.to_string()),
        },
        Format::Bytes => whole::encode(value, out).map_err(|unfit| match unfit {
            Unfit::Type => "it is neither bytes nor text: ask for JSON".to_owned(),
            other => other.to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use std::collections::BTreeMap;
    use std::net::Ipv4Addr;

    use serde::Deserialize;

    use super::*;
    use crate::Bytes;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Color {
        Red,
        Mixed { red: u8, green: u8 },
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Name(String);

    #[track_caller]
    fn same<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(
        format: Format,
        bytes: &[u8],
        value: T,
    ) {
        assert_eq!(decode::<T>(format, bytes).unwrap(), value);
        let mut out = Vec::new();
        encode(format, &value, &mut out).unwrap();
        assert_eq!(String::from_utf8_lossy(&out), String::from_utf8_lossy(bytes));
    }

    #[track_caller]
    fn refuses<T: DeserializeOwned + std::fmt::Debug>(format: Format, bytes: &[u8], why: &str) {
        let refused = decode::<T>(format, bytes).unwrap_err();
        assert!(refused.contains(why), "{refused:?} lacks {why:?}");
    }

    #[track_caller]
    fn refuses_output(format: Format, value: &impl Serialize, why: &str) {
        let refused = encode(format, value, &mut Vec::new()).unwrap_err();
        assert!(refused.contains(why), "{refused:?} lacks {why:?}");
    }

    #[test]
    fn a_line_is_a_string_where_one_is_wanted_and_else_json() {
        same(Format::Text, b"", String::new());
        same(Format::Text, b" 12 \"x\" ", String::from(" 12 \"x\" "));
        same(Format::Text, "\u{e9}".as_bytes(), 'é');
        same(Format::Text, b"x y", Name("x y".to_owned()));
        same(Format::Text, b"Red", Color::Red);
        same(Format::Text, br#"{"Mixed":{"red":1,"green":2}}"#, Color::Mixed { red: 1, green: 2 });
        same(Format::Text, b"127.0.0.1", Ipv4Addr::LOCALHOST);
        same(Format::Text, b"-7", -7_i64);
        same(Format::Text, b"1.5", 1.5_f64);
        same(Format::Text, b"true", true);
        same(Format::Text, b"[1,2]", [1_u32, 2].to_vec());
        same(Format::Text, br#"[1,"x y"]"#, (1_u8, "x y".to_owned()));
        same(Format::Text, br#"{"a":1}"#, BTreeMap::from([("a".to_owned(), 1_u8)]));
        same(Format::Text, b"\xff\x00 ", Bytes::from(vec![0xff, 0, b' ']));
        same(Format::Text, b"", ());
        assert_eq!(decode::<()>(Format::Text, b"null"), Ok(()));
        assert_eq!(decode::<u8>(Format::Text, b" 7 "), Ok(7));

        refuses::<u8>(Format::Text, b"300", "expected u8");
        refuses::<u8>(Format::Text, b"x", "expected value");
        refuses::<String>(Format::Text, b"\xff", "UTF-8");
        refuses::<Ipv4Addr>(Format::Text, b"1.2.3", "IPv4");
        refuses::<Color>(Format::Text, b"Blue", "unknown variant `Blue`");
    }

    /// A user of the lines format must refuse line breaks: otherwise a text may be split.
    #[test]
    fn text_may_have_line_breaks() {
        same(Format::Text, b"a\nb", String::from("a\nb"));
        same(Format::Text, b"\n", Bytes::from(vec![b'\n']));
        let mut out = Vec::new();
        encode(Format::Text, &["a\nb"], &mut out).unwrap();
        assert_eq!(out, br#"["a\nb"]"#);
    }

    #[test]
    fn numbers_are_written_as_json_or_refused() {
        refuses::<serde_json::Value>(
            Format::Json,
            b"18446744073709551616",
            "18446744073709551616 cannot be kept",
        );
        same(Format::Text, b"18446744073709551616", serde_json::Value::from("18446744073709551616"));
        for format in [Format::Json, Format::Text] {
            refuses_output(format, &f64::NAN, "JSON has no number NaN");
            same(format, b"0.30000000000000004", 0.1 + 0.2);
        }
        // Formats other than JSON have words for them.
        let mut out = Vec::new();
        encode(Format::Serde, &f64::INFINITY, &mut out).unwrap();
        assert_eq!(decode::<f64>(Format::Serde, &out), Ok(f64::INFINITY));
    }

    #[test]
    fn bytes_are_bytes_or_text() {
        same(Format::Bytes, b"\xff\n", Bytes::from(vec![0xff, b'\n']));
        same(Format::Bytes, b"a\nb", String::from("a\nb"));
        same(Format::Bytes, b"", ());
        refuses::<String>(Format::Bytes, b"\xff", "UTF-8");
        refuses::<u64>(Format::Bytes, b"12", "neither bytes nor text");
        refuses::<()>(Format::Bytes, b"12", "neither bytes nor text");
        refuses::<Vec<String>>(Format::Bytes, b"12", "neither bytes nor text");
        refuses_output(Format::Bytes, &12, "neither bytes nor text");
        refuses_output(Format::Bytes, &vec!["a"], "neither bytes nor text");
    }

    #[test]
    fn json_is_json() {
        same(Format::Json, br#""a\nb""#, String::from("a\nb"));
        same(Format::Json, br#"{"Mixed":{"red":1,"green":2}}"#, Color::Mixed { red: 1, green: 2 });
        same(Format::Json, b"[1,255]", vec![1_u8, 255]);
        refuses::<u8>(Format::Json, b"1 2", "trailing characters");
    }

    #[test]
    fn serde_is_what_queues_have() {
        same(Format::Serde, b"\x01\0\0\0\x02\x03", Color::Mixed { red: 2, green: 3 });
        same(Format::Serde, b"\x02\0\0\0\0\0\0\0\x00\xff", vec![0_u8, 255]);
        same(Format::Serde, b"", ());
        refuses::<u8>(Format::Serde, b"\x01\x02", "1 bytes of 2 are left");
        refuses::<String>(Format::Serde, b"\x05\0\0\0\0\0\0\0a", "4 bytes are missing");
        refuses::<u32>(Format::Serde, b"\x05", "3 bytes are missing");
    }

    /// Called as the macro calls it.
    #[test]
    fn results_are_told_from_what_is_none() {
        assert_eq!(Returned(7).outcome().ok(), Some(7));
        assert_eq!(Returned(Ok::<_, String>(7)).outcome().ok(), Some(7));
        let failed = Returned(Err::<u8, _>("why")).outcome();
        assert_eq!(failed.err().map(|failure| failure.0).as_deref(), Some("why"));
        assert_eq!(Returned(Some("x")).outcome().ok(), Some(Some("x")));
    }
}
