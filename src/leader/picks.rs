//! Which waiting run goes to which worker next.
//!
//! Pure: the state is read, a bounded number of choices comes out, and what is
//! under way is remembered until it is answered. Worker groups are served in
//! turns, so that one whose workers are busy or missing holds up no other. In
//! a group the head of the queue goes first, and each tenth choice is the
//! longest-waiting run of all priorities, so that none starves. Late runs
//! ("catch up") come last and at a bounded rate. Runs whose pools are full, or for which
//! no worker of the kind that they ask for has a slot, are passed over, a whole line of
//! them at once; what they lack of pools is kept for them, and of those that take much of
//! their worker one worker for the first, so that it gets it one day. Runs
//! that need a secret whose key this leader has not are passed over one by one: they wait
//! until it has the key or another node leads, because dispatched they could only fail. So
//! are runs with limits while the workers that can hold them to these are busy or missing.
//! Runs that are to be split over all workers are those of [`super::spreads`].

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::iter::Peekable;

use horai_core::ids::{Incarnation, LeaderId, Name, RunId, WorkerId};
use horai_core::machine::command::{Command, Envelope};
use horai_core::machine::state::State;
use horai_core::model::demand::Demand;
use horai_core::model::resources::Resources;
use horai_core::model::secret::KeyId;
use horai_core::mutants::{self, Mutant};
use horai_core::placement::load::Load;
use horai_core::placement::pools::Claims;
use horai_core::placement::{View, choose};
use horai_core::time::{Span, UtcMillis};

use super::in_flight::InFlight;
use super::ports::own;

/// Each so many-th choice of a group is its longest-waiting run.
const OLDEST_EVERY: u32 = 10;
/// Groups whose last worker is remembered.
const GROUPS: usize = 4_096;
/// Lines of a group that one round looks at. There are as many as runs wait with
/// different demands; where there are more, rounds take turns.
const LINES: usize = 1_000;

/// A dispatch to be proposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pick {
    pub(super) run: RunId,
    /// The attempt's number if it is accepted.
    pub(super) number: u32,
    pub(super) worker: WorkerId,
    pub(super) incarnation: Incarnation,
}

impl Pick {
    pub(super) fn envelope(&self, leader: LeaderId) -> Envelope {
        let Self { run, number, worker, incarnation } = *self;
        own(leader, Command::Dispatch { run, number, worker, incarnation })
    }

    /// True if the state holds this very attempt, alive.
    pub(super) fn is_committed(&self, state: &State) -> bool {
        let live = state.run(self.run).and_then(|run| run.live_attempt());
        live.is_some_and(|a| {
            a.key.number == self.number
                && a.worker == self.worker
                && a.incarnation == self.incarnation
        })
    }
}

/// Starts of late runs, cluster-wide: at most 200 in any second, wherever it begins,
/// with what was saved up before.
#[derive(Debug)]
struct Pace {
    /// Thousandths of a start that may be used.
    credit: u64,
    at: UtcMillis,
}

impl Pace {
    const PER_SECOND: u64 = 190;
    const START: u64 = 1_000;
    /// What may be saved up, so that nobody has to look at each start's own moment.
    const MOST: u64 = Self::START * 10;

    fn advance(&mut self, now: UtcMillis) {
        // What is earned in a millisecond is per second divided by thousand,
        // and a start costs a thousand thousandths.
        let earned = now.since(self.at).0.saturating_mul(Self::PER_SECOND);
        self.credit = self.credit.saturating_add(earned).min(Self::MOST);
        self.at = self.at.max(now);
    }

    fn has_one(&self) -> bool {
        self.credit >= Self::START
    }

    fn take(&mut self) {
        self.credit = self.credit.saturating_sub(Self::START);
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Picker {
    in_flight: InFlight,
    pace: Pace,
    /// The worker a group's last run went to.
    last: BTreeMap<Name, WorkerId>,
    /// The group served last; the next round begins behind it.
    served: Option<Name>,
    turns: u32,
    /// Where the next round goes on in groups that have more lines than one looks at.
    cut: BTreeMap<Name, Demand>,
    /// A late run waits for the pace alone, or there are lines to look at still.
    is_not_done: bool,
    /// Secrets that no order can be built of here.
    closed: BTreeSet<Name>,
    /// How busy workers are; nothing is known of those that are not there.
    loads: BTreeMap<WorkerId, Load>,
    chance: Chance,
}

/// Numbers for choices by chance: whoever leads draws them, and the choice is committed.
/// Other ones in each term; they need not be hard to guess.
#[derive(Debug)]
struct Chance(u64);

impl Chance {
    /// The next number, by the rule of splitmix64.
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// What orders lanes.
type Class = (bool, Reverse<u8>);

/// A group's runs of one priority and demand, longest-waiting first, without those
/// under way.
struct Lane<'a> {
    class: Class,
    catch_up: bool,
    demand: Demand,
    runs: Peekable<Box<dyn Iterator<Item = (RunId, UtcMillis)> + 'a>>,
}

impl Picker {
    pub(super) fn new(now: UtcMillis) -> Self {
        Self {
            in_flight: InFlight::default(),
            pace: Pace { credit: 0, at: now },
            last: BTreeMap::new(),
            served: None,
            turns: 0,
            cut: BTreeMap::new(),
            is_not_done: false,
            closed: BTreeSet::new(),
            loads: BTreeMap::new(),
            chance: Chance(now.0.cast_unsigned()),
        }
    }

    /// Remembers how busy workers are, until it is told again.
    pub(super) fn look_at_loads(&mut self, loads: Vec<(WorkerId, Load)>) {
        self.loads = loads.into_iter().collect();
    }

    /// Finds the secrets that this leader has no key for; runs that need one are not
    /// picked until it is asked again.
    pub(super) fn look_at_keys(&mut self, state: &State, has_key: &dyn Fn(KeyId) -> bool) {
        self.closed.clear();
        if state.secret_keys().all(has_key) {
            return;
        }
        let closed = state.secrets_after(None).filter(|(_, secret)| !has_key(secret.sealed.key));
        self.closed.extend(closed.map(|(name, _)| name.clone()));
    }

    /// True if a run needs a secret that no order can be built of here.
    fn is_closed(&self, state: &State, run: RunId) -> bool {
        if self.closed.is_empty() {
            return false;
        }
        let spec = state.run(run).and_then(|run| state.spec(run.job, run.revision));
        spec.is_some_and(|spec| spec.secrets.iter().any(|name| self.closed.contains(name)))
    }

    /// How many more may be under way.
    pub(super) fn room(&self) -> usize {
        self.in_flight.room()
    }

    /// How long to wait if nothing happens: until a late run may start, or others are
    /// looked at.
    pub(super) fn wait(&self) -> Option<Span> {
        // A few at a time: a wake-up costs more than a start.
        self.is_not_done.then_some(Span(20))
    }

    /// Chooses up to `most` dispatches, which are under way from now on.
    pub(super) fn pick(
        &mut self,
        state: &State,
        connected: &[WorkerId],
        now: UtcMillis,
        most: usize,
    ) -> Vec<Pick> {
        let mut picks = Vec::new();
        self.pace.advance(now);
        self.is_not_done = false;
        if connected.is_empty() {
            return picks;
        }
        let mut groups = state.queued_groups();
        if let Some(served) = &self.served {
            let first = groups.partition_point(|group| group <= served);
            groups.rotate_left(first);
        }
        let most = most.min(self.room());
        let mut claims = Claims::default();
        for group in groups {
            if picks.len() >= most {
                break;
            }
            let before = picks.len();
            self.pick_from(state, &group, connected, most, &mut claims, &mut picks);
            if picks.len() > before {
                self.served = Some(group);
            }
        }
        if self.last.len() > GROUPS {
            self.last.clear();
        }
        if self.cut.len() > GROUPS {
            self.cut.clear();
        }
        picks
    }

    fn pick_from(
        &mut self,
        state: &State,
        group: &Name,
        connected: &[WorkerId],
        most: usize,
        claims: &mut Claims,
        picks: &mut Vec<Pick>,
    ) {
        let read = state.queue_lanes(group, self.cut.get(group), LINES);
        let mut lanes: Vec<Lane<'_>> = Vec::with_capacity(read.lanes.len());
        for lane in read.lanes {
            if lane.demand.is_for_all() {
                // No worker takes them: they are split first.
                continue;
            }
            let class = lane.class();
            let runs: Box<dyn Iterator<Item = (RunId, UtcMillis)>> = Box::new(lane.runs);
            let (catch_up, demand) = (lane.catch_up, lane.demand);
            lanes.push(Lane { class, catch_up, demand, runs: runs.peekable() });
        }
        let mut crew = Crew::of(state, group, connected, &self.in_flight, &self.loads);
        let mut last = self.last.get(group).copied();
        let mut has_all = false;
        // Without a free slot the next run would find none either.
        while picks.len() < most && !crew.is_full() {
            let Some((place, run)) = self.candidate(state, &mut lanes) else {
                has_all = true;
                break;
            };
            let chance = self.chance.draw();
            let view = View {
                connected: crew.workers(),
                reserved: &|worker| crew.reserved(worker, &self.in_flight),
                load: &|worker| self.loads.get(&worker).copied().unwrap_or_default(),
            };
            let worker = choose(state, run, &view, last, chance);
            let Some(lane) = lanes.get_mut(place) else { break };
            if worker.is_none() && !crew.is_enough_for(state, &lane.demand) {
                // It may never go, so nothing is kept for it. What is behind it in its lane
                // asks for the same.
                lanes.remove(place);
                continue;
            }
            let reserved = |pool: &Name| self.in_flight.reserved_of(pool);
            let fits = claims.fits(state, &lane.demand, &reserved);
            let Some(worker) = worker.filter(|_| fits) else {
                crew.keep_one_for(state, &lane.demand);
                lanes.remove(place);
                continue;
            };
            let Some(pick) = pick_of(state, run, worker) else { break };
            if !self.in_flight.begin(run, worker, &lane.demand) {
                break;
            }
            lane.runs.next();
            if lane.catch_up {
                self.pace.take();
            }
            self.turns = self.turns.wrapping_add(1);
            last = Some(worker);
            crew.took(worker, lane.demand.resources().slots);
            picks.push(pick);
        }
        if let Some(last) = last {
            self.last.insert(group.clone(), last);
        }
        self.is_not_done |= has_all && read.cut.is_some();
        match read.cut {
            Some(cut) => self.cut.insert(group.clone(), cut),
            None => self.cut.remove(group),
        };
    }

    /// The next run of a group and the place of its lane.
    fn candidate(&mut self, state: &State, lanes: &mut [Lane<'_>]) -> Option<(usize, RunId)> {
        let is_oldest_turn = self.turns % OLDEST_EVERY == OLDEST_EVERY - 1;
        let mut best: Option<(usize, RunId, UtcMillis, Class)> = None;
        for (place, lane) in lanes.iter_mut().enumerate() {
            let is_beside = best.is_none_or(|(.., class)| class == lane.class);
            if !is_beside && !is_oldest_turn {
                break;
            }
            let is_passed_over = |run: RunId| {
                self.in_flight.contains(run)
                    || self.is_closed(state, run)
                    || state.is_queued_in_vain(run)
            };
            while lane.runs.next_if(|(run, _)| is_passed_over(*run)).is_some() {}
            let Some((run, ready_at)) = lane.runs.peek().copied() else { continue };
            if lane.catch_up && !self.pace.has_one() {
                self.is_not_done = true;
                continue;
            }
            let is_before = |(_, first, oldest, _): (usize, RunId, UtcMillis, Class)| {
                ready_at < oldest || (is_beside && ready_at == oldest && run < first)
            };
            if best.is_none_or(is_before) {
                best = Some((place, run, ready_at, lane.class));
            }
        }
        best.map(|(place, run, ..)| (place, run))
    }

    /// These were answered, one way or the other.
    pub(super) fn settle(&mut self, picks: &[Pick]) {
        for pick in picks {
            if mutants::on(Mutant::RefusedStaysInFlight) && pick.number % 2 == 0 {
                continue;
            }
            self.in_flight.end(pick.run);
        }
    }
}

/// Workers of a group that are not too busy.
struct Crew {
    all: Vec<WorkerId>,
    /// Those that have a slot, ascending.
    workers: Vec<WorkerId>,
    free: BTreeMap<WorkerId, u32>,
    /// What one of them keeps for who takes much.
    kept: Option<(WorkerId, Resources)>,
}

impl Crew {
    fn of(
        state: &State,
        group: &Name,
        connected: &[WorkerId],
        in_flight: &InFlight,
        loads: &BTreeMap<WorkerId, Load>,
    ) -> Self {
        let thresholds = state.thresholds_of(group);
        let serves = |id: &WorkerId| {
            let worker = state.worker(*id).filter(|worker| worker.is_open());
            let load = loads.get(id).copied().unwrap_or_default();
            worker.is_some_and(|worker| worker.profile.groups.contains(group))
                && load.allows(thresholds)
        };
        let free = |id: WorkerId| state.free_slots(id).saturating_sub(in_flight.reserved(id).slots);
        let all: Vec<WorkerId> = connected.iter().copied().filter(serves).collect();
        let free: BTreeMap<WorkerId, u32> =
            all.iter().map(|id| (*id, free(*id))).filter(|(_, free)| *free > 0).collect();
        Self { all, workers: free.keys().copied().collect(), free, kept: None }
    }

    fn workers(&self) -> &[WorkerId] {
        &self.workers
    }

    fn is_full(&self) -> bool {
        self.workers.is_empty()
    }

    /// So many slots of that worker are given away.
    fn took(&mut self, worker: WorkerId, slots: u32) {
        let Some(free) = self.free.get_mut(&worker) else { return };
        *free = free.saturating_sub(slots);
        if *free == 0 {
            self.lose(worker);
        }
    }

    fn lose(&mut self, worker: WorkerId) {
        self.free.remove(&worker);
        self.workers.retain(|id| *id != worker);
    }

    /// Those that could take such a run if nothing else ran there.
    fn suiting<'a>(
        &'a self,
        state: &'a State,
        demand: &'a Demand,
    ) -> impl Iterator<Item = WorkerId> {
        let suits = |id: &WorkerId| state.worker(*id).is_some_and(|w| demand.suits(w));
        let all = match demand.only().map(|only| self.all.binary_search(&only)) {
            None => self.all.as_slice(),
            Some(Ok(place)) => &self.all[place..=place],
            Some(Err(_)) => &[],
        };
        all.iter().copied().filter(suits)
    }

    fn is_enough_for(&self, state: &State, demand: &Demand) -> bool {
        self.suiting(state, demand).next().is_some()
    }

    /// What nobody else gets there: dispatches that are under way take it, or it is kept.
    fn reserved(&self, worker: WorkerId, in_flight: &InFlight) -> Resources {
        let mut reserved = in_flight.reserved(worker);
        if let Some((_, kept)) = self.kept.as_ref().filter(|(keeper, _)| *keeper == worker) {
            reserved.add(kept);
        }
        reserved
    }

    /// Keeps on one worker, for the rest of this round, what a run takes that has no room
    /// there yet, on the one with the most free slots: else runs that take little would
    /// keep out one that takes much for as long as they come. What it does not take, or
    /// what is more than enough, others get. Who takes a slot alone needs none kept: the
    /// next one that is free is its own.
    fn keep_one_for(&mut self, state: &State, demand: &Demand) {
        if self.kept.is_some() || demand.resources().is_plain() {
            return;
        }
        let free = |id: &WorkerId| self.free.get(id).copied().unwrap_or(0);
        let Some(worker) = self.suiting(state, demand).max_by_key(free) else { return };
        self.kept = Some((worker, demand.resources().clone()));
        self.took(worker, demand.resources().slots);
    }
}

fn pick_of(state: &State, run: RunId, worker: WorkerId) -> Option<Pick> {
    let number = state.run(run)?.attempts.last().map_or(1, |a| a.key.number.saturating_add(1));
    let incarnation = state.worker(worker)?.profile.incarnation;
    Some(Pick { run, number, worker, incarnation })
}
