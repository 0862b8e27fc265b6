//! Secrets: set, list, delete, and all of them written under another key.
//!
//! A value is encrypted here, on the node that takes it: what is proposed, logged and
//! remembered of the request holds none of it. No answer and no error shows one.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use horai_core::ids::Name;
use horai_core::machine::command::{Command, Envelope};
use horai_core::machine::outcome::{Outcome, Reject};
use horai_core::machine::state::State as Machine;
use horai_core::model::secret::{KeyId, Sealed};

use super::dto::{Page, RekeyedDto, SecretDto, SecretSet, SetSecret};
use super::params::{Params, Segment, page};
use super::problem::Fault;
use super::revisions::{stored, tagged};
use super::write::{Write, accepted, odd};
use super::{Api, READ_LIMIT, WRITE_LIMIT};
use crate::error::{ErrorCode, FieldError};
use crate::secrets::{Keyring, MIN_VALUE, SealError};

/// Secrets that are written anew by one batch of commands.
const AT_ONCE: usize = 100;
/// How often those are tried again that got another value meanwhile.
const ROUNDS: usize = 5;

pub(super) async fn list(
    State(api): State<Api>,
    params: Params,
) -> Result<Json<Page<SecretDto>>, Fault> {
    let (limit, after) = api.part::<Name>(params).await?;
    Ok(Json(api.read(|state| {
        let secrets = state.secrets_after(after);
        let show = |(name, secret)| SecretDto::of(state, name, secret);
        page(secrets, limit, |(name, _)| name.to_string(), show)
    })))
}

pub(super) async fn show(
    State(api): State<Api>,
    name: Segment,
    params: Params,
) -> Result<Response, Fault> {
    let (name, params) = (name.name()?, params.only(&[])?);
    api.fresh(&params).await?;
    let found = api.read(|state| {
        let secret = state.secret(&name)?;
        Some(SecretDto::of(state, &name, secret))
    });
    let secret = found.ok_or_else(|| Fault::not_found("secret", &name))?;
    Ok(tagged(secret.revision, secret))
}

pub(super) async fn put(
    State(api): State<Api>,
    name: Segment,
    mut write: Write,
) -> Result<Response, Fault> {
    let name = name.name()?;
    write.hide_body();
    let SetSecret { value, description } = serde_json::from_slice(write.body()).map_err(|_| {
        // What is wrong with it may be the value.
        let detail = "the body does not say what a secret is";
        let remedy = "send {\"value\": \"…\"}, and a \"description\" if you like";
        Fault::new(ErrorCode::Malformed, detail, remedy)
    })?;
    check_value(&value)?;
    let sealed = api.sessions.keys().seal(&name, &value).map_err(|error| no_key(&error))?;
    let expected = write.revision();
    let outcome = api
        .write(&write, |state| {
            if write.must_exist() && state.secret(&name).is_none() {
                return Err(Fault::absent_named("secret", &name));
            }
            Ok(Command::PutSecret { name: name.clone(), sealed, description, expected })
        })
        .await?;
    let Outcome::Secret { revision } = outcome else { return Err(odd(&outcome)) };
    let set = SecretSet { name: name.to_string(), revision: revision.0 };
    // Each value is a revision, whether or not it is another one.
    Ok(stored(revision.0, true, set))
}

/// What can be masked in an output, and given to a process.
fn check_value(value: &str) -> Result<(), FieldError> {
    let (problem, remedy) = match value.len() {
        length if length < MIN_VALUE => (
            format!("a value of {length} bytes cannot be taken out of an output"),
            format!("use at least {MIN_VALUE} bytes"),
        ),
        length if length > Sealed::MAX_VALUE => (
            format!("the value has {length} bytes"),
            format!("use at most {}: keep what is larger in a file", Sealed::MAX_VALUE),
        ),
        _ if value.contains('\0') => (
            "the value holds a zero byte, which no argument or variable can".to_owned(),
            "use text, such as base64".to_owned(),
        ),
        _ => return Ok(()),
    };
    Err(FieldError::invalid("value", "", problem, remedy))
}

fn no_key(error: &SealError) -> Fault {
    match error {
        SealError::NoKey => {
            let remedy = "make one: horai secret keygen --out FILE; copy it to every node, name it \
                          as key_file under [secrets] in their configuration, and start them again";
            Fault::new(ErrorCode::Conflict, error.to_string(), remedy)
        }
        SealError::Failed => {
            Fault::new(ErrorCode::Internal, error.to_string(), "see whether the node is well")
        }
    }
}

pub(super) async fn delete(
    State(api): State<Api>,
    name: Segment,
    write: Write,
) -> Result<StatusCode, Fault> {
    write.empty()?;
    let (name, expected) = (name.name()?, write.revision());
    api.write(&write, |_| Ok(Command::DeleteSecret { name, expected })).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `POST /cluster/secrets/rekey`: writes all secrets under the first key of this node.
/// Sent again it goes on with those that are left.
pub(super) async fn rekey(State(api): State<Api>, write: Write) -> Result<Json<RekeyedDto>, Fault> {
    write.empty()?;
    let keys = api.sessions.keys();
    let key = keys.first().ok_or_else(|| no_key(&SealError::NoKey))?;
    let mut done = RekeyedDto { key: key.to_string(), resealed: 0, kept: 0, failed: Vec::new() };
    for round in 0..ROUNDS {
        api.node.linearize(READ_LIMIT).await?;
        let Resealing { commands, kept, failed } = api.read(|state| reseal(state, keys, key))?;
        if round == 0 {
            done.kept = kept;
        }
        done.failed = failed;
        if commands.is_empty() {
            return Ok(Json(done));
        }
        for commands in commands.chunks(AT_ONCE) {
            let envelope =
                |command: &Command| Envelope { request: None, ..write.envelope(command.clone()) };
            let envelopes = commands.iter().map(envelope).collect();
            for outcome in api.node.propose_all(envelopes, WRITE_LIMIT).await {
                match outcome? {
                    // Set or deleted meanwhile: the next round looks again.
                    Outcome::Rejected(Reject::WrongRevision { .. } | Reject::NoSuchSecret(_)) => {}
                    outcome => {
                        accepted(outcome)?;
                        done.resealed += 1;
                    }
                }
            }
        }
    }
    let detail = "secrets are being set faster than they are written under another key";
    Err(Fault::new(ErrorCode::Unavailable, detail, "send it again: it goes on with what is left"))
}

/// What is to be done for a key.
struct Resealing {
    commands: Vec<Command>,
    kept: u64,
    failed: Vec<String>,
}

fn reseal(state: &Machine, keys: &Keyring, key: KeyId) -> Result<Resealing, Fault> {
    let mut resealing = Resealing { commands: Vec::new(), kept: 0, failed: Vec::new() };
    for (name, secret) in state.secrets_after(None) {
        if secret.sealed.key == key {
            resealing.kept += 1;
            continue;
        }
        let Ok(value) = keys.open(name, &secret.sealed) else {
            resealing.failed.push(name.to_string());
            continue;
        };
        let sealed = keys.seal(name, value.expose()).map_err(|error| no_key(&error))?;
        let (name, expected) = (name.clone(), secret.revision);
        resealing.commands.push(Command::ResealSecret { name, sealed, expected });
    }
    Ok(resealing)
}
