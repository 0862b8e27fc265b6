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

/// What of `all` is missing at more than `most` nodes, given what each of them misses.
pub(super) fn missing_at_more_than(
    most: usize,
    all: &Ranges,
    missing: impl IntoIterator<Item = Ranges>,
) -> Ranges {
    // What so many of the nodes seen so far miss, or more.
    let mut at_least = vec![Ranges::default(); most + 2];
    at_least[0] = all.clone();
    for missing in missing {
        for count in (1..at_least.len()).rev() {
            let fewer = &at_least[count - 1];
            let too = fewer.minus(&fewer.minus(&missing));
            at_least[count].union(&too);
        }
    }
    at_least.pop().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_too_many_nodes_miss_is_counted_byte_by_byte() {
        let all = Ranges::of(0, 100);
        let missing = || [Ranges::of(0, 50), Ranges::of(40, 60), Ranges::of(45, 100)];
        let told = |most, all: &Ranges| -> Vec<_> {
            let told = missing_at_more_than(most, all, missing());
            told.iter().map(|range| (range.start, range.end)).collect()
        };
        assert_eq!(told(0, &all), [(0, 100)]);
        assert_eq!(told(1, &all), [(40, 60)]);
        assert_eq!(told(2, &all), [(45, 50)]);
        assert!(told(3, &all).is_empty());
        assert_eq!(told(1, &Ranges::of(55, 70)), [(55, 60)]);
    }
}
