//! Calendars and pauses over HTTP.

use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use horai_core::ids::Name;
use horai_core::machine::command::{Actor, Command, Envelope};
use serde_json::json;

use super::support::{Cluster, PATIENCE};

#[tokio::test(flavor = "multi_thread")]
async fn a_calendar_lives_by_its_revisions_and_its_users() {
    let cluster = Cluster::start().await;
    let days = r#"{"name": "c", "dates": ["2026-12-25"], "zone": "Europe/Berlin"}"#;
    let made = cluster.with("PUT", "calendars/c", days, &[("if-none-match", "*")]).await;
    assert_eq!((made.status.as_u16(), &made.headers["etag"]), (201, &"\"1\"".parse().unwrap()));
    let same = cluster.ask("PUT", "calendars/c", days).await;
    assert_eq!(same.body, json!({"name": "c", "revision": 1, "changed": false, "replanned": 0}));
    let based = r#"{"name": "d", "weekly": "SAT,SUN", "base": "c"}"#;
    let answer = cluster.with("PUT", "calendars/d", based, &[("if-match", "*")]).await;
    let found = (answer.code(), answer.field());
    let expected = ["If-Match", "*", "leave If-Match out to create it"];
    assert_eq!(found, ("wrong_revision", expected), "{}", answer.body);
    assert_eq!(cluster.ask("PUT", "calendars/d", based).await.status.as_u16(), 201);
    let circle = r#"{"name": "c", "weekly": "SUN", "base": "d"}"#;
    let answer = cluster.ask("PUT", "calendars/c", circle).await;
    assert_eq!((answer.status.as_u16(), answer.code()), (409, "conflict"), "{}", answer.body);
    assert!(answer.body["detail"].as_str().unwrap().contains("c → d → c"), "{}", answer.body);
    // Mistakes name their field.
    for (body, field, code) in [
        (r#"{"name": "x", "dates": ["2026-02-30"]}"#, "dates[0]", "invalid_value"),
        (r#"{"name": "x", "weekly": "SUN", "base": "nowhere"}"#, "base", "invalid_value"),
        (r#"{"name": "x", "cron": "0 0 25 * * ?"}"#, "cron", "bad_cron"),
        (r#"{"name": "x", "weekly": "SUN", "zone": "Nowhere"}"#, "zone", "unknown_zone"),
        (r#"{"name": "x", "weekday": "SUN"}"#, "weekday", "unknown_field"),
        (r#"{"name": "y", "weekly": "SUN"}"#, "name", "invalid_value"),
    ] {
        let answer = cluster.ask("PUT", "calendars/x", body).await;
        assert_eq!((answer.code(), answer.field()[0]), (code, field), "{}", answer.body);
    }
    // A job may name those that there are.
    let job = |calendar: &str| {
        let trigger = json!({"cron": "0 0 3 * * ?", "calendars": [calendar], "priority": 8});
        json!({"name": "j", "noop": true, "triggers": [trigger]}).to_string()
    };
    let answer = cluster.ask("POST", "jobs", &job("nowhere")).await;
    let found = (answer.code(), answer.field()[0]);
    assert_eq!(found, ("invalid_value", "triggers[0].calendars"), "{}", answer.body);
    let answer = cluster.ask("POST", "jobs", &job("d")).await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.body);
    let shown = cluster.get("calendars/d").await;
    assert_eq!(shown.body["jobs"], json!(["j"]));
    assert_eq!(cluster.get("calendars/c").await.body["calendars"], json!(["d"]));
    for name in ["c", "d"] {
        let answer = cluster.ask("DELETE", &format!("calendars/{name}"), "").await;
        assert_eq!(answer.code(), "conflict", "{}", answer.body);
    }
    let list = cluster.get("calendars?limit=1").await;
    assert_eq!((&list.body["items"][0]["name"], &list.body["next"]), (&json!("c"), &json!("c")));
    // A change says how many jobs are planned anew.
    let more = r#"{"name": "c", "dates": ["2026-12-25", "2026-12-26"]}"#;
    assert_eq!(cluster.ask("PUT", "calendars/c", more).await.body["replanned"], 1);
    assert_eq!(cluster.ask("DELETE", "jobs/j", "").await.status.as_u16(), 204);
    for name in ["d", "c"] {
        let answer = cluster.ask("DELETE", &format!("calendars/{name}"), "").await;
        assert_eq!(answer.status.as_u16(), 204, "{}", answer.body);
    }
    assert_eq!(cluster.ask("DELETE", "calendars/c", "").await.code(), "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_answered_when_it_has_come_to_all_who_rest_on_it() {
    let cluster = Cluster::start().await;
    let put = |days: &str| format!(r#"{{"name": "c", "weekly": "{days}"}}"#);
    assert_eq!(cluster.ask("PUT", "calendars/c", &put("SUN")).await.status.as_u16(), 201);
    let count = cluster.node.read(|state| state.limits().sweep) + 100;
    let trigger = json!({"cron": "0 0 3 * * ?", "calendars": ["c"]});
    let job = |n| json!({"name": format!("j{n}"), "noop": true, "triggers": [trigger]});
    let set = json!({"jobs": (0..count).map(job).collect::<Vec<_>>()});
    let made = cluster.ask("POST", "jobs", &set.to_string()).await;
    assert_eq!(made.status.as_u16(), 200, "{}", made.body);
    let (is_answered, body) = (AtomicBool::new(false), put("SAT"));
    let change = async {
        let answer = cluster.ask("PUT", "calendars/c", &body).await;
        is_answered.store(true, Relaxed);
        answer
    };
    // Nobody leads here: the second step is made by this test alone.
    let step = async {
        let name = Name::new("c").unwrap();
        assert!(cluster.node.wait_until(PATIENCE, |state| state.is_replanning(&name)).await);
        assert!(!is_answered.load(Relaxed));
        let actor = Actor::Leader(cluster.node.read(|state| state.leader()));
        let tick = Envelope { actor, request: None, command: Command::Tick };
        cluster.node.propose(&tick, PATIENCE).await.unwrap();
        assert!(!cluster.node.read(|state| state.is_replanning(&name)));
    };
    let (answer, ()) = tokio::join!(change, step);
    assert_eq!(answer.body["replanned"], json!(count), "{}", answer.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_can_be_paused_and_tells_what_it_holds_up() {
    let cluster = Cluster::start().await;
    let set = json!({"jobs": [
        {"name": "up", "noop": true, "group": "etl/nightly",
         "triggers": [{"name": "a b/c", "cron": "0 0 3 * * ?"}, {"cron": "0 0 4 * * ?"}]},
        {"name": "mid", "noop": true, "depends_on": ["up"]},
        {"name": "low", "noop": true, "depends_on": ["mid"]},
    ]});
    let answer = cluster.ask("POST", "jobs", &set.to_string()).await;
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.body);
    let both = json!({"dependants": ["low", "mid"], "dependant_count": 2});
    let job = |answer: super::support::Answer| answer.body["paused"].clone();
    // A group, with a slash in its name.
    let answer = cluster.ask("POST", "groups/etl%2Fnightly/pause", "").await;
    assert_eq!(answer.body, both);
    let shown = cluster.get("jobs/up").await;
    assert_eq!(shown.body["paused_group"], "etl/nightly");
    assert_eq!(job(shown), true);
    assert_eq!(job(cluster.get("jobs/mid").await), false);
    // A trigger, whatever its name.
    let trigger = "jobs/up/triggers/a%20b%2Fc";
    assert_eq!(cluster.ask("POST", &format!("{trigger}/pause"), "").await.body, both);
    assert_eq!(cluster.get("jobs/up").await.body["paused_triggers"], json!(["a b/c"]));
    let answer = cluster.ask("POST", "jobs/up/triggers/none/pause", "").await;
    assert_eq!(answer.code(), "not_found", "{}", answer.body);
    // A job, and the cluster.
    let answer = cluster.ask("POST", "jobs/mid/pause", "").await;
    assert_eq!(answer.body["dependants"], json!(["low"]));
    let answer = cluster.ask("POST", "cluster/freeze", "").await;
    assert_eq!(answer.body["dependant_count"], 0);
    assert!(cluster.get("cluster").await.body["frozen"].is_string());
    let list = cluster.get("pauses").await;
    let what: Vec<&str> = list.body["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|pause| pause["what"].as_str().unwrap())
        .collect();
    assert_eq!(what, ["cluster", "group", "trigger"]);
    assert_eq!(list.body["items"][2]["trigger"], "a b/c");
    assert_eq!(list.body["items"][0]["by"], "token:admin");
    // Each ends by itself, one way or the other.
    for (path, body) in [
        ("cluster/unfreeze", ""),
        ("groups/etl%2Fnightly/resume", r#"{"missed": "misfire"}"#),
        ("jobs/mid/resume", r#"{"missed": "skip"}"#),
        ("jobs/up/triggers/a%20b%2Fc/resume", "{}"),
    ] {
        let answer = cluster.ask("POST", path, body).await;
        assert_eq!(answer.status.as_u16(), 204, "{path}: {}", answer.body);
    }
    assert_eq!(cluster.get("pauses").await.body["items"], json!([]));
    assert_eq!(job(cluster.get("jobs/up").await), false);
    let answer = cluster.ask("POST", "jobs/up/resume", r#"{"missed": "later"}"#).await;
    assert_eq!((answer.code(), answer.field()[0]), ("invalid_value", "missed"));
    let answer = cluster.ask("POST", "groups/A/pause", "").await;
    assert_eq!((answer.code(), answer.field()[0]), ("invalid_value", "group"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_quartz_says_of_misfires_is_taken_with_a_word() {
    let cluster = Cluster::start().await;
    let job = r#"{"name": "j", "noop": true, "group": "g", "params": {"A": "1"},
        "triggers": [{"cron": "0 0 3 * * ?", "misfire": "DO_NOTHING"}, {"fixed_delay": "5m"}]}"#;
    let answer = cluster.ask("POST", "jobs", job).await;
    let notice = answer.body["jobs"][0]["notices"][0].as_str().unwrap_or_default();
    assert!(notice.starts_with("triggers[0].misfire: DO_NOTHING is taken as skip"), "{notice}");
    let shown = cluster.get("jobs/j").await;
    let definition = &shown.body["definition"];
    assert_eq!(definition["triggers"][0]["misfire"], "skip");
    assert_eq!(definition["triggers"][1]["fixed_delay"], "5m");
    assert_eq!((&definition["group"], &definition["params"]), (&json!("g"), &json!({"A": "1"})));
    // Nobody plans here: there is no action that the delay would wait for.
    assert!(shown.body.get("waiting_triggers").is_none(), "{}", shown.body);
}
