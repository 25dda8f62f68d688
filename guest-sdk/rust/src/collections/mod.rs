//! Collections that many processes read and change: dictionaries, lists, sets, namespaces.
//!
//! They are what Python's managers offer as `dict`, `list`, `set` and `Namespace`. There is no process that serves them:
//! they lie in the memory that all processes of the run share. A collection is data, like a queue, and lives as long as
//! any process or message has it; so a collection can be a value in another one.
//!
//! # One step
//!
//! Each method is one step: other processes see all of it or nothing, also if the process that does it is killed in the
//! middle. [`with`](Dict::with) makes one step of several:
//!
//! ```no_run
//! use sandpool_guest::{Dict, Error};
//!
//! let accounts = Dict::<String, i64>::new()?;
//! accounts.insert("a", &100)?;
//! let moved = accounts.with(|accounts| {
//!     let from = accounts.get("a")?.unwrap_or(0);
//!     let to = accounts.get("b")?.unwrap_or(0);
//!     accounts.insert("a", &(from - 30))?;
//!     accounts.insert("b", &(to + 30))?;
//!     Ok::<_, Error>(30)
//! })?;
//! # Ok::<(), sandpool_guest::Error>(())
//! ```
//!
//! If the closure returns an error, nothing has changed. Processes that change the collection wait for each other; those
//! that only look up a key, or an item, see the state before until all of it is done.
//!
//! # Values
//!
//! A collection has copies: changing a value that `get` has returned changes nothing in the collection. To change a value
//! in place, as one step, there is [`update`](Dict::update), however deep the changed part lies in it.

mod blocks;
pub(crate) mod dict;
pub(crate) mod list;
pub(crate) mod namespace;
mod records;
pub(crate) mod set;
pub(crate) mod shelf;
mod table;

#[cfg(doc)]
use dict::Dict;
pub use dict::DictSection;
pub use list::ListSection;
pub use namespace::NamespaceSection;
pub use set::SetSection;

/// Implements what all of these types have in common: they are shown and compared by their handle, a clone is the same
/// object, and they travel inside messages.
macro_rules! same_collection {
    ($type:ident $(<$($param:ident),*>)?, $what:literal, $role:ident) => {
        #[doc = concat!("A clone is the same ", $what, ".")]
        impl<$($($param),*)?> Clone for $type<$($($param),*)?> {
            fn clone(&self) -> Self {
                Self { shelf: self.shelf.clone(), of: std::marker::PhantomData }
            }
        }

        impl<$($($param),*)?> std::fmt::Debug for $type<$($($param),*)?> {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($type), "({:#x})"), self.shelf.handle())
            }
        }

        #[doc = concat!("Whether they are the same ", $what, ", not whether they have the same content.")]
        impl<$($($param),*)?> PartialEq for $type<$($($param),*)?> {
            fn eq(&self, other: &Self) -> bool {
                self.shelf.handle() == other.shelf.handle()
            }
        }

        impl<$($($param),*)?> Eq for $type<$($($param),*)?> {}

        #[doc = concat!("Puts the ", $what, " into a message, or the arguments of a spawned process:")]
        /// any other serializer gets an error.
        impl<$($($param),*)?> serde::Serialize for $type<$($($param),*)?> {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.shelf.serialize($crate::object::Role::$role.what, serializer)
            }
        }

        #[doc = concat!("Takes the ", $what, " out of a message, or of the arguments of a spawned process:")]
        /// any other deserializer gets an error.
        impl<'de $(, $($param),*)?> serde::Deserialize<'de> for $type<$($($param),*)?> {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let shelf = $crate::collections::shelf::Shelf::deserialize(
                    &$crate::object::Role::$role,
                    deserializer,
                )?;
                Ok(Self { shelf, of: std::marker::PhantomData })
            }
        }
    };
}
use same_collection;
