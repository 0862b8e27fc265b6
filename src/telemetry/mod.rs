//! What a process says of itself: the log, and what becomes of a panic.
//!
//! Nothing is logged per fire: what happened to a run is in the state, and is
//! asked for there. Standard output is left to data.

mod panic;

#[cfg(test)]
pub(crate) use panic::abort_on_panic;
pub use panic::survivable;

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

use crate::config::{LogFormat, LogSection};

/// Libraries whose ordinary course is of no interest to an operator. openraft warns
/// of each message that does not reach a node that is down, again and again.
const QUIET: [(&str, LevelFilter); 5] = [
    ("openraft", LevelFilter::ERROR),
    ("sled", LevelFilter::WARN),
    ("h2", LevelFilter::WARN),
    ("hyper", LevelFilter::WARN),
    ("tower", LevelFilter::WARN),
];

/// Starts the log on standard error, and makes every panic end the process. A
/// second call changes nothing.
pub fn start(config: &LogSection) {
    let filter = filter(&config.level);
    let registry = tracing_subscriber::registry();
    let started = match config.format {
        LogFormat::Text => {
            let colour = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            let lines = fmt::layer().with_writer(io::stderr).with_ansi(colour);
            registry.with(lines.with_filter(filter)).try_init()
        }
        LogFormat::Json => {
            let lines = fmt::layer().json().flatten_event(true).with_writer(io::stderr);
            registry.with(lines.with_filter(filter)).try_init()
        }
    };
    if started.is_ok() {
        panic::abort_on_panic();
    }
}

/// The level as configured; libraries stay quiet unless they are named.
fn filter(level: &str) -> Targets {
    // It was checked with the rest of the configuration.
    let asked = level.parse().unwrap_or_else(|_| Targets::new().with_default(LevelFilter::INFO));
    let named: Vec<String> = asked.iter().map(|(target, _)| target.to_owned()).collect();
    let most = asked.default_level().unwrap_or(LevelFilter::INFO);
    QUIET
        .into_iter()
        .filter(|(quiet, _)| !named.iter().any(|name| name.starts_with(quiet)))
        .fold(asked, |targets, (quiet, limit)| targets.with_target(quiet, limit.min(most)))
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;

    #[test]
    fn libraries_are_quiet_unless_they_are_asked_for() {
        let info = filter("info");
        assert!(info.would_enable("horai::session", &Level::INFO));
        assert!(!info.would_enable("openraft", &Level::WARN));
        assert!(info.would_enable("openraft", &Level::ERROR));
        assert!(info.would_enable("sled", &Level::WARN));
        assert!(!filter("error").would_enable("sled", &Level::WARN));
        assert!(!filter("off").would_enable("horai", &Level::ERROR));
        let named = filter("info,openraft=debug,horai::session=trace");
        assert!(named.would_enable("openraft", &Level::DEBUG));
        assert!(named.would_enable("horai::session::beats", &Level::TRACE));
        assert!(!named.would_enable("horai::worker", &Level::DEBUG));
    }
}
