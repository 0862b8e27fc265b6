//! The replicated machine without Raft: one order of commands, two replicas of
//! the state, and the nodes' clocks.
//!
//! Every command is applied to both replicas, the second of which goes on from
//! a snapshot now and then; they must agree at every index, whoever leads next.

use std::time::Duration;

use horai_core::ids::LeaderId;
use horai_core::machine::command::{Entry, Envelope};
use horai_core::machine::invariants;
use horai_core::machine::outcome::Applied;
use horai_core::machine::snapshot::{Restore, records};
use horai_core::machine::state::{Limits, State};
use horai_core::time::{Span, UtcMillis};
use horai_raft::cluster_clock::{BootTime, ClusterClock, Reading};

use super::rng::mix;
use super::script::{NODES, Scale, Setup};

/// Milliseconds that questions for the time may take; the product takes answers that took
/// up to a second.
const SLOWEST: u64 = 900;

/// What is wrong, for people.
pub(super) type Problem = String;

/// Small, so that every bound is met and each step can be checked as a whole.
pub(super) fn limits(scale: Scale) -> Limits {
    Limits {
        ended: 90,
        ended_per_job: 20,
        requests: 40,
        missed_per_job: 30,
        timers: 40,
        max_wait: Span(u64::try_from(scale.unit() * 200).unwrap()),
        sweep: 2,
        ..Limits::default()
    }
}

/// The state as committed, twice.
pub(super) struct Replicas {
    pub(super) truth: State,
    other: State,
    pub(super) index: u64,
    /// Sums up everything that was committed: equal runs give equal sums.
    pub(super) trace: u64,
}

impl Replicas {
    pub(super) fn new(scale: Scale) -> Self {
        let new = || State::new(limits(scale));
        Self { truth: new(), other: new(), index: 0, trace: 0 }
    }

    pub(super) fn commit(
        &mut self,
        command: &Envelope,
        now: UtcMillis,
    ) -> Result<Applied, Problem> {
        self.index += 1;
        let entry = Entry { index: self.index, now, command };
        let applied = self.truth.apply(entry);
        let again = self.other.apply(entry);
        if applied != again {
            return Err(format!("two replicas answer {command:?} with {applied:?} and {again:?}"));
        }
        let (hash, other) = (self.truth.hash(), self.other.hash());
        if hash != other {
            return Err(format!("two replicas differ after {command:?}"));
        }
        invariants::check(&self.truth).map_err(|e| format!("after {command:?}: {e}"))?;
        self.trace = mix(&[self.trace, u64::try_from(hash >> 64).unwrap()]);
        Ok(applied)
    }

    /// The other replica goes on from a snapshot of the first.
    pub(super) fn restore(&mut self) -> Result<(), Problem> {
        let mut restore = Restore::new(*self.truth.limits());
        for record in records(&self.truth) {
            restore.push(&record).map_err(|e| format!("a snapshot cannot be read: {e}"))?;
        }
        self.other = restore.finish().map_err(|e| format!("a snapshot cannot be taken: {e}"))?;
        invariants::check(&self.other).map_err(|e| format!("in a restored state: {e}"))
    }

    /// The next leader is the node with the other replica.
    pub(super) fn swap(&mut self) {
        std::mem::swap(&mut self.truth, &mut self.other);
    }
}

/// One scheduler node: whether it is there, and its clocks.
pub(super) struct Node {
    pub(super) is_up: bool,
    /// Cut off from the other nodes.
    pub(super) is_alone: bool,
    /// Since it was cut off or stopped it has heard nothing: the last entry that it has.
    pub(super) has: Option<u64>,
    pub(super) clock: ClusterClock,
    /// Its wall clock against true time.
    pub(super) wall_off: i64,
    rate: i64,
}

impl Node {
    fn boot(&self, now: i64) -> BootTime {
        BootTime(Duration::from_millis(elapsed(now, self.rate)))
    }
}

/// What a boot clock counts in true milliseconds, when it is off by so many parts per million.
pub(super) fn elapsed(now: i64, rate: i64) -> u64 {
    u64::try_from(now + now * rate / 1_000_000).unwrap_or(0)
}

/// All nodes.
pub(super) struct Nodes {
    pub(super) of: Vec<Node>,
    start: i64,
    seed: u64,
}

impl Nodes {
    pub(super) fn new(setup: &Setup) -> Self {
        let node = |n: usize| Node {
            is_up: true,
            is_alone: false,
            has: None,
            clock: ClusterClock::new(),
            wall_off: i64::try_from(mix(&[setup.seed, 7, n as u64]) % 900).unwrap() - 450,
            rate: setup.rates[n],
        };
        Self { of: (0..NODES).map(node).collect(), start: setup.start, seed: setup.seed }
    }

    pub(super) fn cluster_now(&self, node: usize, now: i64) -> Option<UtcMillis> {
        let node = &self.of[node];
        Some(node.clock.read(node.boot(now))?.millis())
    }

    pub(super) fn stamp(&mut self, node: usize, now: i64) -> Option<UtcMillis> {
        let node = &mut self.of[node];
        let boot = node.boot(now);
        node.clock.stamp(boot)
    }

    /// What `by` is told by those that it asked some time ago, and who read their clocks
    /// at any time since.
    fn readings(&self, by: usize, now: i64, waited: i64) -> Vec<Reading> {
        let begun = (now - waited).max(0);
        let asked = self.of[by].boot(begun);
        let read = |n: usize| {
            let slow = mix(&[self.seed, n as u64, u64::try_from(now).unwrap()]);
            begun + i64::try_from(slow % u64::try_from(now - begun + 1).unwrap()).unwrap()
        };
        let there = self.of.iter().enumerate().filter(|(_, node)| node.is_up && !node.is_alone);
        // The answer of a quick question may be slow.
        let answered = |n: usize| (read(n) + now) / 2;
        let reading = |(n, node): (usize, &Node)| Reading {
            node: horai_core::ids::NodeId(n as u64 + 1),
            asked,
            answered: self.of[by].boot(if n == by { begun } else { answered(n) }),
            wall: UtcMillis(self.start + if n == by { begun } else { read(n) } + node.wall_off),
            cluster: node.clock.read(node.boot(now)),
        };
        there.map(reading).collect()
    }

    pub(super) fn can_lead(&self, node: usize) -> bool {
        self.of[node].is_up && !self.of[node].is_alone
    }

    /// The last entry that a node has, as far as others can know.
    pub(super) fn has(&self, node: usize) -> u64 {
        self.of[node].has.unwrap_or(u64::MAX)
    }

    /// The leader's messages reach the nodes that can be reached, and its readings of
    /// their wall clocks come back.
    pub(super) fn contact(&mut self, leader: LeaderId, from: usize, now: i64) {
        let readings = self.readings(from, now, 0);
        let boot = self.of[from].boot(now);
        self.of[from].clock.observe(&readings, NODES, boot);
        let Some(told) = self.of[from].clock.read(boot) else { return };
        for n in (0..NODES).filter(|n| *n != from) {
            if self.can_lead(n) {
                self.of[n].has = None;
                let boot = self.of[n].boot(now);
                self.of[n].clock.learn(leader, told, Some(Duration::ZERO), boot);
            }
        }
    }

    /// A node begins to lead. After a full stop it may need an operator for the time.
    pub(super) fn lead(
        &mut self,
        me: LeaderId,
        node: usize,
        committed: UtcMillis,
        now: i64,
    ) -> Result<(), Problem> {
        let boot = self.of[node].boot(now);
        self.of[node].has = None;
        self.of[node].clock.lead(me, committed, boot);
        self.establish(me, node, committed, now, false)
    }

    /// It has all answers after up to [`SLOWEST`], or at once. Whatever they waited for,
    /// they put cluster time ahead of no wall clock.
    pub(super) fn establish(
        &mut self,
        me: LeaderId,
        node: usize,
        committed: UtcMillis,
        now: i64,
        confirm: bool,
    ) -> Result<(), Problem> {
        let drawn = mix(&[self.seed, 11, u64::try_from(now).unwrap()]);
        let waited =
            if drawn.is_multiple_of(3) { 0 } else { i64::try_from(drawn % SLOWEST).unwrap() };
        let (readings, boot) = (self.readings(node, now, waited), self.of[node].boot(now));
        let is_kept = readings.iter().any(|reading| reading.cluster.is_some());
        let there = self.of.iter().filter(|node| node.is_up && !node.is_alone);
        let ahead = there.map(|node| self.start + now + node.wall_off).max();
        let clock = &mut self.of[node].clock;
        match clock.establish(me, &readings, NODES, committed, boot) {
            Err(_) if confirm => {
                let time = UtcMillis(self.start + now).max(committed);
                clock.confirm(time, committed, boot).expect("time is missing, and not set back");
            }
            Err(_) => {}
            Ok(_) => {
                let set = clock.read(boot).map(|time| time.millis());
                let most = ahead.map(UtcMillis).max(Some(committed));
                if !is_kept && set > most {
                    return Err(format!(
                        "cluster time begins at {set:?}, and no clock is beyond {most:?}"
                    ));
                }
            }
        }
        Ok(())
    }
}
