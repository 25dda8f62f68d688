//! A hash table in a shelf, of encoded keys and values.
//!
//! Each place is a bucket with [records](super::records). The table grows by linear hashing: one bucket at a time is split
//! in two, so no change moves more than one bucket. A bucket has about 2 KiB, because a change writes a whole one.

use std::hash::{DefaultHasher, Hasher as _};

use sandpool_abi::shelf::PLACES_MAX;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::records::{Record, Taken, records};
use super::shelf::{Encoded, Kept, Place, Section, Shelf, damaged, decode};
use crate::object::Use;
use crate::raw::shelf::Words;
use crate::{EncodeError, Error, raw};

/// Words of the shelf: the number of entries, of buckets, of bytes; the number of the next entry. The fifth is the secret for hashes.
const LEN: usize = 0;
const BUCKETS: usize = 1;
const BYTES: usize = 2;
const NEXT: usize = 3;

/// Bytes of a bucket on average, at most, before another one is added.
const BUCKET: u64 = 2048;

/// How many bytes a handle counts as: messages have few handles.
const HANDLE: u64 = 64;

pub(super) fn new(r#use: Use) -> Result<Shelf, Error> {
    let seed = raw::random::bytes().map(u64::from_le_bytes).unwrap_or_default();
    Shelf::new(r#use, &[0, 1, 0, 0, seed, 0])
}

/// Encodes a key.
pub(super) fn key<K: Serialize + ?Sized>(key: &K) -> Result<Vec<u8>, Error> {
    let Encoded { bytes, handles } = Encoded::new(key)?;
    if handles.is_empty() {
        Ok(bytes)
    } else {
        Err(Error::Encode(EncodeError::new("a key can't be a queue or the like, nor have one in it")))
    }
}

fn hash(words: &Words, key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    let [.., seed, _] = *words;
    hasher.write_u64(seed);
    hasher.write(key);
    hasher.finish()
}

/// The bucket of a hash, if there are this many.
fn bucket(hash: u64, buckets: u64) -> u64 {
    let all = buckets.max(1).next_power_of_two();
    let bucket = hash & (all - 1);
    if bucket < buckets { bucket } else { hash & (all / 2).saturating_sub(1) }
}

fn buckets(words: &Words) -> Result<u64, Error> {
    let [_, buckets, ..] = *words;
    if (1..=PLACES_MAX).contains(&buckets) { Ok(buckets) } else { Err(damaged()) }
}

fn size(key: &[u8], value: &Encoded) -> u64 {
    20 + key.len() as u64 + value.bytes.len() as u64 + value.handles.len() as u64 * HANDLE
}

/// The number of entries.
pub(super) fn len(shelf: &Shelf) -> Result<usize, Error> {
    let [len, ..] = shelf.words()?;
    usize::try_from(len).map_err(|_| damaged())
}

/// Looks a key up without waiting for anybody, and passes its value on.
pub(super) fn look_up<R>(
    shelf: &Shelf,
    key: &[u8],
    mut then: impl FnMut(&[u8], &[Kept]) -> Result<R, Error>,
) -> Result<Option<R>, Error> {
    // The number of buckets may have grown, and so have moved the key: the bucket and the number are read at one instant.
    let mut words = [0, shelf.guess().max(1), 0, 0, seed(shelf)?, 0];
    loop {
        let place = bucket(hash(&words, key), buckets(&words)?);
        let looked = shelf.look(place, |bytes, handles, now| {
            if bucket(hash(now, key), buckets(now)?) != place {
                return Ok(Err(*now));
            }
            for record in records(bytes, handles.len()) {
                let record = record?;
                if bytes.get(record.key.clone()) == Some(key) {
                    let value = bytes.get(record.value.clone()).unwrap_or_default();
                    let handles = handles.get(record.handles.clone()).unwrap_or_default();
                    return Ok(Ok((Some(then(value, handles)?), *now)));
                }
            }
            Ok(Ok((None, *now)))
        })?;
        match looked {
            Ok((found, now)) => {
                remember(shelf, &now);
                return Ok(found);
            }
            Err(now) => words = now,
        }
    }
}

/// The secret for hashes never changes.
fn seed(shelf: &Shelf) -> Result<u64, Error> {
    if let Some(seed) = shelf.seed() {
        return Ok(seed);
    }
    let [.., seed, _] = shelf.words()?;
    shelf.set_seed(seed);
    Ok(seed)
}

fn remember(shelf: &Shelf, [_, buckets, ..]: &Words) {
    shelf.set_guess(*buckets);
}

/// A table in the middle of a section.
pub(super) struct Table<'s, 'a>(pub(super) &'s mut Section<'a>);

impl Table<'_, '_> {
    /// The bucket of a key, and the key's record there.
    fn find(&mut self, key: &[u8]) -> Result<(u64, Option<Record>), Error> {
        let seed = seed(self.0.shelf())?;
        let mut guess = [0, self.0.shelf().guess().max(1), 0, 0, seed, 0];
        let place = loop {
            let place = bucket(hash(&guess, key), buckets(&guess)?);
            // With the place come the words.
            self.0.place(place)?;
            let words = *self.0.words()?;
            let right = bucket(hash(&words, key), buckets(&words)?);
            remember(self.0.shelf(), &words);
            if right == place {
                break place;
            }
            guess = words;
        };
        let Some(content) = self.0.place(place)? else { return Ok((place, None)) };
        for record in content.records() {
            let record = record?;
            if content.key(&record) == key {
                return Ok((place, Some(record)));
            }
        }
        Ok((place, None))
    }

    pub(super) fn len(&mut self) -> Result<usize, Error> {
        let [len, ..] = *self.0.words()?;
        usize::try_from(len).map_err(|_| damaged())
    }

    pub(super) fn contains(&mut self, key: &[u8]) -> Result<bool, Error> {
        Ok(self.find(key)?.1.is_some())
    }

    pub(super) fn get<V: DeserializeOwned>(&mut self, key: &[u8]) -> Result<Option<V>, Error> {
        let (place, Some(record)) = self.find(key)? else { return Ok(None) };
        let content = self.0.place(place)?.ok_or_else(damaged)?;
        let (bytes, handles) = content.value(&record);
        decode(bytes, handles).map(Some)
    }

    /// Sets the value of a key. Returns whether the key is new.
    pub(super) fn insert(&mut self, key: &[u8], value: &Encoded) -> Result<bool, Error> {
        let (place, record) = self.find(key)?;
        let is_new = record.is_none();
        if let Some(record) = record {
            let content = self.0.place_mut(place)?;
            let former = content.copy(&record);
            content.replace(&record, value)?;
            let bytes = self.word(BYTES)?;
            *bytes = bytes.saturating_sub(size(key, &former.value)).saturating_add(size(key, value));
        } else {
            let number = *self.word(NEXT)?;
            self.0.place_mut(place)?.push(number, key, value)?;
            *self.word(NEXT)? = number.wrapping_add(1);
            let bytes = self.word(BYTES)?;
            *bytes = bytes.saturating_add(size(key, value));
            let len = self.word(LEN)?;
            *len = len.saturating_add(1);
        }
        self.grow()?;
        Ok(is_new)
    }

    /// Removes a key, and returns what was there.
    pub(super) fn remove(&mut self, key: &[u8]) -> Result<Option<Taken>, Error> {
        let (place, Some(record)) = self.find(key)? else { return Ok(None) };
        let taken = self.0.place_mut(place)?.remove(&record);
        let bytes = self.word(BYTES)?;
        *bytes = bytes.saturating_sub(size(key, &taken.value));
        let len = self.word(LEN)?;
        *len = len.saturating_sub(1);
        Ok(Some(taken))
    }

    /// All entries, in the order in which their keys came.
    pub(super) fn entries(&mut self) -> Result<Vec<Taken>, Error> {
        let buckets = buckets(self.0.words()?)?;
        let mut all = Vec::new();
        for place in 0..buckets {
            let Some(content) = self.0.place(place)? else { continue };
            for record in content.records() {
                all.push(content.copy(&record?));
            }
        }
        all.sort_by_key(|entry| entry.number);
        Ok(all)
    }

    /// Removes the key that came last.
    pub(super) fn pop(&mut self) -> Result<Option<Taken>, Error> {
        match self.entries()?.pop() {
            Some(last) => self.remove(&last.key),
            None => Ok(None),
        }
    }

    pub(super) fn clear(&mut self) -> Result<(), Error> {
        let buckets = buckets(self.0.words()?)?;
        for place in 0..buckets {
            self.0.set(place, None);
        }
        (*self.word(LEN)?, *self.word(BYTES)?, *self.word(BUCKETS)?) = (0, 0, 1);
        Ok(())
    }

    fn word(&mut self, at: usize) -> Result<&mut u64, Error> {
        self.0.words_mut()?.get_mut(at).ok_or_else(damaged)
    }

    /// Splits a bucket, if the buckets have too much in them.
    fn grow(&mut self) -> Result<(), Error> {
        let words = *self.0.words()?;
        let (buckets, [len, _, bytes, ..]) = (buckets(&words)?, words);
        if bytes <= buckets.saturating_mul(BUCKET) || len <= buckets || buckets >= PLACES_MAX {
            return Ok(());
        }
        let more = buckets + 1;
        let from = buckets - more.next_power_of_two() / 2;
        let (mut stay, mut go) = (Place::default(), Place::default());
        if let Some(content) = self.0.place(from)? {
            for record in content.records() {
                let record = record?;
                let key = content.key(&record);
                let to = if bucket(hash(&words, key), more) == from { &mut stay } else { &mut go };
                let Taken { number, key, value } = content.copy(&record);
                to.push(number, &key, &value)?;
            }
        }
        self.0.set(from, Some(stay));
        self.0.set(buckets, Some(go));
        *self.word(BUCKETS)? = more;
        let words = *self.0.words()?;
        remember(self.0.shelf(), &words);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A split moves entries of one bucket only, and to the new one only.
    #[test]
    fn buckets_split_one_by_one() {
        for buckets in 1..200_u64 {
            let from = buckets - (buckets + 1).next_power_of_two() / 2;
            for hash in 0..5000 {
                let (before, after) = (bucket(hash, buckets), bucket(hash, buckets + 1));
                assert!(before < buckets && after <= buckets);
                assert!(before == after || (before == from && after == buckets), "{hash} of {buckets}");
            }
        }
    }
}
