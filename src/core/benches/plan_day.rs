//! How long it takes to plan a day of many jobs that depend on each other:
//! `cargo bench -p horai-core --bench plan_day`.
//!
//! 20,000 jobs in 30 layers, each of which needs one to five jobs of the layers
//! before its own. Once all of them think in one zone, once in six; then as the first,
//! with edges of all kinds, of which some look back.

#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "it measures time")]

use std::io::{self, Write};
use std::time::Instant;

use horai_core::derivation::plans::Plans;
use horai_core::derivation::{Definition, World};
use horai_core::ids::{JobId, Name, TriggerName};
use horai_core::model::calendar::CalendarDate;
use horai_core::model::edge::{EdgeSpec, Matching, PeriodUnit};
use horai_core::model::job::{JobSpec, MisfirePolicy, TriggerKind, TriggerSpec};
use horai_core::time::UtcMillis;
use horai_core::timing::period::{Period, Periods};

const JOBS: usize = 20_000;
const LAYERS: usize = 30;
const ROUNDS: usize = 5;

const CRONS: [&str; 6] = [
    "0 0 3 * * ?",
    "0 30 5 * * ?",
    "0 0 * * * ?",
    "0 0/20 8-9 * * ?",
    "0 0 6,18 * * ?",
    "0 15,45 12 * * ?",
];
const ZONES: [&str; 6] =
    ["UTC", "Asia/Tokyo", "America/New_York", "Europe/Berlin", "Asia/Kolkata", "Australia/Sydney"];

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % n as u64).unwrap_or(0)
    }
}

/// How a graph is made.
#[derive(Clone, Copy)]
struct Shape {
    zones: usize,
    all_kinds: bool,
}

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (text, zones, all_kinds) in
        [("one zone", 1, false), ("six zones", 6, false), ("all kinds of edges", 1, true)]
    {
        let jobs = graph(Shape { zones, all_kinds });
        let mut times = Vec::new();
        let mut found = (0, 0);
        for _ in 0..ROUNDS {
            let start = Instant::now();
            found = plan(&jobs);
            times.push(start.elapsed().as_millis());
        }
        times.sort_unstable();
        writeln!(
            out,
            "{JOBS} jobs, {LAYERS} deep, {text}: {} ms ({} actions that wait for {})",
            times[ROUNDS / 2],
            found.0,
            found.1
        )?;
    }
    Ok(())
}

fn graph(shape: Shape) -> Vec<JobSpec> {
    let mut dice = Dice(7);
    let width = JOBS / LAYERS;
    let mut jobs = Vec::with_capacity(JOBS);
    for n in 0..JOBS {
        let Ok(name) = Name::new(&format!("j{n}")) else { continue };
        let mut spec = JobSpec::noop(name);
        spec.zone = Some(ZONES[dice.below(shape.zones)].to_owned());
        let layer = (n / width).min(LAYERS - 1);
        if layer == 0 {
            let expression = CRONS[dice.below(CRONS.len())].to_owned();
            spec.triggers.push(TriggerSpec {
                name: TriggerName("t".into()),
                kind: TriggerKind::Cron { expression },
                zone: None,
                misfire: MisfirePolicy::FireAll,
                enabled: true,
            });
        } else {
            // The first is of the layer before, the others of any.
            let mut ups = vec![(layer - 1) * width + dice.below(width)];
            for _ in 0..dice.below(5) {
                ups.push(dice.below(layer * width));
            }
            ups.sort_unstable();
            ups.dedup();
            let edge = |up: usize| EdgeSpec::new(JobId(up as u64 + 1));
            spec.depends_on = ups.into_iter().map(edge).collect();
        }
        for edge in spec.depends_on.iter_mut().skip(1).filter(|_| shape.all_kinds) {
            edge.matching = Matching::ALL[dice.below(Matching::ALL.len())].1;
        }
        jobs.push(spec);
    }
    jobs
}

/// Plans 15 March 2024 of all jobs, and counts actions and what they wait for.
fn plan(jobs: &[JobSpec]) -> (usize, usize) {
    let anchor = UtcMillis(0);
    let definition = |id: JobId| {
        let spec = jobs.get(usize::try_from(id.0).ok()?.checked_sub(1)?)?;
        Some(Definition { spec, anchor })
    };
    let world = World { jobs: &definition, calendars: &|_| None, default_zone: "UTC" };
    let mut plans = Plans::new(world);
    let (mut actions, mut edges) = (0, 0);
    for id in (1..=jobs.len() as u64).map(JobId) {
        let Ok(zone) = plans.periods(id).map(|periods| periods.zone().clone()) else { continue };
        let days = Periods::new(zone, PeriodUnit::Day);
        let day = Period::day(CalendarDate { year: 2024, month: 3, day: 15 });
        let Some((from, to)) = day.and_then(|day| days.bounds(day)) else { continue };
        let Ok(found) = plans.between(id, from, to) else { continue };
        actions += found.len();
        edges += found.iter().map(|action| action.edges.len()).sum::<usize>();
    }
    (actions, edges)
}
