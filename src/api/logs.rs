//! Output of attempts, from the worker that ran them, through any node.
//!
//! It hands on what the session reads, in order and without gaps; an output
//! that breaks off ends the answer with an error, never as if it were whole.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use horai_core::ids::{AttemptKey, RunId, WorkerId};
use horai_core::machine::state::State as CoreState;
use horai_core::model::run::EndKind;
use tokio::sync::mpsc;

use super::Api;
use super::dto::RunRef;
use super::params::{Params, Segment};
use super::problem::Fault;
use super::runs::find;
use crate::error::{ErrorCode, FieldError};
use crate::session::{LogError, LogPart, LogRequest};

/// Says whose output it is.
const ATTEMPT: HeaderName = HeaderName::from_static("horai-attempt");
/// Between two looks for an attempt that does not exist yet.
const LOOK: Duration = Duration::from_millis(100);
/// How long a followed run is waited for until it is tried.
const PATIENCE: Duration = Duration::from_secs(20);

impl From<LogError> for Fault {
    fn from(error: LogError) -> Self {
        let remedy = match error.code() {
            ErrorCode::NotFound => "the worker drops old output; read it sooner",
            _ => "ask again, or another node",
        };
        Self::new(error.code(), error.to_string(), remedy)
    }
}

pub(super) async fn read(
    State(api): State<Api>,
    id: Segment,
    params: Params,
) -> Result<Response, Fault> {
    let (RunRef(run), params) = (id.parse("id")?, params.only(&["attempt", "offset", "follow"])?);
    let number = params.parse::<u32>("attempt")?;
    let offset = params.parse::<u64>("offset")?.unwrap_or(0);
    let follow = params.flag("follow")?;
    api.fresh(&params).await?;
    let waits_until = tokio::time::Instant::now() + PATIENCE;
    let (key, worker) = loop {
        if let Some(found) = attempt(&api, run, number)? {
            break found;
        }
        let is_over = api.read(|state| {
            find(state, run).map(|run| {
                run.live_attempt().is_none()
                    && matches!(run.state, horai_core::model::run::RunState::Finished { .. })
            })
        })?;
        if !follow || is_over || tokio::time::Instant::now() >= waits_until {
            let shown = number.map_or_else(|| "any".to_owned(), |number| number.to_string());
            let problem = "the run has no such attempt";
            let remedy = "see why: horai run explain; or follow, to wait for it";
            return Err(FieldError::invalid("attempt", shown, problem, remedy)
                .with_code(ErrorCode::NotFound)
                .into());
        }
        tokio::time::sleep(LOOK).await;
    };
    if let Some(why) = api.read(|state| never_began(state, key)) {
        return Err(why);
    }
    let AttemptKey { run, shard, number } = key;
    let request = LogRequest { run, shard, number, offset, max_bytes: None, follow };
    let sessions = Arc::clone(&api.sessions);
    let parts = sessions.read_log(worker, request).await?;
    let mut answer = Body::from_stream(bytes_of(parts)).into_response();
    let headers = answer.headers_mut();
    let kind = HeaderValue::from_static("application/octet-stream");
    headers.insert(header::CONTENT_TYPE, kind);
    if let Ok(key) = HeaderValue::try_from(key.to_string()) {
        headers.insert(ATTEMPT, key);
    }
    Ok(answer)
}

/// Why an attempt has no output because nothing was started for it; none if that is not so.
fn never_began(state: &CoreState, key: AttemptKey) -> Option<Fault> {
    let run = state.run(key.run)?;
    let attempt = run.attempts.iter().find(|attempt| attempt.key == key)?;
    let (message, remedy) = match &attempt.end.as_ref()?.how {
        EndKind::Unrendered { message } => {
            (message, "correct the job's text, or give what it names: horai job render shows it")
        }
        EndKind::NotStarted { message } => (message, "correct the job, or the worker's machine"),
        _ => return None,
    };
    let detail = format!("there is no output: nothing was started for {key}: {message}");
    Some(Fault::new(ErrorCode::NotFound, detail, remedy))
}

/// The attempt asked for and where it runs; the last one if no number is given.
fn attempt(
    api: &Api,
    run: RunId,
    number: Option<u32>,
) -> Result<Option<(AttemptKey, WorkerId)>, Fault> {
    api.read(|state| {
        let attempts = &find(state, run)?.attempts;
        let found = match number {
            Some(number) => attempts.iter().find(|attempt| attempt.key.number == number),
            None => attempts.last(),
        };
        Ok(found.map(|attempt| (attempt.key, attempt.worker)))
    })
}

fn bytes_of(parts: mpsc::Receiver<LogPart>) -> impl Stream<Item = io::Result<Bytes>> {
    stream::unfold(Some(parts), |parts| async {
        let mut parts = parts?;
        match parts.recv().await {
            Some(LogPart::Data { data, .. }) => Some((Ok(data), Some(parts))),
            Some(LogPart::End { .. }) => None,
            Some(LogPart::Failed(error)) => Some((Err(io::Error::other(error)), None)),
            // The reader of the worker's stream is gone.
            None => Some((Err(io::Error::other(LogError::Broken)), None)),
        }
    })
}
