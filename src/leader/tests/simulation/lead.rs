//! One leader's services: planner, ticker, dispatcher, cancels, sessions. What
//! they decide is decided by the product's own functions; what is simulated is
//! only when they are woken and when their proposals are answered.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use horai_core::ids::{AttemptKey, Incarnation, LeaderId, Token, WorkerId};
use horai_core::machine::command::{Command, Envelope};
use horai_core::machine::outcome::{Outcome, Reject};
use horai_core::machine::state::State;
use horai_core::time::UtcMillis;
use horai_raft::Error;

use super::worker::Reported;
use crate::leader::answers;
use crate::leader::events::{Changed, EventHub, Receiver, Wants};
use crate::leader::picks::{Pick, Picker};
use crate::leader::plan_book::{PlanBook, Round};
use crate::leader::ports::own;
use crate::leader::spreads;
use crate::session::pure::Finished;

/// Dispatches proposed together, and groups under way: as the dispatcher has them.
const GROUP: usize = 256;
const GROUPS: usize = 8;
/// Runs that wait to be split are looked at this often, in milliseconds.
const ROUND: i64 = 1_000;

pub(super) type Answer = Result<Outcome, Error>;

/// A worker's stream to a node, in one of its lives.
pub(super) type Stream = (usize, u64);

/// A heartbeat that waits to be committed.
#[derive(Debug, Clone)]
pub(super) struct Beat {
    pub(super) stream: Stream,
    pub(super) worker: WorkerId,
    pub(super) incarnation: Incarnation,
    pub(super) seq: u64,
}

/// An attachment that waits to be committed.
#[derive(Debug, Clone)]
pub(super) struct Attachment {
    pub(super) stream: Stream,
    pub(super) incarnation: Incarnation,
    pub(super) live: Vec<(AttemptKey, Token)>,
    pub(super) results: Vec<Reported>,
}

/// Who waits for the answer to a proposal.
#[derive(Debug, Clone)]
pub(super) enum Purpose {
    Begin,
    Plan,
    Tick,
    Dispatch {
        group: u64,
        place: usize,
    },
    /// Looks up what became of dispatches before it.
    Barrier {
        group: u64,
    },
    /// A run is split.
    Spread,
    Beats(Vec<Beat>),
    Result(Box<Finished>, Stream),
    Attach(Box<Attachment>),
    /// A user's request, by its number.
    User(usize),
    /// A program's question about a lock, by its number.
    Client(usize),
    /// A copy of which nobody waits.
    Nobody,
}

/// Written in the leader's log, and not committed.
#[derive(Debug, Clone)]
pub(super) struct Proposal {
    pub(super) id: u64,
    pub(super) envelope: Envelope,
    pub(super) stamp: UtcMillis,
    pub(super) purpose: Purpose,
    pub(super) is_answered: bool,
}

/// A stream that is attached.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attached {
    pub(super) worker: WorkerId,
    pub(super) incarnation: Incarnation,
}

struct Group {
    picks: Vec<Pick>,
    answers: Vec<Option<Answer>>,
    unsure: Vec<Pick>,
}

/// What runs once the term has begun.
struct Services {
    book: PlanBook,
    jobs: Receiver,
    runs: Receiver,
    round: Option<Round>,
    picker: Picker,
    groups: BTreeMap<u64, Group>,
    /// Splits under way.
    spreads: usize,
    held_until: i64,
    looked_for_cancels: bool,
}

/// What a service wants next.
#[derive(Debug)]
pub(super) enum Want {
    Propose(Command, Purpose),
    /// Again, after so many milliseconds.
    Wait(i64),
    /// Tell these workers to start these runs.
    Tell(answers::Starts),
    /// Somebody else leads: the services end.
    Deposed,
}

/// See the module.
pub(super) struct Lead {
    pub(super) id: LeaderId,
    pub(super) node: usize,
    /// Unlike any other's, also when the same node leads again.
    pub(super) serial: u64,
    /// What it applied last, if it was followed by another and does not know.
    pub(super) behind: Option<State>,
    /// It stands still until then.
    pub(super) frozen_until: i64,
    pub(super) hub: EventHub,
    services: Option<Services>,
    pub(super) log: VecDeque<Proposal>,
    pub(super) attached: BTreeMap<Stream, Attached>,
    pub(super) beats: BTreeMap<Stream, Beat>,
    pub(super) is_beating: bool,
    /// Results under way: one that is repeated is not listened to.
    pub(super) busy: BTreeSet<(AttemptKey, Token)>,
    last_group: u64,
}

impl Lead {
    pub(super) fn new(id: LeaderId, node: usize, serial: u64) -> Self {
        Self {
            id,
            node,
            serial,
            behind: None,
            frozen_until: 0,
            hub: EventHub::new(),
            services: None,
            log: VecDeque::new(),
            attached: BTreeMap::new(),
            beats: BTreeMap::new(),
            is_beating: false,
            busy: BTreeSet::new(),
            last_group: 0,
        }
    }

    pub(super) fn has_begun(&self) -> bool {
        self.services.is_some()
    }

    /// The term is committed: services start from the state alone.
    pub(super) fn begin(&mut self, state: &State, now: UtcMillis) {
        let mut book = PlanBook::default();
        let (jobs, runs) = (self.hub.subscribe(Wants::JOBS), self.hub.subscribe(Wants::RUNS));
        book.changed(state, &Changed::All, now);
        self.services = Some(Services {
            book,
            jobs,
            runs,
            round: None,
            picker: Picker::new(now),
            groups: BTreeMap::new(),
            spreads: 0,
            held_until: 0,
            looked_for_cancels: false,
        });
    }

    /// The services end, as after a panic or because another leads.
    pub(super) fn end(&mut self) {
        self.services = None;
        self.attached.clear();
        self.beats.clear();
        self.busy.clear();
        self.is_beating = false;
    }

    pub(super) fn connected(&self) -> Vec<WorkerId> {
        let ids: BTreeSet<WorkerId> = self.attached.values().map(|a| a.worker).collect();
        ids.into_iter().collect()
    }

    /// One look of the planner.
    pub(super) fn plan(&mut self, state: &State, time: UtcMillis) -> Option<Want> {
        let services = self.services.as_mut().filter(|s| s.round.is_none())?;
        let now = time.max(state.now());
        services.book.changed(state, &services.jobs.take().jobs, now);
        let round = services.book.plan(state, now);
        if round.batches.is_empty() {
            let at = services.book.next()?;
            return Some(Want::Wait(i64::try_from(at.since(now).0).unwrap_or(i64::MAX)));
        }
        let command = round.command();
        services.round = Some(round);
        Some(Want::Propose(command, Purpose::Plan))
    }

    /// The planner's proposal was answered. It waits before it looks if that failed.
    pub(super) fn planned(&mut self, answer: &Answer) -> Want {
        match answer {
            Ok(Outcome::Planned { .. } | Outcome::Rejected(Reject::StalePlan(_))) => Want::Wait(0),
            Ok(Outcome::Rejected(Reject::StaleLeader(_))) => Want::Deposed,
            Ok(_) | Err(_) => Want::Wait(50),
        }
    }

    /// Looks at what became of the planner's proposal.
    pub(super) fn settle(&mut self, state: &State, time: UtcMillis) {
        let Some(services) = &mut self.services else { return };
        if let Some(round) = services.round.take() {
            services.book.settle(state, round, time.max(state.now()));
        }
    }

    /// One look of the dispatcher.
    pub(super) fn dispatch(&mut self, state: &State, time: UtcMillis, now: i64) -> Vec<Want> {
        let connected = self.connected();
        let Some(services) = &mut self.services else { return Vec::new() };
        let mut wants = Vec::new();
        if services.held_until > now {
            return vec![Want::Wait(services.held_until - now)];
        }
        while services.groups.len() < GROUPS {
            let picks = services.picker.pick(state, &connected, time.max(state.now()), GROUP);
            let is_last = picks.len() < GROUP;
            if !picks.is_empty() {
                self.last_group += 1;
                let group = self.last_group;
                for (place, pick) in picks.iter().enumerate() {
                    let command = pick.envelope(self.id).command;
                    wants.push(Want::Propose(command, Purpose::Dispatch { group, place }));
                }
                let answers = picks.iter().map(|_| None).collect();
                services.groups.insert(group, Group { picks, answers, unsure: Vec::new() });
            }
            if is_last {
                break;
            }
        }
        if services.spreads == 0 {
            let steps = spreads::steps(state, time.max(state.now()));
            services.spreads = steps.len();
            wants.extend(steps.into_iter().map(|step| Want::Propose(step, Purpose::Spread)));
        }
        if state.queued_groups().iter().any(|group| state.to_split(group).next().is_some()) {
            // Time alone may let it go.
            wants.push(Want::Wait(ROUND));
        }
        let pace = services.picker.wait().map(|span| i64::try_from(span.0).unwrap());
        wants.extend(pace.map(Want::Wait));
        wants
    }

    /// One dispatch was answered; what follows once its group is complete.
    pub(super) fn dispatched(
        &mut self,
        group: u64,
        place: usize,
        answer: Answer,
        now: i64,
    ) -> Vec<Want> {
        let Some(services) = &mut self.services else { return Vec::new() };
        let Some(open) = services.groups.get_mut(&group) else { return Vec::new() };
        open.answers[place] = Some(answer);
        if open.answers.iter().any(Option::is_none) {
            return Vec::new();
        }
        let given = open.answers.drain(..).flatten().collect();
        let Ok(read) = answers::read(&open.picks, given) else { return vec![Want::Deposed] };
        if read.failed {
            services.held_until = now + 50;
        }
        let mut wants = vec![Want::Tell(read.starts)];
        if read.unsure.is_empty() {
            services.picker.settle(&open.picks);
            services.groups.remove(&group);
            wants.push(Want::Wait(0));
        } else {
            open.unsure = read.unsure;
            wants.push(Want::Propose(Command::Tick, Purpose::Barrier { group }));
        }
        wants
    }

    /// A split was answered; it is looked for others at once, or soon.
    pub(super) fn spread(&mut self, answer: &Answer) -> Vec<Want> {
        let Some(services) = &mut self.services else { return Vec::new() };
        services.spreads = services.spreads.saturating_sub(1);
        match answer {
            Ok(Outcome::Rejected(Reject::StaleLeader(_))) => vec![Want::Deposed],
            Ok(Outcome::Done) => vec![Want::Wait(0)],
            Ok(_) | Err(_) => vec![Want::Wait(ROUND)],
        }
    }

    /// A command after unsure ones is committed.
    pub(super) fn passed(&mut self, group: u64, state: &State) -> Vec<Want> {
        let Some(services) = &mut self.services else { return Vec::new() };
        let Some(open) = services.groups.remove(&group) else { return Vec::new() };
        services.picker.settle(&open.picks);
        vec![Want::Tell(answers::committed(state, &open.unsure)), Want::Wait(0)]
    }

    /// Runs whose workers are to be told to end them.
    pub(super) fn cancels(&mut self, state: &State) -> Vec<horai_core::ids::RunId> {
        let Some(services) = &mut self.services else { return Vec::new() };
        let heard = services.runs.take().runs;
        let changed = if services.looked_for_cancels { heard } else { Changed::All };
        services.looked_for_cancels = true;
        crate::leader::cancels::to_cancel(state, &changed)
    }

    pub(super) fn own(&self, command: Command) -> Envelope {
        own(self.id, command)
    }
}
