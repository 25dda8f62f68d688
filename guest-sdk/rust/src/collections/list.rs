//! Lists.

use std::marker::PhantomData;
use std::ops::{Bound, RangeBounds};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::blocks::{EMPTY, Items, in_last, last_block, length};
use super::records::{Taken, records};
use super::same_collection;
use super::shelf::{Encoded, Shelf, damaged, decode};
use crate::Error;
use crate::object::Use;

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
            let Some(at) = in_last(words, index).filter(|_| last_block(words) == last) else {
                return Ok((None, last_block(words)));
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
