//! The HTTP API, and what clients send and get.
//!
//! Every node serves all of it: writes go to the leader by themselves, reads
//! wait for what was committed before them unless `?consistency=stale` asks
//! otherwise. Its types are shared with the command line, so that both speak
//! of a job with the same words and refuse it with the same errors. It decides
//! nothing that the replicated machine decides, and touches no storage.
//!
//! Reading order: `dto`, then `gate` (what every request passes), `write` (what
//! every write does), `revisions`, `problem`, then one file a resource.

mod actions;
mod apply;
pub mod calendar_definition;
mod backfills;
mod calendars;
mod chains;
mod cluster;
mod definition_parts;
pub mod dto;
pub mod edge_definition;
pub mod file_definition;
mod files;
pub mod executor_definition;
mod gate;
pub mod group_definition;
mod groups;
mod health;
mod history;
pub mod job_definition;
mod job_export;
mod job_state;
mod jobs;
pub mod local_definition;
pub mod one_or_many;
pub mod process_definition;
mod locks;
mod logs;
pub(crate) mod misfit;
mod params;
mod pauses;
pub mod pool_definition;
mod pools;
mod problem;
mod removal;
mod reruns;
pub mod resources_definition;
pub mod retry_definition;
mod revisions;
mod runs;
mod secrets;
mod texts;
mod trial;
pub mod trigger_definition;
pub mod worker_group_definition;
mod worker_groups;
mod workers;
pub(crate) mod write;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::{get, post, put};
use horai_core::machine::state::State;
use tokio::sync::Semaphore;

use crate::logs::Logs;
use crate::session::{Node, Sessions};
use params::Params;
use problem::Fault;

/// Requests served at once.
const AT_ONCE: usize = 1_024;
/// How long one request may take, output that is handed on excepted.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
/// How long a read waits for what was committed before it: longer than an election
/// takes, and less than a client's patience, so that it hears why.
const READ_LIMIT: Duration = Duration::from_secs(3);
/// How long a write waits for its commit.
const WRITE_LIMIT: Duration = Duration::from_secs(10);
/// How long a snapshot is waited for: some seconds less than a request may take.
const SNAPSHOT_LIMIT: Duration = Duration::from_secs(25);
/// The largest body.
const MAX_BODY: usize = 4 << 20;
/// The largest body that holds one job.
const MAX_JOB_BODY: usize = 1 << 20;

/// What the API needs of its node.
#[derive(Clone)]
pub struct ApiState {
    /// The replicated node.
    pub node: Arc<Node>,
    /// The workers' streams to it.
    pub sessions: Arc<Sessions>,
    /// Output of attempts.
    pub logs: Arc<Logs>,
}

/// What handlers share. Cheap to clone.
#[derive(Clone)]
struct Api {
    node: Arc<Node>,
    sessions: Arc<Sessions>,
    logs: Arc<Logs>,
    slots: Arc<Semaphore>,
    limit: Duration,
}

impl Api {
    /// Waits until this node knows what was committed before, unless the
    /// request does not ask for that.
    async fn fresh(&self, params: &Params) -> Result<(), Fault> {
        if params.is_stale()? {
            return Ok(());
        }
        Ok(self.node.linearize(READ_LIMIT).await?)
    }

    /// Which part of a list is asked for that has no filters: how much of it, and after
    /// what. Waits as [`Self::fresh`] does.
    async fn part<K>(&self, params: Params) -> Result<(usize, Option<K>), Fault>
    where
        K: FromStr + Send,
        K::Err: fmt::Display,
    {
        let params = params.only(&["limit", "after"])?;
        let part = (params.limit()?, params.parse("after")?);
        self.fresh(&params).await?;
        Ok(part)
    }

    fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        self.node.read(look)
    }
}

/// Everything under `/api/v1`, and the two health checks at the root too.
pub fn router(state: ApiState) -> Router {
    router_within(state, REQUEST_LIMIT)
}

/// The same with another limit for each request.
fn router_within(state: ApiState, limit: Duration) -> Router {
    let ApiState { node, sessions, logs } = state;
    let api = Api { node, sessions, logs, slots: Arc::new(Semaphore::new(AT_ONCE)), limit };
    let guarded = Router::new()
        .route("/cluster", get(cluster::show))
        .route("/cluster/logs", get(logs::stats))
        .route("/cluster/transfer", post(cluster::transfer))
        .route("/cluster/snapshot", post(cluster::snapshot))
        .route("/cluster/remove", post(cluster::remove))
        .route("/cluster/tokens", post(cluster::new_token))
        .route("/cluster/time", post(cluster::confirm_time))
        .route("/jobs", get(jobs::list).post(jobs::apply))
        .route("/jobs/{name}", get(jobs::show).put(jobs::put).delete(removal::delete))
        .route("/jobs/{name}/removal", get(removal::preview))
        .route("/jobs/{name}/trigger", post(jobs::trigger))
        .route("/jobs/{name}/trigger/preview", post(trial::trigger))
        .route("/jobs/{name}/pause", post(pauses::pause_job))
        .route("/jobs/{name}/resume", post(pauses::resume_job))
        .route("/jobs/{name}/triggers/{trigger}/pause", post(pauses::pause_trigger))
        .route("/jobs/{name}/triggers/{trigger}/resume", post(pauses::resume_trigger))
        .route("/groups", get(groups::list))
        .route("/groups/{group}", get(groups::show).put(groups::put).delete(groups::delete))
        .route("/groups/{group}/pause", post(pauses::pause_group))
        .route("/groups/{group}/resume", post(pauses::resume_group))
        .route("/cluster/area", put(cluster::set_area))
        .route("/cluster/freeze", post(pauses::freeze))
        .route("/cluster/unfreeze", post(pauses::unfreeze))
        .route("/pauses", get(pauses::list))
        .route("/calendars", get(calendars::list))
        .route(
            "/calendars/{name}",
            get(calendars::show).put(calendars::put).delete(calendars::delete),
        )
        .route("/pools", get(pools::list))
        .route("/pools/{name}", get(pools::show).put(pools::put).delete(pools::delete))
        .route("/jobs/{name}/explain", get(jobs::explain))
        .route("/jobs/{name}/actions", get(actions::list))
        .route("/jobs/{name}/missed", get(actions::missed))
        .route("/actions/{id}", get(actions::show))
        .route("/actions/{id}/explain", get(actions::explain))
        .route("/actions/{id}/history", get(history::of_action))
        .route("/actions/{id}/downstream", get(reruns::downstream))
        .route("/actions/{id}/recover", post(reruns::recover))
        .route("/actions/{id}/super-recover", post(reruns::super_recover))
        .route("/actions/{id}/force-success", get(trial::force_success).post(reruns::force_success))
        .route("/actions/{id}/skip", get(trial::skip).post(reruns::skip))
        .route("/jobs/{name}/file", get(files::show))
        .route("/jobs/{name}/render", get(texts::render))
        .route("/jobs/{name}/state", get(job_state::show).put(job_state::edit))
        .route("/jobs/{name}/backfills", post(backfills::start))
        .route("/jobs/{name}/backfills/preview", post(backfills::preview))
        .route("/backfills", get(backfills::list))
        .route("/backfills/{id}", get(backfills::show))
        .route("/backfills/{id}/instants", get(backfills::instants))
        .route("/backfills/{id}/pause", post(backfills::pause))
        .route("/backfills/{id}/resume", post(backfills::resume))
        .route("/backfills/{id}/stop", post(backfills::stop))
        .route("/backfills/{id}/rerun", post(backfills::rerun))
        .route("/secrets", get(secrets::list))
        .route("/secrets/{name}", get(secrets::show).put(secrets::put).delete(secrets::delete))
        .route("/cluster/secrets/rekey", post(secrets::rekey))
        .route("/runs", get(runs::list))
        .route("/runs/{id}", get(runs::show))
        .route("/runs/{id}/cancel", post(runs::cancel))
        .route("/runs/{id}/explain", get(runs::explain))
        .route("/runs/{id}/history", get(history::of_run))
        .route("/runs/{id}/logs", get(logs::read))
        .route("/workers", get(workers::list))
        .route("/workers/{name}", get(workers::show).delete(workers::remove))
        .route("/workers/{name}/cordon", post(workers::cordon))
        .route("/workers/{name}/uncordon", post(workers::uncordon))
        .route("/workers/{name}/drain", post(workers::drain))
        .route("/worker-groups", get(worker_groups::list))
        .route(
            "/worker-groups/{name}",
            get(worker_groups::show).put(worker_groups::put).delete(worker_groups::delete),
        )
        .route("/locks", get(locks::list))
        .route("/locks/{name}/acquire", post(locks::acquire))
        .route("/locks/{name}/renew", post(locks::renew))
        .route("/locks/{name}/release", post(locks::release))
        .route("/readyz", get(health::ready));
    let everything = Router::new()
        .nest("/api/v1", guarded)
        .route("/readyz", get(health::ready))
        .method_not_allowed_fallback(problem::wrong_method)
        .fallback(problem::no_such_address)
        .layer(from_fn_with_state(api.clone(), gate::authenticate))
        .with_state(api.clone());
    Router::new()
        .route("/livez", get(health::live))
        .route("/api/v1/livez", get(health::live))
        .method_not_allowed_fallback(problem::wrong_method)
        .fallback_service(everything)
        .layer(from_fn_with_state(api, gate::bound))
        .layer(from_fn(gate::name_and_catch))
}

#[cfg(test)]
mod tests;
