//! Results one after the other, while the input is read.

use std::fmt;
use std::rc::Rc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::core::Core;
use super::error::TaskError;
use super::feed::{Feed, Shape};
use super::job::{Job, Stream};
use crate::deadline::Deadline;
use crate::raw;

/// The results of an [`imap`](crate::Pool::imap) or [`imap_unordered`](crate::Pool::imap_unordered).
///
/// A task that failed is an error in its place, and others follow.
///
/// The input is read as results are taken. When the iterator is dropped, tasks that haven't begun never do.
#[must_use = "it gives out tasks as results are taken"]
pub struct IMap<'p, I, A, R> {
    core: &'p Core<'static>,
    feed: Feed<I, A>,
    stream: Rc<Stream<R>>,
    job: Rc<dyn Job>,
}

impl<'p, I, A, R> IMap<'p, I, A, R>
where
    I: Iterator<Item = A>,
    A: Serialize,
    R: DeserializeOwned + 'static,
{
    pub(super) fn new(core: &'p Core<'static>, input: I, shape: Shape, is_ordered: bool) -> Self {
        let stream = Rc::new(Stream::new(is_ordered));
        let job = stream.clone();
        let mut imap = Self { core, feed: Feed::new(input, shape), stream, job };
        imap.feed();
        imap
    }

    fn feed(&mut self) {
        if self.core.is_owner() {
            self.feed.feed(self.core, &self.job, self.stream.taken());
        }
    }
}

impl<I, A, R> Iterator for IMap<'_, I, A, R>
where
    I: Iterator<Item = A>,
    A: Serialize,
    R: DeserializeOwned + 'static,
{
    type Item = Result<R, TaskError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            self.feed();
            if let Some(result) = self.stream.next() {
                return Some(result);
            }
            let is_over = self.feed.is_over() && self.feed.read() == self.stream.taken();
            if is_over || !self.core.is_owner() {
                return None;
            }
            self.core.step(Deadline::NEVER);
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let under_way = self.feed.read() - self.stream.taken();
        let (least, most) = self.feed.hint();
        (least + under_way, most.and_then(|most| most.checked_add(under_way)))
    }
}

impl<I, A, R> Drop for IMap<'_, I, A, R> {
    fn drop(&mut self) {
        raw::mute::aloud(|| {
            if self.core.is_owner() {
                self.stream.cancel();
                self.core.cancel_all(&self.job);
            }
        });
    }
}

impl<I, A, R> fmt::Debug for IMap<'_, I, A, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IMap").field("taken", &self.stream.taken()).finish_non_exhaustive()
    }
}
