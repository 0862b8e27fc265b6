//! A worker that was told to stop: it asks to be given nothing more, waits for what runs
//! there, and goes.
//!
//! The leader is told by a Hello that says so. What it had dispatched before that was
//! committed comes with its answer; so once it has acknowledged a heartbeat that was sent
//! after its Welcome, nothing can be on its way any more.

use horai_proto::worker as pb;

use super::{Agent, Error};

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parting {
    /// By the clock since boot, in milliseconds: what runs then is ended by the cluster.
    until: u64,
    asked: Asked,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// No leader has answered yet.
    Open,
    /// One has; this heartbeat was sent after that.
    Answered(u64),
    /// Nothing is on its way any more.
    Settled,
}

/// After the cluster has ended what runs, so long is waited for its last words.
const LAST_WORDS_MS: u64 = 30_000;

impl Parting {
    /// What runs has so many milliseconds from `now`.
    pub(super) fn begin(now: u64, span: u64) -> Self {
        Self { until: now.saturating_add(span), asked: Asked::Open }
    }

    /// What is left of the time.
    pub(super) fn left(&self, now: u64) -> u64 {
        self.until.saturating_sub(now)
    }

    /// A leader, perhaps another one, is asked.
    pub(super) fn ask(&mut self) {
        self.asked = Asked::Open;
    }

    /// True if the leader that was asked has not answered.
    pub(super) fn is_open(&self) -> bool {
        self.asked == Asked::Open
    }

    /// It has, before that heartbeat was sent.
    pub(super) fn answered(&mut self, beat: u64) {
        self.asked = Asked::Answered(beat);
    }

    /// A heartbeat was acknowledged.
    pub(super) fn acknowledged(&mut self, beat: u64) {
        if matches!(self.asked, Asked::Answered(since) if since <= beat) {
            self.asked = Asked::Settled;
        }
    }

    /// True if it may go: nothing is left to do and nobody can give it anything, or the time
    /// of all is over.
    pub(super) fn is_over(&self, now: u64, is_idle: bool, has_leader: bool) -> bool {
        let is_settled = self.asked == Asked::Settled || !has_leader;
        is_idle && is_settled || now >= self.until.saturating_add(LAST_WORDS_MS)
    }
}

impl Agent {
    pub(super) fn on_welcome(&mut self, node: usize, welcome: &pb::Welcome) -> Result<(), Error> {
        let is_ours = self
            .home
            .is_of(&welcome.cluster)
            .map_err(|source| Error::Io { what: self.home.path().display().to_string(), source })?;
        if !is_ours {
            // A node that knows of this refuses before it comes to that.
            let (own, other) = (self.home.told(), &welcome.cluster);
            tracing::error!(
                node,
                own,
                other,
                "node of another cluster is not obeyed: correct \
                the nodes in the configuration, or empty data_dir to make this a new worker"
            );
            self.active = None;
            return Ok(());
        }
        self.set_time(welcome.cluster_time_ms);
        if self.parting.is_some_and(|parting| parting.is_open()) {
            self.beat(node);
            let beat = self.beat;
            if let Some(parting) = &mut self.parting {
                parting.answered(beat);
            }
        }
        Ok(())
    }

    /// Asks for nothing more, or goes at once if that is what it is configured to.
    pub(super) fn begin_parting(&mut self) {
        let now = self.shared.boot_ms();
        let span = u64::try_from(self.config.stop_after.as_millis()).unwrap_or(u64::MAX);
        self.parting = Some(Parting::begin(now, span));
        tracing::info!(live = self.live.len(), "worker stops: it is given nothing more");
        // Who stops at once leaves its jobs to the next: they are not to be ended.
        if let Some(node) = self.active.filter(|_| span > 0) {
            self.hello(node);
        }
    }

    /// True once it was told to stop and nothing is left to wait for.
    pub(super) fn may_go(&self) -> bool {
        let Some(parting) = &self.parting else { return false };
        let is_idle = self.live.is_empty() && self.held.is_empty() && self.results.is_empty();
        let is_over = parting.is_over(self.shared.boot_ms(), is_idle, self.active.is_some());
        let at_once = self.config.stop_after.is_zero();
        if is_over && !is_idle && !at_once {
            tracing::warn!(
                live = self.live.len(),
                results = self.results.len(),
                "worker stops, and what is left goes on without it"
            );
        }
        is_over || at_once
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_goes_when_nothing_can_be_on_its_way() {
        let mut parting = Parting::begin(1_000, 5_000);
        assert_eq!((parting.left(2_000), parting.left(7_000)), (4_000, 0));
        assert!(parting.is_over(1_000, true, false), "nobody gives it anything");
        assert!(!parting.is_over(1_000, true, true));
        parting.acknowledged(9);
        assert!(parting.is_open(), "that was sent before the answer");
        parting.answered(10);
        parting.acknowledged(9);
        assert!(!parting.is_over(1_000, true, true));
        parting.acknowledged(11);
        assert!(parting.is_over(1_000, true, true) && !parting.is_over(6_000, false, true));
        assert!(parting.is_over(36_000, false, true), "its jobs go on without it");
        parting.ask();
        assert!(!parting.is_over(1_000, true, true), "another leader knows nothing of it");
    }
}
