//! Workers, as the replicated state and this node's streams know them, and what an operator
//! says of one: given nothing more, emptied, forgotten.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use horai_core::ids::{Name, WorkerId};
use horai_core::machine::command::Command;
use horai_core::machine::state::State as CoreState;
use horai_core::model::worker::{Duty, Worker};

use super::Api;
use super::dto::{DrainRequest, LoadDto, Page, SightDto, WorkerDto};
use super::params::{Params, Segment, page};
use super::problem::Fault;
use super::write::Write;

pub(super) async fn list(
    State(api): State<Api>,
    params: Params,
) -> Result<Json<Page<WorkerDto>>, Fault> {
    let (limit, after) = api.part::<Name>(params).await?;
    let mut page = api.read(|state| {
        let find = |name| state.worker_by_name(name).map(|worker| worker.id);
        let after = match &after {
            Some(name) => Some(find(name).ok_or_else(|| Fault::not_found("worker", name))?),
            None => None,
        };
        let key = |worker: &&Worker| worker.profile.name.to_string();
        let show = |worker| WorkerDto::of(state, worker, false, None);
        Ok::<_, Fault>(page(state.workers_after(after), limit, key, show))
    })?;
    for worker in &mut page.items {
        api.complete(worker);
    }
    Ok(Json(page))
}

/// `GET /workers/NAME`; with `sight=true` it is asked what runs there, which takes a good
/// half second.
pub(super) async fn show(
    State(api): State<Api>,
    name: Segment,
    params: Params,
) -> Result<Json<WorkerDto>, Fault> {
    let (name, params) = (name.name()?, params.only(&["sight"])?);
    api.fresh(&params).await?;
    let mut worker =
        api.read(|state| Ok::<_, Fault>(WorkerDto::of(state, find(state, &name)?, false, None)))?;
    api.complete(&mut worker);
    if params.flag("sight")? {
        worker.sight = api.sessions.look(WorkerId(worker.number)).await.map(SightDto::of);
    }
    Ok(Json(worker))
}

/// `POST /workers/NAME/cordon`
pub(super) async fn cordon(
    State(api): State<Api>,
    name: Segment,
    write: Write,
) -> Result<StatusCode, Fault> {
    write.empty()?;
    give(&api, &name, &write, |_| Duty::Cordoned).await
}

/// `POST /workers/NAME/uncordon`: ends a drain, too.
pub(super) async fn uncordon(
    State(api): State<Api>,
    name: Segment,
    write: Write,
) -> Result<StatusCode, Fault> {
    write.empty()?;
    give(&api, &name, &write, |_| Duty::Open).await
}

/// `POST /workers/NAME/drain`
pub(super) async fn drain(
    State(api): State<Api>,
    name: Segment,
    write: Write,
) -> Result<StatusCode, Fault> {
    let asked = if write.is_empty() { DrainRequest::default() } else { write.json()? };
    let until = |state: &CoreState| asked.deadline.map(|deadline| state.now().plus(deadline.0));
    give(&api, &name, &write, |state| Duty::Draining { until: until(state) }).await
}

async fn give(
    api: &Api,
    name: &Segment,
    write: &Write,
    duty: impl FnOnce(&CoreState) -> Duty,
) -> Result<StatusCode, Fault> {
    let name = name.name()?;
    let make = |state: &CoreState| {
        let worker = find(state, &name)?.id;
        Ok(Command::SetDuty { worker, duty: duty(state) })
    };
    api.write(write, make).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `DELETE /workers/NAME`
pub(super) async fn remove(
    State(api): State<Api>,
    name: Segment,
    request: Request,
) -> Result<StatusCode, Fault> {
    let (write, params) = Write::with_params(request, &["force"]).await?;
    write.empty()?;
    let (name, force) = (name.name()?, params.flag("force")?);
    let make = |state: &CoreState| {
        let worker = find(state, &name)?.id;
        Ok(Command::RemoveWorker { worker, force })
    };
    api.write(&write, make).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn find<'a>(state: &'a CoreState, name: &Name) -> Result<&'a Worker, Fault> {
    state.worker_by_name(name).ok_or_else(|| Fault::not_found("worker", name))
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
            closed: (!load.closed.is_empty()).then_some(load.closed),
        });
    }
}
