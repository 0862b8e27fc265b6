//! Breaks the cluster by a schedule, and writes down what really happened.
//!
//! Each fault ends as `installed` (seen to be there), `skipped` (with the reason) or
//! `indeterminate` (it failed half way). One thread does everything, one step after
//! the other, and between them it looks after processes that end by themselves:
//! these are written down and started again, as an init system would.

mod core;
mod heal;
mod install;
pub(crate) mod ops;
pub(crate) mod schedule;
mod targets;

use std::collections::BTreeSet;
use std::fs::File;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::Cluster;
use crate::env::links::Overlay;
use crate::env::processes::how;
use crate::env::{Error, at};
use crate::error::chain;
use crate::store::{self, DAMAGE_FOUND, Stage, names_damage};
use crate::time::Stamp;
use install::{Aim, Undo};
use ops::{ClockFault, DiskFault, Fault};
use schedule::{Planned, Schedule};
use targets::Field;

/// Between two looks at processes.
const LOOK: Duration = Duration::from_millis(50);
/// A process that ends again and again is started so often.
const RESTART: Duration = Duration::from_secs(2);
/// Between two tries to heal what could not be healed.
const AGAIN: Duration = Duration::from_secs(1);
/// How long healing everything at the end may take.
const HEAL: Duration = Duration::from_secs(120);
/// A clock that jumps to and fro does so this often.
const STROBE: Duration = Duration::from_millis(10);
/// A node in a crash loop lives and is dead for so long.
const CRASH: Duration = Duration::from_millis(600);

/// A fault that is there.
struct Active {
    planned: Planned,
    args: Value,
    undo: Undo,
    hit: Vec<usize>,
    cost: BTreeSet<usize>,
    overlay: Option<Overlay>,
    /// When a healing that could not be done is tried again.
    again: Option<Instant>,
    /// For those that act again and again: how often, when next, how many times.
    beat: Option<(Duration, Instant, u32)>,
}

impl Active {
    /// What is there, whoever did it, and hits nobody else's machine.
    fn of(planned: Planned, args: Value, undo: Undo) -> Self {
        let (hit, cost) = (Vec::new(), BTreeSet::new());
        Self { planned, args, undo, hit, cost, overlay: None, again: None, beat: None }
    }

    /// A node whose disk was found to be damaged, and which got an empty one.
    fn entering(n: usize, machine: usize, args: Value) -> Self {
        let fault = Fault::Replace(ops::Who::One(0));
        let planned =
            Planned { id: 0, op: DAMAGE_FOUND.to_owned(), at_ms: 0, heal_ms: None, fault };
        Self {
            hit: vec![machine],
            cost: BTreeSet::from([n]),
            again: Some(Instant::now()),
            ..Self::of(planned, args, Undo::Enter(n))
        }
    }
}

/// Does a schedule.
pub(crate) struct Nemesis {
    rows: File,
    safe: bool,
    active: Vec<Active>,
    /// Machines whose disk holds bits that were turned over: nobody may have read
    /// them yet.
    damaged: BTreeSet<usize>,
    restarted: Option<Instant>,
}

impl Nemesis {
    /// Nothing is broken yet. In the safe regime a quorum is always left.
    pub(crate) fn new(rows: File, safe: bool) -> Self {
        Self { rows, safe, active: Vec::new(), damaged: BTreeSet::new(), restarted: None }
    }

    /// Does what is planned until the time is over. What is there then stays.
    pub(crate) fn run(
        &mut self,
        cluster: &mut Cluster,
        schedule: &Schedule,
        begun: Instant,
        length: Duration,
    ) -> Result<(), Error> {
        let mut planned = schedule.faults.iter().peekable();
        while begun.elapsed() < length {
            let due = |ms: u64| begun + Duration::from_millis(ms) <= Instant::now();
            let healing = |active: &Active| match active.again {
                Some(again) => again <= Instant::now(),
                None => active.planned.heal_ms.is_some_and(due),
            };
            if let Some(place) = self.active.iter().position(healing) {
                let active = self.active.remove(place);
                self.heal(cluster, active)?;
            } else if let Some(next) = planned.next_if(|next| due(next.at_ms)) {
                self.install(cluster, next)?;
            } else {
                self.beat(cluster)?;
                self.look_after(cluster)?;
                let beats = self.active.iter().filter_map(|active| active.beat);
                let next = beats.map(|(_, next, _)| next).min();
                let pause = next
                    .map_or(LOOK, |next| next.saturating_duration_since(Instant::now()).min(LOOK));
                std::thread::sleep(pause);
            }
        }
        Ok(())
    }

    /// Heals everything that is still there: network, what is frozen, disks, processes,
    /// clocks, members, in this order.
    pub(crate) fn heal_all(&mut self, cluster: &mut Cluster) -> Result<(), Error> {
        let end = Instant::now() + HEAL;
        while !self.active.is_empty() && Instant::now() < end {
            let mut active = std::mem::take(&mut self.active);
            active.sort_by_key(|active| match active.undo {
                Undo::Links => 0,
                Undo::Thaw(_) | Undo::Continue(_) => 1,
                Undo::Processor(_) | Undo::Processes(_) => 1,
                // A node that is down besides can only start when its disk works again.
                Undo::Disk(..) => 2,
                Undo::Start(_) => 3,
                Undo::Clock(_) => 4,
                Undo::Enter(_) | Undo::Nothing => 5,
                // Somebody must lead to take it.
                Undo::Open(_) => 6,
            });
            for active in active {
                self.heal(cluster, active)?;
            }
            self.look_after(cluster)?;
            std::thread::sleep(LOOK);
        }
        for active in std::mem::take(&mut self.active) {
            let detail = json!("it could not be healed in time");
            self.row(&active.planned.op, &active.args, Stage::Indeterminate, &detail)?;
        }
        Ok(())
    }

    /// Looks after processes for a while, with nothing broken.
    pub(crate) fn look_after(&mut self, cluster: &mut Cluster) -> Result<(), Error> {
        let hit: BTreeSet<usize> = self.active.iter().flat_map(|a| &a.hit).copied().collect();
        if self.restarted.is_some_and(|at| at.elapsed() < RESTART) {
            return Ok(());
        }
        for n in 0..cluster.nodes.len() {
            let (ended, node) = (cluster.nodes[n].has_ended()?, &cluster.nodes[n]);
            let name = node.name.clone();
            if hit.contains(&node.machine) {
                continue;
            }
            if let Some(status) = ended {
                let detail = format!("{}: {}", how(status), node.last_words());
                let machine = node.machine;
                // Damage may be met long after it was done; anything else that ends a node
                // is not excused by it.
                if names_damage(&detail) && self.damaged.remove(&machine) {
                    self.replace_damaged(cluster, n, &detail)?;
                    continue;
                }
                self.row("node-exit", &json!({"who": [name]}), Stage::Installed, &json!(detail))?;
                cluster.nodes[n].forget();
                cluster.start_node(n)?;
                self.row("node-exit", &json!({"who": [name]}), Stage::Healed, &Value::Null)?;
                self.restarted = Some(Instant::now());
            } else if !node.is_up() && node.number > 0 {
                cluster.start_node(n)?;
                self.restarted = Some(Instant::now());
            }
        }
        for n in 0..cluster.workers.len() {
            let ended = cluster.workers[n].has_ended()?;
            let name = cluster.workers[n].name.clone();
            if let Some(status) = ended.filter(|_| !hit.contains(&cluster.workers[n].machine)) {
                let detail = json!(how(status));
                self.row("worker-exit", &json!({"who": [name]}), Stage::Installed, &detail)?;
                cluster.workers[n].forget();
                cluster.start_worker(n)?;
                self.row("worker-exit", &json!({"who": [name]}), Stage::Healed, &Value::Null)?;
                self.restarted = Some(Instant::now());
            }
        }
        Ok(())
    }

    fn install(&mut self, cluster: &mut Cluster, planned: &Planned) -> Result<(), Error> {
        let op = planned.op.as_str();
        let plain = json!({"id": planned.id, "fault": planned.fault});
        let hit: BTreeSet<usize> = self.active.iter().flat_map(|a| &a.hit).copied().collect();
        let field = Field { cluster, hit: &hit };
        let aim = match Aim::take(&field, &planned.fault) {
            Ok(aim) => aim,
            Err(reason) => return self.row(op, &plain, Stage::Skipped, &json!(reason)),
        };
        // What a majority has lost for ever, nobody can bring back: only one store at a
        // time may be lost, in either regime, and only when all others are whole.
        let losing = self.active.iter().any(|active| active.planned.fault.loses_store());
        let whole = || cluster.voters() == Some(cluster.nodes.len());
        if planned.fault.loses_store() && (losing || !self.damaged.is_empty() || !whole()) {
            return self.row(op, &plain, Stage::Skipped, &json!("another store may be lost"));
        }
        // A copy that others lack must not be lost before they have it.
        if planned.fault.loses_store() && cluster.logs_behind() != Some(0) {
            return self.row(op, &plain, Stage::Skipped, &json!("logs are not copied yet"));
        }
        let mut duties = self.active.iter().filter(|a| a.planned.fault.keeps_work_away());
        let alone = cluster.workers.len() < 2 || duties.next().is_some();
        if planned.fault.keeps_work_away() && alone {
            return self.row(op, &plain, Stage::Skipped, &json!("nobody would be left to work"));
        }
        let costs = self.active.iter().flat_map(|active| &active.cost).chain(&aim.cost);
        let missing = costs.collect::<BTreeSet<_>>().len();
        if self.safe && !aim.cost.is_empty() && missing > (cluster.nodes.len() - 1) / 2 {
            return self.row(op, &plain, Stage::Skipped, &json!("it would take the quorum away"));
        }
        let mut args = plain;
        // Of a partition, those that it may cost the quorum.
        let mut who = aim.targets.names(cluster);
        if who.is_empty() {
            who.extend(aim.cost.iter().map(|n| cluster.nodes[*n].name.clone()));
        }
        args["who"] = json!(who);
        let machines = aim.targets.machines(cluster);
        self.row(op, &args, Stage::Start, &Value::Null)?;
        match cluster.install(planned.id, &planned.fault, aim) {
            Ok(done) => {
                self.row(op, &args, Stage::Installed, &done.detail)?;
                if matches!(planned.fault, Fault::Disk(_, DiskFault::Bits(..))) {
                    self.damaged.extend(&done.hit);
                }
                let every = match planned.fault {
                    Fault::Flap(_, ms) => Some(Duration::from_millis(ms.into())),
                    Fault::Clock(_, ClockFault::Strobe(_)) => Some(STROBE),
                    Fault::CrashLoop(..) => Some(CRASH),
                    _ => None,
                };
                let active = Active {
                    planned: planned.clone(),
                    args,
                    undo: done.undo,
                    hit: done.hit,
                    cost: done.cost,
                    overlay: done.overlay,
                    again: None,
                    beat: every.map(|every| (every, Instant::now() + every, 0)),
                };
                if active.undo == Undo::Nothing {
                    return self.heal(cluster, active);
                }
                self.active.push(active);
                Ok(())
            }
            Err(error) => {
                // A removal may have been done: then the node ends, and has to join.
                if let (Fault::Remove(_), [machine]) = (planned.fault, machines.as_slice()) {
                    self.damaged.insert(*machine);
                }
                self.row(op, &args, Stage::Indeterminate, &json!(chain(&error)))?;
                // So may this, which has to be taken back then.
                if planned.fault.keeps_work_away() {
                    let undo = Undo::Open(who.swap_remove(0));
                    self.active.push(Active::of(planned.clone(), args, undo));
                }
                Ok(())
            }
        }
    }

    fn heal(&mut self, cluster: &mut Cluster, mut active: Active) -> Result<(), Error> {
        let (op, args) = (active.planned.op.as_str(), &active.args);
        if active.again.is_none() {
            self.row(op, args, Stage::Heal, &Value::Null)?;
        }
        let revived = match cluster.heal(active.planned.id, &active.undo) {
            Ok(revived) => revived,
            Err(error) => {
                // Not there any more as it was, and not healed: nobody knows.
                return self.row(op, args, Stage::Indeterminate, &json!(chain(&error)));
            }
        };
        if revived.replaced {
            active.hit.iter().for_each(|machine| _ = self.damaged.remove(machine));
        }
        if revived.must_ask {
            active.again = Some(Instant::now() + AGAIN);
            self.active.push(active);
            return Ok(());
        }
        if let Some(n) = revived.must_enter {
            if !revived.detail.is_empty() {
                self.row(op, args, Stage::Heal, &json!(revived.detail))?;
            }
            (active.undo, active.again) = (Undo::Enter(n), Some(Instant::now() + AGAIN));
            self.active.push(active);
            return Ok(());
        }
        self.judge_refused(cluster, &revived.refused)?;
        let beats = active.beat.map(|(_, _, count)| json!({"beats": count}));
        let detail: Vec<Value> = revived.detail.into_iter().chain(beats).collect();
        self.row(op, args, Stage::Healed, &json!(detail))
    }

    /// Nodes that do not start though nothing was done to their store: written down as
    /// such, but for those whose disk was damaged before and that say so.
    fn judge_refused(
        &mut self,
        cluster: &mut Cluster,
        refused: &[(String, String)],
    ) -> Result<(), Error> {
        for (name, said) in refused {
            let n = cluster.nodes.iter().position(|node| node.name == *name);
            let damaged = |n: &usize| self.damaged.contains(&cluster.nodes[*n].machine);
            if let Some(n) = n.filter(damaged).filter(|_| names_damage(said)) {
                self.damaged.remove(&cluster.nodes[n].machine);
                self.replace_damaged(cluster, n, said)?;
                continue;
            }
            self.row("node-refused", &json!({"who": [name]}), Stage::Installed, &json!(said))?;
        }
        Ok(())
    }

    /// A node whose disk was found to be damaged gets an empty one, and enters with it.
    fn replace_damaged(
        &mut self,
        cluster: &mut Cluster,
        n: usize,
        said: &str,
    ) -> Result<(), Error> {
        let (machine, name) = (cluster.nodes[n].machine, cluster.nodes[n].name.clone());
        let args = json!({"who": [name]});
        self.row(DAMAGE_FOUND, &args, Stage::Installed, &json!(said))?;
        cluster.empty_disk(n)?;
        self.active.push(Active::entering(n, machine, args));
        Ok(())
    }

    /// Faults that act again and again do so when they are due.
    fn beat(&mut self, cluster: &mut Cluster) -> Result<(), Error> {
        for active in &mut self.active {
            let Some((every, next, count)) = &mut active.beat else { continue };
            if *next > Instant::now() {
                continue;
            }
            (*next, *count) = (Instant::now() + *every, *count + 1);
            let odd = *count % 2 == 1;
            match (active.planned.fault, &active.undo) {
                (Fault::Flap(..), _) => match active.overlay.clone() {
                    Some(overlay) if !odd => cluster.env.network.lay(active.planned.id, overlay),
                    _ => cluster.env.network.lift(active.planned.id),
                },
                (Fault::Clock(_, ClockFault::Strobe(off)), Undo::Clock(machines)) => {
                    for machine in machines {
                        let off = if odd { -off } else { off };
                        cluster.env.machines[*machine].clock.set(off, 1000)?;
                    }
                }
                (Fault::CrashLoop(_, times), Undo::Start(targets)) => {
                    if odd {
                        for n in &targets.nodes {
                            cluster.start_node(*n)?;
                        }
                    } else if *count / 2 < times {
                        cluster.kill(targets)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn row(&mut self, op: &str, args: &Value, stage: Stage, detail: &Value) -> Result<(), Error> {
        let Stamp { t, utc } = Stamp::now();
        let op = op.to_owned();
        let row = store::Fault { t, utc, op, args: args.clone(), stage, detail: detail.clone() };
        store::write_row(&mut self.rows, &row).map_err(at("write nemesis.jsonl"))
    }
}
