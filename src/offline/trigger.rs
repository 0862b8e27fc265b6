//! What Quartz's own triggers do: their instants, and what a misfire leaves.

use std::collections::BTreeSet;

use horai_core::ids::Name;
use horai_core::model::calendar::{CalendarDate, CalendarDef, CalendarRule};
use horai_core::model::trigger::{CalendarUnit, Dialect, TimeOfDay, Weekdays};
use horai_core::time::UtcMillis;
use horai_core::timing::calendar::Calendar;
use horai_core::timing::cron::CronExpr;
use horai_core::timing::simulate::{Instruction, QuartzKind, QuartzTrigger};
use horai_core::timing::zone::Zone;
use serde::Deserialize;
use serde_json::{Value, json};

use super::cron::MAX_COUNT;
use super::{error_line, instant};

/// A line of `horai trigger simulate --stdin`. Other fields are not looked at.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Question {
    kind: String,
    tz: Option<String>,
    start: Option<String>,
    end: Option<String>,
    interval_ms: Option<i64>,
    interval: Option<i64>,
    unit: Option<String>,
    repeat_count: Option<i64>,
    expr: Option<String>,
    preserve_hour_across_dst: bool,
    skip_day_if_hour_missing: bool,
    start_time_of_day: Option<String>,
    end_time_of_day: Option<String>,
    days_of_week_sun1: Option<Vec<u8>>,
    calendar: Option<QuartzCalendar>,
    count_asked: Option<usize>,
    start_off_ms: i64,
    end_off_ms: Option<i64>,
    now_off_ms: Option<i64>,
    missed_fire_off_ms: Option<i64>,
    fired_before: Option<i64>,
    times_triggered_before: Option<i64>,
    repeat_count_before: Option<i64>,
    instruction: Option<String>,
}

/// A calendar of Quartz, as a line has it.
#[derive(Debug, Deserialize)]
struct QuartzCalendar {
    #[serde(rename = "type")]
    kind: String,
    tz: Option<String>,
    exclude: Option<String>,
    #[serde(default)]
    dates: Vec<String>,
    days: Option<Vec<u8>>,
    start: Option<String>,
    end: Option<String>,
    #[serde(default)]
    invert: bool,
    base: Option<Box<QuartzCalendar>>,
}

/// Where misfires' offsets are counted from: a midnight, in UTC.
const T0: i64 = 1_704_067_200_000;
/// Longer intervals, in any unit, pass the last year at once.
const MAX_INTERVAL: i64 = 10_000_000_000_000;

/// Answers one line of `horai trigger simulate --stdin`.
#[must_use]
pub fn answer(line: &str) -> String {
    answer_or_problem(line).map_or_else(|problem| error_line(&problem), |value| value.to_string())
}

fn answer_or_problem(line: &str) -> Result<Value, String> {
    let question: Question =
        serde_json::from_str(line).map_err(|e| format!("the line is not a question: {e}"))?;
    let zone = question.tz.as_deref().unwrap_or("UTC");
    let zone = Zone::parse(zone).map_err(|e| e.to_string())?;
    match question.kind.strip_prefix("misfire_") {
        Some(kind) => misfire(&question, kind, zone),
        None => fires(&question, zone),
    }
}

fn fires(question: &Question, zone: Zone) -> Result<Value, String> {
    let kind = question.kind.as_str();
    let read = read_kind(question, kind)?;
    let start = instant(given("start", &question.start)?)?.0;
    let end = question.end.as_deref().map(instant).transpose()?.map(|end| end.0);
    let trigger = QuartzTrigger {
        kind: read,
        zone: zone.clone(),
        start,
        end,
        repeat_count: repeat_count(question.repeat_count)?,
        times_triggered: 0,
    };
    let calendar = question.calendar.as_ref().map(|c| read_calendar(c, &zone)).transpose()?;
    let count = question.count_asked.unwrap_or(5);
    if count > MAX_COUNT {
        return Err(format!("count_asked {count} is too much: at most {MAX_COUNT}"));
    }
    let shown = |at: i64| zone.rfc3339(UtcMillis(at));
    let fires: Vec<String> =
        trigger.fires(calendar.as_ref(), count).into_iter().map(shown).collect();
    if kind == "cron_with_calendar" || kind == "cron" {
        return Ok(json!({ "expected_fires": fires }));
    }
    Ok(json!({ "expected_fires": fires, "final_fire": trigger.last().map(shown) }))
}

fn misfire(question: &Question, kind: &str, zone: Zone) -> Result<Value, String> {
    let triggered = question.times_triggered_before.or(question.fired_before).unwrap_or(0);
    let trigger = QuartzTrigger {
        kind: read_kind(question, kind)?,
        zone,
        start: T0 + bounded("start_off_ms", question.start_off_ms)?,
        end: question.end_off_ms.map(|end| bounded("end_off_ms", end)).transpose()?.map(|e| T0 + e),
        repeat_count: repeat_count(question.repeat_count_before.or(question.repeat_count))?,
        times_triggered: bounded("fired_before", triggered)?,
    };
    let now = T0 + bounded("now_off_ms", *given("now_off_ms", &question.now_off_ms)?)?;
    let missed = given("missed_fire_off_ms", &question.missed_fire_off_ms)?;
    let missed = T0 + bounded("missed_fire_off_ms", *missed)?;
    let name = given("instruction", &question.instruction)?;
    let instruction = Instruction::named(name)
        .ok_or_else(|| format!("instruction {name:?} is not known: write Quartz's name for it"))?;
    let after = trigger.misfired(instruction, missed, now);
    let offset = |at: i64| {
        // What is now to the second is told as such.
        if (at - now).abs() < 1000 { json!("NOW") } else { json!(at - T0) }
    };
    let next_but_one = after.next.and_then(|next| after.trigger.after(next));
    let mut answer = json!({
        "expected_next_off_ms": after.next.map(offset),
        "start_after_off_ms": offset(after.trigger.start),
        "next_but_one_off_ms": next_but_one.map(offset),
    });
    if kind == "simple" {
        answer["times_triggered_after"] = after.trigger.times_triggered.into();
        answer["repeat_count_after"] = after.trigger.repeat_count.into();
    }
    Ok(answer)
}

fn read_kind(question: &Question, kind: &str) -> Result<QuartzKind, String> {
    Ok(match kind {
        "simple" => {
            let interval = bounded("interval_ms", question.interval_ms.unwrap_or(0))?;
            let is_once = question.repeat_count == Some(0);
            if interval < 0 || (interval == 0 && !is_once) {
                return Err(format!("interval_ms {interval} is not positive"));
            }
            QuartzKind::Simple { interval }
        }
        "cron" | "cron_with_calendar" => {
            let expression = given("expr", &question.expr)?;
            QuartzKind::Cron(Box::new(CronExpr::parse(expression).map_err(|e| e.to_string())?))
        }
        "calendar_interval" => QuartzKind::CalendarInterval {
            interval: positive("interval", &question.interval)?,
            unit: unit(question)?,
            preserve_hour: question.preserve_hour_across_dst,
            skip_day: question.skip_day_if_hour_missing,
        },
        "daily_time_interval" => {
            let unit = unit(question)?;
            if unit > CalendarUnit::Hour {
                return Err("unit must be SECOND, MINUTE or HOUR here".to_owned());
            }
            QuartzKind::Daily {
                interval: positive("interval", &question.interval)?,
                unit,
                from: time(&question.start_time_of_day)?.unwrap_or(TimeOfDay::MIDNIGHT),
                to: time(&question.end_time_of_day)?,
                weekdays: match &question.days_of_week_sun1 {
                    Some(days) => weekdays(days)?,
                    None => Weekdays::ALL,
                },
            }
        }
        other => {
            return Err(format!(
                "kind {other:?} is not known: write simple, cron_with_calendar, \
                 calendar_interval or daily_time_interval, perhaps with misfire_ before it"
            ));
        }
    })
}

fn unit(question: &Question) -> Result<CalendarUnit, String> {
    let text = given("unit", &question.unit)?;
    Ok(match text.as_str() {
        "SECOND" => CalendarUnit::Second,
        "MINUTE" => CalendarUnit::Minute,
        "HOUR" => CalendarUnit::Hour,
        "DAY" => CalendarUnit::Day,
        "WEEK" => CalendarUnit::Week,
        "MONTH" => CalendarUnit::Month,
        "YEAR" => CalendarUnit::Year,
        _ => return Err(format!("unit {text:?} is not known: write SECOND to YEAR")),
    })
}

fn given<'a, T>(field: &str, value: &'a Option<T>) -> Result<&'a T, String> {
    value.as_ref().ok_or_else(|| format!("{field:?} is missing"))
}

fn bounded(field: &str, value: i64) -> Result<i64, String> {
    let is_small = (-MAX_INTERVAL..=MAX_INTERVAL).contains(&value);
    if is_small { Ok(value) } else { Err(format!("{field} {value} is too far away")) }
}

fn positive(field: &str, value: &Option<i64>) -> Result<i64, String> {
    let value = bounded(field, value.unwrap_or(1))?;
    if value > 0 { Ok(value) } else { Err(format!("{field} {value} is not positive")) }
}

fn repeat_count(value: Option<i64>) -> Result<i64, String> {
    let value = bounded("repeat_count", value.unwrap_or(-1))?;
    if value >= -1 { Ok(value) } else { Err(format!("repeat_count {value} is below -1")) }
}

fn time(text: &Option<String>) -> Result<Option<TimeOfDay>, String> {
    text.as_deref().map(|text| text.parse().map_err(|e| format!("{e}"))).transpose()
}

/// Days from 1, Sunday.
fn weekdays(days: &[u8]) -> Result<Weekdays, String> {
    days.iter().try_fold(Weekdays(0), |set, day| match day {
        1..=7 => Ok(Weekdays(set.0 | 1 << (day - 1))),
        _ => Err(format!("weekday {day} is not known: write 1 (Sunday) to 7")),
    })
}

/// Reads a calendar with its bases, which are named by how deep they lie.
fn read_calendar(calendar: &QuartzCalendar, zone: &Zone) -> Result<Calendar, String> {
    let mut defs = Vec::new();
    let mut next = Some(calendar);
    while let Some(calendar) = next {
        let name =
            |depth: usize| Name::new(&format!("calendar-{depth}")).map_err(|e| e.to_string());
        let base = calendar.base.is_some().then(|| name(defs.len() + 1)).transpose()?;
        defs.push(CalendarDef {
            name: name(defs.len())?,
            description: String::new(),
            zone: calendar.tz.clone(),
            rule: calendar_rule(calendar)?,
            include_only: calendar.invert,
            base,
        });
        next = calendar.base.as_deref();
    }
    let lookup = |name: &Name| defs.iter().find(|def| def.name == *name);
    Calendar::read(&defs[0].name, zone, &lookup).map_err(|e| crate::error::chain(&e))
}

fn calendar_rule(calendar: &QuartzCalendar) -> Result<CalendarRule, String> {
    Ok(match calendar.kind.as_str() {
        "holiday" | "dates" => {
            let dates: Result<BTreeSet<CalendarDate>, _> =
                calendar.dates.iter().map(|date| day_of(date).parse()).collect();
            CalendarRule::Dates(dates.map_err(|e| e.to_string())?)
        }
        "annual" => {
            let days: Result<BTreeSet<(u8, u8)>, String> =
                calendar.dates.iter().map(|date| month_and_day(date)).collect();
            CalendarRule::Annual(days?)
        }
        "weekly" => match &calendar.days {
            Some(days) => CalendarRule::Weekly(weekdays(days)?),
            // Quartz's own default.
            None => CalendarRule::Weekly(Weekdays::WEEKEND),
        },
        "monthly" => {
            let days = given("days", &calendar.days)?;
            CalendarRule::Monthly(days.iter().copied().collect())
        }
        "daily" => {
            let from = time(&calendar.start)?.unwrap_or(TimeOfDay::MIDNIGHT);
            let last = time(&calendar.end)?.unwrap_or(TimeOfDay::LAST);
            // Quartz's ranges hold their end.
            let behind = (last.seconds() + 1) % 86_400;
            let to = TimeOfDay::new(behind / 3600, behind / 60 % 60, behind % 60);
            CalendarRule::Daily(vec![(from, to.unwrap_or(TimeOfDay::MIDNIGHT))])
        }
        "cron" => CalendarRule::Cron {
            expression: given("exclude", &calendar.exclude)?.clone(),
            dialect: Dialect::Quartz,
        },
        other => {
            return Err(format!(
                "calendar type {other:?} is not known: write holiday, annual, weekly, monthly, \
                 daily or cron"
            ));
        }
    })
}

/// The day of a date, which may have a time behind it.
fn day_of(text: &str) -> &str {
    text.split_once('T').map_or(text, |(day, _)| day)
}

/// Reads `12-25` or `2024-12-25`.
fn month_and_day(text: &str) -> Result<(u8, u8), String> {
    let day = day_of(text);
    // A leap year has all days.
    let full = if day.len() == 5 { format!("2024-{day}") } else { day.to_owned() };
    let date: CalendarDate = full.parse().map_err(|_| format!("{text:?} is not a day: 12-25"))?;
    Ok((date.month, date.day))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CASES: &str = include_str!("../../tests/golden/trigger.jsonl");
    const OUTPUTS: [&str; 7] = [
        "expected_fires",
        "final_fire",
        "expected_next_off_ms",
        "start_after_off_ms",
        "next_but_one_off_ms",
        "times_triggered_after",
        "repeat_count_after",
    ];

    /// Offsets behind a NOW were measured, and are up to a second late.
    fn is_alike(found: &Value, wanted: &Value, is_measured: bool) -> bool {
        match (found.as_i64(), wanted.as_i64()) {
            (Some(found), Some(wanted)) if is_measured => (0..1000).contains(&(wanted - found)),
            _ => found == wanted,
        }
    }

    #[test]
    fn every_case_is_answered_as_quartz_does() {
        let (mut count, mut faults) = (0, Vec::new());
        for line in CASES.lines() {
            let case: Value = serde_json::from_str(line).unwrap();
            let mut question = case.as_object().unwrap().clone();
            for output in OUTPUTS {
                question.remove(output);
            }
            let answer: Value =
                serde_json::from_str(&answer(&Value::Object(question).to_string())).unwrap();
            let outputs: Vec<&str> =
                OUTPUTS.into_iter().filter(|output| case.get(*output).is_some()).collect();
            let is_measured = case["expected_next_off_ms"] == "NOW";
            let is_right = outputs.iter().all(|output| {
                let is_offset = *output == "next_but_one_off_ms";
                is_alike(&answer[*output], &case[*output], is_measured && is_offset)
            });
            if !is_right || answer.as_object().unwrap().len() != outputs.len() {
                faults.push(format!("{line}: {answer}"));
            }
            count += 1;
        }
        assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
        assert_eq!(count, 55);
    }

    #[test]
    fn calendars_are_read_by_their_types() {
        let fires = |calendar: &str| {
            let line = format!(
                r#"{{"kind":"cron_with_calendar","tz":"UTC","expr":"0 0 0/8 * * ?","start":"2024-05-31T00:00:00Z","count_asked":4,"calendar":{calendar}}}"#
            );
            let answer: Value = serde_json::from_str(&answer(&line)).unwrap();
            let fires = answer["expected_fires"].as_array().unwrap_or_else(|| panic!("{answer}"));
            fires.iter().map(|at| at.as_str().unwrap()[5..13].to_owned()).collect::<Vec<_>>()
        };
        for (calendar, wanted) in [
            (r#"{"type":"weekly"}"#, ["05-31T00", "05-31T08", "05-31T16", "06-03T00"]),
            (r#"{"type":"weekly","days":[6]}"#, ["06-01T00", "06-01T08", "06-01T16", "06-02T00"]),
            (
                r#"{"type":"monthly","days":[31,1]}"#,
                ["06-02T00", "06-02T08", "06-02T16", "06-03T00"],
            ),
            (
                r#"{"type":"annual","dates":["05-31"]}"#,
                ["06-01T00", "06-01T08", "06-01T16", "06-02T00"],
            ),
            (
                r#"{"type":"daily","start":"07:00","end":"16:00"}"#,
                ["05-31T00", "06-01T00", "06-02T00", "06-03T00"],
            ),
            (
                r#"{"type":"daily","start":"07:00","end":"09:00","invert":true}"#,
                ["05-31T08", "06-01T08", "06-02T08", "06-03T08"],
            ),
            (
                r#"{"type":"weekly","base":{"type":"holiday","dates":["2024-05-31T00:00:00Z"]}}"#,
                ["06-03T00", "06-03T08", "06-03T16", "06-04T00"],
            ),
        ] {
            assert_eq!(fires(calendar), wanted, "{calendar}");
        }
    }

    #[test]
    fn errors_name_field_and_remedy() {
        for (line, part) in [
            ("{", "not a question"),
            (r#"{"kind":"yearly"}"#, "kind \\\"yearly\\\" is not known"),
            (r#"{"kind":"simple","repeat_count":0}"#, "\\\"start\\\" is missing"),
            (r#"{"kind":"simple","start":"2024-01-01T00:00:00Z","interval_ms":0}"#, "not positive"),
            (
                r#"{"kind":"calendar_interval","start":"2024-01-01T00:00:00Z","unit":"DAY","interval":0}"#,
                "not positive",
            ),
            (
                r#"{"kind":"daily_time_interval","start":"2024-01-01T00:00:00Z","unit":"DAY"}"#,
                "SECOND, MINUTE or HOUR",
            ),
            (
                r#"{"kind":"misfire_simple","interval_ms":1,"now_off_ms":1,"missed_fire_off_ms":0,"instruction":"X"}"#,
                "is not known",
            ),
            (r#"{"kind":"misfire_cron","expr":"x"}"#, "has 1 fields"),
            (
                r#"{"kind":"cron","start":"2024-01-01T00:00:00Z","expr":"* * * * * ?","calendar":{"type":"moon"}}"#,
                "calendar type",
            ),
        ] {
            let found = answer(line);
            assert!(found.starts_with(r#"{"error":"#) && found.contains(part), "{line}: {found}");
        }
    }
}
