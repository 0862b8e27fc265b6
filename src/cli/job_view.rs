//! Jobs as people see them: lists, one job with what it does otherwise than most, and
//! what became of definitions that were applied.

use super::job_state::brief;
use super::output::{Show, View, moment, result, text_or_dash};
use crate::api::dto::{AppliedJobs, JobDto, RenderedDto, StartedRun};
use crate::api::job_definition::JobDefinition;

impl Show for RenderedDto {
    fn view(&self) -> View {
        let title = format!("{}, revision {}", self.action, self.revision);
        let mut rows = Vec::new();
        for (field, text) in &self.texts {
            for (i, line) in text.lines().enumerate() {
                let field = if i == 0 { field.as_str() } else { "" };
                rows.push(vec![field.to_owned(), line.to_owned()]);
            }
        }
        View { facts: vec![("action", title)], titles: vec!["field", "text"], rows }
    }

    fn ids(&self) -> Vec<String> {
        vec![self.action.to_string()]
    }
}

impl Show for AppliedJobs {
    fn view(&self) -> View {
        let row = |job: &crate::api::dto::AppliedJob| {
            let result = result(job.changed, job.revision).to_owned();
            vec![job.name.clone(), job.revision.to_string(), result]
        };
        let rows = self.jobs.iter().map(row).collect();
        View { titles: vec!["name", "revision", "result"], rows, ..View::default() }
    }

    fn ids(&self) -> Vec<String> {
        self.jobs.iter().map(|job| job.name.clone()).collect()
    }

    fn none(&self) -> Option<&'static str> {
        self.jobs.is_empty().then_some("the files hold no jobs")
    }
}

impl Show for Vec<JobDto> {
    fn view(&self) -> View {
        let titles = vec!["name", "revision", "state", "triggers", "depends on", "updated"];
        let row = |job: &JobDto| {
            vec![
                job.name.clone(),
                job.revision.to_string(),
                state(job).to_owned(),
                triggers(&job.definition),
                edges(&job.definition),
                moment(job.updated),
            ]
        };
        View { titles, rows: self.iter().map(row).collect(), ..View::default() }
    }

    fn ids(&self) -> Vec<String> {
        self.iter().map(|job| job.name.clone()).collect()
    }

    fn none(&self) -> Option<&'static str> {
        self.is_empty().then_some("no jobs: horai job apply -f FILE makes some")
    }
}

impl Show for JobDto {
    fn view(&self) -> View {
        let job = &self.definition;
        let what = match (&job.shell, &job.exec) {
            (Some(script), _) => match script.lines().count() {
                0 | 1 => format!("shell: {}", script.trim()),
                lines => format!("shell, {lines} lines: -o yaml shows them"),
            },
            (None, Some(argv)) => format!("exec {}", argv.join(" ")),
            (None, None) => "noop".to_owned(),
        };
        let mut facts = vec![
            ("name", self.name.clone()),
            ("number", self.number.to_string()),
            ("revision", self.revision.to_string()),
            ("state", state(self).to_owned()),
            ("runs", what),
            ("triggers", triggers(job)),
        ];
        facts.extend(self.means.iter().map(|trigger| ("means", trigger.means.clone())));
        facts.extend([
            ("depends on", edges(job)),
            ("zone", job.zone.clone().unwrap_or_else(|| "the cluster's".to_owned())),
            ("workers", workers(job)),
            ("priority", or_default(job.priority.as_ref(), "5")),
            ("retries", retries(job)),
            ("time-out", or_default(job.timeout.as_ref(), "none")),
            ("of a run", or_default(job.run_timeout.as_ref(), "none")),
            ("in the queue", or_default(job.queue_timeout.as_ref(), "none")),
            ("lease", or_default(job.lease.as_ref(), "1m")),
            ("group", or_default(job.group.as_ref(), "none")),
            ("worker lost", or_default(job.on_worker_lost.as_ref(), "rerun")),
            ("created", moment(self.created)),
            ("updated", moment(self.updated)),
        ]);
        if !job.areas.is_empty() {
            facts.push(("areas", job.areas.join(", ")));
        }
        facts.extend(job.batch.as_ref().map(|batch| ("batch", batch.to_string())));
        facts.extend(unusual(job));
        if job.keep_state {
            facts.push(("keeps", format!("a state: horai job state {}", self.name)));
        }
        if let Some(group) = &self.paused_group {
            facts.push(("paused by", format!("group {group}")));
        }
        if !self.paused_triggers.is_empty() {
            facts.push(("paused triggers", self.paused_triggers.join(", ")));
        }
        for wait in &self.waiting_triggers {
            facts.push(("waits", format!("{} for the end of {}", wait.trigger, wait.action)));
        }
        View { facts, ..View::default() }.described(&job.description)
    }

    fn ids(&self) -> Vec<String> {
        vec![self.name.clone()]
    }
}

impl Show for StartedRun {
    fn view(&self) -> View {
        View { facts: vec![("run", self.run.to_string())], ..View::default() }
    }

    fn ids(&self) -> Vec<String> {
        vec![self.run.to_string()]
    }
}

/// What most definitions leave as it is, where this one does not.
fn unusual(job: &JobDefinition) -> Vec<(&'static str, String)> {
    let codes = |codes: &[i32]| {
        let codes: Vec<String> = codes.iter().map(ToString::to_string).collect();
        (!codes.is_empty()).then(|| codes.join(", "))
    };
    let retries = job.retries.as_ref();
    let said = [
        ("overlap", job.overlap.clone()),
        ("wait limit", job.wait_limit.clone()),
        ("period", job.period.clone()),
        ("grace", job.grace.clone()),
        ("retried", retries.and_then(|retries| codes(&retries.retry_on))),
        ("not retried", retries.and_then(|retries| codes(&retries.never_on))),
        ("jitter", retries.and_then(|retries| retries.jitter.clone())),
        ("skips by", codes(&job.skip_exit_codes)),
        ("with labels", job.workers.clone()),
        ("reserves", job.resources.as_ref().map(ToString::to_string)),
        ("syntax", job.syntax.clone()),
        ("hera's number", job.legacy_id.map(|id| id.to_string())),
    ];
    let said = said.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let pool = job.pool.iter().map(|pool| (pool, job.slots.unwrap_or(1)));
    let pools = job.pools.iter().map(|(pool, slots)| (pool, *slots)).chain(pool);
    let pools = pools.map(|(pool, slots)| ("takes", format!("{slots} of pool {pool}")));
    let params = job.params.iter().map(|(key, value)| ("param", brief(key, value)));
    let env = job.env.iter().map(|(key, value)| ("env", brief(key, value)));
    said.chain(pools).chain(params).chain(env).collect()
}

fn or_default(value: Option<&impl ToString>, default: &str) -> String {
    value.map_or_else(|| default.to_owned(), ToString::to_string)
}

fn workers(job: &JobDefinition) -> String {
    let group = or_default(job.worker_group.as_ref(), "default");
    match job.run_on.as_deref() {
        Some("all_workers") => format!("{group}, on all of them"),
        _ => group,
    }
}

fn retries(job: &JobDefinition) -> String {
    let Some(retries) = &job.retries else { return "none".to_owned() };
    let wait = retries.backoff.as_deref().unwrap_or("10s");
    let told = match &retries.backoff_cap {
        Some(cap) => format!("{}, after {wait}, doubled up to {cap}", retries.count),
        None => format!("{}, after {wait} each", retries.count),
    };
    match job.retry_on_worker.as_deref() {
        Some(worker) => format!("{told}, on {worker} worker"),
        None => told,
    }
}

fn state(job: &JobDto) -> &'static str {
    if job.paused { "paused" } else { "active" }
}

fn triggers(job: &JobDefinition) -> String {
    let shown = |t: &crate::api::job_definition::TriggerDefinition| match t.enabled {
        true => told(t),
        false => format!("({})", told(t)),
    };
    text_or_dash(&job.triggers.iter().map(shown).collect::<Vec<_>>().join(", "))
}

/// An expression alone, and other rules in words.
fn told(trigger: &crate::api::job_definition::TriggerDefinition) -> String {
    trigger.cron.clone().unwrap_or_else(|| trigger.to_string())
}

fn edges(job: &JobDefinition) -> String {
    let edges: Vec<String> = job.depends_on.iter().map(ToString::to_string).collect();
    text_or_dash(&edges.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::dto::Time;
    use crate::cli::output::{Format, print};

    #[test]
    fn a_job_shows_what_it_does_otherwise_than_most() {
        let shown = |yaml: &str| {
            let definition: JobDefinition = serde_saphyr::from_str(yaml).unwrap();
            let mut out = Vec::new();
            let job = serde_json::json!({
                "name": "a", "number": 1, "revision": 1, "paused": false,
                "created": Time::default(), "updated": Time::default(),
                "definition": definition,
            });
            let job: JobDto = serde_json::from_value(job).unwrap();
            print(&mut out, Format::Table, &job).unwrap();
            String::from_utf8(out).unwrap()
        };
        let plain = shown("{name: a, noop: true}");
        for word in ["overlap", "wait limit", "period", "param", "env ", "takes", "hera's number"] {
            assert!(!plain.contains(word), "{word}: {plain}");
        }
        let other = shown(
            "{name: a, noop: true, overlap: skip, wait_limit: 1h, period: week, legacy_id: 7,
              skip_exit_codes: [99], retries: {count: 1, retry_on: [75], never_on: [2]},
              params: {A: '1'}, env: {B: x}, workers: ssd,
              resources: {memory: 2GiB}, pools: {wh: 2},
              depends_on: [{job: b, match: all_in_period, on_no_match: wait}]}",
        );
        for (name, value) in [
            ("overlap", "skip"),
            ("wait limit", "1h"),
            ("period", "week"),
            ("hera's number", "7"),
            ("skips by", "99"),
            ("retried", "75"),
            ("not retried", "2"),
            ("param", "A=1"),
            ("env", "B=x"),
            ("with labels", "ssd"),
            ("reserves", "1 slot, 2GiB of memory"),
            ("takes", "2 of pool wh"),
            ("depends on", "b (all_in_period, on_no_match: wait)"),
        ] {
            let line = other.lines().find(|line| line.starts_with(name));
            assert!(line.is_some_and(|line| line.ends_with(value)), "{name} {value}:\n{other}");
        }
    }
}
