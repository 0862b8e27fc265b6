//! Cancels: a run that was cancelled is over, with everything it started.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Checked;
use super::deadlines::deadline;
use super::records::Records;
use crate::history::Kind;
use crate::store::{Band, Evidence};
use crate::time::MS;

/// From the acknowledgement until the worker was told, on a healthy cluster.
pub(super) const TOLD_MS: u64 = 2_000;

/// `1s`, `250ms` in milliseconds.
pub(super) fn span(text: &Value) -> Option<u64> {
    let text = text.as_str()?;
    match text.strip_suffix("ms") {
        Some(ms) => ms.parse().ok(),
        None => text.strip_suffix('s')?.parse::<u64>().ok().map(|s| s * 1000),
    }
}

/// The verdict on cancels.
pub(crate) fn cancels(evidence: &Evidence, records: &Records) -> Checked {
    let promise = "after a cancel was acknowledged and the grace has passed nothing of it lives";
    let mut checked = Checked::new("cancel", promise);
    for what in ["alive after cancel", "not cancelled"] {
        checked.count(what, 0);
    }
    let grace = crate::workload::CANCEL_GRACE_MS;
    let mut acked: BTreeMap<&str, u64> = BTreeMap::new();
    for op in evidence.ops_of("cancel").filter(|op| op.kind() == Kind::Ok) {
        let at = acked.entry(&op.ask.k).or_insert(u64::MAX);
        *at = (*at).min(op.known_at());
    }
    for (run, at) in &acked {
        checked.count("cancelled", 1);
        let soon = at + (grace + TOLD_MS) * MS;
        let (end, parted) = told_by(evidence, run, *at, soon);
        let mut lines = evidence.witness.iter().filter(|line| line.run == *run && line.t > end);
        if let Some(line) = lines.next_back() {
            let late = (line.t - at) / MS;
            let told = format!("it wrote {:?} {late} ms after the cancel", line.e);
            checked.wrong("alive after cancel", run, told, line.t);
        }
        let good = evidence.witness.iter().any(|line| line.run == *run && line.exit == Some(0));
        match records.runs.get(*run).map(|record| record.state.as_str()) {
            Some("cancelled") => {}
            // It may have been over before; then it had said so itself.
            Some("success") if good => checked.count("over before", 1),
            Some("failed") if parted => checked.count("lost meanwhile", 1),
            Some(other) => {
                let told = format!("it is {other}");
                checked.wrong("not cancelled", run, told, *at);
            }
            None => checked.wrong("not cancelled", run, "it is not over".to_owned(), *at),
        }
    }
    // Nobody asked: it must not be cancelled.
    let asked: Vec<&str> = evidence.ops_of("cancel").map(|op| op.ask.k.as_str()).collect();
    let cancelled = records.runs.values().filter(|run| run.state == "cancelled");
    // Jobs whose newer runs cancel older ones are judged apart.
    for record in cancelled.filter(|run| !run.job.starts_with("overlap-")) {
        if !asked.contains(&record.id.as_str()) {
            let told = "nobody asked for it".to_owned();
            checked.wrong("cancelled by nobody", &record.id, told, 0);
        }
    }
    if acked.is_empty() {
        checked.unknown("nothing was cancelled");
    }
    checked
}

/// The last moment in which a run may live that was cancelled at `at` and has to be over
/// `soon`, and whether its worker may have been parted from the cluster.
fn told_by(evidence: &Evidence, run: &str, at: u64, soon: u64) -> (u64, bool) {
    let lines = || evidence.witness.iter().filter(|line| line.run == run);
    let workers: BTreeSet<&str> = lines().map(|line| line.worker.as_str()).collect();
    let begun = lines().map(|line| line.t).min().unwrap_or(at).min(at);
    gone_by(evidence, &workers, begun, at, soon)
}

/// The last moment in which something may live that began at `begun` on one of these
/// workers, was to be ended at `at`, and has to be over `soon`; and whether one of them may
/// have been parted from the cluster.
///
/// While somebody leads and reaches its worker it is told; under other faults that takes
/// as long as anything that is due then may take. A worker that nobody reaches goes on
/// until its lease ends, and ends it then by itself: healed or not, nothing lives longer,
/// but for what was frozen and could end nothing. Those whose worker nobody knows had none,
/// and whoever gets them is told with them.
pub(super) fn gone_by(
    evidence: &Evidence,
    workers: &BTreeSet<&str>,
    begun: u64,
    at: u64,
    soon: u64,
) -> (u64, bool) {
    let test = &evidence.test;
    let lease = (test.lease_ms + test.lease_margin_ms + crate::workload::CANCEL_GRACE_MS) * MS;
    let met = || evidence.bands.iter().filter(|band| band.meets(at, soon));
    let parts = |band: &&Band| workers.iter().any(|worker| evidence.parts(band, worker));
    let mut end = soon;
    if met().next().is_some() {
        let last = deadline(evidence, evidence.utc_of_mono(at));
        let last = if last == i64::MAX { u64::MAX } else { evidence.mono_of_utc(last) };
        end = end.max(last.saturating_add(crate::workload::CANCEL_GRACE_MS * MS));
    }
    for band in met().filter(parts) {
        let frozen = if band.op.starts_with("worker-freeze") { band.to } else { soon };
        end = end.max(frozen.max(soon).saturating_add(lease));
    }
    let parted = evidence.bands.iter().filter(|band| band.meets(begun, soon)).any(|b| parts(&b));
    (end, parted)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::planted::Planted;
    use super::*;
    use crate::store::Said;

    fn cancel(last: (i64, Said), state: &str, asked: bool) -> Vec<String> {
        let mut planted = Planted::new();
        planted.line(1_000, Said::Start, "c", None, 1, 1);
        planted.line(last.0, last.1, "c", None, 1, 1);
        let key = if asked { "r-1" } else { "r-2" };
        planted.op(2_000, Some(2_010), "cancel", key, json!({"key": "k"}), Kind::Ok, json!(null));
        let run = |id: &str, state: &str| {
            json!({"id": id, "job": "c", "state": state,
            "nominal": "2026-11-21T10:00:01Z", "attempts": []})
        };
        let mut runs = vec![run("r-1", state)];
        if !asked {
            runs.push(run("r-2", "cancelled"));
        }
        planted.op(9_000, Some(9_001), "runs", "", json!(null), Kind::Ok, json!(runs));
        let evidence = planted.evidence();
        let checked = cancels(&evidence, &Records::of(&evidence));
        checked.findings.into_iter().map(|f| f.what).collect()
    }

    #[test]
    fn cancels_are_judged_by_what_still_lives() {
        assert_eq!(cancel((2_900, Said::Tick), "cancelled", true), Vec::<String>::new());
        assert_eq!(cancel((1_900, Said::End), "success", true), Vec::<String>::new());
        assert_eq!(cancel((9_000, Said::Tick), "cancelled", true), ["alive after cancel"]);
        assert_eq!(cancel((9_000, Said::Child), "cancelled", true), ["alive after cancel"]);
        assert_eq!(cancel((2_900, Said::Tick), "success", true), ["not cancelled"]);
        assert_eq!(cancel((2_900, Said::Tick), "running", true), ["not cancelled"]);
        assert_eq!(cancel((2_900, Said::Tick), "cancelled", false), ["cancelled by nobody"]);
    }
    /// A run of `w1` that was cancelled at 2 s, and lives at `alive`; a fault from 1.5 to
    /// 6 s, and maybe others.
    fn alive(op: &str, who: &str, alive: i64) -> Vec<String> {
        let mut planted = Planted::new();
        planted.line(1_000, Said::Start, "c", None, 1, 1);
        planted.line(alive, Said::Tick, "c", None, 1, 1);
        planted.edit_lines(|line| line.worker = "w1".to_owned());
        planted.op(2_000, Some(2_010), "cancel", "r-1", json!({"key": "k"}), Kind::Ok, json!(null));
        let runs = json!([{"id": "r-1", "job": "c", "state": "cancelled",
            "nominal": "2026-11-21T10:00:01Z", "attempts": []}]);
        planted.op(99_000, Some(99_001), "runs", "", json!(null), Kind::Ok, runs);
        planted.fault_on(1_500, Some(6_000), op, json!({"who": [who]}));
        let mut evidence = planted.evidence();
        evidence.test.workers = vec!["w1".to_owned(), "w2".to_owned()];
        let checked = cancels(&evidence, &Records::of(&evidence));
        checked.findings.into_iter().map(|f| f.what).collect()
    }

    #[test]
    fn only_a_worker_that_nobody_reaches_may_go_on_until_its_lease_ends() {
        let late = ["alive after cancel"];
        assert_eq!(alive("worker-freeze", "w1", 70_000), Vec::<String>::new());
        assert_eq!(alive("worker-freeze", "w1", 90_000), late);
        assert_eq!(alive("worker-freeze", "w2", 70_000), late, "another worker");
        assert_eq!(alive("partition-workers", "n1", 70_000), Vec::<String>::new());
        // Another leader tells it, as soon as there is one.
        assert_eq!(alive("kill-leader", "n1", 20_000), Vec::<String>::new());
        assert_eq!(alive("kill-leader", "n1", 70_000), late);
        assert_eq!(alive("admin-snapshot", "n1", 20_000), late);
    }
}
