//! Worlds written by hand: each once broke a promise, and stays here for ever.

use super::calendar::{Cron, Field, days};
use super::run::run;
use super::script::{
    Event, JobShape, LeftOut, Lost, Misfire, Moment, NODES, Scale, Setup, Step, TriggerShape,
};

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;

/// Two workers, and clocks that run apart as far as is assumed of them: the
/// leader's fast, the first worker's slow.
fn setup(scale: Scale) -> Setup {
    let mut rates = vec![4_900; NODES];
    rates.extend([-4_900, 0]);
    let start = days(2026, 11, 21) * 24 * HOUR;
    Setup { seed: 4711, scale, start, workers: 2, slots: 100, rates }
}

/// Runs only when it is told to, for longer than any lease.
fn by_hand(lease: i64) -> JobShape {
    JobShape {
        triggers: Vec::new(),
        zone: None,
        ups: Vec::new(),
        noop: false,
        retries: 2,
        backoff: 0,
        timeout: None,
        run_limit: None,
        everywhere: false,
        lease,
        lost: Lost::Rerun,
        priority: 5,
        fails: 0,
        takes: 4 * lease,
        group: None,
    }
}

/// Fires in each hour of each day, and makes up for all that it misses.
fn each(second: Field, minute: Field) -> TriggerShape {
    let (hour, month) = (Field::Any, Field::Any);
    let cron = Cron { second, minute, hour, day: None, month, weekday: None, years: None };
    TriggerShape { cron, zone: None, misfire: Misfire::All, bound: None, delay: None, rate: None }
}

/// The job, and some runs of it, of which both workers get some.
fn runs_of(shape: JobShape) -> Vec<Step> {
    let put = Step { at: 500, event: Event::Put(0, shape) };
    let trigger = |n: i64| Step { at: 2_000 + n, event: Event::Trigger(0) };
    std::iter::once(put).chain((0..6).map(trigger)).collect()
}

fn holds(scale: Scale, mut script: Vec<Step>) {
    script.sort_by_key(|step| step.at);
    if let Err(problem) = run(&setup(scale), &script) {
        panic!("{problem}");
    }
}

/// Every wall clock is two hours ahead, and after a full stop so is cluster time.
fn clocks_jump(at: i64) -> Vec<Step> {
    let jump = |node| Step { at, event: Event::Clock { node, by: 2 * HOUR } };
    let mut steps: Vec<Step> = (0..NODES).map(jump).collect();
    steps.push(Step { at: at + 10, event: Event::FullStop(2_000) });
    steps
}

#[test]
fn a_long_lease_allows_for_clocks_that_run_apart() {
    let mut script = runs_of(by_hand(4 * HOUR));
    // Cluster time leans forward as much as it may, and the worker is away.
    let jump = |node| Step { at: 3_000, event: Event::Clock { node, by: 9 * HOUR } };
    script.extend((0..NODES).map(jump));
    script.push(Step { at: 10 * MINUTE, event: Event::Cut(0, None, 6 * HOUR) });
    holds(Scale::Days, script);
}

#[test]
fn a_long_time_out_allows_for_clocks_that_run_apart() {
    let timeout = Some(20 * HOUR);
    let shape = JobShape { timeout, takes: 90 * HOUR, retries: 1, ..by_hand(3 * MINUTE) };
    let mut script = runs_of(shape);
    let jump = |node| Step { at: 3_000, event: Event::Clock { node, by: 90 * HOUR } };
    script.extend((0..NODES).map(jump));
    holds(Scale::Days, script);
}

/// The shim is told what is left of a run, and the cluster's own copy of that comes
/// behind it, whatever clocks do.
#[test]
fn a_runs_time_out_allows_for_clocks_that_run_apart() {
    let run_limit = Some(20 * HOUR);
    let shape = JobShape { run_limit, takes: 90 * HOUR, ..by_hand(3 * MINUTE) };
    let mut script = runs_of(shape);
    let jump = |node| Step { at: 3_000, event: Event::Clock { node, by: 90 * HOUR } };
    script.extend((0..NODES).map(jump));
    holds(Scale::Days, script);
    let shape = JobShape { run_limit: Some(10 * MINUTE), ..by_hand(MINUTE) };
    let mut script = runs_of(shape);
    script.extend(clocks_jump(20_000));
    holds(Scale::Minutes, script);
}

#[test]
fn nothing_expires_before_a_new_leader_has_begun() {
    let mut script = runs_of(by_hand(MINUTE));
    script.extend(clocks_jump(20_000));
    // Somebody writes before the new leader's term is committed.
    script.push(Step { at: 21_900, event: Event::Trigger(0) });
    holds(Scale::Minutes, script);
}

#[test]
fn a_lock_is_kept_when_cluster_time_is_set_anew() {
    let lock = Event::Lock { name: 0, slots: 1, ttl: MINUTE, hold: 3 * MINUTE, wait: 0 };
    let mut script = vec![Step { at: 10_000, event: lock }];
    script.extend(clocks_jump(20_000));
    holds(Scale::Minutes, script);
}

#[test]
fn a_time_out_is_not_over_because_cluster_time_was_set_anew() {
    let shape = JobShape { timeout: Some(10 * MINUTE), ..by_hand(MINUTE) };
    let mut script = runs_of(shape);
    script.extend(clocks_jump(20_000));
    holds(Scale::Minutes, script);
}

/// The order to begin comes when its dispatch has long been dated, and the time-out
/// that the cluster keeps itself counts from that date.
#[test]
fn a_dispatch_that_was_long_under_way_begins_nothing() {
    let shape = JobShape { timeout: Some(2_500), takes: 5_000, ..by_hand(5_000) };
    for long in (15_000..25_000).step_by(250) {
        let mut script = runs_of(shape.clone());
        script.push(Step { at: 1_500, event: Event::StallAt(Moment::Dispatch, long) });
        holds(Scale::Minutes, script);
    }
}

/// A worker that lost its folder knows nothing of the processes that run on there, and
/// cannot say that they are gone.
#[test]
fn a_worker_that_lost_its_folder_is_not_told_to_cancel_what_it_never_knew() {
    let mut script = runs_of(by_hand(MINUTE));
    script.push(Step { at: 10_000, event: Event::Wipe(0, 3_000) });
    script.extend((0..6).map(|n| Step { at: 20_000, event: Event::Cancel(n) }));
    holds(Scale::Minutes, script);
}

#[test]
fn a_day_without_a_leader_is_made_up_for() {
    let trigger = each(Field::List(&[0]), Field::Step(0, 5));
    let shape = JobShape { triggers: vec![trigger], takes: 100, ..by_hand(3 * MINUTE) };
    let script = vec![
        Step { at: 500, event: Event::Put(0, shape) },
        Step { at: HOUR, event: Event::FullStop(20 * HOUR) },
    ];
    holds(Scale::Days, script);
}

/// Each tenth second, and when nobody can run it, it waits.
fn each_ten_seconds() -> JobShape {
    let trigger = each(Field::Step(0, 10), Field::Any);
    JobShape { triggers: vec![trigger], takes: 1, ..by_hand(5_000) }
}

#[test]
fn what_waits_for_an_action_that_is_skipped_is_skipped_with_it() {
    let down = JobShape { ups: vec![0], takes: 1, ..by_hand(5_000) };
    let further = JobShape { ups: vec![1], ..down.clone() };
    let script = vec![
        Step { at: 500, event: Event::Put(0, each_ten_seconds()) },
        Step { at: 600, event: Event::Put(1, down) },
        Step { at: 700, event: Event::Put(2, further) },
        Step { at: 15_000, event: Event::Cut(0, None, 40_000) },
        Step { at: 15_000, event: Event::Cut(1, None, 40_000) },
        // What waits already goes on waiting when its job no longer depends on anything.
        Step { at: 33_000, event: Event::Put(2, each_ten_seconds()) },
        Step { at: 35_000, event: Event::Delete(1) },
    ];
    holds(Scale::Minutes, script);
}

/// What a dependant was planned to is refused, because somebody touched its upstream
/// just before; then there is nothing to plan for it, until the upstream is planned.
#[test]
fn a_dependant_is_planned_on_after_its_plan_was_refused() {
    let mut shape = by_hand(5_000);
    (shape.noop, shape.takes) = (true, 1);
    let trigger = each(Field::Step(0, 2), Field::Any);
    let up = JobShape { triggers: vec![trigger], ..shape.clone() };
    let down = JobShape { ups: vec![0], ..shape };
    let mut script = vec![
        Step { at: 500, event: Event::Put(0, up) },
        Step { at: 600, event: Event::Put(1, down) },
    ];
    let race = |n: i64| Step { at: 20_000 * n, event: Event::Race(Moment::Plan, 0) };
    script.extend((1..9).map(race));
    holds(Scale::Minutes, script);
}

/// Of each policy, and each kind of rule; at rest, so that what they do is exact.
fn of_every_kind(misfire: Misfire) -> JobShape {
    let mut bounded = each(Field::Step(0, 20), Field::Any);
    bounded.bound = Some(0);
    let mut rate = each(Field::List(&[0]), Field::List(&[0]));
    rate.rate = Some((setup(Scale::Minutes).start - 7_000, 7_000));
    let cron = each(Field::Step(0, 15), Field::Any);
    let triggers = [cron, bounded, rate].map(|t| TriggerShape { misfire, ..t });
    JobShape { triggers: triggers.to_vec(), noop: true, takes: 1, ..by_hand(5_000) }
}

fn left_out(at: i64) -> Step {
    Step { at, event: Event::Calendar(0, LeftOut::Times(0, 600)) }
}

#[test]
fn each_policy_is_kept_by_every_kind_after_a_pause_and_after_an_outage() {
    for misfire in [Misfire::All, Misfire::Now, Misfire::Skip] {
        let put = Step { at: 500, event: Event::Put(0, of_every_kind(misfire)) };
        let outage = Step { at: 20_000, event: Event::FullStop(150_000) };
        holds(Scale::Minutes, vec![left_out(100), put.clone(), outage]);
        for what in [None, Some(0)] {
            let mut shape = of_every_kind(misfire);
            shape.group = Some(0);
            let script = vec![
                left_out(100),
                Step { at: 500, event: Event::Put(0, shape) },
                Step { at: 20_000, event: Event::Hold(what) },
                Step { at: 170_000, event: Event::GoOn(what, true) },
            ];
            holds(Scale::Minutes, script);
        }
        let script = vec![
            left_out(100),
            put,
            Step { at: 20_000, event: Event::OneTrigger(0, 0, false) },
            Step { at: 170_000, event: Event::OneTriggerLate(0, 0) },
        ];
        holds(Scale::Minutes, script);
    }
}

/// The planner has looked, and its cursors stand where they stood; but what it saw is
/// not what there is.
#[test]
fn what_was_computed_under_an_older_calendar_is_not_planned() {
    let mut trigger = each(Field::Step(0, 10), Field::Any);
    trigger.bound = Some(0);
    let shape = JobShape { triggers: vec![trigger], noop: true, takes: 1, ..by_hand(5_000) };
    let script = vec![
        Step { at: 100, event: Event::Calendar(0, LeftOut::Times(80_000, 80_010)) },
        Step { at: 400, event: Event::RaceCalendar(0) },
        Step { at: 500, event: Event::Put(0, shape) },
    ];
    holds(Scale::Minutes, script);
}

/// Its cursor stands where it stood when it was paused: the planner must hear of it.
#[test]
fn a_trigger_that_goes_on_where_it_stopped_is_planned_again() {
    let trigger = each(Field::Step(0, 10), Field::Any);
    let shape = JobShape { triggers: vec![trigger], noop: true, takes: 1, ..by_hand(5_000) };
    let script = vec![
        Step { at: 500, event: Event::Put(0, shape) },
        Step { at: 20_000, event: Event::OneTrigger(0, 0, false) },
        Step { at: 40_000, event: Event::OneTriggerLate(0, 0) },
    ];
    holds(Scale::Minutes, script);
}
