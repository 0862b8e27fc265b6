//! Groups of jobs: list, set, read, delete. That a group is paused is told in `pauses`.

use axum::Json;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use horai_core::ids::{GroupPath, Name};
use horai_core::machine::command::Command;
use horai_core::machine::outcome::Outcome;
use horai_core::machine::state::State as Machine;

use super::dto::{GroupDto, Page, SetGroup};
use super::group_definition::GroupDefinition;
use super::params::{Params, Segment, page};
use super::problem::Fault;
use super::revisions::{stored, tagged};
use super::texts::losers;
use super::trial::carry_out;
use super::write::{Write, odd};
use super::{Api, READ_LIMIT};
use crate::error::ErrorCode;

/// Names that a refusal shows of a longer list.
const SHOWN: usize = 10;

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
    request: Request,
) -> Result<Response, Fault> {
    let (write, params) = Write::with_params(request, &["force"]).await?;
    let path = path.parse::<GroupPath>("group")?;
    let definition: GroupDefinition = write.json()?;
    let expected = write.revision();
    if !params.flag("force")? {
        let def = Box::new(definition.to_def(&path)?);
        refuse_losses(&api, &path, Command::PutGroup { def, expected: None }).await?;
    }
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
    request: Request,
) -> Result<StatusCode, Fault> {
    let (write, params) = Write::with_params(request, &["force"]).await?;
    write.empty()?;
    let (path, expected) = (path.parse::<GroupPath>("group")?, write.revision());
    if !params.flag("force")? {
        refuse_losses(&api, &path, Command::DeleteGroup { path: path.clone(), expected: None })
            .await?;
    }
    api.write(&write, |_| Ok(Command::DeleteGroup { path, expected })).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Refuses a change of a group that takes parameters away which its jobs' texts name: their
/// runs could not be rendered.
async fn refuse_losses(api: &Api, path: &GroupPath, command: Command) -> Result<(), Fault> {
    api.node.linearize(READ_LIMIT).await?;
    // Texts are read: not while applying waits.
    let before = api.read(Machine::clone);
    let kept = |name: &String| match &command {
        Command::PutGroup { def, .. } => def.params.contains_key(name),
        _ => false,
    };
    let has_all = before.group(path).is_none_or(|group| group.def.params.keys().all(kept));
    if has_all {
        return Ok(());
    }
    let mut after = before.clone();
    // What the machine refuses is refused when it is asked in earnest.
    if carry_out(&mut after, command).is_err() {
        return Ok(());
    }
    let losers = losers(&before, &after, path, SHOWN + 1);
    if losers.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = losers.iter().take(SHOWN).map(Name::as_str).collect();
    let more = if losers.len() > SHOWN { ", …" } else { "" };
    let detail = format!(
        "texts of jobs name parameters that group {path} would not have any more: {}{more}",
        names.join(", ")
    );
    let remedy = "take them out of those texts first; ?force=true goes on, and those jobs' runs \
                  fail until they are given again";
    Err(Fault::new(ErrorCode::Conflict, detail, remedy))
}
