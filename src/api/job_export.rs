//! A job's definition as a person would write it: the way back from
//! [`JobSpec`] to [`JobDefinition`]. Values that are defaults are left out, so
//! that what is printed stays short; read again, it means the same.

use horai_core::ids::JobId;
use horai_core::model::edge::PeriodUnit;
use horai_core::model::job::{JobSpec, OnWorkerLost, Overlap};
use horai_core::model::part::RunOn;
use horai_core::model::retry::RetryWorker;

use super::definition_parts::word_of;
use super::executor_definition::Work;
use super::job_definition::{
    BatchDefinition, EdgeDefinition, JobDefinition, ResourcesDefinition, RetryDefinition,
    TriggerDefinition,
};
use super::process_definition::of_spec;
use super::{file_definition, texts};

impl JobDefinition {
    /// Writes a definition down; `job_name` names an upstream job.
    #[must_use]
    pub fn of_spec(spec: &JobSpec, job_name: impl Fn(JobId) -> String) -> Self {
        let work = Work::of_spec(&spec.executor, &spec.steps);
        let (on_worker_lost, keep_for) = match spec.on_worker_lost {
            OnWorkerLost::Rerun => (None, None),
            OnWorkerLost::Fail => (Some("fail"), None),
            OnWorkerLost::Keep { keep_for } => (Some("keep"), Some(keep_for)),
        };
        let (limits, run_as, umask, rlimits) = of_spec(&spec.confinement);
        Self {
            name: spec.name.to_string(),
            description: spec.description.clone(),
            zone: spec.zone.clone(),
            triggers: spec.triggers.iter().map(TriggerDefinition::of_spec).collect(),
            depends_on: spec
                .depends_on
                .iter()
                .map(|edge| EdgeDefinition::of_spec(edge, job_name(edge.job)))
                .collect(),
            shell: work.shell,
            python: work.python,
            script: work.script,
            interpreter: work.interpreter,
            args: work.args,
            exec: work.exec,
            http: work.http,
            noop: work.noop,
            pre: work.pre,
            post: work.post,
            env: spec.env.clone(),
            worker_group: (spec.worker_group.as_str() != JobSpec::DEFAULT_GROUP)
                .then(|| spec.worker_group.to_string()),
            workers: spec.workers.as_ref().map(ToString::to_string),
            run_on: (spec.run_on != RunOn::OneWorker)
                .then(|| word_of(spec.run_on, &RunOn::ALL).to_owned()),
            resources: spec.resources.as_ref().map(ResourcesDefinition::of_spec),
            priority: (spec.priority != JobSpec::DEFAULT_PRIORITY).then_some(spec.priority),
            retries: RetryDefinition::of_spec(spec),
            timeout: spec.timeout.map(|span| span.to_string()),
            grace: (spec.grace != JobSpec::DEFAULT_GRACE).then(|| spec.grace.to_string()),
            lease: (spec.lease != JobSpec::DEFAULT_LEASE).then(|| spec.lease.to_string()),
            on_worker_lost: on_worker_lost.map(str::to_owned),
            keep_for: keep_for.map(|span| span.to_string()),
            group: spec.group.as_ref().map(ToString::to_string),
            params: spec.params.clone(),
            period: (spec.period != PeriodUnit::Day)
                .then(|| word_of(spec.period, &PeriodUnit::ALL).to_owned()),
            legacy_id: spec.legacy_id,
            skip_exit_codes: spec.retry_rules.skip_on.clone(),
            wait_limit: spec.wait_limit.map(|span| span.to_string()),
            overlap: (spec.overlap != Overlap::Allow)
                .then(|| word_of(spec.overlap, &Overlap::ALL).to_owned()),
            syntax: texts::word_of(spec).map(str::to_owned),
            run_timeout: spec.limits.run.map(|span| span.to_string()),
            queue_timeout: spec.limits.queue.map(|span| span.to_string()),
            retry_on_worker: (spec.retry_on_worker != RetryWorker::Any)
                .then(|| word_of(spec.retry_on_worker, &RetryWorker::ALL).to_owned()),
            keep_state: spec.keep_state,
            pools: spec.pools.iter().map(|(name, slots)| (name.to_string(), *slots)).collect(),
            pool: None,
            slots: None,
            areas: spec.areas.iter().map(ToString::to_string).collect(),
            batch: spec.batch.map(BatchDefinition::of_spec),
            limits,
            run_as,
            umask,
            rlimits,
            files: file_definition::of_spec(&spec.files),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_means_what_was_read() {
        let texts = [
            "name: a\nnoop: true",
            "name: a\nshell: x\ninterpreter: [bash, -e]\ndepends_on: [b]\nenv: {K: v}\npriority: 1",
            "name: a\nexec: [ls]\nworker_group: g\nretries: {count: 2}\ntimeout: 5m\ngrace: 1s",
            "name: a\nnoop: true\nretries: {count: 1, backoff: 1s, backoff_cap: 8s}\nlease: 5s",
            "name: a\nnoop: true\noverlap: queue_one\nwait_limit: 1h\nskip_exit_codes: [99]\nretries:\n  \
             {count: 3, jitter: 5s, retry_on: [75], never_on: [2]}\ndepends_on:\n  \
             - {job: b, condition: failure}",
            "name: a\nnoop: true\ndepends_on: [{job: b, soft: true}]",
            "name: a\nshell: 'echo {{ nominal }}'",
            "name: a\nshell: 'echo {{.ID}}'\nsyntax: none",
            "name: a\nexec: [echo, '${yesterday}']\nsyntax: hera",
            "name: a\nnoop: true\nrun_timeout: 2h\nqueue_timeout: 10m\nretry_on_worker: another",
            "name: a\nnoop: true\nrun_on: all_workers",
            "name: a\nnoop: true\npools: {warehouse: 2, licences: 1}",
            "name: a\nexec: [echo, '{{ outputs.b.ROWS }} {{ state.N }}']\ndepends_on: [b]\nkeep_state: true",
            "name: a\nnoop: true\nworkers: 'zone == \"a\" && !(ssd || gpu)'",
            "name: a\nnoop: true\nresources: {slots: 2, memory: 2GiB, cpu: 1.5, gpu: 1}",
            "name: a\nnoop: true\npool: warehouse\nslots: 3",
            "name: a\nshell: x\nlimits: {memory: 512MiB, cpu: 1.5, pids: 100}\nrun_as: etl\numask: '027'\n\
             rlimits: {nofile: 1024, core: unlimited, fsize: 1GiB}",
            "name: a\nnoop: true\nareas: [EU, US]\nbatch: {unit: day, offset: -1}\nparams: {EU.A: b}",
            "name: a\npython: print(1)\npre: a\npost: [b, c]",
            "name: a\npython: x\ninterpreter: [/opt/python]",
            "name: a\nscript: select 1\ninterpreter: hive\nargs: [--silent]",
            "name: a\nhttp: {url: 'http://a/{{ nominal }}', method: PUT, body: x, headers: {k: v}}",
            "name: a\nhttp:\n  {url: 'https://a', expect: {status: [200, 300-399], body: ok}, timeout: 1s, \
             connect_timeout: 2s, ca_file: /ca.pem, insecure: true}",
            "name: a\nnoop: true\nbatch: {unit: other}",
            "name: a\nexec: [./run]\nfiles: {run: {text: x, mode: '0755'}, lib/b: {base64: eA==}}",
            "name: a\nshell: 'echo {{ vars.x }} {{ params.y }} {{ batch }}'\ngroup: etl",
            "name: a\nnoop: true\non_worker_lost: keep\nkeep_for: 2h\nzone: Asia/Tokyo",
            "name: a\nnoop: true\nperiod: week\nlegacy_id: 30\ndepends_on:\n  \
             - {job: b, match: all_in_period, base: true, on_no_match: wait}",
            "name: a\nnoop: true\ngroup: etl/nightly\nparams: {DAY: monday}\ntriggers:\n  \
             - {fixed_delay: 5m, calendars: [c], priority: 9, params: {DAY: sunday}}",
            "name: a\nnoop: true\non_worker_lost: fail\ndescription: d\ntriggers:\n  \
             - {cron: '0 0 3 * * ?'}\n  - {name: n, cron: x, misfire: skip, enabled: false, zone: UTC}",
        ];
        for text in texts {
            let read: JobDefinition = serde_saphyr::from_str(text).unwrap();
            let spec = read.to_spec(|_| Some(JobId(7))).unwrap();
            let written = JobDefinition::of_spec(&spec, |_| "b".to_owned());
            assert_eq!(written.to_spec(|_| Some(JobId(7))).unwrap(), spec, "{text}");
            let yaml = serde_saphyr::to_string(&written).unwrap();
            assert_eq!(serde_saphyr::from_str::<JobDefinition>(&yaml).unwrap(), written, "{yaml}");
        }
    }

    #[test]
    fn defaults_are_left_out() {
        let text = "name: a\nshell: x\nlease: 1m\npriority: 5\ninterpreter: [/bin/sh]";
        let read: JobDefinition = serde_saphyr::from_str(text).unwrap();
        let spec = read.to_spec(|_| None).unwrap();
        let written = serde_json::to_value(JobDefinition::of_spec(&spec, |_| String::new()));
        assert_eq!(written.unwrap(), serde_json::json!({"name": "a", "shell": "x"}));
    }
}
