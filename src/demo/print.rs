//! The demo's lines: one for each thing that happened, in words.
//!
//! `TIME  WORD  WHO  DETAIL`, with colour only where a person watches. It formats
//! and writes; what happened is for others to find out.

use std::fmt::Display;
use std::io::{self, Write};

use horai_core::time::UtcMillis;

use super::ledger::LATE_AFTER;
use crate::api::dto::{AttemptDto, EndDto, RunDto};

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    /// Somebody leads.
    Election,
    /// An attempt of a job.
    Fire,
    /// A further attempt.
    Retry,
    /// A run that failed for good.
    Failed,
    /// A process ended.
    Killed,
    /// A process was started again.
    Restart,
    /// Anything else.
    Note,
}

impl Word {
    fn text(self) -> &'static str {
        match self {
            Self::Election => "election",
            Self::Fire => "fire",
            Self::Retry => "retry",
            Self::Failed => "failed",
            Self::Killed => "killed",
            Self::Restart => "restart",
            Self::Note => "note",
        }
    }

    /// Escape sequence of its colour.
    fn colour(self) -> &'static str {
        match self {
            Self::Election | Self::Restart => "\x1b[36m",
            Self::Fire => "\x1b[32m",
            Self::Retry => "\x1b[33m",
            Self::Failed | Self::Killed => "\x1b[31m",
            Self::Note => "\x1b[2m",
        }
    }
}

/// Writes lines.
pub(super) struct Printer<W> {
    out: W,
    colour: bool,
}

impl<W: Write> Printer<W> {
    pub(super) fn new(out: W, colour: bool) -> Self {
        Self { out, colour }
    }

    /// A line as it is.
    pub(super) fn plain(&mut self, text: impl Display) -> io::Result<()> {
        writeln!(self.out, "{text}")?;
        self.out.flush()
    }

    /// A line of the stream.
    pub(super) fn line(&mut self, word: Word, who: &str, detail: &str) -> io::Result<()> {
        let time = jiff::Timestamp::now().strftime("%H:%M:%S%.3f");
        let (on, off) = if self.colour { (word.colour(), "\x1b[0m") } else { ("", "") };
        writeln!(self.out, "{time}  {on}{:<8}{off}  {who:<28}  {detail}", word.text())?;
        self.out.flush()
    }

    /// An attempt that ended.
    pub(super) fn attempt(&mut self, run: &RunDto, attempt: &AttemptDto) -> io::Result<()> {
        let word = if attempt.number == 1 { Word::Fire } else { Word::Retry };
        let who = run.action.as_ref().map_or_else(|| run.job.clone(), ToString::to_string);
        self.line(word, &who, &describe(run, attempt))
    }
}

/// When the run's first attempt should have started.
fn due(run: &RunDto) -> UtcMillis {
    if run.kind == "dependency" { run.ready_at.0 } else { run.nominal.0 }
}

/// `12 ms late, 31 ms on worker-1, exit 0`
fn describe(run: &RunDto, attempt: &AttemptDto) -> String {
    let mut parts = Vec::new();
    match attempt.started {
        Some(started) if attempt.number == 1 => {
            let late = started.0.since(due(run));
            let much = if late > LATE_AFTER { ", LATE" } else { "" };
            let after = if run.kind == "dependency" { "after its upstream" } else { "late" };
            parts.push(format!("{} ms {after}{much}", late.0));
        }
        Some(_) => parts.push(format!("attempt {} ({})", attempt.number, attempt.cause)),
        None => parts.push("never started".to_owned()),
    }
    if let (Some(started), Some(ended)) = (attempt.started, attempt.ended) {
        parts.push(format!("{} ms on {}", ended.0.since(started.0).0, attempt.worker));
    } else {
        parts.push(format!("on {}", attempt.worker));
    }
    if let Some(end) = &attempt.end {
        let next =
            if run.state == "backoff" && is_last(run, attempt) { ", again soon" } else { "" };
        parts.push(format!("{}{next}", ending(end)));
    }
    parts.join(", ")
}

fn is_last(run: &RunDto, attempt: &AttemptDto) -> bool {
    run.attempts.last().is_some_and(|last| last.number == attempt.number)
}

/// `exit 0`, `signal 9`, `worker lost`
pub(super) fn ending(end: &EndDto) -> String {
    match (end.code, end.signal, &end.message) {
        (Some(code), _, _) => format!("exit {code}"),
        (_, Some(signal), _) => format!("signal {signal}"),
        (_, _, Some(message)) => format!("not started: {message}"),
        _ => end.how.replace('_', " "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(kind: &str, state: &str, end: serde_json::Value) -> RunDto {
        serde_json::from_value(serde_json::json!({
            "id": "r-7", "kind": kind, "job": "a", "revision": 1,
            "action": "a@20261121T030005Z", "nominal": "2026-11-21T03:00:05.000Z",
            "state": state, "created": "2026-11-21T03:00:05.001Z",
            "ready_at": "2026-11-21T03:00:05.902Z", "finished": null, "retries": 0,
            "losses": 0, "cancel_requested": false,
            "attempts": [{
                "id": "r-7.1", "number": 1, "token": 1, "worker": "worker-1",
                "cause": "first", "dispatched": "2026-11-21T03:00:05.003Z",
                "started": "2026-11-21T03:00:06.012Z", "ended": "2026-11-21T03:00:06.043Z",
                "end": end, "output_bytes": 0,
            }],
        }))
        .unwrap()
    }

    #[test]
    fn a_line_says_how_late_where_and_how_it_ended() {
        let ok = serde_json::json!({"how": "exited", "code": 0, "at": "2026-11-21T03:00:09Z"});
        let lost = serde_json::json!({"how": "worker_lost", "at": "2026-11-21T03:00:09Z"});
        let said = |run: RunDto| describe(&run, &run.attempts[0]);
        assert_eq!(
            said(run("schedule", "success", ok.clone())),
            "1012 ms late, LATE, 31 ms on worker-1, exit 0"
        );
        assert_eq!(
            said(run("dependency", "success", ok)),
            "110 ms after its upstream, 31 ms on worker-1, exit 0"
        );
        assert!(said(run("schedule", "backoff", lost)).ends_with("worker lost, again soon"));
    }

    #[test]
    fn colours_are_only_for_people() {
        let mut out = Vec::new();
        Printer::new(&mut out, false).line(Word::Fire, "a", "b").unwrap();
        assert!(!out.contains(&0x1b));
        Printer::new(&mut out, true).line(Word::Fire, "a", "b").unwrap();
        assert!(out.contains(&0x1b));
    }
}
