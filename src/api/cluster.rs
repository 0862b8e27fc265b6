//! The cluster: who is in it and who leads, tokens, membership.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use horai_core::ids::{Name, NodeId};
use horai_core::machine::command::Command;
use horai_core::model::access::{AccessToken, TokenPurpose};
use horai_core::time::{Span, UtcMillis};
use sha2::{Digest, Sha256};

use super::Api;
use super::dto::{
    ClusterDto, CountsDto, LeaderDto, MemberDto, NewTokenDto, NodeRequest, SpanText, Time,
    TimeRequest, TokenDto, TransferRequest,
};
use super::params::Params;
use super::problem::Fault;
use super::write::Write;
use crate::error::{ErrorCode, FieldError};

/// Life of a join token if nothing is said.
const DEFAULT_LIFE: Span = Span::secs(3_600);
/// The longest life of a join token.
const MAX_LIFE: Span = Span::secs(30 * 86_400);

/// This node's view, with no quorum asked: it must answer when there is none.
pub(super) async fn show(
    State(api): State<Api>,
    params: Params,
) -> Result<Json<ClusterDto>, Fault> {
    params.only(&[])?.is_stale()?;
    let status = api.node.status();
    let leads = |node: NodeId| status.leadership.leader == Some(node);
    let members = status
        .members
        .iter()
        .map(|(node, (member, voter))| MemberDto::of(*node, member, *voter, leads(*node)))
        .collect();
    let (cluster, counts, applied_index, state_hash) = api.read(|state| {
        let cluster = state.settings().map_or(0, |settings| settings.uuid);
        let counts = CountsDto {
            jobs: state.job_count() as u64,
            runs: state.run_count() as u64,
            live_actions: state.live_actions() as u64,
            queued: state.queue_len() as u64,
        };
        (cluster, counts, state.applied_index(), state.hash())
    });
    Ok(Json(ClusterDto {
        cluster: uuid::Uuid::from_u128(cluster).to_string(),
        node: status.node.0,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        leader: status.leadership.leader.map(|node| LeaderDto { node: node.0, term: status.term }),
        time: api.node.cluster_now().map(Time),
        members,
        counts,
        applied_index,
        state_hash: format!("{state_hash:032x}"),
    }))
}

pub(super) async fn transfer(State(api): State<Api>, write: Write) -> Result<StatusCode, Fault> {
    let TransferRequest { to } = write.json()?;
    match api.node.status().members.get(&NodeId(to)) {
        Some((_, true)) => {}
        Some((_, false)) => {
            let problem = "this node does not vote yet";
            let remedy = "wait until it has caught up";
            return Err(FieldError::invalid("to", to, problem, remedy)
                .with_code(ErrorCode::Conflict)
                .into());
        }
        None => return Err(Fault::not_found("node", to)),
    }
    api.node.transfer(NodeId(to)).await?;
    Ok(StatusCode::ACCEPTED)
}

pub(super) async fn remove(State(api): State<Api>, write: Write) -> Result<StatusCode, Fault> {
    let NodeRequest { node } = write.json()?;
    let node = NodeId(node);
    let status = api.node.status();
    let is_known = api.read(|state| state.node_record(node).is_some());
    if !is_known && !status.members.contains_key(&node) {
        return Err(Fault::not_found("node", node));
    }
    api.node.remove(node).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn new_token(
    State(api): State<Api>,
    write: Write,
) -> Result<(StatusCode, Json<TokenDto>), Fault> {
    let NewTokenDto { purpose, expires_in } = write.json()?;
    if purpose != "join" {
        let problem = "there is no such purpose";
        return Err(FieldError::invalid("purpose", purpose, problem, "write join").into());
    }
    let life = expires_in.map_or(DEFAULT_LIFE, |SpanText(life)| life);
    if !(Span::secs(1)..=MAX_LIFE).contains(&life) {
        let problem = "a token cannot live that long";
        let remedy = format!("write 1s to {MAX_LIFE}");
        return Err(FieldError::invalid("expires_in", life, problem, remedy).into());
    }
    // Each has a name of its own, so that one does not end another.
    let id = uuid::Uuid::new_v4().simple().to_string();
    let name = Name::new(&format!("join-{id}")).expect("hexadecimal digits make a name");
    let secret: [u8; 32] = rand::random();
    let token = secret.iter().fold(String::from("hj-"), |text, byte| text + &format!("{byte:02x}"));
    let now = api.node.cluster_now().unwrap_or_else(|| api.read(|state| state.now()));
    let expires = Some(now.plus(life));
    let (purpose, hash) = (TokenPurpose::Join, Sha256::digest(token.as_bytes()).into());
    let access = AccessToken { purpose, hash, expires, created: UtcMillis(0) };
    // The secret differs each time: the request id would tell another's outcome.
    let mut envelope = write.envelope(Command::PutToken { name, token: access });
    envelope.request = None;
    api.commit(&envelope).await?;
    let expires = expires.map(Time);
    Ok((StatusCode::CREATED, Json(TokenDto { token, expires })))
}

/// Only the leader stamps, so only its clock can be vouched for.
pub(super) async fn confirm_time(
    State(api): State<Api>,
    write: Write,
) -> Result<StatusCode, Fault> {
    let TimeRequest { time: Time(time) } = write.json()?;
    let status = api.node.status();
    if status.leadership.leader != Some(status.node) {
        let leader = status.leadership.leader.and_then(|leader| status.members.get(&leader));
        let Some((leader, _)) = leader else {
            let detail = "nobody leads, and only a leader needs the time";
            return Err(Fault::new(ErrorCode::Unavailable, detail, "ask again"));
        };
        let detail = "this node does not lead";
        let remedy = format!("send it to the leader: http://{}", leader.http_addr);
        return Err(Fault::new(ErrorCode::Conflict, detail, remedy));
    }
    api.node.confirm_time(time)?;
    Ok(StatusCode::NO_CONTENT)
}
