//! What runs put out and jobs keep, over HTTP.

use horai_core::ids::{JobId, RunId, WorkerId};
use horai_core::machine::command::Command;
use horai_core::machine::outcome::Outcome;
use horai_core::model::output::Values;
use horai_core::model::run::EndKind;
use serde_json::{Value, json};

use super::support::{Cluster, report};

/// A run of the job that ends with these outputs.
async fn run(cluster: &Cluster, worker: WorkerId, job: JobId, outputs: &[(&str, &str)]) -> RunId {
    let Outcome::Run { run } = cluster.propose(Command::TriggerJob { job }).await else { panic!() };
    let (attempt, token) = cluster.dispatch(run, worker).await;
    let report = report(EndKind::Exited { code: 0 });
    let outputs: Values = outputs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    cluster.propose(Command::CompleteWith { attempt, token, report, outputs }).await;
    run
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_shows_what_it_put_out() {
    let cluster = Cluster::start().await;
    let made = cluster.ask("POST", "jobs", r#"{"name": "a", "noop": true}"#).await;
    let job = JobId(made.body["jobs"][0]["number"].as_u64().unwrap());
    let worker = cluster.worker().await;
    let first = run(&cluster, worker, job, &[("ROWS", "17"), ("TEXT", "a\nb")]).await;
    let shown = cluster.get(&format!("runs/r-{first}")).await;
    assert_eq!(shown.body["outputs"], json!({"ROWS": "17", "TEXT": "a\nb"}));
    // A list would be long with them.
    assert_eq!(cluster.get("runs").await.body["items"][0]["outputs"], Value::Null);
    let second = run(&cluster, worker, job, &[("no key", "1")]).await;
    let shown = cluster.get(&format!("runs/r-{second}")).await;
    let end = &shown.body["attempts"][0]["end"];
    assert_eq!(
        (&end["how"], &end["message"]),
        (&json!("bad_output"), &json!("\"no key\" is no key"))
    );
    assert_eq!(shown.body["outputs"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_is_read_and_changed_key_by_key() {
    let cluster = Cluster::start().await;
    cluster.ask("POST", "jobs", r#"{"name": "a", "noop": true, "keep_state": true}"#).await;
    cluster.ask("POST", "jobs", r#"{"name": "b", "noop": true}"#).await;
    let nothing = cluster.get("jobs/a/state").await;
    let empty = json!({"job": "a", "keep_state": true, "values": {}, "updated": null, "run": null});
    assert_eq!(nothing.body, empty);
    for (body, values) in [
        (r#"{"set": {"A": "1", "B": "2"}}"#, json!({"A": "1", "B": "2"})),
        (r#"{"set": {"A": "3"}, "unset": ["B", "NONE"]}"#, json!({"A": "3"})),
        (r#"{"clear": true, "set": {"C": "4"}}"#, json!({"C": "4"})),
        ("{}", json!({"C": "4"})),
    ] {
        let answer = cluster.ask("PUT", "jobs/a/state", body).await;
        assert_eq!(answer.status.as_u16(), 204, "{body}: {}", answer.body);
        assert_eq!(cluster.get("jobs/a/state").await.body["values"], values, "{body}");
    }
    let long = json!({"set": {"A": "x".repeat(17_000)}}).to_string();
    for (job, body, field, code) in [
        ("a", r#"{"sets": {}}"#, "sets", "unknown_field"),
        ("a", r#"{"set": {"no key": ""}}"#, "state.no key", "invalid_value"),
        ("a", long.as_str(), "state", "too_large"),
        ("b", r#"{"set": {"A": "1"}}"#, "state", "invalid_value"),
    ] {
        let answer = cluster.ask("PUT", &format!("jobs/{job}/state"), body).await;
        assert_eq!((answer.code(), answer.field()[0]), (code, field), "{}", answer.body);
    }
    let answer = cluster.ask("PUT", "jobs/b/state", r#"{"set": {"A": "1"}}"#).await;
    assert!(answer.field()[2].contains("keep_state: true"), "{}", answer.body);
    for method in ["GET", "PUT"] {
        let answer = cluster.ask(method, "jobs/none/state", "{}").await;
        assert_eq!(answer.code(), "not_found", "{method}");
    }
    let refused = r#"{"name": "c", "shell": "echo {{ state.A }}"}"#;
    let answer = cluster.ask("POST", "jobs", refused).await;
    assert_eq!(answer.field()[0], "shell", "{}", answer.body);
}
