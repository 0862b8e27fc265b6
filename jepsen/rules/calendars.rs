//! Calendars: whether one allows an instant, asked of the local time alone.

use std::collections::BTreeMap;

use chrono::{Datelike, NaiveDateTime, NaiveTime};
use chrono_tz::Tz;
use serde_json::Value;

use super::cron::Cron;
use super::rates::local;
use super::{RuleError, time_of_day, weekdays, zone};

/// A calendar with those that it is based on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Calendar {
    times: Times,
    zone: Option<Tz>,
    include_only: bool,
    base: Option<Box<Calendar>>,
}

#[derive(Debug, Clone, PartialEq)]
enum Times {
    /// `2026-12-25`
    Dates(Vec<String>),
    Weekly(u8),
    Monthly(Vec<u64>),
    /// `12-25`
    Annual(Vec<String>),
    /// From and up to before.
    Daily(Vec<(NaiveTime, NaiveTime)>),
    Cron(Vec<Cron>),
}

/// A longer chain of bases leads in a circle.
const LONGEST: usize = 16;

impl Calendar {
    /// Reads the calendar of that name from all that there are.
    pub(super) fn read(name: &str, all: &BTreeMap<String, Value>) -> Result<Self, RuleError> {
        Self::read_within(name, all, LONGEST)
    }

    fn read_within(
        name: &str,
        all: &BTreeMap<String, Value>,
        left: usize,
    ) -> Result<Self, RuleError> {
        let unknown = || RuleError::Unknown("calendar", name.to_owned());
        let written = all.get(name).filter(|_| left > 0).ok_or_else(unknown)?;
        let texts = |field: &str| -> Option<Vec<String>> {
            let items = written[field].as_array()?;
            Some(items.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        };
        let times = if let Some(dates) = texts("dates") {
            Times::Dates(dates)
        } else if let Some(days) = written["weekly"].as_str() {
            Times::Weekly(weekdays(days)?)
        } else if let Some(days) = written["monthly"].as_array() {
            Times::Monthly(days.iter().filter_map(Value::as_u64).collect())
        } else if let Some(days) = texts("annual") {
            Times::Annual(days)
        } else if let Some(ranges) = texts("daily") {
            let range = |text: &String| {
                let (from, to) = text.split_once('-').ok_or_else(unknown)?;
                Ok((time_of_day(from)?, time_of_day(to)?))
            };
            Times::Daily(ranges.iter().map(range).collect::<Result<_, RuleError>>()?)
        } else if let Some(text) = written["cron"].as_str() {
            let is_unix = written["dialect"] == "unix";
            Times::Cron(if is_unix { Cron::unix(text)? } else { vec![Cron::quartz(text)?] })
        } else {
            return Err(unknown());
        };
        let base = match written["base"].as_str() {
            Some(base) => Some(Box::new(Self::read_within(base, all, left - 1)?)),
            None => None,
        };
        Ok(Self {
            times,
            zone: written["zone"].as_str().map(zone).transpose()?,
            include_only: written["include_only"] == true,
            base,
        })
    }

    /// True if a trigger of that zone may fire then.
    pub(super) fn allows(&self, of_trigger: Tz, at: i64) -> bool {
        let Some(local) = local(self.zone.unwrap_or(of_trigger), at) else { return false };
        self.times.have(local) == self.include_only
            && self.base.as_ref().is_none_or(|base| base.allows(of_trigger, at))
    }
}

impl Times {
    fn have(&self, at: NaiveDateTime) -> bool {
        let is = |format: &str, text: &String| at.format(format).to_string() == *text;
        match self {
            Self::Dates(dates) => dates.iter().any(|date| is("%Y-%m-%d", date)),
            Self::Weekly(days) => days >> at.weekday().num_days_from_sunday() & 1 == 1,
            Self::Monthly(days) => days.contains(&u64::from(at.day())),
            Self::Annual(days) => days.iter().any(|day| is("%m-%d", day)),
            Self::Daily(ranges) => ranges.iter().any(|(from, to)| {
                let now = at.time();
                if from < to { (*from..*to).contains(&now) } else { now >= *from || now < *to }
            }),
            Self::Cron(crons) => crons.iter().any(|cron| cron.matches(at)),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::time::millis;

    #[test]
    fn each_kind_leaves_out_what_it_names_or_all_else() {
        // A Saturday, 10:30 UTC, 11:30 in Berlin.
        let at = millis("2026-11-21T10:30:00Z").unwrap();
        for (written, is_in) in [
            (json!({"dates": ["2026-11-21"]}), true),
            (json!({"dates": ["2026-11-22"]}), false),
            (json!({"weekly": "SAT,SUN"}), true),
            (json!({"weekly": "MON-FRI"}), false),
            (json!({"monthly": [1, 21]}), true),
            (json!({"annual": ["11-21"]}), true),
            (json!({"annual": ["12-24"]}), false),
            (json!({"daily": ["10:30-10:30:01"]}), true),
            (json!({"daily": ["10:00-10:30"]}), false),
            (json!({"daily": ["22:00-10:31"]}), true),
            (json!({"daily": ["11:00-12:00"], "zone": "Europe/Berlin"}), true),
            (json!({"cron": "0-9 * * * * ?"}), true),
            (json!({"cron": "30 11 * * *", "dialect": "unix"}), false),
        ] {
            for include_only in [false, true] {
                let mut written = written.clone();
                written["include_only"] = json!(include_only);
                let all = BTreeMap::from([("c".to_owned(), written.clone())]);
                let calendar = Calendar::read("c", &all).unwrap();
                assert_eq!(calendar.allows(Tz::UTC, at), is_in == include_only, "{written}");
            }
        }
    }

    #[test]
    fn all_of_a_chain_must_allow() {
        let all = BTreeMap::from([
            ("a".to_owned(), json!({"weekly": "SUN", "base": "b"})),
            ("b".to_owned(), json!({"daily": ["10:00-11:00"]})),
            ("round".to_owned(), json!({"weekly": "SUN", "base": "round"})),
        ]);
        let chain = Calendar::read("a", &all).unwrap();
        let allows = |text: &str| chain.allows(Tz::UTC, millis(text).unwrap());
        assert!(allows("2026-11-21T11:00:00Z") && !allows("2026-11-21T10:59:59Z"));
        assert!(!allows("2026-11-22T11:00:00Z"));
        assert!(Calendar::read("round", &all).is_err() && Calendar::read("none", &all).is_err());
    }
}
