//! How one request reaches a cluster: node after node, again and again, until
//! one answers or the time is over.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use reqwest::header::{ACCEPT, CONTENT_TYPE, IF_MATCH, IF_NONE_MATCH};
use reqwest::{Method, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{ApiError, Client};
use crate::api::dto::Problem;
use crate::error::{ErrorCode, FieldError, chain};

/// First and longest wait between tries.
pub(super) const PAUSE: (Duration, Duration) =
    (Duration::from_millis(20), Duration::from_millis(400));
/// The largest answer that is read into memory.
const MAX_ANSWER: usize = 256 * 1024 * 1024;

/// One request, whichever node it goes to.
pub(super) struct Call<'a> {
    pub(super) method: Method,
    pub(super) path: Vec<&'a str>,
    pub(super) query: Vec<(&'static str, String)>,
    pub(super) body: Option<Vec<u8>>,
    /// The revision it must have; 0 = must not exist.
    pub(super) expected: Option<u64>,
    /// The request id, of a write.
    pub(super) key: Option<String>,
    /// The answer is handed on as it comes; else it is read as a whole.
    pub(super) streams: bool,
    /// Its form, if there are several.
    pub(super) accept: Option<&'static str>,
}

impl<'a> Call<'a> {
    pub(super) fn get(path: &[&'a str]) -> Self {
        let (method, path, query) = (Method::GET, path.to_vec(), Vec::new());
        let (body, expected, key, accept) = (None, None, None, None);
        Self { method, path, query, body, expected, key, streams: false, accept }
    }

    pub(super) fn write(method: Method, path: &[&'a str]) -> Self {
        Self { method, key: Some(uuid::Uuid::now_v7().to_string()), ..Self::get(path) }
    }

    pub(super) fn with<T: ToString>(mut self, name: &'static str, value: Option<T>) -> Self {
        self.query.extend(value.map(|value| (name, value.to_string())));
        self
    }

    pub(super) fn body(mut self, body: &impl Serialize) -> Result<Self, ApiError> {
        let bytes = serde_json::to_vec(body).map_err(|e| {
            ApiError::new(ErrorCode::Malformed, format!("cannot be written as JSON: {e}"), "")
        })?;
        self.body = Some(bytes);
        Ok(self)
    }
}

/// What a node answered.
pub(super) enum Answer {
    Whole(Vec<u8>),
    Stream(Response),
}

/// Why one try gave no answer.
enum Miss {
    /// The node took nothing.
    Unreached(String),
    /// It may have taken the request, and worked.
    Broken(String),
    /// It said that asking again may help.
    Told(ApiError),
}

impl Client {
    /// Asks node after node until one answers, or the time is over.
    pub(super) async fn send(&self, call: &Call<'_>) -> Result<Answer, ApiError> {
        let deadline = Instant::now() + self.timeout;
        let nodes = self.shared.urls.len();
        let first = self.shared.preferred.load(Ordering::Relaxed);
        let (mut tries, mut pause, mut may_be_done) = (0, PAUSE.0, false);
        loop {
            let node = (first + tries) % nodes;
            let begun = Instant::now();
            let left = deadline.saturating_duration_since(begun);
            let miss = match self.once(call, node, left).await? {
                Ok(answer) => {
                    self.shared.preferred.store(node, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(miss) => miss,
            };
            tries += 1;
            may_be_done |= matches!(miss, Miss::Broken(_));
            // The next node at once, but no circle without a rest.
            if tries % nodes == 0 || matches!(miss, Miss::Told(_)) {
                // A try that is cut off tells less than the refusal that is there.
                let told = matches!(miss, Miss::Told(_));
                let next = if told { pause + begun.elapsed() } else { pause };
                if Instant::now() + next >= deadline {
                    return Err(self.gave_up(call, node, miss, may_be_done));
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(PAUSE.1);
            } else if Instant::now() >= deadline {
                return Err(self.gave_up(call, node, miss, may_be_done));
            }
        }
    }

    /// One try. The outer error is final.
    async fn once(
        &self,
        call: &Call<'_>,
        node: usize,
        left: Duration,
    ) -> Result<Result<Answer, Miss>, ApiError> {
        let mut request = self.shared.http.request(call.method.clone(), self.url(call, node)?);
        request = request.bearer_auth(&self.shared.token).query(&call.query);
        if let Some(body) = &call.body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.clone());
        }
        if let Some(accept) = call.accept {
            request = request.header(ACCEPT, accept);
        }
        if let Some(key) = &call.key {
            request = request.header("idempotency-key", key);
        }
        request = match call.expected {
            None => request,
            Some(0) => request.header(IF_NONE_MATCH, "*"),
            Some(revision) => request.header(IF_MATCH, format!("\"{revision}\"")),
        };
        // A frozen node must not eat all the time while others could answer.
        let share = if self.shared.urls.len() > 1 { self.timeout / 3 } else { left };
        let limit = left.min(share).max(Duration::from_millis(1));
        let deadline = Instant::now() + limit;
        let late = |_| Miss::Broken(format!("no answer within {} ms", limit.as_millis()));
        let answer = match tokio::time::timeout(limit, request.send()).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) if error.is_connect() => {
                return Ok(Err(Miss::Unreached(root(&error))));
            }
            Ok(Err(error)) if error.is_builder() => {
                return Err(ApiError::new(
                    ErrorCode::Malformed,
                    chain(&error),
                    "correct the token",
                ));
            }
            Ok(Err(error)) => return Ok(Err(Miss::Broken(root(&error)))),
            Err(passed) => return Ok(Err(late(passed))),
        };
        let status = answer.status();
        if status.is_success() && call.streams {
            return Ok(Ok(Answer::Stream(answer)));
        }
        let body = match tokio::time::timeout_at(deadline.into(), whole(answer)).await {
            Ok(Ok(body)) => body,
            Ok(Err(problem)) => return Ok(Err(Miss::Broken(problem))),
            Err(passed) => return Ok(Err(late(passed))),
        };
        if status.is_success() {
            return Ok(Ok(Answer::Whole(body)));
        }
        let error = refusal(status, &body);
        match error.code() {
            // Asking again is safe: a write carries its request id.
            ErrorCode::Unavailable | ErrorCode::OutcomeUnknown => Ok(Err(Miss::Told(error))),
            _ => Err(error),
        }
    }

    fn url(&self, call: &Call<'_>, node: usize) -> Result<Url, ApiError> {
        let mut url = self.shared.urls[node].clone();
        if let Some(odd) = call.path.iter().find(|part| matches!(**part, "" | "." | "..")) {
            return Err(FieldError::invalid(
                "name",
                odd,
                "nothing has this name",
                "use 1 to 128 of a-z 0-9 . _ - and begin with a letter or digit",
            )
            .into());
        }
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["api", "v1"]).extend(&call.path);
        }
        Ok(url)
    }

    fn gave_up(&self, call: &Call<'_>, node: usize, miss: Miss, may_be_done: bool) -> ApiError {
        let url = self.shared.urls[node].as_str().trim_end_matches('/');
        let cause = match miss {
            Miss::Told(error) if !may_be_done => return error,
            Miss::Told(error) => error.problem.detail,
            Miss::Unreached(cause) | Miss::Broken(cause) => format!("{url}: {cause}"),
        };
        if may_be_done && call.key.is_some() {
            let detail = format!("it may have been done or not: {cause}");
            return ApiError::new(ErrorCode::OutcomeUnknown, detail, "look before asking again");
        }
        let nodes = self.shared.urls.len();
        let who = match nodes {
            1 => "the node".to_owned(),
            nodes => format!("any of {nodes} nodes"),
        };
        let detail = format!("no answer from {who} within {:?}: {cause}", self.timeout);
        let remedy = "see whether the nodes run, and check --url (HORAI_URL): it is the HTTP port";
        ApiError::new(ErrorCode::Unavailable, detail, remedy)
    }
}

/// An answer's body, up to a limit.
async fn whole(mut answer: Response) -> Result<Vec<u8>, String> {
    let mut body = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(|e| chain(&e))? {
        if body.len() + part.len() > MAX_ANSWER {
            return Err(format!("the answer is larger than {MAX_ANSWER} bytes"));
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}

pub(super) fn read<T: DeserializeOwned>(answer: Answer) -> Result<T, ApiError> {
    let body = match answer {
        Answer::Whole(body) => body,
        Answer::Stream(_) => Vec::new(),
    };
    serde_json::from_slice(&body).map_err(|e| {
        let detail = format!("done, but the answer cannot be read: {e}");
        ApiError::new(ErrorCode::Internal, detail, "use the version of the nodes")
    })
}

/// The problem that a node sent, or what can be said of an answer that holds none.
fn refusal(status: StatusCode, body: &[u8]) -> ApiError {
    match serde_json::from_slice::<Problem>(body) {
        Ok(problem) => ApiError { problem: Box::new(problem) },
        Err(_) => {
            let code = match status.as_u16() {
                502..=504 => ErrorCode::Unavailable,
                _ => ErrorCode::Internal,
            };
            let detail = format!("an answer of status {status} that is no problem of Horai's");
            ApiError::new(code, detail, "check that --url is the address of a node's HTTP API")
        }
    }
}

/// What an error comes down to: the rest repeats the address.
fn root(error: &dyn std::error::Error) -> String {
    let last = std::iter::successors(Some(error), |e| e.source()).last();
    last.unwrap_or(error).to_string()
}
