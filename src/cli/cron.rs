//! `horai cron`: when an expression fires and what it means. Needs no cluster.

use std::io::{self, Write};

use clap::{Args, Subcommand};
use horai_core::time::UtcMillis;
use horai_core::timing::cron::CronError;
use horai_core::timing::zone::Zone;
use serde::Serialize;

use super::failure::Failure;
use super::output::{Format, Output, Show, View, note, print};
use crate::error::exit;
use crate::offline::cron::{self, Expression, MAX_COUNT};
use crate::offline::{answer_lines, instant};

/// Cron expressions.
#[derive(Debug, Args)]
pub(super) struct CronArgs {
    #[command(flatten)]
    output: Output,
    #[command(subcommand)]
    verb: CronCommand,
}

#[derive(Debug, Subcommand)]
enum CronCommand {
    /// When an expression fires next
    Next {
        /// The expression, in quotes
        #[arg(value_name = "CRON", required_unless_present = "stdin")]
        expression: Option<String>,
        #[command(flatten)]
        how: How,
        /// How many instants
        #[arg(short = 'n', long, default_value_t = 5)]
        count: usize,
        /// Look after this instant, such as 2026-11-21T03:00:00Z; now if none is given
        #[arg(long, value_name = "TIME")]
        after: Option<String>,
        /// Answer lines of JSON: {"cron","tz","after","count","dst","dialect"}
        #[arg(long, conflicts_with_all = ["expression", "after"])]
        stdin: bool,
    },
    /// What an expression means, and what changes of the clocks do to it
    Explain {
        /// The expression, in quotes
        #[arg(value_name = "CRON")]
        expression: String,
        #[command(flatten)]
        how: How,
    },
}

/// How an expression is read.
#[derive(Debug, Args)]
struct How {
    /// IANA zone whose clock it follows
    #[arg(long, default_value = "UTC", value_name = "ZONE")]
    tz: String,
    /// quartz (seconds first, six or seven fields) or unix (five fields)
    #[arg(long, default_value = "quartz")]
    dialect: String,
    /// What changes of the clocks do: smart, quartz, skip or twice
    #[arg(long, default_value = "smart")]
    dst: String,
    /// The job's number, which H is spread by
    #[arg(long, default_value_t = 0, value_name = "NUMBER")]
    job: u64,
    /// The trigger's name, which H is spread by
    #[arg(long, default_value = "", value_name = "NAME")]
    trigger: String,
}

pub(super) fn run(args: CronArgs, out: &mut impl Write) -> Result<(), Failure> {
    let format = args.output.output;
    match args.verb {
        CronCommand::Next { stdin: true, .. } => {
            Ok(answer_lines(io::stdin().lock(), out, cron::answer)?)
        }
        CronCommand::Next { expression, how, count, after, .. } => {
            if count > MAX_COUNT {
                let problem = format!("-n {count} is too much");
                return Err(usage(problem, format!("at most {MAX_COUNT}; go on with --after")));
            }
            let after = after.map_or_else(|| Ok(now()), |text| instant(&text));
            let after = after.map_err(|problem| usage(problem, "--after takes RFC 3339"))?;
            next(&expression.unwrap_or_default(), &how, (after, count), format, out)
        }
        CronCommand::Explain { expression, how } => explain(&expression, &how, now(), format, out),
    }
}

fn now() -> UtcMillis {
    UtcMillis(jiff::Timestamp::now().as_millisecond())
}

fn usage(problem: impl Into<String>, hint: impl Into<String>) -> Failure {
    Failure::new(problem, hint, exit::USAGE)
}

impl How {
    fn read(&self, text: &str) -> Result<Expression, Failure> {
        let zone =
            Zone::parse(&self.tz).map_err(|e| usage(e.to_string(), "--tz takes an IANA name"))?;
        let dialect = cron::dialect(&self.dialect).map_err(|e| usage(e, "see --help"))?;
        let dst = cron::dst(&self.dst).map_err(|e| usage(e, "see --help"))?;
        let spread = cron::spread(self.job, &self.trigger);
        Expression::read(text, dialect, spread, zone, dst).map_err(|e| bad(&e))
    }
}

/// The mistake with a mark under its place.
fn bad(error: &CronError) -> Failure {
    usage(error.to_string(), "horai cron explain '0 0 3 LW * ?' shows what can be said")
        .marked(error.caret().as_deref())
}

/// The answer of `next`.
#[derive(Debug, Serialize)]
struct NextAnswer {
    expression: String,
    meaning: String,
    next: Vec<String>,
    exhausted: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notices: Vec<String>,
}

fn next(
    text: &str,
    how: &How,
    (after, count): (UtcMillis, usize),
    format: Format,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let expression = how.read(text)?;
    let found = expression.next(after, count);
    let answer = NextAnswer {
        expression: text.to_owned(),
        meaning: expression.meaning(),
        next: found.next,
        exhausted: found.exhausted,
        notices: expression.notices(),
    };
    print(out, format, &answer)?;
    for notice in &answer.notices {
        note(format, &format!("note: {notice}"))?;
    }
    if answer.exhausted {
        note(format, "it does not fire again after that")?;
    }
    Ok(())
}

impl Show for NextAnswer {
    fn view(&self) -> View {
        View {
            facts: vec![("cron", self.expression.clone()), ("means", self.meaning.clone())],
            titles: vec!["fires", "day", "utc"],
            rows: self.next.iter().map(|at| row(at)).collect(),
        }
    }

    fn ids(&self) -> Vec<String> {
        self.next.clone()
    }
}

/// An instant with its weekday in its zone, and in UTC.
fn row(at: &str) -> Vec<String> {
    let local: Option<jiff::civil::DateTime> = at.parse().ok();
    let utc: Option<jiff::Timestamp> = at.parse().ok();
    vec![
        at.replacen('T', " ", 1),
        local.map(|t| t.strftime("%a").to_string()).unwrap_or_default(),
        utc.map(|t| t.strftime("%Y-%m-%d %H:%M:%SZ").to_string()).unwrap_or_default(),
    ]
}

/// The answer of `explain`.
#[derive(Debug, Serialize)]
struct Explanation {
    expression: String,
    dialect: String,
    zone: String,
    meaning: String,
    dst: String,
    /// What the policy does, in words.
    clock_changes: &'static str,
    next: Vec<String>,
    notices: Vec<String>,
}

fn explain(
    text: &str,
    how: &How,
    after: UtcMillis,
    format: Format,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let expression = how.read(text)?;
    print(
        out,
        format,
        &Explanation {
            expression: text.to_owned(),
            dialect: how.dialect.clone(),
            zone: expression.zone().name().to_owned(),
            meaning: expression.meaning(),
            dst: how.dst.clone(),
            clock_changes: expression.clock_changes(),
            next: expression.next(after, 3).next,
            notices: expression.notices(),
        },
    )
}

impl Show for Explanation {
    fn view(&self) -> View {
        let mut facts = vec![
            ("cron", self.expression.clone()),
            ("dialect", self.dialect.clone()),
            ("means", self.meaning.clone()),
            ("dst", format!("{}: {}", self.dst, self.clock_changes)),
        ];
        facts.extend(self.notices.iter().map(|notice| ("note", notice.clone())));
        if self.next.is_empty() {
            facts.push(("fires", "never again".to_owned()));
            return View { facts, ..View::default() };
        }
        View {
            facts,
            titles: vec!["fires", "day", "utc"],
            rows: self.next.iter().map(|at| row(at)).collect(),
        }
    }

    fn ids(&self) -> Vec<String> {
        self.next.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn how(tz: &str) -> How {
        How {
            tz: tz.to_owned(),
            dialect: "quartz".to_owned(),
            dst: "smart".to_owned(),
            job: 0,
            trigger: String::new(),
        }
    }

    fn after() -> UtcMillis {
        instant("2026-11-21T00:00:00Z").unwrap()
    }

    #[test]
    fn people_see_a_table_and_programs_json() {
        let how = how("Asia/Shanghai");
        let print = |format| {
            let mut out = Vec::new();
            next("0 0 3 LW * ?", &how, (after(), 2), format, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            print(Format::Table),
            "cron   0 0 3 LW * ?\n\
             means  at 03:00 on the last weekday of each month, Asia/Shanghai\n\
             \n\
             FIRES                      DAY  UTC\n\
             2026-11-30 03:00:00+08:00  Mon  2026-11-29 19:00:00Z\n\
             2026-12-31 03:00:00+08:00  Thu  2026-12-30 19:00:00Z\n"
        );
        assert_eq!(print(Format::Quiet), "2026-11-30T03:00:00+08:00\n2026-12-31T03:00:00+08:00\n");
        let json: serde_json::Value = serde_json::from_str(&print(Format::Json)).unwrap();
        assert_eq!(json["next"][0], "2026-11-30T03:00:00+08:00");
        assert_eq!(json["exhausted"], false);
        assert_eq!(json.get("notices"), None);
    }

    #[test]
    fn explanations_say_what_changes_of_the_clocks_do() {
        let mut out = Vec::new();
        explain("0 30 2 * * ?", &how("Europe/Berlin"), after(), Format::Table, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("at 02:30 every day, Europe/Berlin"), "{text}");
        assert!(text.contains("smart: a time that the clock skips fires right after"), "{text}");
        let mut out = Vec::new();
        explain("0 0 3 ? * MON-FRI/2", &how("UTC"), after(), Format::Table, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("note     day of week \"MON-FRI/2\""), "{text}");
    }

    #[test]
    fn mistakes_are_marked() {
        let failure = how("UTC").read("0 0 24 * * ?").unwrap_err();
        let mut err = Vec::new();
        assert_eq!(failure.report(&mut err), std::process::ExitCode::from(exit::USAGE));
        let text = String::from_utf8(err).unwrap();
        assert!(text.contains("\n0 0 24 * * ?\n    ^^\nhint: "), "{text}");
        assert!(how("Berlin").read("0 0 3 * * ?").is_err());
    }
}
