//! Splits runs that go to all workers of their group, as soon as they may.
//!
//! Over which workers is decided by the machine, from those that are there when the command
//! is applied: here is only seen that there are some. The parts are then dispatched like
//! every other run.

use std::time::Duration;

use horai_core::machine::command::Command;
use horai_core::machine::outcome::{Outcome, Reject};
use horai_core::machine::state::State;
use horai_core::model::demand::Demand;
use horai_core::time::UtcMillis;
use tokio::time::sleep;

use super::events::Receiver;
use super::ports::{Replica, own};
use super::{Error, LIMIT, Term};

/// Splits proposed together: each makes up to a thousand runs.
const AT_ONCE: usize = 8;
/// Time alone lets some of them go.
const ROUND: Duration = Duration::from_secs(1);

/// Splits runs until this node no longer leads.
pub(super) async fn run<R: Replica>(term: Term<R>, mut news: Receiver) -> Result<(), Error> {
    loop {
        // Marked as heard before reading, so that nothing in between is missed.
        news.take();
        let steps = match term.replica.cluster_now() {
            Some(now) => term.replica.read(|state| steps(state, now.max(state.now()))),
            None => Vec::new(),
        };
        let steps: Vec<_> = steps.into_iter().map(|step| own(term.leader, step)).collect();
        let mut goes_on = steps.len() == AT_ONCE;
        for answer in term.replica.propose_all(steps, LIMIT).await {
            match answer {
                Ok(Outcome::Rejected(Reject::StaleLeader(leader))) => {
                    return Err(Error::Deposed(leader));
                }
                Ok(Outcome::Rejected(_)) => goes_on = false,
                Ok(_) => {}
                Err(error) => {
                    goes_on = false;
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(error, "a run was not split");
                }
            }
        }
        if !goes_on {
            tokio::select! {
                () = news.changed() => {}
                () = sleep(ROUND) => {}
            }
        }
    }
}

/// Pure: the next runs to be split.
pub(super) fn steps(state: &State, now: UtcMillis) -> Vec<Command> {
    let mut steps = Vec::new();
    for group in state.queued_groups() {
        let mut last: Option<(&Demand, bool)> = None;
        for (run, demand) in state.to_split(&group) {
            // Those that ask for the same find the same workers.
            let is_new = last.is_none_or(|(known, _)| known != demand);
            let has_crew = match last.filter(|_| !is_new) {
                Some((_, has_crew)) => has_crew,
                None => state.crew_of_all(&group, demand, now).next().is_some(),
            };
            last = Some((demand, has_crew));
            if has_crew {
                steps.push(Command::Spread { run });
            }
            if steps.len() >= AT_ONCE {
                return steps;
            }
        }
    }
    steps
}
