//! The gateway: the process that has the sockets of a run, so that guests need none.
//!
//! ```text
//!  guest ──────────── request, by a queue of the arena ──────▶ gateway ── listen, connect ──▶ kernel
//!    │ ◀───────── answer, connections, messages: pipes ──────────┤ ◀──── bytes of sockets ────┘
//!    │                                                           │
//!  supervisor ◀── a socket that closes when either ends ────────▶┘   the owner starts it, and waits for its end
//! ```
//!
//! There is one for each run to which addresses are granted, and none for others. It is a process of its own, and not a thread of
//! the owner: bytes from anywhere come in there, the descriptors count against a limit, and its end has to be an event like any
//! other. It runs as the owner's user, in the owner's namespaces, and has no other descriptors than the arena and its sockets.
//!
//! # What it believes
//!
//! Nothing that it reads in the arena, and nothing that comes by a socket. Which addresses are granted comes from the owner. A
//! request is a few bytes and an end of a pipe; whatever else is there is thrown away. Of the bytes from outside only lengths mean
//! anything here ([`frames`]): what the messages say is for the guest.
//!
//! # What it costs
//!
//! One thread does everything, in [turns](turns), each of bounded length whatever guests and peers do. Another thread only waits
//! for news from the arena, because a thread can't wait for a futex and for sockets at once. The gateway holds at most a message for
//! each direction of each connection: messages longer than [`SMALL`] share a [budget](BUDGET), so that many peers together can't
//! make it large.
//!
//! # How it ends
//!
//! When the supervisor has ended, the gateway sends what guests have sent before, within [`LINGER`], and exits. If it ends earlier,
//! for whatever reason, the supervisor sweeps up after it as after a guest that was killed: the connections are cut, which is an
//! error for the guests at their other ends, and nothing else happens to them.

mod connection;
pub(crate) mod frames;
pub(crate) mod names;
pub(crate) mod owner;
mod sockets;
mod turns;

use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use serde::{Deserialize, Serialize};

use crate::config::AddressGrant;
use crate::control;
use crate::ipc::arena::{Arena, Geometry};
use crate::ipc::outside;
use crate::sys::fd::{close_from, take_stdin};
use crate::sys::process::{FAILED, exit_now, pidfd_open};

/// Messages of at most this size are nobody's concern.
const SMALL: u64 = 64 << 10;

/// Bytes of longer messages that the gateway holds at once, for each direction; at least one message of any length fits.
const BUDGET: u64 = 64 << 20;

/// How long the gateway tries to send what guests have sent, when the run has ended; and what is left when a connection has.
const LINGER: Duration = Duration::from_secs(2);

/// The settings that the gateway gets at its start.
#[derive(Debug, Serialize, Deserialize)]
struct Settings {
    listen: Vec<AddressGrant>,
    connect: Vec<AddressGrant>,
    connections_max: u32,
    message_max: u64,
    processes_max: u32,
    objects_max: u32,
    heap_pages: u32,
}

/// Runs as the gateway until the run has ended.
pub(crate) fn main() -> ! {
    let code = match run() {
        Ok(()) => 0,
        Err(error) => {
            let _ = writeln!(io::stderr(), "error: the gateway cannot go on: {error:#}");
            FAILED
        }
    };
    exit_now(code);
}

fn run() -> anyhow::Result<()> {
    close_from(3);
    let owner = nix::unistd::getppid();
    let owner_pidfd = pidfd_open(owner.as_raw()).context("cannot watch the owner")?;
    if nix::unistd::getppid() != owner {
        return Ok(());
    }
    // A terminal sends these signals to all of its processes; the owner answers them.
    let signals = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGTSTP];
    SigSet::from_iter(signals).thread_block()?;
    let _ = nix::sys::prctl::set_name(c"sandpool-gatewa");
    nix::sys::prctl::set_no_new_privs()?;
    std::env::set_current_dir("/")?;
    let socket = take_stdin()?;
    let Some((settings, descriptors)) = control::receive_message_with::<Settings>(socket.as_fd())? else {
        return Ok(());
    };
    drop(socket);
    let [memory, supervisor] = <[OwnedFd; 2]>::try_from(descriptors)
        .map_err(|_| anyhow::anyhow!("the arena or the supervisor's socket is missing"))?;
    let Settings { processes_max, objects_max, heap_pages, .. } = settings;
    let arena = Arena::open(memory.as_fd(), Geometry { processes_max, objects_max, heap_pages })
        .context("cannot map the arena")?;
    drop(memory);
    make_room(settings.connections_max);
    let participant = outside::gateway(Arc::new(arena));
    turns::run(participant, settings, &supervisor, &owner_pidfd)
}

/// Allows as many descriptors as there may be connections, if the user may have them.
fn make_room(connections: u32) {
    const OTHERS: u64 = 128;
    let wanted = u64::from(connections) + OTHERS;
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < wanted
    {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard);
    }
}
