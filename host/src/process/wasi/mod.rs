//! WASI preview 1 for a guest process: its grants, and the differences from wasmtime-wasi's defaults that a process
//! that forks needs.
//!
//! * **random**: getrandom(2) at each call. A generator with a seed would give forked siblings the same bytes.
//! * **clocks**: the monotonic clock is the kernel's own, which forked and spawned processes share.
//! * **poll_oneoff** is ours: the library's needs the timers of a runtime with threads.
//! * **proc_exit** takes any code, as exit(3) does; the library's refuses codes from 126 on.
//! * **arguments and variables** are those of the process: a command of a pool has its own.
//! * **stdio**: see [`stdio`](super::stdio).
//! * **files** have limits: see [`files`].
//! * **preview 0**: see [`unstable`].
//! * **pointers** into shared memory are refused: see [`pointers`], which has each function.

pub(in crate::process) mod files;
mod pointers;
mod unstable;

use std::convert::Infallible;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use wasmtime::{Caller, Linker};
use wasmtime_wasi::p1::{WasiP1Ctx, wasi_snapshot_preview1 as preview1};
use wasmtime_wasi::{FsPerms, HostMonotonicClock, WasiCtxBuilder};
use wiggle::{GuestError, GuestMemory, GuestPtr};

use super::Guest;
use super::stdio::{Input, Output, Stdio};
use crate::config::RunConfig;
use crate::engine::known;
use crate::sys::futex::monotonic;
use crate::sys::process::{FAILED, exit_now, fill_with_random};

const MODULE: &str = "wasi_snapshot_preview1";

/// The import module of preview 0.
pub(crate) const UNSTABLE: &str = known::WASI_UNSTABLE;

/// The context of a process with these grants.
pub(crate) fn context(config: &RunConfig, stdio: &std::sync::Arc<Stdio>) -> wasmtime::Result<WasiP1Ctx> {
    let mut builder = WasiCtxBuilder::new();
    builder
        .allow_blocking_current_thread(true)
        .stdin(Input(stdio.clone()))
        .stdout(Output::stdout(stdio))
        .stderr(Output::stderr(stdio))
        .secure_random(KernelRandom)
        .insecure_random(KernelRandom)
        .monotonic_clock(KernelClock);
    for dir in &config.sandbox.dirs {
        let perms = if dir.read_only { FsPerms::ReadOnly } else { FsPerms::ReadWrite };
        builder.preopened_dir(&dir.host, &dir.guest, perms)?;
    }
    Ok(builder.build_p1())
}

/// Random bytes from the kernel, at each call.
struct KernelRandom;

impl rand_core::TryRng for KernelRandom {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        if fill_with_random(bytes).is_err() {
            // No bytes are better than bytes that aren't random.
            exit_now(FAILED);
        }
        Ok(())
    }
}

/// The kernel's monotonic clock.
struct KernelClock;

impl HostMonotonicClock for KernelClock {
    fn resolution(&self) -> u64 {
        1
    }

    fn now(&self) -> u64 {
        u64::try_from(monotonic().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// Adds WASI's functions to a linker.
pub(crate) fn add_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    pointers::add_to_linker(linker)?;
    linker.func_wrap(MODULE, "proc_exit", proc_exit)?;
    Ok(())
}

/// Adds the functions of preview 0.
pub(crate) fn add_unstable_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    pointers::add_unstable_to_linker(linker)?;
    linker.func_wrap(UNSTABLE, "proc_exit", proc_exit)?;
    Ok(())
}

const ERRNO_SUCCESS: i32 = 0;
const ERRNO_BADF: i32 = 8;
const ERRNO_FAULT: i32 = 21;
const ERRNO_INVAL: i32 = 28;
const ERRNO_NOTSUP: i32 = 58;

const SUBSCRIPTION: usize = 48;
const EVENT: usize = 32;
/// Bytes of what there is to say of a descriptor.
const FDSTAT: usize = 24;
/// More subscriptions than any program has descriptors and clocks.
const SUBSCRIPTIONS_MAX: usize = 4096;

fn proc_exit(caller: Caller<'_, Guest>, code: i32) {
    super::exit::exit(caller.data(), code)
}

fn args_get(guest: &mut Guest, memory: &mut GuestMemory<'_>, at: i32, text: i32) -> i32 {
    put_strings(&guest.process.strings.args, memory, at, text)
}

fn args_sizes_get(guest: &mut Guest, memory: &mut GuestMemory<'_>, count: i32, size: i32) -> i32 {
    put_sizes(&guest.process.strings.args, memory, count, size)
}

fn environ_get(guest: &mut Guest, memory: &mut GuestMemory<'_>, at: i32, text: i32) -> i32 {
    put_strings(&guest.process.strings.env, memory, at, text)
}

fn environ_sizes_get(guest: &mut Guest, memory: &mut GuestMemory<'_>, count: i32, size: i32) -> i32 {
    put_sizes(&guest.process.strings.env, memory, count, size)
}

/// The number of strings, and of the bytes of all.
fn sizes(strings: &[Vec<u8>]) -> (u32, u32) {
    let len = strings.iter().fold(0_usize, |sum, string| sum.saturating_add(string.len()));
    (u32::try_from(strings.len()).unwrap_or(u32::MAX), u32::try_from(len).unwrap_or(u32::MAX))
}

/// Writes the strings one behind the other to `text`, and the address of each to `at`.
fn put_strings(strings: &[Vec<u8>], memory: &mut GuestMemory<'_>, at: i32, text: i32) -> i32 {
    let (mut at, mut text) = (at as u32, text as u32);
    for string in strings {
        if put(memory, at, &text.to_le_bytes()).and_then(|()| put(memory, text, string)).is_err() {
            return ERRNO_FAULT;
        }
        at = at.wrapping_add(4);
        text = text.wrapping_add(string.len() as u32);
    }
    ERRNO_SUCCESS
}

fn put_sizes(strings: &[Vec<u8>], memory: &mut GuestMemory<'_>, count: i32, size: i32) -> i32 {
    let (strings, len) = sizes(strings);
    let done = put(memory, count as u32, &strings.to_le_bytes())
        .and_then(|()| put(memory, size as u32, &len.to_le_bytes()));
    if done.is_ok() { ERRNO_SUCCESS } else { ERRNO_FAULT }
}

fn put(memory: &mut GuestMemory<'_>, at: u32, bytes: &[u8]) -> Result<(), GuestError> {
    memory.copy_from_slice(bytes, GuestPtr::<[u8]>::new((at, bytes.len() as u32)))
}

/// The thing that one subscription waits for.
enum Wait {
    Until(Duration),
    Stdin,
    Ready,
    Error(i32),
}

struct Subscription {
    userdata: [u8; 8],
    kind: u8,
    wait: Wait,
}

impl Subscription {
    fn parse(
        bytes: &[u8; SUBSCRIPTION],
        now: Duration,
        may_wait_for_stdin: bool,
        mut is_open: impl FnMut(i32) -> bool,
    ) -> Self {
        let [userdata @ .., _, _, _, _, _, _, _, _] = bytes.first_chunk::<16>().copied().unwrap_or_default();
        let word = |at: usize| -> u64 {
            bytes
                .get(at..)
                .and_then(|rest| rest.first_chunk::<8>())
                .map_or(0, |word| u64::from_le_bytes(*word))
        };
        let kind = word(8) as u8;
        let wait = match kind {
            0 => {
                let clock = word(16) as u32;
                let timeout = Duration::from_nanos(word(24));
                let is_absolute = word(40) & 1 != 0;
                match (clock, is_absolute) {
                    (0 | 1, false) => Wait::Until(now.saturating_add(timeout)),
                    (1, true) => Wait::Until(timeout),
                    (0, true) => {
                        let wall = std::time::SystemTime::now();
                        let wall = wall.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                        Wait::Until(now.saturating_add(timeout.saturating_sub(wall)))
                    }
                    _ => Wait::Error(ERRNO_NOTSUP),
                }
            }
            1 | 2 if !is_open(word(16) as i32) => Wait::Error(ERRNO_BADF),
            1 if word(16) as u32 == 0 && may_wait_for_stdin => Wait::Stdin,
            1 | 2 => Wait::Ready,
            _ => Wait::Error(ERRNO_INVAL),
        };
        Self { userdata, kind, wait }
    }

    fn event(&self, error: i32) -> [u8; EVENT] {
        let mut event = [0; EVENT];
        let [userdata @ .., _, _, _, _, _, _, _, _] = &mut event;
        userdata.iter_mut().zip(self.userdata).for_each(|(to, from)| *to = from);
        let fields = [error as u8, (error >> 8) as u8, self.kind];
        event.iter_mut().skip(8).zip(fields).for_each(|(to, from)| *to = from);
        if self.kind != 0 {
            // At least one byte can be read or written without waiting.
            event.iter_mut().skip(16).take(1).for_each(|byte| *byte = 1);
        }
        event
    }
}

/// Whether a descriptor is open. The library tells by what it says of the descriptor, which goes to memory of the host's.
fn is_open(guest: &mut Guest, fd: i32) -> bool {
    let mut stat = [0; FDSTAT];
    let mut memory = GuestMemory::Unshared(&mut stat);
    let answer = preview1::fd_fdstat_get(&mut guest.wasi, &mut memory, fd, 0);
    !matches!(tokio::runtime::Handle::current().block_on(answer), Ok(ERRNO_BADF))
}

/// Waits until one of several clocks has reached its time or a descriptor is ready. Every descriptor but stdin is
/// always ready; one that isn't open has its error at once.
fn poll_oneoff(
    guest: &mut Guest,
    memory: &mut GuestMemory<'_>,
    subscriptions: i32,
    events: i32,
    count: i32,
    written: i32,
) -> i32 {
    poll_subscriptions(guest, memory, subscriptions, events, count, written, |bytes: &[u8; SUBSCRIPTION]| {
        *bytes
    })
}

/// The same, with subscriptions of another layout, which `translate` makes those of preview 1.
fn poll_subscriptions<const SIZE: usize>(
    guest: &mut Guest,
    memory: &mut GuestMemory<'_>,
    subscriptions: i32,
    events: i32,
    count: i32,
    written: i32,
    translate: impl Fn(&[u8; SIZE]) -> [u8; SUBSCRIPTION],
) -> i32 {
    let count = count as u32 as usize;
    if count == 0 || count > SUBSCRIPTIONS_MAX {
        return ERRNO_INVAL;
    }
    guest.process.stdio.flush();
    let bytes = GuestPtr::<[u8]>::new((subscriptions as u32, (count * SIZE) as u32));
    let Ok(Some(bytes)) = memory.as_slice(bytes) else { return ERRNO_FAULT };
    let now = monotonic();
    // Bytes that were read ahead can be had at once.
    let may_wait_for_stdin = guest.process.stdio.has_stdin() && !guest.process.stdio.has_read_ahead();
    let subscriptions: Vec<_> = bytes
        .as_chunks::<SIZE>()
        .0
        .iter()
        .map(|bytes| Subscription::parse(&translate(bytes), now, may_wait_for_stdin, |fd| is_open(guest, fd)))
        .collect();

    let mut deadline = None;
    let mut waits_for_stdin = false;
    for subscription in &subscriptions {
        match subscription.wait {
            Wait::Until(at) => deadline = Some(deadline.map_or(at, |other: Duration| other.min(at))),
            Wait::Stdin => waits_for_stdin = true,
            Wait::Ready | Wait::Error(_) => deadline = Some(now),
        }
    }
    let stdin_ready = sleep(deadline, waits_for_stdin);

    let now = monotonic();
    let mut ready = Vec::new();
    for subscription in &subscriptions {
        match subscription.wait {
            Wait::Until(at) if at <= now => ready.push(subscription.event(ERRNO_SUCCESS)),
            Wait::Stdin if stdin_ready => ready.push(subscription.event(ERRNO_SUCCESS)),
            Wait::Ready => ready.push(subscription.event(ERRNO_SUCCESS)),
            Wait::Error(error) => ready.push(subscription.event(error)),
            _ => {}
        }
    }
    let out = ready.as_flattened();
    let count = (ready.len() as u32).to_le_bytes();
    match put(memory, events as u32, out).and_then(|()| put(memory, written as u32, &count)) {
        Ok(()) => ERRNO_SUCCESS,
        Err(_) => ERRNO_FAULT,
    }
}

/// Sleeps until the deadline or until stdin can be read. Returns whether stdin can be read.
pub(in crate::process) fn sleep(deadline: Option<Duration>, waits_for_stdin: bool) -> bool {
    loop {
        let left = deadline.map(|deadline| deadline.saturating_sub(monotonic()));
        if !waits_for_stdin {
            match left {
                Some(Duration::ZERO) | None => return false,
                Some(left) => std::thread::sleep(left),
            }
            continue;
        }
        // The timeout is rounded up; otherwise a busy loop would spend the last part of a millisecond.
        let timeout = left.map_or(PollTimeout::NONE, |left| {
            PollTimeout::try_from(left.as_nanos().div_ceil(1_000_000).min(3_600_000) as i32)
                .unwrap_or(PollTimeout::MAX)
        });
        let stdin = std::io::stdin();
        let mut fds = [PollFd::new(std::os::fd::AsFd::as_fd(&stdin), PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(0) if left.is_some_and(|left| left.is_zero()) => return false,
            Ok(0) | Err(nix::Error::EINTR) => {}
            _ => return true,
        }
    }
}
