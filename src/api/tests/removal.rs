//! Deletion with what others had to do with the job, and pauses of whole chains.

use horai_core::ids::Name;
use horai_core::machine::state::State;
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

fn paused(cluster: &Cluster) -> Vec<String> {
    let names = |state: &State| -> Vec<Name> {
        let paused = state.jobs_by_name_after(None).filter(|job| state.is_paused(job));
        paused.map(|job| job.spec.name.clone()).collect()
    };
    cluster.node.read(names).iter().map(ToString::to_string).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_others_depend_on_is_deleted_by_force_with_the_list() {
    let cluster = chain().await;
    let told = |answer: &Answer| answer.body["detail"].as_str().unwrap_or_default().to_owned();
    let refused = cluster.ask("DELETE", "jobs/up", "").await;
    assert_eq!((refused.status.as_u16(), refused.code()), (409, "conflict"));
    assert_eq!(told(&refused), "2 jobs depend on it: mid, side");
    assert!(refused.body["remedy"].as_str().unwrap().contains("?force=true"), "{}", refused.body);
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

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_is_paused_from_its_end_and_resumed_from_its_source() {
    let cluster = chain().await;
    let key = [("idempotency-key", "close")];
    for _ in 0..2 {
        let answer = cluster.with("POST", "jobs/mid/pause?with=downstream", "", &key).await;
        assert_eq!(answer.body["jobs"], json!(["low", "mid"]), "{}", answer.body);
        assert_eq!(answer.body["dependant_count"], 0);
        assert_eq!(paused(&cluster), ["low", "mid"]);
    }
    // What somebody resumed since is not paused again by the same request.
    assert_eq!(cluster.ask("POST", "jobs/low/resume", "").await.status.as_u16(), 204);
    cluster.with("POST", "jobs/mid/pause?with=downstream", "", &key).await;
    assert_eq!(paused(&cluster), ["mid"]);
    let answer = cluster.ask("POST", "jobs/up/pause?with=downstream", "").await;
    let jobs = answer.body["jobs"].as_array().unwrap().clone();
    let place = |name: &str| jobs.iter().position(|job| job == name).unwrap();
    assert!(place("low") < place("mid") && place("mid") < place("up"), "{jobs:?}");
    assert!(place("side") < place("up") && jobs.len() == 4, "{jobs:?}");
    assert_eq!(paused(&cluster), ["low", "mid", "side", "up"]);
    // Opened with all above it; what is beside it stays closed.
    let body = r#"{"missed": "misfire"}"#;
    let answer = cluster.ask("POST", "jobs/low/resume?with=upstream", body).await;
    assert_eq!(answer.body, json!({"jobs": ["up", "mid", "low"], "still_paused": []}));
    assert_eq!(paused(&cluster), ["side"]);
    // Upwards, what else that holds up is told.
    let answer = cluster.ask("POST", "jobs/mid/pause?with=upstream", "").await;
    assert_eq!(answer.body["jobs"], json!(["mid", "up"]));
    assert_eq!(answer.body["dependants"], json!(["low"]));
    let answer = cluster.ask("POST", "jobs/mid/pause?with=sideways", "").await;
    assert_eq!((answer.code(), answer.field()[0]), ("invalid_value", "with"));
    let answer = cluster.ask("POST", "jobs/none/pause?with=upstream", "").await;
    assert_eq!(answer.code(), "not_found", "{}", answer.body);
    // The pause of a group is not ended with those of its jobs.
    let job = json!({"name": "in", "noop": true, "group": "g", "depends_on": ["side"]});
    assert_eq!(cluster.ask("PUT", "jobs/in", &job.to_string()).await.status.as_u16(), 201);
    cluster.ask("POST", "groups/g/pause", "").await;
    let answer = cluster.ask("POST", "jobs/up/resume?with=downstream", "").await;
    assert_eq!(answer.body["still_paused"], json!(["in"]));
    assert_eq!(answer.body["jobs"][0], "up");
    assert_eq!(paused(&cluster), ["in"]);
}
