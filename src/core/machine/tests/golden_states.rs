//! The bytes of whole states of version 1, decoded for ever, as those of commands are.

use std::fmt::Write as _;

use super::super::command::*;
use super::super::invariants;
use super::super::snapshot::{Restore, records};
use super::super::state::Limits;
use super::golden::{calendars, extended_spec};
use super::golden_specs::*;
use super::support::*;
use crate::ids::*;
use crate::model::backfill::BackfillOrder;
use crate::model::calendar::CalendarDef;
use crate::model::job::*;
use crate::model::pause::{AfterPause, PauseTarget};
use crate::model::run::EndKind;

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

/// A run on all workers: one part has failed, one runs, and one waits.
fn spread_state() -> Machine {
    let mut m = Machine::new();
    let workers = ["a", "b", "c"].map(|name| m.worker(name, 2));
    m.after(6_000);
    let job = m.job(everywhere("everywhere"));
    m.ok(Command::TriggerJob { job });
    let run = m.queue()[0];
    m.ok(Command::Spread { run });
    let [first, second] = [0, 1].map(|index| m.state.part(run, index).unwrap().id);
    let attempt = m.dispatch(first, workers[0]);
    m.complete(attempt, exit(1));
    m.dispatch(second, workers[1]);
    m
}

const GOLDEN_PARTS: &str = include_str!("../../../../tests/golden/snapshot_parts_v1.txt");

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
        (spread_state(), GOLDEN_PARTS),
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
