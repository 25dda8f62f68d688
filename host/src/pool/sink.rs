//! Where the result of a task goes: to the place of one [future](super::future), or to those of a [stream](super::stream).

use std::collections::VecDeque;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use super::outcome::Outcome;

/// The most bytes of inputs and results that are at work at once.
pub(super) const WINDOW_BYTES: u64 = 64 << 20;

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where the result of a task goes.
#[derive(Debug, Clone)]
pub(super) enum Sink {
    Cell(Arc<Cell>),
    /// One result of many, with its number among them.
    Channel(Arc<Channel>, u64),
}

impl Sink {
    pub(super) fn complete(self, outcome: Outcome) {
        match self {
            Self::Cell(cell) => cell.complete(outcome),
            Self::Channel(channel, number) => channel.complete(number, outcome),
        }
    }

    /// Marks the task as on its way to a worker, unless nobody wants its result any more. Returns whether somebody does.
    pub(super) fn begin(&self) -> bool {
        match self {
            Self::Cell(cell) => {
                let mut state = locked(&cell.state);
                state.has_begun = !state.is_cancelled;
                state.has_begun
            }
            Self::Channel(channel, _) => channel.is_wanted(),
        }
    }
}

/// The place for one result.
#[derive(Debug, Default)]
pub(super) struct Cell {
    pub(super) state: Mutex<CellState>,
    pub(super) changed: Condvar,
}

#[derive(Debug, Default)]
pub(super) struct CellState {
    pub(super) outcome: Option<Outcome>,
    pub(super) is_done: bool,
    pub(super) has_begun: bool,
    pub(super) is_cancelled: bool,
    pub(super) waker: Option<Waker>,
    /// Another receiver to notify, and the number that it is told.
    pub(super) told: Option<(Sender<usize>, usize)>,
}

impl Cell {
    pub(super) fn complete(&self, outcome: Outcome) {
        let mut state = locked(&self.state);
        if state.is_done {
            return;
        }
        state.outcome = Some(outcome);
        state.is_done = true;
        let (waker, told) = (state.waker.take(), state.told.take());
        drop(state);
        self.changed.notify_all();
        if let Some(waker) = waker {
            // The waker belongs to the application: a panic in it must not end this thread, on which others depend.
            let _ = panic::catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
        if let Some((sender, number)) = told {
            let _ = sender.send(number);
        }
    }
}

/// State that both ends of a stream share.
#[derive(Debug, Default)]
pub(super) struct Channel {
    pub(super) state: Mutex<ChannelState>,
    /// Notified when results have come, or no more will come.
    pub(super) news: Condvar,
    /// Notified when there is room for inputs, or no more inputs are wanted.
    pub(super) room: Condvar,
    pub(super) is_stopped: AtomicBool,
}

#[derive(Debug, Default)]
pub(super) struct ChannelState {
    pub(super) ready: VecDeque<(u64, Outcome)>,
    /// Inputs that were submitted and whose results weren't given yet.
    pub(super) at_work: u64,
    /// Bytes of these inputs and of their results.
    pub(super) bytes: u64,
    /// Bytes of each input, beginning with the first whose result wasn't given yet.
    pub(super) lens: VecDeque<u64>,
    /// The number of that first input.
    pub(super) first: u64,
    /// No more inputs will come.
    pub(super) is_fed: bool,
    /// Somebody waits for results.
    pub(super) is_waited_for: bool,
}

impl Channel {
    pub(super) fn complete(&self, number: u64, outcome: Outcome) {
        let mut state = locked(&self.state);
        let len = outcome.as_ref().map_or(0, |completed| completed.value.len() as u64);
        state.bytes += len;
        let at = usize::try_from(number - state.first).ok();
        if let Some(own) = at.and_then(|at| state.lens.get_mut(at)) {
            *own += len;
        }
        state.ready.push_back((number, outcome));
        let is_waited_for = state.is_waited_for;
        drop(state);
        if is_waited_for {
            self.news.notify_one();
        }
    }

    /// Whether the stream still works on inputs.
    pub(super) fn is_wanted(&self) -> bool {
        !self.is_stopped.load(Ordering::Relaxed)
    }

    pub(super) fn stop(&self) {
        let state = locked(&self.state);
        self.is_stopped.store(true, Ordering::Relaxed);
        drop(state);
        self.room.notify_all();
        self.news.notify_all();
    }
}

impl ChannelState {
    /// How many more inputs may be at work.
    pub(super) fn room(&self, size: u64) -> usize {
        if self.at_work > 0 && self.bytes >= WINDOW_BYTES {
            return 0;
        }
        usize::try_from(size.saturating_sub(self.at_work)).unwrap_or(usize::MAX)
    }

    /// Counts an input that is at work now.
    pub(super) fn take(&mut self, len: u64) {
        self.at_work += 1;
        self.bytes += len;
        self.lens.push_back(len);
    }

    /// Counts the result of an input as given.
    pub(super) fn give(&mut self, number: u64) {
        self.at_work -= 1;
        let at = usize::try_from(number - self.first).ok();
        if let Some(len) = at.and_then(|at| self.lens.get_mut(at)) {
            self.bytes -= std::mem::replace(len, GIVEN);
        }
        while let Some(&GIVEN) = self.lens.front() {
            self.lens.pop_front();
            self.first += 1;
        }
    }
}

/// Marks the length of an input whose result was given.
const GIVEN: u64 = u64::MAX;
