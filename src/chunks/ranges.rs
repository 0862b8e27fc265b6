//! Sets of bytes, as stretches of a log.

use std::ops::Range;

/// A set of offsets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges {
    /// Ascending; none is empty, no two touch.
    list: Vec<Range<u64>>,
}

impl Ranges {
    /// Of one stretch.
    #[must_use]
    pub fn of(from: u64, to: u64) -> Self {
        let mut ranges = Self::default();
        ranges.insert(from, to);
        ranges
    }

    /// True if there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The stretches, ascending.
    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.list.iter().cloned()
    }

    /// How many offsets it holds.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.list.iter().map(|range| range.end - range.start).sum()
    }

    /// Where it ends: 0 if it is empty.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.list.last().map_or(0, |range| range.end)
    }

    /// The first stretch that ends behind `at`, as its place.
    fn place(&self, at: u64) -> usize {
        self.list.partition_point(|range| range.end <= at)
    }

    /// Adds a stretch; an empty one changes nothing.
    pub fn insert(&mut self, from: u64, to: u64) {
        if from >= to {
            return;
        }
        // Those that touch it are merged with it.
        let first = self.list.partition_point(|range| range.end < from);
        let last = self.list.partition_point(|range| range.start <= to);
        let mut merged = from..to;
        if first < last {
            merged.start = merged.start.min(self.list[first].start);
            merged.end = merged.end.max(self.list[last - 1].end);
        }
        self.list.splice(first..last, [merged]);
    }

    /// Takes a stretch out.
    pub fn remove(&mut self, from: u64, to: u64) {
        if from >= to {
            return;
        }
        let first = self.place(from);
        let last = self.list.partition_point(|range| range.start < to);
        if first >= last {
            return;
        }
        let (before, after) = (self.list[first].start..from, to..self.list[last - 1].end);
        let left = [before, after].into_iter().filter(|range| range.start < range.end);
        self.list.splice(first..last, left);
    }

    /// Where the stretch that holds `at` ends.
    #[must_use]
    pub fn end_of(&self, at: u64) -> Option<u64> {
        self.list.get(self.place(at)).filter(|range| range.start <= at).map(|range| range.end)
    }

    /// Where the first stretch behind `at` begins.
    #[must_use]
    pub fn next_after(&self, at: u64) -> Option<u64> {
        self.list.get(self.place(at)).map(|range| range.start.max(at))
    }

    /// Everything below is in it.
    #[must_use]
    pub fn prefix(&self) -> u64 {
        self.end_of(0).unwrap_or(0)
    }

    /// The parts of a stretch that it does not hold.
    #[must_use]
    pub fn missing_in(&self, from: u64, to: u64) -> Self {
        let mut missing = Self::of(from, to);
        for range in &self.list[self.place(from)..] {
            if range.start >= to {
                break;
            }
            missing.remove(range.start, range.end);
        }
        missing
    }

    /// Adds all of another.
    pub fn union(&mut self, other: &Self) {
        for range in &other.list {
            self.insert(range.start, range.end);
        }
    }

    /// What it has and another has not.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let mut left = self.clone();
        for range in &other.list {
            left.remove(range.start, range.end);
        }
        left
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn set(ranges: &Ranges) -> BTreeSet<u64> {
        ranges.iter().flatten().collect()
    }

    proptest! {
        #[test]
        fn they_are_sets(steps in prop::collection::vec((any::<bool>(), 0u64..60, 0u64..20), 0..40)) {
            let (mut ranges, mut model) = (Ranges::default(), BTreeSet::new());
            for (adds, from, len) in steps {
                let to = from + len;
                let before = ranges.clone();
                if adds {
                    ranges.insert(from, to);
                    model.extend(from..to);
                } else {
                    ranges.remove(from, to);
                    model.retain(|at| !(from..to).contains(at));
                }
                prop_assert_eq!(&set(&ranges), &model);
                prop_assert_eq!(ranges.len(), model.len() as u64);
                let mut last = None;
                for range in ranges.iter() {
                    prop_assert!(range.start < range.end && last.is_none_or(|end| end < range.start));
                    last = Some(range.end);
                }
                let missing: BTreeSet<u64> = (from..to).filter(|at| !model.contains(at)).collect();
                prop_assert_eq!(set(&ranges.missing_in(from, to)), missing);
                let old = set(&before);
                prop_assert_eq!(set(&before.minus(&ranges)), &old - &model);
                let mut both = before;
                both.union(&ranges);
                prop_assert_eq!(set(&both), &old | &model);
                let end = (from..).find(|at| !model.contains(at)).filter(|end| *end > from);
                prop_assert_eq!(ranges.end_of(from), end);
                prop_assert_eq!(ranges.next_after(from), model.range(from..).next().copied());
                prop_assert_eq!(ranges.prefix(), (0..).find(|at| !model.contains(at)).unwrap());
            }
        }
    }
}
