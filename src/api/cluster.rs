//! The cluster: who is in it and who leads, tokens, membership, snapshots.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use horai_core::ids::{Name, NodeId};
use horai_core::machine::command::Command;
use horai_core::model::access::{AccessToken, TokenPurpose};
use horai_core::time::{Span, UtcMillis};
use horai_raft::membership::admission::token_hash;

use super::dto::{
    AreaRequest, ClusterDto, CountsDto, LeaderDto, MemberDto, NewTokenDto, NodeRequest,
    SnapshotDto, SpanText, Time, TimeRequest, TokenDto, TransferRequest,
};
use super::local_definition;
use super::params::Params;
use super::problem::Fault;
use super::write::Write;
use super::{Api, READ_LIMIT, SNAPSHOT_LIMIT};
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
    let (cluster, area, frozen, counts, applied_index, state_hash) = api.read(|state| {
        let cluster = state.settings().map_or(0, |settings| settings.uuid);
        let counts = CountsDto {
            jobs: state.job_count() as u64,
            runs: state.run_count() as u64,
            live_actions: state.live_actions() as u64,
            queued: state.queue_len() as u64,
        };
        let frozen = state.frozen().map(|pause| Time(pause.since));
        let area = state.area().map(ToString::to_string);
        (cluster, area, frozen, counts, state.applied_index(), state.hash())
    });
    Ok(Json(ClusterDto {
        cluster: uuid::Uuid::from_u128(cluster).to_string(),
        node: status.node.0,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        leader: status.leadership.leader.map(|node| LeaderDto { node: node.0, term: status.term }),
        time: api.node.cluster_now().map(Time),
        alarms: api.node.alarms(),
        area,
        frozen,
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

/// `PUT /cluster/area`: where the cluster stands from now on.
pub(super) async fn set_area(State(api): State<Api>, write: Write) -> Result<StatusCode, Fault> {
    let AreaRequest { area } = write.json()?;
    let area = area.map(|text| local_definition::area("area", &text)).transpose()?;
    api.commit(&write.envelope(Command::SetArea { area })).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Of this node alone: each has snapshots of its own.
pub(super) async fn snapshot(
    State(api): State<Api>,
    write: Write,
) -> Result<Json<SnapshotDto>, Fault> {
    write.empty()?;
    let index = api.node.take_snapshot(SNAPSHOT_LIMIT).await?;
    Ok(Json(SnapshotDto { node: api.node.status().node.0, index }))
}

pub(super) async fn remove(State(api): State<Api>, write: Write) -> Result<StatusCode, Fault> {
    let NodeRequest { node, lose_logs } = write.json()?;
    let node = NodeId(node);
    let status = api.node.status();
    let is_known = api.read(|state| state.node_record(node).is_some());
    if !is_known && !status.members.contains_key(&node) {
        return Err(Fault::not_found("node", node));
    }
    if !lose_logs {
        api.logs.may_leave(node).await?;
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
    // A request that is sent again derives the same secret: it makes no second token.
    let secret = hex(&write.secret());
    let token = format!("hj-{secret}");
    let hash = token_hash(&token);
    // Each has a name of its own, so that one does not end another.
    let name = format!("join-{}", hex(&hash[..16]));
    let name = Name::new(&name).expect("hexadecimal digits make a name");
    let now = api.node.cluster_now();
    api.write(&write, |state| {
        let expires = Some(now.unwrap_or_else(|| state.now()).plus(life));
        let purpose = TokenPurpose::Join;
        let token = AccessToken { purpose, hash, expires, created: UtcMillis(0) };
        Ok(Command::PutToken { name, token })
    })
    .await?;
    // Another node may have committed it, and long ago.
    api.node.linearize(READ_LIMIT).await?;
    let expires = api.read(|state| Some(state.token_by_hash(&hash)?.1.expires));
    let Some(expires) = expires else {
        let detail = "the token that this request made has expired";
        let remedy = "ask for a new one under another Idempotency-Key";
        return Err(Fault::new(ErrorCode::RequestExpired, detail, remedy));
    };
    Ok((StatusCode::CREATED, Json(TokenDto { token, expires: expires.map(Time) })))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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
