//! The bytes of every command and of a whole state of version 1, decoded for ever.
//!
//! A line once released is never changed: a changed encoding needs a new
//! version with its own file, while these bytes go on being read.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::super::command::*;
use super::super::invariants;
use super::super::snapshot::{Restore, records};
use super::super::state::Limits;
use super::golden_specs::*;
use super::golden_words::word;
use super::support::*;
use crate::ids::*;
use crate::model::action::{Missed, MissedReason};
use crate::model::area::Area;
use crate::model::backfill::{BackfillOrder, Steer};
use crate::model::calendar::{CalendarDef, CalendarRule};
use crate::model::cluster::ClusterSettings;
use crate::model::edge::{EdgeSpec, Matching, NoMatch, OnNoMatch, PeriodUnit};
use crate::model::handle::Handle;
use crate::model::job::*;
use crate::model::pause::{AfterPause, PauseTarget};
use crate::model::run::EndKind;
use crate::model::trigger::*;
use crate::model::worker::{Duty, WorkerProfile};
use crate::model::worker_group::{Strategy, Thresholds};
use crate::time::{Span, UtcMillis};

const GOLDEN: &str = include_str!("../../../../tests/golden/command_v1.txt");

fn full_spec() -> JobSpec {
    let interpreter = vec!["/bin/sh".to_owned(), "-e".to_owned()];
    JobSpec {
        description: "loads".to_owned(),
        zone: Some("Europe/Berlin".to_owned()),
        triggers: vec![cron("nightly")],
        depends_on: vec![EdgeSpec::new(JobId(3))],
        executor: Executor::Shell { interpreter, script: "true".to_owned() },
        env: BTreeMap::from([("K".to_owned(), "v".to_owned())]),
        timeout: Some(Span::secs(30)),
        on_worker_lost: OnWorkerLost::Keep { keep_for: Span::secs(600) },
        ..spec("load")
    }
}

/// Everything that definitions may say beyond the first fields of their types.
fn extended_spec() -> JobSpec {
    let rule = |rule: TriggerRule| TriggerKind::Rule(Box::new(RuleSpec::new(rule)));
    let every = Span::secs(60);
    let (from, to, weekdays) = (TimeOfDay::MIDNIGHT, TimeOfDay::LAST, Weekdays::WORKDAYS);
    let params = BTreeMap::from([("DAY".to_owned(), "monday".to_owned())]);
    let full = RuleSpec {
        start: Some(UtcMillis(1)),
        end: Some(UtcMillis(2)),
        calendars: vec![name("holidays")],
        dst: DstPolicy::Twice,
        jitter: Span::secs(5),
        priority: Some(9),
        params: params.clone(),
        anchor: Some(UtcMillis(3)),
        ..RuleSpec::new(TriggerRule::Cron { expression: "x".to_owned(), dialect: Dialect::Unix })
    };
    let kinds = [
        TriggerKind::Rule(Box::new(full)),
        rule(TriggerRule::Interval { every, repeats: Some(3) }),
        rule(TriggerRule::FixedDelay { delay: every }),
        rule(TriggerRule::CalendarInterval { every: 1, unit: CalendarUnit::Month }),
        rule(TriggerRule::DailyWindow { every, from, to, weekdays }),
        rule(TriggerRule::Once { at: UtcMillis(4) }),
    ];
    let trigger = |(n, kind): (usize, TriggerKind)| TriggerSpec { kind, ..cron(&format!("t{n}")) };
    JobSpec {
        triggers: kinds.into_iter().enumerate().map(trigger).collect(),
        group: Some(GroupPath::new("etl/nightly").unwrap()),
        params,
        ..spec("load")
    }
}

/// Edges of every kind, of a job that says in what periods it thinks.
fn derived_spec() -> JobSpec {
    let edge = |(n, (_, matching)): (u64, (&str, Matching))| EdgeSpec {
        matching,
        base: n == 2,
        on_no_match: [None, Some(OnNoMatch::Wait), Some(OnNoMatch::Skip)][n as usize % 3],
        ..EdgeSpec::new(JobId(n))
    };
    JobSpec {
        depends_on: (1..).zip(Matching::ALL).map(edge).collect(),
        period: PeriodUnit::Week,
        legacy_id: Some(30),
        ..spec("report")
    }
}

fn calendars() -> Vec<CalendarDef> {
    let date = "2026-12-25".parse().unwrap();
    let (dialect, expression) = (Dialect::Quartz, "* * 2 * * ?".to_owned());
    let rules = [
        CalendarRule::Dates([date].into()),
        CalendarRule::Weekly(Weekdays::WEEKEND),
        CalendarRule::Monthly([1, 31].into()),
        CalendarRule::Annual([(12, 25)].into()),
        CalendarRule::Daily(vec![(TimeOfDay::MIDNIGHT, TimeOfDay::LAST)]),
        CalendarRule::Cron { expression, dialect },
    ];
    let def = |rule| CalendarDef {
        name: name("c"),
        description: "d".to_owned(),
        zone: Some("Europe/Berlin".to_owned()),
        rule,
        include_only: true,
        base: Some(name("b")),
    };
    rules.into_iter().map(def).collect()
}

fn commands() -> Vec<Command> {
    let (job, run, worker) = (JobId(1), RunId(2), WorkerId(3));
    let (lock, owner, token) = (name("l"), "me".to_owned(), Token(5));
    let attempt = AttemptKey { run, shard: 0, number: 1 };
    let trigger = TriggerName("nightly".into());
    let (from, through) = (UtcMillis(1000), UtcMillis(9000));
    let (count, reason) = (2, MissedReason::Misfire);
    let missed =
        Missed { job, trigger: trigger.clone(), from, to: from, count, reason, at: through };
    let planned = PlannedAction {
        nominal: UtcMillis(2000),
        due: UtcMillis(2500),
        upstream: vec![key(JobId(3), 2000)],
        catch_up: true,
        unmatched: Vec::new(),
    };
    let batch = PlanBatch {
        job,
        revision: Revision(4),
        source: PlanSource::Trigger(trigger),
        from,
        through,
        actions: vec![planned],
        missed: Some(missed),
    };
    let none = vec![(JobId(3), NoMatch::Satisfied), (JobId(4), NoMatch::Skips)];
    let mut unmatched = batch.clone();
    unmatched.actions[0].unmatched = none;
    let labels = BTreeMap::from([("zone".to_owned(), "b".to_owned())]);
    let extended = Box::new(extended_spec());
    let etl = GroupPath::new("etl").unwrap();
    let group = PauseTarget::Group(etl.clone());
    let paused = TriggerName("nightly".into());
    let put = |def| Command::PutCalendar { def: Box::new(def), expected: Some(Revision(1)) };
    let under = Command::PlanUnder { seen: 300, batches: vec![batch.clone()] };
    let (skip, misfire) = (AfterPause::Skip, AfterPause::Misfire);
    let mut all = vec![
        Command::Tick,
        Command::InitCluster(ClusterSettings::new(7)),
        Command::LeaderStarted(leader(2)),
        Command::ApplyJob { spec: Box::new(full_spec()), expected: Some(Revision(1)) },
        Command::DeleteJob { job, expected: None },
        Command::PauseJob { job },
        Command::ResumeJob { job },
        Command::PlanActions(vec![batch]),
        Command::TriggerJob { job },
        Command::CancelRun { run },
        Command::Dispatch { run, number: 1, worker, incarnation: Incarnation(9) },
        complete(attempt, token, EndKind::NotStarted { message: "no shell".to_owned() }),
        Command::AttachWorker(Box::new(WorkerProfile { labels, ..profile("w", 9, 8, 4) })),
        Command::WorkersAlive(vec![(worker, Incarnation(9))]),
        acquire("l", "me", 2, 3),
        Command::RenewLock { name: lock.clone(), token },
        Command::ReleaseLock { name: lock.clone(), token },
        Command::LeaveLock { name: lock, owner },
        Command::PutToken { name: name("ci"), token: token_of(7, Some(9000)) },
        Command::DropToken { name: name("ci") },
        Command::AdmitNode { token_hash: [7; 32], store: 6, replaces: Some(NodeId(2)) },
        Command::RetireNode { node: NodeId(2) },
        Command::ApplyJob { spec: extended, expected: None },
    ];
    all.extend(calendars().into_iter().map(put));
    all.extend([
        Command::DeleteCalendar { name: name("c"), expected: None },
        under,
        Command::Pause { target: PauseTarget::Cluster },
        Command::Pause { target: group.clone() },
        Command::Resume { target: group, missed: skip },
        Command::Resume { target: PauseTarget::Job(job), missed: misfire },
        Command::Resume { target: PauseTarget::Trigger(job, paused), missed: skip },
        Command::ApplyJob { spec: Box::new(derived_spec()), expected: None },
        Command::ApplyJob { spec: Box::new(strict_spec()), expected: None },
        Command::PlanActions(vec![unmatched]),
        Command::Rerun { action: key(job, 2000), below: true },
        Command::SettleAction { action: key(job, 2000), success: true },
        Command::RunJob { job, order: Box::new(run_order()) },
        Command::StartBackfill(Box::new(backfill_order(job))),
        Command::SteerBackfill { backfill: BackfillId(3), to: Steer::Stop },
        Command::OpenBackfill { backfill: BackfillId(3), open: true },
        Command::ApplyJob { spec: Box::new(limited_spec()), expected: None },
        Command::ApplyJob { spec: Box::new(picky_spec()), expected: None },
        Command::RemoveJob { job, expected: Some(Revision(2)), force: true, cancel: false },
        put_pool("licences", 2),
        Command::DeletePool { name: name("licences"), expected: Some(Revision(3)) },
        Command::ApplyJob { spec: Box::new(pooled_spec()), expected: None },
        put_secret("db-password", 7, Some("of the warehouse")),
        Command::ResealSecret {
            name: name("db-password"),
            sealed: sealed(8),
            expected: Revision(1),
        },
        Command::DeleteSecret { name: name("db-password"), expected: Some(Revision(1)) },
        Command::CloseSecrets { node: NodeId(3), closed: vec![name("db-password")] },
        Command::ApplyJob { spec: Box::new(knowing("load", &["db-password"])), expected: None },
        Command::InitCluster(ClusterSettings {
            area: Some(Area::new("EU").unwrap()),
            ..ClusterSettings::new(7)
        }),
        set_area(Some("EU")),
        put_group(etl.clone(), &[("EU.WHERE", "here"), ("DAY", "1")], Some(Revision(1))),
        Command::DeleteGroup { path: etl, expected: Some(Revision(2)) },
        Command::ApplyJob { spec: Box::new(local_spec()), expected: None },
        Command::SetDuty {
            worker: WorkerId(3),
            duty: Duty::Draining { until: Some(UtcMillis(9)) },
        },
        Command::RemoveWorker { worker: WorkerId(3), force: true },
        complete(attempt, token, EndKind::bad_output("line 2: no")),
        complete_with(attempt, token, &[("ROWS", "17"), ("TEXT", "a\nb")]),
        Command::ApplyJob { spec: Box::new(keeping("keeping")), expected: None },
        edit_state(job, true, &[("ROWS", "0")], &["TEXT"]),
        Command::ApplyJob {
            spec: Box::new(choosy("choosy", "zone == 'a' && ssd")),
            expected: None,
        },
        Command::ApplyJob {
            spec: Box::new(heavy("heavy", 2, amounts(1 << 31, 1_500, &[("gpu", 1)]))),
            expected: None,
        },
        Command::AttachWorker(Box::new(WorkerProfile {
            amounts: amounts(1 << 36, 8_000, &[("gpu", 2)]),
            stops_within: Some(Span::secs(30)),
            ..profile("w", 9, 8, 4)
        })),
        put_worker_group("etl", Strategy::LeastLoaded, Some(Thresholds::default())),
        Command::DeleteWorkerGroup { name: name("etl"), expected: Some(Revision(1)) },
        complete_using(attempt, token, EndKind::OomKilled, usage()),
        complete(attempt, token, EndKind::limits_unsupported("no cgroups")),
        Command::ApplyJob { spec: Box::new(confined_spec()), expected: None },
        Command::AttachWorker(Box::new(able(profile("w", 9, 8, 4)))),
        complete(attempt, token, EndKind::declined("its disk is full")),
        note_files(&[(1, 5), (2, 262_144)]),
        Command::ApplyJob { spec: Box::new(furnished("furnished", &[("a", 1)])), expected: None },
        Command::NoteHandles {
            attempt,
            token,
            handles: vec![Handle::new("job_1"), ended_handle()],
        },
    ]);
    all
}

#[test]
fn every_command_keeps_its_bytes() {
    let mut text = String::new();
    for command in commands() {
        let request = Request { id: "q".to_owned(), body_hash: 1, issued: Some(UtcMillis(5)) };
        let label = word(&command);
        let actor = Actor::User("ann".to_owned());
        let envelope = Envelope { actor, request: Some(request), command };
        let bytes = encode(&envelope).unwrap();
        assert_eq!(decode(&bytes).unwrap(), envelope);
        let hex: String = bytes.iter().fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        });
        let _ = writeln!(text, "{label} {hex}");
    }
    assert_eq!(text, GOLDEN, "\n--- encoded now:\n{text}---");
}

const GOLDEN_STATE: &str = include_str!("../../../../tests/golden/snapshot_v1.txt");

/// A state with records of most tables, each of the newest form there is.
fn full_state() -> Machine {
    let mut m = Machine::new();
    for calendar in calendars().into_iter().take(1) {
        let base = CalendarDef { name: name("b"), base: None, ..calendar.clone() };
        let holidays = CalendarDef { name: name("holidays"), ..calendar };
        for def in [base, holidays] {
            m.ok(Command::PutCalendar { def: Box::new(def), expected: None });
        }
    }
    let worker = m.worker("w", 2);
    let plain = m.job(triggered("plain"));
    let full = m.job(extended_spec());
    let at = m.now + 1_000;
    m.plan(plain, &[(at, vec![]), (at + 90_000, vec![])]);
    m.plan(full, &[(at, vec![])]);
    m.after(2_000);
    let run = m.queue()[0];
    let attempt = m.dispatch(run, worker);
    m.ok(apply(JobSpec { priority: 7, ..extended_spec() }));
    m.complete(attempt, exit(0));
    m.ok(acquire("l", "me", 1, 0));
    m.ok(Command::PutToken { name: name("ci"), token: token_of(7, Some(9_000_000)) });
    m.ok(Command::AdmitNode { token_hash: [7; 32], store: 6, replaces: None });
    let etl = PauseTarget::Group(GroupPath::new("etl").unwrap());
    m.ok(Command::Pause { target: etl.clone() });
    m.after(5_000);
    m.ok(Command::Resume { target: etl, missed: AfterPause::Skip });
    m.ok(Command::Pause { target: PauseTarget::Trigger(plain, TriggerName("t".into())) });
    m.ok(Command::StartBackfill(Box::new(backfill_order(plain))));
    m.ok(Command::OpenBackfill { backfill: BackfillId(1), open: true });
    let request = Request { id: "q".to_owned(), body_hash: 1, issued: None };
    m.send_as(Command::PauseJob { job: full }, Some(request));
    m
}

/// Pools, a run that holds slots by a definition that was changed since, and one
/// that waits.
fn pooled_state() -> Machine {
    let mut m = Machine::new();
    m.ok(put_pool("licences", 1));
    m.ok(put_pool("warehouse", 300));
    m.ok(put_pool("warehouse", 400));
    let worker = m.worker("w", 2);
    let job = m.job(pooled_spec());
    m.ok(Command::TriggerJob { job });
    let run = m.queue()[0];
    m.dispatch(run, worker);
    m.ok(apply(taking("pooled", &[("licences", 1)])));
    m.ok(Command::TriggerJob { job });
    m
}

/// Secrets that a node cannot open, and a job that names one.
fn secret_state() -> Machine {
    let mut m = Machine::new();
    m.ok(put_secret("db-password", 7, Some("of the warehouse")));
    m.ok(put_secret("token", 7, None));
    m.after(1_000);
    m.ok(put_secret("token", 8, None));
    m.job(knowing("load", &["db-password", "token"]));
    m.ok(Command::CloseSecrets { node: NodeId(3), closed: vec![name("token")] });
    m
}

/// What people did to runs and actions: a note of each kind.
fn noted_state() -> Machine {
    let mut m = Machine::new();
    let worker = m.worker("w", 9);
    let up = m.job(JobSpec { overlap: Overlap::CancelRunning, ..triggered("up") });
    let down = m.job(after_jobs("down", &[up]));
    let at = m.now + 1_000;
    let [first, last] = [at, at + 1_000].map(|at| key(up, at));
    m.plan(up, &[(at, vec![]), (at + 1_000, vec![])]);
    m.plan(down, &[(at, vec![first]), (at + 1_000, vec![last])]);
    m.after(1_000).after(1_000);
    let ends = |m: &mut Machine, code| {
        let attempt = m.dispatch(m.queue()[0], worker);
        m.complete(attempt, exit(code));
    };
    ends(&mut m, 1);
    m.by("ann", Command::Rerun { action: last, below: true });
    ends(&mut m, 0);
    ends(&mut m, 1);
    m.by("bob", Command::SettleAction { action: first, success: false });
    m.by("bob", Command::SettleAction { action: first, success: true });
    let instants = vec![last.nominal];
    let order = BackfillOrder { instants, downstream: true, ..backfill_of(up, 1) };
    m.by("eve", Command::StartBackfill(Box::new(order)));
    m.by("eve", Command::TriggerJob { job: down });
    let run = m.state.runs_before(None).next().unwrap().id;
    m.by("ann", Command::CancelRun { run });
    let gone = m.job(spec("gone"));
    m.by("ann", Command::TriggerJob { job: gone });
    m.by("bob", Command::DeleteJob { job: gone, expected: None });
    m
}

const GOLDEN_NOTES: &str = include_str!("../../../../tests/golden/snapshot_notes_v1.txt");
const GOLDEN_SECRETS: &str = include_str!("../../../../tests/golden/snapshot_secrets_v1.txt");

/// An area, a group, and an action that succeeded because its job is of another area.
fn local_state() -> Machine {
    let mut m = Machine::new();
    m.ok(set_area(Some("ASIA")));
    m.ok(put_group(GroupPath::new("etl/nightly").unwrap(), &[("DAY", "1")], None));
    let job = m.job(JobSpec { triggers: vec![cron("t")], ..local_spec() });
    let at = m.now + 1_000;
    m.plan(job, &[(at, vec![]), (at + 90_000, vec![])]);
    m.after(2_000);
    m
}

const GOLDEN_AREAS: &str = include_str!("../../../../tests/golden/snapshot_areas_v1.txt");
/// Outputs that are held and such that were dropped, and states of jobs.
fn putting_state() -> Machine {
    let mut m = Machine::with(Limits { output_bytes: 250, ..Limits::default() });
    let worker = m.worker("w", 2);
    let keeps = m.job(JobSpec { triggers: vec![cron("t")], ..keeping("keeps") });
    let other = m.job(keeping("other"));
    let at = m.now + 1_000;
    m.plan(keeps, &[(at, vec![]), (at + 1_000, vec![]), (at + 2_000, vec![])]);
    m.after(4_000);
    for n in ["1", "2", "3"] {
        let run = m.queue()[0];
        let (attempt, token) = m.dispatch(run, worker);
        m.ok(complete_with(attempt, token, &[("N", n), ("TEXT", &"x".repeat(40))]));
    }
    m.ok(edit_state(other, false, &[("A", "1")], &[]));
    m
}

/// What a run used, of a job with limits, on a worker that can hold it to them.
fn confined_state() -> Machine {
    let mut m = Machine::new();
    m.ok(Command::AttachWorker(Box::new(able(profile("w", 9, 8, 4)))));
    let job = m.job(confined_spec());
    m.ok(Command::TriggerJob { job });
    let (attempt, token) = m.dispatch(m.queue()[0], WorkerId(1));
    m.ok(complete_using(attempt, token, EndKind::OomKilled, usage()));
    m
}

/// Files of two revisions, and a content that no definition names yet.
fn furnished_state() -> Machine {
    let mut m = Machine::new();
    m.ok(note_files(&[(1, 5), (2, 5), (3, 5)]));
    m.job(furnished("load", &[("lookup.csv", 1)]));
    m.ok(apply(furnished("load", &[("lookup.csv", 2), ("lib/common.sh", 1)])));
    m
}

const GOLDEN_FILES: &str = include_str!("../../../../tests/golden/snapshot_files_v1.txt");
const GOLDEN_LIMITS: &str = include_str!("../../../../tests/golden/snapshot_limits_v1.txt");
const GOLDEN_OUTPUTS: &str = include_str!("../../../../tests/golden/snapshot_outputs_v1.txt");

const GOLDEN_POOLS: &str = include_str!("../../../../tests/golden/snapshot_pools_v1.txt");

#[test]
fn a_snapshot_keeps_its_bytes() {
    let states = [
        (full_state(), GOLDEN_STATE),
        (pooled_state(), GOLDEN_POOLS),
        (secret_state(), GOLDEN_SECRETS),
        (local_state(), GOLDEN_AREAS),
        (putting_state(), GOLDEN_OUTPUTS),
        (confined_state(), GOLDEN_LIMITS),
        (furnished_state(), GOLDEN_FILES),
        (noted_state(), GOLDEN_NOTES),
    ];
    for (m, golden) in states {
        let mut text = String::new();
        for record in records(&m.state) {
            let hex: String = record.iter().fold(String::new(), |mut hex, byte| {
                let _ = write!(hex, "{byte:02x}");
                hex
            });
            let _ = writeln!(text, "{hex}");
        }
        assert_eq!(text, golden, "\n--- encoded now:\n{text}---");
        let mut restore = Restore::new(*m.state.limits());
        for line in golden.lines() {
            let byte = |at| u8::from_str_radix(&line[at..at + 2], 16).unwrap();
            let bytes = (0..line.len()).step_by(2).map(byte);
            restore.push(&bytes.collect::<Vec<u8>>()).unwrap();
        }
        let restored = restore.finish().unwrap();
        assert_eq!(restored.hash(), m.state.hash());
        assert_eq!(invariants::check(&restored), Ok(()));
    }
}
