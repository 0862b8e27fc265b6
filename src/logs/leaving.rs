//! Whether a voter may leave: only when everything that was acknowledged is with a
//! majority of those that stay.
//!
//! A byte that was acknowledged is with a majority of the voters, so a majority's answers
//! name all of them. What any of them holds is required of those that stay. What is being
//! written meanwhile is not: it is handed on to them anyway. A node that leaves with its
//! disk lost is not asked for anything.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use horai_core::ids::{AttemptKey, NodeId};
use tokio::time::{Instant, sleep};

use super::Logs;
use super::compare::{Answers, missing_at_more_than, union};
use crate::chunks::Ranges;

/// How long is waited for repair.
const PATIENCE: Duration = Duration::from_secs(2);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(300);
/// Attempts compared at once.
const PAGE: u32 = 5_000;

/// Why a node is not to leave yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Needed {
    /// Nobody knows what is where.
    #[error("logs could be lost: only {answer} of {voters} voters say what they hold of them")]
    TooFew {
        /// Voters that answer.
        answer: usize,
        /// All of them.
        voters: usize,
    },
    /// It would leave too few copies.
    #[error(
        "logs could be lost: what was written by {attempts} attempts is not with a majority of \
         the nodes that stay yet"
    )]
    Copies {
        /// How many.
        attempts: usize,
    },
    /// The same of files of jobs.
    #[error(
        "files of jobs could be lost: {files} contents are not with a majority of the nodes that \
         stay yet"
    )]
    Files {
        /// How many.
        files: usize,
    },
}

impl Logs {
    /// Waits, for a while, until a voter may leave; any other node always may.
    ///
    /// # Errors
    /// [`Needed`]
    pub async fn may_leave(&self, node: NodeId) -> Result<(), Needed> {
        let voters: BTreeSet<NodeId> = self.voters().1.into_keys().collect();
        let stay: BTreeSet<NodeId> = voters.iter().copied().filter(|v| *v != node).collect();
        if stay.len() == voters.len() || stay.is_empty() {
            return Ok(());
        }
        let asks = Leaving { logs: self, voters: voters.len(), stay };
        let until = Instant::now() + PATIENCE;
        let mut lacks = asks.everything().await?;
        while !lacks.is_empty() {
            if Instant::now() >= until {
                return Err(Needed::Copies { attempts: lacks.len() });
            }
            sleep(LOOK).await;
            lacks = asks.again(lacks).await?;
        }
        loop {
            match self.files_at_risk(&asks.stay).await? {
                0 => return Ok(()),
                files if Instant::now() >= until => return Err(Needed::Files { files }),
                _ => sleep(LOOK).await,
            }
        }
    }
}

/// What too few of those that stay hold.
type Lacks = BTreeMap<AttemptKey, Ranges>;

struct Leaving<'a> {
    logs: &'a Logs,
    voters: usize,
    stay: BTreeSet<NodeId>,
}

impl Leaving<'_> {
    async fn everything(&self) -> Result<Lacks, Needed> {
        let (mut from, mut lacks) = (0, Lacks::new());
        loop {
            let (answers, next) = self.logs.held_from(from, PAGE).await;
            self.suffices(&answers)?;
            let keys: BTreeSet<AttemptKey> =
                answers.values().flat_map(BTreeMap::keys).copied().collect();
            let wanted = keys.into_iter().map(|key| (key, union(&answers, key)));
            lacks.extend(self.compare(&answers, wanted));
            match next {
                Some(next) => from = next,
                // What a node dropped is in no page: each is asked by name.
                None => return self.again(lacks).await,
            }
        }
    }

    /// Looks at these once more.
    async fn again(&self, lacks: Lacks) -> Result<Lacks, Needed> {
        let lives = |key: &AttemptKey| self.logs.node.read(|state| state.run(key.run).is_some());
        let lacks: Vec<_> = lacks.into_iter().filter(|(key, _)| lives(key)).collect();
        let mut left = Lacks::new();
        for some in lacks.chunks(PAGE as usize) {
            let keys = some.iter().map(|(key, _)| *key).collect();
            let answers = self.logs.held_by_all(&keys).await;
            self.suffices(&answers)?;
            left.extend(self.compare(&answers, some.iter().cloned()));
        }
        Ok(left)
    }

    fn suffices(&self, answers: &Answers) -> Result<(), Needed> {
        let (answer, voters) = (answers.len(), self.voters);
        if answer * 2 > voters { Ok(()) } else { Err(Needed::TooFew { answer, voters }) }
    }

    fn compare(
        &self,
        answers: &Answers,
        wanted: impl IntoIterator<Item = (AttemptKey, Ranges)>,
    ) -> Lacks {
        let may_miss = (self.stay.len() - 1) / 2;
        let lacks = wanted.into_iter().map(|(key, wanted)| {
            let missing = self.stay.iter().map(|node| {
                let held = answers.get(node).map(|held| held.get(&key));
                match held.flatten() {
                    Some(held) if held.dropped => Ranges::default(),
                    Some(held) => wanted.minus(&held.ranges),
                    None => wanted.clone(),
                }
            });
            (key, missing_at_more_than(may_miss, &wanted, missing))
        });
        lacks.filter(|(_, lacks)| !lacks.is_empty()).collect()
    }
}
