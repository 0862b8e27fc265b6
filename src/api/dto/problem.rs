//! An error as it is sent: RFC 9457 with a stable code and the fields at fault.

use serde::{Deserialize, Serialize};

use crate::error::{ErrorCode, FieldError};

/// What went wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{detail}")]
pub struct Problem {
    /// A stable word; the table in README explains it.
    pub code: String,
    /// A short title for people.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What happened this time.
    pub detail: String,
    /// What to do about it.
    #[serde(default)]
    pub remedy: String,
    /// The fields that cannot be taken, if that is the reason.
    #[serde(default)]
    pub errors: Vec<FieldProblem>,
}

/// A field that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldProblem {
    /// Its path, such as `jobs[2].triggers[0].cron`.
    pub field: String,
    /// The value as given, cut.
    pub value: String,
    /// What is wrong with it.
    pub problem: String,
    /// What to write instead.
    pub remedy: String,
    /// The value with `^` under the part at fault, on two lines; cron expressions have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caret: Option<String>,
}

impl Problem {
    /// A problem that no field is the reason of.
    pub fn new(code: ErrorCode, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            code: code.code().to_owned(),
            title: code.title().to_owned(),
            status: code.http(),
            detail: detail.into(),
            remedy: remedy.into(),
            errors: Vec::new(),
        }
    }

    /// The row of the table; [`ErrorCode::Internal`] for a code that this
    /// program does not know.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        ErrorCode::named(&self.code).unwrap_or(ErrorCode::Internal)
    }
}

impl From<FieldError> for Problem {
    fn from(error: FieldError) -> Self {
        let mut problem = Self::new(error.code, error.to_string(), error.remedy.clone());
        problem.errors.push(FieldProblem {
            field: error.field,
            value: error.value,
            problem: error.problem,
            remedy: error.remedy,
            caret: error.caret.map(String::from),
        });
        problem
    }
}
