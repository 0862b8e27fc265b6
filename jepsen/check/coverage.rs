//! Whether a test was worth anything: the evidence is whole, the faults that were
//! asked for were there and did what they are for, the clients got something done
//! meanwhile, and no process panicked.

use std::collections::{BTreeMap, BTreeSet};

use super::Checked;
use crate::nemesis::ops::named;
use crate::store::{Band, DAMAGE_FOUND, Evidence, Fault, Stage, names_damage};
use crate::time::{MS, millis};

/// So many lines of jobs may be cut short, and one in a hundred.
const FEW: usize = 20;

/// Marks of a process that ended by its own fault, or of a request or service that did:
/// those of Rust, and those of the product, which says it in its own words.
const PANICS: [&str; 5] = [
    "panicked at",
    "fatal runtime error",
    "stack overflow",
    "panic, the process ends",
    "panic was caught",
];
/// Faults of a disk that tell errors: the storage engine panics at them, in a process
/// that has said that its store failed and ends.
const TELL_ERRORS: [&str; 3] = ["disk-readonly", "disk-dead", "disk-full"];
/// What a node says whose store has failed.
const STORE_FAILED: &str = "the store failed and takes nothing more";
/// How long it may take to end then.
const ENDS_WITHIN: u64 = 10_000 * MS;
/// And damage, which is met at any later time.
const DAMAGES: &str = "disk-bits";
/// A line may be written so much later than what it tells of, in milliseconds.
const WRITTEN_LATER: i64 = 2_000;

/// What each workload must have done at least once in its main phase.
const MUST_SUCCEED: [(&str, &[&str]); 10] = [
    ("cron-fires", &["apply"]),
    ("set", &["add", "read"]),
    ("lock", &["acquire", "release", "access"]),
    ("register", &["reg-read", "reg-write", "reg-cas"]),
    ("dag", &[]),
    ("retries", &[]),
    ("cancel", &["trigger", "cancel"]),
    ("limits", &["trigger"]),
    ("logs", &["trigger", "tail"]),
    ("api-fuzz", &["fuzz"]),
];

/// The verdict.
pub(crate) fn check(evidence: &Evidence) -> Checked {
    let promise = "the evidence is whole, the faults were there, and no process panicked";
    let mut checked = Checked::new("coverage", promise);
    if !evidence.test.harness_error.is_empty() {
        checked.damaged(evidence.test.harness_error.clone());
    }
    if !evidence.test.busy.is_empty() {
        checked.unknown(evidence.test.busy.clone());
    }
    checked.count("lines cut short by kills", evidence.cut);
    if evidence.cut > FEW + evidence.witness.len() / 100 {
        checked.damaged(format!("{} lines of jobs are cut short", evidence.cut));
    }
    for line in evidence.damaged.iter().take(10) {
        checked.damaged(line.clone());
    }
    if evidence.ops.is_empty() {
        checked.damaged("there is no history");
    }
    judge_faults(&mut checked, evidence);
    judge_leaders(&mut checked, evidence);
    judge_operations(&mut checked, evidence);
    judge_exits(&mut checked, evidence);
    for (name, log) in &evidence.logs {
        for line in log.lines().filter(|line| PANICS.iter().any(|mark| line.contains(mark))) {
            if is_of_its_disk(evidence, name, line) {
                checked.count("panics of a storage engine whose disk failed", 1);
                continue;
            }
            let told: String = line.chars().take(300).collect();
            checked.wrong("panic", name, told, 0);
        }
    }
    checked
}

/// True for a panic of the storage engine on a machine whose disk told errors just then.
fn is_of_its_disk(evidence: &Evidence, machine: &str, line: &str) -> bool {
    let at = line.split_ascii_whitespace().next().and_then(millis);
    let Some(at) = at.filter(|_| line.contains("/sled-")) else { return false };
    let (from, to) = (at.saturating_sub(WRITTEN_LATER), at.saturating_add(WRITTEN_LATER));
    let (from, to) = (evidence.mono_of_utc(from), evidence.mono_of_utc(to));
    evidence.bands.iter().filter(|band| band.hits(machine)).any(|band| {
        let fails = TELL_ERRORS.contains(&band.op.as_str()) && band.meets(from, to);
        fails || (band.op == DAMAGES && band.from <= to)
    })
}

/// Faults in which a disk keeps a node waiting and tells it of no error.
const ONLY_WAITING: [&str; 2] = ["disk-slow", "disk-hung"];
/// Faults after which a node starts with the store that it has: these, and a disk that was
/// full and is not any more.
const KEEPS_STORE: [&str; 3] = ["disk-slow", "disk-hung", "disk-full"];

/// What a node says last that ends for an error of its disk, and was not started since.
const ENDS: &str = "error: the node cannot go on";

/// Processes that ended without a fault of ours, or did not start again after a kill, a
/// power cut or a disk that was only slow, hung or full.
fn judge_exits(checked: &mut Checked, evidence: &Evidence) {
    for row in &evidence.faults {
        let is_of = |ops: &[&str]| ops.contains(&row.op.as_str());
        for told in row.detail.as_array().into_iter().flatten() {
            let node = told["node"].as_str().unwrap_or_default();
            // One that was still ending at the error of a full disk has refused nothing.
            let said = told["refused_to_start"].as_str();
            let ends = |said: &&str| said.contains(ENDS) && !is_of(&ONLY_WAITING);
            if let Some(said) = said.filter(|said| is_of(&KEEPS_STORE) && !ends(said)) {
                checked.wrong("node-refused", node, format!("{}: {said}", row.op), row.t);
            }
            let ended = told["had_ended"].is_string() || told["ended_late"] == true;
            if ended && is_of(&ONLY_WAITING) {
                checked.wrong("node-exit", node, format!("{}: {told}", row.op), row.t);
            }
        }
    }
    // Whatever ends a node whose disk was damaged before is not that damage.
    let found = evidence.faults.iter().filter(|row| row.op == DAMAGE_FOUND);
    for row in found.filter(|row| row.stage == Stage::Installed) {
        let said = row.detail.as_str().unwrap_or_default();
        checked.count("damage found later", 1);
        if !names_damage(said) {
            let who = row.args["who"][0].as_str().unwrap_or_default();
            checked.wrong("node-exit", who, said.to_owned(), row.t);
        }
    }
    let exits = ["node-exit", "node-refused", "worker-exit"];
    let rows = evidence.faults.iter().filter(|row| row.stage == Stage::Installed);
    for row in rows.filter(|row| exits.contains(&row.op.as_str())) {
        let who = row.args["who"][0].as_str().unwrap_or_default();
        // Nobody starts on a disk that is broken at this moment.
        let breaks = |band: &&Band| TELL_ERRORS.contains(&band.op.as_str()) && band.hits(who);
        let broken = evidence.bands.iter().filter(breaks).any(|band| band.meets(row.t, row.t));
        if broken && row.op == "node-refused" {
            checked.count("refused while its disk was broken", 1);
        } else if row.op == "node-exit" && ends_of_its_disk(evidence, who, row) {
            checked.count("ended after its disk was whole again", 1);
        } else {
            checked.wrong(&row.op, who, row.detail.to_string(), row.t);
        }
    }
}

/// A node whose store failed ends, and on a busy machine that may take longer than the
/// disk was broken for.
fn ends_of_its_disk(evidence: &Evidence, who: &str, row: &Fault) -> bool {
    let says = row.detail.as_str().is_some_and(|said| said.contains(STORE_FAILED));
    let from = row.t.saturating_sub(ENDS_WITHIN);
    let mut bands = evidence.bands.iter().filter(|band| band.hits(who));
    says && bands.any(|band| TELL_ERRORS.contains(&band.op.as_str()) && band.meets(from, row.t))
}

fn judge_faults(checked: &mut Checked, evidence: &Evidence) {
    let asked = evidence.test.nemesis.iter().flat_map(|name| named(name));
    let mut installed: BTreeMap<&str, i64> = asked.map(|kind| (kind.name, 0)).collect();
    for band in evidence.bands.iter().filter(|band| band.installed) {
        *installed.entry(&band.op).or_default() += 1;
    }
    for (op, times) in &installed {
        checked.count(&format!("installed {op}"), *times);
    }
    let test = &evidence.test;
    // What was asked for by name, where nothing more exact is required.
    let required: &Vec<String> =
        if test.required.is_empty() { &test.nemesis } else { &test.required };
    let is_there =
        |kind: &str| installed.iter().any(|(op, times)| *times > 0 && op.starts_with(kind));
    for kind in required.iter().filter(|kind| *kind != "none" && !is_there(kind)) {
        let skipped = evidence.faults.iter().find(|fault| {
            fault.op.starts_with(kind.as_str())
                && matches!(fault.stage, Stage::Skipped | Stage::Indeterminate)
        });
        let why = skipped.map_or_else(String::new, |fault| format!(" ({})", fault.detail));
        checked.unknown(format!("no fault {kind} was installed{why}"));
    }
}

/// Faults after which another node leads, whatever happens.
const DEPOSING: [&str; 2] = ["kill-leader", "kill-all"];

/// Who led was changed about as often as it was asked for.
fn judge_leaders(checked: &mut Checked, evidence: &Evidence) {
    let told = evidence.polls.iter().filter(|poll| poll.ok);
    let seen: BTreeSet<(u64, u64)> =
        told.filter_map(|poll| Some((poll.term, poll.leader?))).collect();
    let changes = seen.len().saturating_sub(1);
    checked.count("changes of the leader", changes);
    let is_one = |op: &str| DEPOSING.contains(&op);
    let asked = evidence.bands.iter().filter(|band| band.installed && is_one(&band.op)).count();
    // Several may fall on one election.
    if changes < asked / 2 {
        checked.unknown(format!("{asked} leaders were killed, and {changes} times another led"));
    }
}

fn judge_operations(checked: &mut Checked, evidence: &Evidence) {
    let mut done: BTreeSet<&str> = BTreeSet::new();
    // Setting up and reading at the end is done while nothing is broken.
    let main = evidence.test.phases.iter().find(|phase| phase.name == "main");
    let is_in_main = |t: u64| main.is_none_or(|main| (main.from..=main.to).contains(&t));
    for op in &evidence.ops {
        checked.count("operations", 1);
        let what = match op.kind() {
            crate::history::Kind::Ok => {
                if is_in_main(op.ask.t) {
                    done.insert(&op.ask.f);
                }
                continue;
            }
            crate::history::Kind::Fail => "operations that failed",
            _ => "operations of unknown outcome",
        };
        checked.count(what, 1);
    }
    for (workload, operations) in MUST_SUCCEED {
        for f in operations.iter().filter(|f| evidence.ran(workload) && !done.contains(*f)) {
            checked.unknown(format!("{workload}: no {f} was done in the main phase"));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Verdict;
    use super::super::planted::{Planted, t};
    use super::*;
    use crate::history::Kind;
    use crate::store::{Phase, Poll, bands};

    fn evidence(planted: &Planted) -> Evidence {
        let mut evidence = planted.evidence();
        evidence.test.workloads = vec!["set".to_owned()];
        evidence.test.nemesis = vec!["partition".to_owned()];
        evidence
    }

    fn good() -> Planted {
        let mut planted = Planted::new();
        planted.op(1, Some(2), "add", "set", json!(1), Kind::Ok, json!(1));
        planted.op(3, Some(4), "read", "set", json!(null), Kind::Ok, json!([]));
        planted.fault(5, 9, "partition-ring");
        planted
    }

    #[test]
    fn a_test_that_did_what_it_was_to_do_counts() {
        let checked = check(&evidence(&good()));
        assert_eq!(checked.verdict, Verdict::Valid, "{}", checked.reason);
        assert_eq!(checked.counted("installed partition-ring"), 1);
    }

    #[test]
    fn without_its_faults_or_operations_it_says_nothing() {
        let mut no_fault = evidence(&good());
        no_fault.bands.clear();
        assert_eq!(check(&no_fault).verdict, Verdict::Unknown);
        let mut not_seen = evidence(&good());
        not_seen.bands[0].installed = false;
        assert_eq!(check(&not_seen).verdict, Verdict::Unknown);
        let mut other = evidence(&good());
        other.test.required = vec!["power".to_owned()];
        assert_eq!(check(&other).verdict, Verdict::Unknown);
        let mut idle = evidence(&good());
        idle.test.workloads.push("lock".to_owned());
        assert_eq!(check(&idle).verdict, Verdict::Unknown);
    }

    #[test]
    fn what_was_done_before_anything_was_broken_does_not_count() {
        let mut evidence = evidence(&good());
        let main = |from| Phase { name: "main".to_owned(), from: t(from), to: t(60_000) };
        evidence.test.phases = vec![main(1)];
        assert_eq!(check(&evidence).verdict, Verdict::Valid);
        evidence.test.phases = vec![main(2)];
        let checked = check(&evidence);
        assert_eq!((checked.verdict, checked.reason.contains("no add")), (Verdict::Unknown, true));
    }

    #[test]
    fn leaders_that_were_killed_are_followed_by_others() {
        let mut planted = good();
        for at in [100, 200, 300, 400] {
            planted.fault(at, at + 9, "kill-leader");
        }
        let mut evidence = evidence(&planted);
        let led = |at, term, leader| Poll {
            t: t(at),
            ok: true,
            term,
            leader: Some(leader),
            ..Poll::default()
        };
        evidence.polls = vec![led(90, 1, 1), led(150, 2, 2), led(160, 2, 2)];
        let checked = check(&evidence);
        assert_eq!(checked.verdict, Verdict::Unknown);
        assert_eq!(checked.counted("changes of the leader"), 1);
        evidence.polls.push(led(350, 3, 1));
        assert_eq!(check(&evidence).verdict, Verdict::Valid);
    }

    #[test]
    fn damaged_evidence_is_a_failure_of_the_harness() {
        let mut torn = evidence(&good());
        torn.damaged.push("witness.jsonl:7: torn".to_owned());
        assert_eq!(check(&torn).verdict, Verdict::HarnessFailure);
        let mut broken = evidence(&good());
        broken.test.harness_error = "no disk".to_owned();
        assert_eq!(check(&broken).verdict, Verdict::HarnessFailure);
    }

    #[test]
    fn a_machine_that_was_too_busy_proves_nothing() {
        let mut busy = evidence(&good());
        busy.test.busy = "too busy".to_owned();
        assert_eq!(check(&busy).verdict, Verdict::Unknown);
        assert!(!busy.test.judges_times());
    }

    #[test]
    fn a_panic_is_found() {
        let mut panicked = evidence(&good());
        let log = "INFO ok\nthread 'main' panicked at src/x.rs:1:1:\n".to_owned();
        panicked.logs.insert("n2".to_owned(), log);
        let checked = check(&panicked);
        assert_eq!((checked.verdict, checked.counted("panic")), (Verdict::Invalid, 1));
    }

    #[test]
    fn nobody_starts_on_a_disk_that_is_broken() {
        let wrong = |refused: i64, who: &str| {
            let mut planted = good();
            planted.fault(10, 50, "disk-readonly");
            planted.fault(refused, refused, "node-refused");
            let mut evidence = evidence(&planted);
            for row in &mut evidence.faults {
                let of = if row.op == "node-refused" { who } else { "n1" };
                row.args = json!({"who": [of]});
            }
            evidence.bands = bands(&evidence.faults);
            check(&evidence).counted("node-refused")
        };
        assert_eq!((wrong(30, "n1"), wrong(60, "n1"), wrong(30, "n2")), (0, 1, 1));
    }

    #[test]
    fn a_panic_in_the_products_own_words_is_found_unless_its_disk_failed_just_then() {
        let panics = |at: i64, who: &str, op: &str, of: &str| {
            let mut planted = good();
            planted.fault_on(10_000, Some(14_000), op, json!({"who": ["n2"]}));
            let mut evidence = evidence(&planted);
            let at = crate::time::shown(super::super::planted::BASE_UTC + at);
            let log =
                format!("{at} ERROR horai: panic, the process ends report=\"panic in {of}\"\n");
            evidence.logs.insert(who.to_owned(), log);
            check(&evidence).counted("panic")
        };
        let sled = "thread raft at /x/sled-0.34.7/src/pagecache/logger.rs:467";
        for op in TELL_ERRORS {
            assert_eq!(panics(12_000, "n2", op, sled), 0, "{op}");
        }
        assert_eq!(panics(60_000, "n2", "disk-bits", sled), 0, "damage is met later");
        assert_eq!(panics(12_000, "n2", "disk-dead", "thread api at src/api.rs:7"), 1);
        assert_eq!(panics(12_000, "n1", "disk-dead", sled), 1, "another disk");
        assert_eq!(panics(30_000, "n2", "disk-dead", sled), 1, "long after");
        assert_eq!(panics(12_000, "n2", "disk-slow", sled), 1, "no error was told");
    }

    #[test]
    fn processes_that_end_by_themselves_are_found() {
        for op in ["node-exit", "node-refused", "worker-exit"] {
            let mut planted = good();
            planted.fault(6, 7, op);
            let checked = check(&evidence(&planted));
            assert_eq!((checked.verdict, checked.counted(op)), (Verdict::Invalid, 1));
        }
    }
    #[test]
    fn a_node_that_gives_its_store_up_for_a_slow_disk_is_found() {
        let judged = |op: &str, told: serde_json::Value| {
            let mut planted = good();
            planted.fault(6, 7, op);
            let mut evidence = evidence(&planted);
            let healed = evidence.faults.iter_mut().filter(|row| row.stage == Stage::Healed);
            healed.for_each(|row| row.detail = told.clone());
            let checked = check(&evidence);
            (checked.counted("node-refused"), checked.counted("node-exit"))
        };
        let refused = json!([{"node": "n1", "refused_to_start": "exit 1: the store is suspect"}]);
        assert_eq!(judged("disk-full", refused.clone()), (1, 0));
        assert_eq!(judged("disk-full", json!([{"node": "n1", "had_ended": "exit 1"}])), (0, 0));
        let ends = json!([{"node": "n1", "refused_to_start": format!("exit 1: {ENDS}: full")}]);
        assert_eq!(judged("disk-full", ends.clone()), (0, 0), "it was still ending");
        for op in ONLY_WAITING {
            assert_eq!(judged(op, ends.clone()), (1, 0), "{op}");
            assert_eq!(judged(op, refused.clone()), (1, 0), "{op}");
            assert_eq!(judged(op, json!([{"node": "n1", "had_ended": "exit 1"}])), (0, 1));
            assert_eq!(judged(op, json!([{"node": "n1", "ended_late": true}])), (0, 1));
            assert_eq!(judged(op, json!([{"node": "n1", "silent_after": 15}])), (0, 0));
        }
        // Of a disk that failed it was told, and is right.
        assert_eq!(judged("disk-dead", refused), (0, 0));
    }

    #[test]
    fn a_node_that_is_started_on_a_broken_disk_may_refuse() {
        let refused = |at: i64, disk: &str| {
            let mut planted = good();
            planted.fault_on(10_000, Some(20_000), disk, json!({"who": ["n1"]}));
            planted.fault_on(at, None, "node-refused", json!({"who": ["n1"]}));
            check(&evidence(&planted)).counted("node-refused")
        };
        assert_eq!((refused(15_000, "disk-readonly"), refused(25_000, "disk-readonly")), (0, 1));
        assert_eq!(refused(15_000, "disk-slow"), 1);
    }

    #[test]
    fn a_node_whose_store_failed_may_end_a_little_later() {
        let ended = |at: i64, disk: &str, said: &str| {
            let mut planted = good();
            planted.fault_on(10_000, Some(12_000), disk, json!({"who": ["n1"]}));
            planted.fault_on(at, None, "node-exit", json!({"who": ["n1"]}));
            let mut evidence = evidence(&planted);
            evidence.faults.iter_mut().for_each(|row| row.detail = json!(said));
            check(&evidence).counted("node-exit")
        };
        let full = format!("exit code 1: {STORE_FAILED}: No space left on device");
        assert_eq!(ended(16_000, "disk-full", &full), 0);
        assert_eq!(ended(16_000, "disk-full", "signal 6"), 1);
        assert_eq!(ended(16_000, "disk-slow", &full), 1, "it was told of no error");
        assert_eq!(ended(30_000, "disk-full", &full), 1, "long after");
    }

    #[test]
    fn damage_excuses_only_an_end_that_is_of_it() {
        let judged = |said: &str| {
            let mut planted = good();
            planted.fault(6, 7, DAMAGE_FOUND);
            let mut evidence = evidence(&planted);
            evidence.faults.iter_mut().for_each(|row| row.detail = json!(said));
            check(&evidence).counted("node-exit")
        };
        assert_eq!(judged("exit 1: the store is damaged: entry 7: checksum"), 0);
        assert_eq!(judged("signal 6: out of memory"), 1);
    }
}
