//! Whether the machine let jobs run at all, as they say themselves: one that lives writes
//! a line each tenth of a second, whatever the scheduler does.
//!
//! Where several stood still on a worker that no fault touched, the machine gave its time
//! to something else, and a late start says nothing of the scheduler. The canary has a
//! share of its own, and may be well while a worker with a hundred jobs is not.

use std::collections::BTreeMap;

use super::{Band, Line, Said};
use crate::time::MS;

/// Between two lines of a job that is let run.
const TICK: u64 = 100 * MS;
/// Longer than this beyond it is no chance.
const LONG: u64 = 1_000 * MS;
/// So many are: one alone may be a hiccup of a disk.
pub(crate) const SEVERAL: usize = 3;

/// A job stood still.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stall {
    /// The worker that it ran on.
    pub(crate) worker: String,
    /// Monotonic nanoseconds of the line before.
    pub(crate) from: u64,
    /// Monotonic nanoseconds of the line behind.
    pub(crate) to: u64,
}

/// Stalls that no fault explains; `witness` is in the order of time.
pub(super) fn find(witness: &[Line], bands: &[Band]) -> Vec<Stall> {
    let mut last: BTreeMap<(&str, u64, u32), u64> = BTreeMap::new();
    let mut stalls = Vec::new();
    for line in witness {
        let before = last.insert((&line.run, line.shard, line.attempt), line.t);
        let Some(from) = before.filter(|_| line.e == Said::Tick) else { continue };
        let is_long = line.t.saturating_sub(from) > TICK + LONG;
        let is_of_fault = |band: &Band| band.hits(&line.worker) && band.meets(from, line.t);
        if is_long && !bands.iter().any(is_of_fault) {
            stalls.push(Stall { worker: line.worker.clone(), from, to: line.t });
        }
    }
    stalls
}

/// Why times mean nothing, if several jobs stood still; empty if they did not.
pub(super) fn verdict(stalls: &[Stall]) -> String {
    let longest = stalls.iter().max_by_key(|stall| stall.to - stall.from);
    let Some(longest) = longest.filter(|_| stalls.len() >= SEVERAL) else { return String::new() };
    let seconds = (longest.to - longest.from) / (1_000 * MS);
    format!(
        "the machine is too busy to judge times: {} times a job stood still without a fault, \
         one on {} for {seconds} s; run it on a quieter one",
        stalls.len(),
        longest.worker
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(attempt: u32, ms: u64, e: Said) -> Line {
        let (run, worker) = ("r-1".to_owned(), "w1".to_owned());
        Line { e, t: ms * MS, run, attempt, worker, ..Line::default() }
    }

    fn ticking(attempts: u32, times: &[u64]) -> Vec<Line> {
        let mut all = Vec::new();
        for attempt in 1..=attempts {
            all.push(line(attempt, 0, Said::Start));
            all.extend(times.iter().map(|ms| line(attempt, *ms, Said::Tick)));
        }
        all.sort_by_key(|line| line.t);
        all
    }

    #[test]
    fn jobs_that_stand_still_without_a_fault_are_counted() {
        let well = ticking(5, &[100, 250, 900, 1_900]);
        assert_eq!(find(&well, &[]), []);
        let stood = ticking(5, &[100, 5_200]);
        assert_eq!(find(&stood, &[]).len(), 5);
        assert!(verdict(&find(&stood, &[])).contains("5 times"));
        assert_eq!(verdict(&find(&ticking(2, &[100, 5_200]), &[])), "", "a hiccup");
        // The end of one that waits for something is no tick.
        let ended = vec![line(1, 0, Said::Start), line(1, 5_000, Said::End)];
        assert_eq!(find(&ended, &[]), []);
    }

    #[test]
    fn a_fault_of_the_worker_explains_it() {
        let band = |who: &str, from: u64| Band {
            op: "worker-freeze".to_owned(),
            args: json!({"who": [who]}),
            from: from * MS,
            to: (from + 500) * MS,
            installed: true,
        };
        let stood = ticking(5, &[100, 5_200]);
        assert_eq!(find(&stood, &[band("w1", 2_000)]), []);
        assert_eq!(find(&stood, &[band("w2", 2_000)]).len(), 5);
        assert_eq!(find(&stood, &[band("w1", 9_000)]).len(), 5);
    }
}
