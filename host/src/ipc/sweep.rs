//! The supervisor's work for a process that has died, because the process no longer can do it.
//!
//! The work is done in steps. No step takes a time that depends on what guests have made, so the supervisor can look at
//! other things between any two. The time of all steps together depends on what the dead process held, and not on how
//! much there is in the arena.

use std::sync::atomic::Ordering;

use sandpool_abi::Errno;

use super::Result;
use super::arena::Participant;
use super::object::go_on;
use super::process_table::Register;
use super::{budget, heap, kind, message, object};

/// The work that is left for a process that has been reaped, and whose slot is still its own.
///
/// 1. its locks are free. Elsewhere the next owner rolls a lock back; here this is done at once, so that no journal is
///    left that names its slot;
/// 2. processes that sleep on the object it worked on are woken: the dead process may have been about to wake them, or
///    have been woken in their place;
/// 3. the runs of pages in its hands go back to the heap;
/// 4. its share of the memory of all processes is nobody's;
/// 5. its locks, items and waits are settled, and the objects that it held lose one holder;
/// 6. objects that nobody holds any more are destroyed.
#[derive(Debug)]
pub(crate) struct Sweep {
    dead: u32,
    stage: Stage,
    /// Objects that may be unused now.
    unused: Vec<u32>,
    /// Objects that are to be destroyed.
    condemned: Vec<u32>,
    destroying: Option<Destruction>,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    /// `killed` says that the process may have died anywhere; a process that ended by itself was in the middle of
    /// nothing.
    Recover {
        killed: bool,
    },
    /// Gives back the runs in the registers of the dead process, which have at most this number of messages left.
    Registers(u32),
    /// Drops its holds, from this object on.
    Holds(u32),
    Swept,
}

/// An object that is being destroyed, and the most parts of it that can be left.
#[derive(Debug, Clone, Copy)]
struct Destruction {
    object: u32,
    parts_left: u64,
}

impl Sweep {
    /// Sweeps all that a process may have left behind.
    pub(crate) fn from_dead(dead: u32, killed: bool) -> Self {
        Self::new(dead, Stage::Recover { killed })
    }

    /// Sweeps only the holds of a process that never ran.
    pub(crate) fn from_unstarted(dead: u32) -> Self {
        Self::new(dead, Stage::Holds(0))
    }

    /// Destroys these objects, which the sweeping process has marked as being destroyed.
    pub(super) fn from_condemned(condemned: Vec<u32>) -> Self {
        Self { condemned, ..Self::new(0, Stage::Swept) }
    }

    /// Destroys what nobody holds any more of the objects that are [added](Self::add) to the sweep.
    pub(crate) fn from_released() -> Self {
        Self::new(0, Stage::Swept)
    }

    /// Adds objects that nobody may hold any more.
    pub(crate) fn add(&mut self, unused: impl IntoIterator<Item = u32>) {
        self.unused.extend(unused);
    }

    fn new(dead: u32, stage: Stage) -> Self {
        Self { dead, stage, unused: Vec::new(), condemned: Vec::new(), destroying: None }
    }

    /// Does one step. Returns whether it was the last.
    ///
    /// # Errors
    ///
    /// `BUSY` if a guest holds a lock for longer than an honest guest would: the caller tries the same step again.
    pub(crate) fn step(&mut self, participant: &Participant) -> Result<bool> {
        if !matches!(self.stage, Stage::Recover { .. }) {
            empty_own_registers(participant, &mut self.unused)?;
        }
        if let Some(destruction) = &mut self.destroying {
            let destroyed = object::destroy_some(participant, destruction.object, &mut self.unused);
            destruction.parts_left = destruction.parts_left.saturating_sub(1);
            match destroyed {
                Ok(false) if destruction.parts_left != 0 => {}
                Err(Errno::Busy) => return Err(Errno::Busy),
                // A damaged object stays, and so does one without an end.
                Ok(_) | Err(_) => self.destroying = None,
            }
            return Ok(false);
        }
        if let Some(object) = self.condemned.pop() {
            self.destroy(participant, object);
            return Ok(false);
        }
        if let Some(object) = self.unused.last().copied() {
            let condemned = object::condemn(participant, object);
            if condemned == Err(Errno::Busy) {
                return Err(Errno::Busy);
            }
            self.unused.pop();
            if condemned == Ok(true) {
                self.destroy(participant, object);
            }
            return Ok(false);
        }
        match self.stage {
            Stage::Recover { killed } => {
                recover(participant, self.dead, killed).inspect_err(|_| {
                    // The supervisor itself may have been interrupted in the middle of something.
                    self.stage = Stage::Recover { killed: true };
                })?;
                self.stage = Stage::Registers(participant.arena.geometry.heap_pages);
            }
            Stage::Registers(left) => {
                let are_empty = empty_registers(participant, self.dead, &mut self.unused)?;
                // Native code can make a chain without an end.
                if are_empty || left == 0 {
                    go_on(budget::give_back(participant, self.dead))?;
                    self.stage = Stage::Holds(0);
                } else {
                    self.stage = Stage::Registers(left - 1);
                }
            }
            Stage::Holds(from) => match object::drop_next_hold(participant, self.dead, from)? {
                None => self.stage = Stage::Swept,
                Some((object, was_destroying)) => {
                    // The order matters: if this was the last hold, nobody else knows of the object.
                    match was_destroying {
                        true => self.destroy(participant, object),
                        false => self.unused.push(object),
                    }
                    object::forget(participant, self.dead, object)?;
                    self.stage = Stage::Holds(object + 1);
                }
            },
            Stage::Swept => return Ok(true),
        }
        Ok(false)
    }

    fn destroy(&mut self, participant: &Participant, object: u32) {
        let geometry = participant.arena.geometry;
        // A queue has at most as many segments as there are pages, and at most as many messages.
        let parts_left = 2 * u64::from(geometry.heap_pages) + u64::from(geometry.objects_max);
        self.destroying = Some(Destruction { object, parts_left });
    }
}

/// Does all steps of a sweep, for a caller that has nothing else to do.
///
/// # Errors
///
/// `BUSY`, as [`Sweep::step`]. Everything here can be done twice.
pub(crate) fn sweep(mut sweep: Sweep, participant: &Participant) -> Result<()> {
    while !sweep.step(participant)? {}
    Ok(())
}

/// Frees the locks of a dead process.
fn recover(supervisor: &Participant, dead: u32, killed: bool) -> Result<()> {
    let arena = &*supervisor.arena;
    let slot = arena.process(dead)?;
    if killed {
        let header = arena.header()?;
        for lock in [header.heap.lock_word(), header.objects.lock_word()].into_iter().chain(&header.stdio) {
            lock.abandon(dead);
        }
        header.memory.abandon(dead);
        let object = slot.operation().filter(|index| *index < arena.geometry.objects_max);
        if let Some(object) = object {
            go_on(kind::abandon(supervisor, object, dead))?;
        }
        go_on(header.heap.lock_word().lock(supervisor).map(drop))?;
        go_on(header.objects.lock_word().lock(supervisor).map(drop))?;
        go_on(header.memory.recover(supervisor))?;
        if let Some(object) = object {
            go_on(kind::recover(supervisor, object))?;
            slot.clear_operation();
        }
        // The process may have been about to say that it has freed something, which is no operation on an object; or to
        // tell the processes that watch several events.
        header.heap.tell_freed_after_death(arena);
        header.watched.wake_all(arena);
        header.outside.wake_all(arena);
    }
    Ok(())
}

/// Gives back the runs that a `BUSY` step of the supervisor or the gateway has left. A guest that sweeps for a child of its own that
/// never ran may have something in its hands, and is never `BUSY`.
fn empty_own_registers(participant: &Participant, unused: &mut Vec<u32>) -> Result<()> {
    if participant.is_host() {
        empty_registers(participant, participant.index, unused)?;
    }
    Ok(())
}

/// Gives back the first run in each register of a slot, and returns whether these were all. Damaged runs stay.
fn empty_registers(supervisor: &Participant, index: u32, unused: &mut Vec<u32>) -> Result<bool> {
    let slot = supervisor.arena.process(index)?;
    let mut were_all = true;
    for register in Register::ALL {
        let cell = slot.register(register);
        if cell.load(Ordering::Acquire) == 0 {
            continue;
        }
        go_on(match register {
            Register::Segment => heap::free(supervisor, cell),
            _ => message::discard_first(supervisor, cell, unused).map(|was_last| were_all &= was_last),
        })?;
    }
    Ok(were_all)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ipc::arena::{Arena, Geometry, Patience};
    use crate::ipc::kind::ObjectState as _;
    use crate::ipc::lock::Lock;
    use crate::ipc::message::Carry;
    use crate::ipc::object::Handle;
    use crate::ipc::queue::{self, Account, Port};
    use crate::ipc::sync::{event, lock, semaphore};
    use crate::ipc::waiting::Waiting;
    use crate::ipc::{holds, object, pipe, shared};
    use crate::sys::futex::Deadline;

    const PROCESSES: u32 = 2;

    fn participants() -> [Participant; 3] {
        let geometry = Geometry { processes_max: PROCESSES, objects_max: 6000, heap_pages: 1 << 15 };
        let (_, arena) = Arena::create(geometry).unwrap();
        let arena = Arc::new(arena);
        [0, 1, PROCESSES].map(|index| Participant { arena: arena.clone(), index, patience: Patience::Brief })
    }

    fn steps(mut sweep: Sweep, supervisor: &Participant, each: impl Fn()) -> u32 {
        let mut steps = 1;
        while !sweep.step(supervisor).unwrap() {
            steps += 1;
            each();
        }
        steps
    }

    #[test]
    fn a_sweep_takes_what_the_dead_process_held() {
        let [other, dead, supervisor] = participants();
        let others: Vec<_> = (0..5000).map(|_| event::create(&other).unwrap()).collect();
        let few = steps(Sweep::from_dead(dead.index, true), &supervisor, || {});
        for handle in others.iter().step_by(1000) {
            object::share(&other, *handle, dead.index).unwrap();
        }
        let held: Vec<_> = (0..10).map(|_| event::create(&dead).unwrap()).collect();
        let more = steps(Sweep::from_dead(dead.index, true), &supervisor, || {});
        assert!(few < 5 && more < 60, "{few} and {more} steps");
        assert!(others.iter().all(|handle| object::find(&other, *handle).is_ok()));
        assert!(held.iter().all(|handle| object::find(&dead, *handle).is_err()));
        assert_eq!(object::count_live(&other.arena), Ok(5000));
    }

    /// A process holds what it has thrown away in a message, or removed a name of, and then dies.
    #[test]
    fn what_a_process_still_holds_goes_with_it() {
        let [other, dead, supervisor] = participants();
        let thrown = event::create(&dead).unwrap();
        let kept = event::create(&other).unwrap();
        object::share(&other, kept, dead.index).unwrap();
        let named = shared::create(&dead, 100, false, "name").unwrap();
        let queue = queue::create(&dead, 0, Account::Nothing).unwrap();
        {
            let found = object::resolve::<queue::QueueState>(&dead, queue).unwrap();
            let port = Port { queue: found.state, object: found.index, waiting: Waiting::Put(found.index) };
            queue::put(&dead, port, b"", &[thrown, kept, named], Deadline::NOW).unwrap();
        }
        object::release(&dead, queue).unwrap();
        shared::unlink(&dead, "name").unwrap();
        assert_eq!(object::count_live(&other.arena), Ok(3));
        sweep(Sweep::from_dead(dead.index, true), &supervisor).unwrap();
        assert_eq!(object::count_live(&other.arena), Ok(1));
        object::release(&other, kept).unwrap();
        assert_eq!(
            (object::count_live(&other.arena), other.arena.header().unwrap().heap.used_pages()),
            (Ok(0), 0)
        );
    }

    /// The process may have been about to say that it has freed something.
    #[test]
    fn who_waits_for_room_looks_again_after_a_death() {
        let [_, dead, supervisor] = participants();
        let heap = &dead.arena.header().unwrap().heap;
        let before = heap.frees();
        sweep(Sweep::from_dead(dead.index, false), &supervisor).unwrap();
        assert_eq!(heap.frees(), before, "a process that ended by itself has said so");
        sweep(Sweep::from_dead(dead.index, true), &supervisor).unwrap();
        assert_ne!(heap.frees(), before);
    }

    /// The next process in the slot has nothing to do with these objects.
    #[test]
    fn no_note_of_a_dead_process_stays() {
        let [_, dead, supervisor] = participants();
        for _ in 0..200 {
            event::create(&dead).unwrap();
        }
        sweep(Sweep::from_dead(dead.index, true), &supervisor).unwrap();
        // A note of one object makes the others visible that lie in the same word.
        let noted = [1, 70, 199];
        noted.iter().for_each(|object| holds::note(&dead.arena, dead.index, *object).unwrap());
        let next = |from| holds::next(&dead.arena, dead.index, from).unwrap();
        let found: Vec<_> = std::iter::successors(next(0), |last| next(last + 1)).collect();
        assert_eq!(found, noted);
    }

    #[test]
    fn no_step_takes_longer_the_more_there_is() {
        let [_, dead, supervisor] = participants();
        let handle = queue::create(&dead, 0, Account::Nothing).unwrap();
        let queue = object::resolve::<queue::QueueState>(&dead, handle).unwrap();
        let port = Port { queue: queue.state, object: queue.index, waiting: Waiting::Put(queue.index) };
        let items = vec![&[][..]; 1_000_000];
        assert_eq!(queue::put_many(&dead, port, items.into_iter(), Deadline::NOW), Ok(1_000_000));
        shared::create(&dead, 100 << 20, false, "").unwrap();
        let heap = &dead.arena.header().unwrap().heap;
        let before = heap.used_pages();
        let left = std::cell::Cell::new(before);
        let steps = steps(Sweep::from_dead(dead.index, true), &supervisor, || {
            let now = heap.used_pages();
            // A segment of a queue has at most 16 pages; shared memory goes at once, but was cleared before, in parts.
            assert!(left.get() - now <= 16 || left.get() - now == 100 << 8, "{} pages", left.get() - now);
            left.set(now);
        });
        assert_eq!(heap.used_pages(), 0);
        assert!(steps > 1_000_000 / 8192 + 100 / 16, "{steps} steps");
    }

    /// The register of a process, with a message of one page in it.
    fn message_in(participant: &Participant, register: Register, handles: &[Handle]) -> u64 {
        let register = participant.slot().unwrap().register(register);
        message::compose(participant, &[b"message"], handles, Carry::Counted, register).unwrap()
    }

    /// A change of many places of a shelf has many messages in one register.
    #[test]
    fn each_message_of_a_chain_is_a_step() {
        let [other, dead, supervisor] = participants();
        let event = event::create(&other).unwrap();
        object::share(&other, event, dead.index).unwrap();
        message_in(&dead, Register::Outgoing, &[]);
        let slot = dead.slot().unwrap();
        for _ in 0..1000 {
            message_in(&dead, Register::Incoming, &[event]);
            let [from, to] = [Register::Incoming, Register::Outgoing].map(|register| slot.register(register));
            message::prepend(&dead, from, to).unwrap();
        }
        let heap = &dead.arena.header().unwrap().heap;
        let left = std::cell::Cell::new(heap.used_pages());
        assert!(left.get() >= 1001);
        let steps = steps(Sweep::from_dead(dead.index, true), &supervisor, || {
            assert!(left.get() - heap.used_pages() <= 1, "from {} to {}", left.get(), heap.used_pages());
            left.set(heap.used_pages());
        });
        assert!(steps > 1000, "{steps} steps");
        object::release(&other, event).unwrap();
        assert_eq!((object::count_live(&other.arena), heap.used_pages()), (Ok(0), 0));
    }

    /// Native code can write a link into any message.
    #[test]
    fn a_link_leads_nowhere_outside_of_a_chain() {
        let [one, other, _] = participants();
        let pages = [&one, &other].map(|participant| message_in(participant, Register::Discarded, &[]));
        message::link(&one, pages[0], pages[1]).unwrap();
        for (participant, left) in [(&one, 1), (&other, 0)] {
            let register = participant.slot().unwrap().register(Register::Discarded);
            message::discard(participant, register, &mut Vec::new()).unwrap();
            let used = one.arena.header().unwrap().heap.used_pages();
            assert_eq!((register.load(Ordering::Relaxed), used), (0, left));
        }
    }

    #[test]
    fn a_chain_in_a_circle_ends() {
        let [other, dead, supervisor] = participants();
        let page = message_in(&dead, Register::Discarded, &[]);
        message::link(&dead, page, page).unwrap();
        assert!(steps(Sweep::from_dead(dead.index, true), &supervisor, || {}) < 10);
        assert_eq!(other.arena.header().unwrap().heap.used_pages(), 0);
    }

    /// The locks that belong to no object.
    fn common_locks(arena: &Arena) -> [(&'static str, &Lock); 5] {
        let header = arena.header().unwrap();
        [
            ("heap", header.heap.lock_word()),
            ("objects", header.objects.lock_word()),
            ("stdout", &header.stdio[0]),
            ("stderr", &header.stdio[1]),
            ("memory", header.memory.lock_word()),
        ]
    }

    /// For example, a process was killed while it wrote to a terminal: the others write on.
    #[test]
    fn locks_of_a_process_that_was_killed_are_free() {
        for at in 0..5 {
            let [other, dead, supervisor] = participants();
            let lock = |at: usize| common_locks(&other.arena).into_iter().nth(at).unwrap();
            let (name, held) = lock(at);
            std::mem::forget(held.lock(&dead).unwrap());
            // The other process doesn't get a lock that the dead process holds.
            assert_eq!(held.lock(&other).map(drop), Err(Errno::Busy), "{name}");
            sweep(Sweep::from_dead(dead.index, true), &supervisor).unwrap();
            assert!(held.lock(&other).is_ok(), "{name}");
            // Locks that other processes hold aren't freed.
            let guard = held.lock(&other).unwrap();
            let swept = Sweep::from_dead(dead.index, true).step(&supervisor);
            assert!(matches!(swept, Ok(_) | Err(Errno::Busy)), "{name}: {swept:?}");
            assert_eq!(held.lock(&dead).map(drop), Err(Errno::Busy), "{name}");
            drop(guard);
        }
    }

    /// One object of each kind, held by a process and by messages; the queue first.
    fn all_kinds(participant: &Participant) -> Handle {
        let large = [7; 5000];
        let port = |handle| {
            let found = object::resolve::<queue::QueueState>(participant, handle).unwrap();
            Port { queue: found.state, object: found.index, waiting: Waiting::Put(found.index) }
        };
        let [first, second] = [(), ()].map(|()| queue::create(participant, 0, Account::Joinable).unwrap());
        let [end, other_end] = pipe::create(participant, 100_000, 0).unwrap();
        let made = [
            lock::create(participant, true).unwrap(),
            semaphore::create(participant, 3, true, true).unwrap(),
            event::create(participant).unwrap(),
            shared::create(participant, 300_000, false, "name").unwrap(),
        ];
        shared::unlink(participant, "name").unwrap();
        for handle in made {
            for _ in 0..3 {
                queue::put(participant, port(second), &large, &[handle], Deadline::NOW).unwrap();
            }
            queue::put(participant, port(first), &large, &[second, end, other_end], Deadline::NOW).unwrap();
            // Only messages hold the object from here on.
            object::release(participant, handle).unwrap();
        }
        for handle in [second, end, other_end] {
            object::release(participant, handle).unwrap();
        }
        queue::put(participant, port(first), b"small", &[], Deadline::NOW).unwrap();
        let mut taken = [0; 16];
        queue::get(participant, port(first), || false, &mut taken, Deadline::NOW).unwrap();
        budget::take(participant, participant.index, 1000, 10_000).unwrap();
        first
    }

    /// A sweep meets a lock that a guest holds for as long as the guest is stopped. Whenever that is, the rest is done
    /// later, all of it.
    #[test]
    fn a_sweep_that_finds_a_lock_held_is_done_when_that_is_free() {
        for which in 0..6 {
            for held_at in 0.. {
                let [other, dead, supervisor] = participants();
                let handle = all_kinds(&dead);
                let queue = object::resolve::<queue::QueueState>(&dead, handle).unwrap().state;
                let [tail, head] = queue.locks(&dead).unwrap()[..] else { unreachable!() };
                let (name, lock) = match which {
                    4 => ("tail", tail),
                    5 => ("head", head),
                    which => common_locks(&other.arena).into_iter().nth(which).unwrap(),
                };
                let mut sweep = Sweep::from_dead(dead.index, true);
                let mut steps = 0;
                let ended = loop {
                    let guard = (steps == held_at).then(|| lock.lock(&other).unwrap());
                    // A guest stays stopped for more than one try.
                    for _ in 0..if guard.is_some() { 3 } else { 0 } {
                        let done = sweep.step(&supervisor);
                        assert!(matches!(done, Ok(_) | Err(Errno::Busy)), "{name} at {held_at}: {done:?}");
                    }
                    drop(guard);
                    steps += 1;
                    if sweep.step(&supervisor).unwrap() {
                        break steps;
                    }
                    assert!(steps < 10_000, "{name} at {held_at}: it has no end");
                };
                assert_eq!(object::count_live(&other.arena), Ok(0), "{name} at {held_at}");
                let header = other.arena.header().unwrap();
                assert_eq!((header.heap.used_pages(), header.memory.used()), (0, 0), "{name} at {held_at}");
                for slot in [dead.slot().unwrap(), supervisor.slot().unwrap()] {
                    let left = Register::ALL.map(|register| slot.register(register).load(Ordering::SeqCst));
                    assert!(left.iter().all(|page| *page == 0), "{name} at {held_at}: {left:?}");
                }
                if ended <= held_at {
                    break;
                }
            }
        }
    }
}
