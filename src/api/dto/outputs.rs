//! What a job keeps for its next run.

use std::collections::BTreeMap;

use horai_core::machine::state::State;
use horai_core::model::job::Job;
use serde::{Deserialize, Serialize};

use super::text::{RunRef, Time};

/// What a job keeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobStateDto {
    /// Whose.
    pub job: String,
    /// False if the job's runs neither read nor write it.
    pub keep_state: bool,
    /// By key.
    pub values: BTreeMap<String, String>,
    /// When it was written last; none while there is nothing.
    pub updated: Option<Time>,
    /// The run that wrote it last; none if a person did.
    pub run: Option<RunRef>,
}

impl JobStateDto {
    /// As it stands.
    #[must_use]
    pub fn of(state: &State, job: &Job) -> Self {
        let kept = state.job_state(job.id);
        Self {
            job: job.spec.name.to_string(),
            keep_state: job.spec.keep_state,
            values: kept.map(|kept| kept.values.clone()).unwrap_or_default(),
            updated: kept.map(|kept| Time(kept.updated)),
            run: kept.and_then(|kept| kept.run).map(RunRef),
        }
    }
}

/// A change of what a job keeps. Sending it twice is the same as once.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EditState {
    /// Everything goes first.
    pub clear: bool,
    /// Keys that are written, with their values.
    pub set: BTreeMap<String, String>,
    /// Keys that go.
    pub unset: Vec<String>,
}
