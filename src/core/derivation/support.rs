//! A small world of jobs for tests: made in a given order, asked for a day.

use std::collections::BTreeMap;

use super::plans::Plans;
use super::{Definition, DerivedAction, Error, Found, World};
use crate::ids::{JobId, Name, TriggerName};
use crate::model::calendar::CalendarDate;
use crate::model::edge::{EdgeSpec, Matching, PeriodUnit};
use crate::model::job::{JobSpec, MisfirePolicy, TriggerKind, TriggerSpec};
use crate::time::UtcMillis;
use crate::timing::period::{Period, Periods};
use crate::timing::zone::Zone;

/// A job of a test, before it has a number.
#[derive(Debug, Clone)]
pub(super) struct Made {
    pub(super) spec: JobSpec,
    /// Names of upstream jobs, with the rest of the edge.
    pub(super) edges: Vec<(String, EdgeSpec)>,
}

impl Made {
    pub(super) fn new(name: &str) -> Self {
        Self { spec: JobSpec::noop(Name::new(name).unwrap()), edges: Vec::new() }
    }

    pub(super) fn cron(mut self, expression: &str) -> Self {
        self.spec.triggers.push(TriggerSpec {
            name: TriggerName(format!("t{}", self.spec.triggers.len()).into()),
            kind: TriggerKind::Cron { expression: expression.to_owned() },
            zone: None,
            misfire: MisfirePolicy::FireAll,
            enabled: true,
        });
        self
    }

    pub(super) fn zone(mut self, zone: &str) -> Self {
        self.spec.zone = Some(zone.to_owned());
        self
    }

    pub(super) fn period(mut self, unit: PeriodUnit) -> Self {
        self.spec.period = unit;
        self
    }

    pub(super) fn after(self, upstream: &str, matching: Matching) -> Self {
        self.edge(upstream, EdgeSpec { matching, ..EdgeSpec::new(JobId(0)) })
    }

    pub(super) fn base(self, upstream: &str, matching: Matching) -> Self {
        self.edge(upstream, EdgeSpec { matching, base: true, ..EdgeSpec::new(JobId(0)) })
    }

    pub(super) fn edge(mut self, upstream: &str, edge: EdgeSpec) -> Self {
        self.edges.push((upstream.to_owned(), edge));
        self
    }
}

/// Jobs with their numbers, counted in the order in which they were made.
#[derive(Debug)]
pub(super) struct Jobs {
    specs: BTreeMap<JobId, JobSpec>,
    ids: BTreeMap<String, JobId>,
}

impl Jobs {
    pub(super) fn new(made: &[Made]) -> Self {
        let name = |made: &Made| made.spec.name.to_string();
        let ids: BTreeMap<String, JobId> =
            (1..).map(JobId).zip(made).map(|(id, made)| (name(made), id)).collect();
        let spec = |made: &Made| {
            let edges = made.edges.iter();
            let depends_on = edges.map(|(up, edge)| EdgeSpec { job: ids[up], ..edge.clone() });
            let spec = JobSpec { depends_on: depends_on.collect(), ..made.spec.clone() };
            (ids[&name(made)], spec)
        };
        Self { specs: made.iter().map(spec).collect(), ids }
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.ids.keys().cloned().collect()
    }

    pub(super) fn spec(&self, id: JobId) -> &JobSpec {
        &self.specs[&id]
    }

    pub(super) fn name(&self, id: JobId) -> &str {
        self.specs[&id].name.as_str()
    }

    /// Asks with a world that knows these jobs, and no calendars.
    pub(super) fn ask<T>(&self, question: impl FnOnce(&mut Plans<'_>) -> T) -> T {
        let anchor = UtcMillis(0);
        let jobs = |id| self.specs.get(&id).map(|spec| Definition { spec, anchor });
        let world = World { jobs: &jobs, calendars: &|_| None, default_zone: "UTC" };
        question(&mut Plans::new(world))
    }

    /// A job's actions of a day in its zone.
    pub(super) fn actions(
        &self,
        plans: &mut Plans<'_>,
        name: &str,
        day: &str,
    ) -> Result<Vec<DerivedAction>, Error> {
        let id = self.ids[name];
        let zone = self.specs[&id].zone.as_deref().unwrap_or("UTC");
        let days = Periods::new(Zone::parse(zone).unwrap(), PeriodUnit::Day);
        let date: CalendarDate = day.parse().unwrap();
        let (from, to) = days.bounds(Period::day(date).unwrap()).unwrap();
        plans.between(id, from, to)
    }

    /// The same as text: `TIME` and for each edge ` NAME@TIME,TIME` or ` NAME:word`,
    /// in UTC as `DDTHHMM`.
    pub(super) fn day(&self, name: &str, day: &str) -> Vec<String> {
        let actions = self.ask(|plans| self.actions(plans, name, day)).unwrap();
        actions.iter().map(|action| self.shown(action)).collect()
    }

    pub(super) fn shown(&self, action: &DerivedAction) -> String {
        let time = |at: &UtcMillis| at.compact()[6..13].to_owned();
        let edges = action.edges.iter().map(|edge| {
            let name = self.name(edge.job);
            match &edge.found {
                Found::These(all) => {
                    format!(" {name}@{}", all.iter().map(time).collect::<Vec<_>>().join(","))
                }
                Found::None(what) => format!(" {name}:{}", what.word()),
            }
        });
        format!("{}{}", time(&action.nominal), edges.collect::<String>())
    }
}
