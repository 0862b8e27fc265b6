//! `horai calendar`: times at which triggers that name them do not fire.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use horai_core::ids::Name;
use horai_core::model::calendar::CalendarDef;
use serde::{Deserialize, Serialize};

use super::client::pages;
use super::failure::Failure;
use super::files::read_file;
use super::output::{Format, Show, View, data, moment, note, or_dash, print, result, text_or_dash};
use super::remote::{Remote, wait};
use crate::api::calendar_definition::CalendarDefinition;
use crate::api::dto::{AppliedCalendar, CalendarDto};

/// Calendars.
#[derive(Debug, Args)]
pub(super) struct CalendarArgs {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    verb: CalendarCommand,
}

#[derive(Debug, Subcommand)]
enum CalendarCommand {
    /// Create or change the calendars of files; what rests on them is planned anew
    Apply {
        /// Files of calendars: .yaml, .yml, .toml or .json
        #[arg(short, long = "file", value_name = "FILE", required = true, num_args = 1..)]
        files: Vec<PathBuf>,
    },
    /// List calendars by name
    List,
    /// Show a calendar; as YAML, it is what apply takes
    Show {
        /// Its name
        name: String,
    },
    /// Remove a calendar that no trigger and no other calendar names
    Delete {
        /// Its name
        name: String,
        /// Only if it has this revision
        #[arg(long)]
        revision: Option<u64>,
    },
}

/// What a file of calendars should be.
const FILE_HINT: &str = "a calendar file holds a list under 'calendars', with name and days";

/// A file of calendars.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CalendarFile {
    calendars: Vec<CalendarDefinition>,
}

/// Does what was asked.
pub(super) fn run(args: CalendarArgs, out: &mut impl Write) -> Result<(), Failure> {
    let CalendarArgs { remote, verb } = args;
    let format = remote.output.output;
    // Before anybody is asked: a file that cannot be read changes nothing.
    let calendars = match &verb {
        CalendarCommand::Apply { files } => read_all(files)?,
        _ => Vec::new(),
    };
    let client = remote.client()?;
    wait(async {
        match verb {
            CalendarCommand::Apply { .. } => {
                let mut applied: Vec<AppliedCalendar> = Vec::new();
                for calendar in calendars {
                    applied.push(client.put_calendar(&calendar).await.map_err(|mut error| {
                        let place = format!("calendar {}: ", calendar.name);
                        error.problem.detail.insert_str(0, &place);
                        error
                    })?);
                }
                print(out, format, &applied)
            }
            CalendarCommand::List => {
                let calendars = pages::all(async |after| client.calendars(after).await).await?;
                print(out, format, &calendars)
            }
            CalendarCommand::Show { name } => {
                let calendar = client.calendar(&name).await?;
                match format {
                    Format::Yaml => {
                        data(out, format, &CalendarFile { calendars: vec![calendar.definition] })
                    }
                    _ => print(out, format, &calendar),
                }
            }
            CalendarCommand::Delete { name, revision } => {
                client.delete_calendar(&name, revision).await?;
                note(format, &format!("calendar {name} is deleted"))
            }
        }
    })
}

/// The calendars of files, bases first.
fn read_all(files: &[PathBuf]) -> Result<Vec<CalendarDefinition>, Failure> {
    let mut calendars = Vec::new();
    for file in files {
        calendars.extend(read_file::<CalendarFile>(file, FILE_HINT)?.calendars);
    }
    Ok(bases_first(calendars))
}

/// The calendars of files, as definitions that triggers can be read with.
pub(super) fn read_defs(files: &[PathBuf]) -> Result<BTreeMap<Name, CalendarDef>, Failure> {
    let mut defs: BTreeMap<Name, CalendarDef> = BTreeMap::new();
    for calendar in read_all(files)? {
        let def = calendar.to_def(&|name: &Name| defs.get(name));
        let place = format!("calendar {}", calendar.name);
        let def = def.map_err(|error| Failure::of_field(&place, &error))?;
        defs.insert(def.name.clone(), def);
    }
    Ok(defs)
}

/// In an order in which what others are based on comes before them, as far as the
/// files say; a circle is left as it is, and refused.
fn bases_first(calendars: Vec<CalendarDefinition>) -> Vec<CalendarDefinition> {
    let mut waiting: BTreeSet<String> = calendars.iter().map(|c| c.name.clone()).collect();
    let (mut left, mut ordered) = (calendars, Vec::new());
    while !left.is_empty() {
        let is_ready = |c: &CalendarDefinition| {
            c.base.as_ref().is_none_or(|base| *base == c.name || !waiting.contains(base))
        };
        let (ready, rest): (Vec<_>, Vec<_>) = left.into_iter().partition(is_ready);
        if ready.is_empty() {
            ordered.extend(rest);
            return ordered;
        }
        for calendar in &ready {
            waiting.remove(&calendar.name);
        }
        ordered.extend(ready);
        left = rest;
    }
    ordered
}

/// What is in it, in a few words.
fn content(calendar: &CalendarDefinition) -> String {
    let many = |count: usize, what: &str| (count > 0).then(|| format!("{count} {what}"));
    let told = many(calendar.dates.len(), "days")
        .or_else(|| calendar.weekly.clone())
        .or_else(|| many(calendar.monthly.len(), "days of each month"))
        .or_else(|| many(calendar.annual.len(), "days of each year"))
        .or_else(|| (!calendar.daily.is_empty()).then(|| calendar.daily.join(", ")))
        .or_else(|| calendar.cron.as_ref().map(|cron| format!("cron {cron}")))
        .unwrap_or_default();
    if calendar.include_only { format!("only {told}") } else { format!("not {told}") }
}

impl Show for Vec<AppliedCalendar> {
    fn view(&self) -> View {
        let row = |calendar: &AppliedCalendar| {
            vec![
                calendar.name.clone(),
                calendar.revision.to_string(),
                result(calendar.changed, calendar.revision).to_owned(),
                calendar.replanned.to_string(),
            ]
        };
        let titles = vec!["name", "revision", "result", "jobs planned anew"];
        View { titles, rows: self.iter().map(row).collect(), ..View::default() }
    }

    fn ids(&self) -> Vec<String> {
        self.iter().map(|calendar| calendar.name.clone()).collect()
    }

    fn none(&self) -> Option<&'static str> {
        self.is_empty().then_some("the files hold no calendars")
    }
}

impl Show for Vec<CalendarDto> {
    fn view(&self) -> View {
        let row = |calendar: &CalendarDto| {
            vec![
                calendar.name.clone(),
                calendar.revision.to_string(),
                content(&calendar.definition),
                or_dash(calendar.definition.base.as_ref()),
                calendar.jobs.len().to_string(),
                moment(calendar.updated),
            ]
        };
        let titles = vec!["name", "revision", "fires", "base", "jobs", "updated"];
        View { titles, rows: self.iter().map(row).collect(), ..View::default() }
    }

    fn ids(&self) -> Vec<String> {
        self.iter().map(|calendar| calendar.name.clone()).collect()
    }

    fn none(&self) -> Option<&'static str> {
        self.is_empty().then_some("no calendars: horai calendar apply -f FILE makes some")
    }
}

impl Show for CalendarDto {
    fn view(&self) -> View {
        let calendar = &self.definition;
        let facts = vec![
            ("name", self.name.clone()),
            ("revision", self.revision.to_string()),
            ("fires", content(calendar)),
            ("zone", calendar.zone.clone().unwrap_or_else(|| "the trigger's".to_owned())),
            ("base", or_dash(calendar.base.as_ref())),
            ("jobs", text_or_dash(&self.jobs.join(", "))),
            ("calendars", text_or_dash(&self.calendars.join(", "))),
            ("created", moment(self.created)),
            ("updated", moment(self.updated)),
        ];
        View { facts, ..View::default() }.described(&calendar.description)
    }

    fn ids(&self) -> Vec<String> {
        vec![self.name.clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_come_first_and_a_circle_ends() {
        let calendar = |name: &str, base: Option<&str>| {
            let mut read: CalendarDefinition =
                serde_saphyr::from_str(&format!("name: {name}\nweekly: SUN")).unwrap();
            read.base = base.map(str::to_owned);
            read
        };
        let names = |calendars: Vec<CalendarDefinition>| -> Vec<String> {
            bases_first(calendars).into_iter().map(|c| c.name).collect()
        };
        let chain = [("c", Some("b")), ("b", Some("a")), ("a", Some("elsewhere")), ("d", None)];
        let chain = chain.map(|(name, base)| calendar(name, base)).to_vec();
        assert_eq!(names(chain), ["a", "d", "b", "c"]);
        let circle = vec![calendar("a", Some("b")), calendar("b", Some("a"))];
        assert_eq!(names(circle), ["a", "b"]);
    }
}
