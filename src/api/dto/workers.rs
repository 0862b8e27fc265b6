//! Workers and their load.

use std::collections::BTreeMap;

use horai_core::machine::state::State;
use horai_core::model::confinement::{Isolation, Power};
use horai_core::model::worker::{Duty, Worker};
use serde::{Deserialize, Serialize};

use super::text::{SpanText, Time};
use crate::api::resources_definition::ResourcesDefinition;
use crate::session::{AttemptUse, ProcessUse, Sight};

/// A worker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerDto {
    /// Its name.
    pub name: String,
    /// Its number, given when the name first attached.
    pub number: u64,
    /// Another one means that its journal was lost.
    pub incarnation: String,
    /// Groups it serves.
    pub groups: Vec<String>,
    /// Free facts about it.
    pub labels: BTreeMap<String, String>,
    /// Attempts it runs at once.
    pub slots: u32,
    /// Slots that live attempts take.
    pub used: u32,
    /// What it has for attempts to reserve, slots included.
    #[serde(default)]
    pub has: ResourcesDefinition,
    /// What live attempts reserve of that.
    #[serde(default)]
    pub reserved: ResourcesDefinition,
    /// What it is given: `open`, or nothing new: `cordoned`, `draining` or `stopping`.
    #[serde(default)]
    pub duty: String,
    /// When what still runs there is ended, if it is being drained with a deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain_until: Option<Time>,
    /// Where it runs.
    pub host: String,
    /// Version of its program.
    pub version: String,
    /// How it keeps attempts apart: `cgroup2`, `cgroup1`, `process_group`, or `unknown` of a
    /// worker of an earlier version.
    #[serde(default)]
    pub isolation: String,
    /// What it can hold attempts to, by the fields of definitions.
    #[serde(default)]
    pub enforces: Vec<String>,
    /// Why it is no better kept apart.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub isolation_note: String,
    /// Interpreters of scripts that it has by its configuration.
    #[serde(default)]
    pub interpreters: Vec<String>,
    /// True if its stream to the node that answers stands.
    pub connected: bool,
    /// When it was last heard.
    pub last_heartbeat: Time,
    /// When it first attached.
    pub registered: Time,
    /// What it last told the node that answers; not kept anywhere.
    pub load: Option<LoadDto>,
    /// What runs there now, if that was asked for and the worker answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sight: Option<SightDto>,
}

/// What runs on a worker's machine. Shares of one core are per mille.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SightDto {
    /// Attempts that run there; 256 at most.
    pub attempts: Vec<AttemptUseDto>,
    /// The ten busiest processes.
    pub processes: Vec<ProcessUseDto>,
}

/// What the living processes of an attempt take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptUseDto {
    /// Which.
    pub attempt: String,
    /// How many they are.
    pub processes: u32,
    /// Milliseconds of CPU time that they have used.
    pub cpu_ms: u64,
    /// Of one core, now.
    pub cpu_permille: u32,
    /// Bytes.
    pub rss: u64,
}

/// One process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessUseDto {
    /// Its number there.
    pub pid: u32,
    /// Its name, without arguments.
    pub name: String,
    /// Of one core, now.
    pub cpu_permille: u32,
    /// Bytes.
    pub rss: u64,
    /// Whose it is, if it is an attempt's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<String>,
}

impl SightDto {
    /// What a worker told.
    #[must_use]
    pub fn of(sight: Sight) -> Self {
        let attempt = |used: AttemptUse| AttemptUseDto {
            attempt: used.key.to_string(),
            processes: used.processes,
            cpu_ms: used.cpu_ms,
            cpu_permille: used.cpu_permille,
            rss: used.rss,
        };
        let process = |used: ProcessUse| ProcessUseDto {
            pid: used.pid,
            name: used.name,
            cpu_permille: used.cpu_permille,
            rss: used.rss,
            attempt: used.attempt.map(|key| key.to_string()),
        };
        Self {
            attempts: sight.attempts.into_iter().map(attempt).collect(),
            processes: sight.processes.into_iter().map(process).collect(),
        }
    }
}

impl WorkerDto {
    /// A worker as it stands.
    #[must_use]
    pub fn of(state: &State, worker: &Worker, connected: bool, load: Option<LoadDto>) -> Self {
        let profile = &worker.profile;
        Self {
            name: profile.name.to_string(),
            number: worker.id.0,
            incarnation: profile.incarnation.to_string(),
            groups: profile.groups.iter().map(ToString::to_string).collect(),
            labels: profile.labels.clone(),
            slots: profile.slots,
            used: state.used_slots(worker.id),
            has: ResourcesDefinition::exact(&profile.resources()),
            reserved: ResourcesDefinition::exact(&state.used_of(worker.id)),
            duty: match worker.duty {
                Duty::Open if worker.leaving.is_some() => "stopping".to_owned(),
                duty => duty.word().to_owned(),
            },
            drain_until: worker.drains_at().map(Time),
            host: profile.host.clone(),
            version: profile.version.clone(),
            isolation: profile.isolation.kind.word().to_owned(),
            enforces: enforced(&profile.isolation),
            isolation_note: profile.isolation.note.clone(),
            interpreters: profile.interpreters.iter().map(ToString::to_string).collect(),
            connected,
            last_heartbeat: Time(worker.last_heartbeat),
            registered: Time(worker.registered),
            load,
            sight: None,
        }
    }
}

/// Empties a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    /// After this, what still runs is ended and runs again elsewhere; never, if nothing
    /// is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<SpanText>,
}

/// How busy a worker's machine is. Ratios are per mille.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LoadDto {
    /// Bytes.
    pub memory_total: u64,
    /// Bytes.
    pub memory_available: u64,
    /// Load of the last minute over the number of cores.
    pub load_per_core_permille: u32,
    /// Use of all cores.
    pub cpu_permille: u32,
    /// Bytes.
    pub disk_total: u64,
    /// Bytes.
    pub disk_available: u64,
    /// Slots that the worker itself counts as free.
    pub slots_free: u32,
    /// Why it takes nothing new; not there if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closed: Option<String>,
}

/// What it can hold attempts to, but for what is no limit.
fn enforced(isolation: &Isolation) -> Vec<String> {
    let limits = isolation.powers.iter().filter(|power| **power != Power::Files);
    limits.map(|power| power.word().to_owned()).collect()
}
