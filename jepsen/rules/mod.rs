//! When triggers fire, computed again from the definitions that clients wrote, by
//! code that shares nothing with the product's.
//!
//! Some rules hang on something that only the cluster knows: the commit from which a
//! rate without a start is counted, the number that `H` stands for. Such a rule is
//! all the rules that it may be; what ran says which one it is.

mod calendars;
mod cron;
pub(crate) mod graph;
mod rates;

use std::collections::{BTreeMap, BTreeSet};

use chrono::NaiveTime;
use chrono_tz::Tz;
use serde_json::{Value, json};

use crate::time::millis;
use calendars::Calendar;
use cron::Cron;
use rates::{Unit, Window};

/// Why a rule cannot be judged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RuleError {
    /// Too many fields, or too few.
    #[error("{0:?} has not {1} fields")]
    Fields(String, &'static str),
    /// Something that this evaluator does not know.
    #[error("{0} {1:?} is not known here")]
    Unknown(&'static str, String),
}

/// What a change of the clocks does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dst {
    /// Crons of all hours follow the clock; all else fires once for each local time.
    Smart,
    /// Not in a gap, the second time in an overlap.
    Quartz,
    /// Not in a gap, the first time in an overlap.
    Skip,
    /// Not in a gap, both times in an overlap.
    Twice,
}

/// What becomes of instants that were planned late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Policy {
    /// Each is run.
    All,
    /// The latest is.
    Now,
    /// None is.
    Skip,
}

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Cron(Vec<Cron>),
    Every { every: i64, repeats: Option<u64> },
    Units(u32, Unit),
    Window(Window),
    Once(i64),
    Delay(i64),
}

/// A trigger of a definition.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rule {
    /// Its name.
    pub(crate) name: String,
    /// What becomes of late instants.
    pub(crate) policy: Policy,
    /// An action may start so many milliseconds after its instant.
    pub(crate) jitter: i64,
    /// All that is written: another text makes another trigger.
    pub(crate) written: Value,
    /// What its rate is counted for: an edit of anything else leaves the anchor.
    pub(crate) rate: Value,
    /// The calendars that it names, as they are written.
    pub(crate) bounds: BTreeMap<String, Value>,
    kind: Kind,
    zone: Tz,
    dst: Dst,
    start: Option<i64>,
    end: Option<i64>,
    calendars: Vec<Calendar>,
}

fn unknown(what: &'static str, value: &Value) -> RuleError {
    RuleError::Unknown(what, value.to_string())
}

fn zone(name: &str) -> Result<Tz, RuleError> {
    name.parse().map_err(|_| RuleError::Unknown("zone", name.to_owned()))
}

/// `08:30` or `08:30:15`.
fn time_of_day(text: &str) -> Result<NaiveTime, RuleError> {
    let read = |format| NaiveTime::parse_from_str(text.trim(), format);
    let found = read("%H:%M:%S").or_else(|_| read("%H:%M"));
    found.map_err(|_| RuleError::Unknown("time of day", text.to_owned()))
}

/// `MON-FRI,SUN`; bit 0 is Sunday.
fn weekdays(text: &str) -> Result<u8, RuleError> {
    let day = |name: &str| {
        let names = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
        let found = names.iter().position(|day| day.eq_ignore_ascii_case(name.trim()));
        found.ok_or_else(|| RuleError::Unknown("weekday", text.to_owned()))
    };
    let mut days = 0;
    for part in text.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (mut at, last) = (day(from)?, day(to)?);
        days |= 1 << at;
        while at != last {
            at = (at + 1) % 7;
            days |= 1 << at;
        }
    }
    Ok(days)
}

/// `90s`, `250ms`, `5m`, `1h30m` in milliseconds.
pub(crate) fn span(text: &str) -> Result<i64, RuleError> {
    let wrong = || RuleError::Unknown("length of time", text.to_owned());
    let mut rest = text;
    let mut sum = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let number: i64 = rest[..digits].parse().map_err(|_| wrong())?;
        let units = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
        let unit = units.iter().find(|(unit, _)| rest[digits..].starts_with(unit));
        let (unit, length) = unit.ok_or_else(wrong)?;
        sum += number * length;
        rest = &rest[digits + unit.len()..];
    }
    if sum > 0 { Ok(sum) } else { Err(wrong()) }
}

/// The trigger with what it means by saying nothing: to say that changes nothing.
fn said_in_full(trigger: &Value) -> Value {
    let mut full = trigger.clone();
    if let Some(fields) = full.as_object_mut() {
        for (field, usual) in [("dst", "smart"), ("misfire", "fire_all")] {
            fields.entry(field).or_insert_with(|| json!(usual));
        }
    }
    full
}

impl Rule {
    /// Reads a trigger; the zone is its job's.
    ///
    /// # Errors
    /// [`RuleError`]
    pub(crate) fn read(
        trigger: &Value,
        of_job: Option<&str>,
        calendars: &BTreeMap<String, Value>,
    ) -> Result<Self, RuleError> {
        let trigger = &said_in_full(trigger);
        let instant = |field: &'static str| match trigger[field].as_str() {
            None => Ok(None),
            Some(text) => millis(text).map(Some).ok_or_else(|| unknown(field, &trigger[field])),
        };
        let kind = Kind::read(trigger)?;
        let cron = trigger["cron"].as_str().map(|text| format!("cron {text}"));
        let name = trigger["name"].as_str().map(str::to_owned).or(cron).unwrap_or_default();
        let own = trigger["zone"].as_str();
        let dst = match trigger["dst"].as_str() {
            Some("smart") => Dst::Smart,
            Some("quartz") => Dst::Quartz,
            Some("skip") => Dst::Skip,
            Some("twice") => Dst::Twice,
            _ => return Err(unknown("dst", &trigger["dst"])),
        };
        let policy = match trigger["misfire"].as_str() {
            Some("fire_all") => Policy::All,
            Some("fire_now") => Policy::Now,
            Some("skip") => Policy::Skip,
            _ => return Err(unknown("misfire", &trigger["misfire"])),
        };
        let mut rate = trigger.clone();
        if let Some(fields) = rate.as_object_mut() {
            fields.retain(|field, _| !["name", "zone", "misfire", "enabled"].contains(&&**field));
        }
        let named = trigger["calendars"].as_array().into_iter().flatten();
        let named: Vec<&str> = named.filter_map(Value::as_str).collect();
        Ok(Self {
            name,
            policy,
            jitter: trigger["jitter"].as_str().map_or(Ok(0), span)?,
            written: json!([trigger, own.or(of_job)]),
            rate,
            bounds: chains(&named, calendars),
            kind,
            zone: zone(own.or(of_job).unwrap_or("UTC"))?,
            dst,
            start: instant("start")?,
            end: instant("end")?,
            calendars: named
                .into_iter()
                .map(|name| Calendar::read(name, calendars))
                .collect::<Result<_, _>>()?,
        })
    }

    /// The delay after the end of its last action, if that is its rule.
    pub(crate) fn delay(&self) -> Option<i64> {
        match self.kind {
            Kind::Delay(delay) => Some(delay),
            _ => None,
        }
    }

    /// Instants in `[from, to]` for each of the rules that this may be, always in the same
    /// order; `held` is when
    /// the commit was that first held its rate.
    pub(crate) fn instants(&self, held: (i64, i64), from: i64, to: i64) -> Vec<Vec<i64>> {
        let reach = (from, to);
        let mut all = match &self.kind {
            Kind::Cron(crons) => {
                crons.iter().map(|cron| cron.between(self.zone, self.dst, from, to)).collect()
            }
            Kind::Every { every, repeats } => self
                .anchors(held, repeats.is_none().then_some(*every))
                .map(|anchor| rates::elapsed(anchor, *every, *repeats, reach))
                .collect(),
            Kind::Units(every, unit) => {
                let step = match unit {
                    Unit::Elapsed(ms) => Some(ms * i64::from(*every)),
                    Unit::Days(_) | Unit::Months(_) => None,
                };
                self.anchors(held, step)
                    .map(|anchor| {
                        rates::units(anchor, (*every, *unit), (self.zone, self.dst), reach)
                    })
                    .collect()
            }
            Kind::Window(window) => vec![window.between(self.zone, self.dst, reach)],
            Kind::Once(at) => {
                vec![Some(*at).filter(|at| (from..=to).contains(at)).into_iter().collect()]
            }
            Kind::Delay(_) => vec![Vec::new()],
        };
        for instants in &mut all {
            instants.retain(|at| self.allows(*at));
        }
        all
    }

    /// What a rate may be counted from; each of them once where it goes on for ever.
    fn anchors(&self, held: (i64, i64), step: Option<i64>) -> impl Iterator<Item = i64> {
        let (first, last) = match self.start {
            Some(start) => (start, start),
            // Live triggers fire at whole seconds.
            None => (held.0.div_euclid(1000) * 1000, held.1.div_euclid(1000) * 1000),
        };
        let mut seen = BTreeSet::new();
        let is_new = move |at: &i64| step.is_none_or(|step| seen.insert(at.rem_euclid(step)));
        (first..=last).step_by(1000).take(3_600).filter(is_new)
    }

    fn allows(&self, at: i64) -> bool {
        self.start.is_none_or(|start| at >= start)
            && self.end.is_none_or(|end| at < end)
            && self.calendars.iter().all(|calendar| calendar.allows(self.zone, at))
    }
}

/// These calendars and all that they are based on.
fn chains(named: &[&str], all: &BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    let mut work: Vec<String> = named.iter().map(|name| (*name).to_owned()).collect();
    while let Some(name) = work.pop() {
        let Some(written) = all.get(&name) else { continue };
        work.extend(written["base"].as_str().map(str::to_owned));
        if found.insert(name, written.clone()).is_some() {
            // A circle, which is said elsewhere.
            break;
        }
    }
    found
}

impl Kind {
    fn read(trigger: &Value) -> Result<Self, RuleError> {
        if let Some(text) = trigger["cron"].as_str() {
            if trigger["dialect"] != "unix" {
                return Ok(Self::Cron(vec![Cron::quartz(text)?]));
            }
            return match text.strip_prefix("@every ") {
                Some(every) => Ok(Self::Every { every: span(every)?, repeats: None }),
                None => Ok(Self::Cron(Cron::unix(text)?)),
            };
        }
        if let Some(every) = trigger["interval"].as_str() {
            return Ok(Self::Every { every: span(every)?, repeats: trigger["repeats"].as_u64() });
        }
        if let Some(delay) = trigger["fixed_delay"].as_str() {
            return Ok(Self::Delay(span(delay)?));
        }
        if let Some(text) = trigger["calendar_interval"].as_str() {
            let parts = text.split_once(' ');
            let found = parts.and_then(|(n, unit)| Some((n.parse().ok()?, Unit::named(unit)?)));
            let (every, unit) =
                found.ok_or_else(|| RuleError::Unknown("interval", text.to_owned()))?;
            return Ok(Self::Units(every, unit));
        }
        if let Some(at) = trigger["once"].as_str() {
            let at = millis(at).ok_or_else(|| unknown("once", &trigger["once"]))?;
            return Ok(Self::Once(at));
        }
        let window = &trigger["daily_window"];
        let every = window["every"].as_str().ok_or_else(|| unknown("trigger", trigger))?;
        Ok(Self::Window(Window {
            every: span(every)?,
            open: time_of_day(window["from"].as_str().unwrap_or("00:00"))?,
            close: time_of_day(window["to"].as_str().unwrap_or("23:59:59"))?,
            weekdays: weekdays(window["weekdays"].as_str().unwrap_or("SUN-SAT"))?,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: i64 = 1_795_255_200_000; // 2026-11-21T10:00:00Z, a Saturday

    fn rule(trigger: &Value) -> Rule {
        Rule::read(trigger, None, &BTreeMap::new()).unwrap()
    }

    /// Seconds after the base, of a rule that is known.
    fn seconds(trigger: &Value, to: i64) -> Vec<i64> {
        let all = rule(trigger).instants((BASE, BASE), BASE, BASE + to * 1_000);
        assert_eq!(all.len(), 1, "{trigger}");
        all[0].iter().map(|at| (at - BASE) / 1_000).collect()
    }

    #[test]
    fn every_kind_fires_when_it_says() {
        for (trigger, expected) in [
            (json!({"cron": "0/20 * * * * ?"}), &[0, 20, 40, 60][..]),
            (json!({"cron": "* * * * *", "dialect": "unix"}), &[0, 60]),
            (json!({"cron": "@every 25s", "dialect": "unix"}), &[0, 25, 50]),
            (json!({"interval": "30s", "start": "2026-11-21T09:59:45Z"}), &[15, 45]),
            (json!({"interval": "30s", "start": "2026-11-21T09:59:45Z", "repeats": 1}), &[15]),
            (json!({"calendar_interval": "1 minute", "start": "2026-11-20T10:00:05Z"}), &[5]),
            (
                json!({"daily_window": {"every": "10s", "from": "10:00:30", "to": "10:00:50"}}),
                &[30, 40, 50],
            ),
            (json!({"daily_window": {"every": "10s", "weekdays": "MON-FRI"}}), &[]),
            (json!({"once": "2026-11-21T10:00:07Z"}), &[7]),
            (
                json!({"cron": "0/20 * * * * ?", "start": "2026-11-21T10:00:20Z",
                "end": "2026-11-21T10:00:40Z"}),
                &[20],
            ),
        ] {
            assert_eq!(seconds(&trigger, 60), expected, "{trigger}");
        }
    }

    #[test]
    fn a_rate_is_all_that_it_may_be() {
        let rate = rule(&json!({"interval": "3s"}));
        let all = rate.instants((BASE + 1_200, BASE + 2_100), BASE, BASE + 9_000);
        let seconds = |at: &Vec<i64>| at.iter().map(|at| (at - BASE) / 1_000).collect::<Vec<_>>();
        assert_eq!(all.iter().map(seconds).collect::<Vec<_>>(), [vec![1, 4, 7], vec![2, 5, 8]]);
        // Not more than there are seconds in the rate.
        assert_eq!(rate.instants((BASE, BASE + 60_000), BASE, BASE + 9_000).len(), 3);
        let spread = rule(&json!({"cron": "H/2 * * * *", "dialect": "unix"}));
        assert_eq!(spread.instants((BASE, BASE), BASE, BASE + 240_000).len(), 2);
    }

    #[test]
    fn to_say_what_is_meant_anyway_changes_nothing() {
        let short = rule(&json!({"interval": "5s"}));
        let long = json!({"interval": "5s", "dst": "smart", "misfire": "fire_all"});
        assert_eq!(short, rule(&long));
        let skips = rule(&json!({"interval": "5s", "misfire": "skip"}));
        assert!(short != skips && short.rate == skips.rate);
    }

    #[test]
    fn calendars_bound_and_are_part_of_what_is_compared() {
        let calendars = BTreeMap::from([
            ("a".to_owned(), json!({"cron": "20-39 * * * * ?", "base": "b"})),
            ("b".to_owned(), json!({"cron": "0 * * * * ?"})),
        ]);
        let trigger = json!({"cron": "0/20 * * * * ?", "calendars": ["a"]});
        let rule = Rule::read(&trigger, None, &calendars).unwrap();
        assert_eq!(rule.instants((0, 0), BASE, BASE + 60_000), [[BASE + 40_000]]);
        assert_eq!(rule.bounds.len(), 2);
        assert!(Rule::read(&trigger, None, &BTreeMap::new()).is_err());
    }

    #[test]
    fn lengths_of_time_and_what_is_not_known() {
        assert_eq!(
            ["90s", "250ms", "1h30m", "2d"].map(|text| span(text).unwrap()),
            [90_000, 250, 5_400_000, 172_800_000]
        );
        assert!(["", "5", "s", "5 s", "0s"].iter().all(|text| span(text).is_err()));
        for bad in [
            json!({}),
            json!({"cron": "0 0 0 L * ?"}),
            json!({"interval": "soon"}),
            json!({"calendar_interval": "3 moons"}),
            json!({"cron": "* * * * * ?", "dst": "maybe"}),
            json!({"cron": "* * * * * ?", "misfire": "never"}),
            json!({"cron": "* * * * * ?", "zone": "Nowhere"}),
        ] {
            assert!(Rule::read(&bad, None, &BTreeMap::new()).is_err(), "{bad}");
        }
    }
}
