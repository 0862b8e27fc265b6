//! Secrets: revisions, who uses them, and nodes that cannot open one.

use super::super::command::*;
use super::super::outcome::{Outcome, Reject};
use super::super::state::Limits;
use super::support::*;
use crate::ids::*;
use crate::model::action::WaitReason;
use crate::model::job::JobSpec;
use crate::model::secret::{Sealed, StoredSecret};
use crate::placement::explain::{Subject, explain};

fn secret(m: &Machine, of: &str) -> StoredSecret {
    m.state.secret(&name(of)).unwrap().clone()
}

fn reseal(of: &str, key: u8, expected: u64) -> Command {
    Command::ResealSecret { name: name(of), sealed: sealed(key), expected: Revision(expected) }
}

fn close(node: u64, closed: &[&str]) -> Command {
    let closed = closed.iter().map(|secret| name(secret)).collect();
    Command::CloseSecrets { node: NodeId(node), closed }
}

fn delete(of: &str) -> Command {
    Command::DeleteSecret { name: name(of), expected: None }
}

#[test]
fn a_value_that_is_set_is_a_revision_and_one_that_is_resealed_is_not() {
    let mut m = Machine::new();
    let made = m.ok(put_secret("a", 1, Some("of the warehouse")));
    assert_eq!(made, Outcome::Secret { revision: Revision(1) });
    let created = secret(&m, "a").created;
    m.after(1_000);
    // Nobody can tell whether the value is the same.
    assert_eq!(m.ok(put_secret("a", 1, None)), Outcome::Secret { revision: Revision(2) });
    let set = secret(&m, "a");
    assert_eq!((set.created, set.updated), (created, m.state.now()));
    assert_eq!(set.description, "of the warehouse");
    m.after(1_000);
    assert_eq!(m.ok(reseal("a", 2, 2)), Outcome::Secret { revision: Revision(2) });
    assert_eq!(secret(&m, "a"), StoredSecret { sealed: sealed(2), ..set.clone() });
    assert_eq!(m.state.secret_keys().collect::<Vec<_>>(), [sealed(2).key]);
    // Set meanwhile: the old value must not come back.
    m.ok(put_secret("a", 2, Some("")));
    let (expected, actual) = (Revision(2), Revision(3));
    assert_eq!(m.refused(reseal("a", 3, 2)), Reject::WrongRevision { expected, actual });
    assert_eq!(secret(&m, "a").description, "");
    assert_eq!(m.refused(reseal("b", 3, 1)), Reject::NoSuchSecret(name("b")));
}

#[test]
fn secrets_have_bounds_and_a_revision_can_be_asked_for() {
    let mut m = Machine::with(Limits { secrets: 1, ..Limits::default() });
    let put = |sealed: Sealed, expected| Command::PutSecret {
        name: name("a"),
        sealed,
        description: None,
        expected,
    };
    let long = Sealed { ciphertext: vec![0; Sealed::MAX_BYTES + 1], ..sealed(1) };
    assert!(matches!(m.refused(put(long, None)), Reject::TooLarge { .. }));
    let words = "x".repeat(StoredSecret::MAX_DESCRIPTION + 1);
    assert!(matches!(m.refused(put_secret("a", 1, Some(&words))), Reject::TooLarge { .. }));
    m.ok(put(sealed(1), Some(Revision(0))));
    let refused = m.refused(put(sealed(1), Some(Revision(0))));
    assert!(matches!(refused, Reject::WrongRevision { .. }));
    m.ok(put(sealed(1), Some(Revision(1))));
    assert!(matches!(m.refused(put_secret("b", 1, None)), Reject::Full { .. }));
    m.ok(delete("a"));
    m.ok(put_secret("b", 1, None));
    assert_eq!(m.refused(delete("a")), Reject::NoSuchSecret(name("a")));
}

#[test]
fn a_secret_stays_while_a_job_names_it() {
    let mut m = Machine::new();
    let refused = m.refused(apply(knowing("load", &["a"])));
    assert!(matches!(&refused, Reject::Invalid { field, .. } if field == "secrets"), "{refused:?}");
    m.ok(put_secret("a", 1, None));
    m.ok(put_secret("b", 1, None));
    let load = m.job(knowing("load", &["a"]));
    let report = m.job(knowing("report", &["a", "b"]));
    assert_eq!(m.state.jobs_with_secret(&name("a")).collect::<Vec<_>>(), [load, report]);
    let jobs = vec![name("load"), name("report")];
    assert_eq!(m.refused(delete("a")), Reject::SecretInUse { name: name("a"), jobs });
    m.ok(apply(spec("load")));
    m.ok(apply(knowing("report", &["a"])));
    m.ok(delete("b"));
    assert!(matches!(m.refused(delete("a")), Reject::SecretInUse { .. }));
    m.ok(Command::DeleteJob { job: report, expected: None });
    m.ok(delete("a"));
    let many: Vec<String> = (0..=JobSpec::MAX_SECRETS).map(|n| format!("s{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(matches!(m.refused(apply(knowing("load", &many))), Reject::TooLarge { .. }));
}

#[test]
fn a_run_says_that_its_leader_has_not_the_key() {
    let mut m = Machine::new();
    m.ok(put_secret("a", 1, None));
    m.ok(put_secret("b", 2, None));
    m.worker("w", 2);
    let job = m.job(knowing("load", &["a", "b"]));
    m.ok(Command::TriggerJob { job });
    let run = m.queue()[0];
    let why = |m: &Machine| explain(&m.state, Subject::Run(run), &here);
    let closed = |m: &Machine| m.state.closed_secrets(m.state.run(run).unwrap());
    let leader = m.state.leader().node.0;
    assert_eq!(why(&m), Some(WaitReason::Dispatching));
    m.ok(close(leader + 1, &["a", "b"]));
    assert_eq!(why(&m), Some(WaitReason::Dispatching), "another node");
    m.ok(close(leader, &["b", "nobody"]));
    assert_eq!((why(&m), closed(&m)), (Some(WaitReason::Secret), vec![name("b")]));
    assert_eq!(secret(&m, "b").closed_to, [NodeId(leader), NodeId(leader + 1)]);
    // Another value under the same key is as closed; under a key that nobody has said
    // anything of it is open, and so is what is like others under it.
    m.ok(put_secret("b", 2, None));
    assert_eq!(why(&m), Some(WaitReason::Secret));
    m.ok(reseal("b", 3, 2));
    assert_eq!(why(&m), Some(WaitReason::Dispatching));
    m.ok(put_secret("c", 1, None));
    assert_eq!(secret(&m, "c").closed_to, [NodeId(leader + 1)]);
    m.ok(close(leader + 1, &[]));
    assert!(m.state.secrets_after(None).all(|(_, secret)| secret.closed_to.is_empty()));
    // A node that is gone for good has no part in it.
    m.ok(close(1, &["a"]));
    m.ok(Command::RetireNode { node: NodeId(1) });
    assert!(secret(&m, "a").closed_to.is_empty());
}

#[test]
fn what_is_printed_of_a_secret_is_not_its_ciphertext() {
    let shown = format!("{:?}", put_secret("a", 0xab, None));
    assert!(shown.contains("abababababababab") && !shown.contains("171"), "{shown}");
}
