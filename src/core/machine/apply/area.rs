//! Areas: what becomes of an action whose job has nothing to do where the cluster stands.
//! It is a success at once, without a run, when nothing else holds it any more; so those
//! behind it go on as if it had run.
//!
//! That is judged when the action would start, by the job and the area of that moment.
//! What is queued by then runs, and so does what somebody asks for by hand beside the plan.

use super::super::outcome::{Outcome, Reject};
use super::super::state::State;
use super::invalid;
use super::overlap::Settled;
use crate::ids::{ActionKey, JobId};
use crate::model::action::ActionState;
use crate::model::area::Area;

impl State {
    pub(super) fn set_area(&mut self, area: Option<&Area>) -> Result<Outcome, Reject> {
        let Some(settings) = &mut self.meta.settings else {
            return Err(invalid("area", "there is no cluster yet; found it first"));
        };
        settings.area = area.cloned();
        Ok(Outcome::Done)
    }

    /// True if actions of the job are not run here.
    pub(super) fn is_job_elsewhere(&self, job: JobId) -> bool {
        self.jobs.get(&job).is_some_and(|job| self.is_elsewhere(&job.spec))
    }

    /// An action of such a job, which nothing holds: what it is to be settled as.
    pub(super) fn pass_by_area(&mut self, key: ActionKey) -> Settled {
        self.edit_action(key, |action| {
            action.next_kind = None;
            action.by_area = true;
        });
        vec![(key, ActionState::Success)]
    }
}
