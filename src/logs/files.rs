//! Files of jobs on the disks of all nodes: stored, repaired, dropped, read.
//!
//! Contents need even less agreement than logs: their hash is their name, so that any node
//! may hand them to the voters, whoever leads. That a content is needed is committed first
//! ([`State::file_len`](horai_core::machine::state::State::file_len) knows it from then on);
//! it is with a majority before a definition is proposed that names it. Every node drops what the state keeps no longer, and the
//! leader copies to every voter what that lacks of the rest.
//!
//! A node whose state lags must not take a content for one that nobody wants: before it
//! drops anything it hears of all that was committed before it looked, and what came since
//! it looked stays (see [`Store::drop_contents`](crate::chunks::Store::drop_contents)).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream::{FuturesUnordered, StreamExt};
use horai_core::ids::NodeId;
use horai_core::model::file::Digest;
use horai_proto::logs as pb;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::repair::pace;
use super::{Logs, Needed};
use crate::chunks::content::{pack, unpack};
use crate::error::ErrorCode;

/// Before a majority is tried again.
const AGAIN: Duration = Duration::from_millis(300);
/// Bytes handed to a node at once.
const AT_ONCE: usize = 4 << 20;
/// How long it may take to hear of what was committed.
const HEAR: Duration = Duration::from_secs(5);

/// Why a file is not stored, or not to be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilesError {
    /// Too few nodes have it on their disks.
    #[error("files of jobs are on the disks of {stored} of {voters} nodes only: {why}")]
    TooFew {
        /// Nodes that have all of them.
        stored: usize,
        /// All that vote.
        voters: usize,
        /// What one of the others said.
        why: String,
    },
    /// Nobody who answers has it.
    #[error("no node that answers has the content {digest}: {answered} of {voters} answer")]
    Missing {
        /// Which.
        digest: Digest,
        /// Nodes that said so.
        answered: usize,
        /// All that vote.
        voters: usize,
    },
}

impl FilesError {
    /// The row of the table of errors.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        ErrorCode::Unavailable
    }

    /// True if everybody was asked: asking again does not help.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Missing { answered, voters, .. } if answered == voters)
    }
}

/// By voter, this node included: only those that answer, and know all that they hold.
type Answers = BTreeMap<NodeId, BTreeSet<Digest>>;

impl Logs {
    /// Returns once a majority of the voters has these on its disks; those without bytes
    /// are found in the cluster. That they are needed is committed already.
    ///
    /// # Errors
    /// [`FilesError`], after `limit` at the latest.
    pub async fn keep_files(
        self: &Arc<Self>,
        mut contents: BTreeMap<Digest, Option<Bytes>>,
        limit: Duration,
    ) -> Result<(), FilesError> {
        let named = contents.iter().filter(|(_, bytes)| bytes.is_none());
        let named: Vec<Digest> = named.map(|(digest, _)| *digest).collect();
        if !named.is_empty() {
            let held = self.files_of_all(&named).await;
            let voters = self.voters().1.len();
            for digest in named {
                let holders = held.values().filter(|held| held.contains(&digest)).count();
                if holders * 2 > voters {
                    contents.remove(&digest);
                } else {
                    let (_, bytes) = self.file(digest).await?;
                    contents.insert(digest, Some(bytes));
                }
            }
        }
        let mut last = None;
        let kept = timeout(limit, async {
            for batch in batches(contents.into_values().flatten()) {
                while let Err(error) = self.hand_out(&batch).await {
                    last = Some(error);
                    sleep(AGAIN).await;
                }
            }
        })
        .await;
        let (stored, voters, why) = (0, self.voters().1.len(), "no answer in time".to_owned());
        kept.map_err(|_| last.unwrap_or(FilesError::TooFew { stored, voters, why }))
    }

    /// Hands contents to all voters and waits for a majority; the others get them all the
    /// same.
    async fn hand_out(self: &Arc<Self>, batch: &[pb::Content]) -> Result<(), FilesError> {
        let voters = self.voters().1;
        let (told, mut answers) = mpsc::channel(voters.len().max(1));
        for node in voters.keys().copied() {
            let (logs, batch, told) = (Arc::clone(self), batch.to_vec(), told.clone());
            tokio::spawn(async move {
                // Whoever asked may have had enough answers.
                let _ = told.send(logs.put_files_at(node, batch).await).await;
            });
        }
        drop(told);
        let (mut stored, mut why) = (0, "they do not answer".to_owned());
        while let Some(put) = answers.recv().await {
            match put {
                Ok(()) => stored += 1,
                Err(error) => why = error,
            }
            if stored * 2 > voters.len() {
                return Ok(());
            }
        }
        Err(FilesError::TooFew { stored, voters: voters.len(), why })
    }

    async fn put_files_at(&self, node: NodeId, batch: Vec<pb::Content>) -> Result<(), String> {
        if node == self.voters().0 {
            return self.store.put_contents(batch).await.map_err(|error| error.to_string());
        }
        let put = self.peers.put_files(node, batch).await;
        put.map_err(|error| format!("node {node}: {}", error.message()))
    }

    /// A content from wherever it is, as it is sent and as it is.
    ///
    /// # Errors
    /// [`FilesError::Missing`]
    pub async fn file(
        self: &Arc<Self>,
        digest: Digest,
    ) -> Result<(pb::Content, Bytes), FilesError> {
        let (me, voters) = self.voters();
        let own = self.own_file(digest).await;
        if let Some(content) = own {
            return Ok(content);
        }
        let others = voters.keys().copied().filter(|voter| *voter != me);
        let mut asked: FuturesUnordered<_> =
            others.map(|node| async move { self.peers.read_file(node, digest).await }).collect();
        let mut answered = usize::from(voters.contains_key(&me) && self.store.shut().is_none());
        while let Some(answer) = asked.next().await {
            match answer {
                Ok(content) => match unpack(&content) {
                    Ok((found, bytes)) if found == digest => return Ok((content, bytes)),
                    Ok(_) | Err(_) => answered += 1,
                },
                Err(error) => answered += usize::from(error.code() == tonic::Code::NotFound),
            }
        }
        Err(FilesError::Missing { digest, answered, voters: voters.len() })
    }

    /// A content that this node itself holds.
    pub(super) async fn own_file(&self, digest: Digest) -> Option<(pb::Content, Bytes)> {
        let store = Arc::clone(&self.store);
        // A panic of it was told; the content is asked for elsewhere.
        tokio::task::spawn_blocking(move || store.content(digest)).await.ok().flatten()
    }

    /// Which of these each voter holds, and goes on holding; with none, all that it holds.
    async fn files_of_all(&self, digests: &[Digest]) -> Answers {
        let (me, voters) = self.voters();
        let asks_me = voters.contains_key(&me);
        let others = voters.into_keys().filter(|voter| *voter != me);
        let asked = others.map(|node| async move {
            let held = self.peers.held_files(node, digests).await.ok()?;
            Some((node, held))
        });
        let mut held: Answers = join_all(asked).await.into_iter().flatten().collect();
        if asks_me && self.store.shut().is_none() {
            held.insert(me, self.own_files(digests));
        }
        held
    }

    /// What this node itself holds of these, or with none, of all.
    pub(super) fn own_files(&self, digests: &[Digest]) -> BTreeSet<Digest> {
        if digests.is_empty() {
            self.store.contents().into_iter().map(|(digest, _)| digest).collect()
        } else {
            self.store.touch_contents(digests).into_iter().collect()
        }
    }

    /// Of what somebody holds, that which the state keeps.
    fn kept_of(&self, answers: &Answers) -> BTreeSet<Digest> {
        let mut all: BTreeSet<Digest> = answers.values().flatten().copied().collect();
        self.node.read(|state| all.retain(|digest| state.file_len(*digest).is_some()));
        all
    }

    /// Brings to every voter what it lacks.
    pub(super) async fn repair_files(self: &Arc<Self>) {
        let answers = self.files_of_all(&[]).await;
        for digest in self.kept_of(&answers) {
            let lacks = answers.iter().filter(|(_, held)| !held.contains(&digest));
            let lacks: Vec<NodeId> = lacks.map(|(node, _)| *node).collect();
            if lacks.is_empty() {
                continue;
            }
            let Ok((content, _)) = self.file(digest).await else { continue };
            let size = content.data.len() as u64;
            for node in lacks {
                if let Err(error) = self.put_files_at(node, vec![content.clone()]).await {
                    tracing::debug!(%digest, %node, error, "a file is not repaired yet");
                }
                pace(size).await;
            }
        }
    }

    /// How many contents too few of those that stay hold.
    ///
    /// # Errors
    /// [`Needed::TooFew`]
    pub(super) async fn files_at_risk(&self, stay: &BTreeSet<NodeId>) -> Result<usize, Needed> {
        let answers = self.files_of_all(&[]).await;
        let (answer, voters) = (answers.len(), self.voters().1.len());
        if answer * 2 <= voters {
            return Err(Needed::TooFew { answer, voters });
        }
        let holders = |digest: &Digest| {
            let stays = answers.iter().filter(|(node, _)| stay.contains(node));
            stays.filter(|(_, held)| held.contains(digest)).count()
        };
        let is_at_risk = |digest: &Digest| holders(digest) * 2 <= stay.len();
        Ok(self.kept_of(&answers).into_iter().filter(is_at_risk).count())
    }

    /// Drops what the state keeps no longer.
    pub(super) async fn drop_files(&self) {
        let listed = self.store.contents();
        let unwanted = || {
            self.node.read(|state| {
                let is_unwanted = |(digest, _): &&(Digest, u64)| state.file_len(*digest).is_none();
                listed.iter().filter(is_unwanted).copied().collect::<Vec<_>>()
            })
        };
        if unwanted().is_empty() || self.node.linearize(HEAR).await.is_err() {
            return;
        }
        let unwanted = unwanted();
        if !unwanted.is_empty() {
            tracing::debug!(files = unwanted.len(), "files that no job names are dropped");
            self.store.drop_contents(&unwanted);
        }
    }
}

/// Contents as they are sent, some at once.
fn batches(contents: impl Iterator<Item = Bytes>) -> Vec<Vec<pb::Content>> {
    let mut batches: Vec<Vec<pb::Content>> = Vec::new();
    let mut size = 0;
    for content in contents.map(|bytes| pack(&bytes)) {
        size += content.data.len();
        match batches.last_mut() {
            Some(last) if size <= AT_ONCE => last.push(content),
            Some(_) | None => {
                size = content.data.len();
                batches.push(vec![content]);
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_at_once_is_bounded() {
        let content = |n: u32| {
            let random =
                (0..50_000_u32).flat_map(|i| (i ^ n).wrapping_mul(2_654_435_761).to_le_bytes());
            Bytes::from(random.collect::<Vec<u8>>())
        };
        let batches = batches((0..45).map(content));
        let sizes: Vec<usize> =
            batches.iter().map(|batch| batch.iter().map(|one| one.data.len()).sum()).collect();
        assert!(sizes.len() > 1 && sizes.iter().all(|size| *size <= AT_ONCE), "{sizes:?}");
        assert_eq!(batches.iter().map(Vec::len).sum::<usize>(), 45);
    }
}
