//! What became of runs and actions: every change with its time and who made it.

use axum::Json;
use axum::extract::State;

use super::Api;
use super::actions::known;
use super::dto::{ActionRef, HistoryDto, Page, RunRef};
use super::params::{Params, Segment};
use super::problem::Fault;
use super::runs::find_part;

/// `GET /runs/ID/history`
pub(super) async fn of_run(
    State(api): State<Api>,
    id: Segment,
    params: Params,
) -> Result<Json<Page<HistoryDto>>, Fault> {
    let (RunRef(id), params) = (id.parse("id")?, params.only(&["shard"])?);
    let shard = params.parse("shard")?;
    api.fresh(&params).await?;
    let items =
        api.read(|state| find_part(state, id, shard).map(|run| HistoryDto::of_run(state, run)))?;
    Ok(Json(Page { items, next: None }))
}

/// `GET /actions/ID/history`
pub(super) async fn of_action(
    State(api): State<Api>,
    id: Segment,
    params: Params,
) -> Result<Json<Page<HistoryDto>>, Fault> {
    let (id, params) = (id.parse::<ActionRef>("id")?, params.only(&[])?);
    api.fresh(&params).await?;
    let items = api.read(|state| {
        let (key, action) = known(state, &id)?;
        Ok::<_, Fault>(HistoryDto::of_action(state, key, action))
    })?;
    Ok(Json(Page { items, next: None }))
}
