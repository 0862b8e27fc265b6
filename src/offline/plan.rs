//! What jobs would do on a day: their actions, and what each waits for.

use std::collections::BTreeMap;

use horai_core::derivation::plans::Plans;
use horai_core::derivation::{Definition, Error, Found, World, order};
use horai_core::ids::{JobId, Name};
use horai_core::model::calendar::{CalendarDate, CalendarDef};
use horai_core::model::edge::{EdgeSpec, PeriodUnit};
use horai_core::model::job::JobSpec;
use horai_core::time::UtcMillis;
use horai_core::timing::period::{Period, Periods};
use horai_core::timing::zone::Zone;
use serde::Serialize;

/// A day of a set of jobs.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The jobs; their numbers are their places, counted from 1.
    pub jobs: &'a [JobSpec],
    /// The calendars that they name.
    pub calendars: &'a BTreeMap<Name, CalendarDef>,
    /// The day: for each job, that of its own zone.
    pub day: CalendarDate,
    /// The zone of jobs that have none; instants are shown with its offset.
    pub zone: &'a Zone,
}

/// All actions, by instant and name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// Those of the day.
    pub actions: Vec<Action>,
}

/// One version of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Action {
    /// Whose.
    pub job: String,
    /// The instant it stands for.
    pub nominal: String,
    /// What it waits for: of the base first.
    pub upstream: Vec<Upstream>,
}

/// An upstream action, or the word for none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Upstream {
    /// Whose.
    pub job: String,
    /// Its instant; null if there is none.
    pub nominal: Option<String>,
    /// What becomes of an edge that finds nothing: `no_upstream` (it is satisfied),
    /// `wait` or `skip`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_match: Option<&'static str>,
}

/// The names round a circle of dependencies, the first one again at the end. A job
/// that waits for earlier actions of its own makes none.
#[must_use]
pub fn circle(jobs: &[JobSpec]) -> Option<Vec<&str>> {
    let edges: Vec<Vec<usize>> = jobs
        .iter()
        .enumerate()
        .map(|(at, spec)| {
            let place = |edge: &EdgeSpec| usize::try_from(edge.job.0).ok()?.checked_sub(1);
            let is_back = |edge: &&EdgeSpec| place(edge) == Some(at) && edge.matching.looks_back();
            let leads_on = spec.depends_on.iter().filter(|edge| !is_back(edge));
            leads_on.filter_map(place).filter(|up| *up < jobs.len()).collect()
        })
        .collect();
    let circle = order::order(&edges).err()?;
    Some(circle.into_iter().map(|at| jobs[at].name.as_str()).collect())
}

/// Jobs whose instants nobody knows ahead, because each follows from an end.
#[must_use]
pub fn unknown(jobs: &[JobSpec]) -> Vec<&str> {
    let names = jobs.iter().filter(|spec| spec.has_fixed_delay());
    names.map(|spec| spec.name.as_str()).collect()
}

/// Plans the day. Rates without a start are counted from 1970.
///
/// # Errors
/// [`Error`] for the first job that cannot be planned.
pub fn simulate(question: Question<'_>) -> Result<Answer, Error> {
    let Question { jobs, calendars, day, zone } = question;
    let spec_of = |id: JobId| jobs.get(usize::try_from(id.0).ok()?.checked_sub(1)?);
    let definition = |id| spec_of(id).map(|spec| Definition { spec, anchor: UtcMillis(0) });
    let calendar = |name: &Name| calendars.get(name);
    let world = World { jobs: &definition, calendars: &calendar, default_zone: zone.name() };
    let mut plans = Plans::new(world);
    let name_of = |id| spec_of(id).map(|spec| spec.name.to_string()).unwrap_or_default();
    let mut actions: Vec<(UtcMillis, Action)> = Vec::new();
    for (id, spec) in (1..).map(JobId).zip(jobs) {
        let days = Periods::new(plans.periods(id)?.zone().clone(), PeriodUnit::Day);
        let bounds = Period::day(day).and_then(|day| days.bounds(day));
        let (from, to) = bounds.ok_or_else(|| Error::OutOfRange(spec.name.clone()))?;
        for action in plans.between(id, from, to)? {
            let upstream = action.edges.iter().flat_map(|edge| {
                let job = name_of(edge.job);
                upstream(&job, &edge.found, zone)
            });
            actions.push((
                action.nominal,
                Action {
                    job: spec.name.to_string(),
                    nominal: zone.rfc3339(action.nominal),
                    upstream: upstream.collect(),
                },
            ));
        }
    }
    actions.sort_by(|(a, x), (b, y)| (a, &x.job).cmp(&(b, &y.job)));
    Ok(Answer { actions: actions.into_iter().map(|(_, action)| action).collect() })
}

fn upstream(job: &str, found: &Found, zone: &Zone) -> Vec<Upstream> {
    let none = |word| vec![Upstream { job: job.to_owned(), nominal: None, no_match: Some(word) }];
    match found {
        Found::These(instants) => {
            let shown = instants.iter().map(|at| Some(zone.rfc3339(*at)));
            shown.map(|nominal| Upstream { job: job.to_owned(), nominal, no_match: None }).collect()
        }
        Found::None(what) => none(what.word()),
    }
}

#[cfg(test)]
mod tests {
    use horai_core::model::edge::Matching;
    use horai_core::model::job::{MisfirePolicy, TriggerKind, TriggerSpec};

    use super::*;

    fn job(name: &str, cron: &str, edges: &[(u64, Matching)]) -> JobSpec {
        let mut spec = JobSpec::noop(Name::new(name).unwrap());
        if !cron.is_empty() {
            spec.triggers.push(TriggerSpec {
                name: horai_core::ids::TriggerName("t".into()),
                kind: TriggerKind::Cron { expression: cron.to_owned() },
                zone: None,
                misfire: MisfirePolicy::FireAll,
                enabled: true,
            });
        }
        let edge = |(job, matching): &(u64, Matching)| EdgeSpec {
            matching: *matching,
            ..EdgeSpec::new(JobId(*job))
        };
        spec.depends_on = edges.iter().map(edge).collect();
        spec
    }

    fn ask(jobs: &[JobSpec], zone: &str) -> String {
        let (calendars, zone) = (BTreeMap::new(), Zone::parse(zone).unwrap());
        let day = "2024-03-15".parse().unwrap();
        let question = Question { jobs, calendars: &calendars, day, zone: &zone };
        serde_json::to_string(&simulate(question).unwrap()).unwrap()
    }

    #[test]
    fn actions_come_by_instant_and_name_with_what_they_wait_for() {
        let jobs = [
            job("report", "", &[(2, Matching::Nearest), (3, Matching::PreviousPeriod)]),
            job("load", "0 30 5 * * ?", &[]),
            job("once", "0 0 1 16 3 ? 2024", &[]),
        ];
        assert_eq!(
            ask(&jobs, "UTC"),
            r#"{"actions":[{"job":"load","nominal":"2024-03-15T05:30:00+00:00","upstream":[]},"#
                .to_owned()
                + r#"{"job":"report","nominal":"2024-03-15T05:30:00+00:00","upstream":["#
                + r#"{"job":"load","nominal":"2024-03-15T05:30:00+00:00"},"#
                + r#"{"job":"once","nominal":null,"no_match":"no_upstream"}]}]}"#
        );
        // The zone is that of jobs that have none.
        assert!(ask(&jobs, "Asia/Tokyo").contains("2024-03-15T05:30:00+09:00"));
    }

    #[test]
    fn a_circle_is_shown_and_ones_own_past_is_none() {
        let after = |name: &str, edges: &[(u64, Matching)]| job(name, "", edges);
        let near = Matching::Nearest;
        let jobs = [after("a", &[(2, near)]), after("b", &[(3, near)]), after("c", &[(1, near)])];
        assert_eq!(circle(&jobs).unwrap(), ["a", "b", "c", "a"]);
        assert_eq!(circle(&[after("a", &[(1, near)])]).unwrap(), ["a", "a"]);
        assert_eq!(circle(&[job("a", "0 0 1 * * ?", &[(1, Matching::PreviousPeriod)])]), None);
        assert_eq!(unknown(&jobs), [""; 0]);
    }
}
