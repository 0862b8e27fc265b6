//! Areas and batch keys over HTTP.

use horai_core::machine::command::Command;
use horai_core::machine::outcome::Outcome;
use serde_json::json;

use super::support::{Cluster, extended};

#[tokio::test(flavor = "multi_thread")]
async fn where_the_cluster_stands_is_said_and_shown() {
    let cluster = Cluster::start().await;
    assert_eq!(cluster.get("cluster").await.body["area"], json!(null));
    let set = |body: &'static str| cluster.ask("PUT", "cluster/area", body);
    assert_eq!(set(r#"{"area": "EU"}"#).await.status.as_u16(), 204);
    assert_eq!(cluster.get("cluster").await.body["area"], "EU");
    for (body, field, code) in [
        (r#"{"area": "E U"}"#, "area", "invalid_value"),
        (r#"{"area": ""}"#, "area", "invalid_value"),
        (r#"{"name": "EU"}"#, "name", "unknown_field"),
    ] {
        let answer = set(body).await;
        assert_eq!((answer.code(), answer.field()[0]), (code, field), "{}", answer.body);
    }
    // Nobody takes it away by saying nothing.
    assert_eq!(set("{}").await.code(), "malformed");
    assert_eq!(cluster.get("cluster").await.body["area"], "EU");
    assert_eq!(set(r#"{"area": null}"#).await.status.as_u16(), 204);
    assert_eq!(cluster.get("cluster").await.body["area"], json!(null));
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_keep_areas_and_batches_and_name_their_mistakes() {
    let cluster = Cluster::start().await;
    let job = json!({
        "name": "j", "noop": true, "areas": ["US", "EU"], "batch": {"unit": "day", "offset": -1},
        "params": {"EU.WHERE": "here"},
    });
    let answer = cluster.ask("POST", "jobs", &job.to_string()).await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.body);
    let shown = cluster.get("jobs/j").await.body["definition"].clone();
    assert_eq!((&shown["areas"], &shown["batch"]), (&json!(["EU", "US"]), &job["batch"]));
    for (more, field) in [
        (json!({"areas": ["EU", "E.U"]}), "areas[1]"),
        (json!({"batch": {"unit": "week"}}), "batch.unit"),
        (json!({"batch": {"unit": "year", "offset": 2000}}), "batch.offset"),
        (json!({"params": {"EU.1": "x"}}), "params.EU.1"),
    ] {
        let job = extended(json!({"name": "k", "noop": true}), &more);
        let answer = cluster.ask("POST", "jobs", &job.to_string()).await;
        let found = (answer.code(), answer.field()[0]);
        assert_eq!(found, ("invalid_value", field), "{}", answer.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_of_another_area_is_told_and_recovered_without_a_run() {
    let cluster = Cluster::start().await;
    cluster.ask("PUT", "cluster/area", r#"{"area": "EU"}"#).await;
    let job = json!({
        "name": "load", "noop": true, "areas": ["US"], "zone": "Asia/Shanghai",
        "batch": {"unit": "second"}, "triggers": [{"cron": "0/1 * * * * ?"}],
    });
    let answer = cluster.ask("POST", "jobs", &job.to_string()).await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.body);
    let action = cluster.plan_one("load").await;
    // Nobody leads its services here: what is due is said by hand.
    let outcome = cluster.propose(Command::Rerun { action, below: false }).await;
    assert_eq!(outcome, Outcome::Done);
    let id = format!("load@{}", action.nominal.compact());
    let shown = cluster.get(&format!("actions/{id}")).await.body;
    assert_eq!((&shown["state"], &shown["reason"]), (&json!("success"), &json!("area")));
    assert_eq!(shown["run"], json!(null));
    let why = cluster.get(&format!("actions/{id}/explain")).await.body;
    assert!(why["detail"].as_str().unwrap().contains("nothing to do in this area"), "{why}");
    for verb in ["recover", "super-recover"] {
        let answer = cluster.ask("POST", &format!("actions/{id}/{verb}"), "").await;
        assert_eq!(answer.status.as_u16(), 204, "{}", answer.body);
    }
    // Its batch key is what the clock in its zone shows, and finds it.
    let batch = shown["batch"].as_str().unwrap();
    assert_eq!((batch.len(), &batch[10..11]), (19, " "), "{batch}");
    let of_batch = |key: &str| format!("jobs/load/actions?batch={}", key.replace(' ', "%20"));
    let found = cluster.get(&of_batch(batch)).await.body;
    assert_eq!(found["items"].as_array().unwrap().len(), 1, "{found}");
    let none = cluster.get(&of_batch("2001-01-01 00:00:00")).await.body;
    assert_eq!(none["items"], json!([]));
    // A run that somebody asks for by hand is made, and has the key of its time.
    let asked = r#"{"nominal": "2024-01-30T19:00:00Z"}"#;
    let run = cluster.ask("POST", "jobs/load/trigger", asked).await;
    assert_eq!(run.status.as_u16(), 201, "{}", run.body);
    let run = cluster.get(&format!("runs/{}", run.body["run"].as_str().unwrap())).await.body;
    assert_eq!((&run["state"], &run["batch"]), (&json!("queued"), &json!("2024-01-31 03:00:00")));
}
