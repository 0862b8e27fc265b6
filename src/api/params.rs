//! Query parameters and path segments, read with errors that name them; and
//! lists, cut into pages.

use std::fmt;
use std::str::FromStr;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use horai_core::ids::Name;
use serde::de::DeserializeOwned;

use super::problem::Fault;
use crate::error::{ErrorCode, FieldError};

/// Entries of a page if nothing is said.
const DEFAULT_PAGE: usize = 100;
/// The most entries of a page.
const MAX_PAGE: usize = 1_000;
/// The longest query text.
const MAX_QUERY: usize = 8 << 10;

/// The parameters of a read.
#[derive(Debug)]
pub(super) struct Params(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Fault> {
        let query = parts.uri.query().unwrap_or_default();
        if query.len() > MAX_QUERY {
            let detail = format!("a query of {} bytes", query.len());
            let remedy = format!("at most {MAX_QUERY} bytes");
            return Err(Fault::new(ErrorCode::TooLarge, detail, remedy));
        }
        let read = axum::extract::Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        let axum::extract::Query(pairs) = read.map_err(|e| {
            let remedy = "write name=value&name=value, percent-encoded";
            Fault::new(ErrorCode::Malformed, format!("the query cannot be read: {e}"), remedy)
        })?;
        Ok(Self(pairs))
    }
}

impl Params {
    /// Refuses what is none of `known` (every read takes `consistency`), and
    /// what is given twice.
    pub(super) fn only(self, known: &[&str]) -> Result<Self, Fault> {
        for (i, (name, value)) in self.0.iter().enumerate() {
            if name.is_empty() {
                let detail = format!("the query has a value without a name: {value:.100}");
                let remedy = "write name=value&name=value, percent-encoded";
                return Err(Fault::new(ErrorCode::Malformed, detail, remedy));
            }
            if name != "consistency" && !known.contains(&name.as_str()) {
                let known = [known, &["consistency"]].concat().join(", ");
                let error = FieldError::invalid(
                    name.chars().take(100).collect::<String>(),
                    value,
                    "there is no such parameter",
                    format!("leave it out; there are {known}"),
                );
                return Err(error.with_code(ErrorCode::UnknownField).into());
            }
            if self.0.iter().take(i).any(|(other, _)| other == name) {
                let problem = "the parameter is given twice";
                return Err(FieldError::invalid(name, value, problem, "give it once").into());
            }
        }
        Ok(self)
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The value, of whatever kind; the kind's error says what would be right.
    pub(super) fn parse<T>(&self, name: &str) -> Result<Option<T>, Fault>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        let read = |text: &str| text.parse().map_err(|e| wrong(name, text, &e).into());
        self.get(name).map(read).transpose()
    }

    /// Entries of a page.
    pub(super) fn limit(&self) -> Result<usize, Fault> {
        let Some(text) = self.get("limit") else { return Ok(DEFAULT_PAGE) };
        text.parse().ok().filter(|limit| (1..=MAX_PAGE).contains(limit)).ok_or_else(|| {
            let remedy = format!("write 1 to {MAX_PAGE}");
            FieldError::invalid("limit", text, "no page is that long", remedy).into()
        })
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, Fault> {
        match self.get(name) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => {
                let problem = "this is neither true nor false";
                Err(FieldError::invalid(name, other, problem, "write true or false").into())
            }
        }
    }

    /// True if the answer may be behind.
    pub(super) fn is_stale(&self) -> Result<bool, Fault> {
        match self.get("consistency") {
            None | Some("linearizable") => Ok(false),
            Some("stale") => Ok(true),
            Some(other) => {
                let problem = "there is no such consistency";
                let remedy = "write linearizable (default) or stale";
                Err(FieldError::invalid("consistency", other, problem, remedy).into())
            }
        }
    }
}

fn wrong(field: &str, value: &str, error: &dyn fmt::Display) -> FieldError {
    let told = error.to_string();
    let remedy = told.split_once(": ").map_or("correct it", |(_, remedy)| remedy).to_owned();
    FieldError::invalid(field, value, told, remedy)
}

/// The one variable part of an address.
pub(super) struct Segment(String);

impl<S: Send + Sync> FromRequestParts<S> for Segment {
    type Rejection = Fault;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Fault> {
        Ok(Self(segments(parts, state).await?))
    }
}

/// The variable parts of an address.
pub(super) async fn segments<T>(parts: &mut Parts, state: &(impl Send + Sync)) -> Result<T, Fault>
where
    T: DeserializeOwned + Send,
{
    let read = Path::<T>::from_request_parts(parts, state).await;
    read.map(|Path(found)| found).map_err(|e: PathRejection| {
        let remedy = "percent-encode the names as UTF-8";
        Fault::new(ErrorCode::Malformed, format!("the address cannot be read: {e}"), remedy)
    })
}

impl Segment {
    /// As a name, of whatever it is.
    pub(super) fn name(&self) -> Result<Name, Fault> {
        self.parse("name")
    }

    /// As whatever kind.
    pub(super) fn parse<T>(&self, field: &str) -> Result<T, Fault>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        self.0.parse().map_err(|e| wrong(field, &self.0, &e).into())
    }
}

/// Up to `limit` entries, and where the next page begins: `key` of the last one.
pub(super) fn page<S, T>(
    source: impl Iterator<Item = S>,
    limit: usize,
    key: impl Fn(&S) -> String,
    show: impl Fn(S) -> T,
) -> super::dto::Page<T> {
    let mut source = source.peekable();
    let mut items = Vec::with_capacity(limit.min(DEFAULT_PAGE));
    let mut next = None;
    while let Some(entry) = source.next() {
        let is_last = items.len() + 1 == limit;
        if is_last && source.peek().is_some() {
            next = Some(key(&entry));
        }
        items.push(show(entry));
        if is_last {
            break;
        }
    }
    super::dto::Page { items, next }
}
