//! The memory of all processes together, and processes that stand by.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use sandpool_abi::Errno;
use shuttle::thread;

use super::{Model, PROCESSES, choose, log};
use crate::ipc::arena::Arena;
use crate::ipc::process_table::{self as table, ProcessState, StateWord};
use crate::ipc::{budget, standby};
use crate::sys::atomic::Ordering;

models! {
    memory_of_all_is_within_its_limit: a_budget(&[]);
    memory_of_all_is_within_its_limit_with_a_death: a_budget(&[0, 1, 2]);
    one_that_stands_by_is_taken_once: a_standby(&[]);
    one_that_stands_by_is_taken_once_with_a_death: a_standby(&[0, 1, 2]);
}

/// Three processes take memory of which there isn't enough for all at once, and memory for a child that they may have
/// no use for.
fn a_budget(victims: &[u32]) {
    const MAX: u64 = 10;
    let mut model = Model::new();
    let arena = model.arena.clone();
    for number in 0..3 {
        model.process(move |participant| {
            let used = || participant.arena.header().unwrap().memory.used();
            for bytes in [3, 1] {
                let taken = budget::take(participant, number, bytes, MAX);
                assert!(matches!(taken, Ok(()) | Err(Errno::Runmem)) && used() <= MAX);
            }
            let child = number + 3;
            if budget::take(participant, child, 4, MAX).is_ok() {
                assert!((4..=MAX).contains(&used()));
                budget::give_back(participant, child).unwrap();
            }
            budget::give_back(participant, number).unwrap();
            assert!(used() <= MAX);
        });
    }
    let victim = choose(victims);
    // The supervisor gives back the share of a child that never existed.
    model.process_after(&[0, 1, 2], |participant| {
        (3..6).for_each(|child| budget::give_back(participant, child).unwrap());
        budget::take(participant, 3, MAX, MAX).unwrap();
        budget::give_back(participant, 3).unwrap();
    });
    model.run_to_death_of(victim);
    assert_eq!(arena.header().unwrap().memory.used(), 0);
}

/// Two processes spawn a process each, one stands by, and the supervisor starts a process for any slot that has none.
/// Each slot gets one process, unless its spawner is dead; a process that isn't taken stands by for the next.
fn a_standby(victims: &[u32]) {
    const STANDBY: u32 = 2;
    const SUPERVISOR: u32 = 3;
    let pid_of = |process: u32| 100 + process;
    let slot_for = |spawner: u32| spawner + 4;
    let mut model = Model::new();
    let arena = model.arena.clone();
    standby::vacate(&arena).unwrap().pid().store(pid_of(STANDBY), Ordering::SeqCst);
    let set = |arena: &Arena, slot, state| {
        table::update(arena, slot, |old| Some(StateWord { state, ..old })).unwrap();
    };
    let has = |arena: &Arena, slot, state| table::state(arena, slot).unwrap().state == state;
    // `Children` and `Process::become_spawned` do the same.
    let started = log();
    let run = {
        let started = started.clone();
        move |arena: &Arena, slot: u32, pid: u32| {
            arena.process_id(slot).unwrap().store(pid, Ordering::SeqCst);
            set(arena, slot, ProcessState::Running);
            started.lock().unwrap().push(slot);
            arena
                .process(u32::from(table::state(arena, slot).unwrap().parent))
                .unwrap()
                .event
                .notify_all(arena);
        }
    };
    for spawner in 0..2 {
        let slot = slot_for(spawner);
        let parent = spawner as u16;
        let reserved = |old| Some(StateWord { parent, state: ProcessState::Reserved, ..old });
        table::update(&arena, slot, reserved).unwrap();
        model.process(move |participant| {
            let arena = &*participant.arena;
            let claim = standby::claim(arena, slot);
            set(arena, slot, ProcessState::Spawning);
            if let Some(claim) = claim {
                claim.go();
            }
            table::request(arena, slot).unwrap();
            while has(arena, slot, ProcessState::Spawning) {
                let event = &participant.slot().unwrap().event;
                event.sleep_for_supervisor(|| !has(arena, slot, ProcessState::Spawning));
            }
        });
    }
    let gone = Arc::new(Mutex::new(false));
    let (start, leaves) = (run.clone(), gone.clone());
    model.process(move |participant| {
        let place = &participant.arena.header().unwrap().standbys[0];
        let (slot, _) = place.stand_by(&participant.arena).unwrap();
        start(&participant.arena, slot, pid_of(STANDBY));
        *leaves.lock().unwrap() = true;
    });
    // The supervisor does one thing after the other.
    let busy = Arc::new(shuttle::sync::Mutex::new(()));
    let (start, serves, left) = (run.clone(), busy.clone(), gone.clone());
    model.process(move |participant| {
        let arena = &*participant.arena;
        let is_settled = |spawner| {
            !has(arena, slot_for(spawner), ProcessState::Reserved)
                && !has(arena, slot_for(spawner), ProcessState::Spawning)
        };
        while !(0..2).all(is_settled) {
            let serving = serves.lock().unwrap();
            for slot in table::take_requests(arena) {
                if has(arena, slot, ProcessState::Spawning)
                    && !standby::is_claimed(arena, slot)
                    && arena.process_id(slot).unwrap().load(Ordering::Acquire) == 0
                {
                    start(arena, slot, pid_of(slot));
                }
            }
            drop(serving);
            thread::yield_now();
        }
        // A process that still stands by is ready, and can be claimed.
        while !*left.lock().unwrap() {
            if let Some(claim) = standby::claim(arena, SUPERVISOR) {
                set(arena, SUPERVISOR, ProcessState::Spawning);
                claim.go();
                break;
            }
            thread::yield_now();
        }
    });
    let (there, buries) = (arena.clone(), busy);
    model.on_found = Some(Box::new(move |dead| {
        let _burying = buries.lock().unwrap();
        let arena = &*there;
        if dead != STANDBY {
            let slot = slot_for(dead);
            let goes = standby::abandon(arena, slot);
            if !goes && arena.process_id(slot).unwrap().load(Ordering::Acquire) == 0 {
                table::free(arena, slot, |_| true).unwrap();
            }
            return;
        }
        let stood_by = standby::ended(arena, pid_of(dead));
        let own = |slot: &u32| arena.process_id(*slot).unwrap().load(Ordering::Acquire) == pid_of(dead);
        if let Some(slot) = (SUPERVISOR..PROCESSES).find(own) {
            set(arena, slot, ProcessState::Exited);
            let parent = u32::from(table::state(arena, slot).unwrap().parent);
            arena.process(parent).unwrap().event.wake_all(arena);
        } else if let Some(Some(slot)) = stood_by
            && has(arena, slot, ProcessState::Spawning)
            && slot != SUPERVISOR
        {
            run(arena, slot, pid_of(slot));
        }
        *gone.lock().unwrap() = true;
    }));
    let died = model.run(victims);
    let started = started.lock().unwrap();
    for spawner in (0..2).filter(|spawner| died != Some(*spawner)) {
        let slot = slot_for(spawner);
        let times = started.iter().filter(|one| **one == slot).count();
        assert!(times == 1 || times == 0 && has(&arena, slot, ProcessState::Exited), "{started:?}");
    }
    assert!(started.iter().collect::<BTreeSet<_>>().len() == started.len(), "twice: {started:?}");
    assert!(standby::wanted(&arena).is_some() && standby::pids(&arena).next().is_none());
}
