//! A stream through a pool: one thread feeds it with inputs, another takes the results, or one thread does both (`imap`). The
//! number and the size of the inputs in between are bounded.

use std::collections::VecDeque;
use std::fmt;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::dispatcher::{Shared, Task};
use super::outcome::Outcome;
use super::sink::{Channel, Sink, locked};
use crate::error::TaskError;

/// The most inputs that are at work at once.
const WINDOW_MAX: u64 = 32_768;
/// The most inputs that are submitted at once, and the most bytes of them.
pub(super) const BATCH: usize = 128;
const BATCH_BYTES: u64 = 1 << 20;

/// How many inputs may be at work, if `depth` inputs keep the workers busy.
pub(super) fn window(depth: u64) -> u64 {
    depth.saturating_mul(2).clamp(4, WINDOW_MAX)
}

/// The end of a stream that takes inputs; see [`Pool::stream`](crate::Pool::stream). Dropping it says that no more inputs come.
pub struct Feed {
    pool: Arc<Shared>,
    task: Arc<str>,
    format: u32,
    channel: Arc<Channel>,
    /// Tasks that aren't submitted yet; and their bytes.
    batch: VecDeque<Task>,
    bytes: u64,
    next: u64,
}

impl Feed {
    /// Adds an input. The input may be held back until more inputs come, [`flush`](Self::flush) is called or the feed is dropped.
    /// Waits while enough inputs are at work.
    ///
    /// Returns `false` if no more inputs are wanted.
    pub fn put(&mut self, input: &[u8]) -> bool {
        self.add(input);
        if self.is_full() {
            self.flush();
        }
        self.is_wanted()
    }

    /// Whether more inputs are wanted.
    pub(super) fn is_wanted(&self) -> bool {
        self.channel.is_wanted()
    }

    /// Submits inputs that are held back.
    pub fn flush(&mut self) {
        while !self.batch.is_empty() {
            let Some(room) = self.wait_for_room() else { return self.batch.clear() };
            self.submit(room);
        }
    }

    /// The task's name.
    pub(super) fn task(&self) -> &str {
        &self.task
    }

    /// Adds an input and holds it back.
    pub(super) fn add(&mut self, input: &[u8]) {
        let sink = Sink::Channel(self.channel.clone(), self.next);
        let task = Task::new(self.task.clone(), self.format, input, sink);
        self.bytes += task.record.len() as u64;
        self.batch.push_back(task);
        self.next += 1;
    }

    /// Adds an input that has failed already.
    pub(super) fn refuse(&mut self, error: TaskError) {
        self.submit(BATCH);
        locked(&self.channel.state).take(0);
        self.channel.complete(self.next, Err(error));
        self.next += 1;
    }

    /// Whether enough inputs are held back to make submitting them worthwhile.
    pub(super) fn is_full(&self) -> bool {
        self.batch.len() >= BATCH || self.bytes >= BATCH_BYTES
    }

    /// Submits inputs that are held back, at most `most` of them.
    pub(super) fn submit(&mut self, most: usize) {
        let mut number = self.next - self.batch.len() as u64;
        let batch: Vec<_> = self.batch.drain(..most.min(self.batch.len())).collect();
        if batch.is_empty() {
            return;
        }
        let mut state = locked(&self.channel.state);
        for task in &batch {
            let len = task.record.len() as u64;
            self.bytes -= len;
            state.take(len);
        }
        drop(state);
        let count = batch.len();
        if let Err(cause) = self.pool.submit(batch) {
            for _ in 0..count {
                self.channel.complete(number, Err(TaskError::untried(&self.task, cause.clone())));
                number += 1;
            }
        }
    }

    /// How many inputs are at work, and how many more may be.
    pub(super) fn room(&self, size: u64) -> (usize, usize) {
        let state = locked(&self.channel.state);
        (usize::try_from(state.at_work).unwrap_or(usize::MAX), state.room(size))
    }

    /// Waits until there is room for the inputs that are held back, or for many of them. Returns for how many; `None` if no more
    /// inputs are wanted.
    fn wait_for_room(&self) -> Option<usize> {
        loop {
            let size = window(self.pool.depth());
            let state = locked(&self.channel.state);
            if !self.channel.is_wanted() {
                return None;
            }
            // Submitting one at a time would cost more, and workers have enough to do with the other half.
            let room = state.room(size);
            if room >= self.batch.len() || room as u64 > size / 2 {
                return Some(room);
            }
            drop(self.channel.room.wait(state).unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Says that no more inputs come.
    pub(super) fn end(&self) {
        locked(&self.channel.state).is_fed = true;
        self.channel.news.notify_all();
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.flush();
        self.end();
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").field("task", &self.task).field("next", &self.next).finish_non_exhaustive()
    }
}

/// The end of a stream that gives results; see [`Pool::stream`](crate::Pool::stream). Dropping it stops the stream.
pub struct Results {
    channel: Arc<Channel>,
    is_ordered: bool,
    /// Results that have come.
    ready: VecDeque<(u64, Outcome)>,
    /// For an ordered stream: results that wait for their turn, beginning with the next number.
    waiting: VecDeque<Option<Outcome>>,
    /// The number of the next result.
    next: u64,
    /// Results that were given since the other end was last told.
    given: Vec<u64>,
}

impl Results {
    /// Returns the next result, with the number of its input. Waits no longer than `timeout`.
    ///
    /// # Errors
    /// [`Timeout`](RecvTimeoutError::Timeout) if no result has come by then, [`Disconnected`](RecvTimeoutError::Disconnected) after
    /// the last result.
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<(u64, Outcome), RecvTimeoutError> {
        if let Some(next) = self.turn() {
            return Ok(next);
        }
        let end = Instant::now().checked_add(timeout);
        let channel = self.channel.clone();
        let mut state = locked(&channel.state);
        loop {
            for number in self.given.drain(..) {
                state.give(number);
            }
            channel.room.notify_one();
            while state.ready.is_empty() {
                if state.at_work == 0 && (state.is_fed || !channel.is_wanted()) {
                    return Err(RecvTimeoutError::Disconnected);
                }
                let left = end.map_or(timeout, |end| end.saturating_duration_since(Instant::now()));
                if left.is_zero() {
                    return Err(RecvTimeoutError::Timeout);
                }
                state.is_waited_for = true;
                state = channel.news.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
                state.is_waited_for = false;
            }
            self.ready = std::mem::take(&mut state.ready);
            if let Some(next) = self.turn() {
                return Ok(next);
            }
        }
    }

    /// The next result, if it has come and it is its turn.
    fn turn(&mut self) -> Option<(u64, Outcome)> {
        if !self.is_ordered {
            let (number, outcome) = self.ready.pop_front()?;
            self.given.push(number);
            return Some((number, outcome));
        }
        for (number, outcome) in self.ready.drain(..) {
            let at = usize::try_from(number - self.next).ok()?;
            if at >= self.waiting.len() {
                self.waiting.resize_with(at + 1, || None);
            }
            *self.waiting.get_mut(at)? = Some(outcome);
        }
        let outcome = self.waiting.front_mut()?.take()?;
        self.waiting.pop_front();
        let number = self.next;
        self.next += 1;
        self.given.push(number);
        Some((number, outcome))
    }

    /// Returns a handle that stops the stream from any thread.
    #[must_use]
    pub fn stopper(&self) -> StreamStopper {
        StreamStopper { channel: self.channel.clone() }
    }

    /// Whether the stream was stopped.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        !self.channel.is_wanted()
    }
}

impl Iterator for Results {
    type Item = (u64, Outcome);

    /// Waits for the next result.
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.next_timeout(Duration::MAX) {
                Ok(next) => return Some(next),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

impl Drop for Results {
    fn drop(&mut self) {
        self.channel.stop();
    }
}

impl fmt::Debug for Results {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Results").field("is_ordered", &self.is_ordered).finish_non_exhaustive()
    }
}

/// Stops a stream: no more inputs are taken. Inputs that a worker has begun get their results; all other inputs that were taken get
/// [`Failure::Cancelled`](crate::pool::Failure::Cancelled).
#[derive(Debug, Clone)]
pub struct StreamStopper {
    channel: Arc<Channel>,
}

impl StreamStopper {
    /// Stops the stream.
    pub fn stop(&self) {
        self.channel.stop();
    }
}

/// Both ends of a stream.
pub(super) fn stream(pool: &Arc<Shared>, task: &str, format: u32, is_ordered: bool) -> (Feed, Results) {
    let channel = Arc::<Channel>::default();
    let feed = Feed {
        pool: pool.clone(),
        task: task.into(),
        format,
        channel: channel.clone(),
        batch: VecDeque::new(),
        bytes: 0,
        next: 0,
    };
    let results = Results {
        channel,
        is_ordered,
        ready: VecDeque::new(),
        waiting: VecDeque::new(),
        next: 0,
        given: Vec::new(),
    };
    (feed, results)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use std::thread;

    use super::super::dispatcher::tests::pool_that_is_busy;
    use super::super::outcome::Completed;
    use super::super::sink::{ChannelState, WINDOW_BYTES};
    use super::*;
    use crate::error::Usage;
    use crate::testing::deadline::{wait_until_asleep, within_deadline};

    fn completed(len: usize) -> Outcome {
        let (value, usage) = (vec![0; len], Usage::default());
        Ok(Completed { value, stdout: Vec::new(), stderr: Vec::new(), usage, attempts: 1 })
    }

    /// The ends of a stream, and the state that they share. Nobody works on the inputs.
    fn ends(is_ordered: bool) -> (Feed, Results, Arc<Channel>) {
        let (shared, theirs) = pool_that_is_busy();
        // Nobody must learn that the supervisor is gone.
        std::mem::forget(theirs);
        let (feed, results) = stream(&shared, "task", 0, is_ordered);
        let channel = feed.channel.clone();
        (feed, results, channel)
    }

    #[test]
    fn a_window_is_bounded_in_inputs_and_in_bytes() {
        assert_eq!([0, 1, 2, 3, 1000, u64::MAX].map(window), [4, 4, 4, 6, 2000, WINDOW_MAX]);
        let mut state = ChannelState::default();
        assert_eq!(state.room(10), 10);
        // A single input may be as large as it likes.
        state.take(WINDOW_BYTES - 1);
        assert_eq!((state.room(10), state.room(1)), (9, 0));
        state.take(1);
        assert_eq!((state.room(10), state.room(u64::MAX)), (0, 0));
        state.give(0);
        assert_eq!((state.room(10), state.bytes, state.first), (9, 1, 1));
        state.give(1);
        assert_eq!((state.room(10), state.bytes, state.first, state.lens.len()), (10, 0, 2, 0));
    }

    #[test]
    fn bytes_of_inputs_and_results_count_until_they_are_given_in_whatever_order() {
        within_deadline(count_bytes);
    }

    fn count_bytes() {
        let channel = Channel::default();
        for len in [10, 20, 30] {
            locked(&channel.state).take(len);
        }
        channel.complete(1, completed(500));
        channel.complete(0, completed(0));
        let bytes = || locked(&channel.state).bytes;
        assert_eq!(bytes(), 560);
        for (number, left) in [(1, 40), (0, 30)] {
            locked(&channel.state).give(number);
            assert_eq!(bytes(), left);
        }
        // The record of lengths doesn't grow with the stream.
        let kept = || {
            let state = locked(&channel.state);
            (state.lens.len(), state.first, state.at_work)
        };
        assert_eq!(kept(), (1, 2, 1));
        channel.complete(2, completed(WINDOW_BYTES as usize));
        assert_eq!(locked(&channel.state).room(10), 0, "results count as well");
        locked(&channel.state).give(2);
        assert_eq!((bytes(), kept()), (0, (0, 3, 0)));
    }

    /// A feed waits for room, and for nothing else, until it is stopped.
    #[test]
    fn large_inputs_wait_until_results_are_taken() {
        const LEN: usize = WINDOW_BYTES as usize / 2;
        for is_stopped in [false, true] {
            let (mut feed, mut results, channel) = ends(true);
            // The number of inputs doesn't limit them here.
            let size = window(feed.pool.depth());
            assert!(size > 3);
            for at_work in 1..=2 {
                assert!(within_deadline(|| feed.put(&vec![0; LEN])));
                assert_eq!(feed.room(size).0, at_work);
            }
            assert_eq!(feed.room(size).1, 0);
            let (sender, number) = std::sync::mpsc::channel();
            let feeder = thread::spawn(move || {
                sender.send(nix::unistd::gettid()).unwrap();
                let is_wanted = feed.put(&vec![0; LEN]);
                (is_wanted, feed)
            });
            wait_until_asleep(number.recv().unwrap());
            if is_stopped {
                results.stopper().stop();
                let (is_wanted, feed) = within_deadline(|| feeder.join().unwrap());
                assert!(!is_wanted);
                assert_eq!(feed.room(size).0, 2, "what was held back is nothing any more");
                continue;
            }
            channel.complete(0, completed(0));
            let (number, outcome) = within_deadline(|| results.next().unwrap());
            assert!(number == 0 && outcome.is_ok());
            // The feed is told at the next look.
            assert_eq!(results.next_timeout(Duration::ZERO).map(drop), Err(RecvTimeoutError::Timeout));
            let (is_wanted, feed) = within_deadline(|| feeder.join().unwrap());
            assert!(is_wanted);
            assert_eq!(feed.room(size), (2, 0));
            results.stopper().stop();
        }
    }

    #[test]
    fn results_come_in_order_if_they_are_to() {
        for (is_ordered, expected) in [(true, [0, 1, 2, 3]), (false, [2, 0, 3, 1])] {
            let (mut feed, mut results, channel) = ends(is_ordered);
            (0..4).for_each(|_| feed.add(b""));
            feed.submit(BATCH);
            feed.end();
            let mut come = Vec::new();
            for number in [2, 0, 3, 1] {
                channel.complete(number, completed(0));
                while let Ok((number, _)) = results.next_timeout(Duration::ZERO) {
                    come.push(number);
                }
            }
            assert_eq!(come, expected);
            assert_eq!(results.next_timeout(Duration::MAX).map(drop), Err(RecvTimeoutError::Disconnected));
            results.stopper().stop();
        }
    }

    /// Nothing is at work, so no result is there to wake the thread.
    #[test]
    fn who_waits_for_results_is_told_that_none_will_come() {
        for is_stopped in [false, true] {
            let (feed, mut results, _) = ends(true);
            let stopper = results.stopper();
            let (sender, number) = std::sync::mpsc::channel();
            let waits = thread::spawn(move || {
                sender.send(nix::unistd::gettid()).unwrap();
                results.next().is_none()
            });
            wait_until_asleep(number.recv().unwrap());
            // The other end stays: only this tells.
            let feed = match is_stopped {
                true => {
                    stopper.stop();
                    Some(feed)
                }
                false => {
                    drop(feed);
                    None
                }
            };
            assert!(within_deadline(|| waits.join().unwrap()), "stopped: {is_stopped}");
            drop(feed);
        }
    }

    #[test]
    fn an_input_that_was_refused_has_a_result_in_its_place() {
        let (mut feed, mut results, channel) = ends(true);
        feed.add(&[0; 1000]);
        feed.refuse(TaskError::untried("task", crate::error::Failure::Cancelled));
        feed.add(b"");
        feed.submit(BATCH);
        feed.end();
        // The length that each input counts for is at its position as well.
        let lens: Vec<_> = locked(&channel.state).lens.iter().map(|len| len / 1000).collect();
        assert_eq!(lens, [1, 0, 0]);
        [2, 0].into_iter().for_each(|number| channel.complete(number, completed(0)));
        let come: Vec<_> =
            within_deadline(|| results.by_ref().map(|(number, outcome)| (number, outcome.is_ok())).collect());
        assert_eq!(come, [(0, true), (1, false), (2, true)]);
    }
}
