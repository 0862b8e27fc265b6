//! Locks: tokens that grow, one holder at a time, and a resource that agrees.
//!
//! A client believes in its lease from the answer until it asks to release it, and
//! no longer than its length from before it asked. While it believes, nobody else
//! may, in true time; and no larger token may have been shown to the resource.

use std::collections::BTreeMap;
use std::time::Duration;

use porcupine_rs::{CheckResult, Model, Operation};

use super::Checked;
use crate::history::Op;
use crate::store::Evidence;
use crate::time::MS;

/// How long the search for an order may take in all.
const SEARCH: Duration = Duration::from_secs(20);

/// What the longest lease may lose while clocks are moved.
const SLEW_MS: u64 = 100;

/// A lease as its holder saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    /// Who.
    pub(crate) owner: String,
    /// Its token.
    pub(crate) token: u64,
    /// When it was first asked for.
    pub(crate) asked: u64,
    /// When the answer came.
    pub(crate) granted: u64,
    /// It may have ended from here on: asked for before plus its length, or when its
    /// release was asked for.
    pub(crate) until: u64,
    /// When its release was known; never, if that is not known.
    pub(crate) released: u64,
}

/// All leases that clients were given, by lock.
pub(crate) fn leases(evidence: &Evidence) -> BTreeMap<String, Vec<Lease>> {
    let mut locks: BTreeMap<String, Vec<Lease>> = BTreeMap::new();
    let mut asked: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for op in evidence.ops_of("acquire").filter(|op| op.is_ok()) {
        let owner = op.ask.v["owner"].as_str().unwrap_or_default();
        let lock = op.ask.k.as_str();
        let place = asked.insert((lock, owner), op.ask.t);
        let Some(token) = op.result()["token"].as_u64() else { continue };
        // From the queue, it was granted after the question before.
        let since = place.unwrap_or(op.ask.t);
        let length = op.ask.v["ttl_ms"].as_u64().unwrap_or(0) * MS;
        // While clocks are moved, cluster time may go a hundredth faster or slower.
        let length = if evidence.has_fault("clock") { length / 100 * 98 } else { length };
        let all = locks.entry(lock.to_owned()).or_default();
        all.push(Lease {
            owner: owner.to_owned(),
            token,
            asked: since,
            granted: op.known_at(),
            until: since.saturating_add(length),
            released: u64::MAX,
        });
    }
    for op in evidence.ops_of("release") {
        let token = op.ask.v["token"].as_u64();
        let held = locks.get_mut(&op.ask.k).into_iter().flatten();
        for lease in held.filter(|lease| Some(lease.token) == token) {
            lease.until = lease.until.min(op.ask.t);
            if op.is_ok() {
                lease.released = op.known_at();
            }
        }
    }
    for held in locks.values_mut() {
        held.sort_by_key(|lease| lease.granted);
    }
    locks
}

/// The verdict.
pub(crate) fn check(evidence: &Evidence) -> Checked {
    let promise = "tokens grow with every grant, and a lease is held by one at a time";
    let mut checked = Checked::new("locks", promise);
    for what in ["two holders", "token did not grow", "fenced while holding"] {
        checked.count(what, 0);
    }
    let locks = leases(evidence);
    let mut history = Vec::new();
    for (at, (lock, leases)) in locks.iter().enumerate() {
        checked.count("grants", leases.len());
        judge(&mut checked, lock, leases);
        let id = u32::try_from(at).unwrap_or(u32::MAX);
        history.extend(leases.iter().flat_map(|lease| steps(id, lease)));
    }
    match porcupine_rs::check_operations_timeout(&history, SEARCH) {
        CheckResult::Ok => {}
        CheckResult::Illegal => {
            let told = "no order of grants and releases explains what clients saw".to_owned();
            checked.wrong("not a mutex", "all locks", told, 0);
        }
        CheckResult::Unknown => checked.unknown("the search for an order took too long"),
    }
    for op in evidence.ops_of("access") {
        judge_access(&mut checked, evidence, op);
    }
    if checked.counted("grants") < 10 {
        checked.unknown("fewer than ten leases were granted");
    }
    checked
}

fn judge(checked: &mut Checked, lock: &str, leases: &[Lease]) {
    for (at, lease) in leases.iter().enumerate() {
        let before = leases[..at].iter().filter(|other| other.granted < lease.asked);
        if let Some(other) = before.max_by_key(|other| other.token)
            && other.token >= lease.token
        {
            let told = format!(
                "{} got token {} after {} had got {}",
                lease.owner, lease.token, other.owner, other.token
            );
            checked.wrong("token did not grow", lock, told, lease.granted);
        }
        for other in &leases[..at] {
            if other.owner != lease.owner && other.token == lease.token {
                let told =
                    format!("{} and {} have token {}", lease.owner, other.owner, lease.token);
                checked.wrong("token did not grow", lock, told, lease.granted);
            }
            // Sections in which both believe.
            let from = lease.granted.max(other.granted);
            let to = lease.until.min(other.until);
            if lease.owner != other.owner && from < to {
                let told = format!(
                    "{} and {} held it for {} ms",
                    other.owner,
                    lease.owner,
                    (to - from) / MS
                );
                checked.wrong("two holders", lock, told, from);
            }
        }
    }
}

/// A client that is within its lease must never meet a larger token.
fn judge_access(checked: &mut Checked, evidence: &Evidence, op: &Op) {
    checked.count("accesses", 1);
    let refused = op.result()["accepted"] == false;
    let slack = if evidence.has_fault("clock") { SLEW_MS } else { 0 };
    let honoured = op.ask.v["left_ms"].as_u64().unwrap_or(0) > slack;
    if refused && honoured {
        let told = format!("token {} was refused within its lease", op.ask.v["token"]);
        checked.wrong("fenced while holding", &op.ask.k, told, op.ask.t);
    }
    checked.count("accesses of old tokens refused", i64::from(refused && !honoured));
}

/// A lock that one holds: a grant needs it free, an end makes it free.
#[derive(Clone)]
struct Mutex;

/// A step of one lock.
#[derive(Debug, Clone, Copy)]
enum Step {
    Take(u32, u64),
    /// Given back, or run out: at some time that is not known exactly.
    End(u32, u64),
}

impl Model for Mutex {
    type State = Option<u64>;
    type Op = Step;
    type Metadata = ();

    fn partition_operations(history: &[Operation<Self>]) -> Vec<Vec<Operation<Self>>> {
        let mut locks: BTreeMap<u32, Vec<Operation<Self>>> = BTreeMap::new();
        for operation in history {
            let (Step::Take(lock, _) | Step::End(lock, _)) = operation.op;
            locks.entry(lock).or_default().push(operation.clone());
        }
        locks.into_values().collect()
    }

    fn init() -> Self::State {
        None
    }

    fn step(state: &Self::State, op: &Self::Op) -> (bool, Self::State) {
        match op {
            Step::Take(_, token) => (state.is_none(), Some(*token)),
            Step::End(_, token) => (*state == Some(*token), None),
        }
    }
}

fn steps(lock: u32, lease: &Lease) -> [Operation<Mutex>; 2] {
    let time = |t: u64| i64::try_from(t).unwrap_or(i64::MAX);
    let step = |call: u64, end: u64, op| Operation {
        client_id: None,
        call_time: time(call),
        return_time: time(end),
        op,
        metadata: None,
    };
    // An end that is not known may be any time from then on, as late as never.
    let released = lease.released.max(lease.until);
    [
        step(lease.asked, lease.granted, Step::Take(lock, lease.token)),
        step(lease.until.max(lease.asked), released, Step::End(lock, lease.token)),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::Verdict;
    use super::super::planted::Planted;
    use super::*;
    use crate::history::Kind;

    fn take(planted: &mut Planted, from: i64, to: i64, owner: &str, token: u64) {
        let v = json!({"owner": owner, "ttl_ms": 1_000});
        planted.op(from, Some(to), "acquire", "l", v, Kind::Ok, json!({"token": token}));
    }

    fn give(planted: &mut Planted, from: i64, to: i64, token: u64, kind: Kind) {
        let v = json!({"token": token});
        planted.op(from, Some(to), "release", "l", v, kind, json!(null));
    }

    fn use_it(planted: &mut Planted, at: i64, token: u64, left: u64, accepted: bool) {
        let v = json!({"token": token, "left_ms": left});
        let result = json!({"accepted": accepted});
        planted.op(at, Some(at), "access", "l", v, Kind::Ok, result);
    }

    /// Ten good leases, then what is planted.
    fn good() -> Planted {
        let mut planted = Planted::new();
        for n in 0..10 {
            let (at, token) = (n * 100, 10 + n as u64);
            take(&mut planted, at, at + 10, &format!("u{n}"), token);
            use_it(&mut planted, at + 20, token, 900, true);
            give(&mut planted, at + 30, at + 40, token, Kind::Ok);
        }
        planted
    }

    fn found(planted: &Planted) -> Vec<String> {
        check(&planted.evidence()).findings.into_iter().map(|f| f.what).collect()
    }

    #[test]
    fn leases_one_after_the_other_are_accepted() {
        let mut planted = good();
        // Nobody knows whether it was given back; its lease ends, another takes it.
        take(&mut planted, 2_000, 2_010, "a", 50);
        give(&mut planted, 2_500, 2_600, 50, Kind::Info);
        take(&mut planted, 2_700, 2_710, "b", 51);
        // One that stays too long is refused.
        use_it(&mut planted, 3_300, 50, 0, false);
        take(&mut planted, 4_000, 4_010, "c", 52);
        assert_eq!(found(&planted), Vec::<String>::new());
        assert_eq!(check(&planted.evidence()).verdict, Verdict::Valid);
    }

    #[test]
    fn two_holders_are_found() {
        let mut planted = good();
        take(&mut planted, 2_000, 2_010, "a", 50);
        take(&mut planted, 2_500, 2_510, "b", 51);
        assert_eq!(found(&planted), ["two holders", "not a mutex"]);
    }

    #[test]
    fn a_token_that_does_not_grow_is_found() {
        let mut planted = good();
        take(&mut planted, 2_000, 2_010, "a", 5);
        assert_eq!(found(&planted), ["token did not grow"]);
        // Two at once with one token.
        let mut planted = good();
        take(&mut planted, 2_000, 2_010, "a", 50);
        take(&mut planted, 2_005, 2_015, "b", 50);
        assert_eq!(found(&planted)[..2], ["token did not grow", "two holders"]);
    }

    #[test]
    fn a_grant_from_the_queue_counts_from_the_question_before() {
        let mut planted = good();
        let v = json!({"owner": "q", "ttl_ms": 1_000});
        let queued = json!({"state": "queued"});
        planted.op(2_000, Some(2_010), "acquire", "l", v, Kind::Ok, queued);
        take(&mut planted, 2_900, 2_910, "q", 60);
        take(&mut planted, 3_100, 3_110, "r", 61);
        assert_eq!(found(&planted), Vec::<String>::new());
    }

    #[test]
    fn a_holder_that_is_fenced_off_within_its_lease_is_found() {
        let mut planted = good();
        take(&mut planted, 2_000, 2_010, "a", 50);
        use_it(&mut planted, 2_100, 50, 800, false);
        assert_eq!(found(&planted), ["fenced while holding"]);
    }

    #[test]
    fn too_few_leases_say_nothing() {
        assert_eq!(check(&Planted::new().evidence()).verdict, Verdict::Unknown);
    }
}
