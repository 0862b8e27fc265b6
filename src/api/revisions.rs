//! Revisions: what a client says that it expects of what is there, and how answers tell it.
//! Whether a revision is the one expected is judged by the machine; only that there is
//! something at all (`If-Match: *`) is looked up before.

use axum::Json;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use horai_core::ids::Revision;
use serde::Serialize;

use super::problem::Fault;
use crate::error::FieldError;

/// What the client thinks is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Expected {
    /// Whatever it is, it must exist.
    Something,
    /// This revision; 0 = it must not exist.
    Revision(Revision),
}

impl Expected {
    /// What `If-Match` or `If-None-Match` says.
    pub(super) fn read(headers: &HeaderMap) -> Result<Option<Self>, Fault> {
        let wrong = |name: &str, value: &HeaderValue, remedy: &str| {
            let shown = String::from_utf8_lossy(value.as_bytes()).into_owned();
            Fault::from(FieldError::invalid(name, shown, "this is no revision", remedy))
        };
        if let Some(value) = headers.get(header::IF_NONE_MATCH) {
            if value != "*" || headers.contains_key(header::IF_MATCH) {
                let remedy = "write * for what must not exist; else use If-Match";
                return Err(wrong("If-None-Match", value, remedy));
            }
            return Ok(Some(Self::Revision(Revision(0))));
        }
        let Some(value) = headers.get(header::IF_MATCH) else { return Ok(None) };
        if value == "*" {
            return Ok(Some(Self::Something));
        }
        let text = value.to_str().unwrap_or_default().trim().trim_matches('"');
        let revision = text.parse().ok().filter(|revision| *revision > 0);
        let revision = revision.map(|revision| Self::Revision(Revision(revision)));
        revision.map(Some).ok_or_else(|| wrong("If-Match", value, "write the ETag, such as \"3\""))
    }
}

/// What is there, with its revision as the tag that `If-Match` takes.
pub(super) fn tagged(revision: u64, body: impl Serialize) -> Response {
    let tag = HeaderValue::try_from(format!("\"{revision}\""))
        .expect("digits and quotes are visible ASCII");
    ([(header::ETAG, tag)], Json(body)).into_response()
}

/// The answer to a put: whether it has created something, and the revision since.
pub(super) fn stored(revision: u64, changed: bool, body: impl Serialize) -> Response {
    let is_new = changed && revision == 1;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    (status, tagged(revision, body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_first_revision_that_was_just_made_is_created() {
        for (revision, changed, status) in [
            (1, true, StatusCode::CREATED),
            (1, false, StatusCode::OK),
            (2, true, StatusCode::OK),
            (2, false, StatusCode::OK),
        ] {
            let answer = stored(revision, changed, ());
            assert_eq!(answer.status(), status, "{revision}, {changed}");
            assert_eq!(answer.headers()[header::ETAG], format!("\"{revision}\""));
        }
    }

    #[test]
    fn expectations_are_read_from_their_headers() {
        let read = |named: &[(&'static str, &'static str)]| {
            let value = |text| HeaderValue::from_static(text);
            let named = named
                .iter()
                .map(|(name, text)| (header::HeaderName::from_static(name), value(text)));
            Expected::read(&named.collect())
        };
        assert_eq!(read(&[]).unwrap(), None);
        assert_eq!(read(&[("if-match", "*")]).unwrap(), Some(Expected::Something));
        let third = Some(Expected::Revision(Revision(3)));
        assert_eq!(read(&[("if-match", "\"3\"")]).unwrap(), third);
        assert_eq!(read(&[("if-match", "3")]).unwrap(), third);
        let none = Some(Expected::Revision(Revision(0)));
        assert_eq!(read(&[("if-none-match", "*")]).unwrap(), none);
        for wrong in [
            &[("if-match", "0")][..],
            &[("if-match", "three")],
            &[("if-none-match", "3")],
            &[("if-none-match", "*"), ("if-match", "3")],
        ] {
            assert!(read(wrong).is_err(), "{wrong:?}");
        }
    }
}
