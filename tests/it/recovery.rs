//! Jobs that wait for others, in a cluster of processes: what fails is recovered, by hand
//! and with a leader that is killed between the halves of a diamond.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cluster::{Cluster, until, until_within};

/// The job's actions.
fn actions(cluster: &Cluster, job: &str) -> Vec<Value> {
    cluster.data(&["action", "list", job]).as_array().unwrap().clone()
}

/// The state of an action; nothing if it is not there yet.
fn state(cluster: &Cluster, job: &str, at: &str) -> Option<String> {
    let id = format!("{job}@{at}");
    let action = actions(cluster, job).into_iter().find(|action| action["id"] == id.as_str())?;
    Some(action["state"].as_str().unwrap().to_owned())
}

fn wait_for(cluster: &Cluster, job: &str, at: &str, wanted: &str) {
    until(&format!("{job}@{at} is {wanted}"), || {
        (state(cluster, job, at).as_deref() == Some(wanted)).then_some(())
    });
}

#[test]
fn a_failure_is_recovered_and_what_waits_for_it_goes_on() {
    let cluster = Cluster::start(1, 1);
    let flag = cluster.path("flag");
    let (at, id) = cluster.soon();
    cluster.apply(&format!(
        "jobs:\n\
             - {{name: load, shell: 'test -e {flag}', triggers: [{{once: '{at}'}}]}}\n\
             - {{name: report, noop: true, depends_on: [load]}}\n\
             - {{name: alarm, noop: true, depends_on: [{{job: load, condition: failure}}]}}\n\
             - {{name: mail, noop: true, depends_on: [report, {{job: alarm, soft: true}}]}}\n",
        flag = flag.display()
    ));
    wait_for(&cluster, "load", &id, "failed");
    wait_for(&cluster, "alarm", &id, "success");
    assert_eq!(state(&cluster, "report", &id).as_deref(), Some("waiting"));
    let report = format!("report@{id}");
    let why = cluster.data(&["run", "explain", &report]);
    assert_eq!(why["reason"], "upstream_failed", "{why}");
    assert_eq!(why["waits_for"], json!([format!("load@{id}")]));

    // What would follow from a success without a run, and a skip: nothing is done.
    let load = format!("load@{id}");
    let would = cluster.data(&["action", "force-success", &load, "--preview"]);
    let change = |job: &str, from: &str, to: &str| json!({"action": format!("{job}@{id}"), "from": from, "to": to});
    assert_eq!(
        would["changes"],
        json!([change("load", "failed", "success"), change("report", "waiting", "ready")])
    );
    let would = cluster.data(&["action", "skip", &load, "--preview"]);
    let skipped = |job, from| change(job, from, "skipped");
    assert_eq!(
        would["changes"],
        json!([
            skipped("load", "failed"),
            skipped("report", "waiting"),
            skipped("mail", "waiting")
        ])
    );
    assert_eq!(state(&cluster, "load", &id).as_deref(), Some("failed"));

    std::fs::write(&flag, "").unwrap();
    let preview = cluster.data(&["action", "recover", &load, "--downstream", "--preview"]);
    let would: Vec<&str> =
        preview.as_array().unwrap().iter().map(|action| action["job"].as_str().unwrap()).collect();
    assert_eq!(would, ["load", "report", "alarm", "mail"]);
    let run = cluster.data(&["action", "recover", &load]);
    assert_eq!((&run["kind"], &run["action"]), (&json!("recover"), &json!(load)));
    for job in ["load", "report", "mail"] {
        wait_for(&cluster, job, &id, "success");
    }
    the_recovery_is_told(&cluster, &load, run["id"].as_str().unwrap());

    // The whole tree again, and one that nobody needs is skipped.
    let before = cluster.data(&["run", "list", "--job", "mail"]).as_array().unwrap().len();
    cluster.run_ok(&["action", "recover", &load, "--downstream"]);
    until("the tree has run again", || {
        let runs = cluster.data(&["run", "list", "--job", "mail"]);
        let runs = runs.as_array().unwrap();
        (runs.len() > before && runs[0]["state"] == "success").then_some(())
    });
    assert_eq!(cluster.data(&["run", "list", "--job", "mail"])[0]["kind"], "super_recover");
    // It waited for a failure, and there is none now.
    assert_eq!(state(&cluster, "alarm", &id).as_deref(), Some("skipped"));
    let refused = cluster.run(&["action", "skip", &load]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    cluster.run_ok(&["action", "force-success", &format!("alarm@{id}")]);
    wait_for(&cluster, "alarm", &id, "success");
    let missing = cluster.run(&["action", "recover", "load@20200101T000000Z"]);
    assert_eq!(missing.status.code(), Some(3), "{missing:?}");
    cluster.end();
}

/// Who asked, and what became of it.
fn the_recovery_is_told(cluster: &Cluster, action: &str, run: &str) {
    let of = |arguments: &[&str]| {
        let told = cluster.data(arguments).as_array().unwrap().clone();
        assert!(told.is_sorted_by_key(|change| change["at"].as_str().unwrap()), "{told:?}");
        told
    };
    let words = |told: &[Value]| -> Vec<String> {
        told.iter().map(|change| change["what"].as_str().unwrap().to_owned()).collect()
    };
    let told = of(&["action", "history", action]);
    assert_eq!(words(&told), ["due", "recovered", "run", "finished"], "{told:?}");
    assert_eq!((&told[1]["by"], &told[2]["by"]), (&json!("token:admin"), &json!("token:admin")));
    let detail = told[1]["detail"].as_str().unwrap();
    assert!(detail.contains("it was failed since 20") && detail.contains(", run r-"), "{detail}");
    let told = of(&["run", "history", run]);
    let wanted = ["created", "queued", "dispatched", "began", "ended", "finished"];
    assert_eq!(words(&told), wanted, "{told:?}");
    assert_eq!(told[0]["by"], "token:admin");
    assert!(told[5]["by"].as_str().unwrap().starts_with("worker "), "{told:?}");
    let table = cluster.run_ok(&["run", "history", run]);
    assert!(table.starts_with("AT "), "{table}");
    assert_eq!(cluster.data(&["run", "show", run])["history"], json!(told));
}

#[test]
fn a_leader_killed_between_the_halves_of_a_diamond_loses_and_doubles_nothing() {
    let mut cluster = Cluster::start(3, 2);
    let [proof, go] = ["proof", "go"].map(|name| cluster.path(name));
    let (at, id) = cluster.soon();
    cluster.apply(&format!(
        "jobs:\n\
             - {{name: top, noop: true, triggers: [{{once: '{at}'}}]}}\n\
             - {{name: left, noop: true, depends_on: [top]}}\n\
             - {{name: right, shell: 'until [ -e {go} ]; do sleep 0.05; done', depends_on: [top]}}\n\
             - {{name: tail, shell: 'echo tail >> {proof}', depends_on: [left, right]}}\n",
        proof = proof.display(),
        go = go.display()
    ));
    until("one half is done and the other runs", || {
        let left = state(&cluster, "left", &id)? == "success";
        let right = state(&cluster, "right", &id)? == "running";
        (left && right).then_some(())
    });
    let killed = cluster.kill_leader();
    std::fs::write(&go, "").unwrap();
    wait_for(&cluster, "tail", &id, "success");
    assert_eq!(std::fs::read_to_string(&proof).unwrap(), "tail\n", "it ran once");
    for job in ["top", "left", "right", "tail"] {
        let runs = cluster.data(&["run", "list", "--job", job]);
        assert_eq!(runs.as_array().unwrap().len(), 1, "{job}: {runs}");
    }
    cluster.bring_back(killed);
    cluster.end();
}

#[test]
fn leaders_killed_in_a_backoff_of_a_minute_begin_it_not_anew() {
    let mut cluster = Cluster::start(3, 1);
    let proof = cluster.path("proof");
    cluster.apply(&format!(
        "jobs: [{{name: again, shell: 'echo try >> {proof}; exit 1', \
         retries: {{count: 1, backoff: 60s}}}}]\n",
        proof = proof.display()
    ));
    let run = cluster.trigger("again");
    let time = |text: &Value| text.as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let shown = until("the backoff", || {
        let shown = cluster.data(&["run", "show", &run]);
        (shown["state"] == "backoff").then_some(shown)
    });
    let ended = time(&shown["attempts"][0]["ended"]);
    for seconds in [15, 30] {
        until("much of the wait to be over", || {
            let now = time(&cluster.data(&["cluster", "status"])["time"]);
            (now.duration_since(ended).as_secs() >= seconds).then_some(())
        });
        let killed = cluster.kill_leader();
        cluster.bring_back(killed);
    }
    let shown = until_within(Duration::from_secs(120), "the run's end", || {
        let shown = cluster.data(&["run", "show", &run]);
        (shown["state"] == "failed").then_some(shown)
    });
    assert_eq!(std::fs::read_to_string(&proof).unwrap(), "try\ntry\n");
    let again = time(&shown["attempts"][1]["dispatched"]);
    let waited = again.duration_since(ended).as_secs_f64();
    // Counted from the commit of the first end; a wait begun anew would take 75 s or more.
    assert!((59.9..74.0).contains(&waited), "{waited} s");
    cluster.end();
}
