//! Workers as the cluster knows them. Load and connection are not here: they
//! change too often to be replicated, and only the leader acts on them. What an operator
//! says of a worker is.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::confinement::Isolation;
use super::resources::{Amounts, Resources};
use super::stored::extended;
use crate::ids::{Incarnation, Name, WorkerId};
use crate::time::{Span, UtcMillis};

/// A worker that has attached at least once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worker {
    /// Its number.
    pub id: WorkerId,
    /// Declared when it last attached.
    pub profile: WorkerProfile,
    /// Replicated time of the last heartbeat; its attempts' leases run from here.
    pub last_heartbeat: UtcMillis,
    /// When the name first attached.
    pub registered: UtcMillis,
    /// Whether it is given anything.
    pub duty: Duty,
    /// Set while it is being stopped: it is given nothing then, either.
    pub leaving: Option<Leaving>,
}

extended! {
    Worker (WorkerId)
    [id profile last_heartbeat registered]
    [1 duty 2 leaving]
}

/// A worker that somebody stops, and that waits for what runs there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Leaving {
    /// When what still runs is ended, to run again elsewhere; none: that is done.
    pub until: Option<UtcMillis>,
}

impl Worker {
    /// True if it may be given something.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.duty == Duty::Open && self.leaving.is_none()
    }

    /// What it is given, by whoever's will: a worker that is being stopped drains.
    #[must_use]
    pub fn given(&self) -> Duty {
        match (self.duty, self.leaving) {
            (Duty::Open, Some(Leaving { until })) => Duty::Draining { until },
            (duty, _) => duty,
        }
    }

    /// When attempts there are ended next, because somebody has waited long enough.
    #[must_use]
    pub fn drains_at(&self) -> Option<UtcMillis> {
        let by_duty = match self.duty {
            Duty::Draining { until } => until,
            Duty::Open | Duty::Cordoned => None,
        };
        let by_leaving = self.leaving.and_then(|leaving| leaving.until);
        by_duty.into_iter().chain(by_leaving).min()
    }
}

/// What a worker is given, as an operator wants it. What runs there goes on in any case,
/// but for a drain whose time is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Duty {
    /// Whatever fits.
    #[default]
    Open,
    /// Nothing new.
    Cordoned,
    /// Nothing new, and somebody waits until nothing runs there any more.
    Draining {
        /// When what still runs is ended, to run again elsewhere; none: whenever it ends.
        until: Option<UtcMillis>,
    },
}

impl Duty {
    /// The word in API and CLI.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Cordoned => "cordoned",
            Self::Draining { .. } => "draining",
        }
    }
}

/// What a worker declares when it attaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerProfile {
    /// Unique in the cluster.
    pub name: Name,
    /// Kept with its journal; another one means that the journal was lost.
    pub incarnation: Incarnation,
    /// The machine's boot id; another one proves that all its processes are gone.
    pub boot_id: u128,
    /// Groups it serves, at least one.
    pub groups: Vec<Name>,
    /// Free facts about it.
    pub labels: BTreeMap<String, String>,
    /// Attempts it runs at once.
    pub slots: u32,
    /// Where it runs, for people.
    pub host: String,
    /// Version of its program, for people.
    pub version: String,
    /// What it has beside slots for attempts to reserve.
    pub amounts: Amounts,
    /// Set while it is being stopped: how long it waits for what runs there.
    pub stops_within: Option<Span>,
    /// How it keeps attempts apart, and what it can hold them to.
    pub isolation: Box<Isolation>,
    /// Which interpreters of scripts it has by its configuration.
    pub interpreters: BTreeSet<Name>,
}

extended! {
    WorkerProfile (Name)
    [name incarnation boot_id groups labels slots host version]
    [1 amounts 2 stops_within 3 isolation 31 interpreters]
}

impl WorkerProfile {
    /// The most interpreters that a worker tells of.
    pub const MAX_INTERPRETERS: usize = 64;
    /// The longest that a worker waits when it is stopped.
    pub const MAX_STOP: Span = Span::secs(7 * 86_400);

    /// All that attempts may reserve.
    #[must_use]
    pub fn resources(&self) -> Resources {
        Resources { slots: self.slots, amounts: self.amounts.clone() }
    }
}
