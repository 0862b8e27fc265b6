//! What attempts began elsewhere: committed as soon as a worker says so, and before what it
//! says next, so that no result overtakes it.
//!
//! A worker repeats what it says, so what cannot be committed now is left to the next time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use horai_core::ids::{AttemptKey, WorkerId};
use horai_core::machine::command::{Actor, Command, Envelope};
use horai_core::machine::state::State;
use horai_core::model::handle::Handle;
use horai_core::model::run::Run;
use horai_proto::worker as pb;
use horai_proto::worker::to_worker::Body as Say;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Sessions;
use super::access::Refusal;
use super::registry::StreamId;
use crate::error::ErrorCode;
use crate::worker::wire;

/// How long one proposal may take.
const LIMIT: Duration = Duration::from_secs(5);

/// Between two looks for what is left to be ended.
const LOOK: Duration = Duration::from_secs(2);
/// How long a worker that was asked may take, before another one is.
const PATIENCE: Duration = Duration::from_secs(90);
/// Runs that are seen to in one look.
const AT_ONCE: usize = 100;

/// Sees to runs that are over and left something elsewhere, because their worker was lost:
/// asks a worker that knows how to end it. Until the leadership ends. What was asked is kept
/// in memory alone: another leader asks again, and to end something twice is no harm.
pub(super) async fn run(sessions: Arc<Sessions>, stop: CancellationToken) {
    let looks = async {
        let mut asked: BTreeMap<AttemptKey, Instant> = BTreeMap::new();
        loop {
            tokio::time::sleep(LOOK).await;
            asked.retain(|_, at| at.elapsed() < PATIENCE);
            let connected = sessions.connected();
            let orders = sessions.node.read(|state| {
                let owing = state.runs_that_owe().filter_map(|run| order(state, run, &connected));
                owing
                    .filter(|(_, key, _)| !asked.contains_key(key))
                    .take(AT_ONCE)
                    .collect::<Vec<_>>()
            });
            for (worker, key, kill) in orders {
                let mut registry = sessions.registry();
                let Some((stream, ..)) = registry.order_to(worker) else { continue };
                if registry.send(stream, Say::Kill(kill)) {
                    asked.insert(key, Instant::now());
                }
            }
        }
    };
    stop.run_until_cancelled(looks).await;
}

/// What is asked of whom: a worker of the job's group that has its interpreter, another one
/// than the attempt's own if there is a choice.
fn order(
    state: &State,
    run: &Run,
    connected: &[WorkerId],
) -> Option<(WorkerId, AttemptKey, pb::Kill)> {
    let (attempt, handles) = run.owed()?;
    let spec = state.spec(run.job, run.revision)?;
    let interpreter = spec.executor.interpreter()?;
    let serves = |id: &&WorkerId| {
        state.worker(**id).is_some_and(|worker| {
            worker.profile.groups.contains(&spec.worker_group)
                && worker.profile.interpreters.contains(interpreter)
        })
    };
    let able: Vec<WorkerId> = connected.iter().filter(serves).copied().collect();
    let other = able.iter().find(|id| **id != attempt.worker);
    let worker = *other.or_else(|| able.first())?;
    let kill = pb::Kill {
        attempt: Some(wire::attempt_id(attempt.key, attempt.token)),
        interpreter: interpreter.to_string(),
        handles: handles.iter().map(|handle| handle.text.clone()).collect(),
    };
    Some((worker, attempt.key, kill))
}

impl Sessions {
    pub(super) async fn on_handles(&self, id: StreamId, said: &pb::Handles) -> Result<(), Refusal> {
        let (attempt, token, handles) =
            wire::handles(said).map_err(|missing| Refusal::new(ErrorCode::Malformed, missing))?;
        let worker = self.registry().attachment(id).map(|(worker, ..)| worker);
        let Some(worker) = worker else { return Ok(()) };
        let is_news = |state: &State| {
            let run = state.run(attempt.run)?;
            run.attempts.iter().find(|known| known.key == attempt && known.token == token)?;
            let mut known = run.handles.get(&attempt.number).cloned().unwrap_or_default();
            Handle::merge(&mut known, &handles).then_some(())
        };
        if self.node.read(is_news).is_none() {
            return Ok(());
        }
        let command = Command::NoteHandles { attempt, token, handles };
        let envelope = Envelope { actor: Actor::Worker(worker), request: None, command };
        for outcome in self.node.propose_all(vec![envelope], LIMIT).await {
            if let Err(error) = outcome {
                tracing::debug!(%attempt, %error, "handles are not committed yet");
            }
        }
        Ok(())
    }
}
