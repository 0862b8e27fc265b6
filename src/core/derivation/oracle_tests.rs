//! The rules once more, as plainly as they can be said: recursion, and lists searched
//! from end to end. Slow, and of small graphs the judge.

use std::cell::RefCell;
use std::collections::BTreeMap;

use super::random_tests::{Dice, graph};
use super::support::Jobs;
use super::{DerivedAction, Found, LOOK_BACK_PERIODS};
use crate::ids::JobId;
use crate::model::edge::{EdgeSpec, Matching, NoMatch, OnNoMatch};
use crate::model::job::JobSpec;
use crate::time::{Span, UtcMillis};
use crate::timing::period::{Period, Periods};
use crate::timing::schedule::Schedule;
use crate::timing::zone::Zone;

/// Further back the judge does not look for the latest.
const DAYS_BACK: i64 = 40;
const DAY: i64 = 86_400_000;

/// The base and the instants of a period.
type Planned = (Option<usize>, Vec<i64>);

struct Oracle<'a> {
    jobs: &'a Jobs,
    known: RefCell<BTreeMap<(JobId, Period), Planned>>,
}

impl Oracle<'_> {
    fn spec(&self, id: JobId) -> &JobSpec {
        self.jobs.spec(id)
    }

    fn periods(&self, id: JobId) -> Periods {
        let spec = self.spec(id);
        Periods::new(Zone::parse(spec.zone.as_deref().unwrap()).unwrap(), spec.period)
    }

    /// The instants of a job from `from` and before `to`.
    fn between(&self, id: JobId, from: i64, to: i64) -> Vec<i64> {
        let periods = self.periods(id);
        let mut found = Vec::new();
        let mut period = periods.holding(UtcMillis(from)).unwrap();
        while periods.bounds(period).unwrap().0.0 < to {
            found.extend(self.plan(id, period).1);
            period = periods.next(period).unwrap();
        }
        found.retain(|at| (from..to).contains(at));
        found
    }

    fn plan(&self, id: JobId, period: Period) -> Planned {
        if let Some(known) = self.known.borrow().get(&(id, period)) {
            return known.clone();
        }
        let found = self.compute(id, period);
        self.known.borrow_mut().insert((id, period), found.clone());
        found
    }

    fn compute(&self, id: JobId, period: Period) -> Planned {
        let spec = self.spec(id);
        let (from, to) = self.periods(id).bounds(period).unwrap();
        let upstream = |edge: &EdgeSpec| self.between(edge.job, from.0, to.0);
        let (base, mut instants) = if !spec.triggers.is_empty() {
            let mut all: Vec<i64> = Vec::new();
            for trigger in &spec.triggers {
                let schedule = Schedule::of(trigger, spec.zone.as_deref(), "UTC").unwrap();
                let of = schedule.after(UtcMillis(from.0 - 1));
                all.extend(of.map(|at| at.0).take_while(|at| *at < to.0));
            }
            all.sort_unstable();
            all.dedup();
            (None, all)
        } else if let Some(base) = self.base(spec, from.0, to.0) {
            (Some(base), upstream(&spec.depends_on[base]))
        } else {
            (None, Vec::new())
        };
        for (place, edge) in spec.depends_on.iter().enumerate() {
            if base != Some(place) && edge.needs_one() {
                let of = upstream(edge);
                let has_match = |at: &i64| match edge.matching {
                    Matching::SameTime => of.contains(at),
                    _ => !of.is_empty(),
                };
                instants.retain(has_match);
            }
        }
        (base, instants)
    }

    fn base(&self, spec: &JobSpec, from: i64, to: i64) -> Option<usize> {
        let edges = || spec.depends_on.iter().enumerate();
        if let Some((marked, _)) = edges().find(|(_, edge)| edge.base) {
            return Some(marked);
        }
        let mut best: Option<(usize, Vec<i64>, Option<u32>)> = None;
        for (place, edge) in edges().filter(|(_, edge)| edge.needs_one()) {
            let of = self.between(edge.job, from, to);
            let floor = |at: i64| match edge.matching {
                Matching::Hera => at / 60_000 * 60_000,
                _ => at,
            };
            let of: Vec<i64> = of.into_iter().map(floor).collect();
            let legacy = self.spec(edge.job).legacy_id;
            if of.is_empty() {
                return None;
            }
            let is_better = best.as_ref().is_none_or(|(_, other, number)| {
                of.len() < other.len()
                    || (of.len() == other.len() && of[0] > other[0])
                    || (of.len() == other.len() && of[0] == other[0] && legacy > *number)
            });
            if is_better {
                best = Some((place, of, legacy));
            }
        }
        best.map(|(place, ..)| place).or((!spec.depends_on.is_empty())
            .then_some(0)
            .filter(|_| !spec.depends_on.iter().any(|edge| edge.needs_one())))
    }

    /// From where on a job's instants are looked for, from before a period.
    fn oldest(&self, id: JobId, begin: UtcMillis) -> i64 {
        let spec = self.spec(id);
        let is_free = !spec.depends_on.iter().any(|edge| edge.needs_one());
        if is_free && !spec.triggers.is_empty() {
            return i64::MIN;
        }
        let periods = self.periods(id);
        let mut period = periods.holding(UtcMillis(begin.0 - 1)).unwrap();
        for _ in 1..LOOK_BACK_PERIODS {
            period = periods.before(period).unwrap();
        }
        periods.bounds(period).unwrap().0.0
    }

    /// What an action waits for, as far as the judge looks.
    fn judge(&self, id: JobId, action: &DerivedAction) -> Result<(), String> {
        let (spec, periods, at) = (self.spec(id), self.periods(id), action.nominal.0);
        let period = periods.holding(action.nominal).unwrap();
        let (from, to) = periods.bounds(period).unwrap();
        let (base, instants) = self.plan(id, period);
        if !instants.contains(&at) {
            return Err("there is no such action".to_owned());
        }
        let mut places: Vec<usize> = base.into_iter().collect();
        places.extend((0..spec.depends_on.len()).filter(|place| base != Some(*place)));
        for (place, found) in places.into_iter().zip(&action.edges) {
            let edge = &spec.depends_on[place];
            let wanted: Vec<i64> = match edge.matching {
                _ if base == Some(place) && edge.needs_one() => vec![at],
                Matching::Nearest => {
                    let of = self.between(edge.job, from.0, to.0);
                    of.into_iter().min_by_key(|up| (up.abs_diff(at), *up)).into_iter().collect()
                }
                Matching::SameTime => vec![at],
                Matching::AllInPeriod => self.between(edge.job, from.0, to.0),
                Matching::PreviousPeriod => {
                    let (from, to) = periods.bounds(periods.before(period).unwrap()).unwrap();
                    self.between(edge.job, from.0, to.0)
                }
                Matching::LatestBefore => {
                    let end = if edge.job == id { at } else { at + 1 };
                    let day = |back: i64| {
                        self.between(edge.job, end - back * DAY, end - (back - 1) * DAY)
                    };
                    let oldest = self.oldest(edge.job, from);
                    let found = (1..=DAYS_BACK).find_map(|back| day(back).pop());
                    found.into_iter().filter(|at| *at >= oldest).collect()
                }
                Matching::Hera => {
                    let legacy = |id| i64::from(self.spec(id).legacy_id.unwrap_or(0));
                    let number = |at, id| {
                        periods.minute_number(UtcMillis(at)).unwrap() * 1_000_000 + legacy(id)
                    };
                    let own = number(at, base.map_or(id, |base| spec.depends_on[base].job));
                    let mut best: Option<(u64, i64)> = None;
                    for up in self.between(edge.job, from.0, to.0) {
                        let far = number(up, edge.job).abs_diff(own);
                        if best.is_none_or(|(least, _)| far < least) {
                            best = Some((far, up));
                        }
                    }
                    best.map(|(_, up)| up).into_iter().collect()
                }
            };
            let is_right = match &found.found {
                Found::These(these) => {
                    let these: Vec<i64> = these.iter().map(|at| at.0).collect();
                    let is_old = at - these[0] > (DAYS_BACK - 1) * DAY;
                    these == wanted || (wanted.is_empty() && is_old)
                }
                Found::None(none) => {
                    let said = match none {
                        NoMatch::Satisfied => None,
                        NoMatch::Waits => Some(OnNoMatch::Wait),
                        NoMatch::Skips => Some(OnNoMatch::Skip),
                    };
                    wanted.is_empty() && edge.on_no_match == said
                }
            };
            if !is_right || found.job != edge.job {
                return Err(format!("edge {place}: {:?}, not {wanted:?}", found.found));
            }
        }
        Ok(())
    }
}

#[test]
fn a_plain_reading_of_the_rules_comes_to_the_same() {
    let mut judged = 0;
    for seed in 0..40 {
        let mut dice = Dice(3_000 + seed);
        let count = 2 + dice.below(4);
        let made = graph(&mut dice, count, 2, true);
        let jobs = Jobs::new(&made);
        let oracle = Oracle { jobs: &jobs, known: RefCell::default() };
        let from = 1_710_460_800_000 + dice.below(300) as i64 * DAY;
        for id in (1..=count as u64).map(JobId) {
            let end = UtcMillis(from).plus(Span(DAY.unsigned_abs()));
            let found = jobs.ask(|plans| plans.between(id, UtcMillis(from), end)).unwrap();
            let instants: Vec<i64> = found.iter().map(|action| action.nominal.0).collect();
            assert_eq!(instants, oracle.between(id, from, end.0), "seed {seed}, job {id}");
            for action in found.iter().step_by(found.len() / 4 + 1) {
                if let Err(problem) = oracle.judge(id, action) {
                    panic!("seed {seed}, job {id}, {}: {problem}", action.nominal);
                }
                judged += 1;
            }
        }
    }
    assert!(judged > 200, "{judged} actions are not much of a test");
}
