//! The frames of Python's `multiprocessing.connection`: how messages follow one another in a stream of bytes.
//!
//! A message comes after its length, a signed number of four bytes, big-endian. If that is -1, the length is the eight bytes after
//! it. No length is believed: it is compared with the limit before anything is kept for it, and room grows only with the bytes that
//! have come.

use std::io;
use std::ops::Range;

/// The mark of a length of eight bytes.
const LONG: i32 = -1;

/// The most bytes that are kept for a stream in which nothing waits.
const KEPT: usize = 128 << 10;

/// A length that no message may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadLength;

/// Writes the bytes before a message of this length.
pub(crate) fn write_head(len: u64, out: &mut Vec<u8>) {
    match i32::try_from(len) {
        Ok(len) => out.extend(len.to_be_bytes()),
        Err(_) => {
            out.extend(LONG.to_be_bytes());
            out.extend(len.to_be_bytes());
        }
    }
}

/// Bytes that have come, cut into messages.
#[derive(Debug)]
pub(crate) struct Frames {
    bytes: Vec<u8>,
    /// Where the next frame begins.
    at: usize,
    max: u64,
}

/// The content of the bytes that have come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A whole message: its place.
    Whole(Range<usize>),
    /// Part of a message: its length, and the bytes of the frame that are still to come.
    Part { len: u64, missing: usize },
    /// Not even the whole length of a message, or nothing at all.
    Nothing { is_begun: bool },
}

impl Frames {
    /// No bytes yet, of messages of at most `max` bytes.
    pub(crate) fn new(max: u64) -> Self {
        Self { bytes: Vec::new(), at: 0, max }
    }

    fn rest(&self) -> &[u8] {
        self.bytes.get(self.at..).unwrap_or_default()
    }

    /// Looks at what comes next.
    pub(crate) fn next(&self) -> Result<Next, BadLength> {
        let rest = self.rest();
        let nothing = Ok(Next::Nothing { is_begun: !rest.is_empty() });
        let Some((short, behind)) = rest.split_first_chunk::<4>() else { return nothing };
        let (len, head) = match i32::from_be_bytes(*short) {
            LONG => match behind.first_chunk::<8>() {
                None => return nothing,
                Some(long) => (u64::from_be_bytes(*long), 12),
            },
            len => (u64::try_from(len).map_err(|_| BadLength)?, 4),
        };
        if len > self.max {
            return Err(BadLength);
        }
        let frame = usize::try_from(len).ok().and_then(|len| len.checked_add(head)).ok_or(BadLength)?;
        Ok(match frame.checked_sub(rest.len()) {
            None | Some(0) => Next::Whole(self.at + head..self.at + frame),
            Some(missing) => Next::Part { len, missing },
        })
    }

    /// The bytes of a whole message.
    pub(crate) fn message(&self, place: &Range<usize>) -> &[u8] {
        self.bytes.get(place.clone()).unwrap_or_default()
    }

    /// Goes on after a whole message.
    pub(crate) fn advance(&mut self, place: &Range<usize>) {
        self.at = place.end.min(self.bytes.len());
        if self.at == self.bytes.len() {
            self.at = 0;
            self.bytes.clear();
            self.bytes.shrink_to(KEPT);
        }
    }

    /// Lets `read` fill room for at most `most` bytes. `read` returns the number of bytes that it has filled.
    pub(crate) fn fill(
        &mut self,
        most: usize,
        read: impl FnOnce(&mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        if self.at > 0 {
            self.bytes.drain(..self.at);
            self.at = 0;
            // The room of a long message isn't kept for the short ones behind it.
            let wanted = self.bytes.len().saturating_add(most).max(KEPT);
            if self.bytes.capacity() / 2 > wanted {
                self.bytes.shrink_to(wanted);
            }
        }
        let before = self.bytes.len();
        self.bytes.resize(before + most, 0);
        let filled = self.bytes.get_mut(before..).map_or(Ok(0), read);
        let count = filled.as_ref().map_or(0, |count| (*count).min(most));
        self.bytes.truncate(before + count);
        filled.map(|_| count)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use super::*;

    fn feed(frames: &mut Frames, bytes: &[u8]) {
        let filled = frames.fill(bytes.len(), |room| {
            room.copy_from_slice(bytes);
            Ok(bytes.len())
        });
        assert_eq!(filled.unwrap(), bytes.len());
    }

    fn taken(frames: &mut Frames) -> Option<Vec<u8>> {
        let Ok(Next::Whole(place)) = frames.next() else { return None };
        let message = frames.message(&place).to_vec();
        frames.advance(&place);
        Some(message)
    }

    #[test]
    fn messages_come_out_as_they_went_in_whatever_the_pieces() {
        let messages = [&b""[..], b"a", b"bc", &[7; 1000], b""];
        let mut stream = Vec::new();
        for message in messages {
            write_head(message.len() as u64, &mut stream);
            stream.extend(message);
        }
        // As CPython writes a length that doesn't fit into 31 bits; any length may be written so.
        stream.extend([255, 255, 255, 255, 0, 0, 0, 0, 0, 0, 0, 2]);
        stream.extend(b"de");
        for piece in [1, 2, 3, 5, 11, 1000, stream.len()] {
            let mut frames = Frames::new(1000);
            let mut found = Vec::new();
            for piece in stream.chunks(piece) {
                feed(&mut frames, piece);
                found.extend(std::iter::from_fn(|| taken(&mut frames)));
            }
            assert_eq!(found.len(), 6);
            assert!(
                found.iter().zip(messages.iter().chain([&&b"de"[..]])).all(|(found, sent)| found == sent)
            );
            assert_eq!(frames.next(), Ok(Next::Nothing { is_begun: false }));
        }
    }

    #[test]
    fn a_length_that_is_no_length_is_refused_before_anything_is_kept_for_it() {
        let long = |len: u64| [&[255; 4][..], &len.to_be_bytes()].concat();
        for lie in [
            1001_i32.to_be_bytes().to_vec(),
            i32::MAX.to_be_bytes().to_vec(),
            (-2_i32).to_be_bytes().to_vec(),
            i32::MIN.to_be_bytes().to_vec(),
            long(1001),
            long(u64::MAX),
            long(1 << 63),
        ] {
            let mut frames = Frames::new(1000);
            feed(&mut frames, &lie);
            assert_eq!(frames.next(), Err(BadLength), "{lie:?}");
            assert!(frames.bytes.capacity() < 64);
        }
    }

    #[test]
    fn part_of_a_message_says_how_much_is_missing() {
        let mut frames = Frames::new(1000);
        assert_eq!(frames.next(), Ok(Next::Nothing { is_begun: false }));
        feed(&mut frames, &[0]);
        assert_eq!(frames.next(), Ok(Next::Nothing { is_begun: true }));
        feed(&mut frames, &[0, 0, 10, 1, 2]);
        assert_eq!(frames.next(), Ok(Next::Part { len: 10, missing: 8 }));
        assert_eq!(
            frames.fill(100, |_| Err(io::ErrorKind::WouldBlock.into())).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        assert_eq!(frames.next(), Ok(Next::Part { len: 10, missing: 8 }));
    }

    /// A peer could otherwise have the gateway keep the room of its longest message for ever.
    #[test]
    fn a_long_message_leaves_no_room_behind_even_if_another_has_begun() {
        let mut frames = Frames::new(1 << 30);
        let mut stream = Vec::new();
        write_head(16 << 20, &mut stream);
        stream.resize(stream.len() + (16 << 20), 1);
        stream.push(0);
        for _ in 0..3 {
            feed(&mut frames, &stream);
            assert_eq!(taken(&mut frames).map(|message| message.len()), Some(16 << 20));
            feed(&mut frames, &[0, 0]);
            assert_eq!(frames.next(), Ok(Next::Nothing { is_begun: true }));
            assert!(frames.bytes.capacity() <= 2 * KEPT.max(1024), "{}", frames.bytes.capacity());
            // The rest of the length, and the message that it is of.
            feed(&mut frames, &[1, 9]);
            assert_eq!(taken(&mut frames), Some(vec![9]));
            assert_eq!(frames.next(), Ok(Next::Nothing { is_begun: false }));
        }
    }

    #[test]
    fn heads_are_those_of_python() {
        let head = |len| {
            let mut head = Vec::new();
            write_head(len, &mut head);
            head
        };
        assert_eq!(head(0x0102), [0, 0, 1, 2]);
        assert_eq!(head(0x7fff_ffff), [0x7f, 255, 255, 255]);
        assert_eq!(head(0x8000_0000), [255, 255, 255, 255, 0, 0, 0, 0, 0x80, 0, 0, 0]);
    }
}
