//! Records: keys and values, one after another, in the bytes of a place.
//!
//! ```text
//!  number (8)  length of the key (4)  length of the value (4)  handles (4)  key  value
//! ```
//!
//! Any process that has the collection can write any bytes into its shelf, so nothing that is read there is trusted.

use std::ops::Range;

use super::shelf::{Encoded, Kept, Place, damaged};
use crate::Error;

const HEAD: usize = 20;

/// A record, as ranges of the place.
#[derive(Debug, Clone)]
pub(super) struct Record {
    /// In a dictionary, the order in which keys came.
    pub(super) number: u64,
    pub(super) key: Range<usize>,
    pub(super) value: Range<usize>,
    pub(super) handles: Range<usize>,
}

impl Record {
    /// All bytes of the record.
    fn span(&self) -> Range<usize> {
        self.key.start.saturating_sub(HEAD)..self.value.end
    }
}

/// The records of a place with this number of handles.
pub(super) fn records(bytes: &[u8], handles: usize) -> Records<'_> {
    Records { bytes, at: 0, handle: 0, handles }
}

#[derive(Debug)]
pub(super) struct Records<'a> {
    bytes: &'a [u8],
    at: usize,
    handle: usize,
    handles: usize,
}

impl Records<'_> {
    fn read(&mut self) -> Option<Record> {
        let (number, rest) = self.bytes.get(self.at..)?.split_first_chunk()?;
        let (key, rest) = rest.split_first_chunk()?;
        let (value, rest) = rest.split_first_chunk()?;
        let (handles, _) = rest.split_first_chunk()?;
        let size = |bytes: &[u8; 4]| usize::try_from(u32::from_le_bytes(*bytes)).ok();
        let start = self.at.checked_add(HEAD)?;
        let middle = start.checked_add(size(key)?)?;
        let end = middle.checked_add(size(value)?).filter(|end| *end <= self.bytes.len())?;
        let handle = self.handle.checked_add(size(handles)?).filter(|end| *end <= self.handles)?;
        let record = Record {
            number: u64::from_le_bytes(*number),
            key: start..middle,
            value: middle..end,
            handles: self.handle..handle,
        };
        (self.at, self.handle) = (end, handle);
        Some(record)
    }
}

impl Iterator for Records<'_> {
    type Item = Result<Record, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.bytes.len() {
            return None;
        }
        let record = self.read();
        if record.is_none() {
            self.at = self.bytes.len();
        }
        Some(record.ok_or_else(damaged))
    }
}

/// A record that was taken out of its place.
#[derive(Debug, Clone, Default)]
pub(super) struct Taken {
    pub(super) number: u64,
    pub(super) key: Vec<u8>,
    pub(super) value: Encoded,
}

impl Place {
    pub(super) fn records(&self) -> Records<'_> {
        records(&self.bytes, self.handles.len())
    }

    /// The record at an index.
    pub(super) fn record(&self, index: usize) -> Result<Record, Error> {
        self.records().nth(index).unwrap_or_else(|| Err(damaged()))
    }

    pub(super) fn key(&self, record: &Record) -> &[u8] {
        self.bytes.get(record.key.clone()).unwrap_or_default()
    }

    pub(super) fn value(&self, record: &Record) -> (&[u8], &[Kept]) {
        let handles = self.handles.get(record.handles.clone()).unwrap_or_default();
        (self.bytes.get(record.value.clone()).unwrap_or_default(), handles)
    }

    /// A copy of a record.
    pub(super) fn copy(&self, record: &Record) -> Taken {
        let (bytes, handles) = self.value(record);
        let value = Encoded { bytes: bytes.to_vec(), handles: handles.to_vec() };
        Taken { number: record.number, key: self.key(record).to_vec(), value }
    }

    /// Adds a record after all others.
    pub(super) fn push(&mut self, number: u64, key: &[u8], value: &Encoded) -> Result<(), Error> {
        self.put(
            self.bytes.len()..self.bytes.len(),
            self.handles.len()..self.handles.len(),
            number,
            key,
            value,
        )
    }

    /// Adds a record before another.
    pub(super) fn insert(&mut self, before: &Record, number: u64, value: &Encoded) -> Result<(), Error> {
        let (at, handle) = (before.span().start, before.handles.start);
        self.put(at..at, handle..handle, number, &[], value)
    }

    /// Gives a record another value.
    pub(super) fn replace(&mut self, record: &Record, value: &Encoded) -> Result<(), Error> {
        let key = self.key(record).to_vec();
        self.put(record.span(), record.handles.clone(), record.number, &key, value)
    }

    /// Removes a record.
    pub(super) fn remove(&mut self, record: &Record) -> Taken {
        let taken = self.copy(record);
        if self.bytes.get(record.span()).is_some() && self.handles.get(record.handles.clone()).is_some() {
            self.bytes.drain(record.span());
            self.handles.drain(record.handles.clone());
        }
        taken
    }

    fn put(
        &mut self,
        at: Range<usize>,
        handles_at: Range<usize>,
        number: u64,
        key: &[u8],
        value: &Encoded,
    ) -> Result<(), Error> {
        let Encoded { bytes, handles } = value;
        let lens = [key.len(), bytes.len(), handles.len()].map(u32::try_from);
        let [Ok(key_len), Ok(value_len), Ok(handle_count)] = lens else { return Err(Error::TooLarge) };
        self.bytes.try_reserve(HEAD + key.len() + bytes.len()).map_err(|_| Error::OutOfMemory)?;
        let head = number.to_le_bytes().into_iter();
        let head = head.chain([key_len, value_len, handle_count].into_iter().flat_map(u32::to_le_bytes));
        if at.start == self.bytes.len() {
            self.bytes.extend(head);
            self.bytes.extend_from_slice(key);
            self.bytes.extend_from_slice(bytes);
        } else {
            let record: Vec<u8> = head.chain(key.iter().copied()).chain(bytes.iter().copied()).collect();
            self.bytes.splice(at, record);
        }
        self.handles.splice(handles_at, handles.iter().cloned());
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use super::*;

    fn value(bytes: &[u8]) -> Encoded {
        Encoded { bytes: bytes.to_vec(), handles: Vec::new() }
    }

    fn all(place: &Place) -> Vec<(u64, Vec<u8>, Vec<u8>)> {
        place
            .records()
            .map(|record| place.copy(&record.unwrap()))
            .map(|taken| (taken.number, taken.key, taken.value.bytes))
            .collect()
    }

    #[test]
    fn records_come_back() {
        let mut place = Place::default();
        place.push(1, b"a", &value(b"one")).unwrap();
        place.push(2, b"", &value(b"")).unwrap();
        place.push(3, b"c", &value(b"three")).unwrap();
        let second = place.record(1).unwrap();
        place.replace(&second, &value(b"twenty-two")).unwrap();
        let first = place.record(0).unwrap();
        place.insert(&first, 9, &value(b"nine")).unwrap();
        let last = place.record(3).unwrap();
        assert_eq!(place.remove(&last).value.bytes, b"three");
        let expected = [(9, &b""[..], &b"nine"[..]), (1, b"a", b"one"), (2, b"", b"twenty-two")];
        let expected: Vec<_> = expected.iter().map(|(n, k, v)| (*n, k.to_vec(), v.to_vec())).collect();
        assert_eq!(all(&place), expected);
        assert!(place.record(3).is_err());
    }

    #[test]
    fn other_bytes_are_an_error() {
        let mut place = Place::default();
        place.push(1, b"key", &value(b"value")).unwrap();
        for len in 1..place.bytes.len() {
            let cut = place.bytes.get(..len).unwrap();
            assert!(records(cut, 0).any(|record| record.is_err()), "{len}");
        }
        for at in 8..HEAD {
            let mut bytes = place.bytes.clone();
            *bytes.get_mut(at).unwrap() = 0xff;
            let found: Vec<_> = records(&bytes, 0).collect();
            assert!(found.iter().any(Result::is_err), "{at}");
        }
    }
}
