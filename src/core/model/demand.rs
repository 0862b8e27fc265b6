//! What a run asks for before it may be dispatched, beyond any worker of its group.
//!
//! It follows from the definition that the run is pinned to. Runs that ask for the same are
//! alike to whoever chooses, so that one look decides for all of them: see
//! [`crate::machine::queue`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::confinement::Power;
use super::job::JobSpec;
use super::part::RunOn;
use super::resources::{Amounts, Resources};
use super::run::Run;
use super::selector::Selector;
use super::worker::{Worker, WorkerProfile};
use crate::ids::{Name, WorkerId};

/// See the module. Cheap to clone: it is part of each waiting run's place in the queue, and
/// most runs ask for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Demand(Option<Arc<Wants>>);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Wants {
    /// First, so that those with the same one lie together.
    to: To,
    pools: BTreeMap<Name, u32>,
    workers: Option<Selector>,
    resources: Resources,
    powers: BTreeSet<Power>,
    interpreter: Option<Name>,
}

/// Whom a run goes to, of those that serve its group and have its labels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum To {
    /// One of them.
    Any,
    /// None: it is split over all of them first, and takes nothing itself.
    All,
    /// This one.
    Only(WorkerId),
}

/// What a run takes that says nothing.
static ONE_SLOT: Resources = Resources::slots(1);

impl Demand {
    /// What a run of that definition asks for.
    #[must_use]
    pub fn of(spec: &JobSpec, run: &Run) -> Self {
        let workers = spec.workers.clone();
        let to = match (run.part, spec.run_on) {
            (None, RunOn::AllWorkers) => return Self::for_all(workers),
            (Some(part), _) => part.worker.map_or(To::Any, To::Only),
            (None, RunOn::OneWorker) => To::Any,
        };
        let powers = spec.needs();
        let interpreter = spec.executor.interpreter().cloned();
        let is_plain = spec.pools.is_empty() && workers.is_none() && spec.resources.is_none();
        if is_plain && powers.is_empty() && interpreter.is_none() && to == To::Any {
            return Self(None);
        }
        let pools = spec.pools.clone();
        let resources = spec.resources.clone().unwrap_or_default();
        Self(Some(Arc::new(Wants { to, pools, workers, resources, powers, interpreter })))
    }

    /// What a run asks for that is to be split over all workers with such labels. Without
    /// labels it is the first of these.
    #[must_use]
    pub fn for_all(workers: Option<Selector>) -> Self {
        Self(Some(Arc::new(Wants {
            to: To::All,
            pools: BTreeMap::new(),
            workers,
            resources: Resources::default(),
            powers: BTreeSet::new(),
            interpreter: None,
        })))
    }

    /// True if it asks for nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Pools that it takes of, and how many slots of each, by name.
    pub fn pools(&self) -> impl Iterator<Item = (&Name, u32)> {
        let pools = self.0.iter().flat_map(|wants| wants.pools.iter());
        pools.map(|(name, slots)| (name, *slots))
    }

    /// The labels that its worker must have.
    #[must_use]
    pub fn workers(&self) -> Option<&Selector> {
        self.0.as_ref()?.workers.as_ref()
    }

    /// What it takes of its worker.
    #[must_use]
    pub fn resources(&self) -> &Resources {
        self.0.as_ref().map_or(&ONE_SLOT, |wants| &wants.resources)
    }

    /// True if a worker can hold it to its limits.
    #[must_use]
    pub fn is_safe_on(&self, worker: &WorkerProfile) -> bool {
        self.0.as_ref().is_none_or(|wants| wants.powers.is_subset(&worker.isolation.powers))
    }

    /// True if a worker has the interpreter of its script.
    #[must_use]
    pub fn is_understood_by(&self, worker: &WorkerProfile) -> bool {
        let wanted = self.0.as_ref().and_then(|wants| wants.interpreter.as_ref());
        wanted.is_none_or(|name| worker.interpreters.contains(name))
    }

    /// True if it is for no worker: its run is to be split over all of them.
    #[must_use]
    pub fn is_for_all(&self) -> bool {
        self.0.as_ref().is_some_and(|wants| wants.to == To::All)
    }

    /// The one worker that it is for, if no other will do.
    #[must_use]
    pub fn only(&self) -> Option<WorkerId> {
        match self.0.as_ref()?.to {
            To::Only(worker) => Some(worker),
            To::Any | To::All => None,
        }
    }

    /// True if a worker may be given it: one of the kind that it asks for, that has its
    /// interpreter, can hold it to its limits, and is large enough, whatever runs there.
    #[must_use]
    pub fn suits(&self, worker: &Worker) -> bool {
        let Resources { slots, amounts } = self.resources();
        let profile = &worker.profile;
        !self.is_for_all()
            && *slots <= profile.slots
            && amounts.fit(&profile.amounts, &Amounts::default())
            && self.takes(worker)
            && self.is_understood_by(profile)
            && self.is_safe_on(profile)
    }

    /// True if a worker is of the kind that it asks for, perhaps too small.
    #[must_use]
    pub fn takes(&self, worker: &Worker) -> bool {
        self.only().is_none_or(|only| only == worker.id)
            && self.workers().is_none_or(|selector| selector.takes(&worker.profile.labels))
    }
}
