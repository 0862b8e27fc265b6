//! Deletion with what others had to do with the job.

use serde_json::{Value, json};

use super::support::{Answer, Cluster};

/// `up` above `mid` above `low`, and `side` that depends on `up`, too; all in one set.
async fn chain() -> Cluster {
    let cluster = Cluster::start().await;
    let set = json!({"jobs": [
        {"name": "up", "noop": true, "triggers": [{"cron": "0 0 3 * * ?"}]},
        {"name": "low", "noop": true, "depends_on": ["mid"]},
        {"name": "mid", "noop": true, "depends_on": ["up"]},
        {"name": "side", "noop": true, "triggers": [{"cron": "0 0 4 * * ?"}], "depends_on": ["up"]},
    ]});
    let answer = cluster.ask("POST", "jobs", &set.to_string()).await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.body);
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_others_depend_on_is_deleted_by_force_with_the_list() {
    let cluster = chain().await;
    let told = |answer: &Answer| answer.body["detail"].as_str().unwrap_or_default().to_owned();
    let refused = cluster.ask("DELETE", "jobs/up", "").await;
    assert_eq!((refused.status.as_u16(), refused.code()), (409, "conflict"));
    assert_eq!(told(&refused), "2 jobs depend on it: mid, side");
    assert!(refused.body["remedy"].as_str().unwrap().contains("--force"), "{}", refused.body);
    let refused = cluster.ask("DELETE", "jobs/up?cancel=true", "").await;
    assert_eq!(told(&refused), "2 jobs depend on it: mid, side");
    for (query, field) in [("force=yes", "force"), ("forced=true", "forced")] {
        let answer = cluster.ask("DELETE", &format!("jobs/up?{query}"), "").await;
        assert_eq!((answer.status.as_u16(), answer.field()[0]), (400, field));
    }
    // What would happen is told, and nothing is done.
    let preview = cluster.get("jobs/up/removal").await.body;
    assert_eq!(preview["refused"], "2 jobs depend on it: mid, side");
    assert_eq!(cluster.ask("POST", "jobs/up/trigger", "").await.status.as_u16(), 201);
    let preview = cluster.get("jobs/up/removal?force=true&cancel=true").await.body;
    let wanted = json!({
        "job": "up", "dependants": ["mid", "side"], "dependant_count": 2, "unplanned": ["mid"],
        "dropped_actions": 0, "dropped_runs": 1, "cancelled": 0, "left_running": 0,
    });
    assert_eq!(preview, wanted);
    assert_eq!(cluster.jobs(), 4);
    assert_eq!(cluster.get("jobs/none/removal").await.code(), "not_found");
    // Done, and sent again told as it was done.
    let key = [("idempotency-key", "delete-up")];
    for _ in 0..2 {
        let done = cluster.with("DELETE", "jobs/up?force=true", "", &key).await;
        let wanted = json!({
            "job": "up", "dependants": ["mid", "side"], "unplanned": ["mid"], "cancelled": 0,
        });
        assert_eq!((done.status.as_u16(), &done.body), (200, &wanted));
    }
    let other = cluster.with("DELETE", "jobs/up?force=true&cancel=true", "", &key).await;
    assert_eq!(other.code(), "request_reused", "{}", other.body);
    let mid = cluster.get("jobs/mid").await.body;
    assert_eq!((&mid["revision"], &mid["definition"]["depends_on"]), (&json!(2), &Value::Null));
    // One on which nobody depends is deleted as ever.
    assert_eq!(cluster.ask("DELETE", "jobs/low", "").await.status.as_u16(), 204);
    assert_eq!(cluster.ask("DELETE", "jobs/side?cancel=true", "").await.status.as_u16(), 200);
    assert_eq!(cluster.jobs(), 1);
}
