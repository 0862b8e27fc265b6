//! What a user can get wrong: each mistake is told by code, field, value and
//! remedy, and leaves nothing behind.

use super::support::Cluster;

/// Body, code, field, part of the value.
const BAD_JOBS: [(&str, &str, &str, &str); 19] = [
    (
        r#"{"jobs": [{"name": "ok", "noop": true}, {"name": "b", "corn": "x"}]}"#,
        "unknown_field",
        "jobs[1].corn",
        "x",
    ),
    (
        r#"{"name": "b", "noop": true, "triggers": [{"cron": "0 0 0 * * ?", "kron": 1}]}"#,
        "unknown_field",
        "triggers[0].kron",
        "1",
    ),
    (r#"{"jobs": [{"name": "ok", "noop": true}], "extra": 1}"#, "unknown_field", "extra", "1"),
    (
        r#"{"jobs": [{"name": "ok", "noop": true}, {"name": "b", "noop": true}, {"name": "c", "noop": true, "triggers": [{"cron": "0 61 * * * ?"}]}]}"#,
        "bad_cron",
        "jobs[2].triggers[0].cron",
        "0 61 * * * ?",
    ),
    (
        r#"{"name": "b", "noop": true, "triggers": [{"cron": "often"}]}"#,
        "bad_cron",
        "triggers[0].cron",
        "often",
    ),
    (
        r#"{"jobs": [{"name": "ok", "noop": true}, {"name": "b", "noop": true, "zone": "Europe/Berlyn"}]}"#,
        "unknown_zone",
        "jobs[1].zone",
        "Europe/Berlyn",
    ),
    (
        r#"{"name": "b", "noop": true, "triggers": [{"cron": "0 0 0 * * ?", "zone": "Mars"}]}"#,
        "unknown_zone",
        "triggers[0].zone",
        "Mars",
    ),
    (
        r#"{"jobs": [{"name": "a", "noop": true, "depends_on": ["b"]}, {"name": "b", "noop": true, "depends_on": ["a"]}]}"#,
        "dependency_cycle",
        "jobs[0].depends_on",
        "a → b → a",
    ),
    (
        r#"{"jobs": [{"name": "ok", "noop": true}, {"name": "b", "noop": true, "depends_on": ["nobody"]}]}"#,
        "missing_upstream",
        "jobs[1].depends_on[0]",
        "nobody",
    ),
    (
        r#"{"jobs": [{"name": "a", "noop": true}, {"name": "a", "noop": true}]}"#,
        "invalid_value",
        "jobs[1].name",
        "a",
    ),
    (r#"{"name": "Not A Name", "noop": true}"#, "invalid_value", "name", "Not A Name"),
    (r#"{"name": "b", "noop": "yes"}"#, "invalid_value", "noop", "yes"),
    (r#"{"name": "b", "noop": true, "timeout": 5}"#, "invalid_value", "timeout", "5"),
    (
        r#"{"jobs": [{"name": "ok", "noop": true}, {"name": "b", "noop": true, "timeout": "0s"}]}"#,
        "invalid_value",
        "jobs[1].timeout",
        "0s",
    ),
    (
        r#"{"jobs": [{"name": "ok", "noop": true}, {"name": "b", "noop": true, "grace": "2h"}]}"#,
        "invalid_value",
        "jobs[1].grace",
        "2h",
    ),
    (r#"{"name": "b", "noop": true, "priority": 12}"#, "invalid_value", "priority", "12"),
    (r#"{"name": "b"}"#, "invalid_value", "shell", ""),
    ("name: b", "malformed", "", ""),
    (r#"{"name": "b", "noop": true} {}"#, "malformed", "", ""),
];

#[tokio::test(flavor = "multi_thread")]
async fn bad_jobs_are_refused_whole() {
    let cluster = Cluster::start().await;
    for (body, code, field, value) in BAD_JOBS {
        let answer = cluster.ask("POST", "jobs", body).await;
        assert!(answer.status.is_client_error(), "{body}: {}", answer.body);
        assert_eq!(answer.code(), code, "{body}: {}", answer.body);
        let [told, given, remedy] = answer.field();
        assert_eq!(told, field, "{body}: {}", answer.body);
        assert!(given.contains(value), "{body}: {}", answer.body);
        assert!(field.is_empty() || !remedy.is_empty(), "{body}: {}", answer.body);
        assert_eq!(cluster.jobs(), 0, "{body} left something behind");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_is_refused() {
    let cluster = Cluster::start().await;
    let script = |bytes: usize| format!(r#"{{"name": "a", "shell": "{}"}}"#, "x".repeat(bytes));
    for (path, method, bytes, field) in [
        ("jobs", "POST", 5 << 20, "body"),
        ("jobs/a", "PUT", 2 << 20, "body"),
        ("jobs", "POST", 2 << 20, "body"),
        ("jobs", "POST", 300 << 10, "definition"),
        ("jobs/a", "PUT", 300 << 10, "definition"),
    ] {
        let answer = cluster.ask(method, path, &script(bytes)).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (413, "too_large"), "{path} {bytes}");
        assert_eq!(answer.field()[0], field, "{path} {bytes}");
    }
    let many = (0..1_001).map(|i| format!(r#"{{"name": "j{i}", "noop": true}}"#));
    let body = format!(r#"{{"jobs": [{}]}}"#, many.collect::<Vec<_>>().join(","));
    let answer = cluster.ask("POST", "jobs", &body).await;
    assert_eq!((answer.status.as_u16(), answer.field()[0]), (413, "jobs"));
    assert_eq!(cluster.jobs(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cycle_with_jobs_that_exist_is_found_before_anything_is_applied() {
    let cluster = Cluster::start().await;
    let first = r#"{"jobs": [{"name": "b", "noop": true, "depends_on": ["a"]}, {"name": "a", "noop": true}]}"#;
    let answer = cluster.ask("POST", "jobs", first).await;
    assert_eq!(answer.body["jobs"][0]["name"], "b", "{}", answer.body);
    let second = r#"{"jobs": [{"name": "c", "noop": true, "depends_on": ["b"]}, {"name": "a", "noop": true, "depends_on": ["c"]}]}"#;
    let answer = cluster.ask("POST", "jobs", second).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (422, "dependency_cycle"));
    assert_eq!(answer.field()[0], "jobs[1].depends_on", "{}", answer.body);
    assert_eq!(cluster.jobs(), 2);
    // Turned round as a whole, it is no circle.
    let turned = r#"{"jobs": [{"name": "a", "noop": true, "depends_on": ["b"]}, {"name": "b", "noop": true}]}"#;
    assert_eq!(cluster.ask("POST", "jobs", turned).await.status.as_u16(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_admins_token_opens_and_only_liveness_needs_none() {
    let cluster = Cluster::start().await;
    for path in ["/livez", "/api/v1/livez"] {
        assert_eq!(cluster.raw("GET", path, "", &[]).await.status.as_u16(), 204);
    }
    for (header, status, code) in [
        ("", 401, "unauthenticated"),
        ("Bearer wrong", 401, "unauthenticated"),
        ("Basic admin", 401, "unauthenticated"),
        ("Bearer join", 403, "denied"),
        ("bearer admin", 200, ""),
    ] {
        for (method, path) in [("GET", "/api/v1/jobs"), ("GET", "/api/v1/cluster")] {
            let answer = cluster.raw(method, path, "", &[("authorization", header)]).await;
            assert_eq!((answer.status.as_u16(), answer.code()), (status, code), "{header}");
            assert_eq!(answer.headers.contains_key("www-authenticate"), status == 401);
        }
    }
    // An address that does not exist tells nothing to strangers.
    assert_eq!(cluster.raw("GET", "/api/v1/x", "", &[]).await.status.as_u16(), 401);
    let body = r#"{"name": "a", "noop": true}"#;
    let answer = cluster.raw("POST", "/api/v1/jobs", body, &[]).await;
    assert_eq!((answer.status.as_u16(), cluster.jobs()), (401, 0));
    let blank = Cluster::blank().await;
    let answer = blank.get("jobs").await;
    assert_eq!((answer.status.as_u16(), answer.code()), (503, "unavailable"));
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_methods_and_parameters_are_checked() {
    let cluster = Cluster::start().await;
    for (method, path, status, code, field) in [
        ("GET", "nothing", 404, "not_found", ""),
        ("PATCH", "jobs", 405, "method_not_allowed", ""),
        ("GET", "jobs/none", 404, "not_found", ""),
        ("GET", "jobs/Bad", 400, "invalid_value", "name"),
        ("GET", "jobs/%ff", 400, "malformed", ""),
        ("GET", "jobs?limit=0", 400, "invalid_value", "limit"),
        ("GET", "jobs?limit=x", 400, "invalid_value", "limit"),
        ("GET", "jobs?limit=1&limit=2", 400, "invalid_value", "limit"),
        ("GET", "jobs?limt=1", 400, "unknown_field", "limt"),
        ("GET", "jobs?consistency=maybe", 400, "invalid_value", "consistency"),
        ("GET", "runs?job=none", 404, "not_found", ""),
        ("GET", "runs?before=17", 400, "invalid_value", "before"),
        ("GET", "runs?before=r-1&after=r-1", 400, "invalid_value", "after"),
        ("GET", "runs/17", 400, "invalid_value", "id"),
        ("GET", "runs/r-17", 404, "not_found", ""),
        ("GET", "runs/r-17/explain", 404, "not_found", ""),
        ("GET", "runs/r-17/logs", 404, "not_found", ""),
        ("GET", "actions/a/explain", 400, "invalid_value", "id"),
        ("GET", "actions/a@20261121T030000Z/explain", 404, "not_found", ""),
        ("GET", "workers/none", 404, "not_found", ""),
        ("POST", "jobs/none/trigger", 404, "not_found", ""),
        ("POST", "jobs/none/pause", 404, "not_found", ""),
        ("DELETE", "jobs/none", 404, "not_found", ""),
        ("POST", "runs/r-17/cancel", 404, "not_found", ""),
        ("POST", "jobs?dry=1", 400, "unknown_field", "dry"),
    ] {
        let answer = cluster.ask(method, path, "").await;
        let told = (answer.status.as_u16(), answer.code(), answer.field()[0]);
        assert_eq!(told, (status, code, field), "{method} {path}: {}", answer.body);
    }
    for (path, body, status, field) in [
        ("cluster/transfer", r#"{"to": 9}"#, 404, ""),
        ("cluster/snapshot", r#"{"node": 9}"#, 400, ""),
        ("cluster/remove", r#"{"node": 9}"#, 404, ""),
        ("cluster/remove", r#"{"node": 1}"#, 409, ""),
        ("cluster/tokens", r#"{"purpose": "admin"}"#, 400, "purpose"),
        ("cluster/tokens", r#"{"purpose": "join", "expires_in": "1y"}"#, 400, "expires_in"),
        ("cluster/tokens", r#"{"purpose": "join", "expires_in": "90d"}"#, 400, "expires_in"),
        ("cluster/time", r#"{"time": "noon"}"#, 400, "time"),
        ("locks/l/acquire", r#"{"owner": "", "ttl": "5s"}"#, 400, "owner"),
        ("locks/l/acquire", r#"{"owner": "me", "ttl": "5"}"#, 400, "ttl"),
        ("locks/l/renew", r#"{"token": 5}"#, 404, ""),
        ("jobs/none/trigger", r#"{"force": true}"#, 400, "force"),
    ] {
        let answer = cluster.ask("POST", path, body).await;
        let told = (answer.status.as_u16(), answer.field()[0]);
        assert_eq!(told, (status, field), "{path} {body}: {}", answer.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_machine_refuses_is_told_with_names_values_and_units() {
    let cluster = Cluster::start().await;
    let noop = |more: &str| format!(r#"{{"name": "a", "noop": true{more}}}"#);
    assert_eq!(cluster.ask("POST", "jobs", &noop("")).await.status.as_u16(), 200);
    for (path, body, detail, field) in [
        (
            "jobs/a/trigger",
            r#"{"priority": 99}"#.to_owned(),
            "priority: it is too large",
            ["priority", "99", "write 0 to 9"],
        ),
        (
            "jobs/a/trigger",
            r#"{"params": {"a b": "1"}}"#.to_owned(),
            "params: \"a b\" is no name of a parameter",
            ["params", "", "use letters, digits and _, perhaps behind an area and a dot"],
        ),
        (
            "jobs",
            noop(r#", "timeout": "0s""#),
            "timeout: it is too short",
            ["timeout", "0s", "write 1ms to 366d"],
        ),
        (
            "jobs",
            noop(r#", "grace": "500d""#),
            "grace: it is too long",
            ["grace", "500d", "write 0ms to 1h"],
        ),
        (
            "jobs",
            noop(r#", "retries": {"count": -1}"#),
            "retries.count: the number is negative",
            ["retries.count", "-1", "write 0 to 100"],
        ),
        (
            "jobs",
            noop(r#", "retris": 1"#),
            "retris: there is no such field",
            ["retris", "1", "did you mean retries?"],
        ),
    ] {
        let answer = cluster.ask("POST", path, &body).await;
        assert_eq!(answer.body["detail"], detail, "{body}");
        assert_eq!(answer.field(), field, "{body}");
    }
    let both = r#"{"name": "b", "shell": "x", "noop": true}"#;
    assert_eq!(cluster.ask("POST", "jobs", both).await.field()[1], "shell and noop");
    let answer = cluster.get("actions/a@20200101T000000Z").await;
    assert_eq!(answer.body["remedy"], "look which there are: horai action list a");
    let order = r#"{"action": "a@20200101T000000Z"}"#;
    let answer = cluster.ask("POST", "jobs/a/trigger", order).await;
    assert_eq!(answer.body["detail"], "action a@20200101T000000Z does not exist");
    // A circle through a job that is there already is told as a path.
    let below = r#"{"name": "b", "noop": true, "depends_on": ["a"]}"#;
    assert_eq!(cluster.ask("POST", "jobs", below).await.status.as_u16(), 200);
    let answer = cluster.ask("POST", "jobs", &noop(r#", "depends_on": ["b"]"#)).await;
    assert_eq!(answer.code(), "dependency_cycle", "{}", answer.body);
    assert!(answer.field()[1].contains(" → "), "{}", answer.body);
    assert!(!answer.body.to_string().contains("[\\\""), "{}", answer.body);
    // hera's texts in values of the job's own parameters.
    let turns = r#"{"name": "c", "shell": "${a}", "syntax": "hera",
        "params": {"a": "${b}", "b": "${a}"}}"#;
    let answer = cluster.ask("POST", "jobs", turns).await;
    let told = "params.a: the values lead back to themselves: a → b → a";
    assert_eq!(answer.body["detail"], told);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_of_an_action_in_vain_names_it() {
    let cluster = Cluster::start().await;
    let body = r#"{"name": "a", "noop": true, "triggers": [{"name": "t", "cron": "* * * * * ?"}]}"#;
    cluster.ask("PUT", "jobs/a", body).await;
    let key = cluster.plan_one("a").await;
    cluster.wait_until(key.nominal).await;
    cluster.tick().await;
    let id = format!("a@{}", key.nominal.compact());
    let answer = cluster.ask("POST", &format!("actions/{id}/skip"), "").await;
    assert_eq!(answer.body["detail"], format!("run r-1 of action {id} is not over"));
    cluster.ask("POST", "runs/r-1/cancel", "").await;
    cluster.ask("POST", &format!("actions/{id}/force-success"), "").await;
    let answer = cluster.ask("POST", &format!("actions/{id}/skip"), "").await;
    assert_eq!(answer.body["detail"], "action: it has succeeded");
    assert_eq!(answer.field(), ["action", &id, "what has run cannot be skipped"]);
}
