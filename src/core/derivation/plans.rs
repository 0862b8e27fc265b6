//! The instants of jobs, period by period, each computed once.
//!
//! Depth costs no stack: what is needed first is put on a work list. An upstream
//! action belongs to the *dependant's* period that contains its instant, so where
//! zones or lengths of periods differ, the upstream job's plan of all periods that
//! overlap is computed and cut to size.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::matching::{self, Candidate, Moment};
use super::reading::{Job, Source, instants};
use super::{Error, World};
use crate::ids::JobId;
use crate::model::edge::{EdgeSpec, Matching, PeriodUnit};
use crate::time::UtcMillis;
use crate::timing::period::{Period, Periods};
use crate::timing::zone::Zone;

/// Computed plans. What was computed is kept, so one of these serves for many
/// questions about definitions that do not change meanwhile.
#[derive(Debug)]
pub struct Plans<'a> {
    pub(super) world: World<'a>,
    pub(super) memo: Memo,
}

/// What was computed, for those who ask again later: it holds no definition, and
/// whoever keeps it says which jobs are to be computed anew.
#[derive(Debug, Default)]
pub struct Memo {
    pub(super) clocks: Vec<Clock>,
    jobs: BTreeMap<JobId, Arc<Job>>,
    plans: BTreeMap<JobId, BTreeMap<Period, Plan>>,
    /// By the clocks of upstream job and dependant: the periods of the one that share
    /// an instant with one of the other's.
    overlaps: BTreeMap<(usize, usize, Period), Arc<[Period]>>,
    /// How many instants were computed.
    pub(super) instants: usize,
}

impl Memo {
    /// Forgets a job: because its definition changed, or a calendar that it names, or
    /// a job that it rests on by however many steps.
    pub fn forget(&mut self, job: JobId) {
        self.jobs.remove(&job);
        self.plans.remove(&job);
    }

    /// How many instants were computed, whether or not they were forgotten since: about
    /// as many as it keeps.
    #[must_use]
    pub fn instants(&self) -> usize {
        self.instants
    }

    fn plan(&self, job: JobId, period: Period) -> Option<&Plan> {
        self.plans.get(&job)?.get(&period)
    }
}

/// What an edge that instants rest on has before it in a period.
struct Seen {
    /// Its place in the definition.
    edge: usize,
    matching: Matching,
    needs_one: bool,
    moments: Arc<[Moment]>,
}

/// A job's plan of a period.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// The edge whose job gave the instants.
    pub(super) base: Option<usize>,
    /// Ascending.
    pub(super) moments: Arc<[Moment]>,
}

/// One zone's periods of one length, and their bounds as far as they were asked for.
#[derive(Debug)]
pub(super) struct Clock {
    unit: PeriodUnit,
    pub(super) periods: Periods,
    bounds: BTreeMap<Period, (UtcMillis, UtcMillis)>,
}

impl Clock {
    pub(super) fn bounds(&mut self, period: Period) -> Option<(UtcMillis, UtcMillis)> {
        if let Some(known) = self.bounds.get(&period) {
            return Some(*known);
        }
        let bounds = self.periods.bounds(period)?;
        self.bounds.insert(period, bounds);
        Some(bounds)
    }
}

impl<'a> Plans<'a> {
    /// With nothing computed yet.
    #[must_use]
    pub fn new(world: World<'a>) -> Self {
        Self::with(world, Memo::default())
    }

    /// With what was computed before.
    #[must_use]
    pub fn with(world: World<'a>, memo: Memo) -> Self {
        Self { world, memo }
    }

    /// What was computed.
    #[must_use]
    pub fn into_memo(self) -> Memo {
        self.memo
    }

    /// The job's periods: of its length and in its zone.
    ///
    /// # Errors
    /// [`Error`] if the job cannot be read.
    pub fn periods(&mut self, job: JobId) -> Result<&Periods, Error> {
        let job = self.job(job)?;
        Ok(&self.memo.clocks[job.clock].periods)
    }

    pub(super) fn job(&mut self, id: JobId) -> Result<Arc<Job>, Error> {
        if let Some(job) = self.memo.jobs.get(&id) {
            return Ok(Arc::clone(job));
        }
        let clocks = &mut self.memo.clocks;
        let clock_of = |zone: Zone, unit: PeriodUnit| {
            let is_it = |clock: &Clock| clock.unit == unit && *clock.periods.zone() == zone;
            clocks.iter().position(is_it).unwrap_or_else(|| {
                let periods = Periods::new(zone, unit);
                clocks.push(Clock { unit, periods, bounds: BTreeMap::new() });
                clocks.len() - 1
            })
        };
        let job = Arc::new(Job::read(id, self.world, clock_of)?);
        self.memo.jobs.insert(id, Arc::clone(&job));
        Ok(job)
    }

    /// The plan of a period, with all that it rests on.
    pub(super) fn plan(&mut self, job: JobId, period: Period) -> Result<Plan, Error> {
        if let Some(plan) = self.memo.plan(job, period) {
            return Ok(plan.clone());
        }
        let mut work = vec![(job, period)];
        // Those that wait for what is above them in the list.
        let mut open: BTreeMap<JobId, Period> = BTreeMap::new();
        while let Some(&(id, period)) = work.last() {
            if self.memo.plan(id, period).is_some() {
                work.pop();
                continue;
            }
            let job = self.job(id)?;
            let missing = self.missing(&job, period)?;
            if missing.is_empty() {
                let plan = self.compute(&job, period)?;
                // One at least, so that empty periods count as well.
                self.memo.instants += plan.moments.len().max(1);
                self.memo.plans.entry(id).or_default().insert(period, plan);
                open.remove(&id);
                work.pop();
            } else if open.insert(id, period).is_some() {
                return Err(self.cycle(id));
            } else {
                work.extend(missing);
            }
        }
        // The list is empty when this plan is there.
        self.memo.plan(job, period).cloned().ok_or(Error::NoSuchJob(job))
    }

    /// The upstream plans that are not there yet.
    fn missing(&mut self, job: &Job, period: Period) -> Result<Vec<(JobId, Period)>, Error> {
        let mut missing = Vec::new();
        for (_, edge) in job.needs() {
            let upstream = self.job(edge.job)?;
            for &period in self.overlapping(&upstream, job, period)?.iter() {
                if self.memo.plan(edge.job, period).is_none() {
                    missing.push((edge.job, period));
                }
            }
        }
        Ok(missing)
    }

    /// The periods of an upstream job that share an instant with one of the job's.
    fn overlapping(&mut self, up: &Job, job: &Job, period: Period) -> Result<Arc<[Period]>, Error> {
        let key = (up.clock, job.clock, period);
        if let Some(known) = self.memo.overlaps.get(&key) {
            return Ok(Arc::clone(known));
        }
        let mut found = Vec::new();
        if up.clock == job.clock {
            found.push(period);
        } else {
            let (begin, end) = self.bounds(job, period)?;
            let first = self.memo.clocks[up.clock].periods.holding(begin);
            let mut next = first.filter(|_| begin < end);
            while let Some(period) = next {
                if self.bounds(up, period)?.0 >= end {
                    break;
                }
                found.push(period);
                next = self.memo.clocks[up.clock].periods.next(period);
            }
        }
        let found: Arc<[Period]> = found.into();
        self.memo.overlaps.insert(key, Arc::clone(&found));
        Ok(found)
    }

    pub(super) fn bounds(
        &mut self,
        job: &Job,
        period: Period,
    ) -> Result<(UtcMillis, UtcMillis), Error> {
        let bounds = self.memo.clocks[job.clock].bounds(period);
        bounds.ok_or_else(|| Error::OutOfRange(job.name.clone()))
    }

    /// The instants of an upstream job in a period of the job.
    pub(super) fn seen(
        &mut self,
        up: JobId,
        job: &Job,
        period: Period,
    ) -> Result<Arc<[Moment]>, Error> {
        let up = self.job(up)?;
        if up.clock == job.clock {
            return Ok(self.plan(up.id, period)?.moments);
        }
        let (begin, end) = self.bounds(job, period)?;
        let mut seen = Vec::new();
        for &period in self.overlapping(&up, job, period)?.iter() {
            let moments = self.plan(up.id, period)?.moments;
            let from = moments.partition_point(|m| m.at < begin);
            let to = moments.partition_point(|m| m.at < end);
            seen.extend_from_slice(&moments[from..to]);
        }
        Ok(seen.into())
    }

    /// What the job has in the period; the plans that it needs are there.
    fn compute(&mut self, job: &Job, period: Period) -> Result<Plan, Error> {
        let mut seen: Vec<Seen> = Vec::new();
        for (place, edge) in job.needs() {
            let moments = self.seen(edge.job, job, period)?;
            let (matching, needs_one) = (edge.matching, edge.needs_one());
            seen.push(Seen { edge: place, matching, needs_one, moments });
        }
        let (base, moments) = match &job.source {
            Source::None => (None, Arc::default()),
            Source::Triggers(schedules) => {
                let (begin, end) = self.bounds(job, period)?;
                let found = instants(schedules, begin, end).ok_or_else(|| Error::TooMany {
                    job: job.name.clone(),
                    period: period.to_string(),
                })?;
                (None, found.into())
            }
            Source::Base(edge) => (Some(*edge), of(&seen, *edge)),
            Source::Chosen => match self.choose(job, &seen)? {
                Some(edge) => (Some(edge), of(&seen, edge)),
                None => (None, Arc::default()),
            },
        };
        Ok(Plan { base, moments: only_matched(moments, base, &seen) })
    }

    /// The base, by hera's rule; none if a job that may be has no actions at all.
    fn choose(&mut self, job: &Job, seen: &[Seen]) -> Result<Option<usize>, Error> {
        let mut candidates = Vec::with_capacity(seen.len());
        for Seen { edge, matching, moments, .. } in seen {
            let Some(first) = moments.first() else { return Ok(None) };
            // hera knows no seconds.
            let unit = if *matching == Matching::Hera { 60_000 } else { 1 };
            let first = UtcMillis(first.at.0 - first.at.0.rem_euclid(unit));
            let legacy = self.job(job.edges[*edge].job)?.legacy;
            candidates.push(Candidate { edge: *edge, count: moments.len(), first, legacy });
        }
        Ok(matching::base(candidates.into_iter()))
    }

    /// The way from a job back to itself, as names.
    fn cycle(&mut self, through: JobId) -> Error {
        let mut came_from: BTreeMap<JobId, JobId> = BTreeMap::new();
        let mut work = VecDeque::from([through]);
        while let Some(at) = work.pop_front() {
            // One that cannot be read is not on the way: it would have been said.
            let Ok(job) = self.job(at) else { continue };
            for (_, edge) in job.needs() {
                if let Entry::Vacant(free) = came_from.entry(edge.job) {
                    free.insert(at);
                    work.push_back(edge.job);
                }
            }
        }
        let mut path = vec![through];
        let mut at = through;
        while let Some(down) = came_from.get(&at) {
            path.push(*down);
            at = *down;
            if at == through {
                break;
            }
        }
        path.reverse();
        let name = |job: &JobId| self.memo.jobs.get(job).map(|job| job.name.clone());
        Error::Cycle { path: path.iter().filter_map(name).collect() }
    }
}

/// What an edge has seen.
fn of(seen: &[Seen], edge: usize) -> Arc<[Moment]> {
    let found = seen.iter().find(|seen| seen.edge == edge);
    found.map(|seen| Arc::clone(&seen.moments)).unwrap_or_default()
}

/// Those for which every edge that needs one finds one.
fn only_matched(moments: Arc<[Moment]>, base: Option<usize>, seen: &[Seen]) -> Arc<[Moment]> {
    let others = seen.iter().filter(|seen| base != Some(seen.edge) && seen.needs_one);
    if others.clone().any(|seen| seen.moments.is_empty()) {
        return Arc::default();
    }
    let exact: Vec<&Seen> = others.filter(|seen| seen.matching == Matching::SameTime).collect();
    if exact.is_empty() {
        return moments;
    }
    let is_matched = |m: &&Moment| exact.iter().all(|seen| matching::has(&seen.moments, m.at));
    moments.iter().filter(is_matched).copied().collect()
}

/// The edges of a job, the base first.
pub(super) fn base_first(
    edges: &[EdgeSpec],
    base: Option<usize>,
) -> impl Iterator<Item = (usize, &EdgeSpec)> {
    let first = base.into_iter().filter_map(move |place| Some((place, edges.get(place)?)));
    first.chain(edges.iter().enumerate().filter(move |(place, _)| base != Some(*place)))
}
