//! Worker groups, with who serves them and what waits for them.

use horai_core::ids::Name;
use horai_core::machine::state::State;
use serde::{Deserialize, Serialize};

use super::text::Time;
use crate::api::worker_group_definition::WorkerGroupDefinition;

/// Workers of a group that are named.
const WORKERS: usize = 100;

/// A worker group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkerGroupDto {
    /// Its name.
    pub name: String,
    /// Counts the definitions that differed, from 1; also the `ETag`. 0 if it has none: then
    /// it is chosen from in turns, however busy its workers are.
    pub revision: u64,
    /// What is said of it.
    pub definition: WorkerGroupDefinition,
    /// Workers that serve it, up to 100, in the order in which they first attached.
    pub workers: Vec<String>,
    /// How many serve it.
    pub worker_count: u64,
    /// Slots of those that are given work.
    pub slots: u64,
    /// Slots of those that are taken, by runs of whatever group.
    pub used: u64,
    /// Runs in its queue.
    pub waiting: u64,
    /// When it first got a definition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Time>,
    /// When this revision was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated: Option<Time>,
}

impl WorkerGroupDto {
    /// A worker group as it stands, defined or not.
    #[must_use]
    pub fn of(state: &State, name: &Name) -> Self {
        let group = state.worker_group(name);
        let crew = || state.workers_after(None).filter(|w| w.profile.groups.contains(name));
        let open = || crew().filter(|worker| worker.is_open());
        Self {
            name: name.to_string(),
            revision: group.map_or(0, |group| group.revision.0),
            definition: match group {
                Some(group) => WorkerGroupDefinition::of_def(&group.def),
                None => WorkerGroupDefinition::of_none(name),
            },
            workers: crew().take(WORKERS).map(|worker| worker.profile.name.to_string()).collect(),
            worker_count: crew().count() as u64,
            slots: open().map(|worker| u64::from(worker.profile.slots)).sum(),
            used: open().map(|worker| u64::from(state.used_slots(worker.id))).sum(),
            waiting: state.queued_in(name) as u64,
            created: group.map(|group| Time(group.created)),
            updated: group.map(|group| Time(group.updated)),
        }
    }
}

/// What setting a worker group did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetWorkerGroup {
    /// Which group.
    pub name: String,
    /// Its revision now.
    pub revision: u64,
    /// False if it was the same already.
    pub changed: bool,
}
