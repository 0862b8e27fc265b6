//! Files of jobs: which contents are kept, for how long, and that nothing else may be named.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::command::*;
use super::super::outcome::{Outcome, Reject};
use super::super::snapshot::{Restore, records};
use super::super::state::Limits;
use super::support::*;
use crate::ids::*;
use crate::model::file::{JobFile, Upload};
use crate::model::job::*;

const HOURS: i64 = 3_600_000;

fn kept(m: &Machine) -> Vec<u8> {
    (0..9).filter(|number| m.state.file_len(digest(*number)).is_some()).collect()
}

#[test]
fn a_definition_names_only_what_was_noted_and_keeps_it() {
    let mut m = Machine::new();
    let refused = m.refused(apply(furnished("load", &[("a.csv", 1)])));
    let Reject::Invalid { field, .. } = &refused else { panic!("{refused:?}") };
    assert_eq!(field, "files.a.csv");
    m.ok(note_files(&[(1, 6)]));
    assert!(matches!(m.refused(apply(furnished("load", &[("a.csv", 1)]))), Reject::Invalid { .. }));
    let mut m = Machine::new();
    m.ok(note_files(&[(1, 5), (2, 5)]));
    m.job(furnished("load", &[("a.csv", 1)]));
    m.after(5 * HOURS);
    assert_eq!(kept(&m), [1, 2]);
    m.after(HOURS);
    assert_eq!(kept(&m), [1], "what nobody named is not kept for ever");
    assert!(matches!(m.refused(apply(furnished("load", &[("b", 2)]))), Reject::Invalid { .. }));
    let same = m.ok(apply(furnished("load", &[("a.csv", 1)])));
    assert!(matches!(same, Outcome::Job { changed: false, .. }), "{same:?}");
    // Said again, it is kept anew; what has had its time goes.
    m.ok(note_files(&[(3, 5)]));
    assert_eq!(m.state.uploads().count(), 1);
}

#[test]
fn files_are_kept_while_their_revision_is_or_a_run_is_pinned_to_it() {
    let mut m = Machine::new();
    let all: Vec<(u8, u32)> = (1..9).map(|number| (number, 5)).collect();
    m.ok(note_files(&all));
    let job = m.job(furnished("load", &[("a", 1)]));
    m.ok(Command::TriggerJob { job });
    let run = m.queue()[0];
    for number in 2..9 {
        m.ok(apply(furnished("load", &[("a", number)])));
    }
    m.after(7 * HOURS);
    // The newest, five before it, and that of the run which waits.
    assert_eq!(kept(&m), [1, 3, 4, 5, 6, 7, 8]);
    m.ok(Command::CancelRun { run });
    assert_eq!(kept(&m), [3, 4, 5, 6, 7, 8]);
    m.ok(Command::DeleteJob { job, expected: None });
    assert_eq!(kept(&m), Vec::<u8>::new());
    assert_eq!(m.state.named_files(), 0);
}

#[test]
fn what_may_be_noted_and_named_is_bounded() {
    let mut m = Machine::with(Limits { uploads: 2, ..Limits::default() });
    let most = u32::try_from(JobFile::MAX_BYTES).unwrap();
    assert!(matches!(m.refused(note_files(&[(1, most + 1)])), Reject::Invalid { .. }));
    m.ok(note_files(&[(1, most), (2, 5)]));
    assert!(matches!(m.refused(note_files(&[(1, 5)])), Reject::Invalid { .. }), "other bytes");
    assert!(matches!(m.refused(note_files(&[(3, 5)])), Reject::Full { .. }));
    m.ok(note_files(&[(2, 5), (1, most)]));
    m.after(6 * HOURS);
    m.ok(note_files(&[(3, 5), (4, 5)]));
    let named = furnished("load", &[("a", 3), ("a/b", 4)]);
    let refused = m.refused(apply(named));
    assert!(
        matches!(&refused, Reject::Invalid { field, .. } if field == "files.a/b"),
        "{refused:?}"
    );
}

#[derive(Debug, Clone)]
enum Step {
    Note(Vec<u8>),
    Apply(u8, Vec<u8>),
    Delete(u8),
    Wait(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let some = || prop::collection::vec(0..6_u8, 0..3);
    prop_oneof![
        3 => some().prop_map(Step::Note),
        4 => (0..2_u8, some()).prop_map(|(job, files)| Step::Apply(job, files)),
        1 => (0..2_u8).prop_map(Step::Delete),
        2 => (0..5_u8).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases(64)))]

    /// A second opinion from the definitions themselves, after each command.
    #[test]
    fn kept_is_what_a_kept_definition_names_or_was_noted_lately(
        steps in prop::collection::vec(step(), 1..60)
    ) {
        let mut m = Machine::new();
        let mut noted: BTreeMap<u8, i64> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Note(files) => {
                    let now = m.now;
                    noted.extend(files.iter().map(|number| (*number, now)));
                    let files: Vec<(u8, u32)> = files.iter().map(|n| (*n, 5)).collect();
                    m.ok(note_files(&files));
                }
                Step::Apply(job, files) => {
                    let before = kept(&m);
                    let names: Vec<String> = files.iter().map(|n| format!("f{n}")).collect();
                    let named: Vec<(&str, u8)> =
                        names.iter().map(String::as_str).zip(files.iter().copied()).collect();
                    let outcome = m.send(apply(furnished(&format!("j{job}"), &named)));
                    let is_refused = matches!(outcome, Outcome::Rejected(_));
                    let lacks = files.iter().any(|number| !before.contains(number));
                    prop_assert_eq!(is_refused, lacks, "{:?}", outcome);
                }
                Step::Delete(job) => {
                    if let Some(job) = m.state.job_by_name(&name(&format!("j{job}"))).map(|j| j.id) {
                        m.ok(Command::DeleteJob { job, expected: None });
                    }
                }
                Step::Wait(hours) => drop(m.after(i64::from(hours) * HOURS)),
            }
            let mut wanted: Vec<u8> = Vec::new();
            for number in 0..6 {
                let jobs = m.state.jobs_after(None);
                let revisions = jobs.flat_map(|job| {
                    (1..=job.revision.0).filter_map(|n| m.state.spec(job.id, Revision(n)))
                });
                let mut files = revisions.flat_map(|spec: &JobSpec| spec.files.values());
                let fresh = noted.get(&number).is_some_and(|at| {
                    m.now - at < i64::try_from(Upload::KEPT_FOR.0).unwrap()
                });
                if fresh || files.any(|file| file.digest == digest(number)) {
                    wanted.push(number);
                }
            }
            prop_assert_eq!(kept(&m), wanted);
            let mut restore = Restore::new(*m.state.limits());
            records(&m.state).for_each(|record| restore.push(&record).unwrap());
            prop_assert_eq!(restore.finish().unwrap().hash(), m.state.hash());
        }
    }
}
