//! The shell's limits for its programs, where they are lower than a run needs: `ulimit -v` and `ulimit -f`.

use std::io;

use nix::libc;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

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

/// Gives this process, and so its guests, a stack of `wanted` bytes, of which the guests may have `stack` bytes.
pub(super) fn make_stack(stack: u64, wanted: u64) -> anyhow::Result<()> {
    let too_large = |why: String, hint: &str| Error::Allowance {
        what: format!("there is no room for a stack of {stack} bytes: {why}"),
        hint: hint.to_owned(),
    };
    let (soft, hard) = getrlimit(Resource::RLIMIT_STACK)?;
    if hard < wanted {
        let why = format!("a process may have {hard} bytes here, of which the host needs {}", wanted - stack);
        let hint =
            "that is the shell's hard limit: `ulimit -H -s unlimited` as root, or a smaller --stack-max";
        return Err(too_large(why, hint).into());
    }
    if !mem::has_room_for_stack(wanted) {
        let why = "a process does not have as many addresses".to_owned();
        return Err(too_large(why, "give a smaller --stack-max").into());
    }
    if soft < wanted {
        setrlimit(Resource::RLIMIT_STACK, wanted, hard)?;
    }
    Ok(())
}

/// Refuses a run whose processes can't have this number of bytes of addresses for their memories, and for a stack.
pub(super) fn check_space(memories: u64, stack: u64) -> Result<(), Error> {
    // Smaller stacks are part of the slack.
    let stack = stack.saturating_sub(SLACK);
    let stack_told = if stack > 0 { " and the stack" } else { "" };
    match limit(Resource::RLIMIT_AS) {
        Some(max) if !mem::can_reserve(memories.saturating_add(stack).saturating_add(SLACK)) => Err(Error::Allowance {
            what: format!(
                "there is no room for the memory of a process{stack_told}, which takes {} bytes of addresses beside the arena: it \
                 may address {max} bytes here",
                memories.saturating_add(stack)
            ),
            hint:
                "that is the shell's limit: `ulimit -v unlimited`, or a smaller --memory-max and --arena-size"
                    .to_owned(),
        }),
        _ => Ok(()),
    }
}
