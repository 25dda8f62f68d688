//! Text that came from a guest, and how it is shown to people.
//!
//! Guest text (names, error messages, a module's own description) may hold escape sequences that steer a terminal, line ends that
//! forge a line of a log, and marks that turn the order of the text after them. [`GuestText`] has no other `Display` than the
//! escaped one, and text that a library or a kernel makes from a guest's bytes for an error goes through `Escaped`.

use std::fmt::{self, Write as _};

use sandpool_abi::is_unfit;
use serde::{Deserialize, Serialize};

/// Text that came from a guest. Its `Display` escapes, as in Rust's string literals, everything that could steer a terminal, forge
/// a line or hide; [`raw`](Self::raw) is the guest's own text.
///
/// ```
/// use sandpool::GuestText;
///
/// let said = GuestText::from("\x1b[31mred\nerror: forged");
/// assert_eq!(said.to_string(), r"\u{1b}[31mred\nerror: forged");
/// assert_eq!(said.raw().lines().count(), 2);
/// ```
#[derive(Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GuestText(String);

impl GuestText {
    /// Makes guest text from bytes. Bytes that aren't UTF-8 are replaced.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(String::from_utf8_lossy(bytes).into_owned())
    }

    /// The text as the guest wrote it. Don't write it to a terminal or a log.
    #[must_use]
    pub fn raw(&self) -> &str {
        &self.0
    }

    /// The text's lines, each by itself, to be shown one below the other where nobody takes them for other lines.
    pub fn lines(&self) -> impl Iterator<Item = Self> {
        self.0.lines().map(Self::from)
    }
}

impl fmt::Display for GuestText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Escaped(&self.0).fmt(f)
    }
}

impl fmt::Debug for GuestText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl From<String> for GuestText {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<&str> for GuestText {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl PartialEq<str> for GuestText {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<&str> for GuestText {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

/// Shows text from any source without characters that could steer a terminal, forge a line or hide.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Escaped<T>(pub(crate) T);

impl<T: fmt::Display> fmt::Display for Escaped<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        struct Escaping<'a, 'b>(&'a mut fmt::Formatter<'b>);
        impl fmt::Write for Escaping<'_, '_> {
            fn write_str(&mut self, text: &str) -> fmt::Result {
                for part in text.split_inclusive(is_unfit) {
                    match part.char_indices().next_back().filter(|(_, last)| is_unfit(*last)) {
                        Some((at, last)) => {
                            self.0.write_str(part.get(..at).unwrap_or_default())?;
                            write!(self.0, "{}", last.escape_default())?;
                        }
                        None => self.0.write_str(part)?,
                    }
                }
                Ok(())
            }
        }
        write!(Escaping(f), "{}", self.0)
    }
}

/// The same text, cut after this number of characters.
pub(crate) fn escaped_up_to(chars_max: usize, text: &str) -> String {
    match text.char_indices().nth(chars_max) {
        Some((end, _)) => format!("{}…", Escaped(text.get(..end).unwrap_or_default())),
        None => Escaped(text).to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    /// Characters that a terminal or a reader of lines may treat as more than a sign.
    fn unfit() -> impl Iterator<Item = char> {
        let controls = ('\0'..' ').chain('\u{7f}'..'\u{a0}');
        controls
            .chain("\u{61c}\u{200b}\u{200e}\u{200f}\u{2028}\u{2029}\u{202a}\u{202b}\u{202c}".chars())
            .chain("\u{202d}\u{202e}\u{2060}\u{2066}\u{2067}\u{2068}\u{2069}\u{feff}\u{e0041}".chars())
    }

    #[test]
    fn what_steers_forges_or_hides_is_escaped() {
        for c in unfit() {
            let text = GuestText::from(format!("a{c}b{c}"));
            let escape = c.escape_default();
            assert_eq!(text.to_string(), format!("a{escape}b{escape}"));
            assert_eq!(format!("{text:?} {:?}", Some(&text)), format!("\"{text}\" Some(\"{text}\")"));
            assert!(text.to_string().is_ascii());
        }
        let fit = "plain text, é, e\u{301}, 数, क्षि, 👍🏽, \\n, \"'";
        assert_eq!(GuestText::from(fit).to_string(), fit);
    }

    #[test]
    fn what_is_escaped_in_parts_is_escaped_whole() {
        let path = std::path::Path::new("a\n/\u{1b}[2J");
        assert_eq!(Escaped(path.display()).to_string(), r"a\n/\u{1b}[2J");
        assert_eq!(escaped_up_to(3, "a\nbcd"), r"a\nb…");
        assert_eq!(escaped_up_to(3, "éé\u{9b}"), r"éé\u{9b}");
        assert_eq!(
            GuestText::from("a\rb\nc").lines().map(|line| line.to_string()).collect::<Vec<_>>(),
            [r"a\rb", "c"]
        );
        assert_eq!(GuestText::from_bytes(b"a\xff\x9b").to_string(), "a\u{fffd}\u{fffd}");
    }
}
