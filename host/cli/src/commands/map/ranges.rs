//! Sets of numbers of records, most of which lie side by side.

use std::collections::BTreeMap;
use std::ops::Range;

/// A set of numbers, stored as ranges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Ranges {
    /// The start of each range, and the first number after it. No range touches another.
    ranges: BTreeMap<u64, u64>,
    count: u64,
}

impl Ranges {
    /// Adds numbers, some of which may be in the set already.
    pub(super) fn insert(&mut self, Range { mut start, mut end }: Range<u64>) {
        if start >= end {
            return;
        }
        if let Some((&before, &until)) = self.ranges.range(..=start).next_back()
            && until >= start
        {
            self.take(before, until);
            start = before;
            end = end.max(until);
        }
        while let Some((&next, &until)) = self.ranges.range(start..=end).next() {
            self.take(next, until);
            end = end.max(until);
        }
        self.count += end - start;
        self.ranges.insert(start, end);
    }

    /// Removes a number, if it is in the set.
    pub(super) fn remove(&mut self, number: u64) {
        let Some((start, end)) = self.around(number) else { return };
        self.take(start, end);
        self.insert(start..number);
        self.insert(number + 1..end);
    }

    fn take(&mut self, start: u64, end: u64) {
        self.ranges.remove(&start);
        self.count -= end - start;
    }

    /// The range that has a number.
    fn around(&self, number: u64) -> Option<(u64, u64)> {
        let (&start, &end) = self.ranges.range(..=number).next_back()?;
        (number < end).then_some((start, end))
    }

    pub(super) fn contains(&self, number: u64) -> bool {
        self.around(number).is_some()
    }

    /// Number of numbers in the set.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// The first number from 0 on that isn't in the set.
    pub(super) fn first_gap(&self) -> u64 {
        self.ranges.get(&0).copied().unwrap_or_default()
    }

    /// The first number after all numbers of the set.
    pub(super) fn end(&self) -> u64 {
        self.ranges.last_key_value().map_or(0, |(_, end)| *end)
    }

    /// The ranges in order: start, and the first number after it.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.ranges.iter().map(|(start, end)| (*start, *end))
    }
}

impl FromIterator<(u64, u64)> for Ranges {
    fn from_iter<I: IntoIterator<Item = (u64, u64)>>(pairs: I) -> Self {
        let mut ranges = Self::default();
        pairs.into_iter().for_each(|(start, end)| ranges.insert(start..end));
        ranges
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ranges_grow_together() {
        let mut ranges = Ranges::default();
        for (range, pairs, first) in [
            (2..3, &[(2, 3)][..], 0),
            (0..1, &[(0, 1), (2, 3)], 1),
            (5..5, &[(0, 1), (2, 3)], 1),
            (1..2, &[(0, 3)], 3),
            (7..9, &[(0, 3), (7, 9)], 3),
            (2..8, &[(0, 9)], 9),
        ] {
            ranges.insert(range);
            assert_eq!(ranges.pairs().collect::<Vec<_>>(), pairs);
            assert_eq!(ranges.first_gap(), first);
        }
        ranges.remove(4);
        ranges.remove(4);
        ranges.remove(0);
        ranges.remove(20);
        assert_eq!(ranges.pairs().collect::<Vec<_>>(), [(1, 4), (5, 9)]);
        assert_eq!((ranges.count(), ranges.end(), ranges.first_gap()), (7, 9, 0));
    }

    /// After any operations in any order, the set is equal to a set of single numbers.
    #[test]
    fn ranges_are_a_set() {
        let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
        let mut seed = 1_u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for _ in 0..20_000 {
            let (start, len) = (random(60), random(8));
            if random(3) == 0 {
                ranges.remove(start);
                set.remove(&start);
            } else {
                ranges.insert(start..start + len);
                set.extend(start..start + len);
            }
            assert_eq!(ranges.count(), set.len() as u64);
            assert!((0..70).all(|number| ranges.contains(number) == set.contains(&number)));
            assert_eq!(Some(ranges.first_gap()), (0..).find(|number| !set.contains(number)));
            assert_eq!(ranges.end(), set.last().map_or(0, |last| last + 1));
            let again: Ranges = ranges.pairs().collect();
            assert_eq!(again, ranges);
        }
    }
}
