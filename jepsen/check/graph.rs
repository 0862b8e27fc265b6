//! Dependencies: which actions each action waits for, that nothing begins before these
//! have ended as they must, that what may begin does, once, and what becomes of the rest.
//!
//! What is waited for is computed again from the definitions (`rules/graph.rs`) and
//! compared with what actions name; who began when is what the jobs wrote.

use std::collections::BTreeMap;

use super::Checked;
use super::claims::{earliest, edge};
use super::deadlines::deadline;
use super::ran::{Ran, ran};
use super::records::{ActionRecord, Records};
use super::timeline::{Life, Window, lives};
use crate::rules::graph::{Edge, Graph, Must};
use crate::rules::span;
use crate::store::Evidence;
use crate::time::{MS, shown};

/// Jobs of the workload.
const PREFIX: &str = "dag-";
/// The cluster keeps so many actions of a job that are over: older ones may be gone.
const KEPT: usize = 190;

/// How an action stands to one of those that it waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stands {
    Passed,
    /// It may pass yet.
    Open,
    /// It never will.
    Closed,
    /// Its record is gone.
    Unknown,
}

/// The verdict.
pub(crate) fn check(evidence: &Evidence, records: &Records) -> Checked {
    let promise = "an action waits for what its edges say, begins after that, and ends once";
    let mut checked = Checked::new("dependencies", promise);
    for what in ["before its upstream", "never began", "another upstream", "another end"] {
        checked.count(what, 0);
    }
    let Some(lives) = checked.taken(lives(evidence)) else { return checked };
    let mut graph = Graph::default();
    // Graphs of this harness are made once and stay.
    let made: BTreeMap<&String, Window> = (lives.iter())
        .filter(|(job, _)| job.starts_with(PREFIX))
        .filter_map(|(job, life)| Some((job, made(&mut checked, &mut graph, job, life)?)))
        .collect();
    let all = ran(evidence, PREFIX);
    let mut runs: BTreeMap<(&str, i64), Vec<&Ran>> = BTreeMap::new();
    for run in all.iter().filter(|run| run.has_action) {
        runs.entry((&run.job, run.nominal)).or_default().push(run);
    }
    let empty = BTreeMap::new();
    for (job, made) in made {
        let details = records.details.get(job).unwrap_or(&empty);
        let of = Of { evidence, records, graph: &graph, runs: &runs, job, made, details };
        of.judge(&mut checked);
    }
    if checked.counted("edges") < 10 {
        checked.unknown("fewer than ten edges were passed");
    }
    checked
}

fn made(checked: &mut Checked, graph: &mut Graph, job: &str, life: &Life) -> Option<Window> {
    let change = life.changes.first()?;
    checked.taken(graph.add(job, &change.after.definition))?;
    Some(change.at)
}

struct Of<'a> {
    evidence: &'a Evidence,
    records: &'a Records,
    graph: &'a Graph,
    runs: &'a BTreeMap<(&'a str, i64), Vec<&'a Ran>>,
    job: &'a str,
    made: Window,
    details: &'a BTreeMap<i64, ActionRecord>,
}

impl Of<'_> {
    fn judge(&self, checked: &mut Checked) {
        let from = self.made.to.saturating_add(edge(self.evidence));
        let horizon = self.evidence.horizon().unwrap_or(i64::MIN);
        for (nominal, action) in self.details.iter().filter(|(nominal, _)| **nominal > from) {
            checked.count("actions", 1);
            let at = self.evidence.mono_of_utc(*nominal);
            match self.graph.action(self.job, *nominal) {
                None => {
                    let told = format!("{}: no rule gives it this instant", shown(*nominal));
                    checked.wrong("phantom", self.job, told, at);
                }
                Some(waits) => self.judge_action(checked, *nominal, action, &waits, horizon),
            }
        }
        if horizon <= from {
            return;
        }
        // What ran is judged by the jobs' own lines, whether or not a record is left. What
        // came later may have begun after what it waits for was read.
        for ((_, nominal), runs) in self.runs.range((self.job, from)..=(self.job, horizon)) {
            self.judge_runs(checked, *nominal, runs);
        }
        if self.details.is_empty() {
            return;
        }
        let oldest = if self.details.len() < KEPT {
            i64::MIN
        } else {
            self.details.keys().next().copied().unwrap_or(i64::MIN)
        };
        for nominal in self.graph.between(self.job, from.max(oldest), horizon) {
            let needs_what_is_gone = || {
                let waits = self.graph.action(self.job, nominal).unwrap_or_default();
                let needs = self.graph.edges(self.job).iter().map(Edge::needs_one);
                needs.zip(&waits).any(|(needs, ups)| needs && ups.iter().any(|up| *up <= from))
            };
            if !self.details.contains_key(&nominal) && !needs_what_is_gone() {
                let told = format!("{}: it has no action", shown(nominal));
                checked.wrong("no action", self.job, told, self.evidence.mono_of_utc(nominal));
            }
        }
    }

    /// Upstream instants that there had to be; none if it is not known of one. The second
    /// is true if some were before the jobs were made.
    fn there(&self, ups: &[i64]) -> Option<(Vec<i64>, bool)> {
        let sure = self.made.to.saturating_add(edge(self.evidence));
        let never = earliest(self.evidence, self.made.from, self.made.to);
        if ups.iter().any(|up| (never..=sure).contains(up)) {
            return None;
        }
        let there: Vec<i64> = ups.iter().copied().filter(|up| *up > sure).collect();
        let some_gone = there.len() < ups.len();
        Some((there, some_gone))
    }

    fn judge_action(
        &self,
        checked: &mut Checked,
        nominal: i64,
        action: &ActionRecord,
        waits: &[Vec<i64>],
        horizon: i64,
    ) {
        let at = self.evidence.mono_of_utc(nominal);
        let mut stands: Vec<Stands> = Vec::new();
        for (edge, ups) in self.graph.edges(self.job).iter().zip(waits) {
            let Some((there, some_gone)) = self.there(ups) else {
                checked.count("edges to the time of the making, not judged", 1);
                stands.push(Stands::Unknown);
                continue;
            };
            checked.count(&format!("edges {}", edge.matching.word()), 1);
            if edge.needs_one() && some_gone {
                // Its upstream action never was.
                stands.push(Stands::Closed);
                continue;
            }
            let named: Vec<i64> = (action.upstream.iter())
                .filter(|up| up.job == edge.job)
                .filter_map(|up| up.nominal)
                .collect();
            let mut sorted = named.clone();
            sorted.sort_unstable();
            if sorted != there {
                let times = |all: &[i64]| all.iter().map(|at| shown(*at)).collect::<Vec<_>>();
                let told = format!(
                    "{}: by {} it waits for {:?} of {}, not {:?}",
                    shown(nominal),
                    edge.matching.word(),
                    times(&sorted),
                    edge.job,
                    times(&there)
                );
                checked.wrong("another upstream", self.job, told, at);
            }
            stands.push(self.stands(checked, nominal, action, edge, &there));
        }
        if nominal <= horizon {
            self.judge_end(checked, nominal, action, &stands);
        }
    }

    /// How an edge stands at the end of the test.
    fn stands(
        &self,
        checked: &mut Checked,
        nominal: i64,
        action: &ActionRecord,
        edge: &Edge,
        ups: &[i64],
    ) -> Stands {
        if ups.is_empty() {
            let said = action.upstream.iter().find(|up| up.job == edge.job);
            if let Some(other) = said.filter(|up| up.no_match != edge.no_match) {
                let told = format!(
                    "{}: {} finds none, which means {:?} and not {:?}",
                    shown(nominal),
                    edge.job,
                    other.no_match,
                    edge.no_match
                );
                let at = self.evidence.mono_of_utc(nominal);
                checked.wrong("another upstream", self.job, told, at);
            }
            return match edge.no_match.as_str() {
                "wait" => Stands::Open,
                "skip" => Stands::Closed,
                _ => Stands::Passed,
            };
        }
        let all = ups.iter().map(|up| {
            let found = self.records.details.get(&edge.job).and_then(|all| all.get(up));
            found.map_or(Stands::Unknown, |up| stands(edge.must, &up.state))
        });
        let all: Vec<Stands> = all.collect();
        let worst = [Stands::Unknown, Stands::Closed, Stands::Open];
        worst.into_iter().find(|one| all.contains(one)).unwrap_or(Stands::Passed)
    }

    /// What it came to follows from what its upstream actions came to.
    fn judge_end(
        &self,
        checked: &mut Checked,
        nominal: i64,
        action: &ActionRecord,
        stands: &[Stands],
    ) {
        if stands.contains(&Stands::Unknown) {
            return;
        }
        checked.count("ends", 1);
        let (state, reason) = (action.state.as_str(), action.reason.as_str());
        let limit = self.graph_limit();
        let has_expired = || {
            let end = limit.map(|limit| nominal.saturating_add(limit));
            reason == "expired" && action.finished.zip(end).is_some_and(|(at, end)| at >= end)
        };
        let wanted = if stands.contains(&Stands::Closed) {
            "skipped with what it waits for"
        } else if stands.contains(&Stands::Open) {
            "waiting"
        } else {
            "over"
        };
        let is_right = match (wanted, state) {
            ("waiting", "skipped") => has_expired(),
            ("waiting", _) => state == "waiting",
            ("over", "skipped") => reason == "job" || has_expired(),
            ("over", _) => state == "success" || state == "failed",
            (_, "skipped") => ["upstream", "no_upstream"].contains(&reason) || has_expired(),
            _ => false,
        };
        if !is_right {
            let what = if wanted == "over" { "never began" } else { "another end" };
            let told = format!("{}: it is {state} {reason}, not {wanted}", shown(nominal));
            checked.wrong(what, self.job, told, self.evidence.mono_of_utc(nominal));
        }
    }

    /// How long after its instant an action of the job may wait, where the job says so.
    fn graph_limit(&self) -> Option<i64> {
        let written = self.graph.definition(self.job)?["wait_limit"].as_str()?;
        span(written).ok()
    }

    /// One run, after everything that it waits for.
    fn judge_runs(&self, checked: &mut Checked, nominal: i64, runs: &[&Ran]) {
        let Some(run) = runs.first() else { return };
        if let [_, other, ..] = runs {
            let told = format!("{}: {} and {} ran", shown(nominal), run.run, other.run);
            checked.wrong("twice", self.job, told, other.start);
        }
        let Some(waits) = self.graph.action(self.job, nominal) else { return };
        // Monotonic time at which all of it was over, where each said that it ended.
        let mut ready = Some(self.evidence.mono_of_utc(nominal));
        let mut count = 0;
        for (edge, ups) in self.graph.edges(self.job).iter().zip(&waits) {
            let Some((there, _)) = self.there(ups) else { return };
            for up in there {
                checked.count("edges", 1);
                checked.count(&format!("edges if {}", edge.must.word()), 1);
                count += 1;
                if let Some(fault) = self.fault_of_start(edge, up, run.start) {
                    let told = format!("{}: it began, and {fault}", shown(nominal));
                    checked.wrong("before its upstream", self.job, told, run.start);
                }
                let end = self.ended(&edge.job, up);
                ready = ready.zip(end).map(|(ready, end)| ready.max(end));
            }
        }
        let Some(ready) = ready.filter(|_| count > 0 && self.evidence.test.judges_times()) else {
            return;
        };
        let last = deadline(self.evidence, self.evidence.utc_of_mono(ready));
        if last < i64::MAX && run.start > self.evidence.mono_of_utc(last) {
            let ms = (run.start - ready) / MS;
            let told = format!("{}: it began {ms} ms after its upstream", shown(nominal));
            checked.wrong("late", self.job, told, run.start);
        }
    }

    fn run_of<'b>(&'b self, job: &'b str, nominal: i64) -> Option<&'b Ran> {
        self.runs.get(&(job, nominal)).and_then(|runs| runs.first().copied())
    }

    /// When an action said itself that its last attempt ended.
    fn ended(&self, job: &str, nominal: i64) -> Option<u64> {
        let run = self.run_of(job, nominal)?;
        run.tries.last().filter(|last| last.exit.is_some()).map(|last| last.last)
    }

    /// Why nothing could begin by then that waits for this action, if so.
    fn fault_of_start(&self, edge: &Edge, up: i64, start: u64) -> Option<String> {
        let name = format!("{}@{}", edge.job, shown(up));
        let run = self.run_of(&edge.job, up);
        let success = run.and_then(Ran::success);
        let record = self.records.details.get(&edge.job).and_then(|all| all.get(&up));
        let state = record.map_or("", |record| record.state.as_str());
        let lives = run.is_some_and(|run| run.last > start && !run.outlived(self.evidence, start));
        match edge.must {
            Must::Succeed => match success {
                Some(at) if at <= start => None,
                Some(at) => Some(format!("{name} succeeded {} ms later", (at - start) / MS)),
                None => Some(format!("{name} never succeeded")),
            },
            Must::SucceedOrSkip if state == "skipped" && !lives => None,
            Must::SucceedOrSkip => success
                .is_none_or(|at| at > start)
                .then(|| format!("{name} had neither succeeded nor been skipped")),
            Must::Fail if success.is_some() => Some(format!("{name} succeeded")),
            Must::Fail | Must::End | Must::Order if lives => Some(format!("{name} was not over")),
            Must::Fail | Must::End | Must::Order => None,
        }
    }
}

/// What the state of an upstream action means at the end of a test.
fn stands(must: Must, state: &str) -> Stands {
    match (must, state) {
        (_, "planned" | "waiting" | "ready" | "running") => Stands::Open,
        (Must::End | Must::Order, _)
        | (Must::Succeed | Must::SucceedOrSkip, "success")
        | (Must::SucceedOrSkip, "skipped")
        | (Must::Fail, "failed") => Stands::Passed,
        (Must::Fail, "success") | (Must::Succeed | Must::Fail, "skipped") => Stands::Closed,
        _ => Stands::Open,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::planted::{BASE_UTC, Planted};
    use super::*;
    use crate::history::Kind;
    use crate::store::Said;

    /// `a` and `b` every five seconds, `c` after both by these edges; when `c` starts, how
    /// `b` exits, and what `c`'s actions are.
    struct Case {
        edges: Value,
        start: fn(i64) -> Option<i64>,
        b_exit: i32,
        /// State and reason of `c`'s actions.
        c: (&'static str, &'static str),
        /// Changes what `c` names.
        names: fn(i64) -> i64,
    }

    fn both() -> Case {
        Case {
            edges: json!(["dag-a", "dag-b"]),
            start: |_| Some(230),
            b_exit: 0,
            c: ("success", ""),
            names: |at| at,
        }
    }

    fn at(ms: i64) -> String {
        shown(BASE_UTC + ms)
    }

    fn found(case: &Case) -> Vec<String> {
        let mut planted = Planted::new();
        let triggers = json!([{"cron": "0/5 * * * * ?"}]);
        let jobs = json!({"jobs": [
            {"name": "dag-a", "triggers": triggers},
            {"name": "dag-b", "triggers": triggers},
            {"name": "dag-c", "depends_on": case.edges},
        ]});
        planted.op(1_000, Some(1_010), "apply-set", "x", jobs, Kind::Ok, json!({}));
        let mut run = 0;
        let mut actions: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        for n in 1..=6 {
            let when = n * 5_000;
            for (job, code) in [("dag-a", 0), ("dag-b", case.b_exit)] {
                run += 1;
                planted.line(when + 10, Said::Start, job, Some(when), run, 1);
                planted.line(when + 200, Said::End, job, Some(when), run, 1).exit = Some(code);
                let state = if code == 0 { "success" } else { "failed" };
                let all = actions.entry(job).or_default();
                all.push(json!({"nominal": at(when), "state": state}));
            }
            if let Some(late) = (case.start)(n) {
                run += 1;
                planted.line(when + late, Said::Start, "dag-c", Some(when), run, 1);
                planted.line(when + late + 50, Said::End, "dag-c", Some(when), run, 1);
            }
            let up = |job: &str| {
                let text = at((case.names)(when)).replace(['-', ':'], "");
                json!({"job": job, "action": format!("{job}@{text}")})
            };
            actions.entry("dag-c").or_default().push(json!({"nominal": at(when),
                "state": case.c.0, "reason": case.c.1,
                "upstream": [up("dag-a"), up("dag-b")]}));
        }
        for (job, actions) in actions {
            let actions = json!(actions);
            planted.op(34_000, Some(34_001), "final-actions", job, json!(null), Kind::Ok, actions);
        }
        let utc = json!({"utc": BASE_UTC + 32_000});
        planted.op(33_000, Some(33_001), "horizon", "", json!(null), Kind::Ok, utc);
        let mut evidence = planted.evidence();
        evidence.test.late_ms = 3_000;
        let records = Records::of(&evidence);
        check(&evidence, &records).findings.into_iter().map(|f| f.what).collect()
    }

    const NONE: [&str; 0] = [];

    #[test]
    fn what_waits_is_accepted() {
        assert_eq!(found(&both()), NONE);
        // Upstream fails for good: nothing must run.
        let held = Case { start: |_| None, b_exit: 1, c: ("waiting", ""), ..both() };
        assert_eq!(found(&held), NONE);
        let edges = json!(["dag-a", {"job": "dag-b", "condition": "failure"}]);
        assert_eq!(found(&Case { edges: edges.clone(), b_exit: 1, ..both() }), NONE);
        let skipped = Case { edges, start: |_| None, c: ("skipped", "upstream"), ..both() };
        assert_eq!(found(&skipped), NONE);
        let soft = json!(["dag-a", {"job": "dag-b", "soft": true}]);
        assert_eq!(found(&Case { edges: soft, b_exit: 1, ..both() }), NONE);
    }

    #[test]
    fn what_does_not_wait_is_found() {
        let early = Case { start: |n| Some(if n == 3 { 150 } else { 230 }), ..both() };
        assert_eq!(found(&early), ["before its upstream", "before its upstream"]);
        let wrong = Case { b_exit: 1, c: ("waiting", ""), ..both() };
        assert_eq!(found(&wrong), ["before its upstream"; 6]);
        let edges = json!(["dag-a", {"job": "dag-b", "condition": "done"}]);
        let early = Case { edges, b_exit: 1, start: |_| Some(210), ..both() };
        assert_eq!(found(&early), NONE);
        let early = Case { start: |_| Some(190), ..early };
        assert_eq!(found(&early).len(), 12);
    }

    #[test]
    fn what_never_begins_or_late_is_found() {
        let stuck = Case { start: |_| None, c: ("waiting", ""), ..both() };
        assert_eq!(found(&stuck), ["never began"; 6]);
        let late = Case { start: |n| Some(if n == 4 { 6_000 } else { 230 }), ..both() };
        assert_eq!(found(&late), ["late"]);
    }

    #[test]
    fn what_waits_for_something_else_is_found() {
        let other = Case { names: |at| if at == 20_000 { 25_000 } else { at }, ..both() };
        assert_eq!(found(&other), ["another upstream", "another upstream"]);
        let edges = json!(["dag-a", {"job": "dag-b", "condition": "failure"}]);
        let ran = Case { edges, c: ("success", ""), start: |_| None, ..both() };
        assert_eq!(found(&ran), ["another end"; 6]);
        // An upstream job that never fires, and an action of this one all the same.
        let none = json!(["dag-a", {"job": "dag-x", "match": "same_time"}]);
        assert!(found(&Case { edges: none, ..both() }).contains(&"phantom".to_owned()));
    }
}
