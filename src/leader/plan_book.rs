//! Which job must be planned when, and what is proposed for it.
//!
//! Pure: state and time come in, batches come out, and after they were
//! answered the state is looked at again. The book keeps one line a job, in
//! the order of the next look; a fire moves one line and scans nothing. It is
//! volatile: a new leader writes it anew from jobs and cursors. While many jobs
//! wait, those with nothing planned for the next moments get just that, and the
//! rest of their windows after all others had the same: on a slow disk the last
//! of many new jobs would else be planned when its first instants have passed.
//! What it cannot plan it puts off with growing pauses, so that one bad job stops
//! no other.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};

use horai_core::derivation::plans::{Memo, Plans};
use horai_core::derivation::{Definition, World};
use horai_core::ids::{JobId, Name, Revision, TriggerName};
use horai_core::machine::command::{Command, PlanBatch, PlanSource};
use horai_core::machine::state::State;
use horai_core::mutants::{self, Mutant};
use horai_core::time::{Span, UtcMillis};
use horai_core::timing::plan::Limits;

use super::events::Changed;
use super::plan_job::{Room, plan_job, sources};

/// Jobs looked at in one round: a bound on how long one takes.
const LOOKS: usize = 512;
/// Actions of one command, in bytes, by estimate: an entry is one value of the store.
const BYTES: usize = 44 << 10;
/// With more jobs than this in wait near instants come first: about as many whole
/// windows as one command takes.
const CROWD: usize = 32;
/// A job with less than this planned ahead comes before windows of others.
const SOON: Span = Span::secs(2);
/// Between tries while the cluster holds all the actions it may.
const FULL_PAUSE: Span = Span::secs(1);
/// Before the second try of a job whose plan was refused or cannot be made.
const FIRST_PAUSE: Span = Span(100);
/// The pause doubles up to this.
const LONGEST_PAUSE: Span = Span::secs(300);
/// So many computed instants are kept between rounds, of 16 bytes each.
const KEPT: usize = 4_000_000;

/// What a job's plan rests on: if this has not changed, nothing has.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    revision: Revision,
    held: bool,
    cursors: Vec<UtcMillis>,
    /// Triggers that are paused by themselves, or wait for a change of their calendar:
    /// one that goes on where it stopped has the cursor that it had.
    at_rest: BTreeSet<TriggerName>,
    /// Triggers that wait for the end of an action.
    delayed: BTreeSet<TriggerName>,
}

impl Seen {
    fn of(state: &State, job: JobId) -> Option<Self> {
        let found = state.job(job)?;
        let cursors = sources(&found.spec).filter_map(|source| state.cursor(job, &source));
        let cursors = cursors.collect();
        let held = state.hold_of(found).is_some();
        let delays = found.spec.triggers.iter().filter(|t| t.kind.fixed_delay().is_some());
        let delayed = delays.map(|t| &t.name).filter(|t| state.unfinished_of(job, t).is_some());
        let delayed = delayed.cloned().collect();
        let names = found.spec.triggers.iter().map(|t| &t.name);
        let rests =
            |t: &&TriggerName| state.is_source_at_rest(found, &PlanSource::Trigger((*t).clone()));
        let at_rest = names.filter(rests).cloned().collect();
        Some(Self { revision: found.revision, held, cursors, at_rest, delayed })
    }
}

/// One job's line.
#[derive(Debug)]
struct Line {
    seen: Seen,
    /// When to look again; none while its batches are under way, or never.
    at: Option<UtcMillis>,
    /// Looks in a row that led to nothing.
    failures: u32,
    /// Its trouble was reported.
    told: bool,
}

/// A command's worth of work.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// To be proposed as one command; empty if there is nothing to propose.
    pub(super) batches: Vec<PlanBatch>,
    /// When to look again at the jobs of `batches`, if all is accepted.
    again: BTreeMap<JobId, Option<UtcMillis>>,
    /// The log index of the view they were computed from, if there are calendars.
    under: Option<u64>,
    /// The cluster holds all the actions it may: nothing was planned.
    pub(super) is_full: bool,
    /// Jobs that cannot be planned, and why; each is named once.
    pub(super) troubles: Vec<(JobId, String)>,
}

impl Round {
    /// What is proposed. Only where there are calendars must the machine know how
    /// old the view was: nothing else changes instants and leaves cursors alone.
    pub(super) fn command(&self) -> Command {
        let batches = self.batches.clone();
        match self.under {
            Some(seen) => Command::PlanUnder { seen, batches },
            None => Command::PlanActions(batches),
        }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct PlanBook {
    lines: BTreeMap<JobId, Line>,
    queue: BTreeSet<(UtcMillis, JobId)>,
    /// The cluster is full until then.
    full_until: Option<UtcMillis>,
    /// Instants that were computed for jobs that depend on others.
    computed: Memo,
    /// The log index of the last change of a calendar that they know of.
    calendars: u64,
}

impl PlanBook {
    /// Compares every job with its line: at the start, and when events may be missing.
    pub(super) fn scan(&mut self, state: &State, now: UtcMillis) {
        let gone: Vec<JobId> =
            self.lines.keys().filter(|job| state.job(**job).is_none()).copied().collect();
        for job in gone {
            self.forget(job);
        }
        for job in state.jobs_after(None) {
            self.note(state, job.id, now);
        }
    }

    /// Takes note of jobs that changed.
    pub(super) fn changed(&mut self, state: &State, jobs: &Changed<JobId>, now: UtcMillis) {
        match jobs {
            Changed::All => self.scan(state, now),
            Changed::Some(jobs) => {
                for job in jobs {
                    self.note(state, *job, now);
                }
            }
        }
    }

    fn note(&mut self, state: &State, job: JobId, now: UtcMillis) {
        let Some(seen) = Seen::of(state, job) else { return self.forget(job) };
        // Nothing was computed of a new job, nor of what rests on it: edges that lead to it
        // are an edit of their own.
        if self.lines.get(&job).is_some_and(|line| line.seen.revision != seen.revision) {
            self.compute_anew(state, job);
        }
        match self.lines.get_mut(&job) {
            Some(line) if line.seen == seen => return,
            Some(line) => {
                (line.failures, line.told) = (0, false);
                line.seen = seen;
            }
            None => {
                self.lines.insert(job, Line { seen, at: None, failures: 0, told: false });
            }
        }
        self.look_at(job, Some(now));
        self.look_at_dependants(state, job, now);
    }

    fn look_at_dependants(&mut self, state: &State, job: JobId, now: UtcMillis) {
        for down in state.dependants_of(job) {
            // One that is not written down yet is about to be; one whose
            // trouble is its own waits on.
            if self.lines.get(&down).is_some_and(|line| line.failures == 0) {
                self.look_at(down, Some(now));
            }
        }
    }

    fn look_at(&mut self, job: JobId, at: Option<UtcMillis>) {
        let Some(line) = self.lines.get_mut(&job) else { return };
        if let Some(old) = line.at.take() {
            self.queue.remove(&(old, job));
        }
        line.at = at;
        if let Some(at) = at {
            self.queue.insert((at, job));
        }
    }

    fn forget(&mut self, job: JobId) {
        self.look_at(job, None);
        self.lines.remove(&job);
        self.computed.forget(job);
    }

    /// Forgets what was computed of a job, and of all that rest on it.
    fn compute_anew(&mut self, state: &State, job: JobId) {
        let (mut seen, mut work) = (BTreeSet::from([job]), vec![job]);
        while let Some(job) = work.pop() {
            self.computed.forget(job);
            work.extend(state.dependants_of(job).filter(|down| seen.insert(*down)));
        }
    }

    /// What may be used of what was computed.
    fn computed(&mut self, state: &State) -> Memo {
        let calendars = state.calendars_changed();
        let is_old = std::mem::replace(&mut self.calendars, calendars) != calendars;
        let computed = std::mem::take(&mut self.computed);
        if is_old || computed.instants() > KEPT { Memo::default() } else { computed }
    }

    /// When there will be something to look at.
    pub(super) fn next(&self) -> Option<UtcMillis> {
        let (at, _) = self.queue.first()?;
        Some(self.full_until.map_or(*at, |full| full.max(*at)))
    }

    /// One round: the jobs whose time has come, until a command is full.
    pub(super) fn plan(&mut self, state: &State, now: UtcMillis) -> Round {
        let has_calendars = state.calendars_after(None).next().is_some();
        let under = has_calendars.then(|| state.applied_index());
        let mut round = Round { under, ..Round::default() };
        if self.full_until.is_some_and(|until| until > now) {
            round.is_full = true;
            return round;
        }
        self.full_until = None;
        let budget = state.limits().live_actions;
        let live = state.live_actions();
        let limits = window(state, live, budget);
        let is_crowded = self.queue.range(..=(now, JobId(u64::MAX))).nth(CROWD).is_some();
        let mut room =
            Room { actions: PlanBatch::MAX_ACTIONS.min(budget.saturating_sub(live)), bytes: BYTES };
        if room.actions == 0 {
            self.full_until = Some(now.plus(FULL_PAUSE));
            round.is_full = true;
            return round;
        }
        let jobs = |id: JobId| {
            state.job(id).map(|job| Definition { spec: &job.spec, anchor: job.created })
        };
        let calendars = |name: &Name| state.calendar(name).map(|calendar| &calendar.def);
        let default_zone = state.settings().map_or("UTC", |s| s.default_zone.as_str());
        let world = World { jobs: &jobs, calendars: &calendars, default_zone };
        let mut plans = Plans::with(world, self.computed(state));
        for _ in 0..LOOKS {
            let Some((at, job)) = self.queue.first().copied() else { break };
            if at > now || (room.is_small() && !round.batches.is_empty()) {
                break;
            }
            self.look((state, &mut plans), job, now, (limits, is_crowded), &mut room, &mut round);
        }
        self.computed = plans.into_memo();
        round
    }

    fn look(
        &mut self,
        (state, plans): (&State, &mut Plans<'_>),
        job: JobId,
        now: UtcMillis,
        (limits, is_crowded): (Limits, bool),
        room: &mut Room,
        round: &mut Round,
    ) {
        self.look_at(job, None);
        let Some(seen) = Seen::of(state, job) else { return self.forget(job) };
        let before = *room;
        let is_first = is_crowded && seen.cursors.iter().any(|at| *at <= now.plus(SOON));
        let limits = if is_first { near(limits) } else { limits };
        // A fault in the computation of one job's instants is that job's trouble.
        let plan =
            catch_unwind(AssertUnwindSafe(|| plan_job(state, plans, job, now, limits, room)));
        let Some(line) = self.lines.get_mut(&job) else { return };
        line.seen = seen;
        let (plan, trouble) = match plan {
            Ok((plan, trouble)) => (plan, trouble),
            Err(_) => {
                *room = before;
                (Default::default(), Some("its instants cannot be computed".to_owned()))
            }
        };
        let mut again = plan.again;
        if let Some(trouble) = trouble {
            if !std::mem::replace(&mut line.told, true) {
                round.troubles.push((job, trouble));
            }
            line.failures = line.failures.saturating_add(1);
            let retry = now.plus(pause(line.failures));
            again = Some(again.map_or(retry, |again| again.min(retry)));
        } else if line.told || plan.batches.is_empty() {
            // With nothing to propose nothing is refused any more: it waits for
            // its upstreams, whose news it must hear.
            (line.failures, line.told) = (0, false);
        }
        if plan.batches.is_empty() {
            return self.look_at(job, again);
        }
        if is_first {
            // The rest of its window, after all that wait now.
            again = Some(now.plus(Span(1)));
        }
        round.batches.extend(plan.batches);
        round.again.insert(job, again);
    }

    /// The round was answered, somehow: looks at what became of it. Returns how
    /// many jobs' batches were not accepted as they were.
    pub(super) fn settle(&mut self, state: &State, round: Round, now: UtcMillis) -> u64 {
        let mut expected: BTreeMap<JobId, Seen> = BTreeMap::new();
        for batch in &round.batches {
            let Some(line) = self.lines.get(&batch.job) else { continue };
            let Some(found) = state.job(batch.job) else { continue };
            let seen = expected.entry(batch.job).or_insert_with(|| line.seen.clone());
            let place = sources(&found.spec).position(|source| source == batch.source);
            if let Some(cursor) = place.and_then(|place| seen.cursors.get_mut(place)) {
                *cursor = batch.through;
            }
            if let PlanSource::Trigger(name) = &batch.source
                && !batch.actions.is_empty()
                && found.spec.trigger(name).is_some_and(|t| t.kind.fixed_delay().is_some())
            {
                seen.delayed.insert(name.clone());
            }
        }
        let mut refused = 0;
        let jobs: Vec<JobId> = round.again.keys().copied().collect();
        for (job, again) in round.again {
            let Some(seen) = Seen::of(state, job) else {
                self.forget(job);
                continue;
            };
            let Some(line) = self.lines.get_mut(&job) else { continue };
            let is_as_expected =
                expected.get(&job) == Some(&seen) || mutants::on(Mutant::PlannerTrustsItself);
            line.seen = seen;
            let next = if is_as_expected {
                if !line.told {
                    line.failures = 0;
                }
                again
            } else {
                refused += 1;
                line.failures = line.failures.saturating_add(1);
                Some(now.plus(pause(line.failures - 1)))
            };
            self.look_at(job, next);
        }
        // Last, because a dependant may have been in the same round, planned to
        // where its upstream stood before.
        for job in jobs {
            self.look_at_dependants(state, job, now);
        }
        refused
    }
}

/// The usual window, or a short one while the cluster is nearly full, so that
/// near instants of all jobs come before far ones of some.
fn window(state: &State, live: usize, budget: usize) -> Limits {
    let misfire_after = state.settings().map_or(Span::secs(60), |s| s.misfire_after);
    let usual = Limits::new(misfire_after);
    if live >= budget / 5 * 4 { near(usual) } else { usual }
}

/// The next few instants only.
fn near(usual: Limits) -> Limits {
    Limits { ahead: Span::secs(30), max_ahead: 4, ..usual }
}

/// Nothing, then doubling.
fn pause(failures: u32) -> Span {
    match failures {
        0 => Span::ZERO,
        n => FIRST_PAUSE.times(1 << (n - 1).min(20)).min(LONGEST_PAUSE),
    }
}
