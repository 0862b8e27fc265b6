//! Pools: list, set, read, delete.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use horai_core::ids::Name;
use horai_core::machine::command::Command;
use horai_core::machine::outcome::Outcome;

use super::Api;
use super::dto::{Page, PoolDto, SetPool};
use super::params::{Params, Segment, page};
use super::pool_definition::PoolDefinition;
use super::problem::Fault;
use super::revisions::{stored, tagged};
use super::write::{Write, odd};

pub(super) async fn list(
    State(api): State<Api>,
    params: Params,
) -> Result<Json<Page<PoolDto>>, Fault> {
    let (limit, after) = api.part::<Name>(params).await?;
    Ok(Json(api.read(|state| {
        let pools = state.pools_after(after);
        page(pools, limit, |pool| pool.def.name.to_string(), |pool| PoolDto::of(state, pool))
    })))
}

pub(super) async fn show(
    State(api): State<Api>,
    name: Segment,
    params: Params,
) -> Result<Response, Fault> {
    let (name, params) = (name.name()?, params.only(&[])?);
    api.fresh(&params).await?;
    let found = api.read(|state| state.pool(&name).map(|pool| PoolDto::of(state, pool)));
    let pool = found.ok_or_else(|| Fault::not_found("pool", &name))?;
    Ok(tagged(pool.revision, pool))
}

pub(super) async fn put(
    State(api): State<Api>,
    name: Segment,
    write: Write,
) -> Result<Response, Fault> {
    let name = name.name()?;
    let definition: PoolDefinition = write.json()?;
    let expected = write.revision();
    let outcome = api
        .write(&write, |state| {
            let old = state.pool(&name).map(|pool| &pool.def);
            if write.must_exist() && old.is_none() {
                return Err(Fault::absent_named("pool", &name));
            }
            let def = Box::new(definition.to_def(&name, old)?);
            Ok(Command::PutPool { def, expected })
        })
        .await?;
    let Outcome::Pool { revision, changed } = outcome else { return Err(odd(&outcome)) };
    let set = SetPool { name: name.to_string(), revision: revision.0, changed };
    Ok(stored(revision.0, changed, set))
}

pub(super) async fn delete(
    State(api): State<Api>,
    name: Segment,
    write: Write,
) -> Result<StatusCode, Fault> {
    write.empty()?;
    let (name, expected) = (name.name()?, write.revision());
    api.write(&write, |_| Ok(Command::DeletePool { name, expected })).await?;
    Ok(StatusCode::NO_CONTENT)
}
