//! Reads a file, lets the environment override it, checks the whole.
//!
//! The environment comes in as an argument, so that tests need not change the
//! process's own.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::Value;

use super::Check;

/// `HORAI_CFG__RAFT__HEARTBEAT_MS=100` overrides `heartbeat_ms` of `[raft]`.
const PREFIX: &str = "HORAI_CFG__";

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot be read", file.display())]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML, or a field that does not exist or has the wrong form.
    #[error("{}:{line}: {message}", file.display())]
    Malformed {
        /// Which.
        file: PathBuf,
        /// From 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// A variable that overrides nothing.
    #[error("{variable}: {problem}")]
    Override {
        /// Its name.
        variable: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A value that cannot be taken.
    #[error("{}{}: {problem}", file.display(), line.map(|l| format!(":{l}")).unwrap_or_default())]
    Refused {
        /// Which file.
        file: PathBuf,
        /// The line that sets the field, if the file does.
        line: Option<usize>,
        /// Field, value, remedy.
        problem: Problem,
    },
}

/// A field with a value that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// `section.key`.
    pub field: String,
    /// As given.
    pub value: String,
    /// What to write instead.
    pub remedy: String,
}

impl Problem {
    pub(super) fn new(field: &str, value: impl fmt::Display, remedy: impl Into<String>) -> Self {
        Self { field: field.to_owned(), value: value.to_string(), remedy: remedy.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {} cannot be taken: {}", self.field, self.value, self.remedy)
    }
}

/// The process's own environment. What is not UTF-8 is replaced: in an override it
/// is then refused as a bad value, elsewhere it is nobody's business.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os().map(|(key, value)| {
        (key.to_string_lossy().into_owned(), value.to_string_lossy().into_owned())
    })
}

/// Reads `file`, applies overrides from `environment`, checks the whole.
///
/// # Errors
/// [`ConfigError`], naming file and line or variable.
pub fn load<C: DeserializeOwned + Check>(
    file: &Path,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<C, ConfigError> {
    let text = std::fs::read_to_string(file)
        .map_err(|source| ConfigError::Unreadable { file: file.to_owned(), source })?;
    let malformed = |error: &toml::de::Error| ConfigError::Malformed {
        file: file.to_owned(),
        line: error.span().map_or(1, |span| line_of(&text, span.start)),
        message: error.message().to_owned(),
    };
    // Read once as written, for errors with lines; then once more with the overrides.
    let mut table: toml::Table = toml::from_str(&text).map_err(|e| malformed(&e))?;
    let overridden = override_from(&mut table, environment)?;
    let config: C = if overridden.is_empty() {
        toml::from_str(&text).map_err(|e| malformed(&e))?
    } else {
        Value::Table(table).try_into().map_err(|e: toml::de::Error| {
            toml::from_str::<C>(&text).err().map_or_else(
                || ConfigError::Override {
                    variable: overridden.join(", "),
                    problem: e.message().to_owned(),
                },
                |e| malformed(&e),
            )
        })?
    };
    config.check().map_err(|problem| ConfigError::Refused {
        file: file.to_owned(),
        line: line_that_sets(&text, &problem.field),
        problem,
    })?;
    Ok(config)
}

fn override_from(
    table: &mut toml::Table,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Vec<String>, ConfigError> {
    let mut overridden = Vec::new();
    for (variable, text) in environment {
        let Some(path) = variable.strip_prefix(PREFIX) else { continue };
        let path = path.to_ascii_lowercase();
        let wrong = |problem: String| ConfigError::Override { variable: variable.clone(), problem };
        let (section, key) = path
            .split_once("__")
            .ok_or_else(|| wrong(format!("write it as {PREFIX}SECTION__KEY")))?;
        let section = table
            .entry(section)
            .or_insert_with(|| Value::Table(toml::Table::new()))
            .as_table_mut()
            .ok_or_else(|| wrong(format!("'{section}' is not a section")))?;
        section.insert(key.to_owned(), toml_value(&text));
        overridden.push(variable);
    }
    Ok(overridden)
}

/// Numbers, booleans and lists as TOML writes them; all else is text.
fn toml_value(text: &str) -> Value {
    toml::from_str::<toml::Table>(&format!("value = {text}"))
        .ok()
        .and_then(|mut table| table.remove("value"))
        .unwrap_or_else(|| Value::String(text.to_owned()))
}

fn line_of(text: &str, offset: usize) -> usize {
    text.bytes().take(offset).filter(|&b| b == b'\n').count() + 1
}

/// The line of `key =` under `[section]`.
fn line_that_sets(text: &str, field: &str) -> Option<usize> {
    let (section, key) = field.rsplit_once('.')?;
    let mut inside = false;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            inside = line.starts_with(&format!("[{section}]"));
        } else if inside && line.split('=').next().is_some_and(|k| k.trim() == key) {
            return Some(number + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::super::{NodeConfig, WorkerConfig};
    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    fn node(text: &str, environment: &[(&str, &str)]) -> Result<NodeConfig, ConfigError> {
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        load(file(text).path(), environment)
    }

    const NODE: &str = "[node]\ndata_dir = \"d\"\ntoken_file = \"t\"\n";

    #[test]
    fn the_sample_files_are_read_whole() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
        let node: NodeConfig = load(&root.join("node.toml"), []).unwrap();
        assert_eq!(node.raft, super::super::RaftSection::default());
        assert_eq!(node.node.http.port(), 7600);
        let worker: WorkerConfig = load(&root.join("worker.toml"), []).unwrap();
        assert_eq!(worker.worker.nodes.len(), 3);
    }

    #[test]
    fn the_environment_overrides_the_file() {
        let config = node(NODE, &[("HORAI_CFG__RAFT__HEARTBEAT_MS", "60"), ("HORAI_TOKEN", "x")]);
        assert_eq!(config.unwrap().raft.heartbeat_ms, 60);
        let config = node(NODE, &[("HORAI_CFG__NODE__HTTP", "127.0.0.1:0")]);
        assert_eq!(config.unwrap().node.http.port(), 0);
    }

    #[test]
    fn mistakes_name_file_and_line_or_variable() {
        let shown = |text: &str, environment: &[(&str, &str)]| {
            node(text, environment).unwrap_err().to_string()
        };
        let unknown = shown(&format!("{NODE}colour = 1\n"), &[]);
        assert!(unknown.contains(":4:") && unknown.contains("colour"), "{unknown}");
        let refused = shown(&format!("{NODE}[raft]\nheartbeat_ms = 5\n"), &[]);
        assert!(refused.contains(":5:") && refused.contains("10 to 1000"), "{refused}");
        let broken = shown("[node\n", &[]);
        assert!(broken.contains(":1:"), "{broken}");
        let variable = shown(NODE, &[("HORAI_CFG__RAFT__SPEED", "1")]);
        assert!(variable.contains("HORAI_CFG__RAFT__SPEED"), "{variable}");
        let short = shown(NODE, &[("HORAI_CFG__RAFT", "1")]);
        assert!(short.contains("SECTION__KEY"), "{short}");
        let missing = load::<NodeConfig>(Path::new("no-such-file.toml"), []).unwrap_err();
        assert!(missing.to_string().contains("no-such-file.toml"));
    }

    #[test]
    fn values_that_do_not_fit_each_other_are_refused() {
        for (section, field) in [
            ("[raft]\nelection_min_ms = 100\n", "raft.election_min_ms"),
            ("[raft]\nelection_max_ms = 200\n", "raft.election_max_ms"),
            ("[raft]\nheartbeat_ms = 1001\n", "raft.heartbeat_ms"),
        ] {
            match node(&format!("{NODE}{section}"), &[]) {
                Err(ConfigError::Refused { problem, line, .. }) => {
                    assert_eq!(problem.field, field);
                    assert_eq!(line, Some(5));
                }
                other => panic!("{field}: {other:?}"),
            }
        }
        let same_port = node(&format!("{NODE}grpc = \"127.0.0.1:7600\"\n"), &[]).unwrap_err();
        assert!(same_port.to_string().contains("node.grpc"), "{same_port}");
    }

    #[test]
    fn an_address_that_others_cannot_reach_is_refused() {
        let everywhere = format!("{NODE}grpc = \"0.0.0.0:7601\"\n");
        let refused = node(&everywhere, &[]).unwrap_err().to_string();
        assert!(refused.contains("node.grpc") && refused.contains("advertise_grpc"), "{refused}");
        let told = format!("{everywhere}advertise_grpc = \"node-1:7601\"\n");
        assert_eq!(node(&told, &[]).unwrap().node.advertise_grpc.unwrap(), "node-1:7601");
        for bad in ["node-1", "node-1:0", ":7601"] {
            let refused = node(&format!("{everywhere}advertise_grpc = \"{bad}\"\n"), &[]);
            let refused = refused.unwrap_err().to_string();
            assert!(refused.contains("host:port") && refused.contains(bad), "{refused}");
        }
    }

    #[test]
    fn levels_of_the_log_are_checked() {
        let level = |level| node(NODE, &[("HORAI_CFG__LOG__LEVEL", level)]);
        assert_eq!(level("debug").unwrap().log.level, "debug");
        assert!(level("warn,horai::session=trace").is_ok());
        let refused = level("loud").unwrap_err().to_string();
        assert!(refused.contains("log.level") && refused.contains("debug"), "{refused}");
        assert!(node(NODE, &[("HORAI_CFG__LOG__FORMAT", "xml")]).is_err());
    }

    #[test]
    fn heartbeats_of_a_worker_have_bounds() {
        let worker = "[worker]\nname = \"w\"\ndata_dir = \"d\"\nnodes = [\"n:1\"]\n\
                      token_file = \"t\"\nheartbeat_ms = ";
        let beat = |ms: u64| load::<WorkerConfig>(file(&format!("{worker}{ms}\n")).path(), []);
        assert_eq!(beat(100).unwrap().worker.heartbeat_ms, 100);
        for bad in [99, 10_001] {
            let refused = beat(bad).unwrap_err().to_string();
            assert!(refused.contains(":6:") && refused.contains("100 to 10000"), "{refused}");
        }
    }
}
