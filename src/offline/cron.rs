//! When an expression fires next, and what it means.

use std::sync::Arc;

use horai_core::ids::{JobId, TriggerName};
use horai_core::model::trigger::{Dialect, DstPolicy};
use horai_core::time::{Span, UtcMillis};
use horai_core::timing::cron::{CronError, CronRule, Notice, Spread};
use horai_core::timing::next_fire;
use horai_core::timing::zone::Zone;
use serde::{Deserialize, Serialize};

use super::{error_line, instant};

/// An expression that was read, with what it takes to compute its instants.
#[derive(Debug, Clone)]
pub struct Expression {
    rule: CronRule,
    zone: Zone,
    dst: DstPolicy,
}

/// The most instants of one answer.
pub const MAX_COUNT: usize = 10_000;

/// The instants of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Next {
    /// RFC 3339 with the zone's offset, ascending.
    pub next: Vec<String>,
    /// True if there are fewer than were asked for.
    pub exhausted: bool,
}

impl Expression {
    /// Reads an expression.
    ///
    /// # Errors
    /// [`CronError`], with the place and what would be right.
    pub fn read(
        text: &str,
        dialect: Dialect,
        spread: Spread,
        zone: Zone,
        dst: DstPolicy,
    ) -> Result<Self, CronError> {
        Ok(Self { rule: CronRule::parse(text, dialect, spread)?, zone, dst })
    }

    /// Its zone.
    #[must_use]
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// What it means, in English, with its zone.
    #[must_use]
    pub fn meaning(&self) -> String {
        match &self.rule {
            CronRule::Clock(cron) => format!("{}, {}", cron.describe(), self.zone),
            CronRule::Every(every) => format!("every {every} of elapsed time"),
        }
    }

    /// What changes of the clocks do to it, in English.
    #[must_use]
    pub fn clock_changes(&self) -> &'static str {
        let CronRule::Clock(cron) = &self.rule else {
            return "elapsed time does not care for clocks";
        };
        match self.dst {
            DstPolicy::Smart if cron.is_running() => {
                "fires whenever the clock shows a time that matches: a time that it skips does \
                 not, one that it shows twice fires twice"
            }
            DstPolicy::Smart => {
                "a time that the clock skips fires right after, one that it shows twice fires the \
                 first time"
            }
            DstPolicy::Quartz => {
                "a time that the clock skips does not fire, one that it shows twice fires the \
                 second time"
            }
            DstPolicy::Skip => {
                "a time that the clock skips does not fire, one that it shows twice fires the \
                 first time"
            }
            DstPolicy::Twice => {
                "a time that the clock skips does not fire, one that it shows twice fires both \
                 times"
            }
        }
    }

    /// Parts that do not do what they seem to say.
    #[must_use]
    pub fn notices(&self) -> Vec<String> {
        match &self.rule {
            CronRule::Clock(cron) => cron.notices().iter().map(Notice::to_string).collect(),
            CronRule::Every(_) => Vec::new(),
        }
    }

    /// The first `count` instants after `after`.
    #[must_use]
    pub fn instants(&self, after: UtcMillis, count: usize) -> Vec<UtcMillis> {
        match &self.rule {
            CronRule::Clock(cron) => {
                next_fire::fires_after(cron, &self.zone, self.dst, after).take(count).collect()
            }
            CronRule::Every(every) => {
                let whole = UtcMillis(after.0 - after.0.rem_euclid(1000));
                (1..).take(count).map(|n| whole.plus(Span(every.0.saturating_mul(n)))).collect()
            }
        }
    }

    /// The same as an answer.
    #[must_use]
    pub fn next(&self, after: UtcMillis, count: usize) -> Next {
        let instants = self.instants(after, count);
        Next {
            exhausted: instants.len() < count,
            next: instants.into_iter().map(|at| self.zone.rfc3339(at)).collect(),
        }
    }
}

/// A line of `horai cron next --stdin`. Other fields are not looked at.
#[derive(Debug, Deserialize)]
struct Question {
    cron: String,
    tz: Option<String>,
    after: Option<String>,
    count: Option<usize>,
    dst: Option<String>,
    dialect: Option<String>,
    job: Option<u64>,
    trigger: Option<String>,
}

/// Answers one line of `horai cron next --stdin`.
#[must_use]
pub fn answer(line: &str) -> String {
    answer_or_problem(line).unwrap_or_else(|problem| error_line(&problem))
}

fn answer_or_problem(line: &str) -> Result<String, String> {
    let question: Question =
        serde_json::from_str(line).map_err(|e| format!("the line is not a question: {e}"))?;
    let zone = question.tz.as_deref().unwrap_or("UTC");
    let zone = Zone::parse(zone).map_err(|e| e.to_string())?;
    let dialect = question.dialect.as_deref().map_or(Ok(Dialect::Quartz), dialect)?;
    let dst = question.dst.as_deref().map_or(Ok(DstPolicy::Smart), dst)?;
    let spread = spread(question.job.unwrap_or(0), question.trigger.as_deref().unwrap_or(""));
    let expression =
        Expression::read(&question.cron, dialect, spread, zone, dst).map_err(|e| e.to_string())?;
    let Some(after) = &question.after else {
        return match (question.tz, question.count) {
            (None, None) => Ok(serde_json::json!({ "valid": true }).to_string()),
            _ => Err("\"after\" is missing: the instant after which to look".to_owned()),
        };
    };
    let after = instant(after)?;
    let count = question.count.unwrap_or(5);
    if count > MAX_COUNT {
        return Err(format!("count {count} is too much: at most {MAX_COUNT}"));
    }
    serde_json::to_string(&expression.next(after, count)).map_err(|e| e.to_string())
}

/// What `H` is spread by.
#[must_use]
pub fn spread(job: u64, trigger: &str) -> Spread {
    Spread::of(JobId(job), &TriggerName(Arc::from(trigger)))
}

/// Reads the name of a dialect.
///
/// # Errors
/// What is wrong with it, and what would be right.
pub fn dialect(text: &str) -> Result<Dialect, String> {
    word("dialect", text, &Dialect::ALL)
}

fn word<T: Copy>(field: &str, text: &str, words: &[(&'static str, T)]) -> Result<T, String> {
    let found = words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value);
    found.ok_or_else(|| {
        let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        format!("{field} {text:?} is not known: write {}", known.join(" or "))
    })
}

/// Reads the name of a policy for changes of the clocks.
///
/// # Errors
/// What is wrong with it, and what would be right.
pub fn dst(text: &str) -> Result<DstPolicy, String> {
    word("dst", text, &DstPolicy::ALL)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const CASES: &str = include_str!("../../tests/golden/cron_next.jsonl");

    #[test]
    fn every_case_is_answered_as_quartz_does() {
        let mut count = 0;
        for line in CASES.lines() {
            let case: Value = serde_json::from_str(line).unwrap();
            let mut question = serde_json::json!({ "cron": case["cron"] });
            if case["valid"].is_null() {
                question["tz"] = case["tz"].clone();
                question["after"] = case["after"].clone();
                question["dst"] = "quartz".into();
            }
            let answer: Value = serde_json::from_str(&answer(&question.to_string())).unwrap();
            match case["valid"].as_bool() {
                Some(true) => assert_eq!(answer, serde_json::json!({ "valid": true }), "{line}"),
                Some(false) => assert!(answer["error"].is_string(), "{line}: {answer}"),
                None => {
                    let wanted =
                        serde_json::json!({ "next": case["next"], "exhausted": case["exhausted"] });
                    assert_eq!(answer, wanted, "{line}");
                }
            }
            count += 1;
        }
        assert_eq!(count, 592);
    }

    #[test]
    fn questions_have_defaults_and_answers_say_what_is_wrong() {
        for (line, wanted) in [
            (
                r#"{"cron":"0 0 3 LW * ?","after":"2026-11-21T00:00:00Z","count":1}"#,
                r#"{"next":["2026-11-30T03:00:00+00:00"],"exhausted":false}"#,
            ),
            (
                r#"{"cron":"@every 90s","dialect":"unix","after":"2026-11-21T00:00:00Z","count":2}"#,
                r#"{"next":["2026-11-21T00:01:30+00:00","2026-11-21T00:03:00+00:00"],"exhausted":false}"#,
            ),
            (
                r#"{"cron":"30 2 * * *","dialect":"unix","tz":"Europe/Berlin","after":"2024-03-30T12:00:00Z","count":1}"#,
                r#"{"next":["2024-03-31T03:00:00+02:00"],"exhausted":false}"#,
            ),
            (r#"{"cron":"0 0 0 1 1 ?","source":"x"}"#, r#"{"valid":true}"#),
        ] {
            assert_eq!(answer(line), wanted, "{line}");
        }
        for (line, part) in [
            ("{", "not a question"),
            (r#"{"tz":"UTC"}"#, "missing field `cron`"),
            (r#"{"cron":"0 0 24 * * ?"}"#, "hours"),
            (r#"{"cron":"0 0 3 * * ?","tz":"Nowhere","after":"2026-11-21T00:00:00Z"}"#, "Nowhere"),
            (r#"{"cron":"0 0 3 * * ?","tz":"UTC"}"#, "is missing"),
            (r#"{"cron":"0 0 3 * * ?","after":"yesterday"}"#, "is not an instant"),
            (
                r#"{"cron":"0 0 3 * * ?","after":"2026-11-21T00:00:00Z","dst":"x"}"#,
                "smart or quartz or skip or twice",
            ),
            (r#"{"cron":"0 0 3 * * ?","dialect":"x"}"#, "quartz or unix"),
            (
                r#"{"cron":"0 0 3 * * ?","after":"2026-11-21T00:00:00Z","count":99999}"#,
                "at most 10000",
            ),
        ] {
            let found = answer(line);
            assert!(found.starts_with(r#"{"error":"#) && found.contains(part), "{line}: {found}");
        }
    }
}
