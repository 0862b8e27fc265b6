//! Back-fills and runs beside the plan: what is wrong is named, and what is sent again
//! does nothing again.

use serde_json::{Value, json};

use horai_core::ids::RunId;
use horai_core::machine::command::Command;
use horai_core::model::run::EndKind;

use super::support::{Answer, Cluster, extended, report};

const JOB: &str =
    r#"{"name": "a", "noop": true, "triggers": [{"cron": "0 0 3 * * ?"}], "params": {"A": "b"}}"#;

async fn begin(cluster: &Cluster, key: &str, body: &Value) -> Answer {
    let key = [("idempotency-key", key)];
    cluster.with("POST", "jobs/a/backfills", &body.to_string(), &key).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_is_asked_for_shown_and_steered() {
    let cluster = Cluster::start().await;
    cluster.ask("POST", "jobs", JOB).await;
    let asked = json!({"from": "2026-03-01", "to": "2026-03-10", "hours": "22:00-06:00"});
    let first = begin(&cluster, "k1", &asked).await;
    assert_eq!((first.status.as_u16(), &first.body["backfill"]), (201, &json!("b-1")));
    let again = begin(&cluster, "k1", &asked).await;
    assert_eq!(first.body, again.body);
    let shown = cluster.get("backfills/b-1").await.body;
    let told = ["total", "waiting", "concurrency", "hours", "state", "by"].map(|f| &shown[f]);
    let wanted = json!([10, 10, 1, "22:00-06:00", "running", "token:admin"]);
    assert_eq!(json!(told), wanted);
    let page = cluster.get("backfills/b-1/instants?limit=2").await.body;
    assert_eq!(page["items"][1]["nominal"], "2026-03-02T03:00:00.000Z");
    let path = format!("backfills/b-1/instants?after={}", page["next"].as_str().unwrap());
    assert_eq!(cluster.get(&path).await.body["items"].as_array().unwrap().len(), 8);
    for (verb, state) in [("pause", "paused"), ("resume", "running"), ("stop", "stopped")] {
        let answer = cluster.ask("POST", &format!("backfills/b-1/{verb}"), "").await;
        assert_eq!(answer.status.as_u16(), 204, "{}", answer.body);
        assert_eq!(cluster.get("backfills/b-1").await.body["state"], state);
    }
    let over = cluster.ask("POST", "backfills/b-1/resume", "").await;
    assert_eq!((over.status.as_u16(), over.code()), (409, "conflict"));
    let nothing = cluster.ask("POST", "backfills/b-1/rerun", "").await;
    assert_eq!(nothing.code(), "conflict");
    let missing = cluster.get("backfills/b-9").await;
    assert_eq!((missing.status.as_u16(), missing.code()), (404, "not_found"));
    let listed = cluster.get("backfills?job=a").await.body;
    assert_eq!(listed["items"].as_array().unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_run_is_passed_over_as_asked_for() {
    let cluster = Cluster::start().await;
    cluster.ask("POST", "jobs", JOB).await;
    let worker = cluster.worker().await;
    let day = |more: &Value| extended(json!({"from": "2026-03-01", "to": "2026-03-03"}), more);
    let both = json!({"concurrency": 2, "to": "2026-03-02"});
    assert_eq!(begin(&cluster, "k1", &day(&both)).await.status.as_u16(), 201);
    let left = async |existing: &str| {
        let asked = day(&json!({"existing": existing})).to_string();
        let answer = cluster.ask("POST", "jobs/a/backfills/preview", &asked).await.body;
        let days = answer["instants"].as_array().unwrap_or(&Vec::new()).clone();
        let days = days.iter().map(|at| at.as_str().unwrap()[8..10].to_owned());
        (days.collect::<Vec<_>>().join(" "), answer["passed_over"].clone())
    };
    for existing in ["skip", "failed", "all"] {
        assert_eq!(left(existing).await, ("03".to_owned(), json!(2)), "{existing}: they run");
    }
    for (run, code) in [(RunId(1), 0), (RunId(2), 1)] {
        let (attempt, token) = cluster.dispatch(run, worker).await;
        let report = report(EndKind::Exited { code });
        cluster.propose(Command::Complete { attempt, token, report }).await;
    }
    assert_eq!(cluster.get("backfills/b-1").await.body["state"], "done");
    assert_eq!(left("skip").await, ("03".to_owned(), json!(2)), "one failed");
    assert_eq!(left("failed").await, ("02 03".to_owned(), json!(1)));
    assert_eq!(left("all").await, ("01 02 03".to_owned(), json!(0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_backfill_is_named() {
    let cluster = Cluster::start().await;
    cluster.ask("POST", "jobs", JOB).await;
    let day = |more: &Value| extended(json!({"from": "2026-03-01", "to": "2026-03-02"}), more);
    let cases = [
        (json!({"from": "yesterday"}), "from", "yesterday"),
        (json!({"to": "2026-02-01"}), "to", "2026-02-01"),
        (json!({"from": "2126-01-01", "to": "2126-01-02"}), "to", "2126-01-02"),
        (json!({"from": "2026-03-01T04:00", "to": "2026-03-01T05:00"}), "from", ""),
        (json!({"existing": "some"}), "existing", "some"),
        (json!({"concurrency": 0}), "concurrency", ""),
        (json!({"hours": "22:00"}), "hours", "22:00"),
        (json!({"params": {"A B": "c"}}), "params", ""),
        (json!({"revision": 7}), "revision", ""),
        (json!({"until": "2026-03-02"}), "until", ""),
    ];
    for (more, field, value) in cases {
        let asked = day(&more).to_string();
        let answer = cluster.ask("POST", "jobs/a/backfills", &asked).await;
        assert!(answer.status.is_client_error(), "{asked}: {}", answer.body);
        let [named, shown, remedy] = answer.field();
        assert_eq!(named, field, "{asked}: {}", answer.body);
        assert!(shown.contains(value) && !remedy.is_empty(), "{asked}: {}", answer.body);
    }
    let delayed = r#"{"name": "d", "noop": true, "triggers": [{"fixed_delay": "5s"}]}"#;
    cluster.ask("POST", "jobs", delayed).await;
    let unknown = cluster.ask("POST", "jobs/d/backfills", &day(&json!({})).to_string()).await;
    assert_eq!(unknown.field()[0], "job");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_asked_for_with_what_it_needs() {
    let cluster = Cluster::start().await;
    cluster.ask("POST", "jobs", JOB).await;
    let asked = json!({"debug": true, "nominal": "2026-03-01T03:00:00Z", "params": {"A": "c"}});
    let made = cluster.ask("POST", "jobs/a/trigger", &asked.to_string()).await;
    assert_eq!(made.status.as_u16(), 201, "{}", made.body);
    let run = cluster.get(&format!("runs/{}", made.body["run"].as_str().unwrap())).await.body;
    assert_eq!((&run["kind"], &run["params"]["A"]), (&json!("debug"), &json!("c")));
    assert_eq!(run["nominal"], "2026-03-01T03:00:00.000Z");
    let cases = [
        (json!({"action": "b@20260301T030000Z"}), "action"),
        (json!({"nominal": "noon"}), "nominal"),
        (json!({"priority": 10}), "priority"),
        (json!({"revision": 2}), "revision"),
        (json!({"kind": "manual"}), "kind"),
    ];
    for (asked, field) in cases {
        let answer = cluster.ask("POST", "jobs/a/trigger", &asked.to_string()).await;
        assert_eq!(answer.field()[0], field, "{asked}: {}", answer.body);
    }
}
