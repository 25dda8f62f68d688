//! The tasks that are given out together, and what is needed to do them.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use sandpool_scheduler::{Entry, Work};

use super::Label;
use crate::flat::{self, Elements};
use crate::message::Encoded;
use crate::object::Object;
use crate::pool::error::{Cause, TaskError};
use crate::pool::frame::{HEAD, begin_part, end_only_part, split_part};
use crate::pool::job::Job;

/// The terms on which tasks are done.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::pool) struct Terms {
    /// How often a failed task is tried again.
    pub(in crate::pool) retries: u32,
    /// How long a task may take.
    pub(in crate::pool) timeout: Option<Duration>,
}

/// The function of a task, by its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::pool) struct Function {
    pub(in crate::pool) trampoline: u32,
    pub(in crate::pool) function: u32,
}

/// The function that is called for tasks.
#[derive(Clone)]
pub(in crate::pool) struct Callee {
    pub(in crate::pool) function: Function,
    /// The state that all tasks have.
    pub(in crate::pool) state: Option<Rc<Part>>,
}

/// A part of a message, and its handles.
#[derive(Default)]
pub(in crate::pool) struct Part {
    pub(in crate::pool) bytes: Vec<u8>,
    pub(in crate::pool) handles: Vec<Arc<Object>>,
}

/// A callee that no worker of a standing pool could call.
pub(in crate::pool) const NOTHING: Callee =
    Callee { function: Function { trampoline: 0, function: 0 }, state: None };

/// Several tasks that are given out together.
pub(in crate::pool) struct Chunk {
    pub(in crate::pool) job: Rc<dyn Job>,
    pub(in crate::pool) callee: Callee,
    pub(in crate::pool) terms: Terms,
    /// The index of its first task.
    pub(in crate::pool) first: usize,
    /// The number of tasks.
    pub(in crate::pool) parts: u32,
    /// The arguments of the tasks, as parts of a message.
    pub(in crate::pool) bytes: Vec<u8>,
    /// The bytes after those: the rest of the only task's arguments, if that is large.
    apart: Option<Rc<dyn Elements>>,
    pub(in crate::pool) handles: Vec<Arc<Object>>,
    /// The mark by which the chunk can be cancelled; 0 for none.
    pub(super) mark: u32,
    pub(super) is_cancelled: bool,
}

impl Chunk {
    pub(in crate::pool) fn new(job: Rc<dyn Job>, callee: Callee, terms: Terms, first: usize) -> Self {
        Self {
            job,
            callee,
            terms,
            first,
            parts: 0,
            bytes: Vec::new(),
            apart: None,
            handles: Vec::new(),
            mark: 0,
            is_cancelled: false,
        }
    }

    /// Makes this a chunk of a single task, with these arguments.
    pub(in crate::pool) fn set_only(&mut self, (head, elements): (flat::Head, Rc<dyn Elements>)) {
        let start = begin_part(&mut self.bytes);
        end_only_part(&mut self.bytes, start, head, &*elements);
        self.apart = Some(elements);
        self.parts = 1;
    }

    /// The number of bytes of the chunk's message.
    pub(in crate::pool) fn len(&self) -> usize {
        let state = self.callee.state.as_ref().map_or(0, |state| state.bytes.len());
        HEAD + state + self.bytes.len() + self.apart.as_ref().map_or(0, |apart| apart.bytes().len())
    }

    /// The bytes of the chunk's message without the head: the state, the tasks, and the bytes set apart.
    pub(super) fn behind_head(&self) -> [&[u8]; 3] {
        let state = self.callee.state.as_ref().map_or(&[][..], |state| &state.bytes);
        [state, &self.bytes, self.apart.as_ref().map_or(&[], |apart| apart.bytes())]
    }

    /// The handles of the chunk's message.
    pub(in crate::pool) fn handles(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.callee.state.iter().flat_map(|state| &state.handles).chain(&self.handles)
    }

    /// The error for a failed task of the chunk.
    pub(super) fn error(&self, part: u32, cause: Cause, worker: Option<&Label>) -> TaskError {
        TaskError::new(self.first + part as usize, worker.cloned(), cause)
    }

    /// Whether nobody waits for the chunk any more.
    pub(super) fn is_dropped(&self) -> bool {
        self.is_cancelled || self.job.is_cancelled()
    }
}

impl Work for Chunk {
    #[inline(always)]
    fn tasks(&self) -> u32 {
        self.parts
    }

    #[inline(always)]
    fn bytes(&self) -> u64 {
        self.len() as u64
    }

    fn slice(&self, from: u32, to: u32) -> Self {
        let mut slice =
            Self::new(self.job.clone(), self.callee.clone(), self.terms, self.first + from as usize);
        if self.apart.is_some() && (from, to) == (0, 1) {
            (slice.bytes, slice.apart, slice.parts) = (self.bytes.clone(), self.apart.clone(), 1);
            return slice;
        }
        let (mut rest, mut handle) = (&*self.bytes, 0);
        for index in 0..if from < to { to } else { 0 } {
            let Some((part, behind)) = split_part(rest) else { break };
            if index >= from {
                let len = rest.len() - behind.len();
                slice.bytes.extend_from_slice(rest.get(..len).unwrap_or_default());
                let handles = self.handles.get(handle..handle + part.handles).unwrap_or_default();
                slice.handles.extend(handles.iter().cloned());
                slice.parts += 1;
            }
            rest = behind;
            handle += part.handles;
        }
        slice
    }
}

/// Whether anybody waits for an entry that came back.
pub(super) fn is_wanted(entry: &Entry<Chunk>) -> bool {
    !entry.work.is_dropped()
}

/// A job that nobody waits for.
pub(super) struct Nobody;

impl Job for Nobody {
    fn values<'m>(&self, _: usize, _: u32, message: &'m [u8]) -> (u32, &'m [u8]) {
        (0, message)
    }

    fn value(&self, _: usize, value: Encoded<'_>, _: bool) {
        value.discard();
    }

    fn error(&self, _: TaskError) {}
}
