//! Pools: who names them, and what of them is in use. Reading only, and the part
//! of the index that answers it.
//!
//! What is in use is counted from the runs whose attempt is live, by the
//! definition that each is pinned to. There is no record that a slot was taken,
//! so there is none that could stay behind.

use imbl::{OrdMap, OrdSet};

use super::index::{count, count_by};
use super::state::{State, above};
use crate::ids::{BackfillId, JobId, Name, Revision, RunId};
use crate::model::demand::Demand;
use crate::model::job::{Job, JobSpec};
use crate::model::pool::Pool;
use crate::model::run::Run;
use crate::mutants::{self, Mutant};

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PoolIndex {
    /// (pool, slots, job whose runs take so many).
    users: OrdSet<(Name, u32, JobId)>,
    /// The same of earlier definitions that live runs are pinned to.
    pinned: OrdSet<(Name, u32, JobId, Revision)>,
    used: OrdMap<Name, u32>,
    /// Runs in the queue that ask for slots.
    waiting: OrdMap<Name, u32>,
}

impl PoolIndex {
    pub(super) fn job_put(&mut self, job: &Job) {
        self.users.extend(job.spec.pools.iter().map(|(name, n)| (name.clone(), *n, job.id)));
    }

    pub(super) fn job_removed(&mut self, job: &Job) {
        for (name, slots) in &job.spec.pools {
            self.users.remove(&(name.clone(), *slots, job.id));
        }
    }

    /// An earlier definition is kept, or dropped.
    pub(super) fn pinned(&mut self, (job, revision): (JobId, Revision), spec: &JobSpec, on: bool) {
        for (name, slots) in &spec.pools {
            let pin = (name.clone(), *slots, job, revision);
            if on {
                self.pinned.insert(pin);
            } else {
                self.pinned.remove(&pin);
            }
        }
    }

    /// An attempt begins, or ends.
    pub(super) fn hold(&mut self, demand: &Demand, on: bool) {
        for (name, slots) in demand.pools() {
            count_by(&mut self.used, name, slots, on);
        }
    }

    /// A run comes into the queue, or leaves it.
    pub(super) fn wait(&mut self, demand: &Demand, on: bool) {
        for (name, _) in demand.pools() {
            count(&mut self.waiting, name, on);
        }
    }
}

impl State {
    /// A pool.
    #[must_use]
    pub fn pool(&self, name: &Name) -> Option<&Pool> {
        self.pools.get(name)
    }

    /// Pools by name, after one (from the first if none is given).
    pub fn pools_after(&self, after: Option<Name>) -> impl Iterator<Item = &Pool> {
        self.pools.range(above(after)).map(|(_, pool)| pool)
    }

    /// Slots of a pool that live attempts take: more than there are, for a while, after
    /// it was made smaller.
    #[must_use]
    pub fn pool_used(&self, name: &Name) -> u32 {
        self.index.pools.used.get(name).copied().unwrap_or(0)
    }

    /// Slots of a pool that nothing takes; 0 if there is no such pool.
    #[must_use]
    pub fn pool_free(&self, name: &Name) -> u32 {
        let slots = self.pools.get(name).map_or(0, |pool| pool.def.slots);
        if mutants::on(Mutant::PoolOverfull) {
            return slots;
        }
        slots.saturating_sub(self.pool_used(name))
    }

    /// Runs in the queue that ask for slots of a pool.
    #[must_use]
    pub fn pool_waiting(&self, name: &Name) -> u32 {
        self.index.pools.waiting.get(name).copied().unwrap_or(0)
    }

    /// Jobs whose runs take at least so many slots of a pool.
    pub fn jobs_with_pool(&self, name: &Name, least: u32) -> impl Iterator<Item = JobId> {
        let range = (name.clone(), least, JobId(0))..=(name.clone(), u32::MAX, JobId(u64::MAX));
        self.index.pools.users.range(range).map(|(.., job)| *job)
    }

    /// Live runs of definitions that are not their job's any more, and that take at
    /// least so many slots of a pool.
    pub fn runs_with_pool(&self, name: &Name, least: u32) -> impl Iterator<Item = RunId> {
        self.pins_with_pool(name, least).flat_map(|(job, revision)| {
            let live = self.runs_of_job_after(job, None).filter(|run| run.is_live());
            live.filter(move |run| run.revision == revision).map(|run| run.id)
        })
    }

    /// Back-fills of such definitions that are not over.
    pub fn backfills_with_pool(&self, name: &Name, least: u32) -> impl Iterator<Item = BackfillId> {
        self.pins_with_pool(name, least).flat_map(|(job, revision)| {
            let live = self.index.live_backfills.iter().filter_map(|id| self.backfills.get(id));
            live.filter(move |b| (b.job, b.revision) == (job, revision)).map(|b| b.id)
        })
    }

    /// Earlier definitions that somebody is pinned to, and that take so much.
    fn pins_with_pool(
        &self,
        name: &Name,
        least: u32,
    ) -> impl Iterator<Item = (JobId, Revision)> + use<'_> {
        let last = (name.clone(), u32::MAX, JobId(u64::MAX), Revision(u64::MAX));
        let range = (name.clone(), least, JobId(0), Revision(0))..=last;
        self.index.pools.pinned.range(range).map(|(_, _, job, rev)| (*job, *rev))
    }

    /// What a run asks for.
    #[must_use]
    pub fn demand_of(&self, run: &Run) -> Demand {
        let spec = self.spec(run.job, run.revision);
        spec.map(|spec| Demand::of(spec, run)).unwrap_or_default()
    }
}
