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
use horai_core::mutants::{self, Mutant};
use horai_core::time::UtcMillis;

const NANOS_PER_MILLI: i64 = 1_000_000;

/// Corrections are at most one part in this of the time that passes.
pub(crate) const SLEW: i64 = 100;

/// A node without the time takes it from messages that are no older than this: as far
/// behind may it be then, and the cluster with it if it leads.
const FRESH: Duration = Duration::from_millis(250);

/// Answers that came later than this after the question say nothing of now.
const PROMPT: Duration = Duration::from_secs(1);

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

/// What one voter says of its clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Who says it.
    pub node: NodeId,
    /// When it was asked, by the boot clock of who asked.
    pub asked: BootTime,
    /// When its answer was there, by the same clock.
    pub answered: BootTime,
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
    /// Somebody else leads by now, and gives the time.
    #[error("node {} leads in term {}: it gives the time", .0.node, .0.term)]
    Deposed(LeaderId),
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
        let is_fresh = age.is_some_and(|age| age <= FRESH);
        let age = age.map(|age| i64::try_from(age.as_nanos()).unwrap_or(i64::MAX));
        let (at, error) = match self.read(boot) {
            Some(ClusterNanos(mine)) => {
                let most = age.map_or(i64::MAX, |age| told.0.saturating_add(age));
                let at = mine.min(most).max(told.0);
                (at, told.0.saturating_sub(at))
            }
            None if is_fresh => (told.0, 0),
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
    /// towards their median. With less than a quorum that answered at once nothing
    /// changes.
    pub fn observe(&mut self, readings: &[Reading], voters: usize, boot: BootTime) -> Vec<Alarm> {
        // On average a question takes as long as its answer.
        let readings = prompt(readings, boot, 1);
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

    /// A leader that has no time gets one, and gives it in its own name. From a voter
    /// that has kept it, if there is one; else everything was down, and a quorum's wall
    /// clocks that agree within [`AGREEMENT`] set it, not before `committed`. Answers
    /// that waited while this node stood still do not count: the time would be behind
    /// by as much.
    ///
    /// # Errors
    /// [`Error::Deposed`], [`Error::TooFew`] or [`Error::Disagree`]; nothing has changed
    /// then.
    pub fn establish(
        &mut self,
        me: LeaderId,
        readings: &[Reading],
        voters: usize,
        committed: UtcMillis,
        boot: BootTime,
    ) -> Result<Option<Alarm>, Error> {
        if self.anchor.is_some() {
            return Ok(None);
        }
        if me < self.leader {
            return Err(Error::Deposed(self.leader));
        }
        let ahead = mutants::on(Mutant::QuestionsTakeTime);
        let readings = prompt(readings, boot, if ahead { 2 } else { 0 });
        let need = quorum(voters);
        let floor = ClusterNanos::from(committed).0;
        let kept = readings.iter().filter_map(|r| Some(counted_on(r.cluster?, r.answered, boot)));
        if let Some(ClusterNanos(kept)) = kept.max() {
            self.leader = me;
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
        let middle = if ahead { agreed.len() / 2 } else { (agreed.len() - 1) / 2 };
        let middle = ClusterNanos::from(UtcMillis(agreed[middle])).0;
        let behind_ms = floor.saturating_sub(middle) / NANOS_PER_MILLI;
        self.leader = me;
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

/// Answers that came soon, with wall clocks counted on to now: from when the answer was
/// there, and by so many halves of the way there and back. A node counts once, however
/// often it was asked.
fn prompt(readings: &[Reading], boot: BootTime, halves: u32) -> Vec<Reading> {
    let mut seen = BTreeSet::new();
    let moved = |reading: &Reading| {
        let most = if mutants::on(Mutant::OldClocksCount) { Duration::MAX } else { PROMPT };
        boot.0.checked_sub(reading.asked.0).filter(|age| *age <= most)?;
        let way = reading.answered.0.saturating_sub(reading.asked.0) / 2 * halves;
        let on = boot.0.saturating_sub(reading.answered.0).saturating_add(way);
        let on = i64::try_from(on.as_millis()).unwrap_or(i64::MAX);
        let wall = UtcMillis(reading.wall.0.saturating_add(on));
        Some(Reading { wall, ..*reading })
    };
    readings.iter().filter_map(moved).filter(|r| seen.insert(r.node)).collect()
}

/// What was told then, now.
fn counted_on(told: ClusterNanos, answered: BootTime, boot: BootTime) -> ClusterNanos {
    let passed = boot.0.saturating_sub(answered.0).as_nanos();
    ClusterNanos(told.0.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX)))
}

/// The lower middle; zero readings have none, and callers have a quorum.
fn median(readings: &[Reading]) -> UtcMillis {
    let mut walls: Vec<UtcMillis> = readings.iter().map(|r| r.wall).collect();
    walls.sort_unstable();
    walls.get(walls.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}
