//! Parts of runs: whose they are, and over which workers a run is split. Reading only,
//! and the part of the index that answers it.

use imbl::OrdSet;

use super::state::State;
use crate::ids::{AttemptKey, Name, RunId, WorkerId};
use crate::model::demand::Demand;
use crate::model::part::{Part, Parts, RunOn};
use crate::model::run::Run;
use crate::model::worker::Worker;
use crate::time::UtcMillis;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PartIndex {
    /// Live parts, and the one worker that may run each.
    pinned: OrdSet<(WorkerId, RunId)>,
    /// Parts, over or not.
    len: usize,
}

impl PartIndex {
    /// A run is written, or removed.
    pub(super) fn run_changed(&mut self, old: Option<&Run>, new: Option<&Run>) {
        let is_part = |run: Option<&Run>| run.is_some_and(|run| run.part.is_some());
        self.len += usize::from(is_part(new));
        self.len -= usize::from(is_part(old));
        let pin = |run: Option<&Run>| {
            let run = run.filter(|run| run.is_live())?;
            Some((run.part?.worker?, run.id))
        };
        let (old, new) = (pin(old), pin(new));
        if old == new {
            return;
        }
        if let Some(old) = old {
            self.pinned.remove(&old);
        }
        if let Some(new) = new {
            self.pinned.insert(new);
        }
    }

    /// How many parts there are, over or not.
    pub(super) fn len(&self) -> usize {
        self.len
    }
}

impl State {
    /// The parts of a run, by shard; none unless it was split.
    pub fn parts_of(&self, run: &Run) -> impl Iterator<Item = &Run> {
        run.parts.into_iter().flat_map(Parts::ids).filter_map(|id| self.run(id))
    }

    /// True if some runs are parts of others.
    #[must_use]
    pub fn has_parts(&self) -> bool {
        self.index.parts.len() > 0
    }

    /// One shard of a run.
    #[must_use]
    pub fn part(&self, of: RunId, index: u32) -> Option<&Run> {
        self.run(self.run(of)?.parts?.id(index)?)
    }

    /// The run whose attempts have such a key: the one that it names, or the part of it.
    #[must_use]
    pub fn run_of(&self, key: AttemptKey) -> Option<&Run> {
        match key.shard_index() {
            None => self.run(key.run),
            Some(index) => self.part(key.run, index),
        }
    }

    /// The run that a part is of; any other run itself.
    #[must_use]
    pub fn whole_of<'a>(&'a self, run: &'a Run) -> &'a Run {
        run.part.and_then(|part| self.run(part.of)).unwrap_or(run)
    }

    /// The key of a run's attempt of that number.
    pub(super) fn key_of(run: &Run, number: u32) -> AttemptKey {
        match run.part {
            None => AttemptKey { run: run.id, shard: 0, number },
            Some(Part { of, index, .. }) => AttemptKey { run: of, shard: index + 1, number },
        }
    }

    /// Live parts that only this worker may run.
    pub(super) fn parts_for(&self, worker: WorkerId) -> impl Iterator<Item = RunId> {
        let range = (worker, RunId(0))..=(worker, RunId(u64::MAX));
        self.index.parts.pinned.range(range).map(|(_, run)| *run)
    }

    /// The workers over which a run of a group would be split at that time, by number: all
    /// that serve the group, have the labels, are open and were heard of just now. None
    /// before the leader's time to be found by all of them is over.
    pub fn crew_of_all<'a>(
        &'a self,
        group: &'a Name,
        demand: &'a Demand,
        now: UtcMillis,
    ) -> impl Iterator<Item = &'a Worker> {
        let is_settled = self.lease_floor().plus(RunOn::SETTLED) <= now;
        self.workers_after(None).filter(move |worker| {
            is_settled
                && worker.is_open()
                && worker.profile.groups.contains(group)
                && demand.takes(worker)
                && worker.last_heartbeat.plus(RunOn::THERE) > now
        })
    }
}
