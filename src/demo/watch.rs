//! Watches a cluster through its API, and tells what changed.
//!
//! Some tasks: one for each node asks who leads, one follows the runs. They poll,
//! so that the demo shows what any client can see; a node that does not answer
//! is simply not heard. Nothing is decided here.

use std::collections::BTreeMap;
use std::time::Duration;

use horai_core::ids::RunId;
use horai_core::time::UtcMillis;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::api::dto::{AttemptDto, LeaderDto, RunDto, RunRef};
use crate::cli::client::{ApiError, Client, RunsQuery};
use crate::error::ErrorCode;

/// Between two rounds.
const ROUND: Duration = Duration::from_millis(100);
/// How long one node may take to say who leads.
const ASK: Duration = Duration::from_millis(500);
/// Runs read at once.
const PAGE: u32 = 500;
/// Runs that are followed at once; a demo has a handful.
const FOLLOWED: usize = 1_000;
/// Runs are numbered from 1.
const BEFORE_ALL: RunRef = RunRef(RunId(0));

/// What changed.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Change {
    /// Another node leads, or the same in another term.
    Leader(LeaderDto),
    /// An attempt ended.
    Attempt(Box<RunDto>, Box<AttemptDto>),
    /// A run is over.
    Over(Box<RunDto>),
}

/// Starts the tasks; they end when the set is dropped or nobody listens.
pub(super) fn start(
    client: Client,
    nodes: Vec<Client>,
    leader: Option<LeaderDto>,
) -> (JoinSet<()>, mpsc::Receiver<Change>) {
    let (changes, inbox) = mpsc::channel(1024);
    let mut tasks = JoinSet::new();
    let (latest, inbox_of_leaders) = watch::channel(leader);
    for node in nodes {
        tasks.spawn(leaders(node, latest.clone()));
    }
    tasks.spawn(elections(inbox_of_leaders, changes.clone()));
    tasks.spawn(runs(client, changes));
    (tasks, inbox)
}

/// Asks one node again and again; only a later leader than all that were told is told.
async fn leaders(node: Client, latest: watch::Sender<Option<LeaderDto>>) {
    let node = node.with_timeout(ASK);
    loop {
        // A node that does not answer keeps nobody else waiting.
        if let Some(leader) = node.cluster().await.ok().and_then(|cluster| cluster.leader) {
            latest.send_if_modified(|told| {
                let is_later = told.is_none_or(|t| (t.term, t.node) < (leader.term, leader.node));
                if is_later {
                    *told = Some(leader);
                }
                is_later
            });
        }
        tokio::time::sleep(ROUND).await;
    }
}

/// Passes on who leads.
async fn elections(mut latest: watch::Receiver<Option<LeaderDto>>, changes: mpsc::Sender<Change>) {
    while latest.changed().await.is_ok() {
        let told = *latest.borrow_and_update();
        if let Some(leader) = told
            && changes.send(Change::Leader(leader)).await.is_err()
        {
            return;
        }
    }
}

async fn runs(client: Client, changes: mpsc::Sender<Change>) {
    let client = client.with_timeout(Duration::from_secs(2));
    let mut follower = Follower { last: BEFORE_ALL, live: BTreeMap::new() };
    loop {
        // Without an answer the next round asks the same again.
        for change in follower.round(&client).await.unwrap_or_default() {
            if changes.send(change).await.is_err() {
                return;
            }
        }
        tokio::time::sleep(ROUND).await;
    }
}

/// Which runs are known, and how much of them was told.
struct Follower {
    /// The latest run seen.
    last: RunRef,
    /// Runs that are not over, with the number of the last attempt that was told.
    live: BTreeMap<RunRef, u32>,
}

impl Follower {
    async fn round(&mut self, client: &Client) -> Result<Vec<Change>, ApiError> {
        // All answers first: a question that fails must not lose what others told.
        let mut runs = Vec::new();
        for run in self.live.keys() {
            runs.push(client.run(*run).await?);
        }
        let query = RunsQuery { limit: Some(PAGE), after: Some(self.last), ..RunsQuery::default() };
        runs.extend(client.runs(query).await?.items);
        let mut changes = Vec::new();
        for run in runs {
            self.last = self.last.max(run.id);
            self.look(run, &mut changes);
        }
        Ok(changes)
    }

    /// Tells what is new of a run, and forgets it when it is over.
    fn look(&mut self, run: RunDto, changes: &mut Vec<Change>) {
        let told = self.live.get(&run.id).copied().unwrap_or(0);
        let ended = run.attempts.iter().filter(|a| a.end.is_some() && a.number > told);
        let mut last = told;
        for attempt in ended {
            last = last.max(attempt.number);
            changes.push(Change::Attempt(Box::new(run.clone()), Box::new(attempt.clone())));
        }
        if run.is_over() {
            self.live.remove(&run.id);
            changes.push(Change::Over(Box::new(run)));
        } else if self.live.len() < FOLLOWED || self.live.contains_key(&run.id) {
            self.live.insert(run.id, last);
        }
    }
}

/// All runs that the cluster keeps, oldest first.
///
/// # Errors
/// [`ApiError`] if a page cannot be had.
pub(super) async fn all_runs(client: &Client) -> Result<Vec<RunDto>, ApiError> {
    let mut all: Vec<RunDto> = Vec::new();
    loop {
        let after = all.last().map_or(BEFORE_ALL, |run| run.id);
        let query = RunsQuery { limit: Some(PAGE), after: Some(after), ..RunsQuery::default() };
        let page = client.runs(query).await?;
        let more = !page.items.is_empty();
        all.extend(page.items);
        if !more {
            return Ok(all);
        }
    }
}

/// The cluster's time now.
///
/// # Errors
/// [`ApiError`] if nobody knows it.
pub(super) async fn cluster_time(client: &Client) -> Result<UtcMillis, ApiError> {
    client.cluster().await?.time.map(|time| time.0).ok_or_else(|| {
        ApiError::new(ErrorCode::Unavailable, "no node knows the cluster's time", "try again")
    })
}
