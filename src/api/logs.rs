//! Output of attempts, from any node: as plain bytes, or as server-sent events with
//! the place, time and stream of each part.
//!
//! It hands on what [`crate::logs`] reads, in order and without gaps that are not told;
//! an output that breaks off ends the answer with an error, never as if it were whole.
//! An event's id names the attempt and the byte behind it: who comes back with it as
//! `Last-Event-ID` goes on there, at whichever node.

use std::fmt::Write as _;
use std::io;
use std::str::FromStr;
use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use horai_core::ids::{AttemptKey, RunId};
use horai_core::machine::state::State as CoreState;
use horai_core::model::part::Parts;
use horai_core::model::run::{Attempt, EndKind, RunState};
use serde::Serialize;
use tokio::sync::mpsc;

use super::Api;
use super::dto::{AttemptRef, LogEventDto, LogsDto, RunRef, Time, left_out};
use super::params::{Params, Segment};
use super::problem::Fault;
use super::runs::{find, find_part};
use crate::chunks::{Content, Piece};
use crate::error::{ErrorCode, FieldError};
use crate::logs::{LogError, LogPart, LogRequest, Needed};

/// Says whose output it is.
const ATTEMPT: HeaderName = HeaderName::from_static("horai-attempt");
/// Where to go on, as the last event said.
const LAST_EVENT: HeaderName = HeaderName::from_static("last-event-id");
const EVENTS: &str = "text/event-stream";
/// Between two looks for an attempt that does not exist yet.
const LOOK: Duration = Duration::from_millis(100);
/// How long a followed run is waited for until it is tried.
const PATIENCE: Duration = Duration::from_secs(20);
/// A silent stream of events shows that it lives.
const SILENCE: Duration = Duration::from_secs(2);

impl From<LogError> for Fault {
    fn from(error: LogError) -> Self {
        let remedy = match error {
            LogError::Dropped => "read it sooner, or have nodes keep more: [logs] in their files",
            LogError::Missing { .. } => "ask again when the worker, or more nodes, are back",
            LogError::TooFew { .. } => "ask again when more nodes are back",
        };
        Self::new(error.code(), error.to_string(), remedy)
    }
}

impl From<Needed> for Fault {
    fn from(needed: Needed) -> Self {
        let remedy = match needed {
            Needed::TooFew { .. } => {
                "start more nodes, and ask again; or take it out all the same: lose_logs, \
                 --lose-logs"
            }
            Needed::Copies { .. } => {
                "wait until the leader's `behind` in /api/v1/cluster/logs is 0, and ask again; \
                 or take it out all the same: lose_logs, --lose-logs"
            }
            Needed::Files { .. } => {
                "wait until `files` in /api/v1/cluster/logs is the same on all nodes, and ask \
                 again; or take it out all the same: lose_logs, --lose-logs"
            }
        };
        Self::new(ErrorCode::Conflict, needed.to_string(), remedy)
    }
}

pub(super) async fn stats(State(api): State<Api>, params: Params) -> Result<Json<LogsDto>, Fault> {
    params.only(&[])?;
    let stats = api.logs.store().stats();
    Ok(Json(LogsDto {
        bytes: stats.bytes,
        attempts: stats.attempts,
        files: stats.files,
        damaged: stats.damaged,
        shut: api.logs.store().shut().map(|error| error.to_string()),
        behind: api.logs.behind(),
    }))
}

/// Where the output was read to: `r-17.2@1024`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    key: AttemptKey,
    offset: u64,
}

impl FromStr for Place {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let place = text.split_once('@').and_then(|(attempt, offset)| {
            let AttemptRef(key) = attempt.parse().ok()?;
            Some(Self { key, offset: offset.parse().ok()? })
        });
        place.ok_or("this is no id of an event: send the last one as it came, or none")
    }
}

pub(super) async fn read(
    State(api): State<Api>,
    id: Segment,
    headers: HeaderMap,
    params: Params,
) -> Result<Response, Fault> {
    let RunRef(run) = id.parse("id")?;
    let params = params.only(&["shard", "attempt", "offset", "follow", "local"])?;
    let mut shard = params.parse::<u32>("shard")?;
    let mut number = params.parse::<u32>("attempt")?;
    let mut offset = params.parse::<u64>("offset")?.unwrap_or(0);
    let (follow, local) = (params.flag("follow")?, params.flag("local")?);
    if let Some(last) = last_event(&headers)? {
        if last.key.run != run {
            let problem = "it is of another run";
            let shown = AttemptRef(last.key);
            return Err(FieldError::invalid("last-event-id", shown, problem, "send none").into());
        }
        (shard, number, offset) = (last.key.shard_index(), Some(last.key.number), last.offset);
    }
    api.fresh(&params).await?;
    let key = api.attempt((run, shard), number, follow).await?;
    if let Some(why) = api.read(|state| never_began(state, key)) {
        return Err(why);
    }
    let parts = api.logs.read(LogRequest { key, offset, follow, local }).await?;
    let accepts = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let (kind, body) = if accepts.is_some_and(|accept| accept.contains(EVENTS)) {
        (EVENTS, Body::from_stream(events_of(key, parts)))
    } else {
        ("application/octet-stream", Body::from_stream(bytes_of(parts)))
    };
    let mut answer = body.into_response();
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(key) = HeaderValue::try_from(key.to_string()) {
        headers.insert(ATTEMPT, key);
    }
    Ok(answer)
}

/// Why an attempt has no output because nothing was started for it; none if that is not so.
fn never_began(state: &CoreState, key: AttemptKey) -> Option<Fault> {
    let run = state.run_of(key)?;
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

fn last_event(headers: &HeaderMap) -> Result<Option<Place>, Fault> {
    let Some(value) = headers.get(LAST_EVENT) else { return Ok(None) };
    let text = String::from_utf8_lossy(value.as_bytes());
    let place = text.parse::<Place>().map(Some);
    place.map_err(|problem| {
        FieldError::invalid("last-event-id", &text, problem, "send it as it came").into()
    })
}

impl Api {
    /// Finds the attempt, the last one if no number is given; one of a run that is
    /// followed is waited for.
    async fn attempt(
        &self,
        (run, shard): (RunId, Option<u32>),
        number: Option<u32>,
        waits: bool,
    ) -> Result<AttemptKey, Fault> {
        let fits = |attempt: &&Attempt| number.is_none_or(|number| attempt.key.number == number);
        let waits_until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let (found, is_over) = self.read(|state| {
                let whole = find(state, run)?;
                if let Some(parts) = whole.parts.filter(|_| shard.is_none()) {
                    return Err(says_no_shard(parts));
                }
                let may_be_split =
                    whole.parts.is_none() && whole.attempts.is_empty() && whole.is_live();
                let run = match shard {
                    Some(_) if waits && may_be_split => whole,
                    shard => find_part(state, run, shard)?,
                };
                let found = run.attempts.iter().rev().find(fits);
                let is_over =
                    run.live_attempt().is_none() && matches!(run.state, RunState::Finished { .. });
                Ok::<_, Fault>((found.map(|attempt| attempt.key), is_over))
            })?;
            if let Some(key) = found {
                return Ok(key);
            }
            if !waits || is_over || tokio::time::Instant::now() >= waits_until {
                let shown = number.map_or_else(|| "any".to_owned(), |n| n.to_string());
                let problem = "the run has no such attempt";
                let remedy = "see why: horai run explain; or follow, to wait for it";
                return Err(FieldError::invalid("attempt", shown, problem, remedy)
                    .with_code(ErrorCode::NotFound)
                    .into());
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Each shard has an output of its own.
fn says_no_shard(parts: Parts) -> Fault {
    let problem = format!("the run has {} shards, each with an output of its own", parts.total);
    FieldError::invalid("shard", "none", problem, "say which: shard=0, --shard 0").into()
}

/// The reader is gone: the node ends.
fn cut_off() -> io::Error {
    io::Error::other("the node ends")
}

fn bytes_of(parts: mpsc::Receiver<LogPart>) -> impl Stream<Item = io::Result<Bytes>> {
    stream::unfold(Some(parts), |parts| async {
        let mut parts = parts?;
        match parts.recv().await {
            Some(LogPart::Piece(Piece { from, to, content, .. })) => {
                let bytes = match content {
                    Content::Data { bytes, .. } => bytes,
                    Content::Gap => left_out(from, to).into(),
                };
                Some((Ok(bytes), Some(parts)))
            }
            Some(LogPart::End { .. }) => None,
            Some(LogPart::Failed(error)) => Some((Err(io::Error::other(error)), None)),
            None => Some((Err(cut_off()), None)),
        }
    })
}

fn events_of(
    key: AttemptKey,
    parts: mpsc::Receiver<LogPart>,
) -> impl Stream<Item = io::Result<Bytes>> {
    stream::unfold(Some(parts), move |parts| async move {
        let mut parts = parts?;
        let Ok(part) = tokio::time::timeout(SILENCE, parts.recv()).await else {
            return Some((Ok(Bytes::from_static(b": alive\n\n")), Some(parts)));
        };
        match part {
            Some(LogPart::Piece(piece)) => Some((Ok(events(&piece).into()), Some(parts))),
            Some(LogPart::End { total }) => {
                let mut text = String::new();
                event(&mut text, "end", Place { key, offset: total }, &Total { total });
                Some((Ok(text.into()), None))
            }
            Some(LogPart::Failed(error)) => Some((Err(io::Error::other(error)), None)),
            None => Some((Err(cut_off()), None)),
        }
    })
}

#[derive(Serialize)]
struct Total {
    total: u64,
}

/// One event for each time and stream.
fn events(piece: &Piece) -> String {
    let (key, mut text) = (piece.key, String::new());
    let Content::Data { bytes, marks } = &piece.content else {
        let gap = LogEventDto::gap(piece.from, piece.to);
        event(&mut text, "gap", Place { key, offset: piece.to }, &gap);
        return text;
    };
    for (at, mark) in marks.iter().enumerate() {
        let to = marks.get(at + 1).map_or(piece.to, |next| next.at);
        // Within the piece, which is in memory.
        let place = |at: u64| usize::try_from(at - piece.from).unwrap_or(usize::MAX);
        let bytes = &bytes[place(mark.at)..place(to)];
        let said = LogEventDto::of(mark.at, bytes, Time(mark.time), mark.stream.word());
        event(&mut text, "output", Place { key, offset: to }, &said);
    }
    text
}

/// JSON has no line break of its own, so one line of data is enough.
fn event(text: &mut String, name: &str, place: Place, data: &impl Serialize) {
    let Place { key, offset } = place;
    let data = serde_json::to_string(data).unwrap_or_default();
    // Writing to a string does not fail.
    let _ = write!(text, "event: {name}\nid: {key}@{offset}\ndata: {data}\n\n");
}

#[cfg(test)]
mod tests {
    use horai_core::time::UtcMillis;

    use super::*;
    use crate::chunks::{Mark, Stream as From};

    #[test]
    fn events_say_where_when_and_on_which_stream() {
        let key = AttemptKey { run: RunId(17), shard: 0, number: 2 };
        let mark = |at, time, stream| Mark { at, time: UtcMillis(time), stream };
        let marks = vec![mark(40, 0, From::Stdout), mark(46, 1_500, From::Stderr)];
        let content = Content::Data { bytes: Bytes::from_static(b"hello\n\xffx"), marks };
        let told = events(&Piece { key, from: 40, to: 48, content });
        assert_eq!(
            told,
            "event: output\nid: r-17.2@46\ndata: {\"from\":40,\"to\":46,\
             \"at\":\"1970-01-01T00:00:00.000Z\",\"stream\":\"stdout\",\"text\":\"hello\\n\"}\n\n\
             event: output\nid: r-17.2@48\ndata: {\"from\":46,\"to\":48,\
             \"at\":\"1970-01-01T00:00:01.500Z\",\"stream\":\"stderr\",\"base64\":\"/3g=\"}\n\n"
        );
        assert_eq!("r-17.2@48".parse(), Ok(Place { key, offset: 48 }));
        assert!("r-17@48".parse::<Place>().is_err() && "48".parse::<Place>().is_err());
        let gap = events(&Piece { key, from: 1, to: 9, content: Content::Gap });
        assert_eq!(gap, "event: gap\nid: r-17.2@9\ndata: {\"from\":1,\"to\":9}\n\n");
    }
}
