//! Overlap: what becomes of an instant while another run of its job is live is what the
//! job says. Lives are judged by the jobs' own lines; what did not run has only a record,
//! and that must say so, and be true.

use std::collections::BTreeMap;

use super::Checked;
use super::claims::{Claims, edge};
use super::fires::Fires;
use super::ran::{Ran, ran};
use super::records::{ActionRecord, Records};
use super::timeline::lives;
use crate::store::Evidence;
use crate::time::{MS, shown};

/// The cluster keeps so many actions of a job that are over: older ones may be gone.
const KEPT: usize = 190;

/// One job.
struct Of<'a> {
    evidence: &'a Evidence,
    records: &'a Records,
    job: &'a str,
    policy: &'a str,
    /// In the order in which they began.
    runs: Vec<&'a Ran>,
    /// Instants that the job certainly had.
    sure: Vec<i64>,
    details: &'a BTreeMap<i64, ActionRecord>,
}

/// The verdict.
pub(crate) fn check(evidence: &Evidence, records: &Records, fires: &Fires) -> Checked {
    let promise = "what comes while another run is live begins, waits, replaces or is left out \
                   as its job says";
    let mut checked = Checked::new("overlap", promise);
    for what in ["two at once", "lost", "out of order", "skipped for nothing"] {
        checked.count(what, 0);
    }
    let Some(lives) = checked.taken(lives(evidence)) else { return checked };
    let (all, empty) = (ran(evidence, "overlap-"), BTreeMap::new());
    for (job, life) in lives.iter().filter(|(job, _)| job.starts_with("overlap-")) {
        let Some(change) = life.changes.first() else { continue };
        let policy = change.after.definition["overlap"].as_str().unwrap_or("allow");
        let of = Of {
            evidence,
            records,
            job,
            policy,
            runs: all.iter().filter(|ran| ran.job == *job).collect(),
            sure: fires.claims.get(job).map(sure).unwrap_or_default(),
            details: records.details.get(job).unwrap_or(&empty),
        };
        of.judge(&mut checked);
    }
    for what in ["ran", "left out", "beside others", "cancelled for others"] {
        if checked.counted(what) == 0 {
            checked.unknown(format!("nothing was {what}"));
        }
    }
    checked
}

/// Instants that one of the triggers certainly had and that are judged.
fn sure(claims: &Claims) -> Vec<i64> {
    let all = claims.values().flatten().filter(|(_, claim)| claim.sure && !claim.given_up);
    let mut all: Vec<i64> = all.map(|(at, _)| *at).collect();
    all.sort_unstable();
    all.dedup();
    all
}

impl Of<'_> {
    fn judge(&self, checked: &mut Checked) {
        self.judge_lives(checked);
        for nominal in &self.sure {
            checked.count("instants", 1);
            let runs = self.runs.iter().filter(|ran| ran.has_action && ran.nominal == *nominal);
            let count = runs.count();
            if count > 1 {
                let told = format!("{count} runs for {}", shown(*nominal));
                checked.wrong("doubled", self.job, told, self.evidence.mono_of_utc(*nominal));
            }
            let fault = if count > 0 {
                checked.count("ran", 1);
                self.fault_of_begun(checked, *nominal)
            } else {
                self.fault_of_left_out(checked, *nominal)
            };
            if let Some((what, fault)) = fault {
                let told = format!("{}: {fault}", shown(*nominal));
                checked.wrong(what, self.job, told, self.evidence.mono_of_utc(*nominal));
            }
        }
    }

    /// Of two runs the one with the larger number was made later: it had to wait for the
    /// other, unless somebody asked for it by hand.
    fn judge_lives(&self, checked: &mut Checked) {
        let mut before: Option<&Ran> = None;
        for (at, later) in self.runs.iter().enumerate() {
            for earlier in self.runs[..at].iter().filter(|ran| ran.last >= later.start) {
                // Who asks by hand gets one, and may get it before what was made earlier.
                let by_hand = !earlier.has_action && earlier.number > later.number;
                if by_hand || !later.has_action {
                    continue;
                }
                if self.policy == "allow" {
                    checked.count("beside others", 1);
                } else if earlier.lives_at(self.evidence, later.start) {
                    let ms = (earlier.last - later.start) / MS;
                    let told =
                        format!("{} began while {} lived for {ms} ms", later.run, earlier.run);
                    checked.wrong("two at once", self.job, told, later.start);
                } else {
                    checked.count("overlaps of a frozen worker", 1);
                }
            }
            if !later.has_action || self.policy != "queue_all" {
                continue;
            }
            if let Some(other) = before.filter(|other| other.nominal > later.nominal) {
                let told = format!("{} began after {}", shown(later.nominal), shown(other.nominal));
                checked.wrong("out of order", self.job, told, later.start);
            }
            before = Some(*later);
        }
    }

    /// One that began must end well, or was cancelled where the policy cancels.
    fn fault_of_begun(
        &self,
        checked: &mut Checked,
        nominal: i64,
    ) -> Option<(&'static str, String)> {
        let of_it = |run: &&super::records::RunRecord| {
            run.job == self.job && run.nominal == nominal && run.is_of_plan()
        };
        let record = self.records.runs.values().find(of_it);
        let Some(record) = record else {
            return Some(("lost", "it began, and no record says that it ended".to_owned()));
        };
        match record.state.as_str() {
            "cancelled" if self.policy == "cancel_running" => {
                checked.count("cancelled for others", 1);
                let at = record.finished.unwrap_or(i64::MIN);
                let next = self.sure.iter().find(|other| **other > nominal);
                // What is ahead of the last instant that is judged may have taken its place.
                let had_come = next.is_none_or(|next| *next <= at + edge(self.evidence));
                (!had_come).then(|| {
                    ("cancelled for nothing", "no later instant had come by its end".to_owned())
                })
            }
            "success" | "failed" => None,
            other => Some(("lost", format!("its run is {other}"))),
        }
    }

    fn fault_of_left_out(
        &self,
        checked: &mut Checked,
        nominal: i64,
    ) -> Option<(&'static str, String)> {
        let Some(action) = self.details.get(&nominal) else {
            let oldest = self.details.keys().next().copied().unwrap_or(i64::MIN);
            let may_be_forgotten = self.details.len() >= KEPT && nominal <= oldest;
            if may_be_forgotten {
                checked.count("forgotten, not judged", 1);
                return None;
            }
            return Some(("lost", "it has no run and no action".to_owned()));
        };
        let is_replaced = (action.state.as_str(), action.reason.as_str()) == ("skipped", "overlap");
        let is_cancelled = action.state == "cancelled" && self.policy == "cancel_running";
        if !action.is_over() || !(is_replaced || is_cancelled || action.state == "failed") {
            let told =
                format!("it did not begin; its action is {} {}", action.state, action.reason);
            return Some(("lost", told));
        }
        if action.state == "failed" {
            // Its run ended without a start: a worker was lost, or could not begin it.
            checked.count("failed before they began", 1);
            return None;
        }
        let at = action.finished.unwrap_or(i64::MIN);
        match self.policy {
            "allow" | "queue_all" => {
                return Some(("lost", format!("{} leaves nothing out", self.policy)));
            }
            "skip" => {}
            _ => {
                let next = self.sure.iter().find(|other| **other > nominal);
                // What is ahead of the last instant that is judged may have replaced it.
                let had_come = next.is_none_or(|next| *next <= at + edge(self.evidence));
                if !had_come {
                    return Some(("replaced by nothing", "no later instant had come".to_owned()));
                }
            }
        }
        checked.count("left out", 1);
        if is_replaced && !self.was_live(at) {
            let told = format!("no run of the job was live at {}", shown(at));
            return Some(("skipped for nothing", told));
        }
        None
    }

    /// True if a run of the job was not over just before then, by the records.
    fn was_live(&self, at: i64) -> bool {
        self.records.runs.values().any(|run| {
            run.job == self.job
                && run.kind != "debug"
                && run.created <= at
                && run.finished.is_none_or(|end| end >= at)
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::planted::{BASE_UTC, Planted};
    use super::*;
    use crate::history::Kind;
    use crate::store::Said;

    /// What became of the instants at 10, 12, 14 and 16 s.
    struct Case {
        planted: Planted,
        runs: Vec<Value>,
        actions: Vec<Value>,
    }

    fn case(policy: &str) -> Case {
        let mut planted = Planted::new();
        let jobs = json!({"jobs": [{"name": "overlap-x", "overlap": policy,
            "triggers": [{"name": "t", "cron": "10,12,14,16 * * * * ?"}]}]});
        planted.op(1_000, Some(1_010), "apply-set", "x", jobs, Kind::Ok, json!({}));
        Case { planted, runs: Vec::new(), actions: Vec::new() }
    }

    impl Case {
        fn ran(mut self, number: u64, nominal: i64, from: i64, to: i64, state: &str) -> Self {
            let job = "overlap-x";
            self.planted.line(from, Said::Start, job, Some(nominal), number, 1);
            self.planted.line(to, Said::Tick, job, Some(nominal), number, 1);
            let at = |ms: i64| shown(BASE_UTC + ms);
            self.runs.push(json!({"id": format!("r-{number}"), "job": job, "kind": "schedule",
                "state": state, "nominal": at(nominal), "action": "overlap-x@x",
                "created": at(from - 10), "finished": at(to + 10), "attempts": []}));
            self.actions.push(json!({"nominal": at(nominal), "state": state}));
            self
        }

        fn skipped(mut self, nominal: i64, at: i64) -> Self {
            let (nominal, at) = (shown(BASE_UTC + nominal), shown(BASE_UTC + at));
            self.actions.push(json!({"nominal": nominal, "state": "skipped",
                "reason": "overlap", "finished": at}));
            self
        }

        fn found(mut self) -> Vec<String> {
            let at = 40_000;
            let utc = json!({"utc": BASE_UTC + at});
            let runs = json!(self.runs);
            self.planted.op(at, Some(at + 1), "horizon", "", json!(null), Kind::Ok, utc);
            self.planted.op(at + 2, Some(at + 3), "runs", "", json!(null), Kind::Ok, runs);
            let k = "overlap-x";
            let actions = json!(self.actions);
            self.planted.op(
                at + 4,
                Some(at + 5),
                "final-actions",
                k,
                json!(null),
                Kind::Ok,
                actions,
            );
            let evidence = self.planted.evidence();
            let records = Records::of(&evidence);
            let fires = Fires::of(&evidence, &records);
            check(&evidence, &records, &fires).findings.into_iter().map(|f| f.what).collect()
        }
    }

    const NONE: [&str; 0] = [];

    fn all_in_a_row(policy: &str) -> Case {
        case(policy)
            .ran(1, 10_000, 10_000, 12_500, "success")
            .ran(2, 12_000, 12_600, 15_000, "success")
            .ran(3, 14_000, 15_100, 17_000, "success")
            .ran(4, 16_000, 17_100, 19_000, "success")
    }

    #[test]
    fn each_policy_is_accepted_when_it_is_kept() {
        assert_eq!(all_in_a_row("queue_all").found(), NONE);
        let skip = case("skip").ran(1, 10_000, 10_000, 13_000, "success").skipped(12_000, 12_005);
        let skip = skip.ran(2, 14_000, 14_000, 17_000, "success").skipped(16_000, 16_003);
        assert_eq!(skip.found(), NONE);
        let one = case("queue_one").ran(1, 10_000, 10_000, 15_000, "success");
        let one = one.skipped(12_000, 14_001).ran(2, 14_000, 15_100, 18_000, "success");
        assert_eq!(one.ran(3, 16_000, 18_100, 20_000, "success").found(), NONE);
        let cancel = case("cancel_running").ran(1, 10_000, 10_000, 12_050, "cancelled");
        let cancel = cancel.ran(2, 12_000, 12_100, 14_030, "cancelled");
        let cancel = cancel.ran(3, 14_000, 14_100, 15_000, "success");
        assert_eq!(cancel.ran(4, 16_000, 16_100, 19_000, "success").found(), NONE);
    }

    #[test]
    fn each_breach_is_found() {
        let two = case("queue_all").ran(1, 10_000, 10_000, 12_500, "success");
        let two = two.ran(2, 12_000, 12_400, 13_000, "success");
        let two = two.ran(3, 14_000, 15_100, 17_000, "success");
        assert_eq!(two.ran(4, 16_000, 17_100, 19_000, "success").found(), ["two at once"]);
        let order = case("queue_all").ran(1, 10_000, 10_000, 12_500, "success");
        let order = order.ran(2, 14_000, 14_600, 15_000, "success");
        let order = order.ran(3, 12_000, 15_100, 17_000, "success");
        assert_eq!(order.ran(4, 16_000, 17_100, 19_000, "success").found(), ["out of order"]);
        let lost = case("queue_all").ran(1, 10_000, 10_000, 12_500, "success");
        let lost = lost.ran(2, 12_000, 12_600, 15_000, "success");
        let lost = lost.skipped(14_000, 14_005).ran(4, 16_000, 17_100, 19_000, "success");
        assert_eq!(lost.found(), ["lost"]);
        let nothing = case("skip").ran(1, 10_000, 10_000, 11_000, "success");
        let nothing = nothing.skipped(12_000, 12_005).ran(2, 14_000, 14_000, 15_000, "success");
        let nothing = nothing.ran(3, 16_000, 16_000, 19_000, "success");
        assert_eq!(nothing.found(), ["skipped for nothing"]);
        // The newest was dropped for the older one.
        let older = case("queue_one").ran(1, 10_000, 10_000, 15_000, "success");
        let older = older.ran(2, 12_000, 15_100, 18_000, "success").skipped(14_000, 14_001);
        assert_eq!(
            older.ran(3, 16_000, 18_100, 20_000, "success").found(),
            ["replaced by nothing"]
        );
        let cancel = case("cancel_running").ran(1, 10_000, 10_000, 10_500, "cancelled");
        let cancel = cancel.ran(2, 12_000, 12_100, 13_000, "success");
        let cancel = cancel.ran(3, 14_000, 14_100, 15_000, "success");
        let cancel = cancel.ran(4, 16_000, 16_100, 19_000, "success");
        assert_eq!(cancel.found(), ["cancelled for nothing"]);
        let gone = case("queue_one").ran(1, 10_000, 10_000, 11_000, "success");
        let gone = gone.ran(2, 12_000, 12_000, 13_000, "success");
        assert_eq!(gone.ran(3, 16_000, 16_000, 17_000, "success").found(), ["lost"]);
        let twice = all_in_a_row("queue_all").ran(9, 16_000, 20_000, 21_000, "success");
        assert_eq!(twice.found(), ["doubled"]);
    }
}
