//! What deleting a job did, or would do, for people.

use super::output::{Show, View};
use crate::api::dto::{RemovalDto, RemovedDto};

impl Show for RemovedDto {
    fn view(&self) -> View {
        View {
            facts: vec![
                ("deleted", self.job.clone()),
                ("cancelled runs", self.cancelled.to_string()),
                ("freed jobs", self.dependants.len().to_string()),
            ],
            ..freed(&self.dependants, &self.unplanned)
        }
    }

    fn ids(&self) -> Vec<String> {
        self.dependants.clone()
    }
}

impl Show for RemovalDto {
    fn view(&self) -> View {
        let verdict = match &self.refused {
            Some(why) => format!("no: {why}"),
            None => "yes".to_owned(),
        };
        View {
            facts: vec![
                ("job", self.job.clone()),
                ("would be deleted", verdict),
                ("actions dropped", self.dropped_actions.to_string()),
                ("runs not begun", self.dropped_runs.to_string()),
                ("runs cancelled", self.cancelled.to_string()),
                ("runs that go on", self.left_running.to_string()),
                ("dependants", self.dependant_count.to_string()),
            ],
            ..freed(&self.dependants, &self.unplanned)
        }
    }

    fn ids(&self) -> Vec<String> {
        self.dependants.clone()
    }
}

/// Jobs that depended on the one that is deleted, and what is left of their plans.
fn freed(dependants: &[String], unplanned: &[String]) -> View {
    let row = |name: &String| {
        let plan = if unplanned.contains(name) { "none any more" } else { "goes on" };
        vec![name.clone(), plan.to_owned()]
    };
    let titles = if dependants.is_empty() { Vec::new() } else { vec!["dependant", "plan"] };
    View { titles, rows: dependants.iter().map(row).collect(), ..View::default() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::{Format, print};

    #[test]
    fn a_preview_says_what_would_become_of_whom() {
        let removal = RemovalDto {
            job: "load".to_owned(),
            refused: None,
            dependants: vec!["clean".to_owned(), "report".to_owned()],
            dependant_count: 2,
            unplanned: vec!["report".to_owned()],
            dropped_actions: 3,
            dropped_runs: 1,
            cancelled: 0,
            left_running: 1,
        };
        let printed = |format| {
            let mut out = Vec::new();
            print(&mut out, format, &removal).unwrap();
            String::from_utf8(out).unwrap()
        };
        let table = printed(Format::Table);
        for line in ["would be deleted  yes", "clean      goes on", "report     none any more"] {
            assert!(table.contains(line), "{line:?} is missing in\n{table}");
        }
        assert_eq!(printed(Format::Quiet), "clean\nreport\n");
    }
}
