//! Objects by which processes wait for each other: locks, semaphores, events, conditions, barriers.

/// Implements the traits that all of these objects have in common: they are shown and compared by their handle, and
/// travel inside messages.
macro_rules! same_object {
    ($type:ident, $what:literal) => {
        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($type), "({:#x})"), self.object.handle())
            }
        }

        #[doc = concat!("Whether they are the same ", $what, ".")]
        impl PartialEq for $type {
            fn eq(&self, other: &Self) -> bool {
                self.object.handle() == other.object.handle()
            }
        }

        impl Eq for $type {}
    };
    ($type:ident, $what:literal, $role:ident) => {
        same_object!($type, $what);

        #[doc = concat!("Puts the ", $what, " into an item of a queue, or the arguments of a spawned process:")]
        /// any other serializer gets an error.
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.object.serialize($crate::object::Role::$role.what, serializer)
            }
        }

        #[doc = concat!("Takes the ", $what, " out of an item of a queue, or of the arguments of a spawned process:")]
        /// any other deserializer gets an error.
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let object = $crate::object::Object::deserialize(&$crate::object::Role::$role, deserializer)?;
                Ok(Self { object })
            }
        }
    };
}

pub(crate) mod barrier;
pub(crate) mod condition;
mod error;
pub(crate) mod event;
mod held;
pub(crate) mod lock;
pub(crate) mod semaphore;

pub use barrier::BarrierError;
pub use condition::{ConditionError, ConditionGuard, Guard};
pub use error::{AcquireError, ReleaseError};
pub use lock::{LockGuard, RLockGuard};
pub use semaphore::{Abandoned, SemaphorePermit};
