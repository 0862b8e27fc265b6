//! Recovery: how long after a fault began, and after it healed, the first write was
//! acknowledged and the first fire that was due came; whether a majority that was
//! mended alone worked; and how long the work of a lost worker waited for another.

use std::collections::BTreeMap;

use serde_json::Value;

use super::Checked;
use super::attempts::lived;
use super::fires::Fires;
use super::policy::span;
use crate::history::{Kind, Op};
use crate::store::{Band, CORE_ALONE, Evidence, Said, Stage};
use crate::time::MS;

/// Operations that change something through the log.
const WRITES: [&str; 26] = [
    "add",
    "apply",
    "calendar",
    "freeze",
    "pause-group",
    "pause-trigger",
    "resume-group",
    "resume-trigger",
    "unfreeze",
    "pause",
    "resume",
    "delete",
    "acquire",
    "release",
    "reg-write",
    "reg-cas",
    "trigger",
    "cancel",
    "recover",
    "super-recover",
    "force-success",
    "skip-action",
    "backfill",
    "backfill-rerun",
    "backfill-steer",
    "pool",
];

/// What followed one fault.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Recovery {
    /// Which.
    pub(crate) op: String,
    /// Monotonic nanoseconds.
    pub(crate) from: u64,
    /// When it healed; none if it never did.
    pub(crate) healed: Option<u64>,
    /// Milliseconds from its beginning to the first write that was asked for after
    /// it and acknowledged.
    pub(crate) write_ms: Option<u64>,
    /// Milliseconds from its beginning to the first start of something due after it.
    pub(crate) fire_ms: Option<u64>,
    /// The same from its end.
    pub(crate) healed_write_ms: Option<u64>,
    /// The same from its end.
    pub(crate) healed_fire_ms: Option<u64>,
    /// Milliseconds from its beginning to its end.
    pub(crate) lasted_ms: Option<u64>,
    /// True if no other fault was there from its end until it had to be over.
    pub(crate) calm: bool,
}

/// What followed each fault that was there.
pub(crate) fn recoveries(evidence: &Evidence) -> Vec<Recovery> {
    // Moments of writes and fires, by when they could begin.
    let mut writes: Vec<(u64, u64)> = (evidence.ops.iter())
        .filter(|op| op.is_ok() && WRITES.contains(&op.ask.f.as_str()))
        .map(|op| (op.ask.t, op.known_at()))
        .collect();
    let mut fires: Vec<(u64, u64)> = (evidence.witness.iter())
        .filter(|line| line.e == Said::Start && line.attempt == 1 && !line.action.is_empty())
        .filter_map(|line| Some((evidence.mono_of_utc(line.nominal_ms()?), line.t)))
        .collect();
    writes.sort_unstable();
    fires.sort_unstable();
    let (writes, fires) = (soonest(&writes), soonest(&fires));
    let after = |all: &[(u64, u64)], t: u64| {
        let (_, end) = *all.get(all.partition_point(|(begin, _)| *begin < t))?;
        Some(end.saturating_sub(t) / MS)
    };
    let recovery = |band: &Band| {
        let heal = (band.to < u64::MAX).then_some(band.to);
        Recovery {
            op: band.op.clone(),
            from: band.from,
            healed: heal,
            write_ms: after(&writes, band.from),
            fire_ms: after(&fires, band.from),
            healed_write_ms: heal.and_then(|to| after(&writes, to)),
            healed_fire_ms: heal.and_then(|to| after(&fires, to)),
            lasted_ms: heal.map(|to| to.saturating_sub(band.from) / MS),
            calm: !evidence.bands.iter().any(|other| {
                let later = band.to.saturating_add(evidence.test.recover_ms * MS);
                other != band && other.from <= later && other.to >= band.to
            }),
        }
    };
    evidence.bands.iter().filter(|band| band.installed).map(recovery).collect()
}

/// For each beginning the soonest end of it and all later ones.
fn soonest(sorted: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let mut all = sorted.to_vec();
    let mut least = u64::MAX;
    for (_, end) in all.iter_mut().rev() {
        least = least.min(*end);
        *end = least;
    }
    all
}

/// The verdict.
pub(crate) fn check(evidence: &Evidence, fires: &Fires) -> Checked {
    let promise = "soon after a fault writes are taken and fires come again";
    let mut checked = Checked::new("recovery", promise);
    let limit = evidence.test.recover_ms;
    let mut times: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for found in recoveries(evidence) {
        // With a quorum left it counts from the beginning, else from the end.
        let safe = evidence.test.judges_times();
        let (since, write, fire) = if safe {
            (Some(found.from), found.write_ms, found.fire_ms)
        } else {
            (found.healed, found.healed_write_ms, found.healed_fire_ms)
        };
        // Without a quorum another fault may have been in the way.
        let judged = evidence.test.busy.is_empty() && (safe || found.calm);
        let Some(since) = since else { continue };
        for (what, ms) in [("write", write), ("fire", fire)] {
            if let Some(ms) = ms {
                times.entry(format!("{} first {what}", found.op)).or_default().push(ms);
            }
            let told = match ms {
                Some(ms) if ms > limit => format!("the first {what} came after {ms} ms"),
                None if what == "write" && writes_in_vain(evidence, since) => {
                    "no write was acknowledged any more".to_owned()
                }
                None if what == "fire" && fires_in_vain(evidence, fires, since) => {
                    "nothing that was due began any more".to_owned()
                }
                _ => continue,
            };
            if judged {
                checked.wrong("slow", &found.op, told, found.from);
            }
        }
    }
    for (name, mut all) in times {
        all.sort_unstable();
        for (label, share) in [("p50", 50), ("max", 100)] {
            let at = (all.len() * share / 100).min(all.len() - 1);
            checked.count(&format!("{name} {label} ms"), all[at]);
        }
    }
    judge_cores(&mut checked, evidence);
    judge_reruns(&mut checked, evidence);
    checked
}

/// True if somebody still waited for a write, or asked for one, when the cluster had to
/// be as before: then that none was acknowledged later says something. Whoever was
/// refused by a rule (4xx) was answered.
fn writes_in_vain(evidence: &Evidence, since: u64) -> bool {
    let end = since.saturating_add(evidence.test.recover_ms * MS);
    let last = evidence.ops.iter().map(|op| op.end.as_ref().unwrap_or(&op.ask).t).max();
    evidence.ops.iter().any(|op| {
        let answer = op.end.as_ref();
        let why = answer.and_then(|answer| answer.err.as_deref()).unwrap_or_default();
        let refused = op.kind() == Kind::Fail && why.starts_with('4');
        let waited_until = answer.map(|answer| answer.t).or(last).unwrap_or(0);
        WRITES.contains(&op.ask.f.as_str()) && op.ask.t >= since && !refused && waited_until >= end
    })
}

/// True if something was due, never began, and had the time to.
fn fires_in_vain(evidence: &Evidence, fires: &Fires, since: u64) -> bool {
    let since = evidence.utc_of_mono(since);
    let limit = i64::try_from(evidence.test.recover_ms).unwrap_or(i64::MAX);
    let last = evidence.ops.iter().map(|op| op.end.as_ref().unwrap_or(&op.ask).utc).max();
    fires.jobs.values().flat_map(|job| &job.targets).any(|target| {
        let until = target.deadline.max(target.nominal.saturating_add(limit));
        let in_vain = target.must && !target.held && target.start.is_none();
        in_vain && target.nominal >= since && last.is_some_and(|last| until <= last)
    })
}

/// A majority that was mended takes writes and fires before the rest is mended, too.
fn judge_cores(checked: &mut Checked, evidence: &Evidence) {
    // What failed half way may be in the way still, and nobody knows.
    let unclear = evidence.faults.iter().any(|row| row.stage == Stage::Indeterminate);
    for found in recoveries(evidence).iter().filter(|found| found.op == CORE_ALONE) {
        checked.count("majorities that were mended alone", 1);
        if unclear || !evidence.test.busy.is_empty() {
            checked.count("of these not judged", 1);
            continue;
        }
        let lasted = found.lasted_ms.unwrap_or(u64::MAX);
        let limit = evidence.test.recover_ms.min(lasted);
        let asked = |op: &Op| WRITES.contains(&op.ask.f.as_str()) && op.ask.t >= found.from;
        let (writes, fires) = (evidence.ops.iter().any(asked), evidence.ran("cron-fires"));
        let what = [("write", writes, found.write_ms), ("fire", fires, found.fire_ms)];
        for (what, expected, came) in what {
            if expected && came.is_none_or(|ms| ms > limit) {
                let when = came.map_or_else(|| "never".to_owned(), |ms| format!("after {ms} ms"));
                let told = format!("mended alone for {lasted} ms; its first {what} came {when}");
                checked.wrong("majority alone", CORE_ALONE, told, found.from);
            }
        }
    }
}

/// How long attempts of each job may go on without their worker being heard: the longest
/// lease that it ever had.
fn leases(evidence: &Evidence) -> BTreeMap<&str, u64> {
    let mut leases: BTreeMap<&str, u64> = BTreeMap::new();
    for op in &evidence.ops {
        let given: Vec<&Value> = match op.ask.f.as_str() {
            "apply" => vec![&op.ask.v["definition"]],
            "apply-set" => op.ask.v["jobs"].as_array().into_iter().flatten().collect(),
            _ => continue,
        };
        for job in given {
            let Some(name) = job["name"].as_str() else { continue };
            let lease = span(&job["lease"]).unwrap_or(evidence.test.lease_ms);
            let known = leases.entry(name).or_default();
            *known = lease.max(*known);
        }
    }
    leases
}

/// Moments at which nodes were first seen in each term: a new leader gives every worker
/// its whole lease again before anything may end.
fn terms(evidence: &Evidence) -> Vec<u64> {
    let mut first: BTreeMap<u64, u64> = BTreeMap::new();
    for poll in evidence.polls.iter().filter(|poll| poll.ok && poll.term > 0) {
        let at = first.entry(poll.term).or_insert(poll.t);
        *at = poll.t.min(*at);
    }
    first.into_values().collect()
}

/// How much of a time was covered by faults of anything but workers.
fn broken(evidence: &Evidence, from: u64, to: u64) -> u64 {
    let bands = evidence.bands.iter().filter(|band| !band.op.starts_with("worker"));
    let mut parts: Vec<(u64, u64)> = bands
        .map(|band| (band.from.max(from), band.to.min(to)))
        .filter(|(from, to)| from < to)
        .collect();
    parts.sort_unstable();
    let (mut sum, mut done) = (0, 0);
    for (from, to) in parts {
        sum += to.saturating_sub(from.max(done));
        done = to.max(done);
    }
    sum
}

/// Work of a lost worker is taken up by another within lease, margin and a while.
fn judge_reruns(checked: &mut Checked, evidence: &Evidence) {
    let test = &evidence.test;
    let (leases, terms) = (leases(evidence), terms(evidence));
    let jobs: BTreeMap<&str, &str> =
        evidence.witness.iter().map(|line| (line.run.as_str(), line.job.as_str())).collect();
    for ((run, _), attempts) in lived(&evidence.witness) {
        let lease = jobs.get(run.as_str()).and_then(|job| leases.get(job));
        let lease = lease.copied().unwrap_or(test.lease_ms);
        let limit = (lease + test.lease_margin_ms + test.recover_ms) * MS;
        for (number, attempt) in attempts.iter().filter(|(_, a)| a.cause == "worker_lost") {
            let Some(before) = number.checked_sub(1).and_then(|n| attempts.get(&n)) else {
                continue;
            };
            checked.count("reruns after a lost worker", 1);
            let led = terms.iter().filter(|at| **at <= attempt.start).max();
            let since = before.last.max(led.copied().unwrap_or(0));
            // While a majority may be broken nobody can give it to another.
            let safe = test.judges_times();
            let more = if safe { 0 } else { broken(evidence, since, attempt.start) };
            if attempt.start.saturating_sub(since) > limit.saturating_add(more) {
                let waited = attempt.start.saturating_sub(before.last) / MS;
                let told = format!(
                    "attempt {number} began {waited} ms after the last sign, with a lease of {lease} ms"
                );
                checked.wrong("late rerun", &run, told, attempt.start);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::planted::{BASE_UTC, Planted, t};
    use super::super::records::Records;
    use super::*;
    use crate::store::{CORE_REST, Regime};

    fn check(evidence: &Evidence) -> Checked {
        super::check(evidence, &Fires::of(evidence, &Records::of(evidence)))
    }

    fn planted(back: i64) -> Planted {
        let mut planted = Planted::new();
        planted.op(1_000, Some(1_100), "add", "set", json!(1), Kind::Ok, json!(1));
        planted.fault(2_000, 40_000, "kill-leader");
        planted.op(1_900, Some(2_100), "add", "set", json!(2), Kind::Ok, json!(2));
        planted.op(2_200, Some(2_300), "add", "set", json!(3), Kind::Info, json!(null));
        planted.op(back - 50, Some(back), "add", "set", json!(4), Kind::Ok, json!(4));
        planted.line(2_500, Said::Start, "j", Some(1_000), 1, 1);
        planted.line(back + 20, Said::Start, "j", Some(3_000), 2, 1);
        planted
    }

    #[test]
    fn times_count_from_what_could_begin_after_the_fault() {
        let evidence = planted(3_500).evidence();
        let found = recoveries(&evidence);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].write_ms, found[0].fire_ms), (Some(1_500), Some(1_520)));
        assert_eq!((found[0].from, found[0].healed_write_ms), (t(2_000), None));
        assert!(check(&evidence).findings.is_empty());
    }

    #[test]
    fn a_slow_recovery_is_found_where_a_quorum_was_left() {
        let mut evidence = planted(36_000).evidence();
        assert_eq!(check(&evidence).wrong, 2);
        evidence.test.regime = Regime::Brutal;
        assert_eq!(check(&evidence).wrong, 0);
    }

    #[test]
    fn without_a_quorum_only_a_calm_recovery_is_judged() {
        let mut planted = Planted::new();
        planted.fault(2_000, 4_000, "power-all");
        planted.op(50_000, Some(50_100), "add", "set", json!(4), Kind::Ok, json!(4));
        let mut evidence = planted.evidence();
        evidence.test.regime = Regime::Brutal;
        assert_eq!(check(&evidence).wrong, 1);
        planted.fault(10_000, 20_000, "freeze-all");
        let mut evidence = planted.evidence();
        evidence.test.regime = Regime::Brutal;
        // The second one ended 30 seconds before: that is slow too, and it was calm.
        assert_eq!(
            check(&evidence).findings.iter().map(|f| f.key.as_str()).collect::<Vec<_>>(),
            ["freeze-all"]
        );
    }

    /// Nothing is acknowledged and nothing begins after 2 s; asked for until `until`.
    fn never_again(until: i64, heals: i64) -> Planted {
        let mut planted = Planted::new();
        let trigger = json!({"name": "t", "cron": "0/10 * * * * ?"});
        let job = json!({"definition": {"name": "j", "triggers": [trigger]}, "key": "a"});
        planted.op(100, Some(110), "apply", "j", job, Kind::Ok, json!({}));
        planted.fault(2_000, heals, "kill-leader");
        for at in (3_000..until).step_by(2_000) {
            planted.op(at, Some(at + 1_900), "add", "set", json!(1), Kind::Info, json!(null));
        }
        let horizon = json!({"utc": BASE_UTC + 61_000});
        planted.op(61_000, Some(61_001), "horizon", "", json!(null), Kind::Ok, horizon);
        planted.op(90_000, Some(90_001), "read", "set", json!(null), Kind::Ok, json!([]));
        planted
    }

    fn told(evidence: &Evidence) -> Vec<String> {
        check(evidence).findings.into_iter().map(|finding| finding.detail).collect()
    }

    const NO_WRITE: &str = "no write was acknowledged any more";
    const NO_FIRE: &str = "nothing that was due began any more";

    #[test]
    fn a_cluster_that_never_works_again_is_slower_than_any_other() {
        let asked = never_again(60_000, 4_000).evidence();
        assert_eq!(told(&asked), [NO_WRITE, NO_FIRE]);
        // Nobody asked for so long: that says nothing of writes.
        assert_eq!(told(&never_again(20_000, 4_000).evidence()), [NO_FIRE]);
        // Nor does a refusal: somebody answered.
        let mut refused = asked;
        for end in refused.ops.iter_mut().filter(|op| op.ask.f == "add").flat_map(|op| &mut op.end)
        {
            (end.kind, end.err) = (Kind::Fail, Some("409 conflict: held".to_owned()));
        }
        assert_eq!(told(&refused), [NO_FIRE]);
        let mut busy = never_again(60_000, 4_000).evidence();
        busy.test.busy = "too busy".to_owned();
        assert!(told(&busy).is_empty());
    }

    #[test]
    fn without_a_quorum_never_counts_from_the_healing() {
        let brutal = |heals: i64| {
            let mut evidence = never_again(60_000, heals).evidence();
            evidence.test.regime = Regime::Brutal;
            told(&evidence)
        };
        assert_eq!(brutal(4_000), [NO_WRITE, NO_FIRE]);
        assert_eq!(brutal(40_000), [NO_FIRE], "until 70 s nobody asked");
        let mut again = never_again(60_000, 4_000);
        again.fault(20_000, 50_000, "power-all");
        let mut again = again.evidence();
        again.test.regime = Regime::Brutal;
        assert_eq!(told(&again), [NO_FIRE], "after the second one");
    }

    #[test]
    fn a_majority_that_does_not_work_alone_is_found() {
        let judged = |write: i64, fire: i64| {
            let mut planted = Planted::new();
            planted.fault(2_000, 9_000, "power-all");
            planted.fault(9_000, 60_000, CORE_REST);
            planted.fault(10_000, 45_000, CORE_ALONE);
            planted.op(9_500, Some(9_900), "add", "set", json!(1), Kind::Ok, json!(1));
            planted.op(10_500, Some(11_000), "add", "set", json!(2), Kind::Info, json!(null));
            planted.op(write - 50, Some(write), "add", "set", json!(4), Kind::Ok, json!(4));
            planted.line(fire, Said::Start, "j", Some(10_100), 1, 1);
            let mut evidence = planted.evidence();
            evidence.test.regime = Regime::Brutal;
            evidence.test.workloads = vec!["set".to_owned(), "cron-fires".to_owned()];
            evidence
        };
        let wrong = |evidence: &Evidence| check(evidence).counted("majority alone");
        assert_eq!(wrong(&judged(12_000, 13_000)), 0);
        assert_eq!(wrong(&judged(46_000, 13_000)), 1, "a write only when all were mended");
        assert_eq!(wrong(&judged(12_000, 41_000)), 1, "a fire that was too late");
        assert_eq!(wrong(&judged(46_000, 47_000)), 2);
        let mut none = judged(12_000, 13_000);
        none.witness.clear();
        assert_eq!(wrong(&none), 1, "no fire at all");
        none.test.workloads = vec!["set".to_owned()];
        assert_eq!(wrong(&none), 0, "nothing was to fire");
        let mut busy = judged(46_000, 47_000);
        busy.test.busy = "too busy".to_owned();
        assert_eq!((wrong(&busy), check(&busy).counted("of these not judged")), (0, 1));
    }

    /// A worker that was killed at 1 s; the next attempt begins then.
    fn lost(lease: Option<&str>, at: i64) -> Planted {
        let mut planted = Planted::new();
        let job = json!({"definition": {"name": "j", "lease": lease}});
        planted.op(1, Some(2), "apply", "j", job, Kind::Ok, json!({}));
        planted.fault(900, 2_000, "worker-kill");
        planted.line(1_000, Said::Start, "j", Some(1_000), 1, 1);
        planted.line(at, Said::Start, "j", Some(1_000), 1, 2).cause = "worker_lost".to_owned();
        planted
    }

    fn late(planted: &Planted) -> i64 {
        check(&planted.evidence()).counted("late rerun")
    }

    #[test]
    fn a_lost_workers_run_that_waits_too_long_is_found() {
        assert_eq!((late(&lost(None, 60_000)), late(&lost(None, 120_000))), (0, 1));
    }

    #[test]
    fn a_short_lease_is_judged_as_such() {
        let short = |at: i64| lost(Some("10s"), at);
        assert_eq!((late(&short(45_000)), late(&short(60_000))), (0, 1));
        // A new leader gives each worker its lease again.
        let mut led = short(60_000);
        for (at, term) in [(500, 3), (20_000, 4)] {
            led.poll(at, "n1", term, 7, "");
        }
        assert_eq!(late(&led), 0);
        // A node that is gone is no reason where a quorum is left.
        let mut gone = short(60_000);
        gone.fault(10_000, 50_000, "freeze-one");
        assert_eq!(late(&gone), 1);
        let mut brutal = gone.evidence();
        brutal.test.regime = Regime::Brutal;
        assert_eq!(check(&brutal).counted("late rerun"), 0);
    }
}
