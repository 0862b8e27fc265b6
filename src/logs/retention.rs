//! What this node keeps: files that jobs need, and logs of runs that the cluster knows, that are not too old, and
//! no more than there is room for.
//!
//! Each node decides for itself, from the replicated state and its own disk. What it drops
//! for want of room may still be with others, and is not copied back.

use std::sync::Arc;
use std::time::Duration;

use horai_core::ids::RunId;
use horai_core::time::{Span, UtcMillis};

use super::{Logs, ended, is_removed};

/// Between two looks.
const ROUND: Duration = Duration::from_secs(2);
/// Runs looked at in one round.
const RUNS: usize = 5_000;

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keep {
    /// Bytes on the disk.
    pub max_bytes: u64,
    /// After the run's end.
    pub max_age: Span,
}

impl Default for Keep {
    fn default() -> Self {
        Self { max_bytes: 4 << 30, max_age: Span::secs(30 * 86_400) }
    }
}

impl Logs {
    /// Looks again and again.
    pub(super) async fn retain(self: Arc<Self>) {
        let mut from = RunId(0);
        loop {
            tokio::time::sleep(ROUND).await;
            let page = self.store.runs(from, RUNS);
            from = match page.last() {
                Some((last, _)) if page.len() == RUNS => last.next(),
                _ => RunId(0),
            };
            let now = self.node.cluster_now();
            let (old, forgotten) = self.node.read(|state| {
                let is_old = |run: RunId| {
                    let since = ended(state, run).filter(|_| now.is_some());
                    let now = now.unwrap_or(UtcMillis(i64::MIN));
                    is_removed(state, run)
                        || since.is_some_and(|since| since.plus(self.keep.max_age) < now)
                };
                let old: Vec<RunId> =
                    page.iter().map(|(run, _)| *run).filter(|run| is_old(*run)).collect();
                let gone = self.store.gone();
                let forgotten: Vec<RunId> =
                    gone.into_iter().filter(|run| is_removed(state, *run)).collect();
                (old, forgotten)
            });
            self.drop_runs(old, "they are old, or gone with their runs").await;
            if !forgotten.is_empty() {
                self.store.forget_runs(forgotten);
            }
            self.store.tidy(self.keep.max_bytes);
            self.make_room().await;
            self.drop_files().await;
        }
    }

    /// Drops the logs of the oldest runs that are over. What was dropped before and still
    /// has its room does not count: it is given back without hurry, and as long as a tenth
    /// of a segment is of no use, so the bounds are below what may be on the disk.
    async fn make_room(&self) {
        let (useful, tenth) = (self.store.stats().useful, self.keep.max_bytes / 10);
        if useful <= tenth * 9 {
            return;
        }
        let mut excess = useful - tenth * 8;
        let candidates = self.store.runs(RunId(0), RUNS);
        let over = self.node.read(|state| {
            let over = candidates.into_iter().filter(|(run, _)| ended(state, *run).is_some());
            over.collect::<Vec<_>>()
        });
        let mut dropped = Vec::new();
        for (run, bytes) in over {
            if excess == 0 {
                break;
            }
            // Compressed they were smaller: what is too little is seen the next time.
            excess = excess.saturating_sub(bytes);
            dropped.push(run);
        }
        self.drop_runs(dropped, "the disk's share for logs is used up").await;
    }

    async fn drop_runs(&self, runs: Vec<RunId>, why: &str) {
        if runs.is_empty() {
            return;
        }
        tracing::debug!(runs = runs.len(), why, "logs are dropped");
        if let Err(error) = self.store.drop_runs(runs).await {
            tracing::debug!(%error, "logs are not dropped");
        }
    }
}
