//! Maps the inputs of the pool to records.
//!
//! The pool numbers its inputs from 0 on. Some records don't become inputs: those that are done already, and empty lines. The
//! thread that reads says where the numbers of inputs and records diverge, and the thread that takes results asks.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::ranges::Ranges;

/// The records that are to be done.
#[derive(Debug, Clone, Default)]
pub(super) struct Left {
    /// All records but these,
    done: Ranges,
    /// and these again.
    again: Ranges,
    /// Records from this one on aren't to be done.
    end: Option<u64>,
}

impl Left {
    /// All records that aren't `done`, and those of `again`.
    pub(super) fn new(done: Ranges, again: Ranges) -> Self {
        Self { done, again, end: None }
    }

    /// Only the records of `again`: all others are done.
    pub(super) fn only(again: Ranges) -> Self {
        let done = Some((0, u64::MAX)).into_iter().collect();
        Self { done, end: Some(again.end()), again }
    }

    /// Whether this record is to be done.
    pub(super) fn contains(&self, record: u64) -> bool {
        !self.done.contains(record) || self.again.contains(record)
    }

    /// Whether a record from this one on may have to be done.
    pub(super) fn goes_on(&self, record: u64) -> bool {
        self.end.is_none_or(|end| record < end)
    }
}

/// From the input of this number on, the records of successive inputs follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    number: u64,
    record: u64,
    /// The first of the records just before `record` that are no inputs.
    gap: u64,
}

/// Messages from one thread to the other.
#[derive(Debug, Default)]
struct News {
    runs: Mutex<Vec<Run>>,
    /// Number of runs that were ever added.
    count: AtomicU64,
}

/// The end that knows which records become inputs.
#[derive(Debug)]
pub(super) struct Numbering {
    news: Arc<News>,
    number: u64,
    record: u64,
}

impl Numbering {
    /// Says that the next input is this record. Must be called before the pool gets the input.
    pub(super) fn is_next(&mut self, record: u64) {
        if record != self.record {
            let run = Run { number: self.number, record, gap: self.record };
            self.news.runs.lock().unwrap_or_else(PoisonError::into_inner).push(run);
            self.news.count.fetch_add(1, Ordering::Relaxed);
        }
        self.number += 1;
        self.record = record + 1;
    }
}

/// The end that gets results.
#[derive(Debug)]
pub(super) struct Numbers {
    news: Arc<News>,
    seen: u64,
    runs: BTreeMap<u64, Known>,
}

#[derive(Debug)]
struct Known {
    record: u64,
    gap: u64,
    /// The run's number of inputs, unless it is the last run.
    len: Option<u64>,
    /// Number of its inputs that have been asked for.
    asked: u64,
}

impl Numbers {
    /// The record of an input, which is asked for once; and the records before it that are no inputs, each of which is returned
    /// once.
    pub(super) fn record(&mut self, number: u64) -> (u64, Range<u64>) {
        // The input has come here through a lock, and so has the news that was written before it.
        if self.news.count.load(Ordering::Relaxed) != self.seen {
            let runs = std::mem::take(&mut *self.news.runs.lock().unwrap_or_else(PoisonError::into_inner));
            for run in runs {
                self.seen += 1;
                self.add(run);
            }
        }
        let Some((&begin, run)) = self.runs.range_mut(..=number).next_back() else { return (number, 0..0) };
        let record = run.record + (number - begin);
        let gap = run.gap..run.record;
        run.gap = run.record;
        run.asked += 1;
        // All inputs of the run have been asked for.
        if run.len == Some(run.asked) {
            self.runs.remove(&begin);
        }
        (record, gap)
    }

    fn add(&mut self, Run { number, record, gap }: Run) {
        if let Some((&begin, last)) = self.runs.iter_mut().next_back() {
            let len = number - begin;
            last.len = Some(len);
            if last.asked == len {
                self.runs.remove(&begin);
            }
        }
        self.runs.insert(number, Known { record, gap, len: None, asked: 0 });
    }
}

/// Both ends.
pub(super) fn numbers() -> (Numbering, Numbers) {
    let news = Arc::<News>::default();
    let mut numbers = Numbers { news: news.clone(), seen: 0, runs: BTreeMap::new() };
    numbers.add(Run { number: 0, record: 0, gap: 0 });
    (Numbering { news, number: 0, record: 0 }, numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_are_what_is_left_of_the_records() {
        let left = Left::new([(0, 10), (11, 13), (15, 17)].into_iter().collect(), Ranges::default());
        let records: Vec<_> = (0..20).filter(|record| left.contains(*record)).collect();
        assert_eq!(records, [10, 13, 14, 17, 18, 19]);
        let (mut numbering, mut numbers) = numbers();
        records.iter().for_each(|record| numbering.is_next(*record));
        let mut done: Ranges = Ranges::default();
        // The order doesn't matter.
        for (number, record) in records.iter().enumerate().rev() {
            let (found, gap) = numbers.record(number as u64);
            assert_eq!(found, *record);
            let told: u64 = done.pairs().map(|(from, to)| to - from).sum();
            let news = gap.end - gap.start + 1;
            done.insert(gap);
            done.insert(found..found + 1);
            let now: u64 = done.pairs().map(|(from, to)| to - from).sum();
            assert_eq!(now, told + news, "nothing is told twice");
        }
        assert_eq!(done.pairs().collect::<Vec<_>>(), [(0, 20)], "what is between them is told");
        assert_eq!(numbers.runs.len(), 1, "but the last, no run is kept");
    }

    #[test]
    fn runs_go_when_all_of_them_are_done() {
        let (mut numbering, mut numbers) = numbers();
        for record in (0..100_000).map(|record| record * 2) {
            numbering.is_next(record);
            let (found, gap) = numbers.record(record / 2);
            assert_eq!((found, gap), (record, record.saturating_sub(1)..record));
        }
        assert!(numbers.runs.len() <= 2, "{}", numbers.runs.len());
    }

    #[test]
    fn some_are_done_again() {
        let again: Ranges = [(3, 5), (8, 9)].into_iter().collect();
        let mixed = Left::new([(0, 10)].into_iter().collect(), again.clone());
        let only = Left::only(again);
        assert_eq!((0..12).filter(|record| mixed.contains(*record)).collect::<Vec<_>>(), [3, 4, 8, 10, 11]);
        assert_eq!((0..12).filter(|record| only.contains(*record)).collect::<Vec<_>>(), [3, 4, 8]);
        assert!(mixed.goes_on(1000) && only.goes_on(8) && !only.goes_on(9));
    }
}
