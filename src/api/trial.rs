//! What a command would do: the machine's own code on a copy of the state. Nothing here
//! decides what follows from a command, and nothing is proposed.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use horai_core::ids::ActionKey;
use horai_core::machine::command::{Actor, Command, Entry, Envelope};
use horai_core::machine::outcome::{Event, Outcome};
use horai_core::machine::state::State as CoreState;

use super::Api;
use super::actions::known;
use super::dto::{ActionRef, ChangeDto, RunDto, TrialDto};
use super::jobs::{find, order};
use super::params::{Params, Segment};
use super::problem::{Fault, refused};
use super::write::Write;

/// Changes that a preview names.
const NAMED: usize = 1_000;

/// Carries a command out on this copy.
pub(super) fn carry_out(
    state: &mut CoreState,
    command: Command,
) -> Result<(Outcome, Vec<Event>), Fault> {
    let envelope = Envelope { actor: Actor::User(String::new()), request: None, command };
    let (index, now) = (state.applied_index().saturating_add(1), state.now());
    let applied = state.apply(Entry { index, now, command: &envelope });
    match applied.outcome {
        Outcome::Rejected(reject) => Err(refused(reject, state)),
        outcome => Ok((outcome, applied.events)),
    }
}

/// `POST /jobs/NAME/trigger/preview`: the run that would be made.
pub(super) async fn trigger(
    State(api): State<Api>,
    name: Segment,
    write: Write,
) -> Result<Json<TrialDto>, Fault> {
    let name = name.name()?;
    let request = if write.is_empty() { Default::default() } else { write.json()? };
    let order = Box::new(order(&name, &request)?);
    would(&api, |state| Ok(Command::RunJob { job: find(state, &name)?.id, order })).await
}

/// `GET /actions/ID/force-success`: what would follow.
pub(super) async fn force_success(
    State(api): State<Api>,
    id: Segment,
    params: Params,
) -> Result<Json<TrialDto>, Fault> {
    settle(&api, &id, params, true).await
}

/// `GET /actions/ID/skip`: what would follow.
pub(super) async fn skip(
    State(api): State<Api>,
    id: Segment,
    params: Params,
) -> Result<Json<TrialDto>, Fault> {
    settle(&api, &id, params, false).await
}

async fn settle(
    api: &Api,
    id: &Segment,
    params: Params,
    success: bool,
) -> Result<Json<TrialDto>, Fault> {
    params.only(&[])?;
    let id = id.parse::<ActionRef>("id")?;
    would(api, |state| Ok(Command::SettleAction { action: known(state, &id)?.0, success })).await
}

async fn would(
    api: &Api,
    make: impl FnOnce(&CoreState) -> Result<Command, Fault>,
) -> Result<Json<TrialDto>, Fault> {
    api.node.linearize(super::READ_LIMIT).await?;
    let before = api.read(CoreState::clone);
    let command = make(&before)?;
    let mut after = before.clone();
    let (outcome, events) = carry_out(&mut after, command)?;
    let run = match outcome {
        Outcome::Run { run } => after.run(run).map(|run| RunDto::of(&after, run)),
        _ => None,
    };
    let touched: BTreeSet<ActionKey> = events
        .into_iter()
        .filter_map(|event| match event {
            Event::Action(key) => Some(key),
            _ => None,
        })
        .collect();
    let all: Vec<ChangeDto> =
        touched.into_iter().filter_map(|key| change(key, &before, &after)).collect();
    let (change_count, mut changes) = (all.len() as u64, all);
    changes.truncate(NAMED);
    Ok(Json(TrialDto { run, change_count, changes }))
}

/// What becomes of an action, if that differs from what it is.
fn change(key: ActionKey, before: &CoreState, after: &CoreState) -> Option<ChangeDto> {
    let word = |state: &CoreState| state.action(key).map(|action| action.state.word().to_owned());
    let (from, to) = (word(before)?, word(after)?);
    (from != to).then(|| ChangeDto { action: ActionRef::of(before, key), from, to })
}
