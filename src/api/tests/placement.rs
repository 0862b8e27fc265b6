//! Which worker runs what, over HTTP.

use serde_json::{Value, json};

use super::support::Cluster;

fn job(more: &Value) -> String {
    let mut job = json!({"name": "j", "noop": true});
    job.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    job.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_of_workers_are_read_at_once_and_told() {
    let cluster = Cluster::start().await;
    for (labels, column, problem) in [
        ("zone = 'a'", "(column 6)", "'=' is not known"),
        ("zone == a", "(column 9)", "write \"a\" in quotes"),
        ("", "(column 1)", "a label is expected"),
    ] {
        let answer = cluster.ask("POST", "jobs", &job(&json!({"workers": labels}))).await;
        assert_eq!((answer.code(), answer.field()[0]), ("invalid_value", "workers"), "{labels}");
        let text = answer.body.to_string();
        let has = |part: &str| text.contains(&part.replace('"', "\\\""));
        assert!(has(column) && has(problem) && has("&&"), "{text}");
    }
    let wanted = "zone == \"a\" && !hdd";
    let answer = cluster.ask("POST", "jobs", &job(&json!({"workers": wanted}))).await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.body);
    assert_eq!(cluster.get("jobs/j").await.body["definition"]["workers"], wanted);
    let run = cluster.ask("POST", "jobs/j/trigger", "").await;
    assert_eq!(run.body["run"], "r-1", "{}", run.body);
    let why = cluster.get("runs/r-1/explain").await.body;
    assert_eq!(why["reason"], "no_worker", "{why}");
    assert!(why["detail"].as_str().unwrap().ends_with(wanted), "{why}");
}
