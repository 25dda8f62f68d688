//! Iterators over the outputs of a task, which take inputs as they go: a stream whose two ends one thread holds.

use std::fmt;
use std::iter::Fuse;
use std::time::Duration;

use super::dispatcher::Shared;
use super::outcome::Decode;
use super::stream::{self, BATCH, Feed, Results};
use crate::error::TaskError;

/// Iterator that [`Pool::imap`](crate::Pool::imap), [`Pool::imap_commands`](crate::Pool::imap_commands) and their kin return.
pub struct Imap<'p, I: Iterator, O> {
    pool: &'p Shared,
    inputs: Fuse<I>,
    // Declared before the feed and dropped before it: inputs that the feed still holds are then no longer wanted.
    results: Results,
    feed: Feed,
    /// The size that the user asked for.
    size: Option<u64>,
    /// Why no input can be run.
    refused: Option<TaskError>,
    encode: Encode<I::Item>,
    decode: Decode<O>,
}

/// Makes an input of a value. The text is the task's name.
type Encode<I> = fn(&I, &str) -> Result<Vec<u8>, TaskError>;

impl<'p, I: Iterator, O> Imap<'p, I, O> {
    pub(super) fn new(
        pool: &'p Shared,
        (feed, results): (Feed, Results),
        refused: Option<TaskError>,
        inputs: I,
        (encode, decode): (Encode<I::Item>, Decode<O>),
    ) -> Self {
        Self { pool, inputs: inputs.fuse(), results, feed, size: None, refused, encode, decode }
    }

    /// Sets the most inputs that are taken before their outputs are: 1 or more. The default keeps the workers busy.
    #[must_use]
    pub fn window(mut self, inputs: u64) -> Self {
        self.size = Some(inputs.max(1));
        self
    }
}

impl<I: Iterator, O> Imap<'_, I, O> {
    /// Takes inputs until the window is full.
    fn fill(&mut self) {
        let size = self.size.unwrap_or_else(|| stream::window(self.pool.depth()));
        loop {
            // This also submits inputs that were added before another input panicked, if somebody has caught the panic.
            self.feed.submit(BATCH);
            let (at_work, room) = self.feed.room(size);
            // Batches are small at first, so that workers needn't wait for a slow input.
            let most = room.min(BATCH).min(at_work / 2 + 1);
            if most == 0 {
                return;
            }
            for _ in 0..most {
                let Some(input) = self.inputs.next() else {
                    self.feed.submit(BATCH);
                    return self.feed.end();
                };
                match self.refused.clone().map_or_else(|| (self.encode)(&input, self.feed.task()), Err) {
                    Ok(input) => self.feed.add(&input),
                    Err(error) => self.feed.refuse(error),
                }
                if self.feed.is_full() {
                    break;
                }
            }
        }
    }
}

impl<I: Iterator, O> fmt::Debug for Imap<'_, I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Imap").field("feed", &self.feed).field("results", &self.results).finish()
    }
}

impl<I: Iterator, O> Iterator for Imap<'_, I, O> {
    type Item = Result<O, TaskError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (_, outcome) = match self.results.next_timeout(Duration::ZERO) {
            Ok(next) => next,
            Err(_) => {
                self.fill();
                self.results.next()?
            }
        };
        let decoded = outcome.and_then(|completed| (self.decode)(completed, self.feed.task()));
        Some(decoded.map(|completed| completed.value))
    }
}
