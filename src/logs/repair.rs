//! Copies what some voter lacks, while this node leads.
//!
//! Level-triggered: it compares what the voters say to hold, and copies the difference.
//! Attempts that somebody noticed to be behind are looked at first; everything is looked
//! at when a leadership begins, when the voters change, when a node is back that could
//! not be asked, and now and then. It is paced, so that a new disk is filled beside the
//! cluster's work.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use horai_core::ids::{AttemptKey, LeaderId, NodeId};
use horai_core::mutants::{self, Mutant};
use tokio::time::{Instant, sleep};

use super::Logs;
use super::compare::{Answers, union};
use crate::chunks::Ranges;
use crate::chunks::piece::pack;

/// Between two looks, if nobody rings.
const ROUND: Duration = Duration::from_secs(1);
/// Between two looks at everything.
const ALL: Duration = Duration::from_secs(600);
/// Between two looks at the files of jobs: who missed one gets it soon.
const FILES: Duration = Duration::from_secs(10);
/// Attempts compared at once,
const AT_ONCE: usize = 256;
/// and in a look at everything.
const PAGE: u32 = 2_000;
/// Bytes copied at once,
const COPY: u64 = 1 << 20;
/// and in a second.
const RATE: u64 = 16 << 20;

impl Logs {
    /// Repairs whenever this node leads.
    pub(super) async fn follow(self: Arc<Self>) {
        let mut leadership = self.node.leadership();
        loop {
            let Ok(leader) = leadership.wait_for(|now| now.own.is_some()).await.map(|now| now.own)
            else {
                return;
            };
            let Some(leader) = leader else { continue };
            let mut watch = leadership.clone();
            tokio::select! {
                _ = watch.wait_for(|now| now.own != Some(leader)) => {}
                () = self.repair_all(leader) => {}
            }
        }
    }

    async fn repair_all(self: &Arc<Self>, leader: LeaderId) {
        tracing::debug!(%leader, "logs are compared");
        *self.lock_behind() = super::Behind { all: true, ..Default::default() };
        let mut round = Round { logs: Arc::clone(self), last: None, epochs: BTreeMap::new() };
        let (mut looked, mut files) = (Instant::now(), None::<Instant>);
        loop {
            // A disk that failed takes nothing: others repair when they lead.
            if self.store.shut().is_some() {
                sleep(ROUND).await;
                continue;
            }
            if round.is_anyone_new().await || looked.elapsed() > ALL {
                self.lock_behind().all = true;
            }
            if self.lock_behind().all || files.is_none_or(|looked| looked.elapsed() > FILES) {
                self.repair_files().await;
                files = Some(Instant::now());
            }
            round.some().await;
            let all = {
                let behind = &mut *self.lock_behind();
                behind.all |= std::mem::take(&mut behind.more);
                behind.all
            };
            if all {
                looked = Instant::now();
                round.all().await;
                self.lock_behind().all = false;
            }
            tokio::select! {
                () = self.bell.notified() => sleep(ROUND / 4).await,
                () = sleep(ROUND) => {}
            }
        }
    }
}

struct Round {
    logs: Arc<Logs>,
    /// The attempt that was looked at last, so that all have their turn.
    last: Option<AttemptKey>,
    /// Voters that answer, and the number of their last start.
    epochs: BTreeMap<NodeId, u64>,
}

impl Round {
    /// True if a voter answers that did not, or was started since: it may lack anything.
    async fn is_anyone_new(&mut self) -> bool {
        let (me, voters) = self.logs.voters();
        let peers = &self.logs.peers;
        let others = voters.into_keys().filter(|voter| *voter != me);
        let asked = others.map(|node| async move {
            let epoch = peers.epoch(node).await.ok()?;
            Some((node, epoch))
        });
        let epochs: BTreeMap<NodeId, u64> = join_all(asked).await.into_iter().flatten().collect();
        let is_new = epochs.iter().any(|(node, epoch)| self.epochs.get(node) != Some(epoch));
        self.epochs = epochs;
        is_new
    }

    /// Looks at attempts that are said to be behind.
    async fn some(&mut self) {
        let keys: BTreeSet<AttemptKey> = {
            let behind = &self.logs.lock_behind().attempts;
            let later = self.last.map_or(Unbounded, Excluded);
            behind.range((later, Unbounded)).take(AT_ONCE).copied().collect()
        };
        self.last = keys.last().copied();
        if keys.is_empty() {
            return;
        }
        let done = self.repair(&keys).await;
        let behind = &mut *self.logs.lock_behind();
        behind.attempts.retain(|key| !done.contains(key));
    }

    /// Looks at all attempts, page by page.
    async fn all(&mut self) {
        let mut from = 0;
        loop {
            // Who does not answer is new when it does.
            let (pages, next) = self.logs.held_from(from, PAGE).await;
            let keys: BTreeSet<AttemptKey> =
                pages.values().flat_map(BTreeMap::keys).copied().collect();
            let differs = |key: &AttemptKey| {
                let mut held = pages.values().map(|page| page.get(key));
                let first = held.next();
                held.any(|held| Some(held) != first)
            };
            let behind: Vec<AttemptKey> = keys.into_iter().filter(differs).collect();
            for keys in behind.chunks(AT_ONCE) {
                let keys: BTreeSet<AttemptKey> = keys.iter().copied().collect();
                let done = self.repair(&keys).await;
                self.logs.is_behind(keys.difference(&done).copied());
            }
            match next {
                Some(next) => from = next,
                None => return,
            }
        }
    }

    /// Brings all voters to the same; the answer is those attempts that are so now.
    async fn repair(&self, keys: &BTreeSet<AttemptKey>) -> BTreeSet<AttemptKey> {
        if mutants::on(Mutant::LogsNotRepaired) {
            return keys.clone();
        }
        let logs = &self.logs;
        // What is gone is gone everywhere soon.
        let (wanted, mut done): (BTreeSet<_>, BTreeSet<_>) = logs
            .node
            .read(|state| keys.iter().copied().partition(|key| state.run(key.run).is_some()));
        let (me, voters) = logs.voters();
        let mut held = logs.held_by_all(&wanted).await;
        let is_complete = voters.keys().all(|voter| held.contains_key(voter));
        let mut own = held.remove(&me).unwrap_or_default();
        for key in wanted {
            let of = |node: NodeId| held.get(&node).and_then(|held| held.get(&key));
            let mut all = union(&held, key);
            all.union(&own.remove(&key).unwrap_or_default().ranges);
            let mut is_done = is_complete && self.pull(key, &all, &held).await;
            for node in held.keys() {
                let there = of(*node).cloned().unwrap_or_default();
                if !there.dropped {
                    is_done &= self.push(*node, key, &all.minus(&there.ranges)).await;
                }
                logs.holds(*node, vec![(key, there)]);
            }
            if is_done {
                done.insert(key);
            }
        }
        done
    }

    /// Brings here what others have.
    async fn pull(&self, key: AttemptKey, all: &Ranges, held: &Answers) -> bool {
        let logs = &self.logs;
        if logs.store.is_gone(key.run) {
            return true;
        }
        for range in all.minus(&logs.store.held(key)).iter() {
            let mut at = range.start;
            while at < range.end {
                let has = |node: &&NodeId| {
                    let held = held.get(*node).and_then(|held| held.get(&key));
                    held.is_some_and(|held| held.ranges.end_of(at).is_some())
                };
                let Some(node) = held.keys().find(has) else { return false };
                let Ok(read) = logs.peers.read(*node, key, at, COPY).await else { return false };
                let pieces = read.pieces;
                let Some(last) = pieces.last() else { return false };
                at = last.offset.saturating_add(last.len);
                let size: u64 = pieces.iter().map(|piece| piece.data.len() as u64).sum();
                if let Err(error) = logs.store.put(pieces).await {
                    tracing::warn!(attempt = %key, %error, "a log is not repaired here");
                    return false;
                }
                pace(size).await;
            }
        }
        logs.holds(logs.voters().0, vec![(key, logs.own(key))]);
        true
    }

    /// Brings to a node what it lacks.
    async fn push(&self, node: NodeId, key: AttemptKey, lacks: &Ranges) -> bool {
        let logs = &self.logs;
        for range in lacks.iter() {
            let mut at = range.start;
            while at < range.end {
                let max = COPY.min(range.end - at);
                let pieces = logs.stored(key, at, max).await;
                let clipped = pieces.iter().filter_map(|piece| piece.clip(at, range.end));
                let pieces: Vec<_> = clipped.map(|piece| pack(&piece)).collect();
                let Some(last) = pieces.last() else { return false };
                at = last.offset.saturating_add(last.len);
                let size = pieces.iter().map(|piece| piece.data.len() as u64).sum();
                match logs.peers.put(node, pieces).await {
                    Ok(held) => logs.holds(node, held),
                    Err(error) => {
                        tracing::debug!(attempt = %key, %node, %error, "a log is not repaired there yet");
                        return false;
                    }
                }
                pace(size).await;
            }
        }
        true
    }
}

/// A pause for so many bytes.
pub(super) async fn pace(bytes: u64) {
    sleep(Duration::from_millis(bytes * 1_000 / RATE)).await;
}
