//! Retries as a person writes them: how many, after which waits, and for which ends.

use horai_core::model::job::{Backoff, JobSpec, RetryPolicy};
use horai_core::model::retry::{CodeProblem, RetryRules};
use horai_core::time::Span;
use serde::{Deserialize, Serialize};

use super::definition_parts::{at_most, span, span_or};
use crate::error::FieldError;

/// Retries, as written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetryDefinition {
    /// Tries after the first, 0 to 100.
    pub count: u32,
    /// Wait before a retry; default `10s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff: Option<String>,
    /// If given, the wait doubles each time up to this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_cap: Option<String>,
    /// Each wait is up to so much longer, by a stable share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jitter: Option<String>,
    /// If given, no other exit codes are tried again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub retry_on: Vec<i32>,
    /// Exit codes that are not tried again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub never_on: Vec<i32>,
}

impl RetryDefinition {
    /// Checks count and waits.
    ///
    /// # Errors
    /// The first field that cannot be taken, with value and remedy.
    pub(super) fn to_policy(&self) -> Result<RetryPolicy, FieldError> {
        if self.count > JobSpec::MAX_RETRIES {
            return Err(FieldError::invalid(
                "retries.count",
                self.count,
                "too many retries",
                format!("write 0 to {}", JobSpec::MAX_RETRIES),
            ));
        }
        let first = span_or("retries.backoff", self.backoff.as_deref(), Span::secs(10))?;
        let backoff = match self.backoff_cap.as_deref() {
            None => Backoff::Fixed { delay: first },
            Some(text) => {
                let cap = span("retries.backoff_cap", text)?;
                if cap < first {
                    return Err(FieldError::invalid(
                        "retries.backoff_cap",
                        text,
                        format!("the cap is shorter than the first wait of {first}"),
                        "make it longer, or leave it out for a fixed wait",
                    ));
                }
                Backoff::Exponential { initial: first, cap }
            }
        };
        Ok(RetryPolicy { count: self.count, backoff })
    }

    /// Written down; defaults are left out.
    pub(super) fn of_spec(spec: &JobSpec) -> Option<Self> {
        let RetryRules { retry_on, never_on, jitter, .. } = &spec.retry_rules;
        let has_rules = !retry_on.is_empty() || !never_on.is_empty() || *jitter != Span::ZERO;
        if spec.retries == RetryPolicy::default() && !has_rules {
            return None;
        }
        let (backoff, cap) = match spec.retries.backoff {
            Backoff::Fixed { delay } => (delay, None),
            Backoff::Exponential { initial, cap } => (initial, Some(cap)),
        };
        Some(Self {
            count: spec.retries.count,
            backoff: Some(backoff.to_string()),
            backoff_cap: cap.map(|span| span.to_string()),
            jitter: (*jitter != Span::ZERO).then(|| jitter.to_string()),
            retry_on: retry_on.clone(),
            never_on: never_on.clone(),
        })
    }
}

/// What a job says of exit codes and jitter, checked as a whole.
///
/// # Errors
/// The first field that cannot be taken, with value and remedy.
pub(super) fn rules(
    retries: Option<&RetryDefinition>,
    skip_exit_codes: &[i32],
) -> Result<RetryRules, FieldError> {
    let none = RetryDefinition::default();
    let retries = retries.unwrap_or(&none);
    let jitter = span_or("retries.jitter", retries.jitter.as_deref(), Span::ZERO)?;
    if jitter > RetryRules::MAX_JITTER {
        let remedy = format!("write at most {}", RetryRules::MAX_JITTER);
        return Err(FieldError::invalid("retries.jitter", jitter, "it is too long", remedy));
    }
    let rules = RetryRules {
        retry_on: retries.retry_on.clone(),
        never_on: retries.never_on.clone(),
        skip_on: skip_exit_codes.to_vec(),
        jitter,
    };
    let field = |list: &str| match list {
        "skip_exit_codes" => list.to_owned(),
        list => format!("retries.{list}"),
    };
    for (list, codes) in [
        ("retry_on", &rules.retry_on),
        ("never_on", &rules.never_on),
        ("skip_exit_codes", &rules.skip_on),
    ] {
        at_most(&field(list), codes.len(), RetryRules::MAX_CODES)?;
    }
    match rules.problem() {
        None => Ok(rules),
        Some(CodeProblem { list, code, problem, remedy }) => {
            Err(FieldError::invalid(field(list), code, problem, remedy))
        }
    }
}
