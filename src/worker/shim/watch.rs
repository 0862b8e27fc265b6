//! Watches over the parts of an attempt: lease, time-out, cancel, and what is left behind.
//!
//! One loop over one channel decides; the threads only report. The first reason to end the
//! attempt is the one that is recorded, later ones can only hasten it.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use horai_core::model::run::EndKind;
use horai_core::mutants::{self, Mutant};

use super::dir::Spec;
use super::kill;
use crate::worker::clock::boot_ms;

/// A lease that has ended leaves less grace than a cancel: the cluster counts on it.
const LEASE_GRACE_MS: u64 = 2_000;
/// What a job leaves behind may end by itself for this long.
const LEFTOVER_MS: u64 = 200;
/// The longest sleep, so that a suspended machine notices passed deadlines.
const MAX_WAIT_MS: u64 = 1_000;
/// Between two looks for processes that must be gone.
pub(super) const KILL_STEP_MS: u64 = 10;

/// What the threads report.
pub(super) enum Event {
    Exited(ExitStatus),
    NoChildren,
    Extend(u64),
    Cancel(u64),
}

/// Watches over one part after the other, with one lease and one time-out for all.
pub(super) struct Supervisor<'a> {
    spec: &'a Spec,
    started: u64,
    deadline: u64,
    /// The order that ends the attempt, once there is one.
    order: Option<EndKind>,
    /// When everything is to be over, once there is an order.
    until: Option<u64>,
    /// How this part's own process ended.
    exit: Option<ExitStatus>,
    /// Others follow however this one ends, and need a share of the grace.
    has_followers: bool,
    /// No other follows, whatever happens.
    is_last: bool,
    /// It ends what was begun elsewhere: whoever is to end anyway is given the time for that.
    is_kill: bool,
    /// When SIGTERM is due for what is left behind.
    terminate_at: Option<u64>,
    /// When SIGKILL is due; then repeated.
    kill_at: Option<u64>,
}

impl<'a> Supervisor<'a> {
    pub(super) fn new(spec: &'a Spec, started: u64) -> Self {
        Self {
            spec,
            started,
            deadline: spec.deadline_ms,
            order: None,
            until: None,
            exit: None,
            has_followers: false,
            is_last: true,
            is_kill: false,
            terminate_at: None,
            kill_at: None,
        }
    }

    /// Another part begins: what is left of the grace holds for it, if there was an order.
    pub(super) fn next_part(&mut self, has_followers: bool, is_last: bool) {
        (self.has_followers, self.is_last) = (has_followers, is_last);
        (self.exit, self.terminate_at, self.kill_at) = (None, None, self.until);
    }

    /// A command begins that ends something elsewhere, and is over by then.
    pub(super) fn next_kill(&mut self, until: u64) {
        (self.has_followers, self.is_last, self.is_kill) = (false, false, true);
        (self.exit, self.terminate_at, self.kill_at) = (None, None, Some(until));
    }

    pub(super) fn end_kills(&mut self) {
        self.is_kill = false;
    }

    pub(super) fn has_lost_its_lease(&self, now: u64) -> bool {
        now >= self.lease_end() && !mutants::on(Mutant::LeaseNeverEnds)
    }

    /// The order that ends the attempt, if there is one.
    pub(super) fn order(&self) -> Option<&EndKind> {
        self.order.as_ref()
    }

    /// True if there was an order, and its grace is over.
    pub(super) fn is_out_of_time(&self, now: u64) -> bool {
        self.until.is_some_and(|until| now >= until)
    }

    /// What a shell would say of how this part's process ended.
    pub(super) fn code(&self) -> i32 {
        let of = |status: ExitStatus| {
            status.code().unwrap_or_else(|| 128_i32.saturating_add(status.signal().unwrap_or(0)))
        };
        // Not even that is known of one that could not be started, or waited for.
        self.exit.map_or(127, of)
    }

    /// Watches until nothing of this part is left, and says how it ended.
    pub(super) fn run(&mut self, inbox: &Receiver<Event>) -> EndKind {
        let had_order = self.order.is_some();
        loop {
            let now = boot_ms();
            self.check(now);
            let wait = Duration::from_millis(self.next(now));
            match inbox.recv_timeout(wait) {
                Ok(Event::Exited(status)) => {
                    self.exited(status, boot_ms());
                    if mutants::on(Mutant::ChildrenSurvive) {
                        return self.how(had_order);
                    }
                }
                Ok(Event::NoChildren) | Err(RecvTimeoutError::Disconnected) => {
                    return self.how(had_order);
                }
                Ok(Event::Extend(until)) => self.deadline = self.deadline.max(until),
                Ok(Event::Cancel(grace)) => self.end(EndKind::Cancelled, grace, boot_ms()),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    /// A part that runs in the grace of an order is judged by itself.
    fn how(&self, had_order: bool) -> EndKind {
        if let Some(order) = self.order.as_ref().filter(|_| !had_order && !self.is_kill) {
            return order.clone();
        }
        match self.exit.map(|status| (status.code(), status.signal())) {
            Some((Some(code), _)) => EndKind::Exited { code },
            Some((None, signal)) => EndKind::Signaled { signal: signal.unwrap_or(0) },
            None => EndKind::Gone,
        }
    }

    fn lease_end(&self) -> u64 {
        self.deadline.saturating_add(self.spec.keep_for_ms)
    }

    fn timeout_end(&self) -> Option<u64> {
        self.spec.timeout_ms.map(|ms| self.started.saturating_add(ms))
    }

    /// True if it is known how this part ends.
    fn is_decided(&self) -> bool {
        self.order.is_some() || self.exit.is_some()
    }

    /// Does what is due.
    fn check(&mut self, now: u64) {
        if self.has_lost_its_lease(now) {
            self.end(EndKind::LeaseExpired, self.spec.grace_ms.min(LEASE_GRACE_MS), now);
        }
        if !self.is_decided() && self.timeout_end().is_some_and(|end| now >= end) {
            self.end(EndKind::TimedOut, self.spec.grace_ms, now);
        }
        if self.terminate_at.is_some_and(|at| now >= at) {
            self.terminate_at = None;
            kill::terminate_descendants();
        }
        if self.kill_at.is_some_and(|at| now >= at) {
            // At once, before what a list of processes misses has forked again.
            if let Some(group) = &self.spec.group
                && !mutants::on(Mutant::ChildrenSurvive)
            {
                group.kill();
            }
            kill::kill_descendants();
            self.kill_at = Some(now + KILL_STEP_MS);
        }
    }

    /// Milliseconds until something is due.
    fn next(&self, now: u64) -> u64 {
        let lease = self.kill_at.is_none().then(|| self.lease_end());
        let timeout = self.timeout_end().filter(|_| !self.is_decided());
        [lease, timeout, self.terminate_at, self.kill_at]
            .into_iter()
            .flatten()
            .map(|at| at.saturating_sub(now))
            .fold(MAX_WAIT_MS, u64::min)
    }

    /// Ends the job for `how` unless it is ending already; the kill may only come sooner.
    /// What follows in any case gets half of the grace.
    fn end(&mut self, how: EndKind, grace: u64, now: u64) {
        if self.is_kill {
            // It is short, and told to end as a whole only by the end of the lease.
            if how == EndKind::LeaseExpired {
                self.kill_at = Some(now);
            }
            self.order.get_or_insert(how);
            self.until.get_or_insert(now.saturating_add(grace));
            return;
        }
        if self.kill_at.is_none() {
            self.terminate_at = None;
            kill::terminate_descendants();
        }
        if self.exit.is_none() || !self.is_last {
            self.order.get_or_insert(how);
        }
        let until = now.saturating_add(grace);
        let until = self.until.map_or(until, |known| known.min(until));
        self.until = Some(until);
        let share = if self.has_followers { until.saturating_sub(now) / 2 } else { 0 };
        let kill_at = until - share;
        self.kill_at = Some(self.kill_at.map_or(kill_at, |at| at.min(kill_at)));
    }

    /// The job itself is over; what it left behind is given a moment, then ended too.
    fn exited(&mut self, status: ExitStatus, now: u64) {
        let was_decided = self.is_decided();
        self.exit = Some(status);
        if !was_decided {
            self.terminate_at = Some(now + LEFTOVER_MS);
            self.kill_at = Some(now.saturating_add(LEFTOVER_MS).saturating_add(self.spec.grace_ms));
        }
    }
}
