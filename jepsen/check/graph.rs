//! Dependencies: nothing begins before everything that it waits for has succeeded,
//! in true time; and what may begin does.

use std::collections::BTreeMap;

use super::Checked;
use super::deadlines::deadline;
use super::timeline::lives;
use crate::store::{Evidence, Said};
use crate::time::{MS, shown};

/// What one action did, as its job wrote it.
#[derive(Default, Clone, Copy)]
struct Done {
    /// Monotonic time of the first start.
    start: Option<u64>,
    /// Monotonic time and wall clock of the first end that was good.
    success: Option<(u64, i64)>,
}

/// The verdict.
pub(crate) fn check(evidence: &Evidence) -> Checked {
    let promise = "nothing begins before all it waits for succeeded, and then it begins";
    let mut checked = Checked::new("dependencies", promise);
    for what in ["before its upstream", "never began"] {
        checked.count(what, 0);
    }
    let Some(lives) = checked.taken(lives(evidence)) else { return checked };
    let mut actions: BTreeMap<(&str, i64), Done> = BTreeMap::new();
    for line in &evidence.witness {
        let Some(nominal) = line.nominal_ms().filter(|_| !line.action.is_empty()) else { continue };
        let done = actions.entry((&line.job, nominal)).or_default();
        if line.e == Said::Start && done.start.is_none() {
            done.start = Some(line.t);
        }
        if line.e == Said::End && line.exit == Some(0) && done.success.is_none() {
            done.success = Some((line.t, line.utc_ms()));
        }
    }
    let horizon = evidence.horizon().unwrap_or(i64::MIN);
    for (job, life) in &lives {
        // Graphs of this harness are made once and stay.
        let Some(change) = life.changes.iter().find(|c| !c.after.depends_on.is_empty()) else {
            continue;
        };
        let ups = &change.after.depends_on;
        // Safety, for everything that ran.
        for ((_, nominal), done) in actions.range((job.as_str(), i64::MIN)..=(job, i64::MAX)) {
            let Some(start) = done.start else { continue };
            for up in ups {
                checked.count("edges", 1);
                let success = actions.get(&(up.as_str(), *nominal)).and_then(|up| up.success);
                let told = match success {
                    Some((at, _)) if at <= start => continue,
                    Some((at, _)) => {
                        format!("it began {} ms before {up} succeeded", (at - start) / MS)
                    }
                    None => format!("it began, and {up} never succeeded"),
                };
                let told = format!("{}: {told}", shown(*nominal));
                checked.wrong("before its upstream", job, told, start);
            }
        }
        // Liveness, for instants whose upstream all succeeded early enough.
        let Some(first) = ups.first() else { continue };
        for ((_, nominal), _) in actions.range((first.as_str(), i64::MIN)..=(first, i64::MAX)) {
            let of = |up: &String| {
                let done = actions.get(&(up.as_str(), *nominal));
                done.and_then(|done| done.success).map(|(_, utc)| utc)
            };
            let all: Option<Vec<i64>> = ups.iter().map(of).collect();
            let Some(ready) = all.and_then(|all| all.into_iter().max()) else { continue };
            if *nominal <= change.at.to || *nominal > horizon || ready > horizon {
                continue;
            }
            checked.count("ready", 1);
            let start = actions.get(&(job.as_str(), *nominal)).and_then(|done| done.start);
            let last = deadline(evidence, ready);
            match start {
                Some(start)
                    if evidence.test.judges_times() && start > evidence.mono_of_utc(last) =>
                {
                    let told = format!("{} began late after its upstream", shown(*nominal));
                    checked.wrong("late", job, told, start);
                }
                Some(_) => {}
                None => {
                    let told = format!("{}: all it waits for succeeded", shown(*nominal));
                    checked.wrong("never began", job, told, evidence.mono_of_utc(ready));
                }
            }
        }
    }
    if checked.counted("edges") < 10 {
        checked.unknown("fewer than ten edges were passed");
    }
    checked
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::planted::{BASE_UTC, Planted};
    use super::*;
    use crate::history::Kind;

    /// `a` and `b` every five seconds, `c` after both; `c` as told.
    fn planted(c_starts: impl Fn(i64) -> Option<i64>, b_exit: i32) -> Vec<String> {
        let mut planted = Planted::new();
        let triggers = json!([{"cron": "0/5 * * * * ?"}]);
        let jobs = json!({"jobs": [
            {"name": "a", "triggers": triggers},
            {"name": "b", "triggers": triggers},
            {"name": "c", "depends_on": ["a", "b"]},
        ]});
        planted.op(1_000, Some(1_010), "apply-set", "x", jobs, Kind::Ok, json!({}));
        let mut run = 0;
        let mut say = |planted: &mut Planted, at: i64, e: Said, job: &str, nominal: i64| {
            run += 1;
            let line = planted.line(at, e, job, Some(nominal), run, 1);
            if job == "b" && e == Said::End {
                line.exit = Some(b_exit);
            }
        };
        for n in 1..=6 {
            let at = n * 5_000;
            for job in ["a", "b"] {
                say(&mut planted, at + 10, Said::Start, job, at);
                say(&mut planted, at + 200, Said::End, job, at);
            }
            if let Some(late) = c_starts(n) {
                say(&mut planted, at + late, Said::Start, "c", at);
            }
        }
        let utc = json!({"utc": BASE_UTC + 32_000});
        planted.op(33_000, Some(33_001), "horizon", "", json!(null), Kind::Ok, utc);
        check(&planted.evidence()).findings.into_iter().map(|f| f.what).collect()
    }

    #[test]
    fn what_waits_is_accepted() {
        assert_eq!(planted(|_| Some(230), 0), Vec::<String>::new());
        // Upstream fails for good: nothing must run.
        assert_eq!(planted(|_| None, 1), Vec::<String>::new());
    }

    #[test]
    fn what_does_not_wait_is_found() {
        let early = |n| Some(if n == 3 { 150 } else { 230 });
        assert_eq!(planted(early, 0), ["before its upstream", "before its upstream"]);
        assert_eq!(planted(|n| (n == 2).then_some(300), 1), ["before its upstream"]);
    }

    #[test]
    fn what_never_begins_or_late_is_found() {
        assert_eq!(planted(|n| (n != 4).then_some(230), 0), ["never began"]);
        assert_eq!(planted(|n| Some(if n == 4 { 6_000 } else { 230 }), 0), ["late"]);
    }
}
