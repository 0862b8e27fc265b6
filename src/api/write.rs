//! What every write does: its body is read with errors that name the field,
//! its request id makes sending it twice the same as once, and its command goes
//! through the log. Nothing is written that is not a command.

use axum::body::to_bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, Method};
use bytes::Bytes;
use horai_core::ids::Revision;
use horai_core::machine::command::{Actor, Command, Envelope, Request as RequestId};
use horai_core::machine::outcome::Outcome;
use horai_core::machine::state::State;
use horai_core::time::UtcMillis;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::gate::Caller;
use super::params::Params;
use super::problem::{Fault, of_json, refused};
use super::revisions::Expected;
use super::{Api, MAX_BODY, READ_LIMIT, WRITE_LIMIT};
use crate::error::{ErrorCode, FieldError};

/// Carries the client's request id.
const KEY: &str = "idempotency-key";

/// A write, as it came.
pub(super) struct Write {
    body: Bytes,
    actor: Actor,
    secret: [u8; 32],
    request: Option<RequestId>,
    expected: Option<Expected>,
}

impl<S: Send + Sync> FromRequest<S> for Write {
    type Rejection = Fault;

    async fn from_request(request: Request, _: &S) -> Result<Self, Fault> {
        Ok(Self::with_params(request, &[]).await?.0)
    }
}

impl Write {
    /// A write that takes the parameters `known`.
    pub(super) async fn with_params(
        request: Request,
        known: &[&str],
    ) -> Result<(Self, Params), Fault> {
        use axum::extract::FromRequestParts;
        let (mut parts, body) = request.into_parts();
        let params = Params::from_request_parts(&mut parts, &()).await?.only(known)?;
        let body = to_bytes(body, MAX_BODY).await.map_err(|e| {
            let is_long = std::error::Error::source(&e)
                .is_some_and(|cause| cause.to_string().contains("length limit"));
            if is_long {
                too_large(MAX_BODY)
            } else {
                let detail = format!("the body did not arrive: {e}");
                Fault::new(ErrorCode::Malformed, detail, "send it again")
            }
        })?;
        let Caller { name, secret } =
            parts.extensions.get::<Caller>().cloned().ok_or_else(|| {
                let remedy = "report it: an address is not guarded";
                Fault::new(ErrorCode::Internal, "the request was not authenticated", remedy)
            })?;
        let asked = parts.uri.path_and_query().map_or("/", |asked| asked.as_str());
        let request = request_id(&parts.headers, &parts.method, asked, &body)?;
        let expected = Expected::read(&parts.headers)?;
        Ok((Self { body, actor: Actor::User(name), secret, request, expected }, params))
    }
}

pub(super) fn too_large(limit: usize) -> Fault {
    let remedy = format!("send at most {limit} bytes");
    FieldError::invalid("body", "", format!("the body has more than {limit} bytes"), remedy)
        .with_code(ErrorCode::TooLarge)
        .into()
}

impl Write {
    /// From now on what is remembered of the request, for recognising it, is of no use for
    /// guessing what the body says: only who holds the caller's token can compute it.
    pub(super) fn hide_body(&mut self) {
        let secret = self.secret;
        if let Some(request) = &mut self.request {
            let plain = request.body_hash.to_be_bytes();
            let hash = Sha256::new().chain_update(secret).chain_update(plain);
            let hash = hash.chain_update(&self.body).finalize();
            let mut short = [0; 16];
            short.copy_from_slice(&hash[..16]);
            request.body_hash = u128::from_be_bytes(short);
        }
    }

    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Refuses a body beyond `limit`, which is below the limit of all.
    pub(super) fn at_most(&self, limit: usize) -> Result<(), Fault> {
        if self.body.len() > limit { Err(too_large(limit)) } else { Ok(()) }
    }

    /// The body as JSON of that form.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Fault> {
        json(&self.body)
    }

    /// Refuses a body where none is needed, so that nobody believes it was read.
    pub(super) fn empty(&self) -> Result<(), Fault> {
        if self.is_empty() {
            return Ok(());
        }
        let detail = "this request takes no body";
        Err(Fault::new(ErrorCode::Malformed, detail, "leave the body out"))
    }

    /// True if the body says nothing.
    pub(super) fn is_empty(&self) -> bool {
        matches!(self.body.as_ref(), b"" | b"{}" | b"null")
    }

    /// True if the client says what it thinks is there.
    pub(super) fn is_conditional(&self) -> bool {
        self.expected.is_some()
    }

    /// True if there must be something, of whatever revision.
    pub(super) fn must_exist(&self) -> bool {
        self.expected == Some(Expected::Something)
    }

    /// The revision that there must be; 0 = there must be nothing.
    pub(super) fn revision(&self) -> Option<Revision> {
        match self.expected {
            Some(Expected::Revision(revision)) => Some(revision),
            Some(Expected::Something) | None => None,
        }
    }

    /// The command with who sends it and its request id.
    pub(super) fn envelope(&self, command: Command) -> Envelope {
        Envelope { actor: self.actor.clone(), request: self.request.clone(), command }
    }

    /// The same for one of many commands of this request.
    pub(super) fn part(&self, part: usize, command: Command) -> Envelope {
        Envelope { actor: self.actor.clone(), request: self.part_id(part), command }
    }

    /// Bytes that nobody can guess, the same again if this request is sent again.
    pub(super) fn secret(&self) -> [u8; 32] {
        let Some(request) = &self.request else { return rand::random() };
        let id = Sha256::digest(request.id.as_bytes());
        Sha256::new().chain_update(self.secret).chain_update(id).finalize().into()
    }

    /// The outcome, if this request was served before.
    pub(super) fn served(&self, state: &State) -> Option<Result<Outcome, Fault>> {
        self.request.as_ref().and_then(|request| served(request, state))
    }

    /// The same for one of many commands of this request.
    pub(super) fn served_part(&self, part: usize, state: &State) -> Option<Result<Outcome, Fault>> {
        self.part_id(part).and_then(|request| served(&request, state))
    }

    fn part_id(&self, part: usize) -> Option<RequestId> {
        self.request.as_ref().map(|whole| RequestId {
            id: format!("{:032x}.{part}", xxh3_128(whole.id.as_bytes())),
            ..whole.clone()
        })
    }
}

fn served(request: &RequestId, state: &State) -> Option<Result<Outcome, Fault>> {
    let (hash, outcome) = state.remembered(&request.id)?;
    Some(if hash == request.body_hash {
        Ok(outcome.clone())
    } else {
        let id = request.id.clone();
        Err(horai_core::machine::outcome::Reject::RequestReused(id).into())
    })
}

impl Api {
    /// Commits what `make` makes of the newest state, unless this request was
    /// served before: then the outcome is told again.
    pub(super) async fn write(
        &self,
        write: &Write,
        make: impl FnOnce(&State) -> Result<Command, Fault>,
    ) -> Result<Outcome, Fault> {
        // Names are looked up here, and one may have been given at another node.
        self.node.linearize(READ_LIMIT).await?;
        let command = self.read(|state| match write.served(state) {
            Some(outcome) => outcome.map(Err),
            None => make(state).map(Ok),
        })?;
        match command {
            Ok(command) => self.commit(&write.envelope(command)).await,
            Err(outcome) => self.accepted(outcome),
        }
    }

    /// Commits a command.
    pub(super) async fn commit(&self, envelope: &Envelope) -> Result<Outcome, Fault> {
        let outcome = self.node.propose(envelope, WRITE_LIMIT).await?;
        self.accepted(outcome)
    }

    /// An outcome that is no refusal; a refusal names what the state knows by name.
    fn accepted(&self, outcome: Outcome) -> Result<Outcome, Fault> {
        match outcome {
            Outcome::Rejected(reject) => Err(self.read(|state| refused(reject, state))),
            done => Ok(done),
        }
    }
}

/// An outcome that is no refusal.
pub(super) fn accepted(outcome: Outcome) -> Result<Outcome, Fault> {
    match outcome {
        Outcome::Rejected(reject) => Err(reject.into()),
        done => Ok(done),
    }
}

/// Another kind of outcome than the command has: a fault of ours.
pub(super) fn odd(outcome: &Outcome) -> Fault {
    let detail = format!("the outcome {outcome:?} does not belong to this request");
    Fault::new(ErrorCode::Internal, detail, "report it, with the request's id")
}

/// Reads JSON; an error names the field and shows what stands there.
pub(super) fn json<T: DeserializeOwned>(body: &[u8]) -> Result<T, Fault> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|e| {
        let path = e.path().to_string();
        let given = serde_json::from_slice(body).ok().map(|whole| at(&whole, &path));
        of_json(e.inner(), &path, given.unwrap_or_default())
    })?;
    reader.end().map_err(|e| of_json(&e, ".", String::new()))?;
    Ok(value)
}

/// The text of what stands at a path such as `jobs[2].name`.
pub(crate) fn at(whole: &serde_json::Value, path: &str) -> String {
    let mut value = whole;
    for part in path.split(['.', '[']).map(|part| part.trim_end_matches(']')) {
        let inner = match part.parse::<usize>() {
            Ok(i) if value.is_array() => value.get(i),
            _ => value.get(part),
        };
        match inner {
            Some(inner) => value = inner,
            None if part.is_empty() => {}
            None => return String::new(),
        }
    }
    let text = match value {
        serde_json::Value::String(text) => text.clone(),
        // As people write it, if nothing is lost by that.
        serde_json::Value::Array(items) if items.iter().all(serde_json::Value::is_string) => {
            items.iter().filter_map(serde_json::Value::as_str).collect::<Vec<_>>().join(", ")
        }
        other => other.to_string(),
    };
    text.chars().take(200).collect()
}

fn request_id(
    headers: &HeaderMap,
    method: &Method,
    asked: &str,
    body: &[u8],
) -> Result<Option<RequestId>, Fault> {
    let Some(value) = headers.get(KEY) else { return Ok(None) };
    let id = value.to_str().ok().filter(|id| (1..=RequestId::MAX_LEN).contains(&id.len()));
    let id = id.ok_or_else(|| {
        let shown = String::from_utf8_lossy(value.as_bytes()).into_owned();
        let problem = "this cannot be a request id";
        let remedy = format!("use 1 to {} visible ASCII characters", RequestId::MAX_LEN);
        Fault::from(FieldError::invalid("Idempotency-Key", shown, problem, remedy))
    })?;
    let mut hash = Xxh3::new();
    for part in [method.as_str().as_bytes(), b" ", asked.as_bytes(), b"\n", body] {
        hash.update(part);
    }
    let (id, issued) = (id.to_owned(), issued(id));
    Ok(Some(RequestId { id, body_hash: hash.digest128(), issued }))
}

/// When a time-ordered id was made.
fn issued(id: &str) -> Option<UtcMillis> {
    let id = uuid::Uuid::parse_str(id).ok().filter(|id| id.get_version_num() == 7)?;
    let (seconds, nanos) = id.get_timestamp()?.to_unix();
    let millis = seconds.checked_mul(1000)?.checked_add(u64::from(nanos / 1_000_000))?;
    i64::try_from(millis).ok().map(UtcMillis)
}
