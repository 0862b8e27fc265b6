//! Why something waits, and why it was skipped, over HTTP: the words and the names.

use horai_core::ids::RunId;
use horai_core::machine::command::Command;
use horai_core::model::edge::NoMatch;
use horai_core::model::run::EndKind;
use horai_core::time::UtcMillis;
use serde_json::{Value, json};

use super::support::{Cluster, report};

const TRIGGERS: &str = r#""triggers": [{"name": "t", "cron": "* * * * * ?"}]"#;

impl Cluster {
    async fn define(&self, name: &str, more: &str) {
        let body = format!(r#"{{"name": "{name}", "noop": true, {TRIGGERS}{more}}}"#);
        let answer = self.ask("PUT", &format!("jobs/{name}"), &body).await;
        assert!(answer.status.is_success(), "{}", answer.body);
    }

    async fn explained(&self, id: &str) -> Value {
        self.get(&format!("actions/{id}/explain")).await.body
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_names_what_it_waits_for_and_what_is_over_waits_for_nothing() {
    let cluster = Cluster::start().await;
    cluster.define("load", "").await;
    let load = cluster.plan_one("load").await;
    let at = Some(load.nominal);
    cluster.define("report", r#", "depends_on": ["load"]"#).await;
    cluster.define("alarm", r#", "depends_on": [{"job": "load", "condition": "failure"}]"#).await;
    for down in ["wait", "skip"] {
        let edge = json!({"job": "load", "match": "all_in_period", "on_no_match": down});
        cluster.define(down, &format!(r#", "depends_on": [{edge}]"#)).await;
    }
    let report_key = cluster.plan("report", at, &[load], &[]).await;
    let alarm = cluster.plan("alarm", at, &[load], &[]).await;
    cluster.plan("wait", at, &[], &[(load.job, NoMatch::Waits)]).await;
    cluster.plan("skip", at, &[], &[(load.job, NoMatch::Skips)]).await;
    assert_eq!((report_key.nominal, alarm.nominal), (load.nominal, load.nominal));
    cluster.wait_until(UtcMillis(load.nominal.0 + 1)).await;
    cluster.tick().await;
    let id = |job: &str| format!("{job}@{}", load.nominal.compact());

    let told = cluster.explained(&id("wait")).await;
    assert_eq!(told["reason"], "upstream", "{told}");
    assert_eq!(told["detail"], "none of load was found (on_no_match: wait)");
    assert_eq!(told["waits_for"], json!([]));
    let told = cluster.explained(&id("skip")).await;
    assert_eq!((&told["state"], &told["reason"]), (&json!("skipped"), &json!("no_upstream")));
    let none = "it was skipped: none of load was found (on_no_match: skip)";
    assert_eq!(told["detail"], none);
    let told = cluster.explained(&id("report")).await;
    assert_eq!(told["waits_for"], json!([id("load")]));
    let detail = format!("an upstream action has not finished: {} is ready", id("load"));
    assert_eq!(told["detail"], detail);

    // What is skipped says why, and what it follows from.
    let skip = cluster.ask("POST", &format!("actions/{}/skip", id("alarm")), "").await;
    assert_eq!(skip.status.as_u16(), 204, "{}", skip.body);
    let told = cluster.explained(&id("alarm")).await;
    assert_eq!(told["detail"], "it was skipped: token:admin said so");
    assert_eq!((&told["reason"], &told["waits_for"]), (&json!("person"), &json!([])));
    let run = cluster.node.read(|state| state.action(load).unwrap().run.unwrap());
    let worker = cluster.worker().await;
    let (attempt, token) = cluster.dispatch(run, worker).await;
    let report = report(EndKind::Exited { code: 1 });
    cluster.propose(Command::Complete { attempt, token, report }).await;
    let told = cluster.explained(&id("report")).await;
    assert_eq!(told["reason"], "upstream_failed", "{told}");
    assert!(told["detail"].as_str().unwrap().ends_with(&format!("{} is failed", id("load"))));
    cluster.ask("POST", &format!("actions/{}/skip", id("load")), "").await;
    let told = cluster.explained(&id("report")).await;
    assert_eq!((&told["reason"], &told["waits_for"]), (&json!("upstream"), &json!([])));
    assert_eq!(told["detail"], format!("it was skipped: {} is skipped", id("load")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_success_skips_what_runs_after_a_failure_and_says_so() {
    let cluster = Cluster::start().await;
    cluster.define("load", "").await;
    let load = cluster.plan_one("load").await;
    cluster.define("alarm", r#", "depends_on": [{"job": "load", "condition": "failure"}]"#).await;
    cluster.plan("alarm", Some(load.nominal), &[load], &[]).await;
    cluster.wait_until(load.nominal).await;
    cluster.tick().await;
    let load = format!("load@{}", load.nominal.compact());
    cluster.ask("POST", "runs/r-1/cancel", "").await;
    let answer = cluster.ask("POST", &format!("actions/{load}/force-success"), "").await;
    assert_eq!(answer.status.as_u16(), 204, "{}", answer.body);
    let told = cluster.explained(&load.replace("load", "alarm")).await;
    let why = format!("it was skipped: {load} is success, and it runs after a failure");
    assert_eq!(told["detail"], why);
    let told = cluster.explained(&load).await;
    assert_eq!(told["detail"], "it is over: token:admin said so");
}

#[tokio::test(flavor = "multi_thread")]
async fn backoff_overlap_and_queue_have_their_figures() {
    let cluster = Cluster::start().await;
    let more = r#", "retries": {"count": 1, "backoff": "1h"}, "overlap": "queue_all""#;
    cluster.define("load", more).await;
    let load = cluster.plan_one("load").await;
    cluster.wait_until(load.nominal).await;
    cluster.tick().await;
    let worker = cluster.worker().await;
    let (attempt, token) = cluster.dispatch(RunId(1), worker).await;
    let report = report(EndKind::Exited { code: 1 });
    cluster.propose(Command::Complete { attempt, token, report }).await;
    let told = cluster.get("runs/r-1/explain").await.body;
    assert_eq!((&told["reason"], &told["state"]), (&json!("backoff"), &json!("backoff")));
    let detail = told["detail"].as_str().unwrap();
    assert!(detail.starts_with("it waits before a retry, until 2"), "{detail}");

    let next = cluster.plan("load", None, &[], &[]).await;
    cluster.wait_until(next.nominal).await;
    cluster.tick().await;
    let told = cluster.explained(&format!("load@{}", next.nominal.compact())).await;
    assert_eq!(told["reason"], "overlap", "{told}");
    assert_eq!(told["detail"], "run r-1 of its job is live, and the job runs once at a time");
}
