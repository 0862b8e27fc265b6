//! Which actions jobs have that wait for others, and for which: what the promises say,
//! read as plainly as they can be, from the definitions that clients wrote.
//!
//! Slow, and for the small graphs of a test. Periods are hours and days of zones whose
//! clocks do not change meanwhile. It knows nothing of what is stored: whether an action
//! that is named here was ever planned is for those who judge.

use std::cell::RefCell;
use std::collections::BTreeMap;

use chrono::{Datelike, NaiveDateTime, Timelike};
use chrono_tz::Tz;
use serde_json::Value;

use super::rates::local;
use super::{Rule, RuleError, unknown, zone};

const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// How far the newest instant of triggers is looked for: what fires in these graphs does
/// so each hour at least, or once in a test.
const TRIGGERS_BACK: [i64; 4] = [2 * MINUTE_MS, HOUR_MS, DAY_MS, 2 * DAY_MS];
/// And through how many periods of a job whose instants others give.
const PERIODS_BACK: usize = 40;

/// Which of a job's actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Match {
    Nearest,
    SameTime,
    LatestBefore,
    AllInPeriod,
    PreviousPeriod,
    Hera,
}

impl Match {
    /// The word in definitions.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Nearest => "nearest",
            Self::SameTime => "same_time",
            Self::LatestBefore => "latest_before",
            Self::AllInPeriod => "all_in_period",
            Self::PreviousPeriod => "previous_period",
            Self::Hera => "hera",
        }
    }
}

/// How an upstream action must end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Must {
    Succeed,
    Fail,
    End,
    SucceedOrSkip,
    /// It must only be over, if it is there at all.
    Order,
}

impl Must {
    /// The word in definitions.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Succeed => "success",
            Self::Fail => "failure",
            Self::End => "done",
            Self::SucceedOrSkip => "skipped_ok",
            Self::Order => "soft",
        }
    }
}

/// An edge as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edge {
    /// The upstream job.
    pub(crate) job: String,
    pub(crate) matching: Match,
    pub(crate) must: Must,
    /// `wait`, `skip`, or what the rule does by itself.
    pub(crate) no_match: String,
    base: bool,
}

impl Edge {
    /// True if an action needs exactly one upstream action of its period.
    pub(crate) fn needs_one(&self) -> bool {
        let one = matches!(self.matching, Match::Nearest | Match::SameTime | Match::Hera);
        one && self.must != Must::Order
    }

    fn read(value: &Value) -> Result<Self, RuleError> {
        let word = |field: &str, usual| match &value[field] {
            Value::String(text) => text.clone(),
            _ => String::from(usual),
        };
        let matching = match word("match", "nearest").as_str() {
            "nearest" => Match::Nearest,
            "same_time" => Match::SameTime,
            "latest_before" => Match::LatestBefore,
            "all_in_period" => Match::AllInPeriod,
            "previous_period" => Match::PreviousPeriod,
            "hera" => Match::Hera,
            _ => return Err(unknown("match", &value["match"])),
        };
        let must = match word("condition", "success").as_str() {
            _ if value["soft"] == true => Must::Order,
            "success" => Must::Succeed,
            "failure" => Must::Fail,
            "done" => Must::End,
            "skipped_ok" => Must::SucceedOrSkip,
            _ => return Err(unknown("condition", &value["condition"])),
        };
        let job = value.as_str().or(value["job"].as_str()).unwrap_or_default().to_owned();
        let no_match = word("on_no_match", "no_upstream");
        Ok(Self { job, matching, must, no_match, base: value["base"] == true })
    }
}

#[derive(Debug)]
struct Job {
    rules: Vec<Rule>,
    zone: Tz,
    by_hour: bool,
    edges: Vec<Edge>,
    legacy: i64,
    written: Value,
}

/// The edge that gave a period its instants, and these.
type Plan = (Option<usize>, Vec<i64>);

/// Jobs and what they wait for.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    jobs: BTreeMap<String, Job>,
    plans: RefCell<BTreeMap<(String, i64), Plan>>,
}

impl Graph {
    /// Adds a definition.
    ///
    /// # Errors
    /// [`RuleError`]: it says something that is not known here.
    pub(crate) fn add(&mut self, name: &str, definition: &Value) -> Result<(), RuleError> {
        let own = definition["zone"].as_str();
        let all = |field: &str| definition[field].as_array().cloned().unwrap_or_default();
        let none = BTreeMap::new();
        let triggers = all("triggers");
        let rules = triggers.iter().map(|trigger| Rule::read(trigger, own, &none));
        let rules: Vec<Rule> = rules.collect::<Result<_, _>>()?;
        let edges = all("depends_on").iter().map(Edge::read).collect::<Result<_, _>>()?;
        let by_hour = match definition["period"].as_str() {
            Some("hour") => true,
            Some("day") | None => false,
            Some(_) => return Err(unknown("period", &definition["period"])),
        };
        let legacy = definition["legacy_id"].as_i64().unwrap_or(0);
        let zone = zone(own.unwrap_or("UTC"))?;
        let written = definition.clone();
        let job = Job { rules, zone, by_hour, edges, legacy, written };
        self.jobs.insert(name.to_owned(), job);
        Ok(())
    }

    /// What was written of a job.
    pub(crate) fn definition(&self, job: &str) -> Option<&Value> {
        self.jobs.get(job).map(|job| &job.written)
    }

    /// A job's edges; none of a job that is not known.
    pub(crate) fn edges(&self, job: &str) -> &[Edge] {
        self.jobs.get(job).map_or(&[], |job| &job.edges)
    }

    /// The period of a job that holds an instant: its first millisecond, and the first one
    /// after it.
    fn period(job: &Job, at: i64) -> (i64, i64) {
        let wall = local(job.zone, at).map_or(0, |wall| wall.and_utc().timestamp_millis());
        let length = if job.by_hour { HOUR_MS } else { DAY_MS };
        let begin = at - wall.rem_euclid(length);
        (begin, begin + length)
    }

    /// The instants of a job from `from` and before `to`.
    pub(crate) fn between(&self, name: &str, from: i64, to: i64) -> Vec<i64> {
        let Some(job) = self.jobs.get(name) else { return Vec::new() };
        let mut found = Vec::new();
        let mut period = Self::period(job, from);
        while period.0 < to {
            found.extend(self.plan(name, job, period).1);
            period = Self::period(job, period.1);
        }
        found.retain(|at| (from..to).contains(at));
        found
    }

    fn plan(&self, name: &str, job: &Job, period: (i64, i64)) -> Plan {
        let key = (name.to_owned(), period.0);
        if let Some(known) = self.plans.borrow().get(&key) {
            return known.clone();
        }
        let plan = self.compute(job, period);
        self.plans.borrow_mut().insert(key, plan.clone());
        plan
    }

    /// Triggers alone, or the base's instants; without those where an edge needs an
    /// upstream action and has none.
    fn compute(&self, job: &Job, (from, to): (i64, i64)) -> Plan {
        let (base, mut instants) = if !job.rules.is_empty() {
            (None, fired(&job.rules, from, to))
        } else {
            match self.base(job, from, to) {
                Some(base) => (Some(base), self.between(&job.edges[base].job, from, to)),
                None => (None, Vec::new()),
            }
        };
        for (place, edge) in job.edges.iter().enumerate() {
            if base == Some(place) || !edge.needs_one() {
                continue;
            }
            let ups = self.between(&edge.job, from, to);
            match edge.matching {
                Match::SameTime => instants.retain(|at| ups.binary_search(at).is_ok()),
                _ if ups.is_empty() => instants.clear(),
                _ => {}
            }
        }
        (base, instants)
    }

    /// The edge that is marked, else of those that need one that with the fewest actions,
    /// of several the later first one, else the larger number in hera; else the first.
    fn base(&self, job: &Job, from: i64, to: i64) -> Option<usize> {
        if let Some(marked) = job.edges.iter().position(|edge| edge.base) {
            return Some(marked);
        }
        let mut best = None;
        for (place, edge) in job.edges.iter().enumerate().filter(|(_, edge)| edge.needs_one()) {
            let ups = self.between(&edge.job, from, to);
            let first = ups.first()?;
            // hera knows no seconds.
            let unit = if edge.matching == Match::Hera { MINUTE_MS } else { 1 };
            let rank = (ups.len(), -(first - first.rem_euclid(unit)), -self.legacy(&edge.job));
            if best.is_none_or(|(least, _)| rank < least) {
                best = Some((rank, place));
            }
        }
        let first = (!job.edges.is_empty()).then_some(0);
        best.map(|(_, place)| place).or(first)
    }

    fn legacy(&self, job: &str) -> i64 {
        self.jobs.get(job).map_or(0, |job| job.legacy)
    }

    /// For each edge the instants that an action of this instant waits for; none if the
    /// job has no such action.
    pub(crate) fn action(&self, name: &str, at: i64) -> Option<Vec<Vec<i64>>> {
        let job = self.jobs.get(name)?;
        let (from, to) = Self::period(job, at);
        let (base, instants) = self.plan(name, job, (from, to));
        instants.binary_search(&at).ok()?;
        let found = |(place, edge): (usize, &Edge)| {
            if base == Some(place) && edge.needs_one() {
                return vec![at];
            }
            let ups = || self.between(&edge.job, from, to);
            let one = match edge.matching {
                Match::Nearest => ups().into_iter().min_by_key(|up| (up.abs_diff(at), *up)),
                Match::SameTime => ups().into_iter().find(|up| *up == at),
                Match::LatestBefore => self.latest(&edge.job, at - i64::from(edge.job == name)),
                Match::AllInPeriod => return ups(),
                Match::PreviousPeriod => {
                    let (before, end) = Self::period(job, from - 1);
                    return self.between(&edge.job, before, end);
                }
                Match::Hera => {
                    let own = base.map_or(job.legacy, |base| self.legacy(&job.edges[base].job));
                    let own = number(job.zone, at, own);
                    let far =
                        |up: &i64| number(job.zone, *up, self.legacy(&edge.job)).abs_diff(own);
                    ups().into_iter().min_by_key(|up| (far(up), *up))
                }
            };
            one.into_iter().collect()
        };
        Some(job.edges.iter().enumerate().map(found).collect())
    }

    /// The newest instant that is not later.
    fn latest(&self, name: &str, at: i64) -> Option<i64> {
        let job = self.jobs.get(name)?;
        if !job.rules.is_empty() && !job.edges.iter().any(Edge::needs_one) {
            let find = |back: &i64| fired(&job.rules, at - back, at + 1).pop();
            return TRIGGERS_BACK.iter().find_map(find);
        }
        let mut period = Self::period(job, at);
        for _ in 0..PERIODS_BACK {
            let instants = self.plan(name, job, period).1;
            if let Some(found) = instants.into_iter().rfind(|up| *up <= at) {
                return Some(found);
            }
            period = Self::period(job, period.0 - 1);
        }
        None
    }
}

/// The instants of triggers from `from` and before `to`.
fn fired(rules: &[Rule], from: i64, to: i64) -> Vec<i64> {
    let mut all: Vec<i64> =
        rules.iter().flat_map(|rule| rule.instants((0, 0), from, to - 1).concat()).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// What hera counts with: `yyyyMMddHHmm` by the clock on the wall, and six digits of the
/// job's number.
fn number(zone: Tz, at: i64, legacy: i64) -> i64 {
    let wall = local(zone, at).unwrap_or(NaiveDateTime::MIN);
    let day = i64::from(wall.year()) * 10_000 + i64::from(wall.month() * 100 + wall.day());
    let minute = i64::from(wall.hour() * 100 + wall.minute());
    (day * 10_000 + minute) * 1_000_000 + legacy
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::time::millis;

    fn at(time: &str) -> i64 {
        millis(&format!("2026-11-21T{time}Z")).unwrap()
    }

    fn graph(jobs: &[Value]) -> Graph {
        let mut graph = Graph::default();
        for job in jobs {
            graph.add(job["name"].as_str().unwrap(), job).unwrap();
        }
        graph
    }

    fn fires(name: &str, cron: &str) -> Value {
        json!({"name": name, "triggers": [{"cron": cron}]})
    }

    /// What `x` waits for by one rule beside its base, at a time.
    fn found(edge: Value, time: &str) -> Option<Vec<i64>> {
        let graph = graph(&[
            fires("base", "0 0,30 10-12 * * ?"),
            fires("up", "0 10,29,32 10-11 * * ?"),
            json!({"name": "x", "period": "hour",
                "depends_on": [{"job": "base", "base": true}, edge]}),
        ]);
        graph.action("x", at(time)).map(|edges| edges[1].clone())
    }

    #[test]
    fn each_rule_finds_what_it_says() {
        let up = |matching: &str| json!({"job": "up", "match": matching});
        let times = |times: &[&str]| Some(times.iter().map(|time| at(time)).collect::<Vec<i64>>());
        assert_eq!(found(json!("up"), "10:00:00"), times(&["10:10:00"]));
        assert_eq!(found(up("nearest"), "10:30:00"), times(&["10:29:00"]));
        assert_eq!(found(up("nearest"), "12:00:00"), None, "there is none in that hour");
        assert_eq!(found(up("same_time"), "10:30:00"), None);
        assert_eq!(found(up("latest_before"), "10:30:00"), times(&["10:29:00"]));
        assert_eq!(found(up("latest_before"), "12:00:00"), times(&["11:32:00"]));
        assert_eq!(
            found(up("all_in_period"), "11:00:00"),
            times(&["11:10:00", "11:29:00", "11:32:00"])
        );
        assert_eq!(
            found(up("previous_period"), "11:30:00"),
            times(&["10:10:00", "10:29:00", "10:32:00"])
        );
        assert_eq!(found(up("previous_period"), "10:30:00"), times(&[]));
        assert_eq!(found(up("hera"), "10:30:00"), times(&["10:29:00"]));
        assert_eq!(found(up("nearest"), "10:15:00"), None, "the base has none then");
    }

    #[test]
    fn hera_counts_with_digits_and_numbers() {
        let mut jobs = vec![
            fires("up", "0 58 10 * * ?"),
            fires("up2", "0 5 11 * * ?"),
            json!({"name": "x", "triggers": [{"cron": "0 0 11 * * ?"}],
                "depends_on": [{"job": "both", "match": "hera"}]}),
        ];
        jobs.push(json!({"name": "both",
            "triggers": [{"cron": "0 58 10 * * ?"}, {"name": "t", "cron": "0 5 11 * * ?"}]}));
        let graph = graph(&jobs);
        // 1058 to 1100 are 42, and 1100 to 1105 are 5.
        assert_eq!(graph.action("x", at("11:00:00")).unwrap(), [[at("11:05:00")]]);
    }

    #[test]
    fn the_base_has_the_fewest_of_the_period_and_then_the_later_first() {
        let x = |edges: Value| json!({"name": "x", "period": "hour", "depends_on": edges});
        let base = |edges: Value| {
            let graph = graph(&[
                fires("three", "0 10,20,30 10 * * ?"),
                fires("two", "0 5,45 10 * * ?"),
                fires("late", "0 6,44 10 * * ?"),
                x(edges),
            ]);
            graph.between("x", at("10:00:00"), at("11:00:00"))
        };
        assert_eq!(base(json!(["three", "two"])), [at("10:05:00"), at("10:45:00")]);
        assert_eq!(base(json!(["two", "late"])), [at("10:06:00"), at("10:44:00")]);
        let soft = json!([{"job": "three", "match": "latest_before"}, "two"]);
        assert_eq!(base(soft).len(), 2);
        let all = json!([{"job": "three", "match": "latest_before"},
            {"job": "two", "match": "all_in_period"}]);
        assert_eq!(base(all).len(), 3, "the first edge where none needs one");
    }

    #[test]
    fn a_job_may_wait_for_its_own_earlier_actions_and_periods_follow_its_zone() {
        let own = |matching: &str| {
            json!({"name": "own", "period": "hour", "zone": "Asia/Kolkata",
                "triggers": [{"cron": "0 0/20 * * * ?"}],
                "depends_on": [{"job": "own", "match": matching}]})
        };
        // 10:30 UTC is 16:00 there.
        let latest = graph(&[own("latest_before")]);
        assert_eq!(latest.action("own", at("10:50:00")).unwrap(), [[at("10:30:00")]]);
        let previous = graph(&[own("previous_period")]);
        let hour = ["09:30:00", "09:50:00", "10:10:00"].map(at);
        assert_eq!(previous.action("own", at("10:50:00")).unwrap(), [hour]);
    }
}
