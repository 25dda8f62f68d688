//! Everything at once: `ipc_chaos [SEED] [OPERATIONS] [WORKERS]`.
//!
//! In rounds, until the given number of operations is done: workers do this and that with objects of all kinds, and the main
//! process kills one after the other, at any instruction, and starts another in its place. All waits of workers are so
//! long that one which comes to its end was never woken; the main process sees to it that there is always something to
//! wake for. At the end of a round all is counted and dropped, and the arena is to be as empty as at the start.
//!
//! A worker says in shared memory what it is in the middle of: so it is known what may be lost with it, and nothing
//! else may be.

mod ledger;
mod objects;
mod random;
mod worker;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use sandpool_guest::process::Child;
use sandpool_guest::queue::JoinError;
use sandpool_guest::sync::AcquireError;
use sandpool_guest::{Error, ExitStatus, Process, RawArray, SharedMemory, Signal, active_children, wait};
use sandpool_test_guests::{LONG, Outcome, argument, largest_item, most_objects};

use crate::ledger::{
    BEGUN, CHANNELS, ITEMS, JOBS, LOCKS, Ledger, NAMES, PARTIES, RECEIVED, REFUSED, SENT, UNITS, common,
    doing,
};
use crate::objects::{Objects, taken};
use crate::random::Random;
use crate::worker::Worker;

/// Operations of one round, on average.
const ROUND: u64 = 10_000;

#[sandpool_guest::main]
fn main() -> Outcome {
    let (mut seed, operations, workers) = (argument(0, 1), argument(1, ROUND), argument(2, 6));
    let (room, objects) = (largest_item()?, most_objects()?);
    let mut total = Total::default();
    while total.operations < operations {
        seed += 1;
        if let Err(error) = round(seed, workers, &mut total) {
            // Else it would wait for them, who may wait for it.
            active_children()?.iter().try_for_each(Child::kill)?;
            return Err(format!("seed {seed}: {error}").into());
        }
        // Children that a killed worker has left behind may still be about to end.
        let start = Instant::now();
        while (largest_item()?, most_objects()?) != (room, objects) {
            if start.elapsed() > LONG {
                let now = (largest_item()?, most_objects()?);
                return Err(
                    format!("seed {seed}: of {room} bytes and {objects} objects, {now:?} are left").into()
                );
            }
        }
    }
    println!("ok: as much room in the arena as before");
    println!("operations: {}", total.operations);
    println!("kills: {}", total.kills);
    println!("items: {}", total.items);
    println!("lost items: {}", total.lost);
    println!("abandoned locks: {}", total.abandoned);
    println!("lost units: {}", total.units);
    Ok(())
}

#[derive(Default)]
struct Total {
    operations: u64,
    kills: u64,
    items: u64,
    lost: u64,
    abandoned: u64,
    units: u64,
}

fn round(seed: u64, workers: usize, total: &mut Total) -> Outcome {
    let mut random = Random::new(seed, 0);
    let ledger = Ledger::new(workers)?;
    let objects = Objects::new(&mut random)?;
    let mut running = Vec::new();
    let (mut started, mut kills) = (0, 0);
    // The operations that killed processes were in the middle of.
    let mut in_doubt = [0; doing::KINDS];
    let mut main = Worker {
        ledger: &ledger,
        objects: &objects,
        random: Random::new(seed, 1),
        slot: workers,
        id: 0,
        seen: HashMap::new(),
    };
    let mut units = 0;
    let mut stopped = None;
    let length = 1 + random.below(ROUND * 2);
    while stopped.is_none() || running.iter().any(Option::is_some) {
        running.resize_with(workers, || None);
        if stopped.is_none() {
            for (slot, worker) in running.iter_mut().enumerate().filter(|(_, worker)| worker.is_none()) {
                started += 1;
                *worker = Some(start(seed, started, slot, &ledger, &objects)?);
            }
        }
        let sentinels: Vec<_> = running.iter().flatten().map(Process::sentinel).collect();
        wait(&sentinels, Some(Duration::from_micros(random.below(2_000))))?;
        for worker in running.iter().flatten() {
            if stopped.is_none() && random.below(8) == 0 {
                worker.kill()?;
            }
        }
        for (slot, place) in running.iter_mut().enumerate() {
            match place.as_ref().and_then(Process::exit_status) {
                None => continue,
                Some(ExitStatus::Exited(0)) => {}
                Some(ExitStatus::Signaled(Signal::KILL)) => {
                    kills += 1;
                    let doing = ledger.doing.atomic(slot)?.swap(0);
                    in_doubt[(doing & 0xff) as usize] += doing >> 8;
                    ledger.units.atomic(slot)?.store(0);
                }
                Some(other) => return Err(format!("a worker ended: {other}").into()),
            }
            *place = None;
        }
        // Given back only when nobody is counted any more as their holder: looked at in this order, each that is counted
        // among the dead's and not yet in their stead is counted here as well.
        let died = objects.lost.died()?;
        let held = ledger.units.to_vec()?.iter().sum();
        while units < died.saturating_sub(held) {
            objects.lost.release()?;
            units += 1;
        }
        see_to_it(&mut main)?;
        let operations: u64 = ledger.operations.to_vec()?.iter().sum();
        let is_full = ledger.common(common::NEXT_ITEM)? + 10_000 > ITEMS as u64;
        if stopped.is_none() && (operations >= length || is_full) {
            ledger.common.atomic(common::STOP)?.store(1);
            stopped = Some(Instant::now());
        }
        if stopped.is_some_and(|since| since.elapsed() > LONG) {
            return Err("workers don't come to their end".into());
        }
    }
    for channel in 0..CHANNELS {
        while main.receive(channel, Duration::ZERO)? {}
    }
    total.operations += ledger.operations.to_vec()?.iter().sum::<u64>();
    total.kills += kills;
    total.units += units;
    total.abandoned += ledger.common(common::ABANDONED)?;
    all_is_counted(&ledger, &objects, &in_doubt, total)?;
    for name in 0..NAMES {
        match SharedMemory::attach(&format!("chaos-{name}")).and_then(|memory| memory.unlink()) {
            Ok(()) | Err(Error::NotFound) => {}
            Err(other) => return Err(other.into()),
        }
    }
    Ok(())
}

fn start(seed: u64, id: u64, slot: usize, ledger: &Ledger, objects: &Objects) -> Result<Process, Error> {
    Process::builder().name(format!("worker {id}")).fork(|| {
        let random = Random::new(seed, id + 1);
        let mut worker = Worker { ledger, objects, random, slot, id, seen: HashMap::new() };
        worker.work()
    })
}

/// Sees to it that nobody waits for ever: puts where there is nothing to get, and so on. Never waits itself.
fn see_to_it(main: &mut Worker<'_>) -> Outcome {
    for channel in 0..CHANNELS {
        // A receive helps a process that waits for room, and a send one that waits for an item.
        if main.objects.is_empty(channel)? {
            main.send(channel, Duration::ZERO)?;
        } else if main.random.below(4) == 0 {
            main.receive(channel, Duration::ZERO)?;
        }
    }
    let Objects { event, barrier, condition, returned, .. } = main.objects;
    if !event.is_set()? && main.random.below(2) == 0 {
        event.set()?;
    }
    if barrier.is_broken()? {
        barrier.reset()?;
    } else if barrier.n_waiting()? != 0 && main.random.below(4) == 0 {
        main.ledger.count(common::ABORTS)?;
        barrier.abort()?;
    }
    if returned.value()? > UNITS {
        return Err("more units than there were".into());
    }
    // The holder of the lock notifies when it is done.
    match condition.0.try_acquire() {
        Ok(guard) => guard.notify_all().map(drop)?,
        Err(AcquireError::OwnerDied(guard)) => {
            main.add(&condition.1, true, LOCKS - 1)?;
            guard.notify_all()?;
        }
        Err(AcquireError::WouldBlock) => {}
        Err(other) => return Err(other.to_string().into()),
    }
    Ok(())
}

/// When all workers have ended: nothing is missing but what was in the hands of those who were killed.
fn all_is_counted(
    ledger: &Ledger,
    objects: &Objects,
    in_doubt: &[u64; doing::KINDS],
    total: &mut Total,
) -> Outcome {
    let sum = |from: usize, count: usize| in_doubt[from..from + count].iter().sum::<u64>();
    let (mut sent, mut lost, mut unknown) = (0, 0, 0);
    for item in ledger.items.to_vec()? {
        let is_received = item >= RECEIVED;
        sent += u64::from(item & SENT != 0);
        lost += u64::from(item & SENT != 0 && !is_received);
        unknown += u64::from(item & (BEGUN | SENT | REFUSED) == BEGUN && !is_received);
        if item >= 2 * RECEIVED || (item & REFUSED != 0 && is_received) {
            return Err(format!("an item is {item:#x}").into());
        }
    }
    total.items += sent;
    total.lost += lost;
    let (receives, sends) = (sum(doing::RECEIVE, CHANNELS), sum(doing::SEND, CHANNELS));
    if lost > receives || unknown > sends + receives {
        return Err(format!("{lost} of {receives} lost, {unknown} of {sends} unknown").into());
    }
    for channel in 0..CHANNELS {
        if !objects.is_empty(channel)? {
            return Err(format!("channel {channel} isn't empty").into());
        }
    }
    match objects.jobs.join_timeout(Duration::ZERO) {
        Ok(()) => {}
        Err(JoinError::Lost(jobs)) if jobs as u64 <= in_doubt[doing::RECEIVE + JOBS] => {}
        Err(other) => return Err(other.into()),
    }

    let pairs = |pair: &RawArray<u64>| Ok::<_, Error>((pair.get(0)?, pair.get(1)?));
    let [first, second] = objects.value.get_obj().get()?;
    let elements = taken(objects.array.lock())?.0.to_vec();
    let all = [
        pairs(&objects.lock.1)?,
        pairs(&objects.rlock.1)?,
        (first, second),
        (elements[0], elements[1]),
        pairs(&objects.condition.1)?,
    ];
    for (which, (first, second)) in all.into_iter().enumerate() {
        let died = in_doubt[doing::LOCK + which];
        let changes = ledger.common(common::CHANGES + which)?;
        if first - second > 1 || changes > first || first > changes + died {
            return Err(format!("lock {which}: {first} and {second} by {changes}, {died} in doubt").into());
        }
    }

    let turns =
        (0..PARTIES).map(|index| ledger.common(common::TURNS + index)).collect::<Result<Vec<_>, _>>()?;
    let (most, least) = (turns.iter().max(), turns.iter().min());
    let doubt = in_doubt[doing::BARRIER] + ledger.common(common::ABORTS)?;
    if most > least.map(|least| least + doubt).as_ref() {
        return Err(format!("turns at the barrier: {turns:?}, {doubt} in doubt").into());
    }
    let units = (objects.lost.value()?, objects.returned.value()?);
    if units != (UNITS, UNITS) || objects.lost.died()? + objects.returned.died()? > in_doubt[doing::UNIT] {
        let died = (objects.lost.died()?, objects.returned.died()?);
        return Err(
            format!("{units:?} units, {died:?} of the dead, {} in doubt", in_doubt[doing::UNIT]).into()
        );
    }
    Ok(())
}
