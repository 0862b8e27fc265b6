//! Tells workers to end attempts whose runs someone asked to end, or whose workers are
//! drained and the time for that is over.
//!
//! The request is state; this only carries it. A worker that cannot be told now
//! is told when it attaches again, which is the session's part.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use horai_core::ids::RunId;
use horai_core::machine::state::State;
use horai_core::model::run::Run;
use tokio::time::sleep;

use super::events::{Changed, Receiver};
use super::ports::{Orders, Replica};
use super::{Error, Term};

/// Changes are gathered for this long: ending a process takes longer anyway.
const GATHER: Duration = Duration::from_millis(20);

/// Carries requests until this node no longer leads.
pub(super) async fn run<R: Replica, O: Orders>(
    term: Term<R>,
    orders: O,
    mut news: Receiver,
) -> Result<(), Error> {
    let mut changed = Changed::All;
    loop {
        let wanted = term.replica.read(|state| to_cancel(state, &changed));
        for run in wanted {
            term.counters.cancels.fetch_add(1, Relaxed);
            orders.cancel(run);
        }
        news.changed().await;
        sleep(GATHER).await;
        changed = news.take().runs;
    }
}

/// Pure: of what changed, the runs whose live attempt must end.
pub(super) fn to_cancel(state: &State, changed: &Changed<RunId>) -> Vec<RunId> {
    let is_wanted = |run: &&Run| run.must_end();
    let mut wanted: Vec<RunId> = match changed {
        Changed::Some(runs) => {
            runs.iter().filter_map(|id| state.run(*id)).filter(is_wanted).map(|r| r.id).collect()
        }
        Changed::All => state
            .workers_after(None)
            .flat_map(|worker| state.running_on(worker.id))
            .filter(is_wanted)
            .map(|run| run.id)
            .collect(),
    };
    wanted.sort_unstable();
    wanted.dedup();
    wanted
}
