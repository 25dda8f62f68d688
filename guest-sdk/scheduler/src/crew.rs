//! The workers of a pool: which are ready, how many are missing, whose time is over.

use std::time::Duration;

/// Number of workers in a row that may be killed before they are ready. Somebody may have killed one worker; repeated
/// deaths are no coincidence.
pub const UNREADY_MAX: u32 = 3;

/// How long a task that was to be killed may go on after its time, in nanoseconds.
const OVERDUE_NANOS: u64 = 2_000_000_000;

/// A worker of a [`Crew`]. `H` is the owner's data of the worker.
#[derive(Debug)]
#[non_exhaustive]
pub struct Worker<H> {
    /// The owner's data of the worker.
    pub of: H,
    since: u64,
    is_ready: bool,
    is_leaving: bool,
    /// The number of the entry at which the worker was last seen, and when the worker was first seen at it.
    seen: Option<(u64, u64)>,
}

impl<H> Worker<H> {
    /// Whether the worker has been ready to take tasks.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// Notes that this worker ends by itself, so that another is missing.
    pub fn leaves(&mut self) {
        self.is_leaving = true;
    }

    /// How long the worker has been at the entry of this number, if the owner trusts neither its clock nor its word:
    /// at most since the entry was put, and at least since the worker was first seen at it. All times are in
    /// nanoseconds. `since` is when the worker says that it has begun.
    pub fn time_at(&mut self, number: u64, since: u64, put_at: u64, now: u64) -> u64 {
        let seen = match self.seen {
            Some((at, when)) if at == number => when,
            _ => self.seen.insert((number, now)).1,
        };
        now.saturating_sub(since.max(put_at).min(seen))
    }
}

/// The workers of a pool.
#[derive(Debug)]
pub struct Crew<H> {
    workers: Vec<Worker<H>>,
    wanted: usize,
    /// Number of workers that were asked to leave, whichever of them do.
    asked: usize,
    /// Number of workers that were killed before they were ready, since a worker last became ready.
    unready_deaths: u32,
}

impl<H> Crew<H> {
    /// A crew that is to have this number of workers, and has none.
    #[must_use]
    pub fn new(wanted: usize) -> Self {
        Self { workers: Vec::new(), wanted, asked: 0, unready_deaths: 0 }
    }

    /// Number of workers that there are to be.
    #[must_use]
    pub fn wanted(&self) -> usize {
        self.wanted
    }

    /// Changes the number of workers that there are to be, and returns the number before.
    pub fn resize(&mut self, wanted: usize) -> usize {
        std::mem::replace(&mut self.wanted, wanted)
    }

    /// Number of workers that there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.workers.len()
    }

    /// Whether there is no worker.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.workers.is_empty()
    }

    /// The workers, in the order in which they were started.
    pub fn iter(&self) -> std::slice::Iter<'_, Worker<H>> {
        self.workers.iter()
    }

    /// The workers, in the order in which they were started.
    pub fn iter_mut(&mut self) -> std::slice::IterMut<'_, Worker<H>> {
        self.workers.iter_mut()
    }

    /// The worker that `is_it` accepts.
    #[inline]
    pub fn find(&mut self, is_it: impl Fn(&H) -> bool) -> Option<&mut Worker<H>> {
        self.workers.iter_mut().find(|worker| is_it(&worker.of))
    }

    /// The worker that `is_it` accepts, if it isn't ready yet.
    pub fn starting(&mut self, is_it: impl Fn(&H) -> bool) -> Option<&mut Worker<H>> {
        self.find(is_it).filter(|worker| !worker.is_ready)
    }

    /// Number of workers that are to be started.
    #[must_use]
    pub fn missing(&self) -> usize {
        let leaving = self.asked + self.workers.iter().filter(|worker| worker.is_leaving).count();
        (self.wanted + leaving).saturating_sub(self.workers.len())
    }

    /// Number of workers that are to be asked to leave.
    #[must_use]
    pub fn surplus(&self) -> usize {
        self.workers.len().saturating_sub(self.asked).saturating_sub(self.wanted)
    }

    /// Adds a worker that was asked for at this time, in nanoseconds.
    pub fn add(&mut self, of: H, now: u64) {
        self.workers.push(Worker { of, since: now, is_ready: false, is_leaving: false, seen: None });
    }

    /// Notes that one worker was asked to leave. Nobody knows which one will.
    pub fn ask_one_to_leave(&mut self) {
        self.asked += 1;
    }

    /// Notes that a worker has left because it was asked to, or that nobody is left who could.
    pub fn no_more_asked(&mut self) {
        self.asked = self.asked.saturating_sub(1);
    }

    /// Marks a worker as ready, and returns it. `None` if there is no such worker, or it was ready before.
    pub fn ready(&mut self, is_it: impl Fn(&H) -> bool) -> Option<&mut Worker<H>> {
        let at = self.workers.iter().position(|worker| is_it(&worker.of) && !worker.is_ready)?;
        self.unready_deaths = 0;
        let worker = self.workers.get_mut(at)?;
        worker.is_ready = true;
        Some(worker)
    }

    /// Removes the worker that `is_it` accepts.
    pub fn remove(&mut self, is_it: impl Fn(&H) -> bool) -> Option<Worker<H>> {
        let at = self.workers.iter().position(|worker| is_it(&worker.of))?;
        Some(self.workers.remove(at))
    }

    /// Removes all workers.
    #[must_use]
    pub fn take_all(&mut self) -> Vec<Worker<H>> {
        std::mem::take(&mut self.workers)
    }

    /// Takes workers back that were removed.
    pub fn take_back(&mut self, workers: Vec<Worker<H>>) {
        self.workers.extend(workers);
    }

    /// Notes that a worker was killed before it was ready. Returns whether this may be by chance.
    #[must_use]
    pub fn died_by_chance(&mut self) -> bool {
        let is_by_chance = self.unready_deaths < UNREADY_MAX;
        self.unready_deaths += u32::from(is_by_chance);
        is_by_chance
    }

    /// The time until a worker must be ready that isn't yet, in nanoseconds; 0 if its time is over. `None` if all
    /// workers are.
    #[must_use]
    pub fn until_ready(&self, now: u64, timeout: Duration) -> Option<u64> {
        let starting = self.workers.iter().filter(|worker| !worker.is_ready);
        starting.map(|worker| nanos(timeout).saturating_sub(now.saturating_sub(worker.since))).min()
    }
}

/// Whether a task's time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lateness {
    /// The task may go on.
    InTime,
    /// The task is to be killed.
    Late,
    /// The task was to be killed long ago: its worker is to be killed, whatever else it does.
    Overdue,
}

/// Whether a task is late that has run for `time` nanoseconds.
#[must_use]
pub fn lateness(time: u64, timeout: Duration) -> Lateness {
    let timeout = nanos(timeout);
    if time < timeout {
        Lateness::InTime
    } else if time < timeout.saturating_add(OVERDUE_NANOS) {
        Lateness::Late
    } else {
        Lateness::Overdue
    }
}

/// The time until a task may be late, in nanoseconds. `at_work` has the timeout of each task that a worker is at, and
/// for how long the worker has been at it, in nanoseconds. `shortest` is the shortest timeout of the tasks that may
/// begin meanwhile.
pub fn next_deadline(shortest: Duration, at_work: impl IntoIterator<Item = (Duration, u64)>) -> u64 {
    let left = at_work.into_iter().map(|(timeout, time)| nanos(timeout).saturating_sub(time));
    left.fold(nanos(shortest), u64::min)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
