//! Pauses of triggers, jobs, groups and the cluster. A pause always succeeds, and
//! tells which jobs it holds up besides those that it is about.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::{FromRequestParts, Request, State};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use horai_core::ids::{GroupPath, JobId, Name, TriggerName};
use horai_core::machine::command::Command;
use horai_core::machine::state::State as CoreState;
use horai_core::model::pause::{AfterPause, PauseTarget};

use super::chains::{self, With};
use super::dto::{Page, PauseDto, PausedDto, ResumeRequest};
use super::jobs::find;
use super::params::{Params, Segment, page, segments};
use super::problem::Fault;
use super::write::Write;
use super::{Api, READ_LIMIT};
use crate::error::FieldError;

/// Dependants that an answer names.
const NAMED: usize = 1_000;

/// Job and trigger of an address.
pub(super) struct OfTrigger(Name, TriggerName);

impl<S: Send + Sync> FromRequestParts<S> for OfTrigger {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Fault> {
        let (job, trigger) = segments::<(String, String)>(parts, state).await?;
        let wrong = |e: &dyn std::fmt::Display| {
            FieldError::invalid("name", &job, e.to_string(), "correct the job's name")
        };
        let name = Name::new(&job).map_err(|e| wrong(&e))?;
        Ok(Self(name, TriggerName(trigger.as_str().into())))
    }
}

pub(super) async fn pause_job(
    State(api): State<Api>,
    name: Segment,
    request: Request,
) -> Result<Json<PausedDto>, Fault> {
    let (write, params) = Write::with_params(request, &[With::PARAM]).await?;
    let name = name.name()?;
    match With::read(&params)? {
        Some(with) => chains::pause(&api, &write, &name, with).await,
        None => pause(&api, &write, |state| Ok(PauseTarget::Job(find(state, &name)?.id))).await,
    }
}

pub(super) async fn resume_job(
    State(api): State<Api>,
    name: Segment,
    request: Request,
) -> Result<Response, Fault> {
    let (write, params) = Write::with_params(request, &[With::PARAM]).await?;
    let name = name.name()?;
    Ok(match With::read(&params)? {
        Some(with) => {
            let resumed = chains::resume(&api, &write, &name, with, missed(&write)?).await?;
            Json(resumed).into_response()
        }
        None => {
            let target = |state: &CoreState| Ok(PauseTarget::Job(find(state, &name)?.id));
            resume(&api, &write, target).await?.into_response()
        }
    })
}

pub(super) async fn pause_trigger(
    State(api): State<Api>,
    OfTrigger(job, trigger): OfTrigger,
    write: Write,
) -> Result<Json<PausedDto>, Fault> {
    let target =
        |state: &CoreState| Ok(PauseTarget::Trigger(find(state, &job)?.id, trigger.clone()));
    pause(&api, &write, target).await
}

pub(super) async fn resume_trigger(
    State(api): State<Api>,
    OfTrigger(job, trigger): OfTrigger,
    write: Write,
) -> Result<StatusCode, Fault> {
    let target =
        |state: &CoreState| Ok(PauseTarget::Trigger(find(state, &job)?.id, trigger.clone()));
    resume(&api, &write, target).await
}

pub(super) async fn pause_group(
    State(api): State<Api>,
    group: Segment,
    write: Write,
) -> Result<Json<PausedDto>, Fault> {
    let target = PauseTarget::Group(group.parse::<GroupPath>("group")?);
    pause(&api, &write, |_| Ok(target.clone())).await
}

pub(super) async fn resume_group(
    State(api): State<Api>,
    group: Segment,
    write: Write,
) -> Result<StatusCode, Fault> {
    let target = PauseTarget::Group(group.parse::<GroupPath>("group")?);
    resume(&api, &write, |_| Ok(target.clone())).await
}

pub(super) async fn freeze(State(api): State<Api>, write: Write) -> Result<Json<PausedDto>, Fault> {
    pause(&api, &write, |_| Ok(PauseTarget::Cluster)).await
}

pub(super) async fn unfreeze(State(api): State<Api>, write: Write) -> Result<StatusCode, Fault> {
    resume(&api, &write, |_| Ok(PauseTarget::Cluster)).await
}

pub(super) async fn list(
    State(api): State<Api>,
    params: Params,
) -> Result<Json<Page<PauseDto>>, Fault> {
    let (limit, after) = api.part::<usize>(params).await?;
    Ok(Json(api.read(|state| {
        let pauses = state.pauses().enumerate().skip(after.unwrap_or(0));
        page(
            pauses,
            limit,
            |(n, _)| (n + 1).to_string(),
            |(_, (target, pause))| PauseDto::of(state, target, pause),
        )
    })))
}

async fn pause(
    api: &Api,
    write: &Write,
    target: impl Fn(&CoreState) -> Result<PauseTarget, Fault>,
) -> Result<Json<PausedDto>, Fault> {
    write.empty()?;
    api.write(write, |state| {
        Ok(match target(state)? {
            // As it was before there were other pauses: nodes of a version before know it.
            PauseTarget::Job(job) => Command::PauseJob { job },
            target => Command::Pause { target },
        })
    })
    .await?;
    // A follower applies what it has just handed to the leader a little later.
    api.node.linearize(READ_LIMIT).await?;
    // Asked for again, what was paused may be gone by now: that is no refusal.
    Ok(Json(api.read(|state| match target(state) {
        Ok(target) => held_up(state, of_target(state, &target)),
        Err(_) => held_up(state, Vec::new()),
    })))
}

async fn resume(
    api: &Api,
    write: &Write,
    target: impl Fn(&CoreState) -> Result<PauseTarget, Fault>,
) -> Result<StatusCode, Fault> {
    let missed = missed(write)?;
    api.write(write, |state| Ok(resumed(target(state)?, missed))).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// What is to become of the instants of the pause.
fn missed(write: &Write) -> Result<AfterPause, Fault> {
    let request = match write.body() {
        b"" | b"null" => ResumeRequest::default(),
        _ => write.json()?,
    };
    match request.missed.as_deref() {
        None => Ok(AfterPause::default()),
        Some(text) => {
            let found = AfterPause::ALL.iter().find(|(word, _)| *word == text);
            let (_, missed) = found.ok_or_else(|| {
                let problem = "there is no such word";
                FieldError::invalid("missed", text, problem, "write skip or misfire")
            })?;
            Ok(*missed)
        }
    }
}

/// The oldest command that ends the pause.
pub(super) fn resumed(target: PauseTarget, missed: AfterPause) -> Command {
    match (target, missed) {
        (PauseTarget::Job(job), AfterPause::Skip) => Command::ResumeJob { job },
        (target, missed) => Command::Resume { target, missed },
    }
}

fn of_target(state: &CoreState, target: &PauseTarget) -> Vec<JobId> {
    match target {
        // Nothing is left that could be held up.
        PauseTarget::Cluster => Vec::new(),
        PauseTarget::Group(group) => state.jobs_in(group).collect(),
        PauseTarget::Job(job) | PauseTarget::Trigger(job, _) => vec![*job],
    }
}

/// Jobs below those that are paused, which are not paused themselves.
pub(super) fn held_up(state: &CoreState, mut work: Vec<JobId>) -> PausedDto {
    let mut seen: BTreeSet<JobId> = work.iter().copied().collect();
    let mut names = BTreeSet::new();
    while let Some(up) = work.pop() {
        for down in state.dependants_of(up).filter(|down| seen.insert(*down)) {
            work.push(down);
            let job = state.job(down).filter(|job| !state.is_paused(job));
            names.extend(job.map(|job| job.spec.name.clone()));
        }
    }
    let dependant_count = names.len() as u64;
    let dependants = names.iter().take(NAMED).map(ToString::to_string).collect();
    PausedDto { dependants, dependant_count, jobs: Vec::new() }
}
