//! Who may open a stream, and how one is told that it may not.

use std::fmt;

use horai_core::ids::{Incarnation, Name};
use horai_core::machine::state::State;
use horai_core::model::access::{TokenHash, TokenPurpose};
use horai_proto::worker as pb;
use horai_proto::worker::to_worker::Body as Say;
use horai_raft::membership::admission::token_hash;
use tonic::metadata::MetadataMap;

use crate::error::ErrorCode;

/// The worker's name, in the metadata of its stream.
pub(super) const WORKER: &str = "horai-worker";
/// Its incarnation, 32 hexadecimal digits.
pub(super) const INCARNATION: &str = "horai-incarnation";

/// Why a stream is not served; sent to the worker, then the stream ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
}

impl Refusal {
    pub(super) fn new(code: ErrorCode, message: impl fmt::Display) -> Self {
        Self { code, message: message.to_string() }
    }

    pub(super) fn frame(&self) -> Say {
        Say::Refused(pb::Refused { code: self.code.to_string(), message: self.message.clone() })
    }
}

/// Who opened a stream, by its metadata.
pub(crate) struct Caller {
    pub(crate) name: Name,
    pub(crate) incarnation: Incarnation,
    pub(crate) token: TokenHash,
}

/// Reads the metadata of a stream.
pub(crate) fn caller(metadata: &MetadataMap) -> Result<Caller, Refusal> {
    let text = |key: &str| metadata.get(key).and_then(|value| value.to_str().ok());
    let bearer = text("authorization").and_then(|value| value.strip_prefix("Bearer "));
    let token = bearer.ok_or_else(|| {
        let message = "the stream brings no bearer token: set token_file in the worker's file";
        Refusal::new(ErrorCode::Unauthenticated, message)
    })?;
    let missing = |what: &str| {
        let message = format!("the stream does not say {what}: upgrade the worker");
        Refusal::new(ErrorCode::Malformed, message)
    };
    let name = text(WORKER).ok_or_else(|| missing("which worker it is of"))?;
    let name = Name::new(name).map_err(|e| Refusal::new(ErrorCode::InvalidValue, e))?;
    let incarnation = text(INCARNATION)
        .filter(|text| text.len() == 32)
        .and_then(|text| u128::from_str_radix(text, 16).ok())
        .ok_or_else(|| missing("which incarnation of the worker it is of"))?;
    let token = token_hash(token.trim());
    Ok(Caller { name, incarnation: Incarnation(incarnation), token })
}

/// Whether a token opens worker streams now.
pub(crate) fn permit(state: &State, token: &TokenHash) -> Result<(), Refusal> {
    if state.settings().is_none() {
        let message = "this node does not know the cluster's tokens yet: try again";
        return Err(Refusal::new(ErrorCode::Unavailable, message));
    }
    match state.token_by_hash(token).map(|(_, token)| token.purpose) {
        Some(TokenPurpose::Admin) => Ok(()),
        Some(TokenPurpose::Join) => {
            let message = "a join token lets nodes in, not workers: use the cluster's own token";
            Err(Refusal::new(ErrorCode::Denied, message))
        }
        None => {
            let message = "the cluster does not know this token: correct the worker's token_file";
            Err(Refusal::new(ErrorCode::Unauthenticated, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_must_say_who_it_is_of() {
        let mut metadata = MetadataMap::new();
        let code = |metadata: &MetadataMap| caller(metadata).err().map(|refusal| refusal.code);
        assert_eq!(code(&metadata), Some(ErrorCode::Unauthenticated));
        metadata.insert("authorization", "Bearer secret".parse().unwrap());
        assert_eq!(code(&metadata), Some(ErrorCode::Malformed));
        metadata.insert(WORKER, "Not A Name".parse().unwrap());
        assert_eq!(code(&metadata), Some(ErrorCode::InvalidValue));
        metadata.insert(WORKER, "w1".parse().unwrap());
        metadata.insert(INCARNATION, "12".parse().unwrap());
        assert_eq!(code(&metadata), Some(ErrorCode::Malformed));
        metadata.insert(INCARNATION, format!("{:032x}", 7).parse().unwrap());
        let caller = caller(&metadata).ok().unwrap();
        assert_eq!((caller.name.as_str(), caller.incarnation), ("w1", Incarnation(7)));
        let hash = token_hash("secret");
        assert_eq!(caller.token, hash);
        let refused = permit(&State::default(), &hash).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Unavailable);
    }
}
