//! The jobs that a program waits for: one result, all results of a map, or one after another of an imap.
//!
//! The pool sees each of them as a [`Job`], which takes results as they arrive, in any order, and each once.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Display;
use std::rc::Rc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::{Cause, TaskError};
use super::frame::split_plain;
use crate::message::Encoded;
use crate::{Queue, codec};

/// A receiver of the results of tasks, which have indices.
pub(super) trait Job {
    /// Takes the encoded result of a task. `failed` says that the result is an `Err`.
    fn value(&self, index: usize, value: Encoded<'_>, failed: bool);

    /// Takes the plain values at the beginning of a message, at most `most`: results of consecutive tasks, from `first`
    /// on. Returns their number, and the rest of the message.
    fn values<'m>(&self, first: usize, most: u32, message: &'m [u8]) -> (u32, &'m [u8]);

    /// Takes the failure of the task that the error names.
    fn error(&self, error: TaskError);

    /// Called after results were delivered, to run the program's callbacks.
    fn call_back(&self) {}

    /// Whether the job's tasks may be cancelled, so that they need a mark.
    fn is_cancellable(&self) -> bool {
        false
    }

    /// Whether the job was cancelled: tasks that haven't begun are to be dropped.
    fn is_cancelled(&self) -> bool {
        false
    }

    /// Notes that a task was put, with this number.
    fn put(&self, _number: u64) {}

    /// Whether the job is a single task, which can be cancelled by itself.
    fn is_single(&self) -> bool {
        false
    }

    /// Notes that the job's single task is cancelled before it has begun.
    fn cancel(&self) {}
}

fn decode<R: DeserializeOwned>(index: usize, value: Encoded<'_>) -> Result<R, TaskError> {
    match value.decode() {
        Ok(decoded) => decoded.map_err(|error| refused(index, &error)),
        Err(failure) => Err(refused(index, &failure)),
    }
}

#[cold]
fn refused(index: usize, error: &dyn Display) -> TaskError {
    TaskError::new(index, None, Cause::Decode(error.to_string()))
}

/// Does the work of [`Job::values`], and calls `arrive` for each value.
#[inline(always)]
fn each_value<R: DeserializeOwned>(
    first: usize,
    most: u32,
    message: &[u8],
    mut arrive: impl FnMut(usize, Result<R, TaskError>),
) -> (u32, &[u8]) {
    let (mut count, mut rest) = (0, message);
    while count < most
        && let Some((bytes, behind)) = split_plain(rest)
    {
        let index = first + count as usize;
        arrive(index, codec::decode_plain(bytes).map_err(|error| refused(index, &error)));
        count += 1;
        rest = behind;
    }
    (count, rest)
}

type Callback<T> = Box<dyn FnOnce(&Result<T, TaskError>)>;

/// A result that is completed once, and taken once.
pub(super) trait Pending<T> {
    fn is_done(&self) -> bool;

    /// Whether the job is done, and its result is neither an error nor an `Err`.
    fn is_ok(&self) -> bool;

    /// Takes the result; `None` if it hasn't arrived, or was taken.
    fn take(&self) -> Option<Result<T, TaskError>>;

    /// Registers a callback for the result, which is called now if the result has arrived.
    fn on_done(&self, callback: Callback<T>);
}

/// A result, and the callbacks for it.
struct Outcome<T> {
    result: RefCell<Option<Result<T, TaskError>>>,
    callbacks: RefCell<Vec<Callback<T>>>,
    /// The result while callbacks are called.
    shown: RefCell<Option<Rc<Result<T, TaskError>>>>,
    /// Makes a second result for a caller that takes it in a callback, where others still look at the first.
    copy: fn(&T) -> Result<T, Cause>,
    is_done: Cell<bool>,
    has_failed: Cell<bool>,
}

impl<T: Serialize + DeserializeOwned> Outcome<T> {
    fn new() -> Self {
        Self {
            result: RefCell::new(None),
            callbacks: RefCell::new(Vec::new()),
            shown: RefCell::new(None),
            copy,
            is_done: Cell::new(false),
            has_failed: Cell::new(false),
        }
    }
}

impl<T> Outcome<T> {
    fn set(&self, result: Result<T, TaskError>, failed: bool) {
        self.has_failed.set(failed || result.is_err());
        self.result.replace(Some(result));
        self.is_done.set(true);
    }

    fn on_done(&self, callback: Callback<T>) {
        self.callbacks.borrow_mut().push(callback);
        self.call_back();
    }

    /// Calls the callbacks. None of these cells is borrowed meanwhile: a callback may do anything with the pool, and with
    /// this result. Callbacks that it adds are called after it.
    fn call_back(&self) {
        if !self.is_done.get() || self.shown.borrow().is_some() || self.callbacks.borrow().is_empty() {
            return;
        }
        // A result that was taken is shown to nobody, because nobody is left who could add a callback.
        let Some(result) = self.result.take().map(Rc::new) else { return };
        self.shown.replace(Some(result.clone()));
        while let Some(callback) = first(&self.callbacks) {
            callback(&result);
        }
        self.shown.replace(None);
        self.result.replace(Rc::into_inner(result));
    }

    /// Takes the result; `None` if it hasn't arrived, or was taken.
    fn take(&self) -> Option<Result<T, TaskError>> {
        if let Some(result) = self.result.take() {
            return Some(result);
        }
        let shown = self.shown.borrow().clone()?;
        Some(match &*shown {
            Ok(value) => (self.copy)(value).map_err(|cause| TaskError::new(0, None, cause)),
            Err(error) => Err(error.clone()),
        })
    }

    /// Looks at the result without taking it; `None` if it hasn't arrived, or was taken.
    fn peek<U>(&self, look: impl FnOnce(&Result<T, TaskError>) -> U) -> Option<U> {
        let shown = self.shown.borrow().clone();
        match shown {
            Some(shown) => Some(look(&shown)),
            None => self.result.borrow().as_ref().map(look),
        }
    }
}

fn first<T>(callbacks: &RefCell<Vec<Callback<T>>>) -> Option<Callback<T>> {
    let mut callbacks = callbacks.borrow_mut();
    (!callbacks.is_empty()).then(|| callbacks.remove(0))
}

/// Copies a value in the way that it came here: through a queue, which has uses of its own of the handles in it.
fn copy<T: Serialize + DeserializeOwned>(value: &T) -> Result<T, Cause> {
    let queue = Queue::new().map_err(|error| Cause::Encode(error.to_string()))?;
    queue.try_put(value).map_err(|error| Cause::Encode(error.to_string()))?;
    queue.try_get().map_err(|error| Cause::Decode(error.to_string()))
}

/// One task.
pub(super) struct One<R> {
    outcome: Outcome<R>,
    number: Cell<Option<u64>>,
    is_cancelled: Cell<bool>,
}

impl<R: Serialize + DeserializeOwned> One<R> {
    pub(super) fn new() -> Self {
        Self { outcome: Outcome::new(), number: Cell::new(None), is_cancelled: Cell::new(false) }
    }
}

impl<R> One<R> {
    /// The number that the task was put with, if it was put.
    pub(super) fn number(&self) -> Option<u64> {
        self.number.get()
    }

    /// Whether the task was cancelled.
    pub(super) fn was_cancelled(&self) -> bool {
        self.is_cancelled.get()
    }

    /// Looks at the result without taking it; `None` if it hasn't arrived, or was taken.
    pub(super) fn peek<T>(&self, look: impl FnOnce(&Result<R, TaskError>) -> T) -> Option<T> {
        self.outcome.peek(look)
    }
}

impl<R: DeserializeOwned> Job for One<R> {
    fn values<'m>(&self, first: usize, most: u32, message: &'m [u8]) -> (u32, &'m [u8]) {
        each_value(first, most, message, |_, result| self.outcome.set(result, false))
    }

    fn value(&self, index: usize, value: Encoded<'_>, failed: bool) {
        self.outcome.set(decode(index, value), failed);
    }

    fn error(&self, error: TaskError) {
        self.outcome.set(Err(error), true);
    }

    fn call_back(&self) {
        self.outcome.call_back();
    }

    fn is_cancellable(&self) -> bool {
        true
    }

    fn is_cancelled(&self) -> bool {
        self.is_cancelled.get()
    }

    fn put(&self, number: u64) {
        self.number.set(Some(number));
    }

    fn is_single(&self) -> bool {
        true
    }

    fn cancel(&self) {
        self.is_cancelled.set(true);
        self.outcome.set(Err(TaskError::new(0, None, Cause::Cancelled)), true);
    }
}

impl<R> Pending<R> for One<R> {
    fn is_done(&self) -> bool {
        self.outcome.is_done.get()
    }

    fn is_ok(&self) -> bool {
        self.is_done() && !self.outcome.has_failed.get()
    }

    fn take(&self) -> Option<Result<R, TaskError>> {
        self.outcome.take()
    }

    fn on_done(&self, callback: Callback<R>) {
        self.outcome.on_done(callback);
    }
}

/// All tasks of a map.
pub(super) struct All<R> {
    state: RefCell<AllState<R>>,
    outcome: Outcome<Vec<R>>,
    /// Room for the results of a message.
    message: RefCell<Vec<R>>,
    is_cancellable: bool,
    is_given_up: Cell<bool>,
}

struct AllState<R> {
    /// The results of the first tasks.
    results: Vec<R>,
    /// The results of later tasks, where an earlier one is missing: consecutive results, from an index on.
    early: BTreeMap<usize, Vec<R>>,
    /// The error with the lowest index.
    error: Option<TaskError>,
    has_failed: bool,
    /// The number of results that have arrived.
    arrived: usize,
    /// The number of tasks, once it is known.
    count: Option<usize>,
}

impl<R: Serialize + DeserializeOwned> All<R> {
    pub(super) fn new(is_cancellable: bool) -> Self {
        let state = AllState {
            results: Vec::new(),
            early: BTreeMap::new(),
            error: None,
            has_failed: false,
            arrived: 0,
            count: None,
        };
        Self {
            state: RefCell::new(state),
            outcome: Outcome::new(),
            message: RefCell::default(),
            is_cancellable,
            is_given_up: Cell::new(false),
        }
    }

    /// Notes that nobody wants the results.
    pub(super) fn give_up(&self) {
        self.is_given_up.set(true);
    }
}

impl<R> All<R> {
    /// The number of results that have arrived.
    pub(super) fn arrived(&self) -> usize {
        self.state.borrow().arrived
    }

    /// Sets the number of tasks.
    pub(super) fn set_count(&self, count: usize) {
        self.state.borrow_mut().count = Some(count);
        self.complete();
    }

    fn complete(&self) {
        let mut state = self.state.borrow_mut();
        if state.count == Some(state.arrived) && !self.outcome.is_done.get() {
            let results = std::mem::take(&mut state.results);
            let result = state.error.take().map_or(Ok(results), Err);
            self.outcome.set(result, state.has_failed);
        }
    }

    /// Takes results of consecutive tasks, from an index on.
    fn arrive(&self, first: usize, count: usize, values: impl IntoIterator<Item = R>, failed: bool) {
        let mut state = self.state.borrow_mut();
        state.arrived += count;
        state.has_failed |= failed;
        // After an error, nobody gets the results. An empty run isn't kept.
        if state.error.is_none() && count != 0 {
            state.keep(first, values);
        }
        drop(state);
        self.complete();
    }
}

impl<R> AllState<R> {
    fn keep(&mut self, first: usize, values: impl IntoIterator<Item = R>) {
        if first == self.results.len() {
            self.results.extend(values);
            while let Some(run) = self.early.first_entry()
                && *run.key() == self.results.len()
            {
                self.results.append(&mut run.remove());
            }
            return;
        }
        match self.early.range_mut(..first).next_back() {
            Some((start, run)) if start + run.len() == first => run.extend(values),
            _ => {
                self.early.insert(first, values.into_iter().collect());
            }
        }
    }

    fn fail(&mut self, error: TaskError) {
        self.has_failed = true;
        if self.error.as_ref().is_none_or(|first| error.index() < first.index()) {
            self.error = Some(error);
        }
    }
}

impl<R: DeserializeOwned> Job for All<R> {
    fn values<'m>(&self, first: usize, most: u32, message: &'m [u8]) -> (u32, &'m [u8]) {
        // Nothing is borrowed while the program's own code decodes.
        let mut values = self.message.take();
        let (count, rest) = each_value(first, most, message, |_, result| match result {
            Ok(value) => values.push(value),
            Err(error) => self.state.borrow_mut().fail(error),
        });
        self.arrive(first, count as usize, values.drain(..), false);
        self.message.replace(values);
        (count, rest)
    }

    fn value(&self, index: usize, value: Encoded<'_>, failed: bool) {
        match decode(index, value) {
            Ok(value) => self.arrive(index, 1, [value], failed),
            Err(error) => self.error(error),
        }
    }

    fn error(&self, error: TaskError) {
        self.state.borrow_mut().fail(error);
        self.arrive(0, 1, [], true);
    }

    fn call_back(&self) {
        self.outcome.call_back();
    }

    fn is_cancellable(&self) -> bool {
        self.is_cancellable
    }

    fn is_cancelled(&self) -> bool {
        self.is_given_up.get()
    }
}

impl<R> Pending<Vec<R>> for All<R> {
    fn is_done(&self) -> bool {
        self.outcome.is_done.get()
    }

    fn is_ok(&self) -> bool {
        self.is_done() && !self.outcome.has_failed.get()
    }

    fn take(&self) -> Option<Result<Vec<R>, TaskError>> {
        self.outcome.take()
    }

    fn on_done(&self, callback: Callback<Vec<R>>) {
        self.outcome.on_done(callback);
    }
}

/// The tasks of an imap, whose results are taken one after another.
pub(super) struct Stream<R> {
    results: RefCell<VecDeque<Option<Result<R, TaskError>>>>,
    is_ordered: bool,
    /// The number of results that were taken.
    taken: Cell<usize>,
    is_cancelled: Cell<bool>,
}

impl<R> Stream<R> {
    pub(super) fn new(is_ordered: bool) -> Self {
        Self {
            results: RefCell::new(VecDeque::new()),
            is_ordered,
            taken: Cell::new(0),
            is_cancelled: Cell::new(false),
        }
    }

    /// The number of results that were taken.
    pub(super) fn taken(&self) -> usize {
        self.taken.get()
    }

    /// Takes the next result, if it has arrived.
    pub(super) fn next(&self) -> Option<Result<R, TaskError>> {
        let mut results = self.results.borrow_mut();
        results.front()?.as_ref()?;
        self.taken.set(self.taken.get() + 1);
        results.pop_front().flatten()
    }

    /// Notes that nobody wants the rest.
    pub(super) fn cancel(&self) {
        self.is_cancelled.set(true);
    }

    /// Puts a result in its place.
    pub(super) fn arrive(&self, index: usize, result: Result<R, TaskError>) {
        if self.is_cancelled.get() {
            return;
        }
        let mut results = self.results.borrow_mut();
        if !self.is_ordered {
            results.push_back(Some(result));
            return;
        }
        let place = index - self.taken.get();
        if results.len() <= place {
            results.resize_with(place + 1, || None);
        }
        if let Some(slot) = results.get_mut(place) {
            *slot = Some(result);
        }
    }
}

impl<R: DeserializeOwned> Job for Stream<R> {
    fn values<'m>(&self, first: usize, most: u32, message: &'m [u8]) -> (u32, &'m [u8]) {
        each_value(first, most, message, |index, result| self.arrive(index, result))
    }

    fn value(&self, index: usize, value: Encoded<'_>, _: bool) {
        self.arrive(index, decode(index, value));
    }

    fn error(&self, error: TaskError) {
        self.arrive(error.index(), Err(error));
    }

    fn is_cancellable(&self) -> bool {
        true
    }

    fn is_cancelled(&self) -> bool {
        self.is_cancelled.get()
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::super::frame::{PartKind, begin_part, end_part};
    use super::*;
    use crate::handles::Handles;

    /// The results of these tasks, as a message of plain values.
    fn message(tasks: Range<usize>) -> Vec<u8> {
        let mut message = Vec::new();
        for task in tasks {
            let start = begin_part(&mut message);
            message.extend_from_slice(&(task as u64).to_le_bytes());
            end_part(&mut message, start, PartKind::Value, 0);
        }
        message
    }

    #[test]
    fn results_of_a_map_stand_in_the_order_of_its_tasks() {
        // Chunks of 1, 2, 3 and 4 tasks and so on, that arrive in different orders.
        let chunks: Vec<_> =
            (1..12).scan(0, |end, len| Some(std::mem::replace(end, *end + len)..*end)).collect();
        let count = chunks.last().map_or(0, |last| last.end);
        for step in [1, 2, 3, 4, 7, 10] {
            let all = All::<u64>::new(false);
            all.set_count(count);
            // The first chunk of each fails, and is tried again with the others.
            for chunk in &chunks {
                assert_eq!(all.values(chunk.start, 1, &[0xff; 8]), (0, &[0xff; 8][..]));
            }
            for chunk in chunks.iter().cycle().step_by(step).take(chunks.len()).cloned() {
                assert!(!all.is_done());
                let most = chunk.len() as u32;
                assert_eq!(all.values(chunk.start, most, &message(chunk)), (most, &[][..]));
            }
            let results = all.take().and_then(Result::ok);
            assert_eq!(results, Some((0..count as u64).collect()), "each {step}th chunk after the other");
        }
    }

    #[test]
    fn the_error_of_the_first_task_that_has_one_is_that_of_the_map() {
        let all = All::<u64>::new(false);
        all.set_count(6);
        all.values(3, 2, &message(3..5));
        all.error(TaskError::new(2, None, Cause::Cancelled));
        all.error(TaskError::new(1, None, Cause::TooLarge));
        // A value that isn't a number.
        all.value(5, Encoded::Here(&[], Handles::default()), false);
        assert!(!all.is_done());
        all.values(0, 1, &message(0..1));
        assert!(all.is_done() && !all.is_ok());
        let error = all.take().and_then(Result::err);
        assert_eq!(error.map(|error| error.index()), Some(1));
    }
}
