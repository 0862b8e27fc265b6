//! What attempts began elsewhere: kept with them, for whoever has to end it.

use super::super::outcome::{Event, Outcome, Reject};
use super::super::state::State;
use super::at_most;
use crate::ids::{AttemptKey, Token};
use crate::model::handle::Handle;

impl State {
    /// Adds what is new. An attempt that is over may still say what became of its handles.
    pub(super) fn note_handles(
        &mut self,
        attempt: AttemptKey,
        token: Token,
        handles: &[Handle],
        ev: &mut Vec<Event>,
    ) -> Result<Outcome, Reject> {
        at_most("handles", handles.len(), Handle::MAX)?;
        let run = self.runs.get(&attempt.run).filter(|run| {
            run.attempts.iter().any(|known| known.key == attempt && known.token == token)
        });
        let mut run = run.ok_or(Reject::StaleAttempt(attempt))?.clone();
        let list = run.handles.entry(attempt.number).or_default();
        if Handle::merge(list, handles) {
            ev.push(Event::Run(run.id));
            self.put_run(run);
        }
        Ok(Outcome::Done)
    }
}
