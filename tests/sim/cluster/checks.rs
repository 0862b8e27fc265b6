//! What must hold whatever goes wrong, looked at after every millisecond.
//!
//! Everything here is read from outside, through the nodes' own read access and
//! their disks: nothing is asked of a node that could answer wrongly about itself
//! without the others' answers showing it.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use horai_core::machine::invariants;
use horai_core::machine::state::State;
use horai_raft::disk::{Disk, Space};
use horai_raft::{Leadership, entry};

use super::node::Place;
use crate::world::{EPOCH, World};

/// Between two looks at all of a state, in milliseconds: it costs as much as the
/// state is large.
const THOROUGH: u64 = 2_000;
/// Between two looks at a node that has not moved.
const OFTEN: u64 = 20;
/// Cluster time is never further from the truth than this, in milliseconds, where no
/// clock is tampered with.
const FAR_OFF: u64 = 1_500;
/// Entries and hashes remembered.
const KEPT: usize = 50_000;

/// What has been seen so far.
#[derive(Default)]
pub(crate) struct Checks {
    /// Which process led as (term, node).
    leaders: BTreeMap<(u64, u64), (String, u64)>,
    /// The state's hash after an index, and who had it first.
    hashes: BTreeMap<u64, (u128, String)>,
    /// The sum of a committed entry, and who had it first.
    entries: BTreeMap<u64, (u32, String)>,
    /// Of each store: the highest index looked at, and its term and vote.
    seen: BTreeMap<u128, Seen>,
    /// The highest index that anybody has applied.
    pub(crate) applied: u64,
    /// Leaderships seen.
    pub(crate) terms: usize,
    /// Nobody sets a wall clock or stops a boot clock.
    clocks_are_right: bool,
}

#[derive(Default, Clone)]
struct Seen {
    process: u64,
    applied: u64,
    term: u64,
    state: (u64, u128),
    leadership: Leadership,
}

impl Checks {
    /// Cluster time is compared with the truth only if no clock is tampered with.
    pub(crate) fn new(clocks_are_right: bool) -> Self {
        Self { clocks_are_right, ..Self::default() }
    }

    /// Looks at one node; `process` numbers the processes of its place.
    ///
    /// # Errors
    /// What does not hold.
    pub(crate) fn look(
        &mut self,
        world: &World,
        place: &Place,
        process: u64,
    ) -> Result<(), String> {
        let Some(node) = place.live().and_then(|live| live.node.upgrade()) else { return Ok(()) };
        let name = &place.name;
        let (index, hash) = node.read(|state| (state.applied_index(), state.hash()));
        let leadership = *node.leadership().borrow();
        let before = self.seen.entry(place.store.as_u128()).or_default();
        let is_new = (before.process, before.state, before.leadership)
            != (process, (index, hash), leadership);
        // Looking at the rest costs more than a millisecond of the node.
        if !is_new && !world.now().is_multiple_of(OFTEN) {
            return Ok(());
        }
        let status = node.status();
        if let Some(told) = node.cluster_now().filter(|_| self.clocks_are_right) {
            let truth = EPOCH.saturating_add_unsigned(world.now());
            if told.0.abs_diff(truth) > FAR_OFF {
                return Err(format!("{name}: cluster time is {} ms off", told.0 - truth));
            }
        }
        let seen = self.seen.entry(place.store.as_u128()).or_default();
        if status.term < seen.term {
            return Err(format!("{name}: term went from {} back to {}", seen.term, status.term));
        }
        if seen.process == process && status.applied < seen.applied {
            let (was, is) = (seen.applied, status.applied);
            return Err(format!("{name}: applied went from {was} back to {is}"));
        }
        let from = if seen.process == process { seen.applied } else { 0 };
        let old = std::mem::replace(
            seen,
            Seen {
                process,
                applied: status.applied,
                term: status.term,
                state: (index, hash),
                leadership,
            },
        );
        if let Some(own) = status.leadership.own {
            let key = (own.term, own.node.0);
            let me = (name.clone(), process);
            let first = self.leaders.entry(key).or_insert_with(|| {
                world.trace.event(format_args!("{} leads {name} {own}", world.now()));
                me.clone()
            });
            if *first != me {
                return Err(format!("{me:?} leads as {own}, and {first:?} did"));
            }
            self.terms = self.leaders.len();
        }
        if status.applied > self.applied {
            self.applied = status.applied;
        }
        if status.applied > from || old.process != process {
            self.committed(place, from, status.applied)?;
        }
        if old.state != (index, hash) {
            self.same_state(name, index, hash)?;
        }
        if world.now().is_multiple_of(THOROUGH) {
            node.read(|state: &State| invariants::check(state))
                .map_err(|e| format!("{name}: {e}"))?;
        }
        Ok(())
    }

    /// Entries up to what is applied are the same on all disks.
    fn committed(&mut self, place: &Place, from: u64, to: u64) -> Result<(), String> {
        let mut sums: BTreeMap<u64, u32> = BTreeMap::new();
        let (first, end) = (entry::key(from + 1, 0), entry::key(to + 1, 0));
        let scanned = place.disks.log.scan(Space::Log, &first, Some(&end), &mut |key, value| {
            if let Some((index, _)) = entry::parse_key(key) {
                let sum = sums.entry(index).or_default();
                *sum = crc32c::crc32c_append(*sum, value);
            }
            ControlFlow::Continue(())
        });
        if scanned.is_err() {
            // A disk that fails on purpose says nothing.
            return Ok(());
        }
        for (index, sum) in sums {
            let (known, who) =
                self.entries.entry(index).or_insert_with(|| (sum, place.name.clone()));
            if *known != sum {
                return Err(format!("entry {index} of {} differs from {who}'s", place.name));
            }
        }
        while self.entries.len() > KEPT {
            self.entries.pop_first();
        }
        Ok(())
    }

    fn same_state(&mut self, name: &str, index: u64, hash: u128) -> Result<(), String> {
        let (known, who) = self.hashes.entry(index).or_insert_with(|| (hash, name.to_owned()));
        if *known != hash {
            return Err(format!("the state of {name} after entry {index} differs from {who}'s"));
        }
        while self.hashes.len() > KEPT {
            self.hashes.pop_first();
        }
        Ok(())
    }
}
