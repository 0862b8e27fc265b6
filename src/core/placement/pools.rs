//! May a run go, as far as pools are concerned? In the order of the queue: what a
//! run lacks is kept for it, so that a run that takes several slots gets them one
//! day, though others that take fewer come and go all the time.

use std::collections::BTreeSet;

use crate::ids::{Name, RunId};
use crate::machine::queue::QueueLane;
use crate::machine::state::State;
use crate::model::demand::Demand;

/// Pools that are kept for runs which were asked about before and did not fit.
#[derive(Debug, Default)]
pub struct Claims {
    kept: BTreeSet<Name>,
}

impl Claims {
    /// True if a run with that demand may go. If not, nobody who is asked about later
    /// gets slots of the pools that it lacks. `reserved` are slots of dispatches that
    /// are proposed and not committed yet.
    pub fn fits(
        &mut self,
        state: &State,
        demand: &Demand,
        reserved: &dyn Fn(&Name) -> u32,
    ) -> bool {
        let lacks = |name: &Name, slots: u32| {
            self.kept.contains(name) || state.pool_free(name) < slots.saturating_add(reserved(name))
        };
        let lacking = demand.pools().filter(|(name, slots)| lacks(name, *slots));
        let lacking: Vec<Name> = lacking.map(|(name, _)| name.clone()).collect();
        let fits = lacking.is_empty();
        self.kept.extend(lacking);
        fits
    }
}

/// True if what a run takes of pools is not there, whoever is before it.
#[must_use]
pub fn is_full(state: &State, demand: &Demand) -> bool {
    demand.pools().any(|(name, slots)| state.pool_free(name) < slots)
}

/// The first run of a worker group that pools let go, of those whose demand `counts`.
#[must_use]
pub fn first_to_go(state: &State, group: &Name, counts: &dyn Fn(&Demand) -> bool) -> Option<RunId> {
    let lanes = state.queue_lanes(group, None, usize::MAX).lanes.into_iter();
    let lanes = lanes.filter(|lane| counts(&lane.demand));
    let head = |mut lane: QueueLane<_>| {
        let (run, ready_at) = Iterator::next(&mut lane.runs)?;
        Some((lane.class(), ready_at, run, lane.demand))
    };
    let mut heads: Vec<_> = lanes.filter_map(head).collect();
    heads.sort_unstable();
    let mut claims = Claims::default();
    heads
        .into_iter()
        .find(|(.., demand)| claims.fits(state, demand, &|_| 0))
        .map(|(_, _, run, _)| run)
}
