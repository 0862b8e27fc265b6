//! Back-fills in a cluster of processes: what is asked for, and what a leader that is
//! killed on the way leaves of it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::cluster::{Cluster, until};

fn wait_for(cluster: &Cluster, id: &str, wanted: &str) -> Value {
    until(&format!("{id} is {wanted}"), || {
        let backfill = cluster.data(&["backfill", "show", id]);
        (backfill["state"] == wanted).then_some(backfill)
    })
}

#[test]
fn a_month_is_run_again_day_by_day_as_it_was_asked_for() {
    let cluster = Cluster::start(1, 1);
    let (proof, flag) = (cluster.path("proof"), cluster.path("flag"));
    cluster.apply(&format!(
            "jobs:\n\
             - name: load\n  \
               zone: Europe/Berlin\n  \
               triggers: [{{cron: '0 30 3 * * ?'}}]\n  \
               params: {{WHO: job, DAY: job}}\n  \
               shell: |\n    \
                 echo \"$HORAI_ACTION_ID $HORAI_NOMINAL_TIME $HORAI_PARAM_WHO $HORAI_PARAM_DAY\" >> {proof}\n    \
                 case $HORAI_NOMINAL_TIME in *-03T*) test -e {flag};; esac\n\
             - {{name: report, noop: true, depends_on: [load]}}\n",
            proof = proof.display(),
            flag = flag.display(),
        ),
    );
    let range = ["load", "--from", "2026-03-01", "--to", "2026-03-31"];
    let preview = cluster.data(&[&["backfill", "start"], &range[..], &["--preview"]].concat());
    assert_eq!((&preview["total"], &preview["passed_over"]), (&json!(31), &json!(0)));
    assert_eq!(preview["instants"][0], "2026-03-01T02:30:00.000Z");
    assert_eq!(preview["instants"][30], "2026-03-31T01:30:00.000Z", "summer time");

    let more = ["--concurrency", "3", "--param", "DAY=run"];
    let begun = cluster.data(&[&["backfill", "start"], &range[..], &more].concat());
    let id = begun["id"].as_str().unwrap();
    let done = wait_for(&cluster, id, "done");
    assert_eq!((&done["success"], &done["failed"]), (&json!(30), &json!(1)));
    let lines = std::fs::read_to_string(&proof).unwrap();
    assert_eq!(lines.lines().count(), 31, "{lines}");
    let last = "load@20260331T013000Z 2026-03-31T03:30:00+02:00 job run";
    assert!(lines.lines().any(|line| line == last), "{lines}");
    // Nothing of it is an action, and nobody who depends on it is told.
    let told = cluster.data(&["action", "list", "report"]);
    let is_of_march = |action: &Value| action["nominal"].as_str().unwrap().starts_with("2026-03");
    assert!(!told.as_array().unwrap().iter().any(is_of_march), "{told}");
    let failed = cluster.data(&["backfill", "instants", id, "--state", "failed"]);
    assert_eq!(failed[0]["nominal"], "2026-03-03T02:30:00.000Z");
    let run = cluster.data(&["run", "show", failed[0]["run"].as_str().unwrap()]);
    assert_eq!((&run["kind"], &run["backfill"]), (&json!("backfill"), &json!(id)));

    // What has succeeded is passed over from now on; what failed runs alone.
    let preview = cluster.data(&[&["backfill", "start"], &range[..], &["--preview"]].concat());
    assert_eq!((&preview["total"], &preview["passed_over"]), (&json!(1), &json!(30)));
    std::fs::write(&flag, "").unwrap();
    let again = cluster.data(&["backfill", "rerun", id]);
    assert_eq!((&again["total"], &again["again"]), (&json!(1), &json!(id)));
    wait_for(&cluster, again["id"].as_str().unwrap(), "done");
    let nothing = cluster.run(&[&["backfill", "start"], &range[..]].concat());
    let told = String::from_utf8(nothing.stderr).unwrap();
    assert!(told.contains("all 31 instants have run") && told.contains("existing: all"), "{told}");
    cluster.end();
}

#[test]
fn a_leader_killed_during_a_backfill_runs_each_instant_once() {
    let mut cluster = Cluster::start(3, 2);
    let proof = cluster.path("proof");
    cluster.apply(&format!(
        "jobs:\n\
             - {{name: load, shell: 'echo $HORAI_ACTION_ID >> {proof}; sleep 0.1', \
                 triggers: [{{cron: '0 0 * * * ?'}}]}}\n",
        proof = proof.display()
    ));
    let range = ["load", "--from", "2026-03-01", "--to", "2026-03-04", "--concurrency", "4"];
    let begun = cluster.data(&[&["backfill", "start"], &range[..]].concat());
    let id = begun["id"].as_str().unwrap().to_owned();
    until("some of it has run", || {
        let backfill = cluster.data(&["backfill", "show", &id]);
        (backfill["success"].as_u64()? >= 10).then_some(())
    });
    let killed = cluster.kill_leader();
    // It is held and let go by whoever leads now.
    cluster.run_ok(&["backfill", "pause", &id]);
    assert_eq!(cluster.data(&["backfill", "show", &id])["state"], "paused");
    cluster.run_ok(&["backfill", "resume", &id]);
    let done = wait_for(&cluster, &id, "done");
    assert_eq!((&done["success"], &done["total"]), (&json!(96), &json!(96)));
    let mut ran: BTreeMap<String, u32> = BTreeMap::new();
    for line in std::fs::read_to_string(&proof).unwrap().lines() {
        *ran.entry(line.to_owned()).or_default() += 1;
    }
    assert_eq!(ran.len(), 96);
    assert!(ran.values().all(|times| *times == 1), "{ran:?}");
    let over = cluster.run(&["backfill", "resume", &id]);
    assert_eq!(over.status.code(), Some(4), "{over:?}");
    cluster.bring_back(killed);
    cluster.end();
}

#[test]
fn a_run_is_asked_for_as_somebody_wants_it() {
    let cluster = Cluster::start(1, 1);
    let proof = cluster.path("proof");
    let job = |text: &str| {
        format!(
            "jobs:\n\
             - name: load\n  \
               params: {{DAY: job}}\n  \
               retries: {{count: 3}}\n  \
               shell: 'echo \"{text} $HORAI_NOMINAL_TIME $HORAI_PARAM_DAY\" >> {}; false'\n",
            proof.display()
        )
    };
    cluster.apply(&job("first"));
    cluster.apply(&job("second"));
    let asked = ["--debug", "--revision", "1", "--nominal", "2026-03-01T00:00:00Z"];
    let asked = [&["job", "trigger", "load"], &asked[..], &["--param", "DAY=run"]].concat();
    let would = cluster.data(&[&asked[..], &["--preview"]].concat());
    let run = &would["run"];
    assert_eq!((&run["kind"], &run["revision"]), (&json!("debug"), &json!(1)), "{would}");
    assert_eq!((&would["change_count"], &run["params"]["DAY"]), (&json!(0), &json!("run")));
    assert_eq!(cluster.data(&["run", "list"]), json!([]), "nothing is done");
    let run = cluster.data(&asked)["run"].as_str().unwrap().to_owned();
    let shown = until("it is over", || {
        let shown = cluster.data(&["run", "show", &run]);
        (shown["state"] == "failed").then_some(shown)
    });
    assert_eq!((&shown["kind"], &shown["retries"]), (&json!("debug"), &json!(0)));
    assert_eq!(shown["params"], json!({"DAY": "run"}));
    let lines = std::fs::read_to_string(&proof).unwrap();
    assert_eq!(lines, "first 2026-03-01T00:00:00+00:00 run\n");
    let none = cluster.run(&["job", "trigger", "load", "--action", "load@20260301T000000Z"]);
    assert_eq!(none.status.code(), Some(3), "{none:?}");
    let gone = cluster.run(&["job", "trigger", "load", "--revision", "9"]);
    let told = String::from_utf8(gone.stderr).unwrap();
    assert!(told.contains("9 is not kept") && told.contains("hint: use 1 to 2"), "{told}");
    cluster.end();
}
