//! `horai plan`: what jobs would do on a day. Needs no cluster.

use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use horai_core::ids::Name;
use horai_core::model::calendar::CalendarDate;
use horai_core::model::edge::Matching;
use horai_core::timing::zone::Zone;

use super::failure::Failure;
use super::output::{Output, Show, View, note, print};
use super::{calendar, check};
use crate::api::dto::{ActionRef, Time};
use crate::api::job_definition::JobDefinition;
use crate::error::{chain, exit};
use crate::offline::plan::{Answer, Question, Upstream, simulate, unknown};

/// Plans.
#[derive(Debug, Args)]
pub(super) struct PlanArgs {
    #[command(flatten)]
    output: Output,
    #[command(subcommand)]
    verb: PlanCommand,
}

#[derive(Debug, Subcommand)]
enum PlanCommand {
    /// The actions of a day, and what each of them waits for
    Simulate {
        /// Files of jobs: .yaml, .yml, .toml or .json; what a job runs may be left out
        #[arg(short, long = "file", value_name = "FILE", required = true, num_args = 1..)]
        files: Vec<PathBuf>,
        /// Files of the calendars that triggers name
        #[arg(long, value_name = "FILE", num_args = 1..)]
        calendars: Vec<PathBuf>,
        /// The day, such as 2024-03-15: of each job, in its own zone
        #[arg(long, value_name = "DAY")]
        day: CalendarDate,
        /// IANA zone of jobs that have none
        #[arg(long, default_value = "UTC", value_name = "ZONE")]
        tz: String,
        /// How edges match that do not say it: nearest, same_time, latest_before,
        /// all_in_period, previous_period or hera
        #[arg(long = "match", value_name = "RULE")]
        matching: Option<String>,
    },
}

pub(super) fn run(args: PlanArgs, out: &mut impl Write) -> Result<(), Failure> {
    let format = args.output.output;
    let PlanCommand::Simulate { files, calendars, day, tz, matching } = args.verb;
    let zone = Zone::parse(&tz)
        .map_err(|e| Failure::new(e.to_string(), "--tz takes an IANA name", exit::USAGE))?;
    if let Some(word) = matching.as_deref().filter(|word| !is_known(word)) {
        let words: Vec<&str> = Matching::ALL.iter().map(|(known, _)| *known).collect();
        let hint = format!("write {}", words.join(" or "));
        return Err(Failure::new(format!("--match {word:?} is not known"), hint, exit::USAGE));
    }
    let calendars = calendar::read_defs(&calendars)?;
    let mut jobs = check::read_all(&files)?;
    for (_, job) in &mut jobs {
        complete(job, matching.as_deref());
    }
    let find = |name: &Name| calendars.get(name);
    let specs = check::specs(&jobs, &tz, Some(&find))?;
    let question = Question { jobs: &specs, calendars: &calendars, day, zone: &zone };
    let answer = simulate(question)
        .map_err(|e| Failure::new(chain(&e), "correct the job that is named", exit::USAGE))?;
    print(out, format, &answer)?;
    for name in unknown(&specs) {
        note(format, &format!("{name} has a fixed delay: nobody knows its instants ahead"))?;
    }
    Ok(())
}

fn is_known(word: &str) -> bool {
    Matching::ALL.iter().any(|(known, _)| *known == word)
}

/// Says what the file leaves open: how edges match, and that nothing is run.
fn complete(job: &mut JobDefinition, matching: Option<&str>) {
    if job.shell.is_none() && job.exec.is_none() {
        job.noop = true;
    }
    for edge in &mut job.depends_on {
        if edge.matching.is_none() {
            edge.matching = matching.map(str::to_owned);
        }
    }
}

/// An action as other commands take it.
fn id(job: &str, nominal: &str) -> String {
    match nominal.parse() {
        Ok(Time(nominal)) => ActionRef { job: job.to_owned(), nominal }.to_string(),
        Err(_) => format!("{job}@{nominal}"),
    }
}

impl Show for Answer {
    fn view(&self) -> View {
        let shown = |upstream: &Upstream| match (&upstream.nominal, upstream.no_match) {
            (Some(at), _) => id(&upstream.job, at),
            (None, word) => format!("{}: {}", upstream.job, word.unwrap_or("none")),
        };
        let rows = self.actions.iter().map(|action| {
            let upstream: Vec<String> = action.upstream.iter().map(shown).collect();
            vec![action.nominal.clone(), id(&action.job, &action.nominal), upstream.join(", ")]
        });
        View {
            titles: vec!["nominal", "action", "waits for"],
            rows: rows.collect(),
            ..View::default()
        }
    }

    fn ids(&self) -> Vec<String> {
        self.actions.iter().map(|action| id(&action.job, &action.nominal)).collect()
    }

    fn none(&self) -> Option<&'static str> {
        self.actions.is_empty().then_some("no job has an action on that day")
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_action_has_the_id_that_other_commands_take() {
        let id = super::id("load", "2026-03-15T05:30:00+01:00");
        assert_eq!(id, "load@20260315T043000Z");
        assert_eq!(super::id("load", "later"), "load@later");
    }
}
