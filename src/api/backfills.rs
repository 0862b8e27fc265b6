//! Back-fills: asked for, shown, steered. What is asked for in words, days and hours is
//! made into a list of instants here, from the state as it is now; the machine runs the
//! list, whatever changes afterwards.

use std::collections::BTreeSet;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use horai_core::derivation::plans::{Memo, Plans};
use horai_core::derivation::{Definition, World};
use horai_core::ids::{ActionKey, BackfillId, JobId, Name};
use horai_core::machine::command::Command;
use horai_core::machine::outcome::Outcome;
use horai_core::machine::state::State as CoreState;
use horai_core::model::action::ActionState;
use horai_core::model::backfill::{Backfill, BackfillOrder, InstantState, Steer};
use horai_core::model::job::Job;
use horai_core::model::run::RunResult;
use horai_core::time::UtcMillis;
use horai_core::timing::zone::Zone;

use super::Api;
use super::dto::{
    BackfillDto, BackfillInstantDto, BackfillPreview, BackfillRef, BackfillRequest, Page,
    StartedBackfill, Time,
};
use super::params::{Params, Segment, page};
use super::problem::Fault;
use super::write::{Write, odd};
use super::{READ_LIMIT, jobs};
use crate::error::{ErrorCode, FieldError};

/// Instants computed for one request, of whatever job: some seconds of one core.
const COMPUTED: usize = 2_000_000;

/// `POST /jobs/NAME/backfills`
pub(super) async fn start(
    State(api): State<Api>,
    name: Segment,
    write: Write,
) -> Result<(StatusCode, Json<StartedBackfill>), Fault> {
    let name = name.name()?;
    api.node.linearize(READ_LIMIT).await?;
    // One that is sent again has an answer, whatever would be left to do now.
    let is_new = api.read(|state| write.served(state).is_none());
    let order = if is_new { Some(order(&api, &name, write.json()?).await?) } else { None };
    begin(&api, &write, order).await
}

/// `POST /jobs/NAME/backfills/preview`: what would run.
pub(super) async fn preview(
    State(api): State<Api>,
    name: Segment,
    write: Write,
) -> Result<Json<BackfillPreview>, Fault> {
    let name = name.name()?;
    api.node.linearize(READ_LIMIT).await?;
    let order = order(&api, &name, write.json()?).await?;
    let total = u32::try_from(order.instants.len()).unwrap_or(u32::MAX);
    let shown = order.instants.iter().take(BackfillPreview::SHOWN).map(|at| Time(*at)).collect();
    let (job, passed_over) = (name.to_string(), order.passed_over);
    Ok(Json(BackfillPreview { job, total, passed_over, instants: shown }))
}

/// `POST /backfills/ID/rerun`: another one of what failed or was cancelled.
pub(super) async fn rerun(
    State(api): State<Api>,
    id: Segment,
    write: Write,
) -> Result<(StatusCode, Json<StartedBackfill>), Fault> {
    write.empty()?;
    let BackfillRef(id) = id.parse("id")?;
    api.node.linearize(READ_LIMIT).await?;
    let order = api.read(|state| match write.served(state) {
        Some(_) => Ok(None),
        None => again(state, id).map(Some),
    })?;
    begin(&api, &write, order).await
}

async fn begin(
    api: &Api,
    write: &Write,
    order: Option<BackfillOrder>,
) -> Result<(StatusCode, Json<StartedBackfill>), Fault> {
    let make = |_: &CoreState| {
        let order = order.ok_or_else(|| odd(&Outcome::Done))?;
        Ok(Command::StartBackfill(Box::new(order)))
    };
    match api.write(write, make).await? {
        Outcome::Backfill { backfill } => Ok((StatusCode::CREATED, Json(backfill.into()))),
        other => Err(odd(&other)),
    }
}

/// `GET /backfills`
pub(super) async fn list(
    State(api): State<Api>,
    params: Params,
) -> Result<Json<Page<BackfillDto>>, Fault> {
    let params = params.only(&["job", "limit", "before"])?;
    let (job, limit) = (params.parse::<Name>("job")?, params.limit()?);
    let before = params.parse::<BackfillRef>("before")?.map(|BackfillRef(id)| id);
    api.fresh(&params).await?;
    let page = api.read(|state| {
        let job = job.as_ref().map(|name| jobs::find(state, name)).transpose()?.map(|job| job.id);
        let all = state.backfills_before(before).filter(|b| job.is_none_or(|job| b.job == job));
        let key = |backfill: &&Backfill| BackfillRef(backfill.id).to_string();
        Ok::<_, Fault>(page(all, limit, key, |backfill| BackfillDto::of(state, backfill)))
    })?;
    Ok(Json(page))
}

/// `GET /backfills/ID`
pub(super) async fn show(
    State(api): State<Api>,
    id: Segment,
    params: Params,
) -> Result<Json<BackfillDto>, Fault> {
    let (BackfillRef(id), params) = (id.parse("id")?, params.only(&[])?);
    api.fresh(&params).await?;
    api.read(|state| Ok(Json(BackfillDto::of(state, find(state, id)?))))
}

/// `GET /backfills/ID/instants`
pub(super) async fn instants(
    State(api): State<Api>,
    id: Segment,
    params: Params,
) -> Result<Json<Page<BackfillInstantDto>>, Fault> {
    let (BackfillRef(id), params) = (id.parse("id")?, params.only(&["state", "limit", "after"])?);
    let (limit, after) = (params.limit()?, params.parse::<Time>("after")?.map(|Time(at)| at));
    let wanted = params.get("state").map(str::to_owned);
    if let Some(word) = &wanted
        && !STATES.contains(&word.as_str())
    {
        let remedy = format!("write one of {}", STATES.join(", "));
        return Err(FieldError::invalid("state", word, "no instant is in it", remedy).into());
    }
    api.fresh(&params).await?;
    let page = api.read(|state| {
        find(state, id)?;
        let all = state.backfill_instants(id, after);
        let all = all.map(|(at, instant)| BackfillInstantDto::of(at, instant));
        let all = all.filter(|i| wanted.as_ref().is_none_or(|word| i.state == *word));
        let key = |instant: &BackfillInstantDto| instant.nominal.to_string();
        Ok::<_, Fault>(page(all, limit, key, |instant| instant))
    })?;
    Ok(Json(page))
}

/// The words of [`InstantState`].
const STATES: [&str; 8] =
    ["waiting", "live", "success", "failed", "cancelled", "deleted", "skipped", "elsewhere"];

/// `POST /backfills/ID/pause`
pub(super) async fn pause(
    State(api): State<Api>,
    id: Segment,
    write: Write,
) -> Result<StatusCode, Fault> {
    steer(&api, &id, &write, Steer::Pause).await
}

/// `POST /backfills/ID/resume`
pub(super) async fn resume(
    State(api): State<Api>,
    id: Segment,
    write: Write,
) -> Result<StatusCode, Fault> {
    steer(&api, &id, &write, Steer::Resume).await
}

/// `POST /backfills/ID/stop`
pub(super) async fn stop(
    State(api): State<Api>,
    id: Segment,
    write: Write,
) -> Result<StatusCode, Fault> {
    steer(&api, &id, &write, Steer::Stop).await
}

async fn steer(api: &Api, id: &Segment, write: &Write, to: Steer) -> Result<StatusCode, Fault> {
    write.empty()?;
    let BackfillRef(backfill) = id.parse("id")?;
    api.commit(&write.envelope(Command::SteerBackfill { backfill, to })).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn find(state: &CoreState, id: BackfillId) -> Result<&Backfill, Fault> {
    state.backfill(id).ok_or_else(|| Fault::not_found("back-fill", BackfillRef(id)))
}

/// What failed, once more, with the definition of now: who mended the job wants that.
fn again(state: &CoreState, id: BackfillId) -> Result<BackfillOrder, Fault> {
    let old = find(state, id)?;
    let all = state.backfill_instants(id, None);
    let instants: Vec<UtcMillis> =
        all.filter(|(_, instant)| is_failure(instant.state)).map(|(at, _)| at).collect();
    if instants.is_empty() {
        let detail = format!("nothing of back-fill {} has failed", BackfillRef(id));
        let remedy = "ask for another one of the job: horai backfill start";
        return Err(Fault::new(ErrorCode::Conflict, detail, remedy));
    }
    Ok(BackfillOrder {
        job: old.job,
        revision: None,
        instants,
        passed_over: 0,
        newest_first: old.newest_first,
        concurrency: old.concurrency,
        hours: old.hours,
        downstream: old.downstream,
        params: old.params.clone(),
        priority: Some(old.priority),
        again: Some(id),
    })
}

/// Which instants of a range are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Existing {
    /// Those that have never run.
    Skip,
    /// And those that have failed.
    Failed,
    /// All of them.
    All,
}

/// What is asked for, as the machine takes it.
async fn order(api: &Api, name: &Name, request: BackfillRequest) -> Result<BackfillOrder, Fault> {
    // Applying goes on meanwhile, and so do all other requests.
    let state = api.read(Clone::clone);
    let name = name.clone();
    let made = tokio::task::spawn_blocking(move || {
        let job = jobs::find(&state, &name)?;
        let existing = existing(request.existing.as_deref())?;
        let range = range(&state, job, &request)?;
        let all = instants_of(&state, job, range)?;
        let count = all.len();
        let before = Before::of(&state, job.id);
        let mut instants = all;
        instants.retain(|at| {
            is_wanted(&state, existing, &before, ActionKey { job: job.id, nominal: *at })
        });
        let passed_over = u32::try_from(count - instants.len()).unwrap_or(u32::MAX);
        check_count(&request, instants.len(), passed_over)?;
        Ok(BackfillOrder {
            job: job.id,
            revision: request.revision.map(horai_core::ids::Revision),
            instants,
            passed_over,
            newest_first: request.newest_first,
            concurrency: request.concurrency.unwrap_or(1),
            hours: request.hours.map(|hours| hours.0),
            downstream: request.downstream,
            params: request.params,
            priority: request.priority,
            again: None,
        })
    });
    made.await.unwrap_or_else(|_| {
        let remedy = "report it, with the job's definition";
        Err(Fault::new(ErrorCode::Internal, "the instants cannot be computed", remedy))
    })
}

fn existing(word: Option<&str>) -> Result<Existing, Fault> {
    match word {
        Some("skip") => Ok(Existing::Skip),
        None | Some("failed") => Ok(Existing::Failed),
        Some("all") => Ok(Existing::All),
        Some(other) => {
            let remedy = "write skip, failed (default) or all";
            let problem = "there is no such choice";
            Err(FieldError::invalid("existing", other, problem, remedy).into())
        }
    }
}

fn check_count(request: &BackfillRequest, count: usize, passed_over: u32) -> Result<(), Fault> {
    let shown = format!("{} to {}", request.from, request.to);
    if count > Backfill::MAX_INSTANTS {
        let problem =
            format!("{count} instants; a back-fill has {} at most", Backfill::MAX_INSTANTS);
        let remedy = "choose a shorter range, and ask for the rest afterwards";
        return Err(FieldError::invalid("from", shown, problem, remedy).into());
    }
    if count > 0 {
        return Ok(());
    }
    let (problem, remedy) = if passed_over > 0 {
        let problem = format!("all {passed_over} instants have run, or are about to");
        (problem, "wait for those that are running, and run the others with existing: all")
    } else {
        ("the job has no instants there".to_owned(), "see them with: horai cron next")
    };
    Err(FieldError::invalid("from", shown, problem, remedy).into())
}

/// The range that is meant, half-open; what has not come is no past.
fn range(
    state: &CoreState,
    job: &Job,
    request: &BackfillRequest,
) -> Result<(UtcMillis, UtcMillis), Fault> {
    let settings = state.settings().map(|s| s.default_zone.as_str());
    let zone = Zone::either(job.spec.zone.as_deref(), settings);
    let (from, _) = moment(&zone, "from", &request.from)?;
    let (to, end_of_day) = moment(&zone, "to", &request.to)?;
    let now = UtcMillis(state.now().0.saturating_add(1));
    let to = end_of_day.unwrap_or(to).min(now);
    if from < to {
        return Ok((from, to));
    }
    let problem = "nothing of the past lies between 'from' and it";
    let remedy = "write a later time than 'from', which must have passed";
    Err(FieldError::invalid("to", &request.to, problem, remedy).into())
}

fn moment(zone: &Zone, field: &str, text: &str) -> Result<(UtcMillis, Option<UtcMillis>), Fault> {
    let instant = text.parse::<Time>().ok().map(|Time(at)| (at, None));
    instant.or_else(|| zone.read_local(text)).ok_or_else(|| {
        let remedy = "write 2026-11-01, 2026-11-01T03:00 or 2026-11-01T03:00:00Z";
        FieldError::invalid(field, text, "this is neither a day nor a time", remedy).into()
    })
}

/// The instants that the job's rules, or those of the jobs above it, give there.
fn instants_of(
    state: &CoreState,
    job: &Job,
    (from, to): (UtcMillis, UtcMillis),
) -> Result<Vec<UtcMillis>, Fault> {
    if state.is_unforeseen(&job.spec) {
        let problem = "its instants follow from the ends of actions, so none is known of the past";
        let remedy = "run the job once: horai job trigger";
        return Err(FieldError::invalid("job", &job.spec.name, problem, remedy).into());
    }
    let jobs =
        |id: JobId| state.job(id).map(|job| Definition { spec: &job.spec, anchor: job.created });
    let calendars = |name: &Name| state.calendar(name).map(|calendar| &calendar.def);
    let default_zone = state.settings().map_or("UTC", |s| s.default_zone.as_str());
    let world = World { jobs: &jobs, calendars: &calendars, default_zone };
    let mut plans = Plans::with(world, Memo::default());
    let computed = plans.between_in_part(job.id, (from, to), COMPUTED);
    let (actions, known) = computed.map_err(|error| {
        let remedy = "choose a shorter range, or correct the definition";
        let shown = job.spec.name.to_string();
        Fault::from(FieldError::invalid("job", shown, error.to_string(), remedy))
    })?;
    if known < to {
        let problem = format!("more than {COMPUTED} instants must be computed for it");
        let remedy = "choose a shorter range, and ask for the rest afterwards";
        return Err(FieldError::invalid("to", Time(to), problem, remedy).into());
    }
    let instants: BTreeSet<UtcMillis> = actions.into_iter().map(|action| action.nominal).collect();
    Ok(instants.into_iter().collect())
}

/// What back-fills have made of a job's instants, or are about to.
struct Before {
    succeeded: BTreeSet<UtcMillis>,
    failed: BTreeSet<UtcMillis>,
    in_hand: BTreeSet<UtcMillis>,
}

impl Before {
    fn of(state: &CoreState, job: JobId) -> Self {
        let in_hand = state.instants_in_hand(job);
        let mut before = Self { succeeded: BTreeSet::new(), failed: BTreeSet::new(), in_hand };
        let of_job = state.backfills_before(None).filter(|backfill| backfill.job == job);
        for (at, instant) in of_job.flat_map(|b| state.backfill_instants(b.id, None)) {
            match instant.state {
                InstantState::Over(RunResult::Success) => before.succeeded.insert(at),
                state if is_failure(state) => before.failed.insert(at),
                _ => false,
            };
        }
        before
    }
}

/// What somebody runs again who runs again what failed.
fn is_failure(state: InstantState) -> bool {
    let InstantState::Over(result) = state else { return false };
    result.is_failure() || matches!(result, RunResult::Cancelled | RunResult::Deleted)
}

fn is_wanted(state: &CoreState, existing: Existing, before: &Before, key: ActionKey) -> bool {
    let stands = state.action(key).map(|action| action.state);
    let is_live = stands.is_some_and(|state| !state.is_final());
    if is_live || before.in_hand.contains(&key.nominal) {
        return false;
    }
    let has_succeeded =
        stands == Some(ActionState::Success) || before.succeeded.contains(&key.nominal);
    let has_failed = matches!(stands, Some(ActionState::Failed | ActionState::Cancelled))
        || before.failed.contains(&key.nominal);
    match existing {
        Existing::All => true,
        Existing::Failed => !has_succeeded,
        Existing::Skip => !has_succeeded && !has_failed,
    }
}
