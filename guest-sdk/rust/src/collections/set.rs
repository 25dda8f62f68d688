//! Sets.

use std::borrow::Borrow;
use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::same_collection;
use super::shelf::{Encoded, Shelf, decode};
use super::table::{self, Table};
use crate::Error;
use crate::object::Use;

/// A set that any processes read and change: what `set` of Python's managers is.
///
/// ```no_run
/// use sandpool_guest::Set;
///
/// let seen = Set::<String>::new()?;
/// // One step: exactly one process is told that it is the first.
/// if seen.add("https://example.org")? {
///     println!("new");
/// }
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// Two elements are the same if their encodings are. Elements keep the order in which they came, and can't contain queues
/// and the like. The rest is as with a [`Dict`](crate::Dict).
pub struct Set<T> {
    shelf: Shelf,
    of: PhantomData<fn(T) -> T>,
}

same_collection!(Set<T>, "set", SET);

impl<T> Set<T> {
    /// Makes an empty set.
    ///
    /// # Errors
    /// [`Error::TooManyObjects`], [`Error::ArenaFull`].
    #[doc(alias = "set")]
    pub fn new() -> Result<Self, Error> {
        Ok(Self { shelf: table::new(Use::Set)?, of: PhantomData })
    }

    /// The number of elements.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn len(&self) -> Result<usize, Error> {
        table::len(&self.shelf)
    }

    /// Whether there are no elements.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn is_empty(&self) -> Result<bool, Error> {
        Ok(self.len()? == 0)
    }

    /// Removes all elements.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn clear(&self) -> Result<(), Error> {
        self.shelf.with(|section| Table(section).clear())
    }

    /// Whether the set has this element: Python's `in`.
    ///
    /// # Errors
    /// [`Error::Encode`].
    #[doc(alias = "__contains__")]
    pub fn contains<Q>(&self, element: &Q) -> Result<bool, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        Ok(table::look_up(&self.shelf, &table::key(element)?, |_, _| Ok(()))?.is_some())
    }

    /// Adds an element, and returns whether it is new.
    ///
    /// # Errors
    /// [`Error::Encode`], [`Error::ArenaFull`], [`Error::TooLarge`].
    pub fn add<Q>(&self, element: &Q) -> Result<bool, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.with(|section| section.add(element))
    }

    /// Removes an element, and returns whether it was there: Python's `discard`, and `remove`, which has a `KeyError`.
    ///
    /// # Errors
    /// [`Error::Encode`].
    #[doc(alias = "discard")]
    pub fn remove<Q>(&self, element: &Q) -> Result<bool, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.with(|section| section.remove(element))
    }

    /// Runs `change`, and makes all its changes one step: as [`Dict::with`](crate::Dict::with).
    ///
    /// # Errors
    /// As [`Dict::with`](crate::Dict::with).
    pub fn with<R, E: From<Error>>(
        &self,
        change: impl FnOnce(&mut SetSection<'_, '_, T>) -> Result<R, E>,
    ) -> Result<R, E> {
        self.shelf.with(|section| change(&mut SetSection { table: Table(section), of: PhantomData }))
    }
}

impl<T: Serialize> Set<T> {
    /// Adds many elements, as one step: Python's `update`.
    ///
    /// # Errors
    /// As [`add`](Self::add); then nothing has changed.
    #[doc(alias = "update")]
    #[doc(alias = "__ior__")]
    pub fn extend(&self, elements: impl IntoIterator<Item = T>) -> Result<(), Error> {
        self.with(|section| elements.into_iter().try_for_each(|element| section.add(&element).map(drop)))
    }

    /// Removes many elements, as one step.
    ///
    /// # Errors
    /// [`Error::Encode`]; then nothing has changed.
    #[doc(alias = "__isub__")]
    pub fn difference_update(&self, elements: impl IntoIterator<Item = T>) -> Result<(), Error> {
        self.with(|section| elements.into_iter().try_for_each(|element| section.remove(&element).map(drop)))
    }

    /// Removes all elements but these, as one step.
    ///
    /// # Errors
    /// [`Error::Encode`]; then nothing has changed.
    #[doc(alias = "__iand__")]
    pub fn intersection_update(&self, elements: impl IntoIterator<Item = T>) -> Result<(), Error> {
        let kept = elements.into_iter().map(|element| table::key(&element));
        let kept = kept.collect::<Result<std::collections::HashSet<_>, _>>()?;
        self.shelf.with(|section| {
            let mut table = Table(section);
            let gone = table.entries()?.into_iter().filter(|entry| !kept.contains(&entry.key));
            gone.collect::<Vec<_>>().iter().try_for_each(|entry| table.remove(&entry.key).map(drop))
        })
    }

    /// Adds those of these elements that the set doesn't have, and removes those that it has, as one step.
    ///
    /// # Errors
    /// As [`add`](Self::add); then nothing has changed.
    #[doc(alias = "__ixor__")]
    pub fn symmetric_difference_update(&self, elements: impl IntoIterator<Item = T>) -> Result<(), Error> {
        let elements = elements.into_iter().map(|element| table::key(&element));
        let elements = elements.collect::<Result<std::collections::BTreeSet<_>, _>>()?;
        self.shelf.with(|section| {
            let mut table = Table(section);
            for element in elements {
                if table.remove(&element)?.is_none() {
                    table.insert(&element, &Encoded::default())?;
                }
            }
            Ok(())
        })
    }
}

impl<T: DeserializeOwned> Set<T> {
    /// Returns all elements, in the order in which they came, as they are at one instant. Operations on two sets, such as
    /// Python's `union`, are those of a `HashSet` or `BTreeSet` that is collected from it.
    ///
    /// # Errors
    /// [`Error::Decode`].
    #[doc(alias = "copy")]
    #[doc(alias = "_getvalue")]
    pub fn to_vec(&self) -> Result<Vec<T>, Error> {
        let entries = self.shelf.with(|section| Table(section).entries())?;
        entries.iter().map(|entry| decode(&entry.key, &[])).collect()
    }

    /// Removes the element that came last, and returns it. `None` if there is none.
    ///
    /// # Errors
    /// [`Error::Decode`], and nothing is removed.
    pub fn pop(&self) -> Result<Option<T>, Error> {
        self.shelf.with(|section| {
            let taken = Table(section).pop()?;
            taken.map(|taken| decode(&taken.key, &[])).transpose()
        })
    }
}

/// A [`Set`] in the middle of several changes that become one step: see [`Set::with`].
pub struct SetSection<'s, 'a, T> {
    table: Table<'s, 'a>,
    of: PhantomData<fn(T) -> T>,
}

impl<T> SetSection<'_, '_, T> {
    /// The number of elements.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn len(&mut self) -> Result<usize, Error> {
        self.table.len()
    }

    /// Whether there are no elements.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn is_empty(&mut self) -> Result<bool, Error> {
        Ok(self.len()? == 0)
    }

    /// Whether the set has this element.
    ///
    /// # Errors
    /// [`Error::Encode`].
    pub fn contains<Q>(&mut self, element: &Q) -> Result<bool, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        self.table.contains(&table::key(element)?)
    }

    /// Adds an element, and returns whether it is new.
    ///
    /// # Errors
    /// [`Error::Encode`].
    pub fn add<Q>(&mut self, element: &Q) -> Result<bool, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        let key = table::key(element)?;
        if self.table.contains(&key)? { Ok(false) } else { self.table.insert(&key, &Encoded::default()) }
    }

    /// Removes an element, and returns whether it was there.
    ///
    /// # Errors
    /// [`Error::Encode`].
    pub fn remove<Q>(&mut self, element: &Q) -> Result<bool, Error>
    where
        T: Borrow<Q>,
        Q: Serialize + ?Sized,
    {
        Ok(self.table.remove(&table::key(element)?)?.is_some())
    }
}

impl<T> std::fmt::Debug for SetSection<'_, '_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SetSection").finish_non_exhaustive()
    }
}
