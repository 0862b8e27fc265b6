//! What is around a job: the area that its cluster stands in, the groups that it lies in,
//! and the group of workers that run it. Reading only; whose parameters hold where is told in [`crate::model::params`].

use std::iter::successors;
use std::ops::Bound;

use super::state::{State, above};
use crate::ids::{GroupPath, JobId, Name};
use crate::model::area::Area;
use crate::model::group::StoredGroup;
use crate::model::job::JobSpec;
use crate::model::params::Params;
use crate::model::worker_group::{Thresholds, WorkerGroup};

impl State {
    /// Where the cluster stands.
    #[must_use]
    pub fn area(&self) -> Option<&Area> {
        self.settings()?.area.as_ref()
    }

    /// True if a job of that definition has nothing to do where the cluster stands. One
    /// that names no area has something to do everywhere, and so has every job in a
    /// cluster without an area.
    #[must_use]
    pub fn is_elsewhere(&self, spec: &JobSpec) -> bool {
        let names = &spec.areas;
        self.area().is_some_and(|area| !names.is_empty() && !names.contains(area))
    }

    /// The record of a group, if it has one.
    #[must_use]
    pub fn group(&self, path: &GroupPath) -> Option<&StoredGroup> {
        self.groups.get(path)
    }

    /// Groups by path, after one (from the first if none is given): those that have a
    /// record, and those that a job lies in.
    pub fn groups_after(&self, after: Option<GroupPath>) -> impl Iterator<Item = GroupPath> {
        successors(self.next_group(after.as_ref()), |last| self.next_group(Some(last)))
    }

    fn next_group(&self, after: Option<&GroupPath>) -> Option<GroupPath> {
        let own = self.groups.range(above(after.cloned())).next().map(|(path, _)| path);
        let behind = after.map(|path| Bound::Excluded((path.clone(), JobId(u64::MAX))));
        let from = (behind.unwrap_or(Bound::Unbounded), Bound::Unbounded);
        let used = self.index.group_jobs.range(from).next().map(|(path, _)| path);
        own.into_iter().chain(used).min().cloned()
    }

    /// The groups that have a record, of one and of those that it lies in, the nearest
    /// first.
    pub fn groups_over(&self, path: Option<&GroupPath>) -> impl Iterator<Item = &StoredGroup> {
        // Most clusters have none, and no path need be cut to find that out.
        let path = path.filter(|_| self.groups.len() > 0);
        path.into_iter().flat_map(GroupPath::and_above).filter_map(|path| self.groups.get(&path))
    }

    /// What is said of a worker group, if anything is.
    #[must_use]
    pub fn worker_group(&self, name: &Name) -> Option<&WorkerGroup> {
        self.worker_groups.get(name)
    }

    /// Worker groups of which something is said, by name, after one.
    pub fn worker_groups_after(&self, after: Option<Name>) -> impl Iterator<Item = &WorkerGroup> {
        self.worker_groups.range(above(after)).map(|(_, group)| group)
    }

    /// How busy workers may be to get work of a group.
    #[must_use]
    pub fn thresholds_of(&self, group: &Name) -> Option<Thresholds> {
        self.worker_groups.get(group)?.def.thresholds
    }

    /// The parameters that a job of that definition gets from its groups, in this area.
    #[must_use]
    pub fn group_params(&self, spec: &JobSpec) -> Params {
        let levels = self.groups_over(spec.group.as_ref()).map(|group| &group.def.params);
        crate::model::params::in_force(levels, self.area())
    }
}
