//! Actions: one version of a job per instant, unique for ever.

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::edge::{Condition, EdgeSpec, NoMatch, Standing};
use super::history::Notes;
use super::job::MisfirePolicy;
use super::run::RunKind;
use super::stored::{Marked, extended};
use crate::ids::{ActionKey, JobId, Revision, RunId, TriggerName};
use crate::time::UtcMillis;

/// One planned run of a job. Its identity, job and nominal time, is its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Action {
    /// Where it stands.
    pub state: ActionState,
    /// When it may start: nominal plus jitter.
    pub due: UtcMillis,
    /// Definition it was planned from.
    pub revision: Revision,
    /// Triggers whose instant this is; empty for a derived action.
    pub triggers: Vec<TriggerName>,
    /// What it waits for.
    pub upstream: Vec<Upstream>,
    /// Its newest run, of whatever kind that sets its state; none while there is none.
    pub run: Option<RunId>,
    /// Planned after a misfire: started behind what is due now.
    pub catch_up: bool,
    /// When it reached a final state.
    pub finished: Option<UtcMillis>,
    /// What its next run is, if somebody asked for that.
    pub next_kind: Option<RunKind>,
    /// A person said what it came to; its last run did not.
    pub forced: bool,
    /// It succeeded without a run, because its job has nothing to do in this area.
    pub by_area: bool,
    /// What people and others did to it.
    pub notes: Notes,
}

extended! {
    Action (ActionState)
    [state due revision triggers upstream run catch_up finished]
    [1 next_kind 2 forced 3 notes 13 by_area]
}

impl Action {
    /// The run that brought it to what it is; none if a person said it, or nothing has run.
    #[must_use]
    pub fn run_behind(&self) -> Option<RunId> {
        self.run.filter(|_| !self.forced)
    }
}

/// One upstream action and whether it has succeeded; or that an edge found none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upstream {
    /// The action waited for. Where there is none, the upstream job and the instant of
    /// the action that would wait.
    pub action: ActionKey,
    /// When it ended as it must, and which run did it.
    pub met: Option<(UtcMillis, RunId)>,
    /// There is none, and what that means.
    pub none: Option<NoMatch>,
    /// When it ended as it must, without a run.
    pub passed: Option<UtcMillis>,
    /// How it must end.
    pub condition: Condition,
    /// It must only be over.
    pub soft: bool,
}

extended! {
    Upstream (ActionKey)
    [action met]
    [1 none 2 passed 3 condition 4 soft]
}

impl Upstream {
    /// An action waits for one as an edge says; until it succeeds, if there is none.
    #[must_use]
    pub fn on(action: ActionKey, edge: Option<&EdgeSpec>) -> Self {
        let condition = edge.map_or(Condition::default(), |edge| edge.condition);
        let soft = edge.is_some_and(|edge| edge.soft);
        Self { action, met: None, none: None, passed: None, condition, soft }
    }

    /// What a state of the upstream action means.
    #[must_use]
    pub fn judge(&self, state: ActionState) -> Standing {
        if self.soft { Condition::Done.judge(state) } else { self.condition.judge(state) }
    }

    /// It ended as it must.
    pub fn pass(&mut self, at: UtcMillis, run: Option<RunId>) {
        match run {
            Some(run) => self.met = Some((at, run)),
            None => self.passed = Some(at),
        }
    }

    /// Forgets how it ended: what was gathered for a success counts for no other one.
    /// hera's rule (its case G15).
    pub fn clear(&mut self) {
        (self.met, self.passed) = (None, None);
    }

    /// True if it holds the action up no longer.
    #[must_use]
    pub fn is_met(&self) -> bool {
        self.met.is_some() || self.passed.is_some() || self.none == Some(NoMatch::Satisfied)
    }

    /// The action that is waited for, if there is one.
    #[must_use]
    pub fn awaited(&self) -> Option<ActionKey> {
        self.none.is_none().then_some(self.action)
    }
}

/// Where an action stands. The last four are final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ActionState {
    /// Not due yet.
    Planned,
    /// Due, and held by an upstream action or a pause.
    Waiting,
    /// Has a run that waits to be dispatched, or to be tried again.
    Ready,
    /// An attempt is dispatched.
    Running,
    /// Its run succeeded.
    Success,
    /// Its run failed for good; time-outs and worker losses included.
    Failed,
    /// Its run was cancelled.
    Cancelled,
    /// It will not run.
    Skipped(SkipReason),
}

/// The states are counted up from 0, and this is as far from them as a byte goes.
const MARK: u32 = 127;

/// A state as it is stored: the number of its variant, and the reason if it is skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawState(Option<ActionState>);

impl Serialize for RawState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(state) => state.serialize(serializer),
            // Numbers of variants and numbers are written alike.
            None => MARK.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for RawState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Parts;

        impl<'de> Visitor<'de> for Parts {
            type Value = RawState;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("the state of an action")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<RawState, A::Error> {
                use serde::de::Error;
                let cut = || A::Error::custom("a state is cut short");
                let state = match seq.next_element::<u32>()?.ok_or_else(cut)? {
                    MARK => return Ok(RawState(None)),
                    0 => ActionState::Planned,
                    1 => ActionState::Waiting,
                    2 => ActionState::Ready,
                    3 => ActionState::Running,
                    4 => ActionState::Success,
                    5 => ActionState::Failed,
                    6 => ActionState::Cancelled,
                    7 => ActionState::Skipped(seq.next_element()?.ok_or_else(cut)?),
                    other => return Err(A::Error::custom(format_args!("no state {other}"))),
                };
                Ok(RawState(Some(state)))
            }
        }

        deserializer.deserialize_tuple(2, Parts)
    }
}

impl Marked for ActionState {
    type Raw = RawState;

    fn mark() -> RawState {
        RawState(None)
    }

    fn read<E: serde::de::Error>(raw: RawState) -> Result<Option<Self>, E> {
        Ok(raw.0)
    }
}

impl ActionState {
    /// True if nothing will change it by itself.
    #[must_use]
    pub fn is_final(self) -> bool {
        match self {
            Self::Planned | Self::Waiting | Self::Ready | Self::Running => false,
            Self::Success | Self::Failed | Self::Cancelled | Self::Skipped(_) => true,
        }
    }

    /// The word shown to people, without the reason.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Waiting => "waiting",
            Self::Ready => "ready",
            Self::Running => "running",
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Skipped(_) => "skipped",
        }
    }
}

/// Why an action was skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum SkipReason {
    /// An upstream action was skipped.
    Upstream,
    /// It waited longer than it may (2 days after nominal).
    Expired,
    /// Its job was deleted while it waited.
    Deleted,
    /// An edge found no upstream action, and says that it is skipped then.
    NoUpstream,
    /// Its job said so, by an exit code.
    Job,
    /// A person said so.
    Person,
    /// Another run of its job was live, or a newer action took its place.
    Overlap,
}

impl SkipReason {
    /// The word in API and CLI.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Upstream => "upstream",
            Self::Expired => "expired",
            Self::Deleted => "deleted",
            Self::NoUpstream => "no_upstream",
            Self::Job => "job",
            Self::Person => "person",
            Self::Overlap => "overlap",
        }
    }
}

/// Instants of one trigger that were not run, kept as one range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missed {
    /// Whose instants.
    pub job: JobId,
    /// Which trigger's.
    pub trigger: TriggerName,
    /// First instant not run.
    pub from: UtcMillis,
    /// Last instant not run.
    pub to: UtcMillis,
    /// How many instants.
    pub count: u64,
    /// Why they were not run.
    pub reason: MissedReason,
    /// When that was decided.
    pub at: UtcMillis,
}

/// Why instants were not run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MissedReason {
    /// The misfire policy says so, or its bounds were passed. Written by programs that
    /// did not say which policy it was.
    Misfire,
    /// They passed while the job was paused.
    Paused,
    /// The policy was to run all, and its bounds were passed.
    FireAll,
    /// The policy was to run the latest.
    FireNow,
    /// The policy was to run none.
    Skip,
}

impl MissedReason {
    /// Left out by this policy.
    #[must_use]
    pub fn by(policy: MisfirePolicy) -> Self {
        match policy {
            MisfirePolicy::FireAll => Self::FireAll,
            MisfirePolicy::FireNow => Self::FireNow,
            MisfirePolicy::Skip => Self::Skip,
        }
    }

    /// The policy that left them out, where it is known.
    #[must_use]
    pub fn policy(self) -> Option<MisfirePolicy> {
        match self {
            Self::Misfire | Self::Paused => None,
            Self::FireAll => Some(MisfirePolicy::FireAll),
            Self::FireNow => Some(MisfirePolicy::FireNow),
            Self::Skip => Some(MisfirePolicy::Skip),
        }
    }
}

/// Why something has not run yet: one closed list for `explain`, API, console
/// and the chaos checker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum WaitReason {
    /// Its time has not come.
    NotDue,
    /// An upstream action has not finished.
    Upstream,
    /// An upstream action failed or was cancelled.
    UpstreamFailed,
    /// An upstream job is paused.
    UpstreamPaused,
    /// Its job is paused.
    Paused,
    /// The whole cluster is frozen.
    Frozen,
    /// Another run of its job is live.
    Overlap,
    /// Its pool has no free slot.
    Pool,
    /// The wait before a retry.
    Backoff,
    /// It was planned late, and what is due now goes first.
    CatchUp,
    /// Others of its group are before it.
    Queue,
    /// Its group has no worker attached, or none with the labels that it asks for.
    NoWorker,
    /// All those workers are cordoned.
    Cordoned,
    /// No worker has the slots, memory and all else that it asks for.
    Resource,
    /// All workers are above their load limits.
    Load,
    /// A worker is being told.
    Dispatching,
    /// The earlier run of a fixed-delay trigger has not ended.
    FixedDelay,
    /// The node that leads has not the key of a secret that it needs.
    Secret,
    /// No worker of its group can hold it to the limits that its job asks for.
    Limits,
    /// No worker of its group has the interpreter of its script.
    Interpreter,
}

impl WaitReason {
    /// Every reason, in the order in which `explain` asks.
    pub const ALL: [Self; 20] = [
        Self::NotDue,
        Self::Upstream,
        Self::UpstreamFailed,
        Self::UpstreamPaused,
        Self::Paused,
        Self::Frozen,
        Self::Overlap,
        Self::Pool,
        Self::Backoff,
        Self::CatchUp,
        Self::Queue,
        Self::NoWorker,
        Self::Cordoned,
        Self::Resource,
        Self::Load,
        Self::Dispatching,
        Self::FixedDelay,
        Self::Secret,
        Self::Limits,
        Self::Interpreter,
    ];

    /// The word in API and CLI.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::NotDue => "not_due",
            Self::Upstream => "upstream",
            Self::UpstreamFailed => "upstream_failed",
            Self::UpstreamPaused => "upstream_paused",
            Self::Paused => "paused",
            Self::Frozen => "frozen",
            Self::Overlap => "overlap",
            Self::Pool => "pool",
            Self::Backoff => "backoff",
            Self::CatchUp => "catch_up",
            Self::Queue => "queue",
            Self::NoWorker => "no_worker",
            Self::Cordoned => "cordoned",
            Self::Resource => "resource",
            Self::Load => "load",
            Self::Dispatching => "dispatching",
            Self::FixedDelay => "fixed_delay",
            Self::Secret => "secret",
            Self::Limits => "limits",
            Self::Interpreter => "interpreter",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::history::{Before, Cause, Note};

    #[test]
    fn an_action_that_says_nothing_new_keeps_its_bytes() {
        let states = [
            ActionState::Planned,
            ActionState::Waiting,
            ActionState::Ready,
            ActionState::Running,
            ActionState::Success,
            ActionState::Failed,
            ActionState::Cancelled,
            ActionState::Skipped(SkipReason::Upstream),
            ActionState::Skipped(SkipReason::Person),
        ];
        for state in states {
            let due = UtcMillis(300);
            let plain = Action {
                state,
                due,
                revision: Revision(2),
                triggers: vec![TriggerName("t".into())],
                upstream: Vec::new(),
                run: Some(RunId(7)),
                catch_up: true,
                finished: None,
                next_kind: None,
                forced: false,
                by_area: false,
                notes: Notes::default(),
            };
            let fields = (
                state,
                due,
                Revision(2),
                &plain.triggers,
                &plain.upstream,
                plain.run,
                true,
                plain.finished,
            );
            let bytes = postcard::to_stdvec(&plain).unwrap();
            assert_eq!(bytes, postcard::to_stdvec(&fields).unwrap(), "{state:?}");
            assert_eq!(postcard::from_bytes::<Action>(&bytes).unwrap(), plain);
            let before = Before { state, since: Some(due), run: plain.run };
            let mut notes = Notes::default();
            notes.add(Note { at: due, by: "ann".to_owned(), cause: Cause::Forced(before) });
            let by_area = state == ActionState::Success;
            let next_kind = Some(RunKind::Recover);
            let more = Action { next_kind, forced: true, notes, by_area, ..plain };
            let bytes = postcard::to_stdvec(&more).unwrap();
            assert_eq!(postcard::from_bytes::<Action>(&bytes).unwrap(), more);
        }
        assert!(postcard::from_bytes::<RawState>(&[8]).is_err());
    }
}
