//! A job's actions: planned, waiting and past; what was missed; why one waits.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use horai_core::ids::{ActionKey, JobId, Name, WorkerId};
use horai_core::machine::state::State as CoreState;
use horai_core::model::action::Action;
use horai_core::placement::explain::{Subject, explain as reason_of};
use horai_core::time::UtcMillis;

use super::Api;
use super::dto::{ActionDto, ActionRef, ExplainDto, MissedDto, Page, Time, batch_of_action};
use super::jobs::find;
use super::params::{Params, Segment, page};
use super::problem::Fault;

pub(super) async fn list(
    State(api): State<Api>,
    name: Segment,
    params: Params,
) -> Result<Json<Page<ActionDto>>, Fault> {
    let (name, params) = (name.name()?, params.only(&["from", "to", "batch", "limit"])?);
    let limit = params.limit()?;
    let from = params.parse::<Time>("from")?.map_or(UtcMillis(i64::MIN), |Time(at)| at);
    let to = params.parse::<Time>("to")?.map_or(UtcMillis::MAX, |Time(at)| at);
    let batch = params.get("batch");
    api.fresh(&params).await?;
    let page = api.read(|state| {
        let job = find(state, &name)?;
        let of_batch = |key: ActionKey, action: &Action| {
            batch.is_none_or(|wanted| batch_of_action(state, key, action) == wanted)
        };
        let actions = state
            .actions_of(job.id, from, to)
            .filter(|(key, action)| key.nominal <= to && of_batch(*key, action));
        // A page begins where the one before ended, one millisecond later.
        let next = |(key, _): &(ActionKey, _)| {
            Time(UtcMillis(key.nominal.0.saturating_add(1))).to_string()
        };
        Ok::<_, Fault>(page(actions, limit, next, |(key, action)| {
            ActionDto::of(state, key, action)
        }))
    })?;
    Ok(Json(page))
}

pub(super) async fn missed(
    State(api): State<Api>,
    name: Segment,
    params: Params,
) -> Result<Json<Page<MissedDto>>, Fault> {
    let (name, params) = (name.name()?, params.only(&[])?);
    api.fresh(&params).await?;
    let items = api.read(|state| {
        // The machine keeps a bounded number of a job.
        let job = find(state, &name)?;
        Ok::<_, Fault>(state.missed_of(job.id).map(|m| MissedDto::of(state, m)).collect())
    })?;
    Ok(Json(Page { items, next: None }))
}

pub(super) async fn show(
    State(api): State<Api>,
    id: Segment,
    params: Params,
) -> Result<Json<ActionDto>, Fault> {
    let (id, params) = (id.parse::<ActionRef>("id")?, params.only(&[])?);
    api.fresh(&params).await?;
    api.read(|state| {
        let (key, action) = known(state, &id)?;
        Ok(Json(ActionDto::told(state, key, action)))
    })
}

pub(super) async fn explain(
    State(api): State<Api>,
    id: Segment,
    params: Params,
) -> Result<Json<ExplainDto>, Fault> {
    let (id, params) = (id.parse::<ActionRef>("id")?, params.only(&[])?);
    api.fresh(&params).await?;
    let connected = api.connected();
    api.read(|state| {
        let (key, action) = known(state, &id)?;
        let reason = reason_of(state, Subject::Action(key), &|id| connected.contains(&id));
        Ok(Json(ExplainDto::of_action(state, key, action, reason)))
    })
}

/// An action that is there.
pub(super) fn known<'a>(
    state: &'a CoreState,
    id: &ActionRef,
) -> Result<(ActionKey, &'a Action), Fault> {
    let found = key_of(state, id).and_then(|key| Some((key, state.action(key)?)));
    found.ok_or_else(|| Fault::not_found("action", id))
}

/// What is meant, whether or not it is there; none without such a job.
fn key_of(state: &CoreState, id: &ActionRef) -> Option<ActionKey> {
    Some(ActionKey { job: number(state, &id.job)?, nominal: id.nominal })
}

/// The number of a job by its name, or by `#` and the number.
fn number(state: &CoreState, text: &str) -> Option<JobId> {
    match text.strip_prefix('#') {
        Some(number) => number.parse().ok().map(JobId),
        None => state.job_by_name(&Name::new(text).ok()?).map(|job| job.id),
    }
}

impl Api {
    /// Workers whose streams to this node stand.
    pub(super) fn connected(&self) -> BTreeSet<WorkerId> {
        let known: Vec<WorkerId> =
            self.read(|state| state.workers_after(None).map(|worker| worker.id).collect());
        known.into_iter().filter(|id| self.sessions.is_connected(*id)).collect()
    }
}
