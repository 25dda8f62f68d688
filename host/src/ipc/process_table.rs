//! The process table: one slot for each process of the run.
//!
//! # The state word
//!
//! ```text
//!  63..32      31..16         15..8  7..0
//!  generation  parent's slot  flags  state
//!
//!              reserve                    kernel says it started
//!      Free ────────────▶ Reserved ─────────────────────────────▶ Running ─────────────▶ Exited ──▶ Free
//!        ▲                   │ spawn: the supervisor is to fork      ▲  └──▶ Leaving ───▲
//!        │                   └────────────▶ Spawning ────────────────┘    by itself     │ by the supervisor,
//!        └── failed ─────────────────────────── │                                       │ who has reaped it
//! ```
//!
//! A parent reserves a slot before it forks. The kernel stores the child's id in the slot's `pid` before the child
//! runs, so the table knows every child, whichever process is killed. Only the supervisor writes `Exited`.
//!
//! A process that ends by itself gives back what it holds, and then says that it is `Leaving`, and how: nobody waits
//! for the process any longer. The rest of the end is the kernel's work, and the slot stays taken until the supervisor
//! has dealt with it. A process that has children, or a message in its hands, leaves that to the supervisor and stays
//! `Running`.
//!
//! `RELEASED` means that nobody will ask how the process ended: the supervisor then frees the slot when the process
//! ends. Otherwise the parent frees the slot, after it has asked.
//!
//! # What a process is in the middle of
//!
//! The slot of a process also tells the [sweep](super::sweep) the object whose locks the process may hold, and the runs
//! of heap pages in its hands; and for which object the process [waits](super::waiting).

use std::fmt;
use std::ops::Deref;

use sandpool_abi::process::{ExitStatus, Limit};
use sandpool_abi::{Errno, NAME_MAX, process};
use serde::{Deserialize, Serialize};

use super::Result;
use super::arena::{Arena, Participant};
use super::layout::{NAME_WORDS, REGISTERS, ScopeSlot};
pub(crate) use super::layout::{Name, Place, ProcessSlot};
use crate::sys::atomic::{AtomicU64, Ordering, compiler_fence};
use crate::sys::futex::nanos_now;

/// The daemonic flag of a state word.
pub(crate) const DAEMON: u8 = 1;
/// Nobody will ask how this process ended.
pub(crate) const RELEASED: u8 = 2;
/// The process ends with its parent, and so do the processes that it starts.
pub(crate) const TIED: u8 = 4;

/// The parent of the main process.
pub(crate) const NO_PARENT: u16 = u16::MAX;

/// Process handles have this bit, so that they are never mistaken for an object's.
const HANDLE_TAG: u64 = 1 << 31;

/// A name, copied out of the table or about to be written to it.
///
/// The buffer lies on the stack: while a child of a process runs, the kernel copies each page of the heap that the
/// process changes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NameBuffer {
    len: usize,
    bytes: [u8; NAME_WORDS * 8],
}

impl Default for NameBuffer {
    fn default() -> Self {
        Self { len: 0, bytes: [0; NAME_WORDS * 8] }
    }
}

/// The bytes need not be UTF-8 if they come out of the table.
impl Deref for NameBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// Appends as much of the text as there is room for.
impl fmt::Write for NameBuffer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.get_mut(self.len..NAME_MAX).unwrap_or_default();
        self.len += room.len().min(text.len());
        room.iter_mut().zip(text.bytes()).for_each(|(to, from)| *to = from);
        Ok(())
    }
}

/// The use of a run of heap pages in the hands of a process. A process can have one run of each at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Register {
    /// A message that is being sent, or was given to a process that is being spawned.
    Outgoing,
    /// A message that the process has taken, and that the guest has yet to copy.
    Incoming,
    /// A message of a queue that is being destroyed.
    Discarded,
    /// A segment of a queue. The others are messages.
    Segment,
}

impl Register {
    /// All of them.
    pub(crate) const ALL: [Self; REGISTERS] =
        [Self::Outgoing, Self::Incoming, Self::Discarded, Self::Segment];
}

/// The lowest byte of a state word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ProcessState {
    Free = 0,
    Reserved = 1,
    Spawning = 2,
    Running = 3,
    Exited = 4,
    Failed = 5,
    Leaving = 6,
}

/// A state word, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StateWord {
    pub(crate) generation: u32,
    pub(crate) parent: u16,
    pub(crate) flags: u8,
    pub(crate) state: ProcessState,
}

impl StateWord {
    pub(crate) fn from_word(word: u64) -> Self {
        let state = match word & 0xff {
            1 => ProcessState::Reserved,
            2 => ProcessState::Spawning,
            3 => ProcessState::Running,
            4 => ProcessState::Exited,
            5 => ProcessState::Failed,
            6 => ProcessState::Leaving,
            _ => ProcessState::Free,
        };
        Self { generation: (word >> 32) as u32, parent: (word >> 16) as u16, flags: (word >> 8) as u8, state }
    }

    pub(crate) fn pack(self) -> u64 {
        u64::from(self.generation) << 32
            | u64::from(self.parent) << 16
            | u64::from(self.flags) << 8
            | self.state as u64
    }

    /// The word of the slot once it is given back: handles to the former process name nothing any more.
    pub(crate) fn free(self) -> Self {
        Self {
            generation: self.generation.wrapping_add(1) & 0x3fff_ffff,
            parent: NO_PARENT,
            flags: 0,
            state: ProcessState::Free,
        }
    }

    /// Whether the process of this slot runs, or is about to.
    pub(crate) fn is_alive(self) -> bool {
        matches!(self.state, ProcessState::Reserved | ProcessState::Spawning | ProcessState::Running)
    }

    /// Whether the parent is gone with which the process was to end.
    pub(crate) fn is_bereft(self) -> bool {
        self.flags & TIED != 0 && self.parent == NO_PARENT
    }

    /// Whether the supervisor still has to reap the process, or to start it.
    pub(crate) fn has_process(self) -> bool {
        self.is_alive() || self.state == ProcessState::Leaving
    }

    /// The word once the parent has given the slot back: free if the process is gone; otherwise the supervisor frees
    /// the slot when the process goes.
    pub(crate) fn released(self) -> Self {
        if self.has_process() { Self { flags: self.flags | RELEASED, ..self } } else { self.free() }
    }
}

/// A name for a process: slot and generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ProcessHandle(pub(crate) u64);

impl ProcessHandle {
    pub(crate) fn new(index: u32, generation: u32) -> Self {
        Self(u64::from(generation) << 32 | HANDLE_TAG | u64::from(index + 1))
    }

    /// Whether the number has the form of a process handle, and not of an object's.
    pub(crate) fn is_one(self) -> bool {
        self.0 & HANDLE_TAG != 0
    }

    pub(crate) fn index(self) -> Result<u32> {
        if !self.is_one() {
            return Err(Errno::Badf);
        }
        ((self.0 & (HANDLE_TAG - 1)) as u32).checked_sub(1).ok_or(Errno::Badf)
    }

    fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// How a process ended: one of `EXITED`…, its detail, and the figure of a limit, as in the ABI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) kind: u32,
    pub(crate) detail: u32,
    pub(crate) figure: u64,
}

impl Outcome {
    /// Bits of a packed figure: 256 TiB, or nine years in microseconds.
    const FIGURE_BITS: u32 = 48;

    pub(crate) const fn new(kind: u32, detail: u32) -> Self {
        Self { kind, detail, figure: 0 }
    }

    pub(crate) fn limited(limit: Limit) -> Self {
        Self { kind: process::LIMITED, detail: limit.code(), figure: limit.figure() }
    }

    pub(crate) fn strays(count: u64) -> Self {
        Self { kind: process::STRAYS, detail: 0, figure: count }
    }

    /// The outcome as a type; `None` if `kind` is unknown.
    pub(crate) fn status(self) -> Option<ExitStatus> {
        ExitStatus::from_parts(self.kind, self.detail, self.figure)
    }

    /// Whether the outcome is a limit that ends the whole run.
    #[inline]
    pub(crate) fn ends_the_run(self) -> bool {
        // Most processes reach no limit, and short ones then need no page of the code below.
        self.kind == process::LIMITED && Limit::from_parts(self.detail, self.figure).ends_the_run()
    }

    fn from_word(word: u64) -> Self {
        Self {
            kind: (word >> 56) as u32,
            detail: (word >> Self::FIGURE_BITS) as u32 & 0xff,
            figure: word & ((1 << Self::FIGURE_BITS) - 1),
        }
    }

    fn pack(self) -> u64 {
        u64::from(self.kind) << 56
            | u64::from(self.detail & 0xff) << Self::FIGURE_BITS
            | self.figure.min((1 << Self::FIGURE_BITS) - 1)
    }

    /// The exit code as Python gives it: the code, or the negated signal; a trap or limit counts as SIGABRT.
    pub(crate) fn exitcode(self) -> i32 {
        match self.kind {
            process::EXITED => (self.detail & 0xff) as i32,
            process::SIGNALED => -((self.detail & 0x7f) as i32),
            process::FORBIDDEN | process::STRAYS => -nix::libc::SIGSYS,
            _ => -6,
        }
    }
}

impl ProcessSlot {
    /// The register for the first page of a run in the hands of the process.
    pub(crate) fn register(&self, register: Register) -> &AtomicU64 {
        let [outgoing, incoming, discarded, segment] = &self.inflight;
        match register {
            Register::Outgoing => outgoing,
            Register::Incoming => incoming,
            Register::Discarded => discarded,
            Register::Segment => segment,
        }
    }

    /// The object that the process is working on.
    pub(crate) fn operation(&self) -> Option<u32> {
        u32::try_from(self.operation.load(Ordering::Acquire)).ok()?.checked_sub(1)
    }

    pub(crate) fn clear_operation(&self) {
        self.operation.store(0, Ordering::Release);
    }

    /// Records the end that the process claims.
    pub(crate) fn claim(&self, outcome: Outcome) {
        self.claim.store(outcome.pack(), Ordering::Release);
    }

    pub(crate) fn claimed(&self) -> Outcome {
        Outcome::from_word(self.claim.load(Ordering::Acquire))
    }

    pub(crate) fn record_exit(&self, outcome: Outcome) {
        self.exit.store(outcome.pack(), Ordering::Release);
    }

    pub(crate) fn exit(&self) -> Outcome {
        Outcome::from_word(self.exit.load(Ordering::Acquire))
    }

    pub(crate) fn parent(&self) -> ProcessHandle {
        ProcessHandle(self.parent.load(Ordering::Acquire))
    }

    /// The name of the process.
    pub(crate) fn name(&self) -> NameBuffer {
        self.name.get()
    }

    /// The name of its parent.
    pub(crate) fn parent_name(&self) -> NameBuffer {
        self.parent_name.get()
    }

    /// Counts a refusal by a limit of this kind.
    #[cold]
    pub(crate) fn note_refusal(&self, kind: fn(u64) -> Limit) {
        if let Some(count) = self.refused.get(kind(0).code() as usize) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often the limit with this code has refused the process something.
    pub(crate) fn refusals(&self, code: u32) -> u32 {
        self.refused.get(code as usize).map_or(0, |count| count.load(Ordering::Relaxed))
    }

    /// The process's share of the memory of all processes.
    pub(crate) fn memory(&self) -> u64 {
        self.memory.load(Ordering::Relaxed)
    }

    /// Notes the parent's name and process id, for later.
    pub(crate) fn remember_parent(&self, parent: &Self, pid: u32) {
        self.parent_pid.store(pid, Ordering::Relaxed);
        self.parent_name.len.store(parent.name.len.load(Ordering::Relaxed), Ordering::Relaxed);
        for (to, from) in self.parent_name.words.iter().zip(&parent.name.words) {
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

impl Place {
    /// The value of `object` in a place in this object.
    pub(super) fn of(object: u32) -> u64 {
        u64::from(object) + 1
    }

    /// Whether this is a place in this object.
    pub(super) fn is_in(&self, object: u32) -> bool {
        self.object.load(Ordering::Acquire) == Self::of(object)
    }
}

impl Name {
    pub(super) fn set(&self, name: &[u8]) {
        for (word, bytes) in self.words.iter().zip(name.chunks(8)) {
            let mut padded = [0; 8];
            padded.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            word.store(u64::from_le_bytes(padded), Ordering::Relaxed);
        }
        self.len.store(name.len() as u64, Ordering::Relaxed);
    }

    /// The name need not be UTF-8, because another process wrote it.
    pub(super) fn get(&self) -> NameBuffer {
        let len = (self.len.load(Ordering::Relaxed) as usize).min(NAME_MAX);
        let mut name = NameBuffer { len, ..NameBuffer::default() };
        for (to, word) in name.bytes.as_chunks_mut::<8>().0.iter_mut().zip(&self.words) {
            *to = word.load(Ordering::Relaxed).to_le_bytes();
        }
        name
    }
}

/// The state of a slot.
pub(crate) fn state(arena: &Arena, index: u32) -> Result<StateWord> {
    Ok(StateWord::from_word(arena.process_state(index)?.load(Ordering::Acquire)))
}

/// The state of the process that a handle names.
///
/// `BADF` if its slot was freed.
pub(crate) fn resolve(arena: &Arena, handle: ProcessHandle) -> Result<(u32, StateWord)> {
    let index = handle.index()?;
    let state = state(arena, index)?;
    if state.state == ProcessState::Free || state.generation != handle.generation() {
        return Err(Errno::Badf);
    }
    Ok((index, state))
}

/// Changes a state word, unless `change` refuses. Returns the new state.
#[inline]
pub(crate) fn update(
    arena: &Arena,
    index: u32,
    change: impl Fn(StateWord) -> Option<StateWord>,
) -> Result<Option<StateWord>> {
    let cell = arena.process_state(index)?;
    let mut word = cell.load(Ordering::Acquire);
    loop {
        let Some(new) = change(StateWord::from_word(word)) else { return Ok(None) };
        match cell.compare_exchange(word, new.pack(), Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return Ok(Some(new)),
            Err(now) => word = now,
        }
    }
}

/// Reserves a slot for a child of `parent`, with its name and flags set.
///
/// `PROCS` if the table is full.
pub(crate) fn reserve(
    arena: &Arena,
    parent: Option<(u32, ProcessHandle)>,
    name: &[u8],
    flags: u8,
) -> Result<(u32, ProcessHandle)> {
    let max = arena.geometry.processes_max;
    let hint = &arena.header()?.processes.hint;
    let start = hint.load(Ordering::Relaxed);
    let parent_index = parent.map_or(NO_PARENT, |(index, _)| index as u16);
    for step in 0..u64::from(max) {
        let index = (start.wrapping_add(step) % u64::from(max)) as u32;
        if state(arena, index)?.state != ProcessState::Free {
            continue;
        }
        let taken = update(arena, index, |old| {
            let reserved = StateWord { parent: parent_index, flags, state: ProcessState::Reserved, ..old };
            (old.state == ProcessState::Free).then_some(reserved)
        })?;
        if let Some(taken) = taken {
            hint.store(u64::from(index) + 1, Ordering::Relaxed);
            let slot = arena.process(index)?;
            slot.claim.store(0, Ordering::Relaxed);
            slot.cpu.store(0, Ordering::Relaxed);
            slot.linear_memory.store(0, Ordering::Relaxed);
            slot.exit.store(0, Ordering::Relaxed);
            slot.wanted_signals.store(0, Ordering::Relaxed);
            slot.failure.store(0, Ordering::Relaxed);
            slot.holds.reset();
            slot.waits.reset();
            slot.claims.reset();
            slot.tail.reset();
            let scope = parent.and_then(|(index, _)| arena.process(index).ok()).map(|parent| &parent.scope);
            reset_scope(&slot.scope, scope);
            slot.refused.iter().for_each(|count| count.store(0, Ordering::Relaxed));
            slot.place.object.store(0, Ordering::Relaxed);
            slot.parent.store(parent.map_or(0, |(_, handle)| handle.0), Ordering::Relaxed);
            slot.name.set(name);
            slot.started.store(nanos_now(), Ordering::Relaxed);
            return Ok((index, ProcessHandle::new(index, taken.generation)));
        }
    }
    Err(Errno::Procs)
}

/// Sets the scope of a new process, whose parent has this one.
fn reset_scope(slot: &ScopeSlot, parent: Option<&ScopeSlot>) {
    let ScopeSlot { scope, objects, objects_max, processes_max, names, names_of_tasks } = slot;
    let inherited = parent.map_or(0, |parent| parent.scope.load(Ordering::Relaxed));
    scope.store(inherited, Ordering::Relaxed);
    for word in [objects, objects_max, processes_max, names, names_of_tasks] {
        word.store(0, Ordering::Relaxed);
    }
}

/// Gives a slot back, if it is in a state that `may` allows.
pub(crate) fn free(arena: &Arena, index: u32, may: impl Fn(StateWord) -> bool) -> Result<bool> {
    let freed = update(arena, index, |old| may(old).then(|| old.free()))?;
    Ok(freed.is_some())
}

/// The slots of all children of a process.
pub(crate) fn children(arena: &Arena, parent: u32) -> impl Iterator<Item = (u32, StateWord)> {
    (0..arena.geometry.processes_max).filter_map(move |index| {
        let state = state(arena, index).ok()?;
        (state.state != ProcessState::Free && u32::from(state.parent) == parent).then_some((index, state))
    })
}

/// Whether any slot will become free or [`Exited`](ProcessState::Exited) by itself.
pub(crate) fn is_anybody_leaving(arena: &Arena) -> bool {
    (0..arena.geometry.processes_max)
        .any(|index| state(arena, index).is_ok_and(|state| state.state == ProcessState::Leaving))
}

/// Asks the supervisor to look at a slot. The caller still has to ring the doorbell.
pub(crate) fn request(arena: &Arena, index: u32) -> Result<()> {
    arena.request_word(index as usize / 64)?.fetch_or(1 << (index % 64), Ordering::AcqRel);
    Ok(())
}

/// Takes the requests: the slots that the supervisor is to look at.
pub(crate) fn take_requests(arena: &Arena) -> Vec<u32> {
    let mut requests = Vec::new();
    for word in 0..arena.ref_words() {
        let Ok(cell) = arena.request_word(word) else { break };
        if cell.load(Ordering::Relaxed) == 0 {
            continue;
        }
        let mut bits = cell.swap(0, Ordering::AcqRel);
        while bits != 0 {
            requests.push(word as u32 * 64 + bits.trailing_zeros());
            bits &= bits - 1;
        }
    }
    requests
}

/// Marks that the process is working on an object, as long as this value lives.
#[derive(Debug)]
pub(crate) struct Operation<'a> {
    slot: &'a ProcessSlot,
    before: u64,
}

impl Participant {
    /// Notes for the sweep which object the process works on. The note ends with the value that is returned.
    #[inline]
    pub(crate) fn begin(&self, object: u32) -> Result<Operation<'_>> {
        let slot = self.slot()?;
        let before = slot.operation.load(Ordering::Relaxed);
        slot.operation.store(u64::from(object) + 1, Ordering::Relaxed);
        compiler_fence(Ordering::SeqCst);
        Ok(Operation { slot, before })
    }
}

impl Drop for Operation<'_> {
    #[inline]
    fn drop(&mut self) {
        compiler_fence(Ordering::SeqCst);
        self.slot.operation.store(self.before, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use super::*;
    use crate::ipc::arena::Geometry;

    /// A slot is used again and again: a process in it begins with nothing, and handles of those before name nothing.
    #[test]
    fn a_process_begins_anew_in_the_slot_of_an_earlier_one() {
        let geometry = Geometry { processes_max: 1, objects_max: 4, heap_pages: 16 };
        let arena = Arena::create(geometry).unwrap().1;
        let mut earlier = Vec::new();
        for _ in 0..3 {
            let (index, handle) = reserve(&arena, None, b"a process", 0).unwrap();
            assert_eq!(resolve(&arena, handle).map(|(index, _)| index), Ok(index));
            for former in &earlier {
                assert_eq!(resolve(&arena, *former).err(), Some(Errno::Badf));
            }
            earlier.push(handle);
            let slot = arena.process(index).unwrap();
            let claims = &slot.claims;
            let claims = [&claims.first, &claims.end, &claims.work, &claims.begun, &claims.part];
            let words = [&slot.cpu, &slot.exit, &slot.claim, &slot.linear_memory];
            for word in words.into_iter().chain(claims) {
                assert_eq!(word.swap(7, Ordering::Relaxed), 0);
            }
            for count in &slot.refused {
                assert_eq!(count.swap(7, Ordering::Relaxed), 0);
            }
            assert_eq!(slot.wanted_signals.swap(7, Ordering::Relaxed), 0);
            assert_eq!(slot.failure.swap(7, Ordering::Relaxed), 0);
            update(&arena, index, |state| Some(state.free())).unwrap();
        }
    }
}
