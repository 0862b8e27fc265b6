//! Results, gathered over all workers: committed in groups, then forgotten by
//! the workers that sent them.
//!
//! A worker keeps a result until it is told to forget it, and sends it again
//! otherwise. So nothing here needs to be kept: a group that cannot be committed
//! is tried again while this node leads, and left to the next leader after that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use horai_core::ids::{AttemptKey, Token, WorkerId};
use horai_core::machine::command::{Actor, Command, Envelope};
use horai_core::machine::outcome::{Outcome, Reject};
use horai_core::machine::state::State;
use horai_core::model::confinement::Usage;
use horai_proto::worker as pb;
use horai_proto::worker::to_worker::Body as Say;
use horai_raft::Error;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::registry::StreamId;
use super::{FRAME, Sessions};
use crate::worker::ending::Ending;
use crate::worker::wire;

/// Groups being committed at once.
const GROUPS: usize = 32;
/// How long one group's proposal may take,
const LIMIT: Duration = Duration::from_secs(5);
/// and the pause before it is made again.
const PAUSE: Duration = Duration::from_millis(100);

/// One result as a worker reported it.
#[derive(Debug, Clone)]
pub(crate) struct Finished {
    pub(crate) stream: StreamId,
    pub(crate) worker: WorkerId,
    pub(crate) key: AttemptKey,
    pub(crate) token: Token,
    pub(crate) ending: Ending,
}

/// Results that are being committed: a worker that repeats one is not listened to.
type Busy = Arc<Mutex<BTreeSet<(AttemptKey, Token)>>>;

/// Commits until the leadership ends.
pub(super) async fn run(
    sessions: Arc<Sessions>,
    mut queue: mpsc::Receiver<Finished>,
    stop: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(GROUPS));
    let busy = Busy::default();
    let groups = async {
        let mut group = Vec::with_capacity(FRAME);
        while let Ok(slot) = Arc::clone(&slots).acquire_owned().await {
            if queue.recv_many(&mut group, FRAME).await == 0 {
                return;
            }
            {
                let mut busy = busy.lock().unwrap_or_else(PoisonError::into_inner);
                group.retain(|finished: &Finished| busy.insert((finished.key, finished.token)));
            }
            let group = std::mem::replace(&mut group, Vec::with_capacity(FRAME));
            let (sessions, busy, stop) = (Arc::clone(&sessions), Arc::clone(&busy), stop.clone());
            tokio::spawn(async move {
                let keys: Vec<_> = group.iter().map(|f| (f.key, f.token)).collect();
                stop.run_until_cancelled(commit(&sessions, group)).await;
                let mut busy = busy.lock().unwrap_or_else(PoisonError::into_inner);
                for key in keys {
                    busy.remove(&key);
                }
                drop(slot);
            });
        }
    };
    stop.run_until_cancelled(groups).await;
}

async fn commit(sessions: &Sessions, group: Vec<Finished>) {
    let (mut over, mut open): (Vec<_>, Vec<_>) =
        sessions.node.read(|state| group.into_iter().partition(|f| is_known(state, f)));
    loop {
        let envelopes: Vec<Envelope> = open.iter().map(envelope).collect();
        let outcomes = sessions.node.propose_all(envelopes, LIMIT).await;
        let mut failed = Vec::new();
        for (finished, outcome) in open.into_iter().zip(outcomes) {
            match Step::after(outcome) {
                Step::Forget => over.push(finished),
                Step::GiveUp(reject) => {
                    tracing::error!(attempt = %finished.key, %reject, "result refused");
                }
                Step::Again(error) => {
                    tracing::debug!(attempt = %finished.key, %error, "result not committed yet");
                    failed.push(finished);
                }
            }
        }
        forget(sessions, std::mem::take(&mut over));
        if failed.is_empty() {
            return;
        }
        // Complete twice is the same as once: the second is stale.
        open = failed;
        tokio::time::sleep(PAUSE).await;
    }
}

/// What follows when a result was proposed.
#[derive(Debug)]
pub(crate) enum Step {
    /// It is committed, or moves nothing any more: the worker may forget it.
    Forget,
    /// The machine refuses it for good; the worker asks again one day.
    GiveUp(Reject),
    /// Nothing is known: it is proposed once more.
    Again(Error),
}

impl Step {
    /// Pure: reads the answer to a proposal.
    pub(crate) fn after(answer: Result<Outcome, Error>) -> Self {
        match answer {
            Ok(Outcome::Rejected(Reject::StaleAttempt(_))) => Self::Forget,
            Ok(Outcome::Rejected(reject)) => Self::GiveUp(reject),
            Ok(_) => Self::Forget,
            Err(error) => Self::Again(error),
        }
    }
}

/// True if the state holds the end of this attempt already.
pub(crate) fn is_known(state: &State, finished: &Finished) -> bool {
    let run = state.run_of(finished.key);
    let attempt = run.and_then(|run| run.attempts.iter().find(|a| a.key == finished.key));
    attempt.is_some_and(|a| a.token == finished.token && a.end.is_some())
}

/// The command that commits it.
pub(crate) fn envelope(finished: &Finished) -> Envelope {
    let Finished { key: attempt, token, ending, .. } = finished.clone();
    let Ending { report, outputs, usage } = ending;
    let command = if usage != Usage::default() {
        Command::CompleteUsing { attempt, token, report, outputs, usage }
    } else if outputs.is_empty() {
        Command::Complete { attempt, token, report }
    } else {
        Command::CompleteWith { attempt, token, report, outputs }
    };
    Envelope { actor: Actor::Worker(finished.worker), request: None, command }
}

fn forget(sessions: &Sessions, over: Vec<Finished>) {
    let mut by_stream: BTreeMap<StreamId, Vec<pb::AttemptId>> = BTreeMap::new();
    for finished in over {
        let id = wire::attempt_id(finished.key, finished.token);
        by_stream.entry(finished.stream).or_default().push(id);
    }
    let mut registry = sessions.registry();
    for (stream, attempts) in by_stream {
        registry.send(stream, Say::Forgets(pb::Forgets { attempts }));
    }
}
