//! The jobs of `config/demo/jobs.yaml`, compiled in, and what they leave on disk.

use std::fs;
use std::io;
use std::path::Path;

use serde::Deserialize;

use super::ledger::Witness;
use crate::api::job_definition::JobDefinition;

const TEXT: &str = include_str!("../../config/demo/jobs.yaml");
/// The variable that names the jobs' folder.
const FOLDER: &str = "DEMO_DIR";
/// Who adds a line to which file when it succeeds.
const WITNESSES: [(&str, &str); 4] = [
    ("sample", "samples.csv"),
    ("aggregate", "averages.csv"),
    ("report", "reports.csv"),
    ("flaky", "checks.csv"),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JobFile {
    jobs: Vec<JobDefinition>,
}

/// The definitions, with `folder` as the one they share.
pub(super) fn definitions(folder: &Path) -> Vec<JobDefinition> {
    let file: JobFile =
        serde_saphyr::from_str(TEXT).expect("a test reads the file that is compiled in");
    let mut jobs = file.jobs;
    for job in &mut jobs {
        job.env.insert(FOLDER.to_owned(), folder.to_string_lossy().into_owned());
    }
    jobs
}

/// What the jobs wrote down in `folder`.
pub(super) fn witness(folder: &Path) -> io::Result<Witness> {
    let mut witness = Witness::default();
    for (job, file) in WITNESSES {
        match fs::read_to_string(folder.join(file)) {
            Ok(text) => witness.read(job, &text),
            // It has not succeeded yet.
            Err(e) if e.kind() == io::ErrorKind::NotFound => witness.read(job, ""),
            Err(e) => return Err(e),
        }
    }
    Ok(witness)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, ExitStatus};

    use horai_core::ids::JobId;

    use super::*;

    fn execute(job: &JobDefinition, attempt: &str) -> ExitStatus {
        Command::new("/bin/sh")
            .arg("-c")
            .arg(job.shell.as_ref().unwrap())
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .envs(&job.env)
            .env("HORAI_ACTION_ID", format!("{}@20261121T030005Z", job.name))
            .env("HORAI_ATTEMPT", attempt)
            .env("HORAI_FENCING_TOKEN", "7")
            .stdout(std::process::Stdio::null())
            .status()
            .unwrap()
    }

    #[test]
    fn every_job_is_valid_and_testifies_when_it_succeeds() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("files");
        let jobs = definitions(&folder);
        assert_eq!(jobs.len(), WITNESSES.len());
        assert!(witness(&folder).unwrap().lines.is_empty());
        for job in &jobs {
            job.to_spec(|_| Some(JobId(1))).unwrap();
            assert!(execute(job, "r-1.3").success(), "{}", job.name);
        }
        let witness = witness(&folder).unwrap();
        let jobs: Vec<_> = witness.lines.iter().map(|(a, n)| (a.job.as_str(), *n)).collect();
        assert_eq!(jobs, [("aggregate", 1), ("flaky", 1), ("report", 1), ("sample", 1)]);
        assert_eq!(witness.unreadable, 0);
        let report = fs::read_to_string(folder.join("report.md")).unwrap();
        assert!(
            report.ends_with(" |\n") && report.contains("| 20261121T030005Z | 1 |"),
            "{report}"
        );
    }

    #[test]
    fn the_flaky_job_fails_twice() {
        let home = tempfile::tempdir().unwrap();
        let jobs = definitions(home.path());
        let flaky = jobs.iter().find(|job| job.name == "flaky").unwrap();
        let codes: Vec<_> = (1..=3).map(|n| execute(flaky, &format!("r-9.{n}")).code()).collect();
        assert_eq!(codes, [Some(1), Some(1), Some(0)]);
        assert_eq!(witness(home.path()).unwrap().lines.len(), 1);
    }
}
