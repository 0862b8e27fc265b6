//! Heartbeats, gathered: one command a round for all that arrived, and an
//! acknowledgement for each after it is committed.
//!
//! The commit is the quorum round that began after the heartbeats arrived: it
//! proves that this node still leads, so that a worker may count its lease on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use horai_core::ids::{Incarnation, LeaderId, WorkerId};
use horai_core::machine::command::{Actor, Command, Envelope};
use horai_core::machine::outcome::Outcome;
use horai_proto::worker as pb;
use horai_proto::worker::to_worker::Body as Say;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::registry::StreamId;
use super::{Sessions, WAITING};

/// Between the beginnings of two rounds, at least.
const ROUND: Duration = Duration::from_millis(50);
/// How long a round's proposal may take.
const LIMIT: Duration = Duration::from_secs(5);
/// Workers in one command.
const AT_ONCE: usize = 2_048;

/// One heartbeat of an attached worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Beat {
    pub(super) stream: StreamId,
    pub(super) worker: WorkerId,
    pub(super) incarnation: Incarnation,
    pub(super) seq: u64,
}

/// Rounds until the leadership ends.
pub(super) async fn run(
    sessions: Arc<Sessions>,
    leader: LeaderId,
    mut queue: mpsc::Receiver<Beat>,
    stop: CancellationToken,
) {
    let rounds = async {
        let mut heard = Vec::new();
        while queue.recv_many(&mut heard, WAITING).await > 0 {
            let next = Instant::now() + ROUND;
            round(&sessions, leader, &heard).await;
            heard.clear();
            tokio::time::sleep_until(next).await;
        }
    };
    stop.run_until_cancelled(rounds).await;
}

async fn round(sessions: &Sessions, leader: LeaderId, heard: &[Beat]) {
    // The last of each stream acknowledges those before it.
    let last: BTreeMap<StreamId, Beat> = heard.iter().map(|beat| (beat.stream, *beat)).collect();
    let last: Vec<Beat> = last.into_values().collect();
    for beats in last.chunks(AT_ONCE) {
        let alive = beats.iter().map(|beat| (beat.worker, beat.incarnation)).collect();
        let command = Command::WorkersAlive(alive);
        let envelope = Envelope { actor: Actor::Leader(leader), request: None, command };
        match sessions.node.propose(&envelope, LIMIT).await {
            Ok(Outcome::Rejected(reject)) => {
                tracing::debug!(%reject, "heartbeats are not acknowledged");
                continue;
            }
            Ok(_) => {}
            Err(error) => {
                tracing::debug!(%error, "heartbeats are not acknowledged");
                continue;
            }
        }
        let cluster_time_ms = sessions.time().0;
        let mut registry = sessions.registry();
        for beat in beats {
            let seq = beat.seq;
            let ack = pb::HeartbeatAck { seq, cluster_time_ms };
            // A leadership that ended meanwhile acknowledges nothing.
            if registry.attachment(beat.stream).is_some_and(|(_, _, now)| now.id == leader) {
                registry.send(beat.stream, Say::HeartbeatAck(ack));
            }
        }
    }
}
