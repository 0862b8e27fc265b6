//! The queue of runs that may be dispatched: how it is kept, and how it is read.
//!
//! Runs of a worker group that ask for the same, of pools and of their worker, stand
//! in one line. Whether its first run fits decides it for all behind it: so a full
//! pool, or a label that no worker has, costs one look, however many wait for it, and
//! holds up no other line. The other way, to keep runs that wait for a full pool
//! apart, would move them back and forth as it fills and empties, and of those that
//! need several pools it would depend on the past who stands where. Here a run's
//! place follows from the run alone, nobody moves when a pool or a worker changes,
//! and each step is O(log n). Who reads looks at each line once: there are as many as
//! there are different demands.
//!
//! Nothing here asks whether a demand can be met: that is [`crate::placement`]'s.

use std::cmp::Reverse;
use std::ops::Bound;

use imbl::{OrdMap, OrdSet};

use super::state::State;
use crate::ids::{Name, RunId};
use crate::model::demand::Demand;
use crate::model::job::JobSpec;
use crate::model::run::Run;
use crate::time::UtcMillis;

/// Order within a line: what is due now, priority, time, number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    catch_up: bool,
    priority: Reverse<u8>,
    ready_at: UtcMillis,
    run: RunId,
}

impl Rank {
    /// Behind every run of this class and priority.
    fn last_of_lane(self) -> Self {
        Self { ready_at: UtcMillis::MAX, run: RunId(u64::MAX), ..self }
    }
}

/// A run's place in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    group: Name,
    pub(super) demand: Demand,
    rank: Rank,
}

impl Place {
    pub(super) fn of(run: &Run, spec: &JobSpec) -> Self {
        Self {
            group: spec.worker_group.clone(),
            demand: Demand::of(spec, run),
            rank: Rank {
                catch_up: run.catch_up,
                priority: Reverse(run.priority),
                ready_at: run.ready_at,
                run: run.id,
            },
        }
    }
}

/// Runs of one group that ask for the same thing.
type Line = OrdSet<Rank>;

/// See the module. Neither a group nor a line is ever empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Queue {
    groups: OrdMap<Name, OrdMap<Demand, Line>>,
    len: usize,
}

impl Queue {
    /// One of its runs, if there are any.
    pub(super) fn any(&self) -> Option<RunId> {
        Some(self.groups.values().next()?.values().next()?.get_min()?.run)
    }

    pub(super) fn insert(&mut self, place: Place) {
        let lines = self.groups.entry(place.group).or_default();
        if lines.entry(place.demand).or_default().insert(place.rank).is_none() {
            self.len += 1;
        }
    }

    pub(super) fn remove(&mut self, place: &Place) {
        let Some(lines) = self.groups.get_mut(&place.group) else { return };
        let Some(line) = lines.get_mut(&place.demand) else { return };
        if line.remove(&place.rank).is_none() {
            return;
        }
        self.len -= 1;
        if line.is_empty() {
            lines.remove(&place.demand);
            if lines.is_empty() {
                self.groups.remove(&place.group);
            }
        }
    }
}

/// Waiting runs of one worker group and one demand that only time orders.
#[derive(Debug, Clone)]
pub struct QueueLane<I> {
    /// Behind what is due now.
    pub catch_up: bool,
    /// 9 goes first.
    pub priority: u8,
    /// What each of them asks for.
    pub demand: Demand,
    /// Runs and when they might have been dispatched, the longest-waiting first.
    pub runs: I,
}

impl<I> QueueLane<I> {
    /// What orders lanes: what is due now before what is late, and the highest
    /// priority first. Lanes of one class differ in their demands only.
    #[must_use]
    pub fn class(&self) -> (bool, Reverse<u8>) {
        (self.catch_up, Reverse(self.priority))
    }
}

/// Lines of a worker group, cut into lanes.
#[derive(Debug, Clone)]
pub struct Lanes<I> {
    /// In the order of their [`QueueLane::class`].
    pub lanes: Vec<QueueLane<I>>,
    /// The last line that is among them, unless all are: where to go on.
    pub cut: Option<Demand>,
}

impl State {
    /// Runs of a worker group that may be dispatched as far as their demands let them,
    /// first to go first.
    pub fn queue(&self, group: &Name) -> impl Iterator<Item = RunId> {
        let lines = self.index.queue.groups.get(group).into_iter().flat_map(OrdMap::values);
        let mut lines: Vec<_> = lines.map(|line| line.iter().peekable()).collect();
        std::iter::from_fn(move || {
            let first = lines.iter_mut().filter_map(|line| Some((*line.peek()?, line)));
            let (_, line) = first.min_by_key(|(rank, _)| *rank)?;
            line.next().map(|rank| rank.run)
        })
    }

    /// The same queue in lanes: those of at most so many lines, first of those behind
    /// `from`, then of the others.
    #[must_use]
    pub fn queue_lanes<'a>(
        &'a self,
        group: &Name,
        from: Option<&Demand>,
        most: usize,
    ) -> Lanes<impl Iterator<Item = (RunId, UtcMillis)> + use<'a>> {
        let (mut lanes, mut cut) = (Vec::new(), None::<&Demand>);
        let lines = self.index.queue.groups.get(group).filter(|_| self.frozen().is_none());
        let Some(lines) = lines else { return Lanes { lanes, cut: None } };
        let begin = from.map_or(Bound::Unbounded, |from| Bound::Excluded(from.clone()));
        let after = lines.range((begin, Bound::Unbounded));
        let before = from.map(|from| lines.range(..=from.clone()));
        for (demand, line) in after.chain(before.into_iter().flatten()).take(most) {
            let mut next = line.get_min();
            while let Some(first) = next {
                let last = first.last_of_lane();
                lanes.push(QueueLane {
                    catch_up: first.catch_up,
                    priority: first.priority.0,
                    demand: demand.clone(),
                    runs: line.range(*first..=last).map(|rank| (rank.run, rank.ready_at)),
                });
                next = line.range((Bound::Excluded(last), Bound::Unbounded)).next();
            }
            cut = Some(demand);
        }
        lanes.sort_by_key(QueueLane::class);
        Lanes { lanes, cut: cut.filter(|_| lines.len() > most).cloned() }
    }

    /// Runs of a worker group that wait to be split over all of its workers, as far as
    /// nothing holds them, with what they ask for.
    pub fn to_split<'a>(
        &'a self,
        group: &Name,
    ) -> impl Iterator<Item = (RunId, &'a Demand)> + use<'a> {
        let lines = self.index.queue.groups.get(group).filter(|_| self.frozen().is_none());
        let lines = lines.into_iter().flat_map(|lines| lines.range(Demand::for_all(None)..));
        let lines = lines.take_while(|(demand, _)| demand.is_for_all());
        let runs = lines.flat_map(|(demand, line)| line.iter().map(move |rank| (rank.run, demand)));
        runs.filter(|(run, _)| !self.is_queued_in_vain(*run))
    }

    /// Worker groups for which runs wait.
    #[must_use]
    pub fn queued_groups(&self) -> Vec<Name> {
        self.index.queue.groups.keys().cloned().collect()
    }

    /// How many runs of a worker group may be dispatched, as far as their demands let them.
    #[must_use]
    pub fn queued_in(&self, group: &Name) -> usize {
        self.index.queue.groups.get(group).into_iter().flat_map(OrdMap::values).map(Line::len).sum()
    }

    /// How many runs may be dispatched, as far as their demands let them.
    #[must_use]
    pub fn queue_len(&self) -> usize {
        self.index.queue.len
    }
}
