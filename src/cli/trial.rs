//! What something that is asked for would do, for people.

use super::output::{Show, View};
use crate::api::dto::{ChangeDto, TrialDto};

impl Show for TrialDto {
    fn view(&self) -> View {
        let mut facts = vec![("actions that change", self.change_count.to_string())];
        if let Some(run) = &self.run {
            facts.push(("a run for", run.job.clone()));
            facts.push(("kind", run.kind.clone()));
            facts.push(("nominal", run.nominal.to_string()));
            facts.push(("revision", run.revision.to_string()));
            facts.push(("priority", run.priority.to_string()));
            facts.extend(run.params.iter().map(|(key, value)| ("param", format!("{key}={value}"))));
        }
        let row = |change: &ChangeDto| {
            vec![change.action.to_string(), change.from.clone(), change.to.clone()]
        };
        let none = self.changes.is_empty();
        let titles = if none { Vec::new() } else { vec!["action", "is", "would be"] };
        View { facts, titles, rows: self.changes.iter().map(row).collect() }
    }

    fn ids(&self) -> Vec<String> {
        self.changes.iter().map(|change| change.action.to_string()).collect()
    }
}
