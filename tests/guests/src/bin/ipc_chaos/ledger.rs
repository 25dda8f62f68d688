//! The notes of processes about themselves.

use sandpool_guest::{Error, RawArray};

/// Items that a round can number.
pub const ITEMS: usize = 1 << 17;
/// Names of shared memory.
pub const NAMES: u64 = 3;
pub const UNITS: u64 = 3;
pub const PARTIES: usize = 3;

pub const CHANNELS: usize = 6;
/// The channel that is a joinable queue.
pub const JOBS: usize = 2;
pub const LOCKS: usize = 5;

// The ways that an item has gone, a bit each; above, how often it was received.
pub const BEGUN: u8 = 1;
pub const SENT: u8 = 2;
pub const REFUSED: u8 = 4;
pub const RECEIVED: u8 = 16;

/// The operations that a worker may be in the middle of. The number of the channel or lock is added.
pub mod doing {
    pub const SEND: usize = 1;
    pub const RECEIVE: usize = 10;
    pub const LOCK: usize = 30;
    pub const UNIT: usize = 40;
    pub const BARRIER: usize = 50;
    pub const OTHER: usize = 60;
    pub const KINDS: usize = 64;
}

/// The notes of processes about themselves. Each number is changed in one step, so that none is half written.
pub struct Ledger {
    /// of each item, by its number
    pub items: RawArray<u8>,
    /// of each worker: what it is in the middle of, and how many items that is about
    pub doing: RawArray<u64>,
    /// of each worker: operations so far
    pub operations: RawArray<u64>,
    /// of each worker: units that it holds of the semaphore that loses them
    pub units: RawArray<u64>,
    /// what [`common`] names
    pub common: RawArray<u64>,
}

/// Indices of `Ledger::common`.
pub mod common {
    pub const STOP: usize = 0;
    pub const NEXT_ITEM: usize = 1;
    pub const ABANDONED: usize = 2;
    pub const ABORTS: usize = 3;
    /// from here on: turns at the barrier, by what it returned
    pub const TURNS: usize = 4;
    /// from here on: changes made under each lock
    pub const CHANGES: usize = 8;
    pub const COUNT: usize = 16;
}

impl Ledger {
    pub fn new(workers: usize) -> Result<Self, Error> {
        Ok(Self {
            items: RawArray::new(ITEMS)?,
            doing: RawArray::new(workers + 1)?,
            operations: RawArray::new(workers + 1)?,
            units: RawArray::new(workers + 1)?,
            common: RawArray::new(common::COUNT)?,
        })
    }

    pub fn common(&self, index: usize) -> Result<u64, Error> {
        Ok(self.common.atomic(index)?.load())
    }

    pub fn count(&self, index: usize) -> Result<u64, Error> {
        Ok(self.common.atomic(index)?.fetch_add(1))
    }
}
