//! Retries: jobs whose first attempts fail, for a while or for good; whose exit codes say
//! that another try makes no sense, or that there was nothing to do; and whose waits are
//! fixed, grow, spread, or are longer than a leader lasts here.

use serde_json::{Value, json};

use super::{Ctx, Error, apply_set};

/// Exit codes of the attempts in order; the last one goes on. With it, how many
/// retries the job may use.
const CASES: [(&str, u32); 6] =
    [("0", 3), ("1,0", 3), ("1,2,0", 2), ("5", 2), ("1,0", 0), ("7,7,7,0", 3)];

/// Exit codes, and all that the job says of them and of its waits.
fn rules() -> [(&'static str, Value); 8] {
    [
        ("1,4,0", json!({"retries": {"count": 3, "backoff": "1s", "never_on": [4]}})),
        ("1,2,0", json!({"retries": {"count": 3, "backoff": "1s", "retry_on": [1]}})),
        ("1,9,0", json!({"retries": {"count": 3, "backoff": "1s"}, "skip_exit_codes": [9]})),
        ("9", json!({"skip_exit_codes": [9, 10]})),
        ("1,1,1,1,0", json!({"retries": {"count": 5, "backoff": "1s", "backoff_cap": "3s"}})),
        ("1,1,0", json!({"retries": {"count": 2, "backoff": "1s", "jitter": "2s"}})),
        ("1,0", json!({"retries": {"count": 1, "backoff": "20s"}})),
        ("1,0", json!({"retries": {"count": 1, "backoff": "1s"}, "retry_on_worker": "another"})),
    ]
}

/// Creates the jobs; nothing is asked afterwards.
pub(super) async fn setup(ctx: &Ctx) -> Result<(), Error> {
    let mut cases: Vec<(&str, Value)> = (CASES.iter())
        .map(|(exits, count)| (*exits, json!({"retries": {"count": count, "backoff": "1s"}})))
        .collect();
    cases.extend(rules());
    let mut jobs = Vec::new();
    for (n, (exits, mut job)) in cases.into_iter().enumerate() {
        let options = [("ms", "50".to_owned()), ("exit", exits.to_owned())];
        // A lost worker costs no retry, and is noticed within a test.
        job["lease"] = json!("10s");
        job["name"] = json!(format!("retry-{n}"));
        job["triggers"] = json!([{"cron": format!("{}/10 * * * * ?", n % 5)}]);
        job["exec"] = ctx.exec(&options);
        jobs.push(job);
    }
    apply_set(ctx, "retries", jobs).await
}
