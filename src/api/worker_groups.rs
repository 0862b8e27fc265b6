//! Worker groups: list, put, read, delete.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use horai_core::ids::Name;
use horai_core::machine::command::Command;
use horai_core::machine::outcome::Outcome;
use horai_core::machine::state::State as Machine;

use super::Api;
use super::dto::{Page, SetWorkerGroup, WorkerGroupDto};
use super::jobs::{etag, revision};
use super::params::{Params, Segment, page};
use super::problem::Fault;
use super::worker_group_definition::WorkerGroupDefinition;
use super::write::{Expected, Write, odd};
use crate::error::{ErrorCode, FieldError};

/// Those that have a definition, those that a worker serves, and those for which runs wait.
fn names(state: &Machine) -> BTreeSet<Name> {
    let defined = state.worker_groups_after(None).map(|group| group.def.name.clone());
    let served = state.workers_after(None).flat_map(|worker| worker.profile.groups.clone());
    defined.chain(served).chain(state.queued_groups()).collect()
}

pub(super) async fn list(
    State(api): State<Api>,
    params: Params,
) -> Result<Json<Page<WorkerGroupDto>>, Fault> {
    let params = params.only(&["limit", "after"])?;
    let (limit, after) = (params.limit()?, params.parse::<Name>("after")?);
    api.fresh(&params).await?;
    let state = api.read(Machine::clone);
    let behind = |name: &Name| after.as_ref().is_none_or(|after| name > after);
    let names = names(&state).into_iter().filter(behind);
    Ok(Json(page(names, limit, Name::to_string, |name| WorkerGroupDto::of(&state, &name))))
}

pub(super) async fn show(
    State(api): State<Api>,
    name: Segment,
    params: Params,
) -> Result<Response, Fault> {
    let (name, params) = (name.name()?, params.only(&[])?);
    api.fresh(&params).await?;
    let state = api.read(Machine::clone);
    if !names(&state).contains(&name) {
        return Err(Fault::not_found("worker group", &name));
    }
    let group = WorkerGroupDto::of(&state, &name);
    Ok(([(header::ETAG, etag(group.revision))], Json(group)).into_response())
}

pub(super) async fn put(
    State(api): State<Api>,
    name: Segment,
    write: Write,
) -> Result<Response, Fault> {
    let name = name.name()?;
    let mut definition: WorkerGroupDefinition = write.json()?;
    if definition.name.is_empty() {
        definition.name = name.to_string();
    } else if definition.name != name.as_str() {
        let problem = format!("the address names {name}");
        let remedy = "use one name in both; a worker group cannot be renamed";
        return Err(FieldError::invalid("name", &definition.name, problem, remedy).into());
    }
    let (def, expected) = (definition.to_def()?, revision(&write));
    let outcome = api
        .write(&write, |state| {
            let is_known = state.worker_group(&name).is_some();
            if write.expected() == Some(Expected::Something) && !is_known {
                let problem = format!("worker group {name} has no definition");
                let remedy = "leave If-Match out to give it one";
                let error = FieldError::invalid("If-Match", "*", problem, remedy);
                return Err(error.with_code(ErrorCode::WrongRevision).into());
            }
            Ok(Command::PutWorkerGroup { def: Box::new(def.clone()), expected })
        })
        .await?;
    let Outcome::WorkerGroup { revision, changed } = outcome else { return Err(odd(&outcome)) };
    let set = SetWorkerGroup { name: name.to_string(), revision: revision.0, changed };
    let is_new = changed && revision.0 == 1;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, [(header::ETAG, etag(revision.0))], Json(set)).into_response())
}

pub(super) async fn delete(
    State(api): State<Api>,
    name: Segment,
    write: Write,
) -> Result<StatusCode, Fault> {
    write.empty()?;
    let (name, expected) = (name.name()?, revision(&write));
    api.write(&write, |_| Ok(Command::DeleteWorkerGroup { name, expected })).await?;
    Ok(StatusCode::NO_CONTENT)
}
