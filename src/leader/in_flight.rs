//! What is proposed and not answered yet, so that nothing is proposed twice.
//!
//! Volatile: a new leader starts with none, and the machine refuses whatever
//! was committed already. Bounded: beyond the bound nothing new is proposed
//! until answers come.

use std::collections::HashMap;

use horai_core::ids::{Name, RunId, WorkerId};
use horai_core::model::demand::Demand;
use horai_core::model::resources::Resources;

/// Dispatches under way, and what they will take of workers and pools.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    runs: HashMap<RunId, (WorkerId, Demand)>,
    reserved: HashMap<WorkerId, Resources>,
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

    /// What dispatches under way will take of a worker.
    pub(super) fn reserved(&self, worker: WorkerId) -> Resources {
        self.reserved.get(&worker).cloned().unwrap_or(Resources::slots(0))
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
        self.reserved.entry(worker).or_insert(Resources::slots(0)).add(demand.resources());
        true
    }

    /// It was answered, one way or the other.
    pub(super) fn end(&mut self, run: RunId) {
        let Some((worker, demand)) = self.runs.remove(&run) else { return };
        if let Some(reserved) = self.reserved.get_mut(&worker) {
            reserved.less(demand.resources());
            if reserved.is_nothing() {
                self.reserved.remove(&worker);
            }
        }
        for (pool, slots) in demand.pools() {
            let Some(count) = self.pools.get_mut(pool) else { continue };
            *count = count.saturating_sub(slots);
            if *count == 0 {
                self.pools.remove(pool);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use horai_core::ids::{JobId, Revision};
    use horai_core::model::job::{Job, JobSpec};
    use horai_core::model::run::{Run, RunKind};
    use horai_core::time::UtcMillis;

    use super::*;

    fn demand_of(spec: JobSpec) -> Demand {
        let (id, revision, now) = (JobId(1), Revision(1), UtcMillis(0));
        let job = Job { id, revision, spec, paused: false, created: now, updated: now };
        Demand::of(&job.spec, &Run::new(RunId(1), RunKind::Manual, &job, now, now))
    }

    #[test]
    fn slots_are_reserved_until_the_answer_and_the_set_is_bounded() {
        let mut set = InFlight::default();
        let pool = Name::new("p").unwrap();
        let pools = [(pool.clone(), 2)].into();
        let resources = Some(Resources::slots(3));
        let spec = JobSpec { pools, resources, ..JobSpec::noop(pool.clone()) };
        let two = demand_of(spec);
        let none = Demand::default();
        assert!(set.begin(RunId(1), WorkerId(1), &none) && set.begin(RunId(2), WorkerId(1), &two));
        assert!(!set.begin(RunId(2), WorkerId(3), &two), "a run is under way once");
        let slots = |set: &InFlight, id| set.reserved(WorkerId(id)).slots;
        assert_eq!((slots(&set, 1), slots(&set, 3)), (4, 0));
        assert_eq!(set.reserved_of(&pool), 2);
        set.end(RunId(1));
        set.end(RunId(1));
        assert_eq!((slots(&set, 1), set.reserved_of(&pool)), (3, 2));
        for n in 0..InFlight::MAX as u64 {
            set.begin(RunId(10 + n), WorkerId(2), &none);
        }
        assert_eq!(set.room(), 0);
        assert!(!set.begin(RunId(3), WorkerId(1), &none));
        set.end(RunId(2));
        assert!(set.pools.is_empty() && !set.reserved.contains_key(&WorkerId(1)));
        assert!(set.begin(RunId(3), WorkerId(1), &none));
    }
}
