//! The folder of a local cluster: configuration, secret, output of each process.
//!
//! ```text
//! FOLDER/token                 the admin token, for all of them
//!        node-1.toml           configuration
//!        node-1/               data
//!        node-1.log            what the process wrote
//!        worker-1.toml ...
//! ```

use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::ports::Ports;
use super::{Error, Role};

/// What is shown of a process that failed.
const TAIL: u64 = 2_000;

/// Paths below one folder.
#[derive(Debug, Clone)]
pub(super) struct Folder(pub(super) PathBuf);

pub(super) fn file_error(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::File { path, source }
}

impl Folder {
    /// Makes the folder if it is missing; one that holds something is refused.
    pub(super) fn create(path: &Path) -> Result<Self, Error> {
        fs::create_dir_all(path).map_err(file_error(path))?;
        // Processes are found by this path: it must be the one and only.
        let path = path.canonicalize().map_err(file_error(path))?;
        if fs::read_dir(&path).map_err(file_error(&path))?.next().is_some() {
            return Err(Error::NotEmpty { path });
        }
        Ok(Self(path))
    }

    pub(super) fn token(&self) -> PathBuf {
        self.0.join("token")
    }

    pub(super) fn config(&self, role: Role) -> PathBuf {
        self.0.join(format!("{role}.toml"))
    }

    pub(super) fn data(&self, role: Role) -> PathBuf {
        self.0.join(role.to_string())
    }

    pub(super) fn log(&self, role: Role) -> PathBuf {
        self.0.join(format!("{role}.log"))
    }

    /// The end of what a process wrote.
    pub(super) fn tail(&self, role: Role) -> String {
        let read = || -> io::Result<String> {
            let mut file = fs::File::open(self.log(role))?;
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
            let mut bytes = Vec::new();
            file.take(TAIL).read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).trim().to_owned())
        };
        read().unwrap_or_else(|e| format!("its log cannot be read: {e}"))
    }

    /// Writes a node's configuration.
    pub(super) fn write_node(&self, n: u32, ports: &Ports) -> Result<(), Error> {
        let role = Role::Node(n);
        let node = toml::Table::from_iter([
            ("data_dir".to_owned(), text(self.data(role))),
            ("http".to_owned(), text(ports.http)),
            ("grpc".to_owned(), text(ports.grpc)),
            ("raft".to_owned(), text(ports.raft)),
            ("token_file".to_owned(), text(self.token())),
        ]);
        self.write_config(role, "node", node)
    }

    /// Writes a worker's configuration.
    pub(super) fn write_worker(&self, n: u32, nodes: &[Ports], slots: u32) -> Result<(), Error> {
        let role = Role::Worker(n);
        let nodes: Vec<toml::Value> = nodes.iter().map(|ports| text(ports.grpc)).collect();
        let worker = toml::Table::from_iter([
            ("name".to_owned(), text(role)),
            ("data_dir".to_owned(), text(self.data(role))),
            ("nodes".to_owned(), nodes.into()),
            ("slots".to_owned(), i64::from(slots).into()),
            // Whoever stops such a cluster waits for nobody's jobs.
            ("stop_after_ms".to_owned(), 0.into()),
            ("token_file".to_owned(), text(self.token())),
        ]);
        self.write_config(role, "worker", worker)
    }

    fn write_config(&self, role: Role, section: &str, table: toml::Table) -> Result<(), Error> {
        let path = self.config(role);
        let whole = toml::Table::from_iter([(section.to_owned(), table.into())]);
        fs::write(&path, whole.to_string()).map_err(file_error(&path))
    }
}

trait AsText {
    fn text(self) -> String;
}

impl AsText for PathBuf {
    fn text(self) -> String {
        // A path that is no UTF-8 cannot stand in TOML: reading it will name it.
        self.to_string_lossy().into_owned()
    }
}

impl AsText for std::net::SocketAddr {
    fn text(self) -> String {
        self.to_string()
    }
}

impl AsText for Role {
    fn text(self) -> String {
        self.to_string()
    }
}

fn text(value: impl AsText) -> toml::Value {
    toml::Value::String(value.text())
}

#[cfg(test)]
mod tests {
    use super::super::ports::assign;
    use super::*;
    use crate::config::{self, NodeConfig, WorkerConfig};

    #[test]
    fn what_is_written_is_well_formed() {
        let home = tempfile::tempdir().unwrap();
        let folder = Folder::create(&home.path().join("new")).unwrap();
        let ports = assign(7600, 3).unwrap();
        folder.write_node(2, &ports[1]).unwrap();
        folder.write_worker(1, &ports, 64).unwrap();
        let none = || std::iter::empty::<(String, String)>();
        let node: NodeConfig = config::load(&folder.config(Role::Node(2)), none()).unwrap();
        assert_eq!((node.node.http, node.node.raft), (ports[1].http, ports[1].raft));
        let worker: WorkerConfig = config::load(&folder.config(Role::Worker(1)), none()).unwrap();
        assert_eq!(worker.worker.nodes, ["127.0.0.1:7601", "127.0.0.1:7611", "127.0.0.1:7621"]);
        assert_eq!((worker.worker.slots, worker.worker.name.as_str()), (64, "worker-1"));
    }

    #[test]
    fn a_folder_in_use_is_refused_and_the_tail_is_the_end() {
        let home = tempfile::tempdir().unwrap();
        let folder = Folder::create(home.path()).unwrap();
        let long = "x".repeat(5_000) + "the end";
        fs::write(folder.log(Role::Node(1)), &long).unwrap();
        let tail = folder.tail(Role::Node(1));
        assert!(tail.ends_with("xthe end") && tail.len() == 2_000, "{}", tail.len());
        assert!(matches!(Folder::create(home.path()), Err(Error::NotEmpty { .. })));
    }
}
