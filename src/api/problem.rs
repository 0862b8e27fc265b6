//! Errors as answers: every refusal of whatever layer becomes a problem body
//! (RFC 9457) with a code of the one table. It words; it decides nothing.

use axum::http::{HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use horai_core::ids::Name;
use horai_core::machine::outcome::Reject;
use horai_core::machine::state::State;
use horai_core::time::Span;
use horai_core::timing::check::SpecError;
use horai_core::timing::schedule::ScheduleError;
use horai_raft::node::Error as NodeError;

use super::dto::{ActionRef, Problem, job_name};
use super::misfit::{Misfit, misfit};
use crate::error::{ErrorCode, FieldError, chain};

/// A request that was not done, or whose outcome is not known.
#[derive(Debug)]
pub(super) struct Fault(Box<Problem>);

impl Fault {
    pub(super) fn new(
        code: ErrorCode,
        detail: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self(Box::new(Problem::new(code, detail, remedy)))
    }

    /// What is told of it.
    pub(super) fn detail(&self) -> &str {
        &self.0.detail
    }

    /// There is no such thing.
    pub(super) fn not_found(what: &str, name: impl std::fmt::Display) -> Self {
        let name: String = name.to_string().chars().take(200).collect();
        let remedy = match what {
            // Old ones are forgotten, and there are many: those of one job are listed.
            "action" => {
                let job = name.split_once('@').map_or("JOB", |(job, _)| job);
                format!("look which there are: horai action list {}", job.escape_debug())
            }
            "back-fill" => "look which there are: horai backfill list".to_owned(),
            "node" => "look which there are: horai cluster status".to_owned(),
            _ => format!("look which there are: horai {what} list"),
        };
        let detail = format!("{what} {} does not exist", name.escape_debug());
        Self::new(ErrorCode::NotFound, detail, remedy)
    }

    /// `If-Match: *` was sent, and there is nothing.
    pub(super) fn absent(problem: impl Into<String>, remedy: &str) -> Self {
        let error = FieldError::invalid("If-Match", "*", problem, remedy);
        error.with_code(ErrorCode::WrongRevision).into()
    }

    /// The same of a thing that has a name.
    pub(super) fn absent_named(what: &str, name: &Name) -> Self {
        Self::absent(format!("{what} {name} does not exist"), "leave If-Match out to create it")
    }

    /// The same, told of a part of the request, such as `jobs[2].`.
    pub(super) fn within(mut self, place: &str) -> Self {
        for error in &mut self.0.errors {
            error.field.insert_str(0, place);
        }
        self.0.detail.insert_str(0, place);
        self
    }

    /// The same with what stands in the fields at fault, where nothing is shown yet.
    pub(super) fn filled(mut self, value: impl Fn(&str) -> String) -> Self {
        for error in &mut self.0.errors {
            let given = value(&error.field);
            // What closes a circle is not in one field.
            let is_path = error.value.contains(" → ");
            if !given.is_empty() && !is_path {
                error.value = given;
            }
        }
        self
    }

    /// The same with more to say.
    pub(super) fn and(mut self, more: &str) -> Self {
        self.0.detail.push_str("; ");
        self.0.detail.push_str(more);
        self
    }
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let problem = self.0;
        let status = StatusCode::from_u16(problem.status);
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        // Text and numbers: JSON takes them all.
        let body = serde_json::to_vec(&*problem).unwrap_or_default();
        let mut answer = (status, body).into_response();
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        let code = problem.code();
        if code == ErrorCode::Unauthenticated {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if code.retryable() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        answer
    }
}

impl From<FieldError> for Fault {
    fn from(error: FieldError) -> Self {
        Self(Box::new(error.into()))
    }
}

impl From<NodeError> for Fault {
    fn from(error: NodeError) -> Self {
        let (code, remedy) = match &error {
            NodeError::NoLeader(_) => (
                ErrorCode::Unavailable,
                "ask again; if it stays, see whether a majority of the nodes runs",
            ),
            NodeError::NoTime => (
                ErrorCode::Unavailable,
                "ask again, or confirm the time: horai cluster confirm-time",
            ),
            NodeError::OutcomeUnknown => (
                ErrorCode::OutcomeUnknown,
                "ask again with the same Idempotency-Key, or look first",
            ),
            NodeError::SnapshotLate { .. } => (
                ErrorCode::Unavailable,
                "ask again: it is still being written; if it stays, see how slow or full this \
                 node's disk is",
            ),
            NodeError::Busy => (ErrorCode::Unavailable, "ask again later, or another node"),
            NodeError::Stopped => (ErrorCode::Unavailable, "ask another node"),
            NodeError::TooLarge(_) => (ErrorCode::TooLarge, "split the request"),
            NodeError::Refused(_) => {
                (ErrorCode::Conflict, "see the state of the cluster: horai cluster status")
            }
            _ => (ErrorCode::Internal, "see the node's log under the request's id"),
        };
        Self::new(code, error.to_string(), remedy)
    }
}

/// A refusal with the names of what it speaks of: the machine knows numbers.
pub(super) fn refused(reject: Reject, state: &State) -> Fault {
    let code = code_of(&reject);
    match reject {
        Reject::NoSuchAction(key) => Fault::not_found("action", ActionRef::of(state, key)),
        Reject::ActionActive { action, run } => {
            let action = ActionRef::of(state, action);
            let detail = format!("run r-{run} of action {action} is not over");
            let remedy = format!("wait for its end, or cancel it first: horai run cancel r-{run}");
            Fault::new(code, detail, remedy)
        }
        Reject::NoSuchUpstream(job) => {
            let remedy = "apply the upstream job first, or correct the name";
            let name = job_name(state, job);
            let problem = format!("upstream job {name} does not exist");
            FieldError::invalid("depends_on", name, problem, remedy)
                .with_code(ErrorCode::MissingUpstream)
                .into()
        }
        other => other.into(),
    }
}

/// What the machine counts in.
const UNITS: [&str; 6] = ["", "ms", "tries", "slots", "bytes", "units in either direction"];

/// A value out of its bounds as the machine words it, `N UNIT; use A to B`: the value, what
/// is wrong with it, and what would be right.
fn out_of_bounds(problem: &str) -> Option<(String, &'static str, String)> {
    let (given, bounds) = problem.split_once("; use ")?;
    let (given, unit) = given.split_once(' ').unwrap_or((given, ""));
    // Other sentences may begin with a number, too.
    if !UNITS.contains(&unit) {
        return None;
    }
    let (least, most) = bounds.split_once(" to ")?;
    let [given, least, most] = [given, least, most].map(|text| text.parse::<u64>().ok());
    let (given, least, most) = (given?, least?, most?);
    Some(if unit == "ms" {
        let problem = if given < least { "it is too short" } else { "it is too long" };
        let remedy = format!("write {} to {}", Span(least), Span(most));
        (Span(given).to_string(), problem, remedy)
    } else {
        let problem = if given < least { "it is too small" } else { "it is too large" };
        let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
        (format!("{given}{unit}"), problem, format!("write {least} to {most}{unit}"))
    })
}

impl From<Reject> for Fault {
    fn from(reject: Reject) -> Self {
        let detail = reject.to_string();
        let field = |code: ErrorCode, field: &str, value: String, remedy: String| -> Self {
            FieldError::invalid(field, value, detail.clone(), remedy).with_code(code).into()
        };
        match &reject {
            Reject::HasDependants { dependants } => has_dependants(dependants, dependants.len()),
            Reject::WrongRevision { expected, actual } => {
                let remedy = match (expected.0, actual.0) {
                    (0, _) => "it exists: leave If-None-Match out to change it".to_owned(),
                    (_, 0) => "it does not exist: leave If-Match out to create it".to_owned(),
                    _ => format!(
                        "look at revision {actual}, decide again, and ask for it: If-Match: \
                         \"{actual}\""
                    ),
                };
                field(ErrorCode::WrongRevision, "revision", expected.to_string(), remedy)
            }
            Reject::TooLarge { what, actual, limit } => {
                let remedy = format!("at most {limit}");
                field(ErrorCode::TooLarge, what, actual.to_string(), remedy)
            }
            Reject::NoSuchUpstream(job) => {
                let remedy = "apply the upstream job first, or correct the name".to_owned();
                field(ErrorCode::MissingUpstream, "depends_on", format!("#{job}"), remedy)
            }
            Reject::Cycle { path } => {
                let path: Vec<&str> = path.iter().map(|name| name.as_str()).collect();
                let remedy = "take one of these dependencies away".to_owned();
                field(ErrorCode::DependencyCycle, "depends_on", path.join(" → "), remedy)
            }
            Reject::Invalid { field, problem } => {
                if let Some((value, problem, remedy)) = out_of_bounds(problem) {
                    return FieldError::invalid(field.clone(), value, problem, remedy).into();
                }
                // The machine's words hold what would be right.
                let (problem, remedy) =
                    problem.split_once("; ").unwrap_or((problem, "correct what is named"));
                FieldError::invalid(field.clone(), "", problem, remedy).into()
            }
            _ => Self::new(code_of(&reject), detail, remedy_of(&reject)),
        }
    }
}

/// Names that an error shows of a longer list.
const SHOWN: usize = 10;

/// So many jobs depend on what is to be deleted, these among them.
pub(super) fn has_dependants(some: &[Name], count: usize) -> Fault {
    let names: Vec<&str> = some.iter().take(SHOWN).map(Name::as_str).collect();
    let more = match count.saturating_sub(names.len()) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let jobs = match count {
        1 => "1 job depends".to_owned(),
        _ => format!("{count} jobs depend"),
    };
    let detail = format!("{jobs} on it: {}{more}", names.join(", "));
    let remedy = "delete those jobs first, or take their dependency away; ?force=true does that";
    Fault::new(ErrorCode::Conflict, detail, remedy)
}

fn code_of(reject: &Reject) -> ErrorCode {
    match reject {
        Reject::NoSuchJob(_)
        | Reject::NoSuchRun(_)
        | Reject::NoSuchAction(_)
        | Reject::NoSuchWorker(_)
        | Reject::NoSuchLock(_)
        | Reject::NoSuchToken(_)
        | Reject::NoSuchNode(_)
        | Reject::NoSuchCalendar(_)
        | Reject::NoSuchBackfill(_)
        | Reject::NoSuchPool(_)
        | Reject::NoSuchSecret(_)
        | Reject::NoSuchGroup(_)
        | Reject::NoSuchTrigger { .. } => ErrorCode::NotFound,
        Reject::Full { .. } => ErrorCode::LimitReached,
        Reject::LockTaken(_) => ErrorCode::LockTaken,
        Reject::RequestReused(_) => ErrorCode::RequestReused,
        Reject::RequestExpired(_) => ErrorCode::RequestExpired,
        Reject::NotAdmitted => ErrorCode::Denied,
        Reject::StaleLeader(_) => ErrorCode::Unavailable,
        _ => ErrorCode::Conflict,
    }
}

fn remedy_of(reject: &Reject) -> &'static str {
    match reject {
        Reject::NoSuchLock(_) | Reject::NotHolder { .. } => {
            "the lease has ended: acquire the lock again, and use the new token"
        }
        Reject::NoSuchJob(_) => "look which there are: horai job list",
        Reject::NoSuchRun(_) => "look which there are, old ones are forgotten: horai run list",
        Reject::NoSuchAction(_) => "look which there are: horai action list JOB",
        Reject::NoSuchBackfill(_) => "look which there are: horai backfill list",
        Reject::NoSuchWorker(_) => "look which there are: horai worker list",
        Reject::NoSuchCalendar(_) => "apply that calendar first, or correct the name",
        Reject::NoSuchTrigger { .. } => {
            "look at the names of the job's triggers: horai job get JOB"
        }
        Reject::SecretInUse { .. } => "take it out of their texts first, or delete those jobs",
        Reject::CalendarInUse { .. } => "take it away from those first",
        Reject::NoSuchPool(_) => "look which pools there are: horai pool list",
        Reject::NoSuchGroup(_) => "look which groups have parameters: horai group list",
        Reject::PoolInUse { .. } => "take it away from those jobs first, or wait for those runs",
        Reject::PoolTooSmall { .. } => {
            "leave it as many slots as each of them takes, or change those jobs first"
        }
        Reject::CalendarCycle { .. } => "take one of these bases away",
        Reject::OutOfTurn(_) => "wait for the end of the other, or cancel it first",
        Reject::ActionActive { .. } => "wait for its end, or cancel that run first",
        Reject::BackfillOver(_) => "ask for another one: horai backfill start, or rerun",
        Reject::RunOver(_) => "nothing is left to do: look at the run's state",
        Reject::Full { .. } => "wait until some are over, or delete what is not needed",
        Reject::LockTaken(_) => "try again later, or give a wait to stay in the queue",
        Reject::SlotsDiffer { .. } => {
            "ask with the slots it has; they are fixed while anyone holds it"
        }
        Reject::RequestReused(_) => "use a new Idempotency-Key for another request",
        Reject::RequestExpired(_) => "look whether it was done, then use a new Idempotency-Key",
        Reject::NotAdmitted => "make a join token: horai cluster token",
        Reject::NodeRetired(_) => "let it join as a new node, with an empty folder",
        Reject::WorkerAlive(_) => {
            "stop it first, and wait ten seconds: horai worker drain empties it before that"
        }
        Reject::WorkerBusy { .. } => {
            "wait until they count as lost; if its machine is gone for good: ?force=true"
        }
        Reject::StaleLeader(_) => "ask again",
        _ => "look at what there is, and correct the request",
    }
}

/// A definition's timing, at its place in the request.
pub(super) fn of_timing(error: &SpecError, value: &str) -> Fault {
    let (code, remedy) = match &error.source {
        ScheduleError::Cron(_) => (
            ErrorCode::BadCron,
            "write second minute hour day month weekday [year], such as 0 30 5 * * ?",
        ),
        ScheduleError::Zone(_) => {
            (ErrorCode::UnknownZone, "write an IANA name, such as Europe/Berlin or UTC")
        }
        ScheduleError::Calendar(_) | ScheduleError::Field { .. } => {
            (ErrorCode::InvalidValue, "correct the field named")
        }
    };
    let problem = chain(&error.source);
    FieldError::invalid(error.path.clone(), value, problem, remedy)
        .with_code(code)
        .with_caret(error.caret())
        .into()
}

/// A body of JSON that does not fit; `value` is what stands at the path.
pub(super) fn of_json(error: &serde_json::Error, path: &str, value: String) -> Fault {
    let text = error.to_string();
    let field = if path == "." { "" } else { path };
    if !error.is_data() {
        let remedy = "send one JSON value, such as {\"name\": \"load\", \"noop\": true}";
        return Fault::new(ErrorCode::Malformed, format!("the body is not JSON: {text}"), remedy);
    }
    let Misfit { code, problem, remedy } = misfit(&text, field, &value);
    if field.is_empty() {
        return Fault::new(ErrorCode::Malformed, problem, remedy);
    }
    FieldError::invalid(field, value, problem, remedy).with_code(code).into()
}

/// Answers an address that does not exist.
pub(super) async fn no_such_address(method: Method, uri: Uri) -> Fault {
    let path: String = uri.path().chars().take(200).collect();
    let detail = format!("there is nothing at {method} {path}");
    Fault::new(ErrorCode::NotFound, detail, "all addresses begin with /api/v1")
}

/// Answers a method that an address does not have.
pub(super) async fn wrong_method(method: Method, uri: Uri) -> Fault {
    let path: String = uri.path().chars().take(200).collect();
    let detail = format!("{path} does not take {method}");
    Fault::new(ErrorCode::MethodNotAllowed, detail, "see the header Allow for what it takes")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_told_in_the_units_of_people() {
        let told = |problem: &str| {
            let reject = Reject::Invalid { field: "f".to_owned(), problem: problem.to_owned() };
            let error = Fault::from(reject).0.errors.remove(0);
            [error.value, error.problem, error.remedy]
        };
        for (problem, wanted) in [
            ("99 ; use 0 to 9", ["99", "it is too large", "write 0 to 9"]),
            ("0 ms; use 1000 to 60000", ["0ms", "it is too short", "write 1s to 1m"]),
            ("9 slots; use 1 to 4", ["9 slots", "it is too large", "write 1 to 4 slots"]),
            ("9 is not kept; use 1 to 2", ["", "9 is not kept", "use 1 to 2"]),
            ("give each once", ["", "give each once", "correct what is named"]),
        ] {
            assert_eq!(told(problem), wanted, "{problem}");
        }
    }

    #[test]
    fn a_node_that_is_too_busy_is_no_internal_error() {
        let fault = Fault::from(NodeError::Busy);
        assert_eq!(fault.0.code(), ErrorCode::Unavailable);
        assert!(fault.0.code().retryable());
    }
}
