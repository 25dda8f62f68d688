//! The format of tasks and results on their way between a pool's owner and its workers.
//!
//! A message is a head, and parts one after another: a chunk of several tasks is one message. Numbers are
//! little-endian.
//!
//! ```text
//! task     number 64   trampoline 32   function 32   timed 1   parts 31   mark 32   part …
//! result   number 64   worker 32       nanos 32      parts 32   note 32   part …
//! part     kind 16      handles 16     length 32      bytes
//! ```

use sandpool_abi::queue::Item;

use crate::flat::{self, Elements};

/// The length in bytes of a head, of either kind.
pub(super) const HEAD: usize = 24;

/// The number of a message that isn't a result.
pub(super) const NO_NUMBER: u64 = u64::MAX;

/// Bit of the number of parts: each part has a time limit.
const TIMED: u32 = 1 << 31;

/// The head of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TaskHead {
    /// The task's place in the order of all that were put.
    pub(super) number: u64,
    pub(super) trampoline: u32,
    pub(super) function: u32,
    pub(super) parts: u32,
    /// Each part has a time limit, so the host must know when a part begins.
    pub(super) is_timed: bool,
    /// The mark by which the task can be cancelled; 0 for none.
    pub(super) mark: u32,
}

/// The head of a result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ResultHead {
    /// The number of the task.
    pub(super) number: u64,
    pub(super) worker: u32,
    /// The time that a part took.
    pub(super) nanos: u32,
    /// The number of parts whose results follow: of the next parts that have none yet.
    pub(super) parts: u32,
    pub(super) note: u32,
}

/// Note: the worker ends after this one.
pub(super) const LEAVING: u32 = 1;
/// Note: the task isn't finished, and the results of other parts follow in other messages.
pub(super) const MORE: u32 = 2;
/// Note of a message without a number: the worker has panicked in a task, with its only part for a message.
pub(super) const PANICKED: u32 = 4;
/// Note of a message without a number: the worker is ready.
pub(super) const READY: u32 = 8;
/// Note of a message without a number: the worker isn't ready, and the message's only part says why.
pub(super) const NOT_READY: u32 = 16;

impl TaskHead {
    pub(super) fn to_bytes(self) -> [u8; HEAD] {
        let parts = self.parts & !TIMED | if self.is_timed { TIMED } else { 0 };
        bytes(self.number, [self.trampoline, self.function, parts, self.mark])
    }

    /// Reads the head, and returns it with the parts after it.
    pub(super) fn read(message: &[u8]) -> Option<(Self, &[u8])> {
        let (number, [trampoline, function, parts, mark], rest) = read(message)?;
        let is_timed = parts & TIMED != 0;
        Some((Self { number, trampoline, function, parts: parts & !TIMED, is_timed, mark }, rest))
    }
}

impl ResultHead {
    pub(super) fn to_bytes(self) -> [u8; HEAD] {
        bytes(self.number, [self.worker, self.nanos, self.parts, self.note])
    }

    /// Reads the head, and returns it with the parts after it.
    pub(super) fn read(message: &[u8]) -> Option<(Self, &[u8])> {
        let (number, [worker, nanos, parts, note], rest) = read(message)?;
        Some((Self { number, worker, nanos, parts, note }, rest))
    }
}

fn bytes(number: u64, words: [u32; 4]) -> [u8; HEAD] {
    let mut bytes = [0; HEAD];
    let (head, tail) = bytes.split_at_mut(8);
    head.copy_from_slice(&number.to_le_bytes());
    for (to, word) in tail.as_chunks_mut::<4>().0.iter_mut().zip(words) {
        *to = word.to_le_bytes();
    }
    bytes
}

fn read(message: &[u8]) -> Option<(u64, [u32; 4], &[u8])> {
    let (head, rest) = message.split_first_chunk::<HEAD>()?;
    let (number, words) = head.split_first_chunk::<8>()?;
    let mut words = words.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word));
    let words = [words.next()?, words.next()?, words.next()?, words.next()?];
    Some((u64::from_le_bytes(*number), words, rest))
}

/// The kind of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum PartKind {
    /// An encoded value.
    Value = 0,
    /// An encoded value, which is an `Err`.
    Failure = 1,
    /// Why the result can't be encoded.
    Encode = 2,
    /// Why the arguments can't be decoded.
    Decode = 3,
    /// Nothing: the result doesn't fit into the arena.
    TooLarge = 4,
}

impl PartKind {
    fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            0 => Self::Value,
            1 => Self::Failure,
            2 => Self::Encode,
            3 => Self::Decode,
            4 => Self::TooLarge,
            _ => return None,
        })
    }
}

/// A part of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part<'a> {
    pub(super) kind: PartKind,
    /// The number of the message's handles that belong to this part: those after the handles of the parts before it.
    pub(super) handles: usize,
    pub(super) bytes: &'a [u8],
}

/// The number of bytes before a part. All parts have the same, so that none is moved when its length is known.
const PART_HEAD: usize = 8;

/// Begins a part, whose bytes are to be appended. Returns the argument that `end_part` needs.
#[inline]
pub(super) fn begin_part(message: &mut Vec<u8>) -> usize {
    let start = message.len();
    message.extend_from_slice(&[0; PART_HEAD]);
    start
}

/// Ends a part.
#[inline]
pub(super) fn end_part(message: &mut [u8], start: usize, kind: PartKind, handles: usize) {
    end_cut_part(message, start, kind, handles, 0);
}

/// Ends the only part of a message: a flat value, whose elements lie elsewhere.
#[cold]
pub(super) fn end_only_part(message: &mut Vec<u8>, start: usize, head: flat::Head, elements: &dyn Elements) {
    message.extend_from_slice(&head);
    end_cut_part(message, start, PartKind::Value, 0, elements.bytes().len());
}

/// Ends a part of which `elsewhere` bytes lie elsewhere.
#[inline]
fn end_cut_part(message: &mut [u8], start: usize, kind: PartKind, handles: usize, elsewhere: usize) {
    let from = start + PART_HEAD;
    let len = message.len() - from + elsewhere;
    // A message has 1024 handles at most, and lies in a memory of 4 GiB.
    let head = (len as u64) << 32 | (handles as u64) << 16 | kind as u64;
    if let Some(room) = message.get_mut(start..from) {
        room.copy_from_slice(&head.to_le_bytes());
    }
}

/// Splits off the bytes of the first part, if it is a plain value, one without handles. Also returns the rest.
#[inline]
pub(super) fn split_plain(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let (head, rest) = message.split_first_chunk::<PART_HEAD>()?;
    let head = u64::from_le_bytes(*head);
    const { assert!(PartKind::Value as u16 == 0, "so that the half of a plain value's head is 0") }
    if head as u32 == 0 { rest.split_at_checked((head >> 32) as usize) } else { None }
}

/// The length of the beginning of a message whose only part's bytes are all that follows.
pub(super) const BEFORE_ONLY: usize = HEAD + PART_HEAD;

const _: () = assert!(BEFORE_ONLY <= flat::BEFORE_MAX, "or else it is copied once more");

/// The kind of a message's only part, if it has just one, without handles: judged by the bytes after the message's
/// head.
pub(super) fn only_part(behind_head: &[u8], item: Item) -> Option<PartKind> {
    let head = u64::from_le_bytes(*behind_head.first_chunk()?);
    let is_all = item.handle_count == 0 && (head >> 32).checked_add(BEFORE_ONLY as u64) == Some(item.len);
    PartKind::from_number(head as u16).filter(|_| is_all)
}

/// Splits off the first part. Also returns the rest.
#[inline]
pub(super) fn split_part(message: &[u8]) -> Option<(Part<'_>, &[u8])> {
    let (head, rest) = message.split_first_chunk::<PART_HEAD>()?;
    let head = u64::from_le_bytes(*head);
    let (bytes, rest) = rest.split_at_checked((head >> 32) as usize)?;
    Some((
        Part { kind: PartKind::from_number(head as u16)?, handles: usize::from((head >> 16) as u16), bytes },
        rest,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(mut message: &[u8]) -> impl Iterator<Item = Part<'_>> {
        std::iter::from_fn(move || {
            let (part, rest) = split_part(message)?;
            message = rest;
            Some(part)
        })
    }

    #[test]
    fn heads_are_read_as_they_were_written() {
        let task =
            TaskHead { number: 1 << 40, trampoline: 2, function: 3, parts: 4, is_timed: true, mark: 5 };
        assert_eq!(TaskHead::read(&task.to_bytes()), Some((task, &[][..])));
        let result = ResultHead { number: NO_NUMBER, worker: 1, nanos: u32::MAX, parts: 0, note: READY };
        assert_eq!(ResultHead::read(&result.to_bytes()), Some((result, &[][..])));
        assert_eq!(TaskHead::read(&[0; HEAD - 1]), None);
    }

    #[test]
    fn parts_are_read_as_they_were_written() {
        let long = vec![7; 100_000];
        let all: [(PartKind, usize, &[u8]); 5] = [
            (PartKind::Value, 0, &[]),
            (PartKind::Value, 0, &[1, 2, 3]),
            (PartKind::Value, 1024, &[1]),
            (PartKind::Encode, 0, b"message"),
            (PartKind::Failure, 0, &long),
        ];
        let mut message = Vec::new();
        for (kind, handles, bytes) in all {
            let start = begin_part(&mut message);
            message.extend_from_slice(bytes);
            end_part(&mut message, start, kind, handles);
        }
        let read: Vec<_> = parts(&message).map(|part| (part.kind, part.handles, part.bytes)).collect();
        assert_eq!(read, all);
        // A plain value is one without handles.
        assert_eq!(split_plain(&message).map(|(bytes, _)| bytes), Some(&[][..]));
        let plain = std::iter::successors(Some(&*message), |rest| Some(split_plain(rest)?.1)).count() - 1;
        assert_eq!(plain, 2);
        // A cut message ends the parts.
        message.pop();
        assert_eq!(parts(&message).count(), all.len() - 1);
    }
}
