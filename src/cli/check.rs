//! Checks of files that need no cluster.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use horai_core::ids::{JobId, Name};
use horai_core::timing::check::check_spec;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::failure::Failure;
use crate::api::job_definition::JobDefinition;
use crate::config::{self, Check};
use crate::error::{chain, exit};

/// The largest job file, in bytes.
const MAX_FILE: u64 = 16 * 1024 * 1024;

/// A file of jobs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct JobFile {
    jobs: Vec<JobDefinition>,
}

/// The jobs of files, each with the place where it stands.
pub(super) fn read_all(files: &[PathBuf]) -> Result<Vec<(String, JobDefinition)>, Failure> {
    let mut jobs = Vec::new();
    for file in files {
        for (i, job) in read(file)?.jobs.into_iter().enumerate() {
            jobs.push((format!("{}: jobs[{i}] ({})", file.display(), job.name), job));
        }
    }
    Ok(jobs)
}

/// Checks job files as one set: a job may depend on one of another file.
pub(super) fn jobs(files: &[PathBuf], out: &mut impl Write) -> Result<(), Failure> {
    let jobs = read_all(files)?;
    let mut numbers: BTreeMap<String, JobId> = BTreeMap::new();
    for (n, (place, job)) in (1..).zip(&jobs) {
        if numbers.insert(job.name.clone(), JobId(n)).is_some() {
            return Err(Failure::new(
                format!("{place}: another job has the same name"),
                "give each job a name of its own",
                exit::USAGE,
            ));
        }
    }
    let number_of = |name: &Name| numbers.get(name.as_str()).copied();
    let mut upstream: BTreeMap<JobId, Vec<JobId>> = BTreeMap::new();
    for (n, (place, job)) in (1..).zip(&jobs) {
        let spec = job.to_spec(number_of).map_err(|e| Failure::of_field(place, &e))?;
        check_spec(&spec, "UTC", None).map_err(|e| {
            // What is wrong with the field, and what would be right, is the source's to say.
            let problem = format!("{place}: {e}: {}", chain(&e.source));
            Failure::new(problem, "correct the field named", exit::USAGE)
                .marked(e.caret().as_deref())
        })?;
        upstream.insert(JobId(n), spec.depends_on.iter().map(|edge| edge.job).collect());
    }
    if let Some(circle) = circle(&upstream) {
        let names: Vec<&str> = numbers
            .iter()
            .filter(|(_, id)| circle.contains(id))
            .map(|(name, _)| name.as_str())
            .collect();
        return Err(Failure::new(
            format!("these jobs wait for each other: {}", names.join(", ")),
            "take one of their dependencies away",
            exit::USAGE,
        ));
    }
    for (place, job) in &jobs {
        for notice in job.notices() {
            writeln!(std::io::stderr(), "{place}: {notice}")?;
        }
    }
    let verb = if jobs.len() == 1 { " is" } else { "s are" };
    writeln!(out, "{} job{verb} well formed", jobs.len())?;
    Ok(())
}

/// Jobs that are in a circle or behind one: what is left after all jobs whose
/// upstream jobs are gone have been taken away, again and again.
fn circle(upstream: &BTreeMap<JobId, Vec<JobId>>) -> Option<Vec<JobId>> {
    let mut left = upstream.clone();
    loop {
        let free: Vec<JobId> = left
            .iter()
            .filter(|(_, edges)| !edges.iter().any(|edge| left.contains_key(edge)))
            .map(|(job, _)| *job)
            .collect();
        if free.is_empty() {
            return (!left.is_empty()).then(|| left.into_keys().collect());
        }
        for job in free {
            left.remove(&job);
        }
    }
}

fn read(file: &Path) -> Result<JobFile, Failure> {
    read_file(file, "a job file holds a list under 'jobs': config/first.yaml is an example")
}

/// What a file holds, in the form that its name says; `hint` says what it should be.
pub(super) fn read_file<T: DeserializeOwned>(file: &Path, hint: &str) -> Result<T, Failure> {
    let shown = file.display();
    let unreadable = |e: std::io::Error| {
        Failure::new(format!("{shown}: {e}"), "check the path and its permissions", exit::NOT_FOUND)
    };
    let size = fs::metadata(file).map_err(unreadable)?.len();
    if size > MAX_FILE {
        return Err(Failure::new(
            format!("{shown}: {size} bytes are too many"),
            format!("split it: a file has at most {MAX_FILE} bytes"),
            exit::USAGE,
        ));
    }
    let text = fs::read_to_string(file).map_err(unreadable)?;
    let parsed: Result<T, String> = match file.extension().and_then(|e| e.to_str()) {
        Some("yaml" | "yml") => serde_saphyr::from_str(&text).map_err(|e| one_line(&e)),
        Some("toml") => toml::from_str(&text).map_err(|e| e.to_string()),
        Some("json") => serde_json::from_str(&text).map_err(|e| e.to_string()),
        _ => Err("the name does not say what it holds: use .yaml, .yml, .toml or .json".to_owned()),
    };
    parsed.map_err(|problem| Failure::new(format!("{shown}: {problem}"), hint, exit::USAGE))
}

/// The first line of an error that draws its place, without a word of its own.
fn one_line(error: &impl ToString) -> String {
    let text = error.to_string();
    let first = text.lines().next().unwrap_or_default();
    first.strip_prefix("error: ").unwrap_or(first).to_owned()
}

/// Checks a configuration file with the environment's overrides.
pub(super) fn config<C: DeserializeOwned + Check>(
    file: &Path,
    out: &mut impl Write,
) -> Result<(), Failure> {
    let _checked: C = config::load(file, config::environment())?;
    writeln!(out, "{} is well formed", file.display())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_circle_is_found_and_a_diamond_is_none() {
        let graph = |edges: &[(u64, &[u64])]| -> BTreeMap<JobId, Vec<JobId>> {
            edges
                .iter()
                .map(|(j, up)| (JobId(*j), up.iter().copied().map(JobId).collect()))
                .collect()
        };
        assert_eq!(circle(&graph(&[(1, &[]), (2, &[1]), (3, &[1]), (4, &[2, 3])])), None);
        assert_eq!(
            circle(&graph(&[(1, &[]), (2, &[3]), (3, &[2])])).unwrap(),
            [JobId(2), JobId(3)]
        );
        assert_eq!(circle(&graph(&[(1, &[1])])).unwrap(), [JobId(1)]);
    }
}
