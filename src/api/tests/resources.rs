//! What works: jobs, revisions, request ids, pages, locks.

use futures_util::stream;
use horai_core::machine::state::State;

use super::support::Cluster;

const JOB: &str = r#"{"name": "a", "noop": true}"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_job_lives_by_its_revisions() {
    let cluster = Cluster::start().await;
    let new = [("if-none-match", "*")];
    let answer = cluster.with("PUT", "jobs/a", JOB, &new).await;
    assert_eq!(answer.status.as_u16(), 201, "{}", answer.body);
    assert_eq!(answer.headers["etag"], "\"1\"");
    let answer = cluster.with("PUT", "jobs/a", JOB, &new).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (412, "wrong_revision"));
    let changed = r#"{"name": "a", "noop": true, "priority": 9}"#;
    let answer = cluster.with("PUT", "jobs/a", changed, &[("if-match", "\"7\"")]).await;
    assert_eq!((answer.code(), answer.field()[1]), ("wrong_revision", "7"));
    assert!(answer.field()[2].contains("\"1\""), "{}", answer.body);
    let answer = cluster.with("PUT", "jobs/a", changed, &[("if-match", "\"1\"")]).await;
    assert_eq!((answer.status.as_u16(), &answer.body["revision"]), (200, &2.into()));
    let answer = cluster.get("jobs/a").await;
    assert_eq!(answer.headers["etag"], "\"2\"");
    assert_eq!(answer.body["definition"]["priority"], 9);
    let answer = cluster.with("PUT", "jobs/a", JOB, &[("if-match", "three")]).await;
    assert_eq!((answer.status.as_u16(), answer.field()[0]), (400, "If-Match"));
    let answer =
        cluster.with("PUT", "jobs/b", r#"{"name": "b", "noop": true}"#, &[("if-match", "*")]).await;
    assert_eq!(answer.code(), "wrong_revision");
    let answer = cluster.ask("PUT", "jobs/b", JOB).await;
    assert_eq!((answer.code(), answer.field()[0]), ("invalid_value", "name"));
    let answer = cluster.with("DELETE", "jobs/a", "", &[("if-match", "1")]).await;
    assert_eq!(answer.code(), "wrong_revision");
    let answer = cluster.with("DELETE", "jobs/a", "", &[("if-match", "\"2\"")]).await;
    assert_eq!((answer.status.as_u16(), cluster.jobs()), (204, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_sent_again_does_nothing_again() {
    let cluster = Cluster::start().await;
    let key = |key: &'static str| [("idempotency-key", key)];
    cluster.ask("POST", "jobs", JOB).await;
    let first = cluster.with("POST", "jobs/a/trigger", "", &key("k1")).await;
    let again = cluster.with("POST", "jobs/a/trigger", "", &key("k1")).await;
    assert_eq!(first.status.as_u16(), 201, "{}", first.body);
    assert_eq!(first.body, again.body);
    assert_eq!(cluster.node.read(State::run_count), 1);
    let other = cluster.with("POST", "jobs/a/pause", "", &key("k1")).await;
    assert_eq!((other.status.as_u16(), other.code()), (422, "request_reused"));
    let body = r#"{"name": "b", "noop": true}"#;
    let put = [("idempotency-key", "k2"), ("if-none-match", "*")];
    let first = cluster.with("PUT", "jobs/b", body, &put).await;
    let again = cluster.with("PUT", "jobs/b", body, &put).await;
    assert_eq!((first.status, first.body), (again.status, again.body));
    for _ in 0..2 {
        let gone = cluster.with("DELETE", "jobs/b", "", &key("k3")).await;
        assert_eq!(gone.status.as_u16(), 204, "{}", gone.body);
    }
    // Others change what it was checked against; the answer stays the first one.
    let set = r#"{"jobs": [{"name": "c", "noop": true, "depends_on": ["a"]}]}"#;
    let put = [("idempotency-key", "k5"), ("if-match", "*")];
    let body = r#"{"name": "a", "noop": true, "depends_on": []}"#;
    let first_set = cluster.with("POST", "jobs", set, &key("k4")).await;
    let first_put = cluster.with("PUT", "jobs/a", body, &put).await;
    assert_eq!(first_set.status.as_u16(), 200, "{}", first_set.body);
    for gone in ["jobs/c", "jobs/a"] {
        assert_eq!(cluster.ask("DELETE", gone, "").await.status.as_u16(), 204);
    }
    let again = cluster.with("POST", "jobs", set, &key("k4")).await;
    assert_eq!((again.status, again.body), (first_set.status, first_set.body));
    let again = cluster.with("PUT", "jobs/a", body, &put).await;
    assert_eq!((again.status, again.body), (first_put.status, first_put.body));
    assert_eq!(cluster.jobs(), 0, "nothing was applied again");
    let other = cluster.with("POST", "jobs", JOB, &key("k4")).await;
    assert_eq!((other.status.as_u16(), other.code()), (422, "request_reused"));
    cluster.ask("POST", "jobs", JOB).await;

    // Made at the beginning of 2023: older than anything remembered could be.
    let old = key("01856aa0-c800-7000-8000-000000000000");
    let answer = cluster.with("POST", "jobs/a/pause", "", &old).await;
    assert_eq!(answer.code(), "request_expired", "{}", answer.body);
    let long: &'static str = Box::leak("x".repeat(101).into_boxed_str());
    let answer = cluster.with("POST", "jobs/a/pause", "", &key(long)).await;
    assert_eq!((answer.status.as_u16(), answer.field()[0]), (400, "Idempotency-Key"));
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages() {
    let cluster = Cluster::start().await;
    for name in ["a", "b", "c"] {
        cluster.ask("POST", "jobs", &format!(r#"{{"name": "{name}", "noop": true}}"#)).await;
        for _ in 0..2 {
            cluster.ask("POST", &format!("jobs/{name}/trigger"), "").await;
        }
    }
    for (path, pages) in [
        ("jobs?limit=2", &["a b", "c"][..]),
        ("runs?limit=4", &["r-6 r-5 r-4 r-3", "r-2 r-1"]),
        ("runs?limit=2&job=b", &["r-4 r-3"]),
        ("runs?limit=1&job=b", &["r-4", "r-3"]),
    ] {
        let parameter = if path.starts_with("jobs") { "after" } else { "before" };
        let (mut next, mut found) = (String::new(), Vec::new());
        loop {
            let answer = cluster.get(&format!("{path}{next}")).await;
            let items = answer.body["items"].as_array().unwrap();
            let id = |item: &serde_json::Value| {
                item.get("id").unwrap_or(&item["name"]).as_str().unwrap().to_owned()
            };
            found.push(items.iter().map(id).collect::<Vec<_>>().join(" "));
            let Some(token) = answer.body["next"].as_str() else { break };
            next = format!("&{parameter}={token}");
        }
        assert_eq!(found, pages, "{path}");
    }
    let oldest_first = cluster.get("runs?after=r-2&job=b").await;
    assert_eq!(oldest_first.body["items"][0]["id"], "r-3");
    let run = cluster.get("runs/r-1?consistency=stale").await;
    assert_eq!((&run.body["kind"], &run.body["state"]), (&"manual".into(), &"queued".into()));
    assert!(run.body["action"].is_null() && run.body["attempts"].as_array().unwrap().is_empty());
    let why = cluster.get("runs/r-1/explain").await;
    assert_eq!(why.body["reason"], "no_worker", "{}", why.body);
    let logs = cluster.get("runs/r-1/logs").await;
    assert_eq!((logs.status.as_u16(), logs.field()[0]), (404, "attempt"));
    assert_eq!(cluster.ask("POST", "runs/r-1/cancel", "").await.status.as_u16(), 202);
    assert_eq!(cluster.ask("POST", "runs/r-1/cancel", "").await.code(), "conflict");
    assert_eq!(cluster.get("runs/r-1").await.body["state"], "cancelled");
    let set = r#"{"jobs": [{"name": "d", "noop": true, "depends_on": ["a"]}]}"#;
    cluster.ask("POST", "jobs", set).await;
    let answer = cluster.ask("DELETE", "jobs/a", "").await;
    assert_eq!(answer.code(), "conflict");
    assert!(answer.body["detail"].as_str().unwrap().contains('d'));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_says_in_words_when_it_fires() {
    let cluster = Cluster::start().await;
    let job = r#"{"name": "told", "noop": true, "zone": "Europe/Berlin", "triggers": [
        {"cron": "0 0 3 LW * ?", "name": "a"}, {"interval": "90s", "name": "b"},
        {"cron": "@every 5s", "dialect": "unix", "zone": "UTC", "name": "c"}]}"#;
    cluster.ask("POST", "jobs", &format!(r#"{{"jobs": [{job}]}}"#)).await;
    let told = cluster.get("jobs/told").await;
    let means = told.body["means"].as_array().unwrap();
    let words: Vec<_> = means.iter().map(|trigger| trigger["means"].as_str().unwrap()).collect();
    let last = "at 03:00 on the last weekday of each month, Europe/Berlin";
    assert_eq!(words, [last, "interval 90s", "every 5s of elapsed time"]);
    assert_eq!(means[0]["trigger"], "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_and_the_cluster_are_shown() {
    let cluster = Cluster::start().await;
    let mine = r#"{"owner": "me", "ttl": "30s"}"#;
    let held = cluster.ask("POST", "locks/l/acquire", mine).await;
    assert_eq!(held.body["state"], "held", "{}", held.body);
    let token = held.body["token"].as_u64().unwrap();
    let taken = cluster.ask("POST", "locks/l/acquire", r#"{"owner": "you", "ttl": "30s"}"#).await;
    assert_eq!((taken.status.as_u16(), taken.code()), (409, "lock_taken"));
    let waits = r#"{"owner": "you", "ttl": "30s", "wait": "1m"}"#;
    let queued = cluster.ask("POST", "locks/l/acquire", waits).await;
    assert_eq!(queued.body["position"], 1, "{}", queued.body);
    let body = format!(r#"{{"token": {token}}}"#);
    assert_eq!(cluster.ask("POST", "locks/l/renew", &body).await.body["token"], token);
    let list = cluster.get("locks").await;
    let lock = &list.body["items"][0];
    assert_eq!((&lock["holders"][0]["ttl"], &lock["waiting"]), (&"30s".into(), &1.into()));
    assert_eq!(cluster.ask("POST", "locks/l/release", &body).await.status.as_u16(), 204);
    let list = cluster.get("locks").await;
    assert_eq!(list.body["items"][0]["holders"][0]["owner"], "you", "{}", list.body);
    assert_eq!(cluster.ask("POST", "locks/l/renew", &body).await.code(), "conflict");

    let view = cluster.get("cluster").await;
    assert_eq!((&view.body["node"], &view.body["leader"]["node"]), (&1.into(), &1.into()));
    assert_eq!(view.body["members"][0]["voter"], true, "{}", view.body);
    assert!(view.body["time"].as_str().unwrap().ends_with('Z'));
    assert_eq!(cluster.get("readyz").await.status.as_u16(), 204);
    assert!(cluster.get("workers").await.body["items"].as_array().unwrap().is_empty());
    let token = cluster.ask("POST", "cluster/tokens", r#"{"purpose": "join"}"#).await;
    assert_eq!(token.status.as_u16(), 201, "{}", token.body);
    let header = format!("Bearer {}", token.body["token"].as_str().unwrap());
    let answer = cluster.raw("GET", "/api/v1/jobs", "", &[("authorization", &header)]).await;
    assert_eq!(answer.code(), "denied");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_a_token_that_is_sent_again_makes_no_second_one() {
    let cluster = Cluster::start().await;
    let tokens = || cluster.node.read(|state| state.tokens().count());
    let before = tokens();
    let ask = r#"{"purpose": "join", "expires_in": "1h"}"#;
    let key = |key: &'static str| [("idempotency-key", key)];
    let first = cluster.with("POST", "cluster/tokens", ask, &key("t1")).await;
    let again = cluster.with("POST", "cluster/tokens", ask, &key("t1")).await;
    assert_eq!(first.status.as_u16(), 201, "{}", first.body);
    assert_eq!((again.status, &again.body), (first.status, &first.body));
    assert_eq!(tokens(), before + 1);
    let other = cluster.with("POST", "cluster/tokens", ask, &key("t2")).await;
    assert_ne!(other.body["token"], first.body["token"]);
    let longer = r#"{"purpose": "join", "expires_in": "2h"}"#;
    let reused = cluster.with("POST", "cluster/tokens", longer, &key("t1")).await;
    assert_eq!((reused.status.as_u16(), reused.code()), (422, "request_reused"));
    let without = cluster.ask("POST", "cluster/tokens", ask).await;
    assert_ne!(
        without.body["token"],
        cluster.ask("POST", "cluster/tokens", ask).await.body["token"]
    );
    assert_eq!(tokens(), before + 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_requests_are_served_at_once_than_the_limit() {
    let cluster = Cluster::start().await;
    // Each waits for a body that does not come, and holds its place meanwhile.
    let never = || stream::pending::<Result<axum::body::Bytes, std::io::Error>>();
    let mut waiting = Vec::new();
    for _ in 0..crate::api::AT_ONCE {
        let request = axum::http::Request::post("/api/v1/jobs")
            .header("authorization", "Bearer admin")
            .body(axum::body::Body::from_stream(never()))
            .unwrap();
        let answer = tower::ServiceExt::oneshot(cluster.router.clone(), request);
        let mut answer = Box::pin(tokio::task::unconstrained(answer));
        assert!(futures_util::poll!(answer.as_mut()).is_pending());
        waiting.push(answer);
    }
    let refused = cluster.get("cluster").await;
    assert_eq!((refused.status.as_u16(), refused.code()), (429, "limit_reached"));
    assert_eq!(refused.headers["retry-after"], "1");
    drop(waiting);
    assert_eq!(cluster.get("cluster").await.status.as_u16(), 200, "slots come back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_takes_too_long_is_told_so() {
    let cluster = Cluster::start().await;
    let never = stream::pending::<Result<axum::body::Bytes, std::io::Error>>();
    let request = axum::http::Request::post("/api/v1/jobs")
        .header("authorization", "Bearer admin")
        .body(axum::body::Body::from_stream(never))
        .unwrap();
    let (node, logs) = (cluster.node.clone(), cluster.logs.clone());
    let sessions = crate::session::Sessions::new(node.clone());
    let router = crate::api::router_within(
        crate::api::ApiState { node, sessions, logs },
        std::time::Duration::from_millis(50),
    );
    let answer = tower::ServiceExt::oneshot(router, request).await.unwrap();
    assert_eq!(answer.status().as_u16(), 503);
    let body = axum::body::to_bytes(answer.into_body(), 4096).await.unwrap();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["code"], "outcome_unknown", "{body}");
    assert!(body["detail"].as_str().unwrap().contains("50ms"), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_definition_is_rendered_as_long_as_it_is_kept() {
    let cluster = Cluster::start().await;
    for text in ["one {{ job }}", "two {{ job }}"] {
        let body = format!(r#"{{"name": "a", "shell": "{text}"}}"#);
        assert_eq!(cluster.ask("POST", "jobs", &body).await.status.as_u16(), 200);
    }
    for (query, revision, text) in [("", 2, "two a"), ("?revision=1", 1, "one a")] {
        let shown = cluster.get(&format!("jobs/a/render{query}")).await.body;
        assert_eq!(
            (&shown["revision"], &shown["texts"]["shell"]),
            (&revision.into(), &text.into())
        );
    }
    let answer = cluster.get("jobs/a/render?revision=9").await;
    assert_eq!(
        (answer.code(), answer.field()[..2].to_vec()),
        ("invalid_value", vec!["revision", "9"])
    );
}
