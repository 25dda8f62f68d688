//! Iterators over the outputs of a task, which take inputs as they go.

use std::collections::VecDeque;
use std::fmt;
use std::iter::Fuse;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::dispatcher::Task;
use super::error::TaskError;
use super::future::{Completed, Outcome, Sink, Stream};
use super::{Format, Pool, encode, refusal};

/// More inputs than that are never at work, unless somebody says so.
const WINDOW_MAX: u64 = 32_768;
/// Nor more bytes of them.
const WINDOW_BYTES: u64 = 64 << 20;
/// Inputs that are submitted at once.
const BATCH: u64 = 128;

/// What both iterators do: keeps a window of inputs at work.
struct Window<'p, I> {
    pool: &'p Pool,
    task: Arc<str>,
    format: Format,
    inputs: Fuse<I>,
    stream: Arc<Stream>,
    /// What the user has asked for.
    size: Option<u64>,
    is_ordered: bool,
    /// Inputs that were taken so far.
    taken: u64,
    /// Outputs that were given so far.
    given: u64,
    /// Bytes of the inputs that are at work.
    bytes: u64,
    /// What has come.
    ready: VecDeque<(u64, Outcome)>,
    /// The inputs from the first on whose output wasn't given.
    slots: VecDeque<Slot>,
    /// The number of the first of them.
    first: u64,
}

/// An input that was taken.
#[derive(Default)]
struct Slot {
    len: u64,
    /// Its output, if that has come before its turn.
    outcome: Option<Outcome>,
    is_given: bool,
}

impl<'p, I: Iterator> Window<'p, I> {
    fn new(pool: &'p Pool, task: &str, format: Format, inputs: I, is_ordered: bool) -> Self {
        Self {
            pool,
            task: task.into(),
            format,
            inputs: inputs.fuse(),
            stream: Arc::default(),
            size: None,
            is_ordered,
            taken: 0,
            given: 0,
            bytes: 0,
            ready: VecDeque::new(),
            slots: VecDeque::new(),
            first: 0,
        }
    }

    /// Takes inputs until the window is full.
    fn fill<B: AsRef<[u8]>>(&mut self, encode: impl Fn(&str, I::Item) -> Result<B, TaskError>) {
        let unknown = self.pool.check(&self.task).err().map(|cause| refusal(&self.task, cause));
        let size =
            self.size.unwrap_or_else(|| (self.pool.shared.depth().saturating_mul(2)).clamp(4, WINDOW_MAX));
        loop {
            // Few at first, so that the workers needn't wait for a slow input.
            let at_work = self.taken - self.given;
            let most = size.saturating_sub(at_work).min(BATCH).min(at_work / 2 + 1);
            let mut tasks = Vec::new();
            while (tasks.len() as u64) < most
                && self.bytes < WINDOW_BYTES
                && let Some(input) = self.inputs.next()
            {
                let number = self.taken;
                self.taken += 1;
                self.slots.push_back(Slot::default());
                match unknown.clone().map_or_else(|| encode(&self.task, input), Err) {
                    Ok(input) => {
                        let input = input.as_ref();
                        self.bytes += input.len() as u64;
                        if let Some(slot) = self.slots.back_mut() {
                            slot.len = input.len() as u64;
                        }
                        let sink = Sink::Stream(self.stream.clone(), number);
                        tasks.push(Task::new(self.task.clone(), self.format as u32, input, sink));
                    }
                    Err(error) => self.ready.push_back((number, Err(error))),
                }
            }
            if tasks.is_empty() {
                return;
            }
            let numbers: Vec<_> = tasks.iter().map(Task::stream_number).collect();
            if let Err(cause) = self.pool.shared.submit(tasks) {
                let refused =
                    numbers.into_iter().map(|number| (number, Err(refusal(&self.task, cause.clone()))));
                self.ready.extend(refused);
            }
        }
    }

    /// The next output that it is the turn of, with the number of its input.
    fn next<B: AsRef<[u8]>>(
        &mut self,
        encode: impl Fn(&str, I::Item) -> Result<B, TaskError>,
    ) -> Option<(u64, Outcome)> {
        loop {
            if let Some(next) = self.turn() {
                return Some(next);
            }
            self.ready.append(&mut self.stream.take());
            if !self.ready.is_empty() {
                continue;
            }
            self.fill(&encode);
            if !self.ready.is_empty() {
                continue;
            }
            if self.taken == self.given {
                return None;
            }
            self.ready = self.stream.wait();
        }
    }

    fn turn(&mut self) -> Option<(u64, Outcome)> {
        if self.is_ordered {
            while let Some((number, outcome)) = self.ready.pop_front() {
                let at = usize::try_from(number - self.first).ok()?;
                self.slots.get_mut(at)?.outcome = Some(outcome);
            }
            let outcome = self.slots.front_mut()?.outcome.take()?;
            let number = self.first;
            self.give(number);
            return Some((number, outcome));
        }
        let (number, outcome) = self.ready.pop_front()?;
        self.give(number);
        Some((number, outcome))
    }

    /// An output is given.
    fn give(&mut self, number: u64) {
        self.given += 1;
        let at = usize::try_from(number - self.first).ok();
        if let Some(slot) = at.and_then(|at| self.slots.get_mut(at)) {
            slot.is_given = true;
            self.bytes -= slot.len;
        }
        while self.slots.front().is_some_and(|slot| slot.is_given) {
            self.slots.pop_front();
            self.first += 1;
        }
    }
}

impl<I> Drop for Window<'_, I> {
    fn drop(&mut self) {
        self.stream.abandon();
    }
}

/// What [`Pool::imap`] and [`Pool::imap_unordered`] return.
pub struct Imap<'p, I: Iterator, O> {
    window: Window<'p, I>,
    output: PhantomData<fn() -> O>,
}

impl<'p, I: Iterator, O> Imap<'p, I, O> {
    pub(super) fn new(pool: &'p Pool, task: &str, inputs: I, is_ordered: bool) -> Self {
        Self { window: Window::new(pool, task, Format::Serde, inputs, is_ordered), output: PhantomData }
    }

    /// The most inputs that are taken and whose output wasn't: 1 or more. Without it, as many as keep the workers busy.
    #[must_use]
    pub fn window(mut self, inputs: u64) -> Self {
        self.window.size = Some(inputs.max(1));
        self
    }
}

impl<I: Iterator, O> fmt::Debug for Imap<'_, I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Window { task, taken, given, .. } = &self.window;
        f.debug_struct("Imap").field("task", task).field("taken", taken).field("given", given).finish()
    }
}

impl<I, O> Iterator for Imap<'_, I, O>
where
    I: Iterator,
    I::Item: Serialize,
    O: DeserializeOwned,
{
    type Item = Result<O, TaskError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (_, outcome) = self.window.next(|task, input| encode(task, &input))?;
        let decoded = outcome.and_then(|completed| completed.decode(&self.window.task));
        Some(decoded.map(|completed: Completed<O>| completed.value))
    }
}

/// What [`Pool::imap_records`] returns: the number of an input, and what became of it.
pub struct Records<'p, I: Iterator> {
    window: Window<'p, I>,
}

impl<'p, I: Iterator> Records<'p, I> {
    pub(super) fn new(pool: &'p Pool, task: &str, format: Format, inputs: I, is_ordered: bool) -> Self {
        Self { window: Window::new(pool, task, format, inputs, is_ordered) }
    }

    /// As [`Imap::window`].
    #[must_use]
    pub fn window(mut self, inputs: u64) -> Self {
        self.window.size = Some(inputs.max(1));
        self
    }
}

impl<I: Iterator> fmt::Debug for Records<'_, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Window { task, taken, given, .. } = &self.window;
        f.debug_struct("Records").field("task", task).field("taken", taken).field("given", given).finish()
    }
}

impl<I> Iterator for Records<'_, I>
where
    I: Iterator,
    I::Item: AsRef<[u8]>,
{
    type Item = (u64, Result<Completed<Vec<u8>>, TaskError>);

    fn next(&mut self) -> Option<Self::Item> {
        self.window.next(|_, input| Ok(input))
    }
}
