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

    /// The run that a command begins, once it is over.
    #[track_caller]
    pub(crate) fn over(&self, arguments: &[&str]) -> Value {
        let run = self.data(arguments)["run"].as_str().unwrap().to_owned();
        until(&format!("{run} is over"), || {
            let shown = self.data(&["run", "show", &run]);
            (!shown["finished"].is_null()).then_some(shown)
        })
    }
}
