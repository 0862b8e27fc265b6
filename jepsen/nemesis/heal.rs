//! How each fault is healed, and nodes are brought back.
//!
//! A node that refuses to start after its disk failed is replaced under a new
//! number, as an operator would. One that refuses after a kill or a power cut, or after
//! its disk was only full or kept it waiting, is a fault of the product: that is written
//! down as `node-refused`.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::install::{OPERATION, Undo, first};
use super::ops::DiskFault;
use super::targets::Targets;
use crate::cluster::{Cluster, Server};
use crate::env::Error;
use crate::env::processes::how as how_ended;
use crate::error::chain;

/// How long a node that was started may take to answer.
const ANSWER: Duration = Duration::from_secs(15);
/// How long a node may take to end for a fault that is healed already.
const LATE: Duration = Duration::from_millis(500);

/// What came of bringing nodes back.
#[derive(Debug, Default)]
pub(super) struct Revived {
    /// Nodes that do not start, and what they said.
    pub(super) refused: Vec<(String, String)>,
    /// This node still has to enter the cluster with its empty disk.
    pub(super) must_enter: Option<usize>,
    /// Nobody could be asked to heal it: it is there still, and has to be tried again.
    pub(super) must_ask: bool,
    /// A node has entered with an empty disk.
    pub(super) replaced: bool,
    /// For the record.
    pub(super) detail: Vec<Value>,
}

impl Cluster {
    pub(super) fn heal(&mut self, id: u64, undo: &Undo) -> Result<Revived, Error> {
        let mut revived = Revived::default();
        match undo {
            Undo::Nothing => {}
            Undo::Links => self.lift(id)?,
            Undo::Thaw(machines) => self.thaw(machines)?,
            Undo::Continue(targets) => {
                for n in &targets.workers {
                    self.workers[*n].halt(false)?;
                }
            }
            Undo::Start(targets) => {
                for machine in targets.machines(self) {
                    self.env.machines[machine].disk.mount_if_not()?;
                }
                for n in &targets.workers {
                    self.start_worker(*n)?;
                }
                self.revive(&targets.nodes, false, &mut revived)?;
            }
            Undo::Disk(targets, how) => self.heal_disk(targets, *how, &mut revived)?,
            Undo::Open(name) => {
                let asked = ["worker", "uncordon", name, "--timeout", OPERATION, "-o", "quiet"];
                revived.must_ask = self.operate(&asked).is_err();
            }
            Undo::Clock(machines) => {
                for machine in machines {
                    self.env.machines[*machine].clock.set(0, 1000)?;
                }
            }
            Undo::Processor(machines) => {
                for machine in machines {
                    self.env.machines[*machine].group.processor_limit(None)?;
                }
            }
            Undo::Processes(machines) => {
                for machine in machines {
                    self.env.machines[*machine].group.process_limit(None)?;
                }
            }
            Undo::Enter(n) => self.try_to_enter(*n, &mut revived)?,
        }
        Ok(revived)
    }

    fn heal_disk(
        &mut self,
        targets: &Targets,
        how: DiskFault,
        revived: &mut Revived,
    ) -> Result<(), Error> {
        let machine = first(&targets.machines(self))?;
        for server in self.servers(targets) {
            if let Some(status) = server.has_ended()? {
                revived.detail.push(json!({"node": server.name, "had_ended": how_ended(status)}));
                server.forget();
            }
        }
        match how {
            DiskFault::Full(_) => self.env.machines[machine].disk.free()?,
            DiskFault::Slow(_) => {
                let (device, _) = self.env.machines[machine].disk.device()?;
                self.env.machines[machine].group.write_limit(&device, None)?;
            }
            DiskFault::Hung => self.env.machines[machine].disk.thaw()?,
            DiskFault::ReadOnly | DiskFault::Dead => {
                self.kill(targets)?;
                let disk = &mut self.env.machines[machine].disk;
                disk.unmount()?;
                if how == DiskFault::ReadOnly {
                    disk.mend()?;
                }
                disk.mount()?;
            }
            DiskFault::Bits(..) => {}
        }
        for server in self.servers(targets) {
            // It may have seen the disk fail only now.
            if server.wait(LATE)?.is_some() {
                revived.detail.push(json!({"node": server.name, "ended_late": true}));
                server.forget();
            }
        }
        for n in &targets.workers {
            self.start_worker(*n)?;
        }
        self.revive(&targets.nodes, how.may_cost_store(), revived)
    }

    fn servers(&mut self, targets: &Targets) -> impl Iterator<Item = &mut Server> {
        let nodes = self.nodes.iter_mut().enumerate();
        let nodes = nodes.filter(|(n, _)| targets.nodes.contains(n));
        let workers = self.workers.iter_mut().enumerate();
        let workers = workers.filter(|(n, _)| targets.workers.contains(n));
        nodes.chain(workers).map(|(_, server)| server)
    }

    /// Starts nodes and waits until each answers.
    fn revive(
        &mut self,
        nodes: &[usize],
        may_replace: bool,
        revived: &mut Revived,
    ) -> Result<(), Error> {
        let mut going_on: Vec<usize> =
            nodes.iter().copied().filter(|n| self.nodes[*n].is_up()).collect();
        for n in nodes {
            self.start_node(*n)?;
        }
        for n in nodes {
            let end = Instant::now() + ANSWER;
            loop {
                if let Some(status) = self.nodes[*n].has_ended()? {
                    let (name, said) = (self.nodes[*n].name.clone(), self.nodes[*n].last_words());
                    self.nodes[*n].forget();
                    let text = format!("{}: {said}", how_ended(status));
                    // One that was still ending has refused nothing: it was not started yet.
                    if let Some(place) = going_on.iter().position(|other| other == n) {
                        going_on.remove(place);
                        revived.detail.push(json!({"node": name, "had_ended": text}));
                        self.start_node(*n)?;
                        continue;
                    }
                    if may_replace {
                        revived.detail.push(json!({"node": name, "refused_to_start": text}));
                        self.empty_disk(*n)?;
                        revived.must_enter = Some(*n);
                    } else {
                        revived.refused.push((name, text));
                    }
                    break;
                }
                if self.status(*n).is_some() {
                    break;
                }
                if Instant::now() > end {
                    let name = self.nodes[*n].name.clone();
                    revived.detail.push(json!({"node": name, "silent_after": ANSWER.as_secs()}));
                    break;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
        }
        Ok(())
    }

    /// A node that ended because of damage on its disk gets an empty one.
    pub(super) fn empty_disk(&mut self, n: usize) -> Result<(), Error> {
        self.nodes[n].kill()?;
        self.env.machines[self.nodes[n].machine].disk.wipe()
    }

    /// A node with an empty disk enters: in its old place, or as a new node. Without a
    /// leader it has to be tried again: nothing else may wait for it meanwhile.
    fn try_to_enter(&mut self, n: usize, revived: &mut Revived) -> Result<(), Error> {
        let status = self.leader().and_then(|leader| self.status(leader));
        let Some(status) = status else {
            revived.must_enter = Some(n);
            return Ok(());
        };
        let number = self.nodes[n].number;
        let members = status["members"].as_array().map_or(&[][..], Vec::as_slice);
        let is_member = members.iter().any(|member| member["node"] == number);
        let lost = Some(number).filter(|_| number > 0 && is_member);
        if let Err(error) = self.enter(n, lost) {
            // What was cut short may have left something behind.
            self.empty_disk(n)?;
            revived.must_enter = Some(n);
            revived.detail.push(json!(chain(&error)));
            return Ok(());
        }
        revived.replaced = true;
        self.start_node(n)?;
        self.learn_number(n)?;
        let node = &self.nodes[n];
        let detail = json!({"node": node.name, "entered_as": node.number, "instead_of": lost});
        revived.detail.push(detail);
        Ok(())
    }
}
