//! Fires: every instant that was promised happened once, and nothing else did.
//!
//! Targets come from an independent evaluation of the definitions that clients
//! wrote. Starts come from the jobs themselves; only jobs that run nothing
//! (`noop`) are judged by the cluster's record. Twice: by the names that starts
//! carry, and by matching starts to windows without trusting any name.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::Checked;
use super::claims::{Claim, Claims, Horizon, claims};
use super::matching::{Window, misfits};
use super::records::{AttemptRecord, Records, RunRecord};
use super::timeline::{Life, lives};
use crate::error::chain;
use crate::store::{Evidence, Said};
use crate::time::shown;

/// An instant that a job had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Milliseconds since 1970.
    pub(crate) nominal: i64,
    /// False in the window of a change, or where a deletion may have come first.
    pub(crate) must: bool,
    /// The last millisecond in which it is not late.
    pub(crate) deadline: i64,
    /// True if its job was paused before it had to run: it waited for that.
    pub(crate) held: bool,
    /// When its first run began; none if it never did.
    pub(crate) start: Option<i64>,
}

/// A run that began, as its job wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Start {
    /// The instant it says it is for.
    pub(crate) nominal: i64,
    /// Its run.
    pub(crate) run: String,
    /// When its first attempt began, milliseconds.
    pub(crate) at: i64,
}

/// The fires of one job.
#[derive(Debug, Clone, Default)]
pub(crate) struct JobFires {
    /// In order.
    pub(crate) targets: Vec<Target>,
    /// In order of time.
    pub(crate) starts: Vec<Start>,
}

/// The fires of all jobs, for judgement and for the report.
#[derive(Debug, Default)]
pub(crate) struct Fires {
    /// By job.
    pub(crate) jobs: BTreeMap<String, JobFires>,
    findings: Vec<(&'static str, String, String, i64)>,
    /// Later instants are not judged.
    pub(crate) last: i64,
    /// What the triggers of each job claim.
    pub(crate) claims: BTreeMap<String, Claims>,
    recorded: i64,
    lost_with_workers: i64,
    failure: Option<String>,
}

impl Fires {
    /// Puts targets and starts together.
    pub(crate) fn of(evidence: &Evidence, records: &Records) -> Self {
        let mut fires = Self::default();
        let lives = match lives(evidence) {
            Ok(lives) => lives,
            Err(error) => {
                fires.failure = Some(chain(&error));
                return fires;
            }
        };
        let horizon = Horizon::of(evidence);
        fires.last = horizon.last;
        let mut starts = starts(evidence, records, &lives);
        for (job, life) in &lives {
            let no_triggers = life.changes.iter().all(|change| change.after.triggers.is_empty());
            // Instants that are counted from an end are judged apart.
            if no_triggers || life.has_delay() {
                starts.remove(job);
                continue;
            }
            let starts = starts.remove(job).unwrap_or_default();
            let ran = starts.iter().map(|start| start.nominal).collect();
            let is_recorded = |trigger: &str, at: i64| {
                ["misfire", "paused"].iter().any(|why| records.is_in(job, trigger, why, at))
            };
            let claims = claims(evidence, life, horizon, &ran, &is_recorded);
            let is_left_out = |trigger: &str, at: i64, claim: &Claim| {
                let passed_over = || records.is_in(job, trigger, "paused", at);
                records.is_in(job, trigger, "misfire", at) || (claim.given_up && passed_over())
            };
            let targets = targets(&claims, is_left_out);
            fires.claims.insert(job.clone(), claims);
            if is_judged_apart(life) {
                continue;
            }
            fires.judge(evidence, records, job, JobFires { targets, starts });
        }
        // Jobs that nobody ever applied, or that have no triggers, do not fire.
        for (job, starts) in starts {
            for start in starts.iter().filter(|_| !lives.contains_key(&job)) {
                let told = format!("{} ran and no client ever applied the job", start.run);
                fires.find("phantom", &job, told, start.at);
            }
        }
        fires
    }

    fn find(&mut self, what: &'static str, job: &str, detail: String, at: i64) {
        self.findings.push((what, job.to_owned(), detail, at));
    }

    fn judge(&mut self, evidence: &Evidence, records: &Records, job: &str, mut of: JobFires) {
        let bound = i64::try_from(evidence.test.clock_bound_ms).unwrap_or(i64::MAX);
        let mut by_nominal: BTreeMap<i64, Vec<&Start>> = BTreeMap::new();
        for start in &of.starts {
            by_nominal.entry(start.nominal).or_default().push(start);
        }
        let known: BTreeSet<i64> = of.targets.iter().map(|target| target.nominal).collect();
        for (nominal, starts) in &by_nominal {
            let first = starts[0];
            if !known.contains(nominal) {
                let told =
                    format!("{} ran for {}, which nobody asked for", first.run, shown(*nominal));
                self.find("phantom", job, told, first.at);
            }
            if let [_, second, ..] = starts[..] {
                let told = format!("{} and {} ran for {}", first.run, second.run, shown(*nominal));
                self.find("doubled", job, told, second.at);
            }
            if first.at < nominal - bound {
                let early = nominal - first.at;
                let told = format!("{} began {early} ms before {}", first.run, shown(*nominal));
                self.find("early", job, told, first.at);
            }
        }
        let mut lost = Vec::new();
        for target in &mut of.targets {
            let starts = by_nominal.get(&target.nominal);
            target.start = starts.and_then(|starts| starts.first()).map(|start| start.at);
            match target.start {
                Some(at) if target.must && at > target.deadline => {
                    let late = at - target.nominal;
                    let told = format!("{} began {late} ms after its time", shown(target.nominal));
                    self.find("late", job, told, at);
                }
                Some(_) => {}
                None if target.must => {
                    if is_lost_with_workers(evidence, records, job, target.nominal) {
                        self.lost_with_workers += 1;
                        target.must = false;
                    } else {
                        let state = records.actions.get(job).and_then(|a| a.get(&target.nominal));
                        let state = state.map_or("not recorded", String::as_str);
                        let told = format!(
                            "nothing ran for {}; the action is {state}",
                            shown(target.nominal)
                        );
                        lost.push(target.nominal);
                        self.find("missed", job, told, target.nominal);
                    }
                }
                None => {}
            }
            self.recorded += i64::from(records.is_missed(job, target.nominal));
        }
        self.match_without_names(job, &of, bound, &lost);
        self.jobs.insert(job.to_owned(), of);
    }

    /// The second opinion. Only what the names did not tell is added.
    fn match_without_names(&mut self, job: &str, of: &JobFires, bound: i64, lost: &[i64]) {
        let windows: Vec<Window> = (of.targets.iter())
            .map(|target| Window {
                from: target.nominal - bound,
                // A late one is found by its name; here it must not count twice.
                to: target.deadline.max(target.start.unwrap_or(i64::MIN)),
                must: target.must,
            })
            .collect();
        let starts: Vec<i64> = of.starts.iter().map(|start| start.at).collect();
        let found = misfits(&windows, &starts);
        let is_told = |what: &str| self.findings.iter().any(|f| f.1 == job && f.0 == what);
        let extra_is_told = ["phantom", "doubled", "early"].iter().any(|what| is_told(what));
        if !found.extra.is_empty() && !extra_is_told {
            let start = &of.starts[found.extra[0]];
            let told = format!("{} starts fit no window, such as {}", found.extra.len(), start.run);
            self.find("unmatched-start", job, told, start.at);
        }
        if found.missed.len() > lost.len() && !extra_is_told {
            let at = of.targets.iter().filter(|t| t.must).nth(found.missed[0]);
            let at = at.map_or(0, |target| target.nominal);
            let told = format!("{} windows have no start", found.missed.len());
            self.find("unmatched-window", job, told, at);
        }
    }

    /// How late each start was, in milliseconds, ascending; without those that a pause
    /// held.
    pub(crate) fn lateness(&self) -> Vec<i64> {
        let all = self.jobs.values().flat_map(|job| &job.targets);
        let all = all.filter(|target| !target.held);
        let mut late: Vec<i64> = all.filter_map(|t| Some(t.start? - t.nominal)).collect();
        late.sort_unstable();
        late
    }

    /// The verdict.
    pub(crate) fn check(&self, evidence: &Evidence) -> Checked {
        let promise = "every instant of every trigger ran once, not before its time and not late";
        let mut checked = Checked::new("fires", promise);
        if let Some(failure) = &self.failure {
            checked.damaged(failure.clone());
            return checked;
        }
        for what in ["missed", "doubled", "phantom", "early", "late"] {
            checked.count(what, 0);
        }
        let mut judged = 0;
        for target in self.jobs.values().flat_map(|job| &job.targets) {
            judged += i64::from(target.must);
            if target.nominal <= self.last {
                checked.count("in the window of a change", i64::from(!target.must));
                checked.count("ran", i64::from(target.start.is_some()));
            } else {
                checked.count("after the end, not judged", 1);
            }
        }
        checked.count("expected", judged);
        checked.count("recorded as skipped", self.recorded);
        checked.count("lost with their workers", self.lost_with_workers);
        for (what, job, detail, at) in &self.findings {
            if *what == "late" && !evidence.test.judges_times() {
                // Without a quorum, or a processor, nothing can be on time.
                checked.count("late where times are not judged", 1);
            } else {
                checked.wrong(what, job, detail.clone(), evidence.mono_of_utc(*at));
            }
        }
        let late = self.lateness();
        for (name, share) in [("lateness p50 ms", 50), ("lateness p99 ms", 99)] {
            if let Some(value) = late.get((late.len() * share / 100).min(late.len().max(1) - 1)) {
                checked.count(name, *value);
            }
        }
        if let Some(last) = late.last() {
            checked.count("lateness max ms", *last);
        }
        if evidence.ran("cron-fires") && judged < 20 {
            checked.unknown(format!("only {judged} fires were expected"));
        }
        checked
    }
}

/// Kinds of runs that instants make.
const FIRES: [&str; 2] = ["schedule", "dependency"];
/// A run goes on after so many lost workers, and fails with the next.
const MOST_LOSSES: u64 = 3;

/// Every worker that was given the run was lost before the job wrote a line: as many as
/// the product allows a run to lose, not one fewer, and each while a fault was there that
/// parted this worker from the cluster.
fn is_lost_with_workers(evidence: &Evidence, records: &Records, job: &str, at: i64) -> bool {
    let is_lost = |attempt: &AttemptRecord| {
        let (Some(given), Some(over)) = (attempt.given, attempt.over) else { return false };
        let (from, to) = (evidence.mono_of_utc(given), evidence.mono_of_utc(over));
        let mut bands = evidence.bands.iter().filter(|band| band.meets(from, to));
        matches!(attempt.how.as_str(), "worker_lost" | "gone" | "lease_expired")
            && bands.any(|band| evidence.parts(band, &attempt.worker))
    };
    records.runs.values().any(|run| {
        (run.job.as_str(), run.nominal) == (job, at)
            && run.has_action
            && run.state == "failed"
            && run.losses == MOST_LOSSES
            && run.attempts.iter().filter(|attempt| is_lost(attempt)).count() as u64 > MOST_LOSSES
            && run.attempts.iter().all(is_lost)
    })
}

/// True if its runs wait for one another or for slots: then an instant is not late, and
/// need not run; `overlap` and `pools` say what must become of it.
fn is_judged_apart(life: &Life) -> bool {
    life.changes.iter().any(|change| {
        let definition = &change.after.definition;
        definition["overlap"].as_str().is_some_and(|policy| policy != "allow")
            || !definition["pool"].is_null()
            || !definition["pools"].is_null()
    })
}

/// First starts of runs that stand for an instant, by job.
fn starts(
    evidence: &Evidence,
    records: &Records,
    lives: &BTreeMap<String, Life>,
) -> BTreeMap<String, Vec<Start>> {
    let mut first: BTreeMap<(&str, &str), Start> = BTreeMap::new();
    // What somebody asked for is no fire: that he did is judged where he asks. But who asks
    // for an action that is due and has no run yet, gets its first one.
    let mut firsts: BTreeMap<(&str, i64), &RunRecord> = BTreeMap::new();
    for run in records.runs.values().filter(|run| run.is_of_plan()) {
        let first = firsts.entry((&run.job, run.nominal)).or_insert(run);
        *first = if run.number() < first.number() { run } else { *first };
    }
    let is_fire = |run: &str| {
        records.runs.get(run).is_none_or(|run| {
            let first = firsts.get(&(run.job.as_str(), run.nominal));
            FIRES.contains(&run.kind.as_str()) || first.is_some_and(|first| first.id == run.id)
        })
    };
    let starts = evidence.witness.iter().filter(|line| line.e == Said::Start);
    for line in starts.filter(|line| is_fire(&line.run)) {
        let Some(nominal) = line.nominal_ms().filter(|_| !line.action.is_empty()) else { continue };
        let (run, at) = (line.run.clone(), line.utc_ms());
        first.entry((&line.job, &line.run)).or_insert(Start { nominal, run, at });
    }
    let is_noop = |job: &str| {
        let applied = lives.get(job).and_then(|life| life.changes.first());
        applied.is_some_and(|change| change.after.definition["noop"] == true)
    };
    for run in records.runs.values().filter(|run| run.has_action && is_noop(&run.job)) {
        let Some(at) = run.attempts.first().and_then(|attempt| attempt.started) else { continue };
        let start = Start { nominal: run.nominal, run: run.id.clone(), at };
        first.entry((&run.job, &run.id)).or_insert(start);
    }
    let mut starts: BTreeMap<String, Vec<Start>> = BTreeMap::new();
    for ((job, _), start) in first {
        starts.entry(job.to_owned()).or_default().push(start);
    }
    for of in starts.values_mut() {
        of.sort_by_key(|start| start.at);
    }
    starts
}

/// Every instant that the job must or may have had: what one of its triggers must
/// have, whatever the others are let off.
fn targets(claims: &Claims, is_left_out: impl Fn(&str, i64, &Claim) -> bool) -> Vec<Target> {
    let mut found: BTreeMap<i64, Target> = BTreeMap::new();
    for (trigger, of_trigger) in claims {
        for (nominal, claim) in of_trigger {
            // That its policy says so is judged apart.
            let must = claim.sure && !is_left_out(trigger, *nominal, claim);
            let Claim { deadline, held, .. } = *claim;
            let target = Target { nominal: *nominal, must, deadline, held, start: None };
            match found.entry(*nominal) {
                Entry::Vacant(free) => drop(free.insert(target)),
                Entry::Occupied(mut known) => {
                    let known = known.get_mut();
                    let deadline = match (known.must, must) {
                        (true, true) => known.deadline.min(deadline),
                        (true, false) => known.deadline,
                        (false, true) => deadline,
                        (false, false) => known.deadline.max(deadline),
                    };
                    let held = known.held && held;
                    let must = known.must || must;
                    *known = Target { must, deadline, held, ..*known };
                }
            }
        }
    }
    found.into_values().collect()
}
