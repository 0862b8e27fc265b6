//! Whether this worker takes anything new.
//!
//! An attempt that is taken with no room for its folder, its output or its result costs a
//! run a try for nothing. So a worker whose disk or journal is nearly full says so with its
//! heartbeats, before anything fails, and gives back what it was ordered and could not begin.
//! It never says anything of what runs here already.

use std::io;

use horai_core::model::resources::Bytes;
use rustix::io::Errno;

/// After it could not begin an attempt, nothing new is taken for so long, whatever the
/// numbers say: they may miss the reason (inodes, a quota, a disk that fails).
const PAUSE_MS: u64 = 10_000;

/// Of a small disk no more than this part is held back.
const MOST_OF_DISK: u64 = 10;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Intake {
    /// Bytes of its disk below which it takes nothing.
    reserve: u64,
    /// Since boot, in milliseconds, and why.
    paused: Option<(u64, String)>,
}

impl Intake {
    /// Holds so many bytes of the disk back.
    pub(super) fn new(reserve: u64) -> Self {
        Self { reserve, paused: None }
    }

    /// An attempt could not begin at `now_ms` since boot.
    pub(super) fn declined(&mut self, now_ms: u64, why: &str) {
        if self.paused.is_none() {
            tracing::warn!(why, "attempts are given back, and nothing new is taken for a while");
        }
        self.paused = Some((now_ms.saturating_add(PAUSE_MS), why.to_owned()));
    }

    /// Why it takes nothing new at `now_ms` since boot; none if it does. Of the disk, so many
    /// bytes `(are free, are there)`; 0 of 0 is not known.
    pub(super) fn closed(
        &mut self,
        now_ms: u64,
        is_journal_full: bool,
        (free, total): (u64, u64),
    ) -> Option<String> {
        self.paused = self.paused.take().filter(|(until, _)| now_ms < *until);
        let least = self.reserve.min(total / MOST_OF_DISK);
        if is_journal_full {
            Some("its journal is full: results wait to be committed".to_owned())
        } else if free < least {
            // Whole MiB: what is told should not change with each byte.
            let mib = |bytes: u64| Bytes(bytes >> 20 << 20);
            Some(format!("its disk has {} left, and it keeps {} free", mib(free), mib(least)))
        } else {
            self.paused.as_ref().map(|(_, why)| why.clone())
        }
    }
}

/// True if an attempt could not begin because of the machine rather than by its definition,
/// so that it may begin elsewhere, or later.
pub(super) fn is_of_machine(error: &io::Error) -> bool {
    let of_machine = [
        Errno::NOSPC,
        Errno::DQUOT,
        Errno::ROFS,
        Errno::IO,
        Errno::NOMEM,
        Errno::AGAIN,
        Errno::MFILE,
        Errno::NFILE,
    ];
    Errno::from_io_error(error).is_some_and(|errno| of_machine.contains(&errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn it_closes_below_the_reserve_and_says_why() {
        let mut intake = Intake::new(64 * MIB);
        let mut told = |journal, disk| intake.closed(0, journal, disk);
        assert_eq!(told(false, (64 * MIB, 10_000 * MIB)), None);
        let why = told(false, (63 * MIB, 10_000 * MIB)).unwrap();
        assert_eq!(why, "its disk has 63MiB left, and it keeps 64MiB free");
        assert_eq!(told(false, (20 * MIB, 200 * MIB)), None, "a tenth of a small disk");
        assert!(told(false, (19 * MIB, 200 * MIB)).is_some());
        assert_eq!(told(false, (0, 0)), None, "nothing is known of the disk");
        assert!(told(true, (64 * MIB, 10_000 * MIB)).unwrap().contains("journal"));
        assert_eq!(Intake::new(0).closed(0, false, (0, 10_000 * MIB)), None);
    }

    #[test]
    fn after_an_attempt_could_not_begin_it_pauses() {
        let mut intake = Intake::new(0);
        intake.declined(1_000, "no inodes");
        assert_eq!(intake.closed(1_000 + PAUSE_MS - 1, false, (0, 0)).unwrap(), "no inodes");
        assert_eq!(intake.closed(1_000 + PAUSE_MS, false, (0, 0)), None);
    }

    #[test]
    fn a_full_disk_is_the_machines_fault_and_a_bad_order_is_not() {
        for errno in [Errno::NOSPC, Errno::IO, Errno::MFILE] {
            assert!(is_of_machine(&errno.into()), "{errno}");
        }
        assert!(!is_of_machine(&Errno::NOENT.into()));
        assert!(!is_of_machine(&io::Error::other("a noop needs no process")));
    }
}
