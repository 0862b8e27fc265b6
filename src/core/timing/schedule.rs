//! A trigger's definition, read: its rule and its zone. What the planner keeps
//! for each trigger, so that texts are parsed once a revision.

use super::cron::{CronError, CronExpr};
use super::next_fire;
use super::zone::{Zone, ZoneError};
use crate::model::job::{TriggerKind, TriggerSpec};
use crate::model::trigger::DstPolicy;
use crate::time::UtcMillis;

/// A rule that gives instants, in a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule {
    rule: Rule,
    zone: Zone,
}

/// The kinds of triggers, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    Cron(CronExpr),
}

/// Why a trigger cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ScheduleError {
    /// Its expression.
    #[error(transparent)]
    Cron(CronError),
    /// Its zone, or the one it inherits.
    #[error(transparent)]
    Zone(ZoneError),
}

impl Schedule {
    /// A cron expression in a zone.
    #[must_use]
    pub fn cron(expression: CronExpr, zone: Zone) -> Self {
        Self { rule: Rule::Cron(expression), zone }
    }

    /// Reads a trigger of a job. The nearest zone holds: the trigger's, the
    /// job's, the cluster's.
    ///
    /// # Errors
    /// [`ScheduleError`] if the expression or that zone is not valid.
    pub fn of(
        trigger: &TriggerSpec,
        job_zone: Option<&str>,
        default_zone: &str,
    ) -> Result<Self, ScheduleError> {
        let zone = trigger.zone.as_deref().or(job_zone).unwrap_or(default_zone);
        let zone = Zone::parse(zone).map_err(ScheduleError::Zone)?;
        match &trigger.kind {
            TriggerKind::Cron { expression } => {
                let cron = CronExpr::parse(expression).map_err(ScheduleError::Cron)?;
                Ok(Self::cron(cron, zone))
            }
        }
    }

    /// The zone whose wall clock it follows.
    #[must_use]
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// The first instant strictly after `after`; none if there is no more.
    #[must_use]
    pub fn next_after(&self, after: UtcMillis) -> Option<UtcMillis> {
        match &self.rule {
            Rule::Cron(cron) => next_fire::next_after(cron, &self.zone, DstPolicy::Smart, after),
        }
    }

    /// All instants after `after`, ascending.
    pub fn after(&self, after: UtcMillis) -> impl Iterator<Item = UtcMillis> + '_ {
        std::iter::successors(self.next_after(after), |last| self.next_after(*last))
    }
}
