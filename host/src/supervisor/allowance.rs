//! The shell's limits for its programs, where they are lower than a run needs: `ulimit -v` and `ulimit -f`.

use std::io;

use nix::libc;
use nix::sys::resource::{Resource, getrlimit};

use crate::sys::mem;
use crate::{Error, Limits};

/// Addresses that a process takes beside those that are already known: stacks, the allocator's heaps.
const SLACK: u64 = 64 << 20;

/// The value of a limit, if there is one.
fn limit(resource: Resource) -> Option<u64> {
    getrlimit(resource).ok().map(|(soft, _)| soft).filter(|soft| *soft != libc::RLIM_INFINITY)
}

/// Why there can be no arena of this size.
pub(super) fn of_arena(error: io::Error, limits: &Limits) -> anyhow::Error {
    let allowed = match error.raw_os_error() {
        Some(libc::EFBIG) => limit(Resource::RLIMIT_FSIZE).map(|max| ("a file may have", max, "-f")),
        Some(libc::ENOMEM) => limit(Resource::RLIMIT_AS).map(|max| ("a process may address", max, "-v")),
        _ => None,
    };
    let Some((what, max, flag)) = allowed else { return error.into() };
    Error::Allowance {
        what: format!(
            "there is no room for an arena of {} bytes and its tables: {what} {max} bytes here",
            limits.arena_size
        ),
        hint: format!("that is the shell's limit: `ulimit {flag} unlimited`, or a smaller --arena-size"),
    }
    .into()
}

/// Refuses a run whose processes can't have this number of bytes of addresses for their memories.
pub(super) fn check_space(memories: u64) -> Result<(), Error> {
    match limit(Resource::RLIMIT_AS) {
        Some(max) if !mem::can_reserve(memories.saturating_add(SLACK)) => Err(Error::Allowance {
            what: format!(
                "there is no room for the memory of a process, which takes {memories} bytes of addresses beside the arena: it \
                 may address {max} bytes here"
            ),
            hint:
                "that is the shell's limit: `ulimit -v unlimited`, or a smaller --memory-max and --arena-size"
                    .to_owned(),
        }),
        _ => Ok(()),
    }
}
