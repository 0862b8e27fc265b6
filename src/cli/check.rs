//! Checks of files that need no cluster.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use horai_core::ids::{JobId, Name};
use horai_core::model::file::JobFile;
use horai_core::model::job::JobSpec;
use horai_core::timing::check::{Calendars, check_spec};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::failure::Failure;
use super::files::read_file;
use crate::api::job_definition::{FileDefinition, JobDefinition};
use crate::config::{self, Check, NodeConfig};
use crate::error::{ErrorCode, FieldError, chain, exit};
use crate::offline::plan::circle;
use crate::secrets::Keyring;

/// A file of jobs.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Jobs {
    jobs: Vec<JobDefinition>,
}

/// The jobs of files, each with the place where it stands.
pub(super) fn read_all(files: &[PathBuf]) -> Result<Vec<(String, JobDefinition)>, Failure> {
    let mut jobs = Vec::new();
    for file in files {
        let folder = file.parent().unwrap_or(Path::new(""));
        for (i, mut job) in read(file)?.jobs.into_iter().enumerate() {
            let place = format!("{}: jobs[{i}] ({})", file.display(), job.name);
            bring(folder, &mut job).map_err(|error| Failure::of_field(&place, &error))?;
            jobs.push((place, job));
        }
    }
    Ok(jobs)
}

/// Puts the contents of files in the place of their paths, which lead on from `folder`.
fn bring(folder: &Path, job: &mut JobDefinition) -> Result<(), FieldError> {
    for (name, file) in &mut job.files {
        let FileDefinition { path: Some(path), text: None, base64: None, sha256: None, .. } = file
        else {
            continue;
        };
        let at = folder.join(&*path);
        let wrong = |problem: String, remedy: &str| {
            FieldError::invalid(format!("files.{name}.path"), &*path, problem, remedy)
        };
        let unreadable = |error: std::io::Error| {
            let remedy = "write it as it is seen from the folder of the file that names it";
            wrong(format!("{}: {error}", at.display()), remedy)
        };
        let size = fs::metadata(&at).map_err(unreadable)?.len();
        if size > JobFile::MAX_BYTES {
            let problem = format!(
                "it has {size} bytes, and all files of a job at most {}",
                JobFile::MAX_BYTES
            );
            let error = wrong(problem, "fetch large files in the script");
            return Err(error.with_code(ErrorCode::TooLarge));
        }
        let content = fs::read(&at).map_err(unreadable)?;
        *file = FileDefinition {
            size: file.size,
            ..FileDefinition::of_content(content, file.mode.take())
        };
    }
    Ok(())
}

/// Definitions as one set: a job may depend on one of another file. Their numbers are
/// their places, counted from 1.
pub(super) fn specs(
    jobs: &[(String, JobDefinition)],
    zone: &str,
    calendars: Option<&Calendars<'_>>,
) -> Result<Vec<JobSpec>, Failure> {
    let mut numbers: BTreeMap<String, JobId> = BTreeMap::new();
    for (n, (place, job)) in (1..).zip(jobs) {
        if numbers.insert(job.name.clone(), JobId(n)).is_some() {
            return Err(Failure::new(
                format!("{place}: another job has the same name"),
                "give each job a name of its own",
                exit::USAGE,
            ));
        }
    }
    let number_of = |name: &Name| numbers.get(name.as_str()).copied();
    let mut specs = Vec::with_capacity(jobs.len());
    for (place, job) in jobs {
        let spec = job.to_spec(number_of).map_err(|e| Failure::of_field(place, &e))?;
        check_spec(&spec, zone, calendars).map_err(|e| {
            // What is wrong with the field, and what would be right, is the source's to say.
            let problem = format!("{place}: {e}: {}", chain(&e.source));
            Failure::new(problem, "correct the field named", exit::USAGE)
                .marked(e.caret().as_deref())
        })?;
        specs.push(spec);
    }
    if let Some(circle) = circle(&specs) {
        let path = circle.join(" → ");
        // The place of the first of them: the others are named.
        let first = jobs.iter().find(|(_, job)| Some(&job.name.as_str()) == circle.first());
        let place = first.map(|(place, _)| format!("{place}: ")).unwrap_or_default();
        return Err(Failure::new(
            format!("{place}these jobs wait for each other: {path}"),
            "take one of their dependencies away",
            exit::USAGE,
        ));
    }
    Ok(specs)
}

/// Checks job files as one set.
pub(super) fn jobs(files: &[PathBuf], out: &mut impl Write) -> Result<(), Failure> {
    let jobs = read_all(files)?;
    specs(&jobs, "UTC", None)?;
    for (place, job) in &jobs {
        for notice in job.notices() {
            writeln!(std::io::stderr(), "{place}: {notice}")?;
        }
    }
    let verb = if jobs.len() == 1 { " is" } else { "s are" };
    writeln!(out, "{} job{verb} well formed", jobs.len())?;
    Ok(())
}

fn read(file: &Path) -> Result<Jobs, Failure> {
    read_file(file, "a job file holds a list under 'jobs': config/first.yaml is an example")
}

/// Checks a configuration file with the environment's overrides.
pub(super) fn config<C: DeserializeOwned + Check>(
    file: &Path,
    out: &mut impl Write,
) -> Result<(), Failure> {
    read_config::<C>(file, out).map(drop)
}

fn read_config<C: DeserializeOwned + Check>(
    file: &Path,
    out: &mut impl Write,
) -> Result<C, Failure> {
    let checked: C = config::load(file, config::environment())?;
    writeln!(out, "{} is well formed", file.display())?;
    Ok(checked)
}

/// The same of a node, with the keys of secrets that it names.
pub(super) fn node_config(file: &Path, out: &mut impl Write) -> Result<(), Failure> {
    let checked: NodeConfig = read_config(file, out)?;
    let Some(key_file) = &checked.secrets.key_file else { return Ok(()) };
    let keys = Keyring::read(key_file).map_err(|error| {
        let hint = "the same file belongs to every node; horai secret keygen --out FILE makes one";
        Failure::new(chain(&error), hint, exit::BAD_CONFIG)
    })?;
    let ids: Vec<String> = keys.ids().map(|id| id.to_string()).collect();
    writeln!(out, "{} holds the keys {}", key_file.display(), ids.join(", "))?;
    Ok(())
}
