//! How the input of a map is cut into chunks, and how far ahead of the results it is read.
//!
//! **The length of a chunk**, if the program doesn't set it, is the number of tasks that take about a millisecond, by the
//! recent time of tasks of this function: then handing chunks out costs little, and a map ends soon after its last chunk.
//! The length begins with one, and grows by a factor of four at most; and towards the end of an input whose length is
//! known, no chunk is more than its share of half of the rest.
//!
//! **How far ahead**: the number of tasks that the workers do in about ten milliseconds, at least two chunks for each
//! worker.

use std::marker::PhantomData;
use std::mem;
use std::rc::Rc;

use serde::Serialize;

use super::core::{Callee, Chunk, Core, Part, Terms};
use super::error::{Cause, TaskError};
use super::frame::{PartKind, begin_part, end_part};
use super::job::Job;
use crate::{EncodeError, codec, flat, object};
use sandpool_abi::MESSAGE_HANDLES_MAX;

/// The time that a chunk is to take.
const CHUNK_NANOS: u64 = 1_000_000;
/// The time for which tasks are given out ahead.
const AHEAD_NANOS: u64 = 10_000_000;
const TASKS_MAX: usize = 2048;
const CHUNKS_MAX: usize = 1024;
/// A chunk gets no more tasks after this number of bytes.
const BYTES_MAX: usize = 256 << 10;
/// The number of bytes after which no more is read before chunks are put.
const BYTES_AT_ONCE: usize = 4 << 20;
/// The longest chunk while the time of a task is unknown, if all tasks are to be given out at once.
const UNKNOWN_MAX: usize = 64;

/// An input that makes arguments for tasks of one function.
pub(super) struct Feed<I, A> {
    input: I,
    callee: Callee,
    terms: Terms,
    chunksize: Option<usize>,
    /// The maximum number of tasks that are given out and not taken.
    window: Option<usize>,
    /// The number of tasks that were read.
    read: usize,
    /// The length of the last chunk.
    last: usize,
    /// The number of bytes of the last chunk.
    last_bytes: usize,
    is_over: bool,
    arguments: PhantomData<fn() -> A>,
}

/// The description of the tasks to read.
pub(super) struct Shape {
    pub(super) callee: Callee,
    pub(super) terms: Terms,
    pub(super) chunksize: Option<usize>,
    pub(super) window: Option<usize>,
}

impl<I, A> Feed<I, A>
where
    I: Iterator<Item = A>,
    A: Serialize,
{
    pub(super) fn new(input: I, shape: Shape) -> Self {
        let Shape { callee, terms, chunksize, window } = shape;
        Self {
            input,
            callee,
            terms,
            chunksize,
            window,
            read: 0,
            last: 0,
            last_bytes: 0,
            is_over: false,
            arguments: PhantomData,
        }
    }

    /// The number of tasks that were read.
    pub(super) fn read(&self) -> usize {
        self.read
    }

    /// Whether the input is at its end.
    pub(super) fn is_over(&self) -> bool {
        self.is_over
    }

    /// The input's hint about the length of its rest.
    pub(super) fn hint(&self) -> (usize, Option<usize>) {
        if self.is_over { (0, Some(0)) } else { self.input.size_hint() }
    }

    /// Gives out all tasks.
    pub(super) fn feed_all(&mut self, core: &Core<'_>, job: &Rc<dyn Job>) {
        while !self.is_over {
            let size = match (self.chunksize, core.nanos(self.callee.function)) {
                (Some(size), _) => size,
                (None, Some(_)) => self.size(core),
                (None, None) => self.share(core).unwrap_or(1).min(UNKNOWN_MAX),
            };
            self.feed_one(core, job, size);
        }
        core.pump();
    }

    /// Gives out tasks until they are far enough ahead of `taken`.
    pub(super) fn feed(&mut self, core: &Core<'_>, job: &Rc<dyn Job>, taken: usize) {
        let size = self.chunksize.unwrap_or_else(|| self.size(core));
        let ahead = self.window.unwrap_or_else(|| self.ahead(core, size));
        // Puts many at a time, because putting them one by one costs more.
        if self.is_over || self.read - taken > ahead / 2 || core.is_full() {
            return;
        }
        let mut bytes = 0;
        while !self.is_over && self.read - taken < ahead && bytes < BYTES_AT_ONCE {
            let size = size.min(ahead - (self.read - taken));
            bytes += self.feed_one(core, job, size);
        }
        core.pump();
    }

    /// The length of the next chunk.
    fn size(&self, core: &Core<'_>) -> usize {
        let Some(nanos) = core.nanos(self.callee.function) else { return 1 };
        let fit = usize::try_from(CHUNK_NANOS / nanos.max(1)).unwrap_or(TASKS_MAX).min(TASKS_MAX);
        let most = self.share(core).unwrap_or(TASKS_MAX).min(self.last.max(1) * 4);
        fit.min(most).max(1)
    }

    /// A worker's share of half of the rest, if the length of the rest is known.
    fn share(&self, core: &Core<'_>) -> Option<usize> {
        let (least, most) = self.input.size_hint();
        (Some(least) == most).then(|| least.div_ceil(2 * core.processes()).max(1))
    }

    /// The number of tasks that are to be ahead.
    fn ahead(&self, core: &Core<'_>, size: usize) -> usize {
        let workers = core.processes();
        let chunks = match core.nanos(self.callee.function) {
            Some(nanos) => {
                let fit = (AHEAD_NANOS * workers as u64) / (nanos * size as u64).max(1);
                usize::try_from(fit).unwrap_or(CHUNKS_MAX).clamp(2 * workers, CHUNKS_MAX.max(2 * workers))
            }
            None => 2 * workers,
        };
        chunks.saturating_mul(size)
    }

    /// Reads a chunk, and returns its number of bytes.
    fn feed_one(&mut self, core: &Core<'_>, job: &Rc<dyn Job>, size: usize) -> usize {
        let mut chunk = self.chunk(job, self.read);
        // A chunk is mostly as long as the one before.
        chunk.bytes.reserve(self.last_bytes);
        while (chunk.parts as usize) < size && chunk.bytes.len() < BYTES_MAX {
            let Some(arguments) = self.input.next() else {
                self.is_over = true;
                break;
            };
            let index = self.read;
            self.read += 1;
            let arguments = match flat::set_apart(arguments) {
                Ok(only) => {
                    core.submit(mem::replace(&mut chunk, self.chunk(job, index)));
                    chunk.set_only(only);
                    break;
                }
                Err(arguments) => arguments,
            };
            match add(&mut chunk, &arguments) {
                Ok(()) => {}
                Err(Refused::Room) => {
                    // The handles don't fit into one message with those before.
                    core.submit(mem::replace(&mut chunk, self.chunk(job, index)));
                    if let Err(refused) = add(&mut chunk, &arguments) {
                        self.refuse(job, index, refused);
                        chunk.first = self.read;
                    }
                }
                Err(refused) => {
                    core.submit(mem::replace(&mut chunk, self.chunk(job, self.read)));
                    self.refuse(job, index, refused);
                }
            }
        }
        self.last = (chunk.parts as usize).max(1);
        self.last_bytes = chunk.bytes.len();
        let bytes = chunk.len();
        core.submit(chunk);
        bytes
    }

    /// Makes a new chunk, of tasks from `first` on.
    fn chunk(&self, job: &Rc<dyn Job>, first: usize) -> Chunk {
        Chunk::new(job.clone(), self.callee.clone(), self.terms, first)
    }

    fn refuse(&self, job: &Rc<dyn Job>, index: usize, refused: Refused) {
        let why = match refused {
            Refused::Encode(why) => why,
            Refused::Room => "too many handles in one message".to_owned(),
        };
        job.error(TaskError::new(index, None, Cause::Encode(why)));
    }
}

/// Encodes a value as the only part of its kind.
pub(super) fn part<A: Serialize>(value: &A) -> Result<Part, EncodeError> {
    part_of(|bytes| codec::append(bytes, value))
}

/// Makes a part from appended bytes and their handles.
pub(super) fn part_of(
    append: impl FnOnce(&mut Vec<u8>) -> Result<Vec<u64>, EncodeError>,
) -> Result<Part, EncodeError> {
    let mut bytes = Vec::new();
    let start = begin_part(&mut bytes);
    let handles = object::keep(append(&mut bytes)?).map_err(EncodeError::new)?;
    end_part(&mut bytes, start, PartKind::Value, handles.len());
    Ok(Part { bytes, handles })
}

/// The reason why arguments were not added to a chunk.
enum Refused {
    /// The arguments can't be encoded.
    Encode(String),
    /// The chunk has no room for the handles of the arguments after the others.
    Room,
}

/// Adds a task to a chunk.
#[inline(always)]
fn add<A: Serialize>(chunk: &mut Chunk, arguments: &A) -> Result<(), Refused> {
    let start = begin_part(&mut chunk.bytes);
    match codec::append(&mut chunk.bytes, arguments) {
        Ok(handles) if handles.is_empty() => {
            end_part(&mut chunk.bytes, start, PartKind::Value, 0);
            chunk.parts += 1;
            Ok(())
        }
        handles => add_with_handles(chunk, start, handles),
    }
}

/// Ends the part of a task that has handles, or can't be encoded.
#[cold]
fn add_with_handles(
    chunk: &mut Chunk,
    start: usize,
    handles: Result<Vec<u64>, EncodeError>,
) -> Result<(), Refused> {
    let handles = handles.map_err(|error| Refused::Encode(error.to_string())).and_then(|handles| {
        if chunk.handles().count() + handles.len() > MESSAGE_HANDLES_MAX {
            return Err(Refused::Room);
        }
        object::keep(handles).map_err(|errno| Refused::Encode(errno.to_string()))
    });
    match handles {
        Ok(handles) => {
            end_part(&mut chunk.bytes, start, PartKind::Value, handles.len());
            chunk.handles.extend(handles);
            chunk.parts += 1;
            Ok(())
        }
        Err(refused) => {
            chunk.bytes.truncate(start);
            Err(refused)
        }
    }
}
