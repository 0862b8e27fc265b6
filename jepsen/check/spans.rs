//! When which trigger of a job gave instants, from the changes that it went through.
//!
//! A change that leaves a trigger as it was does not touch its span. A pause that ends
//! with `misfire` does not end it either: nothing of it may be lost, it is only late.

use std::collections::BTreeMap;

use super::timeline::Window;
use crate::rules::Rule;

/// How a trigger stands after a change.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Stand {
    /// The trigger.
    pub(crate) rule: Rule,
    /// It, its job, a group or the cluster is paused.
    pub(crate) held: bool,
}

/// A pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Hold {
    /// When it began.
    pub(crate) from: Window,
    /// When it ended, if it did.
    pub(crate) to: Option<Window>,
}

/// A stretch in which one rule gave instants.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Span {
    /// The rule.
    pub(crate) rule: Rule,
    /// The change that first held its rate.
    pub(crate) anchor: Window,
    /// The change that began it.
    pub(crate) since: Window,
    /// Where its trigger began, if only a calendar changed since then.
    pub(crate) planned_from: Option<Window>,
    /// The change that ended it, if one did.
    pub(crate) until: Option<Window>,
    /// Pauses that it went through: its instants in them were only late.
    pub(crate) late: Vec<(Window, Window)>,
}

/// Instants of a pause that were to be left out and recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LeftOut {
    /// Of which trigger.
    pub(crate) trigger: String,
    /// When it began.
    pub(crate) from: Window,
    /// When it ended.
    pub(crate) to: Window,
}

/// All of one job.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Spans {
    /// In the order in which they ended.
    pub(crate) all: Vec<Span>,
    /// Pauses by trigger, in order.
    pub(crate) holds: BTreeMap<String, Vec<Hold>>,
    /// What pauses left out.
    pub(crate) left_out: Vec<LeftOut>,
    open: BTreeMap<String, Open>,
}

#[derive(Debug, Clone, PartialEq)]
struct Open {
    span: Span,
    held: Option<Window>,
}

impl Spans {
    /// A change, and how the triggers stand after it. What was paused and goes on is
    /// made up for (`goes_late`), or left out.
    pub(super) fn change(&mut self, at: Window, after: &[Stand], goes_late: bool) {
        let gone = |name: &&String| !after.iter().any(|stand| stand.rule.name == **name);
        let gone: Vec<String> = self.open.keys().filter(gone).cloned().collect();
        for name in gone {
            self.end(&name, at);
            self.release(&name, at);
        }
        for stand in after {
            self.step(at, stand, goes_late);
        }
    }

    fn step(&mut self, at: Window, Stand { rule, held }: &Stand, goes_late: bool) {
        let name = &rule.name;
        let before = self.open.get(name).cloned();
        let begun = |anchor, since, held: Option<Window>| {
            let (rule, planned_from) = (rule.clone(), None);
            let span = Span { rule, anchor, since, planned_from, until: None, late: Vec::new() };
            Open { span, held }
        };
        let open = match before {
            None => begun(at, at, held.then_some(at)),
            Some(before) if before.span.rule != *rule => {
                let old = &before.span.rule;
                let anchor = if old.rate == rule.rate { before.span.anchor } else { at };
                self.end(name, at);
                // What a calendar leaves out is worked out when the pause is over; a
                // trigger that was written anew begins here.
                let is_bounded = old.written == rule.written && before.held.is_some();
                let since = if is_bounded { before.held.unwrap_or(at) } else { at };
                let held = before.held.map(|held| if is_bounded { held } else { at });
                let mut open = begun(anchor, since, held);
                if old.written == rule.written {
                    let first = before.span.planned_from.unwrap_or(before.span.since);
                    open.span.planned_from = Some(first);
                }
                open
            }
            Some(before) => before,
        };
        let mut open = open;
        match (open.held, held) {
            (None, true) => open.held = Some(at),
            (Some(from), false) => {
                open.held = None;
                if goes_late {
                    open.span.late.push((from, at));
                } else {
                    let until = Some(from);
                    self.all.push(Span { until, ..open.span.clone() });
                    open.span.since = at;
                    open.span.planned_from = None;
                    open.span.late.clear();
                    let trigger = name.clone();
                    self.left_out.push(LeftOut { trigger, from, to: at });
                }
            }
            (None, false) | (Some(_), true) => {}
        }
        if *held {
            let holds = self.holds.entry(name.clone()).or_default();
            if holds.last().is_none_or(|hold| hold.to.is_some()) {
                holds.push(Hold { from: at, to: None });
            }
        } else {
            self.release(name, at);
        }
        self.open.insert(name.clone(), open);
    }

    /// What waited with a trigger that was paused goes on.
    fn release(&mut self, name: &str, at: Window) {
        let last = self.holds.get_mut(name).and_then(|holds| holds.last_mut());
        if let Some(hold) = last.filter(|hold| hold.to.is_none()) {
            hold.to = Some(at);
        }
    }

    /// A trigger is no more, or another.
    fn end(&mut self, name: &str, at: Window) {
        let Some(open) = self.open.remove(name) else { return };
        let until = Some(open.held.unwrap_or(at));
        self.all.push(Span { until, ..open.span });
    }

    /// The history is over.
    pub(super) fn close(&mut self) {
        for (_, open) in std::mem::take(&mut self.open) {
            self.all.push(Span { until: open.held, ..open.span });
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn at(n: i64) -> Window {
        Window { from: n * 1_000, to: n * 1_000 + 10 }
    }

    fn stand(written: &Value, held: bool) -> Stand {
        let calendars = BTreeMap::from([
            ("a".to_owned(), json!({"weekly": "SUN"})),
            ("b".to_owned(), json!({"weekly": "MON"})),
        ]);
        Stand { rule: Rule::read(written, None, &calendars).unwrap(), held }
    }

    fn cron(name: &str) -> Value {
        json!({"name": name, "cron": "* * * * * ?"})
    }

    fn shown(spans: &Spans) -> Vec<(&str, i64, Option<i64>, usize)> {
        let show = |span: &Span| (span.since.from / 1_000, span.until.map(|u| u.from / 1_000));
        let all = spans.all.iter();
        all.map(|s| (s.rule.name.as_str(), show(s).0, show(s).1, s.late.len())).collect()
    }

    #[test]
    fn an_edit_of_one_trigger_leaves_the_other() {
        let mut spans = Spans::default();
        spans.change(at(1), &[stand(&cron("a"), false), stand(&cron("b"), false)], false);
        let other = json!({"name": "b", "interval": "5s"});
        spans.change(at(5), &[stand(&cron("a"), false), stand(&other, false)], false);
        // The rate is the same: it is counted from where it was.
        let now = json!({"name": "b", "interval": "5s", "misfire": "skip"});
        spans.change(at(9), &[stand(&cron("a"), false), stand(&now, false)], false);
        spans.close();
        let expected =
            [("b", 1, Some(5), 0), ("b", 5, Some(9), 0), ("a", 1, None, 0), ("b", 9, None, 0)];
        assert_eq!(shown(&spans), expected);
        assert_eq!(spans.all[3].anchor, at(5));
        assert!(spans.holds.is_empty() && spans.left_out.is_empty());
    }

    #[test]
    fn a_pause_ends_a_span_or_makes_it_late() {
        let mut spans = Spans::default();
        let one = |held| [stand(&cron("a"), held)];
        spans.change(at(1), &one(false), false);
        spans.change(at(3), &one(true), false);
        spans.change(at(6), &one(false), true);
        spans.change(at(9), &one(true), false);
        // Another pause over it, and the end of the first one.
        spans.change(at(10), &one(true), true);
        spans.change(at(12), &one(false), false);
        spans.change(at(15), &one(true), false);
        spans.close();
        assert_eq!(shown(&spans), [("a", 1, Some(9), 1), ("a", 12, Some(15), 0)]);
        assert_eq!(spans.all[0].late, [(at(3), at(6))]);
        let left = LeftOut { trigger: "a".to_owned(), from: at(9), to: at(12) };
        assert_eq!(spans.left_out, [left]);
        let holds: Vec<_> = spans.holds["a"].iter().map(|hold| hold.to).collect();
        assert_eq!(holds, [Some(at(6)), Some(at(12)), None]);
    }

    #[test]
    fn what_is_written_in_a_pause_begins_there_and_what_is_bounded_at_its_beginning() {
        let bound = |name: &str| json!({"name": "a", "cron": "* * * * * ?", "calendars": [name]});
        let mut spans = Spans::default();
        spans.change(at(1), &[stand(&bound("a"), false)], false);
        spans.change(at(3), &[stand(&bound("a"), true)], false);
        let mut other = stand(&bound("a"), true);
        other.rule.bounds.clear();
        spans.change(at(5), &[other.clone()], false);
        spans.change(at(7), &[Stand { held: false, ..other }], true);
        spans.close();
        assert_eq!(shown(&spans), [("a", 1, Some(3), 0), ("a", 3, None, 1)]);
        let mut spans = Spans::default();
        spans.change(at(1), &[stand(&cron("a"), false)], false);
        spans.change(at(3), &[stand(&cron("a"), true)], false);
        spans.change(at(5), &[stand(&bound("b"), true)], false);
        spans.change(at(7), &[stand(&bound("b"), false)], true);
        spans.close();
        assert_eq!(shown(&spans), [("a", 1, Some(3), 0), ("a", 5, None, 1)]);
        assert_eq!(spans.all[1].late, [(at(5), at(7))]);
    }

    #[test]
    fn what_is_gone_holds_nothing() {
        let mut spans = Spans::default();
        spans.change(at(1), &[stand(&cron("a"), true)], false);
        spans.change(at(4), &[], false);
        spans.close();
        assert_eq!(shown(&spans), [("a", 1, Some(1), 0)]);
        assert_eq!(spans.holds["a"][0].to, Some(at(4)));
        assert!(spans.left_out.is_empty());
    }
}
