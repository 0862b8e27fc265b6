//! Areas, parameters of groups and batch keys in a cluster of processes: what runs, what
//! does not, and what a job finds in its environment.

use std::path::Path;

use serde_json::{Value, json};

use crate::cluster::{Cluster, until};

fn lines(proof: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(proof).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Runs a job by hand until it has succeeded.
fn run(cluster: &Cluster, arguments: &[&str]) -> Value {
    let over = cluster.over(&[&["job", "trigger"], arguments].concat());
    assert_eq!(over["state"], "success", "{over}");
    over
}

#[test]
fn a_job_of_another_area_is_done_at_once_and_what_depends_on_it_runs() {
    let cluster = Cluster::start(1, 1);
    let proof = cluster.path("proof");
    assert_eq!(cluster.data(&["cluster", "area", "EU"])["area"], "EU");
    assert_eq!(cluster.data(&["cluster", "status"])["area"], "EU");
    let script = format!("echo \"$HORAI_ACTION_ID\" >> {}", proof.display());
    let load = json!({
        "name": "load", "areas": ["US"], "shell": script, "triggers": [{"cron": "0/1 * * * * ?"}],
    });
    let report = json!({"name": "report", "depends_on": ["load"], "shell": script});
    cluster.post("jobs", &json!({ "jobs": [load, report] }));
    let ran =
        until("what depends on it to run", || Some(lines(&proof)).filter(|lines| lines.len() > 2));
    assert!(ran.iter().all(|id| id.starts_with("report@")), "{ran:?}");
    let first = ran[0].replace("report", "load");
    let action = cluster.get(&format!("actions/{first}"));
    assert_eq!((&action["state"], &action["reason"]), (&json!("success"), &json!("area")));
    assert_eq!(action["run"], json!(null), "{action}");
    let shown = cluster.run_ok(&["action", "list", "load", "--limit", "1000"]);
    assert!(shown.contains("success (area)"), "{shown}");
    let again = cluster.data(&["action", "recover", &first]);
    assert_eq!(again[0]["reason"], "area", "{again}");
    let why = cluster.data(&["run", "explain", &first]);
    assert!(why["detail"].as_str().unwrap().contains("nothing to do in this area"), "{why}");
    // Whoever asks for it by hand gets a run; and everywhere is its area without one.
    run(&cluster, &["load"]);
    cluster.run_ok(&["cluster", "area", "--none"]);
    until("it to run by itself", || {
        lines(&proof).iter().any(|id| id.starts_with("load@")).then_some(())
    });
    cluster.end();
}

#[test]
fn the_nearest_group_holds_and_each_attempt_sees_it_as_it_is() {
    let cluster = Cluster::start(1, 1);
    let proof = cluster.path("proof");
    cluster.run_ok(&["cluster", "area", "EU"]);
    let far = ["--param", "WHERE=far", "--param", "DAY=1"];
    let local = ["--param", "EU.BUCKET=eu", "--param", "US.BUCKET=us"];
    cluster.run_ok(&[&["group", "set", "etl"], &far[..], &local].concat());
    cluster.run_ok(&["group", "set", "etl/nightly", "--param", "WHERE=near"]);
    let names = "$(env | grep -o '^HORAI_PARAM_[A-Z.]*' | sort | tr '\\n' ' ')";
    let text = format!(
        "echo \"$HORAI_PARAM_WHERE $HORAI_PARAM_DAY $HORAI_PARAM_BUCKET {{{{ vars.WHERE }}}} \
         {{{{ params.BUCKET }}}} {names}\" >> {}",
        proof.display()
    );
    let load = json!({
        "name": "load", "group": "etl/nightly", "params": {"DAY": "2"}, "shell": text,
    });
    let hera = format!("echo ${{BUCKET}} ${{US.BUCKET}} ${{WHERE}} >> {}", proof.display());
    let old = json!({"name": "old", "group": "etl", "syntax": "hera", "shell": hera});
    cluster.post("jobs", &json!({ "jobs": [load, old] }));
    let begins = |wanted: &str| {
        run(&cluster, &["load"]);
        let last = lines(&proof).pop().unwrap();
        assert!(last.starts_with(wanted), "{last}");
        last
    };
    let all = begins("near 2 eu near eu ");
    assert!(all.ends_with("HORAI_PARAM_BUCKET HORAI_PARAM_DAY HORAI_PARAM_WHERE "), "{all}");
    cluster.run_ok(&["group", "set", "etl/nightly", "--param", "WHERE=new"]);
    begins("new 2 eu new eu ");
    run(&cluster, &["load", "--param", "US.DAY=8", "--param", "EU.DAY=9"]);
    assert!(lines(&proof).pop().unwrap().starts_with("new 9 eu"), "{:?}", lines(&proof));
    run(&cluster, &["old"]);
    assert_eq!(lines(&proof).pop().unwrap(), "eu us far");
    let shown = cluster.data(&["group", "show", "etl/nightly"]);
    assert_eq!(shown["in_force"], json!({"BUCKET": "eu", "DAY": "1", "WHERE": "new"}));
    assert_eq!(shown["inherited"][0]["from"], "etl", "{shown}");
    let rendered = cluster.data(&["job", "render", "load@20260301T160000Z"]);
    assert!(rendered["texts"]["shell"].as_str().unwrap().contains(" new "), "{rendered}");

    let refused = cluster.run(&["group", "set", "etl", "--unset", "BUCKETT"]);
    assert_eq!(refused.status.code(), Some(3));
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(told.contains("hint: it has: DAY, EU.BUCKET, US.BUCKET, WHERE"), "{told}");
    cluster.run_ok(&["group", "set", "etl", "--unset", "DAY"]);
    cluster.run_ok(&["group", "delete", "etl/nightly"]);
    begins("far 2 eu far eu ");
    assert_eq!(cluster.run_ok(&["group", "list", "-o", "quiet"]), "etl\netl/nightly\n");
    cluster.end();
}

#[test]
fn batch_keys_are_in_the_environment_and_find_actions() {
    let cluster = Cluster::start(1, 1);
    let proof = cluster.path("proof");
    let script = format!("echo \"$HORAI_BATCH_KEY/{{{{ batch }}}}\" >> {}", proof.display());
    let load = json!({
        "name": "load", "zone": "Asia/Shanghai", "shell": script,
        "batch": {"unit": "day", "offset": -1},
    });
    let plain = json!({"name": "plain", "shell": script});
    let each = json!({
        "name": "each", "noop": true, "batch": {"unit": "second"},
        "triggers": [{"cron": "0/1 * * * * ?"}],
    });
    cluster.post("jobs", &json!({ "jobs": [load, plain, each] }));
    let at = ["--nominal", "2024-01-30T19:00:00Z"];
    let over = run(&cluster, &[&["load"], &at[..]].concat());
    assert_eq!(over["batch"], "2024-01-30");
    run(&cluster, &[&["plain"], &at[..]].concat());
    let id = "plain@20240130T190000Z";
    assert_eq!(lines(&proof), ["2024-01-30/2024-01-30".to_owned(), format!("{id}/{id}")]);
    let actions = until("some actions", || {
        let all = cluster.data(&["action", "list", "each"]);
        (all.as_array().unwrap().len() > 3).then_some(all)
    });
    let (key, id) = (actions[1]["batch"].as_str().unwrap(), &actions[1]["id"]);
    let found = cluster.data(&["action", "list", "each", "--batch", key]);
    assert_eq!((found.as_array().unwrap().len(), &found[0]["id"]), (1, id), "{found}");
    cluster.end();
}
