//! After everything was mended the cluster is whole again: every node answers and
//! follows one leader, all of them vote, and all workers are there.
//!
//! A cluster that never comes back breaks no other promise: who is not asked for
//! anything any more loses nothing and is late with nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Checked;
use crate::history::Op;
use crate::store::{Evidence, Poll};
use crate::time::MS;

/// The end of the test in which there must be a moment at which all agree.
const STRETCH: u64 = 5_000 * MS;
/// Who follows has after this what any other node had before; polls are not at once.
const BEHIND: u64 = 2_000 * MS;
/// What the test says its phases are.
const CONVERGE: &str = "converge";

/// The verdict, as a part of that on the replicated log.
pub(super) fn judge(checked: &mut Checked, evidence: &Evidence) {
    checked.count("not healed", 0);
    // On a machine that lets nobody work nothing comes back either.
    let Some(since) = since(evidence).filter(|_| evidence.test.busy.is_empty()) else { return };
    checked.count("looked at when all was mended", 1);
    let mut found = disagreement(evidence, since);
    found.extend(views(evidence, since));
    found.extend(workers(evidence, since));
    // What could not be mended may be in the way still, and nobody knows. A node that
    // refused to start was mended, as far as anybody but itself could.
    let open = evidence.bands.iter().filter(|band| band.to == u64::MAX);
    let open: BTreeSet<&str> =
        open.map(|band| band.op.as_str()).filter(|op| *op != "node-refused").collect();
    for (who, told) in found {
        if open.is_empty() {
            checked.wrong("not healed", who, told, since);
        } else {
            let open: Vec<&str> = open.iter().copied().collect();
            checked.unknown(format!("{who}: {told}; {} may be there still", open.join(", ")));
        }
    }
}

/// From when on everything has to be as before; none if that never came.
fn since(evidence: &Evidence) -> Option<u64> {
    let last = evidence.polls.iter().map(|poll| poll.t).max()?;
    let converged = evidence.test.phases.iter().find(|phase| phase.name == CONVERGE);
    let since = converged.map(|phase| phase.to).or_else(|| {
        let healed = evidence.bands.iter().map(|band| band.to).max()?;
        Some(healed.saturating_add(evidence.test.recover_ms * MS))
    })?;
    (since.saturating_add(BEHIND) <= last).then_some(since)
}

fn nodes(evidence: &Evidence) -> BTreeSet<&str> {
    let known: BTreeSet<&str> = evidence.test.nodes.iter().map(String::as_str).collect();
    if !known.is_empty() {
        return known;
    }
    evidence.polls.iter().map(|poll| poll.node.as_str()).collect()
}

/// What keeps nodes from agreeing, if there is no moment at which they do.
fn disagreement(evidence: &Evidence, since: u64) -> Vec<(String, String)> {
    let nodes = nodes(evidence);
    let mut polls: Vec<&Poll> = evidence.polls.iter().collect();
    polls.sort_by_key(|poll| poll.t);
    let last = polls.last().map_or(0, |poll| poll.t);
    let since = since.max(last.saturating_sub(STRETCH));
    let mut views: BTreeMap<&str, &Poll> = BTreeMap::new();
    // The most that anybody had so long before, and those that are too young to count.
    let (mut goal, mut young) = (0, polls.iter().peekable());
    for poll in &polls {
        while let Some(old) = young.next_if(|old| old.t.saturating_add(BEHIND) <= poll.t) {
            goal = goal.max(old.applied);
        }
        if poll.t < since {
            continue;
        }
        views.insert(&poll.node, poll);
        let one = |view: &&Poll| {
            view.ok
                && view.leader.is_some()
                && (view.leader, view.term) == (poll.leader, poll.term)
                && view.applied >= goal
        };
        if nodes.iter().all(|node| views.get(node).is_some_and(one)) {
            return Vec::new();
        }
    }
    let told = |node: &&str| match views.get(node) {
        None => "it was not asked any more".to_owned(),
        Some(view) if !view.ok => {
            format!("it does not answer: {}", view.error.as_deref().unwrap_or_default())
        }
        Some(Poll { leader: None, .. }) => "it knows no leader".to_owned(),
        Some(Poll { leader: Some(leader), term, applied, .. }) => {
            format!("it follows {leader} in term {term} and has applied {applied} of {goal}")
        }
    };
    nodes.iter().map(|node| ((*node).to_owned(), told(node))).collect()
}

/// The last outcome of each read of that name.
fn last<'a>(evidence: &'a Evidence, f: &'a str, since: u64) -> BTreeMap<&'a str, &'a Op> {
    let asked = evidence.ops_of(f).filter(|op| op.ask.t >= since);
    asked.map(|op| (op.ask.k.as_str(), op)).collect()
}

/// Nodes through which the cluster could not be read, or that tell of another one.
fn views(evidence: &Evidence, since: u64) -> Vec<(String, String)> {
    let count = nodes(evidence).len();
    let fault = |op: &Op| {
        if !op.is_ok() {
            let why = op.end.as_ref().and_then(|end| end.err.as_deref()).unwrap_or("no answer");
            return Some(format!("the cluster could not be read through it: {why}"));
        }
        let members = op.result()["members"].as_array().map(Vec::as_slice)?;
        let voters = members.iter().filter(|member| member["voter"] == true).count();
        if voters != count || members.len() != count {
            return Some(format!("{voters} of {} members vote, not {count}", members.len()));
        }
        let leaderless = op.result()["leader"]["node"].is_null();
        leaderless.then(|| "it knows no leader".to_owned())
    };
    let reads = last(evidence, "final-cluster", since).into_iter();
    reads.filter_map(|(node, op)| Some((node.to_owned(), fault(op)?))).collect()
}

/// Workers that the cluster does not see.
fn workers(evidence: &Evidence, since: u64) -> Vec<(String, String)> {
    let reads = last(evidence, "final-workers", since);
    let Some(all) = reads.values().find_map(|op| op.result().as_array()) else { return Vec::new() };
    let is_there = |name: &&String| {
        let is = |worker: &&Value| worker["name"] == **name && worker["connected"] == true;
        all.iter().any(|worker| is(&worker))
    };
    let gone = evidence.test.workers.iter().filter(|name| !is_there(name));
    gone.map(|name| (name.clone(), "the cluster does not see it".to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Verdict;
    use super::super::planted::{Planted, t};
    use super::*;
    use crate::history::Kind;
    use crate::store::Phase;

    /// Three nodes that follow one leader, until 60 s; mended and converged at 40 s.
    /// What each of them tells in the last fifteen seconds may be changed.
    fn judged(edit: impl Fn(&mut Poll), more: impl Fn(&mut Planted)) -> (Verdict, i64) {
        let mut planted = Planted::new();
        planted.fault(2_000, 30_000, "kill-one");
        for at in (0..60_000).step_by(500) {
            for node in ["n1", "n2", "n3"] {
                planted.poll(at, node, 3, at.unsigned_abs(), "");
            }
        }
        planted.polls.iter_mut().filter(|poll| poll.t >= t(45_000)).for_each(edit);
        for node in ["n1", "n2", "n3"] {
            let seen = json!({"leader": {"node": 1}, "members": [
                {"voter": true}, {"voter": true}, {"voter": true}]});
            planted.op(50_000, Some(50_010), "final-cluster", node, json!(null), Kind::Ok, seen);
        }
        more(&mut planted);
        let mut evidence = planted.evidence();
        let phase =
            |name: &str, from, to| Phase { name: name.to_owned(), from: t(from), to: t(to) };
        evidence.test.phases = vec![phase("main", 0, 25_000), phase("converge", 30_000, 40_000)];
        evidence.test.nodes = ["n1", "n2", "n3"].map(str::to_owned).to_vec();
        evidence.test.workers = vec!["w1".to_owned()];
        let mut checked = Checked::new("raft", "");
        judge(&mut checked, &evidence);
        (checked.verdict, checked.counted("not healed"))
    }

    fn nothing(_: &mut Planted) {}

    #[test]
    fn a_cluster_that_is_whole_again_is_accepted() {
        assert_eq!(judged(|_| {}, nothing), (Verdict::Valid, 0));
        // One answer that took too long, or an index that is a little behind.
        let slow = |poll: &mut Poll| poll.ok &= poll.t != t(58_000);
        assert_eq!(judged(slow, nothing), (Verdict::Valid, 0));
        let behind = |poll: &mut Poll| {
            if poll.node == "n2" {
                poll.applied -= 1_500;
            }
        };
        assert_eq!(judged(behind, nothing), (Verdict::Valid, 0));
    }

    #[test]
    fn a_cluster_that_does_not_come_back_is_found() {
        let silent = |poll: &mut Poll| poll.ok &= poll.node != "n3";
        assert_eq!(judged(silent, nothing), (Verdict::Invalid, 3));
        let leaderless = |poll: &mut Poll| poll.leader = None;
        assert_eq!(judged(leaderless, nothing).0, Verdict::Invalid);
        let two = |poll: &mut Poll| poll.leader = Some(if poll.node == "n3" { 3 } else { 1 });
        assert_eq!(judged(two, nothing).0, Verdict::Invalid);
        let stuck = |poll: &mut Poll| {
            if poll.node == "n3" {
                poll.applied = 30_000;
            }
        };
        assert_eq!(judged(stuck, nothing).0, Verdict::Invalid);
    }

    #[test]
    fn what_the_last_reads_tell_is_believed() {
        let gone = |planted: &mut Planted| {
            let two = json!({"leader": {"node": 1}, "members": [{"voter": true}, {"voter": true}]});
            planted.op(50_100, Some(50_200), "final-cluster", "n2", json!(null), Kind::Ok, two);
        };
        assert_eq!(judged(|_| {}, gone), (Verdict::Invalid, 1));
        let refused = |planted: &mut Planted| {
            let (ask, none) = (json!(null), json!(null));
            planted.op(50_100, Some(50_200), "final-cluster", "n2", ask, Kind::Fail, none);
        };
        assert_eq!(judged(|_| {}, refused), (Verdict::Invalid, 1));
        let workers = |connected: bool| {
            move |planted: &mut Planted| {
                let all = json!([{"name": "w1", "connected": connected}]);
                planted.op(50_100, Some(50_200), "final-workers", "", json!(null), Kind::Ok, all);
            }
        };
        assert_eq!(judged(|_| {}, workers(true)), (Verdict::Valid, 0));
        assert_eq!(judged(|_| {}, workers(false)), (Verdict::Invalid, 1));
    }

    #[test]
    fn what_could_not_be_mended_makes_it_unknown() {
        let open = |planted: &mut Planted| planted.fault_until(20_000, None, "partition-one");
        let silent = |poll: &mut Poll| poll.ok &= poll.node != "n3";
        assert_eq!(judged(silent, open), (Verdict::Unknown, 0));
        assert_eq!(judged(|_| {}, open), (Verdict::Valid, 0));
        // Whoever refuses to start is not in the way of others.
        let refused = |planted: &mut Planted| planted.fault_until(20_000, None, "node-refused");
        assert_eq!(judged(silent, refused).0, Verdict::Invalid);
    }

    #[test]
    fn without_phases_it_counts_from_the_last_healing() {
        let judged = |until: i64| {
            let mut planted = Planted::new();
            planted.fault(2_000, 10_000, "kill-one");
            for at in (0..until).step_by(500) {
                planted.poll(at, "n1", 3, 7, "");
                planted.poll(at, "n2", u64::from(at < 5_000), 7, "");
            }
            let mut checked = Checked::new("raft", "");
            judge(&mut checked, &planted.evidence());
            checked.counted("not healed")
        };
        assert_eq!((judged(30_000), judged(50_000)), (0, 2));
    }
}
