//! The supervisor's place before its guests at the processors.
//!
//! A supervisor beside hundreds of guests that want the processors would be late for those who may end the run. So it goes before
//! its guests while there are many, and from the moment at which the run is to end. While there are few, each of its wake-ups
//! would only interrupt a guest, and the next processor is free soon anyway.
//!
//! Before the guests means two things: a processor soon after it wakes (a short slice, sched(7)), which everybody may have from
//! Linux 6.12 on, and more of the processors (nice(2)), which the kernel allows only the supervisor of a user that may raise limits
//! of resources (`CAP_SYS_RESOURCE`).

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::sys::process::{SHORT_SLICE, USUAL_SLICE, nice, set_nice, set_slice};

/// By how much the supervisor's nice value is below its guests'. No more than it needs: guests decide how busy it is, and it is in
/// the way of every other program as well.
const BEFORE: i32 = 10;

/// The number of guests for each processor from which on there are many. A turn of the usual slice takes three milliseconds.
const MANY: usize = 4;

pub(crate) struct Priority {
    /// The owner's nice value, which the guests have.
    usual: i32,
    /// The most guests that aren't many.
    few: usize,
    is_raised: bool,
}

impl Priority {
    /// The usual priority, which can be raised later. Must be called before the supervisor enters a user namespace, where the
    /// supervisor has no privilege.
    pub(super) fn new() -> Self {
        let usual = nice();
        // The limit is 20 minus the lowest nice value that the process may give itself: see setrlimit(2).
        let least = u64::try_from(20 - (usual - BEFORE)).unwrap_or(0);
        if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NICE) {
            let _ = setrlimit(Resource::RLIMIT_NICE, soft.max(least), hard.max(least));
        }
        // The owner may have a short slice, which its children inherit.
        set_slice(0, USUAL_SLICE);
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self { usual, few: processors.saturating_mul(MANY), is_raised: false }
    }

    /// The nice value that guests are to have.
    pub(super) fn of_guests(&self) -> i32 {
        self.usual
    }

    /// Goes before the guests if there are many.
    pub(super) fn suit(&mut self, guests: usize) {
        match guests > self.few {
            true => self.raise(),
            false => self.set(false),
        }
    }

    /// Goes before the guests, however few they are.
    pub(super) fn raise(&mut self) {
        self.set(true);
    }

    fn set(&mut self, is_raised: bool) {
        if self.is_raised != is_raised {
            self.is_raised = is_raised;
            set_nice(0, if is_raised { self.usual - BEFORE } else { self.usual });
            set_slice(0, if is_raised { SHORT_SLICE } else { USUAL_SLICE });
        }
    }
}
