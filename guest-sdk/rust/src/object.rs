//! A counted use of a handle, and the check that a handle from a message names the expected object.
//!
//! The bytes of a message can claim that a handle is that of a queue, a lock or an array, and anybody who can send a message
//! can write such bytes: a lock of an array, taken for another lock, could be released under a guard. So each caller that
//! takes a handle names the expected [`Role`], and [`Object::claim`], through which all callers go, compares the role with
//! the host's own record of the object. When the SDK makes an object, it has the host record the object's role
//! ([`Object::made_as`]), before anybody else can have the object.

use std::sync::Arc;

use sandpool_abi::Errno;
use sandpool_abi::handle::{BARRIER, CONDITION, END, EVENT, LOCK, QUEUE, Record, SEMAPHORE, SHARED, SHELF};
use sandpool_abi::queue::{CLAIMED, JOINABLE};
use sandpool_abi::shared::READ_ONLY;
use sandpool_abi::sync::{BOUNDED, RECURSIVE};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use crate::{handles, raw};

pub(crate) use crate::raw::handle::Object;

/// The SDK's use of an object, where the object's kind doesn't tell the use. The numbers are in the host's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Use {
    /// The use that the object's kind tells.
    Itself = 0,
    /// The elements of an `Array`. Its partner is the lock.
    Array = 1,
    /// The lock of an `Array`, which no other object may have.
    ArrayLock = 2,
    RawArray = 3,
    /// The bytes of a `Value`. Its partner is the lock, which other objects may have as well.
    Value = 4,
    RawValue = 5,
    SimpleQueue = 6,
    /// Tasks or results of a pool: functions to call, as numbers.
    Pool = 7,
    /// Results that a pool's worker leaves behind.
    Saved = 8,
    /// A condition. Its partner is the lock.
    Condition = 9,
    /// The end of a manager's door that all but the manager have.
    Manager = 10,
    /// An end that stands for an object in a manager. Its partner is the manager's door.
    Managed = 11,
    /// A dictionary. Its partner is the lock.
    Dict = 12,
    List = 13,
    Set = 14,
    Namespace = 15,
    /// The lock of one of these, which no other object may have.
    ShelfLock = 16,
}

impl Use {
    /// The recorded tag: the use and, for an object with elements, the size of an element.
    fn tag(self, element: usize) -> u32 {
        // Larger elements have the same tag as the maximum. Only a better error depends on the tag.
        let element = u32::try_from(element).unwrap_or(u32::MAX).min(u32::MAX >> 8);
        element << 8 | self as u32
    }
}

/// The object that a handle from a message must name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Role {
    /// The name of the object in errors, such as `queue`.
    pub(crate) what: &'static str,
    /// The kind, with the flags that matter.
    kind: u32,
    /// Flags of the kind that the object may have as well.
    optional: u32,
    uses: &'static [Use],
    /// The size of an element, for an object with elements.
    element: usize,
}

impl Role {
    const fn new(what: &'static str, kind: u32, flags: u32) -> Self {
        let kind = Record::kind_of(kind, flags);
        Self { what, kind, optional: 0, uses: &[Use::Itself], element: 0 }
    }

    /// Accepts an object that was made with these flags, too.
    const fn or_with(self, flags: u32) -> Self {
        Self { optional: Record::kind_of(0, flags), ..self }
    }

    const fn used(self, uses: &'static [Use]) -> Self {
        Self { uses, ..self }
    }

    /// The same with elements of this size.
    pub(crate) const fn of(self, element: usize) -> Self {
        Self { element, ..self }
    }

    /// Also accepts a joinable queue: a `JoinableQueue` is a `Queue` by `Deref`.
    pub(crate) const QUEUE: Self = Self::new("queue", QUEUE, 0).or_with(JOINABLE);
    pub(crate) const JOINABLE_QUEUE: Self = Self::new("joinable queue", QUEUE, JOINABLE);
    pub(crate) const SIMPLE_QUEUE: Self = Self::new("simple queue", QUEUE, 0).used(&[Use::SimpleQueue]);
    pub(crate) const POOL_QUEUE: Self =
        Self::new("pool's queue", QUEUE, 0).or_with(CLAIMED).used(&[Use::Pool]);
    pub(crate) const CONNECTION: Self = Self::new("connection", END, 0);
    pub(crate) const MANAGER: Self = Self::new("manager", END, 0).used(&[Use::Manager]);
    pub(crate) const MANAGED: Self = Self::new("managed object", END, 0).used(&[Use::Managed]);
    pub(crate) const LOCK: Self = Self::new("lock", LOCK, 0);
    pub(crate) const RLOCK: Self = Self::new("recursive lock", LOCK, RECURSIVE);
    /// The lock of a condition is recursive or not.
    pub(crate) const ANY_LOCK: Self = Self::new("condition", LOCK, 0).or_with(RECURSIVE);
    pub(crate) const ARRAY_LOCK: Self = Self::new("array", LOCK, RECURSIVE).used(&[Use::ArrayLock]);
    /// Also accepts a bounded semaphore, as with queues.
    pub(crate) const SEMAPHORE: Self = Self::new("semaphore", SEMAPHORE, 0).or_with(BOUNDED);
    pub(crate) const BOUNDED_SEMAPHORE: Self = Self::new("bounded semaphore", SEMAPHORE, BOUNDED);
    pub(crate) const EVENT: Self = Self::new("event", EVENT, 0);
    pub(crate) const CONDITION: Self = Self::new("condition", CONDITION, 0).used(&[Use::Condition]);
    pub(crate) const DICT: Self = Self::new("dictionary", SHELF, 0).used(&[Use::Dict]);
    pub(crate) const LIST: Self = Self::new("list", SHELF, 0).used(&[Use::List]);
    pub(crate) const SET: Self = Self::new("set", SHELF, 0).used(&[Use::Set]);
    pub(crate) const NAMESPACE: Self = Self::new("namespace", SHELF, 0).used(&[Use::Namespace]);
    pub(crate) const SHELF_LOCK: Self = Self::new("collection", LOCK, 0).used(&[Use::ShelfLock]);
    pub(crate) const BARRIER: Self = Self::new("barrier", BARRIER, 0);
    /// Also accepts a view.
    pub(crate) const MEMORY: Self = Self::new("block of shared memory", SHARED, 0).or_with(READ_ONLY);
    pub(crate) const ARRAY: Self = Self::new("array", SHARED, 0).used(&[Use::Array]);
    pub(crate) const RAW_ARRAY: Self = Self::new("raw array", SHARED, 0).used(&[Use::RawArray]);
    pub(crate) const VALUE: Self = Self::new("value", SHARED, 0).used(&[Use::Value]);
    /// Also accepts the raw value of a `Value`, by `get_obj`.
    pub(crate) const RAW_VALUE: Self = Self::new("raw value", SHARED, 0).used(&[Use::RawValue, Use::Value]);
    pub(crate) const SAVED: Self = Self::new("pool's memory", SHARED, 0).used(&[Use::Saved]);

    /// Whether an object has this role, according to the host's record.
    pub(crate) fn is_met(&self, record: &Record) -> bool {
        record.kind & !self.optional == self.kind
            && self.uses.iter().any(|r#use| r#use.tag(self.element) == record.tag)
    }
}

/// An object that was taken from a message.
pub(crate) struct Claimed {
    pub(crate) object: Arc<Object>,
    /// The handle of the object that belongs to this one; for a view, the memory's. Or 0.
    pub(crate) partner: u64,
}

impl Object {
    /// Has the host record the role of an object that was made just now.
    pub(crate) fn made_as(self: &Arc<Self>, r#use: Use, element: usize, partner: u64) -> Result<(), Errno> {
        raw::handle::record(self.handle(), r#use.tag(element), partner)
    }

    /// Encodes the object, inside a message only. `what` names the object in the error, such as `queue`.
    pub(crate) fn serialize<S: Serializer>(&self, what: &str, serializer: S) -> Result<S::Ok, S::Error> {
        self.offer::<S::Error>(what)?.serialize(serializer)
    }

    /// Decodes an object that `serialize` has encoded.
    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        role: &Role,
        deserializer: D,
    ) -> Result<Arc<Self>, D::Error> {
        Ok(Self::claim(u32::deserialize(deserializer)?, role)?.object)
    }

    /// Adds the object to the message that is being encoded, and returns the index that stands for it there.
    pub(crate) fn offer<E: ser::Error>(&self, what: &str) -> Result<u32, E> {
        handles::offer(self.handle()).map_err(|reason| {
            E::custom(format_args!("{} {what} can't be encoded here: {reason}", article(what)))
        })
    }

    /// Returns the handle that `offer` has added to the message that is being decoded, if its object has the expected role.
    /// There is no other way to a handle that came with a message.
    pub(crate) fn claim<E: de::Error>(index: u32, role: &Role) -> Result<Claimed, E> {
        let claimed = handles::claim(index, |record| role.is_met(record)).map_err(|reason| {
            let what = role.what;
            E::custom(format_args!("{} {what} can't be decoded here: {reason}", article(what)))
        })?;
        Ok(Claimed { object: Self::adopt(claimed.handle), partner: claimed.partner })
    }
}

/// Takes separate uses of these handles, so that they outlive the value that was encoded.
pub(crate) fn keep(handles: Vec<u64>) -> Result<Vec<Arc<Object>>, Errno> {
    handles.into_iter().map(|handle| raw::handle::retain(handle).map(|()| Object::adopt(handle))).collect()
}

/// The error for two objects of a message that don't belong together.
pub(crate) fn mismatched<E: de::Error>(what: &str) -> E {
    E::custom(format_args!("the message has parts of more than one {what}"))
}

fn article(what: &str) -> &'static str {
    if what.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares any two roles: an object of one role isn't taken for one of the other, except where that is intended.
    #[test]
    fn no_object_is_taken_for_another() {
        let made = [
            (QUEUE, 0, Use::Itself, vec!["queue"]),
            (QUEUE, JOINABLE, Use::Itself, vec!["queue", "joinable queue"]),
            (QUEUE, CLAIMED, Use::Itself, vec![]),
            (QUEUE, 0, Use::SimpleQueue, vec!["simple queue"]),
            (QUEUE, CLAIMED, Use::Pool, vec!["pool's queue"]),
            (QUEUE, 0, Use::Pool, vec!["pool's queue"]),
            (END, 0, Use::Itself, vec!["connection"]),
            (END, 0, Use::Manager, vec!["manager"]),
            (END, 0, Use::Managed, vec!["managed object"]),
            (LOCK, 0, Use::Itself, vec!["lock", "lock of a condition"]),
            (LOCK, RECURSIVE, Use::Itself, vec!["recursive lock", "lock of a condition"]),
            (LOCK, RECURSIVE, Use::ArrayLock, vec!["lock of an array"]),
            (SEMAPHORE, 0, Use::Itself, vec!["semaphore"]),
            (SEMAPHORE, BOUNDED, Use::Itself, vec!["semaphore", "bounded semaphore"]),
            (LOCK, 0, Use::ShelfLock, vec!["lock of a collection"]),
            (SHELF, 0, Use::Itself, vec![]),
            (SHELF, 0, Use::Dict, vec!["dictionary"]),
            (SHELF, 0, Use::List, vec!["list"]),
            (SHELF, 0, Use::Set, vec!["set"]),
            (SHELF, 0, Use::Namespace, vec!["namespace"]),
            (EVENT, 0, Use::Itself, vec!["event"]),
            (CONDITION, 0, Use::Itself, vec![]),
            (CONDITION, 0, Use::Condition, vec!["condition"]),
            (BARRIER, 0, Use::Itself, vec!["barrier"]),
            (SHARED, 0, Use::Itself, vec!["memory"]),
            (SHARED, READ_ONLY, Use::Itself, vec!["memory"]),
            (SHARED, 0, Use::Array, vec!["array"]),
            (SHARED, 0, Use::RawArray, vec!["raw array"]),
            (SHARED, READ_ONLY, Use::RawArray, vec![]),
            (SHARED, 0, Use::Value, vec!["value", "raw value"]),
            (SHARED, 0, Use::RawValue, vec!["raw value"]),
            (SHARED, 0, Use::Saved, vec!["saved"]),
        ];
        let roles = [
            ("queue", Role::QUEUE),
            ("joinable queue", Role::JOINABLE_QUEUE),
            ("simple queue", Role::SIMPLE_QUEUE),
            ("pool's queue", Role::POOL_QUEUE),
            ("connection", Role::CONNECTION),
            ("manager", Role::MANAGER),
            ("managed object", Role::MANAGED),
            ("lock", Role::LOCK),
            ("recursive lock", Role::RLOCK),
            ("lock of a condition", Role::ANY_LOCK),
            ("lock of an array", Role::ARRAY_LOCK),
            ("lock of a collection", Role::SHELF_LOCK),
            ("dictionary", Role::DICT),
            ("list", Role::LIST),
            ("set", Role::SET),
            ("namespace", Role::NAMESPACE),
            ("semaphore", Role::SEMAPHORE),
            ("bounded semaphore", Role::BOUNDED_SEMAPHORE),
            ("event", Role::EVENT),
            ("condition", Role::CONDITION),
            ("barrier", Role::BARRIER),
            ("memory", Role::MEMORY),
            ("array", Role::ARRAY),
            ("raw array", Role::RAW_ARRAY),
            ("value", Role::VALUE),
            ("raw value", Role::RAW_VALUE),
            ("saved", Role::SAVED),
        ];
        for (kind, flags, r#use, expected) in made {
            for element in [0, 8] {
                let tag = r#use.tag(element);
                let record = Record { handle: 1, kind: Record::kind_of(kind, flags), tag, partner: 0 };
                let met: Vec<_> = roles
                    .iter()
                    .filter(|(_, role)| role.of(element).is_met(&record))
                    .map(|(what, _)| *what)
                    .collect();
                assert_eq!(met, expected, "{kind} {flags} {use:?}");
                assert!(!roles.iter().any(|(_, role)| role.of(4).is_met(&record)), "of another size");
            }
        }
    }
}
