//! What something that is asked for would do, for people.

use super::output::{Show, View, moment};
use crate::api::dto::{ChangeDto, TrialDto};

impl Show for TrialDto {
    fn view(&self) -> View {
        let mut facts = vec![("actions that change", self.change_count.to_string())];
        if let Some(run) = &self.run {
            facts.push(("a run for", run.job.clone()));
            facts.push(("kind", run.kind.clone()));
            facts.push(("nominal", moment(run.nominal)));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::{Format, print};

    #[test]
    fn a_preview_is_told_in_the_words_of_other_answers() {
        let trial = r#"{"change_count": 1, "run": {"id": "r-18", "kind": "manual", "job": "load",
            "revision": 2, "action": null, "nominal": "2026-11-21T03:00:00.000Z", "batch": "b",
            "state": "queued", "priority": 5, "created": "2026-11-21T03:00:00.004Z",
            "ready_at": "2026-11-21T03:00:00.004Z", "finished": null, "retries": 0, "losses": 0,
            "cancel_requested": false, "params": {"DAY": "1"}, "attempts": []},
            "changes": [{"action": "load@20261121T030000Z", "from": "failed", "to": "waiting"}]}"#;
        let trial: TrialDto = serde_json::from_str(trial).unwrap();
        let printed = |format| {
            let mut out = Vec::new();
            print(&mut out, format, &trial).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(
            printed(Format::Table),
            "actions that change  1\n\
             a run for            load\n\
             kind                 manual\n\
             nominal              2026-11-21 03:00:00Z\n\
             revision             2\n\
             priority             5\n\
             param                DAY=1\n\
             \n\
             ACTION                 IS      WOULD BE\n\
             load@20261121T030000Z  failed  waiting\n"
        );
        assert_eq!(printed(Format::Quiet), "load@20261121T030000Z\n");
    }
}
