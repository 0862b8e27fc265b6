//! Random graphs of jobs, with the planner and the machine, for a day: the order in which
//! jobs were made does not matter, nothing runs before what it waits for, everything ends
//! or says truly why it waits, and a recovery of a whole tree runs each action once.
//! `HORAI_GRAPH_SEEDS=N` for so many graphs of each kind.

use std::collections::{BTreeMap, BTreeSet};

use horai_core::ids::*;
use horai_core::machine::command::*;
use horai_core::machine::outcome::{Outcome, Reject};
use horai_core::machine::state::State;
use horai_core::model::action::{ActionState, Upstream, WaitReason};
use horai_core::model::edge::{Condition, EdgeSpec, Matching, NoMatch, OnNoMatch, PeriodUnit};
use horai_core::model::job::JobSpec;
use horai_core::model::run::{EndKind, RunKind};
use horai_core::placement::explain::{Subject, explain};
use horai_core::time::UtcMillis;

use super::planning::{fresh, plan_all};
use super::support::*;
use crate::leader::events::Changed;
use crate::leader::plan_book::PlanBook;
use crate::leader::ports::own;

const MINUTE: u64 = 60_000;
const DAY: u64 = 1_440 * MINUTE;

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        usize::try_from(mixed(self.0) % end as u64).unwrap()
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    fn shuffled(&mut self, count: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..count).collect();
        for i in (1..count).rev() {
            all.swap(i, self.below(i + 1));
        }
        all
    }
}

fn mixed(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn seeds(usual: u64) -> std::ops::Range<u64> {
    let said = std::env::var("HORAI_GRAPH_SEEDS").ok();
    0..said.map_or(usual, |text| text.parse().unwrap())
}

const CRONS: [&str; 7] = [
    "0 0 * * * ?",
    "0 0/20 4-9 * * ?",
    "0 30 5 * * ?",
    "0 15,45 12 * * ?",
    "0 0 6,18 * * ?",
    "30 7 3/4 * * ?",
    "0 0 2 * * ?",
];
const ZONES: [&str; 5] =
    ["UTC", "Asia/Tokyo", "America/New_York", "Europe/Berlin", "Pacific/Kiritimati"];

/// A job, with the places of those it depends on, which are before it.
#[derive(Debug, Clone)]
struct Made {
    spec: JobSpec,
    edges: Vec<(usize, EdgeSpec)>,
}

/// Each job depends on the one before it and on some earlier ones; some have triggers
/// instead, or too. `mild`: what succeeds upstream is all that is asked for.
fn graph(dice: &mut Dice, count: usize, mild: bool) -> Vec<Made> {
    let mut made: Vec<Made> = Vec::new();
    for n in 0..count {
        let is_root = n == 0 || dice.one_in(6);
        let crons: BTreeSet<&str> =
            (0..usize::from(is_root) * (1 + dice.below(2))).map(|_| dice.pick(&CRONS)).collect();
        let crons = Vec::from_iter(crons);
        let mut spec = JobSpec {
            zone: Some(dice.pick(&ZONES).to_owned()),
            ..spec(&format!("j{n}"), &crons, &[])
        };
        if dice.one_in(8) {
            spec.period = dice.pick(&[PeriodUnit::Hour, PeriodUnit::Week]);
        }
        let mut ups: BTreeSet<usize> = (0..dice.below(4).min(n)).map(|_| dice.below(n)).collect();
        if n > 0 && !is_root {
            ups.insert(n - 1);
        }
        let mut edges = Vec::new();
        for up in ups {
            let (_, matching) = dice.pick(&Matching::ALL);
            let mut edge = EdgeSpec { matching, ..EdgeSpec::new(JobId(0)) };
            if !mild {
                edge.soft = dice.one_in(6);
                if !edge.soft && dice.one_in(3) {
                    edge.condition = dice.pick(&Condition::ALL).1;
                }
                if !edge.needs_one() && dice.one_in(3) {
                    edge.on_no_match = Some(dice.pick(&OnNoMatch::ALL).1);
                }
            }
            edges.push((up, edge));
        }
        made.push(Made { spec, edges });
    }
    made
}

/// A cluster with these jobs, planned and run step by step.
struct World {
    fake: std::sync::Arc<Fake>,
    book: PlanBook,
    worker: WorkerId,
    /// The numbers of the jobs, by their places.
    ids: Vec<JobId>,
    /// Who ends in failure: one in so many actions, by name and instant; 0 for none.
    fails: u64,
    /// Up to here runs were looked at.
    seen: RunId,
}

impl World {
    /// Makes the jobs in one order, and gives them their edges in another.
    fn new(made: &[Made], dice: &mut Dice, fails: u64) -> Self {
        let fake = Fake::new(false);
        let worker = fake.worker("w", &["default"], 10_000);
        let mut ids = vec![JobId(0); made.len()];
        for place in dice.shuffled(made.len()) {
            ids[place] = fake.job(made[place].spec.clone());
        }
        for place in dice.shuffled(made.len()) {
            if !made[place].edges.is_empty() {
                fake.job(Self::with_edges(&made[place], &ids));
            }
        }
        let book = fresh(&fake);
        Self { fake, book, worker, ids, fails, seen: RunId(0) }
    }

    fn with_edges(made: &Made, ids: &[JobId]) -> JobSpec {
        let edges = made.edges.iter().map(|(up, edge)| EdgeSpec { job: ids[*up], ..edge.clone() });
        JobSpec { depends_on: edges.collect(), ..made.spec.clone() }
    }

    fn leads(&self, command: Command) -> Outcome {
        self.fake.apply(&own(leader(1), command))
    }

    fn name(state: &State, key: ActionKey) -> (String, i64) {
        (state.job(key.job).unwrap().spec.name.to_string(), key.nominal.0)
    }

    /// How the run of an action ends, whatever its number.
    fn code(&self, state: &State, key: ActionKey) -> i32 {
        let (name, at) = Self::name(state, key);
        let number = name.bytes().fold(at.unsigned_abs(), |all, byte| mixed(all ^ u64::from(byte)));
        i32::from(self.fails > 0 && number.is_multiple_of(self.fails))
    }

    /// Some time later, all is planned and run that can be.
    fn pass(&mut self, ms: u64) {
        self.fake.pass(ms);
        self.leads(Command::Tick);
        let (view, now) = (self.fake.view(), self.fake.now());
        self.book.changed(&view, &Changed::All, now);
        plan_all(&self.fake, &mut self.book);
        self.leads(Command::Tick);
        self.run_all();
    }

    fn run_all(&mut self) {
        let group = Name::new("default").unwrap();
        loop {
            self.look_at_new_runs();
            let view = self.fake.view();
            let Some(run) = view.queue(&group).next() else { return };
            let (worker, incarnation) = (self.worker, Incarnation(5));
            let dispatch = Command::Dispatch { run, number: 1, worker, incarnation };
            let Outcome::Dispatched { token } = self.leads(dispatch) else {
                panic!("run {run} is refused")
            };
            let code = self.code(&view, view.run(run).unwrap().action.unwrap());
            let report = EndReport {
                how: EndKind::Exited { code },
                started: None,
                ended: None,
                output_bytes: 0,
                output_crc: 0,
            };
            let attempt = AttemptKey { run, shard: 0, number: 1 };
            self.leads(Command::Complete { attempt, token, report });
        }
    }

    /// No run before its edges are met, read from the definitions.
    fn look_at_new_runs(&mut self) {
        let view = self.fake.view();
        for run in view.runs_after(Some(self.seen)) {
            self.seen = run.id;
            let key = run.action.unwrap();
            let spec = view.spec(run.job, run.revision).unwrap();
            if !matches!(run.kind, RunKind::Schedule | RunKind::Dependency) {
                continue;
            }
            for up in &view.action(key).unwrap().upstream {
                let is_met = is_met(&view, spec, up);
                assert!(is_met, "{:?} runs before {up:?}", Self::name(&view, key));
            }
        }
    }

    /// All actions: what they came to and what they waited for, by name.
    fn all(&self) -> BTreeMap<(String, i64), (String, Vec<String>)> {
        let view = self.fake.view();
        let mut all = BTreeMap::new();
        for id in &self.ids {
            for (key, action) in view.actions_of(*id, UtcMillis(i64::MIN), UtcMillis::MAX) {
                let up = |up: &Upstream| match up.awaited() {
                    Some(key) => format!("{:?}", Self::name(&view, key)),
                    None => format!("{} {:?}", view.job(up.action.job).unwrap().spec.name, up.none),
                };
                let ups = action.upstream.iter().map(up).collect();
                all.insert(Self::name(&view, key), (format!("{:?}", action.state), ups));
            }
        }
        all
    }

    fn live(&self) -> Vec<ActionKey> {
        let view = self.fake.view();
        self.ids.iter().flat_map(|id| view.live_actions_of(*id).collect::<Vec<_>>()).collect()
    }

    /// Whatever is due and not over waits for what it says.
    fn look_at_waits(&self) -> usize {
        let (view, mut waits) = (self.fake.view(), 0);
        for key in self.live() {
            let action = view.action(key).unwrap();
            let why = explain(&view, Subject::Action(key), &|_| true);
            if action.due > view.now() {
                assert_eq!(why, Some(WaitReason::NotDue));
                continue;
            }
            waits += 1;
            let spec = view.spec(key.job, action.revision).unwrap();
            let open = || action.upstream.iter().filter(|up| !is_met(&view, spec, up));
            let failed = open().any(|up| {
                let state = up.awaited().and_then(|up| view.action(up)).map(|up| up.state);
                matches!(state, Some(ActionState::Failed | ActionState::Cancelled))
            });
            let wanted = if failed { WaitReason::UpstreamFailed } else { WaitReason::Upstream };
            assert!(open().next().is_some(), "{key} waits for nothing: {action:?}");
            assert_eq!(why, Some(wanted), "{action:?}");
        }
        waits
    }

    /// What follows from an action, by the edges of actions that are over or wait.
    fn below(&self, root: ActionKey) -> BTreeSet<ActionKey> {
        let view = self.fake.view();
        let (mut found, mut grows) = (BTreeSet::from([root]), true);
        while grows {
            grows = false;
            for id in &self.ids {
                for (key, action) in view.actions_of(*id, UtcMillis(i64::MIN), UtcMillis::MAX) {
                    let may = action.state.is_final() || action.state == ActionState::Waiting;
                    let follows = action
                        .upstream
                        .iter()
                        .filter_map(Upstream::awaited)
                        .any(|up| up.job != key.job && found.contains(&up));
                    grows |= may && follows && found.insert(key);
                }
            }
        }
        found
    }
}

/// What an edge asks for is there.
fn is_met(view: &State, spec: &JobSpec, up: &Upstream) -> bool {
    let Some(key) = up.awaited() else { return up.none == Some(NoMatch::Satisfied) };
    let Some(state) = view.action(key).map(|action| action.state) else { return false };
    let edge = spec.edge_to(key.job).unwrap();
    match edge.condition {
        _ if edge.soft => state.is_final(),
        Condition::Success => state == ActionState::Success,
        Condition::Failure => state == ActionState::Failed,
        Condition::Done => state.is_final(),
        Condition::SkippedOk => matches!(state, ActionState::Success | ActionState::Skipped(_)),
    }
}

#[test]
fn a_day_of_any_graph_is_the_same_in_whatever_order_its_jobs_were_made() {
    let (mut runs, mut waits, mut actions) = (0, 0, 0);
    for seed in seeds(4) {
        let mut dice = Dice(seed);
        let count = 8 + dice.below(16);
        let made = graph(&mut dice, count, false);
        let mut worlds = [(); 2].map(|()| World::new(&made, &mut dice, 12));
        for _ in 0..26 * 2 {
            for world in &mut worlds {
                world.pass(30 * MINUTE);
            }
        }
        let [one, two] = &mut worlds;
        assert_eq!(one.all(), two.all(), "seed {seed}");
        actions += one.all().len();
        runs += one.seen.0;
        waits += one.look_at_waits();
        // In the end nothing waits that was due when the day was over.
        let over = one.fake.now();
        for _ in 0..12 {
            one.fake.pass(DAY / 4);
            one.leads(Command::Tick);
        }
        let left: Vec<ActionKey> =
            one.live().into_iter().filter(|key| key.nominal <= over).collect();
        let view = one.fake.view();
        let is_over = |key: &ActionKey| {
            // What was planned and came due since then is not for this test.
            let queued = view.action(*key).unwrap().run.is_some();
            queued || view.action(*key).unwrap().due > over
        };
        assert!(left.iter().all(is_over), "seed {seed}: {left:?}");
    }
    assert!(runs > 200 && waits > 5 && actions > 500, "{runs} runs, {waits} waits, {actions}");
}

#[test]
fn two_hundred_at_once_and_fifty_in_a_row_are_the_same_in_whatever_order_they_were_made() {
    let (mut widest, mut waits) = (0, 0);
    for seed in seeds(1) {
        let mut dice = Dice(300 + seed);
        let made = wide_and_deep(&mut dice);
        let mut worlds = [(); 2].map(|()| World::new(&made, &mut dice, 60));
        for _ in 0..12 {
            for world in &mut worlds {
                world.pass(30 * MINUTE);
            }
        }
        let [one, two] = &mut worlds;
        let all = one.all();
        assert_eq!(all, two.all(), "seed {seed}");
        waits += one.look_at_waits();
        let view = one.fake.view();
        let last = view.actions_of(one.ids[250], UtcMillis(i64::MIN), UtcMillis::MAX).count();
        assert!(last > 0, "seed {seed}: nothing is planned for the last of the row");
        widest = widest.max(all.values().map(|(_, ups)| ups.len()).max().unwrap());
    }
    assert!(widest >= 200 && waits > 5, "{widest} upstream actions, {waits} waits");
}

#[test]
fn an_edge_that_would_close_a_circle_is_refused_with_the_way() {
    for seed in seeds(20) {
        let mut dice = Dice(100 + seed);
        let count = 30 + dice.below(30);
        let made = graph(&mut dice, count, false);
        let world = World::new(&made, &mut dice, 0);
        let below = |first: usize| {
            let mut all = BTreeSet::from([first]);
            for (place, job) in made.iter().enumerate() {
                if job.edges.iter().any(|(up, _)| all.contains(up)) {
                    all.insert(place);
                }
            }
            all.remove(&first);
            Vec::from_iter(all)
        };
        let mut tried = 0;
        for place in 0..count {
            let below = below(place);
            if below.is_empty() {
                continue;
            }
            let last = dice.pick(&below);
            let mut spec = World::with_edges(&made[place], &world.ids);
            let before = world.fake.view().job(world.ids[place]).unwrap().revision;
            spec.depends_on.push(EdgeSpec::new(world.ids[last]));
            let command = Command::ApplyJob { spec: Box::new(spec), expected: None };
            let path = match world.fake.user(command) {
                Outcome::Rejected(Reject::Cycle { path }) => path,
                other => panic!("seed {seed}: {other:?}"),
            };
            tried += 1;
            assert_eq!(path.first(), path.last(), "seed {seed}");
            let place_of = |name: &Name| made.iter().position(|m| m.spec.name == *name).unwrap();
            let steps = path.windows(2).map(|pair| (place_of(&pair[0]), place_of(&pair[1])));
            for (a, b) in steps {
                let is_edge = |from: usize, to: usize| {
                    made[from].edges.iter().any(|(up, _)| *up == to) || (from, to) == (place, last)
                };
                assert!(is_edge(a, b) || is_edge(b, a), "seed {seed}: no way {path:?}");
            }
            assert_eq!(world.fake.view().job(world.ids[place]).unwrap().revision, before);
        }
        assert!(tried > 5, "seed {seed}: {tried}");
    }
}

#[test]
fn a_tree_is_run_again_each_action_once() {
    let mut diamonds = 0;
    for seed in seeds(4) {
        let mut dice = Dice(200 + seed);
        let count = 8 + dice.below(12);
        let made = graph(&mut dice, count, true);
        let mut world = World::new(&made, &mut dice, 0);
        for _ in 0..24 {
            world.pass(60 * MINUTE);
        }
        let view = world.fake.view();
        let over: Vec<ActionKey> = world
            .ids
            .iter()
            .flat_map(|id| view.actions_of(*id, UtcMillis(i64::MIN), UtcMillis::MAX))
            .filter(|(_, action)| action.state == ActionState::Success)
            .map(|(key, _)| key)
            .collect();
        for _ in 0..6 {
            let root = dice.pick(&over);
            let tree = world.below(root);
            let preview = world.fake.view().tree_below(root).unwrap();
            assert_eq!(BTreeSet::from_iter(preview.into_iter().chain([root])), tree);
            let last = world.seen;
            world.fake.user(Command::Rerun { action: root, below: true });
            world.run_all();
            let view = world.fake.view();
            let mut ran: BTreeMap<ActionKey, u32> = BTreeMap::new();
            for run in view.runs_after(Some(last)) {
                assert_eq!(run.kind, RunKind::SuperRecover, "seed {seed}");
                *ran.entry(run.action.unwrap()).or_default() += 1;
            }
            let once: BTreeMap<ActionKey, u32> = tree.iter().map(|key| (*key, 1)).collect();
            assert_eq!(ran, once, "seed {seed}: below {root}");
            let meets = |key: &&ActionKey| {
                let ups = view.action(**key).unwrap().upstream.iter().filter_map(Upstream::awaited);
                ups.filter(|up| tree.contains(up)).count() > 1
            };
            diamonds += tree.iter().filter(meets).count();
        }
    }
    assert!(diamonds > 10, "{diamonds} actions follow by several ways");
}

/// Two hundred jobs of all hours and zones, one that depends on each of them, and fifty
/// behind it in a row, with edges that are drawn.
fn wide_and_deep(dice: &mut Dice) -> Vec<Made> {
    let rest = [Matching::LatestBefore, Matching::AllInPeriod, Matching::PreviousPeriod];
    let mut made = Vec::new();
    for n in 0..200 {
        let cron = dice.pick(&CRONS);
        let zone = Some(dice.pick(&ZONES).to_owned());
        let spec = JobSpec { zone, ..spec(&format!("up{n}"), &[cron], &[]) };
        made.push(Made { spec, edges: Vec::new() });
    }
    let edges = (0..200).map(|up| {
        let rare = dice.one_in(20).then_some(Matching::AllInPeriod);
        let matching = rare.unwrap_or(Matching::LatestBefore);
        (up, EdgeSpec { matching, soft: dice.one_in(3), ..EdgeSpec::new(JobId(0)) })
    });
    let edges = edges.collect();
    made.push(Made { spec: spec("all", &["0 30 * * * ?"], &[]), edges });
    for n in 0..50 {
        let zone = Some(dice.pick(&ZONES).to_owned());
        // Each has the instants of the one before; what else it waits for may be absent.
        let mut edges = vec![(200 + n, EdgeSpec::new(JobId(0)))];
        let more: BTreeSet<usize> = (0..dice.below(3)).map(|_| dice.below(200 + n)).collect();
        edges.extend(more.into_iter().map(|up| {
            let matching = dice.pick(&rest);
            (up, EdgeSpec { matching, soft: dice.one_in(4), ..EdgeSpec::new(JobId(0)) })
        }));
        made.push(Made { spec: JobSpec { zone, ..spec(&format!("row{n}"), &[], &[]) }, edges });
    }
    made
}

#[test]
fn two_hundred_at_once_and_fifty_in_a_row_run_in_their_order() {
    let mut made: Vec<Made> = (0..200)
        .map(|n| {
            let zone = Some(ZONES[n % ZONES.len()].to_owned());
            let cron = ["0 0 * * * ?", "0 0/30 * * * ?", "0 20 * * * ?"][n % 3];
            Made { spec: JobSpec { zone, ..spec(&format!("up{n}"), &[cron], &[]) }, edges: vec![] }
        })
        .collect();
    let edge = |matching| EdgeSpec { matching, ..EdgeSpec::new(JobId(0)) };
    let matchings = [Matching::LatestBefore, Matching::Nearest];
    let all = (0..200).map(|n| (n, edge(matchings[n % 2]))).collect();
    made.push(Made { spec: spec("all", &["0 0 5 * * ?"], &[]), edges: all });
    for n in 0..50 {
        let zone = Some(ZONES[n % 2].to_owned());
        let edges = vec![(200 + n, edge(Matching::Nearest))];
        made.push(Made { spec: JobSpec { zone, ..spec(&format!("row{n}"), &[], &[]) }, edges });
    }
    let mut world = World::new(&made, &mut Dice(1), 0);
    for _ in 0..6 {
        world.pass(30 * MINUTE);
    }
    let view = world.fake.view();
    let of = |name: &str| {
        let job = view.job_by_name(&Name::new(name).unwrap()).unwrap().id;
        let mut all = view.actions_of(job, UtcMillis(i64::MIN), view.now());
        let (key, action) = all.next().unwrap();
        assert!(all.next().is_none(), "{name} has one");
        (key, action.clone())
    };
    let (first, action) = of("all");
    assert_eq!((action.state, action.upstream.len()), (ActionState::Success, 200));
    let mut last = (first, action.run);
    for n in 0..50 {
        let (key, action) = of(&format!("row{n}"));
        assert_eq!(action.state, ActionState::Success, "row{n}");
        assert_eq!(action.upstream[0].awaited(), Some(last.0));
        assert!(action.run > last.1, "row{n} runs after the one before");
        last = (key, action.run);
    }
}
