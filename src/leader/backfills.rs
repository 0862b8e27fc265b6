//! Lets back-fills begin runs in their hours only, and sees that none stands still.
//!
//! The machine knows no zones: whether it is such an hour is said to it when that
//! changes. Everything else of a back-fill goes on by itself, run after run; only one
//! that found no room, or had more to do than one command may, is asked to look again.

use std::time::Duration;

use horai_core::machine::command::Command;
use horai_core::machine::outcome::{Outcome, Reject};
use horai_core::machine::state::State;
use horai_core::model::backfill::{Backfill, BackfillState};
use horai_core::time::UtcMillis;
use horai_core::timing::zone::Zone;
use tokio::time::sleep;

use super::ports::{Replica, own};
use super::{Error, LIMIT, Term};

/// Between two looks: hours begin and end within this.
const ROUND: Duration = Duration::from_secs(1);

/// Looks after back-fills until this node no longer leads.
pub(super) async fn run<R: Replica>(term: Term<R>) -> Result<(), Error> {
    loop {
        let steps = match term.replica.cluster_now() {
            Some(now) => term.replica.read(|state| steps(state, now)),
            None => Vec::new(),
        };
        let steps = steps.into_iter().map(|step| own(term.leader, step)).collect();
        for answer in term.replica.propose_all(steps, LIMIT).await {
            match answer {
                Ok(Outcome::Rejected(Reject::StaleLeader(leader))) => {
                    return Err(Error::Deposed(leader));
                }
                // One that ended meanwhile needs nothing, and what was not committed is
                // seen again in the next round.
                Ok(_) => {}
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::debug!(error, "a back-fill was not looked after");
                }
            }
        }
        sleep(ROUND).await;
    }
}

/// Pure: what must be said to the machine.
pub(super) fn steps(state: &State, now: UtcMillis) -> Vec<Command> {
    let step = |backfill: &Backfill| {
        let open = is_open(state, backfill, now);
        let stands_still = backfill.state == BackfillState::Running
            && open
            && backfill.counts.live < backfill.concurrency
            && backfill.counts.waiting() > 0;
        (open != backfill.is_open || stands_still)
            .then_some(Command::OpenBackfill { backfill: backfill.id, open })
    };
    state.live_backfills().filter_map(step).collect()
}

/// True at a time of day at which runs may begin, as clocks in the job's zone show it.
fn is_open(state: &State, backfill: &Backfill, now: UtcMillis) -> bool {
    let Some(hours) = backfill.hours else { return true };
    let zone = state.job(backfill.job).and_then(|job| job.spec.zone.as_deref());
    let zone = Zone::either(zone, state.settings().map(|s| s.default_zone.as_str()));
    hours.contain(zone.minute_of_day(now))
}
