//! The streams that a worker keeps: to the nodes of its configuration, and to
//! those that the cluster has told it of since.
//!
//! So a node that joins later is served without a new configuration, and one that
//! was taken out is called no more. What goes over the streams is the agent's.

use std::collections::BTreeMap;

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use super::attach::{self, Event, Identity};

/// The most streams of one worker.
const MOST: usize = 64;

struct Kept {
    address: String,
    is_configured: bool,
    task: AbortHandle,
}

/// See the module.
pub(super) struct Links {
    identity: Identity,
    events: mpsc::Sender<(usize, Event)>,
    kept: BTreeMap<usize, Kept>,
    /// Streams are numbered, and no number comes twice.
    next: usize,
    /// Ends all of them when the worker stops.
    tasks: JoinSet<()>,
}

impl Links {
    /// Begins with the addresses of the configuration, `http://host:port` each.
    pub(super) fn new(
        identity: Identity,
        events: mpsc::Sender<(usize, Event)>,
        configured: &[String],
    ) -> Self {
        let tasks = JoinSet::new();
        let mut links = Self { identity, events, kept: BTreeMap::new(), next: 0, tasks };
        for address in configured {
            links.keep(address.clone(), true);
        }
        links
    }

    fn keep(&mut self, address: String, is_configured: bool) {
        let (node, events) = (self.next, self.events.clone());
        self.next += 1;
        let stream = attach::keep(node, address.clone(), self.identity.clone(), events);
        let task = self.tasks.spawn(stream);
        self.kept.insert(node, Kept { address, is_configured, task });
    }

    /// True unless the stream was let go.
    pub(super) fn holds(&self, node: usize) -> bool {
        self.kept.contains_key(&node)
    }

    /// Where a stream goes.
    pub(super) fn address(&self, node: usize) -> Option<&str> {
        self.kept.get(&node).map(|kept| kept.address.as_str())
    }

    /// Where all of them go.
    pub(super) fn addresses(&self) -> Vec<String> {
        self.kept.values().map(|kept| kept.address.clone()).collect()
    }

    /// Hears who the cluster's nodes are, as `host:port` each. If it is the leader
    /// that says so, nodes that it does not name and that are not configured are
    /// let go; the answer is their streams' numbers.
    pub(super) fn learn(&mut self, nodes: &[String], is_leader: bool) -> Vec<usize> {
        // Streams that were let go have ended meanwhile.
        while self.tasks.try_join_next().is_some() {}
        let named: Vec<String> = nodes.iter().map(|node| format!("http://{node}")).collect();
        let mut gone = Vec::new();
        if is_leader {
            self.kept.retain(|node, kept| {
                let stays = kept.is_configured || named.contains(&kept.address);
                if !stays {
                    kept.task.abort();
                    gone.push(*node);
                }
                stays
            });
        }
        for address in named {
            let is_known = self.kept.values().any(|kept| kept.address == address);
            if is_known {
                continue;
            }
            if self.kept.len() >= MOST {
                tracing::warn!(%address, "not attached to this node: {MOST} streams are the most");
                continue;
            }
            tracing::info!(%address, "attaching to a node that the cluster named");
            self.keep(address, false);
        }
        gone
    }
}

#[cfg(test)]
mod tests {
    use horai_core::ids::{Incarnation, Name};

    use super::*;

    fn addresses(links: &Links) -> Vec<&str> {
        links.kept.values().map(|kept| kept.address.as_str()).collect()
    }

    #[tokio::test]
    async fn streams_follow_the_cluster_and_keep_what_is_configured() {
        let name = Name::new("w").unwrap();
        let identity =
            Identity { name, incarnation: Incarnation(1), token: "t".into(), dial: None };
        let events = mpsc::channel(64).0;
        let mut links = Links::new(identity, events, &["http://a:1".into()]);
        let say = |nodes: &[&str]| nodes.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert!(links.learn(&say(&["a:1", "b:1"]), false).is_empty());
        assert!(links.learn(&say(&["c:1"]), false).is_empty(), "a follower takes nobody out");
        assert_eq!(addresses(&links), ["http://a:1", "http://b:1", "http://c:1"]);
        assert_eq!(links.learn(&say(&["c:1", "d:1"]), true), [1]);
        assert_eq!(addresses(&links), ["http://a:1", "http://c:1", "http://d:1"]);
        let many: Vec<String> = (0..100).map(|n| format!("n{n}:1")).collect();
        links.learn(&many, false);
        assert_eq!(links.kept.len(), MOST);
    }
}
