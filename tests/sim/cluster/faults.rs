//! What goes wrong, drawn from the seed.
//!
//! Each seed has its own choice of kinds, how often each comes and how long it
//! lasts: a seed with few kinds goes deeper into those. A fault is a pair of a
//! beginning and an end; what is due when is kept in a list, and the heal ends
//! whatever is still there.

use rand_seeded::rngs::StdRng;
use rand_seeded::seq::IndexedRandom;
use rand_seeded::{RngExt, SeedableRng};

/// The kinds, each with its name.
macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $variant:ident = $name:literal,)+) => {
        /// The kinds.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Kind {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Kind {
            const ALL: &[Self] = &[$(Self::$variant,)+];

            /// The kind of that name.
            pub(crate) fn named(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    /// One node is cut off from all others, workers included.
    Isolate = "isolate",
    /// The machines fall into two parts.
    Split = "split",
    /// One direction between some machines is cut.
    OneWay = "one-way",
    /// Packets come late.
    Delay = "delay",
    /// Packets are lost, and so come much later.
    Loss = "loss",
    /// A node's process is killed.
    Kill = "kill",
    /// A node loses its power, and what it had not synced.
    Power = "power",
    /// All nodes lose their power at once.
    PowerAll = "power-all",
    /// A node stops for a while without its knowing.
    Freeze = "freeze",
    /// A disk is slow.
    SlowDisk = "slow-disk",
    /// A wall clock jumps.
    WallClock = "wall-clock",
    /// A worker's process is killed.
    WorkerKill = "worker-kill",
    /// A worker's machine loses its power.
    WorkerPower = "worker-power",
    /// A worker's process stops for a while.
    WorkerFreeze = "worker-freeze",
    /// A worker is cut off.
    WorkerCut = "worker-cut",
    /// A node is lost with its disks, and another takes its place.
    Replace = "replace",
    /// Leadership is handed over.
    Transfer = "transfer",
    /// A node comes.
    Grow = "grow",
    /// A node goes, if there are more than three.
    Leave = "leave",
    /// The leader is cut off just when it gives orders: workers hear them after the
    /// next leader's.
    LeaderAlone = "leader-alone",
    /// The leader is gone, and who votes for the next one loses its power at once.
    PowerVote = "power-vote",
    /// What stands between two machines is dead, and neither is told.
    HalfOpen = "half-open",
    /// A node's disk says at each sync that it is full; then it loses its power.
    FullDisk = "full-disk",
    /// A node comes back under its number with empty disks beside its identity.
    WipedStore = "wiped-store",
    /// A node comes back under its number with another, empty store.
    OtherStore = "other-store",
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
    /// Draws one; of `only` these kinds, if any are named.
    pub(crate) fn draw(seed: u64, only: &[Kind]) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ 0x9E37_79B9_7F4A_7C15);
        let count = rng.random_range(2..=8);
        let drawn: Vec<Kind> = Kind::ALL.sample(&mut rng, count).copied().collect();
        let kinds = if only.is_empty() { drawn } else { only.to_vec() };
        Self {
            nodes: if rng.random_bool(0.25) { 5 } else { 3 },
            workers: rng.random_range(1..=3),
            kinds,
            apart: rng.random_range(400..2_500),
            longest: rng.random_range(500..6_000),
            lasts: rng.random_range(8_000..16_000),
            asks: rng.random_range(40..200),
            snapshot: rng.random_range(15..120),
            drift: rng.random_range(0..4_000),
        }
    }

    /// The next kind.
    pub(crate) fn kind(&self, rng: &mut StdRng) -> Option<Kind> {
        self.kinds.choose(rng).copied()
    }
}
