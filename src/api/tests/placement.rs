//! Which worker runs what, over HTTP.

use horai_core::ids::{Incarnation, Name, RunId};
use horai_core::machine::command::Command;
use horai_core::machine::outcome::Outcome;
use horai_core::model::resources::Amounts;
use horai_core::model::worker::WorkerProfile;
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

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_group_has_a_definition_while_somebody_wants_one() {
    let cluster = Cluster::start().await;
    assert_eq!(cluster.get("worker-groups").await.body["items"], json!([]));
    assert_eq!(cluster.get("worker-groups/etl").await.code(), "not_found");
    let given = json!({"strategy": "least_loaded", "thresholds": {"memory": 0.8}}).to_string();
    let made = cluster.with("PUT", "worker-groups/etl", &given, &[("if-none-match", "*")]).await;
    assert_eq!((made.status.as_u16(), &made.headers["etag"]), (201, &"\"1\"".parse().unwrap()));
    let same = cluster.ask("PUT", "worker-groups/etl", &given).await;
    assert_eq!(same.body, json!({"name": "etl", "revision": 1, "changed": false}));
    let shown = cluster.get("worker-groups/etl").await.body;
    let definition = json!({"name": "etl", "strategy": "least_loaded",
        "thresholds": {"memory": 0.8, "load": 1.0}});
    assert_eq!(shown["definition"], definition, "{shown}");
    assert_eq!((&shown["worker_count"], &shown["waiting"]), (&json!(0), &json!(0)));
    for (body, field, code) in [
        (r#"{"strategy": "fastest"}"#, "strategy", "invalid_value"),
        (r#"{"thresholds": {"memory": 2}}"#, "thresholds.memory", "invalid_value"),
        (r#"{"thresholds": {"memory": "much"}}"#, "thresholds.memory", "invalid_value"),
        (r#"{"name": "other"}"#, "name", "invalid_value"),
        (r#"{"stategy": "random"}"#, "stategy", "unknown_field"),
    ] {
        let answer = cluster.ask("PUT", "worker-groups/etl", body).await;
        assert_eq!((answer.code(), answer.status.as_u16()), (code, 400), "{}", answer.body);
        if !field.is_empty() {
            assert_eq!(answer.field()[0], field, "{}", answer.body);
        }
    }
    let answer = cluster.with("PUT", "worker-groups/new", "{}", &[("if-match", "*")]).await;
    assert_eq!(answer.code(), "wrong_revision");
    // A job that names a group of which nobody knows anything waits there.
    let answer = cluster.ask("POST", "jobs", &job(&json!({"worker_group": "gpu"}))).await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.body);
    cluster.ask("POST", "jobs/j/trigger", "").await;
    let all = cluster.get("worker-groups?limit=1").await.body;
    assert_eq!((&all["items"][0]["name"], &all["next"]), (&json!("etl"), &json!("etl")));
    let rest = cluster.get("worker-groups?after=etl").await.body;
    let gpu = &rest["items"][0];
    assert_eq!(
        (&gpu["name"], &gpu["waiting"], &gpu["revision"]),
        (&json!("gpu"), &json!(1), &json!(0))
    );
    assert_eq!(gpu["definition"], json!({"name": "gpu"}));
    // To take it away needs no look at who serves or names it.
    let stale = cluster.with("DELETE", "worker-groups/etl", "", &[("if-match", "\"2\"")]).await;
    assert_eq!(stale.code(), "wrong_revision", "{}", stale.body);
    assert_eq!(cluster.ask("DELETE", "worker-groups/etl", "").await.status.as_u16(), 204);
    assert_eq!(cluster.ask("DELETE", "worker-groups/etl", "").await.code(), "not_found");
    assert_eq!(cluster.get("worker-groups/etl").await.code(), "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_job_takes_of_its_worker_is_checked_and_told() {
    let cluster = Cluster::start().await;
    for (takes, field) in [
        (json!({"slots": 0}), "resources.slots"),
        (json!({"gpu": 0}), "resources.gpu"),
        (json!({"GPU": 1}), "resources.GPU"),
        (json!({"memory": "9999TiB"}), "resources.memory"),
    ] {
        let answer = cluster.ask("POST", "jobs", &job(&json!({"resources": takes}))).await;
        assert_eq!((answer.code(), answer.field()[0]), ("invalid_value", field), "{}", answer.body);
    }
    let much = job(&json!({"resources": {"memory": "much"}}));
    assert_eq!(cluster.ask("POST", "jobs", &much).await.status.as_u16(), 400);
    let takes = json!({"slots": 2, "memory": "2GiB", "cpu": 1.5, "gpu": 1});
    let answer = cluster.ask("POST", "jobs", &job(&json!({"resources": takes}))).await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.body);
    assert_eq!(cluster.get("jobs/j").await.body["definition"]["resources"], takes);
    let profile = WorkerProfile {
        name: Name::new("w").unwrap(),
        incarnation: Incarnation(1),
        boot_id: 1,
        groups: vec![Name::new("default").unwrap()],
        labels: std::collections::BTreeMap::new(),
        slots: 9,
        host: String::new(),
        version: String::new(),
        amounts: Amounts {
            memory: 4 << 30,
            cpu: 4_000,
            counts: [(Name::new("gpu").unwrap(), 1)].into(),
        },
        stops_within: None,
        isolation: Box::default(),
        interpreters: std::collections::BTreeSet::new(),
    };
    let incarnation = profile.incarnation;
    let Outcome::Worker { worker } =
        cluster.propose(Command::AttachWorker(Box::new(profile))).await
    else {
        panic!("not attached")
    };
    cluster.ask("POST", "jobs/j/trigger", "").await;
    cluster.propose(Command::Dispatch { run: RunId(1), number: 1, worker, incarnation }).await;
    let shown = cluster.get("workers/w").await.body;
    assert_eq!(shown["reserved"], takes, "{shown}");
    assert_eq!(shown["has"], json!({"slots": 9, "memory": "4GiB", "cpu": 4.0, "gpu": 1}));
    assert_eq!(shown["used"], 2, "slots");
}
