//! Locks: list, acquire, renew, release.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use horai_core::ids::{Name, Token};
use horai_core::machine::command::Command;
use horai_core::machine::outcome::Outcome;
use horai_core::time::Span;

use super::Api;
use super::dto::{AcquireRequest, LeaseDto, LockDto, LockTokenRequest, Page, Time};
use super::params::{Params, Segment, page};
use super::problem::Fault;
use super::write::{Write, odd};
use crate::error::FieldError;

/// What the machine takes, said here in a form that people read.
const LEAST_TTL: Span = Span::secs(1);
const MOST_TTL: Span = Span::secs(86_400);

pub(super) async fn list(
    State(api): State<Api>,
    params: Params,
) -> Result<Json<Page<LockDto>>, Fault> {
    let (limit, after) = api.part::<Name>(params).await?;
    Ok(Json(api.read(|state| {
        page(state.locks_after(after), limit, |lock| lock.name.to_string(), LockDto::of)
    })))
}

pub(super) async fn acquire(
    State(api): State<Api>,
    name: Segment,
    write: Write,
) -> Result<Json<LeaseDto>, Fault> {
    let name = name.name()?;
    let AcquireRequest { owner, ttl, slots, wait } = write.json()?;
    if !(LEAST_TTL..=MOST_TTL).contains(&ttl.0) {
        let remedy = format!("write {LEAST_TTL} to {MOST_TTL}");
        return Err(FieldError::invalid("ttl", ttl, "no lease is that long", remedy).into());
    }
    let (ttl, slots, wait) = (ttl.0, slots.unwrap_or(1), wait.map_or(Span::ZERO, |wait| wait.0));
    let command = Command::AcquireLock { name, owner, ttl, slots, wait };
    lease(api.commit(&write.envelope(command)).await?)
}

pub(super) async fn renew(
    State(api): State<Api>,
    name: Segment,
    write: Write,
) -> Result<Json<LeaseDto>, Fault> {
    let (name, LockTokenRequest { token }) = (name.name()?, write.json()?);
    let command = Command::RenewLock { name, token: Token(token) };
    lease(api.commit(&write.envelope(command)).await?)
}

pub(super) async fn release(
    State(api): State<Api>,
    name: Segment,
    write: Write,
) -> Result<StatusCode, Fault> {
    let (name, LockTokenRequest { token }) = (name.name()?, write.json()?);
    let command = Command::ReleaseLock { name, token: Token(token) };
    api.commit(&write.envelope(command)).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn lease(outcome: Outcome) -> Result<Json<LeaseDto>, Fault> {
    match outcome {
        Outcome::LockHeld { token, expires } => {
            Ok(Json(LeaseDto::Held { token: token.0, expires: Time(expires) }))
        }
        Outcome::LockQueued { position } => Ok(Json(LeaseDto::Queued { position })),
        other => Err(odd(&other)),
    }
}
