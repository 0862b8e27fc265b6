//! How each kind of fault begins, and how it ends.

use horai_core::ids::NodeId;
use rand_seeded::RngExt;
use rand_seeded::seq::IndexedRandom;
use tokio::sync::oneshot;

use super::faults::Kind;
use super::node::Ask;
use super::{Cluster, End, NODES, PLACES};
use crate::world::net::{MachineId, Weather};

impl Cluster {
    pub(super) fn later(&mut self, end: End) {
        let lasts = self.rng.random_range(50..=self.plan.longest);
        self.next_end += 1;
        self.ends.insert((self.world.now() + lasts, self.next_end), end);
    }

    pub(super) fn cut(&mut self, paths: Vec<(MachineId, MachineId)>) {
        self.world.trace.event(format_args!("{} cut {paths:?}", self.world.now()));
        for (from, to) in &paths {
            self.world.net.cut(*from, *to);
        }
        self.later(End::Heal(paths));
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
        let disks = self.places[at].disks.clone();
        for disk in [&disks.log, &disks.snapshots] {
            let pending = disk.pending();
            // What a killed process has written is in the system's hands.
            let keep = if power { self.rng.random_range(0..=pending) } else { pending };
            disk.crash(keep);
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
        for end in std::mem::take(&mut self.ends).into_values() {
            self.end(end);
        }
        self.weather(Weather::default());
        let (nodes, _) = self.machines();
        for machine in nodes {
            self.world.set_wall(machine, 0);
        }
    }
}
