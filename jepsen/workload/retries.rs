//! Retries: jobs whose first attempts fail, for a while or for good.

use serde_json::json;

use super::{Ctx, Error, apply_set};

/// Exit codes of the attempts in order; the last one goes on. With it, how many
/// retries the job may use.
const CASES: [(&str, u32); 6] =
    [("0", 3), ("1,0", 3), ("1,2,0", 2), ("5", 2), ("1,0", 0), ("7,7,7,0", 3)];

/// Creates the jobs; nothing is asked afterwards.
pub(super) async fn setup(ctx: &Ctx) -> Result<(), Error> {
    let mut jobs = Vec::new();
    for (n, (exits, count)) in CASES.iter().enumerate() {
        let options = [("ms", "50".to_owned()), ("exit", (*exits).to_owned())];
        jobs.push(json!({
            "name": format!("retry-{n}"),
            "triggers": [{"cron": format!("{}/10 * * * * ?", n % 5)}],
            "exec": ctx.exec(&options),
            "retries": {"count": count, "backoff": "1s"},
        }));
    }
    apply_set(ctx, "retries", jobs).await
}
