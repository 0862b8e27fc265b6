//! The picker and secrets: runs whose secrets this leader cannot open wait, and hold up
//! nobody else.

use horai_core::ids::*;
use horai_core::machine::command::Command;
use horai_core::machine::outcome::Outcome;
use horai_core::model::job::JobSpec;
use horai_core::model::secret::{KeyId, Sealed};

use super::support::*;
use crate::leader::picks::{Pick, Picker};

fn put(fake: &Fake, secret: &str, key: u8) {
    let sealed = Sealed { key: KeyId([key; 8]), nonce: [0; 12], ciphertext: vec![0; 20] };
    let (description, expected) = (None, None);
    fake.user(Command::PutSecret { name: name(secret), sealed, description, expected });
}

fn trigger(fake: &Fake, job: JobId) -> RunId {
    match fake.user(Command::TriggerJob { job }) {
        Outcome::Run { run } => run,
        other => panic!("{other:?}"),
    }
}

#[test]
fn runs_wait_for_a_leader_with_the_keys_of_their_secrets() {
    let fake = Fake::new(false);
    let worker = fake.worker("w", &["default"], 100);
    put(&fake, "mine", 1);
    put(&fake, "others", 2);
    let knowing = |text: &str, secrets: &[&str]| {
        let secrets = secrets.iter().map(|secret| name(secret)).collect();
        fake.job(JobSpec { secrets, ..spec(text, &[], &[]) })
    };
    let jobs = [
        knowing("both", &["mine", "others"]),
        knowing("mine", &["mine"]),
        knowing("plain", &[]),
        knowing("others", &["others"]),
    ];
    let runs = jobs.map(|job| trigger(&fake, job));
    let mut picker = Picker::new(fake.now());
    let mut pick = |keys: &[u8]| -> Vec<RunId> {
        let view = fake.view();
        picker.look_at_keys(&view, &|key| keys.contains(&key.0[0]));
        let picks: Vec<Pick> = picker.pick(&view, &[worker], fake.now(), 99);
        picker.settle(&picks);
        picks.iter().map(|pick| pick.run).collect()
    };
    assert_eq!(pick(&[1, 2]), runs);
    assert_eq!(pick(&[1]), runs[1..3]);
    assert_eq!(pick(&[2]), runs[2..]);
    assert_eq!(pick(&[]), runs[2..3]);
    // Under another key, which this leader has.
    put(&fake, "others", 1);
    assert_eq!(pick(&[1]), runs);
}
