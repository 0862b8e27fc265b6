//! How each fault is done. Nothing counts as installed that was not seen to be so.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;
use rustix::process::Signal;
use serde_json::{Value, json};

use super::ops::{ClockFault, DiskFault, Fault, Shape, Who};
use super::targets::{Field, Targets};
use crate::cluster::{Cluster, DATA};
use crate::env::links::{Host, Link, Overlay, between, on};
use crate::env::network::HARNESS;
use crate::env::torn::{Tear, Torn};
use crate::env::{Error, at};
use crate::mutants::harness;

/// How long a node may take to stop when it is asked to, or told it was removed.
const STOP: Duration = Duration::from_secs(20);

/// How long an operator's command is tried: other faults wait for it.
pub(super) const OPERATION: &str = "3s";

/// The same for a snapshot, which is written slowly.
const SNAPSHOT: &str = "10s";

/// What heals a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Undo {
    /// Its overlay is taken away.
    Links,
    /// The same processes go on: all of a machine,
    Thaw(Vec<usize>),
    /// or workers alone.
    Continue(Targets),
    /// Nodes and workers are started; where the power was cut, disks are mounted first.
    Start(Targets),
    /// The disk has space again, or is as fast as before, or writes go on.
    Disk(Targets, DiskFault),
    /// A worker is given work again.
    Open(String),
    /// A clock is right.
    Clock(Vec<usize>),
    /// A machine has its processor.
    Processor(Vec<usize>),
    /// As many processes can be begun as anybody likes.
    Processes(Vec<usize>),
    /// A node enters the cluster with an empty disk.
    Enter(usize),
    /// It healed itself.
    Nothing,
}

impl Undo {
    /// The node that has no disk, or one that does not work, until then.
    pub(super) fn node_without_disk(&self) -> Option<usize> {
        match self {
            Self::Enter(n) => Some(*n),
            Self::Disk(targets, _) => targets.nodes.first().copied(),
            _ => None,
        }
    }
}

/// A fault that is there.
pub(super) struct Installed {
    pub(super) undo: Undo,
    /// Machines that no other fault may touch meanwhile.
    pub(super) hit: Vec<usize>,
    /// Nodes that may be missing in a quorum meanwhile.
    pub(super) cost: BTreeSet<usize>,
    /// For the record.
    pub(super) detail: Value,
    /// What is cut, for faults that cut and mend again and again.
    pub(super) overlay: Option<Overlay>,
}

/// What is about to be done, with its targets chosen.
pub(super) struct Aim {
    pub(super) targets: Targets,
    pub(super) pairs: Vec<(Host, Host)>,
    pub(super) cost: BTreeSet<usize>,
}

impl Aim {
    /// Chooses the targets of a fault.
    pub(super) fn take(field: &Field<'_>, fault: &Fault) -> Result<Self, String> {
        let of = |who: Who| -> Result<Self, String> {
            let targets = field.resolve(who)?;
            let cost = targets.nodes.iter().copied().collect();
            Ok(Self { targets, pairs: Vec::new(), cost })
        };
        let harmless = |aim: Self| Self { cost: BTreeSet::new(), ..aim };
        match fault {
            Fault::Partition(shape) | Fault::Flap(shape, _) => {
                let (pairs, cost) = field.cut(*shape)?;
                Ok(Self { targets: Targets::default(), pairs, cost })
            }
            // Links can be bad to machines that are down, too.
            Fault::Packets(Who::All, _) => {
                let nodes = (0..field.cluster.nodes.len()).collect();
                let targets = Targets { nodes, workers: Vec::new() };
                Ok(Self { targets, pairs: Vec::new(), cost: BTreeSet::new() })
            }
            Fault::Packets(who, _) | Fault::Processor(who, _) => of(*who).map(harmless),
            Fault::Clock(who, _) | Fault::Snapshot(who) => of(*who).map(harmless),
            Fault::Kill(who)
            | Fault::Stop(who)
            | Fault::CrashLoop(who, _)
            | Fault::Freeze(who)
            | Fault::Power(who)
            | Fault::Torn(who, ..)
            | Fault::Disk(who, _)
            | Fault::Worker(who)
            | Fault::Halt(who)
            | Fault::Processes(who, _)
            | Fault::Wipe(who)
            | Fault::Cordon(who)
            | Fault::Drain(who, _) => of(*who),
            // A smaller membership bears less: nothing else may be missing.
            Fault::Replace(_) | Fault::Remove(_) | Fault::LoseLeader(_) => {
                let mut aim = of(match fault {
                    Fault::Replace(who) | Fault::Remove(who) => *who,
                    _ => Who::Leader,
                })?;
                let bearable = (field.cluster.nodes.len() - 1) / 2;
                let others = (0..field.cluster.nodes.len()).filter(|n| !aim.cost.contains(n));
                let more: Vec<usize> = others.take(bearable.saturating_sub(1)).collect();
                aim.cost.extend(more);
                Ok(aim)
            }
            Fault::Transfer(number) => {
                let mut aim = of(Who::One(*number))?;
                aim.cost.clear();
                Ok(aim)
            }
        }
    }
}

impl Cluster {
    /// Lays a fault over links, if it is then seen to be there.
    pub(super) fn lay(&self, id: u64, overlay: Overlay) -> Result<(), Error> {
        if !harness::on(harness::Fault::NemesisIdle) {
            self.env.network.lay(id, overlay);
        }
        self.verify_links().inspect_err(|_| self.env.network.lift(id))
    }

    /// Takes a fault of links away, and looks whether it is gone.
    pub(super) fn lift(&self, id: u64) -> Result<(), Error> {
        self.env.network.lift(id);
        self.verify_links()
    }

    fn verify_links(&self) -> Result<(), Error> {
        let machines = self.env.machines.iter().map(|machine| machine.host);
        let hosts: Vec<Host> = machines.chain([HARNESS]).collect();
        let wrong = self.env.network.verify(&hosts)?;
        if wrong.is_empty() { Ok(()) } else { Err(Error::Misuse(wrong.join(", "))) }
    }

    pub(super) fn install(&mut self, id: u64, fault: &Fault, aim: Aim) -> Result<Installed, Error> {
        let machines = aim.targets.machines(self);
        let mut done = Installed {
            undo: Undo::Nothing,
            hit: machines.clone(),
            cost: aim.cost,
            detail: Value::Null,
            overlay: None,
        };
        let on_links = matches!(fault, Fault::Partition(_) | Fault::Flap(..) | Fault::Packets(..));
        if harness::on(harness::Fault::NemesisIdle) && !on_links {
            done.undo = Undo::Links;
            return Ok(done);
        }
        match *fault {
            Fault::Partition(shape) | Fault::Flap(shape, _) => {
                let overlay = on(aim.pairs.iter().copied(), Link::CUT);
                let what = json!({"cut": aim.pairs, "shape": shape});
                self.lay(id, overlay.clone())?;
                // A partition leaves machines free for other faults.
                done.hit.clear();
                (done.undo, done.overlay, done.detail) = (Undo::Links, Some(overlay), what);
                if matches!(shape, Shape::WorkersFromLeader | Shape::Worker(_)) {
                    done.cost.clear();
                }
            }
            Fault::Packets(_, link) => {
                let chosen: Vec<Host> =
                    machines.iter().map(|m| self.env.machines[*m].host).collect();
                let machines = self.env.machines.iter().map(|machine| machine.host);
                // A connection that is reset is known to be: clients should see that too.
                let clients = link.reset.then_some(HARNESS);
                let everyone: Vec<Host> = machines.chain(clients).collect();
                let overlay = on(between(&chosen, &everyone), link);
                self.lay(id, overlay)?;
                done.hit.clear();
                done.undo = Undo::Links;
            }
            Fault::Kill(_) | Fault::CrashLoop(..) => {
                self.kill(&aim.targets)?;
                done.undo = Undo::Start(aim.targets);
            }
            Fault::Stop(_) => {
                for n in &aim.targets.nodes {
                    self.nodes[*n].terminate()?;
                }
                done.undo = Undo::Start(aim.targets);
            }
            Fault::Worker(_) => {
                for n in &aim.targets.workers {
                    self.workers[*n].kill()?;
                }
                done.undo = Undo::Start(aim.targets);
            }
            Fault::Halt(_) => {
                for n in &aim.targets.workers {
                    self.workers[*n].halt(true)?;
                }
                done.undo = Undo::Continue(aim.targets);
            }
            Fault::Freeze(_) => {
                for machine in &machines {
                    if !self.env.machines[*machine].group.freeze(true)? {
                        self.thaw(&machines)?;
                        return Err(Error::Misuse("the kernel does not say frozen".into()));
                    }
                }
                done.undo = Undo::Thaw(machines);
            }
            Fault::Power(_) => {
                self.cut_power(&aim.targets, None)?;
                done.undo = Undo::Start(aim.targets);
            }
            Fault::Torn(_, keep, seed) => {
                done.detail = self.cut_power(&aim.targets, Some(Tear { keep, seed }))?;
                done.undo = Undo::Start(aim.targets);
            }
            Fault::Wipe(_) => {
                for n in &aim.targets.workers {
                    self.workers[*n].kill()?;
                    let data = self.env.machines[self.workers[*n].machine].disk.at().join(DATA);
                    std::fs::remove_dir_all(&data).map_err(at(&data.display().to_string()))?;
                }
                done.undo = Undo::Start(aim.targets);
            }
            Fault::Cordon(_) | Fault::Drain(..) => {
                let name = aim.targets.names(self).remove(0);
                self.keep_work_away(fault, &name)?;
                // A worker can be broken meanwhile, too.
                done.hit.clear();
                done.undo = Undo::Open(name);
            }
            Fault::Disk(_, how) => {
                done.detail = self.harm_disk(&aim.targets, how)?;
                done.undo = Undo::Disk(aim.targets, how);
            }
            Fault::Clock(_, how) => {
                let (off, rate) = match how {
                    ClockFault::Jump(off) | ClockFault::Strobe(off) => (off, 1000),
                    ClockFault::Rate(rate) => (0, rate),
                };
                for machine in &machines {
                    self.env.machines[*machine].clock.set(off, rate)?;
                }
                done.hit.clear();
                done.undo = Undo::Clock(machines);
            }
            Fault::Processor(_, thousandths) => {
                for machine in &machines {
                    self.env.machines[*machine].group.processor_limit(Some(thousandths))?;
                }
                done.hit.clear();
                done.undo = Undo::Processor(machines);
            }
            Fault::Processes(_, more) => {
                let mut most = Vec::new();
                for machine in &machines {
                    most.push(self.env.machines[*machine].group.process_limit(Some(more))?);
                }
                done.detail = json!({"most": most});
                done.undo = Undo::Processes(machines);
            }
            Fault::Replace(_) | Fault::LoseLeader(_) => {
                let n = first_node(&aim.targets)?;
                if let Fault::LoseLeader(ms) = *fault {
                    done.detail = self.alone(id, n, Duration::from_millis(ms.into()))?;
                }
                self.nodes[n].kill()?;
                self.env.machines[self.nodes[n].machine].disk.wipe()?;
                if matches!(fault, Fault::LoseLeader(_)) {
                    self.lift(id)?;
                }
                done.undo = Undo::Enter(n);
            }
            Fault::Remove(_) => {
                let n = first_node(&aim.targets)?;
                let number = self.nodes[n].number.to_string();
                self.operate(&["cluster", "remove", &number, "--timeout", OPERATION])?;
                let ended = self.nodes[n].wait(STOP)?;
                done.detail = json!({"stopped_by_itself": ended.is_some()});
                self.nodes[n].kill()?;
                self.env.machines[self.nodes[n].machine].disk.wipe()?;
                // Its number is gone: it joins as a new node.
                self.nodes[n].number = 0;
                done.undo = Undo::Enter(n);
            }
            Fault::Transfer(_) => {
                let n = first_node(&aim.targets)?;
                let number = self.nodes[n].number.to_string();
                self.operate(&["cluster", "transfer", &number, "--timeout", OPERATION])?;
                done.hit.clear();
            }
            Fault::Snapshot(_) => {
                let n = first_node(&aim.targets)?;
                let asked = ["cluster", "snapshot", "--timeout", SNAPSHOT, "-o", "quiet"];
                let index = self.operate_on(n, &asked)?;
                done.detail = json!({"covers": index.trim()});
                done.hit.clear();
            }
        }
        Ok(done)
    }

    /// Cuts a node off from all others, and lets workers speak to it for a while.
    fn alone(&self, id: u64, n: usize, lasts: Duration) -> Result<Value, Error> {
        let others = self.nodes.iter().filter(|node| node.host != self.nodes[n].host);
        let others: Vec<Host> = others.map(|node| node.host).collect();
        let pairs = between(&[self.nodes[n].host], &others);
        self.lay(id, on(pairs.iter().copied(), Link::CUT))?;
        std::thread::sleep(lasts);
        Ok(json!({"cut": pairs}))
    }

    /// kill -9: of a node its process, of a worker everything on its machine.
    pub(super) fn kill(&mut self, targets: &Targets) -> Result<(), Error> {
        // All are told before any is waited for: they should end together.
        for n in &targets.nodes {
            self.nodes[*n].signal(Signal::KILL)?;
        }
        for n in &targets.nodes {
            self.nodes[*n].kill()?;
        }
        for n in &targets.workers {
            self.env.machines[self.workers[*n].machine].kill()?;
            self.workers[*n].kill()?;
        }
        Ok(())
    }

    /// Answers what was torn.
    fn cut_power(&mut self, targets: &Targets, tear: Option<Tear>) -> Result<Value, Error> {
        let machines = targets.machines(self);
        let torn = self.env.cut_power(&machines, tear)?;
        for n in &targets.nodes {
            self.nodes[*n].kill()?;
        }
        for n in &targets.workers {
            self.workers[*n].kill()?;
        }
        let name = |machine: &usize| self.env.machines[*machine].name.clone();
        let told = machines.iter().map(name).zip(torn).map(|(name, torn)| {
            let Torn { kept, older, dropped } = torn;
            (name, json!({"kept": kept, "older": older, "dropped": dropped}))
        });
        Ok(if tear.is_some() { Value::Object(told.collect()) } else { Value::Null })
    }

    pub(super) fn thaw(&self, machines: &[usize]) -> Result<(), Error> {
        for machine in machines {
            self.env.machines[*machine].group.freeze(false)?;
        }
        Ok(())
    }

    fn harm_disk(&mut self, targets: &Targets, how: DiskFault) -> Result<Value, Error> {
        let machine = first(&targets.machines(self))?;
        let disk = &self.env.machines[machine].disk;
        match how {
            DiskFault::Full(leave) => disk.fill(leave)?,
            DiskFault::Slow(bytes) => {
                let (device, _) = disk.device()?;
                self.env.machines[machine].group.write_limit(&device, Some(bytes))?;
            }
            DiskFault::Hung => disk.hang()?,
            DiskFault::ReadOnly => disk.turn_read_only()?,
            DiskFault::Dead => disk.die()?,
            DiskFault::Bits(count, seed) => {
                self.kill(targets)?;
                let mut rng = ChaCha12Rng::seed_from_u64(seed);
                let done = self.env.machines[machine].disk.flip_bits(DATA, count, &mut rng)?;
                return Ok(json!(done));
            }
        }
        Ok(Value::Null)
    }

    /// Asks as an operator does, and sees that it is so.
    fn keep_work_away(&self, fault: &Fault, name: &str) -> Result<(), Error> {
        let deadline;
        let asked: &[&str] = match *fault {
            Fault::Drain(_, ms) => {
                deadline = format!("{ms}ms");
                &["worker", "drain", name, "--detach", "--deadline", &deadline]
            }
            _ => &["worker", "cordon", name],
        };
        self.operate(&[asked, &["--timeout", OPERATION, "-o", "quiet"]].concat())?;
        Ok(())
    }
}

/// The one that a fault of one hits.
pub(super) fn first(all: &[usize]) -> Result<usize, Error> {
    all.first().copied().ok_or_else(|| Error::Misuse("a fault that hits nobody".into()))
}

fn first_node(targets: &Targets) -> Result<usize, Error> {
    first(&targets.nodes)
}
