//! What a user asks of a cluster by the program's own commands.

use std::process::Output;

use serde_json::Value;

use super::{Cluster, path, until};

impl Cluster {
    /// A command's answer as data.
    #[track_caller]
    pub(crate) fn data(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.run_ok(&[arguments, &["-o", "json"]].concat())).unwrap()
    }

    /// Applies definitions; they may be refused.
    pub(crate) fn try_apply(&self, content: &str) -> Output {
        let file = self.path("jobs.yaml");
        std::fs::write(&file, content).unwrap();
        self.run(&["job", "apply", "-f", path(&file)])
    }

    /// Applies definitions.
    #[track_caller]
    pub(crate) fn apply(&self, content: &str) {
        let done = self.try_apply(content);
        assert!(done.status.success(), "{done:?}");
    }

    /// Runs a job now; the answer is the run.
    #[track_caller]
    pub(crate) fn trigger(&self, job: &str) -> String {
        self.data(&["job", "trigger", job])["run"].as_str().unwrap().to_owned()
    }

    /// The run that a command begins, once it is over.
    #[track_caller]
    pub(crate) fn over(&self, arguments: &[&str]) -> Value {
        self.wait_for_end(self.data(arguments)["run"].as_str().unwrap())
    }

    /// Waits for the end of a run.
    #[track_caller]
    pub(crate) fn wait_for_end(&self, run: &str) -> Value {
        until(&format!("{run} is over"), || {
            let shown = self.data(&["run", "show", run]);
            (!shown["finished"].is_null()).then_some(shown)
        })
    }

    /// A time to fire once, in a few seconds: everything is planned before that. As
    /// definitions have it, and as ids of actions do.
    #[track_caller]
    pub(crate) fn soon(&self) -> (String, String) {
        let now = self.data(&["cluster", "status"])["time"].as_str().unwrap().to_owned();
        let now: jiff::Timestamp = now.parse().unwrap();
        let at = jiff::Timestamp::from_second(now.as_second() + 4).unwrap();
        (at.to_string(), at.strftime("%Y%m%dT%H%M%SZ").to_string())
    }
}
