//! A whole cluster on this machine, of child processes of this very program.
//!
//! For showing and for measuring: each node and worker is a real process with a
//! real disk, started through the commands that a person would type. Nothing
//! here decides for a cluster; it starts, restarts, kills and stops processes.
//! A [`guard`] process outlives this one for a moment, so that even a killed
//! demo leaves neither node, worker, shim nor job behind.

mod cluster;
mod files;
pub mod guard;
mod ports;
pub mod procs;
mod steps;
mod sweep;

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;

use crate::cli::client::ApiError;
use crate::config::TokenError;

pub use cluster::{Ended, LocalCluster, Member, Options};

/// One process of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// A scheduler node, numbered from 1 as the cluster numbers it.
    Node(u32),
    /// A worker, numbered from 1.
    Worker(u32),
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(n) => f.pad(&format!("node-{n}")),
            Self::Worker(n) => f.pad(&format!("worker-{n}")),
        }
    }
}

/// Why a local cluster cannot be started or used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Someone else listens there.
    #[error("port {port} of {role} cannot be used")]
    Port {
        /// The port.
        port: u16,
        /// Who needs it.
        role: Role,
        /// The first and the last port that the cluster needs.
        range: (u16, u16),
        /// What the system said.
        source: io::Error,
    },
    /// So many nodes do not fit above the base port.
    #[error("base port {base} is too high for {nodes} nodes")]
    BasePort {
        /// As given.
        base: u16,
        /// How many nodes there shall be.
        nodes: u32,
    },
    /// A folder that holds something already.
    #[error("{} is not empty", path.display())]
    NotEmpty {
        /// Which.
        path: PathBuf,
    },
    /// A file or folder cannot be made or read.
    #[error("{} cannot be used", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The secret cannot be kept.
    #[error("the cluster's token cannot be made")]
    Token(#[from] TokenError),
    /// A process cannot be started.
    #[error("{what} cannot be started")]
    Spawn {
        /// What.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// A command that prepares the cluster failed.
    #[error("`horai {command}` failed with {status}: {said}")]
    Step {
        /// The command.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of what it wrote.
        said: String,
    },
    /// A process ended that should be running.
    #[error("{role} ended by itself with {status}: {said}")]
    Ended {
        /// Which.
        role: Role,
        /// How.
        status: ExitStatus,
        /// The end of what it wrote.
        said: String,
    },
    /// It took too long.
    #[error("the cluster is not ready after {seconds} s: {missing}")]
    NotReady {
        /// How long it was waited for.
        seconds: u64,
        /// What is missing.
        missing: String,
    },
    /// The cluster refuses, or does not answer.
    #[error("the cluster did not do what was asked")]
    Api(#[from] ApiError),
}

impl Error {
    /// What to do about it.
    #[must_use]
    pub fn hint(&self) -> String {
        match self {
            Self::Port { range: (first, last), .. } => format!(
                "choose other ports with --base-port: ports {first} to {last} are needed now"
            ),
            Self::BasePort { .. } => {
                "choose --base-port so that base + 10 for each node is at most 65535".to_owned()
            }
            Self::NotEmpty { .. } => {
                "name an empty or new folder with --data-dir, or leave it out".to_owned()
            }
            Self::File { .. } | Self::Token(_) => {
                "check the path, its permissions and the free space".to_owned()
            }
            Self::Spawn { .. } => "was the program replaced or removed while it ran?".to_owned(),
            Self::Step { .. } | Self::Ended { .. } | Self::NotReady { .. } => {
                "keep the logs of all processes with --data-dir, and read them there".to_owned()
            }
            Self::Api(error) => error.problem.remedy.clone(),
        }
    }
}
