//! Calendars: one that is in use cannot be deleted, and one that nobody uses can.
//!
//! What a calendar leaves out is part of when a trigger fires, and judged with that.

use std::collections::BTreeMap;

use super::Checked;
use crate::history::Kind;
use crate::store::Evidence;

/// One deletion, with all its requests.
#[derive(Default)]
struct Deletion {
    /// As the one who asked knows.
    is_used: bool,
    done: bool,
    refused: Option<String>,
    t: u64,
}

/// The verdict.
pub(crate) fn check(evidence: &Evidence) -> Checked {
    let promise = "a calendar in use cannot be deleted, and one that nobody uses can";
    let mut checked = Checked::new("calendars", promise);
    for what in ["deleted in use", "kept without use"] {
        checked.count(what, 0);
    }
    let mut all: BTreeMap<(&str, &str), Deletion> = BTreeMap::new();
    for op in evidence.ops_of("calendar-delete") {
        let key = op.ask.v["key"].as_str().unwrap_or_default();
        let deletion = all.entry((&op.ask.k, key)).or_default();
        deletion.is_used = op.ask.v["used"] == true;
        deletion.t = op.ask.t;
        deletion.done |= op.kind() == Kind::Ok;
        let why = op.end.as_ref().and_then(|end| end.err.clone()).unwrap_or_default();
        // Any other answer says that it was not tried.
        if op.kind() == Kind::Fail && why.starts_with("409") {
            deletion.refused = Some(why);
        }
    }
    for ((name, _), deletion) in all {
        let Deletion { is_used, done, refused, t } = deletion;
        checked.count(if is_used { "tried in use" } else { "tried without use" }, 1);
        if is_used && done {
            let told = "it was deleted, and triggers name it".to_owned();
            checked.wrong("deleted in use", name, told, t);
        }
        if let Some(why) = refused.filter(|_| !is_used && !done) {
            checked.wrong("kept without use", name, why, t);
        }
    }
    checked.count("changes", evidence.ops_of("calendar").filter(|op| op.is_ok()).count());
    checked
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::planted::Planted;
    use super::*;

    fn found(used: bool, answers: &[(Kind, &str)]) -> Vec<String> {
        let mut planted = Planted::new();
        for (kind, why) in answers {
            let v = json!({"key": "k", "used": used});
            planted.op(1_000, Some(1_010), "calendar-delete", "c", v, *kind, json!(null));
            planted.because(why);
        }
        check(&planted.evidence()).findings.into_iter().map(|f| f.what).collect()
    }

    #[test]
    fn a_calendar_goes_when_nobody_uses_it_and_stays_else() {
        let (gone, refused) = ((Kind::Ok, ""), (Kind::Fail, "409 conflict: in use by jobs a"));
        assert_eq!(found(true, &[refused]), Vec::<String>::new());
        assert_eq!(found(false, &[(Kind::Info, "no answer"), gone]), Vec::<String>::new());
        assert_eq!(found(false, &[(Kind::Fail, "429 limit_reached: ")]), Vec::<String>::new());
        assert_eq!(found(true, &[(Kind::Info, "no answer"), gone]), ["deleted in use"]);
        assert_eq!(found(false, &[refused]), ["kept without use"]);
    }
}
