//! A whole cluster in one thread: built, worked with, broken, healed and judged.
//!
//! Reading order: [`node`] and [`worker`] with [`jobs`], what runs; [`load`], what
//! clients do; [`faults`] with `strike`, what goes wrong; [`checks`], what must hold
//! all the time, and `verdict`, in the end.

pub(crate) mod checks;
pub(crate) mod faults;
pub(crate) mod jobs;
mod leases;
pub(crate) mod load;
pub(crate) mod node;
mod strike;
mod verdict;
pub(crate) mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use horai_core::ids::NodeId;
use horai_raft::SnapshotOptions;
use rand_seeded::rngs::StdRng;
use rand_seeded::{RngExt, SeedableRng};
use tokio::sync::oneshot;
use uuid::Uuid;

use crate::world::World;
use crate::world::net::MachineId;
use crate::world::trace::Trace;
use checks::Checks;
use faults::{Kind, Plan};
use jobs::{Jobs, SimFolder, Witness};
use load::Load;
use node::{Disks, Live, Place};
use strike::Trap;
use worker::Seat;

/// A cluster must be whole within this, in milliseconds.
const BEGIN: u64 = 30_000;
/// After the heal everything must be settled within this,
const SETTLE: u64 = 60_000;
/// and is looked at after this at the earliest: a lease and its margin, twice.
const CALM: u64 = 18_000;
/// The most nodes at a time, and over one run.
const NODES: usize = 5;
const PLACES: usize = 9;

/// How a run ended well.
#[derive(Debug)]
pub(crate) struct Report {
    /// Sum of everything that happened, and its length.
    pub(crate) sum: (u64, u64),
    /// One line for a person.
    pub(crate) line: String,
}

/// A way that a fault ends.
enum End {
    Heal(Vec<(MachineId, MachineId)>),
    Weather,
    Thaw(MachineId),
    Disk(MachineId),
    Node(usize),
    FullDisk(usize),
    Worker(usize),
}

/// Why a process is bound to stop by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doom {
    /// Its disk fails; it may start again once that is mended.
    FullDisk,
    /// Its store is gone or another one: it never comes back under this number.
    Lost(NodeId),
}

#[derive(Default)]
struct Process {
    number: u64,
    restart_at: Option<u64>,
    is_gone: bool,
    is_leaving: bool,
    doom: Option<Doom>,
}

/// Everything of one run.
pub(crate) struct Cluster {
    world: World,
    rng: StdRng,
    plan: Plan,
    places: Vec<Place>,
    processes: Vec<Process>,
    seats: Vec<Seat>,
    restarts: Vec<Option<u64>>,
    ends: BTreeMap<(u64, u64), End>,
    next_end: u64,
    witness: Witness,
    witnessed: usize,
    load: Load,
    checks: Checks,
    faults: BTreeMap<Kind, u64>,
    trap: Option<Trap>,
    moves: Vec<oneshot::Receiver<Result<(), horai_raft::Error>>>,
}

/// Runs one seed.
///
/// # Errors
/// What did not hold, and when.
pub(crate) fn run(seed: u64, only: &[Kind], trace: Trace) -> Result<Report, String> {
    let mut cluster = Cluster::new(seed, only, trace.clone());
    let done = cluster.live();
    let now = cluster.world.now();
    done.map_err(|what| format!("at {now} ms: {what}\n  plan: {:?}", cluster.plan))?;
    let faults: Vec<String> =
        cluster.faults.iter().map(|(kind, count)| format!("{kind:?} {count}")).collect();
    let line = format!(
        "{} s, {} nodes, {} workers, {} terms, {} applied, {} starts, {} acknowledged, {} packets; {}",
        now / 1_000,
        cluster.plan.nodes,
        cluster.plan.workers,
        cluster.checks.terms,
        cluster.checks.applied,
        cluster.witness.starts(),
        cluster.load.acked(),
        cluster.world.net.delivered(),
        faults.join(", "),
    );
    trace.note(format_args!("{line} {:?}", cluster.load.tally));
    Ok(Report { sum: trace.sum(), line })
}

impl Cluster {
    fn new(seed: u64, only: &[Kind], trace: Trace) -> Self {
        let plan = Plan::draw(seed, only);
        let mut rng = StdRng::seed_from_u64(seed);
        let mut cluster = Self {
            world: World::new(rng.random(), trace),
            load: Load::new(rng.random()),
            rng,
            places: Vec::new(),
            processes: Vec::new(),
            seats: Vec::new(),
            restarts: Vec::new(),
            ends: BTreeMap::new(),
            next_end: 0,
            witness: Witness::default(),
            witnessed: 0,
            // A frozen machine's boot clock stands still, too.
            checks: Checks::new(
                !plan.kinds.iter().any(|kind| matches!(kind, Kind::WallClock | Kind::Freeze)),
            ),
            faults: BTreeMap::new(),
            trap: None,
            moves: Vec::new(),
            plan,
        };
        for at in 0..cluster.plan.nodes {
            let number = cluster.add_node(None);
            cluster.processes[number].restart_at = Some(at as u64 * 100);
        }
        for at in 0..cluster.plan.workers {
            cluster.add_worker(at);
        }
        cluster
    }

    fn drift(&mut self, machine: MachineId) {
        let most = self.plan.drift;
        let drift = self.rng.random_range(-most..=most);
        self.world.set_drift(machine, drift);
    }

    fn add_node(&mut self, replaces: Option<NodeId>) -> usize {
        let at = self.places.len();
        let name = format!("n{}", at + 1);
        let host = self.world.add(&name);
        self.drift(host.id());
        // The first ones ask the first; later ones everybody.
        let seeds = (0..at.max(1)).map(|n| format!("n{}:7602", n + 1)).collect();
        self.places.push(Place {
            name,
            host,
            disks: Disks::default(),
            store: Uuid::from_u128(self.rng.random()),
            replaces,
            is_founder: at == 0,
            number: None,
            seeds,
            snapshots: SnapshotOptions {
                commands: self.plan.snapshot,
                bytes: 1 << 20,
                every: Duration::from_secs(1),
                keep_bytes: 8 << 10,
            },
            live: Arc::default(),
        });
        self.processes.push(Process::default());
        at
    }

    fn add_worker(&mut self, at: usize) {
        let name = format!("w{}", at + 1);
        let host = self.world.add(&name);
        self.drift(host.id());
        let jobs = Jobs::new(&name, host.clone(), self.witness.clone());
        let nodes = (0..self.plan.nodes).map(|n| format!("n{}", n + 1)).collect();
        self.seats.push(Seat { name, host, folder: SimFolder::default(), jobs, nodes });
        self.restarts.push(Some(0));
    }

    /// From the beginning to the verdict.
    fn live(&mut self) -> Result<(), String> {
        self.until(BEGIN, "the cluster is whole", Self::is_whole)?;
        let heal_at = self.world.now() + self.plan.lasts;
        let mut next_ask = self.world.now();
        let mut next_fault = self.world.now() + self.plan.apart;
        while self.world.now() < heal_at {
            if self.world.now() >= next_ask {
                next_ask += self.rng.random_range(1..=self.plan.asks * 2);
                self.ask();
            }
            if self.world.now() >= next_fault {
                next_fault += self.rng.random_range(1..=self.plan.apart * 2);
                self.strike();
            }
            self.step()?;
        }
        self.heal();
        let healed = self.world.now();
        // Load stays on while everything recovers.
        while self.world.now() < healed + CALM {
            if self.world.now() >= next_ask && self.world.now() < healed + CALM / 2 {
                next_ask += self.rng.random_range(1..=self.plan.asks * 2);
                self.ask();
            }
            self.step()?;
        }
        self.until(SETTLE, "the cluster has settled", |c| c.is_settled().is_ok())
            .map_err(|e| format!("{e}: {}", self.is_settled().err().unwrap_or_default()))?;
        self.judge()
    }

    fn until(
        &mut self,
        limit: u64,
        what: &str,
        holds: impl Fn(&Self) -> bool,
    ) -> Result<(), String> {
        let deadline = self.world.now() + limit;
        // Looking costs more than a millisecond of the cluster.
        while !(self.world.now().is_multiple_of(50) && holds(self)) {
            if self.world.now() > deadline {
                return Err(format!("waited {limit} ms until {what}"));
            }
            self.step()?;
        }
        Ok(())
    }

    /// One millisecond.
    fn step(&mut self) -> Result<(), String> {
        let now = self.world.now();
        while let Some(entry) = self.ends.first_entry().filter(|entry| entry.key().0 <= now) {
            let end = entry.remove();
            self.end(end);
        }
        for at in 0..self.places.len() {
            let due = self.processes[at].restart_at.is_some_and(|due| due <= now);
            if due && !self.processes[at].is_gone {
                let process = &mut self.processes[at];
                (process.restart_at, process.number) = (None, process.number + 1);
                let place = self.places[at].clone();
                self.world.start(place.host.id(), place.run());
            }
        }
        for at in 0..self.seats.len() {
            if self.restarts[at].is_some_and(|due| due <= now) {
                self.restarts[at] = None;
                let seat = self.seats[at].clone();
                self.world.start(seat.host.id(), seat.run());
            }
            self.seats[at].jobs.step(now);
        }
        for (machine, exit) in self.world.step() {
            self.on_exit(machine, exit)?;
        }
        for (place, process) in self.places.iter().zip(&self.processes) {
            self.checks.look(&self.world, place, process.number)?;
            if let Some(Doom::Lost(number)) = process.doom {
                place.must_not_take_part(number)?;
            }
        }
        self.spring();
        let starts = self.witness.starts();
        if starts > self.witnessed {
            self.witness.check(self.witnessed)?;
            self.witnessed = starts;
        }
        if self.load.hear()? {
            let nodes = self.nodes();
            self.load.read(&nodes);
        }
        self.moves
            .retain_mut(|done| matches!(done.try_recv(), Err(oneshot::error::TryRecvError::Empty)));
        Ok(())
    }

    fn on_exit(&mut self, machine: MachineId, exit: Result<(), String>) -> Result<(), String> {
        let soon = Some(self.world.now() + 500);
        if let Some(at) = self.places.iter().position(|place| place.host.id() == machine) {
            self.places[at].clear();
            let process = &mut self.processes[at];
            let told = exit.err().unwrap_or_default();
            if process.is_leaving && told.contains("emoved") {
                process.is_gone = true;
                return Ok(());
            }
            match process.doom.take() {
                None => {}
                Some(Doom::FullDisk) => {
                    self.world.trace.event(format_args!("{} {told}", self.world.now()));
                    process.restart_at = soon;
                    self.lose_power(at);
                    return Ok(());
                }
                Some(Doom::Lost(number)) => {
                    self.world.trace.event(format_args!("{} {told}", self.world.now()));
                    process.is_gone = true;
                    let new = self.add_node(Some(number));
                    self.processes[new].restart_at = soon;
                    return Ok(());
                }
            }
            // Nobody let it in within its patience: its operator tries again.
            if told.starts_with("join: no node") {
                process.restart_at = soon;
                return Ok(());
            }
            return Err(format!("{} stopped by itself: {told}", self.places[at].name));
        }
        let at = self.seats.iter().position(|seat| seat.host.id() == machine);
        let name = at.map_or_else(String::new, |at| self.seats[at].name.clone());
        Err(format!("worker {name} stopped by itself: {exit:?}"))
    }

    fn nodes(&self) -> Vec<Live> {
        self.places.iter().filter_map(Place::live).collect()
    }

    /// Who votes, as the newest leader says; nobody if there is none.
    fn voters(&self) -> BTreeSet<u64> {
        let of = |live: &Live| {
            let status = live.node.upgrade()?.status();
            let own = status.leadership.own?;
            let voters = status.members.iter().filter(|(_, (_, votes))| *votes);
            Some((own, voters.map(|(node, _)| node.0).collect::<BTreeSet<u64>>()))
        };
        self.nodes().iter().filter_map(of).max().map_or_else(BTreeSet::new, |(_, voters)| voters)
    }

    /// True if just those that are to be there vote.
    fn is_whole(&self) -> bool {
        if self.processes.iter().any(|process| matches!(process.doom, Some(Doom::Lost(_)))) {
            return false;
        }
        let there = self.places.iter().zip(&self.processes).filter(|(_, p)| !p.is_gone);
        let there: Option<BTreeSet<u64>> =
            there.map(|(place, _)| place.identity().map(|identity| identity.node)).collect();
        there.is_some_and(|there| there == self.voters())
    }

    fn ask(&mut self) {
        let nodes = self.nodes();
        if self.rng.random_bool(0.2) {
            self.load.read(&nodes);
        } else {
            self.load.ask(&nodes);
        }
    }

    /// Machines that are there, nodes first.
    fn machines(&self) -> (Vec<MachineId>, Vec<MachineId>) {
        let nodes = self.places.iter().zip(&self.processes);
        let nodes = nodes.filter(|(_, p)| !p.is_gone).map(|(place, _)| place.host.id());
        (nodes.collect(), self.seats.iter().map(|seat| seat.host.id()).collect())
    }

    /// Indexes of nodes whose process runs.
    fn running(&self) -> Vec<usize> {
        let runs = |at: &usize| self.world.runs(self.places[*at].host.id());
        (0..self.places.len()).filter(runs).collect()
    }
}
