//! The plan of all faults of a test, drawn before it starts.
//!
//! It is stored, and a replay does the same again. Kinds of one package come one
//! after the other, kinds of different packages overlap. The cluster is left alone
//! first, and a quarter of the seeds leaves the last faults there until the end. In
//! half of the brutal ones that are long enough only a majority is mended at first.

use std::collections::BTreeMap;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha12Rng;
use serde::{Deserialize, Serialize};

use super::ops::{Fault, Kind, named};

/// Nothing is broken for so long.
const QUIET_MS: u64 = 4_000;
/// The pace that the durations of the kinds are made for.
const PACE_MS: u64 = 10_000;

/// One planned fault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Planned {
    /// Its number in the plan.
    pub(crate) id: u64,
    /// Its kind.
    pub(crate) op: String,
    /// Milliseconds from the beginning of the main phase.
    pub(crate) at_ms: u64,
    /// When it is healed; none leaves it to the end.
    pub(crate) heal_ms: Option<u64>,
    /// What is done.
    pub(crate) fault: Fault,
}

/// How nodes are that are not mended with the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Rest {
    /// Their processes do not run.
    Down,
    /// No node and no worker hears them.
    CutOff,
}

/// The end of the main phase, in which a majority has to work alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Core {
    /// It lasts so many milliseconds, mending included.
    pub(crate) lasts_ms: u64,
    /// Chooses the nodes that are not mended.
    pub(crate) number: u32,
    /// How these are.
    pub(crate) rest: Rest,
}

/// All of them, in the order of their time.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Schedule {
    /// The faults.
    pub(crate) faults: Vec<Planned>,
    /// Whether a majority is mended before the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) core: Option<Core>,
}

impl Schedule {
    /// The same, with a part at the end in which a majority works alone. No fault begins
    /// in it, and those that would be healed in it are healed by its rules.
    pub(crate) fn ending_with(mut self, core: Option<Core>, length_ms: u64) -> Self {
        self.core = core;
        let end = length_ms.saturating_sub(core.map_or(0, |core| core.lasts_ms));
        self.faults.retain(|planned| planned.at_ms < end);
        for planned in &mut self.faults {
            planned.heal_ms = planned.heal_ms.filter(|heal| *heal < end);
        }
        self
    }
}

/// A test whose faults end earlier would be too short.
const CORE_LEAST_MS: u64 = 75_000;
/// How long a majority works alone: longer than recovering may take.
const CORE_MS: std::ops::RangeInclusive<u64> = 32_000..=40_000;

/// Draws whether a majority has to work alone at the end, and which.
pub(crate) fn draw_core(seed: u64, length_ms: u64, nodes: u8) -> Option<Core> {
    let mut rng = ChaCha12Rng::seed_from_u64(seed ^ 0x636f_7265_636f_7265);
    let is_drawn = rng.random::<bool>() && length_ms >= CORE_LEAST_MS && nodes >= 3;
    is_drawn.then(|| Core {
        lasts_ms: rng.random_range(CORE_MS),
        number: rng.random(),
        rest: if rng.random() { Rest::Down } else { Rest::CutOff },
    })
}

/// What is asked for cannot be planned.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    /// A name that stands for nothing.
    #[error("--nemesis {0:?} is no kind and no package of faults; `jepsen test --help` lists them")]
    Unknown(String),
    /// It would take the quorum away.
    #[error("--nemesis {0:?} takes the quorum away: it needs --regime brutal")]
    TooBrutal(String),
    /// The cluster is too small.
    #[error("--nemesis {0:?} needs at least {1} nodes")]
    TooFewNodes(String, u8),
}

/// The kinds that a list of names stands for. A package gives the kinds that fit
/// the regime and the cluster; a kind by name must fit.
pub(crate) fn chosen(
    names: &[String],
    brutal: bool,
    nodes: u8,
) -> Result<Vec<&'static Kind>, PlanError> {
    let mut kinds: Vec<&'static Kind> = Vec::new();
    for name in names.iter().filter(|name| *name != "none") {
        let found = named(name);
        let exact = found.iter().find(|kind| kind.name == name);
        match exact {
            Some(kind) if kind.brutal && !brutal => {
                return Err(PlanError::TooBrutal(name.clone()));
            }
            Some(kind) if kind.least_nodes > nodes => {
                return Err(PlanError::TooFewNodes(name.clone(), kind.least_nodes));
            }
            Some(_) => {}
            None if found.is_empty() => return Err(PlanError::Unknown(name.clone())),
            None => {}
        }
        let fits = |kind: &&&Kind| (brutal || !kind.brutal) && kind.least_nodes <= nodes;
        for kind in found.iter().filter(fits) {
            if !kinds.iter().any(|known| known.name == kind.name) {
                kinds.push(kind);
            }
        }
    }
    Ok(kinds)
}

/// Draws the faults of a main phase of so many milliseconds.
pub(crate) fn draw(kinds: &[&Kind], seed: u64, length_ms: u64, interval_ms: u64) -> Schedule {
    let mut rng = ChaCha12Rng::seed_from_u64(seed ^ 0x6e65_6d65_7369_7321);
    let mut packages: BTreeMap<&str, Vec<&Kind>> = BTreeMap::new();
    for kind in kinds {
        packages.entry(kind.package()).or_default().push(kind);
    }
    let leaves_last = rng.random_range(0..4) == 0;
    let mut faults = Vec::new();
    for kinds in packages.values() {
        let mut now = QUIET_MS + rng.random_range(0..=interval_ms / 4);
        let mut last: Option<usize> = None;
        // Each kind once before any comes again: a short test has seen most of them.
        let mut hat: Vec<&Kind> = Vec::new();
        while now + 1_000 < length_ms {
            if hat.is_empty() {
                hat.clone_from(kinds);
            }
            let kind = hat.swap_remove(rng.random_range(0..hat.len()));
            let (least, most) = kind.lasts_ms;
            let lasts = rng.random_range(least..=most) * interval_ms / PACE_MS;
            let heal = now + lasts.max(kind.least_ms);
            last = Some(faults.len());
            faults.push(Planned {
                id: 0,
                op: kind.name.to_owned(),
                at_ms: now,
                heal_ms: (heal < length_ms).then_some(heal),
                fault: (kind.draw)(&mut rng),
            });
            now = heal + rng.random_range(interval_ms / 4..=interval_ms * 3 / 4);
        }
        if let (true, Some(last)) = (leaves_last, last) {
            faults[last].heal_ms = None;
        }
    }
    faults.sort_by(|a, b| (a.at_ms, &a.op).cmp(&(b.at_ms, &b.op)));
    for (id, planned) in (1..).zip(&mut faults) {
        planned.id = id;
    }
    Schedule { faults, core: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_same_seed_draws_the_same_plan_and_it_survives_a_file() {
        let kinds = chosen(&names(&["all"]), true, 5).unwrap();
        let plan = draw(&kinds, 7, 120_000, 10_000);
        assert_eq!(plan, draw(&kinds, 7, 120_000, 10_000));
        assert_ne!(plan, draw(&kinds, 8, 120_000, 10_000));
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Schedule>(&text).unwrap(), plan);
    }

    #[test]
    fn the_cluster_is_left_alone_first_and_packages_do_not_overlap_themselves() {
        for seed in 0..50 {
            let kinds = chosen(&names(&["partition", "kill"]), false, 3).unwrap();
            let plan = draw(&kinds, seed, 60_000, 8_000);
            assert!(plan.faults.iter().all(|f| f.at_ms >= QUIET_MS && f.at_ms < 60_000));
            for package in ["partition", "kill"] {
                let of: Vec<_> = plan.faults.iter().filter(|f| f.op.starts_with(package)).collect();
                assert!(of.len() >= 3, "{of:?}");
                for pair in of.windows(2) {
                    assert!(pair[0].heal_ms.is_some_and(|heal| heal < pair[1].at_ms), "{pair:?}");
                }
            }
        }
        let last = |seed| {
            let kinds = chosen(&names(&["kill"]), false, 3).unwrap();
            draw(&kinds, seed, 60_000, 8_000).faults.pop().unwrap().heal_ms.is_none()
        };
        let left = (0..100).filter(|seed| last(*seed)).count();
        assert!((10..70).contains(&left), "{left} of 100 leave the last fault");
    }

    #[test]
    fn a_majority_works_alone_at_the_end_of_half_of_the_long_brutal_ones() {
        let drawn: Vec<Core> = (0..100).filter_map(|seed| draw_core(seed, 90_000, 3)).collect();
        assert!((30..70).contains(&drawn.len()), "{}", drawn.len());
        for rest in [Rest::Down, Rest::CutOff] {
            assert!(drawn.iter().any(|core| core.rest == rest));
        }
        assert!((0..100).all(|seed| draw_core(seed, 60_000, 3).is_none()));
        assert!((0..100).all(|seed| draw_core(seed, 90_000, 2).is_none()));

        let kinds = chosen(&names(&["kill", "power"]), true, 3).unwrap();
        let whole = draw(&kinds, 7, 90_000, 8_000);
        assert_eq!(whole.clone().ending_with(None, 90_000), whole);
        let plan = whole.clone().ending_with(Some(drawn[0]), 90_000);
        let end = 90_000 - drawn[0].lasts_ms;
        assert!(plan.faults.len() < whole.faults.len() && !plan.faults.is_empty());
        for fault in &plan.faults {
            assert!(fault.at_ms < end && fault.heal_ms.is_none_or(|heal| heal < end), "{fault:?}");
        }
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Schedule>(&text).unwrap(), plan);
        // Schedules of older tests can still be done again.
        assert_eq!(serde_json::from_str::<Schedule>(r#"{"faults": []}"#).unwrap().core, None);
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name_and_left_out_of_packages() {
        let refused = |list: &[&str], brutal| chosen(&names(list), brutal, 3).map(drop);
        assert!(matches!(refused(&["kil"], false), Err(PlanError::Unknown(_))));
        assert!(matches!(refused(&["power-all"], false), Err(PlanError::TooBrutal(_))));
        assert!(matches!(refused(&["partition-ring"], false), Err(PlanError::TooFewNodes(_, 5))));
        assert!(refused(&["power-all"], true).is_ok());
        let safe = chosen(&names(&["power", "none"]), false, 3).unwrap();
        assert!(!safe.is_empty() && safe.iter().all(|kind| !kind.brutal));
        assert!(chosen(&names(&["none"]), false, 3).unwrap().is_empty());
    }
}
