//! Files of jobs over HTTP: kept before they are named, named by hash, dropped in time.

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use bytes::Bytes;
use tower::ServiceExt;

use super::support::{Cluster, until};
use crate::chunks::content::{digest_of, pack};

impl Cluster {
    async fn content(&self, path: &str) -> (StatusCode, Vec<u8>) {
        let request = Request::get(format!("/api/v1/{path}"));
        let request = request.header("authorization", "Bearer admin").body(Body::empty()).unwrap();
        let answer = self.router.clone().oneshot(request).await.unwrap();
        let status = answer.status();
        (status, to_bytes(answer.into_body(), 1 << 20).await.unwrap().to_vec())
    }
}

#[tokio::test]
async fn contents_are_kept_outside_of_the_state_and_named_by_their_hash() {
    let cluster = Cluster::start().await;
    cluster.logs.store().opened().await;
    let text = "words of a file ".repeat(5_000);
    let hash = digest_of(text.as_bytes());
    let body = serde_json::json!({
        "name": "a", "shell": "x",
        "files": {"b/c.txt": {"text": text, "mode": "0755"}, "d": {"base64": "/w=="}},
    });
    let done = cluster.ask("PUT", "jobs/a", &body.to_string()).await;
    assert_eq!(done.status, StatusCode::CREATED, "{}", done.body);
    let (status, bytes) = cluster.content("jobs/a/file?name=b/c.txt").await;
    assert_eq!((status, bytes), (StatusCode::OK, text.clone().into_bytes()));
    let shown = cluster.ask("GET", "jobs/a", "").await.body["definition"].clone();
    let file = &shown["files"]["b/c.txt"];
    assert_eq!(
        *file,
        serde_json::json!({
            "sha256": hash.to_string(), "size": text.len(), "mode": 755
        })
    );
    let again = cluster.ask("PUT", "jobs/a", &shown.to_string()).await;
    assert_eq!(again.body["changed"], false, "{}", again.body);
    let size = cluster.node.read(|state| {
        horai_core::machine::snapshot::records(state).map(|record| record.len()).sum::<usize>()
    });
    assert!(size < 4_000, "{size} bytes: the state holds no content");
    let none = cluster.content("jobs/a/file?name=b").await;
    assert_eq!(none.0, StatusCode::NOT_FOUND);
    let old = cluster.content("jobs/a/file?name=d&revision=7").await;
    assert!(old.0.is_client_error());
}

#[tokio::test]
async fn fields_that_cannot_be_taken_are_named_and_leave_nothing_behind() {
    let cluster = Cluster::start().await;
    cluster.logs.store().opened().await;
    let hash = "0".repeat(64);
    let known = format!(r#"{{"a": {{"sha256": "{hash}", "size": 3}}}}"#);
    let cases = [
        (r#"{"a": {"path": "x"}}"#, "files.a.path", "x"),
        (r#"{"a": {"text": "x", "base64": "eA=="}}"#, "files.a", "text and base64"),
        (r#"{"../a": {"text": "x"}}"#, "files.../a", "../a"),
        (known.as_str(), "files.a.sha256", hash.as_str()),
    ];
    for (files, field, value) in cases {
        let body = format!(r#"{{"jobs": [{{"name": "a", "shell": "x", "files": {files}}}]}}"#);
        let answer = cluster.ask("POST", "jobs", &body).await;
        let told = answer.field();
        assert_eq!(
            (told[0], told[1]),
            (format!("jobs[0].{field}").as_str(), value),
            "{}",
            answer.body
        );
        assert!(!told[2].is_empty());
    }
    let noop = r#"{"name": "a", "noop": true, "files": {"a": {"text": "x"}}}"#;
    assert_eq!(cluster.ask("PUT", "jobs/a", noop).await.field()[0], "files");
    // Refused by something else: its content is not stored either.
    let late =
        r#"{"name": "a", "shell": "x", "pools": {"none": 1}, "files": {"a": {"text": "x"}}}"#;
    assert!(cluster.ask("PUT", "jobs/a", late).await.status.is_client_error());
    assert!(cluster.logs.store().contents().is_empty());
}

#[tokio::test]
async fn what_nobody_needs_is_dropped_and_what_was_noted_is_not() {
    let cluster = Cluster::start().await;
    let logs = std::sync::Arc::clone(&cluster.logs);
    let run = tokio::spawn(async move { logs.run().await });
    let put = |text: &str| {
        format!(r#"{{"name": "a", "shell": "x", "files": {{"f": {{"text": "{text}"}}}}}}"#)
    };
    let ok = async |body: &str| {
        let answer = cluster.ask("PUT", "jobs/a", body).await;
        assert!(answer.status.is_success(), "{}", answer.body);
    };
    cluster.logs.store().opened().await;
    ok(&put("one")).await;
    ok(&put("two")).await;
    let held = || cluster.logs.store().contents().len();
    // As a node would hold that was away when its job was deleted: gone with the next look.
    let look = async |text: &'static str| {
        let spare = pack(&Bytes::from_static(text.as_bytes()));
        cluster.logs.store().put_contents(vec![spare]).await.unwrap();
        until("what nobody noted to go", || held() <= 2).await;
    };
    look("nobody's").await;
    assert_eq!(cluster.content("jobs/a/file?name=f&revision=1").await.1, b"one");
    let answer = cluster.ask("DELETE", "jobs/a", "").await;
    assert!(answer.status.is_success(), "{}", answer.body);
    // Noted lately, they stay: somebody may be about to apply them.
    look("nobody's either").await;
    assert_eq!(held(), 2);
    run.abort();
}
