//! A list of a fixed length, of items of several types.

use std::fmt;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::SharedMemory;
use crate::{DecodeError, Error};

/// A list that several processes see: of integers, floats, booleans, texts, bytes, and `None`.
///
/// ```no_run
/// use sandpool_guest::ShareableList;
/// use sandpool_guest::shared::ListItem;
///
/// let list = ShareableList::new(["howdy".into(), ListItem::from(273.154), 100.into(), ListItem::None, true.into()])?;
/// list.set(2, -7)?;
/// list.set(0, "hello")?;
/// assert_eq!(list.get(0)?, "hello".into());
/// assert_eq!(list.index(&true.into())?, Some(4));
///
/// // In any other process:
/// let same = ShareableList::attach(list.name())?;
/// assert_eq!(same.get(2)?, ListItem::Int(-7));
/// list.unlink()?;
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// The length of the list is fixed, and so is the room of each item: as a text or bytes, the item can become as long as it was when the list was made,
/// rounded up to the next multiple of eight bytes (eight for an item that was of another type); any item can become a number, a boolean, or `None`. A
/// stored item comes back unchanged, with zeroes at its end and characters of any length.
///
/// The list is a [`SharedMemory`] with a format of its own, and has the same lifetime. There is no lock: a process that
/// reads an item while another process changes the same item may get neither the old nor the new item. If that can
/// happen, take a lock of your own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareableList {
    memory: SharedMemory,
    len: usize,
}

/// An item of a [`ShareableList`].
///
/// ```
/// use sandpool_guest::shared::ListItem;
///
/// assert_eq!(ListItem::from("text"), ListItem::Str("text".to_owned()));
/// assert_eq!(ListItem::from(&b"bytes"[..]), ListItem::Bytes(b"bytes".to_vec()));
/// assert_eq!(ListItem::from(None::<i64>), ListItem::None);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum ListItem {
    /// Nothing.
    None,
    /// A boolean.
    Bool(bool),
    /// An integer.
    Int(i64),
    /// A floating-point number.
    Float(f64),
    /// A text.
    Str(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// The numbers that tell kinds of items apart in memory.
const NONE: u64 = 1;
const BOOL: u64 = 2;
const INT: u64 = 3;
const FLOAT: u64 = 4;
const STR: u64 = 5;
const BYTES: u64 = 6;

impl ListItem {
    fn kind(&self) -> u64 {
        match self {
            Self::None => NONE,
            Self::Bool(_) => BOOL,
            Self::Int(_) => INT,
            Self::Float(_) => FLOAT,
            Self::Str(_) => STR,
            Self::Bytes(_) => BYTES,
        }
    }

    /// Passes on the bytes that the item has in memory.
    fn with_bytes<R>(&self, then: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            Self::None => then(&[]),
            Self::Bool(value) => then(&[u8::from(*value)]),
            Self::Int(value) => then(&value.to_le_bytes()),
            Self::Float(value) => then(&value.to_le_bytes()),
            Self::Str(text) => then(text.as_bytes()),
            Self::Bytes(bytes) => then(bytes),
        }
    }

    /// Returns `None` for bytes that aren't such an item.
    fn from_bytes(kind: u64, bytes: Vec<u8>) -> Option<Self> {
        Some(match kind {
            NONE => Self::None,
            BOOL => Self::Bool(*bytes.first()? != 0),
            INT => Self::Int(i64::from_le_bytes(bytes.try_into().ok()?)),
            FLOAT => Self::Float(f64::from_le_bytes(bytes.try_into().ok()?)),
            STR => Self::Str(String::from_utf8(bytes).ok()?),
            BYTES => Self::Bytes(bytes),
            _ => return None,
        })
    }
}

impl From<bool> for ListItem {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i32> for ListItem {
    fn from(value: i32) -> Self {
        Self::Int(value.into())
    }
}

impl From<i64> for ListItem {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f64> for ListItem {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<&str> for ListItem {
    fn from(text: &str) -> Self {
        Self::Str(text.to_owned())
    }
}

impl From<String> for ListItem {
    fn from(text: String) -> Self {
        Self::Str(text)
    }
}

impl From<&[u8]> for ListItem {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}

impl From<Vec<u8>> for ListItem {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

/// `None`, or the item.
impl<T: Into<Self>> From<Option<T>> for ListItem {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::None, Into::into)
    }
}

/// The first bytes of the block, so that no other block is taken for a list.
const MAGIC: u64 = u64::from_le_bytes(*b"sp-list1");
/// Magic and length.
const HEADER: usize = 16;
/// An entry of the table that follows: where the item is, its room, its kind, its length.
const ENTRY: usize = 32;

/// An entry of the table.
#[derive(Clone, Copy)]
struct Entry {
    offset: usize,
    room: usize,
    kind: u64,
    len: usize,
}

impl Entry {
    fn place(index: usize) -> usize {
        HEADER + index * ENTRY
    }

    fn to_bytes(self) -> [u8; ENTRY] {
        let mut bytes = [0; ENTRY];
        let words = [self.offset as u64, self.room as u64, self.kind, self.len as u64];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(words) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: [u8; ENTRY]) -> Option<Self> {
        let mut words = bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
        let mut next = || usize::try_from(words.next()?).ok();
        let (offset, room, kind, len) = (next()?, next()?, next()? as u64, next()?);
        (len <= room).then_some(Self { offset, room, kind, len })
    }
}

/// The room that an item of `len` bytes gets. A text has a byte to spare, as in Python.
fn room(kind: u64, len: usize) -> usize {
    if matches!(kind, STR | BYTES) { 8 * (len / 8 + 1) } else { 8 }
}

/// The error for a block that isn't a list, or is being changed at this moment.
fn damaged() -> Error {
    Error::Decode(DecodeError::new("the shared memory doesn't hold such a list"))
}

impl ShareableList {
    /// Makes a list of these items, with a new name.
    ///
    /// # Errors
    /// [`Error::TooLarge`], [`Error::ArenaFull`], [`Error::TooManyObjects`].
    pub fn new(items: impl IntoIterator<Item = impl Into<ListItem>>) -> Result<Self, Error> {
        Self::build(items, SharedMemory::create)
    }

    /// Makes a list of these items with this name.
    ///
    /// # Errors
    /// As [`new`](Self::new); [`Error::NameTaken`], [`Error::NameTooLong`].
    pub fn new_named(
        name: &str,
        items: impl IntoIterator<Item = impl Into<ListItem>>,
    ) -> Result<Self, Error> {
        Self::build(items, |size| SharedMemory::create_named(name, size))
    }

    pub(super) fn build(
        items: impl IntoIterator<Item = impl Into<ListItem>>,
        create: impl FnOnce(usize) -> Result<SharedMemory, Error>,
    ) -> Result<Self, Error> {
        let items: Vec<ListItem> = items.into_iter().map(Into::into).collect();
        let mut table = Vec::new();
        let mut data = Vec::new();
        for item in &items {
            let offset = Entry::place(items.len()) + data.len();
            let len = item.with_bytes(|bytes| {
                data.extend_from_slice(bytes);
                data.resize(data.len() + room(item.kind(), bytes.len()) - bytes.len(), 0);
                bytes.len()
            });
            table.extend(Entry { offset, room: room(item.kind(), len), kind: item.kind(), len }.to_bytes());
        }
        let memory = create(HEADER + table.len() + data.len())?;
        memory.write_from(HEADER, &table)?;
        memory.write_from(HEADER + table.len(), &data)?;
        memory.write_from(8, &(items.len() as u64).to_le_bytes())?;
        // Last, so that other processes find a whole list.
        memory.write_from(0, &MAGIC.to_le_bytes())?;
        Ok(Self { memory, len: items.len() })
    }

    /// Attaches to the list of this name.
    ///
    /// # Errors
    /// [`Error::NotFound`]; [`Error::Decode`] for shared memory that isn't a list.
    pub fn attach(name: &str) -> Result<Self, Error> {
        Self::from_memory(SharedMemory::attach(name)?)
    }

    fn from_memory(memory: SharedMemory) -> Result<Self, Error> {
        let mut words = [[0; 8]; 2];
        memory.read_into(0, words.as_flattened_mut()).map_err(|_| damaged())?;
        let [magic, len] = words.map(u64::from_le_bytes);
        let len = usize::try_from(len).ok().filter(|len| {
            let table = len.checked_mul(ENTRY).and_then(|table| table.checked_add(HEADER));
            magic == MAGIC && table.is_some_and(|end| end <= memory.size())
        });
        Ok(Self { len: len.ok_or_else(damaged)?, memory })
    }

    /// The number of items.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether the list has no items.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns the item at `index`.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`]; [`Error::Decode`] if another process changes the item at this moment.
    pub fn get(&self, index: usize) -> Result<ListItem, Error> {
        let entry = self.entry(index)?;
        // At most as long as the block, whatever the entry says.
        let mut bytes = vec![0; entry.len.min(self.memory.size())];
        self.memory.read_into(entry.offset, &mut bytes).map_err(|_| damaged())?;
        ListItem::from_bytes(entry.kind, bytes).ok_or_else(damaged)
    }

    /// Changes the item at `index`, also to one of another type.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`]; [`Error::NoRoom`] if a text or bytes are longer than the item's room: Python's `ValueError`.
    pub fn set(&self, index: usize, item: impl Into<ListItem>) -> Result<(), Error> {
        let item = item.into();
        let mut entry = self.entry(index)?;
        item.with_bytes(|bytes| {
            if bytes.len() > entry.room {
                return Err(Error::NoRoom);
            }
            self.memory.write_from(entry.offset, bytes)?;
            (entry.kind, entry.len) = (item.kind(), bytes.len());
            self.memory.write_from(Entry::place(index), &entry.to_bytes())
        })
    }

    /// The number of items that equal the given one.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn count(&self, item: &ListItem) -> Result<usize, Error> {
        let mut count = 0;
        for each in self {
            count += usize::from(each? == *item);
        }
        Ok(count)
    }

    /// Returns the index of the first item that equals the given one. (Python has a `ValueError` for `None`.)
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn index(&self, item: &ListItem) -> Result<Option<usize>, Error> {
        for (index, each) in self.iter().enumerate() {
            if each? == *item {
                return Ok(Some(index));
            }
        }
        Ok(None)
    }

    /// Returns all items, one after another.
    pub fn iter(&self) -> ListIter<'_> {
        ListIter { list: self, next: 0 }
    }

    /// Returns the types of all items, as Python's `struct` writes them, with the room of texts and bytes.
    ///
    /// ```no_run
    /// let list = sandpool_guest::ShareableList::new(["text".into(), sandpool_guest::shared::ListItem::from(7)])?;
    /// assert_eq!(list.format()?, "8sq");
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn format(&self) -> Result<String, Error> {
        let mut format = String::new();
        for index in 0..self.len {
            let entry = self.entry(index)?;
            match entry.kind {
                NONE => format.push_str("xxxxxx?x"),
                BOOL => format.push_str("xxxxxxx?"),
                INT => format.push('q'),
                FLOAT => format.push('d'),
                STR | BYTES => format.push_str(&format!("{}s", entry.room)),
                _ => return Err(damaged()),
            }
        }
        Ok(format)
    }

    /// Returns the shared memory that contains the list.
    #[must_use]
    pub fn shm(&self) -> &SharedMemory {
        &self.memory
    }

    /// The name of the list.
    #[must_use]
    pub fn name(&self) -> &str {
        self.memory.name()
    }

    /// Takes the list's name away, as [`SharedMemory::unlink`] does.
    ///
    /// # Errors
    /// [`Error::NotFound`] if that was done already.
    pub fn unlink(&self) -> Result<(), Error> {
        self.memory.unlink()
    }

    fn entry(&self, index: usize) -> Result<Entry, Error> {
        if index >= self.len {
            return Err(Error::OutOfBounds);
        }
        let mut bytes = [0; ENTRY];
        self.memory.read_into(Entry::place(index), &mut bytes)?;
        Entry::from_bytes(bytes).ok_or_else(damaged)
    }
}

/// Formats like a Python list.
impl fmt::Display for ShareableList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = f.debug_list();
        for item in self {
            match item {
                Ok(ListItem::None) => list.entry(&None::<()>),
                Ok(ListItem::Bool(value)) => list.entry(&value),
                Ok(ListItem::Int(value)) => list.entry(&value),
                Ok(ListItem::Float(value)) => list.entry(&value),
                Ok(ListItem::Str(text)) => list.entry(&text),
                Ok(ListItem::Bytes(bytes)) => list.entry(&bytes),
                Err(_) => list.entry(&"?"),
            };
        }
        list.finish()
    }
}

/// Puts the list into a message, or the arguments of a spawned process: any other serializer gets an error.
impl Serialize for ShareableList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.memory.serialize(serializer)
    }
}

/// Takes the list out of a message, or of the arguments of a spawned process: any other deserializer gets an error.
impl<'de> Deserialize<'de> for ShareableList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::from_memory(SharedMemory::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// The items of a list: see [`ShareableList::iter`].
#[derive(Debug)]
pub struct ListIter<'a> {
    list: &'a ShareableList,
    next: usize,
}

impl Iterator for ListIter<'_> {
    type Item = Result<ListItem, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        let index = self.next;
        self.next = index.saturating_add(1);
        (index < self.list.len).then(|| self.list.get(index))
    }
}

impl<'a> IntoIterator for &'a ShareableList {
    type Item = Result<ListItem, Error>;
    type IntoIter = ListIter<'a>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_come_back_as_they_were() {
        let items = [
            ListItem::None,
            true.into(),
            i64::MIN.into(),
            f64::MIN_POSITIVE.into(),
            "wörker\0\0".into(),
            vec![0_u8, 0].into(),
            "".into(),
        ];
        for item in items {
            let back = ListItem::from_bytes(item.kind(), item.with_bytes(<[u8]>::to_vec));
            assert_eq!(back, Some(item));
        }
        assert_eq!(ListItem::from_bytes(STR, vec![0xff]), None);
        assert_eq!(ListItem::from_bytes(INT, vec![1]), None);
        assert_eq!(ListItem::from_bytes(0, vec![]), None);
    }

    #[test]
    fn entries_are_checked() {
        let entry = Entry { offset: 48, room: 8, kind: STR, len: 9 };
        assert!(Entry::from_bytes(entry.to_bytes()).is_none());
        assert!(Entry::from_bytes(Entry { len: 8, ..entry }.to_bytes()).is_some());
        assert_eq!([0, 7, 8, 15].map(|len| room(STR, len)), [8, 8, 16, 16]);
        assert_eq!(room(INT, 8), 8);
    }
}
