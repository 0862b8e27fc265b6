//! The commands of this program that make and run a cluster, as a person would
//! type them. The one place that knows their arguments.

use std::ffi::OsString;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::files::{Folder, file_error};
use super::{Error, Role};

/// The longest a preparing command may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two looks at a command that runs.
const STEP: Duration = Duration::from_millis(5);

/// Runs this program's commands on one folder.
#[derive(Debug, Clone)]
pub(super) struct Steps {
    pub(super) program: PathBuf,
    pub(super) folder: Folder,
}

impl Steps {
    /// Makes the cluster: node 1 is its founder.
    pub(super) fn init(&self) -> Result<(), Error> {
        let config = self.folder.config(Role::Node(1)).into_os_string();
        self.run(vec!["cluster".into(), "init".into(), "--config".into(), config])
    }

    /// Prepares node `n` to join the cluster of the node whose Raft address is `seed`.
    pub(super) fn join(&self, n: u32, seed: SocketAddr, token: &str) -> Result<(), Error> {
        let config = self.folder.config(Role::Node(n)).into_os_string();
        let mut verb = vec!["cluster".into(), "join".into(), "--config".into(), config];
        verb.extend(["--to".into(), seed.to_string().into(), "--token".into(), token.into()]);
        self.run(verb)
    }

    /// Starts a node or worker; what it writes is added to its log.
    pub(super) fn spawn(&self, role: Role) -> Result<Child, Error> {
        let path = self.folder.log(role);
        let log = File::options().create(true).append(true).open(&path);
        let log = log.map_err(file_error(&path))?;
        let errors = log.try_clone().map_err(file_error(&path))?;
        let verb = match role {
            Role::Node(_) => "node",
            Role::Worker(_) => "worker",
        };
        let mut command = Command::new(&self.program);
        command.arg(verb).arg("--config").arg(self.folder.config(role));
        // A group of its own: Ctrl-C is for the starter, which stops all in order.
        command.process_group(0).stdin(Stdio::null()).stdout(log).stderr(errors);
        command.spawn().map_err(|source| Error::Spawn { what: role.to_string(), source })
    }

    /// Runs a command to its end.
    fn run(&self, arguments: Vec<OsString>) -> Result<(), Error> {
        // The verb is enough for a person, and holds no secret.
        let shown: Vec<_> = arguments.iter().take(2).map(|a| a.to_string_lossy()).collect();
        let command = shown.join(" ");
        let failed = |source| Error::Spawn { what: format!("`horai {command}`"), source };
        // A file, not a pipe: a full pipe would stop a command that is waited for.
        let err = self.folder.0.join("step.log");
        let mut child = Command::new(&self.program)
            .args(&arguments)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&err).map_err(file_error(&err))?)
            .spawn()
            .map_err(failed)?;
        let until = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = child.try_wait().map_err(failed)? {
                break status;
            }
            if Instant::now() > until {
                // It is gone already or will be: either way it failed.
                let _ = child.kill();
                break child.wait().map_err(failed)?;
            }
            std::thread::sleep(STEP);
        };
        if status.success() {
            return Ok(());
        }
        let complaint = fs::read_to_string(&err).map_err(file_error(&err))?;
        Err(Error::Step { command, status, said: complaint.trim().to_owned() })
    }
}
