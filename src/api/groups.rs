//! Groups of jobs: list, set, read, delete. That a group is paused is told in `pauses`.

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use horai_core::ids::GroupPath;
use horai_core::machine::command::Command;
use horai_core::machine::outcome::Outcome;
use horai_core::machine::state::State as Machine;

use super::Api;
use super::dto::{GroupDto, Page, SetGroup};
use super::group_definition::GroupDefinition;
use super::jobs::{etag, revision};
use super::params::{Params, Segment, page};
use super::problem::Fault;
use super::write::{Expected, Write, odd};
use crate::error::{ErrorCode, FieldError};

pub(super) async fn list(
    State(api): State<Api>,
    params: Params,
) -> Result<Json<Page<GroupDto>>, Fault> {
    let params = params.only(&["limit", "after"])?;
    let (limit, after) = (params.limit()?, params.parse::<GroupPath>("after")?);
    api.fresh(&params).await?;
    // Their jobs are counted: not while applying waits.
    let state = api.read(Machine::clone);
    let groups = state.groups_after(after).filter_map(|path| GroupDto::of(&state, &path));
    Ok(Json(page(groups, limit, |group| group.group.clone(), |group| group)))
}

pub(super) async fn show(
    State(api): State<Api>,
    path: Segment,
    params: Params,
) -> Result<Response, Fault> {
    let (path, params) = (path.parse::<GroupPath>("group")?, params.only(&[])?);
    api.fresh(&params).await?;
    let found = GroupDto::of(&api.read(Machine::clone), &path);
    let group = found.ok_or_else(|| Fault::not_found("group", &path))?;
    if group.revision == 0 {
        return Ok(Json(group).into_response());
    }
    Ok(([(header::ETAG, etag(group.revision))], Json(group)).into_response())
}

pub(super) async fn put(
    State(api): State<Api>,
    path: Segment,
    write: Write,
) -> Result<Response, Fault> {
    let path = path.parse::<GroupPath>("group")?;
    let definition: GroupDefinition = write.json()?;
    let expected = revision(&write);
    let outcome = api
        .write(&write, |state| {
            if write.expected() == Some(Expected::Something) && state.group(&path).is_none() {
                let problem = format!("group {path} has no parameters of its own");
                let remedy = "leave If-Match out to give it some";
                let error = FieldError::invalid("If-Match", "*", problem, remedy);
                return Err(error.with_code(ErrorCode::WrongRevision).into());
            }
            Ok(Command::PutGroup { def: Box::new(definition.to_def(&path)?), expected })
        })
        .await?;
    let Outcome::Group { revision, changed } = outcome else { return Err(odd(&outcome)) };
    let set = SetGroup { group: path.to_string(), revision: revision.0, changed };
    let is_new = changed && revision.0 == 1;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, [(header::ETAG, etag(revision.0))], Json(set)).into_response())
}

pub(super) async fn delete(
    State(api): State<Api>,
    path: Segment,
    write: Write,
) -> Result<StatusCode, Fault> {
    write.empty()?;
    let (path, expected) = (path.parse::<GroupPath>("group")?, revision(&write));
    api.write(&write, |_| Ok(Command::DeleteGroup { path, expected })).await?;
    Ok(StatusCode::NO_CONTENT)
}
