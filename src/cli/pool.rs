//! `horai pool`: how many runs may take the same thing at once.

use std::io::Write;

use clap::{Args, Subcommand};

use super::client::pages;
use super::failure::Failure;
use super::output::{Show, View, moment, note, print, result, text_or_dash};
use super::remote::{Remote, wait};
use crate::api::dto::{PoolDto, SetPool};
use crate::api::pool_definition::PoolDefinition;

/// Pools.
#[derive(Debug, Args)]
pub(super) struct PoolArgs {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    verb: PoolCommand,
}

#[derive(Debug, Subcommand)]
enum PoolCommand {
    /// List pools by name, with what is in use and how many runs wait
    List,
    /// Show a pool and the jobs that name it
    Show {
        /// Its name
        name: String,
    },
    /// Create or change a pool; what runs keeps the slots that it has
    Set {
        /// Its name
        name: String,
        /// How many slots it has, 1 to 10000
        #[arg(long)]
        slots: u32,
        /// For people; what there is stays if it is left out
        #[arg(long)]
        description: Option<String>,
        /// Only if it has this revision
        #[arg(long)]
        revision: Option<u64>,
    },
    /// Remove a pool that no job names
    Delete {
        /// Its name
        name: String,
        /// Only if it has this revision
        #[arg(long)]
        revision: Option<u64>,
    },
}

/// Does what was asked.
pub(super) fn run(args: PoolArgs, out: &mut impl Write) -> Result<(), Failure> {
    let PoolArgs { remote, verb } = args;
    let format = remote.output.output;
    let client = remote.client()?;
    wait(async {
        match verb {
            PoolCommand::List => {
                let pools = pages::all(async |after| client.pools(after).await).await?;
                print(out, format, &pools)
            }
            PoolCommand::Show { name } => print(out, format, &client.pool(&name).await?),
            PoolCommand::Set { name, slots, description, revision } => {
                let definition = PoolDefinition { slots, description };
                print(out, format, &client.put_pool(&name, &definition, revision).await?)
            }
            PoolCommand::Delete { name, revision } => {
                client.delete_pool(&name, revision).await?;
                note(format, &format!("pool {name} is deleted"))
            }
        }
    })
}

impl Show for SetPool {
    fn view(&self) -> View {
        let facts = vec![
            ("name", self.name.clone()),
            ("revision", self.revision.to_string()),
            ("result", result(self.changed, self.revision).to_owned()),
        ];
        View { facts, ..View::default() }
    }

    fn ids(&self) -> Vec<String> {
        vec![self.name.clone()]
    }
}

impl Show for Vec<PoolDto> {
    fn view(&self) -> View {
        let row = |pool: &PoolDto| {
            vec![
                pool.name.clone(),
                pool.slots.to_string(),
                pool.used.to_string(),
                pool.waiting.to_string(),
                text_or_dash(&pool.description),
            ]
        };
        let titles = vec!["name", "slots", "used", "waiting", "description"];
        View { titles, rows: self.iter().map(row).collect(), ..View::default() }
    }

    fn ids(&self) -> Vec<String> {
        self.iter().map(|pool| pool.name.clone()).collect()
    }

    fn none(&self) -> Option<&'static str> {
        self.is_empty().then_some("no pools: horai pool set NAME --slots N makes one")
    }
}

impl Show for PoolDto {
    fn view(&self) -> View {
        let facts = vec![
            ("name", self.name.clone()),
            ("revision", self.revision.to_string()),
            ("slots", self.slots.to_string()),
            ("used", self.used.to_string()),
            ("waiting", self.waiting.to_string()),
            ("jobs", text_or_dash(&self.jobs.join(", "))),
            ("created", moment(self.created)),
            ("updated", moment(self.updated)),
        ];
        View { facts, ..View::default() }.described(&self.description)
    }

    fn ids(&self) -> Vec<String> {
        vec![self.name.clone()]
    }
}
