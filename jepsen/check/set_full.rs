//! Set: what was acknowledged is in every later list, on every node.
//!
//! An element is known from its acknowledgement, or from the end of the first read
//! that saw it. A read that began later and does not show it is stale; if no read
//! after the last one without it shows it again, it is lost. Elements whose adding
//! certainly failed must never be seen.

use std::collections::BTreeMap;

use super::Checked;
use crate::history::{Kind, Op};
use crate::store::Evidence;

/// What is known of one element.
#[derive(Default)]
struct Element {
    acked: Option<u64>,
    failed: bool,
    /// End of the first read that saw it.
    seen: Option<u64>,
    /// Beginning of the last read that saw it.
    last_seen: Option<u64>,
}

struct Read<'a> {
    op: &'a Op,
    ranges: Vec<(u64, u64)>,
}

impl Read<'_> {
    fn has(&self, n: u64) -> bool {
        let at = self.ranges.partition_point(|(_, to)| *to < n);
        self.ranges.get(at).is_some_and(|(from, _)| *from <= n)
    }
}

fn ranges(op: &Op) -> Vec<(u64, u64)> {
    let pairs = op.result().as_array().into_iter().flatten();
    let mut ranges: Vec<(u64, u64)> =
        pairs.filter_map(|pair| Some((pair[0].as_u64()?, pair[1].as_u64()?))).collect();
    ranges.sort_unstable();
    ranges
}

/// The verdict.
pub(crate) fn check(evidence: &Evidence) -> Checked {
    let promise = "what was acknowledged is in every later read, on every node";
    let mut checked = Checked::new("set", promise);
    for what in ["lost", "stale"] {
        checked.count(what, 0);
    }
    let mut elements: BTreeMap<u64, Element> = BTreeMap::new();
    for op in evidence.ops_of("add") {
        let Some(n) = op.ask.v.as_u64() else {
            checked.damaged(format!("row {}: what was added is no number", op.ask.i));
            continue;
        };
        let element = elements.entry(n).or_default();
        match op.kind() {
            Kind::Ok => element.acked = Some(op.known_at()),
            Kind::Fail => element.failed = true,
            Kind::Info | Kind::Invoke => checked.count("adds of unknown outcome", 1),
        }
    }
    let mut reads: Vec<Read<'_>> = evidence
        .ops_of("read")
        .filter(|op| op.ask.k == "set" && op.is_ok())
        .map(|op| Read { op, ranges: ranges(op) })
        .collect();
    reads.sort_by_key(|read| read.op.ask.t);
    for read in &reads {
        for n in read.ranges.iter().flat_map(|(from, to)| *from..=*to) {
            let Some(element) = elements.get_mut(&n) else {
                let told = format!("{n} was seen, and nobody added it");
                checked.wrong("phantom", n, told, read.op.ask.t);
                continue;
            };
            let end = read.op.known_at();
            element.seen = Some(element.seen.unwrap_or(end).min(end));
            element.last_seen = element.last_seen.max(Some(read.op.ask.t));
        }
    }
    for (n, element) in &elements {
        judge(&mut checked, *n, element, &reads);
    }
    checked.count("reads", reads.len());
    coverage(&mut checked, evidence, &reads);
    checked
}

fn judge(checked: &mut Checked, n: u64, element: &Element, reads: &[Read<'_>]) {
    checked.count("acknowledged", i64::from(element.acked.is_some()));
    if let (true, None, Some(seen)) = (element.failed, element.acked, element.seen) {
        let told = "its adding failed, and it was seen".to_owned();
        checked.wrong("failed and seen", n, told, seen);
    }
    let known = [element.acked, element.seen].into_iter().flatten().min();
    let Some(known) = known else {
        checked.count("never seen", 1);
        return;
    };
    let later = &reads[reads.partition_point(|read| read.op.ask.t <= known)..];
    let Some(missing) = later.iter().rev().find(|read| !read.has(n)) else { return };
    let (node, at) = (&missing.op.ask.node, missing.op.ask.t);
    if element.last_seen.is_none_or(|seen| seen < at) {
        let told = format!("known, and gone from the list of {node}; never seen again");
        checked.wrong("lost", n, told, at);
    } else {
        let told = format!("known, and not in a later list of {node}");
        checked.wrong("stale", n, told, at);
    }
}

/// Every node must have been read after the last add was known.
fn coverage(checked: &mut Checked, evidence: &Evidence, reads: &[Read<'_>]) {
    let last = evidence.ops_of("add").filter(|op| op.is_ok()).map(Op::known_at).max();
    let Some(last) = last else {
        checked.unknown("nothing was added");
        return;
    };
    let mut nodes: Vec<&String> = evidence.test.nodes.iter().collect();
    nodes.retain(|node| !reads.iter().any(|r| &r.op.ask.node == *node && r.op.ask.t > last));
    if !nodes.is_empty() {
        checked.unknown(format!("no last read of {nodes:?}"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Verdict;
    use super::super::planted::Planted;
    use super::*;

    fn add(planted: &mut Planted, n: u64, from: i64, to: i64, kind: Kind) {
        planted.op(from, Some(to), "add", "set", json!(n), kind, json!(n));
    }

    fn read(planted: &mut Planted, from: i64, to: i64, ranges: serde_json::Value) {
        planted.op(from, Some(to), "read", "set", json!(null), Kind::Ok, ranges);
    }

    fn found(planted: &Planted) -> (Verdict, Vec<String>) {
        let mut evidence = planted.evidence();
        evidence.test.nodes = vec!["n1".to_owned()];
        let checked = check(&evidence);
        (checked.verdict, checked.findings.into_iter().map(|finding| finding.what).collect())
    }

    fn wrong(what: &str) -> (Verdict, Vec<String>) {
        (Verdict::Invalid, vec![what.to_owned()])
    }

    #[test]
    fn what_stays_is_accepted() {
        let mut planted = Planted::new();
        add(&mut planted, 0, 0, 10, Kind::Ok);
        // Added while the read went on: it may show it or not.
        add(&mut planted, 1, 15, 40, Kind::Ok);
        read(&mut planted, 20, 30, json!([[0, 0]]));
        add(&mut planted, 2, 50, 60, Kind::Info);
        add(&mut planted, 3, 50, 60, Kind::Fail);
        read(&mut planted, 70, 80, json!([[0, 1]]));
        read(&mut planted, 90, 95, json!([[0, 2]]));
        assert_eq!(found(&planted), (Verdict::Valid, Vec::new()));
    }

    #[test]
    fn what_is_gone_is_lost_and_what_comes_back_was_stale() {
        let mut planted = Planted::new();
        add(&mut planted, 0, 0, 10, Kind::Ok);
        read(&mut planted, 20, 30, json!([]));
        assert_eq!(found(&planted), wrong("lost"));
        read(&mut planted, 40, 50, json!([[0, 0]]));
        assert_eq!(found(&planted), wrong("stale"));
        // Seen is known too, even if nobody was told that it was added.
        let mut planted = Planted::new();
        add(&mut planted, 9, 0, 1, Kind::Ok);
        add(&mut planted, 0, 0, 10, Kind::Info);
        read(&mut planted, 20, 30, json!([[0, 0], [9, 9]]));
        read(&mut planted, 40, 50, json!([[9, 9]]));
        assert_eq!(found(&planted), wrong("lost"));
    }

    #[test]
    fn what_nobody_added_is_found() {
        let mut planted = Planted::new();
        add(&mut planted, 0, 0, 10, Kind::Ok);
        add(&mut planted, 1, 0, 10, Kind::Fail);
        read(&mut planted, 20, 30, json!([[0, 1]]));
        assert_eq!(found(&planted), wrong("failed and seen"));
        let mut planted = Planted::new();
        add(&mut planted, 0, 0, 10, Kind::Ok);
        read(&mut planted, 20, 30, json!([[0, 0], [7, 7]]));
        assert_eq!(found(&planted), wrong("phantom"));
    }

    #[test]
    fn without_last_reads_nothing_is_known() {
        let mut planted = Planted::new();
        add(&mut planted, 0, 0, 10, Kind::Ok);
        assert_eq!(found(&planted).0, Verdict::Unknown);
        assert_eq!(found(&Planted::new()).0, Verdict::Unknown);
    }
}
