//! What is proposed and not answered yet, so that nothing is proposed twice.
//!
//! Volatile: a new leader starts with none, and the machine refuses whatever
//! was committed already. Bounded: beyond the bound nothing new is proposed
//! until answers come.

use std::collections::HashMap;
use std::hash::Hash;

use horai_core::ids::{Name, RunId, WorkerId};
use horai_core::model::demand::Demand;

/// Dispatches under way, and the slots of workers and pools they will take.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    runs: HashMap<RunId, (WorkerId, Demand)>,
    reserved: HashMap<WorkerId, u32>,
    pools: HashMap<Name, u32>,
}

impl InFlight {
    /// The most dispatches under way.
    pub(super) const MAX: usize = 4_096;

    /// How many more may be under way.
    pub(super) fn room(&self) -> usize {
        Self::MAX.saturating_sub(self.runs.len())
    }

    /// True if the run is being dispatched.
    pub(super) fn contains(&self, run: RunId) -> bool {
        self.runs.contains_key(&run)
    }

    /// Slots of a worker that dispatches under way will take.
    pub(super) fn reserved(&self, worker: WorkerId) -> u32 {
        self.reserved.get(&worker).copied().unwrap_or(0)
    }

    /// Slots of a pool that dispatches under way will take.
    pub(super) fn reserved_of(&self, pool: &Name) -> u32 {
        self.pools.get(pool).copied().unwrap_or(0)
    }

    /// A dispatch is under way; false if there is no room or it was already.
    pub(super) fn begin(&mut self, run: RunId, worker: WorkerId, demand: &Demand) -> bool {
        if self.room() == 0 || self.contains(run) {
            return false;
        }
        for (pool, slots) in demand.pools() {
            *self.pools.entry(pool.clone()).or_default() += slots;
        }
        self.runs.insert(run, (worker, demand.clone()));
        *self.reserved.entry(worker).or_default() += 1;
        true
    }

    /// It was answered, one way or the other.
    pub(super) fn end(&mut self, run: RunId) {
        let Some((worker, demand)) = self.runs.remove(&run) else { return };
        less(&mut self.reserved, &worker, 1);
        for (pool, slots) in demand.pools() {
            less(&mut self.pools, pool, slots);
        }
    }
}

/// Counts down; a count of zero has no entry.
fn less<K: Eq + Hash>(counts: &mut HashMap<K, u32>, key: &K, by: u32) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(by);
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use horai_core::model::job::JobSpec;

    use super::*;

    #[test]
    fn slots_are_reserved_until_the_answer_and_the_set_is_bounded() {
        let mut set = InFlight::default();
        let pool = Name::new("p").unwrap();
        let pools = [(pool.clone(), 2)].into();
        let two = Demand::of(&JobSpec { pools, ..JobSpec::noop(pool.clone()) });
        let none = Demand::default();
        assert!(set.begin(RunId(1), WorkerId(1), &two) && set.begin(RunId(2), WorkerId(1), &two));
        assert!(!set.begin(RunId(2), WorkerId(3), &two), "a run is under way once");
        assert_eq!((set.reserved(WorkerId(1)), set.reserved(WorkerId(3))), (2, 0));
        assert_eq!(set.reserved_of(&pool), 4);
        set.end(RunId(1));
        set.end(RunId(1));
        assert_eq!((set.reserved(WorkerId(1)), set.reserved_of(&pool)), (1, 2));
        for n in 0..InFlight::MAX as u64 {
            set.begin(RunId(10 + n), WorkerId(2), &none);
        }
        assert_eq!(set.room(), 0);
        assert!(!set.begin(RunId(3), WorkerId(1), &none));
        set.end(RunId(2));
        assert!(set.pools.is_empty());
        assert!(set.begin(RunId(3), WorkerId(1), &none));
    }
}
