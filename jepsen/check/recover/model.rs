//! What must become of a tree of actions, step after step, if each step is taken while
//! the tree is at rest: a plain reading of what recoveries promise, for one instant of
//! jobs that wait for success and nothing else.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What an action came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stands {
    Waiting,
    Running,
    Success,
    Failed,
    /// With what it waits for.
    SkippedWith,
    /// By a person.
    SkippedBy,
}

impl Stands {
    /// The word in a record, if it is over.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Running => "running",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::SkippedWith | Self::SkippedBy => "skipped",
        }
    }

    fn is_skipped(self) -> bool {
        matches!(self, Self::SkippedWith | Self::SkippedBy)
    }
}

/// A run that there must be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expected {
    /// As in a record.
    pub(super) kind: &'static str,
    /// Whether it must end well.
    pub(super) good: bool,
    /// It begins after these have ended well: actions, and which of their runs.
    pub(super) after: Vec<(String, usize)>,
}

#[derive(Debug, Clone)]
struct Node {
    ups: Vec<String>,
    stands: Stands,
    /// What it waits for no longer, and the run that did it, if one did.
    met: BTreeMap<String, Option<usize>>,
    next: Option<&'static str>,
    /// It has come to what it is by a run.
    has_run: bool,
    /// It had come to something before.
    anew: bool,
    runs: Vec<Expected>,
}

/// One instant of a tree.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    nodes: BTreeMap<String, Node>,
    /// Fails when it first runs.
    fails: String,
    /// Runs that have not ended.
    live: VecDeque<String>,
    /// Those that were told a second time in this step, and did not wait for it.
    told_twice: BTreeSet<String>,
    /// Those that have begun in this step.
    begun: BTreeSet<String>,
    unsure: bool,
}

impl Tree {
    /// After the root has fired, at rest.
    pub(super) fn fired(nodes: &[(&str, &[&str])], fails: &str) -> Self {
        let node = |ups: &[&str]| Node {
            ups: ups.iter().map(|up| (*up).to_owned()).collect(),
            stands: Stands::Waiting,
            met: BTreeMap::new(),
            next: None,
            has_run: false,
            anew: false,
            runs: Vec::new(),
        };
        let all = nodes.iter().map(|(name, ups)| ((*name).to_owned(), node(ups))).collect();
        let mut tree = Self {
            nodes: all,
            fails: fails.to_owned(),
            live: VecDeque::new(),
            told_twice: BTreeSet::new(),
            begun: BTreeSet::new(),
            unsure: false,
        };
        for (root, _) in nodes.iter().filter(|(_, ups)| ups.is_empty()) {
            tree.run(root, "schedule");
        }
        tree.come_to_rest();
        tree
    }

    /// Runs of an action, in order.
    pub(super) fn runs(&self, node: &str) -> &[Expected] {
        self.nodes.get(node).map_or(&[], |node| &node.runs)
    }

    /// What an action came to.
    pub(super) fn stands(&self, node: &str) -> Stands {
        self.nodes.get(node).map_or(Stands::Waiting, |node| node.stands)
    }

    /// True if of two runs of one step the one that ends first decides what follows.
    pub(super) fn is_unsure(&self) -> bool {
        self.unsure
    }

    /// A step that was taken: an operation on an action.
    pub(super) fn step(&mut self, op: &str, on: &str) {
        self.told_twice.clear();
        self.begun.clear();
        match op {
            "recover" => {
                self.reopen(on, Some("recover"));
                self.start(on);
            }
            "super-recover" => {
                let tree = self.below(on);
                for down in &tree {
                    self.reopen(down, Some("super_recover"));
                    let node = self.node(down);
                    for up in node.ups.clone() {
                        if up == on || tree.contains(&up) {
                            node.met.remove(&up);
                        } else {
                            node.met.entry(up).or_insert(None);
                        }
                    }
                }
                self.reopen(on, Some("super_recover"));
                self.start(on);
            }
            "force-success" if self.stands(on) != Stands::Success => {
                self.node(on).anew = self.is_over(on);
                self.settle(on, Stands::Success, None);
            }
            "skip-action" if self.stands(on) != Stands::Success => {
                self.node(on).anew = self.is_over(on);
                self.settle(on, Stands::SkippedBy, None);
            }
            _ => {}
        }
        self.come_to_rest();
    }

    /// One run after the other ends, and what follows begins.
    fn come_to_rest(&mut self) {
        while let Some(name) = self.live.pop_front() {
            let last = self.runs(&name).len().checked_sub(1);
            let good = self.runs(&name).last().is_some_and(|run| run.good);
            let stands = if good { Stands::Success } else { Stands::Failed };
            self.settle(&name, stands, last);
        }
    }

    fn node(&mut self, name: &str) -> &mut Node {
        self.nodes.entry(name.to_owned()).or_insert_with(|| Node {
            ups: Vec::new(),
            stands: Stands::Waiting,
            met: BTreeMap::new(),
            next: None,
            has_run: false,
            anew: false,
            runs: Vec::new(),
        })
    }

    fn dependants(&self, of: &str) -> Vec<String> {
        let waits = |node: &Node| node.ups.iter().any(|up| up == of);
        self.nodes.iter().filter(|(_, node)| waits(node)).map(|(name, _)| name.clone()).collect()
    }

    /// All that follows, by however many steps.
    fn below(&self, of: &str) -> BTreeSet<String> {
        let (mut found, mut work) = (BTreeSet::new(), vec![of.to_owned()]);
        while let Some(up) = work.pop() {
            for down in self.dependants(&up) {
                if found.insert(down.clone()) {
                    work.push(down);
                }
            }
        }
        found
    }

    fn is_over(&self, name: &str) -> bool {
        !matches!(self.stands(name), Stands::Waiting | Stands::Running)
    }

    /// As if it had never run, but for what it has waited for already.
    fn reopen(&mut self, name: &str, kind: Option<&'static str>) {
        self.node(name).anew = self.is_over(name);
        let ups = self.node(name).ups.clone();
        let good: Vec<(String, Option<usize>)> = (ups.into_iter())
            .filter(|up| self.stands(up) == Stands::Success)
            .map(|up| (up.clone(), self.runs(&up).len().checked_sub(1)))
            .collect();
        let node = self.node(name);
        for (up, run) in good {
            node.met.entry(up).or_insert(run);
        }
        node.stands = Stands::Waiting;
        node.has_run = false;
        node.next = kind;
    }

    fn start(&mut self, name: &str) {
        let kind = self.node(name).next.take().unwrap_or("dependency");
        self.run(name, kind);
    }

    fn run(&mut self, name: &str, kind: &'static str) {
        let is_to_fail = self.fails == name;
        let node = self.node(name);
        let good = !is_to_fail || !node.runs.is_empty();
        let after = (node.met.iter()).filter_map(|(up, run)| Some((up.clone(), (*run)?)));
        // Who is run by a person waits for nobody.
        let after = if kind == "recover" { Vec::new() } else { after.collect() };
        node.runs.push(Expected { kind, good, after });
        (node.has_run, node.next, node.stands) = (true, None, Stands::Running);
        self.live.push_back(name.to_owned());
        self.begun.insert(name.to_owned());
        self.unsure |= self.told_twice.contains(name);
    }

    fn settle(&mut self, name: &str, to: Stands, run: Option<usize>) {
        let node = self.node(name);
        node.stands = to;
        if to == Stands::Success {
            // The next one gathers what it waits for anew.
            node.met.clear();
        }
        for down in self.dependants(name) {
            // It began without waiting for this one.
            self.unsure |= self.begun.contains(&down);
            if self.stands(&down) != Stands::Waiting {
                continue;
            }
            if to.is_skipped() {
                self.settle(&down, Stands::SkippedWith, None);
            } else if to == Stands::Success {
                if self.node(&down).met.insert(name.to_owned(), run).is_some() {
                    self.told_twice.insert(down.clone());
                }
                self.let_go(&down);
            }
        }
        if to == Stands::Success {
            self.tell_anew(name, run);
            self.revive(name, run);
        }
    }

    /// Those that have succeeded run again when all that they wait for has come anew.
    fn tell_anew(&mut self, name: &str, run: Option<usize>) {
        if !self.node(name).anew {
            return;
        }
        for down in self.dependants(name) {
            let node = self.node(&down);
            if node.stands != Stands::Success {
                continue;
            }
            node.met.insert(name.to_owned(), run);
            if node.ups.iter().all(|up| node.met.contains_key(up)) {
                let kind = node.has_run.then_some("recover");
                self.reopen(&down, kind);
                self.let_go(&down);
            }
        }
    }

    /// Those that failed after it, or were skipped with it, get another chance.
    fn revive(&mut self, name: &str, run: Option<usize>) {
        for down in self.dependants(name) {
            if !matches!(self.stands(&down), Stands::Failed | Stands::SkippedWith) {
                continue;
            }
            let ups = self.node(&down).ups.clone();
            if ups.iter().any(|up| self.stands(up).is_skipped()) {
                continue;
            }
            let kind = self.node(&down).has_run.then_some("recover");
            // What it ran after is what it has waited for: it waits for no more.
            self.reopen(&down, kind);
            self.node(&down).met.insert(name.to_owned(), run);
            self.let_go(&down);
        }
    }

    fn let_go(&mut self, name: &str) {
        let node = self.node(name);
        let is_met = node.ups.iter().all(|up| node.met.contains_key(up));
        if node.stands == Stands::Waiting && is_met {
            self.start(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::RECOVER_NODES as NODES;

    fn after(fails: &str, steps: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::fired(&NODES, fails);
        steps.iter().for_each(|(op, on)| tree.step(op, on));
        tree
    }

    fn kinds(fails: &str, steps: &[(&str, &str)]) -> Vec<String> {
        let tree = after(fails, steps);
        let of = |node: &str| {
            let runs = tree.runs(node).iter().map(|run| {
                let first: String = run.kind.chars().take(2).collect();
                if run.good { first } else { first.to_uppercase() }
            });
            let runs: Vec<String> = runs.collect();
            format!("{} {}", runs.join(","), tree.stands(node).word())
        };
        NODES.iter().map(|(node, _)| of(node)).collect()
    }

    #[test]
    fn a_tree_runs_once_and_stops_where_it_fails() {
        assert_eq!(
            kinds("", &[]),
            ["sc success", "de success", "de success", "de success", "de success"]
        );
        assert_eq!(
            kinds("left", &[]),
            ["sc success", "DE failed", "de success", " waiting", " waiting"]
        );
    }

    #[test]
    fn a_recovery_carries_on_and_repeats_nothing() {
        let all = ["SC,re success", "de success", "de success", "de success", "de success"];
        assert_eq!(kinds("root", &[("recover", "root")]), all);
        assert_eq!(
            kinds("left", &[("recover", "root")])[..3],
            ["sc,re success", "DE,re success", "de,re success"]
        );
        assert_eq!(kinds("", &[("recover", "join")])[3..], ["de,re success", "de success"]);
        let skipped = ["SC skipped", " skipped", " skipped", " skipped", " skipped"];
        assert_eq!(kinds("root", &[("skip-action", "root")]), skipped);
        assert_eq!(kinds("root", &[("skip-action", "root"), ("recover", "root")]), all);
        assert_eq!(
            kinds("root", &[("recover", "join"), ("recover", "root")])[3..],
            ["re success", "de success"]
        );
    }

    #[test]
    fn those_that_have_succeeded_run_again_when_all_that_they_wait_for_has_ended_anew() {
        let every = |n: &str| format!("{n},re success");
        let all: Vec<String> = ["sc", "de", "de", "de", "de"].map(every).into();
        assert_eq!(kinds("", &[("recover", "root")]), all);
        let left = [("recover", "left")];
        assert_eq!(kinds("", &left)[1..4], ["de,re success", "de success", "de success"]);
        let both = [("recover", "left"), ("recover", "right")];
        assert_eq!(kinds("", &both)[3..], ["de,re success", "de success"]);
        let twice = [("recover", "left"), ("recover", "left")];
        assert_eq!(kinds("", &twice)[3..], ["de success", "de success"]);
    }

    #[test]
    fn where_the_first_of_two_decides_nobody_can_say_what_follows() {
        assert!(!after("left", &[]).is_unsure());
        assert!(!after("", &[("recover", "root")]).is_unsure());
        assert!(!after("left", &[("recover", "left")]).is_unsure());
        assert!(!after("left", &[("super-recover", "root")]).is_unsure());
        // What joins both has waited for the right one, which runs beside the left one.
        assert!(after("left", &[("recover", "root")]).is_unsure());
        // The leaf has waited for the join, and begins with the root.
        assert!(after("", &[("recover", "join"), ("recover", "root")]).is_unsure());
    }

    #[test]
    fn a_recovery_of_all_below_visits_each_once() {
        let every = |n: &str| format!("{n},su success");
        let all: Vec<String> = ["sc", "de", "de", "de", "de"].map(every).into();
        assert_eq!(kinds("", &[("super-recover", "root")]), all);
        assert_eq!(
            kinds("left", &[("super-recover", "left")]),
            ["sc success", "DE,su success", "de success", "su success", "su success"]
        );
        let mut tree = Tree::fired(&NODES, "");
        tree.step("super-recover", "left");
        assert_eq!(tree.runs("leaf")[1].after, [("join".to_owned(), 1), ("root".to_owned(), 0)]);
    }

    #[test]
    fn what_somebody_says_counts_and_what_he_tries_out_does_not() {
        assert_eq!(
            kinds("left", &[("force-success", "left")]),
            ["sc success", "DE success", "de success", "de success", "de success"]
        );
        assert_eq!(kinds("left", &[("manual", "left"), ("debug", "root")]), kinds("left", &[]));
        assert_eq!(kinds("", &[("skip-action", "join")]), kinds("", &[]));
    }
}
