//! JSON that may be shown on a terminal.

use std::io;

use sandpool_abi::is_unfit;
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter};

/// Writes a value as one line of JSON, in which text has no character that could steer a terminal, forge a line or hide: such a
/// character is written as `\u009b`.
///
/// # Errors
/// The errors of `serde_json`.
pub(crate) fn to_json(value: &impl Serialize) -> serde_json::Result<String> {
    struct Escaping;
    impl Formatter for Escaping {
        fn write_string_fragment<W: ?Sized + io::Write>(&mut self, to: &mut W, text: &str) -> io::Result<()> {
            for part in text.split_inclusive(is_unfit) {
                match part.char_indices().next_back().filter(|(_, last)| is_unfit(*last)) {
                    Some((at, last)) => {
                        CompactFormatter.write_string_fragment(to, part.get(..at).unwrap_or_default())?;
                        for unit in last.encode_utf16(&mut [0; 2]) {
                            write!(to, "\\u{unit:04x}")?;
                        }
                    }
                    None => CompactFormatter.write_string_fragment(to, part)?,
                }
            }
            Ok(())
        }
    }
    let mut json = Vec::new();
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut json, Escaping))?;
    String::from_utf8(json).map_err(serde::ser::Error::custom)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    #[test]
    fn json_is_read_as_what_it_was_and_shows_nothing_unfit() {
        let unfit = ('\0'..=char::MAX).filter(|c| is_unfit(*c));
        let text: String = unfit.chain("\"\\/é👍".chars()).collect();
        let json = to_json(&[text.as_str()]).unwrap();
        assert!(!json.contains(is_unfit), "{json:?}");
        assert!(
            json.contains(r"\u007f") && json.contains(r"\u009b") && json.contains(r"\udb40\udc41"),
            "{json}"
        );
        assert_eq!(serde_json::from_str::<Vec<String>>(&json).unwrap(), [text]);
    }
}
