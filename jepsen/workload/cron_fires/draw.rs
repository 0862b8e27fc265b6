//! What is drawn: definitions of jobs with every kind of trigger, and calendars.
//!
//! A trigger whose rate hangs on something that only the cluster knows is the only one
//! of its job: what ran tells which rate it was.

use std::time::Duration;

use rand::Rng;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha12Rng;
use serde_json::{Value, json};

use super::super::Ctx;
use crate::time::{Stamp, shown};

/// Expressions, the frequent ones more often.
const CRONS: [&str; 9] = [
    "* * * * * ?",
    "* * * * * ?",
    "0/2 * * * * ?",
    "1/2 * * * * ?",
    "0/5 * * * * ?",
    "3/10 * * * * ?",
    "0,7,31 * * * * ?",
    "52-8 * * * * ?",
    "30 * * * * ?",
];
const UNIX: [&str; 3] = ["* * * * *", "*/2 * * * *", "@hourly"];
const ZONES: [Option<&str>; 5] = [
    None,
    Some("Europe/Berlin"),
    Some("Asia/Kolkata"),
    Some("America/New_York"),
    Some("Australia/Lord_Howe"),
];
/// How long a job runs, in milliseconds; the longest is longer than many intervals.
const LIVES: [u64; 5] = [0, 0, 0, 300, 2_500];
/// Groups; jobs of some numbers are in none.
const GROUPS: [Option<&str>; 4] = [Some("etl"), Some("etl/nightly"), None, None];
/// Calendars that triggers name.
pub(super) const CALENDARS: [&str; 4] = ["cal-seconds", "cal-days", "cal-times", "cal-chain"];

fn one<T: Copy>(rng: &mut ChaCha12Rng, from: &[T]) -> T {
    *from.choose(rng).unwrap_or(&from[0])
}

/// An instant so many seconds from now, in whole seconds.
fn from_now(seconds: i64) -> i64 {
    let now = Stamp::now().utc;
    (now - now.rem_euclid(1000)).saturating_add(seconds * 1_000)
}

/// A time of day in UTC, so many seconds from now.
fn time_of_day(seconds: i64) -> String {
    let text = shown(from_now(seconds));
    text.get(11..19).unwrap_or("00:00:00").to_owned()
}

/// The group that jobs of this number are in.
pub(super) fn group(n: u32) -> Option<&'static str> {
    GROUPS[n as usize % GROUPS.len()]
}

/// A job's definition.
pub(super) fn job(
    ctx: &Ctx,
    name: &str,
    group: Option<&str>,
    witnessed: bool,
    rng: &mut ChaCha12Rng,
) -> Value {
    let ms = one(rng, &LIVES);
    let options = [("ms", ms.to_string()), ("tick", "100".to_owned())];
    let mut job = json!({"name": name, "on_worker_lost": "rerun"});
    job["triggers"] = if rng.random_bool(0.25) {
        json!([lonely(rng)])
    } else {
        let mut triggers = vec![trigger("t0", rng)];
        if rng.random_bool(0.3) {
            // Two on one instant make one action.
            triggers.push(trigger("t1", rng));
        }
        json!(triggers)
    };
    if witnessed {
        job["exec"] = ctx.exec(&options);
    } else {
        job["noop"] = json!(true);
    }
    if rng.random_bool(0.3) {
        // The shortest there is: a lost worker is noticed within a test.
        job["lease"] = json!("10s");
    }
    if let Some(zone) = one(rng, &ZONES) {
        job["zone"] = json!(zone);
    }
    if let Some(group) = group {
        job["group"] = json!(group);
    }
    job
}

/// A job that runs again so long after its last end.
pub(super) fn delayed(ctx: &Ctx, name: &str, group: Option<&str>, rng: &mut ChaCha12Rng) -> Value {
    let ms = one(rng, &LIVES);
    let exits = one(rng, &["0", "0", "1,0"]);
    let options = [("ms", ms.to_string()), ("tick", "100".to_owned()), ("exit", exits.to_owned())];
    let delay = one(rng, &["1s", "2s", "4s"]);
    let misfire = one(rng, &["fire_all", "fire_now", "skip"]);
    let mut job = json!({
        "name": name,
        "exec": ctx.exec(&options),
        "triggers": [{"name": "t0", "fixed_delay": delay, "misfire": misfire}],
        "retries": {"count": 2, "backoff": "1s"},
        "lease": "10s",
    });
    if let Some(group) = group {
        job["group"] = json!(group);
    }
    job
}

/// A trigger with everything that may be said of it.
fn trigger(name: &str, rng: &mut ChaCha12Rng) -> Value {
    let mut trigger = match rng.random_range(0..10) {
        0..5 => json!({"cron": one(rng, &CRONS)}),
        5 => json!({"cron": one(rng, &UNIX), "dialect": "unix"}),
        6 => {
            let every = one(rng, &["1s", "2s", "3s", "7s"]);
            json!({"interval": every, "start": shown(from_now(rng.random_range(-90..8)))})
        }
        7 => {
            let every = one(rng, &["2 seconds", "5 seconds", "1 minute", "1 day"]);
            json!({"calendar_interval": every, "start": shown(from_now(rng.random_range(-90..8)))})
        }
        8 => window(rng),
        _ => json!({"once": shown(from_now(rng.random_range(-2..20)))}),
    };
    if trigger["interval"].is_string() && rng.random_bool(0.4) {
        trigger["repeats"] = json!(rng.random_range(3..60));
    }
    let is_bounded = trigger["start"].is_string() || trigger["once"].is_string();
    if !is_bounded && rng.random_bool(0.2) {
        trigger["start"] = json!(shown(from_now(rng.random_range(-5..10))));
        trigger["end"] = json!(shown(from_now(rng.random_range(12..40))));
    }
    finish(&mut trigger, name, rng);
    trigger
}

/// One whose rate only the cluster knows.
fn lonely(rng: &mut ChaCha12Rng) -> Value {
    let mut trigger = match rng.random_range(0..4) {
        0 => json!({"cron": one(rng, &["@every 2s", "@every 5s"]), "dialect": "unix"}),
        1 => json!({"cron": one(rng, &["H/2 * * * *", "H * * * *"]), "dialect": "unix"}),
        2 => json!({"calendar_interval": one(rng, &["2 seconds", "5 seconds"])}),
        _ => json!({"interval": one(rng, &["1s", "2s", "3s", "7s"])}),
    };
    if trigger["interval"].is_string() && rng.random_bool(0.3) {
        trigger["repeats"] = json!(rng.random_range(3..20));
    }
    finish(&mut trigger, "t0", rng);
    trigger
}

fn window(rng: &mut ChaCha12Rng) -> Value {
    let every = one(rng, &["1s", "2s", "5s"]);
    match rng.random_range(0..3) {
        0 => json!({"daily_window": {"every": every}}),
        1 => json!({"daily_window": {"every": every, "weekdays": "MON-SUN"}}),
        _ => {
            let (from, to) = (time_of_day(rng.random_range(-20..5)), rng.random_range(8..40));
            let window = json!({"every": every, "from": from, "to": time_of_day(to)});
            json!({"zone": "UTC", "daily_window": window})
        }
    }
}

fn finish(trigger: &mut Value, name: &str, rng: &mut ChaCha12Rng) {
    trigger["name"] = json!(name);
    if rng.random_bool(0.6) {
        trigger["misfire"] = json!(one(rng, &["fire_all", "fire_now", "skip"]));
    }
    if rng.random_bool(0.3) {
        trigger["dst"] = json!(one(rng, &["smart", "quartz", "skip", "twice"]));
    }
    if rng.random_bool(0.15) {
        trigger["jitter"] = json!("900ms");
    }
    if rng.random_bool(0.25) {
        trigger["calendars"] = json!([one(rng, &CALENDARS)]);
    }
    if rng.random_bool(0.2) {
        trigger["priority"] = json!(rng.random_range(0..10));
        trigger["params"] = json!({"KIND": "drawn"});
    }
    if trigger["zone"].is_null() && rng.random_bool(0.2) {
        trigger["zone"] = json!("America/Chicago");
    }
}

/// A calendar of that name, another each time.
pub(super) fn calendar(name: &str, rng: &mut ChaCha12Rng) -> Value {
    let mut calendar = match name {
        "cal-seconds" => {
            json!({"cron": one(rng, &["0-9 * * * * ?", "20-39 * * * * ?", "45 * * * * ?"])})
        }
        "cal-days" => match rng.random_range(0..4) {
            0 => json!({"weekly": one(rng, &["SUN", "SAT,SUN", "MON-FRI"])}),
            1 => json!({"monthly": [1, 15, 31]}),
            2 => json!({"annual": ["12-24", "02-29"]}),
            _ => json!({"dates": ["2026-12-25", "2027-01-01"]}),
        },
        "cal-times" => {
            let from = rng.random_range(-10..10);
            let range = format!("{}-{}", time_of_day(from), time_of_day(from + 12));
            json!({"daily": [range], "zone": "UTC"})
        }
        _ => {
            let range = format!("{}-{}", time_of_day(-60), time_of_day(600));
            json!({"daily": [range], "zone": "UTC", "include_only": true, "base": "cal-seconds"})
        }
    };
    calendar["name"] = json!(name);
    calendar
}

/// How long something stays paused: half of the time longer than instants may be late.
pub(super) fn pause(rng: &mut ChaCha12Rng) -> Duration {
    Duration::from_millis(rng.random_range(500..12_000))
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use rand::SeedableRng;

    use super::*;
    use crate::rules::Rule;

    #[test]
    fn what_is_drawn_can_be_judged_and_has_every_kind() {
        let mut rng = ChaCha12Rng::seed_from_u64(7);
        let mut calendars = BTreeMap::new();
        for name in CALENDARS {
            calendars.insert(name.to_owned(), calendar(name, &mut rng));
        }
        let mut kinds = BTreeSet::new();
        for n in 0..400 {
            let name = CALENDARS[n % CALENDARS.len()];
            calendars.insert(name.to_owned(), calendar(name, &mut rng));
            let trigger = if n % 4 == 0 { lonely(&mut rng) } else { trigger("t", &mut rng) };
            let read = Rule::read(&trigger, Some("Europe/Berlin"), &calendars);
            assert!(read.is_ok(), "{trigger}: {read:?}");
            for kind in ["cron", "interval", "calendar_interval", "daily_window", "once"] {
                if !trigger[kind].is_null() {
                    kinds.insert(kind);
                }
            }
        }
        assert_eq!(kinds.len(), 5);
    }
}
