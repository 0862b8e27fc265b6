//! Groups of jobs: list, set, read, delete. That a group is paused is told in `pauses`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use horai_core::ids::GroupPath;
use horai_core::machine::command::Command;
use horai_core::machine::outcome::Outcome;
use horai_core::machine::state::State as Machine;

use super::Api;
use super::dto::{GroupDto, Page, SetGroup};
use super::group_definition::GroupDefinition;
use super::params::{Params, Segment, page};
use super::problem::Fault;
use super::revisions::{stored, tagged};
use super::write::{Write, odd};

pub(super) async fn list(
    State(api): State<Api>,
    params: Params,
) -> Result<Json<Page<GroupDto>>, Fault> {
    let (limit, after) = api.part::<GroupPath>(params).await?;
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
    Ok(tagged(group.revision, group))
}

pub(super) async fn put(
    State(api): State<Api>,
    path: Segment,
    write: Write,
) -> Result<Response, Fault> {
    let path = path.parse::<GroupPath>("group")?;
    let definition: GroupDefinition = write.json()?;
    let expected = write.revision();
    let outcome = api
        .write(&write, |state| {
            if write.must_exist() && state.group(&path).is_none() {
                let problem = format!("group {path} has no parameters of its own");
                return Err(Fault::absent(problem, "leave If-Match out to give it some"));
            }
            Ok(Command::PutGroup { def: Box::new(definition.to_def(&path)?), expected })
        })
        .await?;
    let Outcome::Group { revision, changed } = outcome else { return Err(odd(&outcome)) };
    let set = SetGroup { group: path.to_string(), revision: revision.0, changed };
    Ok(stored(revision.0, changed, set))
}

pub(super) async fn delete(
    State(api): State<Api>,
    path: Segment,
    write: Write,
) -> Result<StatusCode, Fault> {
    write.empty()?;
    let (path, expected) = (path.parse::<GroupPath>("group")?, write.revision());
    api.write(&write, |_| Ok(Command::DeleteGroup { path, expected })).await?;
    Ok(StatusCode::NO_CONTENT)
}
