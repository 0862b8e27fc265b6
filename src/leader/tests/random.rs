//! Random days: jobs are edited, time passes, leaders change, events and
//! answers get lost. Every instant is planned once, every run dispatched once.

use std::collections::{BTreeMap, BTreeSet};

use horai_core::ids::*;
use horai_core::machine::command::*;
use horai_core::machine::outcome::Outcome;
use horai_core::model::calendar::{CalendarDef, CalendarRule};
use horai_core::model::job::{JobSpec, TriggerKind, TriggerSpec};
use horai_core::model::pause::{AfterPause, PauseTarget};
use horai_core::model::trigger::{Dialect, RuleSpec, TriggerRule};
use horai_core::time::UtcMillis;
use horai_core::timing::schedule::{Context, Schedule};
use proptest::prelude::*;

use super::planning::plan_all;
use super::support::*;
use crate::leader::events::{Changed, Receiver, Wants};
use crate::leader::picks::Picker;
use crate::leader::plan_book::PlanBook;
use crate::leader::ports::own;

const CRONS: [&str; 5] =
    ["* * * * * ?", "0/7 * * * * ?", "0 * * * * ?", "0 0/10 * * * ?", "0 0 * * * ?"];

#[derive(Debug, Clone)]
enum Step {
    /// A job of its own instants.
    Job(usize),
    /// A job that depends on some of those there are.
    Derived(Vec<usize>),
    /// A job of its own instants that also waits for others.
    Both(usize, Vec<usize>),
    /// Other instants, or another revision of a derived job.
    Edit(usize, usize),
    Pause(usize),
    Resume(usize),
    /// A job of its own instants under the calendar.
    Bound(usize),
    /// The calendar leaves out this minute of each hour.
    Calendar(u32),
    /// The cluster, or the group of every second job.
    Hold(bool),
    GoOn {
        all: bool,
        misfire: bool,
    },
    Pass(u64),
    /// The planner hears its events, and plans.
    Plan,
    /// The planner's proposal is applied, and it never hears of it.
    PlanUnheard,
    /// Another leader: nothing but the state is left.
    NewLeader,
    /// A mailbox ran over.
    Overflow,
    Tick,
    /// Dispatches are chosen, and so many of them are applied.
    Dispatch(usize),
    Complete,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (0..CRONS.len()).prop_map(Step::Job),
        1 => prop::collection::vec(0..6_usize, 1..3).prop_map(Step::Derived),
        1 => (0..CRONS.len(), prop::collection::vec(0..6_usize, 1..3))
            .prop_map(|(cron, ups)| Step::Both(cron, ups)),
        1 => (0..8_usize, 0..CRONS.len()).prop_map(|(job, cron)| Step::Edit(job, cron)),
        1 => (0..8_usize).prop_map(Step::Pause),
        1 => (0..8_usize).prop_map(Step::Resume),
        1 => (0..CRONS.len()).prop_map(Step::Bound),
        1 => (0..60_u32).prop_map(Step::Calendar),
        1 => prop::bool::ANY.prop_map(Step::Hold),
        2 => (prop::bool::ANY, prop::bool::ANY)
            .prop_map(|(all, misfire)| Step::GoOn { all, misfire }),
        4 => prop_oneof![0..500_u64, 0..30_000_u64, 0..900_000_u64].prop_map(Step::Pass),
        4 => Just(Step::Plan),
        1 => Just(Step::PlanUnheard),
        1 => Just(Step::NewLeader),
        1 => Just(Step::Overflow),
        4 => Just(Step::Tick),
        4 => (0..300_usize).prop_map(Step::Dispatch),
        3 => Just(Step::Complete),
    ];
    prop::collection::vec(step, 1..60)
}

fn dispatch(fake: &Fake, picker: &mut Picker, worker: WorkerId, most: usize) -> Vec<RunId> {
    let picks = picker.pick(&fake.view(), &[worker], fake.now(), 256);
    let mut started = Vec::new();
    for pick in picks.iter().take(most) {
        match fake.apply(&pick.envelope(leader(1))) {
            Outcome::Dispatched { .. } => started.push(pick.run),
            other => panic!("{pick:?}: {other:?}"),
        }
    }
    picker.settle(&picks);
    started
}

/// A job under test: what gives its instants, and when that changed last.
#[derive(Debug, Clone, Copy)]
struct Known {
    id: JobId,
    /// None if it is derived.
    cron: Option<&'static str>,
    /// The calendar bounds it.
    is_bound: bool,
    since: UtcMillis,
}

const CALENDAR: &str = "c";

/// Leaves out one minute of each hour.
fn calendar(minute: u32) -> Command {
    let expression = format!("* {minute} * * * ?");
    let def = CalendarDef {
        name: name(CALENDAR),
        description: String::new(),
        zone: None,
        rule: CalendarRule::Cron { expression, dialect: Dialect::Quartz },
        include_only: false,
        base: None,
    };
    Command::PutCalendar { def: Box::new(def), expected: None }
}

/// A cron that the calendar bounds.
fn bound(text: &str) -> TriggerSpec {
    let expression = text.to_owned();
    let rule = TriggerRule::Cron { expression, dialect: Dialect::Quartz };
    let rule = RuleSpec { calendars: vec![name(CALENDAR)], ..RuleSpec::new(rule) };
    TriggerSpec { kind: TriggerKind::Rule(Box::new(rule)), ..self::cron(text) }
}

fn trigger(text: &str, is_bound: bool) -> TriggerSpec {
    if is_bound { bound(text) } else { self::cron(text) }
}

/// Since when nothing has changed of a job and all that it rests on.
fn calm_since(fake: &Fake, jobs: &[Known], job: JobId) -> UtcMillis {
    let view = fake.view();
    let (mut work, mut since) = (vec![job], UtcMillis(0));
    while let Some(id) = work.pop() {
        since = jobs.iter().find(|known| known.id == id).map_or(since, |k| since.max(k.since));
        work.extend(view.job(id).unwrap().spec.depends_on.iter().map(|edge| edge.job));
    }
    since
}

fn compare(
    have: &BTreeSet<UtcMillis>,
    wanted: &BTreeSet<UtcMillis>,
    what: &str,
) -> Result<(), TestCaseError> {
    let (lost, odd) = (wanted - have, have - wanted);
    let (first_lost, first_odd) = (lost.first(), odd.first());
    let counts = (wanted.len(), lost.len(), odd.len());
    prop_assert!(
        lost.is_empty() && odd.is_empty(),
        "{what}: of {} instants {} are lost from {first_lost:?}, and {} are odd from {first_odd:?}",
        counts.0,
        counts.1,
        counts.2
    );
    Ok(())
}

/// A job has an action for each of its instants that was not recorded as
/// missed, and those wait for the upstream actions of the same instant.
fn check_instants(fake: &Fake, known: Known, since: UtcMillis) -> Result<(), TestCaseError> {
    let view = fake.view();
    let Some(cron) = known.cron else { return Ok(()) };
    let job = known.id;
    let find = |name: &Name| view.calendar(name).map(|calendar| &calendar.def);
    let (job_zone, default_zone, anchor) = (None, "UTC", UtcMillis(0));
    let context = Context { job, job_zone, default_zone, anchor, calendars: &find };
    let schedule = Schedule::read(&trigger(cron, known.is_bound), context).unwrap();
    let missed: Vec<(UtcMillis, UtcMillis)> =
        view.missed_of(job).map(|missed| (missed.from, missed.to)).collect();
    let begin = known.since.max(view.floor(job).unwrap_or_default());
    let wanted: BTreeSet<UtcMillis> = schedule
        .after(begin)
        .take_while(|at| *at <= fake.now())
        .filter(|at| !missed.iter().any(|(from, to)| (*from..=*to).contains(at)))
        .collect();
    let actions = view.actions_of(job, UtcMillis(begin.0 + 1), fake.now());
    let have: BTreeSet<UtcMillis> = actions.map(|(key, _)| key.nominal).collect();
    compare(&have, &wanted, &format!("job {job} {cron}"))?;
    for edge in &view.job(job).unwrap().spec.depends_on {
        let begin = since.max(begin).max(view.floor(edge.job).unwrap_or_default());
        for (key, action) in view.actions_of(job, UtcMillis(begin.0 + 1), fake.now()) {
            let up = ActionKey { job: edge.job, nominal: key.nominal };
            let waits = action.upstream.iter().any(|upstream| upstream.awaited() == Some(up));
            prop_assert_eq!(waits, view.action(up).is_some(), "{} on {}", key, up);
        }
    }
    Ok(())
}

/// A derived job has an action for each instant that all its upstreams have,
/// and no other.
fn check_derived(fake: &Fake, job: JobId, since: UtcMillis) -> Result<(), TestCaseError> {
    let view = fake.view();
    let edges: Vec<JobId> =
        view.job(job).unwrap().spec.depends_on.iter().map(|edge| edge.job).collect();
    let floors = edges.iter().chain([&job]).filter_map(|id| view.floor(*id));
    let begin = UtcMillis(floors.fold(since, UtcMillis::max).0 + 1);
    let instants = |job: JobId| -> BTreeSet<UtcMillis> {
        view.actions_of(job, begin, fake.now()).map(|(key, _)| key.nominal).collect()
    };
    let all = edges.iter().map(|up| instants(*up)).reduce(|a, b| &a & &b).unwrap();
    compare(&instants(job), &all, &format!("job {job} after {edges:?}"))
}

/// Everything that a step may move.
struct World {
    fake: std::sync::Arc<Fake>,
    worker: WorkerId,
    book: PlanBook,
    news: Receiver,
    picker: Picker,
    started: BTreeMap<RunId, u32>,
    jobs: Vec<Known>,
}

impl World {
    fn new() -> Self {
        let fake = Fake::new(false);
        fake.user(calendar(60 - 1));
        fake.user(put_pool("p", 30));
        Self {
            worker: fake.worker("w", &["default"], 10_000),
            book: PlanBook::default(),
            news: fake.hub.subscribe(Wants::JOBS),
            picker: Picker::new(fake.now()),
            started: BTreeMap::new(),
            jobs: Vec::new(),
            fake,
        }
    }

    fn hear(&mut self) {
        let changed = self.news.take().jobs;
        self.book.changed(&self.fake.view(), &changed, self.fake.now());
    }

    fn plan(&mut self) {
        self.hear();
        plan_all(&self.fake, &mut self.book);
    }

    fn dispatch(&mut self, most: usize) {
        for run in dispatch(&self.fake, &mut self.picker, self.worker, most) {
            *self.started.entry(run).or_default() += 1;
        }
    }

    fn target(all: bool) -> PauseTarget {
        if all { PauseTarget::Cluster } else { PauseTarget::Group(GroupPath::new("g").unwrap()) }
    }

    fn is_held(&self, job: JobId) -> bool {
        let view = self.fake.view();
        view.hold_of(view.job(job).unwrap()).is_some()
    }

    /// What was held goes on: after `skip` its instants count from now.
    fn go_on(&mut self, all: bool, misfire: bool) {
        let held: Vec<bool> = self.jobs.iter().map(|known| self.is_held(known.id)).collect();
        let missed = if misfire { AfterPause::Misfire } else { AfterPause::Skip };
        self.fake.user(Command::Resume { target: Self::target(all), missed });
        for (place, was_held) in held.into_iter().enumerate() {
            if was_held && !misfire && !self.is_held(self.jobs[place].id) {
                self.jobs[place].since = self.fake.now();
            }
        }
    }

    fn apply_bound(&mut self, cron: &'static str) {
        let at = self.jobs.len();
        if at <= 8 {
            let spec = JobSpec { triggers: vec![bound(cron)], ..spec(&format!("j{at}"), &[], &[]) };
            let id = self.fake.job(spec);
            let since = self.fake.now();
            self.jobs.push(Known { id, cron: Some(cron), is_bound: true, since });
        }
    }

    fn apply_job(&mut self, at: usize, cron: Option<&'static str>, ups: &[usize]) {
        if at > 8 || (cron.is_none() && self.jobs.is_empty()) {
            return;
        }
        let ups: BTreeSet<JobId> = match self.jobs.len() {
            0 => BTreeSet::new(),
            count => ups.iter().map(|up| self.jobs[up % count].id).collect(),
        };
        let ups: Vec<JobId> = ups.into_iter().collect();
        let crons: Vec<&str> = cron.into_iter().collect();
        let group = at.is_multiple_of(2).then(|| GroupPath::new("g/in").unwrap());
        let pools =
            if at.is_multiple_of(3) { BTreeMap::from([(name("p"), 1)]) } else { BTreeMap::new() };
        let id = self.fake.job(JobSpec { group, pools, ..spec(&format!("j{at}"), &crons, &ups) });
        self.jobs.push(Known { id, cron, is_bound: false, since: self.fake.now() });
    }

    /// Other instants for a job that has its own; else a revision that changes none.
    fn edit(&mut self, at: usize, cron: &'static str) {
        let Some(known) = self.jobs.get_mut(at) else { return };
        let view = self.fake.view();
        let mut spec = view.job(known.id).unwrap().spec.clone();
        match &mut known.cron {
            Some(old) if *old != cron => {
                *old = cron;
                spec.triggers = vec![trigger(cron, known.is_bound)];
                known.since = self.fake.now();
            }
            _ => spec.priority = (spec.priority + 1) % 10,
        }
        self.fake.job(spec);
    }

    fn pause(&mut self, at: usize, paused: bool) {
        let Some(known) = self.jobs.get_mut(at) else { return };
        let job = known.id;
        if self.fake.view().job(job).unwrap().paused != paused {
            known.since = self.fake.now();
            let command =
                if paused { Command::PauseJob { job } } else { Command::ResumeJob { job } };
            self.fake.user(command);
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Job(which) => self.apply_job(self.jobs.len(), Some(CRONS[*which]), &[]),
            Step::Derived(ups) => self.apply_job(self.jobs.len(), None, ups),
            Step::Both(which, ups) => {
                self.apply_job(self.jobs.len(), Some(CRONS[*which]), ups);
            }
            Step::Edit(at, which) => self.edit(*at, CRONS[*which]),
            Step::Pause(at) => self.pause(*at, true),
            Step::Resume(at) => self.pause(*at, false),
            Step::Bound(which) => self.apply_bound(CRONS[*which]),
            Step::Calendar(minute) => {
                self.fake.user(calendar(*minute));
                for known in self.jobs.iter_mut().filter(|known| known.is_bound) {
                    known.since = self.fake.now();
                }
            }
            Step::Hold(all) => {
                self.fake.user(Command::Pause { target: Self::target(*all) });
            }
            Step::GoOn { all, misfire } => self.go_on(*all, *misfire),
            Step::Pass(ms) => self.fake.pass(*ms),
            Step::Plan => self.plan(),
            Step::PlanUnheard => {
                self.hear();
                let before = self.fake.view();
                let round = self.book.plan(&before, self.fake.now());
                let command = round.command();
                self.fake.apply(&own(leader(1), command));
                // The answer is lost, and what is looked at is behind: the
                // event will say so.
                self.book.settle(&before, round, self.fake.now());
            }
            Step::NewLeader => {
                self.book = PlanBook::default();
                self.news = self.fake.hub.subscribe(Wants::JOBS);
                self.book.scan(&self.fake.view(), self.fake.now());
                self.picker = Picker::new(self.fake.now());
            }
            Step::Overflow => {
                self.news.take();
                self.book.changed(&self.fake.view(), &Changed::All, self.fake.now());
            }
            Step::Tick => {
                self.fake.apply(&own(leader(1), Command::Tick));
            }
            Step::Dispatch(most) => self.dispatch(*most),
            Step::Complete => {
                self.fake.complete_all();
            }
        }
    }

    /// Nothing disturbs any more, and what waits for the pace of late runs goes.
    fn calm_down(&mut self) {
        self.go_on(false, true);
        self.go_on(true, true);
        for at in 0..self.jobs.len() {
            self.pause(at, false);
        }
        for _ in 0..40 {
            for step in [Step::Plan, Step::Tick, Step::Dispatch(256), Step::Complete] {
                self.step(&step);
            }
            self.fake.pass(20_000);
        }
        for _ in 0..600 {
            self.plan();
            self.step(&Step::Tick);
            if self.fake.view().queue_len() == 0 && self.fake.complete_all() == 0 {
                break;
            }
            self.fake.pass(250);
            self.dispatch(256);
        }
        self.plan();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_instant_is_planned_once_and_every_run_dispatched_once(steps in steps()) {
        judge(&steps)?;
    }
}

/// Does the steps, lets everything come to rest, and looks at what there is.
fn judge(steps: &[Step]) -> Result<(), TestCaseError> {
    let mut world = World::new();
    for step in steps {
        world.step(step);
    }
    world.calm_down();
    for known in &world.jobs {
        let since = calm_since(&world.fake, &world.jobs, known.id);
        check_instants(&world.fake, *known, since)?;
        if known.cron.is_none() {
            check_derived(&world.fake, known.id, since)?;
        }
    }
    let twice: Vec<_> = world.started.iter().filter(|(_, times)| **times > 1).collect();
    prop_assert!(twice.is_empty(), "dispatched twice: {twice:?}");
    let view = world.fake.view();
    let is_unstarted = |run: &&horai_core::model::run::Run| !world.started.contains_key(&run.id);
    let never = view.runs_after(None).filter(is_unstarted).count();
    prop_assert!(never <= view.queue_len(), "{never} runs never started");
    Ok(())
}

#[test]
fn nobody_takes_runs_of_a_pause_that_is_on_its_way() {
    // More is ahead than one command withdraws.
    let jobs = [Step::Both(0, vec![0]), Step::Job(0), Step::Derived(vec![5])];
    let due = [Step::Pass(586_830), Step::Pass(335_572), Step::Job(0), Step::Job(0)];
    let held = [Step::Pass(29_598), Step::Plan, Step::Job(0), Step::Hold(false)];
    let steps: Vec<Step> = jobs.into_iter().chain(due).chain(held).collect();
    let steps: Vec<Step> = steps.into_iter().chain([Step::Dispatch(256)]).collect();
    judge(&steps).unwrap();
}

#[test]
fn a_job_whose_upstream_is_paused_while_its_plan_is_unknown_goes_on() {
    let jobs = std::iter::repeat_n(Step::Job(0), 5);
    let trouble = [Step::Plan, Step::Both(0, vec![4]), Step::PlanUnheard, Step::Pause(4)];
    let steps: Vec<Step> = jobs.chain(trouble).collect();
    judge(&steps).unwrap();
}
