//! How the table of [objects](super::object) lies in the arena.

use std::io;

use super::arena::Arena;
use super::lock::Lock;
use crate::sys::atomic::{AtomicU64, Ordering};
use crate::sys::mem::shared;
use crate::sys::process::fill_with_random;

/// Bytes of the state of an object.
const BODY: usize = 1408;

shared! {
    /// The free slots.
    pub(crate) struct ObjectTable {
        pub(super) lock: Lock,
        /// number of the first slot that was given back, plus 1
        pub(super) free: AtomicU64,
        /// slots from here on were never used
        pub(super) high_water: AtomicU64,
        /// secret on which the places of names depend; guests can't read it
        pub(super) secret: [AtomicU64; 2],
    }

    /// An object, without the state of its kind. The states lie in a table of their own, because a fork writes to the slot of
    /// each object that the process holds: the fewer pages these slots are in, the fewer pages each process maps.
    pub(crate) struct ObjectSlot {
        /// generation: bits 32 to 61, destroyer: bits 8 to 31, state: bits 0 to 7
        pub(super) state: AtomicU64,
        pub(super) in_transit: AtomicU64,
        pub(super) next_free: AtomicU64,
        /// one of [`ObjectKind`](super::kind::ObjectKind)
        pub(super) kind: AtomicU64,
        /// how often the object was shared: see `is_held` of [`object`](super::object)
        pub(super) shares: AtomicU64,
        /// number of the next object whose name is in the same place, plus 1
        pub(super) next_named: AtomicU64,
        /// the scope to which the object belongs: see [`scope`](super::scope)
        pub(super) scope: AtomicU64,
        /// the use that the maker has recorded; 0 if the maker has recorded none
        pub(super) tag: AtomicU64,
        /// handle of another object that belongs to it; 0 if none does
        pub(super) partner: AtomicU64,
        reserved: [AtomicU64; 7],
    }

    /// Room for the state of an object of any kind.
    #[repr(align(64))]
    pub(super) struct Body {
        pub(super) words: [AtomicU64; BODY / 8],
    }
}

impl ObjectTable {
    pub(crate) fn lock_word(&self) -> &Lock {
        &self.lock
    }

    /// Chooses a secret, for an arena that nobody shares yet.
    pub(super) fn choose_secret(&self) -> io::Result<()> {
        // Models are replayed, so they need the same secret each time.
        if cfg!(test) {
            return Ok(());
        }
        for word in &self.secret {
            let mut bytes = [0; 8];
            fill_with_random(&mut bytes)?;
            word.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
        }
        Ok(())
    }

    /// The number of slots that were ever used.
    pub(crate) fn high_water(&self, arena: &Arena) -> u32 {
        let limit = arena.geometry.objects_max;
        u32::try_from(self.high_water.load(Ordering::Acquire)).unwrap_or(limit).min(limit)
    }
}
