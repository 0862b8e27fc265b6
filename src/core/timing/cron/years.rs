//! A set of years.

use super::{FIRST_YEAR, LAST_YEAR};

/// Years as bits from the first that can match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Years([u64; 6]);

impl Years {
    pub(super) const NONE: Self = Self([0; 6]);
    pub(super) const ALL: Self = Self([u64::MAX; 6]);

    pub(super) fn has(&self, year: i16) -> bool {
        usize::try_from(year - FIRST_YEAR)
            .is_ok_and(|bit| self.0.get(bit / 64).is_some_and(|word| word & (1 << (bit % 64)) != 0))
    }

    /// Adds each `step`-th from `from` to `to`. Years outside of those that can
    /// match are never reached.
    pub(super) fn add(&mut self, from: u32, to: u32, step: u32) {
        let (first, last) =
            (u32::from(FIRST_YEAR.unsigned_abs()), u32::from(LAST_YEAR.unsigned_abs()));
        for year in (from..=to.min(last)).step_by(step.max(1) as usize) {
            if year >= first {
                let bit = (year - first) as usize;
                self.0[bit / 64] |= 1 << (bit % 64);
            }
        }
    }

    /// Those that can match, ascending.
    pub(super) fn iter(&self) -> impl Iterator<Item = i16> + '_ {
        (FIRST_YEAR..=LAST_YEAR).filter(|year| self.has(*year))
    }
}
