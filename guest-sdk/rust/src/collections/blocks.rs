//! The items of a list.
//!
//! The items are records in blocks of about 2 KiB. Place 0 has the directory: the places of the blocks, in order, with the
//! number of items in each, and places that are free. The last block's place and the number of items before it are words of
//! the shelf, so that items are appended, and the last ones read, without the directory.

use super::records::Taken;
use super::shelf::{Encoded, Place, Section, damaged};
use crate::Error;
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

pub(super) fn length(words: &Words) -> Result<usize, Error> {
    usize::try_from(word(words, LEN)).map_err(|_| damaged())
}

/// The place of the last block.
pub(super) fn last_block(words: &Words) -> u64 {
    word(words, LAST)
}

/// The index in the last block, if the item is there.
pub(super) fn in_last(words: &Words, index: usize) -> Option<usize> {
    index.checked_sub(usize::try_from(word(words, BEFORE_LAST)).ok()?)
}

/// Items in the middle of a section.
pub(super) struct Items<'s, 'a>(pub(super) &'s mut Section<'a>);

impl Items<'_, '_> {
    pub(super) fn len(&mut self) -> Result<usize, Error> {
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

    pub(super) fn get(&mut self, index: usize) -> Result<Taken, Error> {
        let (place, at) = self.find(index)?;
        let place = self.0.place(place)?.ok_or_else(damaged)?;
        Ok(place.copy(&place.record(at)?))
    }

    pub(super) fn set(&mut self, index: usize, value: &Encoded) -> Result<(), Error> {
        let (place, at) = self.find(index)?;
        let place = self.0.place_mut(place)?;
        place.replace(&place.record(at)?, value)
    }

    pub(super) fn append(&mut self, value: &Encoded) -> Result<(), Error> {
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

    pub(super) fn insert(&mut self, index: usize, value: &Encoded) -> Result<(), Error> {
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

    pub(super) fn remove(&mut self, index: usize) -> Result<Taken, Error> {
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

    pub(super) fn all(&mut self) -> Result<Vec<Encoded>, Error> {
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

    pub(super) fn clear(&mut self) -> Result<(), Error> {
        for (place, _) in self.directory()?.blocks {
            self.0.set(u64::from(place), None);
        }
        self.0.set(DIRECTORY, None);
        *self.0.words_mut()? = EMPTY;
        Ok(())
    }

    pub(super) fn set_all(&mut self, items: impl IntoIterator<Item = Encoded>) -> Result<(), Error> {
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
pub(super) const EMPTY: Words = [0, 2, 1, 0, 0, 0];

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
