//! Worker groups: list, put, read, delete.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use horai_core::ids::Name;
use horai_core::machine::command::Command;
use horai_core::machine::outcome::Outcome;
use horai_core::machine::state::State as Machine;

use super::Api;
use super::dto::{Page, SetWorkerGroup, WorkerGroupDto};
use super::params::{Params, Segment, page};
use super::problem::Fault;
use super::revisions::{stored, tagged};
use super::worker_group_definition::WorkerGroupDefinition;
use super::write::{Write, odd};
use crate::error::FieldError;

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
    let (limit, after) = api.part::<Name>(params).await?;
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
    Ok(tagged(group.revision, group))
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
    let (def, expected) = (definition.to_def()?, write.revision());
    let outcome = api
        .write(&write, |state| {
            if write.must_exist() && state.worker_group(&name).is_none() {
                return Err(Fault::absent_named("definition of worker group", &name));
            }
            Ok(Command::PutWorkerGroup { def: Box::new(def.clone()), expected })
        })
        .await?;
    let Outcome::WorkerGroup { revision, changed } = outcome else { return Err(odd(&outcome)) };
    let set = SetWorkerGroup { name: name.to_string(), revision: revision.0, changed };
    Ok(stored(revision.0, changed, set))
}

pub(super) async fn delete(
    State(api): State<Api>,
    name: Segment,
    write: Write,
) -> Result<StatusCode, Fault> {
    write.empty()?;
    let (name, expected) = (name.name()?, write.revision());
    api.write(&write, |_| Ok(Command::DeleteWorkerGroup { name, expected })).await?;
    Ok(StatusCode::NO_CONTENT)
}
