//! A job as a person writes it: in a file (YAML, TOML, JSON) or a request body.
//!
//! [`JobDefinition::to_spec`] fills in defaults and checks everything that can
//! be checked without the cluster; what only the machine knows (cycles,
//! revisions) it checks itself. It proposes nothing.

use std::collections::{BTreeMap, BTreeSet};

use horai_core::ids::{JobId, Name};
use horai_core::model::edge::{EdgeSpec, PeriodUnit};
use horai_core::model::file::JobFile;
use horai_core::model::job::{JobSpec, OnWorkerLost, Overlap, TriggerSpec, default_group};
use horai_core::model::limits::RunLimits;
use horai_core::model::part::RunOn;
use horai_core::model::retry::RetryWorker;
use horai_core::model::syntax::Syntax;
use horai_core::time::Span;
use serde::{Deserialize, Serialize};

use super::definition_parts::{
    at_most, group, name, params, priority, run_limit, selector, span, span_or, word,
};
pub use super::edge_definition::EdgeDefinition;
use super::edge_definition::{edge_error, edges};
use super::executor_definition::Work;
pub use super::executor_definition::{HttpDefinition, HttpExpectDefinition};
pub use super::file_definition::FileDefinition;
use super::file_definition::files;
pub use super::local_definition::BatchDefinition;
use super::local_definition::areas;
pub use super::one_or_many::{InterpreterDefinition, OneOrMany};
use super::process_definition::Written;
pub use super::process_definition::{LimitsDefinition, Scalar};
pub use super::resources_definition::ResourcesDefinition;
pub use super::retry_definition::RetryDefinition;
use super::retry_definition::rules;
use super::texts;
pub use super::trigger_definition::TriggerDefinition;
use crate::error::{ErrorCode, FieldError};

/// One job, as written.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobDefinition {
    /// Unique in the cluster.
    pub name: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub description: String,
    /// IANA zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// When it runs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub triggers: Vec<TriggerDefinition>,
    /// Jobs whose actions must succeed first, and which of their actions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<EdgeDefinition>,
    /// A shell script; one of `shell`, `python`, `script`, `exec`, `http` and `noop` is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
    /// A Python script.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub python: Option<String>,
    /// A script for the interpreter that `interpreter` names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub script: Option<String>,
    /// Of `script` the name of an interpreter that workers have; of `shell` and `python`
    /// program and arguments before the script's path, as a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interpreter: Option<InterpreterDefinition>,
    /// What the interpreter of `script` gets for `{args}` of its command line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// One HTTP request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpDefinition>,
    /// Shell scripts before it, one or a list: one that fails is the attempt's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pre: Option<OneOrMany<String>>,
    /// Shell scripts after it, one or a list, however it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub post: Option<OneOrMany<String>>,
    /// A program and its arguments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exec: Option<Vec<String>>,
    /// True to do nothing, inside the worker.
    #[serde(default, skip_serializing_if = "is_false")]
    pub noop: bool,
    /// Extra environment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// Workers of this group may run it; default `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker_group: Option<String>,
    /// Which of them, by their labels: `zone == "a" && ssd`. Default all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<String>,
    /// On `one_worker` of those (default), or once on each: `all_workers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_on: Option<String>,
    /// What each run takes of its worker while it runs; default one slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourcesDefinition>,
    /// 0 to 9, 9 first; default 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// Tries after the first; default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retries: Option<RetryDefinition>,
    /// Longest life of one attempt, such as `5m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<String>,
    /// Between SIGTERM and SIGKILL; default `10s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace: Option<String>,
    /// How long an attempt lives without contact; default `1m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<String>,
    /// `rerun` (default), `fail`, or `keep` with `keep_for`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_worker_lost: Option<String>,
    /// How long a lost worker's attempt is waited for with `keep`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_for: Option<String>,
    /// The folder it lies in, such as `etl/nightly`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// `HORAI_PARAM_*` of its runs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<String, String>,
    /// `hour`, `day` (default), `week` or `month`: in what periods of its zone its
    /// actions and those that it depends on belong together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub period: Option<String>,
    /// Its number in hera, 1 to 999999, for edges that match as hera does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub legacy_id: Option<u32>,
    /// Exit codes by which the job says that there is nothing to do: the action is skipped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub skip_exit_codes: Vec<i32>,
    /// How long after its nominal time an action may wait before it is skipped; default `2d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_limit: Option<String>,
    /// What becomes of an action that is ready while another run of the job is live:
    /// `allow` (default), `skip`, `queue_one`, `queue_all` or `cancel_running`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<String>,
    /// How script, arguments and variables are read: `jinja` (default), `hera` or `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syntax: Option<String>,
    /// Longest life of a run with all its retries and the waits between, such as `2h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_timeout: Option<String>,
    /// How long a run may wait in the queue for its first attempt, such as `10m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_timeout: Option<String>,
    /// Where a retry is made, if there is a choice: `any` (default), `same` or `another`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_on_worker: Option<String>,
    /// What its runs put out is kept for the next one.
    #[serde(default, skip_serializing_if = "is_false")]
    pub keep_state: bool,
    /// How many slots of which pools each run takes while it runs.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub pools: BTreeMap<String, u32>,
    /// The same for one pool.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// How many slots of `pool` a run takes; default 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slots: Option<u32>,
    /// Where it has something to do; elsewhere its actions count as done. Default everywhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub areas: Vec<String>,
    /// How the batch key of an action follows from its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchDefinition>,
    /// What all processes of an attempt together may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsDefinition>,
    /// The user of the worker's machine as whom it runs; default the worker's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_as: Option<String>,
    /// Permissions that files it makes do not get, in octal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub umask: Option<String>,
    /// Limits of each single process, by the words of `ulimit`'s system call.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rlimits: BTreeMap<String, Scalar>,
    /// What its runs find in their working folder, by relative path: up to 32 files, 256 KiB
    /// in all.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub files: BTreeMap<String, FileDefinition>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the signature is serde's
fn is_false(value: &bool) -> bool {
    !*value
}

impl JobDefinition {
    /// Checks the definition and fills in defaults. `job_number` finds an
    /// upstream job's number by its name.
    ///
    /// # Errors
    /// The first field that cannot be taken, with value and remedy.
    pub fn to_spec(
        &self,
        job_number: impl Fn(&Name) -> Option<JobId>,
    ) -> Result<JobSpec, FieldError> {
        if self.description.len() > JobSpec::MAX_DESCRIPTION {
            return Err(FieldError::invalid(
                "description",
                format!("{} bytes", self.description.len()),
                "the description is too long",
                format!("write at most {} bytes", JobSpec::MAX_DESCRIPTION),
            )
            .with_code(ErrorCode::TooLarge));
        }
        let work = self.work();
        let mut spec = JobSpec {
            name: name("name", &self.name)?,
            description: self.description.clone(),
            zone: self.zone.clone(),
            triggers: self.triggers()?,
            depends_on: edges(&self.depends_on, |wanted| {
                let is_own = wanted.as_str() == self.name;
                if is_own { Some(EdgeSpec::OWN) } else { job_number(wanted) }
            })?,
            executor: work.executor()?,
            steps: work.steps()?,
            env: self.env()?,
            worker_group: match &self.worker_group {
                Some(group) => name("worker_group", group)?,
                None => default_group(),
            },
            workers: self.workers.as_deref().map(selector).transpose()?,
            run_on: match self.run_on.as_deref() {
                Some(text) => word("run_on", text, &RunOn::ALL)?,
                None => RunOn::OneWorker,
            },
            resources: match &self.resources {
                Some(resources) => resources.to_spec()?,
                None => None,
            },
            priority: self.priority()?,
            retries: self
                .retries
                .as_ref()
                .map(RetryDefinition::to_policy)
                .transpose()?
                .unwrap_or_default(),
            retry_rules: rules(self.retries.as_ref(), &self.skip_exit_codes)?,
            wait_limit: self.wait_limit()?,
            overlap: match self.overlap.as_deref() {
                Some(text) => word("overlap", text, &Overlap::ALL)?,
                None => Overlap::Allow,
            },
            limits: RunLimits {
                run: run_limit("run_timeout", self.run_timeout.as_deref())?,
                queue: run_limit("queue_timeout", self.queue_timeout.as_deref())?,
            },
            retry_on_worker: match self.retry_on_worker.as_deref() {
                Some(text) => word("retry_on_worker", text, &RetryWorker::ALL)?,
                None => RetryWorker::Any,
            },
            timeout: self.timeout.as_deref().map(|text| span("timeout", text)).transpose()?,
            grace: span_or("grace", self.grace.as_deref(), JobSpec::DEFAULT_GRACE)?,
            lease: self.lease()?,
            on_worker_lost: self.on_worker_lost()?,
            group: self.group.as_deref().map(group).transpose()?,
            params: params("params", &self.params)?,
            period: match self.period.as_deref() {
                Some(text) => word("period", text, &PeriodUnit::ALL)?,
                None => PeriodUnit::Day,
            },
            legacy_id: self.legacy_id()?,
            keep_state: self.keep_state,
            syntax: Syntax::Plain,
            secrets: BTreeSet::new(),
            pools: self.takes()?,
            areas: areas(&self.areas)?,
            batch: self.batch.as_ref().map(BatchDefinition::to_spec).transpose()?,
            confinement: Written {
                limits: self.limits.as_ref(),
                run_as: self.run_as.as_deref(),
                umask: self.umask.as_deref(),
                rlimits: Some(&self.rlimits),
            }
            .to_spec()?,
            files: self.files()?,
        };
        let upstream = self.depends_on.iter().map(|edge| edge.job.as_str());
        spec.syntax = texts::syntax_of(&spec, self.syntax.as_deref(), upstream)?;
        spec.secrets = texts::secrets_of(&spec)?;
        match spec.check_edges(None) {
            Ok(()) => Ok(spec),
            Err(wrong) => Err(edge_error(&self.depends_on, &wrong)),
        }
    }

    /// What is not taken as it is written, and what it is taken as.
    #[must_use]
    pub fn notices(&self) -> Vec<String> {
        let triggers = self.triggers.iter().enumerate();
        triggers.filter_map(|(i, trigger)| trigger.notice(&format!("triggers[{i}]"))).collect()
    }

    fn triggers(&self) -> Result<Vec<TriggerSpec>, FieldError> {
        at_most("triggers", self.triggers.len(), JobSpec::MAX_TRIGGERS)?;
        let mut specs: Vec<TriggerSpec> = Vec::with_capacity(self.triggers.len());
        for (i, trigger) in self.triggers.iter().enumerate() {
            let spec = trigger.to_spec(&format!("triggers[{i}]"))?;
            if specs.iter().any(|other| other.name == spec.name) {
                return Err(FieldError::invalid(
                    format!("triggers[{i}].name"),
                    &spec.name,
                    "another trigger of this job has this name",
                    "give each trigger a name of its own",
                ));
            }
            specs.push(spec);
        }
        Ok(specs)
    }

    fn legacy_id(&self) -> Result<Option<u32>, FieldError> {
        match self.legacy_id {
            Some(id) if !(1..=JobSpec::MAX_LEGACY_ID).contains(&id) => Err(FieldError::invalid(
                "legacy_id",
                id,
                "hera has no such number of a job",
                format!("write 1 to {}, or leave it out", JobSpec::MAX_LEGACY_ID),
            )),
            id => Ok(id),
        }
    }

    /// What it does, as it is written.
    fn work(&self) -> Work {
        Work {
            shell: self.shell.clone(),
            python: self.python.clone(),
            script: self.script.clone(),
            interpreter: self.interpreter.clone(),
            args: self.args.clone(),
            exec: self.exec.clone(),
            http: self.http.clone(),
            noop: self.noop,
            pre: self.pre.clone(),
            post: self.post.clone(),
        }
    }

    fn env(&self) -> Result<BTreeMap<String, String>, FieldError> {
        for (key, value) in &self.env {
            let field = format!("env.{key}");
            if key.is_empty() || key.contains(['=', '\0']) || value.contains('\0') {
                return Err(FieldError::invalid(
                    field,
                    value,
                    "an environment cannot hold this",
                    "use a name without '=' and no zero bytes",
                ));
            }
            if key.starts_with("HORAI_") {
                return Err(FieldError::invalid(
                    field,
                    value,
                    "names that begin with HORAI_ are set by Horai",
                    "choose another name",
                ));
            }
        }
        Ok(self.env.clone())
    }

    fn files(&self) -> Result<BTreeMap<String, JobFile>, FieldError> {
        let found = files(&self.files)?;
        if self.noop && !found.is_empty() {
            return Err(FieldError::invalid(
                "files",
                found.len(),
                "a job that does nothing reads no files",
                "leave them out, or give it a 'shell' or 'exec'",
            ));
        }
        Ok(found)
    }

    fn priority(&self) -> Result<u8, FieldError> {
        priority("priority", self.priority.unwrap_or(JobSpec::DEFAULT_PRIORITY))
    }

    fn wait_limit(&self) -> Result<Option<Span>, FieldError> {
        let Some(text) = &self.wait_limit else { return Ok(None) };
        let limit = span("wait_limit", text)?;
        if (Span::secs(1)..=JobSpec::MAX_WAIT).contains(&limit) {
            return Ok(Some(limit));
        }
        let remedy = format!("write 1s to {}", JobSpec::MAX_WAIT);
        Err(FieldError::invalid("wait_limit", text, "no action can wait for that long", remedy))
    }

    fn lease(&self) -> Result<Span, FieldError> {
        let lease = span_or("lease", self.lease.as_deref(), JobSpec::DEFAULT_LEASE)?;
        let (shortest, longest) = (JobSpec::MIN_LEASE, JobSpec::MAX_LEASE);
        if (shortest..=longest).contains(&lease) {
            return Ok(lease);
        }
        Err(FieldError::invalid(
            "lease",
            lease,
            "the lease is out of range",
            format!("write {shortest} to {longest}"),
        ))
    }

    fn on_worker_lost(&self) -> Result<OnWorkerLost, FieldError> {
        let policy = self.on_worker_lost.as_deref().unwrap_or("rerun");
        match (policy, self.keep_for.as_deref()) {
            ("rerun", None) => Ok(OnWorkerLost::Rerun),
            ("fail", None) => Ok(OnWorkerLost::Fail),
            ("keep", Some(text)) => Ok(OnWorkerLost::Keep { keep_for: span("keep_for", text)? }),
            ("keep", None) => Err(FieldError::invalid(
                "keep_for",
                "",
                "'keep' needs to know how long",
                "add keep_for, such as keep_for: 2h",
            )),
            ("rerun" | "fail", Some(text)) => Err(FieldError::invalid(
                "keep_for",
                text,
                format!("it has no meaning with '{policy}'"),
                "leave it out, or write on_worker_lost: keep",
            )),
            _ => Err(FieldError::invalid(
                "on_worker_lost",
                policy,
                "there is no such policy",
                "write rerun, fail or keep",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use horai_core::model::edge::EdgeSpec;
    use horai_core::model::job::MisfirePolicy;

    use super::*;

    const FULL: &str = r#"
name: report
description: every hour
zone: Europe/Berlin
triggers:
  - cron: "0 0 * * * *"
  - {name: noon, cron: "0 0 12 * * *", misfire: fire_now, enabled: false}
depends_on: [load]
shell: |
  echo hello
interpreter: [/bin/bash, -eu]
env: {MODE: fast}
worker_group: reports
priority: 9
retries: {count: 2, backoff: 1s, backoff_cap: 30s}
timeout: 5m
lease: 5s
on_worker_lost: keep
keep_for: 2h
group: etl/nightly
params: {DAY: monday}
"#;

    fn read(yaml: &str) -> JobDefinition {
        serde_saphyr::from_str(yaml).unwrap()
    }

    fn load_is_7(name: &Name) -> Option<JobId> {
        (name.as_str() == "load").then_some(JobId(7))
    }

    #[test]
    fn a_full_definition_becomes_what_it_says() {
        let spec = read(FULL).to_spec(load_is_7).unwrap();
        assert_eq!(spec.triggers[0].name.to_string(), "cron 0 0 * * * *");
        assert_eq!(spec.triggers[1].misfire, MisfirePolicy::FireNow);
        assert!(!spec.triggers[1].enabled);
        assert_eq!(spec.depends_on, [EdgeSpec::new(JobId(7))]);
        assert_eq!(spec.retries.backoff.delay(10), Span::secs(30));
        assert_eq!(spec.timeout, Some(Span::secs(300)));
        assert_eq!(spec.grace, JobSpec::DEFAULT_GRACE);
        assert_eq!(spec.on_worker_lost, OnWorkerLost::Keep { keep_for: Span::secs(7200) });
    }

    #[test]
    fn the_three_file_forms_mean_the_same() {
        let yaml = read(FULL);
        let json: JobDefinition =
            serde_json::from_str(&serde_json::to_string(&yaml).unwrap()).unwrap();
        let toml: JobDefinition = toml::from_str(&toml::to_string(&yaml).unwrap()).unwrap();
        assert_eq!(json, yaml);
        assert_eq!(toml, yaml);
    }

    #[test]
    fn each_mistake_names_its_field_and_a_remedy() {
        let cases = [
            ("name: A\nnoop: true", "name", ErrorCode::InvalidValue),
            ("name: a", "shell", ErrorCode::InvalidValue),
            ("name: a\nnoop: true\nshell: x", "shell", ErrorCode::InvalidValue),
            ("name: a\nexec: []", "exec", ErrorCode::InvalidValue),
            ("name: a\nnoop: true\ninterpreter: [sh]", "interpreter", ErrorCode::InvalidValue),
            ("name: a\nnoop: true\npriority: 10", "priority", ErrorCode::InvalidValue),
            ("name: a\nnoop: true\ntimeout: 5", "timeout", ErrorCode::InvalidValue),
            ("name: a\nnoop: true\nlease: 8d", "lease", ErrorCode::InvalidValue),
            ("name: a\nnoop: true\nrun_timeout: 2y", "run_timeout", ErrorCode::InvalidValue),
            ("name: a\nnoop: true\nqueue_timeout: 0s", "queue_timeout", ErrorCode::InvalidValue),
            ("name: a\nnoop: true\nrun_timeout: 367d", "run_timeout", ErrorCode::InvalidValue),
            (
                "name: a\nnoop: true\nretry_on_worker: other",
                "retry_on_worker",
                ErrorCode::InvalidValue,
            ),
            ("name: a\nnoop: true\nlease: 0s", "lease", ErrorCode::InvalidValue),
            ("name: a\nnoop: true\ndepends_on: [b]", "depends_on[0]", ErrorCode::MissingUpstream),
            (
                "name: a\nnoop: true\ndepends_on: [load, load]",
                "depends_on[1]",
                ErrorCode::InvalidValue,
            ),
            ("name: a\nnoop: true\nenv: {HORAI_X: y}", "env.HORAI_X", ErrorCode::InvalidValue),
            ("name: a\nnoop: true\ngroup: a//b", "group", ErrorCode::InvalidValue),
            ("name: a\nnoop: true\nparams: {1: y}", "params.1", ErrorCode::InvalidValue),
            ("name: a\nnoop: true\non_worker_lost: keep", "keep_for", ErrorCode::InvalidValue),
            ("name: a\nnoop: true\nkeep_for: 1h", "keep_for", ErrorCode::InvalidValue),
            (
                "name: a\nnoop: true\non_worker_lost: pray",
                "on_worker_lost",
                ErrorCode::InvalidValue,
            ),
            (
                "name: a\nnoop: true\nretries: {count: 101}",
                "retries.count",
                ErrorCode::InvalidValue,
            ),
            (
                "name: a\nnoop: true\nretries: {count: 1, backoff: 9s, backoff_cap: 1s}",
                "retries.backoff_cap",
                ErrorCode::InvalidValue,
            ),
            (
                "name: a\nnoop: true\ntriggers: [{cron: x}, {cron: x}]",
                "triggers[1].name",
                ErrorCode::InvalidValue,
            ),
            (
                "name: a\nnoop: true\ntriggers: [{cron: x, misfire: never}]",
                "triggers[0].misfire",
                ErrorCode::InvalidValue,
            ),
        ];
        for (yaml, field, code) in cases {
            let error = read(yaml).to_spec(load_is_7).unwrap_err();
            assert_eq!((error.field.as_str(), error.code), (field, code), "{yaml}");
            assert!(!error.remedy.is_empty(), "{yaml}");
        }
    }

    #[test]
    fn unknown_fields_are_refused_by_name() {
        let error =
            serde_saphyr::from_str::<JobDefinition>("name: a\nnoop: true\ncorn: x").unwrap_err();
        assert!(error.to_string().contains("corn"), "{error}");
    }

    #[test]
    fn lists_are_bounded() {
        let mut job = read("name: a\nnoop: true");
        job.depends_on = vec![EdgeDefinition::of_job("load"); JobSpec::MAX_EDGES + 1];
        let error = job.to_spec(load_is_7).unwrap_err();
        assert_eq!((error.field.as_str(), error.code), ("depends_on", ErrorCode::TooLarge));
    }
}
