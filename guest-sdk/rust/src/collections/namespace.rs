//! Namespaces.

use std::marker::PhantomData;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::same_collection;
use super::shelf::{Encoded, Shelf, decode};
use super::table::{self, Table};
use crate::Error;
use crate::object::Use;

/// Values of different types by name, which any processes read and change: what `Namespace` of Python's managers is.
///
/// ```no_run
/// use sandpool_guest::Namespace;
///
/// let settings = Namespace::new()?;
/// settings.set("name", "ada")?;
/// settings.set("tries", &3_u32)?;
/// assert_eq!(settings.get::<u32>("tries")?, Some(3));
/// # Ok::<(), sandpool_guest::Error>(())
/// ```
///
/// A name has the type of the value that was set last. A value is read as the same type; another type is
/// [`Error::Decode`], unless both have the same encoding. The rest is as with a [`Dict`](crate::Dict).
pub struct Namespace {
    shelf: Shelf,
    of: PhantomData<()>,
}

same_collection!(Namespace, "namespace", NAMESPACE);

impl Namespace {
    /// Makes an empty namespace.
    ///
    /// # Errors
    /// [`Error::TooManyObjects`], [`Error::ArenaFull`].
    pub fn new() -> Result<Self, Error> {
        Ok(Self { shelf: table::new(Use::Namespace)?, of: PhantomData })
    }

    /// Sets the value of a name.
    ///
    /// # Errors
    /// [`Error::Encode`], [`Error::ArenaFull`], [`Error::TooLarge`].
    #[doc(alias = "__setattr__")]
    pub fn set<T: Serialize + ?Sized>(&self, name: &str, value: &T) -> Result<(), Error> {
        self.with(|section| section.set(name, value))
    }

    /// Returns the value of a name. (Python has an `AttributeError` for `None`.)
    ///
    /// # Errors
    /// [`Error::Decode`].
    #[doc(alias = "__getattr__")]
    pub fn get<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, Error> {
        table::look_up(&self.shelf, &table::key(name)?, decode)
    }

    /// Removes a name, and returns whether it was there: Python's `del`.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    #[doc(alias = "__delattr__")]
    pub fn remove(&self, name: &str) -> Result<bool, Error> {
        self.with(|section| section.remove(name))
    }

    /// Returns all names, in the order in which they came.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn names(&self) -> Result<Vec<String>, Error> {
        let entries = self.shelf.with(|section| Table(section).entries())?;
        entries.iter().map(|entry| decode(&entry.key, &[])).collect()
    }

    /// Lets `change` change the value of a name in place, as one step, and returns the result of `change`. If there is no
    /// value, `change` gets `default`.
    ///
    /// # Errors
    /// As [`set`](Self::set); [`Error::Decode`].
    pub fn update<T, R>(&self, name: &str, default: T, change: impl FnOnce(&mut T) -> R) -> Result<R, Error>
    where
        T: Serialize + DeserializeOwned,
    {
        self.with(|section| {
            let mut value = section.get(name)?.unwrap_or(default);
            let result = change(&mut value);
            section.set(name, &value)?;
            Ok(result)
        })
    }

    /// Runs `change`, and makes all its changes one step: as [`Dict::with`](crate::Dict::with).
    ///
    /// # Errors
    /// As [`Dict::with`](crate::Dict::with).
    pub fn with<R, E: From<Error>>(
        &self,
        change: impl FnOnce(&mut NamespaceSection<'_, '_>) -> Result<R, E>,
    ) -> Result<R, E> {
        self.shelf.with(|section| change(&mut NamespaceSection { table: Table(section) }))
    }
}

/// A [`Namespace`] in the middle of several changes that become one step: see [`Namespace::with`].
pub struct NamespaceSection<'s, 'a> {
    table: Table<'s, 'a>,
}

impl NamespaceSection<'_, '_> {
    /// Sets the value of a name.
    ///
    /// # Errors
    /// [`Error::Encode`].
    pub fn set<T: Serialize + ?Sized>(&mut self, name: &str, value: &T) -> Result<(), Error> {
        self.table.insert(&table::key(name)?, &Encoded::new(value)?).map(drop)
    }

    /// Returns the value of a name.
    ///
    /// # Errors
    /// [`Error::Decode`].
    pub fn get<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>, Error> {
        self.table.get(&table::key(name)?)
    }

    /// Removes a name, and returns whether it was there.
    ///
    /// # Errors
    /// Only when the arena is damaged.
    pub fn remove(&mut self, name: &str) -> Result<bool, Error> {
        Ok(self.table.remove(&table::key(name)?)?.is_some())
    }
}

impl std::fmt::Debug for NamespaceSection<'_, '_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NamespaceSection").finish_non_exhaustive()
    }
}
