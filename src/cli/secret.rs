//! `horai secret`: values that jobs use and that nobody reads.
//!
//! A value never comes by an argument, which others on the machine could see: it is read
//! from standard input, or asked for without an echo.

use std::io::{self, IsTerminal, Read, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use horai_core::model::secret::Sealed;
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::client::pages;
use super::failure::Failure;
use super::output::{Show, View, moment, note, print, text_or_dash};
use super::remote::{Remote, wait};
use crate::api::dto::{RekeyedDto, SecretDto, SecretSet, SetSecret};
use crate::error::{chain, exit};
use crate::secrets::{self, KeyFileError};

/// Secrets.
#[derive(Debug, Args)]
pub(super) struct SecretArgs {
    #[command(flatten)]
    remote: Remote,
    #[command(subcommand)]
    verb: SecretCommand,
}

#[derive(Debug, Subcommand)]
enum SecretCommand {
    /// Give a secret a value: from standard input, or asked for on a terminal
    Set {
        /// Its name
        name: String,
        /// For people; what there is stays if it is left out
        #[arg(long)]
        description: Option<String>,
        /// Only if it has this revision; 0 if it must not exist
        #[arg(long)]
        revision: Option<u64>,
    },
    /// List secrets by name, with the jobs that use each; never a value
    List,
    /// Show what is known of a secret; never its value
    Show {
        /// Its name
        name: String,
    },
    /// Remove a secret that no job names
    Delete {
        /// Its name
        name: String,
        /// Only if it has this revision
        #[arg(long)]
        revision: Option<u64>,
    },
    /// Write all secrets under the first key of the node that answers
    Rekey,
    /// Make a key; needs no cluster
    Keygen {
        /// Write it into this new file, for its owner alone, instead of printing it
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// Does what was asked.
pub(super) fn run(args: SecretArgs, out: &mut impl Write) -> Result<(), Failure> {
    let SecretArgs { remote, verb } = args;
    let format = remote.output.output;
    if let SecretCommand::Keygen { out: file } = verb {
        return keygen(file, out);
    }
    let client = remote.client()?;
    // Before anybody is asked: a value that cannot be read changes nothing.
    let value = match &verb {
        SecretCommand::Set { name, .. } => value(name)?,
        _ => String::new(),
    };
    wait(async {
        match verb {
            SecretCommand::Set { name, description, revision } => {
                let secret = SetSecret { value, description };
                print(out, format, &client.set_secret(&name, &secret, revision).await?)
            }
            SecretCommand::List => {
                let secrets = pages::all(async |after| client.secrets(after).await).await?;
                print(out, format, &secrets)
            }
            SecretCommand::Show { name } => print(out, format, &client.secret(&name).await?),
            SecretCommand::Delete { name, revision } => {
                client.delete_secret(&name, revision).await?;
                note(format, &format!("secret {name} is deleted"))
            }
            SecretCommand::Rekey => {
                let done = client.rekey_secrets().await?;
                print(out, format, &done)?;
                if done.failed.is_empty() {
                    return Ok(());
                }
                let text = format!("{} secrets are left under other keys", done.failed.len());
                let hint = "the node that answered lacks their keys: ask one that has them, with \
                            --url, or add the keys to its key file";
                Err(Failure::new(text, hint, exit::CONFLICT))
            }
            SecretCommand::Keygen { .. } => Ok(()),
        }
    })
}

fn keygen(file: Option<PathBuf>, out: &mut impl Write) -> Result<(), Failure> {
    let Some(file) = file else {
        let key = secrets::new_key().map_err(|error| {
            Failure::new(format!("no key can be made: {error}"), "try again", exit::FAILED)
        })?;
        writeln!(out, "{key}")?;
        return Ok(());
    };
    secrets::make(&file).map_err(|error| match error {
        KeyFileError::Exists { .. } => {
            Failure::new(chain(&error), "horai secret keygen prints one", exit::CONFLICT)
        }
        _ => Failure::new(chain(&error), "check the path and its permissions", exit::FAILED),
    })?;
    writeln!(out, "{}", file.display())?;
    Ok(())
}

/// The value, from whoever runs this; one line's end behind it is none of it.
fn value(name: &str) -> Result<String, Failure> {
    let unread = |error: io::Error| {
        Failure::new(format!("the value cannot be read: {error}"), "try again", exit::FAILED)
    };
    let stdin = io::stdin();
    let mut bytes = Vec::new();
    if stdin.is_terminal() {
        let mut err = io::stderr();
        write!(err, "value of {name}, which is not shown: ").and_then(|()| err.flush())?;
        bytes = without_echo(&stdin).map_err(unread)?;
        writeln!(err)?;
    } else {
        // One byte more than can be taken tells that it is too long.
        let limit = Sealed::MAX_VALUE as u64 + 3;
        stdin.lock().take(limit).read_to_end(&mut bytes).map_err(unread)?;
        if bytes.len() as u64 == limit {
            // How long it is would be known after reading it all.
            let most = Sealed::MAX_VALUE;
            let text = format!("the value has more than {most} bytes");
            let hint = format!("use at most {most}: keep what is larger in a file");
            return Err(Failure::new(text, hint, exit::USAGE));
        }
    }
    let text = String::from_utf8(bytes).map_err(|_| {
        let hint = "a secret is text: encode bytes, for instance with base64";
        Failure::new("the value is not UTF-8", hint, exit::USAGE)
    })?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

/// A line from a terminal that does not show it.
fn without_echo(terminal: &io::Stdin) -> io::Result<Vec<u8>> {
    let usual = tcgetattr(terminal)?;
    let mut silent = usual.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(terminal, OptionalActions::Flush, &silent)?;
    let mut line = String::new();
    let read = terminal.read_line(&mut line);
    tcsetattr(terminal, OptionalActions::Flush, &usual)?;
    read.map(|_| line.into_bytes())
}

impl Show for SecretSet {
    fn view(&self) -> View {
        let facts = vec![("name", self.name.clone()), ("revision", self.revision.to_string())];
        View { facts, ..View::default() }
    }

    fn ids(&self) -> Vec<String> {
        vec![self.name.clone()]
    }
}

/// Nodes without the key.
fn closed(secret: &SecretDto) -> String {
    let nodes: Vec<String> = secret.closed_to.iter().map(ToString::to_string).collect();
    text_or_dash(&nodes.join(", "))
}

impl Show for Vec<SecretDto> {
    fn view(&self) -> View {
        let row = |secret: &SecretDto| {
            vec![
                secret.name.clone(),
                secret.revision.to_string(),
                moment(secret.updated),
                text_or_dash(&secret.jobs.join(", ")),
                closed(secret),
                text_or_dash(&secret.description),
            ]
        };
        let titles = vec!["name", "revision", "updated", "jobs", "not on nodes", "description"];
        View { titles, rows: self.iter().map(row).collect(), ..View::default() }
    }

    fn ids(&self) -> Vec<String> {
        self.iter().map(|secret| secret.name.clone()).collect()
    }

    fn none(&self) -> Option<&'static str> {
        self.is_empty().then_some("no secrets: horai secret set NAME makes one")
    }
}

impl Show for SecretDto {
    fn view(&self) -> View {
        let facts = vec![
            ("name", self.name.clone()),
            ("revision", self.revision.to_string()),
            ("jobs", text_or_dash(&self.jobs.join(", "))),
            ("key", self.key.clone()),
            ("not on nodes", closed(self)),
            ("created", moment(self.created)),
            ("updated", moment(self.updated)),
        ];
        View { facts, ..View::default() }.described(&self.description)
    }

    fn ids(&self) -> Vec<String> {
        vec![self.name.clone()]
    }
}

impl Show for RekeyedDto {
    fn view(&self) -> View {
        let facts = vec![
            ("key", self.key.clone()),
            ("written anew", self.resealed.to_string()),
            ("under it already", self.kept.to_string()),
            ("cannot be opened", text_or_dash(&self.failed.join(", "))),
        ];
        View { facts, ..View::default() }
    }

    fn ids(&self) -> Vec<String> {
        vec![self.key.clone()]
    }
}
