//! What a campaign must have seen, and how much of it a list of rounds has.
//!
//! Only rounds that tell something count, and only those of one source.

use std::time::Duration;

use super::rounds::Round;
use crate::check::Verdict;

/// What a round takes beside its main phase: founding, healing, draining, judging.
const BESIDE: Duration = Duration::from_secs(30 * 60);

/// Seconds around a main phase in which jobs are fired, too.
const AROUND: u64 = 20;

/// What a campaign must have seen.
pub(super) struct Goal {
    pub(super) name: &'static str,
    /// Arguments of `jepsen test`.
    pub(super) arguments: &'static str,
    /// Faults that must have been installed so often in its rounds; a name ends in a
    /// hyphen if it stands for all kinds that begin so.
    pub(super) faults: &'static [(&'static str, u64)],
    /// And seconds of main phases.
    pub(super) seconds: u64,
    /// In a round that counts so many instants were fired for in each second, at least.
    pub(super) fires: u64,
}

/// What goals that are about one workload must have seen.
const OF_WORKLOADS: &[(&str, u64)] =
    &[("kill-leader", 8), ("freeze-", 8), ("partition-", 12), ("worker-", 12)];

/// The goals, the most telling first.
pub(super) const GOALS: [Goal; 20] = [
    Goal {
        name: "kill-leader",
        arguments: "--workload cron-fires --nemesis kill-leader --rate 3400 --time 120 --interval 6000",
        faults: &[("kill-leader", 100)],
        seconds: 0,
        fires: 200,
    },
    Goal {
        name: "power-all",
        arguments: "--workload cron-fires,set,lock --nemesis power-all --regime brutal --time 90 --interval 8000",
        faults: &[("power-all", 30)],
        seconds: 0,
        fires: 0,
    },
    Goal {
        name: "power-torn",
        arguments: "--workload cron-fires,set,lock --nemesis power-torn-all --regime brutal --time 90 --interval 8000",
        faults: &[("power-torn-all", 30)],
        seconds: 0,
        fires: 0,
    },
    Goal {
        name: "partition",
        arguments: "--workload cron-fires,set,lock --nemesis partition --time 120 --interval 8000",
        faults: &[
            ("partition-leader", 20),
            ("partition-one", 20),
            ("partition-halves", 20),
            ("partition-bridge", 20),
            ("partition-out", 20),
            ("partition-in", 20),
            ("partition-edge", 20),
            ("partition-flap", 20),
            ("partition-workers", 20),
        ],
        seconds: 0,
        fires: 0,
    },
    Goal {
        name: "partition-ring",
        arguments: "--workload cron-fires,set,lock --nemesis partition-ring --nodes 5 --time 90 --interval 8000",
        faults: &[("partition-ring", 20)],
        seconds: 0,
        fires: 0,
    },
    Goal {
        name: "freeze-leader",
        arguments: "--workload cron-fires,set,lock --nemesis freeze-leader --time 90 --interval 8000",
        faults: &[("freeze-leader", 30)],
        seconds: 0,
        fires: 0,
    },
    Goal {
        name: "worker",
        arguments: "--workload cron-fires,set,lock --nemesis worker --time 120 --interval 10000",
        faults: &[
            ("worker-kill", 20),
            ("worker-machine", 20),
            ("worker-freeze", 20),
            ("worker-freeze-long", 6),
            ("worker-halt", 20),
            ("worker-halt-long", 6),
            ("worker-pids", 10),
            ("worker-power", 20),
            ("worker-partition", 20),
            ("journal-", 30),
        ],
        seconds: 0,
        fires: 0,
    },
    Goal {
        name: "disk",
        arguments: "--workload cron-fires,set,lock --nemesis disk --time 120 --interval 10000",
        faults: &[("disk-", 60)],
        seconds: 0,
        fires: 0,
    },
    Goal {
        name: "clock",
        arguments: "--workload cron-fires,set,lock --nemesis clock --time 120 --interval 10000",
        faults: &[("clock-", 40)],
        seconds: 0,
        fires: 0,
    },
    Goal {
        name: "member",
        arguments: "--workload cron-fires,set,lock --nemesis member,admin --time 120 --interval 12000",
        faults: &[
            ("member-replace", 10),
            ("member-remove", 10),
            ("admin-transfer", 10),
            ("admin-snapshot", 10),
        ],
        seconds: 0,
        fires: 0,
    },
    Goal {
        name: "dag",
        arguments: "--workload dag --nemesis kill,freeze,partition,worker --time 120 --interval 8000",
        faults: OF_WORKLOADS,
        seconds: 0,
        fires: 0,
    },
    Goal {
        name: "retries",
        arguments: "--workload retries --nemesis kill,freeze,partition,worker --time 120 --interval 8000",
        faults: OF_WORKLOADS,
        seconds: 0,
        fires: 0,
    },
    Goal {
        name: "overlap",
        arguments: "--workload overlap --nemesis kill,freeze,partition,worker --time 120 --interval 8000",
        faults: OF_WORKLOADS,
        seconds: 0,
        fires: 0,
    },
    Goal {
        name: "pools",
        arguments: "--workload pools --nemesis kill,freeze,partition,worker --time 120 --interval 8000",
        faults: OF_WORKLOADS,
        seconds: 0,
        fires: 0,
    },
    Goal {
        name: "recover",
        arguments: "--workload recover --nemesis kill,freeze,partition,worker --time 120 --interval 8000",
        faults: OF_WORKLOADS,
        seconds: 0,
        fires: 0,
    },
    Goal {
        name: "backfill",
        arguments: "--workload backfill --nemesis kill,freeze,partition,worker --time 120 --interval 8000",
        faults: OF_WORKLOADS,
        seconds: 0,
        fires: 0,
    },
    Goal {
        name: "logs",
        arguments: "--workload logs --nemesis kill,partition,power,member,worker --time 120 --interval 8000",
        faults: &[
            ("kill-leader", 8),
            ("power-", 8),
            ("member-replace", 6),
            ("member-lose-leader", 6),
            ("journal-", 12),
        ],
        seconds: 0,
        fires: 0,
    },
    Goal {
        name: "limits",
        arguments: "--workload limits,cancel --nemesis kill,worker --time 120 --interval 8000",
        faults: &[("kill-leader", 8), ("worker-", 12), ("journal-", 8)],
        seconds: 0,
        fires: 0,
    },
    Goal {
        name: "mixed",
        arguments: "--workload mixed --nemesis partition,packets,kill,freeze,power,disk,worker \
                    --time 300 --interval 12000",
        faults: &[],
        seconds: 3600,
        fires: 0,
    },
    Goal {
        name: "mixed-brutal",
        arguments: "--workload mixed --nemesis partition,packets,kill,freeze,power,disk,worker \
                    --regime brutal --time 300 --interval 12000",
        faults: &[("core-alone", 4), ("power-torn-", 8)],
        seconds: 3600,
        fires: 0,
    },
];

impl Goal {
    /// One that is not over by then hangs.
    pub(super) fn longest(&self) -> Duration {
        let mut words = self.arguments.split_ascii_whitespace();
        let time = words.find(|word| *word == "--time").and_then(|_| words.next());
        let seconds = time.and_then(|time| time.parse().ok()).unwrap_or(0);
        Duration::from_secs(seconds) + BESIDE
    }

    /// How much of each thing that it asks for is done, in thousandths.
    fn shares(&self, rounds: &[Round], source: &str) -> Vec<u64> {
        let mine = |round: &&Round| round.goal == self.name && round.source == source;
        let enough = |round: &&Round| ran(round) >= self.fires * (round.seconds + AROUND);
        let good: Vec<&Round> =
            rounds.iter().filter(mine).filter(|r| tells(r)).filter(enough).collect();
        let share =
            |have: u64, need: u64| (have * 1000).checked_div(need).unwrap_or(1000).min(1000);
        let faults = self.faults.iter().map(|(name, need)| {
            share(good.iter().map(|round| installed(round, name)).sum(), *need)
        });
        let seconds = share(good.iter().map(|round| round.seconds).sum(), self.seconds);
        faults.chain([seconds]).collect()
    }

    /// How much of it is done, in thousandths: the least of all it asks for.
    pub(super) fn reached(&self, rounds: &[Round], source: &str) -> u64 {
        self.shares(rounds, source).into_iter().min().unwrap_or(1000)
    }

    /// Grows with each round that brings it nearer, though the least may stay.
    pub(super) fn progress(&self, rounds: &[Round], source: &str) -> u64 {
        self.shares(rounds, source).into_iter().sum()
    }
}

/// Whether a round says anything of the product.
pub(super) fn tells(round: &Round) -> bool {
    matches!(round.verdict, Verdict::Valid | Verdict::Invalid)
}

fn ran(round: &Round) -> u64 {
    let count = round.counts.get("fires: ran").copied().unwrap_or(0);
    u64::try_from(count).unwrap_or(0)
}

/// How often a fault of that name, or of that beginning, was there.
pub(super) fn installed(round: &Round, name: &str) -> u64 {
    let counts = |op: &str| if name.ends_with('-') { op.starts_with(name) } else { op == name };
    round.installed.iter().filter(|(op, _)| counts(op)).map(|(_, count)| count).sum()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{goal, round};
    use super::*;

    #[test]
    fn only_rounds_that_tell_something_count_towards_a_goal() {
        let disk = goal("disk");
        let mut rounds = vec![round("disk", Verdict::Valid, &[("disk-full", 6), ("disk-dead", 6)])];
        assert_eq!(disk.reached(&rounds, "s"), 200);
        assert_eq!(disk.reached(&rounds, "other"), 0);
        rounds.push(round("disk", Verdict::Unknown, &[("disk-full", 60)]));
        rounds.push(round("mixed-brutal", Verdict::Valid, &[("disk-full", 60)]));
        assert_eq!(disk.reached(&rounds, "s"), 200);
        rounds.push(round("disk", Verdict::Invalid, &[("disk-full", 600)]));
        assert_eq!(disk.reached(&rounds, "s"), 1000);
        // Every shape is asked for: the rarest decides, and others are progress too.
        let mut worker =
            vec![round("worker", Verdict::Valid, &[("worker-kill", 20), ("worker-power", 1)])];
        let goal = goal("worker");
        assert_eq!(goal.reached(&worker, "s"), 0);
        let before = goal.progress(&worker, "s");
        worker.push(round("worker", Verdict::Valid, &[("worker-kill", 20)]));
        assert_eq!(goal.progress(&worker, "s"), before, "more than is asked for is none");
        worker.push(round("worker", Verdict::Valid, &[("worker-power", 1)]));
        assert!(goal.progress(&worker, "s") > before && goal.reached(&worker, "s") == 0);
    }

    #[test]
    fn a_round_with_too_few_fires_counts_for_nothing() {
        let kills = goal("kill-leader");
        let reached = |ran: i64| {
            let mut one = round("kill-leader", Verdict::Valid, &[("kill-leader", 50)]);
            one.counts.insert("fires: ran".to_owned(), ran);
            kills.reached(&[one], "s")
        };
        assert_eq!((reached(200 * 80 - 1), reached(200 * 80)), (0, 500));
    }

    #[test]
    fn seconds_count_beside_faults() {
        let faults: &[(&str, u64)] = &[("core-alone", 9), ("power-torn-all", 9)];
        let rounds = [round("mixed-brutal", Verdict::Valid, faults)];
        assert_eq!(goal("mixed-brutal").reached(&rounds, "s"), 60 * 1000 / 3600);
        assert_eq!(goal("mixed-brutal").longest(), Duration::from_secs(300 + 1800));
    }

    #[test]
    fn every_goal_can_be_asked_for() {
        for goal in &GOALS {
            let words = goal.arguments.split_ascii_whitespace();
            let all = ["jepsen", "--horai", "x"].into_iter().chain(words);
            let parsed = <crate::run::Line as clap::Parser>::try_parse_from(all);
            let options = parsed.unwrap_or_else(|e| panic!("{}: {e}", goal.name)).options;
            assert!(goal.longest() > BESIDE, "{} says no time", goal.name);
            // What a goal asks for must come in some of its rounds, or it never ends.
            let plans: Vec<_> = (0..40)
                .map(|seed| options.clone().with_seed(seed).plan())
                .map(|plan| plan.unwrap_or_else(|e| panic!("{}: {e}", goal.name)))
                .collect();
            for (fault, _) in goal.faults {
                let is_of = |op: &str| op.starts_with(fault);
                let comes = plans.iter().any(|plan| {
                    plan.faults.iter().any(|planned| is_of(&planned.op))
                        || (plan.core.is_some() && is_of(crate::store::CORE_ALONE))
                });
                assert!(comes, "{} asks for {fault}", goal.name);
            }
        }
    }
}
