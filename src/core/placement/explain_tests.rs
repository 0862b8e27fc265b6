//! A state for each reason of waiting, made by commands alone.

use super::explain::{Subject, explain, explain_trigger};
use super::load::Load;
use crate::ids::{ActionKey, TriggerName, WorkerId};
use crate::machine::command::{Command, PlanSource};
use crate::machine::tests::support::*;
use crate::model::action::WaitReason;
use crate::model::confinement::Confinement;
use crate::model::edge::NoMatch;
use crate::model::job::{Executor, JobSpec, Overlap, RetryPolicy, TriggerKind, TriggerSpec};
use crate::model::pause::PauseTarget;
use crate::model::trigger::{RuleSpec, TriggerRule};
use crate::model::worker::Duty;
use crate::model::worker_group::{Strategy, Thresholds};
use crate::time::Span;

/// A job with an action, one that waits for that, and a worker with one slot.
struct Case {
    m: Machine,
    worker: WorkerId,
    up: ActionKey,
    down: ActionKey,
}

impl Case {
    fn of(spec: JobSpec) -> Self {
        let mut m = Machine::new();
        let worker = m.worker("w", 1);
        let up = m.job(spec);
        let down = m.job(after_jobs("down", &[up]));
        let at = m.now + 1000;
        m.plan(up, &[(at, vec![]), (at + 1000, vec![])]);
        m.plan(down, &[(at, vec![key(up, at)])]);
        Self { m, worker, up: key(up, at), down: key(down, at) }
    }

    fn new() -> Self {
        Self::of(triggered("up"))
    }

    /// Its time has come.
    fn due(mut self) -> Self {
        self.m.after(1000);
        self
    }

    fn with(mut self, command: Command) -> Self {
        self.m.ok(command);
        self
    }

    /// The first of the queue goes to the worker, and fails if that is said.
    fn runs(mut self, code: Option<i32>) -> Self {
        let run = self.m.queue()[0];
        let attempt = self.m.dispatch(run, self.worker);
        if let Some(code) = code {
            self.m.complete(attempt, exit(code));
        }
        self
    }

    fn why(&self, action: ActionKey, is_connected: bool) -> Option<WaitReason> {
        explain(&self.m.state, Subject::Action(action), &|_| is_connected.then(Load::default))
    }

    fn why_up(&self) -> Option<WaitReason> {
        self.why(self.up, true)
    }

    fn why_down(&self) -> Option<WaitReason> {
        self.why(self.down, true)
    }
}

/// What is told where this is the reason; none for those that nothing gives yet. The
/// list is closed: a new reason needs a state here.
fn told(reason: WaitReason) -> Option<WaitReason> {
    let case = Case::new();
    let pause = Command::PauseJob { job: case.up.job };
    let freeze = Command::Pause { target: PauseTarget::Cluster };
    let manual = |job| Command::TriggerJob { job };
    match reason {
        WaitReason::NotDue => case.why_up(),
        WaitReason::Upstream => case.due().runs(None).why_down(),
        WaitReason::UpstreamFailed => case.due().runs(Some(1)).why_down(),
        WaitReason::UpstreamPaused => case.due().with(pause).why_down(),
        WaitReason::Paused => case.due().with(pause).why_up(),
        WaitReason::Frozen => case.due().with(freeze).why_up(),
        WaitReason::Overlap => {
            let line = Case::of(JobSpec { overlap: Overlap::QueueAll, ..triggered("up") });
            let second = key(line.up.job, line.up.nominal.0 + 1000);
            line.due().due().why(second, true)
        }
        WaitReason::Backoff => {
            let retries = RetryPolicy { count: 1, ..RetryPolicy::default() };
            Case::of(JobSpec { retries, ..triggered("up") }).due().runs(Some(1)).why_up()
        }
        WaitReason::CatchUp => {
            let mut case = case;
            let job = case.m.job(triggered("late"));
            let source = PlanSource::Trigger(TriggerName("t".into()));
            let at = case.m.now + 1000;
            let mut batch = case.m.batch(job, source, &[(at, vec![])]);
            batch.actions[0].catch_up = true;
            case.with(Command::PlanActions(vec![batch])).due().why(key(job, at), true)
        }
        WaitReason::Queue => {
            // Asked for by hand and more important, it is the first.
            let mut case = case.due();
            let urgent = case.m.job(JobSpec { priority: 9, ..spec("urgent") });
            case.with(manual(urgent)).why_up()
        }
        WaitReason::NoWorker => {
            let case = case.due();
            case.why(case.up, false)
        }
        WaitReason::Resource => {
            let job = case.down.job;
            case.with(manual(job)).runs(None).due().why_up()
        }
        WaitReason::Dispatching => case.due().why_up(),
        WaitReason::Secret => {
            let mut case = case.with(put_secret("a", 1, None));
            let job = case.m.job(knowing("closed", &["a"]));
            let (node, closed) = (case.m.state.leader().node, vec![name("a")]);
            let case = case.with(Command::CloseSecrets { node, closed }).with(manual(job));
            explain(&case.m.state, Subject::Run(case.m.queue()[0]), &here)
        }
        WaitReason::Limits => {
            let memory = Some(1 << 30);
            let confinement = Confinement { memory, ..Confinement::default() };
            Case::of(JobSpec { confinement, ..triggered("up") }).due().why_up()
        }
        WaitReason::Interpreter => {
            let (name, args, script) = (name("hive"), Vec::new(), "select 1".to_owned());
            let executor = Executor::Interpreter { name, args, script };
            Case::of(JobSpec { executor, ..triggered("up") }).due().why_up()
        }
        WaitReason::Pool => {
            let mut m = Machine::new();
            let worker = m.worker("w", 9);
            m.ok(put_pool("p", 1));
            let job = m.job(taking("a", &[("p", 1)]));
            m.ok(manual(job));
            m.ok(manual(job));
            m.dispatch(m.queue()[0], worker);
            explain(&m.state, Subject::Run(m.queue()[0]), &here)
        }
        WaitReason::FixedDelay => {
            // No action waits for that, but the trigger that would give the next one.
            let rule = RuleSpec::new(TriggerRule::FixedDelay { delay: Span::secs(9) });
            let kind = TriggerKind::Rule(Box::new(rule));
            let triggers = vec![TriggerSpec { kind, ..cron("t") }];
            let mut m = Machine::new();
            let worker = m.worker("w", 9);
            let id = m.job(JobSpec { triggers, ..spec("poll") });
            let why = |m: &Machine| {
                let job = m.state.job(id).unwrap();
                explain_trigger(&m.state, job, &job.spec.triggers[0])
            };
            let at = m.now + 1000;
            m.plan(id, &[(at, vec![])]);
            assert_eq!(why(&m), Some(WaitReason::NotDue));
            m.after(1000);
            let attempt = m.dispatch(m.queue()[0], worker);
            let told = why(&m);
            m.complete(attempt, exit(0));
            assert_eq!(why(&m), Some(WaitReason::NotDue));
            told
        }
        WaitReason::Cordoned => {
            let worker = case.worker;
            let cordon = Command::SetDuty { worker, duty: Duty::Cordoned };
            case.with(cordon).due().why_up()
        }
        WaitReason::Load => {
            let mut case = case.due();
            let limits = Some(Thresholds { memory_permille: 500, load_permille: 500 });
            case.m.ok(put_worker_group("default", Strategy::RoundRobin, limits));
            let busy = Load { per_core_permille: 501, ..Load::default() };
            explain(&case.m.state, Subject::Action(case.up), &|_| Some(busy))
        }
    }
}

#[test]
fn each_reason_is_told_where_it_is_one() {
    for reason in WaitReason::ALL {
        assert_eq!(told(reason), Some(reason));
    }
}

#[test]
fn the_first_reason_is_told_of_several() {
    // Someone has to act on a failure, and a pause of the job hides the freeze.
    let case = Case::new().due().runs(Some(1));
    let (up, down) = (case.up, case.down);
    let case = case.with(Command::PauseJob { job: up.job });
    assert_eq!(case.why(down, true), Some(WaitReason::UpstreamFailed));
    let case = case.with(Command::Pause { target: PauseTarget::Cluster });
    assert_eq!(case.why(key(up.job, up.nominal.0 + 1000), true), None, "it was withdrawn");
    let case = Case::new().due();
    let job = case.up.job;
    let case = case.with(Command::Pause { target: PauseTarget::Cluster });
    assert_eq!(case.with(Command::PauseJob { job }).why_up(), Some(WaitReason::Paused));
    // What is over, is run or is not there waits for nothing.
    let case = Case::new().due().runs(None);
    assert_eq!(case.why_up(), None);
    assert_eq!(case.why(key(case.up.job, 7), true), None);
    let case = Case::new().due().runs(Some(0));
    assert_eq!(case.why_up(), None);
}

#[test]
fn a_reason_is_not_told_of_what_it_does_not_hold() {
    // A back-fill goes on while its job is paused, and stops while the cluster is frozen.
    let mut case = Case::new();
    let job = case.up.job;
    let order = Command::StartBackfill(Box::new(backfill_of(job, 1)));
    case.m.ok(order);
    let run = case.m.queue()[0];
    let why = |case: &Case| explain(&case.m.state, Subject::Run(run), &here);
    let case = case.with(Command::PauseJob { job });
    assert_eq!(why(&case), Some(WaitReason::Dispatching));
    let case = case.with(Command::Pause { target: PauseTarget::Cluster });
    assert_eq!(why(&case), Some(WaitReason::Frozen));
    // What runs already is not waited for because its job is paused.
    let case = Case::new().due().runs(None);
    let pause = Command::PauseJob { job: case.up.job };
    assert_eq!(case.with(pause).why_down(), Some(WaitReason::Upstream));
    // An edge that found nothing is not failed by what stands at the same instant.
    let mut case = Case::new();
    let late = case.m.job(after_jobs("late", &[case.up.job]));
    let mut batch = case.m.batch(late, PlanSource::Dependencies, &[(case.up.nominal.0, vec![])]);
    batch.actions[0].unmatched = vec![(case.up.job, NoMatch::Waits)];
    let case = case.with(Command::PlanActions(vec![batch])).due().runs(Some(1));
    assert_eq!(case.why(key(late, case.up.nominal.0), true), Some(WaitReason::Upstream));
}
