//! How the code of guests is compiled, and how many addresses a guest's memory takes.

use nix::sys::resource::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

/// Linear memory grows in place: advice for its range, and mappings in it, stay.
pub(crate) const MEMORY_RESERVATION: u64 = 4 << 30;

/// Addresses before and after a memory that nothing can reach.
pub(crate) const MEMORY_GUARD: u64 = 32 << 20;

/// The address space that a memory takes, however small the memory is.
const MEMORY_SPACE: u64 = MEMORY_RESERVATION + 2 * MEMORY_GUARD;

/// With fewer addresses than this, a process reserves only the addresses that it may use.
const SPACE_ENOUGH: u64 = 4 * MEMORY_SPACE;

/// How a module is compiled. Code of one flavor isn't compatible with the others; the default is the fastest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Flavor {
    /// The code counts fuel.
    pub(crate) counts_fuel: bool,
    /// The code checks each access to memory itself, and doesn't rely on reserved addresses for that, so that a memory takes no
    /// more addresses than it may grow to.
    pub(crate) checks_bounds: bool,
}

impl Flavor {
    /// All flavors.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        [(false, false), (true, false), (false, true), (true, true)]
            .into_iter()
            .map(|(counts_fuel, checks_bounds)| Self { counts_fuel, checks_bounds })
    }

    /// The flavor for this process, whose shell may have left it few addresses.
    pub(crate) fn here(counts_fuel: bool) -> Self {
        let checks_bounds = getrlimit(Resource::RLIMIT_AS).is_ok_and(|(soft, _)| soft < SPACE_ENOUGH);
        Self { counts_fuel, checks_bounds }
    }

    /// The address space of a memory that begins with `begin` bytes and may grow to `max`.
    pub(crate) fn memory_space(self, begin: u64, max: u64) -> u64 {
        match self.checks_bounds {
            // The bytes at the beginning come on top of those that the memory may grow by.
            true => max.min(MEMORY_RESERVATION).saturating_add(begin).saturating_add(2 * MEMORY_GUARD),
            false => MEMORY_SPACE,
        }
    }

    /// The bytes of that address space, from its beginning on, that the memory may ever use.
    pub(crate) fn memory_reach(self, max: u64) -> u64 {
        if self.checks_bounds { max.min(MEMORY_RESERVATION) } else { MEMORY_RESERVATION }
    }
}
