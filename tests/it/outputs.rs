//! What runs put out, in a cluster of processes: dependants read it, jobs keep it for their
//! next run, and neither a leader nor a worker that dies loses it.

use horai::worker::shim::dir::RESULT;
use serde_json::{Value, json};

use crate::cluster::{Cluster, until};

/// The newest run of a job, once it is over.
fn newest(cluster: &Cluster, job: &str) -> Value {
    let run = until(&format!("a run of {job}"), || {
        let runs = cluster.data(&["run", "list", "--job", job]);
        Some(runs.as_array()?.first()?["id"].as_str()?.to_owned())
    });
    cluster.wait_for_end(&run)
}

#[test]
fn a_dependant_reads_what_its_upstream_put_out() {
    let cluster = Cluster::start(1, 1);
    let proof = cluster.path("proof");
    let (at, id) = cluster.soon();
    cluster.apply(
        &format!(
            "jobs:\n\
             - name: load\n  triggers: [{{once: '{at}'}}]\n  shell: |\n    \
               echo \"ROWS=17\" >> \"$HORAI_OUTPUT\"\n    \
               printf 'FILES<<E\\none\\ntwo\\nE\\n' >> \"$HORAI_OUTPUT\"\n    echo said\n\
             - name: report\n  depends_on: [load]\n  shell: |\n    \
               echo '{{{{ outputs.load.ROWS }}}} {{{{ outputs.load.FILES | lines | join(\",\") }}}}' > {proof}\n\
             - name: lost\n  depends_on: [load]\n  retries: {{count: 2}}\n  \
               exec: [echo, '{{{{ outputs.load.NONE }}}}']\n",
            proof = proof.display()
        ),
    );
    let load = newest(&cluster, "load");
    assert_eq!(load["outputs"], json!({"ROWS": "17", "FILES": "one\ntwo"}), "{load}");
    let run = load["id"].as_str().unwrap();
    assert_eq!(cluster.data(&["run", "outputs", run]), load["outputs"]);
    assert!(cluster.run_ok(&["run", "show", run]).contains("FILES=one…"));
    assert_eq!(cluster.run_ok(&["run", "logs", run]), "said\n");
    let report = newest(&cluster, "report");
    assert_eq!(report["state"], "success", "{report}");
    assert_eq!(std::fs::read_to_string(&proof).unwrap(), "17 one,two\n");
    let shown = cluster.data(&["job", "render", &format!("report@{id}")]);
    assert!(shown["texts"]["shell"].as_str().unwrap().contains("'17 one,two'"), "{shown}");
    // An output that is not there is no failure that might go away.
    let lost = newest(&cluster, "lost");
    assert_eq!((&lost["state"], &lost["retries"]), (&json!("failed"), &json!(0)));
    assert_eq!(lost["attempts"][0]["end"]["how"], "unrendered");
    let refused = cluster.try_apply("jobs: [{name: a, shell: 'echo {{ outputs.load.ROWS }}'}]");
    let told = String::from_utf8(refused.stderr).unwrap();
    assert!(refused.status.code() == Some(2) && told.contains("load"), "{told}");
    cluster.end();
}

#[test]
fn a_bad_file_of_outputs_fails_its_attempt_and_is_tried_again() {
    let cluster = Cluster::start(1, 1);
    let flag = cluster.path("flag");
    cluster.apply(&format!(
        "jobs:\n- name: a\n  retries: {{count: 1, backoff: 1s}}\n  shell: |\n    \
             echo A=1 >> $HORAI_OUTPUT\n    \
             test -e {flag} || echo nonsense >> $HORAI_OUTPUT\n    touch {flag}\n",
        flag = flag.display()
    ));
    let run = cluster.over(&["job", "trigger", "a"]);
    assert_eq!((&run["state"], &run["retries"]), (&json!("success"), &json!(1)), "{run}");
    let end = &run["attempts"][0]["end"];
    assert_eq!(end["how"], "bad_output");
    assert!(end["message"].as_str().unwrap().starts_with("line 2: write KEY=VALUE"), "{end}");
    assert_eq!(run["outputs"], json!({"A": "1"}));
    cluster.end();
}

#[test]
fn a_job_counts_on_from_run_to_run_and_over_a_lost_leader() {
    let mut cluster = Cluster::start(3, 1);
    let proof = cluster.path("proof");
    let (at, id) = cluster.soon();
    cluster.apply(&format!(
        "jobs:\n- name: count\n  keep_state: true\n  triggers: [{{once: '{at}'}}]\n  shell: |\n    \
             cat $HORAI_STATE >> {proof}\n    \
             echo \"N=$(( {{{{ state.N | default(0) }}}} + 1 ))\" > $HORAI_OUTPUT\n",
        proof = proof.display()
    ));
    let kept = |cluster: &Cluster| cluster.data(&["job", "state", "count"])["values"].clone();
    let counts_to = |cluster: &Cluster, n: &str| {
        until(&format!("a count of {n}"), || (kept(cluster) == json!({"N": n})).then_some(()));
    };
    counts_to(&cluster, "1");
    let action = format!("count@{id}");
    cluster.run_ok(&["action", "recover", &action]);
    counts_to(&cluster, "2");
    // What somebody asks for beside the plan changes nothing.
    let run = cluster.over(&["job", "trigger", "count"]);
    assert_eq!(run["outputs"], json!({"N": "3"}), "{run}");
    assert_eq!(kept(&cluster), json!({"N": "2"}));
    let killed = cluster.kill_leader();
    cluster.run_ok(&["action", "recover", &action]);
    counts_to(&cluster, "3");
    assert_eq!(std::fs::read_to_string(&proof).unwrap(), "N=1\nN=2\nN=2\n");
    let shown = cluster.data(&["job", "state", "count", "--set", "N=41", "--set", "M=x"]);
    assert_eq!(shown["values"], json!({"M": "x", "N": "41"}));
    let shown = cluster.data(&["job", "state", "count", "--unset", "M"]);
    assert_eq!((&shown["values"], &shown["run"]), (&json!({"N": "41"}), &Value::Null));
    let refused = cluster.run(&["job", "state", "count", "--set", "no key=1"]);
    assert_eq!(refused.status.code(), Some(2), "{refused:?}");
    cluster.bring_back(killed);
    cluster.end();
}

#[test]
fn outputs_survive_the_worker_before_and_after_its_journal_has_them() {
    let mut cluster = Cluster::start(1, 1);
    let [begun, go] = ["begun", "go"].map(|name| cluster.path(name));
    cluster.apply(&format!(
        "jobs:\n- name: slow\n  shell: |\n    touch {begun}\n    \
             until [ -e {go} ]; do sleep 0.05; done\n    echo KEPT_OUTPUT=1 >> $HORAI_OUTPUT\n",
        begun = begun.display(),
        go = go.display()
    ));
    let attempts = cluster.path("worker1/attempts");
    let ended = |count: usize| {
        let folders = std::fs::read_dir(&attempts).unwrap();
        let has_end = |entry: &std::fs::DirEntry| entry.path().join(RESULT).exists();
        folders.filter(|entry| has_end(entry.as_ref().unwrap())).count() >= count
    };
    // The job ends while no worker is there: only the shim's word is left.
    let run = cluster.trigger("slow");
    until("the job", || begun.exists().then_some(()));
    cluster.workers[0].kill();
    std::fs::write(&go, "").unwrap();
    until("the job's end", || ended(1).then_some(()));
    cluster.workers[0].start();
    assert_eq!(cluster.wait_for_end(&run)["outputs"], json!({"KEPT_OUTPUT": "1"}));

    // It ends while no node is there: the worker knows, and dies before it can tell.
    for file in [&begun, &go] {
        std::fs::remove_file(file).unwrap();
    }
    let run = cluster.trigger("slow");
    until("the job", || begun.exists().then_some(()));
    let journal = cluster.path("worker1/journal");
    let held = || {
        let journal = std::fs::read(&journal).unwrap();
        journal.windows(11).filter(|window| *window == b"KEPT_OUTPUT").count()
    };
    let before = held();
    cluster.nodes[0].kill();
    std::fs::write(&go, "").unwrap();
    until("the worker's own record", || (held() > before).then_some(()));
    cluster.workers[0].kill();
    cluster.nodes[0].start();
    cluster.wait_for_leader();
    cluster.workers[0].start();
    assert_eq!(cluster.wait_for_end(&run)["outputs"], json!({"KEPT_OUTPUT": "1"}));
    cluster.end();
}
