//! Finds processes that the process table doesn't list. Guests make only listed processes, so somebody has broken out of
//! WebAssembly, and hides.
//!
//! The kernel's list of the supervisor's children counts. It is read first, and the table is read after that: each process is in
//! the table from its birth on, until it is reaped, and only the supervisor reaps. A process that [stands by](crate::ipc::standby)
//! is in its place until it is in its slot, so places are read before slots. Between the instant at which the kernel lists a child
//! and that at which it has stored the child's number in the table, the child is only in the kernel's list. So a suspect is a stray
//! only if it still is one at the next look, and, for a while, only if there are more suspects than slots which are about to get a
//! process.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

use super::kin::is_child;
use super::proc::Proc;
use crate::ipc::arena::Arena;
use crate::ipc::process_table::{self as table, ProcessState};
use crate::ipc::standby;

/// Looks after which a suspect is a stray, even if slots are about to get a process.
const SURE: u32 = 8;

/// Suspects, and the number of looks at which each was one.
#[derive(Debug, Default)]
pub(super) struct Census {
    suspects: HashMap<u32, u32>,
}

impl Census {
    /// Number of certain strays among the children that were just found.
    pub(super) fn look(
        &mut self,
        arena: &Arena,
        proc: &Proc,
        found: Vec<u32>,
        fork_server: Option<u32>,
    ) -> u64 {
        let known: HashSet<u32> = in_table(arena).chain(fork_server).filter(|pid| is_child(*pid)).collect();
        if found.len() <= known.len() && self.suspects.is_empty() {
            return 0;
        }
        let unknown = found.into_iter().filter_map(|number| proc.own_number(number));
        let before = std::mem::take(&mut self.suspects);
        self.suspects = unknown
            .filter(|pid| !known.contains(pid) && is_child(*pid))
            .map(|pid| (pid, before.get(&pid).unwrap_or(&0) + 1))
            .collect();
        let twice = self.suspects.values().filter(|looks| **looks >= 2).count();
        let sure = self.suspects.values().filter(|looks| **looks >= SURE).count();
        sure.max(twice.saturating_sub(about_to_be(arena))) as u64
    }

    /// Notes that a child was reaped: its number may soon be another's.
    pub(super) fn ended(&mut self, pid: u32) {
        self.suspects.remove(&pid);
    }
}

/// The processes that the table lists: any numbers, if guests have native code.
pub(super) fn in_table(arena: &Arena) -> impl Iterator<Item = u32> {
    let slots = (0..arena.geometry.processes_max).filter_map(|index| arena.process_id(index).ok());
    standby::pids(arena).chain(slots.map(|pid| pid.load(Ordering::Acquire)).filter(|pid| *pid != 0))
}

/// Number of processes that may have been born and aren't in the table yet.
fn about_to_be(arena: &Arena) -> usize {
    let is_one = |index: &u32| {
        table::state(arena, *index)
            .is_ok_and(|state| matches!(state.state, ProcessState::Reserved | ProcessState::Spawning))
            && arena.process_id(*index).is_ok_and(|pid| pid.load(Ordering::Acquire) == 0)
    };
    (0..arena.geometry.processes_max).filter(is_one).count() + standby::being_born(arena)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use std::process::{Child, Command};
    use std::sync::Arc;

    use super::*;
    use crate::ipc::arena::Geometry;
    use crate::ipc::process_table::{StateWord, update};

    struct World {
        arena: Arc<Arena>,
        census: Census,
        proc: Proc,
        child: Child,
    }

    impl World {
        /// A child of this thread that the table doesn't list.
        fn new() -> Self {
            let geometry = Geometry { processes_max: 8, objects_max: 8, heap_pages: 16 };
            Self {
                arena: Arc::new(Arena::create(geometry).unwrap().1),
                census: Census::default(),
                proc: Proc::open(),
                child: Command::new("sleep").arg("1000").spawn().unwrap(),
            }
        }

        fn set(&self, slot: u32, pid: u32, state: ProcessState) {
            self.arena.process_id(slot).unwrap().store(pid, Ordering::Release);
            update(&self.arena, slot, |old| Some(StateWord { state, ..old })).unwrap();
        }

        fn look(&mut self) -> u64 {
            self.look_beside(None)
        }

        fn look_beside(&mut self, fork_server: Option<u32>) -> u64 {
            let found = self.proc.children().unwrap();
            self.census.look(&self.arena, &self.proc, found, fork_server)
        }
    }

    impl Drop for World {
        fn drop(&mut self) {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
    }

    #[test]
    fn a_process_that_the_table_does_not_tell_of_is_a_stray_at_the_second_look() {
        let mut world = World::new();
        assert_eq!([(); 2].map(|()| world.look()), [0, 1]);
    }

    #[test]
    fn nobody_is_hidden_for_long_by_what_the_table_says() {
        let mut world = World::new();
        // Numbers of other processes, and slots that are about to get a process for ever.
        world.set(0, 1, ProcessState::Running);
        world.set(1, 0, ProcessState::Reserved);
        let looks = (0..SURE).map(|_| world.look()).collect::<Vec<_>>();
        assert_eq!(looks, [0, 0, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn one_that_is_in_the_table_or_about_to_be_is_no_stray() {
        let mut world = World::new();
        let pid = world.child.id();
        // The kernel has listed the process, but not stored its number yet.
        world.set(3, 0, ProcessState::Reserved);
        assert_eq!(world.look(), 0);
        // The process stands by, and then has its slot; in between, it is in both.
        let arena = world.arena.clone();
        let place = standby::vacate(&arena).unwrap();
        place.pid().store(pid, Ordering::Release);
        assert_eq!(world.look(), 0);
        assert!(world.census.suspects.is_empty());
        world.set(3, pid, ProcessState::Running);
        assert_eq!(world.look(), 0);
        place.clear();
        for _ in 0..2 * SURE {
            assert_eq!(world.look(), 0);
        }
        // Then the process isn't there any more.
        world.set(3, 0, ProcessState::Exited);
        assert!((0..SURE).map(|_| world.look()).any(|strays| strays == 1));
    }

    /// The kernel may list a process before it stores its number, whichever way the process is started.
    #[test]
    fn one_for_whom_a_place_or_a_slot_waits_is_no_stray_for_a_while() {
        for state in [ProcessState::Reserved, ProcessState::Spawning] {
            let mut world = World::new();
            world.set(3, 0, state);
            assert_eq!([(); 4].map(|()| world.look()), [0; 4], "{state:?}");
        }
        {
            let mut world = World::new();
            let arena = world.arena.clone();
            let _place = standby::vacate(&arena).unwrap();
            assert_eq!([(); 4].map(|()| world.look()), [0; 4]);
        }
        // A slot that has a process, or had one, waits for no other.
        for (pid, state) in [
            (1, ProcessState::Reserved),
            (0, ProcessState::Running),
            (0, ProcessState::Exited),
            (0, ProcessState::Free),
        ] {
            let mut world = World::new();
            world.set(3, pid, state);
            assert_eq!([(); 2].map(|()| world.look()), [0, 1], "{state:?}");
        }
    }

    #[test]
    fn the_fork_server_is_no_stray() {
        let mut world = World::new();
        let pid = world.child.id();
        for _ in 0..2 * SURE {
            assert_eq!(world.look_beside(Some(pid)), 0);
        }
        assert_eq!([(); 2].map(|()| world.look()), [0, 1], "it is by its number alone");
    }

    /// The number belongs to another process by then.
    #[test]
    fn what_was_suspected_of_one_that_has_ended_is_nobodys() {
        let mut world = World::new();
        assert_eq!(world.look(), 0);
        world.census.ended(world.child.id());
        assert_eq!([(); 2].map(|()| world.look()), [0, 1]);
    }
}
