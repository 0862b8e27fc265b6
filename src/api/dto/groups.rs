//! Groups of jobs, and what they give them.

use std::collections::BTreeMap;

use horai_core::ids::GroupPath;
use horai_core::machine::state::State;
use horai_core::model::params::in_force;
use serde::{Deserialize, Serialize};

use super::jobs::job_name;
use super::text::Time;

/// Jobs of a group that are named.
const JOBS: usize = 100;

/// A group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupDto {
    /// Its path, such as `etl/nightly`.
    pub group: String,
    /// Counts the records that differed, from 1; also the `ETag`. 0 if it has none: then
    /// it is just where jobs lie.
    pub revision: u64,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// What it gives its jobs itself.
    pub params: BTreeMap<String, String>,
    /// What it gives them from the groups that it lies in, by name.
    pub inherited: Vec<InheritedParam>,
    /// What a job in it gets from groups, in this cluster's area.
    pub in_force: BTreeMap<String, String>,
    /// Jobs in it and in the groups in it, up to 100.
    pub jobs: Vec<String>,
    /// How many there are.
    pub job_count: u64,
    /// When its record was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Time>,
    /// When this revision was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub updated: Option<Time>,
}

/// A parameter that a group has from one that it lies in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InheritedParam {
    /// As it is written there, perhaps with an area.
    pub name: String,
    /// What it is.
    pub value: String,
    /// The group that says it: the nearest that names it.
    pub from: String,
}

impl GroupDto {
    /// A group as it stands; none if it has no record, and no job lies in it.
    #[must_use]
    pub fn of(state: &State, path: &GroupPath) -> Option<Self> {
        let own = state.group(path);
        let mut jobs: Vec<String> =
            state.jobs_in(path).take(JOBS).map(|job| job_name(state, job)).collect();
        if own.is_none() && jobs.is_empty() {
            return None;
        }
        jobs.sort_unstable();
        let def = own.map(|group| &group.def);
        let params = def.map(|def| def.params.clone()).unwrap_or_default();
        let mut inherited: BTreeMap<&str, InheritedParam> = BTreeMap::new();
        for group in state.groups_over(Some(path)).filter(|group| group.def.path != *path) {
            for (name, value) in
                group.def.params.iter().filter(|(name, _)| !params.contains_key(*name))
            {
                let from = group.def.path.to_string();
                let (name, value) = (name.as_str(), value.clone());
                let found = InheritedParam { name: name.to_owned(), value, from };
                inherited.entry(name).or_insert(found);
            }
        }
        let levels = state.groups_over(Some(path)).map(|group| &group.def.params);
        let mut in_force = in_force(levels, state.area());
        in_force.retain(|name, _| !name.contains('.'));
        Some(Self {
            group: path.to_string(),
            revision: own.map_or(0, |group| group.revision.0),
            description: def.map(|def| def.description.clone()).unwrap_or_default(),
            inherited: inherited.into_values().collect(),
            params,
            in_force,
            jobs,
            job_count: state.jobs_in(path).count() as u64,
            created: own.map(|group| Time(group.created)),
            updated: own.map(|group| Time(group.updated)),
        })
    }
}

/// What setting a group did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetGroup {
    /// Which group.
    pub group: String,
    /// Its revision now.
    pub revision: u64,
    /// False if it was the same already.
    pub changed: bool,
}
