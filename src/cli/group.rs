//! `horai group`: what folders of jobs give them, and their pauses.

use std::collections::BTreeMap;
use std::io::Write;

use clap::{Args, Subcommand};

use super::client::{Client, Held, pages};
use super::failure::Failure;
use super::hold::{AfterPause, pause, resume};
use super::named_values;
use super::output::{Show, View, moment, note, or_dash, print, result, text_or_dash};
use super::remote::{Remote, wait};
use crate::api::dto::{GroupDto, SetGroup};
use crate::api::group_definition::GroupDefinition;
use crate::error::{ErrorCode, exit};

/// How often a change is tried again that others came before.
const TRIES: u32 = 5;

/// Groups of jobs.
#[derive(Debug, Args)]
pub(super) struct GroupArgs {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    verb: GroupCommand,
}

#[derive(Debug, Subcommand)]
enum GroupCommand {
    /// List groups that have parameters or jobs, by path
    List,
    /// Show a group's own and inherited parameters, and the jobs in it
    Show {
        /// The group, such as etl/nightly
        group: String,
    },
    /// Change a group's parameters; runs that begin from now on have them
    Set(SetArgs),
    /// Take a group's parameters away; its jobs stay
    Delete {
        /// The group
        group: String,
        /// Only if it has this revision
        #[arg(long)]
        revision: Option<u64>,
        /// Even if jobs name its parameters: their runs fail then
        #[arg(long)]
        force: bool,
    },
    /// Start nothing new of a group's jobs, those that come later included
    Pause {
        /// The group, such as etl/nightly
        group: String,
    },
    /// End a pause
    Resume {
        /// The group
        group: String,
        /// What becomes of the instants of the pause
        #[arg(long, value_enum, default_value_t)]
        missed: AfterPause,
    },
}

/// What is changed of a group.
#[derive(Debug, Args)]
struct SetArgs {
    /// The group, such as etl/nightly
    group: String,
    /// A parameter, as NAME=VALUE, or AREA.NAME=VALUE for one area; others stay
    #[arg(long = "param", value_name = "NAME=VALUE")]
    params: Vec<String>,
    /// A parameter that is taken away
    #[arg(long, value_name = "NAME")]
    unset: Vec<String>,
    /// For people; what there is stays if it is left out
    #[arg(long)]
    description: Option<String>,
    /// Only if it has this revision
    #[arg(long)]
    revision: Option<u64>,
    /// Even if jobs name what is taken away: their runs fail then
    #[arg(long)]
    force: bool,
}

/// Does what was asked.
pub(super) fn run(args: GroupArgs, out: &mut impl Write) -> Result<(), Failure> {
    let GroupArgs { remote, verb } = args;
    let format = remote.output.output;
    match verb {
        GroupCommand::Pause { group } => pause(&remote, Held::Group(&group), out),
        GroupCommand::Resume { group, missed } => resume(&remote, Held::Group(&group), missed),
        GroupCommand::List => {
            let client = remote.client()?;
            let groups = pages::all(async |after| client.groups(after).await);
            let groups = wait(async { Ok(groups.await?) })?;
            print(out, format, &groups)
        }
        GroupCommand::Show { group } => {
            let client = remote.client()?;
            let shown = wait(async { Ok(client.group(&group).await?) })?;
            print(out, format, &shown)
        }
        GroupCommand::Set(asked) => {
            // Before anybody is asked: what cannot be read changes nothing.
            let params = named_values("--param", &asked.params)?;
            let client = remote.client()?;
            let set = wait(set(&client, &asked, &params))?;
            print(out, format, &set)
        }
        GroupCommand::Delete { group, revision, force } => {
            let client = remote.client()?;
            wait(async { Ok(client.delete_group(&group, revision, force).await?) })?;
            note(format, &format!("group {group} has no parameters of its own any more"))
        }
    }
}

/// Changes what was asked for and leaves the rest, whoever else changes something.
async fn set(
    client: &Client,
    asked: &SetArgs,
    params: &BTreeMap<String, String>,
) -> Result<SetGroup, Failure> {
    let mut tries = 0;
    loop {
        let (mut definition, revision) = match client.group(&asked.group).await {
            Ok(old) => {
                let definition =
                    GroupDefinition { description: old.description, params: old.params };
                (definition, old.revision)
            }
            Err(error) if error.code() == ErrorCode::NotFound => (GroupDefinition::default(), 0),
            Err(error) => return Err(error.into()),
        };
        for name in &asked.unset {
            if definition.params.remove(name).is_none() {
                let text = format!("group {} has no parameter {name:?} of its own", asked.group);
                let names: Vec<&str> = definition.params.keys().map(String::as_str).collect();
                let hint = format!("it has: {}", text_or_dash(&names.join(", ")));
                return Err(Failure::new(text, hint, exit::NOT_FOUND));
            }
        }
        definition.params.extend(params.clone());
        if let Some(description) = &asked.description {
            definition.description.clone_from(description);
        }
        let expected = Some(asked.revision.unwrap_or(revision));
        match client.put_group(&asked.group, &definition, expected, asked.force).await {
            Err(error)
                if error.code() == ErrorCode::WrongRevision
                    && asked.revision.is_none()
                    && tries < TRIES =>
            {
                tries += 1;
            }
            done => return Ok(done?),
        }
    }
}

impl Show for SetGroup {
    fn view(&self) -> View {
        let facts = vec![
            ("group", self.group.clone()),
            ("revision", self.revision.to_string()),
            ("result", result(self.changed, self.revision).to_owned()),
        ];
        View { facts, ..View::default() }
    }

    fn ids(&self) -> Vec<String> {
        vec![self.group.clone()]
    }
}

impl Show for Vec<GroupDto> {
    fn view(&self) -> View {
        let row = |group: &GroupDto| {
            vec![
                group.group.clone(),
                group.params.len().to_string(),
                group.inherited.len().to_string(),
                group.job_count.to_string(),
                or_dash(group.updated.map(moment)),
                text_or_dash(&group.description),
            ]
        };
        let titles = vec!["group", "params", "inherited", "jobs", "updated", "description"];
        View { titles, rows: self.iter().map(row).collect(), ..View::default() }
    }

    fn ids(&self) -> Vec<String> {
        self.iter().map(|group| group.group.clone()).collect()
    }

    fn none(&self) -> Option<&'static str> {
        self.is_empty().then_some("no groups: a job that names one makes it, or horai group set")
    }
}

impl Show for GroupDto {
    fn view(&self) -> View {
        let more = self.job_count.saturating_sub(self.jobs.len() as u64);
        let more = (more > 0).then(|| format!("and {more} more"));
        let jobs: Vec<String> = self.jobs.iter().cloned().chain(more).collect();
        let facts = vec![
            ("group", self.group.clone()),
            ("revision", or_dash((self.revision > 0).then_some(self.revision))),
            ("jobs", text_or_dash(&jobs.join(", "))),
            ("created", or_dash(self.created.map(moment))),
            ("updated", or_dash(self.updated.map(moment))),
        ];
        let own = self.params.iter().map(|(name, value)| [name, value, &self.group]);
        let inherited = self.inherited.iter().map(|param| [&param.name, &param.value, &param.from]);
        let rows = own.chain(inherited).map(|row| row.map(Clone::clone).to_vec()).collect();
        View { facts, titles: vec!["param", "value", "of"], rows }.described(&self.description)
    }

    fn ids(&self) -> Vec<String> {
        vec![self.group.clone()]
    }
}
