//! Records in files: where one ends and the next begins.

use std::io::{self, BufRead as _, BufReader, Read, Write};

use anyhow::{Context as _, bail};
use sandpool::Format;

/// The most bytes of a record. It is what one input may have in the arena by default.
const RECORD_MAX: u64 = 1 << 30;

/// What is read at once.
const BUFFER: usize = 256 << 10;

/// Takes records apart.
///
/// A line ends with a line feed; the last one may lack it. A carriage return before the line feed belongs to the end,
/// so that files from Windows have the same records. A raw record is its length, 32 bits in little-endian order, and as
/// many bytes.
pub(super) struct Reader {
    source: BufReader<Box<dyn Read + Send>>,
    format: Format,
    /// The most bytes of a record.
    max: u64,
    /// Records that were read.
    records: u64,
    /// Bytes of them, with what separates them.
    bytes: u64,
}

impl Reader {
    pub(super) fn new(source: Box<dyn Read + Send>, format: Format) -> Self {
        Self {
            source: BufReader::with_capacity(BUFFER, source),
            format,
            max: RECORD_MAX,
            records: 0,
            bytes: 0,
        }
    }

    /// Records that were read.
    pub(super) fn records(&self) -> u64 {
        self.records
    }

    /// Bytes of them, with what separates them.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether the next record is here already. To read it otherwise may take as long as whoever writes it.
    pub(super) fn has_next(&self) -> bool {
        let ahead = self.source.buffer();
        match self.format {
            Format::Bytes => ahead.split_first_chunk::<4>().is_some_and(|(len, rest)| {
                usize::try_from(u32::from_le_bytes(*len)).is_ok_and(|len| rest.len() >= len)
            }),
            _ => ahead.contains(&b'\n'),
        }
    }

    /// Reads the next record. `false` behind the last one.
    pub(super) fn read(&mut self, record: &mut Vec<u8>) -> anyhow::Result<bool> {
        record.clear();
        let there_is_one = match self.format {
            Format::Bytes => self.read_raw(record),
            _ => self.read_line(record),
        };
        let there_is_one = there_is_one.with_context(|| format!("cannot read record {}", self.records))?;
        self.records += u64::from(there_is_one);
        Ok(there_is_one)
    }

    fn read_line(&mut self, record: &mut Vec<u8>) -> anyhow::Result<bool> {
        // Its end is no part of it.
        let len = (&mut self.source).take(self.max + 2).read_until(b'\n', record)? as u64;
        self.bytes += len;
        if record.pop_if(|last| *last == b'\n').is_some() {
            record.pop_if(|last| *last == b'\r');
        }
        if record.len() as u64 > self.max {
            bail!("it is longer than 1 GiB");
        }
        Ok(len > 0)
    }

    fn read_raw(&mut self, record: &mut Vec<u8>) -> anyhow::Result<bool> {
        (&mut self.source).take(4).read_to_end(record)?;
        let len = match <[u8; 4]>::try_from(record.as_slice()) {
            Ok(len) => u64::from(u32::from_le_bytes(len)),
            Err(_) if record.is_empty() => return Ok(false),
            Err(_) => bail!("the input ends within its length"),
        };
        if len > self.max {
            bail!("it is longer than 1 GiB: {len} bytes");
        }
        record.clear();
        (&mut self.source).take(len).read_to_end(record)?;
        if record.len() as u64 != len {
            bail!("the input ends within it: it has {} bytes of {len}", record.len());
        }
        self.bytes += 4 + len;
        Ok(true)
    }
}

/// Writes a record, with what separates it from the next one. Returns how many bytes that are, or why it can't be.
pub(super) fn write(
    out: &mut impl Write,
    format: Format,
    record: &[u8],
) -> io::Result<Result<u64, &'static str>> {
    let len = record.len() as u64;
    if format == Format::Bytes {
        let Ok(prefix) = u32::try_from(len) else { return Ok(Err("its output is longer than 4 GiB")) };
        out.write_all(&prefix.to_le_bytes())?;
        out.write_all(record)?;
        return Ok(Ok(len + 4));
    }
    // Tasks of the SDK see to that themselves.
    if record.contains(&b'\n') {
        return Ok(Err("its output has a line break, and is to be one line"));
    }
    out.write_all(record)?;
    out.write_all(b"\n")?;
    Ok(Ok(len + 1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

    use super::*;

    fn reader(bytes: &[u8], format: Format) -> Reader {
        Reader::new(Box::new(io::Cursor::new(bytes.to_vec())), format)
    }

    #[track_caller]
    fn reads(format: Format, bytes: &[u8], expected: &[&str]) {
        let mut reader = reader(bytes, format);
        let (mut records, mut record) = (Vec::new(), Vec::new());
        while reader.read(&mut record).unwrap() {
            records.push(String::from_utf8(record.clone()).unwrap());
        }
        assert_eq!(records, expected);
        assert_eq!((reader.records(), reader.bytes()), (expected.len() as u64, bytes.len() as u64));
    }

    #[test]
    fn lines() {
        reads(Format::Text, b"", &[]);
        reads(Format::Text, b"a\n\nb", &["a", "", "b"]);
        reads(Format::Text, b"\n", &[""]);
        reads(Format::Text, b"a\r\nb\r\r\n\r", &["a", "b\r", "\r"]);
        reads(Format::Json, b"[1,\t2]\n{}\n", &["[1,\t2]", "{}"]);
    }

    #[test]
    fn raw_records() {
        reads(Format::Bytes, b"", &[]);
        reads(Format::Bytes, b"\x03\0\0\0a\nb\0\0\0\0\x01\0\0\0c", &["a\nb", "", "c"]);
        for (bytes, why) in [
            (&b"\x01\0\0\0a\x01\0"[..], "cannot read record 1: the input ends within its length"),
            (b"\x05\0\0\0ab", "cannot read record 0: the input ends within it: it has 2 bytes of 5"),
            (b"\xff\xff\xff\xff", "cannot read record 0: it is longer than 1 GiB: 4294967295 bytes"),
        ] {
            let mut reader = reader(bytes, Format::Bytes);
            let mut record = Vec::new();
            let error = loop {
                match reader.read(&mut record) {
                    Ok(there_is_one) => assert!(there_is_one, "no error of {bytes:?}"),
                    Err(error) => break format!("{error:#}"),
                }
            };
            assert_eq!(error, why);
        }
    }

    #[test]
    fn what_was_read_ahead_is_known() {
        let mut record = Vec::new();
        let mut lines = reader(b"a\nb\nc", Format::Text);
        assert!(!lines.has_next());
        lines.read(&mut record).unwrap();
        assert!(lines.has_next());
        lines.read(&mut record).unwrap();
        assert!(!lines.has_next());
        let mut raw = reader(b"\x01\0\0\0a\x01\0\0\0b\x02\0\0\0c", Format::Bytes);
        raw.read(&mut record).unwrap();
        assert!(raw.has_next());
        raw.read(&mut record).unwrap();
        assert!(!raw.has_next());
    }

    #[test]
    fn what_is_written_is_read() {
        for (format, bytes) in
            [(Format::Text, &b"a\n\nb\n"[..]), (Format::Bytes, b"\x01\0\0\0a\0\0\0\0\x01\0\0\0b")]
        {
            let mut out = Vec::new();
            for record in ["a", "", "b"] {
                let len = out.len() as u64;
                let written = write(&mut out, format, record.as_bytes()).unwrap().unwrap();
                assert_eq!(len + written, out.len() as u64);
            }
            assert_eq!(out, bytes);
        }
        assert!(write(&mut Vec::new(), Format::Json, b"1\n2").unwrap().is_err());
    }

    /// A record of the most bytes that there may be is one, whatever ends it; one of a byte more is an error.
    #[test]
    fn a_record_is_as_long_as_it_may_be_and_no_longer() {
        const MAX: usize = 5;
        assert_eq!(reader(b"", Format::Text).max, 1 << 30);
        let read = |format, len: usize, before: &[u8], end: &str| {
            let bytes = [before, &vec![b'x'; len], end.as_bytes()].concat();
            let mut reader = Reader { max: MAX as u64, ..reader(&bytes, format) };
            let mut record = Vec::new();
            let there_is_one = reader.read(&mut record).map_err(|error| format!("{error:#}"))?;
            assert!(there_is_one && reader.bytes() <= bytes.len() as u64);
            Ok::<_, String>(record.len())
        };
        for len in [MAX - 1, MAX] {
            for end in ["", "\n", "\r\n", "\nmore", "\r\nmore"] {
                assert_eq!(read(Format::Text, len, b"", end), Ok(len), "{len} and {end:?}");
            }
            assert_eq!(read(Format::Bytes, len, &(len as u32).to_le_bytes(), "more"), Ok(len));
        }
        let too_long = "cannot read record 0: it is longer than 1 GiB";
        for len in [MAX + 1, MAX + 2, 100] {
            for end in ["", "\n", "\r\n", "\nmore"] {
                assert_eq!(read(Format::Text, len, b"", end), Err(too_long.to_owned()), "{len} and {end:?}");
            }
            let error = read(Format::Bytes, len, &(len as u32).to_le_bytes(), "").unwrap_err();
            assert_eq!(error, format!("{too_long}: {len} bytes"));
        }
        // A carriage return that ends nothing is a part of it.
        assert_eq!(read(Format::Text, MAX, b"", "\r"), Err(too_long.to_owned()));
        assert_eq!(read(Format::Text, MAX - 1, b"", "\r"), Ok(MAX));
    }
}
