//! Shares and names of workers and their tasks: each share is exact, and each name ends with its scope.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::sync::Arc;

use sandpool_abi::Errno;

use crate::ipc::arena::{Arena, Geometry, Participant, Patience};
use crate::ipc::process_table::{self as table, ProcessHandle};
use crate::ipc::sync::event;
use crate::ipc::{object, scope, shared};

/// A pool's owner; processes that the owner starts are workers.
struct World {
    arena: Arc<Arena>,
    owner: (u32, ProcessHandle),
}

/// A process of the pool.
#[derive(Clone)]
struct Process {
    participant: Participant,
    handle: ProcessHandle,
}

impl World {
    fn new() -> Self {
        Self::with(32)
    }

    fn with(processes_max: u32) -> Self {
        let geometry = Geometry { processes_max, objects_max: 64, heap_pages: 64 };
        let arena = Arc::new(Arena::create(geometry).unwrap().1);
        let owner = table::reserve(&arena, None, b"owner", 0).unwrap();
        Self { arena, owner }
    }

    fn process(&self, parent: (u32, ProcessHandle)) -> Process {
        let (index, handle) = table::reserve(&self.arena, Some(parent), b"process", 0).unwrap();
        Process {
            participant: Participant { arena: self.arena.clone(), index, patience: Patience::Brief },
            handle,
        }
    }

    fn owner(&self) -> Participant {
        Participant { arena: self.arena.clone(), index: self.owner.0, patience: Patience::Brief }
    }

    fn worker(&self, share: u64) -> Process {
        let worker = self.process(self.owner);
        worker.participant.slot().unwrap().scope.begin(worker.handle, share, share);
        worker
    }

    fn child(&self, of: &Process) -> Process {
        self.process((of.participant.index, of.handle))
    }

    /// A child of a worker that does a task for it.
    fn task(&self, worker: &Process) -> Process {
        let task = self.child(worker);
        task.participant.slot().unwrap().scope.begin_task(worker.handle);
        task
    }

    fn end(&self, process: &Process) {
        assert_eq!(table::free(&self.arena, process.participant.index, |_| true), Ok(true));
    }
}

#[test]
fn a_worker_and_its_tasks_have_as_many_objects_as_their_share() {
    for share in [1, 2, 7] {
        let world = World::new();
        let [worker, other] = [(); 2].map(|()| world.worker(share));
        let task = world.task(&worker);
        let of_task = world.child(&task);
        let participants = [&worker.participant, &task.participant, &of_task.participant];
        // A share that is given back counts no more, however often.
        for _ in 0..5 {
            let made: Vec<_> = participants
                .into_iter()
                .cycle()
                .take(share as usize)
                .map(|participant| (participant, event::create(participant).unwrap()))
                .collect();
            for participant in participants {
                assert_eq!(event::create(participant), Err(Errno::Nfile), "{share}");
            }
            let others = event::create(&other.participant).unwrap();
            object::release(&other.participant, others).unwrap();
            made.into_iter().for_each(|(participant, handle)| object::release(participant, handle).unwrap());
        }
    }
}

#[test]
fn a_worker_has_as_many_processes_as_its_share() {
    for share in [0, 1, 5] {
        let world = World::new();
        let [worker, other] = [(); 2].map(|()| world.worker(share));
        for _ in 0..3 {
            let mut started = Vec::new();
            for _ in 0..share {
                started.push(world.child(started.last().unwrap_or(&worker)));
                assert_eq!(scope::has_too_many_processes(&worker.participant), Ok(false), "{share}");
            }
            let last = started.last().unwrap_or(&worker).clone();
            started.push(world.child(&last));
            assert_eq!(scope::has_too_many_processes(&last.participant), Ok(true), "{share}");
            assert_eq!(scope::has_too_many_processes(&other.participant), Ok(false), "{share}");
            started.iter().for_each(|process| world.end(process));
        }
    }
}

/// They may fork until they are killed, one after the other.
#[test]
fn what_a_dead_worker_has_left_gets_no_other_process() {
    let world = World::new();
    let worker = world.worker(10);
    let left = world.child(&worker);
    world.child(&left);
    assert_eq!(scope::has_too_many_processes(&left.participant), Ok(false));
    scope::end_with(&world.arena, worker.handle).unwrap();
    assert_eq!(scope::has_too_many_processes(&left.participant), Ok(true));
    // Nor has the slot's next process anything to do with them.
    world.end(&worker);
    assert_eq!(scope::has_too_many_processes(&left.participant), Ok(true));
}

#[test]
fn names_of_a_task_are_its_own_and_end_with_it() {
    let world = World::new();
    let [worker, other] = [(); 2].map(|()| world.worker(8));
    let [task, others] = [&worker, &other].map(|worker| world.task(worker));
    let name = |process: &Process, name| {
        let made = shared::create(&process.participant, 100, true, name)?;
        object::release(&process.participant, made)
    };
    let sees = |participant: &Participant, name| match shared::open(participant, name) {
        Ok(found) => object::release(participant, found).map(|()| true).unwrap(),
        Err(error) => {
            assert_eq!(error, Errno::Noent);
            false
        }
    };
    let owner = world.owner();
    let all = [&owner, &worker.participant, &task.participant, &other.participant, &others.participant];
    name(&worker, "of the worker").unwrap();
    name(&task, "of the task").unwrap();
    assert_eq!(all.map(|participant| sees(participant, "of the worker")), [true; 5]);
    assert_eq!(all.map(|participant| sees(participant, "of the task")), [true, true, true, false, false]);
    assert_eq!(name(&task, "of the worker"), Err(Errno::Exist));
    // A name that a task doesn't see is free.
    name(&others, "of the task").unwrap();
    assert_eq!(shared::unlink(&task.participant, "of the worker"), Err(Errno::Perm));
    assert_eq!(shared::unlink(&others.participant, "of the worker"), Err(Errno::Perm));
    shared::unlink(&others.participant, "of the task").unwrap();
    assert_eq!(shared::unlink(&others.participant, "of the task"), Err(Errno::Noent));

    let has = || {
        let scope = &worker.participant.slot().unwrap().scope;
        (scope.has_names_of_tasks(), scope.has_names())
    };
    assert_eq!(has(), (true, true));
    assert!(!other.participant.slot().unwrap().scope.has_names());
    shared::unlink_left(&worker.participant, |of| scope::is_of_task(of, worker.handle)).unwrap();
    assert_eq!(has(), (false, true));
    assert_eq!(all.map(|participant| sees(participant, "of the task")), [false; 5]);
    assert_eq!(all.map(|participant| sees(participant, "of the worker")), [true; 5]);
    shared::unlink_left(&owner, |of| scope::is_of(of, worker.handle)).unwrap();
    assert_eq!(has(), (false, false));
    assert_eq!(object::count_live(&world.arena), Ok(0));
}

/// The slot of a worker that has died goes to another process.
#[test]
fn a_worker_begins_with_nothing() {
    let world = World::with(2);
    let first = world.worker(1);
    let made = shared::create(&first.participant, 100, true, "name").unwrap();
    world.end(&first);
    let second = world.worker(1);
    assert_eq!(
        (second.participant.index, second.participant.slot().unwrap().scope.has_names()),
        (first.participant.index, false)
    );
    // Its share is its own, and what its predecessor has left isn't in it.
    let own = event::create(&second.participant).unwrap();
    object::release(&first.participant, made).unwrap();
    assert_eq!(event::create(&second.participant), Err(Errno::Nfile));
    object::release(&second.participant, own).unwrap();
}
