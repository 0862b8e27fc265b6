//! What the answers to proposed dispatches mean.
//!
//! Pure: picks and answers come in; whom to tell, and of whom nothing is known,
//! comes out. A worker is told only of what was committed for certain.

use std::collections::BTreeMap;

use horai_core::ids::{LeaderId, RunId, WorkerId};
use horai_core::machine::outcome::{Outcome, Reject};
use horai_core::machine::state::State;
use horai_core::mutants::{self, Mutant};
use horai_raft::Error;

use super::picks::Pick;

/// Runs to be started, by worker.
pub(super) type Starts = BTreeMap<WorkerId, Vec<RunId>>;

/// What became of a group of dispatches.
#[derive(Debug, Default)]
pub(super) struct Answers {
    /// Committed: their workers are told.
    pub(super) starts: Starts,
    /// Committed or not: looked up once a later command is committed.
    pub(super) unsure: Vec<Pick>,
    /// Nothing can be committed at the moment, or nothing was.
    pub(super) failed: bool,
    /// Refused because the run was dispatched or over already.
    pub(super) duplicates: u64,
    /// Refused because their worker had gone, or it or a pool had filled up.
    pub(super) outrun: u64,
    /// The first failure for another reason.
    pub(super) error: Option<Error>,
}

/// Sorts answers, which come in the order of the picks.
///
/// # Errors
/// The leader that was refused: another one has begun its term.
pub(super) fn read(
    picks: &[Pick],
    answers: Vec<Result<Outcome, Error>>,
) -> Result<Answers, LeaderId> {
    let mut answers = answers.into_iter();
    let mut sorted = Answers::default();
    for pick in picks {
        match answers.next().unwrap_or(Err(Error::OutcomeUnknown)) {
            Ok(Outcome::Dispatched { .. }) => {
                sorted.starts.entry(pick.worker).or_default().push(pick.run);
            }
            Ok(Outcome::Rejected(Reject::StaleLeader(leader))) => return Err(leader),
            Ok(Outcome::Rejected(
                Reject::NotDispatchable(_) | Reject::RunOver(_) | Reject::NoSuchRun(_),
            )) => sorted.duplicates += 1,
            // The worker went, or it or a pool filled up in between: the run waits on.
            Ok(_) => sorted.outrun += 1,
            Err(Error::OutcomeUnknown) => {
                sorted.failed = true;
                if !mutants::on(Mutant::UnsureNeverTold) {
                    sorted.unsure.push(*pick);
                }
            }
            Err(error) => {
                sorted.failed = true;
                sorted.error.get_or_insert(error);
            }
        }
    }
    // Nothing but refusals: whatever the cause, asking at once would not help.
    sorted.failed |= sorted.starts.is_empty();
    Ok(sorted)
}

/// Those of them that the state holds, once everything proposed before was
/// applied or never will be.
pub(super) fn committed(state: &State, unsure: &[Pick]) -> Starts {
    let mut starts = Starts::new();
    for pick in unsure.iter().filter(|pick| pick.is_committed(state)) {
        starts.entry(pick.worker).or_default().push(pick.run);
    }
    starts
}
