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
//! * **descriptors** may be ends of pipes, and copies, which the library doesn't have: see [`descriptors`].
//! * **preview 0**: see [`unstable`].
//! * **pointers** into shared memory are refused: see [`pointers`], which has each function.

pub(crate) mod descriptors;
pub(in crate::process) mod files;
mod pointers;
mod unstable;

use std::convert::Infallible;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sandpool_abi::Errno;
use sandpool_abi::pipe::READABLE;
use wasmtime::{Caller, Linker};
use wasmtime_wasi::p1::{WasiP1Ctx, wasi_snapshot_preview1 as preview1};
use wasmtime_wasi::{FsPerms, HostMonotonicClock, WasiCtxBuilder};
use wiggle::{GuestError, GuestMemory, GuestPtr};

use self::descriptors::Polled;
use super::Guest;
use super::memory::lend;
use super::stdio::{Input, Output, Stdio};
use crate::config::RunConfig;
use crate::engine::known;
use crate::ipc::byte_pipe::{self, ByteEndState};
use crate::ipc::event;
use crate::ipc::object::{self, Handle, Object};
use crate::ipc::waiting::Waiting;
use crate::sys::futex::{Deadline, monotonic};
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
        let perms = if dir.is_read_only { FsPerms::ReadOnly } else { FsPerms::ReadWrite };
        builder.preopened_dir(&dir.host, &dir.guest, perms)?;
    }
    Ok(builder.build_p1())
}

/// Has the library make its table of descriptors. Otherwise each process that is forked from this one would make the table by its
/// first call.
pub(crate) fn make_descriptors(wasi: &mut WasiP1Ctx) {
    let none = &mut GuestMemory::Unshared(&mut []);
    // The answer has no place, and doesn't matter.
    let _ = preview1::fd_prestat_get(wasi, none, 0, 0);
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
    linker.func_wrap(MODULE, "poll_oneoff", poll_oneoff)?;
    linker.func_wrap(MODULE, "proc_exit", proc_exit)?;
    Ok(())
}

/// Adds the functions of preview 0.
pub(crate) fn add_unstable_to_linker(linker: &mut Linker<Guest>) -> wasmtime::Result<()> {
    pointers::add_unstable_to_linker(linker)?;
    linker.func_wrap(UNSTABLE, "poll_oneoff", unstable::poll_oneoff)?;
    linker.func_wrap(UNSTABLE, "proc_exit", proc_exit)?;
    Ok(())
}

const ERRNO_SUCCESS: i32 = 0;
const ERRNO_BADF: i32 = 8;
const ERRNO_FAULT: i32 = 21;
const ERRNO_INVAL: i32 = 28;
const ERRNO_MFILE: i32 = 33;
const ERRNO_NOTDIR: i32 = 54;
const ERRNO_NOTSOCK: i32 = 57;
const ERRNO_NOTSUP: i32 = 58;
const ERRNO_SPIPE: i32 = 70;

const SUBSCRIPTION: usize = 48;
const EVENT: usize = 32;
/// Bytes of what there is to say of a descriptor.
const FDSTAT: usize = 24;
/// More subscriptions than any program has descriptors and clocks.
const SUBSCRIPTIONS_MAX: usize = 4096;
/// How often a process looks at stdin while it also waits for pipes: no call of the kernel waits for both.
const STDIN_LOOKS: Duration = Duration::from_millis(10);

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
    Pipe(Handle),
    /// Nothing that ever happens, such as bytes to read where bytes are written.
    Never,
    Ready,
    Error(i32),
}

struct Subscription {
    userdata: [u8; 8],
    kind: u8,
    wait: Wait,
}

/// Kind of a subscription: a descriptor can be read.
const FD_READ: u8 = 1;
/// Kind of a subscription: a descriptor can be written.
const FD_WRITE: u8 = 2;

impl Subscription {
    fn parse(
        bytes: &[u8; SUBSCRIPTION],
        now: Duration,
        may_wait_for_stdin: bool,
        mut polled: impl FnMut(i32) -> Polled,
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
            FD_READ | FD_WRITE => match polled(word(16) as i32) {
                Polled::Closed => Wait::Error(ERRNO_BADF),
                Polled::Library(0) if kind == FD_READ && may_wait_for_stdin => Wait::Stdin,
                Polled::Library(_) => Wait::Ready,
                Polled::Pipe(handle, reads) if reads == (kind == FD_READ) => Wait::Pipe(handle),
                Polled::Pipe(..) => Wait::Never,
            },
            _ => Wait::Error(ERRNO_INVAL),
        };
        Self { userdata, kind, wait }
    }

    fn event(&self, error: i32) -> [u8; EVENT] {
        // At least one byte can be read or written without waiting.
        self.event_of(error, u64::from(self.kind != 0), false)
    }

    /// The event of a descriptor, with the number of bytes that can be read or written.
    fn event_of(&self, error: i32, bytes: u64, is_hung_up: bool) -> [u8; EVENT] {
        let mut event = [0; EVENT];
        let fields = [
            (0, &self.userdata[..]),
            (8, &[error as u8, (error >> 8) as u8, self.kind]),
            (16, &bytes.to_le_bytes()),
            (24, &[u8::from(is_hung_up)]),
        ];
        for (at, bytes) in fields {
            event.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
        }
        event
    }
}

/// Whether a descriptor of the library is open. The library tells by what it says of the descriptor, which goes to memory of
/// the host's.
fn is_open(guest: &mut Guest, fd: i32) -> bool {
    let mut stat = [0; FDSTAT];
    let mut memory = GuestMemory::Unshared(&mut stat);
    let answer = preview1::fd_fdstat_get(&mut guest.wasi, &mut memory, fd, 0);
    !matches!(at_once(answer), Some(Ok(ERRNO_BADF)))
}

/// The result of a function of the library that never waits, as no function does here. Other than `block_on`, this can be
/// called while another such function is called.
fn at_once<T>(answer: impl Future<Output = T>) -> Option<T> {
    match std::pin::pin!(answer).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => Some(result),
        Poll::Pending => None,
    }
}

/// Waits until one of several clocks has reached its time or a descriptor is ready. Every descriptor but stdin and ends
/// of pipes is always ready; one that isn't open has its error at once.
fn poll_oneoff(caller: Caller<'_, Guest>, subscriptions: i32, events: i32, count: i32, written: i32) -> i32 {
    poll_subscriptions(caller, subscriptions, events, count, written, |bytes: &[u8; SUBSCRIPTION]| *bytes)
}

/// The same, with subscriptions of another layout, which `translate` makes those of preview 1.
fn poll_subscriptions<const SIZE: usize>(
    mut caller: Caller<'_, Guest>,
    subscriptions: i32,
    events: i32,
    count: i32,
    written: i32,
    translate: impl Fn(&[u8; SIZE]) -> [u8; SUBSCRIPTION],
) -> i32 {
    let all = count as u32 as usize;
    if all == 0 || all > SUBSCRIPTIONS_MAX {
        return ERRNO_INVAL;
    }
    let ranges = [(subscriptions, all * SIZE), (events, all * EVENT), (written, 4)];
    loop {
        let Ok((mut memory, guest)) = lend(&mut caller, &ranges, None) else { return ERRNO_FAULT };
        guest.process.stdio.flush();
        let bytes = GuestPtr::<[u8]>::new((subscriptions as u32, (all * SIZE) as u32));
        let Ok(Some(bytes)) = memory.as_slice(bytes) else { return ERRNO_FAULT };
        let now = monotonic();
        // Bytes that were read ahead can be had at once.
        let may_wait_for_stdin = guest.process.stdio.has_stdin() && !guest.process.stdio.has_read_ahead();
        let parse = |bytes: &[u8; SIZE]| {
            Subscription::parse(&translate(bytes), now, may_wait_for_stdin, |fd| {
                descriptors::polled(guest, fd)
            })
        };
        let subscriptions: Vec<_> = bytes.as_chunks::<SIZE>().0.iter().map(parse).collect();
        let Ok(ready) = wait_for(guest, &subscriptions, now) else {
            // A call that may be repeated has no time.
            descriptors::report_deadlock(&caller);
            continue;
        };
        let out = ready.as_flattened();
        let count = (ready.len() as u32).to_le_bytes();
        return match put(&mut memory, events as u32, out)
            .and_then(|()| put(&mut memory, written as u32, &count))
        {
            Ok(()) => ERRNO_SUCCESS,
            Err(_) => ERRNO_FAULT,
        };
    }
}

/// All processes of the run wait, and this one is to report for what.
struct AllWait;

/// Waits for one of the subscriptions, and returns the events.
fn wait_for(
    guest: &mut Guest,
    subscriptions: &[Subscription],
    now: Duration,
) -> Result<Vec<[u8; EVENT]>, AllWait> {
    let mut deadline = None;
    let mut waits_for_stdin = false;
    let mut pipes = Vec::new();
    let mut never = false;
    for subscription in subscriptions {
        match subscription.wait {
            Wait::Until(at) => deadline = Some(deadline.map_or(at, |other: Duration| other.min(at))),
            Wait::Stdin => waits_for_stdin = true,
            Wait::Pipe(handle) => pipes.push(handle),
            Wait::Never => never = true,
            Wait::Ready | Wait::Error(_) => deadline = Some(now),
        }
    }
    let stdin_ready = if pipes.is_empty() && !never {
        sleep(deadline, waits_for_stdin)
    } else {
        wait_for_pipes(guest, &pipes, deadline, waits_for_stdin)?
    };

    let now = monotonic();
    let mut ready = Vec::new();
    for subscription in subscriptions {
        match subscription.wait {
            Wait::Until(at) if at <= now => ready.push(subscription.event(ERRNO_SUCCESS)),
            Wait::Stdin if stdin_ready => ready.push(subscription.event(ERRNO_SUCCESS)),
            Wait::Pipe(handle) => match end(guest, handle).map(|end| look(guest, end)) {
                Ok(now) if now.is_ready(subscription.kind == FD_READ) => {
                    ready.push(subscription.event_of(ERRNO_SUCCESS, now.bytes, now.is_hung_up));
                }
                Ok(_) => {}
                Err(_) => ready.push(subscription.event(ERRNO_BADF)),
            },
            Wait::Ready => ready.push(subscription.event(ERRNO_SUCCESS)),
            Wait::Error(error) => ready.push(subscription.event(error)),
            _ => {}
        }
    }
    Ok(ready)
}

fn end(guest: &Guest, handle: Handle) -> crate::ipc::Result<Object<'_, ByteEndState>> {
    object::resolve(guest.process.participant(), handle)
}

/// Looks at an end of a pipe. A damaged one is ready: a read or write then fails. So is each one for a process that is mute,
/// and neither reads nor writes.
fn look(guest: &Guest, end: Object<'_, ByteEndState>) -> byte_pipe::Readiness {
    let ended = byte_pipe::Readiness { bytes: 0, is_hung_up: true };
    match guest.process.is_mute {
        true => ended,
        false => byte_pipe::look(guest.process.participant(), end.state).unwrap_or(ended),
    }
}

/// Waits until one of these ends is ready, or the deadline, or until stdin can be read. Returns whether stdin can be read.
fn wait_for_pipes(
    guest: &mut Guest,
    pipes: &[Handle],
    deadline: Option<Duration>,
    waits_for_stdin: bool,
) -> Result<bool, AllWait> {
    let ends: Vec<_> = pipes.iter().filter_map(|handle| end(guest, *handle).ok()).collect();
    let reads = |end: &Object<'_, ByteEndState>| end.state.rights() & READABLE != 0;
    let is_ready = |end: &Object<'_, ByteEndState>| look(guest, *end).is_ready(reads(end));
    let any_is_ready = || ends.iter().any(is_ready).then_some(());
    let events = ends.iter().map(|end| end.state.changed());
    loop {
        let next_look = waits_for_stdin.then(|| monotonic().saturating_add(STDIN_LOOKS));
        let until = match (deadline, next_look) {
            (Some(deadline), Some(look)) => Some(deadline.min(look)),
            (deadline, look) => deadline.or(look),
        };
        let until = until.map_or(Deadline::NEVER, Deadline::at);
        let found = event::wait_for_any(guest.process.participant(), events.clone(), until, any_is_ready);
        if found == Err(Errno::Deadlock) {
            let waited = ends.iter().map(|end| match reads(end) {
                true => Waiting::Read(end.index),
                false => Waiting::Write(end.index),
            });
            guest.process.waited = waited.collect();
            return Err(AllWait);
        }
        let stdin_ready = waits_for_stdin && sleep(Some(Duration::ZERO), true);
        let is_over = deadline.is_some_and(|deadline| monotonic() >= deadline);
        if stdin_ready || is_over || !matches!(found, Err(Errno::Again | Errno::Timedout)) {
            return Ok(stdin_ready);
        }
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
