//! `Event`.
//!
//! The state is one word: whether the event is set, and above that how often it was set. So a waiting process doesn't
//! miss an event that is cleared again at once, as a process may in Python.
//!
//! A process that clears the event, and then finds nothing done, waits. So a process that does something and then sets
//! the event must either be seen to have done it, or see that the event was cleared. Both have a sequentially
//! consistent fence between the two (Dekker): to set an event that is set is only a load, which would pass the stores
//! before it.

use crate::ipc::Result;
use crate::ipc::arena::Participant;
use crate::ipc::event;
use crate::ipc::kind::{ObjectState, Waitable};
use crate::ipc::object::{self, Handle, Object};
use crate::ipc::process_table::Register;
pub(crate) use crate::ipc::states::EventState;
use crate::ipc::waiting::Waiting;
use crate::sys::atomic::{Ordering, fence, fence_behind_rmw};
use crate::sys::futex::Deadline;

const SET: u64 = 1;

impl ObjectState for EventState {
    fn events<'a>(&'a self, _: &'a Participant) -> Result<Vec<&'a event::Event>> {
        Ok(vec![&self.changed])
    }

    fn waitable(&self) -> Option<&dyn Waitable> {
        Some(self)
    }

    fn waiting(&self, index: u32) -> Option<Waiting> {
        Some(Waiting::Event(index))
    }
}

impl Waitable for EventState {
    fn changed(&self) -> &event::Event {
        &self.changed
    }

    fn is_ready(&self) -> bool {
        self.is_set()
    }
}

impl EventState {
    pub(crate) fn is_set(&self) -> bool {
        self.word.load(Ordering::Acquire) & SET != 0
    }
}

/// Makes an event that isn't set.
pub(crate) fn create(participant: &Participant) -> Result<Handle> {
    object::create(participant, participant.slot()?.register(Register::Segment), |event: &EventState| {
        event.word.store(0, Ordering::Relaxed);
        Ok(())
    })
}

/// Sets the event.
pub(crate) fn set(participant: &Participant, event: Object<'_, EventState>) -> Result<()> {
    let _operation = participant.begin(event.index)?;
    let change = |word: u64| (word & SET == 0).then(|| word.wrapping_add(2) | SET);
    fence(Ordering::SeqCst);
    let _ = event.state.word.fetch_update(Ordering::SeqCst, Ordering::Relaxed, change);
    event.state.changed.notify_all(&participant.arena);
    Ok(())
}

/// Clears the event.
pub(crate) fn clear(event: Object<'_, EventState>) {
    event.state.word.fetch_and(!SET, Ordering::SeqCst);
    fence_behind_rmw();
}

/// Waits until the event is set, or was set meanwhile.
///
/// `AGAIN`, `TIMEDOUT`.
pub(crate) fn wait(
    participant: &Participant,
    event: Object<'_, EventState>,
    deadline: Deadline,
) -> Result<()> {
    let _operation = participant.begin(event.index)?;
    let before = event.state.word.load(Ordering::Acquire);
    let ready = || {
        let now = event.state.word.load(Ordering::Acquire);
        now & SET != 0 || now != before
    };
    while !ready() {
        event.state.changed.wait(participant, Waiting::Event(event.index), deadline, ready)?;
    }
    Ok(())
}
