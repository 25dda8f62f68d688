//! The items of a queue, for a process that looks through the queue and takes nothing.

use sandpool_abi::Errno;

use super::{INLINE, LINK, MESSAGE, QueueState, SEGMENT_HEAD, SegmentHead, capacity};
use crate::ipc::Result;
use crate::ipc::arena::Participant;
use crate::ipc::kind::{Position, Version};
use crate::ipc::message::Message;
use crate::ipc::object::Handle;
use crate::sys::atomic::{AtomicU64, Ordering};

/// Messages plus handles after which one look ends.
const LOOKED_AT_ONCE: usize = 256;

impl QueueState {
    pub(super) fn items_version(&self) -> Version {
        let Self { head, tail, .. } = self;
        let words = [&head.sequence, &head.segment, &tail.sequence, &tail.segment];
        Version(words.map(|word| word.load(Ordering::Acquire)))
    }

    /// Gives `each` some of the handles that lie in the queue, from this position on or from the first, and returns
    /// where to go on. Items that change meanwhile may be passed over, or given twice.
    ///
    /// `IO` if nothing sensible is there.
    pub(super) fn handles_from(
        &self,
        participant: &Participant,
        position: Option<Position>,
        mut each: impl FnMut(Handle),
    ) -> Result<Option<Position>> {
        let arena = &*participant.arena;
        let mut position = position.unwrap_or_else(|| Position {
            segment: self.head.segment.load(Ordering::Acquire),
            offset: self.head.offset.load(Ordering::Acquire),
            segments_left: u64::from(arena.geometry.heap_pages),
        });
        let segment = position.segment;
        if segment == 0 {
            return Ok(None);
        }
        let room = capacity(participant, segment)?;
        let is_last = segment == self.tail.segment.load(Ordering::Acquire);
        let end = if is_last { room.min(self.tail.offset.load(Ordering::Acquire)) } else { room };
        let mut looked_at = 0;
        while end.checked_sub(position.offset).is_some_and(|left| left >= 8) {
            let at = SEGMENT_HEAD + position.offset;
            let record = arena.in_heap::<AtomicU64>(segment, at)?.load(Ordering::Acquire);
            match record & 0xff {
                LINK => break,
                INLINE => {}
                MESSAGE => {
                    let page = arena.in_heap::<AtomicU64>(segment, at + 8)?.load(Ordering::Acquire);
                    let handles = Message::at(participant, page)?.handles(participant)?;
                    looked_at += 1 + handles.len();
                    handles.into_iter().for_each(&mut each);
                }
                _ => return Err(Errno::Io),
            }
            position.offset = (record >> 8)
                .checked_next_multiple_of(8)
                .and_then(|len| len.checked_add(8)?.checked_add(position.offset))
                .ok_or(Errno::Io)?;
            if looked_at >= LOOKED_AT_ONCE {
                return Ok(Some(position));
            }
        }
        position.segments_left = position.segments_left.checked_sub(1).ok_or(Errno::Io)?;
        position.segment = match is_last {
            true => 0,
            false => arena.in_heap::<SegmentHead>(segment, 0)?.next.load(Ordering::Acquire),
        };
        position.offset = 0;
        Ok((position.segment != 0).then_some(position))
    }
}
