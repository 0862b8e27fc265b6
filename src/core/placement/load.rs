//! How busy a worker is, as whoever chooses sees it.
//!
//! Not part of the state: it changes too often, and is known to each node from the
//! heartbeats that came to it. What follows from it is committed as a dispatch.

use crate::model::worker_group::Thresholds;

/// How busy a worker is, in thousandths; 0 where nothing is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// Share of its memory in use.
    pub memory_permille: u32,
    /// Load of the last minute for each core.
    pub per_core_permille: u32,
    /// It takes nothing new at present, and says why where it is shown.
    pub is_closed: bool,
}

impl Load {
    /// True if a worker may get work: it takes some, and is not above its group's limits, if
    /// there are any. What is equal is not too much.
    #[must_use]
    pub fn allows(self, limits: Option<Thresholds>) -> bool {
        !self.is_closed && !limits.is_some_and(|most| self.exceeds(most))
    }

    fn exceeds(self, most: Thresholds) -> bool {
        self.memory_permille > most.memory_permille || self.per_core_permille > most.load_permille
    }

    /// The most used of what is measured.
    #[must_use]
    pub fn worst(self) -> u32 {
        self.memory_permille.max(self.per_core_permille)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_is_too_busy_above_its_limits_and_not_at_them() {
        let busy = |memory_permille, per_core_permille| {
            let load = Load { memory_permille, per_core_permille, is_closed: false };
            !load.allows(Some(Thresholds::default()))
        };
        assert!(!busy(700, 1_000) && !busy(0, 0), "as in hera");
        assert!(busy(701, 0) && busy(0, 1_001));
        let closed = Load { is_closed: true, ..Load::default() };
        assert!(Load::default().allows(None) && !closed.allows(None), "whatever the limits");
    }
}
