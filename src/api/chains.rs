//! A job paused or resumed with all that depends on it, or all that it depends on. Each
//! job has a command of its own, as if somebody went along the chain: what is to be
//! paused from its far end on, what is to be resumed from its sources on, so that
//! nothing runs in between for which there is something missing. Sent again, the same
//! jobs have the same request ids; jobs that are new in the chain come too.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use axum::Json;
use horai_core::derivation::order::order;
use horai_core::ids::{JobId, Name};
use horai_core::machine::command::{Command, Envelope};
use horai_core::machine::outcome::{Outcome, Reject};
use horai_core::machine::state::State;
use horai_core::model::pause::{AfterPause, PauseTarget};

use super::dto::{PausedDto, ResumedDto, job_name};
use super::jobs::find;
use super::params::Params;
use super::pauses::{held_up, resumed};
use super::problem::Fault;
use super::write::{Write, accepted};
use super::{Api, READ_LIMIT, WRITE_LIMIT};
use crate::error::{ErrorCode, FieldError};

/// The most jobs of one chain.
const MAX_JOBS: usize = 10_000;
/// Commands proposed at once.
const AT_ONCE: usize = 256;

/// Which jobs besides the one that is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum With {
    /// All that it depends on.
    Upstream,
    /// All that depend on it.
    Downstream,
}

impl With {
    pub(super) const PARAM: &str = "with";

    pub(super) fn read(params: &Params) -> Result<Option<Self>, Fault> {
        match params.get(Self::PARAM) {
            None => Ok(None),
            Some("upstream") => Ok(Some(Self::Upstream)),
            Some("downstream") => Ok(Some(Self::Downstream)),
            Some(other) => {
                let problem = "there is no such part of a chain";
                let remedy = "write upstream or downstream";
                Err(FieldError::invalid(Self::PARAM, other, problem, remedy).into())
            }
        }
    }
}

pub(super) async fn pause(
    api: &Api,
    write: &Write,
    name: &Name,
    with: With,
) -> Result<Json<PausedDto>, Fault> {
    write.empty()?;
    let mut jobs = api.chain(name, with).await?;
    jobs.reverse();
    api.each(write, &jobs, |job| Command::PauseJob { job }).await?;
    Ok(Json(api.read(|state| PausedDto { jobs: names(state, &jobs), ..held_up(state, jobs) })))
}

pub(super) async fn resume(
    api: &Api,
    write: &Write,
    name: &Name,
    with: With,
    missed: AfterPause,
) -> Result<ResumedDto, Fault> {
    let jobs = api.chain(name, with).await?;
    api.each(write, &jobs, |job| resumed(PauseTarget::Job(job), missed)).await?;
    Ok(api.read(|state| {
        let held = jobs.iter().filter_map(|job| state.job(*job)).filter(|j| state.is_paused(j));
        let still_paused = held.map(|job| job.spec.name.to_string()).collect();
        ResumedDto { jobs: names(state, &jobs), still_paused }
    }))
}

fn names(state: &State, jobs: &[JobId]) -> Vec<String> {
    jobs.iter().map(|job| job_name(state, *job)).collect()
}

impl Api {
    /// The job and those with it, upstream jobs first.
    async fn chain(&self, name: &Name, with: With) -> Result<Vec<JobId>, Fault> {
        self.node.linearize(READ_LIMIT).await?;
        self.read(|state| chain(state, find(state, name)?.id, with, MAX_JOBS))
    }

    /// Commits a command for each of the jobs, one after the other.
    async fn each(
        &self,
        write: &Write,
        jobs: &[JobId],
        command: impl Fn(JobId) -> Command,
    ) -> Result<(), Fault> {
        for (round, part) in jobs.chunks(AT_ONCE).enumerate() {
            let envelope = |job: &JobId| {
                // Named by the job: its place in the chain may be another one next time.
                let part = usize::try_from(job.0).unwrap_or(usize::MAX);
                write.part(part, command(*job))
            };
            let envelopes: Vec<Envelope> = part.iter().map(envelope).collect();
            let outcomes = self.node.propose_all(envelopes, WRITE_LIMIT).await;
            for (place, outcome) in outcomes.into_iter().enumerate() {
                match outcome {
                    // Somebody has just deleted it.
                    Ok(Outcome::Rejected(Reject::NoSuchJob(_))) => {}
                    Ok(outcome) => drop(accepted(outcome)?),
                    Err(error) => {
                        let done = round * AT_ONCE + place;
                        let told = format!("done before it: {done} of {} jobs", jobs.len());
                        return Err(Fault::from(error).and(&told));
                    }
                }
            }
        }
        // A follower applies what it has just handed to the leader a little later.
        Ok(self.node.linearize(READ_LIMIT).await?)
    }
}

/// A job and all above or below it, those first that others of them depend on.
fn chain(state: &State, first: JobId, with: With, most: usize) -> Result<Vec<JobId>, Fault> {
    let upstream_of = |job: JobId| {
        let edges = state.job(job).map_or(&[][..], |job| &job.spec.depends_on);
        edges.iter().map(|edge| edge.job)
    };
    let mut found = vec![first];
    let mut places = BTreeMap::from([(first, 0)]);
    let mut at = 0;
    while let Some(&job) = found.get(at) {
        let next: Vec<JobId> = match with {
            With::Upstream => upstream_of(job).collect(),
            With::Downstream => state.dependants_of(job).collect(),
        };
        for job in next {
            if let Entry::Vacant(place) = places.entry(job) {
                place.insert(found.len());
                found.push(job);
            }
        }
        if found.len() > most {
            let detail = format!("more than {most} jobs belong together there");
            let remedy = "pause or resume groups of them, or jobs further along";
            return Err(Fault::new(ErrorCode::TooLarge, detail, remedy));
        }
        at += 1;
    }
    let edges = |job: &JobId| {
        let others = upstream_of(*job).filter(|up| up != job);
        others.filter_map(|up| places.get(&up).copied()).collect::<Vec<usize>>()
    };
    let edges: Vec<Vec<usize>> = found.iter().map(edges).collect();
    // The machine lets no circle be.
    let order = order(&edges).unwrap_or_else(|_| (0..found.len()).collect());
    Ok(order.into_iter().map(|place| found[place]).collect())
}
