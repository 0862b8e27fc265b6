//! Pauses of triggers, groups and the cluster: what is withdrawn, what is held,
//! what goes on, and what becomes of the instants between.

use super::super::command::*;
use super::super::outcome::{Outcome, Reject};
use super::super::snapshot::{Restore, records};
use super::support::*;
use crate::ids::*;
use crate::model::action::{ActionState, MissedReason, WaitReason};
use crate::model::job::JobSpec;
use crate::model::pause::{AfterPause, PauseTarget};
use crate::placement::explain::{Subject, explain};
use crate::time::UtcMillis;

pub(super) fn group(path: &str) -> PauseTarget {
    PauseTarget::Group(GroupPath::new(path).unwrap())
}

pub(super) fn of_trigger(job: JobId, name: &str) -> PauseTarget {
    PauseTarget::Trigger(job, TriggerName(name.into()))
}

pub(super) fn in_group(text: &str, path: &str) -> JobSpec {
    JobSpec { group: Some(GroupPath::new(path).unwrap()), ..triggered(text) }
}

fn two_triggers(text: &str) -> JobSpec {
    JobSpec { triggers: vec![cron("a"), cron("b")], ..spec(text) }
}

pub(super) fn source(name: &str) -> PlanSource {
    PlanSource::Trigger(TriggerName(name.into()))
}

impl Machine {
    pub(super) fn hold(&mut self, target: &PauseTarget) {
        self.ok(Command::Pause { target: target.clone() });
    }

    pub(super) fn go_on(&mut self, target: &PauseTarget, missed: AfterPause) {
        self.ok(Command::Resume { target: target.clone(), missed });
    }

    pub(super) fn ticks(&mut self, count: usize) {
        for _ in 0..count {
            self.after(1);
        }
    }

    fn state_of(&self, job: JobId, at: i64) -> Option<ActionState> {
        self.state.action(key(job, at)).map(|action| action.state)
    }
}

#[test]
fn a_frozen_cluster_starts_nothing_and_what_runs_goes_on() {
    let mut m = Machine::new();
    let worker = m.worker("w", 5);
    let job = m.job(triggered("j"));
    let base = m.now;
    m.plan(job, &[(base + 1_000, vec![]), (base + 2_000, vec![]), (base + 60_000, vec![])]);
    m.after(1_500);
    let first = m.queue()[0];
    let running = m.dispatch(first, worker);
    m.after(1_000);
    let queued = m.queue()[0];
    m.hold(&PauseTarget::Cluster);
    m.hold(&PauseTarget::Cluster);
    // What is ahead is withdrawn; what is due keeps its run, and is not given away.
    assert_eq!(m.state_of(job, base + 60_000), None);
    assert_eq!(m.state.cursor(job, &source("t")), Some(UtcMillis(m.now)));
    assert!(m.state.queue_lanes(&crate::model::job::default_group(), None, 9).lanes.is_empty());
    let incarnation = Incarnation(1);
    let dispatch = Command::Dispatch { run: queued, number: 1, worker, incarnation };
    assert_eq!(m.refused(dispatch.clone()), Reject::NotDispatchable(queued));
    let why = |m: &Machine| explain(&m.state, Subject::Run(queued), &here);
    assert_eq!(why(&m), Some(WaitReason::Frozen));
    // Nothing is planned, jobs that come later included.
    assert_eq!(m.plan(job, &[(m.now + 5_000, vec![])]), (0, 1));
    let later = m.job(triggered("later"));
    assert_eq!(m.plan(later, &[(m.now + 5_000, vec![])]), (0, 1));
    m.complete(running, exit(0));
    assert_eq!(m.state_of(job, base + 1_000), Some(ActionState::Success));
    m.after(90_000);
    m.go_on(&PauseTarget::Cluster, AfterPause::Skip);
    m.ok(dispatch);
    // Each job has a record, and is planned from now on.
    for id in [job, later] {
        let missed = m.state.missed_of(id).last().unwrap();
        assert_eq!((missed.reason, missed.to), (MissedReason::Paused, UtcMillis(m.now)));
        assert_eq!(m.state.cursor(id, &source("t")), Some(UtcMillis(m.now)));
    }
    assert_eq!(m.plan(job, &[(m.now + 5_000, vec![])]), (1, 0));
}

#[test]
fn a_group_holds_what_is_in_it_and_what_comes_into_it() {
    let mut m = Machine::new();
    m.worker("w", 5);
    let inner = m.job(in_group("inner", "etl/nightly"));
    let beside = m.job(in_group("beside", "etl-2"));
    let base = m.now;
    for job in [inner, beside] {
        m.plan(job, &[(base + 1_000, vec![]), (base + 60_000, vec![])]);
    }
    m.after(2_000);
    assert_eq!(m.queue().len(), 2);
    m.hold(&group("etl"));
    assert_eq!(m.queue().len(), 1, "its run is held, and the other group's is not");
    assert_eq!(m.state_of(inner, base + 60_000), None);
    assert_eq!(m.state_of(beside, base + 60_000), Some(ActionState::Planned));
    // A job that comes later, and one that moves in.
    let later = m.job(in_group("later", "etl"));
    assert_eq!(m.plan(later, &[(m.now + 5_000, vec![])]), (0, 1));
    m.ok(apply(in_group("beside", "etl/nightly")));
    assert!(m.queue().is_empty());
    assert_eq!(m.state_of(beside, base + 60_000), None);
    // One that moves out goes on, and what passed meanwhile is recorded.
    m.after(10_000);
    m.ok(apply(in_group("beside", "other")));
    assert_eq!(m.queue().len(), 1);
    assert_eq!(m.state.missed_of(beside).count(), 1);
    assert_eq!(m.plan(beside, &[(m.now + 5_000, vec![])]), (1, 0));
    // An inner pause holds on after the outer one has ended.
    m.hold(&group("etl/nightly"));
    m.go_on(&group("etl"), AfterPause::Skip);
    assert_eq!(m.plan(inner, &[(m.now + 5_000, vec![])]), (0, 1));
    assert_eq!(m.plan(later, &[(m.now + 5_000, vec![])]), (1, 0));
    assert_eq!(m.state.missed_of(inner).count(), 0);
    m.go_on(&group("etl/nightly"), AfterPause::Misfire);
    assert_eq!(m.state.missed_of(inner).count(), 0, "left to the planner");
    assert_eq!(m.state.cursor(inner, &source("t")), Some(UtcMillis(base + 2_000)));
    assert_eq!(m.queue().len(), 2);
    // Pausing and resuming what is as it is changes nothing.
    m.after(1_000);
    m.go_on(&group("etl"), AfterPause::Skip);
    assert_eq!(m.state.cursor(inner, &source("t")), Some(UtcMillis(base + 2_000)));
}

#[test]
fn a_paused_trigger_leaves_the_others_alone() {
    let mut m = Machine::new();
    m.worker("w", 5);
    let job = m.job(two_triggers("j"));
    let down = m.job(after_jobs("down", &[job]));
    let base = m.now;
    let plan = |m: &mut Machine, name: &str, at: &[i64]| {
        let instants: Vec<_> = at.iter().map(|at| (*at, vec![])).collect();
        let batch = m.batch(job, source(name), &instants);
        m.ok(Command::PlanActions(vec![batch]))
    };
    plan(&mut m, "a", &[base + 1_000, base + 30_000, base + 60_000]);
    plan(&mut m, "b", &[base + 1_500, base + 30_000]);
    m.after(2_000);
    assert_eq!(m.queue().len(), 2);
    let paused = of_trigger(job, "a");
    m.hold(&paused);
    // Its own instants go, a shared one stays with the other trigger.
    assert_eq!(m.state_of(job, base + 60_000), None);
    let shared = m.state.action(key(job, base + 30_000)).unwrap();
    assert_eq!(shared.triggers, [TriggerName("b".into())]);
    // Its due run is held, the other's is not.
    let held = m.state.action(key(job, base + 1_000)).unwrap().run.unwrap();
    assert!(!m.queue().contains(&held) && m.queue().len() == 1);
    let why = explain(&m.state, Subject::Run(held), &here);
    assert_eq!(why, Some(WaitReason::Paused));
    let refused = Outcome::Planned { created: 0, refused: 1 };
    let soon = m.now + 9_000;
    assert_eq!(plan(&mut m, "a", &[soon]), refused);
    // Who waits for the job is not held up by the trigger that gives nothing.
    assert_eq!(m.state.planned_through(job), UtcMillis(base + 30_000));
    let up = key(job, base + 30_000);
    assert_eq!(m.plan(down, &[(base + 30_000, vec![up])]), (1, 0));
    m.after(40_000);
    assert_eq!(m.state_of(down, base + 30_000), Some(ActionState::Waiting));
    // It comes back where it stopped: and so do those who were planned without it.
    let cursor = m.state.cursor(down, &PlanSource::Dependencies).unwrap();
    assert!(cursor > UtcMillis(base + 2_000));
    m.go_on(&paused, AfterPause::Misfire);
    assert_eq!(m.state.cursor(job, &source("a")), Some(UtcMillis(base + 2_000)));
    let cursor = m.state.cursor(down, &PlanSource::Dependencies);
    assert_eq!(cursor, Some(UtcMillis(base + 2_000)));
    assert!(m.queue().contains(&held));
    let created = Outcome::Planned { created: 1, refused: 0 };
    assert_eq!(plan(&mut m, "a", &[base + 20_000]), created);
    // With `skip` it begins at the resume.
    m.hold(&paused);
    m.after(5_000);
    m.go_on(&paused, AfterPause::Skip);
    assert_eq!(m.state.cursor(job, &source("a")), Some(UtcMillis(m.now)));
    assert_eq!(m.state.missed_of(job).last().unwrap().trigger, TriggerName("a".into()));
}

/// The trigger is free again while its job is held otherwise: those that depend on it
/// were planned without it all the same.
#[test]
fn a_trigger_that_was_freed_in_another_pause_takes_dependants_back_as_well() {
    let mut m = Machine::new();
    let job = m.job(two_triggers("j"));
    let down = m.job(after_jobs("down", &[job]));
    let began = m.now;
    let far = m.now + 60_000;
    m.hold(&of_trigger(job, "a"));
    for (job, source) in [(job, source("b")), (down, PlanSource::Dependencies)] {
        let batch = m.batch(job, source, &[]);
        m.ok(Command::PlanActions(vec![PlanBatch { through: UtcMillis(far), ..batch }]));
    }
    m.after(10_000);
    let late = m.job(after_jobs("late", &[job]));
    let made = m.now;
    m.after(10_000);
    m.hold(&PauseTarget::Cluster);
    m.go_on(&of_trigger(job, "a"), AfterPause::Misfire);
    m.after(10_000);
    m.go_on(&PauseTarget::Cluster, AfterPause::Misfire);
    assert_eq!(m.state.cursor(job, &source("a")), Some(UtcMillis(began)));
    let cursor = |job| m.state.cursor(job, &PlanSource::Dependencies).unwrap();
    assert_eq!(cursor(down), UtcMillis(began));
    assert_eq!(cursor(late), UtcMillis(made), "what was before it is not its own");
}

#[test]
fn pauses_go_with_what_they_are_about() {
    let mut m = Machine::new();
    let job = m.job(two_triggers("j"));
    m.hold(&of_trigger(job, "a"));
    m.hold(&group("g"));
    assert_eq!(m.state.pauses().count(), 2);
    let unknown = Command::Pause { target: of_trigger(job, "c") };
    assert!(matches!(m.refused(unknown), Reject::NoSuchTrigger { .. }));
    let unknown = Command::Pause { target: of_trigger(JobId(99), "a") };
    assert_eq!(m.refused(unknown), Reject::NoSuchJob(JobId(99)));
    // A snapshot holds them.
    let mut restore = Restore::default();
    for record in records(&m.state) {
        restore.push(&record).unwrap();
    }
    assert_eq!(restore.finish().unwrap().pauses().count(), 2);
    m.ok(apply(JobSpec { triggers: vec![cron("b")], ..spec("j") }));
    assert_eq!(m.state.pauses().count(), 1, "the trigger is gone");
    m.hold(&of_trigger(job, "b"));
    m.ok(Command::DeleteJob { job, expected: None });
    assert_eq!(m.state.pauses().count(), 1, "the job is gone");
}

#[test]
fn a_held_run_that_gets_a_free_trigger_goes_on() {
    let mut m = Machine::new();
    m.worker("w", 5);
    let job = m.job(two_triggers("j"));
    let at = m.now + 1_000;
    let batch = m.batch(job, source("a"), &[(at, vec![])]);
    m.ok(Command::PlanActions(vec![batch]));
    m.after(2_000);
    m.hold(&of_trigger(job, "a"));
    assert!(m.queue().is_empty());
    let batch = m.batch(job, source("b"), &[(at, vec![])]);
    m.ok(Command::PlanActions(vec![batch]));
    assert_eq!(m.queue().len(), 1);
}

#[test]
fn the_end_of_a_long_pause_does_not_plan_what_retention_has_dropped() {
    let limits = super::super::state::Limits { ended_per_job: 3, ..Default::default() };
    let mut m = Machine::with(limits);
    let worker = m.worker("w", 5);
    let job = m.job(two_triggers("j"));
    m.hold(&of_trigger(job, "a"));
    let begin = m.now;
    for n in 1..=20 {
        let at = begin + n * 1_000;
        let batch = m.batch(job, source("b"), &[(at, vec![])]);
        m.ok(Command::PlanActions(vec![batch]));
        m.after(1_000);
        let run = m.queue()[0];
        let attempt = m.dispatch(run, worker);
        m.complete(attempt, exit(0));
    }
    assert!(m.state.run_count() <= 5, "a trigger that is paused holds no record");
    let floor = m.state.floor(job).unwrap();
    m.go_on(&of_trigger(job, "a"), AfterPause::Misfire);
    assert_eq!(m.state.cursor(job, &source("a")), Some(floor));
    let missed = m.state.missed_of(job).last().unwrap();
    assert_eq!((missed.from, missed.to), (UtcMillis(begin), floor));
}

#[test]
fn what_only_jitter_keeps_back_stays_in_a_pause() {
    let mut m = Machine::new();
    let worker = m.worker("w", 5);
    let job = m.job(triggered("j"));
    let nominal = m.now + 1_000;
    let mut batch = m.batch(job, source("t"), &[(nominal, vec![])]);
    batch.actions[0].due = UtcMillis(nominal + 20_000);
    m.ok(Command::PlanActions(vec![batch]));
    m.after(5_000);
    m.ok(Command::PauseJob { job });
    assert_eq!(m.state_of(job, nominal), Some(ActionState::Planned), "its instant has come");
    m.after(30_000);
    assert_eq!(m.state_of(job, nominal), Some(ActionState::Waiting));
    m.ok(Command::ResumeJob { job });
    let run = m.queue()[0];
    let attempt = m.dispatch(run, worker);
    m.complete(attempt, exit(0));
    assert_eq!(m.state_of(job, nominal), Some(ActionState::Success));
}
