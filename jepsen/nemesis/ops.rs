//! What can be done to a cluster: the kinds of faults and their parameters.
//!
//! Pure data. A fault says whom it hits by role (`the leader`, `any node`), because
//! who leads is known only when it is done; whatever else is random in it was drawn
//! when the schedule was.

use rand::Rng;
use rand_chacha::ChaCha12Rng;
use serde::{Deserialize, Serialize};

use crate::env::links::Link;

/// Whom a fault hits. Numbers choose among those that fit, modulo their count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Who {
    /// The node that leads.
    Leader,
    /// Any node.
    One(u32),
    /// The leader and others, so that no quorum is left.
    Majority(u32),
    /// All nodes.
    All,
    /// One worker.
    Worker(u32),
}

/// Which links are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Shape {
    /// The leader from the other nodes; workers and clients still reach it.
    Leader,
    /// A node from nodes and workers; clients still reach it.
    One(u32),
    /// Nodes in a majority and a minority, the workers on either side.
    Halves(u32),
    /// Each node hears its neighbours only: all see a majority, none the same.
    Ring(u32),
    /// Two sides that only one node between them hears both of.
    Bridge(u32),
    /// What the leader says to other nodes is not heard.
    LeaderOut,
    /// The leader does not hear other nodes.
    LeaderIn,
    /// One node does not hear one other.
    Edge(u32),
    /// All workers from the leader.
    WorkersFromLeader,
    /// One worker from all nodes.
    Worker(u32),
}

/// What happens to a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum DiskFault {
    /// No space but for so many bytes.
    Full(u64),
    /// So many bytes a second can be written.
    Slow(u64),
    /// Writes block.
    Hung,
    /// Read-only after an error.
    ReadOnly,
    /// Each call fails.
    Dead,
    /// So many bits are turned over while the node is down, from this seed.
    Bits(u32, u64),
}

impl DiskFault {
    /// Whether a node may give its store up for it. Who was only kept waiting was told of
    /// no error, and has nothing to distrust; a full disk can be freed, and then the node
    /// starts again, as it says itself.
    pub(crate) fn may_cost_store(self) -> bool {
        match self {
            Self::Slow(_) | Self::Hung | Self::Full(_) => false,
            Self::ReadOnly | Self::Dead | Self::Bits(..) => true,
        }
    }
}

/// What happens to a wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum ClockFault {
    /// Off by so many milliseconds.
    Jump(i64),
    /// To and fro by so many milliseconds.
    Strobe(i64),
    /// At so many thousandths of the true rate.
    Rate(u32),
}

/// A fault with its parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Fault {
    /// Links are cut.
    Partition(Shape),
    /// The same, cut and mended each so many milliseconds.
    Flap(Shape, u32),
    /// All links of these nodes do this.
    Packets(Who, Link),
    /// kill -9 of the processes.
    Kill(Who),
    /// They are asked to stop, and start again.
    Stop(Who),
    /// Killed so many times, as soon as they are back.
    CrashLoop(Who, u32),
    /// Stopped, and later continued.
    Freeze(Who),
    /// The power goes: what was not synced is gone.
    Power(Who),
    /// The same, and of what had reached the disks unflushed so many sectors in a hundred
    /// are there, drawn from a seed.
    Torn(Who, u8, u64),
    /// A disk fails.
    Disk(Who, DiskFault),
    /// A clock lies.
    Clock(Who, ClockFault),
    /// So many thousandths of a processor are left.
    Processor(Who, u64),
    /// The worker is killed, its shims and jobs go on.
    Worker(Who),
    /// The worker is stopped, and later continued; its shims and jobs go on.
    Halt(Who),
    /// So many processes and threads more than there are, and no others, can be begun.
    Processes(Who, u32),
    /// The same, and its journal is lost.
    Wipe(Who),
    /// An operator gives a worker nothing new.
    Cordon(Who),
    /// The same, and after so many milliseconds what still runs there is ended.
    Drain(Who, u32),
    /// A node's disk is lost, and it is replaced under a new number.
    Replace(Who),
    /// The leader is cut off from the other nodes for so many milliseconds, while workers
    /// reach it; then it is lost with its disk, and replaced under a new number.
    LoseLeader(u32),
    /// A node is removed, and later joins with an empty disk.
    Remove(Who),
    /// Leadership is handed over.
    Transfer(u32),
    /// A snapshot is taken.
    Snapshot(Who),
}

impl Fault {
    /// Whether a worker is given nothing new.
    pub(crate) fn keeps_work_away(&self) -> bool {
        matches!(self, Self::Cordon(_) | Self::Drain(..))
    }

    /// Whether a node's store may be lost for ever.
    pub(crate) fn loses_store(&self) -> bool {
        use DiskFault::{Bits, Dead, ReadOnly};
        matches!(
            self,
            Self::Disk(_, Bits(..) | Dead | ReadOnly)
                | Self::Replace(_)
                | Self::LoseLeader(_)
                | Self::Remove(_)
        )
    }
}

/// A kind of fault as it is asked for.
pub(crate) struct Kind {
    /// `PACKAGE-WHAT`
    pub(crate) name: &'static str,
    /// True if it takes the quorum away: availability is then not judged.
    pub(crate) brutal: bool,
    /// With fewer nodes it makes no sense.
    pub(crate) least_nodes: u8,
    /// How long it lasts, in milliseconds, at a pace of 10 seconds,
    pub(crate) lasts_ms: (u64, u64),
    /// and at least at any pace: leases do not depend on it.
    pub(crate) least_ms: u64,
    /// Draws its parameters.
    pub(crate) draw: fn(&mut ChaCha12Rng) -> Fault,
}

impl Kind {
    /// What is before the first hyphen.
    pub(crate) fn package(&self) -> &'static str {
        self.name.split('-').next().unwrap_or(self.name)
    }

    /// Whether clocks must be ready to be set.
    pub(crate) fn needs_clocks(&self) -> bool {
        self.package() == "clock"
    }

    /// Whether nodes need disks with caches.
    pub(crate) fn tears(&self) -> bool {
        self.name.starts_with("power-torn")
    }
}

const fn kind(
    name: &'static str,
    lasts_ms: (u64, u64),
    draw: fn(&mut ChaCha12Rng) -> Fault,
) -> Kind {
    Kind { name, brutal: false, least_nodes: 1, lasts_ms, least_ms: 100, draw }
}

const fn brutal(
    name: &'static str,
    lasts_ms: (u64, u64),
    draw: fn(&mut ChaCha12Rng) -> Fault,
) -> Kind {
    Kind { name, brutal: true, least_nodes: 1, lasts_ms, least_ms: 100, draw }
}

const fn of(least_nodes: u8, kind: Kind) -> Kind {
    Kind { least_nodes, ..kind }
}

/// Longer than any lease of 10 s and what is waited beyond it.
const fn long(kind: Kind) -> Kind {
    Kind { lasts_ms: (26_000, 36_000), least_ms: 26_000, ..kind }
}

fn delayed(rng: &mut ChaCha12Rng) -> Link {
    let delay_us = rng.random_range(1_000..80_000);
    Link { delay_us, jitter_us: rng.random_range(0..=delay_us), ..Link::default() }
}

fn jump(rng: &mut ChaCha12Rng) -> ClockFault {
    let far = [100, 1_000, 30_000, 3_600_000][rng.random_range(0..4)];
    ClockFault::Jump(if rng.random() { far } else { -far })
}

/// Nothing and everything of what was not flushed are likelier than any other part.
fn torn(who: Who, rng: &mut ChaCha12Rng) -> Fault {
    let keep = match rng.random_range(0..6) {
        0 => 0,
        1 => 100,
        _ => rng.random_range(0..=100),
    };
    Fault::Torn(who, keep, rng.random())
}

/// All kinds, by package.
pub(crate) const KINDS: [Kind; 45] = [
    of(3, kind("partition-leader", (4_000, 9_000), |_| Fault::Partition(Shape::Leader))),
    of(3, kind("partition-one", (4_000, 9_000), |r| Fault::Partition(Shape::One(r.random())))),
    of(
        3,
        kind("partition-halves", (4_000, 9_000), |r| Fault::Partition(Shape::Halves(r.random()))),
    ),
    of(5, kind("partition-ring", (4_000, 9_000), |r| Fault::Partition(Shape::Ring(r.random())))),
    of(
        3,
        kind("partition-bridge", (4_000, 9_000), |r| Fault::Partition(Shape::Bridge(r.random()))),
    ),
    of(3, kind("partition-out", (4_000, 9_000), |_| Fault::Partition(Shape::LeaderOut))),
    of(3, kind("partition-in", (4_000, 9_000), |_| Fault::Partition(Shape::LeaderIn))),
    of(3, kind("partition-edge", (4_000, 9_000), |r| Fault::Partition(Shape::Edge(r.random())))),
    of(
        3,
        kind("partition-flap", (4_000, 9_000), |r| {
            Fault::Flap(Shape::One(r.random()), r.random_range(200..2_000))
        }),
    ),
    kind("partition-workers", (4_000, 9_000), |_| Fault::Partition(Shape::WorkersFromLeader)),
    kind("packets-delay", (5_000, 12_000), |r| Fault::Packets(Who::All, delayed(r))),
    kind("packets-loss", (5_000, 12_000), |r| {
        Fault::Packets(Who::All, Link { loss: r.random_range(10..150), ..Link::default() })
    }),
    kind("packets-twice", (5_000, 12_000), |r| {
        let twice = r.random_range(50..300);
        Fault::Packets(Who::All, Link { twice, jitter_us: 3_000, ..Link::default() })
    }),
    kind("packets-slow", (5_000, 12_000), |r| {
        let rate = r.random_range(200_000..2_000_000);
        Fault::Packets(Who::One(r.random()), Link { rate, ..Link::default() })
    }),
    of(
        3,
        kind("packets-short", (4_000, 9_000), |r| {
            Fault::Packets(Who::One(r.random()), Link { longest: 500, ..Link::default() })
        }),
    ),
    kind("packets-reset", (200, 2_000), |r| {
        Fault::Packets(Who::One(r.random()), Link { reset: true, ..Link::default() })
    }),
    of(3, kind("kill-leader", (500, 5_000), |_| Fault::Kill(Who::Leader))),
    of(3, kind("kill-one", (500, 9_000), |r| Fault::Kill(Who::One(r.random())))),
    of(3, kind("kill-gently", (100, 3_000), |_| Fault::Stop(Who::Leader))),
    of(3, kind("kill-loop", (4_000, 9_000), |r| Fault::CrashLoop(Who::One(r.random()), 5))),
    brutal("kill-majority", (500, 5_000), |r| Fault::Kill(Who::Majority(r.random()))),
    brutal("kill-all", (100, 4_000), |_| Fault::Kill(Who::All)),
    of(3, kind("freeze-leader", (500, 9_000), |_| Fault::Freeze(Who::Leader))),
    of(3, kind("freeze-one", (500, 9_000), |r| Fault::Freeze(Who::One(r.random())))),
    brutal("freeze-all", (500, 9_000), |_| Fault::Freeze(Who::All)),
    of(3, kind("power-leader", (500, 5_000), |_| Fault::Power(Who::Leader))),
    of(3, kind("power-one", (500, 5_000), |r| Fault::Power(Who::One(r.random())))),
    brutal("power-majority", (500, 4_000), |r| Fault::Power(Who::Majority(r.random()))),
    brutal("power-all", (100, 3_000), |_| Fault::Power(Who::All)),
    of(
        3,
        kind("power-torn-one", (500, 5_000), |r| {
            let who = Who::One(r.random());
            torn(who, r)
        }),
    ),
    brutal("power-torn-all", (100, 3_000), |r| torn(Who::All, r)),
    of(
        3,
        kind("disk-full", (4_000, 9_000), |r| {
            Fault::Disk(Who::One(r.random()), DiskFault::Full(r.random_range(0..3) * 200_000))
        }),
    ),
    of(
        3,
        kind("disk-slow", (4_000, 9_000), |r| {
            Fault::Disk(Who::One(r.random()), DiskFault::Slow(r.random_range(100_000..1_000_000)))
        }),
    ),
    of(
        3,
        kind("disk-hung", (1_000, 9_000), |r| Fault::Disk(Who::One(r.random()), DiskFault::Hung)),
    ),
    of(
        3,
        kind("disk-readonly", (2_000, 9_000), |r| {
            Fault::Disk(Who::One(r.random()), DiskFault::ReadOnly)
        }),
    ),
    of(
        3,
        kind("disk-dead", (2_000, 9_000), |r| Fault::Disk(Who::One(r.random()), DiskFault::Dead)),
    ),
    of(
        3,
        kind("disk-bits", (1_000, 4_000), |r| {
            Fault::Disk(Who::One(r.random()), DiskFault::Bits(r.random_range(1..40), r.random()))
        }),
    ),
    kind("clock-jump", (4_000, 12_000), |r| Fault::Clock(Who::One(r.random()), jump(r))),
    kind("clock-leader", (4_000, 12_000), |r| Fault::Clock(Who::Leader, jump(r))),
    kind("clock-strobe", (4_000, 12_000), |r| {
        Fault::Clock(Who::One(r.random()), ClockFault::Strobe(200))
    }),
    kind("clock-rate", (4_000, 12_000), |r| {
        Fault::Clock(Who::One(r.random()), ClockFault::Rate(r.random_range(500..2_000)))
    }),
    kind("resource-processor", (4_000, 9_000), |r| {
        Fault::Processor(Who::One(r.random()), r.random_range(30..200))
    }),
    kind("admin-transfer", (100, 1_000), |r| Fault::Transfer(r.random())),
    kind("admin-snapshot", (100, 1_000), |r| Fault::Snapshot(Who::One(r.random()))),
    kind("admin-snapshot-leader", (100, 1_000), |_| Fault::Snapshot(Who::Leader)),
];

/// Kinds that hit workers and membership; apart from the others, because a cluster
/// without workers or spare disks cannot have them.
pub(crate) const MORE_KINDS: [Kind; 17] = [
    kind("worker-kill", (500, 9_000), |r| Fault::Worker(Who::Worker(r.random()))),
    kind("worker-machine", (500, 9_000), |r| Fault::Kill(Who::Worker(r.random()))),
    kind("worker-freeze", (500, 8_000), |r| Fault::Freeze(Who::Worker(r.random()))),
    long(kind("worker-freeze-long", (0, 0), |r| Fault::Freeze(Who::Worker(r.random())))),
    kind("worker-halt", (500, 8_000), |r| Fault::Halt(Who::Worker(r.random()))),
    long(kind("worker-halt-long", (0, 0), |r| Fault::Halt(Who::Worker(r.random())))),
    kind("worker-pids", (2_000, 9_000), |r| {
        let more = r.random_range(0..6);
        Fault::Processes(Who::Worker(r.random()), more)
    }),
    kind("worker-power", (500, 9_000), |r| Fault::Power(Who::Worker(r.random()))),
    kind("worker-partition", (1_000, 30_000), |r| Fault::Partition(Shape::Worker(r.random()))),
    kind("journal-wiped", (500, 9_000), |r| Fault::Wipe(Who::Worker(r.random()))),
    kind("journal-full", (4_000, 9_000), |r| {
        let leave = r.random_range(0..3) * 200_000;
        Fault::Disk(Who::Worker(r.random()), DiskFault::Full(leave))
    }),
    kind("journal-hung", (1_000, 9_000), |r| Fault::Disk(Who::Worker(r.random()), DiskFault::Hung)),
    kind("duty-cordon", (4_000, 9_000), |r| Fault::Cordon(Who::Worker(r.random()))),
    kind("duty-drain", (6_000, 15_000), |r| {
        Fault::Drain(Who::Worker(r.random()), r.random_range(0..5_000))
    }),
    of(3, kind("member-replace", (2_000, 6_000), |r| Fault::Replace(Who::One(r.random())))),
    of(
        3,
        kind("member-lose-leader", (2_000, 6_000), |r| {
            Fault::LoseLeader(r.random_range(300..1_500))
        }),
    ),
    of(3, kind("member-remove", (2_000, 6_000), |r| Fault::Remove(Who::One(r.random())))),
];

/// Every kind there is.
pub(crate) fn kinds() -> impl Iterator<Item = &'static Kind> {
    KINDS.iter().chain(&MORE_KINDS)
}

/// The kinds that a name stands for: its own, or a package's. `all` is all, and `worker`
/// also what is done to a worker's journal and disk.
pub(crate) fn named(name: &str) -> Vec<&'static Kind> {
    let is_in = |package: &str| package == name || (name == "worker" && package == "journal");
    kinds().filter(|k| k.name == name || is_in(k.package()) || name == "all").collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_packages_name_their_kinds() {
        let names: BTreeSet<&str> = kinds().map(|k| k.name).collect();
        assert_eq!(names.len(), KINDS.len() + MORE_KINDS.len());
        assert_eq!(named("kill-leader").len(), 1);
        assert_eq!(named("partition").len(), 10);
        let worker: BTreeSet<&str> = named("worker").iter().map(|k| k.package()).collect();
        assert_eq!(worker, BTreeSet::from(["journal", "worker"]));
        assert!(named("journal").iter().all(|k| k.package() == "journal"));
        assert!(named("nothing").is_empty());
    }
}
