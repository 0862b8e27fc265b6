//! Is a definition's timing valid? Asked before it is proposed, so that a bad
//! expression or zone is refused with the place where it stands, and never
//! reaches the planner. The machine checks what only the machine can know.

use super::schedule::{Context, Schedule, ScheduleError};
use super::zone::{Zone, ZoneError};
use crate::ids::{JobId, Name};
use crate::model::calendar::CalendarDef;
use crate::model::job::{JobSpec, TriggerKind, TriggerSpec};
use crate::time::UtcMillis;

/// Finds calendars by name.
pub type Calendars<'a> = dyn Fn(&Name) -> Option<&'a CalendarDef> + 'a;

/// What is wrong with a definition's timing, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path} is not valid")]
pub struct SpecError {
    /// The field, such as `triggers[0].cron`.
    pub path: String,
    /// Value and remedy.
    pub source: ScheduleError,
}

impl SpecError {
    /// The expression with a mark under the part at fault, on two lines.
    #[must_use]
    pub fn caret(&self) -> Option<String> {
        match &self.source {
            ScheduleError::Cron(error) => error.caret(),
            _ => None,
        }
    }
}

/// Checks every zone and expression of a definition, disabled triggers included.
/// Without `calendars` the names of calendars are taken as they are, for those who
/// cannot know which there are.
///
/// # Errors
/// [`SpecError`] for the first field that is not valid; `default_zone` is
/// named as such if it is needed and wrong.
pub fn check_spec<'a>(
    spec: &JobSpec,
    default_zone: &str,
    calendars: Option<&Calendars<'a>>,
) -> Result<(), SpecError> {
    check_zone("default_zone", default_zone)?;
    if let Some(zone) = &spec.zone {
        check_zone("zone", zone)?;
    }
    for (index, trigger) in spec.triggers.iter().enumerate() {
        let mut trigger: TriggerSpec = trigger.clone();
        if let (TriggerKind::Rule(rule), None) = (&mut trigger.kind, calendars) {
            rule.calendars.clear();
        }
        let read = Schedule::read(
            &trigger,
            Context {
                job: JobId(0),
                job_zone: spec.zone.as_deref(),
                default_zone,
                anchor: UtcMillis(0),
                calendars: &|name| calendars.and_then(|find| find(name)),
            },
        );
        read.and_then(Schedule::strict).map_err(|source| {
            let field = source.field();
            SpecError { path: format!("triggers[{index}].{field}"), source }
        })?;
    }
    Ok(())
}

fn check_zone(path: &str, name: &str) -> Result<(), SpecError> {
    let wrong =
        |error: ZoneError| SpecError { path: path.to_owned(), source: ScheduleError::Zone(error) };
    Zone::parse(name).map(|_| ()).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::ids::{Name, TriggerName};
    use crate::model::job::{MisfirePolicy, TriggerKind, TriggerSpec};

    fn trigger(expression: &str, zone: Option<&str>) -> TriggerSpec {
        TriggerSpec {
            name: TriggerName(Arc::from("t")),
            kind: TriggerKind::Cron { expression: expression.to_owned() },
            zone: zone.map(str::to_owned),
            misfire: MisfirePolicy::FireAll,
            enabled: false,
        }
    }

    #[test]
    fn errors_name_the_place() {
        let good = || trigger("0 0 3 * * ?", None);
        for (zone, triggers, default, path) in [
            (None, vec![good()], "UTC", ""),
            (Some("Europe/Berlin"), vec![good()], "UTC", ""),
            (Some("Nowhere"), vec![good()], "UTC", "zone"),
            (None, vec![], "Nowhere", "default_zone"),
            (None, vec![good(), trigger("0 0 3 * *", None)], "UTC", "triggers[1].cron"),
            (None, vec![trigger("0 0 3 ? * MON-FRI/2", None)], "UTC", "triggers[0].cron"),
            (None, vec![trigger("0 0 3 * * ?", Some("Nowhere"))], "UTC", "triggers[0].zone"),
        ] {
            let mut spec = JobSpec::noop(Name::new("j").unwrap());
            spec.zone = zone.map(str::to_owned);
            spec.triggers = triggers;
            let found = check_spec(&spec, default, None).err().map_or_else(String::new, |e| e.path);
            assert_eq!(found, path);
        }
    }
}
