//! Groups over HTTP: their parameters, whose they are, and what texts may name of them.

use serde_json::json;

use super::support::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn a_group_lives_by_its_revisions() {
    let cluster = Cluster::start().await;
    let far = r#"{"description": "loads", "params": {"WHERE": "far", "EU.DAY": "1"}}"#;
    let made = cluster.with("PUT", "groups/etl", far, &[("if-none-match", "*")]).await;
    assert_eq!((made.status.as_u16(), &made.headers["etag"]), (201, &"\"1\"".parse().unwrap()));
    let same = cluster.ask("PUT", "groups/etl", far).await;
    assert_eq!(same.body, json!({"group": "etl", "revision": 1, "changed": false}));
    let near = r#"{"params": {"WHERE": "near"}}"#;
    let answer = cluster.with("PUT", "groups/etl%2Fnightly", near, &[("if-match", "*")]).await;
    assert_eq!(answer.code(), "wrong_revision");
    assert_eq!(cluster.ask("PUT", "groups/etl%2Fnightly", near).await.status.as_u16(), 201);
    for (path, body, field, code) in [
        ("etl", r#"{"params": {"A-B": "x"}}"#, "params.A-B", "invalid_value"),
        ("etl", r#"{"param": {}}"#, "param", "unknown_field"),
        ("etl%2F", "{}", "group", "invalid_value"),
        ("ETL", "{}", "group", "invalid_value"),
    ] {
        let answer = cluster.ask("PUT", &format!("groups/{path}"), body).await;
        assert_eq!((answer.code(), answer.field()[0]), (code, field), "{}", answer.body);
    }
    let job = json!({"name": "j", "noop": true, "group": "etl/nightly/late"});
    assert_eq!(cluster.ask("POST", "jobs", &job.to_string()).await.status.as_u16(), 200);
    // What it has, and from where; in this area, too.
    let shown = cluster.get("groups/etl%2Fnightly").await;
    assert_eq!(shown.headers["etag"], "\"1\"");
    assert_eq!(shown.body["params"], json!({"WHERE": "near"}));
    let inherited = json!([{"name": "EU.DAY", "value": "1", "from": "etl"}]);
    assert_eq!(shown.body["inherited"], inherited);
    assert_eq!(shown.body["in_force"], json!({"WHERE": "near"}));
    assert_eq!((&shown.body["jobs"], &shown.body["job_count"]), (&json!(["j"]), &json!(1)));
    cluster.ask("PUT", "cluster/area", r#"{"area": "EU"}"#).await;
    let path = cluster.get("groups/etl%2Fnightly%2Flate").await;
    assert!(!path.headers.contains_key("etag"), "{}", path.body);
    assert_eq!(path.body["revision"], 0);
    assert_eq!(path.body["in_force"], json!({"DAY": "1", "WHERE": "near"}));
    let list = cluster.get("groups?limit=2").await.body;
    assert_eq!(
        (&list["items"][1]["group"], &list["next"]),
        (&json!("etl/nightly"), &json!("etl/nightly"))
    );
    let rest = cluster.get("groups?after=etl%2Fnightly").await.body;
    assert_eq!(
        (&rest["items"][0]["group"], &rest["next"]),
        (&json!("etl/nightly/late"), &json!(null))
    );
    // Its record goes, and its jobs stay.
    let answer = cluster.with("DELETE", "groups/etl", "", &[("if-match", "\"7\"")]).await;
    assert_eq!(answer.code(), "wrong_revision");
    assert_eq!(cluster.ask("DELETE", "groups/etl", "").await.status.as_u16(), 204);
    assert_eq!(cluster.ask("DELETE", "groups/etl", "").await.code(), "not_found");
    assert_eq!(cluster.get("groups/nowhere").await.code(), "not_found");
    assert_eq!(cluster.get("jobs/j").await.status.as_u16(), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_name_what_groups_give_and_see_it_as_it_is_now() {
    let cluster = Cluster::start().await;
    let put = |path: &'static str, params: serde_json::Value| {
        let body = json!({ "params": params }).to_string();
        let cluster = &cluster;
        async move { cluster.ask("PUT", &format!("groups/{path}"), &body).await }
    };
    put("etl", json!({"TABLE": "t_{{ nominal.format('%Y') }}", "US.HOST": "us-1"})).await;
    let job = |text: &str| {
        json!({"name": "j", "shell": text, "group": "etl/nightly", "params": {"OWN": "1"}})
            .to_string()
    };
    for (text, told) in [
        ("echo {{ vars.TABEL }}", "TABLE"),
        ("echo {{ params.NONE }}", "params.NONE"),
        ("echo {{ vars.OWN }}", "vars.OWN"),
    ] {
        let answer = cluster.ask("POST", "jobs", &job(text)).await;
        assert_eq!(
            (answer.code(), answer.field()[0]),
            ("invalid_value", "shell"),
            "{}",
            answer.body
        );
        let problem = format!("{} {}", answer.body["errors"][0]["problem"], answer.field()[2]);
        assert!(problem.contains(told), "{problem}");
    }
    let text = "{{ vars.TABLE }} {{ params.TABLE }} {{ params.OWN }} {{ vars.HOST|default('-') }}";
    let answer = cluster.ask("POST", "jobs", &job(text)).await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.body);
    let render = "jobs/j/render?nominal=2024-01-30T19:00:00Z";
    let rendered = cluster.get(render).await.body["texts"]["shell"].clone();
    assert_eq!(rendered, "t_2024 t_{{ nominal.format('%Y') }} 1 -");
    cluster.ask("PUT", "cluster/area", r#"{"area": "US"}"#).await;
    put("etl%2Fnightly", json!({"TABLE": "mine", "OWN": "2"})).await;
    let rendered = cluster.get(render).await.body["texts"]["shell"].clone();
    assert_eq!(rendered, "mine mine 1 us-1");
    // What a text names is not taken away unnoticed; what another group gives still may be.
    assert_eq!(put("etl%2Fnightly", json!({})).await.status.as_u16(), 200);
    for (method, path, body) in
        [("PUT", "groups/etl", r#"{"params": {"US.HOST": "us-1"}}"#), ("DELETE", "groups/etl", "")]
    {
        let answer = cluster.ask(method, path, body).await;
        assert_eq!((answer.status.as_u16(), answer.code()), (409, "conflict"), "{}", answer.body);
        let detail = answer.body["detail"].as_str().unwrap();
        assert!(detail.ends_with("group etl would not have any more: j"), "{detail}");
    }
    let answer = cluster.ask("DELETE", "groups/etl?force=true", "").await;
    assert_eq!(answer.status.as_u16(), 204, "{}", answer.body);
    // Without a group there is nothing to inherit.
    let job = json!({"name": "k", "shell": "{{ vars.TABLE }}"}).to_string();
    assert_eq!(cluster.ask("POST", "jobs", &job).await.field()[0], "shell");
}
