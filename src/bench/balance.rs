//! Did each action run exactly once? Of jobs that fire each second, every job
//! has one action in every second.

use std::collections::BTreeMap;

use horai_core::time::UtcMillis;
use serde::Serialize;

use super::bed::Fire;

/// What was found of the actions of a span.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Balance {
    /// Jobs times seconds.
    pub(super) expected: u64,
    /// Actions with a success.
    pub(super) succeeded: u64,
    /// Expected, without a success.
    pub(super) lost: u64,
    /// Actions with more than one run or more than one success.
    pub(super) double: u64,
    /// Attempts beyond the first of an action: repeated after a lost worker.
    pub(super) repeated: u64,
}

impl Balance {
    /// Of `jobs` jobs, for whole seconds with `from < nominal ≤ to`.
    pub(super) fn draw(fires: &[Fire], jobs: u32, from: UtcMillis, to: UtcMillis) -> Self {
        let mut actions: BTreeMap<(u32, UtcMillis), (u32, u32, u32)> = BTreeMap::new();
        let inside = |fire: &&Fire| fire.job < jobs && from < fire.nominal && fire.nominal <= to;
        for fire in fires.iter().filter(inside) {
            let (runs, successes, attempts) = actions.entry((fire.job, fire.nominal)).or_default();
            *runs += 1;
            *successes += fire.successes;
            *attempts += fire.attempts;
        }
        let seconds = to.0.div_euclid(1000) - from.0.div_euclid(1000);
        let expected = u64::from(jobs) * u64::try_from(seconds).unwrap_or(0);
        let count = |of: &dyn Fn(&(u32, u32, u32)) -> bool| {
            actions.values().filter(|action| of(action)).count() as u64
        };
        let succeeded = count(&|(_, successes, _)| *successes > 0);
        Self {
            expected,
            succeeded,
            lost: expected.saturating_sub(succeeded),
            double: count(&|(runs, successes, _)| *runs > 1 || *successes > 1),
            repeated: actions.values().map(|(_, _, n)| u64::from(n.saturating_sub(1))).sum(),
        }
    }

    /// True if every action ran, and none twice.
    pub(super) fn is_clean(&self) -> bool {
        self.lost == 0 && self.double == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fire(job: u32, second: i64) -> Fire {
        let nominal = UtcMillis(second * 1000);
        let (dispatched, started, finished) = (Some(nominal), Some(nominal), Some(nominal));
        Fire { job, nominal, dispatched, started, finished, successes: 1, attempts: 1 }
    }

    /// Two jobs in the seconds 11, 12 and 13.
    fn draw(change: impl FnOnce(&mut Vec<Fire>)) -> Balance {
        let mut fires: Vec<Fire> =
            (11..=13).flat_map(|second| [fire(0, second), fire(1, second)]).collect();
        change(&mut fires);
        Balance::draw(&fires, 2, UtcMillis(10_000), UtcMillis(13_700))
    }

    #[test]
    fn each_fault_shows() {
        let good = Balance { expected: 6, succeeded: 6, ..Balance::default() };
        assert_eq!(draw(|_| {}), good);
        assert!(good.is_clean());
        let lost = Balance { succeeded: 5, lost: 1, ..good.clone() };
        assert_eq!(draw(|fires| fires.truncate(5)), lost);
        assert_eq!(draw(|fires| fires[2].successes = 0), lost);
        assert!(!lost.is_clean());
        let double = Balance { double: 1, repeated: 1, ..good.clone() };
        assert_eq!(draw(|fires| fires.push(fire(1, 12))), double);
        assert_eq!(draw(|f| (f[0].successes, f[0].attempts) = (2, 2)), double);
        assert!(!double.is_clean());
        // Tried twice, done once: a lost worker, and no fault.
        assert_eq!(draw(|fires| fires[0].attempts = 2), Balance { repeated: 1, ..good });
    }

    #[test]
    fn a_double_does_not_hide_a_loss() {
        let both = draw(|fires| {
            fires.remove(0);
            fires.push(fire(1, 12));
        });
        assert_eq!((both.lost, both.double), (1, 1));
    }

    #[test]
    fn what_is_outside_does_not_count() {
        let good = draw(|_| {});
        assert_eq!(draw(|fires| fires.extend([fire(0, 10), fire(0, 14), fire(7, 12)])), good);
    }
}
