//! The note of a process that waits without a timeout: the thing that it waits for, and the start of the wait.
//!
//! The process notes this in its slot before it sleeps, and takes the note back when it goes on, so that the supervisor
//! can tell a deadlock (`supervisor/deadlock.rs`). Only a process that sleeps pays for the note.

use super::Result;
use super::arena::Participant;
use super::layout::{ProcessSlot, Waits};
use crate::sys::atomic::{AtomicU32, Ordering};
use crate::sys::futex::{self, Deadline, nanos_now};

/// The kind of a wait, and the number of the object or process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    Get(u32),
    Put(u32),
    TasksDone(u32),
    Receive(u32),
    Send(u32),
    Lock(u32),
    Semaphore(u32),
    Event(u32),
    Condition(u32),
    Barrier(u32),
    Process(u32),
    /// the end of its children, when the process itself ends
    Children,
    /// one of this number of objects
    Any(u32),
    /// bytes of a pipe of bytes
    Read(u32),
    /// room in a pipe of bytes
    Write(u32),
}

impl Waiting {
    fn pack(self) -> u64 {
        let (code, number) = match self {
            Self::Get(object) => (1, object),
            Self::Put(object) => (2, object),
            Self::TasksDone(object) => (3, object),
            Self::Receive(object) => (4, object),
            Self::Send(object) => (5, object),
            Self::Lock(object) => (6, object),
            Self::Semaphore(object) => (7, object),
            Self::Event(object) => (8, object),
            Self::Condition(object) => (9, object),
            Self::Barrier(object) => (10, object),
            Self::Process(process) => (11, process),
            Self::Children => (12, 0),
            Self::Any(count) => (13, count),
            Self::Read(object) => (14, object),
            Self::Write(object) => (15, object),
        };
        code << 32 | u64::from(number)
    }

    fn from_word(word: u64) -> Option<Self> {
        let number = word as u32;
        Some(match word >> 32 {
            1 => Self::Get(number),
            2 => Self::Put(number),
            3 => Self::TasksDone(number),
            4 => Self::Receive(number),
            5 => Self::Send(number),
            6 => Self::Lock(number),
            7 => Self::Semaphore(number),
            8 => Self::Event(number),
            9 => Self::Condition(number),
            10 => Self::Barrier(number),
            11 => Self::Process(number),
            12 => Self::Children,
            13 => Self::Any(number),
            14 => Self::Read(number),
            15 => Self::Write(number),
            _ => return None,
        })
    }
}

/// The messages between the supervisor and a waiting process about a deadlock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Alarm {
    None = 0,
    /// The process is to report what it waits for.
    Raised = 1,
    /// The process has reported.
    Answered = 2,
}

impl Waits {
    /// Returns the wait that the process has announced, if it waits.
    pub(crate) fn what(&self) -> Option<Waiting> {
        Waiting::from_word(self.what.load(Ordering::Acquire))
    }

    /// When the process began to wait, in nanoseconds of the monotonic clock.
    pub(crate) fn since(&self) -> u64 {
        self.since.load(Ordering::Relaxed)
    }

    /// How often the process has begun to wait: the same number twice means the same wait.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    /// Clears the wait, for a new process in the slot.
    pub(super) fn reset(&self) {
        self.done();
        self.alarm.store(Alarm::None as u32, Ordering::Relaxed);
    }

    /// Takes back the note of what the process waits for.
    pub(crate) fn done(&self) {
        self.what.store(0, Ordering::Release);
    }

    pub(crate) fn is(&self, alarm: Alarm) -> bool {
        self.alarm.load(Ordering::SeqCst) == alarm as u32
    }

    /// Changes the alarm, and wakes the process if it waits for the alarm's end.
    pub(crate) fn set_alarm(&self, alarm: Alarm) {
        self.alarm.store(alarm as u32, Ordering::SeqCst);
        futex::wake(&self.alarm, i32::MAX);
    }

    /// Says that the process has reported, and waits until the supervisor takes the alarm back.
    pub(crate) fn answer(&self) {
        self.set_alarm(Alarm::Answered);
        while self.is(Alarm::Answered) {
            futex::wait(&self.alarm, Alarm::Answered as u32, Deadline::NEVER);
        }
    }

    /// Wakes the process from its sleep. All others that sleep on the same word look again.
    pub(crate) fn wake(&self, participant: &Participant) {
        if let Ok(at) = usize::try_from(self.at.load(Ordering::Acquire))
            && let Ok(word) = participant.arena.at::<AtomicU32>(at)
        {
            futex::wake(word, i32::MAX);
        }
    }
}

/// Notes that the process waits, as long as this value lives.
#[derive(Debug)]
pub(crate) struct Note<'a>(&'a ProcessSlot);

impl Participant {
    /// Notes that this process waits for `what`, asleep on `word`.
    pub(crate) fn note(&self, what: Waiting, word: &AtomicU32) -> Result<Note<'_>> {
        let slot = self.slot()?;
        let waits = &slot.waits;
        waits.count.store(waits.count.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        waits.since.store(nanos_now(), Ordering::Relaxed);
        waits.at.store(self.arena.offset_of(word), Ordering::Relaxed);
        waits.what.store(what.pack(), Ordering::Release);
        Ok(Note(slot))
    }
}

impl Note<'_> {
    /// Whether the supervisor wants to hear what the process waits for.
    pub(crate) fn is_raised(&self) -> bool {
        self.0.waits.is(Alarm::Raised)
    }

    /// Leaves the note for the code that reports it.
    pub(crate) fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Note<'_> {
    fn drop(&mut self) {
        self.0.waits.done();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ipc::arena::{Arena, Geometry, Patience};

    /// The detector of deadlocks knows by its number whether a process is still in the same wait.
    #[test]
    fn each_wait_is_noted_as_another_until_it_is_over() {
        let geometry = Geometry { processes_max: 1, objects_max: 4, heap_pages: 16 };
        let arena = Arc::new(Arena::create(geometry).unwrap().1);
        let participant = Participant { arena, index: 0, patience: Patience::Brief };
        let waits = &participant.slot().unwrap().waits;
        let word = AtomicU32::new(0);
        let mut counts = Vec::new();
        for what in [Waiting::Lock(1), Waiting::Lock(1), Waiting::Children] {
            assert_eq!(waits.what(), None);
            let note = participant.note(what, &word).unwrap();
            assert_eq!(waits.what(), Some(what));
            counts.push(waits.count());
            drop(note);
        }
        counts.dedup();
        assert_eq!((waits.what(), counts.len()), (None, 3));
        // Code that reports a deadlock needs the note for longer.
        participant.note(Waiting::Children, &word).unwrap().keep();
        assert_eq!(waits.what(), Some(Waiting::Children));
    }
}
