//! How the code of guests is compiled, and how many addresses a memory of theirs takes.

use nix::sys::resource::{Resource, getrlimit};
use serde::{Deserialize, Serialize};

/// Linear memory grows in place: what is advised for its range, and what is mapped into it, stays.
pub(crate) const MEMORY_RESERVATION: u64 = 4 << 30;

/// Before it, and behind it, nothing can be reached.
pub(crate) const MEMORY_GUARD: u64 = 32 << 20;

/// The address space that a memory takes, however small it is.
const MEMORY_SPACE: u64 = MEMORY_RESERVATION + 2 * MEMORY_GUARD;

/// With fewer addresses than that, a process reserves no more of them than it may use.
const SPACE_ENOUGH: u64 = 4 * MEMORY_SPACE;

/// How a module is compiled. What is compiled in one way isn't compatible with the others; the default is the fastest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Flavor {
    /// It counts fuel.
    pub(crate) counts_fuel: bool,
    /// It checks each access to memory itself, and leaves none of that to addresses which are reserved for it: so that a
    /// memory takes no more of them than it may grow to.
    pub(crate) checks_bounds: bool,
}

impl Flavor {
    /// All of them.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        [(false, false), (true, false), (false, true), (true, true)]
            .into_iter()
            .map(|(counts_fuel, checks_bounds)| Self { counts_fuel, checks_bounds })
    }

    /// The one for this process, whose shell may have left it few addresses.
    pub(crate) fn here(counts_fuel: bool) -> Self {
        let checks_bounds = getrlimit(Resource::RLIMIT_AS).is_ok_and(|(soft, _)| soft < SPACE_ENOUGH);
        Self { counts_fuel, checks_bounds }
    }

    /// The address space that a memory takes which begins with so many bytes and may grow to `max`.
    pub(crate) fn memory_space(self, begin: u64, max: u64) -> u64 {
        match self.checks_bounds {
            // What it begins with comes on top of what it may grow by.
            true => max.min(MEMORY_RESERVATION).saturating_add(begin).saturating_add(2 * MEMORY_GUARD),
            false => MEMORY_SPACE,
        }
    }

    /// The bytes of that, from its beginning on, which it may ever use.
    pub(crate) fn memory_reach(self, max: u64) -> u64 {
        if self.checks_bounds { max.min(MEMORY_RESERVATION) } else { MEMORY_RESERVATION }
    }
}
