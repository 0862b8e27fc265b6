//! The one table of error codes: what each means on every surface.
//!
//! A code is stable for ever; HTTP status, gRPC code, exit code and whether a
//! client should try again follow from it and are decided nowhere else. README
//! lists the same rows, and a test compares them.

use std::fmt;

/// Exit codes of the command line.
pub mod exit {
    /// All went well.
    pub const OK: u8 = 0;
    /// It did not work.
    pub const FAILED: u8 = 1;
    /// The command or its input is wrong.
    pub const USAGE: u8 = 2;
    /// The thing named does not exist.
    pub const NOT_FOUND: u8 = 3;
    /// The thing is in another state than the command needs.
    pub const CONFLICT: u8 = 4;
    /// Not with this token.
    pub const DENIED: u8 = 5;
    /// The cluster cannot answer now.
    pub const UNAVAILABLE: u8 = 6;
    /// The configuration is wrong.
    pub const BAD_CONFIG: u8 = 64;
}

/// Declares the rows: name, code, HTTP status, gRPC code, exit code, try again?, title.
macro_rules! error_codes {
    ($($(#[$doc:meta])* $name:ident $code:literal $http:literal $grpc:ident $exit:ident $retry:literal $title:literal;)*) => {
        /// What went wrong, as a client's program reads it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ErrorCode {
            $($(#[$doc])* $name,)*
        }

        impl ErrorCode {
            /// Every row, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The row whose stable word this is.
            #[must_use]
            pub fn named(code: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|row| row.code() == code)
            }

            /// The stable word in `code` of a problem body.
            #[must_use]
            pub fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)* }
            }

            /// HTTP status.
            #[must_use]
            pub fn http(self) -> u16 {
                match self { $(Self::$name => $http,)* }
            }

            /// gRPC status.
            #[must_use]
            pub fn grpc(self) -> tonic::Code {
                match self { $(Self::$name => tonic::Code::$grpc,)* }
            }

            /// Exit code of the command line.
            #[must_use]
            pub fn exit(self) -> u8 {
                match self { $(Self::$name => exit::$exit,)* }
            }

            /// True if the same request may succeed later, unchanged.
            #[must_use]
            pub fn retryable(self) -> bool {
                match self { $(Self::$name => $retry,)* }
            }

            /// A short title for people.
            #[must_use]
            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)* }
            }
        }
    };
}

error_codes! {
    /// The body is not JSON, or not of the form expected.
    Malformed "malformed" 400 InvalidArgument USAGE false "The request cannot be read";
    /// A field has a value it cannot have.
    InvalidValue "invalid_value" 400 InvalidArgument USAGE false "A value is not allowed";
    /// A field that does not exist.
    UnknownField "unknown_field" 400 InvalidArgument USAGE false "There is no such field";
    /// A cron expression that cannot be read.
    BadCron "bad_cron" 400 InvalidArgument USAGE false "The cron expression is wrong";
    /// A zone that the bundled database does not hold.
    UnknownZone "unknown_zone" 400 InvalidArgument USAGE false "There is no such time zone";
    /// Dependencies that would close a circle.
    DependencyCycle "dependency_cycle" 422 FailedPrecondition USAGE false "Dependencies form a cycle";
    /// An upstream job that does not exist.
    MissingUpstream "missing_upstream" 422 FailedPrecondition USAGE false "An upstream job does not exist";
    /// A request id that was used with another body.
    RequestReused "request_reused" 422 InvalidArgument CONFLICT false "The request id was used with another body";
    /// A request id older than what is remembered.
    RequestExpired "request_expired" 422 FailedPrecondition CONFLICT false "The request id is too old";
    /// Larger than the limit.
    TooLarge "too_large" 413 ResourceExhausted USAGE false "Too large";
    /// No token, or one that does not exist.
    Unauthenticated "unauthenticated" 401 Unauthenticated DENIED false "A valid token is needed";
    /// The token may not do this.
    Denied "denied" 403 PermissionDenied DENIED false "The token may not do this";
    /// The address exists, the method does not.
    MethodNotAllowed "method_not_allowed" 405 Unimplemented USAGE false "This address does not know the method";
    /// The thing named does not exist.
    NotFound "not_found" 404 NotFound NOT_FOUND false "It does not exist";
    /// Compare-and-set failed.
    WrongRevision "wrong_revision" 412 FailedPrecondition CONFLICT false "It has another revision";
    /// The thing is in a state that does not allow this.
    Conflict "conflict" 409 FailedPrecondition CONFLICT false "Its state does not allow this";
    /// Someone else holds the lock.
    LockTaken "lock_taken" 409 FailedPrecondition CONFLICT true "The lock is taken";
    /// A limit of the cluster is reached.
    LimitReached "limit_reached" 429 ResourceExhausted UNAVAILABLE true "A limit is reached";
    /// There is no leader, or it did not answer in time; nothing was written.
    Unavailable "unavailable" 503 Unavailable UNAVAILABLE true "The cluster cannot answer now";
    /// The write may or may not have happened.
    OutcomeUnknown "outcome_unknown" 503 Unavailable UNAVAILABLE false "The outcome is unknown";
    /// A fault of ours; the log has the detail under the request's id.
    Internal "internal" 500 Internal FAILED false "An internal error";
    /// The configuration is wrong; never sent over a wire.
    BadConfig "bad_config" 500 Internal BAD_CONFIG false "The configuration is wrong";
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.code())
    }
}

/// A value that a user gave and that cannot be taken: which field, which value,
/// and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct FieldError {
    /// What kind of mistake.
    pub code: ErrorCode,
    /// Path of the field, such as `triggers[0].cron`.
    pub field: String,
    /// The value as given, cut at 200 characters.
    pub value: String,
    /// What is wrong with it.
    pub problem: String,
    /// What to write instead.
    pub remedy: String,
    /// The value with a mark under the part at fault, on two lines.
    pub caret: Option<Box<str>>,
}

impl FieldError {
    /// An [`ErrorCode::InvalidValue`].
    pub fn invalid(
        field: impl Into<String>,
        value: impl fmt::Display,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) -> Self {
        Self {
            code: ErrorCode::InvalidValue,
            field: field.into(),
            value: value.to_string().chars().take(200).collect(),
            problem: problem.into(),
            remedy: remedy.into(),
            caret: None,
        }
    }

    /// The same with another code.
    #[must_use]
    pub fn with_code(mut self, code: ErrorCode) -> Self {
        self.code = code;
        self
    }

    /// The same with the place shown.
    #[must_use]
    pub fn with_caret(mut self, caret: Option<String>) -> Self {
        self.caret = caret.map(String::into_boxed_str);
        self
    }
}

/// An error and all that caused it, in one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |e| e.source())
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn codes_are_unique_words() {
        let codes: BTreeSet<&str> = ErrorCode::ALL.iter().map(|c| c.code()).collect();
        assert_eq!(codes.len(), ErrorCode::ALL.len());
        for code in codes {
            assert!(code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{code}");
        }
    }

    #[test]
    fn users_mistakes_are_4xx_and_never_retryable_as_they_are() {
        for code in ErrorCode::ALL.iter().filter(|c| c.exit() == exit::USAGE) {
            assert!((400..500).contains(&code.http()), "{code}");
            assert!(!code.retryable(), "{code}");
        }
    }

    #[test]
    fn readme_lists_every_row_as_it_is() {
        let readme = include_str!("../README.md");
        for code in ErrorCode::ALL {
            let row = format!(
                "| `{code}` | {} | {:?} | {} | {} |",
                code.http(),
                code.grpc(),
                code.exit(),
                if code.retryable() { "yes" } else { "no" }
            );
            assert!(readme.contains(&row), "README lacks the row\n{row}");
        }
    }
}
