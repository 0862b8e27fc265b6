//! Groups: their records by revision, and whose parameters hold.

use super::super::command::*;
use super::super::outcome::{Outcome, Reject};
use super::super::state::Limits;
use super::support::*;
use crate::ids::{GroupPath, Revision};
use crate::model::group::GroupDef;
use crate::model::job::JobSpec;

fn path(text: &str) -> GroupPath {
    GroupPath::new(text).unwrap()
}

fn drop_group(text: &str, expected: Option<u64>) -> Command {
    Command::DeleteGroup { path: path(text), expected: expected.map(Revision) }
}

#[test]
fn a_record_lives_by_its_revisions() {
    let mut m = Machine::new();
    let set = |value: &str, expected: Option<u64>| {
        put_group(path("etl"), &[("A", value)], expected.map(Revision))
    };
    let group = |revision, changed| Outcome::Group { revision: Revision(revision), changed };
    assert_eq!(m.ok(set("1", Some(0))), group(1, true));
    assert_eq!(m.ok(set("1", None)), group(1, false));
    let made = m.state.group(&path("etl")).unwrap().updated;
    m.after(1_000);
    assert_eq!(m.ok(set("2", Some(1))), group(2, true));
    let stored = m.state.group(&path("etl")).unwrap();
    assert!(stored.created == made && stored.updated > made);
    assert!(matches!(m.refused(set("3", Some(1))), Reject::WrongRevision { .. }));
    assert!(matches!(m.refused(drop_group("etl", Some(1))), Reject::WrongRevision { .. }));
    m.ok(drop_group("etl", Some(2)));
    assert_eq!(m.refused(drop_group("etl", None)), Reject::NoSuchGroup(path("etl")));
}

#[test]
fn the_nearest_group_holds_and_one_without_a_record_is_just_a_path() {
    let mut m = Machine::new();
    m.ok(put_group(path("a"), &[("A", "far"), ("B", "far"), ("EU.C", "far"), ("D", "far")], None));
    m.ok(put_group(path("a/b/c"), &[("A", "near"), ("EU.B", "near"), ("US.D", "near")], None));
    m.ok(put_group(path("a-b"), &[("A", "beside")], None));
    let of = |m: &Machine, group: &str| {
        let spec = JobSpec { group: Some(path(group)), ..spec("j") };
        let params = m.state.group_params(&spec);
        let plain = params.into_iter().filter(|(name, _)| !name.contains('.'));
        plain.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(of(&m, "a/b/c"), "A=near B=far D=far");
    m.ok(set_area(Some("EU")));
    assert_eq!(of(&m, "a/b/c"), "A=near B=near C=far D=far");
    assert_eq!(of(&m, "a/b"), "A=far B=far C=far D=far");
    assert_eq!((of(&m, "a-b"), of(&m, "x")), ("A=beside".to_owned(), String::new()));
    assert!(m.state.group_params(&spec("j")).is_empty());
    m.ok(drop_group("a/b/c", None));
    assert_eq!(of(&m, "a/b/c"), "A=far B=far C=far D=far");
}

#[test]
fn groups_are_listed_with_those_that_jobs_lie_in() {
    let mut m = Machine::new();
    for (n, group) in ["b/x", "b/x", "c"].iter().enumerate() {
        m.job(JobSpec { group: Some(path(group)), ..spec(&format!("j{n}")) });
    }
    m.ok(put_group(path("a"), &[], None));
    m.ok(put_group(path("c"), &[], None));
    let all = |after| -> Vec<String> { m.state.groups_after(after).map(String::from).collect() };
    assert_eq!(all(None), ["a", "b/x", "c"]);
    assert_eq!(all(Some(path("a"))), ["b/x", "c"]);
    assert_eq!(all(Some(path("b"))), ["b/x", "c"]);
    assert!(all(Some(path("c"))).is_empty());
}

#[test]
fn what_cannot_be_held_is_refused() {
    let mut m = Machine::with(Limits { groups: 1, ..Limits::default() });
    let field = |reject| match reject {
        Reject::Invalid { field, .. } | Reject::TooLarge { what: field, .. } => field,
        other => panic!("{other:?}"),
    };
    let mut refused =
        |name: &str, value: &str| field(m.refused(put_group(path("a"), &[(name, value)], None)));
    assert_eq!(refused("A-B", "x"), "params");
    assert_eq!(refused("EU.", "x"), "params");
    assert_eq!(refused("A", &"x".repeat(JobSpec::MAX_PARAM + 1)), "params.A");
    assert_eq!(refused("EU.A", "\0"), "params.EU.A");
    let many: Vec<String> = (0..60).map(|n| format!("P{n}")).collect();
    let value = "x".repeat(JobSpec::MAX_PARAM);
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), value.as_str())).collect();
    assert_eq!(field(m.refused(put_group(path("a"), &many, None))), "definition");
    let description = "x".repeat(GroupDef::MAX_DESCRIPTION + 1);
    let def = GroupDef { path: path("a"), description, params: [].into() };
    let put = Command::PutGroup { def: Box::new(def), expected: None };
    assert_eq!(field(m.refused(put)), "description");
    m.ok(put_group(path("a"), &[], None));
    assert!(matches!(m.refused(put_group(path("b"), &[], None)), Reject::Full { .. }));
}
