//! What the voters hold, side by side.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::future::join_all;
use horai_core::ids::{AttemptKey, NodeId, RunId};

use super::Logs;
use super::peers::Held;
use crate::chunks::Ranges;

/// By voter, this node included: only those that answer, and know all that they hold.
pub(super) type Answers = BTreeMap<NodeId, BTreeMap<AttemptKey, Held>>;

impl Logs {
    /// What each voter holds of these attempts.
    pub(super) async fn held_by_all(&self, keys: &BTreeSet<AttemptKey>) -> Answers {
        let (me, voters) = self.voters();
        let others = voters.into_keys().filter(|voter| *voter != me);
        let asked = others.map(|node| async move {
            let held = self.peers.held(node, keys).await.ok()?;
            Some((node, held))
        });
        let mut held: Answers = join_all(asked).await.into_iter().flatten().collect();
        if self.store.shut().is_none() {
            held.insert(me, keys.iter().map(|key| (*key, self.own(*key))).collect());
        }
        held
    }

    /// What each voter holds of the runs from `from` on, about `limit` attempts; and the
    /// run with which the next page begins, if there is one.
    pub(super) async fn held_from(&self, from: u64, limit: u32) -> (Answers, Option<u64>) {
        let (me, voters) = self.voters();
        let others = voters.into_keys().filter(|voter| *voter != me);
        let asked = others.map(|node| async move {
            let page = self.peers.page(node, from, limit).await.ok()?;
            Some((node, page))
        });
        let mut pages: BTreeMap<_, _> = join_all(asked).await.into_iter().flatten().collect();
        if self.store.shut().is_none() {
            let (page, next) = self.store.page(RunId(from), limit as usize);
            let held = |ranges| Held { ranges, dropped: false };
            let page = page.into_iter().map(|(key, ranges)| (key, held(ranges))).collect();
            pages.insert(me, (page, next.map(|run| run.0)));
        }
        let next = pages.values().filter_map(|(_, next)| *next).min();
        let cut = |(node, (mut page, _)): (_, (BTreeMap<_, _>, _))| {
            if let Some(next) = next {
                drop(page.split_off(&AttemptKey { run: RunId(next), shard: 0, number: 0 }));
            }
            (node, page)
        };
        (pages.into_iter().map(cut).collect(), next)
    }
}

/// All that is held of an attempt by any who answered.
pub(super) fn union(answers: &Answers, key: AttemptKey) -> Ranges {
    let mut all = Ranges::default();
    for held in answers.values().filter_map(|held| held.get(&key)) {
        all.union(&held.ranges);
    }
    all
}
