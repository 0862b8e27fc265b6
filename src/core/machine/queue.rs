//! Runs that may be dispatched, in the order in which they should be: reading only. What
//! has a place in the queue is decided where the index is written.

use std::ops::Bound;

use super::index::QueueKey;
use super::state::State;
use crate::ids::{Name, RunId};
use crate::time::UtcMillis;

impl State {
    /// Runs of a worker group that may be dispatched, first to go first.
    pub fn queue(&self, group: &Name) -> impl Iterator<Item = RunId> {
        let from = QueueKey::first_of(group.clone());
        let group = group.clone();
        self.index.queue.range(from..).take_while(move |key| key.group == group).map(|key| key.run)
    }

    /// The same queue as lanes that only time orders: those of what is due now
    /// before those of what is late, and the highest priority first.
    #[must_use]
    pub fn queue_lanes(
        &self,
        group: &Name,
    ) -> Vec<QueueLane<impl Iterator<Item = (RunId, UtcMillis)>>> {
        let mut lanes = Vec::new();
        if self.frozen().is_some() {
            return lanes;
        }
        let mut from = Bound::Included(QueueKey::first_of(group.clone()));
        while let Some(first) = self.index.queue.range((from, Bound::Unbounded)).next() {
            if first.group != *group {
                break;
            }
            let last = first.last_of_lane();
            let runs = self.index.queue.range(first.clone()..=last.clone());
            lanes.push(QueueLane {
                catch_up: first.catch_up,
                priority: first.priority.0,
                runs: runs.map(|key| (key.run, key.ready_at)),
            });
            from = Bound::Excluded(last);
        }
        lanes
    }

    /// Worker groups for which runs wait.
    #[must_use]
    pub fn queued_groups(&self) -> Vec<Name> {
        let mut groups: Vec<Name> = Vec::new();
        let mut next = self.index.queue.get_min();
        while let Some(key) = next {
            groups.push(key.group.clone());
            let last = QueueKey::last_of(key.group.clone());
            next = self.index.queue.range((Bound::Excluded(last), Bound::Unbounded)).next();
        }
        groups
    }

    /// How many runs may be dispatched.
    #[must_use]
    pub fn queue_len(&self) -> usize {
        self.index.queue.len()
    }
}

/// Waiting runs of one worker group that only time orders.
#[derive(Debug, Clone)]
pub struct QueueLane<I> {
    /// Behind what is due now.
    pub catch_up: bool,
    /// 9 goes first.
    pub priority: u8,
    /// Runs and when they might have been dispatched, the longest-waiting first.
    pub runs: I,
}
