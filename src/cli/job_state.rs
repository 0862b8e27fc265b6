//! `horai job state`, and how what runs put out and jobs keep is printed.

use std::collections::BTreeMap;
use std::io::Write;

use clap::Args;
use serde::Serialize;

use super::client::Client;
use super::failure::Failure;
use super::named_values;
use super::output::{Format, Show, View, moment, or_dash, print};
use crate::api::dto::{EditState, JobStateDto};

/// What is shown of a value among others, in characters.
const SHOWN: usize = 60;

/// Whose state, and what is to become of it.
#[derive(Debug, Args)]
pub(super) struct StateArgs {
    /// The job's name
    name: String,
    /// Write a value: KEY=VALUE
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Take a key away
    #[arg(long, value_name = "KEY")]
    unset: Vec<String>,
    /// Take everything away, before anything is written
    #[arg(long)]
    clear: bool,
}

impl StateArgs {
    /// Changes what was asked, and shows what is there then.
    pub(super) async fn run(
        self,
        client: &Client,
        format: Format,
        out: &mut impl Write,
    ) -> Result<(), Failure> {
        let Self { name, set, unset, clear } = self;
        let edit = EditState { clear, set: named_values("--set", &set)?, unset };
        if edit != EditState::default() {
            client.edit_state(&name, &edit).await?;
        }
        print(out, format, &client.job_state(&name).await?)
    }
}

impl Show for JobStateDto {
    fn view(&self) -> View {
        let mut facts = vec![
            ("job", self.job.clone()),
            ("updated", or_dash(self.updated.map(moment))),
            ("by run", or_dash(self.run.as_ref())),
        ];
        if !self.keep_state {
            facts.push(("keep_state", "false: its runs neither read nor write it".to_owned()));
        }
        let rows = rows(&self.values);
        let titles = if rows.is_empty() { Vec::new() } else { vec!["key", "value"] };
        View { facts, titles, rows }
    }

    fn ids(&self) -> Vec<String> {
        self.values.keys().cloned().collect()
    }
}

/// What a run put out, whole.
#[derive(Debug, Serialize)]
pub(super) struct Values(pub(super) BTreeMap<String, String>);

impl Show for Values {
    fn view(&self) -> View {
        View { titles: vec!["key", "value"], rows: rows(&self.0), ..View::default() }
    }

    fn ids(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn none(&self) -> Option<&'static str> {
        self.0.is_empty().then_some("it put nothing out")
    }
}

/// One for each line of each value.
fn rows(values: &BTreeMap<String, String>) -> Vec<Vec<String>> {
    let row = |(key, value): (&String, &String)| {
        let lines = value.split('\n').enumerate();
        let named = lines.map(|(i, line)| {
            vec![if i == 0 { key.clone() } else { String::new() }, line.to_owned()]
        });
        named.collect::<Vec<_>>()
    };
    values.iter().flat_map(row).collect()
}

/// `KEY=VALUE`, short enough to stand among other facts.
pub(super) fn brief(key: &str, value: &str) -> String {
    let line = value.split('\n').next().unwrap_or_default();
    let shown: String = line.chars().take(SHOWN).collect();
    let more = if shown.len() < value.len() { "…" } else { "" };
    format!("{key}={shown}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_shown_by_lines_and_in_brief() {
        let values = Values([("A", "1"), ("B", "x\ny")].map(|(k, v)| (k.into(), v.into())).into());
        let mut out = Vec::new();
        print(&mut out, Format::Table, &values).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "KEY  VALUE\nA    1\nB    x\n     y\n");
        assert_eq!(brief("A", "1"), "A=1");
        assert_eq!(brief("B", "x\ny"), "B=x…");
        assert_eq!(brief("C", &"ä".repeat(61)), format!("C={}…", "ä".repeat(60)));
    }
}
