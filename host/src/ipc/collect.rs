//! Finds objects that no process can reach, and destroys them: queues that hold themselves, or each other, through
//! messages that nobody can take any more.
//!
//! Holders are counted, so an object goes with the last of them; but a message is a holder too, and may lie in a queue
//! that only this message holds. Descriptors in sockets have the same problem (unix(7), SCM_RIGHTS), and the solution
//! is the same:
//!
//! 1. **look**: candidates are the objects that no process holds, only messages or a name;
//! 2. **count**: how many of these messages lie in queues that are candidates themselves;
//! 3. **reach**: a candidate with more of these holders than were counted has a name, or is in a message that is in a
//!    process's hands, or in a queue that a process can take from. So processes can reach this candidate, and all that
//!    lies in it. The rest is counted anew without them, until every candidate that is left has been counted in full;
//! 4. **verify**: the candidates that are left lie only in each other. The supervisor looks at them once more. If none
//!    of them has changed, no process could have reached them at the instant at which the first look ended and this
//!    one began; and an object that can't be reached stays so. A candidate that has changed is none any more, and the
//!    rest is counted anew without it;
//! 5. **destroy** the candidates that are left.
//!
//! To verify, the object table is locked for each object, since a hold becomes a message under that lock only. A
//! candidate can change no more without a process that reaches it: only a holder can put something into it, or take
//! what it holds.
//!
//! The supervisor collects in short steps, and only when a process has found the arena full and asks for it. That
//! process waits until the collection is done, and tries again: [`retry`](super::collections::retry). The process
//! doesn't ask unless, since the last collection, some process has dropped a hold of an object, or thrown away a
//! message with that object, while another message held the object: otherwise there is nothing to find.

use std::collections::HashMap;

use sandpool_abi::Errno;

use super::Result;
use super::arena::{Arena, Participant};
use super::kind::{self, Position, Version};
use super::object;
use super::object_table::{Handle, LIVE, generation, is_held};
use super::sweep::Sweep;
use crate::sys::atomic::Ordering;

/// Objects that one step looks at.
const OBJECTS_AT_ONCE: usize = 256;

/// How often changed candidates are left out and the rest counted anew, before the collection is left for another time.
const ROUNDS: u32 = 16;

/// An object that no process holds, only messages or a name.
#[derive(Debug)]
struct Candidate {
    found: Unheld,
    /// How many messages in other candidates hold it.
    counted: u64,
    is_reached: bool,
}

/// The collection that the supervisor is doing.
#[derive(Debug)]
pub(crate) struct Collector {
    phase: Phase,
    candidates: HashMap<u32, Candidate>,
    order: Vec<u32>,
    rounds: u32,
    /// Something has changed since the first look.
    has_changed: bool,
    /// The count of suspects when the collection began.
    suspects: u64,
}

#[derive(Debug)]
enum Phase {
    Idle,
    /// Looks at objects, from this index on.
    Look(u32),
    /// Counts the handles that lie in this candidate, from this position on.
    Count(usize, Option<Position>),
    /// Finds candidates that are referred to from elsewhere, from this candidate on.
    Roots(usize, Vec<u32>),
    /// Follows the handles that lie in those candidates, in the last of them from this position on.
    Reach(Vec<u32>, Option<Position>),
    /// Looks once more, from this candidate on.
    Verify(usize),
    /// Marks the candidates that are left as being destroyed, from this candidate on.
    Condemn(usize, Vec<u32>),
    Destroy(Sweep),
}

impl Collector {
    /// Makes the collector for the supervisor of an arena.
    pub(crate) fn new(arena: &Arena) -> Result<Self> {
        arena.header()?.collections.is_on.store(1, Ordering::SeqCst);
        Ok(Self {
            phase: Phase::Idle,
            candidates: HashMap::new(),
            order: Vec::new(),
            rounds: 0,
            has_changed: false,
            suspects: 0,
        })
    }

    /// Whether a collection is under way.
    pub(crate) fn is_at_it(&self) -> bool {
        !matches!(self.phase, Phase::Idle)
    }

    /// Begins a collection, if a process wants one.
    pub(crate) fn begin_if_wanted(&mut self, participant: &Participant) -> Result<()> {
        let collections = &participant.arena.header()?.collections;
        if !self.is_at_it() && collections.wanted.load(Ordering::Relaxed) != 0 {
            collections.wanted.store(0, Ordering::SeqCst);
            if collections.has_suspects() {
                collections.begun.fetch_add(1, Ordering::SeqCst);
                self.suspects = collections.suspects.load(Ordering::SeqCst);
                self.phase = Phase::Look(0);
            }
        }
        Ok(())
    }

    /// Does one step; no guest determines the length of a step.
    ///
    /// # Errors
    ///
    /// `BUSY`: the same step is to be tried again.
    pub(crate) fn step(&mut self, participant: &Participant) -> Result<()> {
        let phase = std::mem::replace(&mut self.phase, Phase::Idle);
        self.phase = match phase {
            Phase::Idle => Phase::Idle,
            Phase::Look(from) => self.look(participant, from)?,
            Phase::Count(at, position) => self.count(participant, at, position),
            Phase::Roots(at, roots) => self.roots(at, roots),
            Phase::Reach(roots, position) => self.reach(participant, roots, position)?,
            Phase::Verify(at) => match self.verify(participant, at) {
                Ok(phase) => phase,
                Err(errno) => return self.again(Phase::Verify(at), errno),
            },
            Phase::Condemn(at, mut condemned) => match self.condemn(participant, at, &mut condemned) {
                Ok(Some(next)) => Phase::Condemn(next, condemned),
                Ok(None) => Phase::Destroy(Sweep::from_condemned(condemned)),
                Err(errno) => return self.again(Phase::Condemn(at, condemned), errno),
            },
            Phase::Destroy(mut sweep) => match sweep.step(participant) {
                Ok(false) => Phase::Destroy(sweep),
                Err(errno) if errno == Errno::Busy => return self.again(Phase::Destroy(sweep), errno),
                Ok(true) | Err(_) => self.end(participant)?,
            },
        };
        Ok(())
    }

    /// Sets the same phase again, because another process holds a lock.
    fn again(&mut self, phase: Phase, errno: Errno) -> Result<()> {
        self.phase = phase;
        Err(errno)
    }

    fn end(&mut self, participant: &Participant) -> Result<Phase> {
        let has_given_up = self.rounds >= ROUNDS;
        (self.candidates, self.order, self.rounds) = (HashMap::new(), Vec::new(), 0);
        let collections = &participant.arena.header()?.collections;
        if !has_given_up {
            collections.cleared.store(self.suspects, Ordering::SeqCst);
        }
        collections.ended.store(collections.begun.load(Ordering::SeqCst), Ordering::SeqCst);
        collections.done.wake_all(&participant.arena);
        Ok(Phase::Idle)
    }

    fn look(&mut self, participant: &Participant, from: u32) -> Result<Phase> {
        let all = participant.arena.header()?.objects.high_water(&participant.arena);
        let until = from.saturating_add(OBJECTS_AT_ONCE as u32).min(all);
        for index in from..until {
            if let Some(found) = unheld(participant, index)? {
                self.candidates.insert(index, Candidate { found, counted: 0, is_reached: false });
                self.order.push(index);
            }
        }
        if until < all {
            return Ok(Phase::Look(until));
        }
        if self.candidates.is_empty() { self.end(participant) } else { Ok(Phase::Count(0, None)) }
    }

    /// Whether this object still counts as one that nobody can reach.
    fn is_open(&self, index: u32) -> bool {
        self.candidates.get(&index).is_some_and(|candidate| !candidate.is_reached)
    }

    /// The number of the candidate that a handle names.
    fn named(&self, handle: Handle) -> Option<u32> {
        let index = handle.index().ok()?;
        self.candidates.get(&index).filter(|candidate| candidate.found.is(handle)).map(|_| index)
    }

    /// Gives `each` a part of the handles in one object; returns where to go on.
    fn contents(
        participant: &Participant,
        index: u32,
        position: Option<Position>,
        each: impl FnMut(Handle),
    ) -> Option<Position> {
        // A queue that can't be read is changing. Its messages aren't counted, so the objects in them count as reached.
        handles_in(participant, index, position, each).ok().flatten()
    }

    fn count(&mut self, participant: &Participant, at: usize, position: Option<Position>) -> Phase {
        let Some(index) = self.order.get(at).copied() else { return Phase::Roots(0, Vec::new()) };
        if !self.is_open(index) {
            return Phase::Count(at + 1, None);
        }
        let mut found = Vec::new();
        let next = Self::contents(participant, index, position, |handle| found.extend(self.named(handle)));
        for index in found {
            if let Some(candidate) = self.candidates.get_mut(&index) {
                candidate.counted += 1;
            }
        }
        match next {
            Some(position) => Phase::Count(at, Some(position)),
            None => Phase::Count(at + 1, None),
        }
    }

    fn roots(&mut self, at: usize, mut roots: Vec<u32>) -> Phase {
        let some: Vec<_> = self.order.iter().skip(at).take(OBJECTS_AT_ONCE).copied().collect();
        if some.is_empty() {
            // All messages that were counted lie in candidates that are left.
            return if roots.is_empty() { Phase::Verify(0) } else { Phase::Reach(roots, None) };
        }
        for index in &some {
            if let Some(candidate) = self.candidates.get_mut(index)
                && !candidate.is_reached
                && candidate.counted != candidate.found.in_transit
            {
                candidate.is_reached = true;
                roots.push(*index);
            }
        }
        Phase::Roots(at + some.len(), roots)
    }

    fn reach(
        &mut self,
        participant: &Participant,
        mut roots: Vec<u32>,
        position: Option<Position>,
    ) -> Result<Phase> {
        let Some(index) = roots.last().copied() else { return self.count_anew(participant) };
        let mut found = Vec::new();
        let next = Self::contents(participant, index, position, |handle| found.extend(self.named(handle)));
        if next.is_none() {
            roots.pop();
        }
        for index in found {
            if let Some(candidate) = self.candidates.get_mut(&index)
                && !candidate.is_reached
            {
                candidate.is_reached = true;
                // The candidate that is being read stays the last.
                roots.insert(roots.len() - usize::from(next.is_some() && !roots.is_empty()), index);
            }
        }
        Ok(Phase::Reach(roots, next))
    }

    fn verify(&mut self, participant: &Participant, at: usize) -> Result<Phase> {
        let some: Vec<_> = self.order.iter().skip(at).take(OBJECTS_AT_ONCE).copied().collect();
        for index in &some {
            if let Some(candidate) = self.candidates.get_mut(index)
                && !candidate.is_reached
                && !is_still(participant, *index, &candidate.found)?
            {
                candidate.is_reached = true;
                self.has_changed = true;
            }
        }
        if !some.is_empty() {
            return Ok(Phase::Verify(at + some.len()));
        }
        if std::mem::take(&mut self.has_changed) {
            self.count_anew(participant)
        } else {
            Ok(Phase::Condemn(0, Vec::new()))
        }
    }

    /// Counts again, without the candidates that were reached: their contents may be elsewhere by now.
    fn count_anew(&mut self, participant: &Participant) -> Result<Phase> {
        self.candidates.retain(|_, candidate| !candidate.is_reached);
        self.candidates.values_mut().for_each(|candidate| candidate.counted = 0);
        self.order.retain(|index| self.candidates.contains_key(index));
        self.rounds += 1;
        if self.rounds >= ROUNDS || self.order.is_empty() {
            return self.end(participant);
        }
        Ok(Phase::Count(0, None))
    }

    /// Marks some candidates; returns where to go on.
    fn condemn(
        &mut self,
        participant: &Participant,
        at: usize,
        condemned: &mut Vec<u32>,
    ) -> Result<Option<usize>> {
        let some: Vec<_> = self.order.iter().skip(at).take(OBJECTS_AT_ONCE).copied().collect();
        for index in &some {
            if self.is_open(*index) && object::condemn_unreachable(participant, *index)? {
                condemned.push(*index);
            }
        }
        Ok((!some.is_empty()).then_some(at + some.len()))
    }
}

/// An object that no process holds, only messages or a name, as it was when somebody looked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unheld {
    state: u64,
    /// The number of these messages, plus 1 for a name.
    in_transit: u64,
    contents: Option<Version>,
}

impl Unheld {
    /// Whether this is the object's handle, for a caller who knows that the number is the object's.
    fn is(&self, handle: Handle) -> bool {
        generation(self.state) == handle.generation()
    }
}

/// Looks whether only messages or a name hold an object.
pub(super) fn unheld(participant: &Participant, index: u32) -> Result<Option<Unheld>> {
    let slot = participant.arena.object(index)?;
    let state = slot.state.load(Ordering::Acquire);
    let contents = version(participant, index);
    let in_transit = slot.in_transit.load(Ordering::SeqCst);
    let is_one = state & 0xff == LIVE && in_transit != 0 && !is_held(&participant.arena, index)?;
    Ok(is_one.then_some(Unheld { state, in_transit, contents }))
}

/// Whether an object is certainly unchanged since `found`: while the table is locked, no hold becomes a message.
pub(super) fn is_still(participant: &Participant, index: u32, found: &Unheld) -> Result<bool> {
    let _guard = participant.arena.header()?.objects.lock.lock(participant)?;
    // The contents are looked at once more in the end: a process may have taken something and dropped its hold during
    // this look.
    Ok(unheld(participant, index)?.as_ref() == Some(found) && version(participant, index) == found.contents)
}

/// The version of an object's contents, if other objects can lie in it.
fn version(participant: &Participant, index: u32) -> Option<Version> {
    kind::at(participant, index).ok()?.version()
}

/// Gives `each` some of the handles that lie in an object: see [`ObjectState::handles`](kind::ObjectState::handles).
fn handles_in(
    participant: &Participant,
    index: u32,
    position: Option<Position>,
    mut each: impl FnMut(Handle),
) -> Result<Option<Position>> {
    match kind::at(participant, index) {
        Ok(object) => object.handles(participant, position, &mut each),
        Err(_) => Ok(None),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ipc::arena::{Geometry, Patience};
    use crate::ipc::queue::{self, Account, Port, QueueState};
    use crate::ipc::waiting::Waiting;
    use crate::ipc::{collections, object};
    use crate::sys::futex::Deadline;

    /// It has not looked at everything.
    #[test]
    fn a_collection_that_was_given_up_is_done_another_time() {
        let geometry = Geometry { processes_max: 1, objects_max: 8, heap_pages: 64 };
        let arena = Arc::new(Arena::create(geometry).unwrap().1);
        let [maker, supervisor] =
            [0, 1].map(|index| Participant { arena: arena.clone(), index, patience: Patience::Brief });
        let [held, inner, lone] = [(); 3].map(|()| queue::create(&maker, 0, Account::Nothing).unwrap());
        for (outer, inner) in [(held, inner), (lone, lone)] {
            let object::Object { index, state } = object::resolve::<QueueState>(&maker, outer).unwrap();
            let port = Port { queue: state, object: index, waiting: Waiting::Put(index) };
            queue::put(&maker, port, &[], &[inner], Deadline::NOW).unwrap();
            object::release(&maker, inner).unwrap();
        }
        let mut collector = Collector::new(&arena).unwrap();
        // The queue that lies in the one that is held is found in one round, and the rest in the next.
        for (rounds, left) in [(ROUNDS - 1, 3), (0, 2)] {
            collections::want(&arena).unwrap();
            collector.begin_if_wanted(&supervisor).unwrap();
            assert!(collector.is_at_it());
            collector.rounds = rounds;
            while collector.is_at_it() {
                collector.step(&supervisor).unwrap();
            }
            assert_eq!(object::count_live(&arena), Ok(left));
            assert_eq!(arena.header().unwrap().collections.has_suspects(), left == 3);
        }
    }
}
