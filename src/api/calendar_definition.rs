//! A calendar as a person writes it, in a file (YAML, TOML, JSON) or a request
//! body. Exactly one of `dates`, `weekly`, `monthly`, `annual`, `daily` and
//! `cron` says which times are in it. Zones and expressions are checked with the
//! code that will read them.

use std::collections::BTreeSet;

use horai_core::ids::Name;
use horai_core::model::calendar::{CalendarDate, CalendarDef, CalendarRule};
use horai_core::model::trigger::{Dialect, TimeOfDay};
use horai_core::timing::calendar::{Calendar, CalendarError};
use horai_core::timing::zone::Zone;
use serde::{Deserialize, Serialize};

use super::definition_parts::name;
use crate::error::{ErrorCode, FieldError, chain};

/// One calendar, as written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CalendarDefinition {
    /// Unique in the cluster.
    pub name: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// IANA zone of its days and times; the trigger's where none is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// Days such as `2026-12-25`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dates: Vec<String>,
    /// Days of each week, such as `SAT,SUN` or `MON-FRI`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weekly: Option<String>,
    /// Days of each month, 1 to 31.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub monthly: Vec<u8>,
    /// Days of each year, month and day, such as `12-25`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub annual: Vec<String>,
    /// Times of each day, such as `22:00-06:00`; the second one is not in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub daily: Vec<String>,
    /// Each second that an expression matches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cron: Option<String>,
    /// The grammar of `cron`: `quartz` (default) or `unix`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dialect: Option<String>,
    /// True: triggers fire at these times alone; else at none of them.
    #[serde(default, skip_serializing_if = "is_false")]
    pub include_only: bool,
    /// Another calendar that must allow an instant too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature is serde's
fn is_false(value: &bool) -> bool {
    !*value
}

impl CalendarDefinition {
    /// Checks the definition with what it is based on; `find` knows the others.
    ///
    /// # Errors
    /// The first field that cannot be taken, with value and remedy.
    pub fn to_def<'a>(
        &self,
        find: &dyn Fn(&Name) -> Option<&'a CalendarDef>,
    ) -> Result<CalendarDef, FieldError> {
        if self.description.len() > CalendarDef::MAX_DESCRIPTION {
            let remedy = format!("write at most {} bytes", CalendarDef::MAX_DESCRIPTION);
            let size = format!("{} bytes", self.description.len());
            let problem = "the description is too long";
            return Err(FieldError::invalid("description", size, problem, remedy)
                .with_code(ErrorCode::TooLarge));
        }
        let base = self.base.as_deref().map(|base| name("base", base)).transpose()?;
        let def = CalendarDef {
            name: name("name", &self.name)?,
            description: self.description.clone(),
            zone: self.zone.clone(),
            rule: self.rule()?,
            include_only: self.include_only,
            base,
        };
        let own = def.clone();
        let known = |wanted: &Name| find(wanted).filter(|found| found.name != own.name);
        self.check(&def, &known)?;
        Ok(def)
    }

    /// Reads the calendar as a trigger would.
    fn check<'a>(
        &self,
        def: &CalendarDef,
        find: &dyn Fn(&Name) -> Option<&'a CalendarDef>,
    ) -> Result<(), FieldError> {
        if def.base.as_ref() == Some(&def.name) {
            let problem = "a calendar cannot be based on itself";
            return Err(FieldError::invalid("base", &def.name, problem, "name another one"));
        }
        let alone = CalendarDef { base: None, ..def.clone() };
        Calendar::read(&def.name, &Zone::UTC, &|_| Some(&alone))
            .and_then(|read| read.strict(&def.name))
            .map_err(|e| self.worded(&e))?;
        match &def.base {
            None => Ok(()),
            // A circle through this calendar is the machine's to find.
            Some(base) => match Calendar::read(base, &Zone::UTC, find) {
                Ok(_) => Ok(()),
                Err(CalendarError::Unknown(missing)) if missing == def.name => Ok(()),
                Err(error) => Err(FieldError::invalid(
                    "base",
                    base,
                    chain(&error),
                    "apply the base first, or name another one",
                )),
            },
        }
    }

    fn worded(&self, error: &CalendarError) -> FieldError {
        let given = |text: &Option<String>| text.clone().unwrap_or_default();
        let (code, field, value, remedy) = match error {
            CalendarError::Cron { .. } => (
                ErrorCode::BadCron,
                "cron",
                given(&self.cron),
                "write second minute hour day month weekday [year], such as * * 2 * * ?",
            ),
            CalendarError::Zone { .. } => (
                ErrorCode::UnknownZone,
                "zone",
                given(&self.zone),
                "write an IANA name, such as Europe/Berlin or UTC",
            ),
            CalendarError::Content { remedy, .. } => {
                (ErrorCode::InvalidValue, self.kind(), self.times(), *remedy)
            }
            CalendarError::Unknown(_) | CalendarError::Chain(_) => (
                ErrorCode::InvalidValue,
                "base",
                given(&self.base),
                "apply the base first, or name another one",
            ),
        };
        let caret = match error {
            CalendarError::Cron { source, .. } => source.caret(),
            _ => None,
        };
        let problem = match error {
            CalendarError::Content { problem, .. } => format!("the calendar {problem}"),
            _ => chain(error),
        };
        FieldError::invalid(field, value, problem, remedy).with_code(code).with_caret(caret)
    }

    /// What is written in that field.
    fn times(&self) -> String {
        match self.kind() {
            "dates" => self.dates.join(", "),
            "weekly" => self.weekly.clone().unwrap_or_default(),
            "monthly" => self.monthly.iter().map(u8::to_string).collect::<Vec<_>>().join(", "),
            "annual" => self.annual.join(", "),
            "daily" => self.daily.join(", "),
            _ => self.cron.clone().unwrap_or_default(),
        }
    }

    /// The field that says which times are in it.
    fn kind(&self) -> &'static str {
        self.kinds().into_iter().find(|(_, is_given)| *is_given).map_or("dates", |(kind, _)| kind)
    }

    fn kinds(&self) -> [(&'static str, bool); 6] {
        [
            ("dates", !self.dates.is_empty()),
            ("weekly", self.weekly.is_some()),
            ("monthly", !self.monthly.is_empty()),
            ("annual", !self.annual.is_empty()),
            ("daily", !self.daily.is_empty()),
            ("cron", self.cron.is_some()),
        ]
    }

    fn rule(&self) -> Result<CalendarRule, FieldError> {
        let given: Vec<&str> =
            self.kinds().into_iter().filter(|(_, is)| *is).map(|(kind, _)| kind).collect();
        let [kind] = given[..] else {
            return Err(FieldError::invalid(
                given.get(1).copied().unwrap_or("dates"),
                given.join(", "),
                "a calendar needs exactly one kind of times",
                "write one of dates, weekly, monthly, annual, daily and cron",
            ));
        };
        if let Some(dialect) = self.dialect.as_ref().filter(|_| kind != "cron") {
            let remedy = "leave it out: it goes with cron";
            let problem = "it has no meaning here";
            return Err(FieldError::invalid("dialect", dialect, problem, remedy));
        }
        Ok(match kind {
            "dates" => {
                let dates = self.dates.iter().enumerate().map(|(i, text)| {
                    text.parse::<CalendarDate>().map_err(|e| {
                        let remedy = "write it as 2026-12-25";
                        FieldError::invalid(format!("dates[{i}]"), text, e.to_string(), remedy)
                    })
                });
                CalendarRule::Dates(dates.collect::<Result<BTreeSet<_>, _>>()?)
            }
            "weekly" => {
                let text = self.weekly.as_deref().unwrap_or_default();
                CalendarRule::Weekly(text.parse().map_err(|e| {
                    FieldError::invalid("weekly", text, format!("{e}"), "write SAT,SUN")
                })?)
            }
            "monthly" => CalendarRule::Monthly(self.monthly.iter().copied().collect()),
            "annual" => {
                let days = self.annual.iter().enumerate().map(|(i, text)| {
                    month_and_day(text).ok_or_else(|| {
                        let problem = "this is not a day of a year";
                        let remedy = "write month and day, as 12-25";
                        FieldError::invalid(format!("annual[{i}]"), text, problem, remedy)
                    })
                });
                CalendarRule::Annual(days.collect::<Result<BTreeSet<_>, _>>()?)
            }
            "daily" => {
                let ranges = self.daily.iter().enumerate().map(|(i, text)| {
                    range(text).ok_or_else(|| {
                        let problem = "these are not two times of day";
                        let remedy = "write them as 22:00-06:00";
                        FieldError::invalid(format!("daily[{i}]"), text, problem, remedy)
                    })
                });
                CalendarRule::Daily(ranges.collect::<Result<Vec<_>, _>>()?)
            }
            _ => CalendarRule::Cron {
                expression: self.cron.clone().unwrap_or_default(),
                dialect: self.dialect()?,
            },
        })
    }

    fn dialect(&self) -> Result<Dialect, FieldError> {
        let Some(text) = &self.dialect else { return Ok(Dialect::default()) };
        let found = Dialect::ALL.iter().find(|(word, _)| word == text);
        found.map(|(_, dialect)| *dialect).ok_or_else(|| {
            let problem = "there is no such word";
            FieldError::invalid("dialect", text, problem, "write quartz or unix")
        })
    }

    /// The way back: defaults are left out.
    #[must_use]
    pub fn of_def(def: &CalendarDef) -> Self {
        let mut written = Self {
            name: def.name.to_string(),
            description: def.description.clone(),
            zone: def.zone.clone(),
            dates: Vec::new(),
            weekly: None,
            monthly: Vec::new(),
            annual: Vec::new(),
            daily: Vec::new(),
            cron: None,
            dialect: None,
            include_only: def.include_only,
            base: def.base.as_ref().map(ToString::to_string),
        };
        match &def.rule {
            CalendarRule::Dates(dates) => {
                written.dates = dates.iter().map(ToString::to_string).collect();
            }
            CalendarRule::Weekly(days) => written.weekly = Some(days.to_string()),
            CalendarRule::Monthly(days) => written.monthly = days.iter().copied().collect(),
            CalendarRule::Annual(days) => {
                written.annual = days.iter().map(|(m, d)| format!("{m:02}-{d:02}")).collect();
            }
            CalendarRule::Daily(ranges) => {
                written.daily = ranges.iter().map(|(from, to)| format!("{from}-{to}")).collect();
            }
            CalendarRule::Cron { expression, dialect } => {
                written.cron = Some(expression.clone());
                written.dialect = (*dialect == Dialect::Unix).then(|| "unix".to_owned());
            }
        }
        written
    }
}

fn month_and_day(text: &str) -> Option<(u8, u8)> {
    let (month, day) = text.split_once('-')?;
    let number = |part: &str| {
        let is_number = part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| part.parse().ok()).flatten()
    };
    Some((number(month)?, number(day)?))
}

fn range(text: &str) -> Option<(TimeOfDay, TimeOfDay)> {
    let (from, to) = text.split_once('-')?;
    Some((from.trim().parse().ok()?, to.trim().parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(yaml: &str) -> CalendarDefinition {
        serde_saphyr::from_str(yaml).unwrap()
    }

    fn none<'a>(_: &Name) -> Option<&'a CalendarDef> {
        None
    }

    #[test]
    fn every_kind_is_written_as_it_is_read_in_all_three_forms() {
        for yaml in [
            "name: a\ndates: ['2026-12-25', '2026-12-26']\nzone: Europe/Berlin",
            "name: a\nweekly: SAT,SUN\ndescription: no work",
            "name: a\nmonthly: [1, 31]\ninclude_only: true",
            "name: a\nannual: ['12-24', '02-29']",
            "name: a\ndaily: ['00:00-06:00', '22:00-23:59:59']",
            "name: a\ncron: '* * 2 * * ?'",
            "name: a\ncron: '* 2 * * *'\ndialect: unix",
        ] {
            let definition = read(yaml);
            let def = definition.to_def(&none).unwrap();
            assert_eq!(CalendarDefinition::of_def(&def).to_def(&none).unwrap(), def, "{yaml}");
            let json = serde_json::to_string(&definition).unwrap();
            assert_eq!(serde_json::from_str::<CalendarDefinition>(&json).unwrap(), definition);
            let toml = toml::to_string(&definition).unwrap();
            assert_eq!(toml::from_str::<CalendarDefinition>(&toml).unwrap(), definition);
        }
    }

    #[test]
    fn each_mistake_names_its_field_and_a_remedy() {
        for (yaml, field, code) in [
            ("name: A\nweekly: SUN", "name", ErrorCode::InvalidValue),
            ("name: a", "dates", ErrorCode::InvalidValue),
            ("name: a\nweekly: SUN\nmonthly: [1]", "monthly", ErrorCode::InvalidValue),
            ("name: a\nweekly: SOMEDAY", "weekly", ErrorCode::InvalidValue),
            ("name: a\ndates: ['2026-02-30']", "dates[0]", ErrorCode::InvalidValue),
            ("name: a\nmonthly: [32]", "monthly", ErrorCode::InvalidValue),
            ("name: a\nannual: ['02-30']", "annual", ErrorCode::InvalidValue),
            ("name: a\nannual: ['2-3']", "annual[0]", ErrorCode::InvalidValue),
            ("name: a\ndaily: ['8-9']", "daily[0]", ErrorCode::InvalidValue),
            ("name: a\ndaily: ['08:00-08:00']", "daily", ErrorCode::InvalidValue),
            ("name: a\ncron: x", "cron", ErrorCode::BadCron),
            ("name: a\ncron: '* * * ? * MON-FRI/2'", "cron", ErrorCode::BadCron),
            ("name: a\ncron: '* * * 30 2 ?'", "cron", ErrorCode::BadCron),
            ("name: a\ncron: '@every 5s'\ndialect: unix", "cron", ErrorCode::InvalidValue),
            ("name: a\nweekly: SUN\ndialect: unix", "dialect", ErrorCode::InvalidValue),
            ("name: a\ncron: x\ndialect: linux", "dialect", ErrorCode::InvalidValue),
            ("name: a\nweekly: SUN\nzone: Nowhere", "zone", ErrorCode::UnknownZone),
            ("name: a\nweekly: SUN\nbase: a", "base", ErrorCode::InvalidValue),
            ("name: a\nweekly: SUN\nbase: b", "base", ErrorCode::InvalidValue),
        ] {
            let error = read(yaml).to_def(&none).unwrap_err();
            assert_eq!((error.field.as_str(), error.code), (field, code), "{yaml}");
            assert!(!error.remedy.is_empty() && !error.problem.is_empty(), "{yaml}");
            let is_nothing = yaml == "name: a";
            assert_eq!(error.value.is_empty(), is_nothing, "{yaml}");
        }
    }
}
