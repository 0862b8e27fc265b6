//! Which fault is to be found where, and how it is asked for.
//!
//! A fault belongs to the cheapest tier that can see it. What is named beside it
//! makes a run fit: with one fault in eight and its right moment once in an hour,
//! a run would be a lottery ticket and not a test.

/// Where a fault is to be found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tier {
    /// The core under a virtual clock.
    L0,
    /// A whole cluster in one deterministic process.
    L1,
    /// Real processes on real disks.
    L2,
}

impl Tier {
    /// The cheapest first.
    pub(super) const ALL: [Self; 3] = [Self::L0, Self::L1, Self::L2];

    /// In tables.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::L0 => "L0",
            Self::L1 => "L1",
            Self::L2 => "L2",
        }
    }

    /// Seeds of the gate: always the same, so that a gate that passed passes again.
    pub(super) fn seeds(self) -> &'static [u64] {
        match self {
            Self::L0 => {
                &[10_000, 20_000, 30_000, 40_000, 50_000, 60_000, 70_000, 80_000, 90_000, 99_000]
            }
            Self::L1 => &[101, 211, 307, 401, 503, 601, 701, 809, 907, 1_009],
            Self::L2 => &[11, 23, 31],
        }
    }
}

/// Which program has the fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Where {
    /// The product: any checker must say that a promise was broken.
    Product,
    /// The harness: the verdict must not be `valid`.
    Harness,
}

/// A fault and how it is found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    /// What chooses it.
    pub(super) name: &'static str,
    /// Its number in the catalogue of seeded bugs, if it is one of those.
    pub(super) bug: Option<u8>,
    pub(super) tier: Tier,
    pub(super) place: Where,
    /// L0: events that worlds are made of; L1: kinds of faults; L2: arguments of
    /// `jepsen test`.
    pub(super) with: &'static str,
}

/// Faults that few worlds show, as tests by hand do: these are asked first.
const BY_HAND: [&str; 15] = [
    "skip-stays-alone",
    "planner-trusts-itself",
    "lock-lease-not-extended",
    "retry-is-schedule",
    "backoff-begins-anew",
    "manual-tells",
    "debug-sets-state",
    "backfill-tells",
    "backfill-repeats",
    "recover-tells-nobody",
    "super-visits-twice",
    "readiness-stays",
    "backoff-lets-others",
    "queue-one-keeps-oldest",
    "pool-overfull",
];

/// Fences behind which others stand, so that only tests of the fence itself see them open:
/// where in the library these are.
const FENCES: [(&str, &str); 2] =
    [("older-leader-obeyed", "worker::fence"), ("strange-worker-taken", "session::origin")];

impl Case {
    /// The tests that are to find it, if no world can.
    pub(super) fn fence(&self) -> Option<&'static str> {
        FENCES.iter().find(|(name, _)| *name == self.name).map(|(_, tests)| *tests)
    }

    /// True if tests written by hand are the likely ones to find it.
    pub(super) fn is_by_hand(&self) -> bool {
        BY_HAND.contains(&self.name)
    }
}

const fn core(name: &'static str, bug: Option<u8>, with: &'static str) -> Case {
    Case { name, bug, tier: Tier::L0, place: Where::Product, with }
}

const fn cluster(name: &'static str, bug: Option<u8>, with: &'static str) -> Case {
    Case { name, bug, tier: Tier::L1, place: Where::Product, with }
}

const fn processes(name: &'static str, bug: Option<u8>, with: &'static str) -> Case {
    Case { name, bug, tier: Tier::L2, place: Where::Product, with }
}

const fn harness(name: &'static str, with: &'static str) -> Case {
    Case { name, bug: Some(25), tier: Tier::L2, place: Where::Harness, with }
}

/// All of them. L0 sees what the core decides, L1 what nodes and workers do with
/// their disks and each other, L2 what sled, the kernel and real processes do.
pub(super) const CASES: &[Case] = &[
    core("stale-leader-obeyed", Some(5), "elect"),
    core("redispatch-at-takeover", Some(6), "elect"),
    core("plans-from-now", Some(7), "stop,more"),
    core("named-by-commit-time", Some(8), "stop,stall,more"),
    core("silent-misfire-cap", Some(9), "stop,more"),
    core("fire-all-runs-one", None, "more,stop"),
    core("fire-now-runs-all", None, "more,stop"),
    core("skip-runs-one", None, "more,stop"),
    core("lock-given-twice", Some(10), "lock"),
    core("lock-lease-not-extended", Some(10), "lock,clock,stop"),
    core("lock-ends-early", Some(10), "lock"),
    core("lock-token-stands", Some(11), "lock"),
    core("waiters-not-restored", Some(12), "snapshot,elect"),
    core("any-version-satisfies", Some(13), "put"),
    core("apply-looks-around", Some(14), "cut"),
    core("late-result-taken", Some(16), "stall"),
    core("requests-forgotten", Some(19), "elect,lock"),
    core("no-lease-margin", None, "cut,freeze-agent"),
    core("lease-not-extended", None, "stop,stall"),
    core("incarnation-is-death", None, "wipe"),
    core("cancel-asks-anybody", None, "wipe,cancel"),
    core("pause-does-not-hold", None, "race"),
    core("resume-replays", None, "pause,resume"),
    core("edit-keeps-plan", None, "put"),
    core("skip-stays-alone", None, "drop"),
    core("cursor-goes-back", None, "put,pause"),
    core("retries-not-counted", None, "kill-agent"),
    core("unsure-never-told", None, "stall"),
    core("attach-tells-nothing", None, "elect,cut"),
    core("refused-stays-in-flight", None, "race"),
    core("planner-trusts-itself", None, "race"),
    core("plans-under-old-calendars", None, "more"),
    core("fixed-delay-overlaps", None, "more,put"),
    core("pause-stops-half-way", None, "more,pause"),
    core("replan-stops-half-way", None, "more"),
    core("questions-take-time", None, "stop"),
    core("retry-is-schedule", None, "beside"),
    core("backoff-begins-anew", None, "beside,elect"),
    core("manual-tells", None, "beside"),
    core("debug-sets-state", None, "beside"),
    core("backfill-tells", None, "beside"),
    core("backfill-repeats", None, "beside"),
    core("recover-tells-nobody", None, "beside"),
    core("super-visits-twice", None, "beside"),
    core("readiness-stays", None, "beside"),
    core("backoff-lets-others", None, ""),
    core("queue-one-keeps-oldest", None, ""),
    core("pool-overfull", None, ""),
    core("older-leader-obeyed", Some(5), ""),
    core("strange-worker-taken", None, ""),
    core("late-orders-begin", None, "stall,freeze-agent"),
    cluster("ack-before-sync", Some(1), "power-all,power"),
    cluster("vote-not-synced", Some(2), "power-vote"),
    cluster("snapshot-not-synced", Some(3), "power,power-all"),
    cluster("local-reads", Some(4), "delay,split,slow-disk"),
    cluster("forwarded-again", Some(19), "loss"),
    cluster("wiped-store-opens", Some(20), "wiped-store"),
    cluster("other-store-taken", Some(20), "other-store"),
    cluster("no-deadlines", Some(21), "half-open"),
    cluster("disk-errors-ignored", Some(24), "full-disk,power-all"),
    cluster("founds-again", None, "power-all"),
    cluster("old-clocks-count", None, "transfer"),
    processes(
        "plain-flush",
        Some(1),
        // What the disk's own cache holds is lost as well: sled asks for the rest itself.
        "--workload set --nemesis power-torn-all --regime brutal --time 40 --interval 5000 --rate 300",
    ),
    processes("cancel-only-marks", Some(15), "--workload cancel --nemesis none --time 20"),
    processes("children-survive", Some(15), "--workload cancel --nemesis none --time 20"),
    processes(
        "lease-never-ends",
        None,
        "--workload logs --nemesis worker-halt-long --time 100 --interval 5000 --rate 300",
    ),
    processes(
        "log-acked-by-one",
        Some(17),
        "--workload logs --nemesis member-lose-leader --time 60 --interval 6000 --rate 400",
    ),
    processes(
        "log-not-synced",
        None,
        "--workload logs --nemesis power-all --regime brutal --time 40 --interval 5000 --rate 300",
    ),
    processes(
        "logs-not-repaired",
        None,
        "--workload logs --nemesis member-replace --time 40 --interval 5000",
    ),
    harness(
        "checker-off",
        "--workload cron-fires,set --nemesis kill-leader --time 15 --interval 5000",
    ),
    harness(
        "checker-blind",
        "--workload cron-fires,set --nemesis kill-leader --time 15 --interval 5000",
    ),
    harness(
        "nemesis-idle",
        "--workload cron-fires,set --nemesis kill-leader --time 15 --interval 5000",
    ),
];

/// Seeded bugs of things that are not there yet, and what they wait for.
pub(super) const WAITING: [(u8, &str, &str); 3] = [
    (18, "the queue of mails lives in the leader's memory", "mail"),
    (22, "a restored backup overwrites newer ids and terms", "backup and restore"),
    (23, "who runs a shard is computed from a worker's own list", "shards"),
];

/// Bugs of the catalogue that cannot be seen in this design, and why.
pub(super) const NOT_SEEN: [(u8, &str); 2] = [
    (
        5,
        "a worker that obeys a deposed leader does no harm in any run: what it is ordered was \
         committed before that leader was followed, needs an unexpired lease, and finds the \
         folder of an attempt that has run; only tests of its fence see `older-leader-obeyed`",
    ),
    (
        11,
        "a worker that does not compare tokens: an attempt's key is never given twice, so key \
         and token always agree; what the machine compares is `late-result-taken`",
    ),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_seeded_bug_is_in_exactly_one_list() {
        let here: BTreeSet<u8> = CASES.iter().filter_map(|case| case.bug).collect();
        let waiting: BTreeSet<u8> = WAITING.iter().map(|(bug, ..)| *bug).collect();
        assert!(here.is_disjoint(&waiting));
        assert_eq!(
            here.union(&waiting).copied().collect::<Vec<u8>>(),
            (1..=25).collect::<Vec<u8>>()
        );
    }

    #[test]
    fn fences_are_cases_of_the_core() {
        for (name, _) in FENCES {
            let case = CASES.iter().find(|case| case.name == name);
            assert!(case.is_some_and(|case| case.tier == Tier::L0), "{name}");
        }
    }

    #[test]
    fn what_tests_by_hand_find_is_a_case_of_the_core() {
        for name in BY_HAND {
            let case = CASES.iter().find(|case| case.name == name);
            assert!(case.is_some_and(|case| case.tier == Tier::L0), "{name}");
        }
    }

    #[test]
    fn every_fault_of_the_product_has_a_case_and_the_other_way_round() {
        // The list is read as text: nothing of the product is linked here.
        let list = include_str!("../../src/core/mutants.rs");
        let list = list.split_once("mutants! {\n").unwrap().1.split_once("\n}\n").unwrap().0;
        let there: BTreeSet<&str> =
            list.lines().filter_map(|line| line.split('"').nth(1)).collect();
        let of = |place: Where| CASES.iter().filter(move |case| case.place == place);
        let cases: BTreeSet<&str> = of(Where::Product).map(|case| case.name).collect();
        assert_eq!(there, cases);
        let faults: BTreeSet<&str> = super::super::harness::Fault::ALL.map(|f| f.name()).into();
        assert_eq!(faults, of(Where::Harness).map(|case| case.name).collect());
        assert_eq!(CASES.len(), there.len() + faults.len());
    }
}
