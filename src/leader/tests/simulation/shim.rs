//! One attempt's shim and its job, as the cluster counts on them: the deadline
//! is held here, by the machine's boot clock, whatever becomes of the worker.

use horai_core::ids::Token;
use horai_core::model::run::EndKind;
use horai_proto::worker as pb;

use super::rng::mix;
use super::script::JobShape;

/// A lease that has ended leaves less grace than a cancel.
const LEASE_GRACE_MS: u64 = 2_000;
/// A job that obeys is gone so soon after it was asked.
const OBEYS_MS: i64 = 20;

/// What an attempt does if it is let.
#[derive(Debug, Clone)]
pub(super) struct Behaviour {
    pub(super) takes: i64,
    pub(super) exit: EndKind,
    /// Does not listen when it is asked to end.
    pub(super) is_stubborn: bool,
    pub(super) cannot_start: bool,
}

impl Behaviour {
    /// Of a job's attempt, from numbers that say which one it is.
    pub(super) fn of(shape: &JobShape, seed: &[u64]) -> Self {
        let draw = |what: u64| mix(&[mix(seed), what]);
        let takes = i64::try_from(draw(1) % shape.takes.unsigned_abs().max(1)).unwrap();
        let fails = draw(2) % 1000 < shape.fails;
        Self {
            takes: takes + 1,
            exit: match (fails, draw(3) % 2) {
                (false, _) => EndKind::Exited { code: 0 },
                (true, 0) => EndKind::Exited { code: 3 },
                (true, _) => EndKind::Signaled { signal: 11 },
            },
            is_stubborn: draw(4) % 4 == 0,
            cannot_start: fails && draw(5) % 4 == 0,
        }
    }
}

/// See the module. Times are the machine's boot clock, where not said otherwise.
pub(super) struct Shim {
    pub(super) token: Token,
    started: u64,
    deadline: u64,
    keep_for: u64,
    timeout: Option<u64>,
    grace: u64,
    /// True time at which the job ends by itself.
    ends: i64,
    exit: EndKind,
    is_stubborn: bool,
    how: Option<EndKind>,
    kill_at: Option<u64>,
    /// True time at which an obedient job is gone.
    gone: Option<i64>,
}

impl Shim {
    pub(super) fn new(
        start: &pb::Start,
        token: Token,
        deadline: u64,
        boot: u64,
        now: i64,
        how: &Behaviour,
    ) -> Self {
        Self {
            token,
            started: boot,
            deadline,
            keep_for: if start.keep { start.keep_for_ms } else { 0 },
            timeout: (start.timeout_ms > 0).then_some(start.timeout_ms),
            grace: start.grace_ms,
            ends: now + how.takes,
            exit: how.exit.clone(),
            is_stubborn: how.is_stubborn,
            how: None,
            kill_at: None,
            gone: None,
        }
    }

    fn lease_end(&self) -> u64 {
        self.deadline.saturating_add(self.keep_for)
    }

    fn timeout_end(&self) -> Option<u64> {
        let timeout = self.timeout.filter(|_| self.how.is_none())?;
        Some(self.started.saturating_add(timeout))
    }

    pub(super) fn extend(&mut self, deadline: u64) {
        self.deadline = self.deadline.max(deadline);
    }

    pub(super) fn end(&mut self, how: EndKind, grace: u64, boot: u64, now: i64) {
        if self.kill_at.is_none() && !self.is_stubborn {
            self.gone = Some(now + OBEYS_MS);
        }
        self.how.get_or_insert(how);
        let kill_at = boot.saturating_add(grace);
        self.kill_at = Some(self.kill_at.map_or(kill_at, |at| at.min(kill_at)));
    }

    /// Does what is due; how it ended, if nothing of it is left.
    pub(super) fn check(&mut self, boot: u64, now: i64) -> Option<EndKind> {
        if self.how.is_none() && now >= self.ends {
            return Some(self.exit.clone());
        }
        if boot >= self.lease_end() {
            let grace = self.grace.min(LEASE_GRACE_MS);
            self.end(EndKind::LeaseExpired, grace, boot, now);
        }
        if self.timeout_end().is_some_and(|end| boot >= end) {
            self.end(EndKind::TimedOut, self.grace, boot, now);
        }
        let is_killed = self.kill_at.is_some_and(|at| boot >= at);
        let is_gone = self.gone.is_some_and(|at| now >= at);
        self.how.clone().filter(|_| is_killed || is_gone)
    }

    /// How long to wait until something may be due.
    pub(super) fn wait(&self, boot: u64, now: i64) -> i64 {
        let lease = self.kill_at.is_none().then(|| self.lease_end());
        let by_boot = [lease, self.timeout_end(), self.kill_at].into_iter().flatten();
        let by_boot = by_boot.map(|at| i64::try_from(at.saturating_sub(boot)).unwrap_or(i64::MAX));
        let by_true = [self.how.is_none().then_some(self.ends), self.gone];
        let by_true = by_true.into_iter().flatten().map(|at| at - now);
        by_boot.chain(by_true).min().unwrap_or(1_000).max(1)
    }
}
