//! Records in files, and how they are separated.

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::str::FromStr;

use anyhow::{Context as _, bail};
use sandpool::Error;
use sandpool::pool::Format;

/// The most bytes of a record: the default limit of one input in the arena.
const RECORD_MAX: u64 = 1 << 30;

/// Bytes that are read at once.
const BUFFER: usize = 256 << 10;

/// The separation of records in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Lines,
    Jsonl,
    Raw,
    Nul,
}

impl Framing {
    /// All values, with their names on the command line.
    const ALL: [(Self, &'static str); 4] =
        [(Self::Lines, "lines"), (Self::Jsonl, "jsonl"), (Self::Raw, "raw"), (Self::Nul, "nul")];

    /// The name on the command line.
    pub(super) fn name(self) -> &'static str {
        Self::ALL.into_iter().find(|(framing, _)| *framing == self).map_or("", |(_, name)| name)
    }

    /// The format in which a task takes such a record.
    pub(super) fn format(self) -> Format {
        match self {
            Self::Lines | Self::Nul => Format::Text,
            Self::Jsonl => Format::Json,
            Self::Raw => Format::Bytes,
        }
    }

    /// The stdin of a program: each record with its end, and a raw one as it is.
    pub(super) fn join(self, records: &[Vec<u8>]) -> Vec<u8> {
        let mut joined = Vec::with_capacity(records.iter().map(|record| record.len() + 1).sum());
        for record in records {
            joined.extend_from_slice(record);
            joined.extend(self.end());
        }
        joined
    }

    /// The byte that ends a record. A raw one has its length before it.
    fn end(self) -> Option<u8> {
        match self {
            Self::Lines | Self::Jsonl => Some(b'\n'),
            Self::Nul => Some(0),
            Self::Raw => None,
        }
    }
}

impl FromStr for Framing {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let found = Self::ALL.into_iter().find(|(_, name)| *name == text);
        found.map(|(framing, _)| framing).ok_or_else(|| Error::Invalid {
            what: format!("`{text}` is no format of records"),
            hint: Some("write lines, jsonl, raw or nul".to_owned()),
        })
    }
}

/// The result of an attempt to read the next record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Record,
    /// An empty line in a format where each line is a value: it counts, but there is nothing to do.
    Empty,
    /// There are no more records.
    End,
}

/// A mark that an editor may have put before the first line. The mark is no part of the text.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Takes records apart.
///
/// A line ends with a line feed; the last one may lack it. A carriage return before the line feed belongs to the end,
/// so that files from Windows have the same records. A raw record is its length, 32 bits in little-endian order, and as
/// many bytes.
pub(super) struct Reader {
    source: BufReader<Box<dyn Read + Send>>,
    framing: Framing,
    /// The most bytes of a record.
    max: u64,
    /// Records that were read, empty ones included.
    records: u64,
    /// Bytes of these records, with their separators.
    bytes: u64,
}

impl Reader {
    pub(super) fn new(source: Box<dyn Read + Send>, framing: Framing) -> Self {
        let source = BufReader::with_capacity(BUFFER, source);
        Self { source, framing, max: RECORD_MAX, records: 0, bytes: 0 }
    }

    /// Records that were read, empty ones included.
    #[cfg(test)]
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// Bytes of the records that were read, with their separators.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the next record is here already. If it isn't, reading it may take as long as its writer takes.
    pub(super) fn has_next(&self) -> bool {
        let ahead = self.source.buffer();
        match self.framing.end() {
            Some(end) => ahead.contains(&end),
            None => ahead.split_first_chunk::<4>().is_some_and(|(len, rest)| {
                usize::try_from(u32::from_le_bytes(*len)).is_ok_and(|len| rest.len() >= len)
            }),
        }
    }

    /// Reads the next record.
    pub(super) fn read(&mut self, record: &mut Vec<u8>) -> anyhow::Result<Next> {
        record.clear();
        let next = match self.framing.end() {
            Some(end) => self.read_to(end, record),
            None => self.read_raw(record),
        };
        let next = next.with_context(|| format!("cannot read record {}", self.records))?;
        self.records += u64::from(next != Next::End);
        Ok(next)
    }

    fn read_to(&mut self, end: u8, record: &mut Vec<u8>) -> anyhow::Result<Next> {
        // The end isn't a part of the record.
        let len = (&mut self.source).take(self.max + 2).read_until(end, record)? as u64;
        self.bytes += len;
        let is_whole = record.pop_if(|last| *last == end).is_some();
        if is_whole && self.framing != Framing::Nul {
            record.pop_if(|last| *last == b'\r');
        }
        if record.len() as u64 > self.max {
            bail!("the record is longer than 1 GiB");
        }
        if self.framing == Framing::Nul {
            return Ok(if len > 0 { Next::Record } else { Next::End });
        }
        if self.records == 0 && record.starts_with(BYTE_ORDER_MARK) {
            record.drain(..BYTE_ORDER_MARK.len());
            // The mark begins a file, and doesn't make a line by itself.
            if len == BYTE_ORDER_MARK.len() as u64 {
                return Ok(Next::End);
            }
        }
        Ok(match (len, self.framing) {
            (0, _) => Next::End,
            (_, Framing::Jsonl) if record.iter().all(u8::is_ascii_whitespace) => Next::Empty,
            _ => Next::Record,
        })
    }

    fn read_raw(&mut self, record: &mut Vec<u8>) -> anyhow::Result<Next> {
        (&mut self.source).take(4).read_to_end(record)?;
        let len = match <[u8; 4]>::try_from(record.as_slice()) {
            Ok(len) => u64::from(u32::from_le_bytes(len)),
            Err(_) if record.is_empty() => return Ok(Next::End),
            Err(_) => bail!("the input ends within the length of the record"),
        };
        if len > self.max {
            bail!("the record is longer than 1 GiB: {len} bytes");
        }
        record.clear();
        (&mut self.source).take(len).read_to_end(record)?;
        if record.len() as u64 != len {
            bail!("the input ends within the record, after {} bytes of {len}", record.len());
        }
        self.bytes += 4 + len;
        Ok(Next::Record)
    }
}

/// Records that are done together: by one task, or by one process.
#[derive(Debug, Default)]
pub(super) struct Group {
    /// Records, and room for others.
    records: Vec<Vec<u8>>,
    len: usize,
}

impl Group {
    pub(super) fn records(&self) -> &[Vec<u8>] {
        self.records.get(..self.len).unwrap_or_default()
    }
}

/// Puts records together.
pub(super) struct Groups {
    reader: Reader,
    /// Records of a group; the last may have fewer.
    size: u64,
    /// Groups that were read.
    count: u64,
}

impl Groups {
    pub(super) fn new(reader: Reader, size: u64) -> Self {
        Self { reader, size, count: 0 }
    }

    /// Groups that were read, empty ones included.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Bytes of the records that were read, with their separators.
    pub(super) fn bytes(&self) -> u64 {
        self.reader.bytes()
    }

    /// Whether a record of the next group is here already.
    pub(super) fn has_next(&self) -> bool {
        self.reader.has_next()
    }

    /// Reads the next group. A group of which each record is [`Next::Empty`] is.
    pub(super) fn read(&mut self, group: &mut Group) -> anyhow::Result<Next> {
        group.len = 0;
        let mut is_over = true;
        for _ in 0..self.size {
            if group.len == group.records.len() {
                group.records.push(Vec::new());
            }
            let Some(record) = group.records.get_mut(group.len) else { break };
            match self.reader.read(record)? {
                Next::Record => group.len += 1,
                Next::Empty => {}
                Next::End => break,
            }
            is_over = false;
        }
        if is_over {
            return Ok(Next::End);
        }
        self.count += 1;
        Ok(if group.len == 0 { Next::Empty } else { Next::Record })
    }
}

/// Writes a record with its separator, or says why the value can't be a record.
pub(super) fn write(
    out: &mut impl Write,
    framing: Framing,
    record: &[u8],
) -> io::Result<Result<(), &'static str>> {
    let Some(end) = framing.end() else {
        let Ok(prefix) = u32::try_from(record.len()) else {
            return Ok(Err("the output is longer than 4 GiB"));
        };
        out.write_all(&prefix.to_le_bytes())?;
        return out.write_all(record).map(Ok);
    };
    if record.contains(&end) {
        return Ok(Err(match framing {
            Framing::Nul => {
                "the output has a NUL byte, which ends a record: --format jsonl can write such an output"
            }
            _ => "the output has a line break, which ends a record: --format jsonl can write such an output",
        }));
    }
    out.write_all(record)?;
    out.write_all(&[end]).map(Ok)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    fn reader(bytes: &[u8], framing: Framing) -> Reader {
        Reader::new(Box::new(io::Cursor::new(bytes.to_vec())), framing)
    }

    /// The records, and `-` for each empty one.
    #[track_caller]
    fn reads(framing: Framing, bytes: &[u8], expected: &[&str]) {
        let mut reader = reader(bytes, framing);
        let (mut records, mut record) = (Vec::new(), Vec::new());
        loop {
            match reader.read(&mut record).unwrap() {
                Next::Record => records.push(String::from_utf8(record.clone()).unwrap()),
                Next::Empty => records.push("-".to_owned()),
                Next::End => break,
            }
        }
        assert_eq!(records, expected);
        assert_eq!((reader.records(), reader.bytes()), (expected.len() as u64, bytes.len() as u64));
    }

    #[test]
    fn records_are_lines_without_their_ends() {
        reads(Framing::Lines, b"", &[]);
        reads(Framing::Lines, b"a\n\nb", &["a", "", "b"]);
        reads(Framing::Lines, b"\n", &[""]);
        reads(Framing::Lines, b"a\r\nb\r\r\n\r", &["a", "b\r", "\r"]);
        reads(Framing::Jsonl, b"[1,\t2]\n{}\n", &["[1,\t2]", "{}"]);
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_line() {
        for framing in [Framing::Lines, Framing::Jsonl] {
            reads(framing, b"\xef\xbb\xbf5\n6", &["5", "6"]);
            reads(framing, b"\xef\xbb\xbf", &[]);
            reads(framing, b"5\n\xef\xbb\xbf6", &["5", "\u{feff}6"]);
            reads(framing, b"\xef\xbb\xbf\xef\xbb\xbf5", &["\u{feff}5"]);
        }
        reads(Framing::Lines, b"\xef\xbb\xbf\n1", &["", "1"]);
        reads(Framing::Jsonl, b"\xef\xbb\xbf\r\n1", &["-", "1"]);
        reads(Framing::Nul, b"\xef\xbb\xbf5\0", &["\u{feff}5"]);
        reads(Framing::Raw, b"\x03\0\0\0\xef\xbb\xbf", &["\u{feff}"]);
    }

    #[test]
    fn empty_lines_are_no_values() {
        reads(Framing::Jsonl, b"1\n\n2\n \t\r\n3\n\n", &["1", "-", "2", "-", "3", "-"]);
        reads(Framing::Jsonl, b"\n\n", &["-", "-"]);
        reads(Framing::Jsonl, b"1\n ", &["1", "-"]);
    }

    #[test]
    fn records_that_end_with_nul_keep_the_ends_of_their_lines() {
        reads(Framing::Nul, b"", &[]);
        reads(Framing::Nul, b"a\nb\0c\0", &["a\nb", "c"]);
        reads(Framing::Nul, b"a\r\n\0\0c", &["a\r\n", "", "c"]);
        reads(Framing::Nul, b"a\r\0\r\0", &["a\r", "\r"]);
    }

    #[test]
    fn raw_records_are_as_long_as_the_number_before_them() {
        reads(Framing::Raw, b"", &[]);
        reads(Framing::Raw, b"\x03\0\0\0a\nb\0\0\0\0\x01\0\0\0c", &["a\nb", "", "c"]);
        for (bytes, why) in [
            (
                &b"\x01\0\0\0a\x01\0"[..],
                "cannot read record 1: the input ends within the length of the record",
            ),
            (b"\x05\0\0\0ab", "cannot read record 0: the input ends within the record, after 2 bytes of 5"),
            (b"\xff\xff\xff\xff", "cannot read record 0: the record is longer than 1 GiB: 4294967295 bytes"),
        ] {
            let mut reader = reader(bytes, Framing::Raw);
            let mut record = Vec::new();
            let error = loop {
                match reader.read(&mut record) {
                    Ok(next) => assert!(next == Next::Record, "no error of {bytes:?}"),
                    Err(error) => break format!("{error:#}"),
                }
            };
            assert_eq!(error, why);
        }
    }

    #[test]
    fn what_was_read_ahead_is_known() {
        let mut record = Vec::new();
        let mut lines = reader(b"a\nb\nc", Framing::Lines);
        assert!(!lines.has_next());
        lines.read(&mut record).unwrap();
        assert!(lines.has_next());
        lines.read(&mut record).unwrap();
        assert!(!lines.has_next());
        let mut raw = reader(b"\x01\0\0\0a\x01\0\0\0b\x02\0\0\0c", Framing::Raw);
        raw.read(&mut record).unwrap();
        assert!(raw.has_next());
        raw.read(&mut record).unwrap();
        assert!(!raw.has_next());
        let mut nul = reader(b"a\0b\nc", Framing::Nul);
        nul.read(&mut record).unwrap();
        assert!(!nul.has_next());
    }

    #[test]
    fn what_is_written_is_read() {
        for (framing, bytes) in [
            (Framing::Lines, &b"a\n\nb\n"[..]),
            (Framing::Nul, b"a\0\0b\0"),
            (Framing::Raw, b"\x01\0\0\0a\0\0\0\0\x01\0\0\0b"),
        ] {
            let mut out = Vec::new();
            for record in ["a", "", "b"] {
                write(&mut out, framing, record.as_bytes()).unwrap().unwrap();
            }
            assert_eq!(out, bytes);
            reads(framing, bytes, &["a", "", "b"]);
        }
        for (framing, record, is_fit) in [
            (Framing::Lines, "1\n2", false),
            (Framing::Jsonl, "1\n2", false),
            (Framing::Nul, "1\n2", true),
            (Framing::Nul, "1\x002", false),
            (Framing::Lines, "1\x002", true),
            (Framing::Raw, "1\x00\n2", true),
        ] {
            let mut out = Vec::new();
            assert_eq!(write(&mut out, framing, record.as_bytes()).unwrap().is_ok(), is_fit);
            assert_eq!(out.is_empty(), !is_fit, "nothing is written of what is refused");
        }
    }

    #[test]
    fn formats_have_names() {
        for (framing, name) in Framing::ALL {
            assert_eq!((name.parse::<Framing>().unwrap(), framing.name()), (framing, name));
        }
        assert!("csv".parse::<Framing>().is_err());
    }

    /// A record of the maximum length is accepted, whatever ends it; one that is a byte longer is an error.
    #[test]
    fn a_record_is_as_long_as_it_may_be_and_no_longer() {
        const MAX: usize = 5;
        assert_eq!(reader(b"", Framing::Lines).max, 1 << 30);
        let read = |framing, len: usize, before: &[u8], end: &str| {
            let bytes = [before, &vec![b'x'; len], end.as_bytes()].concat();
            let mut reader = Reader { max: MAX as u64, ..reader(&bytes, framing) };
            let mut record = Vec::new();
            let next = reader.read(&mut record).map_err(|error| format!("{error:#}"))?;
            assert!(next == Next::Record && reader.bytes() <= bytes.len() as u64);
            Ok::<_, String>(record.len())
        };
        for len in [MAX - 1, MAX] {
            for end in ["", "\n", "\r\n", "\nmore", "\r\nmore"] {
                assert_eq!(read(Framing::Lines, len, b"", end), Ok(len), "{len} and {end:?}");
            }
            assert_eq!(read(Framing::Raw, len, &(len as u32).to_le_bytes(), "more"), Ok(len));
        }
        let too_long = "cannot read record 0: the record is longer than 1 GiB";
        for len in [MAX + 1, MAX + 2, 100] {
            for end in ["", "\n", "\r\n", "\nmore"] {
                assert_eq!(
                    read(Framing::Lines, len, b"", end),
                    Err(too_long.to_owned()),
                    "{len} and {end:?}"
                );
            }
            let error = read(Framing::Raw, len, &(len as u32).to_le_bytes(), "").unwrap_err();
            assert_eq!(error, format!("{too_long}: {len} bytes"));
        }
        // A carriage return that ends no line is a part of the record.
        assert_eq!(read(Framing::Lines, MAX, b"", "\r"), Err(too_long.to_owned()));
        assert_eq!(read(Framing::Lines, MAX - 1, b"", "\r"), Ok(MAX));
    }
}
