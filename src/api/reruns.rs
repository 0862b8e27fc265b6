//! What a person asks of an action: another run, a success or a skip without one; and
//! what would follow from it.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use horai_core::ids::ActionKey;
use horai_core::machine::command::Command;
use horai_core::machine::outcome::Outcome;
use horai_core::machine::state::State as CoreState;

use super::Api;
use super::actions::known;
use super::dto::{ActionDto, ActionRef, Page, RunRef, StartedRun};
use super::params::{Params, Segment};
use super::problem::Fault;
use super::write::{Write, odd};

/// `POST /actions/ID/recover`
pub(super) async fn recover(
    State(api): State<Api>,
    id: Segment,
    write: Write,
) -> Result<Response, Fault> {
    rerun(&api, &id, &write, false).await
}

/// `POST /actions/ID/super-recover`
pub(super) async fn super_recover(
    State(api): State<Api>,
    id: Segment,
    write: Write,
) -> Result<Response, Fault> {
    rerun(&api, &id, &write, true).await
}

/// Where there is no run yet, or will be none, there is no content: the action waits for its
/// turn, or its job has nothing to do in this area.
async fn rerun(api: &Api, id: &Segment, write: &Write, below: bool) -> Result<Response, Fault> {
    write.empty()?;
    let id = id.parse::<ActionRef>("id")?;
    let make = |state: &CoreState| Ok(Command::Rerun { action: known(state, &id)?.0, below });
    match api.write(write, make).await? {
        Outcome::Run { run } => {
            let started = Json(StartedRun { run: RunRef(run) });
            Ok((StatusCode::CREATED, started).into_response())
        }
        Outcome::Done => Ok(StatusCode::NO_CONTENT.into_response()),
        other => Err(odd(&other)),
    }
}

/// `POST /actions/ID/force-success`
pub(super) async fn force_success(
    State(api): State<Api>,
    id: Segment,
    write: Write,
) -> Result<StatusCode, Fault> {
    settle(&api, &id, &write, true).await
}

/// `POST /actions/ID/skip`
pub(super) async fn skip(
    State(api): State<Api>,
    id: Segment,
    write: Write,
) -> Result<StatusCode, Fault> {
    settle(&api, &id, &write, false).await
}

async fn settle(
    api: &Api,
    id: &Segment,
    write: &Write,
    success: bool,
) -> Result<StatusCode, Fault> {
    write.empty()?;
    let id = id.parse::<ActionRef>("id")?;
    let make =
        |state: &CoreState| Ok(Command::SettleAction { action: known(state, &id)?.0, success });
    let told = id.to_string();
    api.write(write, make).await.map_err(|fault| fault.filled(|_| told.clone()))?;
    Ok(StatusCode::NO_CONTENT)
}

/// `GET /actions/ID/downstream`: what a recovery of the whole tree would run again.
pub(super) async fn downstream(
    State(api): State<Api>,
    id: Segment,
    params: Params,
) -> Result<Json<Page<ActionDto>>, Fault> {
    let (id, params) = (id.parse::<ActionRef>("id")?, params.only(&[])?);
    api.fresh(&params).await?;
    let items = api.read(|state| {
        let tree = state.tree_below(known(state, &id)?.0).map_err(Fault::from)?;
        let show = |key: &ActionKey| Some(ActionDto::of(state, *key, state.action(*key)?));
        Ok::<_, Fault>(tree.iter().filter_map(show).collect())
    })?;
    Ok(Json(Page { items, next: None }))
}
