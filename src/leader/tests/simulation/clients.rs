//! People who write jobs, and programs that hold locks. Both ask again with the
//! same request id until they have an answer, and now and then once more.

use horai_core::ids::{GroupPath, JobId, Name, Token, TriggerName};
use horai_core::machine::command::{Actor, Command, Envelope, Request};
use horai_core::machine::outcome::{Outcome, Reject};
use horai_core::machine::state::State;
use horai_core::model::calendar::{CalendarDef, CalendarRule};
use horai_core::model::edge::{EdgeSpec, Matching};
use horai_core::model::job::*;
use horai_core::model::limits::RunLimits;
use horai_core::model::part::RunOn;
use horai_core::model::pause::{AfterPause, PauseTarget};
use horai_core::model::run::{Run, RunState};
use horai_core::model::trigger::{Dialect, RuleSpec, TimeOfDay, TriggerRule, Weekdays};
use horai_core::time::{Span, UtcMillis};

use super::lead::{Answer, Lead, Purpose};
use super::replicas::Problem;
use super::script::{Event, JobShape, LeftOut, Lost, Misfire};
use super::world::{Happening, World};

fn span(ms: i64) -> Span {
    Span(ms.unsigned_abs())
}

pub(super) fn job_name(slot: u64) -> Name {
    Name::new(&format!("j{slot}")).unwrap()
}

/// The definition that a shape stands for. A trigger's name says what is in it,
/// so that one that was edited is another one or the same, at random.
pub(super) fn spec(slot: u64, shape: &JobShape, state: &State) -> JobSpec {
    let trigger = |(place, shape): (usize, &super::script::TriggerShape)| TriggerSpec {
        name: TriggerName(format!("t{place}").as_str().into()),
        kind: kind(shape),
        zone: shape.zone.map(|zone| zone.name().to_owned()),
        misfire: match shape.misfire {
            Misfire::All => MisfirePolicy::FireAll,
            Misfire::Now => MisfirePolicy::FireNow,
            Misfire::Skip => MisfirePolicy::Skip,
        },
        enabled: true,
    };
    // What has instants of its own fires whatever its upstream jobs do.
    let has_triggers = !shape.triggers.is_empty();
    let matching = if has_triggers { Matching::LatestBefore } else { Matching::SameTime };
    let up = |slot: &u64| {
        let job = state.job_by_name(&job_name(*slot))?.id;
        Some(EdgeSpec { matching, ..EdgeSpec::new(job) })
    };
    let argv = vec!["/bin/true".to_owned()];
    JobSpec {
        zone: shape.zone.map(|zone| zone.name().to_owned()),
        triggers: shape.triggers.iter().enumerate().map(trigger).collect(),
        depends_on: shape.ups.iter().filter_map(up).collect(),
        executor: if shape.noop { Executor::Noop } else { Executor::Exec { argv } },
        priority: shape.priority,
        retries: RetryPolicy {
            count: shape.retries,
            backoff: Backoff::Fixed { delay: span(shape.backoff) },
        },
        timeout: shape.timeout.map(span),
        limits: RunLimits { run: shape.run_limit.map(span), queue: None },
        grace: Span::secs(3),
        lease: span(shape.lease),
        on_worker_lost: match shape.lost {
            Lost::Rerun => OnWorkerLost::Rerun,
            Lost::Fail => OnWorkerLost::Fail,
            Lost::Keep(keep_for) => OnWorkerLost::Keep { keep_for: span(keep_for) },
        },
        group: shape.group.map(group),
        run_on: if shape.everywhere { RunOn::AllWorkers } else { RunOn::OneWorker },
        ..JobSpec::noop(job_name(slot))
    }
}

fn kind(shape: &super::script::TriggerShape) -> TriggerKind {
    let expression = shape.cron.text();
    let (rule, start) = match (shape.delay, shape.rate, shape.bound) {
        (None, None, None) => return TriggerKind::Cron { expression },
        (Some(delay), ..) => (TriggerRule::FixedDelay { delay: Span(delay) }, None),
        (None, Some((start, every)), _) => {
            (TriggerRule::Interval { every: span(every), repeats: None }, Some(UtcMillis(start)))
        }
        (None, None, Some(_)) => (TriggerRule::Cron { expression, dialect: Dialect::Quartz }, None),
    };
    let calendars = shape.bound.into_iter().map(calendar_name).collect();
    TriggerKind::Rule(Box::new(RuleSpec { calendars, start, ..RuleSpec::new(rule) }))
}

pub(super) fn calendar_name(number: u8) -> Name {
    Name::new(&format!("c{number}")).unwrap()
}

fn group(number: u8) -> GroupPath {
    // The second lies in the first.
    GroupPath::new(["g", "g/in"][usize::from(number)]).unwrap()
}

fn target(what: Option<u8>) -> PauseTarget {
    what.map_or(PauseTarget::Cluster, |number| PauseTarget::Group(group(number)))
}

pub(super) fn put_calendar(number: u8, left_out: &LeftOut) -> Command {
    let time = |second: i64| {
        let second = u32::try_from(second).unwrap();
        TimeOfDay::new(second / 3600, second / 60 % 60, second % 60).unwrap()
    };
    let (rule, zone) = match left_out {
        LeftOut::Days(days) => (CalendarRule::Weekly(Weekdays(*days)), None),
        LeftOut::Times(from, to) => {
            (CalendarRule::Daily(vec![(time(*from), time(*to))]), Some("UTC".to_owned()))
        }
    };
    let (name, description) = (calendar_name(number), String::new());
    let def = CalendarDef { name, description, zone, rule, include_only: false, base: None };
    Command::PutCalendar { def: Box::new(def), expected: None }
}

/// One request of a person.
#[derive(Debug)]
pub(super) struct User {
    command: Command,
    issued: Option<UtcMillis>,
    outcome: Option<Outcome>,
    /// Asked and not answered.
    is_waiting: bool,
}

impl User {
    pub(super) fn new(command: Command) -> Self {
        Self { command, issued: None, outcome: None, is_waiting: false }
    }
}

/// Where a program stands that wants a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Asking,
    Queued,
    Renewing(Token),
    Leaving(Option<Token>),
    Over,
}

/// One program that takes a lock, holds it for a while and gives it back.
#[derive(Debug)]
pub(super) struct Client {
    name: Name,
    slots: u32,
    ttl: i64,
    hold: i64,
    wait: i64,
    owner: String,
    stage: Stage,
    asked: u64,
    began: Option<i64>,
    /// When the question under way was sent; none: none is.
    sent: Option<i64>,
}

impl Client {
    pub(super) fn new(n: usize, name: u64, slots: u32, ttl: i64, hold: i64, wait: i64) -> Self {
        Self {
            name: Name::new(&format!("lock{name}")).unwrap(),
            slots,
            ttl,
            hold,
            wait,
            owner: format!("c{n}"),
            stage: Stage::Asking,
            asked: 0,
            began: None,
            sent: None,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Over
    }

    fn command(&self) -> (Command, bool) {
        let name = self.name.clone();
        match self.stage {
            Stage::Asking | Stage::Queued => {
                let (owner, slots) = (self.owner.clone(), self.slots);
                let (ttl, wait) = (span(self.ttl), span(self.wait));
                (Command::AcquireLock { name, owner, ttl, slots, wait }, true)
            }
            Stage::Renewing(token) => (Command::RenewLock { name, token }, false),
            Stage::Leaving(Some(token)) => (Command::ReleaseLock { name, token }, false),
            Stage::Leaving(None) | Stage::Over => {
                (Command::LeaveLock { name, owner: self.owner.clone() }, false)
            }
        }
    }
}

fn live_runs(state: &State) -> Vec<&Run> {
    let is_live = |run: &&Run| !matches!(run.state, RunState::Finished { .. });
    state.runs_after(None).filter(is_live).collect()
}

impl World {
    /// Before somebody who got no answer asks again.
    fn retry(&self) -> i64 {
        self.setup.scale.unit() / 2
    }

    pub(super) fn user(&mut self, command: Command) {
        let number = self.users.len();
        self.users.push(User::new(command));
        self.agenda.after(0, Happening::User(number));
    }

    pub(super) fn on_user_event(&mut self, place: usize) {
        let state = &self.replicas.truth;
        let id = |slot: &u64| -> Option<JobId> { Some(state.job_by_name(&job_name(*slot))?.id) };
        let command = match &self.script[place].event {
            Event::Put(slot, shape) => {
                let spec = Box::new(spec(*slot, shape, state));
                self.oracle.meant(*slot, shape.clone());
                Some(Command::ApplyJob { spec, expected: None })
            }
            Event::Pause(slot) => id(slot).map(|job| Command::PauseJob { job }),
            Event::Resume(slot) => id(slot).map(|job| Command::ResumeJob { job }),
            Event::ResumeLate(slot) => id(slot).map(|job| {
                let (target, missed) = (PauseTarget::Job(job), AfterPause::Misfire);
                Command::Resume { target, missed }
            }),
            Event::Hold(what) => Some(Command::Pause { target: target(*what) }),
            Event::GoOn(what, is_late) => {
                let missed = if *is_late { AfterPause::Misfire } else { AfterPause::Skip };
                Some(Command::Resume { target: target(*what), missed })
            }
            Event::OneTrigger(slot, place, goes_on) => id(slot).map(|job| {
                let target = PauseTarget::Trigger(job, TriggerName(format!("t{place}").into()));
                // What comes behind those that were planned without it is not judged here.
                let missed = AfterPause::Skip;
                if *goes_on {
                    Command::Resume { target, missed }
                } else {
                    Command::Pause { target }
                }
            }),
            Event::OneTriggerLate(slot, place) => id(slot).map(|job| {
                let target = PauseTarget::Trigger(job, TriggerName(format!("t{place}").into()));
                // What comes behind those that were planned without it is not judged.
                let is_alone = state.dependants_of(job).next().is_none();
                let missed = if is_alone { AfterPause::Misfire } else { AfterPause::Skip };
                Command::Resume { target, missed }
            }),
            Event::Calendar(number, left_out) => Some(put_calendar(*number, left_out)),
            Event::Delete(slot) => id(slot).map(|job| Command::DeleteJob { job, expected: None }),
            Event::Trigger(slot) => id(slot).map(|job| Command::TriggerJob { job }),
            Event::Cancel(nth) => {
                let live = live_runs(state);
                let nth = usize::try_from(*nth).unwrap().checked_rem(live.len());
                nth.map(|nth| Command::CancelRun { run: live[nth].id })
            }
            _ => None,
        };
        if let Some(command) = command {
            self.user(command);
        }
    }

    fn able(&self) -> Option<&Lead> {
        self.lead(self.current?)
    }

    pub(super) fn on_user(&mut self, number: usize) -> Result<(), Problem> {
        let Some((serial, node)) = self.able().map(|lead| (lead.serial, lead.node)) else {
            self.agenda.after(self.retry(), Happening::User(number));
            return Ok(());
        };
        let Some(time) = self.nodes.cluster_now(node, self.now()) else {
            self.agenda.after(self.retry(), Happening::User(number));
            return Ok(());
        };
        let user = &mut self.users[number];
        user.is_waiting = true;
        let request = Request {
            id: format!("u{number}"),
            body_hash: number as u128,
            issued: Some(*user.issued.get_or_insert(time)),
        };
        let actor = Actor::User("u".to_owned());
        let envelope = Envelope { actor, request: Some(request), command: user.command.clone() };
        self.propose(serial, envelope, Purpose::User(number));
        Ok(())
    }

    /// The leader that was asked is gone.
    pub(super) fn ask_again(&mut self, number: usize) {
        if self.users[number].is_waiting {
            self.agenda.after(self.retry(), Happening::User(number));
        }
    }

    pub(super) fn on_user_answer(&mut self, number: usize, answer: Answer) -> Result<(), Problem> {
        let retry = self.retry();
        let again = self.draw(5) == 0;
        let user = &mut self.users[number];
        let Ok(outcome) = answer else {
            self.agenda.after(retry, Happening::User(number));
            return Ok(());
        };
        user.is_waiting = false;
        match &user.outcome {
            None => {
                user.outcome = Some(outcome);
                if again {
                    self.agenda.after(retry / 2, Happening::User(number));
                }
            }
            Some(first) => {
                let is_expired = matches!(outcome, Outcome::Rejected(Reject::RequestExpired(_)));
                if *first != outcome && !is_expired {
                    let command = &user.command;
                    return Err(format!(
                        "request u{number} ({command:?}) was answered {first:?}, and then {outcome:?}"
                    ));
                }
            }
        }
        Ok(())
    }

    pub(super) fn on_client(&mut self, number: usize) -> Result<(), Problem> {
        let now = self.now();
        let client = &self.clients[number];
        if client.is_over() || client.sent.is_some() {
            return Ok(());
        }
        let Some(lead) = self.able() else {
            self.agenda.after(self.retry(), Happening::Client(number));
            return Ok(());
        };
        let (serial, node) = (lead.serial, lead.node);
        let issued = self.nodes.cluster_now(node, now);
        let client = &mut self.clients[number];
        client.sent = Some(now);
        client.began.get_or_insert(now);
        let (command, has_id) = client.command();
        let request = has_id.then(|| Request {
            id: format!("{}-{}", client.owner, client.asked),
            body_hash: 0,
            issued,
        });
        if matches!(client.stage, Stage::Leaving(Some(_))) {
            self.oracle.let_go(number);
        }
        let envelope = Envelope { actor: Actor::User("c".to_owned()), request, command };
        self.propose(serial, envelope, Purpose::Client(number));
        Ok(())
    }

    /// The leader that was asked is gone, or said nothing.
    pub(super) fn client_unanswered(&mut self, number: usize) {
        self.clients[number].sent = None;
        let wait = (self.clients[number].ttl / 10).max(50);
        self.agenda.after(wait, Happening::Client(number));
    }

    pub(super) fn on_client_answer(
        &mut self,
        number: usize,
        answer: Answer,
    ) -> Result<(), Problem> {
        let now = self.now();
        let Ok(outcome) = answer else {
            self.client_unanswered(number);
            return Ok(());
        };
        let client = &mut self.clients[number];
        let Some(sent) = client.sent.take() else { return Ok(()) };
        client.asked += 1;
        let began = client.began.unwrap_or(now);
        let (next, wait) = match (client.stage, outcome) {
            // Only a renewal says from when the lease runs.
            (Stage::Asking | Stage::Queued, Outcome::LockHeld { token, .. }) => {
                (Stage::Renewing(token), 0)
            }
            (Stage::Asking | Stage::Queued, Outcome::LockQueued { .. }) => {
                let is_late = now - began > client.wait;
                let next = if is_late { Stage::Leaving(None) } else { Stage::Queued };
                (next, (client.ttl / 4).max(100))
            }
            (Stage::Renewing(token), Outcome::LockHeld { .. }) => {
                let until = sent + client.ttl;
                self.oracle.holds(number, &client.name, client.slots, token, (now, until))?;
                let is_done = now - began > client.hold;
                let next = if is_done { Stage::Leaving(Some(token)) } else { client.stage };
                // Some renew when there is still time to try again, some when there is not.
                let wait =
                    if number.is_multiple_of(2) { client.ttl / 3 } else { client.ttl * 7 / 10 };
                (next, wait)
            }
            (Stage::Renewing(token), Outcome::Rejected(reject)) => {
                if self.oracle.believes(number, now) {
                    let name = &client.name;
                    return Err(format!("{name} was taken from token {token} early: {reject}"));
                }
                (Stage::Over, 0)
            }
            _ => (Stage::Over, 0),
        };
        client.stage = next;
        self.agenda.after(wait, Happening::Client(number));
        Ok(())
    }
}
