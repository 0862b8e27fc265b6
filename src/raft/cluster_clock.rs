//! Cluster time: what the leader stamps into entries, and how every node keeps it.
//!
//! It is not wall time. The leader counts on from the time that the leader
//! before it had, by its own boot clock, and leans by at most one per cent
//! towards the median of a quorum's wall clocks: a clock that jumps on one
//! machine, the leader's included, fires nothing early and nothing twice.
//! Nothing here reads a clock or waits: readings are handed in, so that every
//! rule can be tested with any clocks. Whatever the clocks say, no election is
//! ever held up; disagreement is an [`Alarm`] for a person.

use std::collections::BTreeSet;
use std::time::Duration;

use horai_core::ids::{LeaderId, NodeId};
use horai_core::time::UtcMillis;

const NANOS_PER_MILLI: i64 = 1_000_000;

/// Corrections are at most one part in this of the time that passes.
const SLEW: i64 = 100;

/// A node without the time takes it from messages that are no older than this.
const FRESH: i64 = 1_000 * NANOS_PER_MILLI;

/// Wall clocks further apart than this do not agree.
pub const AGREEMENT: Duration = Duration::from_secs(2);

/// A reading of the machine's boot clock, which counts through suspension and
/// is never set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootTime(pub Duration);

/// Cluster time in nanoseconds since 1970: finer than the milliseconds that
/// are stamped, so that slewing loses nothing by rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClusterNanos(pub i64);

impl ClusterNanos {
    /// The instant, as stamped.
    #[must_use]
    pub fn millis(self) -> UtcMillis {
        UtcMillis(self.0.div_euclid(NANOS_PER_MILLI))
    }
}

impl From<UtcMillis> for ClusterNanos {
    fn from(at: UtcMillis) -> Self {
        Self(at.0.saturating_mul(NANOS_PER_MILLI))
    }
}

/// What one voter says of its clocks, moved to the instant it is handed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Who says it.
    pub node: NodeId,
    /// Its wall clock.
    pub wall: UtcMillis,
    /// Cluster time as it has kept it; `None` if it never heard a leader since it started.
    pub cluster: Option<ClusterNanos>,
}

/// Something about the clocks that a person should look at. None of it stops
/// the cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Alarm {
    /// Cluster time and the quorum's median are apart.
    #[error(
        "cluster time is {by_ms} ms from the voters' median wall clock and leans back to it by 1 %: check time synchronisation"
    )]
    Drift {
        /// Median minus cluster time.
        by_ms: i64,
    },
    /// One node's wall clock is off.
    #[error(
        "the wall clock of node {node} is {by_ms} ms from the voters' median: check its time synchronisation"
    )]
    NodeOff {
        /// Which.
        node: NodeId,
        /// Its wall clock minus the median.
        by_ms: i64,
    },
    /// Wall clocks say less than what is committed already.
    #[error(
        "the voters' wall clocks are {by_ms} ms behind committed cluster time, which goes on from where it was: set the clocks"
    )]
    BehindCommitted {
        /// How far.
        by_ms: i64,
    },
}

/// Why there is no cluster time, or none can be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Too few voters have told their clocks.
    #[error("{have} of {need} voters needed have told their clocks: start the others")]
    TooFew {
        /// So many have.
        have: usize,
        /// So many are needed.
        need: usize,
    },
    /// No quorum of wall clocks agrees.
    #[error(
        "no {need} wall clocks agree within 2 s (closest: {closest_ms} ms): set the clocks, or confirm the time by hand"
    )]
    Disagree {
        /// So many must.
        need: usize,
        /// Spread of the closest quorum.
        closest_ms: i64,
    },
    /// There is a cluster time: it is not set anew, it leans.
    #[error("the cluster has a time already ({0}); it leans towards the wall clocks by itself")]
    HasTime(UtcMillis),
    /// An operator's time lies before what is committed.
    #[error("{confirmed} is before committed cluster time {floor}: time does not go back")]
    BeforeCommitted {
        /// What was confirmed.
        confirmed: UtcMillis,
        /// What is committed.
        floor: UtcMillis,
    },
}

/// `at` cluster time when the boot clock read `boot`; `error` is still to be
/// worked off.
#[derive(Debug, Clone, Copy)]
struct Anchor {
    at: i64,
    boot: BootTime,
    error: i64,
}

impl Anchor {
    fn read(&self, boot: BootTime) -> i64 {
        let elapsed = boot.0.saturating_sub(self.boot.0).as_nanos();
        let elapsed = i64::try_from(elapsed).unwrap_or(i64::MAX);
        let most = elapsed / SLEW;
        self.at.saturating_add(elapsed).saturating_add(self.error.clamp(-most, most))
    }
}

/// One node's cluster clock.
#[derive(Debug, Clone, Default)]
pub struct ClusterClock {
    anchor: Option<Anchor>,
    /// The newest leader heard: an older one's time is not taken.
    leader: LeaderId,
    /// The highest stamp given; two threads may hand in boot readings out of order.
    stamped: i64,
}

impl ClusterClock {
    /// A clock that knows nothing yet: after a start of the process.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Cluster time now, if it is known.
    #[must_use]
    pub fn read(&self, boot: BootTime) -> Option<ClusterNanos> {
        self.anchor.map(|a| ClusterNanos(a.read(boot)))
    }

    /// The newest leader whose time was taken.
    #[must_use]
    pub fn leader(&self) -> LeaderId {
        self.leader
    }

    /// Takes the time out of a leader's message, which is at most so old, if that is
    /// known.
    ///
    /// A message can only be late, so a higher time is taken at once. The leader's
    /// time is at most the one told and the message's age: a node that was cut off
    /// may have leant the other way for long, and cluster time would step if it led
    /// next. What is left is leant towards. A message that waited while this node or
    /// the network stood still says nothing to one that has kept the time, and sets
    /// none: everybody would follow a node that led with it.
    pub fn learn(
        &mut self,
        leader: LeaderId,
        told: ClusterNanos,
        age: Option<Duration>,
        boot: BootTime,
    ) {
        if leader < self.leader {
            return;
        }
        if leader > self.leader {
            // What this node stamped before and was committed, its state knows.
            self.stamped = 0;
        }
        self.leader = leader;
        let age = age.map(|age| i64::try_from(age.as_nanos()).unwrap_or(i64::MAX));
        let (at, error) = match self.read(boot) {
            Some(ClusterNanos(mine)) => {
                let most = age.map_or(i64::MAX, |age| told.0.saturating_add(age));
                let at = mine.min(most).max(told.0);
                (at, told.0.saturating_sub(at))
            }
            None if age.is_some_and(|age| age <= FRESH) => (told.0, 0),
            None => return,
        };
        self.anchor = Some(Anchor { at, boot, error });
    }

    /// This node leads from now on, and continues. `committed` is the highest
    /// stamp in its state: never less than that again.
    pub fn lead(&mut self, me: LeaderId, committed: UtcMillis, boot: BootTime) {
        self.leader = self.leader.max(me);
        if let Some(ClusterNanos(mine)) = self.read(boot) {
            let at = mine.max(ClusterNanos::from(committed).0);
            self.anchor = Some(Anchor { at, boot, error: 0 });
        }
    }

    /// The leader's stamp for an entry; `None` while there is no cluster time.
    pub fn stamp(&mut self, boot: BootTime) -> Option<UtcMillis> {
        let ClusterNanos(now) = self.read(boot)?;
        self.stamped = self.stamped.max(now);
        Some(ClusterNanos(self.stamped).millis())
    }

    /// The leader hears the voters' wall clocks, its own among them, and leans
    /// towards their median. With less than a quorum nothing changes.
    pub fn observe(&mut self, readings: &[Reading], voters: usize, boot: BootTime) -> Vec<Alarm> {
        let readings = one_per_node(readings);
        let Some(ClusterNanos(mine)) = self.read(boot) else { return Vec::new() };
        if readings.len() < quorum(voters) {
            return Vec::new();
        }
        let middle = median(&readings);
        let error = ClusterNanos::from(middle).0.saturating_sub(mine);
        self.anchor = Some(Anchor { at: mine, boot, error });
        let mut alarms = Vec::new();
        let by_ms = error / NANOS_PER_MILLI;
        if by_ms.unsigned_abs() > agreement_ms() {
            alarms.push(Alarm::Drift { by_ms });
        }
        for reading in readings {
            let by_ms = reading.wall.0.saturating_sub(middle.0);
            if by_ms.unsigned_abs() > agreement_ms() {
                alarms.push(Alarm::NodeOff { node: reading.node, by_ms });
            }
        }
        alarms
    }

    /// A leader that has no time gets one. From a voter that has kept it, if
    /// there is one; else everything was down, and a quorum's wall clocks that
    /// agree within [`AGREEMENT`] set it, not before `committed`.
    ///
    /// # Errors
    /// [`Error::TooFew`] or [`Error::Disagree`]; nothing has changed then.
    pub fn establish(
        &mut self,
        readings: &[Reading],
        voters: usize,
        committed: UtcMillis,
        boot: BootTime,
    ) -> Result<Option<Alarm>, Error> {
        if self.anchor.is_some() {
            return Ok(None);
        }
        let readings = one_per_node(readings);
        let need = quorum(voters);
        let floor = ClusterNanos::from(committed).0;
        if let Some(ClusterNanos(kept)) = readings.iter().filter_map(|r| r.cluster).max() {
            self.anchor = Some(Anchor { at: kept.max(floor), boot, error: 0 });
            return Ok(None);
        }
        if readings.len() < need {
            return Err(Error::TooFew { have: readings.len(), need });
        }
        let mut walls: Vec<i64> = readings.iter().map(|r| r.wall.0).collect();
        walls.sort_unstable();
        let closest = walls
            .windows(need)
            .filter_map(|w| Some((w.last()?.saturating_sub(*w.first()?), w)))
            .min_by_key(|(spread, _)| *spread);
        let Some((closest_ms, agreed)) = closest else {
            return Err(Error::TooFew { have: walls.len(), need });
        };
        if closest_ms.unsigned_abs() > agreement_ms() {
            return Err(Error::Disagree { need, closest_ms });
        }
        let middle = ClusterNanos::from(UtcMillis(agreed[agreed.len() / 2])).0;
        let behind_ms = floor.saturating_sub(middle) / NANOS_PER_MILLI;
        self.anchor = Some(Anchor { at: middle.max(floor), boot, error: 0 });
        Ok((behind_ms > 0).then_some(Alarm::BehindCommitted { by_ms: behind_ms }))
    }

    /// An operator vouches for the time after a full stop, where wall clocks
    /// do not agree.
    ///
    /// # Errors
    /// [`Error::HasTime`] if there is one; [`Error::BeforeCommitted`] if it would go back.
    pub fn confirm(
        &mut self,
        confirmed: UtcMillis,
        committed: UtcMillis,
        boot: BootTime,
    ) -> Result<(), Error> {
        if let Some(now) = self.read(boot) {
            return Err(Error::HasTime(now.millis()));
        }
        if confirmed < committed {
            return Err(Error::BeforeCommitted { confirmed, floor: committed });
        }
        self.anchor = Some(Anchor { at: ClusterNanos::from(confirmed).0, boot, error: 0 });
        Ok(())
    }
}

fn agreement_ms() -> u64 {
    u64::try_from(AGREEMENT.as_millis()).unwrap_or(u64::MAX)
}

fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

/// A node counts once, however often it was asked.
fn one_per_node(readings: &[Reading]) -> Vec<Reading> {
    let mut seen = BTreeSet::new();
    readings.iter().filter(|r| seen.insert(r.node)).copied().collect()
}

/// The lower middle; zero readings have none, and callers have a quorum.
fn median(readings: &[Reading]) -> UtcMillis {
    let mut walls: Vec<UtcMillis> = readings.iter().map(|r| r.wall).collect();
    walls.sort_unstable();
    walls.get(walls.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const T0: i64 = 1_790_000_000_000;
    const AT_ONCE: Option<Duration> = Some(Duration::ZERO);
    const FRESHEST: Duration = Duration::from_millis(3);

    fn boot(ms: u64) -> BootTime {
        BootTime(Duration::from_millis(ms))
    }

    fn reading(node: u64, wall: i64) -> Reading {
        Reading { node: NodeId(node), wall: UtcMillis(wall), cluster: None }
    }

    fn leader(term: u64, node: u64) -> LeaderId {
        LeaderId { term, node: NodeId(node) }
    }

    fn running(at: i64) -> ClusterClock {
        let mut clock = ClusterClock::new();
        clock.confirm(UtcMillis(at), UtcMillis(0), boot(0)).unwrap();
        clock
    }

    #[test]
    fn base_needs_a_quorum_that_agrees() {
        let mut clock = ClusterClock::new();
        let floor = UtcMillis(T0 - 50_000);
        let none = clock.establish(&[reading(1, T0), reading(1, T0)], 3, floor, boot(0));
        assert_eq!(none, Err(Error::TooFew { have: 1, need: 2 }));
        let apart = [reading(1, T0), reading(2, T0 + 2_001)];
        let refused = clock.establish(&apart, 3, floor, boot(0));
        assert_eq!(refused, Err(Error::Disagree { need: 2, closest_ms: 2_001 }));
        assert_eq!(clock.stamp(boot(5)), None);
        let two_agree = [reading(1, T0), reading(2, T0 + 900_000), reading(3, T0 + 1_500)];
        assert_eq!(clock.establish(&two_agree, 3, floor, boot(0)), Ok(None));
        assert_eq!(clock.stamp(boot(5)), Some(UtcMillis(T0 + 1_505)));
    }

    #[test]
    fn a_voter_that_kept_the_time_wins_over_wall_clocks() {
        let mut clock = ClusterClock::new();
        let kept = Reading { cluster: Some(UtcMillis(T0 + 7).into()), ..reading(2, T0 + 99_000) };
        clock.establish(&[reading(1, T0 + 99_000), kept], 3, UtcMillis(T0), boot(0)).unwrap();
        assert_eq!(clock.stamp(boot(0)), Some(UtcMillis(T0 + 7)));
    }

    #[test]
    fn committed_time_is_a_floor() {
        let mut clock = ClusterClock::new();
        let alarm = clock
            .establish(&[reading(1, T0), reading(2, T0)], 3, UtcMillis(T0 + 60_000), boot(0))
            .unwrap();
        assert_eq!(alarm, Some(Alarm::BehindCommitted { by_ms: 60_000 }));
        assert_eq!(clock.stamp(boot(0)), Some(UtcMillis(T0 + 60_000)));
        let mut other = running(T0);
        other.lead(leader(2, 1), UtcMillis(T0 + 5_000), boot(10));
        assert_eq!(other.stamp(boot(10)), Some(UtcMillis(T0 + 5_000)));
    }

    #[test]
    fn an_operator_sets_time_only_where_there_is_none() {
        let mut clock = ClusterClock::new();
        let early = clock.confirm(UtcMillis(T0), UtcMillis(T0 + 1), boot(0));
        assert!(matches!(early, Err(Error::BeforeCommitted { .. })), "{early:?}");
        clock.confirm(UtcMillis(T0), UtcMillis(T0), boot(0)).unwrap();
        let again = clock.confirm(UtcMillis(T0 + 9), UtcMillis(T0), boot(3));
        assert_eq!(again, Err(Error::HasTime(UtcMillis(T0 + 3))));
    }

    #[test]
    fn a_clock_that_is_off_raises_an_alarm_and_moves_nobody() {
        let mut clock = running(T0);
        let readings = [reading(1, T0), reading(2, T0 + 1), reading(3, T0 + 3_600_000)];
        let alarms = clock.observe(&readings, 3, boot(0));
        assert_eq!(alarms, [Alarm::NodeOff { node: NodeId(3), by_ms: 3_599_999 }]);
        assert_eq!(clock.stamp(boot(1_000)), Some(UtcMillis(T0 + 1_001)));
    }

    #[test]
    fn a_deposed_leader_is_not_believed() {
        let mut clock = running(T0);
        clock.learn(leader(5, 2), UtcMillis(T0 + 10).into(), AT_ONCE, boot(1));
        clock.learn(leader(4, 1), UtcMillis(T0 + 90_000).into(), AT_ONCE, boot(2));
        assert_eq!(clock.stamp(boot(2)), Some(UtcMillis(T0 + 11)));
    }

    #[test]
    fn a_node_that_was_cut_off_takes_the_new_leaders_time() {
        let mut clock = running(T0);
        clock.lead(leader(1, 1), UtcMillis(T0), boot(0));
        clock.observe(&[reading(1, T0 + 900), reading(2, T0 + 900)], 3, boot(0));
        assert_eq!(clock.stamp(boot(30_000)), Some(UtcMillis(T0 + 30_300)));
        // Meanwhile the leader of term 2 leant the other way.
        clock.learn(leader(2, 2), UtcMillis(T0 + 29_700).into(), AT_ONCE, boot(30_000));
        assert_eq!(clock.read(boot(30_010)), Some(UtcMillis(T0 + 29_710).into()));
        clock.lead(leader(3, 1), UtcMillis(T0 + 29_700), boot(30_020));
        assert_eq!(clock.stamp(boot(30_020)), Some(UtcMillis(T0 + 29_720)));
    }

    #[test]
    fn a_message_that_waited_turns_no_clock_back() {
        let mut clock = running(T0);
        // It was written before this node was frozen for 10 s, and is read after that.
        let stale = UtcMillis(T0 + 20_000).into();
        let age = Some(Duration::from_millis(10_100));
        clock.learn(leader(2, 2), stale, age, boot(30_000));
        assert_eq!(clock.read(boot(30_000)), Some(UtcMillis(T0 + 30_000).into()));
        // Nobody knows how old it is.
        clock.learn(leader(2, 2), stale, None, boot(30_000));
        assert_eq!(clock.read(boot(30_000)), Some(UtcMillis(T0 + 30_000).into()));
        // It is younger than what this node's clock would be ahead by.
        let age = Some(Duration::from_millis(400));
        clock.learn(leader(2, 2), UtcMillis(T0 + 29_000).into(), age, boot(30_000));
        assert_eq!(clock.read(boot(30_000)), Some(UtcMillis(T0 + 29_400).into()));
    }

    #[test]
    fn a_node_that_was_restarted_takes_the_time_from_fresh_messages_only() {
        let mut clock = ClusterClock::new();
        for age in [None, Some(Duration::from_secs(2))] {
            clock.learn(leader(2, 2), UtcMillis(T0).into(), age, boot(10));
            assert_eq!(clock.read(boot(10)), None, "{age:?}");
        }
        clock.learn(leader(2, 2), UtcMillis(T0 + 5).into(), Some(FRESHEST), boot(20));
        assert_eq!(clock.read(boot(20)), Some(UtcMillis(T0 + 5).into()));
    }

    proptest! {
        /// Whatever wall clocks say and however often, a leader's stamps never
        /// go back and stay within one per cent of the time that passed.
        #[test]
        fn stamps_are_monotone_and_slewed(
            steps in prop::collection::vec((0_u64..5_000, -10_000_000_i64..10_000_000), 1..80)
        ) {
            let mut clock = running(T0);
            let (mut passed, mut last) = (0_u64, UtcMillis(T0));
            for (step, off) in steps {
                passed += step;
                let walls = [reading(1, T0 + off), reading(2, T0 + off + 3), reading(3, T0)];
                let now = clock.stamp(boot(passed)).unwrap();
                prop_assert!(now >= last);
                let real = i64::try_from(passed).unwrap();
                let bend = (now.0 - T0 - real).abs();
                prop_assert!(bend <= real / SLEW + 1, "bent by {bend} in {real}");
                last = now;
                clock.observe(&walls, 3, boot(passed));
                prop_assert!(clock.stamp(boot(passed)).unwrap() == now);
            }
        }

        /// It does get there: an error is worked off at one per cent.
        #[test]
        fn an_error_is_worked_off(off in -20_000_i64..20_000) {
            let mut clock = running(T0);
            clock.observe(&[reading(1, T0 + off), reading(2, T0 + off)], 2, boot(0));
            let needed = off.unsigned_abs() * 100;
            let now = clock.stamp(boot(needed)).unwrap();
            prop_assert_eq!(now.0, T0 + off + i64::try_from(needed).unwrap());
        }

        /// Leaders change at random, messages arrive late, boot clocks start
        /// anywhere and run up to 0.9 % apart: stamps that were told never come again.
        #[test]
        fn the_next_leader_continues(
            rates in prop::array::uniform3(991_u64..1_010),
            starts in prop::array::uniform3(0_u64..1_000_000_000),
            turns in prop::collection::vec((0_usize..3, 1_u64..2_000, 0_u64..100), 1..60)
        ) {
            let mut clocks = [ClusterClock::new(), ClusterClock::new(), ClusterClock::new()];
            let local = |i: usize, real: u64| boot(starts[i] + real * rates[i] / 1_000);
            let mut real = 0_u64;
            clocks[0].confirm(UtcMillis(T0), UtcMillis(0), local(0, 0)).unwrap();
            let mut told = UtcMillis(0);
            let mut heard: Option<(LeaderId, ClusterNanos)> = None;
            for (term, (mut who, lasts, late)) in (1_u64..).zip(turns) {
                if clocks[who].read(local(who, real)).is_none() {
                    who = 0;
                }
                let me = leader(term, who as u64);
                clocks[who].lead(me, told, local(who, real));
                real += lasts;
                let now = clocks[who].stamp(local(who, real)).unwrap();
                prop_assert!(now >= told, "{now} after {told}");
                told = now;
                let message = (me, clocks[who].read(local(who, real)).unwrap());
                real += late;
                // As a slow clock measures it; of older ones nobody knows.
                let age = Some(Duration::from_millis(late + late / 50 + 1));
                for i in (0..3).filter(|i| *i != who) {
                    if let Some((old, at)) = heard {
                        clocks[i].learn(old, at, None, local(i, real));
                    }
                    clocks[i].learn(message.0, message.1, age, local(i, real));
                    prop_assert!(clocks[i].read(local(i, real)).unwrap() >= message.1);
                }
                heard = Some(message);
            }
        }
    }
}
