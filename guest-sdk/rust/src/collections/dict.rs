//! Dictionaries.

use std::borrow::Borrow;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::records::Taken;
use super::same_collection;
use super::shelf::{Encoded, Shelf, decode};
use super::table::{self, Table};
use crate::Error;
use crate::object::Use;

/// Keys and values go in and come out.
type Entry<K, V> = fn(K, V) -> (K, V);

/// A dictionary that any processes read and change: what `dict` of Python's managers is.
///
/// ```no_run
/// use sandpool_guest::{Dict, Process};
///
/// let totals = Dict::<String, u64>::new()?;
/// let processes: Vec<_> = ["a", "b", "a"]
///     .into_iter()
///     .map(|name| {
///         let totals = &totals;
///         // One step: no count is lost.
///         Process::fork(move || totals.update(name, 0, |total| *total += 1))
///     })
///     .collect::<Result<_, _>>()?;
/// for process in processes {
///     process.join()?;
/// }
/// assert_eq!(totals.get("a")?, Some(2));
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// Keys and values are what serde encodes and decodes. A value may be or contain a queue, a lock, a proxy, or another
/// dictionary; a key may not. Two keys are the same if their encodings are. Keys keep the order in which they came.
///
/// A forked process has all dictionaries of its creator. A dictionary is also data, for spawned processes, queues and
/// pipes. A clone is the same dictionary.
///
/// Each method is one step, and [`with`](Self::with) makes one step of several: see
/// [the module](crate::collections).
pub struct Dict<K, V> {
    shelf: Shelf,
    of: PhantomData<Entry<K, V>>,
}

same_collection!(Dict<K, V>, "dictionary", DICT);

fn entry<K: DeserializeOwned, V: DeserializeOwned>(taken: &Taken) -> Result<(K, V), Error> {
    Ok((decode(&taken.key, &[])?, decode(&taken.value.bytes, &taken.value.handles)?))
}

impl<K, V> Dict<K, V> {
    /// Makes an empty dictionary.
    ///
    /// # Errors
    /// [`Error::TooManyObjects`], [`Error::ArenaFull`].
    #[doc(alias = "dict")]
    pub fn new() -> Result<Self, Error> {
        Ok(Self { shelf: table::new(Use::Dict)?, of: PhantomData })
    }

    /// The number of keys.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn len(&self) -> Result<usize, Error> {
        table::len(&self.shelf)
    }

    /// Whether there are no keys.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.len()? == 0)
    }

    /// Removes all keys.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn clear(&self) -> Result<(), Error> {
        self.shelf.with(|section| Table(section).clear())
    }

    /// Whether there is this key: Python's `in`.
    ///
    /// # Errors
    /// [`Error::Encode`].
    #[doc(alias = "__contains__")]
    pub fn contains_key<Q>(&self, key: &Q) -> Result<bool, Error>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        Ok(table::look_up(&self.shelf, &table::key(key)?, |_, _| Ok(()))?.is_some())
    }

    /// Removes a key, and returns whether it was there: Python's `del`.
    ///
    /// # Errors
    /// [`Error::Encode`].
    #[doc(alias = "__delitem__")]
    pub fn remove<Q>(&self, key: &Q) -> Result<bool, Error>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let key = table::key(key)?;
        self.shelf.with(|section| Ok(Table(section).remove(&key)?.is_some()))
    }

    /// Runs `change`, and makes all its changes one step: no other process changes the dictionary meanwhile, and others see
    /// all of the changes or none.
    ///
    /// If `change` returns an error, or its process is killed, nothing has changed. In `change`, the dictionary itself has the
    /// state from before; only the section has the changes.
    ///
    /// # Errors
    /// Those of `change`. [`Error::ArenaFull`] and [`Error::TooLarge`], and nothing has changed. `Errno::Deadlock` in
    /// [`Error::Host`] if this process is already in a section of the same dictionary. [`Error::NotAChild`] in a process that
    /// was forked in `change`.
    pub fn with<R, E: From<Error>>(
        &self,
        change: impl FnOnce(&mut DictSection<'_, '_, K, V>) -> Result<R, E>,
    ) -> Result<R, E> {
        self.shelf.with(|section| change(&mut DictSection { table: Table(section), of: PhantomData }))
    }
}

impl<K, V: DeserializeOwned> Dict<K, V> {
    /// Returns the value of a key.
    ///
    /// This waits for nobody who changes the dictionary, except for the moment of a change.
    ///
    /// # Errors
    /// [`Error::Encode`], [`Error::Decode`].
    #[doc(alias = "__getitem__")]
    pub fn get<Q>(&self, key: &Q) -> Result<Option<V>, Error>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        table::look_up(&self.shelf, &table::key(key)?, decode)
    }

    /// Removes a key, and returns its value.
    ///
    /// # Errors
    /// [`Error::Encode`]; [`Error::Decode`], and nothing is removed.
    pub fn pop<Q>(&self, key: &Q) -> Result<Option<V>, Error>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.with(|section| section.pop(key))
    }

    /// Returns all values, in the order in which their keys came.
    ///
    /// # Errors
    /// [`Error::Decode`].
    pub fn values(&self) -> Result<Vec<V>, Error> {
        let entries = self.shelf.with(|section| Table(section).entries())?;
        entries.iter().map(|entry| decode(&entry.value.bytes, &entry.value.handles)).collect()
    }
}

impl<K: DeserializeOwned, V> Dict<K, V> {
    /// Returns all keys, in the order in which they came.
    ///
    /// # Errors
    /// [`Error::Decode`].
    #[doc(alias = "__iter__")]
    pub fn keys(&self) -> Result<Vec<K>, Error> {
        let entries = self.shelf.with(|section| Table(section).entries())?;
        entries.iter().map(|entry| decode(&entry.key, &[])).collect()
    }
}

impl<K: DeserializeOwned, V: DeserializeOwned> Dict<K, V> {
    /// Returns all keys with their values, in the order in which the keys came, as they are at one instant.
    ///
    /// # Errors
    /// [`Error::Decode`].
    #[doc(alias = "copy")]
    #[doc(alias = "_getvalue")]
    pub fn items(&self) -> Result<Vec<(K, V)>, Error> {
        self.shelf.with(|section| Table(section).entries())?.iter().map(entry).collect()
    }

    /// Removes the key that came last, and returns it with its value. `None` if there is none. This takes as long as
    /// [`items`](Self::items).
    ///
    /// # Errors
    /// [`Error::Decode`], and nothing is removed.
    pub fn popitem(&self) -> Result<Option<(K, V)>, Error> {
        self.shelf.with(|section| Table(section).pop()?.as_ref().map(entry).transpose())
    }
}

impl<K, V: Serialize> Dict<K, V> {
    /// Sets the value of a key. Returns whether the key is new.
    ///
    /// # Errors
    /// [`Error::Encode`], [`Error::ArenaFull`], [`Error::TooLarge`].
    #[doc(alias = "__setitem__")]
    pub fn insert<Q>(&self, key: &Q, value: &V) -> Result<bool, Error>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let (key, value) = (table::key(key)?, Encoded::new(value)?);
        self.shelf.with(|section| Table(section).insert(&key, &value))
    }

    /// Sets the values of many keys, as one step: Python's `update`.
    ///
    /// # Errors
    /// As [`insert`](Self::insert); then nothing has changed.
    #[doc(alias = "update")]
    #[doc(alias = "__ior__")]
    pub fn extend(&self, entries: impl IntoIterator<Item = (K, V)>) -> Result<(), Error>
    where
        K: Serialize,
    {
        self.with(|section| section.extend(entries))
    }
}

impl<K, V: Serialize + DeserializeOwned> Dict<K, V> {
    /// Returns the value of a key, and sets it to `default` if there is none.
    ///
    /// # Errors
    /// As [`insert`](Self::insert); [`Error::Decode`].
    pub fn setdefault<Q>(&self, key: &Q, default: V) -> Result<V, Error>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.with(|section| match section.get(key)? {
            Some(value) => Ok(value),
            None => section.insert(key, &default).map(|_| default),
        })
    }

    /// Lets `change` change the value of a key in place, as one step, and returns the result of `change`. If there is no
    /// value, `change` gets `default`.
    ///
    /// ```no_run
    /// use std::collections::BTreeMap;
    ///
    /// use sandpool_guest::Dict;
    ///
    /// let scores = Dict::<String, BTreeMap<String, Vec<u64>>>::new()?;
    /// // As deep in the value as it takes.
    /// scores.update("ada", BTreeMap::new(), |games| games.entry("go".into()).or_default().push(9))?;
    /// # Ok::<(), sandpool_guest::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`insert`](Self::insert); [`Error::Decode`].
    pub fn update<Q, R>(&self, key: &Q, default: V, change: impl FnOnce(&mut V) -> R) -> Result<R, Error>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.with(|section| section.update(key, default, change))
    }

    /// Lets `change` change the value of a key in place, as one step. `None` if there is no such key; then `change` isn't
    /// called.
    ///
    /// # Errors
    /// As [`insert`](Self::insert); [`Error::Decode`].
    pub fn modify<Q, R>(&self, key: &Q, change: impl FnOnce(&mut V) -> R) -> Result<Option<R>, Error>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.with(|section| {
            let Some(mut value) = section.get(key)? else { return Ok(None) };
            let result = change(&mut value);
            section.insert(key, &value)?;
            Ok(Some(result))
        })
    }

    /// Sets the value of a key to `new` if it equals `expected`; `None` stands for no value. Returns whether it did.
    ///
    /// # Errors
    /// As [`insert`](Self::insert); [`Error::Decode`].
    pub fn compare_and_set<Q>(&self, key: &Q, expected: Option<&V>, new: Option<&V>) -> Result<bool, Error>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
        V: PartialEq,
    {
        self.with(|section| {
            if section.get(key)?.as_ref() != expected {
                return Ok(false);
            }
            match new {
                Some(value) => section.insert(key, value)?,
                None => section.remove(key)?,
            };
            Ok(true)
        })
    }
}

/// A [`Dict`] in the middle of several changes that become one step: see [`Dict::with`].
pub struct DictSection<'s, 'a, K, V> {
    table: Table<'s, 'a>,
    of: PhantomData<Entry<K, V>>,
}

impl<K, V> DictSection<'_, '_, K, V> {
    /// The number of keys.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn len(&mut self) -> Result<usize, Error> {
        self.table.len()
    }

    /// Whether there are no keys.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn is_empty(&mut self) -> Result<bool, Error> {
        Ok(self.len()? == 0)
    }

    /// Removes all keys.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn clear(&mut self) -> Result<(), Error> {
        self.table.clear()
    }

    /// Whether there is this key.
    ///
    /// # Errors
    /// [`Error::Encode`].
    pub fn contains_key<Q>(&mut self, key: &Q) -> Result<bool, Error>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.table.contains(&table::key(key)?)
    }

    /// Removes a key, and returns whether it was there.
    ///
    /// # Errors
    /// [`Error::Encode`].
    pub fn remove<Q>(&mut self, key: &Q) -> Result<bool, Error>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        Ok(self.table.remove(&table::key(key)?)?.is_some())
    }

    /// Returns the value of a key.
    ///
    /// # Errors
    /// [`Error::Encode`], [`Error::Decode`].
    pub fn get<Q>(&mut self, key: &Q) -> Result<Option<V>, Error>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
        V: DeserializeOwned,
    {
        self.table.get(&table::key(key)?)
    }

    /// Removes a key, and returns its value.
    ///
    /// # Errors
    /// [`Error::Encode`], [`Error::Decode`].
    pub fn pop<Q>(&mut self, key: &Q) -> Result<Option<V>, Error>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
        V: DeserializeOwned,
    {
        let taken = self.table.remove(&table::key(key)?)?;
        taken.map(|taken| decode(&taken.value.bytes, &taken.value.handles)).transpose()
    }

    /// Sets the value of a key. Returns whether the key is new.
    ///
    /// # Errors
    /// [`Error::Encode`].
    pub fn insert<Q>(&mut self, key: &Q, value: &V) -> Result<bool, Error>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
        V: Serialize,
    {
        self.table.insert(&table::key(key)?, &Encoded::new(value)?)
    }

    /// Sets the values of many keys.
    ///
    /// # Errors
    /// [`Error::Encode`].
    pub fn extend(&mut self, entries: impl IntoIterator<Item = (K, V)>) -> Result<(), Error>
    where
        K: Serialize,
        V: Serialize,
    {
        entries.into_iter().try_for_each(|(key, value)| self.insert(&key, &value).map(drop))
    }

    /// Lets `change` change the value of a key, which is `default` if there is none.
    ///
    /// # Errors
    /// [`Error::Encode`], [`Error::Decode`].
    pub fn update<Q, R>(&mut self, key: &Q, default: V, change: impl FnOnce(&mut V) -> R) -> Result<R, Error>
    where
        K: Borrow<Q>,
        Q: Serialize + ?Sized,
        V: Serialize + DeserializeOwned,
    {
        let mut value = self.get(key)?.unwrap_or(default);
        let result = change(&mut value);
        self.insert(key, &value)?;
        Ok(result)
    }

    /// Returns all keys with their values, in the order in which the keys came.
    ///
    /// # Errors
    /// [`Error::Decode`].
    pub fn items(&mut self) -> Result<Vec<(K, V)>, Error>
    where
        K: DeserializeOwned,
        V: DeserializeOwned,
    {
        self.table.entries()?.iter().map(entry).collect()
    }
}

impl<K, V> std::fmt::Debug for DictSection<'_, '_, K, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DictSection").finish_non_exhaustive()
    }
}
