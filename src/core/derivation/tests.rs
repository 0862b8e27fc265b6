//! What each rule says, by examples around 15 March 2024, a Friday.

use super::plans::{Memo, Plans};
use super::support::{Jobs, Made};
use super::{Error, MAX_INSTANTS};
use crate::ids::JobId;
use crate::model::edge::Matching::*;
use crate::model::edge::{EdgeSpec, OnNoMatch, PeriodUnit};

const DAY: &str = "2024-03-15";

fn load() -> Made {
    Made::new("load").cron("0 0 2 * * ?")
}

fn hourly(hours: &str) -> Made {
    Made::new("hourly").cron(&format!("0 0 {hours} * * ?"))
}

#[test]
fn the_latest_may_lie_in_another_period_and_may_be_of_the_same_instant() {
    let report = Made::new("report").after("load", LatestBefore).after("hourly", Nearest);
    let jobs = Jobs::new(&[load(), hourly("1-3"), report]);
    // An hourly job that needs a daily one is no longer held down to once a day.
    assert_eq!(
        jobs.day("report", DAY),
        [
            "15T0100 hourly@15T0100 load@14T0200",
            "15T0200 hourly@15T0200 load@15T0200",
            "15T0300 hourly@15T0300 load@15T0200",
        ]
    );
}

#[test]
fn all_of_this_period_and_all_of_the_one_before() {
    let report = Made::new("report").after("hourly", AllInPeriod).after("hourly2", PreviousPeriod);
    let report = report.after("load", Nearest);
    let mut second = hourly("5,6");
    second.spec.name = crate::ids::Name::new("hourly2").unwrap();
    let jobs = Jobs::new(&[load(), hourly("1-3"), second, report]);
    assert_eq!(
        jobs.day("report", DAY),
        ["15T0200 load@15T0200 hourly@15T0100,15T0200,15T0300 hourly2@14T0500,14T0600"]
    );
}

#[test]
fn the_first_edge_is_the_base_where_none_may_be_chosen_and_a_mark_wins() {
    let report = || Made::new("report").after("hourly", PreviousPeriod);
    let jobs = Jobs::new(&[load(), hourly("1-2"), report().after("load", LatestBefore)]);
    assert_eq!(
        jobs.day("report", DAY),
        [
            "15T0100 hourly@14T0100,14T0200 load@14T0200",
            "15T0200 hourly@14T0100,14T0200 load@15T0200",
        ]
    );
    let jobs = Jobs::new(&[load(), hourly("1-2"), report().base("load", AllInPeriod)]);
    assert_eq!(jobs.day("report", DAY), ["15T0200 load@15T0200 hourly@14T0100,14T0200"]);
    // The most instead of the fewest, because it is marked.
    let report = Made::new("report").after("load", Nearest).base("hourly", Nearest);
    let jobs = Jobs::new(&[load(), hourly("1-2"), report]);
    assert_eq!(
        jobs.day("report", DAY),
        ["15T0100 hourly@15T0100 load@15T0200", "15T0200 hourly@15T0200 load@15T0200",]
    );
}

#[test]
fn a_job_with_triggers_has_their_instants_and_no_others() {
    let report = || Made::new("report").cron("0 0 2,3 * * ?").cron("0 0 3 * * ?");
    let monthly = Made::new("monthly").cron("0 0 0 1 * ?");
    let jobs = [load(), monthly, report()];
    assert_eq!(Jobs::new(&jobs).day("report", DAY), ["15T0200", "15T0300"]);
    let with = |edge: Made| Jobs::new(&[load(), jobs[1].clone(), edge]).day("report", DAY);
    let near = with(report().after("load", Nearest));
    assert_eq!(near, ["15T0200 load@15T0200", "15T0300 load@15T0200"]);
    assert_eq!(with(report().after("load", SameTime)), ["15T0200 load@15T0200"]);
    assert_eq!(with(report().after("monthly", Nearest)), [""; 0]);
    let older = with(report().after("monthly", LatestBefore));
    assert_eq!(older, ["15T0200 monthly@01T0000", "15T0300 monthly@01T0000"]);
}

#[test]
fn an_edge_without_a_match_does_what_it_says() {
    let word = |on_no_match| {
        let edge = EdgeSpec { matching: AllInPeriod, on_no_match, ..EdgeSpec::new(JobId(0)) };
        let report = Made::new("report").after("load", Nearest).edge("monthly", edge);
        let monthly = Made::new("monthly").cron("0 0 0 1 * ?");
        Jobs::new(&[load(), monthly, report]).day("report", DAY).concat()
    };
    assert_eq!(word(None), "15T0200 load@15T0200 monthly:no_upstream");
    assert_eq!(word(Some(OnNoMatch::Wait)), "15T0200 load@15T0200 monthly:wait");
    assert_eq!(word(Some(OnNoMatch::Skip)), "15T0200 load@15T0200 monthly:skip");
}

#[test]
fn a_job_may_wait_for_its_own_earlier_actions() {
    let own = |matching| Made::new("own").cron("0 0 3,4 15-17 3 ? 2024").after("own", matching);
    let jobs = Jobs::new(&[own(PreviousPeriod)]);
    assert_eq!(jobs.day("own", DAY), ["15T0300 own:no_upstream", "15T0400 own:no_upstream"]);
    assert_eq!(
        jobs.day("own", "2024-03-16"),
        ["16T0300 own@15T0300,15T0400", "16T0400 own@15T0300,15T0400"]
    );
    let jobs = Jobs::new(&[own(LatestBefore)]);
    assert_eq!(jobs.day("own", DAY), ["15T0300 own:no_upstream", "15T0400 own@15T0300"]);
    assert_eq!(jobs.day("own", "2024-03-16")[0], "16T0300 own@15T0400");
    // A derived one, too, and without an end to it the past is not asked for for ever.
    let report = Made::new("report").after("report", LatestBefore).after("load", Nearest);
    let jobs = Jobs::new(&[load(), report]);
    assert_eq!(jobs.day("report", DAY), ["15T0200 load@15T0200 report@14T0200"]);
    assert!(Jobs::new(&[own(Nearest)]).ask(|plans| plans.job(JobId(1)).is_err()));
}

#[test]
fn an_upstream_action_belongs_to_the_dependants_period() {
    // The 15th in Tokyo ends at 15:00 in UTC.
    let report = || Made::new("report").zone("Asia/Tokyo");
    let jobs = Jobs::new(&[hourly("14,15"), report().after("hourly", Nearest)]);
    assert_eq!(jobs.day("report", DAY), ["14T1500 hourly@14T1500", "15T1400 hourly@15T1400",]);
    // Seen through a job that thinks in another zone, it is the same.
    let between = Made::new("between").zone("America/New_York").after("hourly", Nearest);
    let jobs = Jobs::new(&[hourly("14,15"), between, report().after("between", Nearest)]);
    assert_eq!(jobs.day("report", DAY), ["14T1500 between@14T1500", "15T1400 between@15T1400",]);
    // By the hour there is one of each; the base is chosen in each hour anew.
    let report = Made::new("report").period(PeriodUnit::Hour);
    let other = Made::new("other").cron("0 30 1-2 * * ?").cron("0 45 2 * * ?");
    let hourly = Made::new("hourly").cron("0 0,10 1 * * ?").cron("0 0 2 * * ?");
    let jobs = Jobs::new(&[hourly, other, report.after("hourly", Nearest).after("other", Nearest)]);
    assert_eq!(
        jobs.day("report", DAY),
        ["15T0130 other@15T0130 hourly@15T0110", "15T0200 hourly@15T0200 other@15T0230",]
    );
    // And a week begins on Monday.
    let weekly = Made::new("weekly").cron("0 0 4 ? * MON");
    let report = Made::new("report").cron("0 0 5 ? * FRI").period(PeriodUnit::Week);
    let jobs = Jobs::new(&[weekly, report.after("weekly", Nearest)]);
    assert_eq!(jobs.day("report", DAY), ["15T0500 weekly@11T0400"]);
}

#[test]
fn days_of_23_and_25_hours_hold_what_the_clock_shows() {
    let hourly = Made::new("hourly").cron("0 0 * * * ?").zone("Europe/Berlin");
    let report = Made::new("report").after("hourly", AllInPeriod).zone("Europe/Berlin");
    let jobs = Jobs::new(&[hourly, report]);
    for (day, hours) in [("2024-03-30", 24), ("2024-03-31", 23), ("2024-10-27", 25)] {
        assert_eq!(jobs.day("report", day).len(), hours, "{day}");
    }
}

#[test]
fn looking_back_has_an_end() {
    let report = |up: &str| Made::new("report").cron("0 0 3 * * ?").after(up, LatestBefore);
    let yearly = |year: &str| Made::new("up").cron(&format!("0 0 2 {year}"));
    let found = |up: Made| Jobs::new(&[up, report("up")]).day("report", DAY).concat();
    assert_eq!(found(yearly("16 3 ? 2023")), "15T0300 up@16T0200");
    assert_eq!(found(yearly("1 1 ? 2022")), "15T0300 up:no_upstream");
    // The same through a job whose instants others decide.
    let mid = || Made::new("mid").after("up", Nearest);
    let through = |up: Made| Jobs::new(&[up, mid(), report("mid")]).day("report", DAY).concat();
    assert_eq!(through(yearly("4 2 ? 2024")), "15T0300 mid@04T0200");
    assert_eq!(through(yearly("3 2 ? 2024")), "15T0300 mid:no_upstream");
    let months = || mid().period(PeriodUnit::Month);
    let through = |up: Made| Jobs::new(&[up, months(), report("mid")]).day("report", DAY).concat();
    assert_eq!(through(yearly("16 3 ? 2023")), "15T0300 mid@16T0200");
    assert_eq!(through(yearly("1 1 ? 2022")), "15T0300 mid:no_upstream");
}

#[test]
fn a_circle_is_refused_with_its_path() {
    let made = |name: &str, up: &str| Made::new(name).after(up, Nearest);
    let jobs = Jobs::new(&[made("d", "c"), made("c", "b"), made("b", "a"), made("a", "c")]);
    let error = jobs.ask(|plans| jobs.actions(plans, "d", DAY)).unwrap_err();
    let Error::Cycle { path } = &error else { panic!("{error:?}") };
    let path: Vec<&str> = path.iter().map(|name| name.as_str()).collect();
    assert_eq!(path.len(), 4);
    assert_eq!(path.first(), path.last());
    assert!(error.to_string().contains("c → b → a → c"), "{error}");
}

#[test]
fn what_was_computed_is_kept_until_it_is_forgotten() {
    let made = |hours| [hourly(hours), Made::new("report").after("hourly", Nearest)];
    let (before, after) = (Jobs::new(&made("1")), Jobs::new(&made("2")));
    let day = |jobs: &Jobs, memo: Memo| {
        jobs.ask(|plans| {
            let mut plans = Plans::with(plans.world, memo);
            let actions = jobs.actions(&mut plans, "report", DAY).unwrap();
            (actions.iter().map(|a| jobs.shown(a)).collect::<String>(), plans.into_memo())
        })
    };
    let (found, memo) = day(&before, Memo::default());
    assert_eq!(found, "15T0100 hourly@15T0100");
    let (found, mut memo) = day(&after, memo);
    assert_eq!(found, "15T0100 hourly@15T0100", "it does not look at what it knows");
    memo.forget(JobId(1));
    memo.forget(JobId(2));
    assert_eq!(day(&after, memo).0, "15T0200 hourly@15T0200");
}

#[test]
fn what_cannot_be_planned_says_why() {
    let ask = |jobs: &[Made], of: &str| {
        let jobs = Jobs::new(jobs);
        jobs.ask(|plans| jobs.actions(plans, of, DAY)).unwrap_err().to_string()
    };
    let report = Made::new("report").after("up", Nearest);
    let up = || Made::new("up");
    for (up, part) in [
        (up().cron("0 0 24 * * ?"), "job up: trigger \"t0\" is not valid"),
        (up().cron("0 0 3 * * ?").zone("Nowhere"), "the zone of job up is not valid"),
        (up().cron("* * * * * ?").period(PeriodUnit::Week), "more than 100000 instants"),
        (up().after("up", Nearest), "job up: depends_on[0] is not valid: a job can wait"),
    ] {
        let found = ask(&[up, report.clone()], "report");
        assert!(found.contains(part), "{found}");
    }
    assert_eq!(MAX_INSTANTS, 100_000, "as the message says");
    let missing = Jobs::new(&[]).ask(|plans| plans.periods(JobId(7)).map(|_| ())).unwrap_err();
    assert_eq!(missing, Error::NoSuchJob(JobId(7)));
}

#[test]
fn a_job_that_waits_for_an_end_has_no_instants_that_are_known() {
    use crate::model::job::TriggerKind;
    use crate::model::trigger::{RuleSpec, TriggerRule};
    let delay = crate::time::Span::secs(60);
    let rule = RuleSpec::new(TriggerRule::FixedDelay { delay });
    let mut up = Made::new("up").cron("x");
    up.spec.triggers[0].kind = TriggerKind::Rule(Box::new(rule));
    let jobs = Jobs::new(&[up, Made::new("report").after("up", Nearest)]);
    assert_eq!(jobs.day("report", DAY), [""; 0]);
}

#[test]
fn a_job_of_half_minutes_is_planned_in_whole_and_takes_no_other_with_it() {
    // hera's G16: two instants of one minute were one number, and the whole batch failed.
    let halves = Made::new("halves").cron("0/30 * * * * ?");
    let jobs = Jobs::new(&[halves, load(), Made::new("after").after("halves", Nearest)]);
    let found = jobs.day("halves", DAY);
    assert_eq!(
        (found.len(), &found[..3]),
        (2_880, &["15T0000", "15T0000", "15T0001"].map(Into::into)[..])
    );
    assert_eq!(jobs.day("load", DAY), ["15T0200"]);
    let after = jobs.day("after", DAY);
    assert_eq!((after.len(), after[2].as_str()), (2_880, "15T0001 halves@15T0001"));
}
