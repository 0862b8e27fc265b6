//! What goes over the wire, in both directions: shared by the HTTP API, the
//! command line and programs that measure a cluster.
//!
//! Answers are read leniently, so that an older client understands a newer
//! node; requests refuse fields they do not know, so that a typing error is
//! not taken for a default. Nothing here decides anything.

mod backfills;
mod calendars;
mod cluster;
mod explain;
mod groups;
mod history;
mod jobs;
mod locks;
mod logs;
mod outputs;
mod pools;
mod problem;
mod removal;
mod runs;
mod secrets;
mod shards;
mod shortage;
mod text;
mod trial;
mod worker_groups;
mod workers;

pub use backfills::{
    BackfillDto, BackfillInstantDto, BackfillPreview, BackfillRequest, RunRequest, StartedBackfill,
};
pub use calendars::{AppliedCalendar, CalendarDto, PauseDto, PausedDto, ResumeRequest, ResumedDto};
pub use cluster::{
    AreaRequest, ClusterDto, CountsDto, LeaderDto, MemberDto, NewTokenDto, NodeRequest,
    SnapshotDto, TimeRequest, TokenDto, TransferRequest,
};
pub use explain::ExplainDto;
pub use groups::{GroupDto, InheritedParam, SetGroup};
pub use history::HistoryDto;
pub use jobs::{
    ActionDto, AppliedJob, AppliedJobs, JobDto, JobSet, MissedDto, Page, RenderedDto,
    TriggerMeaning, UpstreamDto, WaitingTrigger,
};
pub(crate) use jobs::{batch_of_action, job_name};
pub use locks::{AcquireRequest, HolderDto, LeaseDto, LockDto, LockTokenRequest, WaiterDto};
pub use logs::{LogEventDto, LogsDto, left_out};
pub use outputs::{EditState, JobStateDto};
pub use pools::{PoolDto, SetPool};
pub use problem::{FieldProblem, Problem};
pub use removal::{RemovalDto, RemovedDto};
pub(crate) use runs::state_word;
pub use runs::{AttemptDto, EndDto, HandleDto, RunDto, StartedRun};
pub use secrets::{RekeyedDto, SecretDto, SecretSet, SetSecret};
pub use shards::{ShardCounts, ShardDto};
pub use text::{ActionRef, AttemptRef, BackfillRef, HoursText, RunRef, SpanText, TextError, Time};
pub use trial::{ChangeDto, TrialDto};
pub use worker_groups::{SetWorkerGroup, WorkerGroupDto};
pub use workers::{AttemptUseDto, DrainRequest, LoadDto, ProcessUseDto, SightDto, WorkerDto};
