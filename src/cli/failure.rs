//! How a command fails: what went wrong, what to do, and the exit code.

use std::io::{self, Write};
use std::process::ExitCode;

use horai_raft::membership::Closed;

use crate::config::ConfigError;
use crate::error::{FieldError, chain, exit};
use crate::server;

/// A failure as a person reads it.
#[derive(Debug)]
pub(super) struct Failure {
    message: String,
    hint: String,
    exit: u8,
    /// False when the reader of the answer is gone, as in `horai run list | head`:
    /// that is no mistake of anyone, and other programs are silent then, too.
    told: bool,
}

impl Failure {
    pub(super) fn new(message: impl Into<String>, hint: impl Into<String>, exit: u8) -> Self {
        Self { message: message.into(), hint: hint.into(), exit, told: true }
    }

    /// A field of a job in a file.
    pub(super) fn of_field(place: &str, error: &FieldError) -> Self {
        Self::new(
            format!("{place}: {error} ({:?})", error.value),
            error.remedy.clone(),
            error.code.exit(),
        )
        .marked(error.caret.as_deref())
    }

    /// The same with a value under it in which the part at fault is marked.
    pub(super) fn marked(mut self, caret: Option<&str>) -> Self {
        self.message.extend(caret.into_iter().flat_map(|lines| ["\n", lines]));
        self
    }

    /// A node that does not run.
    pub(super) fn of_server(error: &server::Error) -> Self {
        use horai_raft::open::Error as Open;
        let (hint, exit) = match error {
            server::Error::Bind { .. } => ("is another node running here?", exit::BAD_CONFIG),
            server::Error::Store(Open::NotCreated(_)) => (
                "`horai cluster init` founds a cluster, `horai cluster join` enters one; a node \
                 that lost its disk comes back by `horai cluster replace`",
                exit::FAILED,
            ),
            server::Error::Store(error) => (of_store(error), exit::FAILED),
            server::Error::Secrets(_) => (
                "the file is made by `horai secret keygen --out FILE` and the same on all nodes; \
                 without [secrets] the node runs, and jobs that need one wait while it leads",
                exit::BAD_CONFIG,
            ),
            server::Error::Closed(Closed::Removed) => {
                ("with an empty data_dir, `horai cluster join` makes it a new node", exit::FAILED)
            }
            server::Error::Closed(_) => {
                ("check disk and log; if the store is lost, `horai cluster replace`", exit::FAILED)
            }
            server::Error::Logs { .. } => (
                "give the node its data_dir; logs that are lost are filled again by the others",
                exit::FAILED,
            ),
            server::Error::NotTaken(_) => {
                ("`horai cluster join` or `replace` with an empty data_dir", exit::FAILED)
            }
            server::Error::Raft(_)
            | server::Error::Founding(_)
            | server::Error::Joining(_)
            | server::Error::Port { .. } => {
                ("the log above may say more; start the node again", exit::FAILED)
            }
        };
        Self::new(chain(error), hint, exit)
    }

    /// Prints message and hint; the answer is the process's exit code.
    pub(super) fn report(&self, err: &mut impl Write) -> ExitCode {
        if !self.told {
            return ExitCode::from(self.exit);
        }
        let printed = writeln!(err, "error: {}\nhint: {}", self.message, self.hint);
        // A broken standard error leaves the exit code as the only word.
        ExitCode::from(if printed.is_ok() { self.exit } else { exit::FAILED })
    }
}

/// Prints what is wrong with the arguments; the answer is the process's exit code.
pub(super) fn report_usage(error: &clap::Error, err: &mut impl Write) -> ExitCode {
    let printed = err.write_all(usage(error).as_bytes());
    ExitCode::from(if printed.is_ok() { exit::USAGE } else { exit::FAILED })
}

/// The parser's words, which end with a hint as all others do.
fn usage(error: &clap::Error) -> String {
    use clap::error::{ContextKind, ContextValue, ErrorKind};
    let text = error.render().to_string();
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return format!("{}\nhint: give one of these commands\n", text.trim_end());
    }
    let help = "For more information, try";
    let told = text.split(help).next().unwrap_or_default().trim_end();
    let words = |kind| match error.get(kind) {
        Some(ContextValue::String(one)) => Some(one.clone()),
        Some(ContextValue::Strings(some)) if !some.is_empty() => Some(some.join(", ")),
        _ => None,
    };
    let hint = words(ContextKind::ValidValue)
        .map(|known| format!("write one of {known}"))
        .or_else(|| words(ContextKind::SuggestedArg).map(|near| format!("did you mean {near}?")))
        .or_else(|| {
            words(ContextKind::SuggestedSubcommand).map(|near| format!("did you mean {near}?"))
        });
    let hint = hint.unwrap_or_else(|| "the same command with --help says what it takes".to_owned());
    format!("{told}\nhint: {hint}\n")
}

/// What to do about a store, beside what the error itself says.
fn of_store(error: &horai_raft::open::Error) -> &'static str {
    use horai_raft::open::Error as Open;
    match error {
        Open::Full(_) => "the other nodes go on meanwhile, and this one catches up by itself",
        Open::InUse(_) => "each node needs a data_dir of its own",
        Open::Newer { .. } => {
            "the other nodes go on meanwhile; a store never goes back to an older format"
        }
        Open::Retired(_) => "the cluster goes on without it; what it held is on the other nodes",
        Open::Io(_) | Open::NotCreated(_) | Open::Exists(_) => {
            "the other nodes go on meanwhile; start this one again when that is put right"
        }
        Open::NoIdentity
        | Open::Empty(_)
        | Open::BelowIdentity { .. }
        | Open::Foreign { .. }
        | Open::Damaged { .. }
        | Open::Suspect { .. } => {
            "the other nodes go on meanwhile; here: horai cluster replace NUMBER --config FILE \
             --to HOST:PORT --token TOKEN (horai cluster token makes one)"
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        let message = format!("cannot write the answer: {error}");
        let told = error.kind() != io::ErrorKind::BrokenPipe;
        Self { told, ..Self::new(message, "see where the output goes", exit::FAILED) }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let cause = std::error::Error::source(&error).map(|c| format!(": {c}")).unwrap_or_default();
        let hint = match &error {
            ConfigError::Unreadable { .. } => "check the path and its permissions",
            ConfigError::Override { .. } => "correct the variable or take it away",
            ConfigError::Malformed { .. } | ConfigError::Refused { .. } => {
                "correct the line; config/ holds commented samples"
            }
        };
        Self::new(format!("{error}{cause}"), hint, exit::BAD_CONFIG)
    }
}

impl From<crate::demo::Error> for Failure {
    fn from(error: crate::demo::Error) -> Self {
        Self::new(chain(&error), error.hint(), error.exit())
    }
}

impl From<crate::bench::Error> for Failure {
    fn from(error: crate::bench::Error) -> Self {
        Self::new(chain(&error), error.hint(), error.exit())
    }
}

#[cfg(test)]
mod tests {
    use clap::{Arg, Command};

    use super::*;

    #[test]
    fn the_parsers_errors_end_with_a_hint() {
        let command = Command::new("x")
            .arg(Arg::new("existing").long("existing").value_parser(["keep", "rerun"]))
            .arg(Arg::new("n").long("priority").value_parser(clap::value_parser!(u8).range(0..=9)));
        for (words, begin, hint) in [
            (["x", "--existing", "foo"], "error: invalid value 'foo'", "write one of keep, rerun"),
            (["x", "--existin", "keep"], "error: unexpected argument", "did you mean --existing?"),
            (
                ["x", "--priority", "77"],
                "error: invalid value '77'",
                "the same command with --help says what it takes",
            ),
        ] {
            let error = command.clone().try_get_matches_from(words).unwrap_err();
            let said = usage(&error);
            assert!(said.starts_with(begin), "{said}");
            assert!(said.ends_with(&format!("\nhint: {hint}\n")), "{said}");
            assert!(!said.contains("For more information"), "{said}");
        }
    }
}
