//! The work of a worker: it takes tasks, works on one after the other, and puts the result of each.
//!
//! A worker takes several tasks at a time where they are short, and never knows more than the next ones. At each instant
//! at which it may be killed, each of its tasks is in one of three states, and the host tells the owner which: claimed
//! and not begun, begun, finished. The finished parts of a task of several parts are [saved] meanwhile. A panic is
//! reported to the owner before it ends the process.
//!
//! [saved]: super::saved

use std::cell::{Cell, LazyCell};
use std::fmt::Display;
use std::process;
use std::rc::Rc;
use std::sync::Arc;

use sandpool_abi::queue::Item;
use sandpool_abi::{Errno, FOREVER, NO_WAIT};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::failed::is_err;
use super::frame::{
    BEFORE_ONLY, HEAD, LEAVING, MORE, NO_NUMBER, NOT_READY, PANICKED, PartKind, READY, ResultHead, TaskHead,
    begin_part, end_only_part, end_part, only_part, split_part, split_plain,
};
use super::marks::Marks;
use super::saved::{Fill, Saved};
use crate::flat::{self, Elements};
use crate::handles::Handles;
use crate::logging::{Level, complain};
use crate::message::{self, Encoded, Failure};
use crate::object::{self, Object, Role, Use};
use crate::{DecodeError, EncodeError, Error, codec, log, raw, start};

/// The maximum number of tasks that are taken at a time.
const BATCH_MAX: usize = 64;
/// Tasks taken together take about this long, the time that it takes to wake another process.
const BATCH_NANOS: u64 = 50_000;
/// Room for the tasks: enough for the largest that comes in a batch.
const BUFFER: usize = 64 << 10;

/// A queue of the pool's own. Its items name functions by their numbers, so nobody else may get at it: it isn't taken for
/// a [`Queue`](crate::Queue), nor a `Queue` for it.
#[derive(Debug, Clone)]
pub(super) struct PoolQueue(Arc<Object>);

impl PoolQueue {
    pub(super) fn new(flags: u32) -> Result<Self, Error> {
        let object = Object::adopt(raw::queue::create(0, flags)?);
        object.made_as(Use::Pool, 0, 0)?;
        Ok(Self(object))
    }

    #[inline]
    pub(super) fn handle(&self) -> u64 {
        self.0.handle()
    }

    /// Closes the queue: nothing more is put; a process that waits for a task is told.
    pub(super) fn close(&self) -> Result<(), Error> {
        match raw::queue::close(self.handle()) {
            Ok(()) | Err(Errno::Closed) => Ok(()),
            Err(other) => Err(other.into()),
        }
    }
}

impl Serialize for PoolQueue {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(Role::POOL_QUEUE.what, serializer)
    }
}

impl<'de> Deserialize<'de> for PoolQueue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Object::deserialize(&Role::POOL_QUEUE, deserializer).map(Self)
    }
}

/// The objects that a worker works with: encoded for a spawned worker.
#[derive(Debug, Clone)]
pub(super) struct Links {
    pub(super) tasks: PoolQueue,
    pub(super) results: PoolQueue,
    pub(super) marks: Marks,
    /// The worker's number.
    pub(super) worker: u32,
    /// The place where the worker leaves finished parts.
    pub(super) saved: Saved,
    /// The number of tasks that the worker is for; 0 for any number.
    pub(super) tasks_max: u64,
}

/// The links in the form in which they are encoded.
pub(super) type Parcel = (PoolQueue, PoolQueue, Marks, u32, Saved, u64);

impl Links {
    pub(super) fn pack(self) -> Parcel {
        (self.tasks, self.results, self.marks, self.worker, self.saved, self.tasks_max)
    }

    pub(super) fn unpack((tasks, results, marks, worker, saved, tasks_max): Parcel) -> Self {
        Self { tasks, results, marks, worker, saved, tasks_max }
    }
}

/// Does a task: takes its parts one after another, and replies to each.
pub(super) type Call<'a> = dyn Fn(&mut Turn<'_>) + 'a;

/// The parts of a task that a worker works on.
pub(crate) struct Turn<'a> {
    links: &'a Links,
    head: TaskHead,
    rest: &'a [u8],
    handles: Handles,
    /// The message, if everything after the head of the first part is still to be taken.
    held: Option<Item>,
    /// The number of parts that were taken.
    taken: u32,
    reply: &'a mut Reply,
    saved: Fill,
    failure: Option<Errno>,
    /// The time spent on work that isn't done for each part.
    beside: u64,
}

impl<'a> Turn<'a> {
    /// The state that all parts have, if any: before the first of them. It is decoded later, because no part has
    /// begun yet.
    fn state(&mut self) -> (&'a [u8], Handles) {
        let Some((part, rest)) = split_part(self.rest) else { return Default::default() };
        self.rest = rest;
        (part.bytes, self.handles.split_first(part.handles))
    }

    /// Returns the arguments of the next part, which counts as begun from now on.
    #[inline(always)]
    pub(super) fn next<A: DeserializeOwned>(&mut self) -> Option<Result<A, DecodeError>> {
        // Most parts are plain, and neither the first nor timed.
        if self.taken != 0
            && self.taken != self.head.parts
            && !self.head.is_timed
            && let Some((bytes, rest)) = split_plain(self.rest)
            && self.saves()
        {
            self.rest = rest;
            self.taken += 1;
            return Some(codec::decode_plain(bytes));
        }
        let part = self.next_part()?;
        match part.decode() {
            Ok(decoded) => Some(decoded),
            Err(Failure::Host(errno)) => {
                self.failure = Some(errno);
                None
            }
            // The part has begun, so the end of the process is the end of the task.
            Err(Failure::OutOfMemory) => process::abort(),
        }
    }

    /// Returns the next part, of whatever kind.
    fn next_part(&mut self) -> Option<Encoded<'a>> {
        if self.taken == self.head.parts {
            return None;
        }
        if let Err(errno) = self.begin() {
            self.failure = Some(errno);
            return None;
        }
        self.taken += 1;
        if let Some(item) = self.held.take() {
            return Some(Encoded::Held(item, BEFORE_ONLY));
        }
        let Some((part, rest)) = split_part(self.rest) else {
            self.failure = Some(Errno::Io);
            return None;
        };
        self.rest = rest;
        Some(Encoded::Here(part.bytes, self.handles.split_first(part.handles)))
    }

    /// Saves the result of the last part; returns whether it can. Only processes and messages can hold handles, so a
    /// result with handles isn't saved.
    #[inline(always)]
    fn saves(&mut self) -> bool {
        let reply = &*self.reply;
        reply.handles.is_empty() && self.saved.add(reply.message.get(reply.last.0..).unwrap_or_default())
    }

    fn begin(&mut self) -> Result<(), Errno> {
        if self.taken == 0 {
            // Saved parts of the previous task would be taken for this one's.
            if self.head.parts > 1 {
                self.saved = self.links.saved.begin(0);
            }
            return raw::task::begin(0);
        }
        if !self.saves() {
            self.put()?;
        }
        // The host needn't know, unless it must end the part in time: the saved parts show that the worker goes on.
        if self.head.is_timed { raw::task::begin(self.taken) } else { Ok(()) }
    }

    /// Puts the finished parts, before the end of the task.
    #[cold]
    fn put(&mut self) -> Result<(), Errno> {
        self.send(0, MORE, put)?;
        self.reply.clear();
        self.saved = self.links.saved.begin(self.taken);
        Ok(())
    }

    /// Puts the finished parts, and gives up the claim of the task.
    fn finish(&mut self, nanos: u64, note: u32) -> Result<(), Errno> {
        self.send(nanos, note, |results, message, handles| {
            raw::task::finish(results, message, handles, FOREVER)
        })?;
        self.reply.clear();
        Ok(())
    }

    /// Sends all results; if they don't fit into one message, the last by itself; if that doesn't fit, then a message
    /// that says so.
    fn send(
        &mut self,
        nanos: u64,
        note: u32,
        send: impl Fn(u64, &[&[u8]], &[u64]) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        let results = self.links.results.handle();
        let head = self.result_head(nanos, note);
        let sent = self.reply.send(results, head, &send);
        if !is_too_large(sent) {
            return sent;
        }
        let head = ResultHead { parts: head.parts.min(1), ..head };
        if self.reply.parts > 1 {
            let before = ResultHead { parts: self.reply.parts - 1, note: MORE, ..head };
            let last = self.reply.split_last();
            self.reply.send(results, before, put)?;
            self.saved = self.links.saved.begin(self.taken - 1);
            *self.reply = last;
            let sent = self.reply.send(results, head, &send);
            if !is_too_large(sent) {
                return sent;
            }
        }
        self.reply.clear();
        let start = self.reply.begin();
        end_part(&mut self.reply.message, start, PartKind::TooLarge, 0);
        self.reply.send(results, head, send)
    }

    fn result_head(&self, nanos: u64, note: u32) -> ResultHead {
        ResultHead {
            number: self.head.number,
            worker: self.links.worker,
            nanos: u32::try_from(nanos).unwrap_or(u32::MAX),
            parts: self.reply.parts,
            note,
        }
    }

    /// Adds a result.
    #[inline(always)]
    pub(super) fn reply<R: Serialize>(&mut self, mut result: R) {
        let reply = &mut *self.reply;
        let start = reply.begin();
        if self.head.parts == 1 {
            result = match flat::set_apart(result) {
                Ok(only) => return reply.set_only(start, only),
                Err(result) => result,
            };
        }
        let kind = if is_err(&result) { PartKind::Failure } else { PartKind::Value };
        match codec::append(&mut reply.message, &result) {
            Ok(handles) if handles.is_empty() => end_part(&mut reply.message, start, kind, 0),
            handles => reply.keep(start, kind, handles),
        }
    }

    /// Adds a failure instead of a result.
    pub(super) fn refuse(&mut self, kind: PartKind, error: &dyn Display) {
        let start = self.reply.begin();
        instead(&mut self.reply.message, start, kind, error);
    }
}

/// Sends results before the end of their task.
fn put(results: u64, message: &[&[u8]], handles: &[u64]) -> Result<(), Errno> {
    raw::queue::put(results, message, handles, FOREVER)
}

/// Whether a message has too many bytes, or handles.
fn is_too_large(sent: Result<(), Errno>) -> bool {
    matches!(sent, Err(Errno::Msgsize | Errno::Inval))
}

/// The results of the finished parts of the current task that weren't put.
#[derive(Default)]
struct Reply {
    /// The message, with room for a head; empty if no part is done.
    message: Vec<u8>,
    /// The bytes after the message: the rest of the only part, if that is large.
    apart: Option<Rc<dyn Elements>>,
    /// The handles in the message, kept because the values that had them may be gone.
    handles: Vec<Arc<Object>>,
    parts: u32,
    /// The beginning of the last part, in both.
    last: (usize, usize),
}

impl Reply {
    /// Begins a part, and returns the argument that `end_part` needs.
    #[inline(always)]
    fn begin(&mut self) -> usize {
        if self.message.is_empty() {
            self.message.extend_from_slice(&[0; HEAD]);
        }
        self.parts += 1;
        self.last = (self.message.len(), self.handles.len());
        begin_part(&mut self.message)
    }

    /// Ends the only part, which is this.
    fn set_only(&mut self, start: usize, (head, elements): (flat::Head, Rc<dyn Elements>)) {
        end_only_part(&mut self.message, start, head, &*elements);
        self.apart = Some(elements);
    }

    /// Ends a part that has handles, or can't be encoded.
    #[cold]
    fn keep(&mut self, start: usize, kind: PartKind, handles: Result<Vec<u64>, EncodeError>) {
        match handles.and_then(|handles| object::keep(handles).map_err(EncodeError::new)) {
            Ok(handles) => {
                end_part(&mut self.message, start, kind, handles.len());
                self.handles.extend(handles);
            }
            Err(error) => instead(&mut self.message, start, PartKind::Encode, &error),
        }
    }

    /// Takes the last part off.
    fn split_last(&mut self) -> Self {
        let mut message = vec![0; HEAD];
        message.extend_from_slice(self.message.get(self.last.0..).unwrap_or_default());
        self.message.truncate(self.last.0);
        let handles = self.handles.drain(self.last.1.min(self.handles.len())..).collect();
        Self { message, apart: None, handles, parts: 1, last: (HEAD, 0) }
    }

    fn send(
        &mut self,
        results: u64,
        head: ResultHead,
        send: impl Fn(u64, &[&[u8]], &[u64]) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        if self.message.is_empty() {
            self.message.resize(HEAD, 0);
        }
        if let Some(room) = self.message.first_chunk_mut::<HEAD>() {
            *room = head.to_bytes();
        }
        let numbers: Vec<_> = self.handles.iter().map(|object| object.handle()).collect();
        match &self.apart {
            None => send(results, &[&self.message], &numbers),
            Some(apart) => send(results, &[&self.message, apart.bytes()], &numbers),
        }
    }

    fn clear(&mut self) {
        if self.message.capacity() > KEEP {
            self.message = Vec::new();
        }
        self.message.clear();
        self.apart = None;
        self.handles.clear();
        self.parts = 0;
    }
}

thread_local! {
    /// Whether a panic now belongs to a task.
    static IS_AT_WORK: Cell<bool> = const { Cell::new(false) };
}

/// A buffer larger than this goes back to the allocator after use.
const KEEP: usize = 1 << 20;

/// Calls a function of the pool's owner for each part. There is one copy of this for each type of function.
pub(super) fn call<A, R>(turn: &mut Turn<'_>)
where
    A: DeserializeOwned,
    R: Serialize,
{
    let Some(function) = raw::function::from_number::<A, R>(u64::from(turn.head.function)) else {
        return no_function(turn);
    };
    while let Some(arguments) = turn.next::<A>() {
        match arguments {
            Ok(arguments) => turn.reply(function(arguments)),
            Err(error) => turn.refuse(PartKind::Decode, &error),
        }
    }
}

/// Like `call`, for functions with a state before their arguments.
pub(super) fn call_partial<S, A, R>(turn: &mut Turn<'_>)
where
    S: DeserializeOwned,
    A: DeserializeOwned,
    R: Serialize,
{
    call_with::<S, A, R>(turn, codec::decode);
}

/// Like `call_partial`, for a state that was copied.
pub(super) fn call_by_value<S, A, R>(turn: &mut Turn<'_>)
where
    S: Copy + 'static,
    A: DeserializeOwned,
    R: Serialize,
{
    call_with::<S, A, R>(turn, |state, handles| {
        drop(handles);
        raw::value::read(state).ok_or_else(|| DecodeError::new("it isn't as long as such a value"))
    });
}

/// Calls a function with a state, which is decoded once.
fn call_with<S, A, R>(turn: &mut Turn<'_>, decode: impl FnOnce(&[u8], Handles) -> Result<S, DecodeError>)
where
    A: DeserializeOwned,
    R: Serialize,
{
    let (state, handles) = turn.state();
    let number = u64::from(turn.head.function);
    let Some(function) = raw::function::from_number_with_state::<S, A, R>(number) else {
        drop(handles);
        return no_function(turn);
    };
    let took = Cell::new(0);
    // Decoded only after a task has begun, so that the task fails if decoding ends the process.
    let state = LazyCell::new(|| {
        let start = raw::clock::monotonic();
        let state = decode(state, handles);
        took.set(raw::clock::monotonic() - start);
        state
    });
    while let Some(arguments) = turn.next::<A>() {
        match (&*state, arguments) {
            (Ok(state), Ok(arguments)) => turn.reply(function(state, arguments)),
            (Err(error), _) => turn.refuse(PartKind::Decode, error),
            (_, Err(error)) => turn.refuse(PartKind::Decode, &error),
        }
    }
    turn.beside = took.get();
}

/// The number of a function that calls functions of one type.
pub(super) fn number(call: fn(&mut Turn<'_>)) -> u64 {
    raw::function::number::<&mut Turn<'_>, ()>(call)
}

/// The function that a worker of a standing pool calls: it calls functions by their numbers.
pub(super) fn call_by_number(turn: &mut Turn<'_>) {
    match raw::function::from_number::<&mut Turn<'_>, ()>(u64::from(turn.head.trampoline)) {
        Some(task) => task(turn),
        None => no_function(turn),
    }
}

fn no_function(turn: &mut Turn<'_>) {
    while let Some(part) = turn.next_part() {
        part.discard();
        turn.refuse(PartKind::Decode, &DecodeError::new("it doesn't name a function of this program"));
    }
}

/// Replaces the part that was begun by a failure.
#[cold]
fn instead(message: &mut Vec<u8>, start: usize, kind: PartKind, error: &dyn Display) {
    message.truncate(start);
    begin_part(message);
    message.extend_from_slice(error.to_string().as_bytes());
    end_part(message, start, kind, 0);
}

/// Runs a worker, and returns its exit code. `initialize` returns an error message if it fails.
pub(super) fn run(links: &Links, initialize: &dyn Fn() -> Option<String>, call: &Call<'_>) -> i32 {
    report_panics(links);
    if let Some(failure) = initialize() {
        complain(&format!("error: {failure}"));
        // If the owner can't be told, the exit code says it.
        let _ = tell(links, NOT_READY, &failure);
        return 1;
    }
    let mut worker = Worker::new(links, call);
    let ended = worker.work();
    log!(Level::DEBUG, "worker exiting after {} tasks", worker.done());
    match ended {
        Ok(()) | Err(Errno::Closed) => 0,
        Err(errno) => {
            complain(&format!("error: the worker can't go on: {errno}"));
            1
        }
    }
}

/// Tells the owner something that isn't a result.
fn tell(links: &Links, note: u32, text: &str) -> Result<(), Errno> {
    let head = ResultHead { number: NO_NUMBER, worker: links.worker, nanos: 0, parts: 1, note };
    let mut message = head.to_bytes().to_vec();
    let start = begin_part(&mut message);
    message.extend_from_slice(text.as_bytes());
    end_part(&mut message, start, PartKind::Value, 0);
    raw::queue::put(links.results.handle(), &[&message], &[], FOREVER)
}

/// Makes a panic reported to the owner before the panic is printed and ends the process.
fn report_panics(links: &Links) {
    let links = links.clone();
    start::on_panic(move |message| {
        // A failure here needs no report: the end of the process says enough.
        let _ = if IS_AT_WORK.get() {
            tell(&links, PANICKED, message)
        } else {
            tell(&links, NOT_READY, &format!("panicked: {message}"))
        };
    });
}

/// A running worker.
struct Worker<'a> {
    links: &'a Links,
    call: &'a Call<'a>,
    /// The number of tasks that the worker is still for.
    left: u64,
    /// The number of tasks that the worker takes at a time.
    batch: usize,
    /// The recent time of a task, and the function that it called.
    lately: Option<((u32, u32), u64)>,
    /// Whether the tasks that the worker took together call one function, once each.
    is_uniform: bool,
    reply: Reply,
}

impl<'a> Worker<'a> {
    fn new(links: &'a Links, call: &'a Call<'a>) -> Self {
        let left = Self::tasks_max(links);
        Self { links, call, left, batch: 1, lately: None, is_uniform: true, reply: Reply::default() }
    }

    fn tasks_max(links: &Links) -> u64 {
        if links.tasks_max == 0 { u64::MAX } else { links.tasks_max }
    }

    /// The number of tasks that the worker has done.
    fn done(&self) -> u64 {
        Self::tasks_max(self.links) - self.left
    }

    /// Works until the worker must leave, or no more tasks come.
    fn work(&mut self) -> Result<(), Errno> {
        let mut buffer = vec![0; BUFFER];
        let mut lens = [0; BATCH_MAX];
        // Sent once the worker has everything that it needs to begin a task.
        tell(self.links, READY, "")?;
        self.links.saved.follow()?;
        while self.left != 0 && !self.links.marks.may_leave() {
            let got = self.take(&mut buffer, &mut lens)?;
            let start = raw::clock::monotonic();
            self.is_uniform = true;
            if got == 0 {
                self.large()?;
            }
            let mut bytes = &*buffer;
            for len in lens.get(..got).ok_or(Errno::Io)? {
                let (task, rest) = bytes.split_at_checked(*len as usize).ok_or(Errno::Io)?;
                bytes = rest;
                self.task(task, Handles::default(), None)?;
            }
            let nanos = (raw::clock::monotonic() - start) / (got.max(1) as u64);
            if self.is_uniform
                && let Some((_, lately)) = &mut self.lately
            {
                *lately = nanos;
            }
            let fit = BATCH_NANOS / nanos.max(1);
            self.batch = usize::try_from(fit).unwrap_or(BATCH_MAX).clamp(1, BATCH_MAX).min(self.batch * 2);
        }
        Ok(())
    }

    /// Takes tasks, as many as permitted: one if the worker had to wait, because a task that comes then may be of any
    /// length; and never so many that other workers have nothing to do. 0 if the next isn't for a batch.
    fn take(&mut self, buffer: &mut [u8], lens: &mut [u32]) -> Result<usize, Errno> {
        let tasks = self.links.tasks.handle();
        if self.batch > 1 {
            let share = raw::queue::qsize(tasks)? / (2 * self.links.marks.workers()) + 1;
            let left = usize::try_from(self.left).unwrap_or(BATCH_MAX);
            let count = self.batch.min(share).min(left);
            match raw::queue::get_many(tasks, buffer, lens.get_mut(..count).ok_or(Errno::Io)?, NO_WAIT) {
                Err(Errno::Again) => self.batch = 1,
                got => return got,
            }
        }
        raw::queue::get_many(tasks, buffer, lens.get_mut(..1).ok_or(Errno::Io)?, FOREVER)
    }

    /// Takes a large task, or one with handles.
    fn large(&mut self) -> Result<(), Errno> {
        let tasks = self.links.tasks.handle();
        let item = raw::queue::get(tasks, &mut [], FOREVER)?;
        let mut start = [0; BEFORE_ONLY];
        raw::queue::peek(&mut start)?;
        if let Some((head, behind)) = TaskHead::read(&start)
            && head.parts == 1
            && only_part(behind, item).is_some()
        {
            return self.task(&start, Handles::default(), Some(item));
        }
        match message::take(item, &mut []) {
            Ok((task, handles)) => self.task(&task, handles, None),
            Err(Failure::Host(errno)) => Err(errno),
            // The worker has claimed the task, so the end of the process is the end of the task.
            Err(Failure::OutOfMemory) => {
                raw::task::begin(0)?;
                process::abort()
            }
        }
    }

    /// Does a task. The only part of a task may still be `held`: then `task` is the bytes before it.
    fn task(&mut self, task: &[u8], handles: Handles, held: Option<Item>) -> Result<(), Errno> {
        let (head, parts) = TaskHead::read(task).ok_or(Errno::Io)?;
        self.left -= 1;
        let note = if self.left == 0 { LEAVING } else { 0 };
        let is_taken = head.mark == 0 || self.links.marks.take(head.mark);
        let mut turn = Turn {
            links: self.links,
            head,
            rest: parts,
            handles,
            held,
            taken: 0,
            reply: &mut self.reply,
            saved: Fill::default(),
            failure: None,
            beside: 0,
        };
        if !is_taken {
            turn.handles = Handles::default();
            if let Some(item) = turn.held {
                Encoded::Held(item, 0).discard();
            }
            return turn.finish(0, note);
        }
        let function = (head.trampoline, head.function);
        let known = self.lately.filter(|(known, _)| *known == function).map(|(_, nanos)| nanos);
        let is_measured = head.parts > 1 || self.batch == 1 || known.is_none();
        let start = if is_measured { raw::clock::monotonic() } else { 0 };
        IS_AT_WORK.set(true);
        (self.call)(&mut turn);
        IS_AT_WORK.set(false);
        if let Some(errno) = turn.failure {
            return Err(errno);
        }
        // Handles that the task hasn't taken are dropped: with the end of the task, all of it is done.
        turn.handles = Handles::default();
        let nanos = match known {
            Some(nanos) if !is_measured => nanos,
            _ => (raw::clock::monotonic() - start).saturating_sub(turn.beside) / u64::from(head.parts.max(1)),
        };
        self.is_uniform &= known.is_some() && head.parts == 1;
        self.lately = Some((function, nanos));
        turn.finish(nanos, note)
    }
}
