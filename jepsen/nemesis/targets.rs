//! From roles to machines: who leads now, who is free to be hit, and whether enough
//! would be left.

use std::collections::BTreeSet;

use super::ops::{Shape, Who};
use crate::cluster::Cluster;
use crate::env::links::{Host, between, one_way, ring};

/// Places of nodes and workers in their lists.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Targets {
    pub(super) nodes: Vec<usize>,
    pub(super) workers: Vec<usize>,
}

impl Targets {
    fn node(n: usize) -> Self {
        Self { nodes: vec![n], workers: Vec::new() }
    }

    /// Their places among the machines.
    pub(super) fn machines(&self, cluster: &Cluster) -> Vec<usize> {
        let nodes = self.nodes.iter().map(|n| cluster.nodes[*n].machine);
        nodes.chain(self.workers.iter().map(|n| cluster.workers[*n].machine)).collect()
    }

    /// Their names.
    pub(super) fn names(&self, cluster: &Cluster) -> Vec<String> {
        let machines = self.machines(cluster);
        machines.iter().map(|m| cluster.env.machines[*m].name.clone()).collect()
    }
}

/// Directed pairs that are cut, and the nodes that may be missing for it.
type Cut = (Vec<(Host, Host)>, BTreeSet<usize>);

fn choose<T: Copy>(from: &[T], number: u32) -> Option<T> {
    let count = u32::try_from(from.len()).ok().filter(|count| *count > 0)?;
    from.get(usize::try_from(number % count).ok()?).copied()
}

/// What is free: machines that no other fault has hit.
pub(super) struct Field<'a> {
    pub(super) cluster: &'a Cluster,
    pub(super) hit: &'a BTreeSet<usize>,
}

impl Field<'_> {
    fn free_nodes(&self) -> Vec<usize> {
        let nodes = self.cluster.nodes.iter().enumerate();
        let free = nodes.filter(|(_, node)| node.is_up() && !self.hit.contains(&node.machine));
        free.map(|(n, _)| n).collect()
    }

    /// The free node that leads; asked anew, since it changes all the time.
    fn leader(&self) -> Result<usize, String> {
        let free = self.free_nodes();
        self.cluster.leader_among(&free).ok_or_else(|| "no free node leads".to_owned())
    }

    /// Whom a fault hits now.
    pub(super) fn resolve(&self, who: Who) -> Result<Targets, String> {
        let free = self.free_nodes();
        match who {
            Who::Leader => self.leader().map(Targets::node),
            Who::One(number) => {
                choose(&free, number).map(Targets::node).ok_or_else(|| "no node is free".to_owned())
            }
            Who::All => {
                if free.len() < self.cluster.nodes.len() {
                    return Err("not all nodes are free".to_owned());
                }
                Ok(Targets { nodes: free, workers: Vec::new() })
            }
            Who::Majority(number) => {
                let many = self.cluster.nodes.len() / 2 + 1;
                if free.len() < many {
                    return Err("fewer than a majority is free".to_owned());
                }
                let mut nodes = free;
                let count = u32::try_from(nodes.len()).unwrap_or(1);
                nodes.rotate_left(usize::try_from(number % count).unwrap_or(0));
                nodes.truncate(many);
                Ok(Targets { nodes, workers: Vec::new() })
            }
            Who::Worker(number) => {
                let workers = self.cluster.workers.iter().enumerate();
                let free = workers.filter(|(_, w)| w.is_up() && !self.hit.contains(&w.machine));
                let free: Vec<usize> = free.map(|(n, _)| n).collect();
                let chosen = choose(&free, number);
                chosen
                    .map(|n| Targets { nodes: Vec::new(), workers: vec![n] })
                    .ok_or_else(|| "no worker is free".to_owned())
            }
        }
    }

    /// The directed pairs that a shape cuts, and the nodes that this may cost.
    pub(super) fn cut(&self, shape: Shape) -> Result<Cut, String> {
        let nodes: Vec<Host> = self.cluster.nodes.iter().map(|node| node.host).collect();
        let workers: Vec<Host> = self.cluster.workers.iter().map(|worker| worker.host).collect();
        let others = |n: usize| -> Vec<Host> {
            nodes.iter().copied().filter(|host| *host != nodes[n]).collect()
        };
        let minority = (nodes.len() - 1) / 2;
        let turned = |number: u32| -> Vec<usize> {
            let mut order: Vec<usize> = (0..nodes.len()).collect();
            let count = u32::try_from(order.len()).unwrap_or(1).max(1);
            order.rotate_left(usize::try_from(number % count).unwrap_or(0));
            order
        };
        let hosts = |places: &[usize]| -> Vec<Host> { places.iter().map(|n| nodes[*n]).collect() };
        Ok(match shape {
            Shape::Leader => {
                let leader = self.leader()?;
                (between(&[nodes[leader]], &others(leader)), [leader].into())
            }
            Shape::LeaderOut => {
                let leader = self.leader()?;
                (one_way(&[nodes[leader]], &others(leader)), [leader].into())
            }
            Shape::LeaderIn => {
                let leader = self.leader()?;
                (one_way(&others(leader), &[nodes[leader]]), [leader].into())
            }
            Shape::One(number) => {
                let one = turned(number)[0];
                let rest: Vec<Host> = others(one).into_iter().chain(workers).collect();
                (between(&[nodes[one]], &rest), [one].into())
            }
            Shape::Halves(number) => {
                let order = turned(number);
                let (small, large) = order.split_at(minority);
                let (mut small_side, mut large_side) = (hosts(small), hosts(large));
                for (n, worker) in workers.iter().enumerate() {
                    if n % 2 == 0 { &mut large_side } else { &mut small_side }.push(*worker);
                }
                (between(&small_side, &large_side), small.iter().copied().collect())
            }
            Shape::Ring(number) => {
                let order = turned(number);
                (ring(&hosts(&order)), order[..minority].iter().copied().collect())
            }
            Shape::Bridge(number) => {
                let order = turned(number);
                let half = (order.len() - 1) / 2;
                let (one, other) = (&order[..half], &order[half + 1..]);
                (between(&hosts(one), &hosts(other)), order[..minority].iter().copied().collect())
            }
            Shape::Edge(number) => {
                let order = turned(number);
                (one_way(&hosts(&order[..1]), &hosts(&order[1..2])), [order[0]].into())
            }
            Shape::WorkersFromLeader => {
                (between(&workers, &[nodes[self.leader()?]]), BTreeSet::new())
            }
            Shape::Worker(number) => {
                let worker = choose(&workers, number).ok_or("there are no workers")?;
                (between(&[worker], &nodes), BTreeSet::new())
            }
        })
    }
}
