//! How each kind of fault begins, and how it ends.

use std::io::ErrorKind;

use horai_core::ids::NodeId;
use rand_seeded::RngExt;
use rand_seeded::seq::IndexedRandom;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::faults::Kind;
use super::node::{Ask, Disks};
use super::{Cluster, Doom, End, NODES, PLACES};
use crate::world::net::{MachineId, Weather};

/// What waits for its moment.
#[derive(Debug, Clone, Copy)]
pub(super) enum Trap {
    /// Whoever knows a later term than this loses its power, before so late.
    Vote(u64, u64),
    /// Workers hear nothing of the leader at this place from this time on.
    Mute(usize, u64),
    /// And then it is cut off from the nodes.
    Cut(usize, u64),
}

/// A leader is not heard by workers for so long before runs are due.
const MUTE: u64 = 30;

/// A trap that has not sprung by then is taken away, in milliseconds.
const TRAP: u64 = 3_000;

impl Cluster {
    pub(super) fn later(&mut self, end: End) {
        let lasts = self.rng.random_range(50..=self.plan.longest);
        self.after(lasts, end);
    }

    fn after(&mut self, lasts: u64, end: End) {
        self.next_end += 1;
        self.ends.insert((self.world.now() + lasts, self.next_end), end);
    }

    pub(super) fn cut(&mut self, paths: Vec<(MachineId, MachineId)>) {
        let lasts = self.rng.random_range(50..=self.plan.longest);
        self.cut_for(paths, lasts);
    }

    fn cut_for(&mut self, paths: Vec<(MachineId, MachineId)>, lasts: u64) {
        self.world.trace.event(format_args!("{} cut {paths:?}", self.world.now()));
        for (from, to) in &paths {
            self.world.net.cut(*from, *to);
        }
        self.after(lasts, End::Heal(paths));
    }

    /// Connections between two machines are dead, most often between the leader and a
    /// node: others have less to say to each other.
    fn lose_connections(&mut self, likely: f64) {
        let (nodes, workers) = self.machines();
        let leader = self.leader().map(|(at, _)| self.places[at].host.id());
        let any = nodes.choose(&mut self.rng).copied();
        let one = if self.rng.random_bool(likely) { leader.or(any) } else { any };
        let more = if self.rng.random_bool(likely) { Vec::new() } else { workers };
        let others = nodes.into_iter().chain(more).filter(|other| Some(*other) != one);
        let others: Vec<MachineId> = others.collect();
        let (Some(one), Some(&other)) = (one, others.choose(&mut self.rng)) else { return };
        self.world.trace.event(format_args!("{} half open {one} {other}", self.world.now()));
        self.world.net.lose(one, other);
    }

    pub(super) fn weather(&mut self, weather: Weather) {
        self.world.trace.event(format_args!("{} {weather:?}", self.world.now()));
        let (nodes, workers) = self.machines();
        let all: Vec<MachineId> = nodes.into_iter().chain(workers).collect();
        for from in &all {
            for to in &all {
                if from != to {
                    self.world.net.set_weather(*from, *to, weather);
                }
            }
        }
    }

    /// Something goes wrong.
    pub(super) fn strike(&mut self) {
        let Some(kind) = self.plan.kind(&mut self.rng) else { return };
        *self.faults.entry(kind).or_default() += 1;
        let running = self.running();
        let node = running.choose(&mut self.rng).copied();
        let seat = self.rng.random_range(0..self.seats.len());
        let worker = self.seats[seat].host.id();
        match kind {
            Kind::Isolate | Kind::Split | Kind::OneWay | Kind::WorkerCut => self.partition(kind),
            Kind::Delay => {
                let most = self.rng.random_range(10..250);
                self.weather(Weather { delay: (1, most), loss: 0 });
                self.later(End::Weather);
            }
            Kind::Loss => {
                let loss = self.rng.random_range(10..200);
                self.weather(Weather { delay: (1, 4), loss });
                self.later(End::Weather);
            }
            Kind::Kill => {
                if let Some(at) = node {
                    self.stop_node(at, false);
                    self.later(End::Node(at));
                }
            }
            Kind::Power => {
                if let Some(at) = node {
                    self.stop_node(at, true);
                    self.later(End::Node(at));
                }
            }
            Kind::PowerAll => {
                for at in running {
                    self.stop_node(at, true);
                    self.later(End::Node(at));
                }
            }
            Kind::Freeze => {
                if let Some(at) = node {
                    let machine = self.places[at].host.id();
                    self.world.freeze(machine);
                    self.later(End::Thaw(machine));
                }
            }
            Kind::SlowDisk => {
                if let Some(at) = node {
                    let machine = self.places[at].host.id();
                    let slow = self.rng.random_range(20..400);
                    self.world.set_sync(machine, (slow / 2, slow));
                    self.later(End::Disk(machine));
                }
            }
            Kind::FullDisk => {
                if let Some(at) = node {
                    let disks = &self.places[at].disks;
                    disks.log.fail_syncs(ErrorKind::StorageFull);
                    disks.snapshots.fail_syncs(ErrorKind::StorageFull);
                    self.processes[at].doom.get_or_insert(Doom::FullDisk);
                    self.later(End::FullDisk(at));
                }
            }
            Kind::HalfOpen => self.lose_connections(0.7),
            Kind::LeaderAlone => {
                let Some((at, _)) = self.leader().filter(|_| self.trap.is_none()) else { return };
                // Whole seconds are when runs are due.
                let now = self.world.now();
                self.trap = Some(Trap::Mute(at, now + 1_000 - now % 1_000 - MUTE));
            }
            Kind::PowerVote => {
                let leader = self.leader().filter(|_| self.trap.is_none());
                let Some((at, term)) = leader else { return };
                let power = self.rng.random_bool(0.5);
                self.stop_node(at, power);
                self.later(End::Node(at));
                self.trap = Some(Trap::Vote(term, self.world.now() + TRAP));
            }
            Kind::WipedStore | Kind::OtherStore => self.lose_store(kind == Kind::OtherStore),
            Kind::WallClock => self.jump(),
            Kind::WorkerKill | Kind::WorkerPower => {
                if self.world.runs(worker) {
                    self.stop_worker(seat, kind == Kind::WorkerPower);
                    self.later(End::Worker(seat));
                }
            }
            Kind::WorkerFreeze => {
                if self.world.runs(worker) {
                    self.world.freeze(worker);
                    self.later(End::Thaw(worker));
                }
            }
            Kind::Replace | Kind::Grow | Kind::Leave | Kind::Transfer => self.change(kind),
        }
    }

    /// The place of the newest leader, and its term.
    fn leader(&self) -> Option<(usize, u64)> {
        let of = |at: &usize| {
            let own = self.places[*at].live()?.node.upgrade()?.status().leadership.own?;
            Some((*at, own.term))
        };
        self.running().iter().filter_map(of).max_by_key(|(_, term)| *term)
    }

    /// Does what a trap waits for.
    pub(super) fn spring(&mut self) {
        let now = self.world.now();
        match self.trap {
            None => {}
            Some(Trap::Vote(term, until)) => {
                for at in self.running() {
                    let node = self.places[at].live().and_then(|live| live.node.upgrade());
                    if node.is_some_and(|node| node.status().term > term) {
                        self.stop_node(at, true);
                        self.later(End::Node(at));
                        self.trap = None;
                    }
                }
                if now > until {
                    self.trap = None;
                }
            }
            // What it says to workers from here on they hear late: their kernels are
            // sent it again.
            Some(Trap::Mute(at, due)) if now >= due => {
                self.trap = Some(Trap::Cut(at, now + MUTE + self.rng.random_range(20..100)));
                let (_, workers) = self.machines();
                let leader = self.places[at].host.id();
                let long = self.rng.random_range(900..1_300);
                let paths = workers.into_iter().map(|worker| (leader, worker)).collect();
                self.cut_for(paths, long);
            }
            Some(Trap::Cut(at, due)) if now >= due => {
                self.trap = None;
                let (nodes, _) = self.machines();
                let leader = self.places[at].host.id();
                let others = nodes.into_iter().filter(|other| *other != leader);
                self.cut(others.flat_map(|other| [(leader, other), (other, leader)]).collect());
            }
            Some(Trap::Mute(..) | Trap::Cut(..)) => {}
        }
    }

    /// A node's disks are empty, and somebody starts it again under its number.
    fn lose_store(&mut self, other: bool) {
        let running = self.running();
        let joined = running.iter().filter_map(|at| Some((*at, self.places[*at].identity()?.node)));
        let joined: Vec<(usize, u64)> = joined.collect();
        let may = self.is_whole() && self.places.len() < PLACES;
        let Some(&(at, number)) = joined.choose(&mut self.rng).filter(|_| may) else { return };
        self.world.trace.event(format_args!("{} n{} loses its store", self.world.now(), at + 1));
        self.stop_node(at, true);
        let place = &mut self.places[at];
        if other {
            place.disks = Disks::default();
            place.store = Uuid::from_u128(self.rng.random());
            (place.number, place.is_founder) = (Some(NodeId(number)), false);
        } else {
            place.disks.log.wipe();
            place.disks.snapshots.wipe();
        }
        self.processes[at].doom = Some(Doom::Lost(NodeId(number)));
        self.later(End::Node(at));
    }

    fn partition(&mut self, kind: Kind) {
        let (nodes, workers) = self.machines();
        let all: Vec<MachineId> = nodes.iter().chain(&workers).copied().collect();
        let one = nodes.choose(&mut self.rng).copied().unwrap_or(0);
        let seat = workers.choose(&mut self.rng).copied().unwrap_or(0);
        let part: Vec<bool> = all.iter().map(|_| self.rng.random_bool(0.5)).collect();
        let flip = self.rng.random_bool(0.5);
        let few = self.rng.random_range(1..=3);
        let mut paths = Vec::new();
        for (a, from) in all.iter().enumerate() {
            for (b, to) in all.iter().enumerate().filter(|(_, to)| *to != from) {
                let cut = match kind {
                    Kind::Isolate => *from == one || *to == one,
                    Kind::WorkerCut => *from == seat || *to == seat,
                    Kind::Split => part[a] != part[b],
                    // All that one says, or all that it hears, or a few directions.
                    _ if few == 1 => *(if flip { from } else { to }) == one,
                    _ => self.rng.random_range(0..all.len() * 2) < few,
                };
                if cut {
                    paths.push((*from, *to));
                }
            }
        }
        self.cut(paths);
    }

    /// At most one wall clock is off at a time: more than half must agree after a
    /// stop of all, or an operator must say what time it is.
    fn jump(&mut self) {
        let (nodes, _) = self.machines();
        let who = nodes.choose(&mut self.rng).copied();
        let off = *[100, 1_000, 30_000, 3_600_000].choose(&mut self.rng).unwrap_or(&0);
        let off = if self.rng.random_bool(0.5) { off } else { -off };
        for machine in nodes {
            self.world.set_wall(machine, if Some(machine) == who { off } else { 0 });
        }
    }

    fn stop_node(&mut self, at: usize, power: bool) {
        let machine = self.places[at].host.id();
        if power {
            self.world.cut_power(machine);
        } else {
            self.world.kill(machine);
        }
        self.places[at].clear();
        self.settle_disks(at, power);
    }

    /// A machine whose process has stopped loses its power.
    pub(super) fn lose_power(&mut self, at: usize) {
        self.world.cut_power(self.places[at].host.id());
        self.settle_disks(at, true);
    }

    /// What is left on the disks of a process that is gone.
    fn settle_disks(&mut self, at: usize, power: bool) {
        let disks = self.places[at].disks.clone();
        for disk in [&disks.log, &disks.snapshots] {
            let pending = disk.pending();
            // What a killed process has written is in the system's hands.
            let keep = if power { self.rng.random_range(0..=pending) } else { pending };
            disk.crash(keep);
        }
        // Whoever cleared up has made room, too.
        if self.processes[at].doom == Some(Doom::FullDisk) {
            self.processes[at].doom = None;
        }
    }

    fn stop_worker(&mut self, at: usize, power: bool) {
        let machine = self.seats[at].host.id();
        let keep = self.rng.random_range(0..=1_000);
        if power {
            self.world.cut_power(machine);
            self.seats[at].jobs.power_cut(self.world.now());
            self.seats[at].folder.power_cut(keep);
        } else {
            self.world.kill(machine);
        }
    }

    /// Changes of who is a member and who leads.
    fn change(&mut self, kind: Kind) {
        let nodes = self.nodes();
        let Some(via) = nodes.choose(&mut self.rng) else { return };
        let running = self.running();
        let joined: Vec<(usize, u64)> = running
            .iter()
            .filter_map(|at| Some((*at, self.places[*at].identity()?.node)))
            .collect();
        let Some(&(at, number)) = joined.choose(&mut self.rng) else { return };
        let there = self.processes.iter().filter(|process| !process.is_gone).count();
        let (reply, done) = oneshot::channel();
        let is_whole = self.is_whole();
        let may_add = is_whole && self.places.len() < PLACES;
        self.world.trace.event(format_args!("{} {kind:?} n{}", self.world.now(), at + 1));
        match kind {
            Kind::Transfer => {
                let _ = via.asks.send(Ask::Transfer(NodeId(number), reply));
                self.moves.push(done);
            }
            Kind::Leave if is_whole && there > 3 => {
                self.processes[at].is_leaving = true;
                let _ = via.asks.send(Ask::Remove(NodeId(number), reply));
                self.moves.push(done);
            }
            Kind::Grow if may_add && there < NODES => {
                let new = self.add_node(None);
                self.processes[new].restart_at = Some(self.world.now());
            }
            Kind::Replace if may_add => {
                self.stop_node(at, true);
                self.processes[at].is_gone = true;
                let new = self.add_node(Some(NodeId(number)));
                self.processes[new].restart_at = Some(self.world.now());
            }
            _ => {}
        }
    }

    pub(super) fn end(&mut self, end: End) {
        match end {
            End::Heal(paths) => {
                self.world.trace.event(format_args!("{} heal {paths:?}", self.world.now()));
                for (from, to) in paths {
                    self.world.net.heal(from, to);
                }
            }
            End::Weather => self.weather(Weather::default()),
            End::Thaw(machine) => self.world.thaw(machine),
            End::Disk(machine) => self.world.set_sync(machine, (0, 1)),
            End::FullDisk(at) => {
                if self.world.runs(self.places[at].host.id())
                    && self.processes[at].doom == Some(Doom::FullDisk)
                {
                    self.stop_node(at, true);
                    self.processes[at].restart_at = Some(self.world.now());
                }
            }
            End::Node(at) => {
                if !self.world.runs(self.places[at].host.id()) {
                    self.processes[at].restart_at = Some(self.world.now());
                }
            }
            End::Worker(at) => {
                if !self.world.runs(self.seats[at].host.id()) {
                    self.restarts[at] = Some(self.world.now());
                }
            }
        }
    }

    /// Everything is well again: network, processes, disks, clocks.
    pub(super) fn heal(&mut self) {
        self.world.trace.event(format_args!("{} all heals", self.world.now()));
        self.trap = None;
        for end in std::mem::take(&mut self.ends).into_values() {
            self.end(end);
        }
        self.weather(Weather::default());
        let (nodes, _) = self.machines();
        for machine in nodes {
            self.world.set_wall(machine, 0);
        }
        // What nobody heals has to be found out by those whose connections they are.
        if self.plan.kinds.contains(&Kind::HalfOpen) {
            self.lose_connections(1.0);
        }
    }
}
