//! What actions wait for: which upstream actions a plan may name, and what becomes
//! of an action whose upstream action never comes.
//!
//! A plan may name an upstream action that is not planned yet: its identity is known
//! before it exists. It comes, or the upstream job's cursors pass its instant without
//! it: an edit took it away, a misfire policy or the end of a pause left it out. Then
//! whoever waits for it is told here.

use std::collections::BTreeSet;

use super::super::command::{PlanBatch, PlanSource, PlannedAction};
use super::super::outcome::Event;
use super::super::state::{HIGHEST, LOWEST, State};
use super::plan::sources_of;
use crate::ids::{ActionKey, JobId, RunId};
use crate::model::action::{ActionState, SkipReason, Upstream};
use crate::model::edge::{EdgeSpec, Matching, NoMatch, Standing};
use crate::model::job::{Job, JobSpec};
use crate::time::{Span, UtcMillis};

impl State {
    /// How far all of a job's cursors have come. A job without any gives no
    /// instants, so nothing of it need be waited for.
    #[must_use]
    pub fn planned_through(&self, job: JobId) -> UtcMillis {
        let Some(found) = self.jobs.get(&job) else { return UtcMillis(i64::MIN) };
        let cursor = |source: &PlanSource| self.cursor(job, source).unwrap_or(UtcMillis(i64::MIN));
        let sources = sources_of(&found.spec);
        // A trigger that is paused alone gives no instants meanwhile, and must not
        // hold up those who wait for the others.
        let active = sources.iter().filter(|source| !self.is_source_paused(job, source));
        let through = active.map(cursor).min();
        through.or_else(|| sources.iter().map(cursor).min()).unwrap_or(UtcMillis::MAX)
    }

    /// Up to where the job's instants are decided: an action that is not there by then
    /// will never be. Unlike [`Self::planned_through`] this waits for paused triggers.
    pub(super) fn decided_through(&self, job: JobId) -> UtcMillis {
        self.cursors_of(job).iter().map(|(_, at)| *at).min().unwrap_or(UtcMillis::MAX)
    }

    /// How long after its nominal time an action of the job may wait.
    pub(in crate::machine) fn max_wait_of(&self, job: JobId) -> Span {
        let said = self.jobs.get(&job).and_then(|job| job.spec.wait_limit);
        said.unwrap_or(self.limits.max_wait)
    }

    /// True if an action is there, or may come.
    #[must_use]
    pub fn may_come(&self, key: ActionKey) -> bool {
        self.actions.contains(&key) || key.nominal > self.decided_through(key.job)
    }

    /// True if nobody knows the instants of such a job ahead: they follow from the ends of
    /// its own actions, or of those of a job whose instants it copies.
    #[must_use]
    pub fn is_unforeseen(&self, spec: &JobSpec) -> bool {
        let mut spec = Some(spec);
        while let Some(at) = spec {
            if at.has_fixed_delay() {
                return true;
            }
            let copied = at.depends_on.first().filter(|_| at.copies_instants());
            spec = copied.and_then(|edge| self.jobs.get(&edge.job)).map(|job| &job.spec);
        }
        false
    }

    /// True if an edge of the job looks for what is there, and not for what its upstream
    /// job's rules say: where those do not know it.
    #[must_use]
    pub fn looks_at_actions(&self, edge: &EdgeSpec) -> bool {
        let up = self.jobs.get(&edge.job);
        edge.matching == Matching::LatestBefore && up.is_some_and(|up| self.is_unforeseen(&up.spec))
    }

    /// True if the job's plan must not pass that of an edge's job. Its own cannot be ahead
    /// of itself, and what nobody knows ahead is not waited for.
    #[must_use]
    pub fn is_bound_by(&self, job: JobId, edge: &EdgeSpec) -> bool {
        edge.job != job && !self.looks_at_actions(edge)
    }

    /// True if an upstream action could still appear behind this batch's cursor.
    pub(super) fn passes_upstream(&self, job: &Job, batch: &PlanBatch) -> bool {
        // A trigger without instants up to there misses none.
        let needs_upstream = batch.source == PlanSource::Dependencies || !batch.actions.is_empty();
        let is_passed = |edge: &EdgeSpec| {
            self.is_bound_by(job.id, edge) && self.planned_through(edge.job) < batch.through
        };
        needs_upstream && job.spec.depends_on.iter().any(is_passed)
    }

    pub(super) fn has_upstream(&self, job: &Job, planned: &PlannedAction) -> bool {
        let is_edge = |up: &JobId| job.spec.edge_to(*up).is_some();
        let mut seen = BTreeSet::new();
        planned.upstream.len() <= PlannedAction::MAX_UPSTREAM
            && planned.unmatched.len() <= JobSpec::MAX_EDGES
            && planned.unmatched.iter().all(|(up, _)| is_edge(up))
            && planned.upstream.iter().all(|key| {
                seen.insert(*key)
                    && is_edge(&key.job)
                    && (key.job != job.id || key.nominal < planned.nominal)
                    && self.may_come(*key)
            })
    }

    /// What a planned action waits for, as it stands; and why it is skipped, if it is.
    pub(super) fn upstream_of(
        &self,
        key: ActionKey,
        planned: &PlannedAction,
    ) -> (Vec<Upstream>, Option<SkipReason>) {
        let mut skipped = None;
        let spec = self.jobs.get(&key.job).map(|job| &job.spec);
        let matched = planned.upstream.iter().map(|up| {
            let edge = spec.and_then(|spec| spec.edge_to(up.job));
            let mut waits = Upstream::on(*up, edge);
            let Some(above) = self.actions.get(up) else { return waits };
            if let Some((at, run)) = self.passed_by(&waits) {
                waits.pass(at, run);
            } else if waits.judge(above.state) == Standing::Closed {
                skipped = Some(SkipReason::Upstream);
            }
            waits
        });
        let mut upstream: Vec<Upstream> = matched.collect();
        for (job, none) in &planned.unmatched {
            if *none == NoMatch::Skips {
                skipped = skipped.or(Some(SkipReason::NoUpstream));
            }
            upstream.push(found_none(*job, key, *none));
        }
        (upstream, skipped)
    }

    /// What an action that was over waits for now: what ended meanwhile counts, and what is
    /// gone and will not come again is nothing to wait for, nor is it met.
    pub(super) fn as_it_stands(&self, key: ActionKey, up: &Upstream) -> Upstream {
        let mut up = *up;
        if up.is_met() {
            return up;
        }
        if let Some((at, run)) = self.passed_by(&up) {
            up.pass(at, run);
        } else if up.awaited().is_some_and(|above| !self.may_come(above)) {
            return found_none(up.action.job, key, NoMatch::Waits);
        }
        up
    }

    /// When the upstream action ended as it must, and by which run, if it did.
    pub(super) fn passed_by(&self, up: &Upstream) -> Option<(UtcMillis, Option<RunId>)> {
        let above = up.awaited().and_then(|above| self.actions.get(&above))?;
        let is_passed = up.judge(above.state) == Standing::Passed;
        is_passed.then(|| (above.finished.unwrap_or(self.meta.now), above.run_behind()))
    }

    /// The job's instants were decided up to `before`, and may be further now: whoever
    /// waits for one that is not there waits in vain.
    pub(super) fn decided_on(&mut self, job: JobId, before: UtcMillis, ev: &mut Vec<Event>) {
        let after = self.decided_through(job);
        if after <= before {
            return;
        }
        let first = ActionKey { job, nominal: UtcMillis(before.0.saturating_add(1)) };
        let last = ActionKey { job, nominal: after };
        let awaited = self.index.upstream.range((first, LOWEST)..=(last, HIGHEST));
        // One that was met and forgotten since is missed by nobody who runs again.
        let is_lost = |(up, down): &&(ActionKey, ActionKey)| {
            let waits = |u: &Upstream| u.awaited() == Some(*up) && !u.is_met();
            let down = self.actions.get(down);
            !self.actions.contains(up) && down.is_some_and(|a| a.upstream.iter().any(waits))
        };
        let lost: Vec<(ActionKey, ActionKey)> = awaited.filter(is_lost).copied().collect();
        for (up, down) in lost {
            self.lose_upstream(up, down, ev);
        }
    }

    /// An upstream action will never be.
    fn lose_upstream(&mut self, up: ActionKey, down: ActionKey, ev: &mut Vec<Event>) {
        if self.is_under_way(down) {
            // Somebody asked for that run, whatever the action waits for.
            return self.replace_upstream(down, up, Some(found_none(up.job, down, NoMatch::Waits)));
        }
        let spec = self.jobs.get(&down.job).map(|job| &job.spec);
        let edge = spec.and_then(|spec| spec.edge_to(up.job));
        let Some(edge) = edge.filter(|edge| !edge.needs_one()) else {
            return self.settle(down, ActionState::Skipped(SkipReason::Upstream), ev);
        };
        let none = NoMatch::from(edge.on_no_match);
        let of_edge = |u: &&Upstream| u.action.job == up.job;
        let others =
            self.actions.get(&down).map_or(0, |a| a.upstream.iter().filter(of_edge).count());
        if others > 1 {
            self.replace_upstream(down, up, None);
        } else if none == NoMatch::Skips {
            return self.settle(down, ActionState::Skipped(SkipReason::NoUpstream), ev);
        } else {
            self.replace_upstream(down, up, Some(found_none(up.job, down, none)));
        }
        ev.push(Event::Action(down));
        self.reconsider(down, ev);
    }
}

/// An edge of an action that found nothing.
fn found_none(job: JobId, of: ActionKey, none: NoMatch) -> Upstream {
    let none = Some(none);
    Upstream { none, ..Upstream::on(ActionKey { job, nominal: of.nominal }, None) }
}
