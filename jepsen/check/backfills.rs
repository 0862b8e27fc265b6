//! Back-fills: of each instant of a range one result, so many at once, in the order that
//! was asked for, nothing while it is paused or after it was stopped; and nobody is told
//! unless that was asked for.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::Checked;
use super::claims::{earliest, edge};
use super::ran::{Ran, ran};
use super::records::{Records, RunRecord};
use super::timeline::{Life, lives};
use crate::history::Kind;
use crate::store::Evidence;
use crate::time::{MS, millis, shown};
use crate::workload::{BACKFILL_BELOW as BELOW, BACKFILL_LIVE as LIVE};

/// What an instant comes to.
const OVER: [&str; 6] = ["success", "failed", "cancelled", "deleted", "skipped", "elsewhere"];

/// A back-fill that was asked for, and what was read of it at the end.
struct Fill<'a> {
    id: &'a str,
    job: &'a str,
    asked: &'a Value,
    /// Of which one it runs again what failed.
    again: Option<&'a str>,
    t: u64,
    /// State and run of each instant.
    instants: BTreeMap<i64, (&'a str, &'a str)>,
    /// Its runs by their own records, in the order in which they were made.
    runs: Vec<&'a RunRecord>,
}

/// Clocks of requests and of what is committed may differ by this.
const OFF_MS: i64 = 1_000;

/// Back-fills get their numbers in the order in which they are made.
fn number(id: &str) -> u64 {
    id.strip_prefix("b-").and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// The verdict.
pub(crate) fn check(evidence: &Evidence, records: &Records) -> Checked {
    let promise = "a back-fill runs each instant of its range once, so many at a time, in order";
    let mut checked = Checked::new("backfills", promise);
    for what in ["not once", "too many at once", "out of order", "began while paused", "told"] {
        checked.count(what, 0);
    }
    let Some(lives) = checked.taken(lives(evidence)) else { return checked };
    let fills = fills(&mut checked, evidence, records);
    let all = ran(evidence, "bf-");
    let ended = evidence.ops_of("final-backfills").any(|op| op.is_ok());
    for fill in &fills {
        checked.count("back-fills", 1);
        let of = Of { evidence, records, fill, fills: &fills, runs: &all };
        if ended {
            of.judge_list(&mut checked, &lives);
        }
        of.judge_at_once(&mut checked);
        of.judge_others(&mut checked);
        of.judge_order(&mut checked);
        of.judge_steering(&mut checked);
    }
    judge_lines(&mut checked, records, &fills, &all);
    judge_telling(&mut checked, evidence, records, &fills);
    for what in ["back-fills", "instants"] {
        if checked.counted(what) == 0 {
            checked.unknown(format!("no {what} were there"));
        }
    }
    checked
}

/// Those that were acknowledged; one request makes one.
fn fills<'a>(checked: &mut Checked, evidence: &'a Evidence, records: &'a Records) -> Vec<Fill<'a>> {
    let mut fills: Vec<Fill<'a>> = Vec::new();
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    let mut keys: BTreeMap<&str, &str> = BTreeMap::new();
    for op in evidence.ops.iter().filter(|op| op.is_ok()) {
        let again = op.ask.f == "backfill-rerun";
        if op.ask.f != "backfill" && !again {
            continue;
        }
        let Some(id) = op.result()["backfill"].as_str() else { continue };
        let key = op.ask.v["key"].as_str().unwrap_or_default();
        let is_other = |known: Option<&str>, this: &str| known.is_some_and(|known| known != this);
        if is_other(owners.insert(id, key), key) || is_other(keys.insert(key, id), id) {
            checked.wrong("not once", id, format!("made by more than {key}"), op.ask.t);
        }
        if fills.iter().any(|known| known.id == id) {
            continue;
        }
        let again = again.then_some(op.ask.k.as_str());
        let job = match again {
            None => op.ask.k.as_str(),
            Some(old) => fills.iter().find(|fill| fill.id == old).map_or("", |fill| fill.job),
        };
        let (asked, t) = (&op.ask.v, op.ask.t);
        let (instants, runs) = (BTreeMap::new(), Vec::new());
        fills.push(Fill { id, job, asked, again, t, instants, runs });
    }
    for op in evidence.ops_of("final-instants").filter(|op| op.is_ok()) {
        let Some(fill) = fills.iter_mut().find(|fill| fill.id == op.ask.k) else { continue };
        for item in op.result().as_array().into_iter().flatten() {
            let Some(at) = item["nominal"].as_str().and_then(millis) else { continue };
            let text = |value: &'a Value| value.as_str().unwrap_or_default();
            fill.instants.insert(at, (text(&item["state"]), text(&item["run"])));
        }
    }
    for fill in &mut fills {
        fill.runs = records.runs.values().filter(|run| run.backfill == fill.id).collect();
        fill.runs.sort_by_key(|run| run.number());
    }
    fills
}

/// How what was asked for of a back-fill went: when, and whether that is known.
struct Steered<'a> {
    to: &'a str,
    /// Wall clock of the first request, and of the first answer that it was done.
    from: i64,
    done: Option<i64>,
}

struct Of<'a> {
    evidence: &'a Evidence,
    records: &'a Records,
    fill: &'a Fill<'a>,
    fills: &'a [Fill<'a>],
    runs: &'a [Ran],
}

impl Of<'_> {
    fn at(&self) -> u64 {
        self.fill.t
    }

    /// The instants that it must have; none if nobody knows.
    fn expected(&self, lives: &BTreeMap<String, Life>) -> Option<BTreeSet<i64>> {
        if let Some(old) = self.fill.again {
            let old = self.fills.iter().find(|fill| fill.id == old)?;
            let bad = |state: &str| ["failed", "cancelled", "deleted"].contains(&state);
            let all = old.instants.iter().filter(|(_, (state, _))| bad(state));
            return Some(all.map(|(at, _)| *at).collect());
        }
        let bound = |name: &str| self.fill.asked[name].as_str().and_then(millis);
        let (from, to) = (bound("from")?, bound("to")?);
        let rules = &lives.get(self.fill.job)?.changes.first()?.after.triggers;
        let of = |rule: &crate::rules::Rule| rule.instants((0, 0), from, to - 1).concat();
        Some(rules.iter().flat_map(of).collect())
    }

    /// True if an earlier back-fill of the job may have been about to run it, or have run it
    /// just then: it was left to that.
    fn is_anothers(&self, at: i64) -> bool {
        let asked = self.evidence.utc_of_mono(self.at()).saturating_sub(OFF_MS);
        let me = number(self.fill.id);
        let earlier = self.fills.iter().filter(|f| f.job == self.fill.job && number(f.id) < me);
        earlier.filter(|fill| fill.instants.contains_key(&at)).any(|fill| {
            let mut runs = fill.runs.iter().filter(|run| run.nominal == at);
            runs.next().is_none_or(|run| run.finished.is_none_or(|end| end >= asked))
        })
    }

    /// No instant is run by two back-fills at once.
    fn judge_others(&self, checked: &mut Checked) {
        let is_mine = |run: &&Ran| self.fill.runs.iter().any(|mine| mine.id == run.run);
        for run in self.runs.iter().filter(is_mine) {
            let is_it = |other: &&RunRecord| {
                other.kind == "backfill"
                    && other.job == run.job
                    && other.nominal == run.nominal
                    && other.id != run.run
            };
            let others = self.records.runs.values().filter(is_it);
            let lines = others.filter_map(|other| self.runs.iter().find(|r| r.run == other.id));
            for other in lines.filter(|other| other.lives_at(self.evidence, run.start)) {
                let told =
                    format!("{}: {} began while {} lived", shown(run.nominal), run.run, other.run);
                checked.wrong("two back-fills at once", self.fill.id, told, run.start);
            }
        }
    }

    fn judge_list(&self, checked: &mut Checked, lives: &BTreeMap<String, Life>) {
        let fill = self.fill;
        if fill.instants.is_empty() {
            checked.count("forgotten, not judged", 1);
            return;
        }
        let there: BTreeSet<i64> = fill.instants.keys().copied().collect();
        let mut expected = self.expected(lives);
        if let Some(all) = &mut expected {
            let before = all.len();
            all.retain(|at| there.contains(at) || !self.is_anothers(*at));
            checked.count("instants left to another back-fill", before - all.len());
        }
        if let Some(expected) = expected.filter(|expected| *expected != there) {
            let first = expected.symmetric_difference(&there).next().copied().unwrap_or(0);
            let told = format!("{} instants, not {}", there.len(), expected.len());
            let told = format!("{told}; the first that differs is {}", shown(first));
            checked.wrong("another list", fill.id, told, self.at());
        }
        let may_be_stopped = self.steered().iter().any(|steered| steered.to == "stop");
        for (nominal, (state, run)) in &fill.instants {
            checked.count("instants", 1);
            checked.count(&format!("instants {state}"), 1);
            let runs: Vec<&str> = (fill.runs.iter())
                .filter(|run| run.nominal == *nominal)
                .map(|run| run.id.as_str())
                .collect();
            let is_left = *state == "waiting" && may_be_stopped || *state == "elsewhere";
            let is_once = if is_left { runs.is_empty() } else { runs == [*run] };
            if !is_once {
                let told = format!("{}: {state} by {run:?}, runs are {runs:?}", shown(*nominal));
                checked.wrong("not once", fill.id, told, self.at());
            }
            if !is_left && !OVER.contains(state) {
                let told = format!("{}: it is {state}", shown(*nominal));
                checked.wrong("not over", fill.id, told, self.at());
            }
            let record = self.records.runs.get(*run).map(|record| record.state.as_str());
            if let Some(other) = record.filter(|other| other != state) {
                let told = format!("{}: it is {state}, and {run} {other}", shown(*nominal));
                checked.wrong("another result", fill.id, told, self.at());
            }
        }
    }

    /// By the jobs' own lines, and by the records.
    fn judge_at_once(&self, checked: &mut Checked) {
        let most = self.fill.asked["concurrency"].as_u64();
        let first = |again: &str| self.fills.iter().find(|fill| fill.id == again);
        let of_first = || self.fill.again.and_then(first)?.asked["concurrency"].as_u64();
        let most = usize::try_from(most.or_else(of_first).unwrap_or(1)).unwrap_or(1);
        let ids: BTreeSet<&str> = self.fill.runs.iter().map(|run| run.id.as_str()).collect();
        let mine: Vec<&Ran> = self.runs.iter().filter(|r| ids.contains(r.run.as_str())).collect();
        for run in &mine {
            let beside = |other: &&&Ran| {
                other.run != run.run
                    && (other.start, other.number) < (run.start, run.number)
                    && other.lives_at(self.evidence, run.start)
            };
            let count = 1 + mine.iter().filter(beside).count();
            if count > most {
                let told = format!("{} began beside {} others, of {most}", run.run, count - 1);
                checked.wrong("too many at once", self.fill.id, told, run.start);
            }
        }
        for run in &self.fill.runs {
            let beside = |other: &&&RunRecord| {
                other.number() < run.number() && other.finished.is_none_or(|end| end > run.created)
            };
            let count = 1 + self.fill.runs.iter().filter(beside).count();
            if count > most {
                let told = format!("{} was made beside {} others, of {most}", run.id, count - 1);
                checked.wrong("too many at once", self.fill.id, told, self.at());
            }
        }
    }

    fn judge_order(&self, checked: &mut Checked) {
        let first = |again: &str| self.fills.iter().find(|fill| fill.id == again);
        let asked = self.fill.again.and_then(first).map_or(self.fill.asked, |fill| fill.asked);
        let newest = asked["newest_first"] == true;
        for pair in self.fill.runs.windows(2) {
            checked.count("pairs in order", 1);
            let ascends = pair[0].nominal < pair[1].nominal;
            let same = pair[0].nominal == pair[1].nominal;
            if ascends == newest && !same {
                let (one, two) = (shown(pair[0].nominal), shown(pair[1].nominal));
                let told = format!("{two} after {one}, newest first: {newest}");
                checked.wrong("out of order", self.fill.id, told, self.at());
            }
        }
    }

    /// What was asked of it, in the order in which that was first sent.
    fn steered(&self) -> Vec<Steered<'_>> {
        let mut all: Vec<Steered<'_>> = Vec::new();
        let mut keys: BTreeMap<&str, usize> = BTreeMap::new();
        let ops = self.evidence.ops_of("backfill-steer").filter(|op| op.ask.k == self.fill.id);
        for op in ops {
            let key = op.ask.v["key"].as_str().unwrap_or_default();
            let at = *keys.entry(key).or_insert_with(|| {
                let to = op.ask.v["to"].as_str().unwrap_or_default();
                all.push(Steered { to, from: op.ask.utc, done: None });
                all.len() - 1
            });
            if op.kind() == Kind::Ok {
                let done = all[at].done.get_or_insert(i64::MAX);
                *done = op.known_utc().min(*done);
            }
        }
        all
    }

    /// Nothing of it is made while it is certainly paused, or after it was stopped.
    fn judge_steering(&self, checked: &mut Checked) {
        let all = self.steered();
        let margin = edge(self.evidence);
        for (at, steered) in all.iter().enumerate() {
            let Some(done) = steered.done.filter(|_| steered.to != "resume") else { continue };
            checked.count(&format!("answered {}", steered.to), 1);
            let over = all[at + 1..].iter().find(|next| next.to == "resume");
            let over = if steered.to == "stop" { None } else { over };
            let from = done.saturating_add(margin);
            let to = over.map_or(i64::MAX, |next| earliest(self.evidence, next.from, next.from));
            let made = |run: &&&RunRecord| run.created > from && run.created < to;
            for run in self.fill.runs.iter().filter(made) {
                let ms = run.created - done;
                let told = format!("{} was made {ms} ms after {}", run.id, steered.to);
                let t = self.evidence.mono_of_utc(run.created);
                checked.wrong("began while paused", self.fill.id, told, t);
            }
        }
    }
}

/// What ran in the past was asked for, and is recorded as that.
fn judge_lines(checked: &mut Checked, records: &Records, fills: &[Fill<'_>], all: &[Ran]) {
    let past = |run: &&Ran| run.job != LIVE && run.job != BELOW;
    for run in all.iter().filter(past) {
        checked.count("runs that wrote", 1);
        let Some(record) = records.runs.get(&run.run) else { continue };
        let is_known = fills.iter().any(|fill| fill.id == record.backfill);
        if record.backfill.is_empty() || record.kind != "backfill" {
            let told = format!("{} is a {} of no back-fill", run.run, record.kind);
            checked.wrong("not once", &run.job, told, run.start);
        } else if !is_known {
            // Its request was not answered.
            checked.count("runs of unanswered requests", 1);
        }
    }
}

/// A dependant of an action that failed runs if, and only if, somebody wanted it told.
fn judge_telling(
    checked: &mut Checked,
    evidence: &Evidence,
    records: &Records,
    fills: &[Fill<'_>],
) {
    let unknown = evidence.ops_of("backfill").any(|op| op.ask.k == LIVE && op.kind() != Kind::Ok);
    let nominals = |job: &str| -> BTreeSet<i64> {
        let of_it = |run: &&RunRecord| run.job == job && run.is_of_plan();
        records.runs.values().filter(of_it).map(|run| run.nominal).collect()
    };
    let below = nominals(BELOW);
    for fill in fills.iter().filter(|fill| fill.job == LIVE) {
        let tells = fill.asked["downstream"] == true;
        for run in fill.runs.iter().filter(|run| run.state == "success") {
            checked.count(if tells { "that tell" } else { "that tell nobody" }, 1);
            if below.contains(&run.nominal) != tells {
                let told = if tells { "and what waits was not told" } else { "and told others" };
                let told = format!("{} of {}: {told}", run.id, shown(run.nominal));
                let t = evidence.mono_of_utc(run.created);
                checked.wrong("told", fill.id, told, t);
            }
        }
    }
    // Nobody wanted these told, and their own runs fail.
    let own = |run: &&RunRecord| run.job == LIVE && run.state == "success" && run.is_of_plan();
    let good: BTreeSet<i64> = records.runs.values().filter(own).map(|run| run.nominal).collect();
    for nominal in below.iter().filter(|at| !good.contains(at) && !unknown) {
        let run = |fill: &&Fill<'_>| fill.runs.iter().any(|run| run.nominal == *nominal);
        if !fills.iter().any(|fill| run(&fill)) {
            let told = format!("{}: it ran, and nothing had succeeded", shown(*nominal));
            checked.wrong("told", BELOW, told, evidence.mono_of_utc(*nominal).max(MS));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::planted::{BASE_UTC, Planted};
    use super::*;
    use crate::store::Said;

    fn at(ms: i64) -> String {
        shown(BASE_UTC + ms)
    }

    /// A back-fill of the four minutes before the test; its instants run as told.
    struct Case {
        planted: Planted,
        runs: Vec<Value>,
        instants: BTreeMap<i64, (String, String)>,
    }

    impl Case {
        fn new(concurrency: u32, newest_first: bool) -> Self {
            let mut planted = Planted::new();
            let jobs = json!({"jobs": [{"name": "bf-plain",
                "triggers": [{"name": "t", "cron": "0 * * * * ?"}]}]});
            planted.op(1_000, Some(1_010), "apply-set", "x", jobs, Kind::Ok, json!({}));
            let asked = json!({"key": "k", "from": at(-240_000), "to": at(0),
                "concurrency": concurrency, "newest_first": newest_first});
            let made = json!({"backfill": "b-1"});
            planted.op(2_000, Some(2_010), "backfill", "bf-plain", asked, Kind::Ok, made);
            Self { planted, runs: Vec::new(), instants: BTreeMap::new() }
        }

        fn ran(mut self, number: u64, minute: i64, from: i64, to: i64) -> Self {
            let nominal = minute * 60_000;
            self.planted.line(from, Said::Start, "bf-plain", Some(nominal), number, 1);
            self.planted.line(to, Said::End, "bf-plain", Some(nominal), number, 1);
            self.runs.push(json!({"id": format!("r-{number}"), "job": "bf-plain",
                "kind": "backfill", "backfill": "b-1", "state": "success",
                "nominal": at(nominal), "created": at(from - 5), "finished": at(to + 5),
                "attempts": []}));
            self.instants.insert(minute, ("success".to_owned(), format!("r-{number}")));
            self
        }

        fn steered(mut self, to: &str, when: i64) -> Self {
            let v = json!({"to": to, "key": format!("{to}-{when}")});
            let f = "backfill-steer";
            self.planted.op(when, Some(when + 10), f, "b-1", v, Kind::Ok, json!(null));
            self
        }

        fn found(mut self) -> Vec<String> {
            let utc = json!({"utc": BASE_UTC + 50_000});
            self.planted.op(50_000, Some(50_001), "horizon", "", json!(null), Kind::Ok, utc);
            let instant = |(minute, (state, run)): (&i64, &(String, String))| json!({"nominal": at(minute * 60_000), "state": state, "run": run});
            let instants = json!(self.instants.iter().map(instant).collect::<Vec<_>>());
            let (runs, fills) = (json!(self.runs), json!([{"id": "b-1"}]));
            for (f, k, v) in [
                ("runs", "", runs),
                ("final-instants", "b-1", instants),
                ("final-backfills", "", fills),
            ] {
                self.planted.op(51_000, Some(51_001), f, k, json!(null), Kind::Ok, v);
            }
            let evidence = self.planted.evidence();
            let checked = check(&evidence, &Records::of(&evidence));
            checked.findings.into_iter().map(|finding| finding.what).collect()
        }
    }

    const NONE: [&str; 0] = [];

    fn in_a_row() -> Case {
        (0..4).fold(Case::new(1, false), |case, n| {
            let from = 3_000 + n * 1_000;
            case.ran(u64::try_from(n).unwrap() + 1, n - 4, from, from + 300)
        })
    }

    #[test]
    fn a_range_in_order_is_accepted() {
        assert_eq!(in_a_row().found(), NONE);
        let back =
            [-1, -2, -3, -4].into_iter().zip(1..).fold(Case::new(2, true), |case, (m, n)| {
                let from = 3_000 + i64::try_from(n / 3).unwrap() * 1_000;
                case.ran(n, m, from, from + 300)
            });
        assert_eq!(back.found(), NONE);
        let mut stopped = Case::new(1, false).ran(1, -4, 3_000, 3_300).steered("stop", 3_200);
        for minute in -3..0 {
            stopped.instants.insert(minute, ("waiting".to_owned(), String::new()));
        }
        assert_eq!(stopped.found(), NONE);
        assert_eq!(in_a_row().steered("pause", 8_000).steered("resume", 9_000).found(), NONE);
    }

    /// Another back-fill of the job, made before, which has the last minute's instant and
    /// runs it from `from` to `to`.
    fn beside(from: i64, to: i64, has_mine: bool) -> Vec<String> {
        let mut case = in_a_row();
        let asked = json!({"key": "k0", "from": at(-60_000), "to": at(0), "concurrency": 1});
        let made = json!({"backfill": "b-0"});
        case.planted.op(1_500, Some(1_510), "backfill", "bf-plain", asked, Kind::Ok, made);
        case.planted.line(from, Said::Start, "bf-plain", Some(-60_000), 9, 1);
        case.planted.line(to, Said::End, "bf-plain", Some(-60_000), 9, 1);
        case.runs.push(json!({"id": "r-9", "job": "bf-plain", "kind": "backfill",
            "backfill": "b-0", "state": "success", "nominal": at(-60_000),
            "created": at(from - 5), "finished": at(to + 5), "attempts": []}));
        let theirs = json!([{"nominal": at(-60_000), "state": "success", "run": "r-9"}]);
        let f = "final-instants";
        case.planted.op(49_000, Some(49_001), f, "b-0", json!(null), Kind::Ok, theirs);
        if !has_mine {
            case.instants.remove(&-1);
            case.runs.retain(|run| run["id"] != "r-4");
            case.planted.retain_lines(|line| line.run != "r-4");
        }
        case.found()
    }

    #[test]
    fn an_instant_is_left_to_the_back_fill_that_has_it() {
        assert_eq!(beside(1_600, 5_000, false), NONE);
        assert_eq!(beside(100, 200, false), ["another list"], "that had run it long before");
        assert_eq!(beside(100, 200, true), NONE);
        assert_eq!(beside(5_900, 6_900, true), ["two back-fills at once"]);
    }

    #[test]
    fn each_breach_is_found() {
        let mut missing = in_a_row();
        missing.instants.remove(&-1);
        assert_eq!(missing.found(), ["another list"]);
        assert_eq!(in_a_row().ran(5, -1, 9_000, 9_300).found(), ["not once"]);
        let two = Case::new(1, false).ran(1, -4, 3_000, 3_900).ran(2, -3, 3_500, 3_950);
        let two = two.ran(3, -2, 5_000, 5_300).ran(4, -1, 6_000, 6_300);
        assert_eq!(two.found(), ["too many at once", "too many at once"]);
        let order = Case::new(1, false).ran(1, -4, 3_000, 3_300).ran(2, -2, 4_000, 4_300);
        let order = order.ran(3, -3, 5_000, 5_300).ran(4, -1, 6_000, 6_300);
        assert_eq!(order.found(), ["out of order"]);
        assert_eq!(in_a_row().steered("pause", 3_400).found(), ["began while paused"; 3]);
        assert_eq!(in_a_row().steered("stop", 4_400).found(), ["began while paused"; 2]);
        let mut open = in_a_row();
        open.instants.insert(-1, ("live".to_owned(), "r-4".to_owned()));
        assert_eq!(open.found(), ["not over", "another result"]);
        let mut result = in_a_row();
        result.instants.insert(-1, ("failed".to_owned(), "r-4".to_owned()));
        assert_eq!(result.found(), ["another result"]);
    }

    /// What waits for an action that failed, and a back-fill of it.
    fn live(tells: bool, below: bool) -> Vec<String> {
        let mut planted = Planted::new();
        let asked = json!({"key": "k", "from": at(4_000), "to": at(5_000), "downstream": tells});
        let made = json!({"backfill": "b-1"});
        planted.op(6_000, Some(6_010), "backfill", LIVE, asked, Kind::Ok, made);
        let run = |number: u64, job: &str, kind: &str, state: &str| {
            json!({"id": format!("r-{number}"), "job": job, "kind": kind, "state": state,
                "backfill": if kind == "backfill" { json!("b-1") } else { json!(null) },
                "nominal": at(4_000), "action": "x@x", "created": at(7_000),
                "finished": at(7_100), "attempts": []})
        };
        let mut runs =
            vec![run(1, LIVE, "schedule", "failed"), run(2, LIVE, "backfill", "success")];
        if below {
            runs.push(run(3, BELOW, "dependency", "success"));
        }
        planted.op(9_000, Some(9_001), "runs", "", json!(null), Kind::Ok, json!(runs));
        let evidence = planted.evidence();
        let checked = check(&evidence, &Records::of(&evidence));
        checked.findings.into_iter().map(|finding| finding.what).collect()
    }

    #[test]
    fn who_is_told_is_who_was_to_be() {
        assert_eq!((live(true, true), live(false, false)), (vec![], vec![]));
        assert_eq!(live(true, false), ["told"]);
        assert_eq!(live(false, true), ["told"]);
    }
}
