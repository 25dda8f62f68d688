//! All orders of a small pool with honest workers: each state that can be reached, once.

use std::collections::{HashSet, VecDeque};

use super::*;

/// The entries, by their numbers of tasks.
const ENTRIES: [u32; 3] = [1, 2, 1];
const WORKERS: usize = 2;
/// Workers die this often at most.
const DEATHS: u32 = 2;
/// A worker claims this number of entries at most.
const CLAIMED: usize = 2;

/// A worker, which has results of tasks that nobody else has seen.
#[derive(Debug, Clone, Default)]
struct Worker {
    claims: VecDeque<(u64, Vec<u32>)>,
    /// The index of the task of the first entry that the worker is at.
    at: Option<usize>,
    /// Number of tasks of the first entry whose results were delivered.
    delivered: usize,
}

#[derive(Debug, Clone, Default)]
struct Pool {
    owner: Owner,
    workers: [Worker; WORKERS],
    begun: BTreeMap<u32, u32>,
    deaths: u32,
    was_cancelled: bool,
}

impl Pool {
    fn new() -> Self {
        let mut pool = Self::default();
        ENTRIES.into_iter().for_each(|tasks| pool.owner.submit(tasks));
        pool
    }

    /// All that may happen now.
    fn next(&self) -> Vec<Self> {
        let mut next = Vec::new();
        let mut happens = |change: &dyn Fn(&mut Self)| {
            let mut pool = self.clone();
            change(&mut pool);
            next.push(pool);
        };
        if self.owner.has_ended {
            return next;
        }
        happens(&|pool| pool.owner.end());
        if self.owner.scheduler.waiting() > 0 && self.owner.scheduler.under_way().entries < 2 {
            happens(&|pool| pool.owner.give_out(2, 2, false));
        }
        if !self.was_cancelled {
            for remainder in [0, 1] {
                happens(&|pool| {
                    pool.was_cancelled = true;
                    pool.owner.cancel(remainder);
                });
            }
        }
        for at in 0..WORKERS {
            let worker = &self.workers[at];
            if worker.claims.len() < CLAIMED && worker.at.is_none() && !self.owner.queue.is_empty() {
                happens(&|pool| {
                    let (number, chunk) = pool.owner.queue.remove(0);
                    pool.workers[at].claims.push_back((number, chunk.ids));
                });
            }
            if let Some((number, ids)) = worker.claims.front() {
                if worker.at.is_none_or(|at| at + 1 < ids.len()) {
                    happens(&|pool| pool.begin(at));
                }
                if let Some(part) = worker.at {
                    if part + 1 == ids.len() {
                        happens(&|pool| pool.finish(at, *number, None));
                        happens(&|pool| pool.finish(at, *number, Some(part)));
                    } else if worker.delivered <= part {
                        happens(&|pool| pool.deliver_some(at, *number));
                    }
                }
            }
            if self.deaths < DEATHS {
                happens(&|pool| pool.die(at));
            }
        }
        next
    }

    /// A worker begins its next task.
    fn begin(&mut self, at: usize) {
        let worker = &mut self.workers[at];
        let part = worker.at.map_or(0, |at| at + 1);
        worker.at = Some(part);
        *self.begun.entry(worker.claims[0].1[part]).or_default() += 1;
    }

    /// A worker delivers its results up to here, and is still at the entry.
    fn deliver_some(&mut self, at: usize, number: u64) {
        let worker = &mut self.workers[at];
        let parts = worker.at.unwrap() + 1 - worker.delivered;
        worker.delivered += parts;
        self.owner.partly_finished(number, parts as u32, None);
    }

    fn finish(&mut self, at: usize, number: u64, failed: Option<usize>) {
        let worker = std::mem::take(&mut self.workers[at]);
        let parts = worker.claims[0].1.len() - worker.delivered;
        self.workers[at].claims = worker.claims.into_iter().skip(1).collect();
        let failed = failed.map(|part| (part - worker.delivered) as u32);
        self.owner.finished(number, parts as u32, failed);
    }

    /// A worker dies, and another takes its place.
    fn die(&mut self, at: usize) {
        self.deaths += 1;
        let worker = std::mem::take(&mut self.workers[at]);
        let first = worker.claims.front().map_or(0, |claim| claim.0);
        let claims =
            Claims { first, end: first + worker.claims.len() as u64, has_begun: worker.at.is_some() };
        self.owner.bury(claims, worker.at.unwrap_or(0) as u32, false);
    }

    fn check(&self) {
        self.owner.check();
        for (id, begun) in &self.begun {
            let failures = self.owner.failures.get(id).copied().unwrap_or(0);
            let is_at_work = self
                .workers
                .iter()
                .any(|worker| worker.at.is_some_and(|at| worker.claims[0].1[..=at].contains(id)));
            assert!(*begun <= 1 + failures.min(RETRIES), "task {id} has begun {begun} times: {self:?}");
            let has_outcome = self.owner.outcomes.contains_key(id);
            assert!(
                is_at_work || has_outcome || failures > 0,
                "task {id} was begun and is nowhere: {self:?}"
            );
        }
    }
}

/// Results, failures, deaths of workers at any moment, a cancellation and the end, in each order in which they can
/// happen.
#[test]
fn a_small_pool_is_right_in_every_order() {
    let mut seen = HashSet::new();
    let mut open = VecDeque::from([Pool::new()]);
    let mut ended = 0;
    while let Some(pool) = open.pop_front() {
        pool.check();
        ended += u32::from(pool.owner.has_ended);
        if pool.owner.has_ended {
            assert_eq!(pool.owner.outcomes.len() as u32, pool.owner.submitted);
        }
        for next in pool.next() {
            if seen.insert(format!("{next:?}")) {
                open.push_back(next);
            }
        }
    }
    assert!(seen.len() > 10_000 && ended > 100, "only {} states, and {ended} ends: is this all?", seen.len());
}
