//! Pauses of many jobs, which come to so many of them with each command: all are held
//! at once, and all go on from the same time.

use super::super::command::*;
use super::super::outcome::Reject;
use super::super::snapshot::{Restore, records};
use super::super::state::Limits;
use super::pauses::{group, in_group, of_trigger, source};
use super::support::*;
use crate::ids::*;
use crate::model::action::ActionState;
use crate::model::job::JobSpec;
use crate::model::pause::{AfterPause, PauseTarget};
use crate::time::UtcMillis;

fn spec_of(m: &Machine, job: JobId) -> JobSpec {
    m.state.job(job).unwrap().spec.clone()
}

/// Jobs in a group, each with one run in the queue and two actions ahead.
fn many(m: &mut Machine, count: usize) -> Vec<JobId> {
    let jobs: Vec<JobId> =
        (0..count).map(|n| m.job(in_group(&format!("j{n}"), ["g", "g/in"][n % 2]))).collect();
    let base = m.now;
    for job in &jobs {
        m.plan(*job, &[(base + 1_000, vec![]), (base + 60_000, vec![]), (base + 90_000, vec![])]);
    }
    m.after(2_000);
    assert_eq!(m.queue().len(), count);
    jobs
}

fn few_at_once() -> Limits {
    Limits { sweep: 3, ..Default::default() }
}

/// Actions that are planned and not due.
fn ahead(m: &Machine) -> usize {
    let states = |job| m.state.live_actions_of(job).collect::<Vec<_>>();
    let all = m.state.jobs_after(None).flat_map(|job| states(job.id));
    all.filter(|key| m.state.action(*key).unwrap().state == ActionState::Planned).count()
}

#[test]
fn a_pause_of_many_jobs_holds_all_at_once_and_withdraws_a_few_a_command() {
    for (target, is_group) in [(group("g"), true), (PauseTarget::Cluster, false)] {
        let mut m = Machine::with(few_at_once());
        let worker = m.worker("w", 5);
        let jobs = many(&mut m, 8);
        let queued = m.queue();
        m.hold(&target);
        assert_eq!(ahead(&m), 2 * (8 - 3), "three jobs a command");
        assert_eq!(m.state.next_timer(), Some(UtcMillis(m.now)), "a tick goes on with it");
        // Those that it has not come to are held all the same.
        let (number, incarnation) = (1, Incarnation(1));
        for run in &queued {
            let dispatch = Command::Dispatch { run: *run, number, worker, incarnation };
            assert_eq!(m.refused(dispatch), Reject::NotDispatchable(*run));
        }
        for job in &jobs {
            assert_eq!(m.plan(*job, &[(m.now + 99_000, vec![])]), (0, 1));
        }
        m.after(1).after(1);
        assert_eq!(ahead(&m), 0);
        assert_ne!(m.state.next_timer(), Some(UtcMillis(m.now)));
        assert_eq!(m.queue().is_empty(), is_group);
        // And it goes on for a few a command, each as a whole.
        m.after(60_000);
        m.go_on(&target, AfterPause::Skip);
        let free = |m: &mut Machine| {
            let at = m.now + 99_000;
            jobs.iter().filter(|job| m.plan(**job, &[(at, vec![])]) == (1, 0)).count()
        };
        // Planning is the leader's, and each of its commands goes a step further.
        assert_eq!(free(&mut m), 8);
        m.after(1);
        assert_eq!(m.queue().len(), 8);
        for job in &jobs {
            assert_eq!(m.state.missed_of(*job).count(), 1);
        }
    }
}

#[test]
fn pauses_of_many_that_begin_and_end_in_one_another_end_as_the_last_says() {
    for target in [group("g"), PauseTarget::Cluster] {
        let mut m = Machine::with(few_at_once());
        m.worker("w", 5);
        let jobs = many(&mut m, 8);
        // Ended before it has come to all.
        m.hold(&target);
        m.go_on(&target, AfterPause::Misfire);
        m.hold(&target);
        m.go_on(&target, AfterPause::Misfire);
        m.ticks(9);
        assert_eq!(m.state.pauses().count(), 0);
        assert_eq!((m.queue().len(), ahead(&m)), (8, 0));
        for job in &jobs {
            assert_eq!(m.plan(*job, &[(m.now + 60_000, vec![])]), (1, 0));
        }
        // Begun again before it has ended for all: in the end all are paused.
        m.hold(&target);
        m.ticks(4);
        m.go_on(&target, AfterPause::Skip);
        m.hold(&target);
        m.hold(&target);
        m.ticks(9);
        assert_eq!((m.state.pauses().count(), ahead(&m)), (1, 0));
        assert!(jobs.iter().all(|job| m.plan(*job, &[(m.now + 60_000, vec![])]) == (0, 1)));
        // Both in one another, and then the end.
        m.go_on(&target, AfterPause::Skip);
        m.hold(&target);
        m.go_on(&target, AfterPause::Skip);
        m.ticks(12);
        assert_eq!((m.state.pauses().count(), m.queue().len()), (0, 8));
        assert!(jobs.iter().all(|job| m.plan(*job, &[(m.now + 60_000, vec![])]) == (1, 0)));
    }
}

#[test]
fn a_pause_ends_at_one_moment_for_all_whenever_their_turn_comes() {
    for target in [group("g"), PauseTarget::Cluster] {
        let mut m = Machine::with(few_at_once());
        let jobs = many(&mut m, 8);
        m.hold(&target);
        m.ticks(4);
        // Three are paused by themselves as well, and one has a trigger that is.
        for job in &jobs[5..] {
            m.ok(Command::PauseJob { job: *job });
        }
        m.hold(&of_trigger(jobs[4], "t"));
        m.after(60_000);
        let end = m.now;
        m.go_on(&target, AfterPause::Skip);
        let to = |m: &Machine, job: JobId| {
            let missed = m.state.missed_of(job).last().map(|missed| missed.to);
            (m.state.cursor(job, &source("t")), missed)
        };
        let at = |time: i64| (Some(UtcMillis(time)), Some(UtcMillis(time)));
        assert_ne!(to(&m, jobs[3]), at(end), "only three jobs a command");
        // No command for a while, as when another node has to lead first.
        m.now += 5_000;
        let later = m.now;
        m.go_on(&of_trigger(jobs[4], "t"), AfterPause::Skip);
        m.ok(Command::ResumeJob { job: jobs[6] });
        m.ticks(9);
        for job in &jobs[..4] {
            assert_eq!(to(&m, *job), at(end), "{job} of {target:?}");
        }
        // The last pause that ends decides.
        for job in [jobs[4], jobs[6]] {
            assert_eq!(to(&m, job), at(later), "{job} of {target:?}");
        }
        m.ok(Command::ResumeJob { job: jobs[5] });
        assert_eq!(to(&m, jobs[5]), at(m.now));
    }
}

#[test]
fn a_pause_that_ends_before_its_turn_came_leaves_nothing_out_after_its_end() {
    for target in [group("g"), PauseTarget::Cluster] {
        let mut m = Machine::with(few_at_once());
        let jobs = many(&mut m, 8);
        m.hold(&target);
        m.now += 1_000;
        let end = m.now;
        m.go_on(&target, AfterPause::Misfire);
        m.now += 5_000;
        m.ticks(9);
        // It came to three at once, to the others after its end.
        let cursors = jobs.iter().map(|job| m.state.cursor(*job, &source("t")).unwrap().0);
        let cursors: Vec<i64> = cursors.collect();
        assert_eq!(cursors.iter().filter(|cursor| **cursor == end - 1_000).count(), 3);
        assert_eq!(cursors.iter().filter(|cursor| **cursor == end).count(), 5, "{cursors:?}");
        // Whoever is edited out of what has ended goes on as that says.
        m.hold(&target);
        m.ticks(4);
        m.after(1_000);
        let end = m.now;
        m.go_on(&target, AfterPause::Skip);
        m.now += 5_000;
        let moved = JobSpec { group: None, ..spec_of(&m, jobs[7]) };
        m.ok(apply(moved));
        m.ticks(9);
        let cursor = m.state.cursor(jobs[7], &source("t"));
        assert_eq!(cursor, Some(UtcMillis(end)), "{target:?}");
    }
}

#[test]
fn a_snapshot_in_the_middle_of_a_pause_of_many_goes_on_where_it_was() {
    let mut m = Machine::with(few_at_once());
    let jobs = many(&mut m, 8);
    m.hold(&group("g"));
    let mut restore = Restore::new(few_at_once());
    for record in records(&m.state) {
        restore.push(&record).unwrap();
    }
    m.state = restore.finish().unwrap();
    assert_eq!(ahead(&m), 10);
    // One that moves to where the pause has been, and one that leaves.
    m.ok(apply(in_group("j7", "g")));
    m.ok(apply(in_group("j6", "other")));
    m.ticks(4);
    let planned = |m: &Machine, job: JobId| {
        let mut live = m.state.live_actions_of(job);
        live.any(|key| m.state.action(key).unwrap().state == ActionState::Planned)
    };
    assert!((0..8).all(|n| !planned(&m, jobs[n])));
    assert_eq!(m.plan(jobs[6], &[(m.now + 60_000, vec![])]), (1, 0));
    assert_eq!(m.plan(jobs[7], &[(m.now + 60_000, vec![])]), (0, 1));
}
