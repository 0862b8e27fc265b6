//! The replicated log, seen from outside: terms and applied commands never go back,
//! a term of a node has one leader, equal histories have equal states, cluster time
//! keeps up with true time, and in the end all nodes have everything and follow one leader.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use super::{Checked, healed};
use crate::store::{Evidence, Poll};
use crate::time::millis;

/// With a quorum at work and clocks that are right, cluster time is never so far behind.
const FAR_OFF_MS: i64 = 2_000;

/// What a node told last.
#[derive(Default)]
struct Last {
    term: u64,
    applied: u64,
    t: u64,
    answered: bool,
}

/// The verdict.
pub(crate) fn check(evidence: &Evidence) -> Checked {
    let promise = "terms and applied commands never go back; equal index, equal state";
    let mut checked = Checked::new("raft", promise);
    for what in ["state differs", "term went back", "applied went back"] {
        checked.count(what, 0);
    }
    if evidence.polls.is_empty() {
        checked.unknown("no node was ever asked");
        return checked;
    }
    let mut last: BTreeMap<&str, Last> = BTreeMap::new();
    let mut hashes: BTreeMap<u64, BTreeMap<&str, &Poll>> = BTreeMap::new();
    let mut leaders: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut newest = 0;
    for poll in &evidence.polls {
        let before = last.entry(&poll.node).or_default();
        if !poll.ok {
            before.answered = false;
            continue;
        }
        newest = newest.max(poll.applied);
        judge_step(&mut checked, evidence, before, poll);
        if let Some(leader) = poll.leader.filter(|_| poll.term > 0) {
            let known = leaders.entry(poll.term).or_default();
            if !known.contains(&leader) {
                known.push(leader);
            }
        }
        let (term, applied) = (before.term.max(poll.term), poll.applied);
        *before = Last { term, applied, t: poll.t, answered: true };
        if !poll.state_hash.is_empty() {
            hashes.entry(poll.applied).or_default().entry(&poll.node).or_insert(poll);
        }
    }
    judge_hashes(&mut checked, &hashes);
    judge_time(&mut checked, evidence);
    healed::judge(&mut checked, evidence);
    let changes = leaders.len().saturating_sub(1);
    let ended = |op: &str| op.starts_with("kill-leader") || op.starts_with("power-leader");
    if changes == 0 && evidence.bands.iter().any(|band| band.installed && ended(&band.op)) {
        checked.unknown("the leader was ended, and nobody saw another term");
    }
    checked.count("leader changes", changes);
    // Two nodes may lead in one term one after the other, as a pair of term and
    // node names a leader; more than the cluster has is a fault of what we read.
    checked.count("terms with two leaders", leaders.values().filter(|l| l.len() > 1).count());
    for (node, last) in &last {
        if last.applied < newest && !last.answered {
            checked.count("nodes silent at the end", 1);
        } else if newest.saturating_sub(last.applied) > FAR_BEHIND {
            let told = format!("applied {} of {newest} at its last answer", last.applied);
            checked.wrong("left behind", node, told, last.t);
        }
    }
    checked
}

/// A node this far behind in the end, among nodes that are at work, does not follow.
const FAR_BEHIND: u64 = 20_000;

fn judge_step(checked: &mut Checked, evidence: &Evidence, before: &Last, poll: &Poll) {
    if poll.term > 0 && poll.term < before.term {
        let told = format!("term {} after {}", poll.term, before.term);
        checked.wrong("term went back", &poll.node, told, poll.t);
    }
    if poll.applied < before.applied {
        // A node that starts again reads its log anew: it comes back to where it
        // was. One that was up all the time cannot.
        let restarted = !before.answered || was_restarted(evidence, &poll.node, before.t, poll.t);
        if restarted {
            checked.count("restarts seen", 1);
        } else {
            let told = format!("applied {} after {}", poll.applied, before.applied);
            checked.wrong("applied went back", &poll.node, told, poll.t);
        }
    }
}

/// How far behind true time nodes said that cluster time was, in milliseconds, and who
/// said so most. An answer may take long to come, two in a row seldom do: the smaller
/// one counts.
fn behind<'p>(polls: impl Iterator<Item = &'p Poll>) -> Option<(i64, &'p Poll)> {
    let mut last: BTreeMap<&str, i64> = BTreeMap::new();
    let mut most: Option<(i64, &Poll)> = None;
    for poll in polls {
        let Some(told) = poll.time.as_str().and_then(millis) else { continue };
        let ms = poll.utc.saturating_sub(told);
        let Some(before) = last.insert(&poll.node, ms) else { continue };
        let ms = ms.min(before);
        if most.is_none_or(|(most, _)| ms > most) {
            most = Some((ms, poll));
        }
    }
    most
}

/// How far behind true time cluster time was in this time, in milliseconds; 0 if it
/// was not, or nobody told.
pub(crate) fn behind_ms(evidence: &Evidence, asked: RangeInclusive<i64>) -> i64 {
    let polls = evidence.polls.iter().filter(|poll| asked.contains(&poll.utc));
    behind(polls).map_or(0, |(ms, _)| ms.max(0))
}

fn judge_time(checked: &mut Checked, evidence: &Evidence) {
    let Some((ms, poll)) = behind(evidence.polls.iter()) else { return };
    checked.count("cluster time behind at most ms", ms.max(0));
    if ms > FAR_OFF_MS && evidence.test.judges_times() && !evidence.has_fault("clock") {
        let told = format!("cluster time was {ms} ms behind");
        checked.wrong("time behind", &poll.node, told, poll.t);
    }
}

/// Faults after which a process starts again, by how their names begin: those that end
/// it, and those by which it was seen to have ended.
const ENDING: [&str; 6] = ["kill", "power", "disk", "member", "node-exit", "damage-found"];
/// What healed so long ago, in nanoseconds, may have been started in this moment.
const JUST_HEALED: u64 = 2_000_000_000;

/// True if a fault that ends this node's process was there between two polls.
fn was_restarted(evidence: &Evidence, node: &str, from: u64, to: u64) -> bool {
    evidence.faults.iter().any(|fault| {
        let near = fault.t.saturating_add(JUST_HEALED) >= from && fault.t <= to;
        let who = fault.args["who"].as_array();
        let is_its = who.is_none_or(|who| who.iter().any(|name| name == node));
        near && is_its && ENDING.iter().any(|start| fault.op.starts_with(start))
    })
}

fn judge_hashes(checked: &mut Checked, hashes: &BTreeMap<u64, BTreeMap<&str, &Poll>>) {
    for (index, nodes) in hashes {
        let mut all = nodes.iter();
        let Some((first, poll)) = all.next() else { continue };
        for (node, other) in all {
            checked.count("states compared", 1);
            if other.state_hash != poll.state_hash {
                let told = format!(
                    "at index {index} {first} has {} and {node} has {}",
                    poll.state_hash, other.state_hash
                );
                checked.wrong("state differs", index, told, other.t);
            }
        }
    }
    if hashes.values().all(|nodes| nodes.len() < 2) {
        checked.unknown("no two nodes were seen at one index");
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::super::planted::{BASE_UTC, Planted};
    use super::*;
    use crate::time::shown;

    fn good() -> Planted {
        let mut planted = Planted::new();
        for at in 1..10 {
            for node in ["n1", "n2", "n3"] {
                planted.poll(at * 100, node, 3, at as u64 * 7, &format!("h{at}"));
            }
        }
        planted
    }

    fn found(planted: &Planted) -> Vec<String> {
        check(&planted.evidence()).findings.into_iter().map(|f| f.what).collect()
    }

    #[test]
    fn a_log_that_grows_is_accepted() {
        let mut planted = good();
        planted.poll(1_000, "n2", 0, 0, "");
        // Started again, it reads its log anew.
        planted.poll(1_100, "n2", 3, 14, "h2");
        planted.poll(1_200, "n2", 4, 70, "h10");
        assert_eq!(found(&planted), Vec::<String>::new());
        let checked = check(&planted.evidence());
        assert_eq!(checked.verdict, Verdict::Valid);
        assert_eq!(checked.counted("leader changes"), 1);
        assert!(checked.counted("states compared") >= 18);
    }

    /// Every node tells this time, so many milliseconds behind.
    fn told(ms: i64) -> Planted {
        let mut planted = good();
        planted.polls.iter_mut().for_each(|poll| poll.time = shown(poll.utc - ms).into());
        planted
    }

    #[test]
    fn cluster_time_that_is_far_behind_is_found() {
        assert_eq!(found(&told(1_900)), Vec::<String>::new());
        assert_eq!(check(&told(1_900).evidence()).counted("cluster time behind at most ms"), 1_900);
        assert_eq!(found(&told(2_100)), ["time behind"]);
        assert_eq!(check(&told(-300).evidence()).counted("cluster time behind at most ms"), 0);
        // One answer that took long says nothing.
        let mut slow = told(0);
        slow.polls[9].time = shown(slow.polls[9].utc - 5_000).into();
        assert_eq!(found(&slow), Vec::<String>::new());
        // Nor do times where clocks were broken on purpose.
        let mut broken = told(2_100);
        broken.fault(100, 200, "clock-rate");
        assert_eq!(found(&broken), Vec::<String>::new());
    }

    #[test]
    fn how_far_behind_it_was_is_known_for_each_time() {
        let mut planted = told(100);
        let polls = planted.polls.iter_mut().filter(|poll| poll.utc >= BASE_UTC + 600);
        polls.for_each(|poll| poll.time = shown(poll.utc - 800).into());
        let evidence = planted.evidence();
        let of = |from, to| behind_ms(&evidence, BASE_UTC + from..=BASE_UTC + to);
        assert_eq!((of(0, 500), of(600, 900), of(0, 900), of(5_000, 6_000)), (100, 800, 800, 0));
    }

    #[test]
    fn a_leader_that_was_ended_without_a_change_of_term_says_nothing() {
        let mut planted = good();
        planted.fault(500, 600, "kill-leader");
        assert_eq!(check(&planted.evidence()).verdict, Verdict::Unknown);
        planted.poll(1_000, "n1", 4, 70, "h10");
        assert_eq!(check(&planted.evidence()).verdict, Verdict::Valid);
    }

    #[test]
    fn what_goes_back_is_found() {
        let mut planted = good();
        planted.poll(1_000, "n2", 2, 70, "h10");
        assert_eq!(found(&planted), ["term went back"]);
        let mut planted = good();
        planted.poll(1_000, "n2", 0, 0, "");
        planted.poll(1_100, "n2", 2, 70, "h10");
        assert_eq!(found(&planted), ["term went back"]);
        let mut planted = good();
        planted.poll(1_000, "n2", 3, 56, "h8");
        assert_eq!(found(&planted), ["applied went back"]);
        // A fault of the network ends no process.
        planted.fault(950, 980, "partition-one");
        assert_eq!(found(&planted), ["applied went back"]);
        // Nor does one that was done to another node.
        planted.fault_on(950, Some(980), "kill-one", serde_json::json!({"who": ["n1"]}));
        assert_eq!(found(&planted), ["applied went back"]);
        // One that was just started again reads its log anew.
        planted.fault(950, 980, "node-exit");
        assert_eq!(found(&planted), Vec::<String>::new());
    }

    #[test]
    fn states_that_differ_are_found() {
        let mut planted = good();
        planted.poll(1_000, "n2", 3, 70, "h10");
        planted.poll(1_050, "n3", 3, 70, "other");
        assert_eq!(found(&planted), ["state differs"]);
    }

    #[test]
    fn a_node_that_does_not_follow_is_found() {
        let mut planted = good();
        planted.poll(1_000, "n2", 3, 90_000, "x");
        planted.poll(1_000, "n1", 3, 90_000, "x");
        assert_eq!(found(&planted), ["left behind"]);
    }

    #[test]
    fn nothing_compared_says_nothing() {
        assert_eq!(check(&Planted::new().evidence()).verdict, Verdict::Unknown);
        let mut planted = Planted::new();
        planted.poll(1_000, "n2", 3, 90, "x");
        assert_eq!(check(&planted.evidence()).verdict, Verdict::Unknown);
    }
}
