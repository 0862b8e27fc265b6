//! Random commands over few ids, with references to what does not exist.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::super::command::*;
use super::super::invariants;
use super::super::outcome::Outcome;
use super::super::snapshot::{Restore, records};
use super::super::state::{Limits, State};
use super::broadcasts::{judge_split, to_split};
use super::outputs;
use super::random_specs::*;
use super::support::*;
use crate::ids::*;
use crate::model::backfill::{BackfillOrder, Hours, Steer};
use crate::model::calendar::{CalendarDef, CalendarRule};
use crate::model::demand::Demand;
use crate::model::job::*;
use crate::model::pause::{AfterPause, PauseTarget};
use crate::model::run::{EndKind, RunOrder};
use crate::model::trigger::Weekdays;
use crate::model::worker::{Duty, WorkerProfile};
use crate::model::worker_group::{Strategy as Choice, Thresholds};
use crate::placement::pools::first_to_go;
use crate::time::{Span, UtcMillis};

/// A command whose details are filled in from the state it meets.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Apply { name: u8, triggers: u8, upstream: Vec<u64>, policy: u8, rest: (u8, u8, u8) },
    Pool { name: u8, slots: u32 },
    DropPool(u8),
    Area(u8),
    Crew { name: u8, strategy: u8, limited: bool },
    DropCrew(u8),
    Group { path: u8, value: u8, expected: Option<u64> },
    DropGroup(u8),
    Calendar { name: u8, base: Option<u8>, day: u8 },
    DropCalendar(u8),
    Hold(u8, u64),
    GoOn { what: u8, job: u64, misfire: bool },
    Delete(u64),
    Remove { job: u64, force: bool, cancel: bool },
    Pause(u64),
    Resume(u64),
    Plan { job: u64, count: i64, stale: bool },
    Trigger(u64),
    Manual { job: u64, at: Option<i64>, debug: bool, revision: u64 },
    Backfill { job: u64, first: i64, newest_first: bool, downstream: bool, hours: bool },
    Steer(u64, u8),
    Rerun { job: u64, nth: i64, below: bool },
    Settle { job: u64, nth: i64, success: bool },
    Cancel(u64),
    Dispatch { nth: usize, worker: u64 },
    Spread(usize),
    Complete { nth: usize, how: u8, wrong: bool },
    State { job: u64, clear: bool, long: bool },
    Attach { name: u8, incarnation: u128, boot: u128, stops: bool },
    Alive,
    Acquire { lock: u8, owner: u8, wait: u64 },
    Renew(u8),
    Release(u8),
    Leave(u8, u8),
    Leader(u64),
    Pass(i64),
    Request(u8, u64),
    Token { name: u8, hash: u8, expires: Option<i64> },
    DropToken(u8),
    Admit { hash: u8, store: u8, replaces: Option<u64> },
    Retire(u64),
    Secret { name: u8, key: u8, expected: Option<u64> },
    Reseal { name: u8, key: u8, expected: u64 },
    DropSecret(u8),
    Close { node: u64, names: Vec<u8> },
    Duty { worker: u64, duty: u8 },
    Forget { worker: u64, force: bool },
}

pub(super) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let job = || prop_oneof![4 => 1..4_u64, 1 => 0..6_u64];
    let step = prop_oneof![
        3 => (
            0..4_u8,
            0..3_u8,
            prop::collection::vec(job(), 0..3),
            0..4_u8,
            (0..8_u8, 0..5_u8, 0..8_u8),
        )
            .prop_map(|(name, triggers, upstream, policy, rest)| {
                Step::Apply { name, triggers, upstream, policy, rest }
            }),
        1 => (0..3_u8, 0..4_u32).prop_map(|(name, slots)| Step::Pool { name, slots }),
        1 => (0..3_u8).prop_map(Step::DropPool),
        1 => (0..3_u8).prop_map(Step::Area),
        1 => (0..2_u8, 0..4_u8, prop::bool::ANY)
            .prop_map(|(name, strategy, limited)| Step::Crew { name, strategy, limited }),
        1 => (0..2_u8).prop_map(Step::DropCrew),
        1 => (0..3_u8, 0..3_u8, prop::option::of(0..3_u64))
            .prop_map(|(path, value, expected)| Step::Group { path, value, expected }),
        1 => (0..3_u8).prop_map(Step::DropGroup),
        1 => (0..3_u8, prop::option::of(0..3_u8), 0..3_u8)
            .prop_map(|(name, base, day)| Step::Calendar { name, base, day }),
        1 => (0..3_u8).prop_map(Step::DropCalendar),
        1 => (0..6_u8, job()).prop_map(|(what, job)| Step::Hold(what, job)),
        2 => (0..6_u8, job(), prop::bool::ANY)
            .prop_map(|(what, job, misfire)| Step::GoOn { what, job, misfire }),
        1 => job().prop_map(Step::Delete),
        1 => (job(), prop::bool::weighted(0.8), prop::bool::ANY)
            .prop_map(|(job, force, cancel)| Step::Remove { job, force, cancel }),
        1 => job().prop_map(Step::Pause),
        2 => job().prop_map(Step::Resume),
        8 => (job(), 0..4_i64, prop::bool::weighted(0.1))
            .prop_map(|(job, count, stale)| Step::Plan { job, count, stale }),
        1 => job().prop_map(Step::Trigger),
        1 => (job(), prop::option::of(0..9_i64), prop::bool::ANY, 0..4_u64)
            .prop_map(|(job, at, debug, revision)| Step::Manual { job, at, debug, revision }),
        1 => (job(), 0..9_i64, prop::bool::ANY, prop::bool::ANY, prop::bool::ANY).prop_map(
            |(job, first, newest_first, downstream, hours)| {
                Step::Backfill { job, first, newest_first, downstream, hours }
            }
        ),
        1 => (1..5_u64, 0..5_u8).prop_map(|(backfill, to)| Step::Steer(backfill, to)),
        2 => (job(), 0..9_i64, prop::bool::ANY)
            .prop_map(|(job, nth, below)| Step::Rerun { job, nth, below }),
        1 => (job(), 0..9_i64, prop::bool::ANY)
            .prop_map(|(job, nth, success)| Step::Settle { job, nth, success }),
        1 => (0..20_u64).prop_map(Step::Cancel),
        8 => (0..9_usize, 1..4_u64).prop_map(|(nth, worker)| Step::Dispatch { nth, worker }),
        3 => (0..9_usize).prop_map(Step::Spread),
        7 => (0..9_usize, 0..15_u8, prop::bool::weighted(0.1))
            .prop_map(|(nth, how, wrong)| Step::Complete { nth, how, wrong }),
        1 => (job(), prop::bool::ANY, prop::bool::weighted(0.2))
            .prop_map(|(job, clear, long)| Step::State { job, clear, long }),
        2 => (0..3_u8, 1..3_u128, 1..3_u128, prop::bool::weighted(0.2)).prop_map(
            |(name, incarnation, boot, stops)| Step::Attach { name, incarnation, boot, stops }
        ),
        2 => Just(Step::Alive),
        2 => (0..2_u8, 0..4_u8, 0..9_u64)
            .prop_map(|(lock, owner, wait)| Step::Acquire { lock, owner, wait }),
        1 => (0..2_u8).prop_map(Step::Renew),
        1 => (0..2_u8).prop_map(Step::Release),
        1 => (0..2_u8, 0..4_u8).prop_map(|(lock, owner)| Step::Leave(lock, owner)),
        1 => (0..5_u64).prop_map(Step::Leader),
        4 => prop_oneof![0..3_000_i64, 0..3_000_i64, 0..3_000_i64, 0..40_000_i64, Just(3 * 86_400_000_i64)].prop_map(Step::Pass),
        1 => (0..3_u8, job()).prop_map(|(id, job)| Step::Request(id, job)),
        1 => (0..3_u8, 0..3_u8, prop::option::of(0..9_000_i64))
            .prop_map(|(name, hash, expires)| Step::Token { name, hash, expires }),
        1 => (0..3_u8).prop_map(Step::DropToken),
        1 => (0..3_u8, 0..4_u8, prop::option::of(0..5_u64))
            .prop_map(|(hash, store, replaces)| Step::Admit { hash, store, replaces }),
        1 => (0..5_u64).prop_map(Step::Retire),
        1 => (0..3_u8, 0..3_u8, prop::option::weighted(0.3, 0..4_u64))
            .prop_map(|(name, key, expected)| Step::Secret { name, key, expected }),
        1 => (0..3_u8, 0..3_u8, 0..4_u64)
            .prop_map(|(name, key, expected)| Step::Reseal { name, key, expected }),
        1 => (0..3_u8).prop_map(Step::DropSecret),
        1 => (0..4_u64, prop::collection::vec(0..4_u8, 0..4))
            .prop_map(|(node, names)| Step::Close { node, names }),
        1 => (1..4_u64, 0..4_u8).prop_map(|(worker, duty)| Step::Duty { worker, duty }),
        1 => (1..4_u64, prop::bool::ANY)
            .prop_map(|(worker, force)| Step::Forget { worker, force }),
    ];
    prop::collection::vec(step, 1..120)
}

fn running(state: &State) -> Vec<(AttemptKey, Token)> {
    let live = state.runs_after(None).filter_map(|r| r.live_attempt());
    live.map(|a| (a.key, a.token)).collect()
}

/// One of the list, or now and then none.
fn pick<T: Copy>(list: &[T], nth: usize) -> Option<T> {
    (nth < 8 && !list.is_empty()).then(|| list[nth % list.len()])
}

/// The instant of one of a job's actions.
fn nth_action(m: &Machine, job: JobId, nth: i64) -> Option<UtcMillis> {
    let mut all = m.state.actions_of(job, UtcMillis(i64::MIN), UtcMillis::MAX);
    all.nth(usize::try_from(nth).unwrap()).map(|(key, _)| key.nominal)
}

/// One of a job's actions, or one that does not exist.
fn action_or_none(m: &Machine, job: JobId, nth: i64) -> ActionKey {
    ActionKey { job, nominal: nth_action(m, job, nth).unwrap_or(UtcMillis(nth)) }
}

fn lock_name(lock: u8) -> Name {
    name(["l", "pool"][usize::from(lock)])
}

/// One of all kinds of pauses.
fn target(what: u8, job: u64) -> PauseTarget {
    let group = |path| PauseTarget::Group(GroupPath::new(path).unwrap());
    match what {
        0 => PauseTarget::Cluster,
        1 => group("g"),
        2 => group("g/in"),
        3 => PauseTarget::Job(JobId(job)),
        4 => PauseTarget::Trigger(JobId(job), TriggerName("x".into())),
        _ => PauseTarget::Trigger(JobId(job), TriggerName("y".into())),
    }
}

fn plan(m: &Machine, job: u64, count: i64, stale: bool) -> Vec<PlanBatch> {
    let Some(job) = m.state.job(JobId(job)) else { return Vec::new() };
    let source = match job.spec.triggers.get(usize::from(count % 2 == 1)) {
        Some(trigger) => PlanSource::Trigger(trigger.name.clone()),
        None => PlanSource::Dependencies,
    };
    let start = m.state.cursor(job.id, &source).unwrap_or_default().0;
    let first = start - start.rem_euclid(1000) + 1000;
    let instants = (0..count).map(|n| {
        let at = first + n * 1000;
        let up = job.spec.depends_on.iter().map(|edge| key(edge.job, at));
        let up = up.filter(|up| stale || m.state.action(*up).is_some()).collect();
        (at, up)
    });
    let instants: Vec<_> = instants.collect();
    let mut batch = m.batch(job.id, source, &instants);
    if stale {
        batch.from.0 -= 1;
    }
    vec![batch]
}

fn command_of(m: &Machine, step: &Step) -> Command {
    match step {
        Step::Apply { name, triggers, upstream, policy, rest } => {
            apply(grown(*rest, spec_of(*name, *triggers, upstream, *policy)))
        }
        Step::Pool { name, slots } => put_pool(&format!("p{name}"), *slots),
        Step::DropPool(n) => Command::DeletePool { name: name(&format!("p{n}")), expected: None },
        Step::Crew { name, strategy, limited } => {
            let strategy = Choice::ALL[usize::from(*strategy)].1;
            let thresholds = limited.then(Thresholds::default);
            put_worker_group(["default", "other"][usize::from(*name)], strategy, thresholds)
        }
        Step::DropCrew(n) => {
            let name = name(["default", "other"][usize::from(*n)]);
            Command::DeleteWorkerGroup { name, expected: None }
        }
        Step::Area(area) => Command::SetArea { area: (*area > 0).then(|| area_name(*area)) },
        Step::Group { path, value, expected } => {
            put_group(group_path(*path), &[("EU.A", &value.to_string())], expected.map(Revision))
        }
        Step::DropGroup(path) => Command::DeleteGroup { path: group_path(*path), expected: None },
        Step::Calendar { name, base, day } => {
            let def = CalendarDef {
                name: calendar_name(*name),
                description: String::new(),
                zone: None,
                rule: CalendarRule::Weekly(Weekdays(1 << day)),
                include_only: false,
                base: base.map(calendar_name),
            };
            Command::PutCalendar { def: Box::new(def), expected: None }
        }
        Step::DropCalendar(n) => {
            Command::DeleteCalendar { name: calendar_name(*n), expected: None }
        }
        Step::Hold(what, job) => Command::Pause { target: target(*what, *job) },
        Step::GoOn { what, job, misfire } => {
            let missed = if *misfire { AfterPause::Misfire } else { AfterPause::Skip };
            Command::Resume { target: target(*what, *job), missed }
        }
        Step::Delete(job) => Command::DeleteJob { job: JobId(*job), expected: None },
        Step::Remove { job, force, cancel } => {
            let (job, force, cancel) = (JobId(*job), *force, *cancel);
            Command::RemoveJob { job, expected: None, force, cancel }
        }
        Step::Pause(job) => Command::PauseJob { job: JobId(*job) },
        Step::Resume(job) => Command::ResumeJob { job: JobId(*job) },
        Step::Plan { job, count, stale } => {
            let batches = plan(m, *job, *count, *stale);
            let seen = m.state.applied_index() - u64::from(*stale);
            let has_calendars = m.state.calendars_changed() > 0;
            if has_calendars {
                Command::PlanUnder { seen, batches }
            } else {
                Command::PlanActions(batches)
            }
        }
        Step::Trigger(job) | Step::Request(_, job) => Command::TriggerJob { job: JobId(*job) },
        Step::Manual { job, at, debug, revision } => {
            let job = JobId(*job);
            let action = at.and_then(|nth| nth_action(m, job, nth));
            let revision = Some(Revision(*revision)).filter(|r| r.0 > 0);
            let order = RunOrder { debug: *debug, action, revision, ..RunOrder::default() };
            Command::RunJob { job, order: Box::new(order) }
        }
        Step::Backfill { job, first, newest_first, downstream, hours } => {
            let job = JobId(*job);
            let ago = (0..5).map(|n| UtcMillis(first * 1_000 + n * 1_000));
            let own = (0..2).filter_map(|nth| nth_action(m, job, first + nth));
            let instants: BTreeSet<UtcMillis> = ago.chain(own).collect();
            Command::StartBackfill(Box::new(BackfillOrder {
                job,
                revision: None,
                instants: instants.into_iter().collect(),
                passed_over: 0,
                newest_first: *newest_first,
                concurrency: 2,
                hours: hours.then_some(Hours { from: 0, until: 9 }),
                downstream: *downstream,
                params: BTreeMap::new(),
                priority: None,
                again: None,
            }))
        }
        Step::Rerun { job, nth, below } => {
            let action = action_or_none(m, JobId(*job), *nth);
            Command::Rerun { action, below: *below }
        }
        Step::Settle { job, nth, success } => {
            let action = action_or_none(m, JobId(*job), *nth);
            Command::SettleAction { action, success: *success }
        }
        Step::Steer(backfill, to) => {
            let backfill = BackfillId(*backfill);
            match to {
                0 => Command::SteerBackfill { backfill, to: Steer::Pause },
                1 => Command::SteerBackfill { backfill, to: Steer::Resume },
                2 => Command::SteerBackfill { backfill, to: Steer::Stop },
                other => Command::OpenBackfill { backfill, open: *other == 3 },
            }
        }
        Step::Cancel(run) => Command::CancelRun { run: RunId(*run) },
        Step::Dispatch { nth, worker } => {
            let run = pick(&m.queue(), *nth).unwrap_or(RunId(77));
            let worker = WorkerId(*worker);
            let found = m.state.run(run);
            let number = found.and_then(|r| r.attempts.last()).map_or(1, |a| a.key.number + 1);
            let incarnation = m.state.worker(worker).map(|w| w.profile.incarnation);
            let incarnation = incarnation.unwrap_or(Incarnation(5));
            Command::Dispatch { run, number, worker, incarnation }
        }
        Step::Spread(nth) => {
            Command::Spread { run: pick(&to_split(&m.state), *nth).unwrap_or(RunId(77)) }
        }
        Step::Complete { nth, how, wrong } => {
            let missing = (AttemptKey { run: RunId(77), shard: 0, number: 1 }, Token(1));
            let (attempt, token) = pick(&running(&m.state), *nth).unwrap_or(missing);
            let long = "x".repeat(20 * nth);
            let outputs = match how {
                10 => vec![("A", "1")],
                11 => vec![("A", "2"), ("B", "")],
                12 | 13 => vec![("LONG", long.as_str())],
                14 => vec![("no key", "1")],
                _ => Vec::new(),
            };
            let how = match how {
                0 => EndKind::Gone,
                1 => EndKind::LeaseExpired,
                2 => EndKind::TimedOut,
                3 => EndKind::NotStarted { message: "ä".repeat(300) },
                4 => EndKind::Cancelled,
                _ => exit(i32::from(*how == 5)),
            };
            // Times that a worker cannot know better, from long ago to the future.
            let times = [m.now - 900, m.now + 70].map(|at| (nth % 3 == 0).then_some(at));
            let token = if *wrong { token.next() } else { token };
            if outputs.is_empty() {
                return told(attempt, token, how, times);
            }
            complete_with(attempt, token, &outputs)
        }
        Step::State { job, clear, long } => {
            let value = if *long { "x".repeat(90) } else { m.now.to_string() };
            edit_state(JobId(*job), *clear, &[("BY_HAND", &value)], &["B", "LONG"])
        }
        Step::Attach { name, incarnation, boot, stops } => {
            let (labels, slots) = (labels_of(*name), 2 + u32::from(*name));
            let profile = profile(&format!("w{name}"), *incarnation, *boot, slots);
            let amounts = amounts_of(*name);
            let stops_within = stops.then_some(Span::secs(1));
            Command::AttachWorker(Box::new(WorkerProfile {
                labels,
                amounts,
                stops_within,
                ..profile
            }))
        }
        Step::Alive => alive(&m.state),
        Step::Acquire { lock, owner, wait } => {
            acquire(lock_name(*lock).as_str(), &format!("o{owner}"), 1 + u32::from(*lock), *wait)
        }
        Step::Renew(lock) => Command::RenewLock { name: lock_name(*lock), token: holder(m, *lock) },
        Step::Release(lock) => {
            Command::ReleaseLock { name: lock_name(*lock), token: holder(m, *lock) }
        }
        Step::Leave(lock, owner) => {
            Command::LeaveLock { name: lock_name(*lock), owner: format!("o{owner}") }
        }
        Step::Leader(term) => Command::LeaderStarted(leader(*term)),
        Step::Token { name: n, hash, expires } => {
            let token = token_of(*hash, expires.map(|after| m.now + after));
            Command::PutToken { name: name(&format!("t{n}")), token }
        }
        Step::DropToken(n) => Command::DropToken { name: name(&format!("t{n}")) },
        Step::Admit { hash, store, replaces } => Command::AdmitNode {
            token_hash: [*hash; 32],
            store: u128::from(*store),
            replaces: replaces.map(NodeId),
        },
        Step::Retire(node) => Command::RetireNode { node: NodeId(*node) },
        Step::Secret { name, key, expected } => {
            let (name, expected) = (secret_name(*name), expected.map(Revision));
            Command::PutSecret { name, sealed: sealed(*key), description: None, expected }
        }
        Step::Reseal { name, key, expected } => {
            let (name, expected) = (secret_name(*name), Revision(*expected));
            Command::ResealSecret { name, sealed: sealed(*key), expected }
        }
        Step::DropSecret(n) => Command::DeleteSecret { name: secret_name(*n), expected: None },
        Step::Close { node, names } => {
            let closed = names.iter().map(|n| secret_name(*n)).collect();
            Command::CloseSecrets { node: NodeId(*node), closed }
        }
        Step::Duty { worker, duty } => {
            let until = Some(UtcMillis(m.now + 1_000));
            let duty = match duty {
                0 | 1 => Duty::Open,
                2 => Duty::Cordoned,
                _ => Duty::Draining { until },
            };
            Command::SetDuty { worker: WorkerId(*worker), duty }
        }
        Step::Forget { worker, force } => {
            Command::RemoveWorker { worker: WorkerId(*worker), force: *force }
        }
        Step::Pass(_) => Command::Tick,
    }
}

fn holder(m: &Machine, lock: u8) -> Token {
    let lock = m.state.lock(&lock_name(lock));
    lock.and_then(|l| l.holders.first()).map_or(Token(0), |h| h.token)
}

fn alive(state: &State) -> Command {
    let all = state.workers_after(None).map(|w| (w.id, w.profile.incarnation));
    Command::WorkersAlive(all.collect())
}

/// Applies the steps, with every rule checked after each; somebody looks at it, too.
pub(super) fn run_steps(steps: &[Step], look: &mut dyn FnMut(&Machine)) -> Machine {
    let limits = Limits {
        ended: 30,
        ended_per_job: 8,
        requests: 2,
        missed_per_job: 2,
        sweep: 1,
        output_bytes: 500,
        state_bytes: 200,
        ..Limits::default()
    };
    let mut m = Machine::with(limits);
    // Something to begin with: a chain of jobs and two workers.
    let first = m.job(spec_of(0, 2, &[], 2));
    let second = m.job(spec_of(1, 0, &[first.0], 3));
    m.job(spec_of(2, 1, &[first.0, second.0], 1));
    // Some instants of it are ahead, and wait for each other.
    for (job, count) in [(1, 4), (1, 5), (2, 4), (3, 4)] {
        let planned = command_of(&m, &Step::Plan { job, count, stale: false });
        m.ok(planned);
    }
    for n in 0..2 {
        m.ok(command_of(&Machine::new(), &Step::Calendar { name: n, base: None, day: n }));
    }
    for (pool, slots) in [("p0", 2), ("p1", 3)] {
        m.ok(put_pool(pool, slots));
    }
    for (secret, key) in [("s1", 1), ("s2", 2)] {
        m.ok(put_secret(secret, key, None));
    }
    m.job(grown((1, 2, 5), spec_of(3, 2, &[], 2)));
    m.job(grown((3, 0, 0), spec_of(4, 2, &[], 2)));
    let delayed = command_of(&m, &Step::Plan { job: 5, count: 1, stale: false });
    m.ok(delayed);
    for name in 0..2 {
        m.ok(command_of(
            &Machine::new(),
            &Step::Attach { name, incarnation: 1, boot: 1, stops: false },
        ));
    }
    for step in steps {
        if let Step::Pass(ms) = step {
            m.now += ms;
        }
        let request = match step {
            Step::Request(id, body) => Some(Request {
                id: format!("q{id}"),
                body_hash: u128::from(*body),
                issued: Some(UtcMillis(m.now)),
            }),
            _ => None,
        };
        let command = command_of(&m, step);
        let before = matches!(command, Command::Spread { .. }).then(|| {
            // What is due by then is released first.
            m.send(Command::Tick);
            m.state.clone()
        });
        let outcome = m.send_as(command.clone(), request);
        if let (Command::Spread { run }, Outcome::Done, Some(before)) =
            (&command, &outcome, &before)
        {
            judge_split(before, &m.state, *run, m.now);
        }
        if let (Command::Dispatch { run, .. }, Outcome::Dispatched { .. }) = (command, outcome) {
            let demand = m.state.demand_of(m.state.run(run).unwrap());
            let worker = m.state.run(run).unwrap().live_attempt().unwrap().worker;
            let has = m.state.worker(worker).unwrap().profile.resources();
            let used = m.state.used_of(worker);
            // None of them becomes smaller.
            assert!(used.lacks(&has).is_nothing(), "{used} of {has}");
            for (pool, _) in demand.pools() {
                assert!(m.state.pool_used(pool) <= m.state.pool(pool).unwrap().def.slots);
            }
        }
        look(&m);
    }
    m
}

/// Workers alive, every run dispatched and completed, time moved.
fn calm_down(m: &mut Machine) {
    let missed = AfterPause::Misfire;
    for target in m.state.pauses().map(|(target, _)| target.clone()).collect::<Vec<_>>() {
        m.ok(Command::Resume { target, missed });
    }
    for job in m.state.jobs_after(None).map(|j| j.id).collect::<Vec<_>>() {
        m.ok(Command::ResumeJob { job });
    }
    // It has all that is asked for.
    let profile = profile("calm", 1, 1, 10_000);
    let worker =
        m.attach(WorkerProfile { labels: labels_of(2), amounts: amounts_of(2), ..profile });
    m.after(20_000);
    for other in m.state.workers_after(None).map(|w| w.id).collect::<Vec<_>>() {
        if other != worker {
            m.ok(Command::RemoveWorker { worker: other, force: true });
        }
    }
    for _ in 0..30 {
        m.ok(alive(&m.state));
        for run in to_split(&m.state) {
            m.send(Command::Spread { run });
        }
        loop {
            let may_go = |demand: &Demand| !demand.is_for_all();
            while let Some(run) = first_to_go(&m.state, &default_group(), &may_go) {
                m.dispatch(run, worker);
            }
            let live = running(&m.state);
            if live.is_empty() {
                break;
            }
            for (attempt, token) in live {
                m.ok(complete(attempt, token, exit(0)));
            }
        }
        m.after(9 * 3_600_000);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(96), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rules_hold_and_everything_ends(steps in steps()) {
        let mut m = run_steps(&steps, &mut |_| {});
        prop_assert_eq!(m.state.hash(), run_steps(&steps, &mut |_| {}).state.hash());

        prop_assert_eq!(outputs::read_by_hand(&m.state), Ok(()));
        let mut restore = Restore::new(*m.state.limits());
        for record in records(&m.state) {
            restore.push(&record).unwrap();
        }
        let restored = restore.finish().unwrap();
        prop_assert_eq!(restored.hash(), m.state.hash());
        prop_assert_eq!(invariants::check(&restored), Ok(()));
        prop_assert_eq!(restored.index, m.state.index.clone());

        calm_down(&mut m);
        prop_assert_eq!(m.state.live_actions(), 0);
        prop_assert!(m.queue().is_empty() && running(&m.state).is_empty());
        prop_assert!(m.state.locks_after(None).next().is_none());
        for worker in m.state.workers_after(None) {
            prop_assert!(m.state.used_of(worker.id).is_nothing(), "{:?}", worker.profile.name);
        }
        for pool in m.state.pools_after(None).map(|pool| &pool.def.name) {
            prop_assert_eq!((m.state.pool_used(pool), m.state.pool_waiting(pool)), (0, 0));
        }
        let idle = m.send(Command::Tick);
        prop_assert_eq!(idle, Outcome::Done);
    }
}
