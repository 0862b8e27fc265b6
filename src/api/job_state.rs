//! What a job keeps for its next run: read, and changed key by key.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use horai_core::machine::command::Command;

use super::Api;
use super::dto::{EditState, JobStateDto};
use super::jobs::find;
use super::params::{Params, Segment};
use super::problem::Fault;
use super::write::Write;

pub(super) async fn show(
    State(api): State<Api>,
    name: Segment,
    params: Params,
) -> Result<Json<JobStateDto>, Fault> {
    let (name, params) = (name.name()?, params.only(&[])?);
    api.fresh(&params).await?;
    Ok(Json(api.read(|state| find(state, &name).map(|job| JobStateDto::of(state, job)))?))
}

/// One command: a run that ends meanwhile loses nothing by it.
pub(super) async fn edit(
    State(api): State<Api>,
    name: Segment,
    write: Write,
) -> Result<StatusCode, Fault> {
    let name = name.name()?;
    let EditState { clear, set, unset } = write.json()?;
    api.write(&write, |state| {
        let job = find(state, &name)?.id;
        Ok(Command::EditState { job, clear, set, unset })
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}
