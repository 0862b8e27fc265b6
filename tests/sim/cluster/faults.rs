//! What goes wrong, drawn from the seed.
//!
//! Each seed has its own choice of kinds, how often each comes and how long it
//! lasts: a seed with few kinds goes deeper into those. A fault is a pair of a
//! beginning and an end; what is due when is kept in a list, and the heal ends
//! whatever is still there.

use rand_seeded::rngs::StdRng;
use rand_seeded::seq::IndexedRandom;
use rand_seeded::{RngExt, SeedableRng};

/// The kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// One node is cut off from all others, workers included.
    Isolate,
    /// The machines fall into two parts.
    Split,
    /// One direction between some machines is cut.
    OneWay,
    /// Packets come late.
    Delay,
    /// Packets are lost, and so come much later.
    Loss,
    /// A node's process is killed.
    Kill,
    /// A node loses its power, and what it had not synced.
    Power,
    /// All nodes lose their power at once.
    PowerAll,
    /// A node stops for a while without its knowing.
    Freeze,
    /// A disk is slow.
    SlowDisk,
    /// A wall clock jumps.
    WallClock,
    /// A worker's process is killed.
    WorkerKill,
    /// A worker's machine loses its power.
    WorkerPower,
    /// A worker's process stops for a while.
    WorkerFreeze,
    /// A worker is cut off.
    WorkerCut,
    /// A node is lost with its disks, and another takes its place.
    Replace,
    /// Leadership is handed over.
    Transfer,
    /// A node comes.
    Grow,
    /// A node goes, if there are more than three.
    Leave,
}

impl Kind {
    const ALL: [Self; 19] = [
        Self::Isolate,
        Self::Split,
        Self::OneWay,
        Self::Delay,
        Self::Loss,
        Self::Kill,
        Self::Power,
        Self::PowerAll,
        Self::Freeze,
        Self::SlowDisk,
        Self::WallClock,
        Self::WorkerKill,
        Self::WorkerPower,
        Self::WorkerFreeze,
        Self::WorkerCut,
        Self::Replace,
        Self::Transfer,
        Self::Grow,
        Self::Leave,
    ];
}

/// What one seed is made of.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Scheduler nodes.
    pub(crate) nodes: usize,
    /// Workers.
    pub(crate) workers: usize,
    /// Kinds that come, each as often as it is in the list.
    pub(crate) kinds: Vec<Kind>,
    /// Between two faults, on average, in milliseconds.
    pub(crate) apart: u64,
    /// The longest fault, in milliseconds.
    pub(crate) longest: u64,
    /// How long faults come for, in milliseconds.
    pub(crate) lasts: u64,
    /// Between two asks of clients, on average, in milliseconds.
    pub(crate) asks: u64,
    /// Commands after which a snapshot is taken.
    pub(crate) snapshot: u64,
    /// Clock rates are off by at most this, in millionths.
    pub(crate) drift: i64,
}

impl Plan {
    /// Draws one.
    pub(crate) fn draw(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x9E37_79B9_7F4A_7C15);
        let count = rng.random_range(2..=7);
        let kinds = Kind::ALL.sample(&mut rng, count).copied().collect();
        Self {
            nodes: if rng.random_bool(0.25) { 5 } else { 3 },
            workers: rng.random_range(1..=3),
            kinds,
            apart: rng.random_range(400..2_500),
            longest: rng.random_range(500..6_000),
            lasts: rng.random_range(8_000..16_000),
            asks: rng.random_range(40..200),
            snapshot: rng.random_range(60..600),
            drift: rng.random_range(0..4_000),
        }
    }

    /// The next kind.
    pub(crate) fn kind(&self, rng: &mut StdRng) -> Option<Kind> {
        self.kinds.choose(rng).copied()
    }
}
