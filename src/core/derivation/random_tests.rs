//! Random graphs: the order in which jobs were made or asked does not matter, nor where
//! time is cut; circles are found, depth and width are no matter.

use super::plans::Plans;
use super::support::{Jobs, Made};
use super::{DerivedAction, Error};
use crate::ids::JobId;
use crate::model::edge::{EdgeSpec, Matching, OnNoMatch, PeriodUnit};

/// SplitMix64: small, and the same everywhere.
pub(super) struct Dice(pub(super) u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.roll() % n as u64).unwrap()
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    fn shuffle<T>(&mut self, of: &mut [T]) {
        for i in (1..of.len()).rev() {
            of.swap(i, self.below(i + 1));
        }
    }
}

const CRONS: [&str; 9] = [
    "0 0 3 * * ?",
    "0 30 5 * * ?",
    "0 0 * * * ?",
    "0 0/20 8-9 * * ?",
    "0 15,45 12 * * ?",
    "0 0 1 1,15 * ?",
    "0 0 6,18 ? * MON-FRI",
    "30 0 0 * * ?",
    "0 0 2 L * ?",
];
const ZONES: [&str; 6] = [
    "UTC",
    "Asia/Tokyo",
    "America/New_York",
    "Europe/Berlin",
    "Pacific/Kiritimati",
    "Pacific/Pago_Pago",
];
const DAYS: [&str; 4] = ["2024-03-15", "2024-03-31", "2024-11-03", "2024-02-29"];

/// Jobs of which each depends on the one before it and on up to `fan_in` earlier ones;
/// some have triggers instead, or too.
pub(super) fn graph(dice: &mut Dice, count: usize, fan_in: usize, mixed: bool) -> Vec<Made> {
    let mut made: Vec<Made> = Vec::new();
    for n in 0..count {
        let name = format!("j{n}");
        let mut job = Made::new(&name);
        if mixed {
            job = job.zone(dice.pick(&ZONES));
            let units = [PeriodUnit::Day, PeriodUnit::Week, PeriodUnit::Month, PeriodUnit::Hour];
            // Mostly days; hours are many.
            job = job.period(units[[0, 0, 0, 0, 0, 0, 1, 1, 2, 3][dice.below(10)]]);
        }
        if dice.one_in(2) {
            job.spec.legacy_id = Some(u32::try_from(n).unwrap() * 7 % 100);
        }
        let is_root = n == 0 || dice.one_in(12);
        for _ in 0..usize::from(is_root) * (1 + dice.below(2)) {
            job = job.cron(dice.pick(&CRONS));
        }
        let mut ups: Vec<usize> = (0..n).collect();
        dice.shuffle(&mut ups);
        ups.truncate(dice.below(fan_in.min(n) + 1));
        if n > 0 && !ups.contains(&(n - 1)) && !is_root {
            ups.push(n - 1);
        }
        for (place, up) in ups.iter().enumerate() {
            let (_, matching) = dice.pick(&Matching::ALL);
            let may_miss = !matching.needs_one() && dice.one_in(3);
            let on_no_match = may_miss.then(|| dice.pick(&OnNoMatch::ALL).1);
            let base = !is_root && place == 0 && dice.one_in(4);
            let edge = EdgeSpec { matching, base, on_no_match, ..EdgeSpec::new(JobId(0)) };
            job = job.edge(&format!("j{up}"), edge);
        }
        if dice.one_in(5) && (is_root || !ups.is_empty()) {
            let matching = dice.pick(&[Matching::PreviousPeriod, Matching::LatestBefore]);
            job = job.after(&name, matching);
        }
        made.push(job);
    }
    made
}

/// All jobs' actions of a day, asked in some order, as text by name.
fn all(jobs: &Jobs, dice: &mut Dice, day: &str) -> Vec<(String, Vec<String>)> {
    let mut names = jobs.names();
    dice.shuffle(&mut names);
    let mut found: Vec<(String, Vec<String>)> = jobs.ask(|plans| {
        let shown = |plans: &mut Plans<'_>, name: &String| {
            let actions = jobs.actions(plans, name, day).unwrap();
            actions.iter().map(|action| jobs.shown(action)).collect()
        };
        names.iter().map(|name| (name.clone(), shown(plans, name))).collect()
    });
    found.sort();
    found
}

#[test]
fn neither_the_order_of_making_nor_of_asking_matters() {
    let mut actions = 0;
    for seed in 0..16 {
        let mut dice = Dice(seed);
        let count = 5 + dice.below(46);
        let mut made = graph(&mut dice, count, 4, seed % 2 == 0);
        let day = dice.pick(&DAYS);
        let wanted = all(&Jobs::new(&made), &mut dice, day);
        actions += wanted.iter().map(|(_, actions)| actions.len()).sum::<usize>();
        for _ in 0..3 {
            dice.shuffle(&mut made);
            assert_eq!(all(&Jobs::new(&made), &mut dice, day), wanted, "seed {seed}");
        }
    }
    assert!(actions > 1_000, "{actions} actions are not much of a test");
}

#[test]
fn a_stretch_that_is_cut_up_gives_the_same() {
    for seed in 0..12 {
        let mut dice = Dice(1_000 + seed);
        let made = graph(&mut dice, 12, 3, true);
        let jobs = Jobs::new(&made);
        let (from, days) = (1_710_460_800_000_i64, 3);
        for id in 1..=12 {
            let whole = jobs.ask(|plans| ask(plans, id, from, from + days * 86_400_000)).unwrap();
            let mut parts = Vec::new();
            let mut at = from;
            while at < from + days * 86_400_000 {
                let to = (at + 1 + dice.below(86_400_000) as i64).min(from + days * 86_400_000);
                parts.extend(jobs.ask(|plans| ask(plans, id, at, to)).unwrap());
                at = to;
            }
            assert_eq!(parts, whole, "seed {seed}, job {id}");
        }
    }
}

fn ask(plans: &mut Plans<'_>, id: u64, from: i64, to: i64) -> Result<Vec<DerivedAction>, Error> {
    use crate::time::UtcMillis;
    plans.between(JobId(id), UtcMillis(from), UtcMillis(to))
}

#[test]
fn a_circle_is_found_wherever_it_is() {
    for seed in 0..60 {
        let mut dice = Dice(2_000 + seed);
        let mut made = graph(&mut dice, 20, 3, seed % 2 == 0);
        // A line from j10 to j19 of which each is needed, and back to where it began.
        for (before, job) in (10..).zip(&mut made[11..20]) {
            let up = format!("j{before}");
            job.edges.retain(|(name, _)| *name != up);
            *job = job.clone().after(&up, Matching::Nearest);
        }
        let from = 10 + dice.below(9);
        made[from] = made[from].clone().after("j19", Matching::SameTime);
        dice.shuffle(&mut made);
        let jobs = Jobs::new(&made);
        let error = jobs.ask(|plans| jobs.actions(plans, "j19", "2024-03-15")).unwrap_err();
        let Error::Cycle { path } = error else { panic!("seed {seed}: {error}") };
        assert!(path.len() > 2 && path.first() == path.last(), "seed {seed}: {path:?}");
        for pair in path.windows(2) {
            let down = made.iter().find(|job| job.spec.name == pair[0]).unwrap();
            let is_edge = down.edges.iter().any(|(up, _)| up == pair[1].as_str());
            assert!(is_edge, "seed {seed}: {path:?}");
        }
    }
}

#[test]
fn depth_and_width_are_no_matter() {
    let mut deep = vec![Made::new("j0").cron("0 0 0/6 * * ?")];
    for n in 1..2_000 {
        let zone = ZONES[n % 2];
        let name = format!("j{n}");
        let job = Made::new(&name).zone(if n < 50 { zone } else { ZONES[1] });
        deep.push(job.after(&format!("j{}", n - 1), Matching::Nearest));
    }
    let last = Jobs::new(&deep).day("j1999", "2024-03-15");
    assert_eq!(last.len(), 4);
    let mut wide: Vec<Made> =
        (0..200).map(|n| Made::new(&format!("up{n}")).cron("0 0 3 * * ?")).collect();
    let mut all = Made::new("all");
    for n in 0..200 {
        all = all.after(&format!("up{n}"), Matching::ALL[n % 6].1);
    }
    wide.push(all);
    let found = Jobs::new(&wide).ask(|plans| ask(plans, 201, 1_710_460_800_000, 1_710_547_200_000));
    let found = found.unwrap();
    assert_eq!((found.len(), found[0].edges.len()), (1, 200));
}
