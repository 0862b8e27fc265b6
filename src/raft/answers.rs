//! What became of commands, and how sure that is.
//!
//! A command that may have been committed is never called refused: whoever asks
//! again must know that it could run twice. Several answers are one only where
//! all agree.

use horai_core::machine::outcome::Outcome;

use crate::network::server::Refusal;
use crate::node::Error;

/// A command's outcome and the index that it was applied at.
pub(crate) type Answer = Result<(Outcome, u64), Error>;
/// The fate of one entry: all its outcomes, or none.
pub(crate) type Whole = Result<(Vec<Outcome>, u64), Error>;

/// The same error for each of so many commands.
pub(crate) fn all(count: usize, error: &Error) -> Vec<Answer> {
    (0..count).map(|_| Err(error.again())).collect()
}

/// Adds the answers of one entry; gives the error back if it has one.
pub(crate) fn spread(count: usize, done: Whole, answers: &mut Vec<Answer>) -> Option<Error> {
    match done {
        Ok((outcomes, index)) => {
            let missing = count.saturating_sub(outcomes.len());
            answers.extend(outcomes.into_iter().take(count).map(|outcome| Ok((outcome, index))));
            answers.extend(all(missing, &Error::OutcomeUnknown));
            None
        }
        Err(error) => {
            answers.extend(all(count, &error));
            Some(error)
        }
    }
}

impl Error {
    /// Whether certainly nothing was committed.
    pub(crate) fn certain(&self) -> bool {
        match self {
            Self::Encode(_)
            | Self::TooLarge(_)
            | Self::NoLeader(_)
            | Self::NoTime
            | Self::Busy
            | Self::SnapshotLate { .. }
            | Self::Refused(_) => true,
            Self::OutcomeUnknown | Self::Stopped | Self::Io(_) => false,
        }
    }

    /// The same for the next proposer of a batch.
    pub(crate) fn again(&self) -> Self {
        match self {
            Self::NoLeader(leader) => Self::NoLeader(*leader),
            Self::NoTime => Self::NoTime,
            Self::Busy => Self::Busy,
            Self::Stopped => Self::Stopped,
            Self::OutcomeUnknown => Self::OutcomeUnknown,
            Self::TooLarge(size) => Self::TooLarge(*size),
            Self::Refused(text) => Self::Refused(text.clone()),
            Self::Encode(_) | Self::Io(_) | Self::SnapshotLate { .. } => {
                Self::Refused(self.to_string())
            }
        }
    }
}

/// The answers to several commands as one: a plain refusal only if certainly none
/// of them was committed.
pub(crate) fn all_or_refusal(answers: Vec<Answer>) -> Result<Vec<(Outcome, u64)>, Refusal> {
    let count = answers.len();
    let mut done = Vec::with_capacity(count);
    let mut none_committed = Vec::new();
    for answer in answers {
        match answer {
            Ok(outcome) => done.push(outcome),
            Err(Error::NoLeader(leader)) => none_committed.push(Refusal::NotLeader(leader)),
            Err(error) if error.certain() => none_committed.push(Refusal::Other(error.to_string())),
            Err(_) => return Err(Refusal::OutcomeUnknown),
        }
    }
    match none_committed.pop() {
        None => Ok(done),
        Some(refusal) if none_committed.len() + 1 == count => Err(refusal),
        Some(_) => Err(Refusal::OutcomeUnknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_refused_plainly_only_if_none_of_it_was_committed() {
        let done = || Ok((Outcome::Done, 7));
        let elsewhere = || Err(Error::NoLeader(Some(2)));
        assert_eq!(all_or_refusal(vec![done(), done()]).unwrap().len(), 2);
        for (answers, refusal) in [
            (vec![elsewhere(), elsewhere()], Refusal::NotLeader(Some(2))),
            (vec![done(), elsewhere()], Refusal::OutcomeUnknown),
            (vec![elsewhere(), Err(Error::OutcomeUnknown)], Refusal::OutcomeUnknown),
            (vec![Err(Error::Stopped)], Refusal::OutcomeUnknown),
            (vec![Err(Error::NoTime)], Refusal::Other(Error::NoTime.to_string())),
        ] {
            assert_eq!(all_or_refusal(answers).unwrap_err(), refusal);
        }
    }
}
