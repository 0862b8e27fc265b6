//! Pools over HTTP.

use horai_core::ids::RunId;
use serde_json::{Value, json};

use super::support::{Cluster, extended};

fn job(more: &Value) -> String {
    extended(json!({"name": "j", "noop": true}), more).to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_lives_by_its_revisions_and_its_users() {
    let cluster = Cluster::start().await;
    let two = r#"{"slots": 2, "description": "seats"}"#;
    let made = cluster.with("PUT", "pools/p", two, &[("if-none-match", "*")]).await;
    assert_eq!((made.status.as_u16(), &made.headers["etag"]), (201, &"\"1\"".parse().unwrap()));
    let same = cluster.ask("PUT", "pools/p", r#"{"slots": 2}"#).await;
    assert_eq!(same.body, json!({"name": "p", "revision": 1, "changed": false}));
    let answer = cluster.with("PUT", "pools/q", two, &[("if-match", "*")]).await;
    assert_eq!(answer.code(), "wrong_revision");
    for (body, field, code) in [
        (r#"{"slots": 0}"#, "slots", "invalid_value"),
        (r#"{"slots": 10001}"#, "slots", "invalid_value"),
        (r#"{"slot": 1}"#, "slot", "unknown_field"),
        (r#"{}"#, "", "malformed"),
    ] {
        let answer = cluster.ask("PUT", "pools/q", body).await;
        assert_eq!((answer.code(), answer.status.as_u16()), (code, 400), "{}", answer.body);
        if !field.is_empty() {
            assert_eq!(answer.field()[0], field, "{}", answer.body);
        }
    }
    // A job may take what there is.
    for (more, field, remedy) in [
        (json!({"pools": {"nowhere": 2}}), "pools.nowhere", "horai pool set nowhere --slots 2"),
        (json!({"pool": "nowhere"}), "pool", "horai pool set nowhere --slots 1"),
        (json!({"pool": "p", "slots": 3}), "slots", "write at most 2"),
        (json!({"pools": {"p": 3}}), "pools.p", "horai pool set p --slots 3"),
    ] {
        let answer = cluster.ask("POST", "jobs", &job(&more)).await;
        assert_eq!((answer.code(), answer.field()[0]), ("invalid_value", field), "{}", answer.body);
        assert!(answer.field()[2].contains(remedy), "{}", answer.body);
    }
    let answer = cluster.ask("POST", "jobs", &job(&json!({"pool": "p", "slots": 2}))).await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.body);
    let shown = cluster.get("jobs/j").await;
    assert_eq!(shown.body["definition"]["pools"], json!({"p": 2}));
    // It is neither taken from under the job nor made too small for it.
    let answer = cluster.ask("DELETE", "pools/p", "").await;
    assert_eq!(answer.code(), "conflict");
    assert!(answer.body["detail"].as_str().unwrap().contains("1 job: j"), "{}", answer.body);
    let answer = cluster.ask("PUT", "pools/p", r#"{"slots": 1}"#).await;
    assert_eq!(answer.code(), "conflict", "{}", answer.body);
    assert!(answer.body["detail"].as_str().unwrap().contains("1 job: j"), "{}", answer.body);
    let answer = cluster.ask("PUT", "pools/a", r#"{"slots": 7}"#).await;
    assert_eq!(answer.status.as_u16(), 201, "{}", answer.body);
    let list = cluster.get("pools?limit=1").await;
    assert_eq!((&list.body["items"][0]["name"], &list.body["next"]), (&json!("a"), &json!("a")));
    let answer = cluster.ask("DELETE", "jobs/j", "").await;
    assert_eq!(answer.status.as_u16(), 204);
    let answer = cluster.with("DELETE", "pools/p", "", &[("if-match", "\"7\"")]).await;
    assert_eq!(answer.code(), "wrong_revision");
    assert_eq!(cluster.ask("DELETE", "pools/p", "").await.status.as_u16(), 204);
    for (method, path) in [("DELETE", "pools/p"), ("GET", "pools/p")] {
        assert_eq!(cluster.ask(method, path, "").await.code(), "not_found");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_tells_what_is_in_use_and_who_waits() {
    let cluster = Cluster::start().await;
    cluster.ask("PUT", "pools/p", r#"{"slots": 1}"#).await;
    cluster.ask("POST", "jobs", &job(&json!({"pool": "p"}))).await;
    for _ in 0..3 {
        let answer = cluster.ask("POST", "jobs/j/trigger", "").await;
        assert_eq!(answer.status.as_u16(), 201, "{}", answer.body);
    }
    let shown = cluster.get("pools/p").await.body;
    assert_eq!(
        (&shown["slots"], &shown["used"], &shown["waiting"]),
        (&json!(1), &json!(0), &json!(3))
    );
    let worker = cluster.worker().await;
    cluster.dispatch(RunId(1), worker).await;
    let shown = cluster.get("pools/p").await.body;
    assert_eq!(
        (&shown["used"], &shown["waiting"], &shown["jobs"]),
        (&json!(1), &json!(2), &json!(["j"]))
    );
    let explained = cluster.get("runs/r-2/explain").await.body;
    assert_eq!(explained["reason"], "no_worker");
}
