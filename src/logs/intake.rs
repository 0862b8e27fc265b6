//! The leader's end of what workers deliver: where to go on, and what is safe.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use horai_core::ids::{AttemptKey, LeaderId, NodeId};
use horai_core::mutants::{self, Mutant};
use horai_proto::logs as pb;
use horai_proto::logs::from_worker::Body as Said;
use horai_proto::logs::to_worker::Body as Say;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tonic::Streaming;

use super::Logs;
use super::compare::union;
use super::peers::Held;
use crate::chunks::Error;
use crate::chunks::piece::{attempt_key, attempt_ref, key_of};
use crate::error::ErrorCode;

/// Messages that are taken at once.
const AT_ONCE: usize = 64;
/// Bytes of one worker that are not on this node's disk yet.
const WAITING: usize = 16 << 20;
/// Counted for each piece beside its bytes.
const PIECE_COSTS: usize = 256;
/// Before a majority is asked again.
const AGAIN: Duration = Duration::from_millis(500);

type Answers = mpsc::Sender<pb::ToWorker>;

/// What is delivered to this node, under its present leadership.
#[derive(Default)]
pub(super) struct Uplinks {
    last_stream: u64,
    attempts: BTreeMap<AttemptKey, Uplink>,
}

struct Uplink {
    stream: u64,
    answers: Answers,
    /// Ends its stream.
    cut: CancellationToken,
    /// What each node has everything below of, as far as it said.
    below: BTreeMap<NodeId, u64>,
    /// What the worker was told to be safe.
    stored: u64,
}

impl Uplinks {
    /// What a majority of the voters has everything below of.
    fn settle(&mut self, key: AttemptKey, voters: &BTreeSet<NodeId>) {
        let Some(uplink) = self.attempts.get_mut(&key) else { return };
        let below = |voter: &NodeId| uplink.below.get(voter).copied().unwrap_or(0);
        let stored = if mutants::on(Mutant::LogAckedByOne) {
            voters.iter().map(below).max().unwrap_or(0)
        } else {
            majority(voters.iter().map(below).collect())
        };
        if stored > uplink.stored {
            uplink.stored = stored;
            let attempt = Some(attempt_ref(key));
            let body = Say::Stored(pb::Stored { attempt, below: stored, unwanted: false });
            let told = uplink.answers.try_send(pb::ToWorker { body: Some(body) });
            if matches!(told, Err(TrySendError::Full(_))) {
                // A worker that does not read is told when it comes back.
                uplink.cut.cancel();
            }
        }
    }

    fn is_of(&self, key: AttemptKey, stream: u64) -> bool {
        self.attempts.get(&key).is_some_and(|uplink| uplink.stream == stream)
    }
}

/// The largest number that more than half of these reach.
fn majority(mut numbers: Vec<u64>) -> u64 {
    numbers.sort_unstable();
    let needed = numbers.len() / 2 + 1;
    numbers.len().checked_sub(needed).and_then(|at| numbers.get(at).copied()).unwrap_or(0)
}

impl Logs {
    /// A node says what it holds of these attempts.
    pub(super) fn holds(&self, node: NodeId, held: Vec<(AttemptKey, Held)>) {
        let voters: BTreeSet<NodeId> = self.voters().1.into_keys().collect();
        let uplinks = &mut *self.uplinks();
        for (key, held) in held {
            if let Some(uplink) = uplinks.attempts.get_mut(&key) {
                let below = uplink.below.entry(node).or_default();
                *below = (*below).max(held.below());
                uplinks.settle(key, &voters);
            }
        }
    }

    /// What this node itself holds.
    pub(super) fn own(&self, key: AttemptKey) -> Held {
        Held { ranges: self.store.held(key), dropped: self.store.is_gone(key.run) }
    }
}

/// Serves one worker's stream until it or this leadership ends.
pub(super) async fn serve(logs: Arc<Logs>, from: Streaming<pb::FromWorker>, answers: Answers) {
    let refuse = async |code: ErrorCode, message: String| {
        let refused = pb::Refused { code: code.to_string(), message };
        // It may have left.
        let _ = answers.send(pb::ToWorker { body: Some(Say::Refused(refused)) }).await;
    };
    let Some(leader) = logs.leader() else {
        return refuse(ErrorCode::Unavailable, "this node does not lead".to_owned()).await;
    };
    if let Some(error) = logs.store.shut() {
        return refuse(ErrorCode::Unavailable, error.to_string()).await;
    }
    let stream = {
        let uplinks = &mut *logs.uplinks();
        uplinks.last_stream += 1;
        uplinks.last_stream
    };
    let intake = Intake {
        logs: Arc::clone(&logs),
        stream,
        answers: answers.clone(),
        cut: CancellationToken::new(),
        room: Arc::new(Semaphore::new(WAITING)),
    };
    let failed = intake.read(leader, from).await;
    logs.uplinks().attempts.retain(|_, uplink| uplink.stream != stream);
    if let Err(error) = failed {
        tracing::warn!(%error, "output of a worker is not taken");
        refuse(ErrorCode::Unavailable, error.to_string()).await;
    }
}

#[derive(Clone)]
struct Intake {
    logs: Arc<Logs>,
    stream: u64,
    answers: Answers,
    cut: CancellationToken,
    room: Arc<Semaphore>,
}

impl Intake {
    async fn read(&self, leader: LeaderId, from: Streaming<pb::FromWorker>) -> Result<(), Error> {
        let mut leadership = self.logs.node.leadership();
        let mut from = from.ready_chunks(AT_ONCE);
        let (failures, mut failed) = mpsc::channel(1);
        loop {
            let said = tokio::select! {
                _ = leadership.wait_for(|now| now.own != Some(leader)) => return Ok(()),
                () = self.cut.cancelled() => return Ok(()),
                Some(error) = failed.recv() => return Err(error),
                said = from.next() => said,
            };
            let Some(said) = said else { return Ok(()) };
            let (mut fresh, mut begins) = (BTreeSet::new(), BTreeSet::new());
            let mut pieces = Vec::new();
            for said in said {
                // The stream broke: the worker opens another.
                let Ok(said) = said else { return Ok(()) };
                match said.body {
                    Some(Said::Begin(begin)) => {
                        let begun = if begin.fresh { &mut fresh } else { &mut begins };
                        begun.insert(attempt_key(begin.attempt));
                    }
                    Some(Said::Piece(piece)) => pieces.push(piece),
                    None => {}
                }
            }
            // Aside: a worker that is busy sending reads no answers for a while.
            if !fresh.is_empty() || !begins.is_empty() {
                let aside = self.clone();
                tokio::spawn(async move {
                    for key in fresh {
                        aside.begin(key, 0, BTreeMap::new()).await;
                    }
                    if !begins.is_empty() {
                        aside.resume(leader, begins).await;
                    }
                });
            }
            if !pieces.is_empty() {
                self.take(pieces, failures.clone()).await;
            }
        }
    }

    async fn say(&self, body: Say) {
        // Whoever has left asks again.
        let _ = self.answers.send(pb::ToWorker { body: Some(body) }).await;
    }

    /// The worker is to send an attempt's output from this byte on.
    async fn begin(&self, key: AttemptKey, offset: u64, below: BTreeMap<NodeId, u64>) {
        let attempt = Some(attempt_ref(key));
        if self.logs.node.read(|state| state.run(key.run).is_none())
            || self.logs.store.is_gone(key.run)
        {
            return self.say(Say::Stored(pb::Stored { attempt, below: 0, unwanted: true })).await;
        }
        let voters = self.logs.voters().1.into_keys().collect();
        {
            // Before the worker is told: what it then sends is of an attempt that is known.
            let (stream, answers, cut) = (self.stream, self.answers.clone(), self.cut.clone());
            let uplinks = &mut *self.logs.uplinks();
            uplinks.attempts.insert(key, Uplink { stream, answers, cut, below, stored: 0 });
            uplinks.settle(key, &voters);
        }
        self.say(Say::Resume(pb::Resume { attempt, offset })).await;
    }

    /// Finds out how far a majority's nodes have come together: every byte that was
    /// acknowledged is with one of them.
    async fn resume(&self, leader: LeaderId, keys: BTreeSet<AttemptKey>) {
        let logs = &self.logs;
        loop {
            if self.answers.is_closed() || logs.leader() != Some(leader) {
                return;
            }
            let voters = logs.voters().1;
            let held = logs.held_by_all(&keys).await;
            let answered = voters.keys().filter(|voter| held.contains_key(*voter)).count();
            if answered * 2 <= voters.len() {
                tokio::time::sleep(AGAIN).await;
                continue;
            }
            for key in keys {
                let of = |held: &BTreeMap<_, Held>| held.get(&key).cloned().unwrap_or_default();
                let all = union(&held, key);
                let lacks = |held| !of(held).dropped && of(held).ranges != all;
                if answered < voters.len() || held.values().any(lacks) {
                    logs.is_behind([key]);
                }
                let below = held.iter().map(|(node, held)| (*node, of(held).below())).collect();
                self.begin(key, all.prefix(), below).await;
            }
            return;
        }
    }

    /// Stores pieces here and hands them on; does not wait for either.
    async fn take(&self, mut pieces: Vec<pb::Piece>, failures: mpsc::Sender<Error>) {
        let logs = &self.logs;
        {
            let uplinks = logs.uplinks();
            pieces.retain(|piece| uplinks.is_of(key_of(piece), self.stream));
        }
        let keys: BTreeSet<AttemptKey> = pieces.iter().map(key_of).collect();
        let size = pieces.iter().map(|piece| piece.data.len() + PIECE_COSTS).sum::<usize>();
        let size = u32::try_from(size.min(WAITING)).unwrap_or(u32::MAX);
        // The semaphore is never closed; without room the worker waits.
        let room = Arc::clone(&self.room).acquire_many_owned(size).await;
        let (me, voters) = logs.voters();
        for node in voters.keys().filter(|voter| **voter != me) {
            for piece in &pieces {
                if !logs.peers.offer(logs, *node, piece.clone()) {
                    logs.is_behind([key_of(piece)]);
                }
            }
        }
        let (logs, answers) = (Arc::clone(logs), self.answers.clone());
        tokio::spawn(async move {
            match logs.store.put(pieces).await {
                Ok(()) => {
                    let held = keys.iter().map(|key| (*key, logs.own(*key))).collect();
                    logs.holds(me, held);
                }
                Err(error) => {
                    if let Error::Conflict { key, .. } = error {
                        // The first holds: what this worker says of it is of no use.
                        tracing::error!(%error, "a worker delivers another output");
                        let attempt = Some(attempt_ref(key));
                        let body = Say::Stored(pb::Stored { attempt, below: 0, unwanted: true });
                        let _ = answers.send(pb::ToWorker { body: Some(body) }).await;
                    }
                    // Fails if one is known already.
                    let _ = failures.try_send(error);
                }
            }
            drop(room);
        });
    }
}

#[cfg(test)]
mod tests {
    use horai_core::ids::RunId;

    use super::*;

    #[test]
    fn more_than_half_must_have_it() {
        assert_eq!(majority(vec![]), 0);
        assert_eq!(majority(vec![7]), 7);
        assert_eq!(majority(vec![7, 3]), 3);
        assert_eq!(majority(vec![9, 0, 4]), 4);
        assert_eq!(majority(vec![9, 9, 4, 1]), 4);
        assert_eq!(majority(vec![1, 2, 3, 4, 5]), 3);
    }

    #[test]
    fn a_byte_is_acknowledged_once_a_majority_of_the_present_voters_has_all_before_it() {
        let key = AttemptKey { run: RunId(1), shard: 0, number: 1 };
        let (answers, mut told) = mpsc::channel(2);
        let cut = CancellationToken::new();
        let below = BTreeMap::from([(NodeId(1), 100)]);
        let uplink = Uplink { stream: 1, answers, cut: cut.clone(), below, stored: 0 };
        let mut uplinks = Uplinks { last_stream: 1, attempts: BTreeMap::from([(key, uplink)]) };
        let voters: BTreeSet<NodeId> = (1..=3).map(NodeId).collect();
        let mut say = |node: u64, below: u64, voters: &BTreeSet<NodeId>| {
            uplinks.attempts.get_mut(&key).unwrap().below.insert(NodeId(node), below);
            uplinks.settle(key, voters);
        };
        say(1, 200, &voters);
        // One that does not vote counts for nothing.
        say(9, 200, &voters);
        assert!(told.try_recv().is_err());
        say(2, 60, &voters);
        let below = |told: &mut mpsc::Receiver<pb::ToWorker>| match told.try_recv().unwrap().body {
            Some(Say::Stored(stored)) => stored.below,
            other => panic!("{other:?}"),
        };
        assert_eq!(below(&mut told), 60);
        say(3, 70, &voters);
        assert_eq!(below(&mut told), 70);
        say(3, 50, &voters);
        assert!(told.try_recv().is_err(), "nothing is taken back");
        // A worker that does not read is cut off rather than left without an answer.
        for below in [80, 81, 82] {
            assert!(!cut.is_cancelled());
            say(3, below, &voters);
        }
        assert!(cut.is_cancelled());
    }
}
