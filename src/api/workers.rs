//! Workers, as the replicated state and this node's streams know them.

use axum::Json;
use axum::extract::State;
use horai_core::ids::{Name, WorkerId};

use super::Api;
use super::dto::{LoadDto, Page, WorkerDto};
use super::params::{Params, Segment, page};
use super::problem::Fault;

pub(super) async fn list(
    State(api): State<Api>,
    params: Params,
) -> Result<Json<Page<WorkerDto>>, Fault> {
    let params = params.only(&["limit", "after"])?;
    let (limit, after) = (params.limit()?, params.parse::<Name>("after")?);
    api.fresh(&params).await?;
    let mut page = api.read(|state| {
        let find = |name| state.worker_by_name(name).map(|worker| worker.id);
        let after = match &after {
            Some(name) => Some(find(name).ok_or_else(|| Fault::not_found("worker", name))?),
            None => None,
        };
        let key = |worker: &&horai_core::model::worker::Worker| worker.profile.name.to_string();
        let show = |worker| WorkerDto::of(state, worker, false, None);
        Ok::<_, Fault>(page(state.workers_after(after), limit, key, show))
    })?;
    for worker in &mut page.items {
        api.complete(worker);
    }
    Ok(Json(page))
}

pub(super) async fn show(
    State(api): State<Api>,
    name: Segment,
    params: Params,
) -> Result<Json<WorkerDto>, Fault> {
    let (name, params) = (name.name()?, params.only(&[])?);
    api.fresh(&params).await?;
    let mut worker = api.read(|state| {
        let worker = state.worker_by_name(&name);
        let worker = worker.ok_or_else(|| Fault::not_found("worker", &name))?;
        Ok::<_, Fault>(WorkerDto::of(state, worker, false, None))
    })?;
    api.complete(&mut worker);
    Ok(Json(worker))
}

impl Api {
    /// Adds what this node's streams know.
    fn complete(&self, worker: &mut WorkerDto) {
        let id = WorkerId(worker.number);
        worker.connected = self.sessions.is_connected(id);
        worker.load = self.sessions.load(id).map(|load| LoadDto {
            memory_total: load.memory_total,
            memory_available: load.memory_available,
            load_per_core_permille: load.load_per_core_permille,
            cpu_permille: load.cpu_permille,
            disk_total: load.disk_total,
            disk_available: load.disk_available,
            slots_free: load.slots_free,
        });
    }
}
