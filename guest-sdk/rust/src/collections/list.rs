//! Lists.
//!
//! The items are records in blocks of about 2 KiB. Place 0 has the directory: the places of the blocks, in order, with the
//! number of items in each, and places that are free. The last block's place and the number of items before it are words of
//! the shelf, so that items are appended, and the last ones read, without the directory.

use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::records::{Taken, records};
use super::same_collection;
use super::shelf::{Encoded, Place, Section, Shelf, damaged, decode};
use crate::Error;
use crate::object::Use;
use crate::raw::shelf::Words;

/// Words of the shelf: the number of items; the first place that was never used; the place of the last block; the number of
/// items before it.
const LEN: usize = 0;
const FRESH: usize = 1;
const LAST: usize = 2;
const BEFORE_LAST: usize = 3;

const DIRECTORY: u64 = 0;

/// Bytes and handles of a block, at most, unless it has a single item.
const BLOCK: usize = 2048;
const HANDLES: usize = 64;

/// A list that any processes read and change: what `list` of Python's managers is.
///
/// ```no_run
/// use sandpool_guest::{List, Process};
///
/// let lines = List::<String>::new()?;
/// let process = Process::fork(|| lines.append(&"from the child".to_owned()))?;
/// process.join()?;
/// assert_eq!(lines.get(0)?, "from the child");
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// Items are what serde encodes and decodes, and may be or contain queues, locks, proxies, and other lists. Adding and
/// removing at the end takes the same time for a list of any length. Indices count from the beginning.
///
/// A forked process has all lists of its creator. A list is also data, for spawned processes, queues and pipes. A clone is
/// the same list. Each method is one step, and [`with`](Self::with) makes one step of several: see
/// [the module](crate::collections).
pub struct List<T> {
    shelf: Shelf,
    of: PhantomData<fn(T) -> T>,
}

same_collection!(List<T>, "list", LIST);

/// The blocks in order, each with its place and its number of items; and places that are free.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Directory {
    blocks: Vec<(u32, u32)>,
    free: Vec<u32>,
}

impl Directory {
    fn to_place(&self) -> Place {
        let numbers =
            self.blocks.iter().flat_map(|(place, len)| [*place, *len]).chain(self.free.iter().copied());
        let mut bytes = (self.blocks.len() as u64).to_le_bytes().to_vec();
        bytes.extend(numbers.flat_map(u32::to_le_bytes));
        Place { bytes, handles: Vec::new() }
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (count, rest) = bytes.split_first_chunk()?;
        let count = usize::try_from(u64::from_le_bytes(*count)).ok()?;
        let (blocks, free) = rest.split_at_checked(count.checked_mul(8)?)?;
        let number = |bytes: &[u8; 4]| u32::from_le_bytes(*bytes);
        let pairs = blocks.as_chunks::<4>().0.as_chunks::<2>().0;
        Some(Self {
            blocks: pairs.iter().map(|[place, len]| (number(place), number(len))).collect(),
            free: free.as_chunks::<4>().0.iter().map(number).collect(),
        })
    }

    /// The block of an item: its number, its place, and the item's index in it.
    fn find(&self, index: usize) -> Option<(usize, u64, usize)> {
        let mut left = index;
        for (at, (place, len)) in self.blocks.iter().enumerate() {
            let len = *len as usize;
            if left < len {
                return Some((at, u64::from(*place), left));
            }
            left -= len;
        }
        None
    }
}

fn is_full(place: &Place) -> bool {
    place.bytes.len() > BLOCK || place.handles.len() > HANDLES
}

fn word(words: &Words, at: usize) -> u64 {
    words.get(at).copied().unwrap_or_default()
}

fn length(words: &Words) -> Result<usize, Error> {
    usize::try_from(word(words, LEN)).map_err(|_| damaged())
}

/// The index in the last block, if the item is there.
fn in_last(words: &Words, index: usize) -> Option<usize> {
    index.checked_sub(usize::try_from(word(words, BEFORE_LAST)).ok()?)
}

/// Items in the middle of a section.
struct Items<'s, 'a>(&'s mut Section<'a>);

impl Items<'_, '_> {
    fn len(&mut self) -> Result<usize, Error> {
        length(self.0.words()?)
    }

    fn directory(&mut self) -> Result<Directory, Error> {
        let words = *self.0.words()?;
        let mut directory = match self.0.place(DIRECTORY)? {
            Some(place) => Directory::read(&place.bytes).ok_or_else(damaged)?,
            None => Directory { blocks: vec![(0, 0)], free: Vec::new() },
        };
        // The words are newer than the directory.
        let last = directory.blocks.last_mut().ok_or_else(damaged)?;
        let len = word(&words, LEN).checked_sub(word(&words, BEFORE_LAST)).ok_or_else(damaged)?;
        let parts = (u32::try_from(word(&words, LAST)), u32::try_from(len));
        let (Ok(place), Ok(len)) = parts else { return Err(damaged()) };
        *last = (place, len);
        Ok(directory)
    }

    fn set_directory(&mut self, directory: &Directory) -> Result<(), Error> {
        let (last, before) = directory.blocks.split_last().ok_or_else(damaged)?;
        let before: u64 = before.iter().map(|(_, len)| u64::from(*len)).sum();
        let words = self.0.words_mut()?;
        set(words, LAST, u64::from(last.0));
        set(words, BEFORE_LAST, before);
        set(words, LEN, before + u64::from(last.1));
        self.0.set(DIRECTORY, Some(directory.to_place()));
        Ok(())
    }

    fn new_place(&mut self, directory: &mut Directory) -> Result<u32, Error> {
        if let Some(place) = directory.free.pop() {
            return Ok(place);
        }
        let words = self.0.words_mut()?;
        let place = word(words, FRESH);
        set(words, FRESH, place.checked_add(1).ok_or_else(damaged)?);
        u32::try_from(place).map_err(|_| Error::TooLarge)
    }

    fn check(&mut self, index: usize) -> Result<(), Error> {
        if index < self.len()? { Ok(()) } else { Err(Error::OutOfBounds) }
    }

    /// The place of an item, and its index there.
    fn find(&mut self, index: usize) -> Result<(u64, usize), Error> {
        self.check(index)?;
        let words = *self.0.words()?;
        if let Some(at) = in_last(&words, index) {
            return Ok((word(&words, LAST), at));
        }
        let (_, place, at) = self.directory()?.find(index).ok_or_else(damaged)?;
        Ok((place, at))
    }

    fn get(&mut self, index: usize) -> Result<Taken, Error> {
        let (place, at) = self.find(index)?;
        let place = self.0.place(place)?.ok_or_else(damaged)?;
        Ok(place.copy(&place.record(at)?))
    }

    fn set(&mut self, index: usize, value: &Encoded) -> Result<(), Error> {
        let (place, at) = self.find(index)?;
        let place = self.0.place_mut(place)?;
        place.replace(&place.record(at)?, value)
    }

    fn append(&mut self, value: &Encoded) -> Result<(), Error> {
        let words = *self.0.words()?;
        let mut last = word(&words, LAST);
        if self.0.place(last)?.is_some_and(is_full) {
            let mut directory = self.directory()?;
            let place = self.new_place(&mut directory)?;
            directory.blocks.push((place, 0));
            self.set_directory(&directory)?;
            last = u64::from(place);
        }
        self.0.place_mut(last)?.push(0, &[], value)?;
        let words = self.0.words_mut()?;
        let len = word(words, LEN).checked_add(1).ok_or_else(damaged)?;
        set(words, LEN, len);
        Ok(())
    }

    fn insert(&mut self, index: usize, value: &Encoded) -> Result<(), Error> {
        if index >= self.len()? {
            return self.append(value);
        }
        let mut directory = self.directory()?;
        let (block, number, at) = directory.find(index).ok_or_else(damaged)?;
        let place = self.0.place_mut(number)?;
        place.insert(&place.record(at)?, 0, value)?;
        let split = is_full(place).then(|| place.clone());
        let count = directory.blocks.get_mut(block).ok_or_else(damaged)?;
        count.1 = count.1.checked_add(1).ok_or_else(damaged)?;
        if let Some(full) = split {
            let half = full.records().count() / 2;
            if half != 0 {
                self.split(&mut directory, block, number, &full, half)?;
            }
        }
        self.set_directory(&directory)
    }

    /// Moves the items of a block from `half` on into a new block.
    fn split(
        &mut self,
        directory: &mut Directory,
        block: usize,
        number: u64,
        full: &Place,
        half: usize,
    ) -> Result<(), Error> {
        let (mut one, mut two) = (Place::default(), Place::default());
        for (at, record) in full.records().enumerate() {
            let to = if at < half { &mut one } else { &mut two };
            to.push(0, &[], &full.copy(&record?).value)?;
        }
        let place = self.new_place(directory)?;
        self.0.set(number, Some(one));
        self.0.set(u64::from(place), Some(two));
        let half = u32::try_from(half).map_err(|_| damaged())?;
        let count = directory.blocks.get_mut(block).ok_or_else(damaged)?;
        let rest = count.1.checked_sub(half).ok_or_else(damaged)?;
        count.1 = half;
        directory.blocks.insert(block + 1, (place, rest));
        Ok(())
    }

    fn remove(&mut self, index: usize) -> Result<Taken, Error> {
        self.check(index)?;
        let words = *self.0.words()?;
        // At the end, if the block goes on.
        if let Some(at) = in_last(&words, index)
            && (at != 0 || index + 1 < length(&words)?)
        {
            let place = self.0.place_mut(word(&words, LAST))?;
            let taken = place.record(at).map(|record| place.remove(&record))?;
            set(self.0.words_mut()?, LEN, word(&words, LEN).saturating_sub(1));
            return Ok(taken);
        }
        let mut directory = self.directory()?;
        let (block, number, at) = directory.find(index).ok_or_else(damaged)?;
        let place = self.0.place_mut(number)?;
        let taken = place.record(at).map(|record| place.remove(&record))?;
        let count = directory.blocks.get_mut(block).ok_or_else(damaged)?;
        count.1 = count.1.checked_sub(1).ok_or_else(damaged)?;
        if count.1 == 0 && directory.blocks.len() > 1 {
            let (place, _) = directory.blocks.remove(block);
            directory.free.push(place);
            self.0.set(u64::from(place), None);
        }
        self.set_directory(&directory)?;
        Ok(taken)
    }

    fn all(&mut self) -> Result<Vec<Encoded>, Error> {
        let len = self.len()?;
        let mut all = Vec::new();
        for (number, _) in self.directory()?.blocks {
            let Some(place) = self.0.place(u64::from(number))? else { continue };
            for record in place.records() {
                all.push(place.copy(&record?).value);
            }
        }
        if all.len() == len { Ok(all) } else { Err(damaged()) }
    }

    fn clear(&mut self) -> Result<(), Error> {
        for (place, _) in self.directory()?.blocks {
            self.0.set(u64::from(place), None);
        }
        self.0.set(DIRECTORY, None);
        *self.0.words_mut()? = EMPTY;
        Ok(())
    }

    fn set_all(&mut self, items: impl IntoIterator<Item = Encoded>) -> Result<(), Error> {
        self.clear()?;
        items.into_iter().try_for_each(|item| self.append(&item))
    }
}

fn set(words: &mut Words, at: usize, value: u64) {
    if let Some(word) = words.get_mut(at) {
        *word = value;
    }
}

/// The words of an empty list, whose only block is in place 1.
const EMPTY: Words = [0, 2, 1, 0, 0, 0];

impl<T> List<T> {
    /// Makes an empty list.
    ///
    /// # Errors
    /// [`Error::TooManyObjects`], [`Error::ArenaFull`].
    #[doc(alias = "list")]
    pub fn new() -> Result<Self, Error> {
        Ok(Self { shelf: Shelf::new(Use::List, &EMPTY)?, of: PhantomData })
    }

    /// The number of items.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn len(&self) -> Result<usize, Error> {
        length(&self.shelf.words()?)
    }

    /// Whether there are no items.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.len()? == 0)
    }

    /// Removes all items.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn clear(&self) -> Result<(), Error> {
        self.shelf.with(|section| Items(section).clear())
    }

    /// Removes the item at an index: Python's `del`.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`].
    #[doc(alias = "__delitem__")]
    pub fn delete(&self, index: usize) -> Result<(), Error> {
        self.shelf.with(|section| Items(section).remove(index).map(drop))
    }

    /// Turns the order of the items around.
    ///
    /// # Errors
    /// Only when the arena is damaged, or full.
    pub fn reverse(&self) -> Result<(), Error> {
        self.shelf.with(|section| {
            let mut items = Items(section);
            let all = items.all()?;
            items.set_all(all.into_iter().rev())
        })
    }

    /// Runs `change`, and makes all its changes one step: as [`Dict::with`](crate::Dict::with).
    ///
    /// # Errors
    /// As [`Dict::with`](crate::Dict::with).
    pub fn with<R, E: From<Error>>(
        &self,
        change: impl FnOnce(&mut ListSection<'_, '_, T>) -> Result<R, E>,
    ) -> Result<R, E> {
        self.shelf.with(|section| change(&mut ListSection { items: Items(section), of: PhantomData }))
    }
}

impl<T: Serialize> List<T> {
    /// Adds an item at the end.
    ///
    /// # Errors
    /// [`Error::Encode`], [`Error::ArenaFull`], [`Error::TooLarge`].
    pub fn append(&self, item: &T) -> Result<(), Error> {
        let item = Encoded::new(item)?;
        self.shelf.with(|section| Items(section).append(&item))
    }

    /// Adds items at the end, as one step.
    ///
    /// # Errors
    /// As [`append`](Self::append); then nothing has changed.
    #[doc(alias = "__iadd__")]
    pub fn extend(&self, items: impl IntoIterator<Item = T>) -> Result<(), Error> {
        self.with(|section| items.into_iter().try_for_each(|item| section.append(&item)))
    }

    /// Adds an item before the one at `index`, or at the end if there are fewer.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn insert(&self, index: usize, item: &T) -> Result<(), Error> {
        let item = Encoded::new(item)?;
        self.shelf.with(|section| Items(section).insert(index, &item))
    }

    /// Sets the item at an index.
    ///
    /// # Errors
    /// As [`append`](Self::append); [`Error::OutOfBounds`].
    #[doc(alias = "__setitem__")]
    pub fn set(&self, index: usize, item: &T) -> Result<(), Error> {
        let item = Encoded::new(item)?;
        self.shelf.with(|section| Items(section).set(index, &item))
    }

    /// Repeats the items: `times` is how often they are there in the end.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    #[doc(alias = "__imul__")]
    pub fn repeat(&self, times: usize) -> Result<(), Error> {
        self.shelf.with(|section| {
            let mut items = Items(section);
            let all = items.all()?;
            items.clear()?;
            for _ in 0..times {
                all.iter().try_for_each(|item| items.append(item))?;
            }
            Ok(())
        })
    }
}

impl<T: DeserializeOwned> List<T> {
    /// Returns the item at an index.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`], [`Error::Decode`].
    #[doc(alias = "__getitem__")]
    pub fn get(&self, index: usize) -> Result<T, Error> {
        // Without waiting for anybody, if it is in the last block.
        let last = self.shelf.guess();
        let seen = self.shelf.look(last, |bytes, handles, words| {
            if index >= length(words)? {
                return Err(Error::OutOfBounds);
            }
            let Some(at) = in_last(words, index).filter(|_| word(words, LAST) == last) else {
                return Ok((None, word(words, LAST)));
            };
            let record = records(bytes, handles.len()).nth(at).unwrap_or_else(|| Err(damaged()))?;
            let value = bytes.get(record.value).unwrap_or_default();
            Ok((Some(decode(value, handles.get(record.handles).unwrap_or_default())?), last))
        });
        let (found, last) = seen?;
        self.shelf.set_guess(last);
        match found {
            Some(item) => Ok(item),
            None => self.with(|section| section.get(index)),
        }
    }

    /// Removes the last item, and returns it. `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Decode`], and nothing is removed.
    pub fn pop(&self) -> Result<Option<T>, Error> {
        self.with(|section| match section.len()?.checked_sub(1) {
            Some(last) => section.remove(last).map(Some),
            None => Ok(None),
        })
    }

    /// Removes the item at an index, and returns it: Python's `pop` with an index.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`]; [`Error::Decode`], and nothing is removed.
    pub fn pop_at(&self, index: usize) -> Result<T, Error> {
        self.with(|section| section.remove(index))
    }

    /// Returns all items, as they are at one instant.
    ///
    /// # Errors
    /// [`Error::Decode`].
    #[doc(alias = "copy")]
    #[doc(alias = "__iter__")]
    #[doc(alias = "_getvalue")]
    pub fn to_vec(&self) -> Result<Vec<T>, Error> {
        let all = self.shelf.with(|section| Items(section).all())?;
        all.iter().map(|item| decode(&item.bytes, &item.handles)).collect()
    }

    /// Returns the items of a range, as they are at one instant: Python's slice.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`], [`Error::Decode`].
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Result<Vec<T>, Error> {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => Some(last.saturating_add(1)),
            Bound::Excluded(end) => Some(*end),
            Bound::Unbounded => None,
        };
        self.with(|section| {
            let len = section.len()?;
            let end = end.unwrap_or(len);
            if start > end || end > len {
                return Err(Error::OutOfBounds);
            }
            (start..end).map(|index| section.get(index)).collect()
        })
    }

    /// Sorts the items.
    ///
    /// # Errors
    /// [`Error::Decode`]; then nothing has changed.
    pub fn sort(&self) -> Result<(), Error>
    where
        T: Ord,
    {
        self.sort_by_key(|item| item)
    }

    /// Sorts the items by what `key` makes of them. Items with the same key keep their order.
    ///
    /// # Errors
    /// [`Error::Decode`]; then nothing has changed.
    #[doc(alias = "key")]
    pub fn sort_by_key<K: Ord>(&self, key: impl Fn(T) -> K) -> Result<(), Error> {
        self.shelf.with(|section| {
            let mut items = Items(section);
            let all = items.all()?.into_iter();
            let keyed = all.map(|item| Ok((key(decode(&item.bytes, &item.handles)?), item)));
            let mut keyed = keyed.collect::<Result<Vec<_>, Error>>()?;
            keyed.sort_by(|(one, _), (other, _)| one.cmp(other));
            items.set_all(keyed.into_iter().map(|(_, item)| item))
        })
    }
}

impl<T: DeserializeOwned + PartialEq> List<T> {
    /// Whether an item equals the given one: Python's `in`.
    ///
    /// # Errors
    /// [`Error::Decode`].
    #[doc(alias = "__contains__")]
    pub fn contains(&self, item: &T) -> Result<bool, Error> {
        Ok(self.index(item)?.is_some())
    }

    /// The number of items that equal the given one.
    ///
    /// # Errors
    /// [`Error::Decode`].
    pub fn count(&self, item: &T) -> Result<usize, Error> {
        Ok(self.to_vec()?.iter().filter(|other| *other == item).count())
    }

    /// Returns the index of the first item that equals the given one. (Python has a `ValueError` for `None`.)
    ///
    /// # Errors
    /// [`Error::Decode`].
    pub fn index(&self, item: &T) -> Result<Option<usize>, Error> {
        Ok(self.to_vec()?.iter().position(|other| other == item))
    }

    /// Removes the first item that equals the given one, as one step, and returns whether there was one.
    ///
    /// # Errors
    /// [`Error::Decode`].
    pub fn remove(&self, item: &T) -> Result<bool, Error> {
        self.with(|section| {
            for index in 0..section.len()? {
                if section.get(index)? == *item {
                    section.items.remove(index)?;
                    return Ok(true);
                }
            }
            Ok(false)
        })
    }
}

impl<T: Serialize + DeserializeOwned> List<T> {
    /// Lets `change` change the item at an index in place, as one step, and returns the result of `change`.
    ///
    /// # Errors
    /// As [`set`](Self::set); [`Error::Decode`].
    pub fn update<R>(&self, index: usize, change: impl FnOnce(&mut T) -> R) -> Result<R, Error> {
        self.with(|section| {
            let mut item = section.get(index)?;
            let result = change(&mut item);
            section.set(index, &item)?;
            Ok(result)
        })
    }
}

/// A [`List`] in the middle of several changes that become one step: see [`List::with`].
pub struct ListSection<'s, 'a, T> {
    items: Items<'s, 'a>,
    of: PhantomData<fn(T) -> T>,
}

impl<T> ListSection<'_, '_, T> {
    /// The number of items.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn len(&mut self) -> Result<usize, Error> {
        self.items.len()
    }

    /// Whether there are no items.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn is_empty(&mut self) -> Result<bool, Error> {
        Ok(self.len()? == 0)
    }

    /// Removes all items.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn clear(&mut self) -> Result<(), Error> {
        self.items.clear()
    }

    /// Returns the item at an index.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`], [`Error::Decode`].
    pub fn get(&mut self, index: usize) -> Result<T, Error>
    where
        T: DeserializeOwned,
    {
        let Taken { value, .. } = self.items.get(index)?;
        decode(&value.bytes, &value.handles)
    }

    /// Removes the item at an index, and returns it.
    ///
    /// # Errors
    /// [`Error::OutOfBounds`], [`Error::Decode`].
    pub fn remove(&mut self, index: usize) -> Result<T, Error>
    where
        T: DeserializeOwned,
    {
        let Taken { value, .. } = self.items.remove(index)?;
        decode(&value.bytes, &value.handles)
    }

    /// Sets the item at an index.
    ///
    /// # Errors
    /// [`Error::Encode`], [`Error::OutOfBounds`].
    pub fn set(&mut self, index: usize, item: &T) -> Result<(), Error>
    where
        T: Serialize,
    {
        self.items.set(index, &Encoded::new(item)?)
    }

    /// Adds an item at the end.
    ///
    /// # Errors
    /// [`Error::Encode`].
    pub fn append(&mut self, item: &T) -> Result<(), Error>
    where
        T: Serialize,
    {
        self.items.append(&Encoded::new(item)?)
    }

    /// Adds an item before the one at `index`, or at the end if there are fewer.
    ///
    /// # Errors
    /// [`Error::Encode`].
    pub fn insert(&mut self, index: usize, item: &T) -> Result<(), Error>
    where
        T: Serialize,
    {
        self.items.insert(index, &Encoded::new(item)?)
    }
}

impl<T> std::fmt::Debug for ListSection<'_, '_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ListSection").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_come_back() {
        let directory = Directory { blocks: vec![(1, 3), (9, 2)], free: vec![4, 5] };
        assert_eq!(Directory::read(&directory.to_place().bytes), Some(directory.clone()));
        assert_eq!(directory.find(3), Some((1, 9, 0)));
        assert_eq!(directory.find(5), None);
        for bytes in [&[][..], &[0xff; 8], &[1, 0, 0, 0, 0, 0, 0, 0, 5]] {
            assert_eq!(Directory::read(bytes), None);
        }
    }
}
