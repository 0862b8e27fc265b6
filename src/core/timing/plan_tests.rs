//! Planning one source: windows, late instants by policy, cuts, dependencies.

use std::sync::Arc;

use super::*;
use crate::ids::Name;
use crate::model::calendar::{CalendarDef, CalendarRule};
use crate::model::job::{TriggerKind, TriggerSpec};
use crate::model::trigger::{Dialect, DstPolicy, RuleSpec, TriggerRule};
use crate::timing::cron::CronExpr;
use crate::timing::schedule::Context;
use crate::timing::zone::Zone;

const NOW: UtcMillis = UtcMillis(1_795_230_000_000);

fn schedule(cron: &str) -> Schedule {
    Schedule::cron(CronExpr::parse(cron).unwrap(), Zone::UTC)
}

fn plan(cron: &str, misfire: MisfirePolicy, from: UtcMillis, now: UtcMillis) -> Plan {
    plan_within(cron, misfire, from, now, Limits::new(Span::secs(60)))
}

fn plan_within(
    cron: &str,
    misfire: MisfirePolicy,
    from: UtcMillis,
    now: UtcMillis,
    limits: Limits,
) -> Plan {
    let source = TriggerSource {
        job: JobId(7),
        revision: Revision(2),
        trigger: &TriggerName(Arc::from("t")),
        schedule: &schedule(cron),
        misfire,
    };
    let plan = plan_trigger(source, from, now, limits);
    if let Some(batch) = &plan.batch {
        check(batch);
    }
    plan
}

/// What every batch promises.
fn check(batch: &PlanBatch) {
    assert!(batch.through > batch.from, "a batch moves the cursor");
    assert!(batch.actions.is_sorted_by(|a, b| a.nominal < b.nominal));
    let first = batch.missed.as_ref().map_or(batch.from, |m| m.to);
    assert!(batch.actions.iter().all(|a| a.nominal > first && a.nominal <= batch.through));
    assert!(batch.actions.iter().all(|a| a.due == a.nominal));
}

fn late(batch: &PlanBatch, now: UtcMillis) -> (usize, usize, u64) {
    let catch_up = batch.actions.iter().filter(|a| a.catch_up).count();
    let late = batch.actions.iter().filter(|a| a.nominal <= now).count() - catch_up;
    (catch_up, late, batch.missed.as_ref().map_or(0, |m| m.count))
}

#[test]
fn the_window_holds_at_least_the_next() {
    // NOW is 03:00:00: the next yearly one lies far ahead.
    let p = plan("0 0 0 1 1 ?", MisfirePolicy::FireAll, NOW, NOW);
    let batch = p.batch.unwrap();
    assert_eq!(batch.actions.len(), 1);
    assert_eq!(batch.through.to_string(), "2027-01-01T00:00:00Z");
    assert_eq!(p.again, Some(batch.through));
    // Asked again before that: nothing.
    let p = plan("0 0 0 1 1 ?", MisfirePolicy::FireAll, batch.through, NOW);
    assert_eq!((p.batch, p.again), (None, Some(batch.through)));
}

#[test]
fn the_window_is_long_or_full_and_filled_in_time() {
    for (cron, least) in [("0 * * * * ?", 15), ("* * * * * ?", 32), ("0/20 * * * * ?", 32)] {
        let rules = schedule(cron);
        let (mut from, mut now, mut batches) = (NOW, NOW, 0);
        while now < NOW.plus(Span::secs(1800)) {
            let p = plan(cron, MisfirePolicy::Skip, from, now);
            if let Some(batch) = p.batch {
                assert_eq!(late(&batch, now), (0, 0, 0), "{cron}: nothing may be late");
                from = batch.through;
                batches += 1;
            }
            let again = p.again.unwrap();
            assert!(again > now, "{cron} at {now}");
            // Just before it is asked again the window still holds what it must.
            let before = UtcMillis(again.0 - 1);
            let ahead = rules.after(before).take_while(|t| *t <= from).count();
            assert!((least..=64).contains(&ahead), "{cron}: {ahead} ahead");
            assert_eq!(plan(cron, MisfirePolicy::Skip, from, before).batch, None);
            now = again;
        }
        assert!(batches <= 70, "{cron}: {batches} batches in half an hour");
    }
}

#[test]
fn every_kind_is_planned_from_its_cursor_and_starts_by_its_jitter() {
    let trigger = |rule, jitter| TriggerSpec {
        name: TriggerName(Arc::from("t")),
        kind: TriggerKind::Rule(Box::new(RuleSpec {
            jitter,
            anchor: Some(NOW.minus(Span::secs(100))),
            ..RuleSpec::new(rule)
        })),
        zone: None,
        misfire: MisfirePolicy::FireAll,
        enabled: true,
    };
    let every = TriggerRule::Interval { every: Span::secs(240), repeats: Some(3) };
    let once = TriggerRule::Once { at: NOW.plus(Span::secs(7)) };
    for (rule, jitter, offsets) in [
        (every.clone(), Span::ZERO, vec![140, 380, 620]),
        (every, Span::secs(60), vec![140, 380, 620]),
        (once, Span::secs(3600), vec![7]),
    ] {
        let spec = trigger(rule, jitter);
        let schedule = Schedule::of(&spec, None, "UTC").unwrap();
        let source = TriggerSource {
            job: JobId(7),
            revision: Revision(2),
            trigger: &spec.name,
            schedule: &schedule,
            misfire: MisfirePolicy::FireAll,
        };
        let batch = plan_trigger(source, NOW, NOW, Limits::new(Span::secs(60))).batch.unwrap();
        let found: Vec<u64> =
            batch.actions.iter().map(|action| action.nominal.since(NOW).0 / 1000).collect();
        assert_eq!(found, offsets, "{spec:?}");
        for action in &batch.actions {
            assert!(action.due >= action.nominal && action.due <= action.nominal.plus(jitter));
            assert_eq!(action.due, schedule.due(action.nominal));
        }
        // All of them are planned: what follows the last is nothing.
        let rest = plan_trigger(source, batch.through, NOW, Limits::new(Span::secs(60)));
        assert_eq!(rest, Plan::NEVER);
    }
}

#[test]
fn late_but_not_missed_is_simply_late() {
    let from = NOW.minus(Span::secs(60));
    for policy in [MisfirePolicy::FireAll, MisfirePolicy::FireNow, MisfirePolicy::Skip] {
        let batch = plan("0/10 * * * * ?", policy, from, NOW).batch.unwrap();
        assert_eq!(late(&batch, NOW), (0, 6, 0), "{policy:?}");
        // One second later the oldest three of 63, 73 and so on would be missed.
        let late_from = NOW.minus(Span::secs(90));
        let batch = plan("0/10 * * * * ?", policy, late_from, NOW).batch.unwrap();
        let wanted = match policy {
            MisfirePolicy::FireAll => (2, 7, 0),
            MisfirePolicy::FireNow => (1, 7, 1),
            MisfirePolicy::Skip => (0, 7, 2),
        };
        assert_eq!(late(&batch, NOW), wanted, "{policy:?}");
    }
}

#[test]
fn misfires_are_bounded_and_recorded() {
    let two_days = NOW.minus(Span::secs(2 * 86_400));
    // Hourly: 48 late ones, the one at NOW is not missed; 24 h are run.
    let batch = plan("0 0 * * * ?", MisfirePolicy::FireAll, two_days, NOW).batch.unwrap();
    assert_eq!(late(&batch, NOW), (24, 1, 23));
    let missed = batch.missed.unwrap();
    assert_eq!((missed.job, missed.at, missed.reason), (JobId(7), NOW, MissedReason::FireAll));
    assert_eq!(missed.from, two_days.plus(Span::secs(3600)));
    assert_eq!(missed.to, NOW.minus(Span::secs(25 * 3600)));
    // Each minute: the latest 1,000.
    let batch = plan("0 * * * * ?", MisfirePolicy::FireAll, two_days, NOW).batch.unwrap();
    assert_eq!(late(&batch, NOW), (1000, 2, 2880 - 1002));
    let batch = plan("0 0 * * * ?", MisfirePolicy::FireNow, two_days, NOW).batch.unwrap();
    assert_eq!(late(&batch, NOW), (1, 1, 46));
    assert_eq!(batch.actions[0].nominal, NOW.minus(Span::secs(3600)));
}

#[test]
fn long_outages_are_worked_off_in_pieces() {
    for (policy, fired) in
        [(MisfirePolicy::FireAll, 1000), (MisfirePolicy::FireNow, 1), (MisfirePolicy::Skip, 0)]
    {
        let start = NOW.minus(Span::secs(120_000));
        let (mut from, mut calls, mut missed, mut run) = (start, 0, 0, 0);
        loop {
            let p = plan("* * * * * ?", policy, from, NOW);
            let batch = p.batch.expect("each call gets on");
            let (catch_up, late, dropped) = late(&batch, NOW);
            missed += dropped;
            run += catch_up + late;
            from = batch.through;
            calls += 1;
            if p.again.unwrap() > NOW {
                break;
            }
        }
        // 61 seconds are late without being missed, NOW included.
        assert_eq!((run, missed), (fired + 61, 120_000 - fired as u64 - 61), "{policy:?}");
        assert_eq!(calls, 3, "{policy:?}");
    }
}

#[test]
fn a_batch_that_is_cut_goes_on_where_it_ended() {
    let limits = Limits { max_actions: 10, ..Limits::new(Span::secs(60)) };
    let (mut from, mut all) = (NOW.minus(Span::secs(3600)), Vec::new());
    loop {
        let p = plan_within("0 * * * * ?", MisfirePolicy::FireAll, from, NOW, limits);
        let Some(batch) = p.batch else {
            assert!(p.again.unwrap() > NOW);
            break;
        };
        assert!(batch.actions.len() <= 10);
        from = batch.through;
        all.extend(batch.actions.iter().map(|a| a.nominal));
    }
    // 60 late ones and 20 minutes ahead, none twice.
    let wanted: Vec<UtcMillis> =
        schedule("0 * * * * ?").after(NOW.minus(Span::secs(3600))).take(all.len()).collect();
    assert_eq!(all, wanted);
    assert!((75..=80).contains(&all.len()), "{}", all.len());
}

/// A cron without what another one matches.
fn without(cron: &str, excluded: &str) -> Schedule {
    let dialect = Dialect::Quartz;
    let name = Name::new("c").unwrap();
    let calendar = CalendarDef {
        name: name.clone(),
        description: String::new(),
        zone: None,
        rule: CalendarRule::Cron { expression: excluded.to_owned(), dialect },
        include_only: false,
        base: None,
    };
    let rule = TriggerRule::Cron { expression: cron.to_owned(), dialect };
    let trigger = TriggerSpec {
        name: TriggerName(Arc::from("t")),
        kind: TriggerKind::Rule(Box::new(RuleSpec {
            calendars: vec![name],
            ..RuleSpec::new(rule)
        })),
        zone: None,
        misfire: MisfirePolicy::FireAll,
        enabled: true,
    };
    let calendars = |_: &Name| Some(&calendar);
    let context = Context {
        job: JobId(7),
        job_zone: None,
        default_zone: "UTC",
        anchor: NOW,
        calendars: &calendars,
    };
    Schedule::read(&trigger, context).unwrap()
}

fn planned_by(schedule: &Schedule, from: UtcMillis, now: UtcMillis) -> Plan {
    let source = TriggerSource {
        job: JobId(7),
        revision: Revision(2),
        trigger: &TriggerName(Arc::from("t")),
        schedule,
        misfire: MisfirePolicy::FireAll,
    };
    plan_trigger(source, from, now, Limits::new(Span::secs(60)))
}

#[test]
fn a_trigger_that_is_always_left_out_is_not_looked_through_for_ever() {
    let never = without("30 * * * * ?", "20-39 * * * * ?");
    // Late or not: it goes about a day ahead, with nothing to run.
    for from in [NOW.minus(Span::secs(7_200)), NOW] {
        let (mut from, mut now) = (from, NOW);
        for _ in 0..20 {
            let p = planned_by(&never, from, now);
            let (batch, again) = (p.batch.unwrap(), p.again.unwrap());
            check(&batch);
            assert!(batch.actions.is_empty() && batch.missed.is_none());
            let ahead = batch.through.since(now.plus(Limits::AHEAD));
            assert!(ahead > Span::secs(20 * 3600) && ahead < Span::secs(30 * 3600), "{ahead}");
            // Until then there is nothing to propose, whoever asks.
            let soon = now.plus(Span::secs(3600));
            let p = planned_by(&never, batch.through, soon);
            assert_eq!((p.batch, p.again), (None, Some(again)));
            (from, now) = (batch.through, again);
        }
    }
}

#[test]
fn the_second_pass_is_planned_when_the_planner_comes_back_in_the_first() {
    let rule =
        TriggerRule::Cron { expression: "0 0/30 * * * ?".to_owned(), dialect: Dialect::Quartz };
    let trigger = TriggerSpec {
        name: TriggerName(Arc::from("t")),
        kind: TriggerKind::Rule(Box::new(RuleSpec {
            dst: DstPolicy::Quartz,
            ..RuleSpec::new(rule)
        })),
        zone: Some("Europe/Berlin".to_owned()),
        misfire: MisfirePolicy::FireAll,
        enabled: true,
    };
    let schedule = Schedule::of(&trigger, None, "UTC").unwrap();
    let at = |text: &str| UtcMillis(text.parse::<jiff::Timestamp>().unwrap().as_millisecond());
    // At 02:45 in the first pass; the last plan ended before it.
    let p = planned_by(&schedule, at("2024-10-26T23:30:00Z"), at("2024-10-27T00:45:00Z"));
    assert_eq!(p.batch.unwrap().actions[0].nominal.to_string(), "2024-10-27T01:00:00Z");
}

#[test]
fn what_lies_behind_much_that_is_left_out_is_planned_in_time() {
    let december = without("30 * * * * ?", "20-39 * * ? 1-11 *");
    let (mut from, mut now, mut looks) = (NOW, NOW, 0);
    let first = loop {
        let p = planned_by(&december, from, now);
        looks += 1;
        let batch = p.batch.unwrap();
        check(&batch);
        if let Some(first) = batch.actions.first() {
            break first.nominal;
        }
        (from, now) = (batch.through, p.again.unwrap());
    };
    assert_eq!(first.to_string(), "2026-12-01T00:00:30Z");
    assert!(now < first, "planned at {now}");
    assert!((5..20).contains(&looks), "{looks} days without one");
}

#[test]
fn what_never_fires_again_is_left_alone() {
    let p = plan("0 0 0 * * ? 2020", MisfirePolicy::FireAll, NOW, NOW);
    assert_eq!(p, Plan::NEVER);
    // The last instant of all is planned, and nothing is asked for again.
    let p = plan("0 0 4 21 11 ? 2026", MisfirePolicy::FireAll, NOW, NOW);
    assert_eq!((p.batch.unwrap().actions.len(), p.again), (1, None));
}

fn upstream_action(second: i64) -> UpstreamAction {
    let nominal = UtcMillis(second * 1000);
    UpstreamAction { nominal, due: nominal, catch_up: false }
}

#[test]
fn dependants_wait_for_the_same_time_of_all() {
    let mut a: Vec<UpstreamAction> = [10, 20, 30, 40, 50].map(upstream_action).to_vec();
    let mut b: Vec<UpstreamAction> = [20, 25, 40, 50].map(upstream_action).to_vec();
    b[0].due = UtcMillis(20_500);
    a[3].catch_up = true;
    let upstream = [
        UpstreamActions { job: JobId(1), through: UtcMillis(50_000), actions: &a },
        UpstreamActions { job: JobId(2), through: UtcMillis(45_000), actions: &b },
    ];
    let batch = derive(JobId(3), Revision(1), &upstream, UtcMillis(10_000), 10).unwrap();
    assert_eq!((batch.from, batch.through), (UtcMillis(10_000), UtcMillis(40_000)));
    assert_eq!(batch.source, PlanSource::Dependencies);
    let rows: Vec<(i64, i64, bool)> =
        batch.actions.iter().map(|a| (a.nominal.0, a.due.0, a.catch_up)).collect();
    assert_eq!(rows, [(20_000, 20_500, false), (40_000, 40_000, true)]);
    let keys = [1, 2].map(|job| ActionKey { job: JobId(job), nominal: UtcMillis(20_000) });
    assert_eq!(batch.actions[0].upstream, keys);
    // Cut after one: the cursor stays before the next.
    let batch = derive(JobId(3), Revision(1), &upstream, UtcMillis(10_000), 1).unwrap();
    assert_eq!((batch.actions.len(), batch.through), (1, UtcMillis(30_000)));
    // Nothing new, and no upstream at all.
    assert_eq!(derive(JobId(3), Revision(1), &upstream, UtcMillis(40_000), 10), None);
    assert_eq!(derive(JobId(3), Revision(1), &[], UtcMillis(0), 10), None);
}
