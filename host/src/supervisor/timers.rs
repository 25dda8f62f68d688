//! Ends a process, or the whole run, that has run for too long.
//!
//! A process has no timer of its own, which a fork would have to arm. The supervisor looks as soon as the first process could have
//! used up its limit: it knows since when each process runs, and the kernel tells each one's processor time. A process that isn't
//! known yet was forked after the last look, so it is no older than that.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use sandpool_abi::process::Limit;

use super::kin::is_child;
use crate::Limits;
use crate::ipc::arena::Arena;
use crate::sys::futex::nanos_now;

/// The least time between two looks, and so the most by which a limit may be exceeded.
const PAUSE: u64 = 5_000_000;

/// The limits of time of a run, and the time that it has used.
pub(super) struct Timers {
    cpu_time: Option<Duration>,
    wall_time: Option<Duration>,
    run_cpu_time: Option<Duration>,
    run_wall_time: Option<Duration>,
    /// Number of usable processors.
    processors: u64,
    /// When the run began, in nanoseconds.
    begun: u64,
    /// Processor time of the processes that have ended.
    spent: Duration,
    /// The processes that existed at the last look, by their ids: whatever the table says of slots, an id isn't another's before
    /// its process has ended.
    known: HashMap<u32, Known>,
    /// The times of the last look and of the next.
    looked: u64,
    next: u64,
}

/// The supervisor's own facts about a process, not taken from the arena, which guests write.
#[derive(Debug, Clone, Copy)]
struct Known {
    started: u64,
    is_exempt: bool,
}

/// A process, or the run, that has exceeded a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// This process has exceeded this limit.
    Process(u32, Limit),
    /// All processes together have exceeded this limit.
    Run(Limit),
}

impl Timers {
    pub(super) fn new(limits: &Limits) -> Self {
        let &Limits { cpu_time, wall_time, run_cpu_time, run_wall_time, .. } = limits;
        let now = nanos_now();
        let has_some = [cpu_time, wall_time, run_cpu_time, run_wall_time].iter().any(Option::is_some);
        let processors = std::thread::available_parallelism().map_or(1, |count| count.get() as u64);
        Self {
            cpu_time,
            wall_time,
            run_cpu_time,
            run_wall_time,
            processors,
            begun: now,
            spent: Duration::ZERO,
            known: HashMap::new(),
            looked: now,
            next: if has_some { now } else { u64::MAX },
        }
    }

    /// How long nothing can exceed a limit.
    pub(super) fn rest(&self) -> Duration {
        Duration::from_nanos(self.next.saturating_sub(nanos_now()))
    }

    /// Exempts a process that was just started from limits of its own: it is a worker, which runs many tasks.
    pub(super) fn exempt(&mut self, pid: u32) {
        self.known.insert(pid, Known { started: nanos_now(), is_exempt: true });
    }

    /// Notes that a process has ended, and its processor time.
    pub(super) fn ended(&mut self, pid: u32, cpu: Duration) {
        self.spent += cpu;
        self.known.remove(&pid);
    }

    /// The processor time of all processes that have ended.
    pub(super) fn spent(&self) -> Duration {
        self.spent
    }

    /// The processes that have exceeded a limit, if it is time to look. The owner of a pool has a slot, but is no process of the
    /// run.
    pub(super) fn look(&mut self, arena: &Arena, owner: Option<u32>) -> Vec<Over> {
        let now = nanos_now();
        let mut over = Vec::new();
        if now < self.next {
            return over;
        }
        // Processes that are forked from now on have at least this long.
        let mut rest =
            [self.cpu_time, self.wall_time].into_iter().flatten().map(nanos).min().unwrap_or(u64::MAX);
        let mut used_by_all = self.spent;
        for index in (0..arena.geometry.processes_max).filter(|index| Some(*index) != owner) {
            let pid = arena.process_id(index).map_or(0, |pid| pid.load(Ordering::Acquire));
            if pid != 0 && !self.known.contains_key(&pid) && is_child(pid) {
                let started = arena.process(index).map_or(0, |slot| slot.started.load(Ordering::Relaxed));
                self.known.insert(pid, Known { started: started.clamp(self.looked, now), is_exempt: false });
            }
        }
        for (&pid, known) in &self.known {
            let Some(used) = cpu_time_of(pid) else { continue };
            used_by_all += used;
            if known.is_exempt {
                continue;
            }
            let lived = Duration::from_nanos(now.saturating_sub(known.started));
            for (limit, used, which) in [
                (self.cpu_time, used, Limit::CpuTime as fn(Duration) -> Limit),
                (self.wall_time, lived, Limit::WallTime),
            ] {
                let Some(limit) = limit else { continue };
                match limit.checked_sub(used) {
                    None | Some(Duration::ZERO) => over.push(Over::Process(pid, which(limit))),
                    Some(left) => rest = rest.min(nanos(left)),
                }
            }
        }
        let lived = Duration::from_nanos(now.saturating_sub(self.begun));
        for (limit, used, at_once, which) in [
            (self.run_cpu_time, used_by_all, self.processors, Limit::RunCpuTime as fn(Duration) -> Limit),
            (self.run_wall_time, lived, 1, Limit::RunWallTime),
        ] {
            let Some(limit) = limit else { continue };
            match limit.checked_sub(used) {
                None | Some(Duration::ZERO) => over.push(Over::Run(which(limit))),
                Some(left) => rest = rest.min(nanos(left) / at_once),
            }
        }
        self.looked = now;
        self.next = now.saturating_add(rest.max(PAUSE));
        over
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A process's processor time; `None` if there is no such process.
fn cpu_time_of(pid: u32) -> Option<Duration> {
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0)?;
    let time = clock_gettime(clock_getcpuclockid(Pid::from_raw(pid)).ok()?).ok()?;
    Some(Duration::from(time))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a panic is how a test fails")]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::ipc::arena::Geometry;

    /// A guest with native code writes anything to the table: another number, none, or another's slot and start.
    #[test]
    fn what_the_table_says_of_a_process_gives_it_no_more_time() {
        const LIMIT: Duration = Duration::from_millis(400);
        let geometry = Geometry { processes_max: 4, objects_max: 4, heap_pages: 16 };
        let (_, arena) = Arena::create(geometry).unwrap();
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        let mut timers = Timers::new(&Limits { wall_time: Some(LIMIT), ..Limits::default() });
        let begun = nanos_now();
        let mut slot = 0;
        arena.process_id(0).unwrap().store(child.id(), Ordering::Relaxed);
        let over = loop {
            if let Some(over) = timers.look(&arena, None).first() {
                break *over;
            }
            // The process's number in another slot, as if just started; in its own slot, a process that isn't of this run.
            arena.process_id(slot).unwrap().store(1, Ordering::Relaxed);
            slot = (slot + 1) % 4;
            arena.process(slot).unwrap().started.store(u64::MAX, Ordering::Relaxed);
            arena.process_id(slot).unwrap().store(child.id(), Ordering::Relaxed);
            // The number may also be in no slot for a while.
            if timers.known.len() == 1 && nanos_now().is_multiple_of(2) {
                arena.process_id(slot).unwrap().store(0, Ordering::Relaxed);
            }
            assert!(nanos_now() - begun < 100 * LIMIT.as_nanos() as u64, "it has time without end");
            std::thread::yield_now();
        };
        assert_eq!(over, Over::Process(child.id(), Limit::WallTime(LIMIT)));
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// Longer than any test takes.
    const LONG: Duration = Duration::from_secs(100_000);

    fn arena() -> Arena {
        Arena::create(Geometry { processes_max: 4, objects_max: 4, heap_pages: 16 }).unwrap().1
    }

    /// A process of the run, and the timers' knowledge of it after a look.
    struct World {
        arena: Arena,
        child: std::process::Child,
    }

    impl World {
        fn new() -> Self {
            let world = Self { arena: arena(), child: Command::new("sleep").arg("1000").spawn().unwrap() };
            world.arena.process_id(0).unwrap().store(world.child.id(), Ordering::Relaxed);
            world
        }

        fn look(&self, timers: &mut Timers) -> Vec<Over> {
            timers.next = 0;
            timers.look(&self.arena, None)
        }
    }

    impl Drop for World {
        fn drop(&mut self) {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
    }

    #[test]
    fn what_processes_had_that_have_ended_counts_for_the_run() {
        let arena = arena();
        let mut timers = Timers::new(&Limits { run_cpu_time: Some(LONG), ..Limits::default() });
        for pid in 1..10 {
            timers.ended(pid, LONG / 10);
            timers.next = 0;
            assert_eq!(timers.look(&arena, None), [], "{pid} tenths");
        }
        timers.ended(10, LONG / 10);
        timers.next = 0;
        assert_eq!(timers.look(&arena, None), [Over::Run(Limit::RunCpuTime(LONG))]);
    }

    /// A start time that was written before the first look counts as little as a later one.
    #[test]
    fn no_process_is_older_or_younger_than_can_be() {
        for forged in [0, 1, nanos_now() + 1_000_000_000_000, u64::MAX] {
            let world = World::new();
            world.arena.process(0).unwrap().started.store(forged, Ordering::Relaxed);
            let mut timers = Timers::new(&Limits { wall_time: Some(LONG), ..Limits::default() });
            let before = timers.looked;
            assert_eq!(world.look(&mut timers), [], "{forged}");
            let known = timers.known.get(&world.child.id()).unwrap();
            assert!((before..=timers.looked).contains(&known.started), "{forged}");
            assert!(!known.is_exempt);
        }
    }

    #[test]
    fn a_worker_has_no_limits_of_its_own_and_counts_for_the_run() {
        let world = World::new();
        let limits = Limits { wall_time: Some(LONG), cpu_time: Some(LONG), ..Limits::default() };
        let mut timers = Timers::new(&limits);
        timers.exempt(world.child.id());
        world.look(&mut timers);
        // The limit is now exceeded, as if the process had begun with the machine.
        timers.wall_time = Some(Duration::from_nanos(1));
        timers.cpu_time = Some(Duration::ZERO);
        assert_eq!(world.look(&mut timers), []);
        timers.known.get_mut(&world.child.id()).unwrap().is_exempt = false;
        let pid = world.child.id();
        assert_eq!(
            world.look(&mut timers),
            [
                Over::Process(pid, Limit::CpuTime(Duration::ZERO)),
                Over::Process(pid, Limit::WallTime(Duration::from_nanos(1)))
            ]
        );
        // The process ends, and its number may belong to a younger one.
        timers.ended(pid, Duration::ZERO);
        assert!(timers.known.is_empty());
    }

    #[test]
    fn it_looks_again_before_anybody_can_be_over_a_limit() {
        let world = World::new();
        let nanos = LONG.as_nanos() as u64;
        let next = |limits: Limits| {
            let mut timers = Timers::new(&limits);
            assert_eq!(world.look(&mut timers), []);
            timers.next - timers.looked
        };
        let at_once = std::thread::available_parallelism().unwrap().get() as u64;
        // A process may have used a little by then.
        let some = 1_000_000_000;
        for (limits, latest) in [
            (Limits { cpu_time: Some(LONG), ..Limits::default() }, nanos),
            (Limits { wall_time: Some(LONG), ..Limits::default() }, nanos),
            (Limits { run_wall_time: Some(LONG), ..Limits::default() }, nanos),
            (Limits { run_cpu_time: Some(LONG), ..Limits::default() }, nanos / at_once),
            (Limits { cpu_time: Some(LONG), wall_time: Some(LONG / 2), ..Limits::default() }, nanos / 2),
            (Limits { run_wall_time: Some(LONG / 3), wall_time: Some(LONG), ..Limits::default() }, nanos / 3),
        ] {
            let next = next(limits.clone());
            assert!((latest - some..=latest).contains(&next), "{next}, not {latest}: {limits:?}");
        }
        // Timers without limits don't look.
        let mut timers = Timers::new(&Limits::default());
        assert_eq!(timers.look(&world.arena, None), []);
        assert!(timers.rest() > LONG);
    }

    #[test]
    fn the_owner_of_a_pool_is_no_process_of_the_run() {
        let world = World::new();
        let mut timers = Timers::new(&Limits { wall_time: Some(LONG), ..Limits::default() });
        timers.next = 0;
        assert_eq!(timers.look(&world.arena, Some(0)), []);
        assert!(timers.known.is_empty());
        assert_eq!(world.look(&mut timers), []);
        assert_eq!(timers.known.len(), 1);
    }

    /// A process that has used much of its limit is looked at again sooner.
    #[test]
    fn it_looks_again_before_one_that_is_old_can_be_over_a_limit() {
        let world = World::new();
        let nanos = nanos_now() / 2;
        let mut timers = Timers::new(&Limits { wall_time: Some(LONG), ..Limits::default() });
        world.look(&mut timers);
        timers.known.get_mut(&world.child.id()).unwrap().started = timers.looked - nanos;
        timers.wall_time = Some(Duration::from_nanos(nanos) + LONG);
        let limit = timers.wall_time.unwrap();
        assert_eq!(world.look(&mut timers), []);
        let left = Duration::from_nanos(timers.next - timers.looked);
        assert!(left <= LONG && left < limit, "{left:?}");
    }

    /// Guests can write any number into the table.
    #[test]
    fn who_is_no_child_is_no_process_of_the_run() {
        let world = World::new();
        world
            .arena
            .process_id(1)
            .unwrap()
            .store(nix::unistd::getppid().as_raw().unsigned_abs(), Ordering::Relaxed);
        world.arena.process_id(2).unwrap().store(u32::MAX, Ordering::Relaxed);
        let limits = Limits { wall_time: Some(LONG), run_cpu_time: Some(LONG), ..Limits::default() };
        let mut timers = Timers::new(&limits);
        assert_eq!(world.look(&mut timers), []);
        assert_eq!(timers.known.keys().collect::<Vec<_>>(), [&world.child.id()]);
    }

    #[test]
    fn what_living_processes_have_had_counts_for_the_run() {
        let arena = arena();
        let mut child = Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap();
        arena.process_id(0).unwrap().store(child.id(), Ordering::Relaxed);
        let limit = Duration::from_millis(20);
        let mut timers = Timers::new(&Limits { run_cpu_time: Some(limit), ..Limits::default() });
        let over = crate::testing::deadline::within_deadline(|| {
            loop {
                timers.next = 0;
                if let Some(over) = timers.look(&arena, None).pop() {
                    break over;
                }
                std::thread::yield_now();
            }
        });
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(over, Over::Run(Limit::RunCpuTime(limit)));
    }
}
