//! The programs with faults in them: built once, apart from those without.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::Task;
use super::tiers::Tier;
use crate::error::Failure;

/// Where they lie.
#[derive(Debug)]
pub(super) struct Programs {
    target: PathBuf,
    core: Option<PathBuf>,
    machine: Option<PathBuf>,
    cluster: Option<PathBuf>,
    product: Option<PathBuf>,
    jepsen: Option<PathBuf>,
}

/// What the sources of a tier are: commit and, if files differ from it, a sum of the
/// difference.
pub(super) fn source(workspace: &Path, tier: Tier) -> Result<String, Failure> {
    let git = |arguments: &[&str]| -> Result<Vec<u8>, Failure> {
        let out = Command::new("git").current_dir(workspace).args(arguments).output()?;
        if !out.status.success() {
            let said = String::from_utf8_lossy(&out.stderr).trim().to_owned();
            return Err(format!("git {}: {said}", arguments.join(" ")).into());
        }
        Ok(out.stdout)
    };
    let product = ["Cargo.lock", "Cargo.toml", ".cargo", "src", "proto"];
    let tests: &[&str] = match tier {
        Tier::L0 => &[],
        Tier::L1 => &["tests"],
        Tier::L2 => &["jepsen"],
    };
    let parts = [&product, tests].concat();
    let mut commit = String::new();
    for part in &parts {
        let id = git(&["rev-parse", &format!("HEAD:{part}")])?;
        commit.push_str(&String::from_utf8_lossy(&id));
    }
    let mut difference = git(&[&["diff", "HEAD", "--"][..], &parts].concat())?;
    difference
        .extend(git(&[&["ls-files", "-o", "--exclude-standard", "--"][..], &parts].concat())?);
    let sum = |bytes: &[u8]| {
        // FNV-1a: only to tell one source from another.
        let step = |sum: u64, byte: &u8| (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
    };
    let dirty = if difference.is_empty() {
        String::new()
    } else {
        format!("+{:08x}", sum(&difference) >> 32)
    };
    Ok(format!("{:012x}{dirty}", sum(commit.as_bytes()) >> 16))
}

impl Programs {
    /// Builds what the tasks need.
    pub(super) fn build<'t>(
        workspace: &Path,
        target: &Path,
        tasks: impl IntoIterator<Item = &'t Task>,
        out: &mut impl Write,
    ) -> Result<Self, Failure> {
        let tiers: Vec<Tier> = tasks.into_iter().map(|task| task.tier).collect();
        let needs = |tier: Tier| tiers.contains(&tier);
        let target = target.canonicalize()?;
        let mut programs =
            Self { target, core: None, machine: None, cluster: None, product: None, jepsen: None };
        let mut made = BTreeMap::new();
        if needs(Tier::L0) || needs(Tier::L1) {
            let mut arguments = vec!["test", "--package", "horai", "--features", "mutants"];
            arguments.push("--no-run");
            arguments.extend(needs(Tier::L0).then_some("--package=horai-core"));
            arguments.extend(needs(Tier::L0).then_some("--lib"));
            arguments.extend(needs(Tier::L1).then_some("--test=sim"));
            made.extend(programs.cargo(workspace, &arguments, out)?);
        }
        programs.core = made.remove(&("horai".to_owned(), true));
        programs.machine = made.remove(&("horai_core".to_owned(), true));
        programs.cluster = made.remove(&("sim".to_owned(), true));
        if needs(Tier::L2) {
            // As the workspace is built else: one choice of features of what both need.
            let mut arguments = vec!["build", "--workspace", "--features", "mutants"];
            arguments.extend(["--bin", "horai", "--bin", "jepsen"]);
            made.extend(programs.cargo(workspace, &arguments, out)?);
        }
        programs.product = made.remove(&("horai".to_owned(), false));
        programs.jepsen = made.remove(&("jepsen".to_owned(), false));
        Ok(programs)
    }

    /// Runs cargo; the programs that it made, by name and whether they are tests.
    fn cargo(
        &self,
        workspace: &Path,
        arguments: &[&str],
        out: &mut impl Write,
    ) -> Result<BTreeMap<(String, bool), PathBuf>, Failure> {
        writeln!(out, "cargo {}", arguments.join(" "))?;
        out.flush()?;
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command.current_dir(workspace).args(arguments).arg("--message-format=json");
        command.env("CARGO_TARGET_DIR", &self.target);
        command.stdin(Stdio::null()).stderr(Stdio::inherit());
        let built = command.output()?;
        if !built.status.success() {
            return Err(format!("cargo {} failed: {}", arguments.join(" "), built.status).into());
        }
        Ok(made(&String::from_utf8_lossy(&built.stdout)))
    }

    /// Where tests of real processes keep their evidence.
    pub(super) fn store(&self) -> PathBuf {
        self.target.join("jepsen")
    }

    pub(super) fn core(&self) -> Result<&Path, Failure> {
        there(self.core.as_ref(), "the tests of the library")
    }

    pub(super) fn machine(&self) -> Result<&Path, Failure> {
        there(self.machine.as_ref(), "the tests of the core")
    }

    pub(super) fn cluster(&self) -> Result<&Path, Failure> {
        there(self.cluster.as_ref(), "the simulated cluster")
    }

    pub(super) fn product(&self) -> Result<&Path, Failure> {
        there(self.product.as_ref(), "the product")
    }

    pub(super) fn jepsen(&self) -> Result<&Path, Failure> {
        there(self.jepsen.as_ref(), "the harness")
    }
}

fn there<'p>(path: Option<&'p PathBuf>, what: &str) -> Result<&'p Path, Failure> {
    path.map(PathBuf::as_path).ok_or_else(|| format!("cargo did not say where {what} is").into())
}

/// Programs in cargo's messages.
fn made(messages: &str) -> BTreeMap<(String, bool), PathBuf> {
    let read = |line: &str| {
        let message: Value = serde_json::from_str(line).ok()?;
        let path = message["executable"].as_str()?;
        let name = message["target"]["name"].as_str()?.to_owned();
        let is_test = message["profile"]["test"].as_bool()?;
        Some(((name, is_test), path.into()))
    };
    messages.lines().filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_in_what_cargo_says() {
        let said = concat!(
            r#"{"reason":"compiler-artifact","target":{"name":"serde"},"executable":null}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"horai"},"profile":{"test":true},"executable":"/t/deps/horai-1"}"#,
            "\n",
            r#"{"reason":"compiler-artifact","target":{"name":"horai"},"profile":{"test":false},"executable":"/t/horai"}"#,
            "\nnot json\n",
            r#"{"reason":"build-finished","success":true}"#,
        );
        let made = made(said);
        assert_eq!(made.len(), 2);
        assert_eq!(made[&("horai".to_owned(), true)], Path::new("/t/deps/horai-1"));
        assert_eq!(made[&("horai".to_owned(), false)], Path::new("/t/horai"));
    }
}
