//! What a run asks for before it may be dispatched, beyond any worker of its group.
//!
//! It follows from the definition that the run is pinned to. Runs that ask for the same are
//! alike to whoever chooses, so that one look decides for all of them: see
//! [`crate::machine::queue`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::confinement::Power;
use super::job::JobSpec;
use super::resources::{Amounts, Resources};
use super::selector::Selector;
use super::worker::WorkerProfile;
use crate::ids::Name;

/// See the module. Cheap to clone: it is part of each waiting run's place in the queue, and
/// most runs ask for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Demand(Option<Arc<Wants>>);

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Wants {
    pools: BTreeMap<Name, u32>,
    workers: Option<Selector>,
    resources: Resources,
    powers: BTreeSet<Power>,
    interpreter: Option<Name>,
}

/// What a run takes that says nothing.
static ONE_SLOT: Resources = Resources::slots(1);

impl Demand {
    /// What runs of that definition ask for.
    #[must_use]
    pub fn of(spec: &JobSpec) -> Self {
        let powers = spec.needs();
        let is_plain = spec.pools.is_empty() && spec.workers.is_none() && spec.resources.is_none();
        let interpreter = spec.executor.interpreter().cloned();
        if is_plain && powers.is_empty() && interpreter.is_none() {
            return Self(None);
        }
        let (pools, workers) = (spec.pools.clone(), spec.workers.clone());
        let resources = spec.resources.clone().unwrap_or_default();
        Self(Some(Arc::new(Wants { pools, workers, resources, powers, interpreter })))
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

    /// True if a worker is of the kind that it asks for, has its interpreter, can hold it to
    /// its limits, and is large enough, whatever runs there.
    #[must_use]
    pub fn suits(&self, worker: &WorkerProfile) -> bool {
        let Resources { slots, amounts } = self.resources();
        *slots <= worker.slots
            && amounts.fit(&worker.amounts, &Amounts::default())
            && self.has_labels(worker)
            && self.is_understood_by(worker)
            && self.is_safe_on(worker)
    }

    /// True if a worker is of the kind that it asks for, perhaps too small.
    #[must_use]
    pub fn has_labels(&self, worker: &WorkerProfile) -> bool {
        self.workers().is_none_or(|selector| selector.takes(&worker.labels))
    }
}
