//! How answers are printed: one trait for what can be shown, three printers.
//!
//! A table is for people and may change; JSON and YAML are for programs and
//! keep the API's own form; quiet prints ids alone, one a line. What is said
//! beside the data, that a list is empty or that something was done, goes to
//! standard error, and only where people read.

use std::io::{self, Write};

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::failure::Failure;
use crate::api::dto::Time;
use crate::error::exit;

/// Which printer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Format {
    /// For people
    #[default]
    Table,
    /// The API's JSON
    Json,
    /// The same as YAML
    Yaml,
    /// Ids alone, one a line
    Quiet,
}

/// How to print.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Output {
    /// table, json (as the API has it), yaml, or quiet (ids alone, one a line)
    #[arg(
        short,
        long,
        value_enum,
        default_value_t,
        global = true,
        hide_possible_values = true,
        value_name = "FORM",
        help_heading = "Output"
    )]
    pub(super) output: Format,
}

/// What people see: facts, one a line, then a table.
#[derive(Debug, Default)]
pub(super) struct View {
    pub(super) facts: Vec<(&'static str, String)>,
    pub(super) titles: Vec<&'static str>,
    pub(super) rows: Vec<Vec<String>>,
}

impl View {
    /// The same with a description below the name, if there is one.
    pub(super) fn described(mut self, description: &str) -> Self {
        if !description.is_empty() {
            let place = self.facts.len().min(1);
            self.facts.insert(place, ("description", description.to_owned()));
        }
        self
    }
}

/// What can be printed. Programs see its serialised form.
pub(super) trait Show: Serialize {
    /// For people.
    fn view(&self) -> View;

    /// What other commands take to name it.
    fn ids(&self) -> Vec<String>;

    /// What a list that is empty says instead of a table.
    fn none(&self) -> Option<&'static str> {
        None
    }
}

/// Prints in the form asked for.
pub(super) fn print(out: &mut impl Write, format: Format, what: &impl Show) -> Result<(), Failure> {
    match format {
        Format::Table => match what.none() {
            Some(none) => note(format, none),
            None => table(out, &what.view()),
        },
        Format::Json | Format::Yaml => data(out, format, what),
        Format::Quiet => {
            for id in what.ids() {
                writeln!(out, "{id}")?;
            }
            Ok(())
        }
    }
}

/// Prints in a form for programs, whatever the answer is.
pub(super) fn data(
    out: &mut impl Write,
    format: Format,
    what: &impl Serialize,
) -> Result<(), Failure> {
    let text = match format {
        Format::Yaml => serde_saphyr::to_string(what).map_err(|e| e.to_string()),
        _ => serde_json::to_string_pretty(what).map_err(|e| e.to_string()),
    };
    let text = text.map_err(|e| {
        Failure::new(format!("the answer cannot be printed: {e}"), "try -o table", exit::FAILED)
    })?;
    writeln!(out, "{}", text.trim_end())?;
    Ok(())
}

fn table(out: &mut impl Write, view: &View) -> Result<(), Failure> {
    let width = view.facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in &view.facts {
        writeln!(out, "{}", format!("{name:width$}  {}", cell(value)).trim_end())?;
    }
    if view.titles.is_empty() {
        return Ok(());
    }
    if !view.facts.is_empty() {
        writeln!(out)?;
    }
    let titles = view.titles.iter().map(|title| title.to_uppercase()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(titles)
        .chain(view.rows.iter().map(|row| row.iter().map(|text| cell(text)).collect()))
        .collect();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|text| text.chars().count()).max()
    };
    let widths: Vec<usize> = (0..view.titles.len()).map(|c| width(c).unwrap_or(0)).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(text, width)| format!("{text:width$}"));
        writeln!(out, "{}", cells.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    Ok(())
}

/// One line, and nothing that moves a terminal's cursor.
fn cell(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Says something beside the data, to people alone.
pub(super) fn note(format: Format, text: &str) -> Result<(), Failure> {
    if format == Format::Table {
        writeln!(io::stderr(), "{}", cell(text))?;
    }
    Ok(())
}

/// An instant as people read it: UTC, with fractions only where there are any.
pub(super) fn moment(time: Time) -> String {
    let text = time.to_string().replacen('T', " ", 1);
    match text.strip_suffix(".000Z") {
        Some(whole) => format!("{whole}Z"),
        None => text,
    }
}

/// What has become of something that was written down, now of that revision.
pub(super) fn result(changed: bool, revision: u64) -> &'static str {
    match (changed, revision) {
        (false, _) => "unchanged",
        (true, 1) => "created",
        (true, _) => "changed",
    }
}

/// A text, or a dash for none.
pub(super) fn text_or_dash(text: &str) -> String {
    or_dash((!text.is_empty()).then_some(text))
}

/// A number of units with one decimal.
pub(super) fn tenths(count: u64, unit: u64) -> String {
    let tenths = count.saturating_mul(10) / unit;
    format!("{}.{}", tenths / 10, tenths % 10)
}

/// A value, or a dash.
pub(super) fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Two {
        id: u8,
    }

    impl Show for Two {
        fn view(&self) -> View {
            View {
                facts: vec![("id", "7".to_owned()), ("long", "x\ny".to_owned())],
                titles: vec!["a", "bb"],
                rows: vec![
                    vec!["ä1".to_owned(), String::new()],
                    vec!["-".to_owned(), "2".to_owned()],
                ],
            }
        }

        fn ids(&self) -> Vec<String> {
            vec!["7".to_owned(), "8".to_owned()]
        }
    }

    #[test]
    fn instants_are_read_by_people() {
        let shown = |text: &str| moment(text.parse().unwrap());
        assert_eq!(shown("2026-11-21T03:00:00Z"), "2026-11-21 03:00:00Z");
        assert_eq!(shown("2026-11-21T03:00:00.010Z"), "2026-11-21 03:00:00.010Z");
    }

    #[test]
    fn what_is_there_is_told_and_what_is_not_has_a_dash() {
        assert_eq!((text_or_dash("a, b").as_str(), text_or_dash("").as_str()), ("a, b", "-"));
        assert_eq!(
            [result(false, 1), result(true, 1), result(true, 2)],
            ["unchanged", "created", "changed"]
        );
        let named = || View { facts: vec![("name", "x".to_owned())], ..View::default() };
        let told = named().described("for people");
        assert_eq!(told.facts[1], ("description", "for people".to_owned()));
        assert_eq!(named().described("").facts.len(), 1);
        assert_eq!(View::default().described("alone").facts.len(), 1);
    }

    #[test]
    fn each_form_prints_as_it_says() {
        for (format, expected) in [
            (Format::Table, "id    7\nlong  x y\n\nA   BB\nä1\n-   2\n"),
            (Format::Json, "{\n  \"id\": 7\n}\n"),
            (Format::Yaml, "id: 7\n"),
            (Format::Quiet, "7\n8\n"),
        ] {
            let mut out = Vec::new();
            print(&mut out, format, &Two { id: 7 }).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
