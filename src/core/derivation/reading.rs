//! What is kept of a job: its clock, its triggers read, and which edges do what.
//! Each job is read once; texts are not looked at again.

use super::matching::Moment;
use super::{Definition, Error, MAX_INSTANTS, World};
use crate::ids::{JobId, Name};
use crate::model::edge::{EdgeSpec, PeriodUnit};
use crate::model::job::{JobSpec, TriggerSpec};
use crate::time::UtcMillis;
use crate::timing::schedule::{Context, Next, Schedule};
use crate::timing::zone::Zone;

/// A job, read.
#[derive(Debug)]
pub(super) struct Job {
    pub(super) id: JobId,
    pub(super) name: Name,
    /// Its number in hera.
    pub(super) legacy: Option<u32>,
    /// Its place among the clocks.
    pub(super) clock: usize,
    pub(super) source: Source,
    pub(super) edges: Vec<EdgeSpec>,
}

/// Where a job's instants come from.
#[derive(Debug)]
pub(super) enum Source {
    /// Its triggers; those that wait for an end have no instants that can be known.
    Triggers(Vec<Schedule>),
    /// The actions of this edge's job.
    Base(usize),
    /// Those of the edge that hera's rule chooses in each period.
    Chosen,
    /// Nothing gives it any.
    None,
}

impl Job {
    /// Reads a definition; `clock_of` finds the place of its clock.
    pub(super) fn read(
        id: JobId,
        world: World<'_>,
        clock_of: impl FnOnce(Zone, PeriodUnit) -> usize,
    ) -> Result<Self, Error> {
        let found = (world.jobs)(id).ok_or(Error::NoSuchJob(id))?;
        let spec = found.spec;
        spec.check_edges(Some(id)).map_err(|e| Error::Edge {
            job: spec.name.clone(),
            edge: e.edge,
            problem: e.problem,
            remedy: e.remedy,
        })?;
        let zone = Zone::parse(spec.zone.as_deref().unwrap_or(world.default_zone))
            .map_err(|source| Error::Zone { job: spec.name.clone(), source })?;
        let source = match (spec.triggers.is_empty(), spec.base_edge()) {
            (false, _) => Source::Triggers(read_triggers(id, found, world)?),
            (true, Some(edge)) => Source::Base(edge),
            (true, None) if spec.depends_on.is_empty() => Source::None,
            (true, None) => Source::Chosen,
        };
        Ok(Self {
            id,
            name: spec.name.clone(),
            legacy: spec.legacy_id,
            clock: clock_of(zone, spec.period),
            source,
            edges: spec.depends_on.iter().map(|edge| numbered(edge, id)).collect(),
        })
    }

    /// The edges that its instants rest on, each with its place.
    pub(super) fn needs(&self) -> impl Iterator<Item = (usize, &EdgeSpec)> {
        let base = match self.source {
            Source::Base(edge) => Some(edge),
            Source::Triggers(_) | Source::Chosen | Source::None => None,
        };
        let edges = self.edges.iter().enumerate();
        edges.filter(move |(place, edge)| base == Some(*place) || edge.needs_one())
    }

    /// True if nobody but its triggers has a say in its instants.
    pub(super) fn is_free(&self) -> bool {
        matches!(self.source, Source::Triggers(_)) && self.needs().next().is_none()
    }
}

/// An edge as it is when its job has a number.
fn numbered(edge: &EdgeSpec, own: JobId) -> EdgeSpec {
    let job = if edge.job == EdgeSpec::OWN { own } else { edge.job };
    EdgeSpec { job, ..edge.clone() }
}

fn read_triggers<'a>(
    id: JobId,
    found: Definition<'a>,
    world: World<'a>,
) -> Result<Vec<Schedule>, Error> {
    let spec: &JobSpec = found.spec;
    let context = Context {
        job: id,
        job_zone: spec.zone.as_deref(),
        default_zone: world.default_zone,
        anchor: found.anchor,
        calendars: world.calendars,
    };
    let gives = |t: &&TriggerSpec| t.enabled && t.kind.fixed_delay().is_none();
    let read = |trigger: &TriggerSpec| {
        Schedule::read(trigger, context).map_err(|source| Error::Trigger {
            job: spec.name.clone(),
            trigger: trigger.name.0.to_string(),
            source: Box::new(source),
        })
    };
    spec.triggers.iter().filter(gives).map(read).collect()
}

/// The instants of a job's triggers from `from` and before `to`. Where two triggers
/// have the same one, the first of them says when it is due.
///
/// None if there are more than [`MAX_INSTANTS`].
pub(super) fn instants(
    schedules: &[Schedule],
    from: UtcMillis,
    to: UtcMillis,
) -> Option<Vec<Moment>> {
    let mut found = Vec::new();
    for schedule in schedules {
        let (mut after, last) = (UtcMillis(from.0.saturating_sub(1)), UtcMillis(to.0 - 1));
        while after < last {
            match schedule.look_after(after, last, |_| true) {
                Next::At(at) if at < to => {
                    found.push(Moment { at, due: schedule.due(at) });
                    if found.len() > MAX_INSTANTS {
                        return None;
                    }
                    after = at;
                }
                Next::At(_) | Next::NoneUpTo(_) | Next::Never => break,
            }
        }
    }
    if schedules.len() > 1 {
        found.sort_by_key(|m| m.at);
        found.dedup_by_key(|m| m.at);
    }
    Some(found)
}
