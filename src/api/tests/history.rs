//! Histories of runs and actions over HTTP: the words, and who is named.

use horai_core::ids::RunId;
use horai_core::machine::command::Command;
use horai_core::model::run::EndKind;
use serde_json::Value;

use super::support::{Answer, Cluster, report};

const JOB: &str = r#"{"name": "a", "noop": true,
    "triggers": [{"name": "t", "cron": "* * * * * ?"}]}"#;

/// What, by whom, and the detail, each change a line.
fn lines(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status.as_u16(), 200, "{}", answer.body);
    let line = |change: &Value| {
        let [what, by, detail] = ["what", "by", "detail"].map(|key| change[key].as_str().unwrap());
        format!("{what} | {by} | {detail}")
    };
    answer.body["items"].as_array().unwrap().iter().map(line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_tells_who_asked_who_ran_it_and_who_ended_it() {
    let cluster = Cluster::start().await;
    cluster.ask("PUT", "jobs/a", JOB).await;
    cluster.ask("POST", "jobs/a/trigger", "").await;
    let worker = cluster.worker().await;
    let (attempt, token) = cluster.dispatch(RunId(1), worker).await;
    let answer = cluster.ask("POST", "runs/r-1/cancel", "").await;
    assert_eq!(answer.status.as_u16(), 202, "{}", answer.body);
    let report = report(EndKind::Cancelled);
    cluster.propose(Command::Complete { attempt, token, report }).await;
    let answer = cluster.get("runs/r-1/history").await;
    assert_eq!(
        lines(&answer),
        [
            "created | token:admin | manual",
            "queued | leader | it waits to be dispatched",
            "dispatched | leader | r-1.1 to worker w (first)",
            "cancel_asked | token:admin | its end was asked for",
            "ended | worker w | r-1.1 cancelled",
            "finished | token:admin | cancelled",
        ]
    );
    assert_eq!(cluster.get("runs/r-1").await.body["history"], answer.body["items"]);
    let listed = cluster.get("runs").await.body;
    assert!(listed["items"][0].get("history").is_none(), "{listed}");
    let missing = cluster.get("runs/r-9/history").await;
    assert_eq!((missing.status.as_u16(), missing.code()), (404, "not_found"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_action_tells_who_said_what_it_is() {
    let cluster = Cluster::start().await;
    cluster.ask("PUT", "jobs/a", JOB).await;
    let key = cluster.plan_one("a").await;
    let id = format!("a@{}", key.nominal.compact());
    assert!(lines(&cluster.get(&format!("actions/{id}/history")).await).is_empty());
    cluster.wait_until(key.nominal).await;
    cluster.tick().await;
    assert!(cluster.node.read(|state| state.action(key).unwrap().run.is_some()));
    cluster.ask("POST", "runs/r-1/cancel", "").await;
    let answer = cluster.ask("POST", &format!("actions/{id}/force-success"), "").await;
    assert_eq!(answer.status.as_u16(), 204, "{}", answer.body);
    let answer = cluster.get(&format!("actions/{id}/history")).await;
    let told = lines(&answer);
    assert_eq!(told[0], "due | leader | its time came");
    assert_eq!(told[1], "run | leader | r-1 (schedule)");
    let was =
        "forced | token:admin | it counts as a success without a run; it was cancelled since 2";
    assert!(told[2].starts_with(was) && told[2].ends_with(", run r-1"), "{told:?}");
    assert_eq!(told[3], "finished | token:admin | success");
    assert_eq!(cluster.get(&format!("actions/{id}")).await.body["history"], answer.body["items"]);
    let missing = cluster.get("actions/a@20200101T000000Z/history").await;
    assert_eq!((missing.status.as_u16(), missing.code()), (404, "not_found"));
    // And its trigger says what it waits for.
    let told = cluster.get("jobs/a/explain").await.body;
    assert_eq!(
        (&told["items"][0]["id"], &told["items"][0]["reason"]),
        (&"a/t".into(), &"not_due".into())
    );
    let delayed = r#"{"name": "poll", "noop": true, "triggers": [{"fixed_delay": "1s"}]}"#;
    cluster.ask("PUT", "jobs/poll", delayed).await;
    cluster.ask("POST", "jobs/poll/pause", "").await;
    let told = cluster.get("jobs/poll/explain").await.body;
    assert_eq!(told["items"][0]["reason"], "paused", "{told}");
    assert_eq!(cluster.get("jobs/none/explain").await.status.as_u16(), 404);
    // A deletion is told of what it ended.
    cluster.ask("POST", "jobs/a/trigger", "").await;
    cluster.ask("DELETE", "jobs/a", "").await;
    let told = lines(&cluster.get("runs/r-2/history").await);
    assert_eq!(
        told[2..],
        ["job_deleted | token:admin | its job was deleted", "finished | token:admin | deleted"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_which_nothing_began_and_runs_of_a_deleted_job_are_found() {
    let cluster = Cluster::start().await;
    cluster.ask("PUT", "jobs/a", JOB).await;
    cluster.ask("POST", "jobs/a/trigger", "").await;
    let worker = cluster.worker().await;
    let (attempt, token) = cluster.dispatch(RunId(1), worker).await;
    let report = report(EndKind::Unrendered { message: "there is no parameter `x`".to_owned() });
    cluster.propose(Command::Complete { attempt, token, report }).await;
    let answer = cluster.get("runs/r-1/logs").await;
    assert_eq!((answer.status.as_u16(), answer.code()), (404, "not_found"));
    let detail = answer.body["detail"].as_str().unwrap();
    let told = "there is no output: nothing was started for r-1.1: there is no parameter `x`";
    assert_eq!(detail, told);
    for (query, found) in [
        ("kind=manual&state=failed", 1),
        ("kind=debug", 0),
        ("state=queued&job=a", 0),
        ("state=failed&job=a&after=r-0", 1),
    ] {
        let runs = cluster.get(&format!("runs?{query}")).await.body;
        assert_eq!(runs["items"].as_array().unwrap().len(), found, "{query}: {runs}");
    }
    let answer = cluster.get("runs?kind=often").await;
    assert_eq!(
        (answer.code(), answer.field()[..2].to_vec()),
        ("invalid_value", vec!["kind", "often"])
    );
    let number = cluster.get("jobs/a").await.body["number"].as_u64().unwrap();
    cluster.ask("DELETE", "jobs/a", "").await;
    assert_eq!(cluster.get("runs?job=a").await.code(), "not_found");
    let runs = cluster.get(&format!("runs?job=%23{number}")).await.body;
    assert_eq!(runs["items"][0]["id"], "r-1", "{runs}");
    let answer = cluster.get("runs?job=%23x").await;
    assert_eq!((answer.code(), answer.field()[0]), ("invalid_value", "job"));
}
