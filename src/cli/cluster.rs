//! `horai cluster`: who is in it, who leads, who may come in; snapshots.

use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, Subcommand};
use horai_core::ids::NodeId;
use horai_core::model::area::Area;
use horai_core::time::{Span, UtcMillis};
use horai_raft::membership::admission::AskError;
use serde::Serialize;

use super::client::Client;
use super::failure::Failure;
use super::output::{Format, Output, Show, View, moment, note, or_dash, print};
use super::remote::{Remote, token_of, wait};
use crate::api::dto::{ClusterDto, MemberDto, SnapshotDto, Time, TokenDto};
use crate::config::{self, NodeConfig, read_token};
use crate::error::{chain, exit};
use crate::founding::{self, Choices};
use crate::joining;

/// A snapshot is written slowly, so that other work goes on.
const SNAPSHOT: Duration = Duration::from_secs(60);

/// Taking a node out waits for a quorum, and for another leader if it led.
const REMOVE: Duration = Duration::from_secs(60);

/// A majority answers at once, and after an election soon.
const MAJORITY: Duration = Duration::from_secs(2);

/// What can be done to a cluster.
#[derive(Debug, Subcommand)]
pub(super) enum ClusterCommand {
    /// Found a cluster with this node as its first; once in a cluster's life
    Init {
        /// The node's configuration file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Zone of jobs that name none
        #[arg(long, value_name = "ZONE", default_value = "UTC")]
        default_zone: String,
        /// An instant that is planned so much too late is a misfire; 1s to 1d
        #[arg(long, value_name = "TIME", default_value = "60s")]
        misfire_after: Span,
        /// Where it stands, such as EU: jobs whose `areas` do not name it are not run
        #[arg(long)]
        area: Option<Area>,
        #[command(flatten)]
        output: Output,
    },
    /// Let this node enter a running cluster
    Join {
        #[command(flatten)]
        entry: Entry,
    },
    /// Let this node enter in the place of one whose disk is lost
    Replace {
        /// The lost node's number; it never comes back
        node: u64,
        #[command(flatten)]
        entry: Entry,
    },
    /// Show members, leader, time and counts as one node knows them; fails if no leader answers
    Status {
        #[command(flatten)]
        remote: Remote,
    },
    /// Show or change where the cluster stands; what is queued already runs all the same
    Area {
        /// The area, such as EU
        name: Option<Area>,
        /// It stands nowhere in particular: no job is left out
        #[arg(long, conflicts_with = "name")]
        none: bool,
        #[command(flatten)]
        remote: Remote,
    },
    /// Take a node out for good; it stops by itself
    Remove {
        /// Its number
        node: u64,
        /// Even if output of jobs is lost with it
        #[arg(long)]
        lose_logs: bool,
        #[command(flatten)]
        remote: Remote,
    },
    /// Hand leadership to a node
    Transfer {
        /// Its number
        node: u64,
        #[command(flatten)]
        remote: Remote,
    },
    /// Take a snapshot on the node that is asked, and wait until it is on its disk
    Snapshot {
        #[command(flatten)]
        remote: Remote,
    },
    /// Make a token with which nodes may join
    Token {
        /// How long it is good
        #[arg(long, value_name = "TIME", default_value = "1h")]
        expires_in: Span,
        #[command(flatten)]
        remote: Remote,
    },
    /// Vouch for the time after a full stop, if the nodes' clocks disagree
    ConfirmTime {
        /// The time it is; this machine's clock if not given
        #[arg(long, value_name = "TIME")]
        time: Option<Time>,
        #[command(flatten)]
        remote: Remote,
    },
}

/// How a node enters.
#[derive(Debug, Args)]
pub(super) struct Entry {
    /// The node's configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Raft address of a node of the cluster; several may be given
    #[arg(long, value_name = "HOST:PORT", required = true)]
    to: Vec<String>,
    /// A join token, or the admin token; if none is given, the node's token_file is read
    #[arg(long, env = "HORAI_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// A file that holds the token
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

/// Does what was asked.
pub(super) fn run(verb: ClusterCommand, out: &mut impl Write) -> Result<(), Failure> {
    match verb {
        ClusterCommand::Init { config, default_zone, misfire_after, area, output } => {
            let choices = Choices { default_zone, misfire_after, area };
            print(out, output.output, &init(&config, &choices)?)?;
            start_it(output.output, &config)
        }
        ClusterCommand::Join { entry } => {
            print(out, entry.output.output, &enter(&entry, None)?)?;
            start_it(entry.output.output, &entry.config)
        }
        ClusterCommand::Replace { node, entry } => {
            print(out, entry.output.output, &enter(&entry, Some(NodeId(node)))?)?;
            start_it(entry.output.output, &entry.config)
        }
        ClusterCommand::Status { remote } => {
            let client = remote.client()?;
            let mut cluster = wait(async { Ok(client.cluster().await?) })?;
            if let Some(leader) = at_leader(&cluster, &remote)? {
                let told = wait(async { Ok(leader.with_timeout(MAJORITY).cluster().await) })?;
                cluster.alarms = told.map(|cluster| cluster.alarms).unwrap_or_default();
            }
            print(out, remote.output.output, &cluster)?;
            // One node tells what it knew last; only a majority knows what is true now.
            wait(async { Ok(client.with_timeout(MAJORITY).readyz().await) })?.map_err(|_| {
                let voters = cluster.members.iter().filter(|member| member.voter).count();
                let need = voters / 2 + 1;
                let text = format!("no leader answers: this is what node {} knew last", cluster.node);
                let hint = format!(
                    "{need} of {voters} voters, a majority, must run and reach each other; else ask again"
                );
                Failure::new(text, hint, exit::UNAVAILABLE)
            })
        }
        ClusterCommand::Area { name, none, remote } => {
            let client = remote.client()?;
            if none || name.is_some() {
                let area = name.map(String::from);
                wait(async { Ok(client.set_area(area.clone()).await?) })?;
                return print(out, remote.output.output, &AreaView { area });
            }
            let area = wait(async { Ok(client.cluster().await?) })?.area;
            print(out, remote.output.output, &AreaView { area })
        }
        ClusterCommand::Remove { node, lose_logs, remote } => {
            let client = remote.client_for(REMOVE)?;
            wait(async { Ok(client.remove_node(node, lose_logs).await?) })?;
            note(remote.output.output, &format!("node {node} is out; its process ends by itself"))
        }
        ClusterCommand::Transfer { node, remote } => {
            let client = remote.client()?;
            wait(async { Ok(client.transfer(node).await?) })?;
            note(remote.output.output, &format!("node {node} is asked to lead"))
        }
        ClusterCommand::Snapshot { remote } => {
            let client = remote.client_for(SNAPSHOT)?;
            let taken = wait(async { Ok(client.snapshot().await?) })?;
            print(out, remote.output.output, &taken)
        }
        ClusterCommand::Token { expires_in, remote } => {
            let client = remote.client()?;
            let token = wait(async { Ok(client.join_token(Some(expires_in)).await?) })?;
            print(out, remote.output.output, &token)
        }
        ClusterCommand::ConfirmTime { time, remote } => confirm_time(time, &remote),
    }
}

/// A node that was let in or founded does not run yet.
fn start_it(format: Format, config: &std::path::Path) -> Result<(), Failure> {
    note(format, &format!("next: horai node --config {}", config.display()))
}

/// What a person needs after founding a cluster.
#[derive(Debug, Serialize)]
struct FoundedView {
    cluster: String,
    token_file: String,
    join_token: String,
    join_token_good_for: String,
}

fn init(file: &std::path::Path, choices: &Choices) -> Result<FoundedView, Failure> {
    let config: NodeConfig = config::load(file, config::environment())?;
    let founded = founding::found(&config, choices).map_err(|error| {
        let (hint, exit) = match error {
            founding::Error::Exists(_) | founding::Error::Strange(_) => (
                "a cluster is founded once; other nodes enter it: horai cluster join",
                exit::CONFLICT,
            ),
            founding::Error::Zone(_) => ("write a name such as Europe/Berlin", exit::USAGE),
            founding::Error::Misfire(_) => ("write a length of time such as 60s", exit::USAGE),
            _ => ("put it right and found it again: what was begun is gone on with", exit::FAILED),
        };
        Failure::new(chain(&error), hint, exit)
    })?;
    Ok(FoundedView {
        cluster: founded.cluster.to_string(),
        token_file: config.node.token_file.display().to_string(),
        join_token: founded.join_token.text().to_owned(),
        join_token_good_for: "24h".to_owned(),
    })
}

/// Who the node is now.
#[derive(Debug, Serialize)]
struct JoinedView {
    cluster: String,
    node: u64,
}

fn enter(entry: &Entry, replaces: Option<NodeId>) -> Result<JoinedView, Failure> {
    let config: NodeConfig = config::load(&entry.config, config::environment())?;
    let token = match (&entry.token_file, &entry.token) {
        (Some(file), _) => token_of(file)?,
        (None, Some(token)) => token.trim().to_owned(),
        (None, None) => read_token(&config.node.token_file).map_err(|error| {
            let hint = "give --token: `horai cluster token` prints one where the cluster's admin \
                        token is";
            Failure::new(chain(&error), hint, exit::DENIED)
        })?.text().to_owned(),
    };
    let joined = wait(async {
        let joined = joining::join(&config, &entry.to, &token, replaces).await;
        joined.map_err(|error| {
            let (hint, exit) = match &error {
                joining::Error::Exists { .. } | joining::Error::Founding(_) => {
                    ("a node enters a cluster once, with an empty data_dir", exit::CONFLICT)
                }
                joining::Error::Ask(AskError::Denied(_)) => {
                    ("make a new token on the cluster: horai cluster token", exit::DENIED)
                }
                joining::Error::Ask(AskError::Refused(_)) => (
                    "see who is in the cluster: horai cluster status; a node that is out for good \
                     enters as a new one: empty its data_dir, then horai cluster join",
                    exit::CONFLICT,
                ),
                joining::Error::Ask(_) => {
                    ("check --to: it is the Raft address of a node that runs", exit::UNAVAILABLE)
                }
                _ => ("put it right and ask again: what was begun is gone on with", exit::FAILED),
            };
            Failure::new(chain(&error), hint, exit)
        })
    })?;
    Ok(JoinedView { cluster: joined.cluster.to_string(), node: joined.node.0 })
}

/// Asks the leader itself, if another node answered.
fn at_leader(cluster: &ClusterDto, remote: &Remote) -> Result<Option<Client>, Failure> {
    let leader = cluster.members.iter().find(|member| member.leader);
    leader
        .filter(|leader| leader.node != cluster.node)
        .map(|leader| remote.client_at(vec![format!("http://{}", leader.http)]))
        .transpose()
}

/// Only the leader's clock can be vouched for: it is asked itself.
fn confirm_time(time: Option<Time>, remote: &Remote) -> Result<(), Failure> {
    let client = remote.client()?;
    wait(async {
        let cluster = client.cluster().await?;
        let client = at_leader(&cluster, remote)?.unwrap_or(client);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let now = UtcMillis(i64::try_from(now).unwrap_or(i64::MAX));
        Ok(client.confirm_time(time.map_or(now, |Time(time)| time)).await?)
    })
}

/// Where the cluster stands.
#[derive(Debug, Serialize)]
struct AreaView {
    area: Option<String>,
}

impl Show for AreaView {
    fn view(&self) -> View {
        View { facts: vec![("area", or_dash(self.area.as_ref()))], ..View::default() }
    }

    fn ids(&self) -> Vec<String> {
        self.area.iter().cloned().collect()
    }
}

impl Show for FoundedView {
    fn view(&self) -> View {
        let facts = vec![
            ("cluster", self.cluster.clone()),
            ("token file", self.token_file.clone()),
            ("join token", self.join_token.clone()),
            ("good for", self.join_token_good_for.clone()),
        ];
        View { facts, ..View::default() }
    }

    fn ids(&self) -> Vec<String> {
        vec![self.join_token.clone()]
    }
}

impl Show for JoinedView {
    fn view(&self) -> View {
        let facts = vec![("cluster", self.cluster.clone()), ("node", self.node.to_string())];
        View { facts, ..View::default() }
    }

    fn ids(&self) -> Vec<String> {
        vec![self.node.to_string()]
    }
}

impl Show for TokenDto {
    fn view(&self) -> View {
        let facts =
            vec![("token", self.token.clone()), ("expires", or_dash(self.expires.map(moment)))];
        View { facts, ..View::default() }
    }

    fn ids(&self) -> Vec<String> {
        vec![self.token.clone()]
    }
}

impl Show for SnapshotDto {
    fn view(&self) -> View {
        let facts = vec![
            ("node", self.node.to_string()),
            ("covers", format!("the log up to index {}", self.index)),
        ];
        View { facts, ..View::default() }
    }

    fn ids(&self) -> Vec<String> {
        vec![self.index.to_string()]
    }
}

impl Show for ClusterDto {
    fn view(&self) -> View {
        let leader =
            self.leader.map(|leader| format!("node {}, term {}", leader.node, leader.term));
        let counts = self.counts;
        let mut facts = vec![
            ("cluster", self.cluster.clone()),
            ("told by", format!("node {}, version {}", self.node, self.version)),
            ("leader", leader.unwrap_or_else(|| "nobody".to_owned())),
            ("time", self.time.map_or_else(|| "not known".to_owned(), moment)),
            ("jobs", counts.jobs.to_string()),
            ("runs", format!("{}, {} queued", counts.runs, counts.queued)),
            ("live actions", counts.live_actions.to_string()),
            ("applied", format!("{}, state {}", self.applied_index, self.state_hash)),
        ];
        if let Some(area) = &self.area {
            facts.insert(1, ("area", area.clone()));
        }
        facts.extend(self.frozen.map(|since| ("frozen since", moment(since))));
        facts.extend(self.alarms.iter().map(|alarm| ("alarm", alarm.clone())));
        let titles = vec!["node", "role", "http", "grpc", "raft", "store"];
        let row = |member: &MemberDto| {
            let role = match (member.leader, member.voter) {
                (true, _) => "leader",
                (false, true) => "voter",
                (false, false) => "learner",
            };
            vec![
                member.node.to_string(),
                role.to_owned(),
                member.http.clone(),
                member.grpc.clone(),
                member.raft.clone(),
                member.store.clone(),
            ]
        };
        View { facts, titles, rows: self.members.iter().map(row).collect() }
    }

    fn ids(&self) -> Vec<String> {
        self.members.iter().map(|member| member.node.to_string()).collect()
    }
}
