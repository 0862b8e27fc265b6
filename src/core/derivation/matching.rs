//! The rules on lists of instants: which upstream job is the base, and which of an
//! upstream job's instants an instant waits for. Plain functions of sorted lists;
//! nothing here knows jobs or periods.

use std::cmp::Reverse;

use crate::time::UtcMillis;
use crate::timing::period::Periods;

/// One instant of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moment {
    /// The nominal time.
    pub(super) at: UtcMillis,
    /// When its action may start.
    pub(super) due: UtcMillis,
}

/// An edge that may be chosen as the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Its place in the definition.
    pub(super) edge: usize,
    /// How many actions the upstream job has in the dependant's period.
    pub(super) count: usize,
    /// The first of them.
    pub(super) first: UtcMillis,
    /// The upstream job's number in hera.
    pub(super) legacy: Option<u32>,
}

/// hera's rule: the fewest actions; of several the one whose first action is the
/// latest, by its number that ends in the job's. Without those numbers the edge that
/// is written first, so that it is the definition that decides and never the order
/// in which jobs were made.
pub(super) fn base(candidates: impl Iterator<Item = Candidate>) -> Option<usize> {
    let best = candidates.min_by_key(|c| (c.count, Reverse(c.first), Reverse(c.legacy), c.edge));
    best.map(|candidate| candidate.edge)
}

/// The instant that is nearest in time; of two as near the earlier one.
pub(super) fn nearest(of: &[Moment], at: UtcMillis) -> Option<UtcMillis> {
    let (before, after) = of.split_at(of.partition_point(|m| m.at < at));
    match (before.last().map(|m| m.at), after.first().map(|m| m.at)) {
        (Some(before), Some(after)) if after.since(at) < at.since(before) => Some(after),
        (before, after) => before.or(after),
    }
}

/// True if it is one of them.
pub(super) fn has(of: &[Moment], at: UtcMillis) -> bool {
    of.binary_search_by_key(&at, |m| m.at).is_ok()
}

/// The newest one that is not later; with `strictly`, that is earlier.
pub(super) fn latest(of: &[Moment], at: UtcMillis, strictly: bool) -> Option<UtcMillis> {
    let end = of.partition_point(|m| m.at < at || (m.at == at && !strictly));
    of[..end].last().map(|m| m.at)
}

/// Local minutes and a job's number as hera writes them, by the clock of the periods'
/// zone: `yyyyMMddHHmm` and six digits. Jobs that hera did not know have no digits.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numbers<'a> {
    /// Whose clock.
    pub(super) clock: &'a Periods,
}

impl Numbers<'_> {
    fn of(self, at: UtcMillis, legacy: Option<u32>) -> Option<i64> {
        Some(self.clock.minute_number(at)? * 1_000_000 + i64::from(legacy.unwrap_or(0)))
    }

    /// The one with the smallest difference of numbers; of several the first.
    pub(super) fn nearest(
        self,
        of: &[Moment],
        legacy: Option<u32>,
        to: (UtcMillis, Option<u32>),
    ) -> Option<UtcMillis> {
        let to = self.of(to.0, to.1)?;
        let far = |m: &Moment| Some((self.of(m.at, legacy)?.abs_diff(to), m.at));
        of.iter().filter_map(far).min_by_key(|(difference, _)| *difference).map(|(_, at)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(times: &[i64]) -> Vec<Moment> {
        times.iter().map(|t| Moment { at: UtcMillis(*t), due: UtcMillis(*t) }).collect()
    }

    #[test]
    fn the_nearest_is_so_in_time_and_the_earlier_one_of_two() {
        let of = moments(&[10, 20, 40]);
        let found = |at| nearest(&of, UtcMillis(at)).map(|at| at.0);
        assert_eq!(
            [0, 10, 15, 16, 20, 30, 31, 99].map(|at| found(at).unwrap()),
            [10, 10, 10, 20, 20, 20, 40, 40]
        );
        assert_eq!(nearest(&[], UtcMillis(5)), None);
    }

    #[test]
    fn the_latest_may_be_now_unless_it_is_ones_own() {
        let of = moments(&[10, 20]);
        let found = |at, strictly| latest(&of, UtcMillis(at), strictly).map(|at| at.0);
        assert_eq!(
            [9, 10, 19, 20, 99].map(|at| found(at, false)),
            [None, Some(10), Some(10), Some(20), Some(20)]
        );
        assert_eq!([10, 20].map(|at| found(at, true)), [None, Some(10)]);
    }

    #[test]
    fn the_base_has_the_fewest_then_the_latest_then_the_larger_number() {
        let base =
            |candidates: &[(usize, i64, Option<u32>)]| {
                let candidate = |(edge, (count, first, legacy)): (usize, &(usize, i64, _))| {
                    Candidate { edge, count: *count, first: UtcMillis(*first), legacy: *legacy }
                };
                base(candidates.iter().enumerate().map(candidate))
            };
        assert_eq!(base(&[(3, 9, None), (2, 1, None), (2, 5, None)]), Some(2));
        assert_eq!(base(&[(1, 5, Some(10)), (1, 5, Some(20)), (1, 5, None)]), Some(1));
        assert_eq!(base(&[(1, 5, None), (1, 5, None)]), Some(0));
        assert_eq!(base(&[]), None);
    }
}
