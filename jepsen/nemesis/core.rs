//! A majority is mended and the rest is not: the majority must work alone.
//!
//! After faults that took the quorum away, mending everything at once hides what
//! hangs on the nodes that happened to be down. So at the end of some schedules only
//! a *core* is mended, a majority; the rest stays down, or cut off from everybody,
//! until the time is over. Whether the core worked is judged from the evidence.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::install::Undo;
use super::ops::{Fault, Who};
use super::schedule::{Core, Planned, Rest};
use super::targets::Targets;
use super::{Active, LOOK, Nemesis};
use crate::cluster::Cluster;
use crate::env::Error;
use crate::env::links::{Host, Link, between, on};
use crate::store::{CORE_ALONE, CORE_REST, Stage};

/// The overlay of what is cut off; no planned fault has this number.
const OVERLAY: u64 = u64::MAX;

impl Nemesis {
    /// Mends a majority, and lets it work alone until the time is over.
    pub(crate) fn leave_alone(
        &mut self,
        cluster: &mut Cluster,
        core: &Core,
        begun: Instant,
        length: Duration,
    ) -> Result<(), Error> {
        // What would keep a node from ending goes first, and shows who has lost a disk.
        let passing = |active: &Active| {
            matches!(active.undo, Undo::Disk(..)) && !active.planned.fault.loses_store()
        };
        for active in self.take(passing) {
            self.heal(cluster, active)?;
        }
        let must = self.cannot_be_counted_on(cluster);
        let Some(rest) = rest_of(cluster.nodes.len(), &must, core.number) else {
            let why = json!("more nodes than a minority have lost their disks");
            return self.row(CORE_ALONE, &json!({}), Stage::Skipped, &why);
        };
        let names = |cluster: &Cluster, is: &dyn Fn(usize) -> bool| -> Vec<String> {
            let nodes = cluster.nodes.iter().enumerate();
            nodes.filter(|(n, _)| is(*n)).map(|(_, node)| node.name.clone()).collect()
        };
        let broken = json!({"who": names(cluster, &|n| rest.contains(&n)), "how": core.rest});
        let alone = json!({"who": names(cluster, &|n| !rest.contains(&n))});

        self.row(CORE_REST, &broken, Stage::Start, &Value::Null)?;
        let active = self.break_rest(cluster, core.rest, &rest, broken.clone())?;
        self.row(CORE_REST, &broken, Stage::Installed, &Value::Null)?;
        for active in self.take(|_| true) {
            self.heal_core(cluster, active, &rest)?;
        }
        self.active.push(active);

        self.row(CORE_ALONE, &alone, Stage::Installed, &Value::Null)?;
        while begun.elapsed() < length {
            self.look_after(cluster)?;
            std::thread::sleep(LOOK);
        }
        self.row(CORE_ALONE, &alone, Stage::Healed, &Value::Null)
    }

    fn take(&mut self, is: impl Fn(&Active) -> bool) -> Vec<Active> {
        let (taken, left) = std::mem::take(&mut self.active).into_iter().partition(is);
        self.active = left;
        taken
    }

    /// Nodes that a majority cannot be made of: their disk is or may be lost, or they do
    /// not vote.
    fn cannot_be_counted_on(&self, cluster: &Cluster) -> BTreeSet<usize> {
        let lost = self.active.iter().filter_map(|active| active.undo.node_without_disk());
        let frozen: BTreeSet<usize> = (self.active.iter())
            .filter(|active| matches!(active.undo, Undo::Thaw(_)))
            .flat_map(|active| active.hit.iter().copied())
            .collect();
        // Who was cut off knows less.
        let told = (0..cluster.nodes.len())
            .filter(|n| cluster.nodes[*n].is_up() && !frozen.contains(&cluster.nodes[*n].machine))
            .filter_map(|n| cluster.status(n))
            .max_by_key(|status| status["applied_index"].as_u64());
        let votes = |number: u64| {
            let members = told.as_ref().and_then(|status| status["members"].as_array());
            members.is_none_or(|all| all.iter().any(|m| m["node"] == number && m["voter"] == true))
        };
        let other = cluster.nodes.iter().enumerate().filter(|(_, node)| {
            node.number == 0 || self.damaged.contains(&node.machine) || !votes(node.number)
        });
        lost.chain(other.map(|(n, _)| n)).collect()
    }

    /// Breaks the rest, as far as it is not broken already.
    fn break_rest(
        &mut self,
        cluster: &mut Cluster,
        how: Rest,
        rest: &BTreeSet<usize>,
        args: Value,
    ) -> Result<Active, Error> {
        let machines: Vec<usize> = rest.iter().map(|n| cluster.nodes[*n].machine).collect();
        let (undo, hit, overlay) = match how {
            Rest::CutOff => {
                let (inside, outside): (Vec<_>, Vec<_>) =
                    (0..cluster.env.machines.len()).partition(|m| machines.contains(m));
                let hosts = |of: Vec<usize>| -> Vec<Host> {
                    of.into_iter().map(|m| cluster.env.machines[m].host).collect()
                };
                let overlay = on(between(&hosts(inside), &hosts(outside)), Link::CUT);
                cluster.lay(OVERLAY, overlay.clone())?;
                (Undo::Links, Vec::new(), Some(overlay))
            }
            Rest::Down => {
                // One that is frozen is as good as down, and stays so.
                let frozen = |n: usize| {
                    let machine = cluster.nodes[n].machine;
                    let thaws = |active: &Active| match &active.undo {
                        Undo::Thaw(machines) => machines.contains(&machine),
                        _ => false,
                    };
                    self.active.iter().any(thaws)
                };
                let up = |n: &usize| cluster.nodes[*n].is_up() && !frozen(*n);
                let nodes: Vec<usize> = rest.iter().copied().filter(up).collect();
                let mut targets = Targets { nodes, workers: Vec::new() };
                cluster.kill(&targets)?;
                // Of the others each has a fault that knows how they come back; and so has
                // one whose disk is broken, which cannot start before that is mended.
                let starts_with_disk = |n: usize| {
                    let of_disk = |undo: &Undo| {
                        matches!(undo, Undo::Disk(..)) && undo.node_without_disk() == Some(n)
                    };
                    self.active.iter().any(|active| of_disk(&active.undo))
                };
                targets.nodes.retain(|n| !starts_with_disk(*n));
                (Undo::Start(targets), machines, None)
            }
        };
        let op = CORE_REST.to_owned();
        let fault = Fault::Kill(Who::One(0));
        Ok(Active {
            planned: Planned { id: OVERLAY, op, at_ms: 0, heal_ms: None, fault },
            args,
            undo,
            hit,
            cost: rest.clone(),
            overlay,
            again: None,
            beat: None,
        })
    }

    /// Heals of a fault what concerns the core.
    fn heal_core(
        &mut self,
        cluster: &mut Cluster,
        mut active: Active,
        rest: &BTreeSet<usize>,
    ) -> Result<(), Error> {
        let of_rest = |cluster: &Cluster, machine: usize| {
            rest.iter().any(|n| cluster.nodes[*n].machine == machine)
        };
        let (now, later) = match &active.undo {
            Undo::Start(targets) => {
                let (later, nodes) = targets.nodes.iter().partition(|n| rest.contains(n));
                let now = Targets { nodes, workers: targets.workers.clone() };
                let later = Targets { nodes: later, workers: Vec::new() };
                let is_any = |targets: &Targets| targets != &Targets::default();
                (
                    is_any(&now).then_some(Undo::Start(now)),
                    is_any(&later).then_some(Undo::Start(later)),
                )
            }
            Undo::Thaw(machines) => {
                let (later, now): (Vec<usize>, Vec<usize>) =
                    machines.iter().partition(|machine| of_rest(cluster, **machine));
                let thaw = |all: Vec<usize>| (!all.is_empty()).then_some(Undo::Thaw(all));
                (thaw(now), thaw(later))
            }
            other => match other.node_without_disk().filter(|n| rest.contains(n)) {
                Some(_) => (None, Some(other.clone())),
                None => (Some(other.clone()), None),
            },
        };
        match (now, later) {
            (now, None) => {
                active.undo = now.unwrap_or(Undo::Nothing);
                self.heal(cluster, active)
            }
            (now, Some(later)) => {
                if let Some(now) = now {
                    let healed = cluster.heal(active.planned.id, &now)?;
                    self.judge_refused(cluster, &healed.refused)?;
                    active.hit.retain(|machine| of_rest(cluster, *machine));
                }
                (active.undo, active.beat) = (later, None);
                self.active.push(active);
                Ok(())
            }
        }
    }
}

/// The nodes that are left broken: as many as a majority can do without, and all of
/// `must` among them. None if those are too many.
fn rest_of(nodes: usize, must: &BTreeSet<usize>, number: u32) -> Option<BTreeSet<usize>> {
    let minority = nodes.saturating_sub(1) / 2;
    if minority == 0 || must.len() > minority {
        return None;
    }
    let mut rest = must.clone();
    let first = usize::try_from(number).unwrap_or(0) % nodes;
    let mut others = (0..nodes).map(|n| (first + n) % nodes);
    while rest.len() < minority {
        rest.insert(others.next()?);
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_is_a_minority_with_everyone_who_cannot_be_counted_on() {
        for (nodes, minority) in [(3, 1), (4, 1), (5, 2), (7, 3)] {
            let mut seen = BTreeSet::new();
            for number in 0..50 {
                let rest = rest_of(nodes, &BTreeSet::new(), number).unwrap();
                assert_eq!(rest.len(), minority);
                assert!(rest.iter().all(|n| *n < nodes));
                seen.extend(rest);
                let with = rest_of(nodes, &BTreeSet::from([2]), number).unwrap();
                assert!(with.contains(&2) && with.len() == minority, "{with:?}");
            }
            assert_eq!(seen.len(), nodes, "each is in the rest of some schedule");
        }
        assert_eq!(rest_of(3, &BTreeSet::from([0, 1]), 7), None);
        assert_eq!(rest_of(1, &BTreeSet::new(), 7), None);
        assert_eq!(rest_of(2, &BTreeSet::new(), 7), None);
    }
}
