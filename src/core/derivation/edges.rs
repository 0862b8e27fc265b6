//! What each edge finds for each action.
//!
//! Instants are there already and are not changed here. `latest_before` and
//! `previous_period` ask for instants of earlier periods, which are computed by
//! themselves; so a job may look back at its own, and nothing leads on from there.

use std::sync::Arc;

use super::matching::{self, Moment, Numbers};
use super::plans::{Plans, base_first};
use super::reading::{Job, Source, instants};
use super::{DerivedAction, EdgeMatch, Error, Found, LOOK_BACK, LOOK_BACK_PERIODS};
use crate::ids::JobId;
use crate::model::edge::{EdgeSpec, Matching, NoMatch};
use crate::time::{Span, UtcMillis};
use crate::timing::period::Period;

/// The first stretch that is looked at for the newest instant of a trigger; each
/// further one is four times as long.
const FIRST_STRETCH: Span = Span::secs(3_600);

/// What an edge has before it for all actions of a period.
struct View {
    job: JobId,
    is_own: bool,
    matching: Matching,
    none: Found,
    legacy: Option<u32>,
    /// The upstream instants of the period, or of the one before.
    moments: Arc<[Moment]>,
    /// All of them, where all are waited for.
    all: Found,
    /// The newest one before the period.
    earlier: Option<UtcMillis>,
}

impl Plans<'_> {
    /// The actions of a job from `from` and before `to`, with what they wait for.
    ///
    /// # Errors
    /// [`Error`] if one of the jobs that this rests on cannot be read, or has too many
    /// instants in a period.
    pub fn between(
        &mut self,
        job: JobId,
        from: UtcMillis,
        to: UtcMillis,
    ) -> Result<Vec<DerivedAction>, Error> {
        let (actions, _) = self.between_in_part(job, (from, to), usize::MAX)?;
        Ok(actions)
    }

    /// The same, a bounded part of it: no further period is begun once more than so many
    /// instants of whatever job were computed. Also says up to where they are known.
    ///
    /// # Errors
    /// As [`Self::between`].
    pub fn between_in_part(
        &mut self,
        job: JobId,
        (from, to): (UtcMillis, UtcMillis),
        instants: usize,
    ) -> Result<(Vec<DerivedAction>, UtcMillis), Error> {
        let job = self.job(job)?;
        let (mut actions, before) = (Vec::new(), self.memo.instants);
        let mut next = self.memo.clocks[job.clock].periods.holding(from);
        if next.is_none() {
            return Err(Error::OutOfRange(job.name.clone()));
        }
        while let Some(period) = next {
            let (begin, _) = self.bounds(&job, period)?;
            if begin >= to {
                break;
            }
            if self.memo.instants - before > instants {
                return Ok((actions, begin));
            }
            let plan = self.plan(job.id, period)?;
            let start = plan.moments.partition_point(|m| m.at < from);
            let end = plan.moments.partition_point(|m| m.at < to);
            let asked = &plan.moments[start..end.max(start)];
            self.match_period(&job, period, (plan.base, asked), &mut actions)?;
            next = self.memo.clocks[job.clock].periods.next(period);
        }
        Ok((actions, to))
    }

    /// What actions of a job would wait for at these instants, ascending, whether or not
    /// a rule gives it these instants. An edge that needs an upstream action of the
    /// period and finds none says that the action is skipped.
    ///
    /// # Errors
    /// As [`Self::between`].
    pub fn at(&mut self, job: JobId, instants: &[UtcMillis]) -> Result<Vec<Vec<EdgeMatch>>, Error> {
        let job = self.job(job)?;
        let (mut actions, mut left) = (Vec::with_capacity(instants.len()), instants);
        while let Some(first) = left.first() {
            let period = self.memo.clocks[job.clock].periods.holding(*first);
            let period = period.ok_or_else(|| Error::OutOfRange(job.name.clone()))?;
            let (_, end) = self.bounds(&job, period)?;
            let (asked, later) = left.split_at(left.partition_point(|at| *at < end).max(1));
            let asked: Vec<Moment> = asked.iter().map(|at| Moment { at: *at, due: *at }).collect();
            self.match_period(&job, period, (None, &asked), &mut actions)?;
            left = later;
        }
        Ok(actions.into_iter().map(|action| action.edges).collect())
    }

    fn match_period(
        &mut self,
        job: &Job,
        period: Period,
        (base, asked): (Option<usize>, &[Moment]),
        actions: &mut Vec<DerivedAction>,
    ) -> Result<(), Error> {
        if asked.is_empty() {
            return Ok(());
        }
        let mut views = Vec::with_capacity(job.edges.len());
        for (place, edge) in base_first(&job.edges, base) {
            let mut view = self.view(job, edge, period)?;
            if view.matching == Matching::LatestBefore {
                // Only where the period itself may have none early enough.
                let first = matching::latest(&view.moments, asked[0].at, view.is_own);
                if first.is_none() {
                    view.earlier = self.look_back(edge.job, job, period)?;
                }
            }
            if base == Some(place) && edge.needs_one() {
                // It is itself what it waits for.
                view.matching = Matching::SameTime;
            }
            views.push(view);
        }
        let numbers = Numbers { clock: &self.memo.clocks[job.clock].periods };
        // hera's number of a derived action ends in its base job's while it looks.
        let legacy = match base {
            Some(_) => views.first().and_then(|base| base.legacy),
            None => job.legacy,
        };
        actions.reserve(asked.len());
        for moment in asked {
            let found = |view: &View| EdgeMatch {
                job: view.job,
                found: view.found(moment.at, legacy, numbers),
            };
            actions.push(DerivedAction {
                nominal: moment.at,
                due: moment.due,
                edges: views.iter().map(found).collect(),
            });
        }
        Ok(())
    }

    fn view(&mut self, job: &Job, edge: &EdgeSpec, period: Period) -> Result<View, Error> {
        let period = match edge.matching {
            Matching::PreviousPeriod => self.memo.clocks[job.clock].periods.before(period),
            Matching::Nearest
            | Matching::SameTime
            | Matching::LatestBefore
            | Matching::AllInPeriod
            | Matching::Hera => Some(period),
        };
        let moments = match period {
            Some(period) => self.seen(edge.job, job, period)?,
            None => Arc::default(),
        };
        let none = if edge.needs_one() { NoMatch::Skips } else { NoMatch::from(edge.on_no_match) };
        let none = Found::None(none);
        let all = match edge.matching {
            Matching::AllInPeriod | Matching::PreviousPeriod if !moments.is_empty() => {
                Found::These(moments.iter().map(|m| m.at).collect())
            }
            _ => none.clone(),
        };
        let legacy = self.job(edge.job)?.legacy;
        let (is_own, matching, earlier) = (edge.job == job.id, edge.matching, None);
        Ok(View { job: edge.job, is_own, matching, none, legacy, moments, all, earlier })
    }

    /// The newest instant of an upstream job before a period of the job.
    fn look_back(
        &mut self,
        up: JobId,
        job: &Job,
        period: Period,
    ) -> Result<Option<UtcMillis>, Error> {
        let (begin, _) = self.bounds(job, period)?;
        let oldest = begin.minus(LOOK_BACK);
        let up = self.job(up)?;
        if let (Source::Triggers(schedules), true) = (&up.source, up.is_free()) {
            let (mut to, mut stretch) = (begin, FIRST_STRETCH);
            while to > oldest {
                let from = to.minus(stretch).max(oldest);
                match instants(schedules, from, to) {
                    Some(found) if found.is_empty() => {}
                    Some(found) => return Ok(found.last().map(|m| m.at)),
                    // There are very many, so the newest one is not far.
                    None if stretch > Span::secs(1) => {
                        stretch = Span(stretch.0 / 16);
                        continue;
                    }
                    None => return Ok(None),
                }
                (to, stretch) = (from, stretch.times(4));
            }
            return Ok(None);
        }
        let mut next = self.memo.clocks[up.clock].periods.holding(UtcMillis(begin.0 - 1));
        for _ in 0..LOOK_BACK_PERIODS {
            let Some(period) = next else { break };
            let (first, end) = self.bounds(&up, period)?;
            if end <= oldest {
                break;
            }
            let moments = self.plan(up.id, period)?.moments;
            let before = moments.partition_point(|m| m.at < begin);
            if let Some(found) = moments[..before].last() {
                return Ok(Some(found.at).filter(|at| *at >= oldest));
            }
            if first <= oldest {
                break;
            }
            next = self.memo.clocks[up.clock].periods.before(period);
        }
        Ok(None)
    }
}

impl View {
    fn found(&self, at: UtcMillis, legacy: Option<u32>, numbers: Numbers<'_>) -> Found {
        let of = &self.moments;
        let one = match self.matching {
            Matching::AllInPeriod | Matching::PreviousPeriod => return self.all.clone(),
            Matching::Nearest => matching::nearest(of, at),
            Matching::SameTime => matching::has(of, at).then_some(at),
            Matching::LatestBefore => matching::latest(of, at, self.is_own).or(self.earlier),
            Matching::Hera => numbers.nearest(of, self.legacy, (at, legacy)),
        };
        one.map_or_else(|| self.none.clone(), |at| Found::These([at].into()))
    }
}
