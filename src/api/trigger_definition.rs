//! A trigger as a person writes it, in a job's definition.
//!
//! Exactly one of `cron`, `interval`, `fixed_delay`, `calendar_interval`,
//! `daily_window` and `once` says when it fires; all else is optional. Zones, expressions and
//! bounds are checked with the rest of a job's timing.

use std::collections::BTreeMap;
use std::fmt;

use horai_core::ids::{Name, TriggerName};
use horai_core::model::job::{MisfirePolicy, TriggerKind, TriggerSpec};
use horai_core::model::trigger::{
    CalendarUnit, Dialect, DstPolicy, RuleSpec, TimeOfDay, TriggerRule, Weekdays,
};
use horai_core::time::{Span, UtcMillis};
use serde::{Deserialize, Serialize};

use super::definition_parts::{
    misfire, misfire_word, name as read_name, params, priority, span, word_of,
};
use crate::error::FieldError;

/// One trigger, as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TriggerDefinition {
    /// Default: kind and text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Six or seven fields, seconds first; five with the dialect `unix`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// The grammar of `cron`: `quartz` (default) or `unix`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dialect: Option<String>,
    /// Elapsed time from one fire to the next, such as `90s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<String>,
    /// With `interval`: how often after the first time; else for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeats: Option<u64>,
    /// From the end of the last action, retries included, to the next fire.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fixed_delay: Option<String>,
    /// Units of the calendar, such as `1 month` or `2 weeks`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calendar_interval: Option<String>,
    /// Again and again between two times of day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daily_window: Option<WindowDefinition>,
    /// Once, at this instant (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub once: Option<String>,
    /// Nothing fires before this instant; rates are counted from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// Nothing fires at this instant or after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<String>,
    /// IANA zone; the job's where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// What changes of the clocks do: `smart` (default), `quartz`, `skip` or `twice`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dst: Option<String>,
    /// Start each action up to so much later, such as `30s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<String>,
    /// Calendars that must allow an instant, up to 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub calendars: Vec<String>,
    /// 0 to 9, 9 first; the job's where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// `HORAI_PARAM_*` of its runs, over the job's own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, String>,
    /// `fire_all` (default), `fire_now` or `skip`; also the name of a misfire
    /// instruction of Quartz, which is taken as the nearest of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub misfire: Option<String>,
    /// Default true.
    #[serde(default = "yes", skip_serializing_if = "is_true")]
    pub enabled: bool,
}

/// A window that opens on chosen days.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowDefinition {
    /// Elapsed time from one fire to the next, such as `15m`.
    pub every: String,
    /// The first time of day; default 00:00.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// The last one; default 23:59:59. Earlier than `from`: on the next day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Days on which it opens, such as `MON-FRI`; default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weekdays: Option<String>,
}

fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature is serde's
fn is_true(value: &bool) -> bool {
    *value
}

/// Kind and text: a trigger's name where none is given, and what people see.
impl fmt::Display for TriggerDefinition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = if let Some(cron) = &self.cron {
            format!("cron {cron}")
        } else if let Some(every) = &self.interval {
            format!("interval {every}")
        } else if let Some(delay) = &self.fixed_delay {
            format!("delay {delay}")
        } else if let Some(every) = &self.calendar_interval {
            format!("each {every}")
        } else if let Some(window) = &self.daily_window {
            let from = window.from.as_deref().unwrap_or("00:00");
            let to = window.to.as_deref().unwrap_or("23:59:59");
            let weekdays = window.weekdays.as_ref().map(|days| format!(" {days}"));
            format!("every {} from {from} to {to}{}", window.every, weekdays.unwrap_or_default())
        } else {
            format!("once {}", self.once.as_deref().unwrap_or_default())
        };
        f.pad(&text)
    }
}

impl TriggerDefinition {
    /// A cron expression with nothing else said.
    #[must_use]
    pub fn of_cron(expression: &str) -> Self {
        Self { cron: Some(expression.to_owned()), ..Self::empty() }
    }

    fn empty() -> Self {
        Self {
            name: None,
            cron: None,
            dialect: None,
            interval: None,
            repeats: None,
            fixed_delay: None,
            calendar_interval: None,
            daily_window: None,
            once: None,
            start: None,
            end: None,
            zone: None,
            dst: None,
            jitter: None,
            calendars: Vec::new(),
            priority: None,
            params: BTreeMap::new(),
            misfire: None,
            enabled: true,
        }
    }

    /// Checks what can be checked of one trigger; `field` is its place.
    pub(super) fn to_spec(&self, field: &str) -> Result<TriggerSpec, FieldError> {
        let at = |part: &str| format!("{field}.{part}");
        let rule = self.rule(field, &at)?;
        let name = self.name.clone().unwrap_or_else(|| self.to_string());
        if name.is_empty() || name.len() > TriggerName::MAX_LEN {
            return Err(FieldError::invalid(
                at("name"),
                &name,
                "a trigger's name has 1 to 200 bytes",
                "give the trigger a short name",
            ));
        }
        let instant = |part: &str, text: &Option<String>| {
            text.as_deref().map(|text| instant(at(part), text)).transpose()
        };
        let spec = RuleSpec {
            start: instant("start", &self.start)?,
            end: instant("end", &self.end)?,
            dst: word(at("dst"), self.dst.as_deref(), &DstPolicy::ALL)?,
            jitter: match &self.jitter {
                Some(text) => span(&at("jitter"), text)?,
                None => Span::ZERO,
            },
            calendars: self.calendars(&at)?,
            priority: self.priority.map(|given| priority(&at("priority"), given)).transpose()?,
            params: params(&at("params"), &self.params)?,
            ..RuleSpec::new(rule)
        };
        Ok(TriggerSpec {
            name: TriggerName(name.into()),
            kind: kind(spec),
            zone: self.zone.clone(),
            misfire: self.policy(&at("misfire"))?.0,
            enabled: self.enabled,
        })
    }

    /// What is not taken as it is written, and what it is taken as.
    pub(super) fn notice(&self, field: &str) -> Option<String> {
        self.policy(&format!("{field}.misfire")).ok()?.1
    }

    fn policy(&self, field: &str) -> Result<(MisfirePolicy, Option<String>), FieldError> {
        let goes_on = self.interval.is_some() && self.repeats.is_none();
        misfire(field, self.misfire.as_deref(), goes_on)
    }

    fn calendars(&self, at: &dyn Fn(&str) -> String) -> Result<Vec<Name>, FieldError> {
        if self.calendars.len() > RuleSpec::MAX_CALENDARS {
            let (count, remedy) = (self.calendars.len(), "write at most 16, or chain them by base");
            return Err(FieldError::invalid(at("calendars"), count, "there are too many", remedy));
        }
        let names = self.calendars.iter().enumerate();
        names.map(|(i, name)| read_name(&at(&format!("calendars[{i}]")), name)).collect()
    }

    fn rule(&self, field: &str, at: &dyn Fn(&str) -> String) -> Result<TriggerRule, FieldError> {
        let kinds = [
            self.cron.is_some(),
            self.interval.is_some(),
            self.fixed_delay.is_some(),
            self.calendar_interval.is_some(),
            self.daily_window.is_some(),
            self.once.is_some(),
        ];
        if kinds.iter().filter(|is_given| **is_given).count() != 1 {
            return Err(FieldError::invalid(
                field,
                "",
                "a trigger needs exactly one rule",
                "write one of cron, interval, fixed_delay, calendar_interval, daily_window and once",
            ));
        }
        let others = [
            ("dialect", self.dialect.is_some(), kinds[0]),
            ("repeats", self.repeats.is_some(), kinds[1]),
        ];
        for (part, is_given, has_meaning) in others {
            if is_given && !has_meaning {
                return Err(FieldError::invalid(
                    at(part),
                    "",
                    "it has no meaning with this rule",
                    "leave it out: dialect goes with cron, repeats with interval",
                ));
            }
        }
        if let Some(expression) = &self.cron {
            let dialect = word(at("dialect"), self.dialect.as_deref(), &Dialect::ALL)?;
            return Ok(TriggerRule::Cron { expression: expression.clone(), dialect });
        }
        if let Some(every) = &self.interval {
            let every = span(&at("interval"), every)?;
            return Ok(TriggerRule::Interval { every, repeats: self.repeats });
        }
        if let Some(delay) = &self.fixed_delay {
            return Ok(TriggerRule::FixedDelay { delay: span(&at("fixed_delay"), delay)? });
        }
        if let Some(text) = &self.calendar_interval {
            return units(at("calendar_interval"), text);
        }
        if let Some(window) = &self.daily_window {
            return window.rule(&at("daily_window"));
        }
        let once = self.once.as_deref().unwrap_or_default();
        Ok(TriggerRule::Once { at: instant(at("once"), once)? })
    }

    /// The way back: defaults are left out.
    pub(super) fn of_spec(spec: &TriggerSpec) -> Self {
        let mut written = match &spec.kind {
            TriggerKind::Cron { expression } => Self::of_cron(expression),
            TriggerKind::Rule(rule) => Self::of_rule(rule),
        };
        let name = spec.name.to_string();
        written.name = (name != written.to_string()).then_some(name);
        written.zone = spec.zone.clone();
        let is_default = spec.misfire == MisfirePolicy::default();
        written.misfire = (!is_default).then(|| misfire_word(spec.misfire).to_owned());
        written.enabled = spec.enabled;
        written
    }

    fn of_rule(spec: &RuleSpec) -> Self {
        let mut written = Self::empty();
        match &spec.rule {
            TriggerRule::Cron { expression, dialect } => {
                written.cron = Some(expression.clone());
                written.dialect = other_than_default(*dialect, &Dialect::ALL);
            }
            TriggerRule::Interval { every, repeats } => {
                written.interval = Some(every.to_string());
                written.repeats = *repeats;
            }
            TriggerRule::FixedDelay { delay } => written.fixed_delay = Some(delay.to_string()),
            TriggerRule::CalendarInterval { every, unit } => {
                let name = word_of(*unit, &CalendarUnit::ALL);
                let many = if *every == 1 { "" } else { "s" };
                written.calendar_interval = Some(format!("{every} {name}{many}"));
            }
            TriggerRule::DailyWindow { every, from, to, weekdays } => {
                written.daily_window = Some(WindowDefinition {
                    every: every.to_string(),
                    from: (*from != TimeOfDay::MIDNIGHT).then(|| from.to_string()),
                    to: (*to != TimeOfDay::LAST).then(|| to.to_string()),
                    weekdays: (*weekdays != Weekdays::ALL).then(|| weekdays.to_string()),
                });
            }
            TriggerRule::Once { at } => written.once = Some(at.to_string()),
        }
        written.start = spec.start.map(|at| at.to_string());
        written.end = spec.end.map(|at| at.to_string());
        written.dst = other_than_default(spec.dst, &DstPolicy::ALL);
        written.jitter = (spec.jitter != Span::ZERO).then(|| spec.jitter.to_string());
        written.calendars = spec.calendars.iter().map(ToString::to_string).collect();
        written.priority = spec.priority;
        written.params = spec.params.clone();
        written
    }
}

impl WindowDefinition {
    fn rule(&self, field: &str) -> Result<TriggerRule, FieldError> {
        let time = |part: &str, text: &Option<String>, default| match text {
            None => Ok(default),
            Some(text) => text.parse::<TimeOfDay>().map_err(|e| {
                let remedy = "write it as 08:30 or 08:30:15";
                FieldError::invalid(format!("{field}.{part}"), text, e.to_string(), remedy)
            }),
        };
        let weekdays = match &self.weekdays {
            None => Weekdays::ALL,
            Some(text) => text.parse().map_err(|e| {
                let problem = format!("{e}");
                FieldError::invalid(format!("{field}.weekdays"), text, problem, "write MON-FRI")
            })?,
        };
        Ok(TriggerRule::DailyWindow {
            every: span(&format!("{field}.every"), &self.every)?,
            from: time("from", &self.from, TimeOfDay::MIDNIGHT)?,
            to: time("to", &self.to, TimeOfDay::LAST)?,
            weekdays,
        })
    }
}

/// A cron of which nothing else is said keeps its short form.
fn kind(spec: RuleSpec) -> TriggerKind {
    match &spec.rule {
        TriggerRule::Cron { expression, dialect: Dialect::Quartz }
            if spec == RuleSpec::new(spec.rule.clone()) =>
        {
            TriggerKind::Cron { expression: expression.clone() }
        }
        _ => TriggerKind::Rule(Box::new(spec)),
    }
}

/// `1 month`, `2 weeks`.
fn units(field: String, text: &str) -> Result<TriggerRule, FieldError> {
    let (number, unit) = text.trim().split_once(' ').unwrap_or(("1", text.trim()));
    let unit = unit.trim().to_ascii_lowercase();
    let unit = unit.strip_suffix('s').unwrap_or(&unit);
    let found = CalendarUnit::ALL.iter().find(|(name, _)| *name == unit);
    match (number.parse::<u32>(), found) {
        (Ok(every), Some((_, unit))) => Ok(TriggerRule::CalendarInterval { every, unit: *unit }),
        _ => Err(FieldError::invalid(
            field,
            text,
            "this is no number of units",
            "write a number and seconds, minutes, hours, days, weeks, months or years",
        )),
    }
}

/// One of some words; the first is the default.
fn word<T: Copy>(
    field: String,
    text: Option<&str>,
    words: &[(&'static str, T)],
) -> Result<T, FieldError> {
    let wanted = text.unwrap_or(words[0].0);
    let found = words.iter().find(|(word, _)| *word == wanted);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let remedy = format!("write {}", known.join(" or "));
        FieldError::invalid(field, wanted, "there is no such word", remedy)
    })
}

fn other_than_default<T: PartialEq>(value: T, words: &[(&'static str, T)]) -> Option<String> {
    (value != words[0].1).then(|| word_of(value, words).to_owned())
}

fn instant(field: String, text: &str) -> Result<UtcMillis, FieldError> {
    match text.parse::<jiff::Timestamp>() {
        Ok(at) => Ok(UtcMillis(at.as_millisecond())),
        Err(_) => Err(FieldError::invalid(
            field,
            text,
            "this is not an instant",
            "write it with its offset, such as 2026-12-24T18:00:00+01:00",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> TriggerDefinition {
        serde_saphyr::from_str(yaml).unwrap()
    }

    #[test]
    fn every_kind_is_written_as_it_is_read() {
        for (yaml, name) in [
            ("cron: 0 0 3 LW * ?", "cron 0 0 3 LW * ?"),
            ("cron: 0 3 * * 1-5\ndialect: unix\ndst: skip", "cron 0 3 * * 1-5"),
            ("cron: 0 0 3 * * ?\nname: nightly\nmisfire: skip\nenabled: false", "nightly"),
            ("cron: 0 0 3 * * ?\nzone: Asia/Tokyo\njitter: 30s", "cron 0 0 3 * * ?"),
            ("interval: 90s\nrepeats: 3\nstart: 2026-12-24T17:00:00Z", "interval 90s"),
            ("calendar_interval: 1 month\nend: 2027-12-24T17:00:00Z", "each 1 month"),
            ("calendar_interval: 2 weeks\ndst: twice", "each 2 weeks"),
            (
                "daily_window:\n  every: 15m\n  from: 08:30\n  to: '17:00'\n  weekdays: MON,TUE",
                "every 15m from 08:30 to 17:00 MON,TUE",
            ),
            ("daily_window: {every: 1h}", "every 1h from 00:00 to 23:59:59"),
            ("once: 2026-12-24T17:00:00Z", "once 2026-12-24T17:00:00Z"),
            ("fixed_delay: 90s\nstart: 2026-12-24T17:00:00Z", "delay 90s"),
            ("cron: x\ncalendars: [holidays, nights]\npriority: 9", "cron x"),
            ("cron: x\nparams: {DAY: '1', HOUR: two}", "cron x"),
        ] {
            let definition = read(yaml);
            let spec = definition.to_spec("triggers[0]").unwrap();
            assert_eq!(spec.name.to_string(), name, "{yaml}");
            assert_eq!(TriggerDefinition::of_spec(&spec), definition, "{yaml}");
        }
        // Without more to say a cron is stored as it always was.
        let spec = read("cron: 0 0 3 * * ?\ndialect: quartz\ndst: smart").to_spec("t").unwrap();
        assert_eq!(spec.kind, TriggerKind::Cron { expression: "0 0 3 * * ?".to_owned() });
    }

    #[test]
    fn errors_name_the_field() {
        for (yaml, field) in [
            ("{}", "t"),
            ("cron: x\ninterval: 5s", "t"),
            ("interval: 5", "t.interval"),
            ("interval: 5s\ndialect: unix", "t.dialect"),
            ("cron: x\nrepeats: 5", "t.repeats"),
            ("cron: x\ndialect: linux", "t.dialect"),
            ("cron: x\ndst: never", "t.dst"),
            ("cron: x\njitter: some", "t.jitter"),
            ("cron: x\nstart: today", "t.start"),
            ("cron: x\nend: 2026-12-24", "t.end"),
            ("once: tomorrow", "t.once"),
            ("calendar_interval: 2 moons", "t.calendar_interval"),
            ("daily_window: {every: often}", "t.daily_window.every"),
            ("daily_window: {every: 5m, from: noon}", "t.daily_window.from"),
            ("daily_window: {every: 5m, weekdays: some}", "t.daily_window.weekdays"),
            ("cron: x\nmisfire: never", "t.misfire"),
            ("fixed_delay: long", "t.fixed_delay"),
            ("fixed_delay: 5s\ninterval: 5s", "t"),
            ("cron: x\ncalendars: [Holidays]", "t.calendars[0]"),
            ("cron: x\npriority: 10", "t.priority"),
            ("cron: x\nparams: {A-B: c}", "t.params.A-B"),
        ] {
            let error = read(yaml).to_spec("t").unwrap_err();
            assert_eq!(error.field, field, "{yaml}");
            assert!(!error.remedy.is_empty(), "{yaml}");
        }
    }
}
